"""Robot commands as the messages of a recording carry them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import ActionPart, SampleError, select_joints
from rewact_ros.contract.frames import is_usable

FloatArray = NDArray[np.float64]


class CommandError(ValueError):
    """A command that does not carry what the contract promises."""


def command_reader(part: ActionPart) -> Callable[[Any], FloatArray]:
    """Function message → (n,) float64 in the order of the part's joints; raises CommandError."""

    def multi_array(body: Any) -> FloatArray:
        values = np.asarray(body.data, dtype=np.float64)
        if values.shape != (len(part.joints),) or not is_usable(values).all():
            raise CommandError(
                f"{part.topic}: expected {len(part.joints)} finite values, got {values}"
            )
        return values

    def trajectory(body: Any) -> FloatArray:
        if len(body.points) != 1:
            raise CommandError(
                f"{part.topic}: expected a stream of single points, got a trajectory of "
                f"{len(body.points)}: what of it was executed cannot be told"
            )
        key = {"position": "positions", "velocity": "velocities"}[part.command]
        return by_name(body.joint_names, getattr(body.points[0], key))

    def joint_state(body: Any) -> FloatArray:
        return by_name(body.name, getattr(body, part.command))

    def by_name(names: Any, values: Any) -> FloatArray:
        try:
            return select_joints(names, values, part.joints, part.topic)
        except SampleError as error:
            raise CommandError(str(error)) from error

    return {
        "std_msgs/msg/Float64MultiArray": multi_array,
        "trajectory_msgs/msg/JointTrajectory": trajectory,
        "sensor_msgs/msg/JointState": joint_state,
    }[part.type]
