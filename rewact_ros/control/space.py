"""Differences, sums and means of commands: joints as numbers, poses as what they are.

A pose takes six columns of a command (A,): position in m, then a rotation vector in rad. That
vector only names a rotation. Rotations are turned into one another on SO(3), as quaternions: the
difference of two rotation vectors is no rotation.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rewact_ros.rotations import Quaternion, Vector, quaternion, rotation_vector

FloatArray = NDArray[np.float64]
POSE_WIDTH = 6


class Space:
    """Commands (A,) of which some columns are poses.

    Differences are what a velocity is times a time: unit of the joint, m, and rad about the axes of
    the pose's frame.

    Args:
        poses: first column of each pose.
    """

    def __init__(self, poses: Sequence[int] = ()) -> None:
        self.poses = tuple(poses)
        self._turns = [slice(first + 3, first + POSE_WIDTH) for first in self.poses]

    def minus(self, to: FloatArray, origin: FloatArray) -> FloatArray:
        """(A,) what leads from `origin` to `to`, by the shortest turn."""
        difference = to - origin
        for turn in self._turns:
            difference[turn] = turn_between(origin[turn], to[turn])
        return difference

    def plus(self, origin: FloatArray, difference: FloatArray) -> FloatArray:
        """(A,) where a difference (A,) leads to."""
        reached = origin + difference
        for turn in self._turns:
            reached[turn] = turned(origin[turn], difference[turn])
        return reached

    def distances(self, difference: FloatArray) -> FloatArray:
        """(A,) how far: by joint; of a pose its distance (three times) and its angle (likewise)."""
        far = np.abs(difference)
        for first in self.poses:
            for part in (slice(first, first + 3), slice(first + 3, first + POSE_WIDTH)):
                far[part] = math.hypot(*difference[part])
        return far


def vector(values: FloatArray) -> Vector:
    """Three numbers as Python has them, which is faster for so few."""
    x, y, z = values.tolist()
    return x, y, z


def product(a: Quaternion, b: Quaternion) -> Quaternion:
    """The rotation b, then a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def inverse(q: Quaternion) -> Quaternion:
    """The rotation back."""
    return -q[0], -q[1], -q[2], q[3]


def turn_between(origin: FloatArray, to: FloatArray) -> Vector:
    """Rotation vector (3,) from one rotation vector to another, in the frame of both."""
    return rotation_vector(product(quaternion(vector(to)), inverse(quaternion(vector(origin)))))


def turned(origin: FloatArray, by: FloatArray) -> Vector:
    """Rotation vector (3,) of `origin`, turned by another in the same frame."""
    return rotation_vector(product(quaternion(vector(by)), quaternion(vector(origin))))


def slerp(a: Quaternion, b: Quaternion, share: float) -> Quaternion:
    """Rotation between two, at a constant angular speed in `share`, by the shorter way."""
    x, y, z = rotation_vector(product(b, inverse(a)))
    return product(quaternion((share * x, share * y, share * z)), a)


def mean_rotation(rotations: Sequence[Quaternion], weights: Sequence[float]) -> Quaternion:
    """Weighted mean on SO(3), the nearest by the chordal distance.

    Source: Markley et al. 2007, Averaging Quaternions: the eigenvector of the largest eigenvalue of
    the weighted sum of q qᵀ. It does not mind the sign of a quaternion.
    """
    if len(rotations) == 1:
        return rotations[0]
    rows = np.array(rotations)
    _, vectors = np.linalg.eigh((rows * np.array(weights)[:, None]).T @ rows)
    x, y, z, w = vectors[:, -1].tolist()
    return x, y, z, w
