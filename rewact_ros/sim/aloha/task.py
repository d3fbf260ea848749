"""Two ViperX arms hand over a cube, or put a peg into a socket: gym-aloha's scenes and rewards.

The way-points follow those of the ACT paper's scripted policies (Zhao et al. 2023). There they move
mocap bodies, and the joints are recorded; here inverse kinematics gives the joints at once.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rewact_ros.kinematics import rotation_by
from rewact_ros.mujoco_backend import SimulationUnavailableError
from rewact_ros.share import share_dir
from rewact_ros.sim.mujoco_task import MujocoTask, look_at, missed_by
from rewact_ros.sim.task import Task
from rewact_ros.sim.tool_arm import FloatArray, ToolArm, Waypoint, along
from rewact_ros.sim.tried_plan import Script

SIDES = ("left", "right")
_ARM = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_ROLL = _ARM.index("forearm_roll")
_STEERED = [k for k in range(6) if k != _ROLL]
_START = np.array([0, -0.96, 1.16, 0, -0.3, 0, 0.1])  # of each arm
_CLOSED_M, _OPEN_M = 0.01844, 0.058  # of a finger, gripper 0 and 1
_EMPTY = 0.12  # of the measured opening
_TIP_M = np.array([0.1347, 0.0, 0.0])  # of the tool before the gripper's body
_TABLE_M = -0.05
_OUT_M = 0.45  # from the middle, where neither arm comes
_MISS_M = (0.04, 0.07)
_BASES_M = ((-0.469, 0.5), (0.469, 0.5))
_BACK_RAD = 0.05  # a frame, of a forearm that somebody has rolled


def _turn(axis: tuple[float, float, float], degrees: float) -> FloatArray:
    return rotation_by(np.array(axis) * math.radians(degrees))


# The right arm faces the left one: its tools are turned by half a turn.
_FACING = _turn((0, 0, 1), 180)
_PICK_RIGHT = _turn((0, 1, 0), -60) @ _FACING
_PICK_LEFT = _turn((0, 1, 0), 60)
_LEVEL_LEFT = np.eye(3)
_LEVEL_RIGHT = _FACING
_ROLLED_LEFT = _turn((1, 0, 0), 90)
_Path = list[Waypoint]


class Aloha(MujocoTask):
    """Both arms' joints in rad, left first, each with its gripper, 0 closed to 1 open."""

    joints = tuple(f"{side}_arm_{joint}" for side in SIDES for joint in (*_ARM, "gripper"))
    views: ClassVar[Mapping[str, str]] = {"top": "top", "front": "front_close"}
    cameras = ("top", "front")
    noisy = ((0.5,) * 6 + (0.0,)) * 2
    robots = tuple(f"vx300s_{side}" for side in SIDES)
    fingers: ClassVar[Mapping[str, str]] = {
        f"vx300s_{side}/left_finger_link": f"vx300s_{side}/right_finger_link" for side in SIDES
    }
    longest_s = 10.0
    needs = ("mujoco", "gym_aloha")
    scene_file: ClassVar[str]
    things: ClassVar[tuple[str, ...]]

    @classmethod
    def contract_file(cls) -> Path:
        return share_dir() / "config" / "robots" / "aloha.yaml"

    def _make(self) -> tuple[Any, Any]:
        model = self._mj.MjModel.from_xml_path(str(_assets() / self.scene_file))
        # Nearer than the suite's own, in which a cube is three pixels wide, and at rest.
        look_at(model, "top", (0.0, 0.45, 0.95), (0.0, 0.5, 0.0), fovy_deg=40)
        look_at(model, "front_close", (0.0, -0.15, 0.5), (0.0, 0.5, 0.13), fovy_deg=50)
        self._arms = [
            ToolArm(
                model,
                [f"vx300s_{side}/{_ARM[k]}" for k in _STEERED],
                f"vx300s_{side}/gripper_link",
                _TIP_M,
            )
            for side in SIDES
        ]
        return model, self._mj.MjData(model)

    def _place(self, seed: int) -> FloatArray:
        self._mj.mj_resetData(self.model, self.data)
        start = np.concatenate([_START, _START])
        for side in range(2):
            finger = _finger_m(float(_START[6]))
            self.data.qpos[8 * side : 8 * side + 8] = [*_START[:6], finger, -finger]
        self.data.qpos[16:] = np.concatenate(self._poses(np.random.RandomState(seed % 2**32)))
        return start

    def _poses(self, rng: np.random.RandomState) -> list[FloatArray]:
        """(7,) pose of each thing, drawn as the suite does."""
        raise NotImplementedError

    def _apply(self, command: FloatArray) -> None:
        for side in range(2):
            arm = command[7 * side : 7 * side + 7]
            finger = _finger_m(float(np.clip(arm[6], 0, 1)))
            self.data.ctrl[8 * side : 8 * side + 8] = [*arm[:6], finger, -finger]

    def joint_positions(self) -> FloatArray:
        arms = self.data.qpos[:16].reshape(2, 8)
        opening = (arms[:, 6:7] - _CLOSED_M) / (_OPEN_M - _CLOSED_M)
        return np.hstack([arms[:, :6], opening]).ravel()

    def _tools(self) -> FloatArray:
        return np.concatenate(
            [self.data.body(f"vx300s_{side}/gripper_link").xpos for side in SIDES]
        )

    def _place_of(self, thing: str) -> FloatArray:
        return np.asarray(self.data.body(thing).xpos).copy()

    def _out_of_reach(self) -> bool:
        places = np.array([self._place_of(thing) for thing in self.things])
        return bool((places[:, 2] < _TABLE_M).any() or (np.abs(places[:, 0]) > _OUT_M).any())

    def _pairs(self) -> set[frozenset[str]]:
        """Names of the geoms that touch each other."""
        pairs = self.data.contact.geom.tolist()
        name = self.model.geom
        return {frozenset((name(one).name, name(other).name)) for one, other in pairs}

    def _success(self) -> bool:
        self._reward = self._rewarded(self._pairs())
        return self._reward == 4

    def _rewarded(self, pairs: set[frozenset[str]]) -> int:
        """The suite's reward, 0 to 4."""
        raise NotImplementedError

    def _withdrawn(self, command: FloatArray) -> FloatArray:
        open_arm = np.append(_START[:6], 1.0)
        return np.concatenate([open_arm, open_arm])

    def _script(self, fault: str, rng: np.random.Generator, breaks_off: int) -> Script:
        shift = missed_by(fault, rng, _MISS_M)
        now = self.command.reshape(2, 7)
        begin: list[Waypoint] = []
        for arm, q in zip(self._arms, now, strict=True):
            place, turn = arm.pose(q[_STEERED])
            begin.append(Waypoint(0.0, place, _yaw(len(begin), place).T @ turn, float(q[6])))
        paths = self._paths(begin, shift)
        frame = 0

        def step() -> FloatArray:
            nonlocal frame
            frame += 1
            target = self.command.reshape(2, 7)
            broken = bool(breaks_off) and frame >= breaks_off
            if broken and fault == "stopped":
                return target.ravel()
            for side, (arm, path) in enumerate(zip(self._arms, paths, strict=True)):
                (place, turn), gripper = along(path, frame / self.rate_hz)
                pose = place, _yaw(side, place) @ turn
                target[side, _STEERED] = arm.reach(target[side, _STEERED], pose)
                target[side, _ROLL] -= np.clip(target[side, _ROLL], -_BACK_RAD, _BACK_RAD)
                target[side, 6] = 1.0 if broken else gripper
            return target.ravel()

        return step

    def _paths(self, begin: list[Waypoint], shift_m: FloatArray) -> tuple[_Path, _Path]:
        """Left and right, from where they are; things are believed to be shifted by (3,) m."""
        raise NotImplementedError


