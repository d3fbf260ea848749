"""Paths of tools through poses, and the joints that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.profile import minimum_jerk
from rewact_ros.kinematics import MujocoArm, rotation_by, rotation_vector, solve

FloatArray = NDArray[np.float64]
Pose = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Waypoint:
    """Where a tool is at a time: (3,) m and rotation (3, 3); gripper 0 closed to 1 open."""

    time_s: float
    place: FloatArray
    turn: FloatArray
    gripper: float


def along(path: Sequence[Waypoint], time_s: float) -> tuple[Pose, float]:
    """Pose and gripper on a path, from one waypoint to the next by a minimum-jerk move."""
    later = next((k for k, point in enumerate(path) if point.time_s > time_s), None)
    if later is None or later == 0:
        point = path[0 if later == 0 else -1]
        return (point.place, point.turn), point.gripper
    here, there = path[later - 1], path[later]
    share = float(minimum_jerk((time_s - here.time_s) / (there.time_s - here.time_s)))
    turn = rotation_by(share * rotation_vector(there.turn @ here.turn.T)) @ here.turn
    gripper = here.gripper + share * (there.gripper - here.gripper)
    return (here.place + share * (there.place - here.place), turn), gripper


class ToolArm(MujocoArm):
    """Joints that move a tool, which is fixed to a body.

    Args:
        model: that the arm is part of.
        joints: names.
        body: that the tool is fixed to.
        tip_m: (3,) of the tool in the body's frame.
    """

    _PATIENCE = 60  # steps of a few mm and degrees each
    _REACHED = 2e-3  # m and rad

    def __init__(self, model: Any, joints: Sequence[str], body: str, tip_m: FloatArray) -> None:
        found = [model.joint(name) for name in joints]
        self._low, self._high = np.array([joint.range for joint in found]).T
        super().__init__(
            model,
            int(model.body(body).id),
            tip_m,
            np.array([joint.qposadr[0] for joint in found]),
            np.array([joint.dofadr[0] for joint in found]),
        )

    def reach(self, q: FloatArray, goal: Pose) -> FloatArray:
        """Joints (n,) at a pose, near those given; as near to it as they come."""
        for _ in range(self._PATIENCE):
            better = solve(self, q, goal, self._low, self._high, np.full(len(q), 0.2))
            done = np.abs(better - q).max() < self._REACHED
            q = better
            if done:
                break
        return q
