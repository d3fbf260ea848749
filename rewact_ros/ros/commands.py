"""Robot commands ↔ messages: one table, by the `type` of an action part.

A new interface is one entry in COMMANDS and its name in the contract's `COMMAND_TYPES` (and in
`TELEOP_TYPES`, where its messages name joints). What holds one joint or one pose is in SINGLE.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.contract import ActionPart, SampleError, select_joints
from rewact_ros.contract.edge import to_driver, to_ours
from rewact_ros.contract.frames import NANO, is_usable
from rewact_ros.contract.state_values import POSE
from rewact_ros.ros.convert import joint_state_message
from rewact_ros.rotations import quaternion, rotation_vector

FloatArray = NDArray[np.float64]
Encode = Callable[[FloatArray, Time], Any]
Decode = Callable[[Any], FloatArray]
# Names of joints and as many values; no names: the values are in the order of the part's joints.
Named = tuple[Sequence[str] | None, Sequence[float]]


@dataclass(frozen=True)
class CommandInterface:
    """How commands travel as one message type.

    Attributes:
        message: its class.
        encode: part → function (values (n,), stamp) → message.
        read: (message, ``position`` or ``velocity``, topic for an error) → what it carries, not
            checked; raises SampleError where that is not one command. The message may come from a
            recording: it has the type's fields, but is of no class of ours.
    """

    message: type
    encode: Callable[[ActionPart], Encode]
    read: Callable[[Any, str, str], Named]


def command_type(part: ActionPart) -> type:
    """Message class of a command topic."""
    return _interface(part.type).message


def command_encoder(part: ActionPart) -> Encode:
    """Function (values (n,) in our units, stamp) → command message of one action part."""
    encode = _interface(part.type).encode(part)
    if not part.scale:
        return encode
    return lambda values, stamp: encode(to_driver(part, values), stamp)


def command_decoder(part: ActionPart) -> Decode:
    """Function message → values (n,) float64 of one action part, in its order and our units.

    The function raises SampleError for a message that is not one command of all of them: it has
    another number of values, a joint is missing or a value is not finite in float32.
    """
    read, command, topic = _interface(part.type).read, part.command, part.topic
    joints = part.drivers or part.joints

    def decode(msg: Any) -> FloatArray:
        names, values = read(msg, command, topic)
        if names is not None:
            return to_ours(part, select_joints(names, values, joints, topic))
        picked = np.asarray(values, dtype=np.float64)
        if picked.shape != (len(joints),) or not is_usable(picked).all():
            raise SampleError(f"{topic}: expected {len(joints)} finite values, got {picked}")
        return to_ours(part, picked)

    return decode


def _interface(type_: str) -> CommandInterface:
    return COMMANDS.get(type_) or SINGLE[type_]


def _encode_array(part: ActionPart) -> Encode:
    return lambda values, stamp: Float64MultiArray(data=values.tolist())


def pose_message(values: FloatArray) -> Pose:
    """Pose of a position in m and a rotation vector in rad, (6,)."""
    x, y, z, *turn = values.tolist()
    qx, qy, qz, qw = quaternion((turn[0], turn[1], turn[2]))
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def _encode_trajectory(part: ActionPart) -> Encode:
    names, key = list(part.drivers or part.joints), _TRAJECTORY_FIELDS[part.command]
    period_ns = round(NANO / part.command_rate_hz)

    def encode(values: FloatArray, stamp: Time) -> JointTrajectory:
        # A zero stamp means "now" to joint_trajectory_controller; one point, due one tick ahead.
        point = JointTrajectoryPoint(**{key: values.tolist()})
        point.time_from_start.nanosec = period_ns
        return JointTrajectory(joint_names=names, points=[point])

    return encode


def _read_trajectory(msg: Any, command: str, topic: str) -> Named:
    if len(msg.points) != 1:
        raise SampleError(
            f"{topic}: expected a stream of single points, got a trajectory of "
            f"{len(msg.points)}: what of it was executed cannot be told"
        )
    return msg.joint_names, getattr(msg.points[0], _TRAJECTORY_FIELDS[command])


def _encode_joint_state(part: ActionPart) -> Encode:
    joints = part.drivers or part.joints
    return lambda values, stamp: joint_state_message(joints, part.command, values, stamp)


def _encode_pose(part: ActionPart) -> Encode:
    def encode(values: FloatArray, stamp: Time) -> PoseStamped:
        msg = PoseStamped(pose=pose_message(values))
        msg.header.stamp, msg.header.frame_id = stamp, part.frame_id
        return msg

    return encode


def read_pose(msg: Any, command: str, topic: str) -> Named:
    """Position in m and rotation vector in rad of a pose with a header; see `CommandInterface`."""
    at, q = msg.pose.position, msg.pose.orientation
    try:
        turn = rotation_vector((q.x, q.y, q.z, q.w))
    except ValueError as error:
        raise SampleError(f"{topic}: {error}") from None
    return None, (at.x, at.y, at.z, *turn)


_TRAJECTORY_FIELDS = {"position": "positions", "velocity": "velocities"}

COMMANDS: dict[str, CommandInterface] = {
    "std_msgs/msg/Float64MultiArray": CommandInterface(
        Float64MultiArray, _encode_array, lambda msg, command, topic: (None, msg.data)
    ),
    "trajectory_msgs/msg/JointTrajectory": CommandInterface(
        JointTrajectory, _encode_trajectory, _read_trajectory
    ),
    "sensor_msgs/msg/JointState": CommandInterface(
        JointState,
        _encode_joint_state,
        lambda msg, command, topic: (msg.name, getattr(msg, command)),
    ),
}

SINGLE: dict[str, CommandInterface] = {
    "std_msgs/msg/Float64": CommandInterface(
        Float64,
        lambda part: lambda values, stamp: Float64(data=float(values[0])),
        lambda msg, command, topic: (None, [msg.data]),
    ),
    POSE: CommandInterface(PoseStamped, _encode_pose, read_pose),
}
