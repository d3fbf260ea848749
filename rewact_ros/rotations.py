"""Rotations as unit quaternions (x, y, z, w), as ROS has them, and as rotation vectors in rad."""

import math

# A unit quaternion of float32 parts is off by 1e-7; one that a driver rounds to three digits, by
# 1e-3. What is further off is no rotation: all zeros, a message never filled in, a wrong order.
NORM_TOLERANCE = 1e-3
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


def rotation_vector(quaternion: Quaternion) -> Vector:
    """Axis times angle, rad, the angle in [0, π]; q and -q are one rotation and give one vector.

    At π both axes are the same rotation: the one whose first component other than 0 is positive.

    Raises:
        ValueError: it is not finite, or its norm is not 1 within `NORM_TOLERANCE`.
    """
    norm = math.hypot(*quaternion)
    if not abs(norm - 1.0) <= NORM_TOLERANCE:  # not finite: not within anything
        numbers = ", ".join(f"{number:.4g}" for number in quaternion)
        raise ValueError(
            f"the quaternion (x, y, z, w) = ({numbers}) has the norm {norm:.4g}, expected 1 ± "
            f"{NORM_TOLERANCE:g}"
        )
    x, y, z, w = quaternion
    leading = next((number for number in (w, x, y, z) if number != 0.0), 1.0)
    if leading < 0.0:
        x, y, z, w = -x, -y, -z, -w
    sine = math.hypot(x, y, z)
    # Near zero the angle is twice the sine, and the quotient loses its digits.
    scale = 2.0 / norm if sine < 1e-9 else 2.0 * math.atan2(sine, w) / sine
    return x * scale, y * scale, z * scale


def quaternion(vector: Vector) -> Quaternion:
    """Unit quaternion (x, y, z, w) of a rotation vector, rad."""
    angle = math.hypot(*vector)
    scale = 0.5 if angle < 1e-9 else math.sin(angle / 2) / angle
    x, y, z = (number * scale for number in vector)
    return x, y, z, math.cos(angle / 2)
