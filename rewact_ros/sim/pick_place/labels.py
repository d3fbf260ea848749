"""Progress labels of a policy's roll-outs in simulation, from what really happened.

The labels of demonstrations, for episodes without a script: the policy may miss, drop the cube,
push it into the tray, try again as often as it likes, or do nothing until the time-out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.reward.labels import FALL_FRAMES, task_progress
from rewact_ros.sim.pick_place.expert import Plan
from rewact_ros.sim.task import Course
from rewact_ros.sim.timing import RATE_HZ

SETTLE_FRAMES = 6  # from the release until the cube lies still
_OPEN, _CLOSED = 0.7, 0.6  # of the measured gripper; around a cube it stays near 0.45
_EMPTY = 0.15
_NEAR_M = 0.15  # between the fingers' roots and the cube: a closing there is an attempt to grasp


@dataclass(frozen=True)
class Events:
    """What the truth says of n frames, each (n,).

    Attributes:
        success: lasting success so far.
        failed: a failure stands.
        held: both fingers touch the cube.
        placing: the cube is over the tray.
        gripper: measured, 0 closed to 1 open.
        distance_m: between the fingers' roots and the cube.
    """

    success: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    held: NDArray[np.bool_]
    placing: NDArray[np.bool_]
    gripper: NDArray[np.float64]
    distance_m: NDArray[np.float64]


@dataclass(frozen=True)
class Pace:
    """When the scripted expert would reach what, in frames from its start."""

    closed: int
    over_tray: int
    released: int

    @classmethod
    def of(cls, plan: Plan) -> "Pace":
        """Read a plan, which is over the tray about half-way from the lift to the release."""
        over_tray_s = (plan.lifted_s + plan.released_s) / 2
        frames = (round(s * RATE_HZ) for s in (plan.closed_s, over_tray_s, plan.released_s))
        return cls(*frames)

    @property
    def done(self) -> int:
        """The cube lies still in the tray."""
        return self.released + SETTLE_FRAMES


def rollout_progress(course: Course, pace: Pace) -> NDArray[np.float32]:
    """Progress labels (n,) of an episode without a script."""
    stage = np.array([truth.stage for truth in course.truths])
    events = Events(
        success=np.array([truth.success for truth in course.truths]),
        failed=np.array([truth.failure != "" for truth in course.truths]),
        held=np.isin(stage, ("grasp", "lift")),
        placing=np.isin(stage, ("place", "done")),
        gripper=np.asarray(course.state)[:, -1].astype(float),
        distance_m=np.array(course.notes),
    )
    return attempts_progress(events, pace)


def attempts_progress(events: Events, pace: Pace) -> NDArray[np.float32]:
    """Return the (n,) float32 progress of an episode of any number of attempts.

    An attempt that succeeds climbs linearly to 1 at the success and stays there. One that does not
    climbs at the pace of the expert's plan, yet never above what the plan has done by the end of
    the stage that was reached (hovering is no progress), and falls to 0 within ``FALL_FRAMES`` when
    the failure is true. After a failure the label stays 0 until the next attempt's approach
    begins: where the fingers are farthest from the cube before they close on it again.

    Args:
        events: the truth.
        pace: of an undisturbed attempt.
    """
    n, begin = len(events.success), 0
    labels = np.zeros(n, np.float32)
    while begin < n:
        end, succeeded = _attempt(events, begin)
        if succeeded is not None:
            climb = task_progress(end - begin, pace.done, success_frame=succeeded - begin)
        else:
            climb = task_progress(end - begin, pace.done, failure_frame=end - begin - 1)
            climb = np.minimum(climb, _caps(events, begin, end, pace))
        labels[begin:end] = climb
        fall = climb[-1] * np.linspace(1.0, 0.0, FALL_FRAMES + 1)[1:]
        labels[end : end + FALL_FRAMES] = fall[: n - end]
        begin = _next_approach(events, end)
    return labels


def _attempt(events: Events, begin: int) -> tuple[int, int | None]:
    """First frame after an attempt (n: the episode ended), and the frame of its success.

    The frame in which a failure becomes true still belongs to the attempt. Where the truth tells no
    failure, since an earlier one stands or the fingers never closed fully, a miss shows in the
    gripper: empty, or opened again after a closing by the cube that held nothing.
    """
    n, succeeded = len(events.success), None
    was_open = closed = False
    for frame in range(begin, n):
        failed, gripper, held = events.failed[frame], events.gripper[frame], events.held[frame]
        begins = failed and (frame == 0 or not events.failed[frame - 1])
        closed = closed or (was_open and gripper < _CLOSED and events.distance_m[frame] < _NEAR_M)
        closed = closed and not held
        if events.success[frame]:
            succeeded = frame if succeeded is None else succeeded
        elif succeeded is not None:
            return frame, succeeded  # taken or knocked out of the tray again
        elif begins or (closed and (gripper > _OPEN or (failed and gripper < _EMPTY))):
            return frame + 1, None
        was_open = gripper > _OPEN or (was_open and gripper >= _CLOSED)
    return n, succeeded


def _next_approach(events: Events, after: int) -> int:
    """Where the next attempt begins after a failure; n where there is none."""
    n, was_open = len(events.success), False
    for frame in range(after, n):
        closes = was_open and events.gripper[frame] < _CLOSED
        near = events.distance_m[frame] < _NEAR_M
        if events.success[frame] or events.held[frame] or (closes and near):
            return after + int(events.distance_m[after : frame + 1].argmax())
        was_open = (was_open or events.gripper[frame] > _OPEN) and not closes
    return n


def _caps(events: Events, begin: int, end: int, pace: Pace) -> NDArray[np.float32]:
    """Progress of the plan at the end of the stage reached so far in an attempt, (end - begin,)."""
    plan = task_progress(pace.done + 1, pace.done, success_frame=pace.done)
    grasped = np.logical_or.accumulate(events.held[begin:end])
    placing = grasped & np.logical_or.accumulate(events.placing[begin:end])
    caps = np.where(grasped, plan[pace.over_tray], plan[pace.closed])
    return np.where(placing, plan[pace.released], caps)
