"""Whether a predicted reward has been shown to tell successes from failures, or is *no judge*.

The rule asks for evidence, not for a good figure: a 95 % bootstrap interval over episodes must lie
above what a predictor reaches that does not look at the task.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import FloatArray, bootstrap_interval, roc_auc

LEAST = 5  # episodes of either kind: fewer are separated by luck alone too often
# The AUC is how often a success outscores a failure: three times in four, where chance has two.
LEAST_AUC = 0.75
# A judge as good as this is one even where the joints give the failures away as well.
SURE_AUC = 0.9


@dataclass(frozen=True)
class JudgeCheck:
    """How well a reward's scores separate the outcomes of E episodes.

    Attributes:
        successes, failures: how many.
        auc, low, high: ROC-AUC at equal horizon with its 95 % interval.
        joints: AUC of the joints alone, on the same episodes; None: not known.
        gain_low: lower end of the 95 % interval of what the reward has above them.
    """

    successes: int
    failures: int
    auc: float
    low: float
    high: float
    joints: float | None = None
    gain_low: float | None = None

    @property
    def told(self) -> bool:
        """Whether there are episodes enough of both kinds."""
        return min(self.successes, self.failures) >= LEAST

    @property
    def fault(self) -> str:
        """Why the reward is no judge; empty where it is one, or where that cannot be told."""
        if not self.told:
            return ""
        if self.low < LEAST_AUC:
            return "its failures score like successes"
        if self.gain_low is not None and self.gain_low <= 0 and self.low < SURE_AUC:
            return "the joints alone tell the outcomes as well"
        return ""

    @property
    def line(self) -> str:
        """The finding with its figures, for terminal and report."""
        counts = f"{self.successes} successes, {self.failures} failures"
        if not self.told:
            return f"judge: not known ({counts}; expected {LEAST} of each at least)"
        figures = f"AUC {self.auc:.3f}, 95 % {self.low:.3f} to {self.high:.3f}"
        if self.joints is not None:
            figures += f"; joints alone {self.joints:.3f}"
        finding = f"NO JUDGE: {self.fault}" if self.fault else "judge: tells success from failure"
        return f"{finding} ({figures}; {counts})"

    def report(self, policy: str) -> list[str]:
        """The finding, and below it the commands that mend a fault of a policy's reward."""
        return [self.line, *(f"  {command}" for command in (mends(policy) if self.fault else ()))]


def check_judge(
    scores: FloatArray, succeeds: NDArray[np.bool_], joints: FloatArray | None = None
) -> JudgeCheck:
    """Compare scores (E,) with outcomes (E,), and with the scores (E,) that joints alone give."""
    failures = int((~succeeds).sum())
    counts = len(succeeds) - failures, failures
    auc = roc_auc(scores, succeeds)
    low, high = _interval(lambda i: roc_auc(scores[i], succeeds[i]), len(scores))
    if joints is None:
        return JudgeCheck(*counts, auc, low, high)

    def gain(drawn: NDArray[np.intp]) -> float:
        return roc_auc(scores[drawn], succeeds[drawn]) - roc_auc(joints[drawn], succeeds[drawn])

    gain_low, _ = _interval(gain, len(scores))
    return JudgeCheck(*counts, auc, low, high, roc_auc(joints, succeeds), gain_low)


def horizon(frames: Sequence[int], succeeds: NDArray[np.bool_]) -> int | None:
    """Frames of the longest success, in which every episode is scored; None: there is no success.

    A failure runs on to the time-out. Scored over all of it, a reward that merely rises with time
    would rank it above a success, and one that flickers would have more chances to.
    """
    return max((n for n, success in zip(frames, succeeds, strict=True) if success), default=None)


def rollouts_of(policy: str, folder: str) -> str:
    """The command that records roll-outs with their outcomes."""
    return (
        f"rewact eval --policy {policy} --hold-s 1 --record {folder}  (on a robot: "
        "`rewact record` with a verdict per episode, then `rewact export`)"
    )


def mends(policy: str, actor: str = "") -> list[str]:
    """The two commands that make a judge of a policy's reward that is none of an actor's work."""
    return [
        rollouts_of(actor or policy, "JUDGED"),
        f"rewact train-reward --policy {policy} --demos DEMOS --judged JUDGED --out BETTER",
    ]


def _interval(statistic: Callable[[NDArray[np.intp]], float], n: int) -> tuple[float, float]:
    return bootstrap_interval(statistic, n) if n else (math.nan, math.nan)
