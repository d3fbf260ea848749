"""What the numbers of a policy's action mean: a chunk in a representation, and as it is meant.

Training writes a `Representation` into the checkpoint's configuration. `encode` makes a chunk of it
from absolute joints or poses, `decode` is its inverse; both need what was observed. The wire and
`hil` see absolute joints only: `resolved.Resolver` ends there. Pure NumPy.

Conventions are LeRobot's (`robot_kinematic_processor.EEReferenceAndDelta`): a place is in m in the
base frame, a turn is a rotation vector in rad; what is relative turns in the tool's own frame and
moves along the axes of the base frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rewact_ros.rotations import rotation_vectors, rotations

FloatArray = NDArray[np.float64]

JOINT_KINDS = ("joints", "joints_relative", "joints_delta", "joints_velocity")
POSE_KINDS = ("ee", "ee_relative", "ee_delta", "ee_twist")
KINDS = (*JOINT_KINDS, *POSE_KINDS)
GRIPPERS = ("position", "width", "binary")
# As LeRobot names the numbers of a pose.
POSE_NAMES = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz")
_SUFFIX = ".pos"
# An absolute rotation vector jumps at half a turn; so near to it, a policy cannot learn it.
NEAREST_HALF_TURN_RAD = 0.15


class RepresentationError(ValueError):
    """A representation that cannot be, or that this robot cannot take; names what and the mend."""


@dataclass(frozen=True)
class Gripper:
    """A gripper whose number is not its joint.

    Attributes:
        joint: of the robot.
        kind: `width` (m between the fingers) or `binary` (1 open, 0 closed).
        closed, open: the joint there, in its unit.
        width_m: of the open gripper; `width` only.
        threshold: `binary`: above it the gripper is meant open.
        hysteresis: how far past the threshold the number must go before the gripper changes.
        min_interval_s: between two changes.
    """

    joint: str
    kind: str
    closed: float = 0.0
    open: float = 1.0
    width_m: float = 0.08
    threshold: float = 0.5
    hysteresis: float = 0.1
    min_interval_s: float = 0.3

    def __post_init__(self) -> None:
        if self.kind not in GRIPPERS[1:]:
            raise RepresentationError(
                f"gripper.kind: expected one of {', '.join(GRIPPERS[1:])}, got {self.kind!r}"
            )
        numbers = [self.closed, self.open, self.width_m, self.threshold, self.hysteresis]
        if not np.isfinite([*numbers, self.min_interval_s]).all() or self.closed == self.open:
            raise RepresentationError(
                f"gripper: expected finite numbers and closed other than open, got {self}"
            )
        if self.width_m <= 0 or self.min_interval_s < 0:
            raise RepresentationError(f"gripper: expected width_m > 0, min_interval_s >= 0: {self}")
        if not self.hysteresis >= 0 or not self.threshold - self.hysteresis > 0:
            raise RepresentationError(f"gripper: hysteresis: expected 0 to threshold, got {self}")
        if not self.threshold + self.hysteresis < 1:
            raise RepresentationError(
                f"gripper: threshold + hysteresis: expected less than 1, got {self}"
            )

    def openings(self, joint: FloatArray) -> FloatArray:
        """0 closed to 1 open, of joint positions."""
        return (joint - self.closed) / (self.open - self.closed)

    def positions(self, opening: FloatArray) -> FloatArray:
        """The inverse of `openings`."""
        return self.closed + opening * (self.open - self.closed)


@dataclass(frozen=True)
class Representation:
    """What each number of an action is.

    Attributes:
        kind: one of `KINDS`.
        names: (C,) of the numbers, in order: POSE_NAMES and robot joints, which may end in `.pos`.
        joints: robot joints that `kind` is about; of a pose the chain, from the base on, or the six
            values of the Cartesian part that takes it. Others are absolute.
        frame, tip_m: the tool of the pose, as the contract's `kinematics` has it; of a Cartesian
            part its `frame_id`.
        gripper: of the joint that is neither.
        by_index: what is relative is so to the state's number of the same index, as LeRobot's
            processors have it; else to the observed joint of the same name.
    """

    kind: str = "joints"
    names: tuple[str, ...] = ()
    joints: tuple[str, ...] = ()
    frame: str = ""
    tip_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gripper: Gripper | None = None
    by_index: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RepresentationError(
                f"action_representation.kind: expected one of {', '.join(KINDS)}, got {self.kind!r}"
            )
        if len(set(self.names)) != len(self.names) or len(set(self.joints)) != len(self.joints):
            raise RepresentationError(
                f"action_representation: expected each name once, got {self.names}, {self.joints}"
            )
        missing = [name for name in POSE_NAMES if self.is_pose and name not in self.names]
        if missing:
            raise RepresentationError(
                f"action_representation.names: {self.kind} needs {missing[0]}, got {self.names}"
            )
        if self.is_pose and not self.joints:
            raise RepresentationError(
                f"action_representation.joints: {self.kind} needs the joints that move the tool"
            )
        if not np.isfinite(self.tip_m).all():
            raise RepresentationError(f"action_representation.tip_m: not finite: {self.tip_m}")

    @property
    def is_pose(self) -> bool:
        """Whether it speaks of a tool."""
        return self.kind in POSE_KINDS

    @property
    def is_plain(self) -> bool:
        """Whether it is the robot's own action, number by number."""
        return self.kind == "joints" and self.gripper is None

    def __str__(self) -> str:
        return self.kind + (f" with a {self.gripper.kind} gripper" if self.gripper else "")


