"""From single rewards to a judgement: filter, then dwell. One sample never decides."""

import math
from dataclasses import dataclass

from rewact_ros.supervision.calibration import Calibration
from rewact_ros.supervision.escalation import Escalation, EscalationSettings, Response
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
        hysteresis: complete ends only this far below.
        stall_s, drawdown, novelty: of the signals of these names; infinite: no alarm.
        staleness_s: age of the last reward.
    """

    completion: float = 0.9
    hysteresis: float = 0.05
    stall_s: float = 8.0
    drawdown: float = 0.4
    novelty: float = math.inf
    staleness_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("completion", "hysteresis", "stall_s", "drawdown", "novelty", "staleness_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")

    @classmethod
    def calibrated(
        cls, calibration: Calibration, hysteresis: float = 0.05, staleness_s: float = 0.5
    ) -> "Thresholds":
        """Take them from a calibration; neither of the two further ones touches its bounds."""
        limits = {name: bound.threshold for name, bound in calibration.alarms.items()}
        return cls(
            completion=calibration.completion.threshold,
            hysteresis=hysteresis,
            stall_s=limits["stall"],
            drawdown=limits["drawdown"],
            novelty=limits.get("novelty", math.inf),
            staleness_s=staleness_s,
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
    decision: Response
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
