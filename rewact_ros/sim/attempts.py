"""Ground truth of any task in which a robot has to do something to a thing, and labels from it.

The environment alone says what success is. What went wrong is read from contacts and rest: the
robot never met the thing, lost it, or stands still with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rewact_ros.reward.labels import FALL_FRAMES, task_progress
from rewact_ros.sim.task import Course, Expert, FloatArray, Truth

# A later contact clears the first two, motion the third.
FAILURES = ("", "missed", "lost", "stuck", "out_of_reach")

_DWELL_S = 0.15  # an empty grasp must last this long, so that a bounce decides nothing
_LOST_S = 1.5  # without contact, after it
_STILL_M, _STILL_S = 0.01, 2.0  # a tool that stays this near to a place for so long is at rest
_IDLE_S = 4.0  # before the first motion, which may be waited for


@dataclass(frozen=True)
class Look:
    """What the judgement needs of a moment.

    Attributes:
        time_s: since the reset.
        success: what the environment says.
        stage: how far the task has come, before it is done; "reach": nothing was touched yet.
        touching: the robot touches a thing that can be moved.
        empty: the fingers are closed, with nothing between them, in a task that needs a grasp.
        out_of_reach: the thing lies where the robot cannot go.
        tools: (k,) where the robot's tools are, m.
    """

    time_s: float
    success: bool
    stage: str
    touching: bool
    empty: bool
    out_of_reach: bool
    tools: FloatArray


class AttemptJudge:
    """Turns a stream of `Look` into a `Truth`; knows no plan and no command."""

    def __init__(self, seed: int) -> None:
        self._truth = Truth(seed, "reach", False, math.nan, "")
        self._anchor: FloatArray | None = None
        self._anchor_s = 0.0
        self._moved = self._touched = self._was_open = False
        self._empty_s = self._apart_s = math.nan

    def step(self, look: Look) -> None:
        """Take the next moment (in order of time)."""
        now_s = look.time_s
        if self._anchor is None or np.abs(look.tools - self._anchor).max() > _STILL_M:
            self._moved |= self._anchor is not None
            self._anchor, self._anchor_s = look.tools.copy(), now_s
        self._touched |= look.touching
        self._was_open |= not look.empty
        self._empty_s = since(self._empty_s, look.empty and self._was_open, now_s)
        self._apart_s = since(self._apart_s, self._touched and not look.touching, now_s)
        success_s = since(self._truth.success_time_s, look.success, now_s)
        self._truth = Truth(
            self._truth.seed,
            "done" if look.success else look.stage,
            look.success,
            success_s,
            self._failure(look),
        )

    def truth(self) -> Truth:
        """The judgement so far."""
        return self._truth

    def _failure(self, look: Look) -> str:
        now_s, before = look.time_s, self._truth.failure
        at_rest = now_s - self._anchor_s >= (_STILL_S if self._moved else _IDLE_S)
        if look.success:
            return ""
        if look.out_of_reach:
            return "out_of_reach"
        if look.touching:
            return "stuck" if at_rest else ""
        if self._touched:
            lost = now_s - self._apart_s >= _LOST_S
            return "lost" if lost or before == "lost" else before if before == "missed" else ""
        missed = at_rest or now_s - self._empty_s >= _DWELL_S
        return "missed" if missed or before == "missed" else ""


class Paced(Expert, Protocol):
    """An expert that knows when it meets the thing."""

    @property
    def touch_s(self) -> float:
        """When the robot first touches it; `nominal_s` where it never does."""


def attempts_progress(course: Course, expert: Paced, rate_hz: float) -> NDArray[np.float32]:
    """Progress labels (n,) of an episode of any number of attempts.

    An attempt that succeeds climbs linearly to 1 at the success and stays there. Another climbs at
    the expert's pace, yet before a contact never above where the expert makes it, and after it
    never beyond half of what is left: hovering and holding are no progress. It falls to 0 within
    ``FALL_FRAMES`` when the failure is true; the next begins when the failure is made good.

    Args:
        course: the episode.
        expert: what it would have done in this scene.
        rate_hz: of the frames.
    """
    n, begin = len(course.truths), 0
    success = np.array([truth.success for truth in course.truths])
    failed = np.array([truth.failure != "" for truth in course.truths])
    touched = np.array([truth.stage != "reach" for truth in course.truths])
    nominal, touch = (max(1, round(s * rate_hz)) for s in (expert.nominal_s, expert.touch_s))
    plan = task_progress(nominal + 1, nominal, success_frame=nominal)
    caps = plan[min(touch, nominal)], plan[(min(touch, nominal) + nominal) // 2]
    labels = np.zeros(n, np.float32)
    while begin < n:
        if failed[begin]:
            begin = _first(~failed, begin)
            continue
        done, end = _first(success, begin), _first(failed, begin)
        if done < end:
            end = _first(~success, done)
            climb = task_progress(end - begin, nominal, success_frame=done - begin)
        else:
            climb = task_progress(end - begin, nominal, failure_frame=end - begin - 1)
            met = np.logical_or.accumulate(touched[begin:end])
            climb = np.minimum(climb, np.where(met, caps[1], caps[0]))
        labels[begin:end] = climb
        fall = climb[-1] * np.linspace(1.0, 0.0, FALL_FRAMES + 1)[1:]
        labels[end : end + FALL_FRAMES] = fall[: n - end]
        begin = end
    return labels


def since(since_s: float, condition: bool, now_s: float) -> float:
    """Since when a condition has held without a break; NaN while it does not."""
    if not condition:
        return math.nan
    return now_s if math.isnan(since_s) else since_s


def _first(condition: NDArray[np.bool_], begin: int) -> int:
    """First frame from `begin` on at which it is true; the number of frames where none is."""
    return int(np.argmax(condition[begin:])) + begin if condition[begin:].any() else len(condition)