class Poses(NamedTuple):
    """Tool poses: places (…, 3) in m and turns (…, 3, 3) in the base frame."""

    place: FloatArray
    turn: FloatArray


def poses_of(values: FloatArray) -> Poses:
    """Poses of the numbers POSE_NAMES, (…, 6)."""
    return Poses(values[..., :3], rotations(values[..., 3:]))


def values_of(poses: Poses) -> FloatArray:
    """(…, 6) numbers POSE_NAMES of poses."""
    return np.concatenate([poses.place, rotation_vectors(poses.turn)], axis=-1)


class Columns:
    """Where the parts of a representation stand in its action and in the robot's.

    Args:
        representation: of the action.
        joints: (A,) commanded joints of the robot, in action order.

    Raises:
        RepresentationError: a name that is no joint, or a joint that nothing speaks of, or two do.
    """

    def __init__(self, representation: Representation, joints: Sequence[str]) -> None:
        names = representation.names
        where = "action_representation.names"
        self.width = len(names)
        self.pose = [names.index(name) for name in POSE_NAMES] if representation.is_pose else []
        single: dict[str, int] = {}
        for column, name in enumerate(names):
            if column in self.pose:
                continue
            joint = _joint(name, joints)
            if joint not in joints or joint in single:
                raise RepresentationError(
                    f"{where}: expected each joint of {', '.join(joints)} once"
                    f"{' or a number of a pose' if self.pose else ''}, got '{name}'"
                )
            single[joint] = column
        moved = [_joint(name, joints) for name in representation.joints]
        gripper = representation.gripper
        strange = [joint for joint in moved if joint not in joints]
        if strange:
            raise RepresentationError(
                f"action_representation.joints: expected some of {', '.join(joints)}, got "
                f"'{strange[0]}'"
            )
        covered = set(single) | (set(moved) if self.pose else set())
        both = set(single) & set(moved) if self.pose else set()
        lacking = [joint for joint in joints if joint not in covered or joint in both]
        if lacking:
            raise RepresentationError(
                f"{where}: expected {lacking[0]} once, got {'it twice' if both else 'none'} in "
                f"{', '.join(names)}"
            )
        if gripper is not None and (gripper.joint not in single or gripper.joint in moved):
            raise RepresentationError(
                f"action_representation.gripper.joint: expected a joint beside those of "
                f"{representation.kind}, got '{gripper.joint}'"
            )
        order = list(joints)
        self.moved = np.array([order.index(joint) for joint in moved], dtype=int)
        self.moved_columns = [] if self.pose else [single[joint] for joint in moved]
        kept = [j for j in order if j in single and (self.pose or j not in moved)]
        self.kept = np.array([order.index(joint) for joint in kept], dtype=int)
        self.kept_columns = [single[joint] for joint in kept]
        self.gripper = (
            None
            if gripper is None
            else (single[gripper.joint], order.index(gripper.joint), gripper)
        )


