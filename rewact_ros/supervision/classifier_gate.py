"""A second opinion on completion: the success classifier must agree."""

import math

from rewact_ros.reward.composition import CompositionSettings, RewardComposition


class ClassifierGate:
    """Holds back completion until enough probabilities in a row reach a threshold.

    Args:
        threshold: probability that counts as success.
        hold: judgements in a row that must count.
        max_age_s: an older judgement counts no more.
    """

    def __init__(self, threshold: float = 0.5, hold: int = 5, max_age_s: float = 0.5) -> None:
        self._composition = RewardComposition(
            CompositionSettings(reward_threshold=threshold, success_hold_steps=hold)
        )
        self._threshold, self._max_age_s = threshold, max_age_s
        self._success = False
        self._probability = self._stamp_s = math.nan

    def reset(self) -> None:
        """Forget all judgements: an episode begins."""
        self._composition.reset()
        self._success, self._probability, self._stamp_s = False, math.nan, math.nan

    def add(self, probability: float, stamp_s: float) -> None:
        """Take one judgement with its observation time; late and impossible ones are ignored."""
        if not 0 <= probability <= 1 or stamp_s <= self._stamp_s:
            return
        if stamp_s - self._stamp_s > self._max_age_s:
            self._composition.reset()  # a gap ends the row
        self._success = self._composition.step(probability).success
        self._probability, self._stamp_s = probability, stamp_s

    def fault(self, now_s: float) -> str:
        """Why it does not agree that the task is done, or an empty string."""
        if math.isnan(self._stamp_s):
            return "no rewact/success received"
        age_s = now_s - self._stamp_s
        if age_s > self._max_age_s:
            return f"rewact/success is older than {self._max_age_s:g} s"
        return "" if self._success else f"success probability not held above {self._threshold:g}"
