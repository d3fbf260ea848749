"""Messages ↔ NumPy. Images are converted here: Jazzy's cv_bridge breaks with NumPy 2."""

import array
import sys
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.contract import ActionPart, Camera, SampleError, StatePart
from rewact_ros.contract.frames import NANO, Sample, check_image, joint_sample
from rewact_ros.ros.pictures import jpeg_end, picture_header, require_whole

# Encoding → (channels, OpenCV's conversion to RGB; empty: it is that).
ENCODINGS: dict[str, tuple[int, str]] = {
    "rgb8": (3, ""),
    "bgr8": (3, "COLOR_BGR2RGB"),
    "rgba8": (4, "COLOR_RGBA2RGB"),
    "bgra8": (4, "COLOR_BGRA2RGB"),
    "mono8": (1, "COLOR_GRAY2RGB"),
}

UNSUPPORTED = 2**64 - 1  # what rmw says instead of a sequence number


def publication_sequence(info: dict[str, int | None]) -> int | None:
    """Number of a message among those of its publisher, from 1; None: the rmw does not say."""
    number = info.get("publication_sequence_number")
    return None if number == UNSUPPORTED else number


def to_ns(stamp: Time) -> int:
    """Header stamp in nanoseconds."""
    return int(stamp.sec) * NANO + int(stamp.nanosec)


def to_stamp(ns: int) -> Time:
    """Nanoseconds as a header stamp."""
    return Time(sec=ns // NANO, nanosec=ns % NANO)


def decode_image(msg: Image, topic: str) -> NDArray[np.uint8]:
    """Raw image as (H, W, 3) uint8 RGB; honours row padding (`step`). Zero copy for rgb8.

    Raises:
        SampleError: an encoding that is not 8-bit colour or grey, or a buffer of the wrong size.
    """
    return _to_rgb(_pixels(msg, topic), msg.encoding)


def _pixels(msg: Image, topic: str) -> NDArray[np.uint8]:
    """The message's own buffer as (H, W, channels), not copied; raises as `decode_image`."""
    if msg.encoding not in ENCODINGS:
        raise SampleError(
            f"{topic}: encoding '{msg.encoding}' is not supported; expected one of "
            f"{', '.join(ENCODINGS)}: set the camera driver's pixel format"
        )
    channels, _ = ENCODINGS[msg.encoding]
    data = np.frombuffer(msg.data, np.uint8)
    row = msg.width * channels
    if msg.step < row or data.size != msg.step * msg.height:
        raise SampleError(
            f"{topic}: expected {msg.height} rows of at least {row} bytes, got step {msg.step} and "
            f"{data.size} bytes"
        )
    return data.reshape(msg.height, msg.step)[:, :row].reshape(msg.height, msg.width, channels)


def _to_rgb(pixels: NDArray[np.uint8], encoding: str) -> NDArray[np.uint8]:
    """(H, W, channels) of an encoding as (H, W, 3) RGB."""
    _, conversion = ENCODINGS[encoding]
    if not conversion:
        return pixels
    import cv2

    return np.asarray(cv2.cvtColor(pixels, getattr(cv2, conversion)), dtype=np.uint8)


def decode_compressed(
    msg: CompressedImage, topic: str, shape: tuple[int, ...] | None = None
) -> NDArray[np.uint8]:
    """JPEG or PNG as (H, W, 3) uint8 RGB, in the pixel grid of the sensor (EXIF turns nothing).

    Args:
        msg: the message.
        topic: for the message of an error.
        shape: that the contract promises; a picture of another size is not decoded.

    Raises:
        SampleError: as `picture_header`, or it is cut off or damaged.
    """
    import cv2

    data = bytes(memoryview(msg.data))
    header = picture_header(data, msg.format, topic, shape)
    require_whole(header, data, topic)
    picture = _decode(data)
    if picture is None or picture.shape[:2] != header.size:
        raise SampleError(f"{topic}: a {header.codec} picture does not decode; it is damaged")
    if header.codec == "JPEG" and _ends_grey(picture) and _takes_more(data, picture):
        raise SampleError(f"{topic}: a JPEG picture does not decode: its data ends too early")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    """As (H, W, 3) BGR; None: it does not."""
    import cv2

    kind = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), kind)
    except cv2.error:
        return None
    return None if picture is None else np.asarray(picture, dtype=np.uint8)


