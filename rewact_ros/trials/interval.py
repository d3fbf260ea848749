"""Limits of a mean that hold at all times together: every other mean is bet against."""

from dataclasses import dataclass

import numpy as np

from .betting import Aim, Bets, FloatArray

STEP = 0.01  # between the means that are bet against; limits are rounded outwards to it


@dataclass(frozen=True)
class Interval:
    """A mean and its limits, which hold at all times together at the level that is stated."""

    mean: float
    low: float
    high: float


class MeanLimits:
    """A confidence sequence of the mean of values in [low, high] (Waudby-Smith and Ramdas 2024).

    Each mean m on a grid is bet against from both sides, at half the level each: that the mean is
    at most m, and that it is at least m. What both sides leave is the interval.

    Args:
        aim: of the bets; its level is that of both sides together.
        low, high: of the values.

    Attributes:
        null: (M,) the means that are bet against.
    """

    def __init__(self, aim: Aim, low: float, high: float) -> None:
        steps = round((high - low) / STEP)
        self.null: FloatArray = np.linspace(low, high, steps + 1, dtype=np.float64)
        self._scale = np.maximum(self.null - low, high - self.null)
        half = Aim(aim.level / 2, aim.gap, aim.power, aim.most)
        self._bets = Bets(half, (2, len(self.null)), self._scale)
        self._sum = 0.0

    @property
    def n(self) -> int:
        """Values so far."""
        return self._bets.n

    def take(self, value: float) -> None:
        """Count one value."""
        y = (value - self.null) / self._scale
        self._bets.take(np.stack([y, -y]))
        self._sum += value

    @property
    def interval(self) -> Interval:
        """The mean so far, NaN without values, and its limits, rounded outwards to the grid."""
        above, below = self._bets.reached  # rejected: mean <= m; mean >= m
        first, last = int(np.argmin(above)), len(self.null) - 1 - int(np.argmin(below[::-1]))
        low = self.null[max(first - 1, 0)]
        high = self.null[min(last + 1, len(self.null) - 1)]
        return Interval(self._sum / self.n if self.n else np.nan, float(low), float(high))

    def wealth(self, null: float) -> tuple[FloatArray, FloatArray]:
        """Wealth of both sides, (2,), now and at most, against "<= null" and ">= -null"."""
        at = self._at(null), self._at(-null)
        now = np.array([self._bets.log_wealth[side, i] for side, i in enumerate(at)])
        most = np.array([self._bets.log_most[side, i] for side, i in enumerate(at)])
        return np.exp(now), np.exp(most)

    def chance(self, null: float) -> float:
        """Chance that the better side of the two still wins, if the gap is true."""
        chances = self._bets.chance()
        return float(max(chances[0, self._at(null)], chances[1, self._at(-null)]))

    def _at(self, null: float) -> int:
        """Index of the null mean on the grid; farther from 0 where it lies between two."""
        away = np.ceil(abs(null) / STEP - 1e-9) * np.sign(null)
        index = round(away - self.null[0] / STEP)
        return int(np.clip(index, 0, len(self.null) - 1))
