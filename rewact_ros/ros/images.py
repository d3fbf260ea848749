"""Camera pictures ↔ messages: a table of raw encodings, and one of a camera's message types.

A new encoding is one entry in ENCODINGS (of depth: DEPTH_ENCODINGS in `depth.py`); a new message
type is one in CAMERAS, one in DEPTHS where it carries depth, and its name in the contract's
`CAMERA_TYPES`. Raw images are converted here: Jazzy's cv_bridge breaks with NumPy 2.
"""

import array
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from rewact_ros.contract import Camera, SampleError
from rewact_ros.contract.frames import Sample, check_image
from rewact_ros.picture_file import JPEG_QUALITY, encode_picture, picture_format
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.depth import (
    encode_png,
    png_metres,
    png_size,
    raw_metres,
    to_metres,
    to_picture,
)
from rewact_ros.ros.pictures import Picture, jpeg_end, picture_header, require_whole

Pixels = NDArray[np.uint8]

# Encoding → (bytes per pixel, OpenCV's conversion to RGB; empty: it is that).
ENCODINGS: dict[str, tuple[int, str]] = {
    "rgb8": (3, ""),
    "bgr8": (3, "COLOR_BGR2RGB"),
    "rgba8": (4, "COLOR_RGBA2RGB"),
    "bgra8": (4, "COLOR_BGRA2RGB"),
    "mono8": (1, "COLOR_GRAY2RGB"),
}


@dataclass(frozen=True)
class CameraInterface:
    """How a camera's pictures travel as one message type.

    Attributes:
        message: its class.
        sample: as `camera_sample`. The message may come from a recording: it has the type's
            fields, but is of no class of ours.
        encode: (camera, picture (H, W, 3) uint8 RGB, stamp, frame, quality) → message.
        needs_decoding: whether only the decoder can tell that a picture is sound.
    """

    message: type
    sample: Callable[[Camera, Any, float], Sample]
    encode: Callable[[Camera, Pixels, Time, str, int], Any]
    needs_decoding: bool


def camera_type(camera: Camera) -> type:
    """Message class of a camera topic."""
    return camera_interface(camera).message


def camera_interface(camera: Camera) -> CameraInterface:
    """How a camera's pictures travel."""
    return (CAMERAS if camera.depth is None else DEPTHS)[camera.type]


def camera_sample(camera: Camera, msg: Any, received_s: float) -> Sample:
    """A reference to one camera message, which is decoded when its value is asked for.

    The value is (H, W, 3) uint8 RGB of the contract's shape; of a depth camera, see `depth`.

    Raises:
        SampleError: an image of another size or encoding. That a compressed one is whole only the
            decoder can tell, so that its value raises too.
    """
    return camera_interface(camera).sample(camera, msg, received_s)


def camera_message(
    camera: Camera, image: Pixels, stamp: Time, frame_id: str, quality: int = JPEG_QUALITY
) -> Any:
    """(H, W, 3) uint8 RGB as a message of a camera's type; `quality` as for `encode_picture`."""
    return camera_interface(camera).encode(camera, image, stamp, frame_id, quality)


# Raw ------------------------------------------------------------------------------------------


def decode_image(msg: Image, topic: str) -> Pixels:
    """Raw image as (H, W, 3) uint8 RGB; honours row padding (`step`). Zero copy for rgb8.

    Raises:
        SampleError: an encoding that is not in ENCODINGS, or a buffer of the wrong size.
    """
    return _to_rgb(_pixels(msg, topic), msg.encoding, topic)


def image_message(image: Pixels, stamp: Time, frame_id: str) -> Image:
    """(H, W, 3) uint8 RGB as an rgb8 message."""
    height, width, _ = image.shape
    msg = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.header.stamp, msg.header.frame_id = stamp, frame_id
    msg.data = _buffer(np.ascontiguousarray(image).data)
    return msg


def _raw_sample(camera: Camera, msg: Any, received_s: float) -> Sample:
    pixels, encoding = _pixels(msg, camera.topic), msg.encoding
    check_image(camera, pixels.shape[:2])
    return Sample(
        to_ns(msg.header.stamp),
        received_s,
        pixels,
        lambda raw: _to_rgb(raw, encoding, camera.topic),
    )


def _pixels(msg: Any, topic: str) -> Pixels:
    """The message's own buffer as (H, W, bytes per pixel), not copied; raises as `decode_image`."""
    if msg.encoding not in ENCODINGS:
        raise SampleError(
            f"{topic}: encoding '{msg.encoding}' is not supported; expected one of "
            f"{', '.join(ENCODINGS)}: set the camera driver's pixel format"
        )
    depth, _ = ENCODINGS[msg.encoding]
    data = np.frombuffer(msg.data, np.uint8)
    row = msg.width * depth
    if msg.step < row or data.size != msg.step * msg.height:
        raise SampleError(
            f"{topic}: expected {msg.height} rows of at least {row} bytes, got step {msg.step} and "
            f"{data.size} bytes"
        )
    return data.reshape(msg.height, msg.step)[:, :row].reshape(msg.height, msg.width, depth)


def _to_rgb(pixels: NDArray[Any], encoding: str, topic: str) -> Pixels:
    """(H, W, bytes per pixel) of an encoding as (H, W, 3) RGB."""
    _, conversion = ENCODINGS[encoding]
    if not conversion:
        return pixels
    import cv2

    try:
        return np.asarray(cv2.cvtColor(pixels, getattr(cv2, conversion)), dtype=np.uint8)
    except cv2.error as error:  # such as an odd width, where two pixels share a colour
        raise SampleError(
            f"{topic}: {encoding} of {pixels.shape[1]} × {pixels.shape[0]} pixels has no colours "
            f"({error.err}); set the camera driver's pixel format"
        ) from error


