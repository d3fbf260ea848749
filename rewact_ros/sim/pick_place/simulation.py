"""A ViperX-300s that has to put a cube into a tray: physics, cameras and ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.mujoco_backend import load_mujoco, make_renderer
from rewact_ros.sim.pick_place.grasp_kinematics import tip_down
from rewact_ros.sim.pick_place.scene import (
    ARM,
    ARM_JOINTS,
    CUBE_HALF_M,
    FINGER_CLOSED_M,
    FINGER_OPEN_M,
    TRAY_HALF_M,
    TRAY_WALL_M,
    build_xml,
)
from rewact_ros.sim.pick_place.truth import TaskJudge, TaskState
from rewact_ros.sim.task import FloatArray, Truth

JOINTS = (*ARM_JOINTS, "gripper")
CAMERAS = ("front", "wrist")
# Gripper open above the middle of the workspace, out of the front camera's way.
HOME = np.append(tip_down(0.29, 0.0, 0.21, 0.0).round(3), 1.0)
_START_SPREAD = np.array([0.15, 0.08, 0.08, 0.05, 0.08, 0.10, 0.0])
_CUBE_X_M, _CUBE_Y_M, _CUBE_TURN_RAD = (0.28, 0.48), (-0.20, 0.03), 0.5
_TRAY_X_M, _TRAY_Y_M = (0.32, 0.42), (0.175, 0.215)


@dataclass(frozen=True)
class Layout:
    """Where the objects of a seed lie, base frame: positions in m, `cube_yaw` in rad.

    `cube_yaw` is within 0.5 rad of the direction from the arm's base to the cube, so that one
    grasp angle (not two, a quarter turn apart) is the natural one.
    """

    cube_xy: tuple[float, float]
    cube_yaw: float
    tray_xy: tuple[float, float]


class PickPlaceSim:
    """One simulated arm. Not thread-safe: use it, cameras included, from one thread.

    Args:
        width, height: camera image size in pixels.
        cameras: cameras that may be rendered, of `front` (fixed) and `wrist`; () needs no OpenGL.

    Raises:
        SimulationUnavailableError: MuJoCo, the assets or off-screen OpenGL are missing.
        ValueError: unknown camera or an image size below 1.
    """

    def __init__(self, width: int = 96, height: int = 96, cameras: Sequence[str] = CAMERAS) -> None:
        unknown = sorted(set(cameras) - set(CAMERAS))
        if unknown:
            raise ValueError(
                f"unknown camera {unknown[0]!r}: expected some of {', '.join(CAMERAS)}"
            )
        if min(width, height) < 1 or max(width, height) > 960:
            raise ValueError(f"camera size {width}x{height} px: expected 1 to 960")
        self.cameras = tuple(cameras)
        self._mj = load_mujoco()
        self.model = self._mj.MjModel.from_xml_string(build_xml())
        self.model.mat_reflectance[:] = 0
        self.data = self._mj.MjData(self.model)
        self._index()
        self._renderer = make_renderer(self.model, height, width) if self.cameras else None
        self._offset_s = 0.0  # clock at the last reset of MuJoCo's own time
        self._owed_s = 0.0
        self._command = HOME.copy()
        self.reset(0)

    def reset(self, seed: int, keep_arm: bool = False) -> None:
        """Place cube and tray (and the arm, near its home pose) as `seed` says.

        The same seed gives the same scene. `time_s` goes on.

        Args:
            seed: non-negative.
            keep_arm: move the objects only; the arm keeps pose, speed and command.

        Raises:
            ValueError: negative seed.
        """
        if seed < 0:
            raise ValueError(f"seed {seed}: expected 0 or more")
        layout, start = draw_scene(seed)
        arm_state = self._arm_state() if keep_arm else None
        self._offset_s = self.time_s
        self._mj.mj_resetData(self.model, self.data)
        if arm_state is None:
            self._command = start
            self.data.qpos[self._arm_qpos] = start[:6]
            self.data.qpos[self._finger_qpos] = _finger_positions(start[6])
        else:
            self.data.qpos[self._joint_qpos], self.data.qvel[self._joint_qvel] = arm_state
        self._place(layout)
        self._apply_command()
        self._mj.mj_forward(self.model, self.data)
        self.layout = layout
        self._judge = TaskJudge(seed)

    def set_command(self, q: FloatArray) -> None:
        """Set the position targets of the servos; beyond a joint's range the range end holds.

        Args:
            q: (7,) in the order of `JOINTS`: six arm joints in rad, gripper 0 (closed) to 1 (open).

        Raises:
            ValueError: wrong shape or a value that is not finite.
        """
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (7,):
            raise ValueError(f"command of shape {q.shape}: expected (7,) for {', '.join(JOINTS)}")
        if not np.isfinite(q).all():
            bad = JOINTS[int(np.flatnonzero(~np.isfinite(q))[0])]
            raise ValueError(f"command for joint {bad!r} is not finite; nothing was sent")
        self._command = q.copy()
        self._apply_command()

    @property
    def command(self) -> FloatArray:
        """(7,) command in force, as it was set."""
        return self._command.copy()

    @property
    def time_s(self) -> float:
        """Simulated seconds since construction; no reset rewinds it."""
        return self._offset_s + float(self.data.time)

    def advance(self, duration_s: float) -> None:
        """Step the physics for a duration; what is left of a step is owed to the next call.

        Raises:
            ValueError: negative or non-finite duration.
        """
        if not (math.isfinite(duration_s) and duration_s >= 0):
            raise ValueError(f"advance by {duration_s} s: expected 0 or more")
        self._owed_s += duration_s
        dt_s = self.model.opt.timestep
        steps = int(self._owed_s / dt_s + 1e-6)
        if steps:
            self._owed_s -= steps * dt_s
            self._mj.mj_step(self.model, self.data, nstep=steps)
            self._judge.step(self._task_state())

    def joint_positions(self) -> FloatArray:
        """Return (7,) measured positions: rad, gripper 0 to 1."""
        return self._joint_vector(self.data.qpos, self._arm_qpos, self._finger_qpos, True)

    def joint_velocities(self) -> FloatArray:
        """Return (7,) measured velocities: rad/s, gripper 1/s."""
        return self._joint_vector(self.data.qvel, self._arm_qvel, self._finger_qvel, False)

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB of `front` or `wrist`.

        Raises:
            ValueError: a camera that this simulation was not built with.
            RuntimeError: after `close`.
        """
        if camera not in self.cameras:
            raise ValueError(f"camera {camera!r}: expected one of {self.cameras}")
        if self._renderer is None:
            raise RuntimeError("the simulation is closed")
        self._renderer.update_scene(self.data, camera=camera, scene_option=self._visible)
        return self._renderer.render()

    def truth(self) -> Truth:
        """Return what really happened since the last reset (for tests and reports only)."""
        return self._judge.truth()

    def cube_pose(self) -> tuple[FloatArray, float]:
        """Return the cube's (3,) position in m and its yaw in rad (truth, for the expert)."""
        rotation = self.data.xmat[self._cube_body]
        return self.data.xpos[self._cube_body].copy(), math.atan2(rotation[3], rotation[0])

    def close(self) -> None:
        """Free the renderer; further calls do nothing."""
        if self._renderer is not None:
            self._renderer.close()  # left to the interpreter's exit, EGL prints errors
            self._renderer = None

    def _index(self) -> None:
        """Look up the addresses that every step needs."""
        model = self.model
        joints = [model.joint(ARM + name) for name in ARM_JOINTS]
        fingers = [model.joint(ARM + name) for name in ("left_finger", "right_finger")]
        self._arm_qpos = np.array([joint.qposadr[0] for joint in joints])
        self._arm_qvel = np.array([joint.dofadr[0] for joint in joints])
        self._finger_qpos = np.array([joint.qposadr[0] for joint in fingers])
        self._finger_qvel = np.array([joint.dofadr[0] for joint in fingers])
        self._joint_qpos = np.concatenate([self._arm_qpos, self._finger_qpos])
        self._joint_qvel = np.concatenate([self._arm_qvel, self._finger_qvel])
        cube = model.joint("cube")
        self._cube_qpos, self._cube_qvel = int(cube.qposadr[0]), int(cube.dofadr[0])
        self._cube_body, self._cube_geom = model.body("cube").id, model.geom("cube").id
        names = [model.geom(index).name for index in range(model.ngeom)]
        self._pad_geoms = [names.index("pad/left"), names.index("pad/right")]
        self._arm_geoms = [i for i, name in enumerate(names) if name.startswith("pad/")]
        self._tray_geoms = [i for i, name in enumerate(names) if name.startswith("tray/")]
        self._visible = self._mj.MjvOption()  # groups 0 to 2: the collision pads stay hidden

    def _arm_state(self) -> tuple[FloatArray, FloatArray]:
        return self.data.qpos[self._joint_qpos].copy(), self.data.qvel[self._joint_qvel].copy()

    def _place(self, layout: Layout) -> None:
        half = layout.cube_yaw / 2
        at = self._cube_qpos
        self.data.qpos[at : at + 3] = (*layout.cube_xy, CUBE_HALF_M)
        self.data.qpos[at + 3 : at + 7] = (math.cos(half), 0, 0, math.sin(half))
        self.data.mocap_pos[0] = (*layout.tray_xy, 0.0)

    def _apply_command(self) -> None:
        self.data.ctrl[:6] = self._command[:6]
        self.data.ctrl[6:8] = _finger_positions(float(np.clip(self._command[6], 0.0, 1.0)))

    def _joint_vector(
        self, source: FloatArray, arm: NDArray[np.int64], finger: NDArray[np.int64], position: bool
    ) -> FloatArray:
        left, right = source[finger]
        opening = (left - right) / 2 - (FINGER_CLOSED_M if position else 0.0)
        return np.append(source[arm], opening / (FINGER_OPEN_M - FINGER_CLOSED_M))

    def _task_state(self) -> TaskState:
        data = self.data
        touching = self._touching_cube()
        position = data.xpos[self._cube_body]
        at = self._cube_qvel
        speed = float(np.linalg.norm(data.qvel[at : at + 3]))
        turning = float(np.linalg.norm(data.qvel[at + 3 : at + 6])) * CUBE_HALF_M
        offset = np.abs(position[:2] - data.mocap_pos[0, :2]).max()
        over_tray = bool(offset < TRAY_HALF_M)
        touches_tray = not touching.isdisjoint(self._tray_geoms)
        return TaskState(
            time_s=float(data.time),
            height_m=float(position[2]) - CUBE_HALF_M,
            speed_m_s=speed + turning,
            pads=sum(geom in touching for geom in self._pad_geoms),
            arm_contact=not touching.isdisjoint(self._arm_geoms),
            over_tray=over_tray,
            in_tray=over_tray and touches_tray and position[2] < TRAY_WALL_M + CUBE_HALF_M / 2,
            gripper=float(self.joint_positions()[6]),
            gripper_command=float(self._command[6]),
        )

    def _touching_cube(self) -> set[int]:
        pairs = self.data.contact.geom
        pairs = pairs[(pairs == self._cube_geom).any(axis=1)]
        return set(pairs.ravel().tolist()) - {self._cube_geom}


def draw_scene(seed: int) -> tuple[Layout, FloatArray]:
    """Return the layout of a seed and the arm's (7,) start pose near `HOME`."""
    rng = np.random.default_rng(seed)
    cube = (float(rng.uniform(*_CUBE_X_M)), float(rng.uniform(*_CUBE_Y_M)))
    turn = float(rng.uniform(-_CUBE_TURN_RAD, _CUBE_TURN_RAD))
    tray = (float(rng.uniform(*_TRAY_X_M)), float(rng.uniform(*_TRAY_Y_M)))
    start = HOME + rng.uniform(-1.0, 1.0, 7) * _START_SPREAD
    return Layout(cube, math.atan2(cube[1], cube[0]) + turn, tray), start


def _finger_positions(opening: float) -> tuple[float, float]:
    reach = FINGER_CLOSED_M + opening * (FINGER_OPEN_M - FINGER_CLOSED_M)
    return reach, -reach
