"""Stamps ↔ ns, joint states, twists; see `images`, `commands`, `states` for what streams carry."""

from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import JointState

from rewact_ros.stamps import NANO

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


def joint_state_message(
    names: tuple[str, ...], field: str, values: NDArray[np.float64], stamp: Time
) -> JointState:
    """One field of a joint state."""
    msg = JointState(name=list(names))
    msg.header.stamp = stamp
    setattr(msg, field, values.tolist())
    return msg


def twist_numbers(twist: Any) -> tuple[float, float, float, float, float, float]:
    """Linear, then angular velocity (6,) of a `geometry_msgs/Twist`."""
    a, b = twist.linear, twist.angular
    return a.x, a.y, a.z, b.x, b.y, b.z
