"""Motions that the command path makes itself: the move to the reset pose, and changing hands."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import Limits
from rewact_ros.control.profile import PEAK_ACCELERATION, PEAK_SPEED, minimum_jerk
from rewact_ros.control.space import Space

FloatArray = NDArray[np.float64]
JOINTS = Space()


@dataclass(frozen=True)
class ResetMotion:
    """Minimum-jerk move from `start` to `goal`, (A,) each, that begins and ends at rest."""

    start: FloatArray
    goal: FloatArray
    begin_ns: int
    duration_s: float
    space: Space = JOINTS

    @classmethod
    def plan(
        cls,
        start: FloatArray,
        goal: FloatArray,
        begin_ns: int,
        duration_s: float,
        limits: Limits,
        space: Space = JOINTS,
    ) -> "ResetMotion":
        """Plan the move in `duration_s`, or longer where speed or acceleration would not allow."""
        distance = space.distances(space.minus(goal, start))
        duration_s = max(
            duration_s,
            float((PEAK_SPEED * distance / limits.velocity).max()),
            float(np.sqrt(PEAK_ACCELERATION * distance / limits.acceleration).max()),
        )
        return cls(start, goal, begin_ns, duration_s, space)

    def at(self, time_ns: int) -> tuple[FloatArray, bool]:
        """Position at a time, and whether the motion is over."""
        phase = (time_ns - self.begin_ns) / NANO / self.duration_s
        way = self.space.minus(self.goal, self.start)
        return self.space.plus(self.start, minimum_jerk(phase) * way), phase >= 1.0


class Handover:
    """Leads from a moving arm into another source's commands without a step.

    The command is the new source's plus a difference that fades over `duration_s`. At the first
    tick the difference is that of positions, and its slope that of velocities, so both go on
    continuously; at the end difference, slope and curvature are zero (a quintic polynomial).

    Args:
        position, velocity: (A,) of the last command, unit and unit/s.
        duration_s: how long the difference takes to fade; 0: none.
        space: what differences mean.
    """

    def __init__(
        self,
        position: FloatArray,
        velocity: FloatArray,
        duration_s: float,
        space: Space = JOINTS,
    ) -> None:
        self._space = space
        self._position, self._velocity = position, velocity
        self._duration_s = duration_s
        self._begin_ns: int | None = None
        self._offset = self._slope = np.zeros_like(position)

    @property
    def begun(self) -> bool:
        """Whether the new source has given its first command."""
        return self._begin_ns is not None

    def apply(self, target: FloatArray, target_velocity: FloatArray, time_ns: int) -> FloatArray:
        """Command (A,) for a tick; the first call fixes the difference.

        Args:
            target: (A,) of the new source at this tick.
            target_velocity: (A,) how fast it changes; used by the first call only.
            time_ns: of the tick.
        """
        if self._begin_ns is None:
            self._begin_ns = time_ns
            self._offset = self._space.minus(self._position, target)
            self._slope = (self._velocity - target_velocity) * self._duration_s
        if self._duration_s <= 0.0:
            return target
        s = min((time_ns - self._begin_ns) / NANO / self._duration_s, 1.0)
        if s >= 1.0:
            return target
        fade = 1.0 - s**3 * (10.0 + s * (6.0 * s - 15.0))
        slope = s - s**3 * (6.0 + s * (3.0 * s - 8.0))
        faded = self._space.plus(target, fade * self._offset)
        return self._space.plus(faded, slope * self._slope)
