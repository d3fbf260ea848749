"""A policy's chunk as the robot takes it: absolute joints, whatever the policy speaks of."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.contract.schema import JogTool
from rewact_ros.kinematics import ArmModel, follow

from .representations import (
    POSE_KINDS,
    POSE_NAMES,
    Columns,
    FloatArray,
    Gripper,
    Poses,
    Representation,
    RepresentationError,
    decode_joints,
    decode_poses,
    poses_of,
    values_of,
)


class Resolver:
    """Turns chunks (n, C) of one representation into joints (n, A) of one robot.

    Args:
        representation: of the policy.
        contract: of the robot.
        arm: its kinematics, for poses.

    Attributes:
        state_width: numbers of an observed state.
        trouble: what kept the newest chunk from the policy's poses; "": nothing.

    Raises:
        RepresentationError: the robot cannot take it; names what and the mend.
    """

    def __init__(
        self, representation: Representation, contract: Contract, arm: ArmModel | None
    ) -> None:
        require_representation(representation, contract)
        self._kind, self._arm, self._dt_s = representation.kind, arm, contract.dt_s
        self._takes_poses = bool(contract.poses)
        self.columns = Columns(representation, contract.action_names)
        moved, limits = self.columns.moved, contract.limits
        self._width = len(contract.action_names)
        self.state_width = len(contract.state_names)
        self._state = contract.action_in_state
        self._low, self._high = limits.low[moved], limits.high[moved]
        step = limits.velocity[moved] * contract.dt_s
        # The first step leads from where the arm is, which lags behind what it was told.
        self._steps = step, np.maximum(step, limits.start_jump[moved])
        gripper = self.columns.gripper
        self._switch = Switch(gripper[2], contract.dt_s) if gripper is not None else None
        self.reset()

    def reset(self) -> None:
        """Somebody else moved the robot."""
        self.trouble = ""
        if self._switch is not None:
            self._switch.reset()

    def __call__(
        self, chunk: NDArray[np.floating], state: NDArray[np.floating], stamp_s: float | None
    ) -> NDArray[np.float32]:
        """Absolute joints (n, A) in contract units.

        Args:
            chunk: (n, C) as the policy gave it.
            state: (S,) that it was observed with.
            stamp_s: time of the observation; None: no other chunk came before.
        """
        numbers: FloatArray = chunk.astype(np.float64)
        seen: FloatArray = state[self._state].astype(np.float64)
        columns, joints = self.columns, np.empty((len(numbers), self._width))
        joints[:, columns.kept] = numbers[:, columns.kept_columns]
        moved = seen[columns.moved]
        if columns.pose:
            joints[:, columns.moved] = self._follow(numbers[:, columns.pose], moved)
        else:
            part = numbers[:, columns.moved_columns]
            joints[:, columns.moved] = decode_joints(self._kind, part, moved, self._dt_s)
        if columns.gripper is not None and self._switch is not None:
            column, joint, gripper = columns.gripper
            opening = numbers[:, column]
            if gripper.kind == "width":
                joints[:, joint] = gripper.positions(np.clip(opening / gripper.width_m, 0.0, 1.0))
            else:
                joints[:, joint] = self._switch(opening, float(seen[joint]), stamp_s)
        return joints.astype(np.float32)

    def _follow(self, chunk: FloatArray, seen: FloatArray) -> FloatArray:
        if self._takes_poses:
            return values_of(decode_poses(self._kind, chunk, poses_of(seen), self._dt_s))
        assert self._arm is not None
        goals = decode_poses(self._kind, chunk, Poses(*self._arm.pose(seen)), self._dt_s)
        steps = np.tile(self._steps[0], (len(chunk), 1))
        steps[0] = self._steps[1]
        path = list(zip(goals.place, goals.turn, strict=True))
        found = follow(self._arm, seen, path, self._low, self._high, steps)
        self.trouble = ""
        if found.collision:
            self.trouble = f"refused a self-collision of {found.collision}: the arm waits before it"
        elif found.lag_m > 0.01 or found.lag_rad > 0.1:
            self.trouble = (
                f"the tool stays {1e3 * found.lag_m:.0f} mm and {found.lag_rad:.2f} rad behind the "
                "policy's pose: out of reach, at a limit, or near a singularity"
            )
        return found.joints


class Switch:
    """A binary gripper along chunks: it changes past the threshold, and not again too soon.

    Args:
        gripper: thresholds and positions.
        dt_s: of a step.
    """

    def __init__(self, gripper: Gripper, dt_s: float) -> None:
        self._gripper, self._dt_s = gripper, dt_s
        self.reset()

    def reset(self) -> None:
        """Begin anew from the observed gripper."""
        self._stamp_s: float | None = None
        self._course: list[tuple[bool, float]] = []

    def __call__(self, numbers: FloatArray, observed: float, stamp_s: float | None) -> FloatArray:
        """Joint positions (n,) of numbers (n,) of which 1 means open, 0 closed.

        What an earlier chunk has decided for the time before `stamp_s` stands.
        """
        gripper, now_s = self._gripper, 0.0 if stamp_s is None else stamp_s
        is_open, changed_s = self._before(stamp_s, observed)
        self._course, opened = [], np.empty(len(numbers))
        for k, number in enumerate(numbers):
            time_s = now_s + k * self._dt_s
            bound = gripper.threshold + gripper.hysteresis * (-1.0 if is_open else 1.0)
            may = time_s - changed_s >= gripper.min_interval_s - 1e-9
            if may and (number < bound if is_open else number > bound):
                is_open, changed_s = not is_open, time_s
            self._course.append((is_open, changed_s))
            opened[k] = is_open
        self._stamp_s = stamp_s
        return gripper.positions(opened)

    def _before(self, stamp_s: float | None, observed: float) -> tuple[bool, float]:
        """Whether it is open, and since when."""
        if stamp_s is None or self._stamp_s is None or stamp_s <= self._stamp_s:
            return bool(self._gripper.openings(np.array(observed)) >= 0.5), float("-inf")
        passed = int((stamp_s - self._stamp_s) / self._dt_s + 1e-6)
        return self._course[min(max(passed, 1), len(self._course)) - 1]


def require_representation(representation: Representation, contract: Contract) -> None:
    """Refuse a representation that a robot cannot take.

    Raises:
        RepresentationError: names what, expected, got and the mend.
    """
    what, robot = f"action_representation {representation}", contract.robot
    plain = "train with --representation joints, which takes the robot's own action"
    commands = {part.command for part in contract.action}
    if "velocity" in commands and not representation.is_plain:
        raise RepresentationError(
            f"{what}: expected commands of positions or poses in the contract of {robot}, got "
            f"{', '.join(sorted(commands))}; {plain}"
        )
    columns = Columns(representation, contract.action_names)
    seen = [contract.state_names[contract.action_in_state[i]] for i in columns.moved]
    first = [name for i in columns.moved for name in contract.state_names[i : i + 1]]
    if representation.by_index and seen != first:
        raise RepresentationError(
            f"{what}: observation.state.joints: expected those of the action first, in its order, "
            f"as LeRobot's relative actions take them, got {', '.join(contract.state_names)} in "
            f"the contract of {robot}"
        )
    if contract.poses:
        _require_cartesian(representation, contract, what, plain)
        return
    if not representation.is_pose:
        return
    tool = _tool(contract, str(representation))
    _require_same(
        f"{what}: kinematics.",
        f"in the contract of {robot}",
        ("joints", representation.joints, tuple(joint for joint, _ in tool.joints)),
        ("frame", representation.frame, tool.frame),
        ("tip", tuple(representation.tip_m), tuple(tool.tip_m)),
    )
    units = dict(zip(contract.action_names, contract.action_units, strict=True))
    for joint in representation.joints:
        if units[joint] not in ("rad", "m"):
            raise RepresentationError(
                f"{what}: action.unit.{joint}: expected rad or m of a joint that moves the tool, "
                f"got {units[joint]}"
            )


def _require_cartesian(
    representation: Representation, contract: Contract, what: str, plain: str
) -> None:
    """Refuse what a robot that takes poses cannot be told."""
    parts = [part for part in contract.action if part.name]
    ours = [name for part in parts for name in part.joints]
    both = [name for name in representation.joints if name in ours]
    if both and not representation.is_pose:
        raise RepresentationError(
            f"{what}: joints: expected none of a pose, whose turns no sum makes, got {both[0]} in "
            f"the contract of {contract.robot}; train with --representation ee_relative, ee_delta "
            f"or ee_twist, or {plain}"
        )
    if not representation.is_pose:
        return
    if len(parts) > 1:
        raise RepresentationError(
            f"{what}: expected one Cartesian part in the contract of {contract.robot}, got "
            f"{', '.join(part.name for part in parts)}; {plain}"
        )
    (part,) = parts
    _require_same(
        f"{what}: ",
        f"of the part {part.name} of {contract.robot}",
        ("joints", representation.joints, part.joints),
        ("frame", representation.frame, part.frame_id),
    )


def _require_same(what: str, where: str, *known: tuple[str, object, object]) -> None:
    """Refuse a point whose (key, as in training, here) differ."""
    for key, expected, got in known:
        if expected != got:
            raise RepresentationError(
                f"{what}{key}: expected {expected} as in training, got {got} {where}; its poses "
                "would be another point's: use the contract of the training"
            )


def representation_of(
    contract: Contract,
    kind: str,
    gripper: str = "position",
    absolute: tuple[str, ...] = (),
    **numbers: float,
) -> Representation:
    """The representation that a training asks for, of a robot.

    Args:
        contract: of the robot.
        kind: one of `KINDS`.
        gripper: one of `GRIPPERS`; other than `position`, of the only joint that is not moved.
        absolute: parts of names of joints that stay absolute (LeRobot's `exclude_joints`).
        numbers: of `Gripper`: `width_m`, `threshold`, `hysteresis`, `min_interval_s`.

    Raises:
        RepresentationError: the robot cannot take it.
    """
    joints = contract.action_names
    part = next((part for part in contract.action if part.name), None)
    if kind in POSE_KINDS and part is not None:
        rest = tuple(joint for joint in joints if joint not in part.joints)
        made = Representation(kind, (*POSE_NAMES, *rest), part.joints, part.frame_id)
    elif kind in POSE_KINDS:
        tool = _tool(contract, kind)
        chain = tuple(joint for joint, _ in tool.joints)
        rest = tuple(joint for joint in joints if joint not in chain)
        made = Representation(kind, (*POSE_NAMES, *rest), chain, tool.frame, tool.tip_m)
    else:
        rest = tuple(j for j in joints if any(word.lower() in j.lower() for word in absolute))
        moved = () if kind == "joints" else tuple(j for j in joints if j not in rest)
        made = Representation(kind, joints, moved)
    if gripper != "position":
        made = replace(made, gripper=_gripper(contract, gripper, rest, numbers))
    require_representation(made, contract)
    return made


def _tool(contract: Contract, what: str) -> JogTool:
    """The robot's kinematics; raises RepresentationError where there are none."""
    if contract.kinematics is None:
        raise RepresentationError(
            f"action_representation {what}: expected a section 'kinematics' in the contract of "
            f"{contract.robot}, which takes joints only; got none: add one (docs/contract.md), or "
            "use a policy of joints"
        )
    return contract.kinematics


def _gripper(
    contract: Contract, kind: str, rest: tuple[str, ...], numbers: dict[str, float]
) -> Gripper:
    if len(rest) != 1:
        raise RepresentationError(
            f"gripper {kind}: expected one joint that is not moved, got {', '.join(rest) or 'none'}"
            "; name it by --absolute-joints"
        )
    index, limits = contract.action_names.index(rest[0]), contract.limits
    low, high = float(limits.low[index]), float(limits.high[index])
    return Gripper(rest[0], kind, closed=low, open=high, **numbers)
