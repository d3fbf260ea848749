"""Closed-form inverse kinematics of the ViperX-300s for grasps that point straight down.

With the gripper vertical the arm is a turning base plus a planar three-link chain, so every target
has one elbow-up solution and `forearm_roll` stays 0: neighbouring targets give neighbouring joint
positions, which keeps the demonstrations free of jumps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
SHOULDER_HEIGHT_M = 0.12705
_UPPER_ARM = (0.05955, 0.3)  # shoulder to elbow at zero pose, (forward, up)
_UPPER_ARM_M = math.hypot(*_UPPER_ARM)
_UPPER_ARM_LEAN = math.atan2(*_UPPER_ARM)
_FOREARM_M = 0.3  # elbow to wrist
TIP_M = 0.069744 + 0.1537  # wrist to finger tips, along the gripper


def tip_down(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> FloatArray:
    """Return the arm joints that put the finger tips at a point, the gripper pointing down.

    Args:
        x_m, y_m, z_m: finger tip position in the base frame (x forward, z up, table at z = 0).
        yaw_rad: heading of the gripper's outer side; 0 looks along +x, the fingers then open in y.

    Returns:
        (6,) waist, shoulder, elbow, forearm_roll, wrist_angle, wrist_rotate in rad.

    Raises:
        ValueError: the point is out of reach.
    """
    waist = math.atan2(y_m, x_m)
    forward = math.hypot(x_m, y_m)
    up = z_m + TIP_M - SHOULDER_HEIGHT_M  # of the wrist above the shoulder
    distance = math.hypot(forward, up)
    cosine = (_UPPER_ARM_M**2 + distance**2 - _FOREARM_M**2) / (2 * _UPPER_ARM_M * distance)
    if not -1.0 <= cosine <= 1.0:
        raise ValueError(
            f"finger tip target ({x_m:.3f}, {y_m:.3f}, {z_m:.3f}) m is out of reach: "
            f"wrist {distance:.3f} m from the shoulder, expected at most "
            f"{_UPPER_ARM_M + _FOREARM_M:.3f} m"
        )
    upper = math.atan2(up, forward) + math.acos(cosine)  # elevation of the upper arm, elbow up
    fore = math.atan2(up - _UPPER_ARM_M * math.sin(upper), forward - _UPPER_ARM_M * math.cos(upper))
    shoulder = math.pi / 2 - _UPPER_ARM_LEAN - upper
    elbow = -fore - shoulder
    wrist = math.pi / 2 - shoulder - elbow
    return np.array([waist, shoulder, elbow, 0.0, wrist, _wrap(waist - yaw_rad)])


def tip_of(q: FloatArray) -> tuple[float, float, float]:
    """Return where the finger tips are, in m in the base frame, with `forearm_roll` taken as 0.

    Args:
        q: (6,) or more joints as `tip_down` returns them.
    """
    waist, shoulder, elbow, _, wrist = (float(value) for value in q[:5])
    upper, fore = math.pi / 2 - _UPPER_ARM_LEAN - shoulder, -(shoulder + elbow)
    chain = ((_UPPER_ARM_M, upper), (_FOREARM_M, fore), (TIP_M, fore - wrist))
    forward = sum(length * math.cos(angle) for length, angle in chain)
    up = SHOULDER_HEIGHT_M + sum(length * math.sin(angle) for length, angle in chain)
    return forward * math.cos(waist), forward * math.sin(waist), up


def _wrap(angle_rad: float) -> float:
    return (angle_rad + math.pi) % (2 * math.pi) - math.pi
