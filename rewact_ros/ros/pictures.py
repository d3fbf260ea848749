"""What a `CompressedImage` holds, told by its first bytes: nothing is decoded that is not a picture
of the camera.

A raw image says how its pixels are to be read; a compressed one says it twice, in `format` and in
its own header. Both must mean 8-bit colour or grey, and the same.
"""

import re
import struct
import zlib
from dataclasses import dataclass

from rewact_ros.contract import Camera, SampleError
from rewact_ros.contract.frames import check_image

# 8192 × 8192, whatever a contract promises: it may be a recording's own.
MAX_PIXELS = 1 << 26
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_OTHERS = {
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x01": "H.264 or H.265",
}
# compressed_image_transport: `jpeg`, `rgb8; jpeg compressed bgr8`, `16UC1; png compressed `.
_FORMAT = re.compile(
    r"(?:(?P<source>\w+)\s*;)?\s*(?:image/|\.)?(?P<codec>jpe?g|png)"
    r"(?:\s+compressed(?:\s+(?P<target>\w+))?)?\s*",
    re.IGNORECASE,
)
_COLOURS, _GREYS = ("rgb8", "bgr8", "rgba8", "bgra8", "8uc3", "8uc4"), ("mono8", "8uc1")
_DEEP = re.compile(r"16|32|64")
# A marker in the entropy-coded data of a JPEG: not a stuffed byte, a restart or a filler.
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_ENDLESS = "it is cut off; look at the camera's cable and driver"


@dataclass(frozen=True)
class Picture:
    """A picture's own header: JPEG or PNG, (height, width), channels as stored."""

    codec: str
    size: tuple[int, int]
    channels: int


def picture_header(data: bytes, stated: str, camera: Camera) -> Picture:
    """Check a compressed picture of a camera by its header and by the message's `format`.

    Args:
        data: content of the message.
        stated: `format` of the message.
        camera: that it is of.

    Raises:
        SampleError: not a JPEG or PNG of 8-bit colour or grey, of another size, or not what
            `format` says.
    """
    picture = _header(data, camera.topic)
    check_image(camera, picture.size)
    height, width = picture.size
    if height * width > MAX_PIXELS:
        raise SampleError(
            f"{camera.topic}: a {picture.codec} of {width} × {height} pixels is not decoded; "
            f"expected at most {MAX_PIXELS} pixels"
        )
    _compare(picture, stated, camera.topic)
    return picture


def picture_size(data: bytes, topic: str) -> tuple[int, int]:
    """(height, width) of a JPEG or PNG; raises SampleError where it is neither."""
    return _header(data, topic).size


def require_whole(picture: Picture, data: bytes, topic: str) -> None:
    """Check that a picture is there to its end: a decoder would paint the rest grey.

    Raises:
        SampleError: it is cut off, or damaged where a checksum tells.
    """
    whole = _whole_png(data) if picture.codec == "PNG" else jpeg_end(data) is not None
    if not whole:
        raise SampleError(f"{topic}: a {picture.codec} picture does not decode: {_ENDLESS}")


def jpeg_end(data: bytes) -> int | None:
    """Place of the end marker of the first JPEG in `data`; None: it is cut off."""
    at, scanned = 2, False
    while True:
        found = _MARKER.search(data, at)
        if found is None or (not scanned and found.start() != at):
            return None
        marker, at = found[1][0], found.end()
        if marker == 0xD9:
            return found.start() if scanned else None
        if marker in _STANDALONE:
            continue
        if at + 2 > len(data):
            return None
        scanned |= marker == 0xDA
        at += int.from_bytes(data[at : at + 2], "big")


def _header(data: bytes, topic: str) -> Picture:
    if data.startswith(_JPEG):
        return _jpeg_header(data, topic)
    if data.startswith(_PNG):
        return _png_header(data, topic)
    kind = next((name for magic, name in _OTHERS.items() if data.startswith(magic)), "")
    raise SampleError(
        f"{topic}: the picture does not decode: expected a JPEG or PNG, got "
        f"{kind or f'{len(data)} bytes of something else'}"
    )


def _jpeg_header(data: bytes, topic: str) -> Picture:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or channels not in (1, 3):
                raise SampleError(
                    f"{topic}: expected a JPEG of 8-bit grey or colour, got {channels} channels "
                    f"of {bits} bits; set the camera driver's pixel format"
                )
            return Picture("JPEG", (height, width), channels)
        if marker == 0xDA or length < 2:
            break
        at += 2 + length
    raise SampleError(f"{topic}: a JPEG picture does not decode: its header is damaged or cut off")


def _png_header(data: bytes, topic: str) -> Picture:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise SampleError(f"{topic}: a PNG picture does not decode: its header is cut off")
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    if bits != 8 or kind not in _PNG_CHANNELS:
        what = "a palette" if kind == 3 else f"{bits} bits per channel"
        raise SampleError(
            f"{topic}: expected a PNG of 8-bit grey or colour, got {what} (a depth image or a "
            "mask?); give the colour camera's topic, or set the driver's pixel format"
        )
    if b"acTL" in data[33 : data.find(b"IDAT", 33) + 1 or None]:
        raise SampleError(f"{topic}: expected one picture, got an animated PNG")
    return Picture("PNG", (height, width), _PNG_CHANNELS[kind])


def _compare(picture: Picture, stated: str, topic: str) -> None:
    """Refuse a picture whose message says that it is something else."""
    if not stated.strip():
        return  # a driver that leaves it empty; the content has said enough
    match = _FORMAT.fullmatch(stated.strip())
    if match is None:
        raise SampleError(
            f"{topic}: format '{stated[:60]}' is not supported; expected such as 'jpeg', 'png' or "
            "'rgb8; jpeg compressed bgr8'"
        )
    source, codec, target = (match[name] or "" for name in ("source", "codec", "target"))
    if ("PNG" if codec.lower() == "png" else "JPEG") != picture.codec:
        raise SampleError(
            f"{topic}: format says '{stated[:60]}', the picture is a {picture.codec}; mend the "
            "driver, for one of the two is wrong"
        )
    if _DEEP.search(source) or _DEEP.search(target):
        raise SampleError(
            f"{topic}: format '{stated[:60]}': encoding '{source or target}' is not 8-bit colour "
            "or grey; give the colour camera's topic, or set the driver's pixel format"
        )
    if "bayer" in target.lower() or ("bayer" in source.lower() and picture.channels < 3):
        raise SampleError(
            f"{topic}: format '{stated[:60]}': a Bayer mosaic is not a colour image; publish the "
            "debayered one (image_proc)"
        )
    grey = picture.channels < 3
    if (target or source).lower() in (_COLOURS if grey else _GREYS):
        raise SampleError(
            f"{topic}: format says '{stated[:60]}', the picture has {picture.channels} "
            "channel(s); mend the driver, for one of the two is wrong"
        )


def _whole_png(data: bytes) -> bool:
    """Whether every chunk up to the end is there, with its checksum."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data):
            return False
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False
