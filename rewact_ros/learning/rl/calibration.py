"""Whether the critic's values are to be believed: what it expected against what came."""

from collections import deque

import numpy as np

from .settings import RLSettings
from .shaping import shaped_reward
from .transitions import PROGRESS, Transition


class CriticCalibration:
    """Compares values with returns over the newest episodes.

    Of each episode it takes the first decision that the critic valued, and what the episode then
    returned (shaped as the critic's targets are; an episode that was cut off returned what came
    until then).

    Args:
        settings: how many episodes, and which gap is small enough.
    """

    _value: float
    _progress: float
    _return: float
    _power: float

    def __init__(self, settings: RLSettings) -> None:
        self._settings = settings
        self._pairs: deque[tuple[float, float]] = deque(maxlen=settings.calibration_episodes)
        self._episode = ""
        self._forget()

    @property
    def gap(self) -> float:
        """Mean value less mean return; NaN before the first episode."""
        if not self._pairs:
            return float("nan")
        return float(np.mean([value - came for value, came in self._pairs]))

    @property
    def calibrated(self) -> bool:
        """Whether enough episodes have ended and the gap is small."""
        full = len(self._pairs) == self._settings.calibration_episodes
        return full and abs(self.gap) <= self._settings.calibrated_gap

    def add(self, transition: Transition) -> None:
        """Take an executed transition."""
        if transition.episode != self._episode:
            self._episode = transition.episode
            self._forget()
        progress = transition.observations[PROGRESS]
        if np.isnan(self._value) and not np.isnan(transition.value):
            self._value, self._progress = transition.value, float(progress[0])
        if np.isnan(self._value):
            return
        for reward in transition.reward:
            self._return += self._power * float(reward)
            self._power *= self._settings.discount
        if transition.ended:
            left = 0.0 if transition.terminated else self._power
            came = shaped_reward(
                np.array(self._settings.success_reward * self._return),
                np.array(left),
                np.array(self._progress),
                progress[-1],
                self._settings.shaping_weight,
            )
            self._pairs.append((self._value, float(came)))
            self._forget()

    def _forget(self) -> None:
        self._value = self._progress = float("nan")
        self._return, self._power = 0.0, 1.0
