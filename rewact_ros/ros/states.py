"""Observed state ↔ messages: one table, by the `type` of a state part.

A new message type is one row here and one in `rewact_ros/contract/state_values.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from numpy.typing import NDArray
from sensor_msgs.msg import JointState

from rewact_ros.contract import SampleError, StatePart, select_joints
from rewact_ros.contract.frames import Sample, is_usable
from rewact_ros.contract.state_values import POSE
from rewact_ros.contract.tables import JOINT_STATE
from rewact_ros.ros.convert import joint_state_message, to_ns
from rewact_ros.rotations import quaternion, rotation_vector

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class StateInterface:
    """How observed values travel as one message type.

    Attributes:
        message: its class.
        read: (message, part) → values, in the order of the part's names; raises SampleError, or
            ValueError without the topic. The message may come from a recording: it has the type's
            fields, but is of no class of ours.
        encode: (part, values (n,), stamp) → message, for replays, bags of datasets and simulations.
    """

    message: type
    read: Callable[[Any, StatePart], Sequence[float] | FloatArray]
    encode: Callable[[StatePart, FloatArray, Time], Any]


def state_type(part: StatePart) -> type:
    """Message class of a state topic."""
    return STATES[part.type].message


def state_sample(part: StatePart, msg: Any, received_s: float) -> Sample:
    """Read and check one message of a state part; its value is (n,) float64.

    Raises:
        SampleError: a value is absent or not finite in float32, or a rotation is none.
    """
    try:
        values = np.asarray(STATES[part.type].read(msg, part), dtype=np.float64)
    except SampleError:
        raise
    except ValueError as error:
        raise SampleError(f"{part.topic}: {error}") from None
    usable = is_usable(values)
    if not usable.all():
        bad = int(np.flatnonzero(~usable)[0])
        raise SampleError(f"{part.topic}: {part.joints[bad]} is {values[bad]}")
    return Sample(to_ns(msg.header.stamp), received_s, values)


def state_message(part: StatePart, values: FloatArray, stamp: Time) -> Any:
    """Values (n,) of a state part as a message of its type."""
    return STATES[part.type].encode(part, values, stamp)


def _read_joints(msg: Any, part: StatePart) -> FloatArray:
    return select_joints(msg.name, getattr(msg, part.field), part.joints, part.topic)


def _read_pose(msg: Any, part: StatePart) -> Sequence[float]:
    at, turned = msg.pose.position, msg.pose.orientation
    try:
        vector = rotation_vector((turned.x, turned.y, turned.z, turned.w))
    except ValueError as error:
        mend = "its driver must send unit quaternions"
        raise SampleError(f"{part.topic}: {part.name}: {error}; {mend}") from None
    return at.x, at.y, at.z, *vector


def _encode_pose(part: StatePart, values: FloatArray, stamp: Time) -> PoseStamped:
    x, y, z, *vector = values.tolist()
    qx, qy, qz, qw = quaternion((vector[0], vector[1], vector[2]))
    at, turned = Point(x=x, y=y, z=z), Quaternion(x=qx, y=qy, z=qz, w=qw)
    msg = PoseStamped(pose=Pose(position=at, orientation=turned))
    msg.header.stamp = stamp
    return msg


STATES: dict[str, StateInterface] = {
    JOINT_STATE: StateInterface(
        JointState,
        _read_joints,
        lambda part, values, stamp: joint_state_message(part.joints, part.field, values, stamp),
    ),
    POSE: StateInterface(PoseStamped, _read_pose, _encode_pose),
}
