"""The table of alarms: parameters, thresholds, calibration, ladders, messages and docs follow.

A new alarm is a row here and the code that computes its score, in ``signals``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from rewact_ros.settings import setting, varied

if TYPE_CHECKING:  # parameters come from here, and are shown without NumPy
    from rewact_ros.supervision.signals import Signals


@dataclass(frozen=True)
class Moment:
    """What an alarm may look at.

    Attributes:
        signals: after the last sample.
        now_s: on the clock of the samples' stamps.
        begun_s: since when the policy has been judged; minus infinity: for ever.
    """

    signals: Signals
    now_s: float
    begun_s: float = -math.inf

    @property
    def staleness_s(self) -> float:
        """How long no reward has been known; before the first, since the beginning."""
        return min(self.signals.staleness_s(self.now_s), self.now_s - self.begun_s)


@dataclass(frozen=True)
class Alarm:
    """A row of the table.

    Attributes:
        name: in messages, ladders and calibration.json.
        key: of the threshold and its parameter, the name with its unit.
        measures: what the score is, for the docs.
        score: of a moment; not a number where it is not known, and then there is no alarm.
        share: its part of alpha beside the others' parts; 0: not calibrated.
        features: its score is the distance of features, fitted on successes that are set aside.
        limit: threshold where nothing is calibrated, as ``setting`` makes it; None: no alarm
            without a calibration.
        field: of ``SupervisorStatus``, which carries the score; empty: none does.
        ladder: default of its ladder, as ``Ladder.parse`` reads it.
        ladder_doc: what the parameter of the ladder means.
    """

    name: str
    key: str
    measures: str
    score: Callable[[Moment], float]
    share: int = 0
    features: bool = False
    limit: Field[Any] | None = None
    field: str = ""
    ladder: str = "warn 0, hold 1"
    ladder_doc: str = "likewise"

    @property
    def threshold(self) -> float:
        """Where nothing is calibrated and nobody sets another."""
        return math.inf if self.limit is None else cast(float, self.limit.default)

    @property
    def documentation(self) -> str:
        """Row of the table in docs/calibration.md."""
        n = "successes that did not fit it" if self.features else "successes"
        rate = f"{n}, {self.share}/{_shares()} of α" if self.share else "not calibrated"
        by_hand = f"`{self.key}` {self.limit.default:g}" if self.limit else "no alarm"
        return f"| {self.name} | {self.measures} | {rate} | {by_hand} | `{self.ladder}` |"


STALENESS = Alarm(
    name="staleness",
    key="staleness_s",
    measures="age of the last reward",
    score=lambda moment: moment.staleness_s,
    limit=setting(0.5, "an older reward is an alarm", "s", 0.05, 60.0),
    field="staleness",
)
ALARMS = {
    alarm.name: alarm
    for alarm in (
        Alarm(
            name="stall",
            key="stall_s",
            measures="time since the filtered mean last rose by 0.01 above its maximum",
            score=lambda moment: moment.signals.stall_s,
            share=1,
            # Of the successes of the shipped policy the longest stall was 2.7 s, the largest
            # drawdown 0.37; both limits leave room for slower and more hesitant ones.
            limit=setting(8.0, "no new maximum for longer is an alarm", "s", 0.1, 86400.0),
            field="stall",
            ladder_doc="seconds that the alarm stands before each step",
        ),
        Alarm(
            name="drawdown",
            key="drawdown",
            measures="maximum so far minus the filtered mean",
            score=lambda moment: moment.signals.drawdown,
            share=1,
            limit=setting(0.5, "a larger fall from the maximum is an alarm", low=0.01, high=1.0),
            field="drawdown",
            ladder_doc="likewise; hold asks for a human",
        ),
        Alarm(
            name="novelty",
            key="novelty",
            measures="Mahalanobis distance of the pooled policy features from those of successes, "
            "per √dimension",
            score=lambda moment: moment.signals.novelty,
            share=1,
            # There is no unit that all policies' features share: without a calibration no alarm.
            features=True,
            field="novelty",
            ladder_doc="likewise; 'abort 30' would end the episode",
        ),
        STALENESS,
    )
}


def limit_setting(name: str, **changes: Any) -> Any:
    """The threshold of an alarm that has a limit, as a field of a settings dataclass.

    Args:
        name: of the alarm.
        changes: arguments of ``setting`` that differ there; the reason belongs beside them.
    """
    limit = ALARMS[name].limit
    assert limit is not None
    return varied(limit, **changes)


def calibrated(features: bool = True) -> list[Alarm]:
    """The alarms with a part of alpha; without features, those that need none."""
    return [a for a in ALARMS.values() if a.share and (features or not a.features)]


def rate(alarm: Alarm, alpha: Fraction) -> Fraction:
    """False alarms that an alarm may give, if all together may give ``alpha``.

    The parts of alarms that lack their features go to nobody.
    """
    return alpha * alarm.share / _shares()


def smallest_rate(alpha: Fraction) -> Fraction:
    """The rate of the alarm that may err least: the one that needs most roll-outs."""
    return min(rate(alarm, alpha) for alarm in calibrated())


def scores(moment: Moment) -> dict[str, float]:
    """Score by alarm."""
    return {name: alarm.score(moment) for name, alarm in ALARMS.items()}


def _shares() -> int:
    return sum(alarm.share for alarm in calibrated())
