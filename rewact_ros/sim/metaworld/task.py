"""A Sawyer arm in one of Meta-World's scenes: the suite's physics, success and scripted expert.

The suite moves its hand by displacements, up to a centimetre in a step of 12.5 ms. Here the command
is where the hand shall be, as named axes, and a frame of 50 ms is one step of the suite's: its
physics go at a quarter of the clock's speed, for at its own an episode would last a second or two.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from rewact_ros.share import share_dir
from rewact_ros.sim.metaworld.names import GRASPS, PASSING, TEXTS
from rewact_ros.sim.mujoco_task import MujocoTask, look_at, missed_by
from rewact_ros.sim.suites import import_suite
from rewact_ros.sim.task import FloatArray, Task
from rewact_ros.sim.tried_plan import Script

_STEP_M = 0.01  # of the hand at full deflection, a frame
_MISS_M = (0.06, 0.10)  # beside the thing
_LIFT_M = 0.12
_EMPTY, _CLOSED = 0.32, 0.3  # measured opening, 0.3 when closed on nothing, and its command
_TABLE_M = -0.05  # what lies lower has fallen
_REACH_M = 0.2  # beyond the box of the hand


class MetaWorld(MujocoTask):
    """The hand's position (x, y, z) in m, in the suite's frame, and the gripper, 1 open."""

    joints = ("hand_x", "hand_y", "hand_z", "gripper")
    views: ClassVar[Mapping[str, str]] = {"front": "corner2", "wrist": "behindGripper"}
    cameras = ("front", "wrist")
    noisy = (0.25, 0.25, 0.25, 0.0)
    robots = ("base",)
    pace = 0.25
    fingers: ClassVar[Mapping[str, str]] = {"rightclaw": "leftclaw"}
    needs = ("mujoco", "metaworld")
    suite_name: ClassVar[str]

    @classmethod
    def contract_file(cls) -> Path:
        return share_dir() / "config" / "robots" / "metaworld.yaml"

    def _make(self) -> tuple[Any, Any]:
        suite = _suite()
        self._env = env = suite.env_dict.ALL_V3_ENVIRONMENTS[self.suite_name]()
        # As the suite's own benchmarks make them: the expert sees the goal, scenes follow the seed.
        env._partially_observable, env._set_task_called = False, True
        env._freeze_rand_vec, env.seeded_rand_vec = False, True
        del env.sawyer_observation_space
        self._policy = suite.policies.ENV_POLICY_MAP[self.suite_name]()
        look_at(env.model, "corner2", (0.62, 0.22, 0.55), (0.0, 0.68, 0.10), fovy_deg=55)
        return env.model, env.data

    def _place(self, seed: int) -> FloatArray:
        self._env.seed(seed)
        self._env.reset()
        self._done = False
        return np.array([*self.data.mocap_pos[0], 1.0])

    def _apply(self, command: FloatArray) -> None:
        env = self._env
        self.data.mocap_pos[0] = np.clip(command[:3], env.mocap_low, env.mocap_high)
        self.data.mocap_quat[0] = (1, 0, 1, 0)
        effort = _effort(command)
        self.data.ctrl[:] = (effort, -effort)

    def joint_positions(self) -> FloatArray:
        claws = [self.data.body(name).xpos for name in ("rightclaw", "leftclaw")]
        opening = float(np.linalg.norm(claws[0] - claws[1])) / 0.1
        return np.append(self.data.body("hand").xpos, min(opening, 1.0))

    def _success(self) -> bool:
        # What the suite computes for its observation it also keeps: looking twice changes nothing.
        self._seen = self._env._get_obs()
        action = np.array([0.0, 0.0, 0.0, _effort(self._command)])
        _, info = self._env.evaluate_state(self._seen, action)
        return bool(info["success"])

    def _tools(self) -> FloatArray:
        return np.asarray(self.data.body("hand").xpos).copy()

    def _empty(self) -> bool:
        if self.suite_name not in GRASPS:
            return False
        return self._command[3] < _CLOSED and self.joint_positions()[3] < _EMPTY

    def _out_of_reach(self) -> bool:
        env, thing = self._env, self._env._get_pos_objects()[:3]
        low, high = env.mocap_low[:2] - _REACH_M, env.mocap_high[:2] + _REACH_M
        outside = (thing[:2] < low).any() or (thing[:2] > high).any()
        return bool(outside or thing[2] < _TABLE_M)

    def _withdrawn(self, command: FloatArray) -> FloatArray:
        return np.array([*command[:2], command[2] + _LIFT_M, 1.0])

    def _memory(self) -> dict[str, Any]:
        kept = {k: v for k, v in vars(self._env).items() if isinstance(v, _PLAIN)}
        return copy.deepcopy(kept)

    def _remember(self, memory: dict[str, Any]) -> None:
        vars(self._env).update(memory)

    def _script(self, fault: str, rng: np.random.Generator, breaks_off: int) -> Script:
        return _Expert(self, fault, rng, breaks_off)

    def _expert_s_next(self, target: FloatArray, shift_m: FloatArray) -> FloatArray:
        """The suite's expert, which believes the thing to be shifted by (3,) m."""
        seen = self._env._get_obs()
        seen[4:7] += shift_m
        wish = np.clip(self._policy.get_action(seen), -1, 1)
        low, high = self._env.mocap_low, self._env.mocap_high
        hand = np.clip(target[:3] + _STEP_M * wish[:3], low, high)
        return np.array([*hand, (1 - wish[3]) / 2])


