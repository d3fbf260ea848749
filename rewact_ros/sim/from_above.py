"""An expert that takes a thing from above: over it, down, close, up.

It looks at the truth at every frame, so that a thing that is moved while it comes is met where it
then lies. It says where the tool shall be; what follows there is the task's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rewact_ros.sim.task import FloatArray

_NEAR_M = 0.004  # of a target to a goal that counts as there
_ASIDE_M = 0.02  # from here on the tool goes up before it goes sideways
_LAG_FRAMES = 80  # in a stage, until a tool that lags its target is not waited for
_HOLD_FRAMES = 4  # closed, before it goes up
_SHARE, _LEAST_M = 0.3, 0.001  # of what is left, a frame: it slows down before a goal
_NEXT = {"over": "down", "down": "close", "close": "lift", "lift": "lift"}


@dataclass(frozen=True)
class FromAbove:
    """Lengths and times of a grasp from above.

    Attributes:
        over_m, grasp_m: height of the tool over the thing's middle, before and in the grasp.
        lift_m: height to which the tool rises with it.
        step_m: of the tool, a frame at most.
        slack_m: between tool and goal, with which it counts as there.
        close_frames: from the grasp on until the fingers hold.
        open: gripper, 0 closed to 1 open, with which it comes.
    """

    over_m: float
    grasp_m: float
    lift_m: float
    step_m: float
    slack_m: float
    close_frames: int
    open: float = 1.0


class Grasper:
    """Where tool and gripper shall be, frame by frame.

    Args:
        plan: lengths and times.
        thing: (3,) m where the thing is believed to be.
        tool: (3,) m where the tool is.
        held: whether the thing is in the hand already.
    """

    def __init__(
        self,
        plan: FromAbove,
        thing: Callable[[], FloatArray],
        tool: Callable[[], FloatArray],
        held: bool,
    ) -> None:
        self._plan, self._thing, self._tool = plan, thing, tool
        self._stage, self._frames = ("lift" if held else "over"), 0
        self._grasp = thing()

    def next(self, target: FloatArray, gripper: float) -> tuple[FloatArray, float]:
        """(3,) m and gripper of the next frame, from those in force."""
        end, plan = self._end(), self._plan
        goal = end
        if self._stage == "over" and target[2] < end[2] - _NEAR_M:
            aside = np.linalg.norm(target[:2] - end[:2]) > _ASIDE_M
            goal = np.array([*target[:2], end[2]]) if aside else end
        moved = self._towards(goal, target)
        wish = plan.open if self._stage in ("over", "down") else 0.0
        close = 1.0 / plan.close_frames
        gripper += float(np.clip(wish - gripper, -close, 2 * close))
        self._frames += 1
        if self._ended(end, moved):
            self._stage, self._frames = _NEXT[self._stage], 0
        return moved, gripper

    def _end(self) -> FloatArray:
        """(3,) m where the tool comes to in this stage."""
        plan = self._plan
        if self._stage == "over":
            self._grasp = self._thing()
        height = {"over": plan.over_m, "down": plan.grasp_m, "close": plan.grasp_m}
        if self._stage == "lift":
            return np.array([*self._grasp[:2], plan.lift_m])
        return self._grasp + np.array([0.0, 0.0, height[self._stage]])

    def _towards(self, goal: FloatArray, target: FloatArray) -> FloatArray:
        way = goal - target
        length = float(np.linalg.norm(way))
        step = min(self._plan.step_m, max(_SHARE * length, _LEAST_M), length)
        return target + way * (step / length) if length > 0 else target

    def _ended(self, end: FloatArray, target: FloatArray) -> bool:
        if self._stage == "close":
            return self._frames >= self._plan.close_frames + _HOLD_FRAMES
        there = np.linalg.norm(target - end) < _NEAR_M
        lags = np.linalg.norm(self._tool() - end) > self._plan.slack_m
        return bool(there and (not lags or self._frames > _LAG_FRAMES))
