"""The pick-and-place task as others see it: simulation, expert, help, labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewact_ros.share import share_dir
from rewact_ros.sim.pick_place.expert import Expert
from rewact_ros.sim.pick_place.labels import SETTLE_FRAMES, Pace, rollout_progress
from rewact_ros.sim.pick_place.scene import ARM, build_xml
from rewact_ros.sim.pick_place.simulation import CAMERAS, JOINTS, Layout, PickPlaceSim, draw_scene
from rewact_ros.sim.task import Course, FloatArray, Scene, Task

_CLOSED = 0.6  # a gripper around the cube is near 0.45, its command below


class PickPlace(PickPlaceSim, Task):
    """A ViperX-300s puts a cube into a tray; `objects`: the cube's position (3,) in m, and yaw."""

    name = "pick_place"
    text = "Put the red cube into the blue tray."
    joints = JOINTS
    cameras = CAMERAS
    noisy = (True,) * 6 + (False,)
    faults = ("dropped_cube", "missed_grasp")
    retry_fault = "missed_grasp"
    settle_frames = SETTLE_FRAMES
    needs = ("mujoco", "gym_aloha")

    @classmethod
    def contract_file(cls) -> Path:
        return share_dir() / "config" / "robots" / "vx300s.yaml"

    @classmethod
    def policy_folder(cls) -> Path:
        return share_dir() / "models" / "vx300s_pick_place"

    @classmethod
    def robot_model(cls) -> str:
        return build_xml()

    def objects(self) -> FloatArray:
        position, yaw = self.cube_pose()
        return np.append(position, yaw)

    def expert(
        self,
        rng: np.random.Generator | None = None,
        fault: str = "",
        give_up: bool = False,
        start: FloatArray | None = None,
    ) -> Expert:
        expert = Expert(self, fault or None, rng)
        expert.plan(start, give_up)
        return expert

    @classmethod
    def rescue(cls, scene: Scene, joints: FloatArray) -> Expert:
        expert = Expert(_Seen(scene, joints))
        expert.plan(start=joints, rescue=True, holding=_holds(scene, joints))
        return expert

    def note(self) -> float:
        """Distance in m from the middle between the fingers' roots to the cube, 0.08 at a grasp."""
        fingers = [self.data.body(f"{ARM}{side}_finger_link").xpos for side in ("left", "right")]
        return float(np.linalg.norm(np.mean(fingers, 0) - self.cube_pose()[0]))

    def push(self, force_n: FloatArray) -> None:
        self.data.body("cube").xfrc_applied[:3] = force_n

    @classmethod
    def progress(cls, course: Course) -> NDArray[np.float32]:
        assert isinstance(course.expert, Expert)
        return rollout_progress(course, Pace.of(course.expert.current))


class _Seen:
    """The scene as the expert asks for it."""

    def __init__(self, scene: Scene, command: FloatArray) -> None:
        self.command = command
        self.layout: Layout = draw_scene(scene.seed)[0]  # only the tray counts, which nothing moves
        self._cube = scene.objects[:3], float(scene.objects[3])

    def cube_pose(self) -> tuple[FloatArray, float]:
        return self._cube


def _holds(scene: Scene, joints: FloatArray) -> bool:
    """Whether the cube is between the fingers; `place` alone may also mean that it was let go."""
    return scene.stage in ("grasp", "lift", "place") and joints[6] < _CLOSED
