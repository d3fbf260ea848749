"""Limits of a mean that hold at all times together: every other mean is bet against."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .betting import Aim, Bets, FloatArray

STEP = 0.01  # between the means that are bet against; limits are rounded outwards to it
_STAKES = 0.95 * 2.0 ** (-np.arange(10) / 2)  # from nearly all of the wealth to a 25th


@dataclass(frozen=True)
class Interval:
    """A mean and its limits, which hold at all times together at the level that is stated."""

    mean: float
    low: float
    high: float


class MeanBand:
    """A confidence sequence that is narrow at every time, for people to look at.

    As `MeanLimits`, but with many fixed stakes side by side, of which one is about right whenever
    one looks (a mixture, as Cover's universal portfolio). The bets of a decision are aimed at the
    gap and at the time by which it should be found, and say little before and after.

    Args:
        level: chance of ever missing the mean.
        low, high: of the values.
    """

    def __init__(self, level: float, low: float, high: float) -> None:
        self._null, self._scale = _nulls(low, high)
        self._log_target = np.log(2 / level)
        self._log_wealth = np.zeros((2, len(_STAKES), len(self._null)))
        self._rejected = np.zeros((2, len(self._null)), bool)
        self._sum, self._n = 0.0, 0

    def take(self, value: float) -> None:
        """Count one value."""
        y = (value - self._null) / self._scale
        self._log_wealth += np.log1p(_STAKES[:, None] * np.stack([y, -y])[:, None])
        most = self._log_wealth.max(axis=1)
        mixed = most + np.log(np.exp(self._log_wealth - most[:, None]).mean(axis=1))
        self._rejected |= mixed >= self._log_target
        self._sum, self._n = self._sum + value, self._n + 1

    @property
    def interval(self) -> Interval:
        """The mean so far, NaN without values, and its limits, rounded outwards to the grid."""
        return _left(self._sum / self._n if self._n else np.nan, self._null, *self._rejected)


def _nulls(low: float, high: float) -> tuple[FloatArray, FloatArray]:
    """(M,) means to bet against, and by how much a value in [low, high] can differ from each."""
    null: FloatArray = np.linspace(low, high, round((high - low) / STEP) + 1, dtype=np.float64)
    return null, np.maximum(null - low, high - null)


def _left(
    mean: float, null: FloatArray, above: NDArray[np.bool_], below: NDArray[np.bool_]
) -> Interval:
    """What is left where it was rejected that the mean is at most, and at least, each null."""
    first, last = int(np.argmin(above)), len(null) - 1 - int(np.argmin(below[::-1]))
    low, high = null[max(first - 1, 0)], null[min(last + 1, len(null) - 1)]
    return Interval(mean, float(low), float(high))


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
        self.null, self._scale = _nulls(low, high)
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
        return _left(self._sum / self.n if self.n else np.nan, self.null, *self._bets.reached)

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
