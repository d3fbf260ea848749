"""Distributions of durations in constant memory, for figures that run as long as the robot."""

from dataclasses import dataclass

import numpy as np

LOWEST_S = 1e-6  # what takes less counts as this
BINS_PER_DECADE = 200  # bins are 1.2 % wide: finer than the noise of any clock here
DECADES = 8  # to 100 s; what takes longer counts as that, and `max` tells


@dataclass(frozen=True)
class TimingSummary:
    """Percentiles in milliseconds over `n` samples; NaN when n is 0."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class DurationHistogram:
    """Log-spaced histogram from 1 µs to 100 s; percentiles carry a relative error under 1 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS_PER_DECADE * DECADES, dtype=np.int64)
        self._n = 0
        self._max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; negative ones (clock steps) count as the lowest bin."""
        index = 0
        if seconds > LOWEST_S:
            index = min(int(np.log10(seconds / LOWEST_S) * BINS_PER_DECADE), len(self._counts) - 1)
        self._counts[index] += 1
        self._n += 1
        self._max_s = max(self._max_s, seconds)

    def clear(self) -> None:
        """Start over."""
        self._counts[:] = 0
        self._n, self._max_s = 0, 0.0

    def summary(self) -> TimingSummary:
        """Percentiles so far."""
        if self._n == 0:
            nan = float("nan")
            return TimingSummary(0, nan, nan, nan, nan)
        cumulative = np.cumsum(self._counts)

        def percentile(share: float) -> float:
            index = int(np.searchsorted(cumulative, share * self._n))
            middle = LOWEST_S * 10 ** ((index + 0.5) / BINS_PER_DECADE)
            return 1e3 * min(middle, self._max_s)

        return TimingSummary(
            self._n, percentile(0.5), percentile(0.95), percentile(0.99), 1e3 * self._max_s
        )
