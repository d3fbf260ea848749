"""From single rewards to a judgement: filter, then dwell. One sample never decides."""

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class MonitorSettings:
    """Completion rule.

    Attributes:
        threshold: filtered progress that counts as complete.
        filter_s: time constant of the first-order low-pass filter.
        dwell: how many of the last `window` samples must be complete (m of k).
        window: k.
        max_gap_s: a longer gap between rewards forgets the dwell window.
    """

    threshold: float = 0.95
    filter_s: float = 0.1
    dwell: int = 8
    window: int = 10
    max_gap_s: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: expected between 0 and 1, got {self.threshold}")
        if not 1 <= self.dwell <= self.window:
            raise ValueError(f"dwell: expected 1 to window ({self.window}), got {self.dwell}")


class ProgressMonitor:
    """Filtered progress of one episode and whether it has stayed complete long enough."""

    def __init__(self, settings: MonitorSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget the episode."""
        self.filtered = self.peak = math.nan
        self._last_s = math.nan
        self._hits: deque[bool] = deque(maxlen=self.settings.window)

    @property
    def complete(self) -> bool:
        """Whether at least `dwell` of the last `window` filtered rewards reach the threshold."""
        return len(self._hits) == self.settings.window and sum(self._hits) >= self.settings.dwell

    def add(self, reward: float, stamp_s: float) -> None:
        """Take one reward with its observation time; late and non-finite ones are ignored."""
        if not math.isfinite(reward) or stamp_s <= self._last_s:
            return
        gap = stamp_s - self._last_s
        if math.isnan(gap) or gap > self.settings.max_gap_s:
            self._hits.clear()
            self.filtered = reward
        else:
            self.filtered += (1 - math.exp(-gap / self.settings.filter_s)) * (
                reward - self.filtered
            )
        self._last_s = stamp_s
        self.peak = self.filtered if math.isnan(self.peak) else max(self.peak, self.filtered)
        self._hits.append(self.filtered >= self.settings.threshold)