def _yaw(side: int, place: FloatArray) -> FloatArray:
    """(3, 3) by which an arm that reaches to a place is turned about its base.

    A tool that goes with it leaves the forearm unrolled. One that always faces the other arm takes
    its wrist through the singularity of a straight wrist, where forearm and hand may roll by half
    a turn either way: two demonstrations of one motion would then be 2 pi apart, and what a policy
    learns of them lies between.
    """
    along, across = (place[:2] - np.array(_BASES_M[side])) * (-1 if side else 1)
    return rotation_by(np.array([0.0, 0.0, math.atan2(across, along)]))


class TransferCube(Aloha):
    """The right arm picks the cube up, the left one takes it; done: it alone is needed."""

    name = "aloha/transfer-cube"
    text = "Hand the red cube over from the right arm to the left one."
    scene_file = "bimanual_viperx_transfer_cube.xml"
    things = ("box",)

    def _poses(self, rng: np.random.RandomState) -> list[FloatArray]:
        return [_drawn(rng, (0.0, 0.2), (0.4, 0.6))]

    def _rewarded(self, pairs: set[frozenset[str]]) -> int:
        left, right = (frozenset(("red_box", _fingertip(side))) in pairs for side in SIDES)
        on_table = frozenset(("red_box", "table")) in pairs
        if left:
            return 3 if on_table else 4
        return (1 if on_table else 2) if right else 0

    def _stage(self, met: set[int]) -> str:
        words = ("touch" if met else "reach", "grasp", "lift", "meet", "done")
        return words[self._reward]

    def _empty(self) -> bool:
        closed = max(self.joint_positions()[13], self._command[13]) < _EMPTY
        return bool(closed)

    def _paths(self, begin: list[Waypoint], shift_m: FloatArray) -> tuple[_Path, _Path]:
        box, meet = self._place_of("box") + shift_m, np.array([0.0, 0.5, 0.25])
        left, right = begin
        picked_s = 3.4
        carry = [right]
        if self._stage(set()) in ("lift", "meet"):  # it is in the hand already
            picked_s = 0.2
            turn = right.turn
        else:
            turn = _PICK_RIGHT
            carry += [
                Waypoint(1.8, _by(box, 0, 0, 0.08), turn, 1),
                Waypoint(2.6, _by(box, 0, 0, -0.02), turn, 1),
                Waypoint(3.4, _by(box, 0, 0, -0.02), turn, 0),
            ]
        carry += [
            Waypoint(picked_s + 0.8, _by(meet, 0.05, 0, 0), turn, 0),
            Waypoint(picked_s + 1.2, meet, turn, 0),
            Waypoint(picked_s + 2.8, meet, turn, 0),
            Waypoint(picked_s + 3.2, meet, turn, 1),
            Waypoint(picked_s + 4.2, _by(meet, 0.1, 0, 0), turn, 1),
        ]
        ready_s = max(picked_s - 1.4, 1.2)
        take = [
            left,
            Waypoint(ready_s, _by(meet, -0.1, 0, -0.02), _ROLLED_LEFT, 1),
            Waypoint(picked_s + 1.2, _by(meet, -0.1, 0, -0.02), _ROLLED_LEFT, 1),
            Waypoint(picked_s + 2.0, _by(meet, 0.02, 0, -0.02), _ROLLED_LEFT, 1),
            Waypoint(picked_s + 2.8, _by(meet, 0.02, 0, -0.02), _ROLLED_LEFT, 0),
            Waypoint(picked_s + 3.2, _by(meet, 0.02, 0, -0.02), _ROLLED_LEFT, 0),
            Waypoint(picked_s + 4.2, _by(meet, -0.1, 0, -0.02), _LEVEL_LEFT, 0),
        ]
        return take, carry


