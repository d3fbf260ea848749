"""A dataset's actions in the representation that a policy is trained in, converted on the fly.

A relative or delta action belongs to a pair of an observation and a step, so no copy of a dataset
can hold it; poses are computed once, and a batch's chunks are made of them in milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.kinematics import Arm
from rewact_ros.policy.representations import (
    NEAREST_HALF_TURN_RAD,
    POSE_NAMES,
    Columns,
    FloatArray,
    Poses,
    Representation,
    encode_joints,
    encode_poses,
    nearest_half_turn,
    poses_of,
)

from .settings import TrainError

_MOST_CHUNKS = 20_000  # that statistics are computed from, evenly spaced


@dataclass
class RepresentedActions:
    """Actions of N frames, as chunks of a representation.

    Attributes:
        representation: of the chunks.
        columns: where its parts are.
        dt_s: of a step.
        moved, moved_seen: (N, J) joints that are commanded and observed; poses: none.
        goals, seen: (N,) tool poses, commanded and observed; joints: None.
        single: (N, C) float64: what depends on its own frame alone.
        recorded: the dataset's own action is poses.
    """

    representation: Representation
    columns: Columns
    dt_s: float
    moved: FloatArray
    moved_seen: FloatArray
    goals: Poses | None
    seen: Poses | None
    single: FloatArray
    recorded: bool = False

    def chunks(self, rows: NDArray[np.integer], steps: NDArray[np.integer]) -> NDArray[np.float32]:
        """(B, n, C) of observations at rows (B,) with actions at steps (B, n)."""
        kind, columns, chunk = self.representation.kind, self.columns, self.single[steps]
        if self.goals is not None and self.seen is not None:
            goals = Poses(self.goals.place[steps], self.goals.turn[steps])
            seen = Poses(self.seen.place[rows], self.seen.turn[rows])
            chunk[..., columns.pose] = encode_poses(kind, goals, seen, self.dt_s)
        elif columns.moved_columns:
            part = encode_joints(kind, self.moved[steps], self.moved_seen[rows], self.dt_s)
            chunk[..., columns.moved_columns] = part
        return chunk.astype(np.float32)

    def values(
        self, rows: NDArray[np.integer], end: NDArray[np.integer], chunk: int
    ) -> NDArray[np.float32]:
        """(M, C) of all steps of the chunks at rows, padding left out; for statistics."""
        picked = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_CHUNKS)).astype(int)]
        steps = picked[:, None] + np.arange(chunk)
        real = steps < end[picked, None]
        return self.chunks(picked, np.minimum(steps, end[picked, None] - 1))[real]

    @property
    def floors(self) -> FloatArray:
        """(C,) of what counts as a spread, as a share: of a step where the number is a step's."""
        floors = np.ones(self.columns.width)
        if self.representation.kind.endswith("_delta"):
            floors[self.columns.pose or self.columns.moved_columns] = self.dt_s
        return floors

    def joined(self, others: Sequence[Self]) -> "RepresentedActions":
        """This one's frames, then those of others in the same representation."""
        parts = [self, *others]

        def poses(name: str) -> Poses | None:
            found = [getattr(part, name) for part in parts]
            if found[0] is None:
                return None
            return Poses(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

        return RepresentedActions(
            self.representation,
            self.columns,
            self.dt_s,
            np.concatenate([part.moved for part in parts]),
            np.concatenate([part.moved_seen for part in parts]),
            poses("goals"),
            poses("seen"),
            np.concatenate([part.single for part in parts]),
            self.recorded,
        )


def represent(
    representation: Representation,
    contract: Contract,
    arm: Arm | None,
    action: NDArray[np.float32],
    state: NDArray[np.float32],
    names: Sequence[str],
) -> RepresentedActions:
    """Prepare the actions of N frames.

    Args:
        representation: to make.
        contract: of the robot.
        arm: its kinematics, for poses; None for a robot that takes poses.
        action: (N, A) as the robot takes it, or (N, C) absolute poses with the other joints.
        state: (N, S) observed.
        names: of the action's numbers in the dataset.

    Raises:
        TrainError: absolute poses turn so far that their numbers jump; the dataset's action is
            poses, and the representation is of joints.
    """
    columns = Columns(representation, contract.action_names)
    given = {name.removesuffix(".pos"): index for index, name in enumerate(names)}
    own = bool(contract.poses)  # a robot that takes poses has those of its own action
    recorded = [given[name] for name in POSE_NAMES] if recorded_poses(names) and not own else []
    if recorded and not representation.is_pose:
        raise TrainError(
            f"representation {representation}: expected joints in the dataset, got poses "
            f"({', '.join(names)}); train with --representation ee"
        )
    exact, seen = action.astype(np.float64), state[:, contract.action_in_state].astype(np.float64)
    single = np.zeros((len(action), columns.width))
    order = contract.action_names
    where = [given[order[i]] for i in columns.kept] if recorded else list(columns.kept)
    single[:, columns.kept_columns] = exact[:, where]
    if columns.gripper is not None:
        column, _, gripper = columns.gripper
        opening = gripper.openings(single[:, column])
        single[:, column] = opening * gripper.width_m if gripper.kind == "width" else opening >= 0.5
    goals = poses_seen = None
    none = np.zeros((len(action), 0))
    if representation.is_pose:
        poses_seen = _poses(arm, seen[:, columns.moved])
        goals = poses_of(exact[:, recorded]) if recorded else _poses(arm, exact[:, columns.moved])
        _require_learnable(representation.kind, goals)
    moved = none if recorded or representation.is_pose else exact[:, columns.moved]
    return RepresentedActions(
        representation,
        columns,
        contract.dt_s,
        moved,
        none if representation.is_pose else seen[:, columns.moved],
        goals,
        poses_seen,
        single,
        bool(recorded),
    )


def recorded_poses(names: Sequence[str]) -> bool:
    """Whether a dataset's action is absolute tool poses, by LeRobot's names."""
    return set(POSE_NAMES) <= set(names)


def _poses(arm: Arm | None, joints: FloatArray) -> Poses:
    """Of joints (N, J), or, without an arm, of poses as they were recorded (N, 6)."""
    if arm is None:
        return poses_of(joints)
    found = [arm.pose(q) for q in joints]
    return Poses(*(np.stack(parts) for parts in zip(*found, strict=True)))


def _require_learnable(kind: str, goals: Poses) -> None:
    near = nearest_half_turn(goals.turn)
    if kind == "ee" and near < NEAREST_HALF_TURN_RAD:
        raise TrainError(
            f"representation ee: a tool pose is {near:.2f} rad from half a turn, where its numbers "
            f"jump; expected at least {NEAREST_HALF_TURN_RAD} rad in the whole dataset: "
            "train with ee_relative or ee_delta"
        )
