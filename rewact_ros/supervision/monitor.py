"""From single rewards to a judgement: filter, then dwell. One sample never decides."""

import math
from dataclasses import dataclass

from rewact_ros.settings import check, setting
from rewact_ros.supervision.calibration import Calibration
from rewact_ros.supervision.escalation import Decision, Escalation, EscalationSettings
from rewact_ros.supervision.signals import (
    FeatureDistance,
    PolicySample,
    Signals,
    SignalSettings,
    SignalTracker,
)


@dataclass(frozen=True)
class Thresholds:
    """What counts as complete and as an alarm; strictly more, as calibration counts it.

    Attributes:
        completion: on ``Signals.held``.
        stall_s, drawdown, novelty: of the signals of these names; infinite: no alarm.
    """

    completion: float = setting(0.9, "level of progress that counts as done", low=0, high=math.inf)
    hysteresis: float = setting(0.05, "complete ends only this far below", low=0, high=math.inf)
    # Of the successes of the shipped policy the longest stall was 2.7 s, the largest drawdown 0.37;
    # both leave room for slower and more hesitant ones.
    stall_s: float = setting(
        8.0, "no new maximum for longer is an alarm", "s", low=0, high=math.inf
    )
    drawdown: float = setting(
        0.5, "a larger fall from the maximum is an alarm", low=0, high=math.inf
    )
    # There is no unit that all policies' features share: without a calibration no alarm.
    novelty: float = setting(
        math.inf, "a larger distance of the features is an alarm", low=0, high=math.inf
    )
    staleness_s: float = setting(0.5, "an older reward is an alarm", "s", low=0, high=math.inf)

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def calibrated(cls, calibration: Calibration, **further: float) -> "Thresholds":
        """Take them from a calibration; ``further``: hysteresis and staleness_s, of no bound."""
        limits = {name: bound.threshold for name, bound in calibration.alarms.items()}
        return cls(
            completion=calibration.completion.threshold,
            stall_s=limits["stall"],
            drawdown=limits["drawdown"],
            novelty=limits.get("novelty", math.inf),
            **further,
        )


@dataclass(frozen=True)
class Judgement:
    """What the monitor says now.

    Attributes:
        complete: the task is done.
        alarms: names of the signals above their threshold.
        decision: of the ladder.
        signals: the numbers behind it.
    """

    complete: bool
    alarms: frozenset[str]
    decision: Decision
    signals: Signals


class EpisodeMonitor:
    """Judges one episode: feed it samples, ask it at a fixed rate."""

    def __init__(
        self,
        thresholds: Thresholds | None = None,
        signals: SignalSettings | None = None,
        escalation: EscalationSettings | None = None,
        distance: FeatureDistance | None = None,
    ) -> None:
        self.thresholds = thresholds or Thresholds()
        self.tracker = SignalTracker(signals, distance)
        self.escalation = Escalation(escalation)
        self.complete = False
        self._started_s = math.nan
        self._human = False

    @classmethod
    def calibrated(
        cls, calibration: Calibration, escalation: EscalationSettings | None = None
    ) -> "EpisodeMonitor":
        """Judge by calibrated thresholds; check ``Calibration.claim`` first."""
        return cls(
            Thresholds.calibrated(calibration),
            calibration.signals,
            escalation,
            calibration.distance,
        )

    def add(self, sample: PolicySample) -> None:
        """Take one inference; what a human achieves completes the task too."""
        held, limit = self.tracker.add(sample).held, self.thresholds.completion
        self.complete = held > (limit - self.thresholds.hysteresis if self.complete else limit)

    def step(self, now_s: float, human: bool = False) -> Judgement:
        """Judge at ``now_s`` (the clock of the samples' stamps); ``human``: one leads the robot."""
        if self._human and not human:
            self.tracker.reset()  # the human left the task elsewhere than the policy's past says
            self.complete, self._started_s = False, now_s
        self._human = human
        if math.isnan(self._started_s):
            self._started_s = now_s
        alarms = frozenset() if human else self._alarms(now_s)
        decision = self.escalation.step(now_s, alarms, human)
        return Judgement(self.complete, alarms, decision, self.tracker.signals)

    def resume(self, now_s: float) -> None:
        """A human lets the policy go on without taking over: stall and drawdown begin anew."""
        self.escalation.answered()
        self.tracker.reset()
        self.complete, self._started_s = False, now_s

    def _alarms(self, now_s: float) -> frozenset[str]:
        signals, limits = self.tracker.signals, self.thresholds
        staleness_s = min(signals.staleness_s(now_s), now_s - self._started_s)
        values = {
            "stall": (signals.stall_s, limits.stall_s),
            "drawdown": (signals.drawdown, limits.drawdown),
            "novelty": (signals.novelty, limits.novelty),
            "staleness": (staleness_s, limits.staleness_s),
        }
        return frozenset(name for name, (value, limit) in values.items() if value > limit)
