"""Bets that a mean is above nought: wealth that only an untrue hypothesis lets grow.

A value y in [-1, 1] multiplies wealth by ``1 + stake * y``. Where the mean is at most 0, whatever
went before, wealth is expected not to grow, so it ever reaches ``1 / level`` with a chance of at
most ``level`` (Ville 1939; Waudby-Smith and Ramdas 2024, arXiv:2010.09686). This holds for every
stake in [0, 1] that is chosen before the value is seen. Stakes decide about power alone.

Here wealth times level is held to be the chance that a Brownian motion without drift crosses a line
before a deadline: a truncated sequential test, of which the stake is the hedge (an option that pays
at a barrier). The line rises as Wald's does for the gap; the deadline is when a test of fixed size
would be over. For values of -1, 0 and 1 this bets on the discordant pairs, as the sign test does.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Chosen on seeds of their own, so that the asked power is reached with few blocks.
_LONGER = 1.7  # the deadline, of the blocks of a test of fixed size
_RATE, _RATE_BLOCKS = 0.3, 10.0  # mean square before any value is seen, and its weight
_MOST_STAKE = 0.9  # less than all, so that one bad block is no ruin
_NEAR = 0.97  # a win that comes so near to the target is made to reach it
_AFTER = 0.1  # of the blocks so far: what bets count on once the deadline is past


@dataclass(frozen=True)
class Aim:
    """What bets are made for.

    Attributes:
        level: chance of reaching the target where the mean is not above 0.
        gap: a mean that is to be found.
        power: chance of finding it.
        most: blocks at most.
    """

    level: float
    gap: float
    power: float
    most: int

    def blocks(self, rate: ArrayLike) -> FloatArray:
        """Deadline for values of a mean square in which the gap is 1; ``most`` at most."""
        z = NormalDist().inv_cdf(1 - self.level) + NormalDist().inv_cdf(self.power)
        return np.minimum(_LONGER * z * z * np.asarray(rate), self.most)


class Bets:
    """Many such bets side by side, each on values of its own.

    Args:
        aim: of all of them.
        shape: of the values.
        scale: of that shape: values come divided by it, and so is the gap.

    Attributes:
        n: values taken.
        log_wealth: now; an array of ``shape``.
        log_most: the largest so far.
    """

    def __init__(self, aim: Aim, shape: tuple[int, ...], scale: ArrayLike = 1.0) -> None:
        self.aim, self.n = aim, 0
        self._gap = aim.gap / np.broadcast_to(np.asarray(scale, dtype=float), shape)
        self._squares = np.zeros(shape)
        self.log_wealth = np.zeros(shape)
        self.log_most = np.zeros(shape)

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Which hypotheses are rejected, once and for all."""
        return self.log_most >= -math.log(self.aim.level) - 1e-9

    def take(self, values: ArrayLike) -> None:
        """Bet on one value each, in [-1, 1], broadcast to ``shape``."""
        values = np.broadcast_to(np.asarray(values, dtype=float), self.log_wealth.shape)
        stake = self._stake()
        self.log_wealth = self.log_wealth + np.log1p(stake * values)
        self.log_most = np.maximum(self.log_most, self.log_wealth)
        self._squares = self._squares + values * values
        self.n += 1

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Go on with some columns alone, ``which`` along the last axis."""
        for name in ("_gap", "_squares", "log_wealth", "log_most"):
            setattr(self, name, getattr(self, name)[..., which])

    def chance(self) -> FloatArray:
        """Chance that the target is reached before the deadline where the mean is the gap."""
        rate, left = self._rate(), self._left()
        spread = np.sqrt(rate * np.maximum(left, 1e-9))
        distance = _distance(self._share(), self._slope(rate) * spread)
        ahead = (self._slope(rate) - self._gap / rate) * spread
        return np.where(left > 0, _crosses(distance, ahead), 0.0)

    def _stake(self) -> FloatArray:
        """(shape) of wealth, from 0 to 1; never more than what reaching the target takes."""
        rate = self._rate()
        spread = np.sqrt(rate * np.maximum(self._left(), max(_AFTER * self.n, 1.0)))
        share, slope = self._share(), self._slope(rate) * spread
        stake = np.minimum(_hedge(_distance(share, slope), slope) / share / spread, _MOST_STAKE)
        needed = np.clip(np.expm1(-np.log(share)), 0, None)
        nearly = (1 + stake) * share >= _NEAR
        return np.where((stake > needed) | nearly, np.minimum(needed, 1.0), stake)

    def _rate(self) -> FloatArray:
        """Mean square of a value, as far as is known."""
        return (_RATE * _RATE_BLOCKS + self._squares) / (_RATE_BLOCKS + self.n)

    def _left(self) -> FloatArray:
        return self.aim.blocks(self._rate() / self._gap**2) - self.n

    def _slope(self, rate: FloatArray) -> FloatArray:
        return self._gap / (2 * rate)

    def _share(self) -> FloatArray:
        """Wealth, of the target."""
        return np.exp(np.clip(self.log_wealth + math.log(self.aim.level), _LEAST_LOG, 0.0))


_GRID = np.linspace(-9.0, 9.0, 3601)
_CDF = np.array([NormalDist().cdf(x) for x in _GRID])


def _phi(x: FloatArray) -> FloatArray:
    return np.interp(x, _GRID, _CDF)


def _crosses(distance: FloatArray, slope: FloatArray) -> FloatArray:
    """Chance that a Brownian motion crosses ``distance + slope * t`` before t = 1 (Bachelier)."""
    tilt = np.exp(np.clip(-2 * distance * slope, -60, 60))
    return np.minimum(_phi(-slope - distance) + tilt * _phi(slope - distance), 1.0)


def _hedge(distance: FloatArray, slope: FloatArray) -> FloatArray:
    """How fast that chance grows as the line comes nearer."""
    tilt = np.exp(np.clip(-2 * distance * slope, -60, 60))
    density = np.exp(-np.square(slope + distance) / 2) / math.sqrt(2 * math.pi)
    return 2 * density + 2 * slope * tilt * _phi(slope - distance)


# Distances by the root of -log(chance), in which they are smooth, and by slope.
_ROOT_STEP, _SLOPE_STEP, _LEAST_LOG = 0.05, 0.1, -30.0
_ROOTS = np.arange(0, math.sqrt(-_LEAST_LOG) + 2 * _ROOT_STEP, _ROOT_STEP)
_SLOPES = np.arange(0, 6 + 2 * _SLOPE_STEP, _SLOPE_STEP)


def _distances() -> FloatArray:
    """(roots, slopes) by bisection."""
    share, slope = np.broadcast_arrays(np.exp(-(_ROOTS[:, None] ** 2)), _SLOPES)
    low, high = np.zeros(share.shape), np.full(share.shape, 9.0)
    for _ in range(40):
        middle = (low + high) / 2
        above = _crosses(middle, slope) > share
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


_DISTANCES = _distances()


def _distance(share: FloatArray, slope: FloatArray) -> FloatArray:
    """At which the chance is ``share``, interpolated."""
    row, column = np.sqrt(-np.log(share)) / _ROOT_STEP, np.minimum(slope, 6.0) / _SLOPE_STEP
    i, j = row.astype(int), column.astype(int)
    x, y = row - i, column - j
    table = _DISTANCES
    return (1 - x) * ((1 - y) * table[i, j] + y * table[i, j + 1]) + x * (
        (1 - y) * table[i + 1, j] + y * table[i + 1, j + 1]
    )