# Compressed -----------------------------------------------------------------------------------


def decode_picture(header: Picture, data: bytes, topic: str) -> Pixels:
    """JPEG or PNG as (H, W, 3) uint8 RGB, in the pixel grid of the sensor (EXIF turns nothing).

    Args:
        header: its own, from `picture_header`.
        data: content of the message.
        topic: for the message of an error.

    Raises:
        SampleError: it is cut off or damaged.
    """
    import cv2

    require_whole(header, data, topic)
    picture = _decode(data)
    if picture is None or picture.shape[:2] != header.size:
        raise SampleError(f"{topic}: a {header.codec} picture does not decode; it is damaged")
    if header.codec == "JPEG" and _ends_grey(picture) and _takes_more(data, picture):
        raise SampleError(f"{topic}: a JPEG picture does not decode: its data ends too early")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def compressed_message(
    image: Pixels, stamp: Time, frame_id: str, quality: int = JPEG_QUALITY
) -> CompressedImage:
    """(H, W, 3) uint8 RGB as a JPEG or PNG message; see `encode_picture`."""
    msg = CompressedImage(format=picture_format(quality))
    msg.header.stamp, msg.header.frame_id = stamp, frame_id
    msg.data = _buffer(encode_picture(image, quality))
    return msg


def _compressed_sample(camera: Camera, msg: Any, received_s: float) -> Sample:
    data = bytes(memoryview(msg.data))
    header = picture_header(data, msg.format, camera)
    return Sample(
        to_ns(msg.header.stamp),
        received_s,
        np.frombuffer(data, np.uint8),
        lambda _: decode_picture(header, data, camera.topic),
    )


def _decode(data: bytes) -> Pixels | None:
    """As (H, W, 3) BGR; None: it does not."""
    import cv2

    kind = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
    except cv2.error:
        return None
    return None if picture is None else np.asarray(picture, dtype=np.uint8)


def _ends_grey(picture: Pixels) -> bool:
    """Whether the last block is what a decoder paints where a JPEG's data has run out."""
    return bool((picture[-8:, -8:] == 128).all())


def _takes_more(data: bytes, picture: Pixels) -> bool:
    """Whether more data before its end changes a JPEG: then it did not have all of it."""
    end = jpeg_end(data)
    longer = _decode(data[:end] + b"\x5a\xa5" * 64 + data[end:])
    return longer is None or not np.array_equal(longer, picture)


# Depth ----------------------------------------------------------------------------------------


def _raw_depth_sample(camera: Camera, msg: Any, received_s: float) -> Sample:
    metres, limits = raw_metres(msg, camera.topic), camera.depth
    check_image(camera, metres.shape)
    assert limits is not None
    raw = np.frombuffer(msg.data, np.uint8)
    return Sample(to_ns(msg.header.stamp), received_s, raw, lambda _: to_picture(metres, limits))


def _compressed_depth_sample(camera: Camera, msg: Any, received_s: float) -> Sample:
    data, stated, limits = bytes(memoryview(msg.data)), msg.format, camera.depth
    check_image(camera, png_size(data, stated, camera.topic))
    assert limits is not None
    return Sample(
        to_ns(msg.header.stamp),
        received_s,
        np.frombuffer(data, np.uint8),
        lambda _: to_picture(png_metres(data, stated, camera.topic), limits),
    )


def _raw_depth_message(
    camera: Camera, picture: Pixels, stamp: Time, frame_id: str, quality: int
) -> Image:
    assert camera.depth is not None
    height, width, _ = picture.shape
    msg = Image(height=height, width=width, encoding="32FC1", step=4 * width)
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.header.stamp, msg.header.frame_id = stamp, frame_id
    msg.data = _buffer(to_metres(picture, camera.depth).tobytes())
    return msg


def _compressed_depth_message(
    camera: Camera, picture: Pixels, stamp: Time, frame_id: str, quality: int
) -> CompressedImage:
    assert camera.depth is not None
    msg = CompressedImage(format="16UC1; compressedDepth png")
    msg.header.stamp, msg.header.frame_id = stamp, frame_id
    msg.data = _buffer(encode_png(to_metres(picture, camera.depth)))
    return msg


def _buffer(data: bytes | memoryview) -> "array.array[int]":
    """As a message keeps it: of anything else it looks at every byte."""
    buffer = array.array("B")
    buffer.frombytes(data)
    return buffer


CAMERAS: dict[str, CameraInterface] = {
    "sensor_msgs/msg/Image": CameraInterface(
        Image,
        _raw_sample,
        lambda camera, image, stamp, frame_id, quality: image_message(image, stamp, frame_id),
        needs_decoding=False,
    ),
    "sensor_msgs/msg/CompressedImage": CameraInterface(
        CompressedImage,
        _compressed_sample,
        lambda camera, *picture: compressed_message(*picture),
        needs_decoding=True,
    ),
}
DEPTHS: dict[str, CameraInterface] = {
    "sensor_msgs/msg/Image": CameraInterface(
        Image, _raw_depth_sample, _raw_depth_message, needs_decoding=False
    ),
    "sensor_msgs/msg/CompressedImage": CameraInterface(
        CompressedImage, _compressed_depth_sample, _compressed_depth_message, needs_decoding=True
    ),
}
