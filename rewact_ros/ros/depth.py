"""Depth images ↔ pictures: what a policy, a dataset and a person see of a distance.

A depth image becomes a picture of three equal channels, as every policy and video takes them:
0 where nothing was measured, else 1 (at `near` or nearer) to 255 (at `far` or farther), in equal
steps of (far - near) / 254.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import SampleError

Pixels = NDArray[np.uint8]
Metres = NDArray[np.float32]
Range = tuple[float, float]
# Encoding → (bytes per pixel, metres in one of its units). 0 and NaN: nothing was measured.
DEPTH_ENCODINGS: dict[str, tuple[int, float]] = {"16UC1": (2, 1e-3), "32FC1": (4, 1.0)}
LEVELS = 254
_PNG = b"\x89PNG\r\n\x1a\n"
# compressed_depth_image_transport puts its ConfigHeader before the PNG: an enum and two floats.
_CONFIG = struct.Struct("<iff")


def to_picture(metres: Metres, limits: Range) -> Pixels:
    """(H, W) m, 0 or not finite where nothing was measured, as (H, W, 3) uint8."""
    near, far = limits
    measured = np.isfinite(metres) & (metres > 0)
    share = (np.clip(np.where(measured, metres, near), near, far) - near) / (far - near)
    grey = np.where(measured, 1 + np.rint(LEVELS * share), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def to_metres(picture: Pixels, limits: Range) -> Metres:
    """The distances (H, W) that such a picture stands for; 0 where nothing was measured."""
    near, far = limits
    grey = picture[..., 0].astype(np.float32)
    metres = near + (grey - 1) / LEVELS * (far - near)
    return np.where(grey > 0, metres, 0).astype(np.float32)


def raw_metres(msg: Any, topic: str) -> Metres:
    """(H, W) m of a raw depth image; honours row padding and byte order.

    Raises:
        SampleError: an encoding that is not in DEPTH_ENCODINGS, or a buffer of the wrong size.
    """
    if msg.encoding not in DEPTH_ENCODINGS:
        raise SampleError(
            f"{topic}: encoding '{msg.encoding}' is no depth; expected one of "
            f"{', '.join(DEPTH_ENCODINGS)}: name the driver's depth topic, or leave out kind: depth"
        )
    size, unit = DEPTH_ENCODINGS[msg.encoding]
    data, row = np.frombuffer(msg.data, np.uint8), msg.width * size
    if msg.step < row or data.size != msg.step * msg.height:
        raise SampleError(
            f"{topic}: expected {msg.height} rows of at least {row} bytes, got step {msg.step} and "
            f"{data.size} bytes"
        )
    kind = np.dtype(("u" if size == 2 else "f") + str(size)).newbyteorder(
        ">" if msg.is_bigendian else "<"
    )
    rows = np.ascontiguousarray(data.reshape(msg.height, msg.step)[:, :row])
    return np.asarray(rows.view(kind) * np.float32(unit), dtype=np.float32)


def png_size(data: bytes, stated: str, topic: str) -> tuple[int, int]:
    """(height, width) of a compressed depth image, before anything is decoded.

    Raises:
        SampleError: it is no 16-bit grey PNG, or of another codec or encoding.
    """
    png = _png(data, stated, topic)
    if len(png) < 33 or png[12:16] != b"IHDR":
        raise SampleError(f"{topic}: a depth PNG does not decode: its header is cut off")
    width, height, bits, colour = struct.unpack(">IIBB", png[16:26])
    if (bits, colour) != (16, 0):
        raise SampleError(
            f"{topic}: expected a depth image as PNG of 16 bits grey, got {bits} bits of colour "
            f"type {colour}; name the driver's compressedDepth topic, or leave out kind: depth"
        )
    return height, width


def png_metres(data: bytes, stated: str, topic: str) -> Metres:
    """(H, W) m of a compressed depth image, once `png_size` has taken it.

    A 32FC1 image travels as quantised inverse depth: m = A / (number - B), 0 for nothing measured.

    Raises:
        SampleError: it is cut off or damaged.
    """
    import cv2

    png = _png(data, stated, topic)
    try:
        numbers = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        numbers = None
    if numbers is None or numbers.dtype != np.uint16 or numbers.ndim != 2:
        raise SampleError(f"{topic}: a depth PNG does not decode; it is damaged")
    if not stated.startswith("32FC1"):
        return np.asarray(numbers * np.float32(1e-3), dtype=np.float32)
    _, a, b = _CONFIG.unpack(data[: _CONFIG.size])
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = a / (numbers.astype(np.float32) - b)
    return np.where(numbers > 0, metres, 0).astype(np.float32)


def encode_png(metres: Metres) -> bytes:
    """(H, W) m as the content of a `16UC1; compressedDepth png` message, rounded to mm."""
    import cv2

    millimetres = np.clip(np.rint(metres * 1000), 0, 65_535).astype(np.uint16)
    done, png = cv2.imencode(".png", millimetres)
    assert done  # in memory, of a size that exists: there is nothing that can fail
    return _CONFIG.pack(0, 0.0, 0.0) + png.tobytes()


def _png(data: bytes, stated: str, topic: str) -> bytes:
    """The PNG of a message, without the header that compressed_depth_image_transport adds."""
    encoding = stated.partition(";")[0].strip()
    if encoding and encoding not in DEPTH_ENCODINGS:
        raise SampleError(
            f"{topic}: format '{stated[:60]}' is no depth; expected that of one of "
            f"{', '.join(DEPTH_ENCODINGS)}, such as '16UC1; compressedDepth png'"
        )
    for start in (_CONFIG.size, 0) if encoding != "32FC1" else (_CONFIG.size,):
        if data[start : start + len(_PNG)] == _PNG:
            return data[start:]
    raise SampleError(
        f"{topic}: expected a depth image as PNG, got format '{stated[:60]}' and bytes "
        f"{data[:4].hex() or 'none'}; set the driver's compressedDepth format to png, not rvl"
    )
