"""A plan found by trial: the scripted expert runs ahead in the physics, then time is turned back.

What a suite's expert decides from step to step becomes targets on a time grid, whose end and whose
fate are known before anything moves: to others it is a plan like any other. Without motion noise
the robot repeats the trial to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.profile import minimum_jerk
from rewact_ros.sim.attempts import since
from rewact_ros.sim.task import FloatArray, Truth

# Next target (A,) from how everything is now; called once a frame.
Script = Callable[[], FloatArray]

_HOLD_S = 0.6  # of success, then the plan ends
_WITHDRAW_S = 1.0
_NOISE_FLOOR, _NOISE_FADE_S = 0.15, 0.4
_BEFORE_S = 0.8  # a contact, in which noise would make the plan miss


class Trial(Protocol):
    """A task that can be turned back."""

    rate_hz: ClassVar[int]
    command_hz: ClassVar[int]

    def set_command(self, q: FloatArray) -> None: ...

    def advance(self, duration_s: float) -> None: ...

    def truth(self) -> Truth: ...

    def turned_back(self) -> AbstractContextManager[None]:
        """Undo at the end all that happens inside."""


@dataclass(frozen=True)
class TriedPlan:
    """Targets over time, linear between frames.

    Attributes:
        targets: (n, A) at k / rate_hz, from where the motion begins.
        rate_hz: of these.
        touched: (n,) whether the robot touched something at frame k.
        nominal_s: when the trial succeeded; its end where it did not.
        truth: at the end of the trial.
    """

    targets: FloatArray
    rate_hz: float
    touched: NDArray[np.bool_]
    nominal_s: float
    truth: Truth

    @property
    def duration_s(self) -> float:
        """Length of the plan."""
        return (len(self.targets) - 1) / self.rate_hz

    @property
    def touch_s(self) -> float:
        """When the robot first touches something; `nominal_s` where it never does."""
        first = int(np.argmax(self.touched)) / self.rate_hz
        return min(first, self.nominal_s) if self.touched.any() else self.nominal_s

    def command(self, t_s: float) -> FloatArray:
        """(A,) command at `t_s` since the plan's start; it rests after the end."""
        at = min(max(t_s * self.rate_hz, 0.0), len(self.targets) - 1.0)
        low = int(at + 1e-9)
        share = max(at - low, 0.0)
        if share < 1e-9:
            return self.targets[low].copy()
        return np.asarray(self.targets[low] + (self.targets[low + 1] - self.targets[low]) * share)

    def then(self, target: FloatArray) -> TriedPlan:
        """This plan with a further move, to (A,)."""
        shares = minimum_jerk(np.linspace(0, 1, round(_WITHDRAW_S * self.rate_hz) + 1)[1:])
        move = self.targets[-1] + shares[:, None] * (target - self.targets[-1])
        touched = np.append(self.touched, np.zeros(len(move), bool))
        targets = np.concatenate([self.targets, move])
        return TriedPlan(targets, self.rate_hz, touched, self.nominal_s, self.truth)

    def noise_scale(self, t_s: float) -> float:
        """Little while something is touched and shortly before, 1 far from that."""
        if not self.touched.any():
            near_s = self.nominal_s
            outside_s = max(near_s - _BEFORE_S - t_s, 0.0)  # the end must be met precisely
        else:
            times_s = np.flatnonzero(self.touched) / self.rate_hz
            ahead_s = np.maximum(times_s - _BEFORE_S - t_s, t_s - times_s)
            outside_s = max(float(ahead_s.min()), 0.0)
        return _NOISE_FLOOR + (1 - _NOISE_FLOOR) * float(minimum_jerk(outside_s / _NOISE_FADE_S))


def try_out(
    task: Trial,
    script: Script,
    start: FloatArray,
    limit_s: float,
    patience_s: float = math.inf,
) -> TriedPlan:
    """Let a script drive from now on, note what it does, and turn everything back.

    It ends when success has lasted, when a failure has lasted for longer than patience, or at the
    limit.

    Args:
        task: as it is now.
        script: the expert.
        start: (A,) where the motion begins.
        limit_s: of the trial.
        patience_s: from a failure until it counts as final.
    """
    targets, touched, ticks = [start], [False], task.command_hz // task.rate_hz
    success_at = failure_at = math.nan
    with task.turned_back():
        for frame in range(1, round(limit_s * task.rate_hz) + 1):
            here, there = targets[-1], script()
            for step in range(ticks):
                task.set_command(here + (there - here) * step / ticks)
                task.advance(1 / task.command_hz)
            truth, now_s = task.truth(), frame / task.rate_hz
            targets.append(there)
            touched.append(truth.stage != "reach")
            success_at = since(success_at, truth.success, now_s)
            failure_at = since(failure_at, truth.failure != "", now_s)
            if now_s - success_at >= _HOLD_S or now_s - failure_at >= patience_s:
                break
    end_s = (len(targets) - 1) / task.rate_hz
    nominal_s = end_s if math.isnan(success_at) else success_at
    return TriedPlan(np.array(targets), task.rate_hz, np.array(touched), nominal_s, truth)
