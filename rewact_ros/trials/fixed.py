"""Exact tests of a size that is fixed before: what a sequential test is measured against."""

import math
from functools import lru_cache

import numpy as np

from .betting import FloatArray

_MOST = 2000


def binomial_limit(successes: int, n: int, level: float) -> float:
    """Lower limit of a rate, which lies below it with a chance of at most ``level``.

    Clopper and Pearson 1934: the rate at which ``successes`` or more have just that chance.
    """
    if not successes:
        return 0.0
    low, high = 0.0, successes / n
    for _ in range(50):
        middle = (low + high) / 2
        few = binomial(n, middle)[successes:].sum() <= level
        low, high = (middle, high) if few else (low, middle)
    return low


def binomial(n: int, rate: float) -> FloatArray:
    """(n + 1,) chances of 0 to n successes."""
    if rate in (0.0, 1.0):
        return np.eye(n + 1)[round(n * rate)]
    k = np.arange(n + 1)
    log = _log_choose(n) + k * math.log(rate) + (n - k) * math.log1p(-rate)
    return np.exp(log)


def paired_blocks(first: float, second: float, alpha: float, power: float) -> int:
    """Blocks at which the exact sign test of discordant pairs (McNemar) has a power.

    Args:
        first, second: how often the one version succeeds alone, and the other.
        alpha: two-sided.
        power: of finding the better one.

    Raises:
        ValueError: more than 2000 blocks.
    """
    better, discordant = max(first, second), first + second
    shares = np.array([_sign_power(m, alpha, better / discordant) for m in range(_MOST + 1)])
    return _fewest(lambda n: float(binomial(n, discordant) @ shares[: n + 1]), power)


def unpaired_blocks(a: float, b: float, alpha: float, power: float) -> int:
    """Trials of each version at which Fisher's exact test has a power, for two success rates.

    Raises:
        ValueError: more than 2000 trials.
    """
    return _fewest(lambda n: _fisher_power(n, a, b, alpha), power)


def _fewest(reached, power: float) -> int:  # type: ignore[no-untyped-def]
    """The first n from which on the power is reached, but for the test's small steps back."""
    low, high = 1, 16
    while reached(high) < power:
        low, high = high, high * 2
        if low >= _MOST:
            raise ValueError(f"power {power:g} takes more than {_MOST} blocks")
        high = min(high, _MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high


@lru_cache(maxsize=8192)
def _sign_power(m: int, alpha: float, rate: float) -> float:
    """Power of the two-sided sign test of m pairs to find the better one."""
    tail = np.cumsum(binomial(m, 0.5)[::-1])[::-1]
    rejects = tail <= alpha / 2
    return float(binomial(m, rate)[rejects].sum())


def _fisher_power(n: int, a: float, b: float, alpha: float) -> float:
    log, x = _log_choose(n), np.arange(n + 1)
    chances = np.outer(binomial(n, a), binomial(n, b))
    power = 0.0
    for total in range(2 * n + 1):
        i = x[max(0, total - n) : min(n, total) + 1]
        table = np.exp(log[i] + log[total - i] - np.logaddexp.reduce(log[i] + log[total - i]))
        ranked = np.sort(table)
        upto = np.searchsorted(ranked, table * (1 + 1e-7), side="right")  # ties count as extreme
        p = np.cumsum(ranked)[upto - 1]
        better = i < total - i if b > a else i > total - i
        power += float(chances[i, total - i][(p <= alpha) & better].sum())
    return power


@lru_cache(maxsize=64)
def _log_choose(n: int) -> FloatArray:
    logs = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    return logs[n] - logs - logs[::-1]
