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


def decode_compressed(msg: CompressedImage, topic: str) -> NDArray[np.uint8]:
    """JPEG or PNG as (H, W, 3) uint8 RGB.

    Raises:
        SampleError: the picture does not decode.
    """
    import cv2

    try:
        picture = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # empty, or absurdly large
        picture = None
    if picture is None:
        raise SampleError(f"{topic}: a {msg.format or 'compressed'} picture does not decode")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def camera_sample(camera: Camera, msg: Image | CompressedImage, received_s: float) -> Sample:
    """A reference to one camera message, which is decoded when its value is asked for.

    Raises:
        SampleError: a raw image of another size or encoding. Of a compressed one only the decoder
            can tell, so that its value raises.
    """
    stamp_ns = to_ns(msg.header.stamp)
    if isinstance(msg, CompressedImage):

        def decode(raw: NDArray[np.generic]) -> NDArray[np.generic]:
            image = decode_compressed(msg, camera.topic)
            check_image(camera, image.shape, image.dtype)
            return image

        return Sample(stamp_ns, received_s, np.frombuffer(msg.data, np.uint8), decode)
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