class Insertion(Aloha):
    """The left arm picks the socket up, the right one the peg, and puts it in up to the pin."""

    name = "aloha/insertion"
    text = "Insert the red peg into the blue socket."
    scene_file = "bimanual_viperx_insertion.xml"
    things = ("peg", "socket")
    noisy = ((0.2,) * 6 + (0.0,)) * 2  # the socket leaves 8 mm

    def _poses(self, rng: np.random.RandomState) -> list[FloatArray]:
        return [
            _drawn(rng, (0.1, 0.2), (0.4, 0.6)),
            _drawn(rng, (-0.2, -0.1), (0.4, 0.6)),
        ]

    def _rewarded(self, pairs: set[frozenset[str]]) -> int:
        walls = [f"socket-{k}" for k in range(1, 5)]
        held = [
            any(frozenset((wall, _fingertip("left"))) in pairs for wall in walls),
            frozenset(("red_peg", _fingertip("right"))) in pairs,
        ]
        on_table = any(frozenset((thing, "table")) in pairs for thing in ("red_peg", *walls))
        if frozenset(("red_peg", "pin")) in pairs:
            return 4
        if any(frozenset(("red_peg", wall)) in pairs for wall in walls) and not on_table:
            return 3
        return (1 if on_table else 2) if all(held) else 0

    def _stage(self, met: set[int]) -> str:
        words = ("touch" if met else "reach", "grasp", "lift", "insert", "done")
        return words[self._reward]

    def _empty(self) -> bool:
        closed = [max(self.joint_positions()[k], self._command[k]) < _EMPTY for k in (6, 13)]
        return any(closed)

    def _paths(self, begin: list[Waypoint], shift_m: FloatArray) -> tuple[_Path, _Path]:
        meet, lift = np.array([0.0, 0.5, 0.15]), np.array([0, 0, 0.012])
        paths = []
        for first, thing, turn, back, up in (
            (begin[0], "socket", _PICK_LEFT, np.array([-1.0, 0, 0]), np.zeros(3)),
            (begin[1], "peg", _PICK_RIGHT, np.array([1.0, 0, 0]), lift),
        ):
            place = self._place_of(thing) + (shift_m if thing == "peg" else 0)
            paths.append(
                [
                    first,
                    Waypoint(2.2, _by(place, 0, 0, 0.08), turn, 1),
                    Waypoint(3.2, _by(place, 0, 0, -0.03), turn, 1),
                    Waypoint(4.0, _by(place, 0, 0, -0.03), turn, 0),
                    Waypoint(5.4, meet + 0.1 * back + up, turn, 0),
                    Waypoint(7.0, meet + 0.034 * back + up, turn, 0),
                ]
            )
        return paths[0], paths[1]


