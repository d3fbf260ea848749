"""The signals of one recorded episode, and how far they tell what it would have scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from rewact_ros.supervision.alarms import Moment, calibrated
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.signals import ENGAGED, FloatArray, Signals


class Cut(Enum):
    """Why a record ends before the time-out, or before there is a success.

    NOT: it does not. WORK: its end belongs to the work and would come again whatever the thresholds
    are. SCORE: a threshold ended it, so that what it would still have scored is not known.
    """

    NOT = "not"
    WORK = "work"
    SCORE = "score"


@dataclass(frozen=True)
class CalibrationEpisode:
    """Signals of one roll-out of N frames, up to the time-out or past its success but for ``cut``.

    Attributes:
        name: for messages.
        held: (N,) as in ``Signals``, NaN where unknown.
        scores: (N,) by alarm, of those with a part of alpha that need no features; likewise.
        features: (N, D) float32 pooled policy features; None: not known.
        success: first frame of true success; None: there was none.
        engaged: (N,) as in ``Signals``; None: not known.
        cut: why it is shorter.
        group: of scenes, operators or tasks with a bound of their own; "": none.
    """

    name: str
    held: FloatArray
    scores: Mapping[str, FloatArray]
    features: NDArray[np.float32] | None
    success: int | None
    engaged: FloatArray | None = None
    cut: Cut = Cut.NOT
    group: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        signals: Sequence[Signals],
        features: NDArray[np.float32] | None,
        success: int | None,
        cut: Cut = Cut.NOT,
        group: str = "",
    ) -> "CalibrationEpisode":
        """From the signals after each sample (N)."""
        scores = {
            alarm.name: np.array([alarm.score(Moment(s, s.stamp_s)) for s in signals])
            for alarm in calibrated(features=False)
        }
        held = np.array([s.held for s in signals])
        engaged = np.array([s.engaged for s in signals])
        return cls(name, held, scores, features, success, engaged, cut, group)

    @property
    def censored(self) -> bool:
        """Whether a threshold ended it."""
        return self.cut is Cut.SCORE

    def completion(self, rule: str) -> FloatArray | None:
        """(N,) scores of completion by a rule; None: not known."""
        return self.engaged if rule == ENGAGED else self.held

    def known(self, rule: str) -> FloatArray:
        """Likewise.

        Raises:
            CalibrationError: not known.
        """
        found = self.completion(rule)
        if found is None:
            raise CalibrationError(
                f"{self.name}: expected the {rule} score of completion, got signals without it; "
                "make the signals anew"
            )
        return found

    def success_before(self, limit: int) -> int | None:
        """Frame of the true success, if it came before the time-out."""
        return self.success if self.success is not None and self.success < limit else None
