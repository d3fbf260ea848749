"""The pick-and-place arm behind a Cartesian controller: it takes and tells poses, not joints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.kinematics import MujocoArm, solve
from rewact_ros.mujoco_backend import load_mujoco
from rewact_ros.rotations import rotation_vectors, rotations
from rewact_ros.share import share_dir
from rewact_ros.sim.pick_place.scene import ARM, ARM_JOINTS, build_xml
from rewact_ros.sim.pick_place.simulation import HOME
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.sim.task import Course, Expert, FloatArray, Scene, Task, Truth

# Between the finger tips, in the frame of the gripper's link.
TIP_M = (0.1537, 0.0, 0.0)
# Of the controller's own loop, and of the joints that it moves.
CONTROLLER_HZ, JOINT_SPEED = 100, 2.5
_SEARCH_STEPS = 200


class PickPlaceCartesian(Task):
    """`pick_place` by the pose of the tool: a robot such as MoveIt Servo or a vendor's controller.

    What is commanded and observed is the tool's position in m, its rotation vector in rad, and the
    gripper, 0 closed to 1 open. The controller follows the pose by damped least squares, within the
    joints' speed.
    """

    name = "pick_place_cartesian"
    text = PickPlace.text
    joints = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "gripper")
    poses = (0,)
    cameras = PickPlace.cameras
    noisy = (0.3, 0.3, 0.3, True, True, True, False)  # m per rad: the tool is that far from an axis
    faults = PickPlace.faults
    retry_fault = PickPlace.retry_fault
    settle_frames = PickPlace.settle_frames
    needs = PickPlace.needs

    def __init__(self, width: int, height: int, cameras: Sequence[str] = ()) -> None:
        self._robot = PickPlace(width, height, cameras)
        self.cameras = self._robot.cameras
        self._arm = _arm()
        self._low, self._high = _limits()
        self._owed_s = 0.0
        self._goal = self._told()

    @classmethod
    def contract_file(cls) -> Path:
        return share_dir() / "config" / "robots" / "vx300s_cartesian.yaml"

    @classmethod
    def robot_model(cls) -> str:
        return build_xml()

    def reset(self, seed: int, keep_arm: bool = False) -> None:
        self._robot.reset(seed, keep_arm)
        if not keep_arm:
            self._goal, self._owed_s = self._told(), 0.0

    @property
    def command(self) -> FloatArray:
        return self._goal.copy()

    def set_command(self, q: FloatArray) -> None:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (7,) or not np.isfinite(q).all():
            raise ValueError(
                f"command: expected 7 finite values, {', '.join(self.joints)}, got {q}"
            )
        self._goal = q.copy()

    def advance(self, duration_s: float) -> None:
        self._owed_s += duration_s
        while self._owed_s > 1e-9:
            step_s = min(self._owed_s, 1.0 / CONTROLLER_HZ)
            self._follow(step_s)
            self._robot.advance(step_s)
            self._owed_s -= step_s

    def _follow(self, step_s: float) -> None:
        """One tick of the controller."""
        told, longest = self._robot.command, np.full(6, JOINT_SPEED * step_s)
        told[:6] = solve(self._arm, told[:6], _pose(self._goal), self._low, self._high, longest)
        told[6] = self._goal[6]
        self._robot.set_command(told)

    def joint_positions(self) -> FloatArray:
        """(7,) measured pose and gripper."""
        return _tool(self._robot.joint_positions())

    def arm_joints(self) -> FloatArray:
        """(7,) measured joints behind the controller, which it does not tell a robot's user."""
        return self._robot.joint_positions()

    def render(self, camera: str) -> NDArray[np.uint8]:
        return self._robot.render(camera)

    def close(self) -> None:
        self._robot.close()

    def truth(self) -> Truth:
        return self._robot.truth()

    def objects(self) -> FloatArray:
        return self._robot.objects()

    def note(self) -> float:
        return self._robot.note()

    def push(self, force_n: FloatArray) -> None:
        self._robot.push(force_n)

    def expert(
        self,
        rng: np.random.Generator | None = None,
        fault: str = "",
        give_up: bool = False,
        start: FloatArray | None = None,
    ) -> Expert:
        joints = None if start is None else _joints(start, self._robot.command[:6])
        return _ToolExpert(self._robot.expert(rng, fault, give_up, joints))

    @classmethod
    def rescue(cls, scene: Scene, joints: FloatArray) -> Expert:
        return _ToolExpert(PickPlace.rescue(scene, _joints(joints, HOME[:6])))

    @classmethod
    def progress(cls, course: Course) -> NDArray[np.float32]:
        assert isinstance(course.expert, _ToolExpert)
        joints = Course(course.expert.joints, course.state, course.truths, course.notes)
        return PickPlace.progress(joints)

    def _told(self) -> FloatArray:
        return _tool(self._robot.command)


class _ToolExpert:
    """An expert of joints, told as poses.

    Attributes:
        joints: that expert.
    """

    def __init__(self, joints: Expert) -> None:
        self.joints = joints

    @property
    def duration_s(self) -> float:
        return self.joints.duration_s

    @property
    def nominal_s(self) -> float:
        return self.joints.nominal_s

    def command(self, t_s: float) -> FloatArray:
        return _tool(self.joints.command(t_s))

    def noise_scale(self, t_s: float) -> float:
        return self.joints.noise_scale(t_s)


def _tool(joints: FloatArray) -> FloatArray:
    """(7,) pose and gripper of six joints and the gripper."""
    place, turn = _arm().pose(joints[:6])
    return np.concatenate([place, rotation_vectors(turn), joints[6:]])


def _pose(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    return values[:3], rotations(values[3:6])


def _joints(values: FloatArray, near: FloatArray) -> FloatArray:
    """(7,) joints near others (6,) at a pose and gripper (7,); as near as the reach allows."""
    low, high = _limits()
    q = near
    for _ in range(_SEARCH_STEPS):
        there = solve(_arm(), q, _pose(values), low, high, np.full(6, 0.1))
        if np.abs(there - q).max() < 1e-6:
            break
        q = there
    return np.append(q, values[6])


@cache
def _model() -> Any:
    return load_mujoco().MjModel.from_xml_string(build_xml())


@cache
def _arm() -> MujocoArm:
    """The arm to think with; one for all, since a process drives its tasks from one thread."""
    model = _model()
    ids = [model.joint(ARM + name).id for name in ARM_JOINTS]
    body = model.body(f"{ARM}gripper_link").id
    return MujocoArm(model, body, np.array(TIP_M), model.jnt_qposadr[ids], model.jnt_dofadr[ids])


@cache
def _limits() -> tuple[FloatArray, FloatArray]:
    model = _model()
    ranges = np.array([model.joint(ARM + name).range for name in ARM_JOINTS])
    return ranges[:, 0], ranges[:, 1]