class Family:
    """The suite's two tasks."""

    _TASKS: ClassVar[dict[str, type[Aloha]]] = {
        "transfer-cube": TransferCube,
        "insertion": Insertion,
    }
    names = tuple(_TASKS)

    def task(self, name: str) -> type[Task]:
        """The task of one of ``names``."""
        return self._TASKS[name]


def _drawn(
    rng: np.random.RandomState, x_m: tuple[float, float], y_m: tuple[float, float]
) -> FloatArray:
    low, high = (x_m[0], y_m[0], 0.05), (x_m[1], y_m[1], 0.05)
    return np.array([*rng.uniform(low, high), 1, 0, 0, 0])


def _by(place: FloatArray, x_m: float, y_m: float, z_m: float) -> FloatArray:
    return place + np.array([x_m, y_m, z_m])


def _fingertip(side: str) -> str:
    return f"vx300s_{side}/10_{side}_gripper_finger"


def _finger_m(gripper: float) -> float:
    return _CLOSED_M + gripper * (_OPEN_M - _CLOSED_M)


def _assets() -> Path:
    spec = importlib.util.find_spec("gym_aloha")
    if spec is None or spec.origin is None:
        raise SimulationUnavailableError(
            "the scenes come from gym-aloha, which is not installed. "
            "Mend: pip install --no-deps gym-aloha==0.1.5"
        )
    return Path(spec.origin).parent / "assets"


FAMILY = Family()
