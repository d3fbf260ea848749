"""Compressed pictures are what the contract and the message say, or refused before they decode."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from sensor_msgs.msg import CompressedImage
from test_bags import contract_of, recording, write_bag

from rewact_ros.contract import SampleError
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.images import camera_sample

TYPE = "sensor_msgs/msg/CompressedImage"
CAMERA = contract_of(TYPE).cameras[0]
RNG = np.random.default_rng(0)
COLOUR = cv2.resize(RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8), (32, 24))  # RGB, 24 × 32
DEPTH = (400 + np.add.outer(np.arange(24), np.arange(32)) * 20).astype(np.uint16)
JPEG_COMPRESSED = "rgb8; jpeg compressed bgr8"


def encoded(suffix, image, *options):
    """An image, RGB or grey, by OpenCV."""
    image = image[..., ::-1] if image.ndim == 3 else image
    return cv2.imencode(suffix, image, [*options])[1].tobytes()


def pillow(kind, image, **options):
    """An image by Pillow, which can do what OpenCV cannot."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_of(width, height, bits=8, kind=2, rows=b""):
    """A PNG by hand, of any stated size."""

    def chunk(name, body):
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


JPEG = encoded(".jpg", COLOUR)
PNG = encoded(".png", COLOUR)
PROGRESSIVE = encoded(".jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
CUT = JPEG[: len(JPEG) * 2 // 3]
MOSAIC = COLOUR[..., 0]
TURNED = Pillow.Exif()
TURNED[0x0112] = 6  # to be shown turned by 90°
ANIMATED = pillow(
    "PNG",
    Pillow.fromarray(COLOUR),
    save_all=True,
    append_images=[Pillow.fromarray(COLOUR[::-1])],
)

SOUND = {
    "jpeg": ("jpeg", JPEG),
    "png": ("png", PNG),
    "transport": (JPEG_COMPRESSED, JPEG),
    "transport png": ("rgb8; png compressed bgr8", PNG),
    "unsaid": ("", JPEG),
    "progressive": ("jpeg", PROGRESSIVE),
    "grey": ("mono8; jpeg compressed ", encoded(".jpg", MOSAIC)),
    "grey png": ("png", encoded(".png", MOSAIC)),
    "alpha": ("png", pillow("PNG", Pillow.fromarray(np.dstack([COLOUR, MOSAIC])))),
    "debayered by the transport": ("bayer_rggb8; jpeg compressed bgr8", JPEG),
    "yuv camera": ("yuv422_yuy2; jpeg compressed bgr8", JPEG),
    "padded by the camera": ("jpeg", JPEG + bytes(64)),
    "turned by EXIF": ("jpeg", pillow("JPEG", Pillow.fromarray(COLOUR), exif=TURNED)),
    "all grey": ("jpeg", encoded(".jpg", np.full((24, 32, 3), 128, np.uint8))),
}
REFUSED = {
    "depth png": ("16UC1; png compressed ", encoded(".png", DEPTH), "16 bits"),
    "depth called png": ("png", encoded(".png", DEPTH), "16 bits"),
    "depth as jpeg": ("16UC1; jpeg compressed ", encoded(".jpg", MOSAIC), "16UC1"),
    "compressedDepth": ("16UC1; compressedDepth", bytes(12) + encoded(".png", DEPTH), "decode"),
    "deep colour": ("rgb16; png compressed bgr16", PNG, "rgb16"),
    "mosaic": ("bayer_rggb8; jpeg compressed ", encoded(".jpg", MOSAIC), "Bayer"),
    "mosaic png": ("bayer_rggb8; png compressed ", encoded(".png", MOSAIC), "Bayer"),
    "palette": ("png", pillow("PNG", Pillow.fromarray(COLOUR).quantize(16)), "palette"),
    "mask": ("png", pillow("PNG", Pillow.fromarray(COLOUR).convert("1")), "1 bits"),
    "cmyk": ("jpeg", pillow("JPEG", Pillow.fromarray(COLOUR).convert("CMYK")), "4 channels"),
    "animated": ("png", ANIMATED, "animated"),
    "another codec than said": ("png", JPEG, "is a JPEG"),
    "grey called colour": (JPEG_COMPRESSED, encoded(".jpg", MOSAIC), "1 channel"),
    "colour called grey": ("mono8; jpeg compressed mono8", JPEG, "3 channel"),
    "gif": ("gif", pillow("GIF", Pillow.fromarray(COLOUR)), "GIF"),
    "webp": ("webp", pillow("WEBP", Pillow.fromarray(COLOUR)), "WebP"),
    "video": ("h264", b"\0\0\0\x01\x67" + bytes(99), "H.264"),
    "odd format": ("cat; jpeg; dog", JPEG, "format 'cat; jpeg; dog'"),
    "empty": ("jpeg", b"", "decode"),
    "cut jpeg": ("jpeg", CUT, "decode"),
    "cut jpeg with an end": ("jpeg", CUT + b"\xff\xd9", "decode"),
    "cut progressive": ("jpeg", PROGRESSIVE[: len(PROGRESSIVE) // 2], "decode"),
    "cut png": ("png", PNG[: len(PNG) * 2 // 3], "decode"),
    "flipped png": ("png", PNG[:900] + bytes([PNG[900] ^ 4]) + PNG[901:], "decode"),
    "another size": ("jpeg", encoded(".jpg", COLOUR[:16]), r"\(16, 32, 3\)"),
    "gigapixels": ("png", png_of(60_000, 60_000, rows=bytes(1 << 20)), r"60000, 3\)"),
}


def message(stated, data, stamp_ns=0):
    made = CompressedImage(format=stated, data=data)
    made.header.stamp = to_stamp(stamp_ns)
    return made


def live(stated, data):
    return camera_sample(CAMERA, message(stated, data), 0.0).value


def in_a_bag(folder, stated, data):
    """The picture of the first observation of a recording with it."""
    given = [
        (topic, ns, message(stated, data, ns - 2_000_000) if "front" in topic else body)
        for topic, ns, body in recording(3)
    ]
    with Bag(write_bag(folder, given)) as bag:
        return next(BagFrames(bag, contract_of(TYPE)).read()).values[CAMERA.key]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_picture_is_the_same_live_and_in_a_recording(tmp_path, name):
    stated, data = SOUND[name]
    image = live(stated, data)
    reference = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(image - reference).max() <= 3  # two decoders round chroma apart
    np.testing.assert_array_equal(image, in_a_bag(tmp_path / "bag", stated, data))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_of_the_camera_is_refused_live_and_in_a_recording(tmp_path, name):
    stated, data, words = REFUSED[name]
    with pytest.raises(SampleError, match=words) as error:
        live(stated, data)
    assert "front/image_raw" in str(error.value)
    with pytest.raises(BagError, match=words):
        in_a_bag(tmp_path / "bag", stated, data)
