"""How far two actions lie apart: of each joint, and of a pose its place and its turn."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.contract.schema import ActionPart
from rewact_ros.control.space import POSE_WIDTH, Space

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Axes:
    """What of an action is compared.

    Attributes:
        names, units: (J,) of the joints, in the contract's order; a pose is two, `NAME` in m and
            `NAME turn` in rad.
        ranges: (J,) the distance that counts as 1, in the unit: the width of the joint's position
            limits; for velocities twice the limit; the diagonal of the workspace, and half a turn.
        columns: (J,) of the action that each is read from.
        poses: first column of each pose.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    ranges: FloatArray
    columns: tuple[int, ...]
    poses: tuple[int, ...]

    @classmethod
    def of(cls, contract: Contract) -> "Axes":
        """Those of a robot."""
        rows: list[tuple[str, str, float, int]] = []
        first = 0
        for part in contract.action:
            rows += _of_pose(part, first) if part.name else _of_joints(part, first)
            first += len(part.joints)
        names, units, ranges, columns = zip(*rows, strict=True)
        return cls(names, units, np.array(ranges), columns, contract.poses)

    def distances(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """(K, J) distances, in their units, of actions (K, A) and (K, A)."""
        if not self.poses:
            return np.abs(one - other)
        space = Space(self.poses)
        rows = [space.distances(space.minus(a, b)) for a, b in zip(one, other, strict=True)]
        return np.array(rows)[:, self.columns]

    def shares(self, distances: FloatArray) -> FloatArray:
        """(...,) mean over the joints of distances (..., J), each as a share of its range."""
        return (distances / self.ranges).mean(axis=-1)


def _of_joints(part: ActionPart, first: int) -> list[tuple[str, str, float, int]]:
    return [
        (
            joint,
            part.units[i],
            2 * part.velocity[i] if part.command == "velocity" else high - low,
            first + i,
        )
        for i, (joint, (low, high)) in enumerate(zip(part.joints, part.position, strict=True))
    ]


def _of_pose(part: ActionPart, first: int) -> list[tuple[str, str, float, int]]:
    diagonal = math.hypot(*(high - low for low, high in part.position[:3]))
    turn = first + POSE_WIDTH // 2
    return [(part.name, "m", diagonal, first), (f"{part.name} turn", "rad", math.pi, turn)]
