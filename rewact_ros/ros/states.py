"""Observed state ↔ messages: one table, by the `type` of a state part.

A new message type is one row here and one in `rewact_ros/contract/state_values.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    PoseStamped,
    Twist,
    TwistStamped,
    Vector3,
    Wrench,
    WrenchStamped,
)
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32, Float64, Float64MultiArray

from rewact_ros.contract import SampleError, StatePart, select_joints
from rewact_ros.contract.edge import to_driver, to_ours
from rewact_ros.contract.frames import Sample, is_usable
from rewact_ros.contract.state_values import ARRAY, POSE, TWIST, WRENCH
from rewact_ros.contract.tables import JOINT_STATE
from rewact_ros.ros.commands import pose_message
from rewact_ros.ros.convert import joint_state_message, to_ns, twist_numbers
from rewact_ros.rotations import rotation_vector

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class StateInterface:
    """How observed values travel as one message type.

    Attributes:
        message: its class.
        read: (message, part) → the driver's numbers, in the order of the part's names; raises
            SampleError. The message may come from a recording: it has the type's fields, but is of
            no class of ours.
        encode: (part, the driver's numbers (n,), stamp) → message, for replays and bags.
        stamped: whether it has a header; else the time of receipt is all that is known of when.
    """

    message: type
    read: Callable[[Any, StatePart], Sequence[float] | FloatArray]
    encode: Callable[[StatePart, FloatArray, Time], Any]
    stamped: bool = True


def state_type(part: StatePart) -> type:
    """Message class of a state topic."""
    return STATES[part.type].message


def is_stamped(part: StatePart) -> bool:
    """Whether messages of a state topic have a header."""
    return STATES[part.type].stamped


def state_sample(part: StatePart, msg: Any, received_s: float, received_ns: int = 0) -> Sample:
    """Read and check one message of a state part; its value is (n,) float64 in our units.

    Args:
        part: of the contract.
        msg: one message of its topic.
        received_s: when, on the age clock.
        received_ns: when, on the clock of the stamps: the stamp of a message without a header.

    Raises:
        SampleError: a value is absent or not finite in float32, or a rotation is none.
    """
    interface = STATES[part.type]
    values = to_ours(part, np.asarray(interface.read(msg, part), dtype=np.float64))
    usable = is_usable(values)
    if not usable.all():
        bad = int(np.flatnonzero(~usable)[0])
        raise SampleError(f"{part.topic}: {part.joints[bad]} is {values[bad]}")
    stamp_ns = to_ns(msg.header.stamp) if interface.stamped else received_ns
    return Sample(stamp_ns, received_s, values)


def state_message(part: StatePart, values: FloatArray, stamp: Time) -> Any:
    """Values (n,) of a state part as a message of its type."""
    return STATES[part.type].encode(part, to_driver(part, values), stamp)


def _read_joints(msg: Any, part: StatePart) -> FloatArray:
    return select_joints(
        msg.name, getattr(msg, part.field), part.drivers or part.joints, part.topic
    )


def _encode_joints(part: StatePart, values: FloatArray, stamp: Time) -> JointState:
    return joint_state_message(part.drivers or part.joints, part.field, values, stamp)


def _read_pose(msg: Any, part: StatePart) -> Sequence[float]:
    at, turned = msg.pose.position, msg.pose.orientation
    try:
        vector = rotation_vector((turned.x, turned.y, turned.z, turned.w))
    except ValueError as error:
        mend = "its driver must send unit quaternions"
        raise SampleError(f"{part.topic}: {part.name}: {error}; {mend}") from None
    return at.x, at.y, at.z, *vector


def _encode_pose(part: StatePart, values: FloatArray, stamp: Time) -> PoseStamped:
    msg = PoseStamped(pose=pose_message(values))
    msg.header.stamp = stamp
    return msg


def _read_wrench(msg: Any, part: StatePart) -> Sequence[float]:
    force, torque = msg.wrench.force, msg.wrench.torque
    return force.x, force.y, force.z, torque.x, torque.y, torque.z


def _encode_wrench(part: StatePart, values: FloatArray, stamp: Time) -> WrenchStamped:
    force, torque = _vectors(values)
    msg = WrenchStamped(wrench=Wrench(force=force, torque=torque))
    msg.header.stamp = stamp
    return msg


def _read_twist(msg: Any, part: StatePart) -> Sequence[float]:
    return twist_numbers(msg.twist)


def _encode_twist(part: StatePart, values: FloatArray, stamp: Time) -> TwistStamped:
    linear, angular = _vectors(values)
    msg = TwistStamped(twist=Twist(linear=linear, angular=angular))
    msg.header.stamp = stamp
    return msg


def _vectors(values: FloatArray) -> tuple[Vector3, Vector3]:
    first, second = (dict(zip("xyz", half, strict=True)) for half in np.split(values, 2))
    return Vector3(**first), Vector3(**second)


def _read_array(msg: Any, part: StatePart) -> Sequence[float]:
    if len(msg.data) != len(part.joints):
        raise SampleError(
            f"{part.topic}: expected {len(part.joints)} numbers ({', '.join(part.joints)}), got "
            f"{len(msg.data)}"
        )
    return msg.data


def _scalar(message: type) -> StateInterface:
    return StateInterface(
        message,
        lambda msg, part: [msg.data],
        lambda part, values, stamp: message(data=float(values[0])),
        stamped=False,
    )


STATES: dict[str, StateInterface] = {
    JOINT_STATE: StateInterface(JointState, _read_joints, _encode_joints),
    POSE: StateInterface(PoseStamped, _read_pose, _encode_pose),
    WRENCH: StateInterface(WrenchStamped, _read_wrench, _encode_wrench),
    TWIST: StateInterface(TwistStamped, _read_twist, _encode_twist),
    ARRAY: StateInterface(
        Float64MultiArray,
        _read_array,
        lambda part, values, stamp: Float64MultiArray(data=values.tolist()),
        stamped=False,
    ),
    "std_msgs/msg/Float32": _scalar(Float32),
    "std_msgs/msg/Float64": _scalar(Float64),
}