def _ends_grey(picture: NDArray[np.uint8]) -> bool:
    """Whether the last block is what a decoder paints where a JPEG's data has run out."""
    return bool((picture[-8:, -8:] == 128).all())


def _takes_more(data: bytes, picture: NDArray[np.uint8]) -> bool:
    """Whether more data before its end changes a JPEG: then it did not have all of it."""
    end = jpeg_end(data)
    longer = _decode(data[:end] + b"\x5a\xa5" * 64 + data[end:])
    return longer is None or not np.array_equal(longer, picture)


def camera_sample(camera: Camera, msg: Image | CompressedImage, received_s: float) -> Sample:
    """A reference to one camera message, which is decoded when its value is asked for.

    Raises:
        SampleError: an image of another size or encoding. That a compressed one is whole only the
            decoder can tell, so that its value raises too.
    """
    stamp_ns = to_ns(msg.header.stamp)
    if isinstance(msg, CompressedImage):
        data = np.frombuffer(msg.data, np.uint8)
        picture_header(data.tobytes(), msg.format, camera.topic, camera.shape)
        return Sample(
            stamp_ns,
            received_s,
            data,
            lambda raw: decode_compressed(msg, camera.topic, camera.shape),
        )
    pixels, encoding = _pixels(msg, camera.topic), msg.encoding
    check_image(camera, (*pixels.shape[:2], 3), pixels.dtype)
    return Sample(stamp_ns, received_s, pixels, lambda raw: _to_rgb(raw, encoding))


def state_sample(part: StatePart, msg: JointState, received_s: float) -> Sample:
    """Pick and check the joints of one state message; raises SampleError."""
    values = getattr(msg, part.field)
    return joint_sample(part, msg.name, values, to_ns(msg.header.stamp), received_s)


def camera_type(camera: Camera) -> type:
    """Message class of a camera topic."""
    return Image if camera.type.endswith("/Image") else CompressedImage


def image_message(image: NDArray[np.uint8], stamp: Time, frame_id: str) -> Image:
    """(H, W, 3) uint8 RGB as an rgb8 message."""
    height, width, _ = image.shape
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(image).data)
    msg = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.header.stamp, msg.header.frame_id = stamp, frame_id
    msg.data = data
    return msg


def joint_state_message(
    names: tuple[str, ...], field: str, values: NDArray[np.float64], stamp: Time
) -> JointState:
    """One field of a joint state."""
    msg = JointState(name=list(names))
    msg.header.stamp = stamp
    setattr(msg, field, values.tolist())
    return msg


def command_type(part: ActionPart) -> type:
    """Message class of a command topic."""
    types = {
        "std_msgs/msg/Float64MultiArray": Float64MultiArray,
        "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
        "sensor_msgs/msg/JointState": JointState,
    }
    return types[part.type]


def command_encoder(part: ActionPart) -> Callable[[NDArray[np.float64], Time], object]:
    """Function (values (n,), stamp) → command message of one action part."""
    names = list(part.joints)
    period_ns = round(NANO / part.command_rate_hz)

    def multi_array(values: NDArray[np.float64], stamp: Time) -> Float64MultiArray:
        return Float64MultiArray(data=values.tolist())

    def trajectory(values: NDArray[np.float64], stamp: Time) -> JointTrajectory:
        # A zero stamp means "now" to joint_trajectory_controller; one point, due one tick ahead.
        key = {"position": "positions", "velocity": "velocities"}[part.command]
        point = JointTrajectoryPoint(**{key: values.tolist()})
        point.time_from_start.nanosec = period_ns
        return JointTrajectory(joint_names=names, points=[point])

    def joint_state(values: NDArray[np.float64], stamp: Time) -> JointState:
        return joint_state_message(part.joints, part.command, values, stamp)

    encoders: dict[str, Callable[[NDArray[np.float64], Time], object]] = {
        "std_msgs/msg/Float64MultiArray": multi_array,
        "trajectory_msgs/msg/JointTrajectory": trajectory,
        "sensor_msgs/msg/JointState": joint_state,
    }
    return encoders[part.type]
