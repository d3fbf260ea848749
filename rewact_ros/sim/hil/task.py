"""A Panda arm picks a block up: gym-hil's scene, controller and success.

The suite's environment moves its tool by displacements. Here the command is where the tool shall
be, as named axes; the suite's operational-space controller follows it at every step of the physics.
The suite places its block at one fixed spot, or by NumPy's global generator, which its
`reset(seed)` does not seed. Here the seed draws it, from the suite's own bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from rewact_ros.share import share_dir
from rewact_ros.sim.from_above import FromAbove
from rewact_ros.sim.lift import Follow, Lift
from rewact_ros.sim.mujoco_task import look_at
from rewact_ros.sim.suites import import_suite, suite_file
from rewact_ros.sim.task import FloatArray, Task

REQUIREMENT = "gym-hil==0.1.14"
# The suite's (gym_hil/envs/panda_pick_gym_env.py): joints at the start, and box of the tool.
_HOME = np.array([0, 0.195, 0, -2.43, 0, 2.62, 0.785])
_TOOL_M = np.array([[0.2, -0.3, 0.0], [0.6, 0.3, 0.5]])
_ARM = tuple(f"joint{k}" for k in range(1, 8))
_DOWN = np.array([0.0, 1.0, 0.0, 0.0])  # of the tool
_SHUT_RAD, _SHUT_CONTROL = 0.8, 255.0  # of a finger's joint and of the gripper


class PickBlock(Lift):
    """The tool's position (x, y, z) in m from the robot's base, and the gripper, 1 open."""

    name = "hil/panda-pick-cube"
    text = "Pick the cube up."
    joints = ("tool_x", "tool_y", "tool_z", "gripper")
    views: ClassVar[Mapping[str, str]] = {"front": "front", "wrist": "handcam_rgb"}
    cameras = ("front", "wrist")
    noisy = (0.25, 0.25, 0.25, 0.0)
    robots = ("link0",)
    fingers: ClassVar[Mapping[str, str]] = {"left_pad": "right_pad"}
    needs = ("mujoco", "gym_hil")
    bounds_m = np.array([[0.3, -0.15], [0.5, 0.15]])
    grasp = FromAbove(
        over_m=0.09, grasp_m=0.0, lift_m=0.2, step_m=0.012, slack_m=0.01, close_frames=10
    )
    empty, closed = 0.1, 0.3

    @classmethod
    def contract_file(cls) -> Path:
        return share_dir() / "config" / "robots" / "panda.yaml"

    def _make(self) -> tuple[Any, Any]:
        scene = suite_file(_suite(), "assets/scene.xml", REQUIREMENT)
        self._control = import_suite("gym_hil.controllers", REQUIREMENT, alone=True).opspace
        model = self._mj.MjModel.from_xml_path(str(scene))
        # Nearer than the suite's own, in which the block is four pixels wide.
        look_at(model, "front", (0.95, 0.0, 0.42), (0.42, 0.0, 0.1), fovy_deg=40)
        joints = [model.joint(name) for name in _ARM]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._tool_site = int(model.site("pinch").id)
        return model, self._mj.MjData(model)

    def _place(self, seed: int) -> FloatArray:
        data = self.data
        self._mj.mj_resetData(self.model, data)
        data.qpos[self._qpos] = _HOME
        self._lay(seed)
        self._mj.mj_forward(self.model, data)
        return np.append(data.site_xpos[self._tool_site], 1.0)

    def _apply(self, command: FloatArray) -> None:
        self.data.mocap_pos[0] = np.clip(command[:3], *_TOOL_M)
        self.data.ctrl[7] = (1.0 - float(np.clip(command[3], 0, 1))) * _SHUT_CONTROL

    def _step(self, count: int) -> None:
        for _ in range(count):
            self.data.ctrl[:7] = self._control(
                model=self.model,
                data=self.data,
                site_id=self._tool_site,
                dof_ids=self._dof,
                pos=self.data.mocap_pos[0],
                ori=_DOWN,
                joint=_HOME,
                gravity_comp=True,
            )
            self._mj.mj_step(self.model, self.data)

    def joint_positions(self) -> FloatArray:
        closed = [self.data.joint(f"{side}_driver_joint").qpos[0] for side in ("left", "right")]
        opening = 1.0 - float(np.mean(closed)) / _SHUT_RAD
        return np.append(self.data.site_xpos[self._tool_site], opening)

    def _tools(self) -> FloatArray:
        return np.asarray(self.data.site_xpos[self._tool_site]).copy()

    def _withdrawn(self, command: FloatArray) -> FloatArray:
        return np.array([*command[:2], self.grasp.lift_m, 1.0])

    def _hand(self) -> FloatArray:
        return self._tools()

    def _follow(self) -> tuple[FloatArray, Follow]:
        return self.command[:3], lambda aim, gripper: np.append(aim, gripper)


class Family:
    """The suite's task."""

    names = ("panda-pick-cube",)

    def task(self, name: str) -> type[Task]:
        """The task of one of ``names``.

        Raises:
            TaskError: the suite is not installed.
        """
        _suite()
        return PickBlock


def _suite() -> ModuleType:
    return import_suite("gym_hil", REQUIREMENT, alone=True)


FAMILY = Family()