class _Expert:
    """The suite's expert, step by step; it makes a fault."""

    def __init__(
        self, task: MetaWorld, fault: str, rng: np.random.Generator, breaks_off: int
    ) -> None:
        self._task, self._fault = task, fault
        self._shift = missed_by(fault, rng, _MISS_M)
        self._breaks_off, self._frame = breaks_off, 0
        self._held: FloatArray | None = None

    def __call__(self) -> FloatArray:
        target, self._frame = self._task.command, self._frame + 1
        passes = self._task.suite_name in PASSING
        if passes and self._task.truth().success:
            return self._stay(target)
        if not self._breaks_off or self._frame < self._breaks_off:
            return self._task._expert_s_next(target, self._shift)
        if self._fault == "stopped":
            return self._stay(target)
        up = _STEP_M if (self._frame - self._breaks_off) * _STEP_M < _LIFT_M else 0.0
        return np.array([*target[:2], target[2] + up, 1.0])

    def _stay(self, target: FloatArray) -> FloatArray:
        """Where the hand is, which a target that pushes is ahead of."""
        if self._held is None:
            self._held = np.array([*self._task.joint_positions()[:3], target[3]])
        return self._held


class Family:
    """Meta-World's tasks by the suite's names."""

    names = tuple(TEXTS)

    def task(self, name: str) -> type[Task]:
        """The task of one of ``names``.

        Raises:
            TaskError: the suite is not installed.
        """
        _suite()
        return _task(name)


@functools.cache
def _task(name: str) -> type[MetaWorld]:
    kind = type(
        "MetaWorldTask",
        (MetaWorld,),
        {"name": f"metaworld/{name}", "text": TEXTS[name], "suite_name": name},
    )
    assert issubclass(kind, MetaWorld)
    return kind


def _effort(command: FloatArray) -> float:
    """Of the gripper in the suite's action: -1 open, 1 closed."""
    return 1 - 2 * float(np.clip(command[3], 0, 1))


def _suite() -> ModuleType:
    import_suite("metaworld.policies", "metaworld==3.0.0")
    return import_suite("metaworld", "metaworld==3.0.0")


# What an environment may change as it judges; the rest of it is MuJoCo's, or the same for ever.
_PLAIN = (bool, int, float, np.ndarray, np.floating, type(None))
FAMILY = Family()