def _joint(name: str, joints: Sequence[str]) -> str:
    return name if name in joints else name.removesuffix(_SUFFIX)


def encode_joints(kind: str, goals: FloatArray, seen: FloatArray, dt_s: float) -> FloatArray:
    """Joints of chunks in a representation.

    Args:
        kind: one of `JOINT_KINDS`.
        goals: (…, n, J) absolute.
        seen: (…, J) observed, of the same joints.
        dt_s: of a step.
    """
    if kind == "joints":
        return goals
    if kind == "joints_relative":
        return goals - seen[..., None, :]
    before = np.concatenate([seen[..., None, :], goals[..., :-1, :]], axis=-2)
    return (goals - before) / (dt_s if kind == "joints_velocity" else 1.0)


def decode_joints(kind: str, chunk: FloatArray, seen: FloatArray, dt_s: float) -> FloatArray:
    """The inverse of `encode_joints`: (…, n, J) absolute."""
    if kind == "joints":
        return chunk
    if kind == "joints_relative":
        return chunk + seen[..., None, :]
    steps = chunk * (dt_s if kind == "joints_velocity" else 1.0)
    return seen[..., None, :] + np.cumsum(steps, axis=-2)


def encode_poses(kind: str, goals: Poses, seen: Poses, dt_s: float) -> FloatArray:
    """Poses of chunks as the numbers POSE_NAMES, (…, n, 6); arguments as for `encode_joints`.

    `ee_twist` is the velocity by which a step's pose is reached from the one before: m/s and
    rad/s, both in the base frame, as in `geometry_msgs/TwistStamped`.
    """
    if kind == "ee":
        return values_of(goals)
    here = Poses(seen.place[..., None, :], seen.turn[..., None, :, :])
    if kind != "ee_relative":
        here = Poses(
            np.concatenate([here.place, goals.place[..., :-1, :]], axis=-2),
            np.concatenate([here.turn, goals.turn[..., :-1, :, :]], axis=-3),
        )
    back = np.swapaxes(here.turn, -1, -2)
    moved = goals.place - here.place
    if kind == "ee_twist":
        turned = rotation_vectors(goals.turn @ back)
        return np.concatenate([moved, turned], axis=-1) / dt_s
    return np.concatenate([moved, rotation_vectors(back @ goals.turn)], axis=-1)


def decode_poses(kind: str, chunk: FloatArray, seen: Poses, dt_s: float) -> Poses:
    """The inverse of `encode_poses`, for one chunk (n, 6)."""
    if kind == "ee_twist":
        chunk = chunk * dt_s
    place, turn = chunk[:, :3], rotations(chunk[:, 3:])
    if kind == "ee":
        return Poses(place, turn)
    if kind == "ee_relative":
        return Poses(seen.place + place, seen.turn @ turn)
    turns, here = np.empty_like(turn), seen.turn
    for k, step in enumerate(turn):
        here = step @ here if kind == "ee_twist" else here @ step
        turns[k] = here
    return Poses(seen.place + np.cumsum(place, axis=0), turns)


def nearest_half_turn(turns: FloatArray) -> float:
    """How near rotations (N, 3, 3) come to half a turn, rad."""
    return float(np.pi - np.linalg.norm(rotation_vectors(turns), axis=-1).max())
