"""From single rewards to a judgement: filter, then dwell. One sample never decides."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rewact_ros.settings import setting
from rewact_ros.supervision.alarms import ALARMS, Moment, calibrated, scores
from rewact_ros.supervision.calibration import Calibration
from rewact_ros.supervision.escalation import Escalation, EscalationSettings, Response
from rewact_ros.supervision.signals import (
    FeatureDistance,
    PolicySample,
    Signals,
    SignalSettings,
    SignalTracker,
)


@dataclass(frozen=True, init=False)
class Thresholds:
    """What counts as complete and as an alarm; strictly more, as calibration counts it.

    Attributes:
        completion: on ``Signals.completion``, as the settings of the signals say.
        limits: on the alarms' scores, by ``Alarm.key``; infinite: no alarm.
    """

    completion: float = setting(0.9, "level of progress that counts as done", low=0, high=math.inf)
    hysteresis: float = setting(0.05, "complete ends only this far below", low=0, high=math.inf)
    limits: Mapping[str, float] = field(default_factory=dict)

    def __init__(self, completion: float = 0.9, hysteresis: float = 0.05, **limits: float) -> None:
        """``limits`` are given one by one; where one is left out, the table of alarms says it."""
        usual = {alarm.key: alarm.threshold for alarm in ALARMS.values()}
        if unknown := limits.keys() - usual.keys():
            raise ValueError(f"{min(unknown)}: expected one of {', '.join(usual)}")
        whole = {**usual, **limits}
        for name, value in {"completion": completion, "hysteresis": hysteresis, **whole}.items():
            if not value >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {value}")
        object.__setattr__(self, "completion", completion)
        object.__setattr__(self, "hysteresis", hysteresis)
        object.__setattr__(self, "limits", whole)

    @classmethod
    def calibrated(
        cls, calibration: Calibration, further: "Thresholds | None" = None, task: str | None = None
    ) -> "Thresholds":
        """Take them from a calibration.

        Args:
            calibration: gives completion and the limits that have a part of alpha.
            further: gives hysteresis and the other limits, which touch none of its bounds.
            task: of the episode, where tasks have thresholds of their own.
        """
        further = further or cls()
        limits = {alarm.key: math.inf for alarm in calibrated()}
        limits |= {ALARMS[name].key: bound.threshold for name, bound in calibration.alarms.items()}
        completion = calibration.bound_of(calibration.group_of(task))
        return cls(completion.threshold, further.hysteresis, **{**further.limits, **limits})


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
        score = self.tracker.add(sample).completion(self.tracker.settings.completion)
        limit = self.thresholds.completion
        self.complete = score > (limit - self.thresholds.hysteresis if self.complete else limit)

    def step(self, now_s: float, human: bool = False) -> Judgement:
        """Judge at ``now_s`` (the clock of the samples' stamps); ``human``: one leads the robot."""
        if self._human and not human:
            self.tracker.resume()  # the human left the task elsewhere than the policy's past says
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
        self.tracker.resume()
        self.complete, self._started_s = False, now_s

    def _alarms(self, now_s: float) -> frozenset[str]:
        values = scores(Moment(self.tracker.signals, now_s, self._started_s))
        limits = self.thresholds.limits
        return frozenset(n for n, value in values.items() if value > limits[ALARMS[n].key])
