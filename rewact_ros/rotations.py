"""Rotations: unit quaternions (x, y, z, w) as ROS has them, rotation vectors in rad, matrices.

One at a time for messages, and by the batch, (…, 3, 3) and (…, 3), for chunks and data sets.
"""

import math

import numpy as np
from numpy.typing import NDArray

# A unit quaternion of float32 parts is off by 1e-7; one that a driver rounds to three digits, by
# 1e-3. What is further off is no rotation: all zeros, a message never filled in, a wrong order.
NORM_TOLERANCE = 1e-3
FloatArray = NDArray[np.float64]
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


def rotations(vectors: FloatArray) -> FloatArray:
    """(…, 3, 3) of rotation vectors (…, 3), by Rodrigues' formula."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    axis = vectors / np.maximum(angle[..., 0], 1e-300)
    zero = np.zeros(axis.shape[:-1])
    x, y, z = np.moveaxis(axis, -1, 0)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    cross = np.stack(rows, axis=-1).reshape(*axis.shape, 3)
    turned = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross
    return np.asarray(turned)


def rotation_vectors(turns: FloatArray) -> FloatArray:
    """(…, 3) of rotations (…, 3, 3), by angles up to half a turn, exact there too.

    By way of the quaternion (Shepperd 1978): the row of its outer product with the largest
    diagonal loses no digits.
    """
    m = np.moveaxis(turns.reshape(*turns.shape[:-2], 9), -1, 0)
    xx, yy, zz = m[0], m[4], m[8]
    yz, zx, xy = m[7] - m[5], m[2] - m[6], m[3] - m[1]
    rows = [
        [1 + xx - yy - zz, m[1] + m[3], m[2] + m[6], yz],
        [m[1] + m[3], 1 - xx + yy - zz, m[5] + m[7], zx],
        [m[2] + m[6], m[5] + m[7], 1 - xx - yy + zz, xy],
        [yz, zx, xy, 1 + xx + yy + zz],
    ]
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    largest = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    q = np.where(q[..., 3:] < 0, -q, q)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, q[..., 3:])
    return np.asarray(q[..., :3] * np.where(sine < 1e-9, 2.0, angle / np.maximum(sine, 1e-300)))
