"""Joint trajectories as sums of overlapping minimum-jerk moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.profile import PEAK_SPEED, minimum_jerk

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """One move: from `start_s` on, `delta` (7,) is added over `duration_s`."""

    start_s: float
    duration_s: float
    delta: FloatArray


class Trajectory:
    """A chain of moves from a start pose; a move may begin before its predecessor ends.

    Overlapping moves add up, which rounds the corner between them: velocity and acceleration stay
    continuous without a stop at each waypoint.

    Args:
        start: (7,) pose at time 0.
        max_velocity: (7,) peak velocity of a single move.
    """

    def __init__(self, start: FloatArray, max_velocity: FloatArray) -> None:
        self._start = np.asarray(start, dtype=np.float64)
        self._last = self._start.copy()
        self._max_velocity = max_velocity
        self._moves: list[Move] = []
        self.duration_s = 0.0

    def move_to(self, target: FloatArray, at_least_s: float, overlap_s: float = 0.0) -> float:
        """Append a move to `target` (7,) and return the time at which it ends.

        It takes `at_least_s`, or longer where `max_velocity` asks for it, and begins `overlap_s`
        before the end of the move before.
        """
        delta = np.asarray(target, dtype=np.float64) - self._last
        needed_s = float((PEAK_SPEED * np.abs(delta) / self._max_velocity).max())
        duration_s = max(at_least_s, needed_s)
        start_s = max(0.0, self.duration_s - overlap_s)
        self._moves.append(Move(start_s, duration_s, delta))
        self._last = self._last + delta
        self.duration_s = max(self.duration_s, start_s + duration_s)
        return self.duration_s

    def wait(self, duration_s: float) -> float:
        """Stand still for a while and return the time at which that ends."""
        self.duration_s += duration_s
        return self.duration_s

    def position(self, t_s: float) -> FloatArray:
        """Return the (7,) pose at `t_s`; before 0 and after the end it rests."""
        pose = self._start.copy()
        for move in self._moves:
            pose += minimum_jerk((t_s - move.start_s) / move.duration_s) * move.delta
        return pose
