"""What a judge's own errors may do to a comparison, at worst.

Let version v succeed with rate p, and let the judge call it complete with rate m. In an episode the
judge is wrong in two ways: complete without success, with a rate of at most ``beta`` of all
episodes; and not complete in spite of success, with a rate of at most ``1 - d`` of the successes.
Within these it may err on each version as it likes. So

    d p <= m <= p + min(beta, 1 - p).

For two versions with the true difference delta = p_b - p_a the judged difference is then at most

    U(delta) = max over p_a of  delta + (1 - d) p_a + min(beta, 1 - p_a - delta),

which p_a = 1 - beta - delta attains, as far as both rates are within [0, 1]. U rises with delta, so
a judged difference of at least L proves a true one of at least the delta at which U is L.
"""

from dataclasses import dataclass

import numpy as np

from rewact_ros.supervision.calibration import Calibration

from .fixed import binomial_limit
from .interval import STEP, Interval


@dataclass(frozen=True)
class JudgeErrors:
    """Rates within which a judge errs.

    Attributes:
        false_completions: complete without success, of all episodes, at most: ``beta``.
        detection: complete, of the successes, at least: ``d``.
        risk: chance that one of these rates does not hold, as they were estimated themselves; it
            counts against the comparison's alpha.
    """

    false_completions: float
    detection: float
    risk: float = 0.0

    @classmethod
    def of(cls, calibration: Calibration, risk: float = 0.01) -> "JudgeErrors":
        """What a calibration proves of its judge, with a chance of ``risk`` to be wrong.

        Its rate of false completions holds on average over calibrations. Of the one at hand the
        rate is one minus a beta variable (Vovk 2012), whose upper limit counts here. The detection
        has Clopper and Pearson's lower limit.

        Raises:
            ValueError: the calibration counts no recognised successes, or its reward is no judge.
        """
        if calibration.recognised is None or not calibration.successes:
            raise ValueError(
                "calibration: expected recognised successes, got none; make it anew by "
                "`rewact calibrate` with successful episodes"
            )
        if calibration.fault:
            raise ValueError(f"calibration: {calibration.fault}")
        rank, n = calibration.completion.rank, calibration.completion.n
        beta = 1 - binomial_limit(rank, n, risk / 2)
        found = binomial_limit(calibration.recognised, calibration.successes, risk / 2)
        return cls(beta, found, risk)

    def most(self, delta: float) -> float:
        """U(delta): the largest judged difference that a true one of ``delta`` allows."""
        low, high = max(0.0, -delta), min(1.0, 1.0 - delta)
        p = min(max(1.0 - delta - self.false_completions, low), high)
        false = min(self.false_completions, 1.0 - p - delta)
        return delta + (1.0 - self.detection) * p + max(false, 0.0)

    def difference(self, judged: Interval) -> Interval:
        """Limits of the true difference from those of the judged one; the mean is as judged."""
        return Interval(judged.mean, self._least(judged.low), -self._least(-judged.high))

    def rate(self, judged: Interval) -> Interval:
        """Limits of a version's true success from those of its judged one."""
        low = max(judged.low - self.false_completions, 0.0)
        high = min(judged.high / self.detection, 1.0) if self.detection else 1.0
        return Interval(judged.mean, low, high)

    def _least(self, judged: float) -> float:
        """The largest delta, on the grid, of which U is at most ``judged``; -1: none."""
        grid = np.linspace(-1.0, 1.0, round(2 / STEP) + 1)
        below = [float(d) for d in grid if self.most(float(d)) <= judged + 1e-9]
        return max(below, default=-1.0)
