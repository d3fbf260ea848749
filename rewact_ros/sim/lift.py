"""An arm has to lift a block that lies within bounds: what such tasks of several suites share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from rewact_ros.sim.from_above import FromAbove, Grasper
from rewact_ros.sim.mujoco_task import MujocoTask, missed_by
from rewact_ros.sim.task import FloatArray
from rewact_ros.sim.tried_plan import Script

# The suites' own: beyond the bounds by so much, the block ends an episode; a success is a block
# that is so much higher than it lay, and so near to the hand.
_OUTSIDE_M = 0.05
_LIFTED_M, _HELD_M = 0.1, 0.05
_MISS_M = (0.05, 0.09)
_LET_GO_M = 0.08  # above the lift
# The next (A,) command, from where the tool shall be (3,) m and the gripper, 1 open.
Follow = Callable[[FloatArray, float], FloatArray]


class Lift(MujocoTask):
    """The model has a body and a geom `block`; the last joint is the gripper, 1 open.

    Attributes:
        bounds_m: (2, 2) corners of where the block may lie.
        grasp: how the expert takes it.
        empty: opening at which the gripper has closed on nothing.
        closed: command below which it was told to close.
    """

    bounds_m: ClassVar[FloatArray]
    grasp: ClassVar[FromAbove]
    empty: ClassVar[float]
    closed: ClassVar[float]
    longest_s = 12.0

    @abstractmethod
    def _hand(self) -> FloatArray:
        """(3,) m of the hand, as the suite measures whether the block is in it."""

    @abstractmethod
    def _follow(self) -> tuple[FloatArray, Follow]:
        """Where the tool shall be now (3,) m, and what makes commands of where it shall be."""

    def _lay(self, seed: int) -> None:
        """Lay the block where the seed says."""
        place = np.random.default_rng(seed).uniform(self.bounds_m[0], self.bounds_m[1])
        self._rest_m = float(self.model.geom("block").size[2])
        self.data.joint("block").qpos[:3] = (*place, self._rest_m)
        self._gone = False

    def _block(self) -> FloatArray:
        return np.asarray(self.data.body("block").xpos).copy()

    def _success(self) -> bool:
        # As the suites say, but for a block that has left its bounds: there they end the episode,
        # and a lift of it would count.
        block = self._block()
        low, high = self.bounds_m[0] - _OUTSIDE_M, self.bounds_m[1] + _OUTSIDE_M
        self._gone |= bool((block[:2] < low).any() or (block[:2] > high).any())
        held = bool(np.linalg.norm(block - self._hand()) < _HELD_M)
        return held and bool(block[2] - self._rest_m > _LIFTED_M) and not self._gone

    def _out_of_reach(self) -> bool:
        return self._gone

    def _empty(self) -> bool:
        measured = self.joint_positions()[-1]
        return bool(self._command[-1] < self.closed and measured < self.empty)

    def _memory(self) -> dict[str, Any]:
        return {"_gone": self._gone}

    def _remember(self, memory: dict[str, Any]) -> None:
        vars(self).update(memory)

    def _script(self, fault: str, rng: np.random.Generator, breaks_off: int) -> Script:
        shift = missed_by(fault, rng, _MISS_M)
        held = self._stage(self._contacts()) == "hold" and self._command[-1] < self.closed
        grasper = Grasper(self.grasp, lambda: self._block() + shift, self._tools, held)
        aim, follow = self._follow()
        highest, frame = self.grasp.lift_m + _LET_GO_M, 0

        def step() -> FloatArray:
            nonlocal aim, frame
            frame += 1
            gripper = float(self._command[-1])
            if not breaks_off or frame < breaks_off:
                aim, gripper = grasper.next(aim, gripper)
            elif fault == "stopped":
                return self.command
            else:
                up = np.clip(highest - aim[2], 0.0, self.grasp.step_m)
                aim, gripper = aim + np.array([0.0, 0.0, up]), 1.0
            return follow(aim, gripper)

        return step
