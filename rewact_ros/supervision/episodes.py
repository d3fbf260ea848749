"""One episode from its reset to the verdict: phases, leases, time-outs, calls for help."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from rewact_ros.supervision.alarms import STALENESS
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.escalation import Response, Step
from rewact_ros.supervision.monitor import EpisodeMonitor, Judgement
from rewact_ros.supervision.reset import ResetCheck
from rewact_ros.supervision.signals import ENGAGED, PolicySample, Signals
from rewact_ros.supervision.verdict import Change, Outcome, Termination, Verdict


class Phase(Enum):
    """Where an episode is."""

    RESETTING = "resetting"
    SCENE = "scene"
    RUNNING = "running"
    HELP = "help"
    DONE = "done"


class Want(IntEnum):
    """Lease that the supervisor asks of hil; same numbers as `rewact_ros/msg/ModeRequest`."""

    HOLD = 1
    POLICY = 2
    RESET = 4


@dataclass(frozen=True)
class Control:
    """What hil last said: mode of `ControlStatus`, its reason, latch and source.

    `heard`: how many statuses have come so far, so that a later one can be told from this one.
    """

    mode: int
    reason: str
    resume_required: bool
    source: str = ""
    heard: int = 0

    HOLD = 1
    POLICY = 2
    HUMAN = 3
    RESET = 4

    @property
    def in_control(self) -> bool:
        """Whether the robot is armed and sound."""
        return self.mode in (Control.HOLD, Control.POLICY, Control.HUMAN, Control.RESET)

    @property
    def driven(self) -> bool:
        """Whether the arm moves by a lease of the supervisor."""
        return self.mode in (Control.POLICY, Control.RESET)


@dataclass(frozen=True)
class EpisodeSettings:
    """Time limits in seconds.

    Attributes:
        timeout_s: of the policy's running; a person's turn and the wait for one do not count.
        reset_motion: begin by the contract's reset motion.
        external_reset: call a reset service after it.
        reset_timeout_s: of the motion, and again of the service.
        settle_s: what a reset must achieve may take this long after it.
        start_timeout_s: until the policy leads.
        hold_timeout_s: of a hold that nobody asked for.
        human_timeout_s: of a hold after a person's turn.
    """

    timeout_s: float = 20.0
    reset_motion: bool = True
    external_reset: bool = False
    reset_timeout_s: float = 15.0
    settle_s: float = 2.0
    start_timeout_s: float = 5.0
    hold_timeout_s: float = 5.0
    human_timeout_s: float = 60.0


class Episode:
    """Pure state machine: feed it, call `step` at a fixed rate, do what `want` says.

    Attributes:
        check: of the reset; feed it joints while `phase` is RESETTING or SCENE.
        changes: (change, detail) since they were last taken away.
        verdict: None until it is over.
        judgement: of the last step that judged.
        helped: a person led, so that no calibrated bound holds.
        asked: an alarm called a person.
        peak: largest filtered progress; NaN: no reward came.
        unready: why the policy must not lead now, whatever hil says; "" while it may.

    Args:
        settings: time limits.
        make_monitor: called when the policy begins to lead.
        check: of the reset.
        gate: of the classifier; None: it is not asked.
        timeout_s: instead of the settings'; 0: theirs.
    """

    def __init__(
        self,
        settings: EpisodeSettings,
        make_monitor: Callable[[], EpisodeMonitor],
        check: ResetCheck | None = None,
        gate: ClassifierGate | None = None,
        timeout_s: float = 0.0,
    ) -> None:
        self.settings = settings
        self.timeout_s = timeout_s or settings.timeout_s
        self.phase = Phase.RESETTING if settings.reset_motion else Phase.SCENE
        self.changes: list[tuple[Change, str]] = [(Change.STARTED, "")]
        if settings.reset_motion:
            self.changes.append((Change.RESETTING, ""))
        self.verdict: Verdict | None = None
        self.judgement: Judgement | None = None
        self.monitor: EpisodeMonitor | None = None
        self.helped = self.asked = False
        self.peak = math.nan
        self.unready = ""
        self.duration_s = 0.0
        self._make_monitor = make_monitor
        self.check = check or ResetCheck()
        self._gate = gate
        self._stepped_s = math.nan
        self._phase_since_s = math.nan
        self._held_since_s = math.nan
        self._leads_since_s = -math.inf  # on the clock of the stamps
        self._after_human = self._seen_reset = self._scene_ready = False
        self._warned: set[str] = set()

    @property
    def want(self) -> Want:
        """Lease to ask for now."""
        leads = Want.HOLD if self.unready else Want.POLICY
        wants = {Phase.RESETTING: Want.RESET, Phase.RUNNING: leads}
        return wants.get(self.phase, Want.HOLD)

    @property
    def call_reset(self) -> bool:
        """Whether the external reset service is due; answer with `scene_ready`."""
        due = self.phase is Phase.SCENE and self.settings.external_reset
        return due and not self._scene_ready

    @property
    def signals(self) -> Signals:
        """What the monitor saw last; all unknown before the policy leads."""
        return self.monitor.tracker.signals if self.monitor else Signals()

    @property
    def decision(self) -> Response:
        """What the ladder says."""
        return self.judgement.decision if self.judgement else Response(Step.NONE)

    def waiting_for(self, stamp_s: float) -> str:
        """Why an episode that looks complete goes on, or an empty string."""
        if self.monitor is None or not self.monitor.complete:
            return ""
        if self.judgement and self.judgement.alarms:
            # Such as a covered camera, in whose darkness the reward may say anything.
            return f"alarm: {', '.join(sorted(self.judgement.alarms))}"
        return self._gate.fault(stamp_s) if self._gate else ""

    # Inputs -----------------------------------------------------------------------------------

    def add(self, sample: PolicySample) -> None:
        """Take one inference; before the policy leads it only serves the check of the reset."""
        if self.monitor is not None:
            if sample.stamp_s < self._leads_since_s:
                return  # what was seen before the policy led says nothing about what it does
            self.monitor.add(sample)
            self.peak = _larger(self.peak, self.signals.progress)
        elif self.phase is Phase.SCENE and sample.mean is not None:
            self.check.reward(sample.mean)

    def add_success(self, probability: float, stamp_s: float) -> None:
        """Take one judgement of the classifier."""
        if self._gate is not None and self.monitor is not None and stamp_s >= self._leads_since_s:
            self._gate.add(probability, stamp_s)

    def scene_ready(self, ok: bool, message: str) -> None:
        """Answer of the external reset service."""
        if not self.call_reset:
            return
        if ok:
            self._scene_ready, self._phase_since_s = True, self._stepped_s
            self.check.restart()
        else:
            self.end(Termination.ERROR, f"reset service failed: {message}")

    def judge(self, outcome: Outcome, by: str) -> None:
        """A person's verdict overrides."""
        self._end(Verdict(outcome, Termination.HUMAN, f"judged by {by}", by))

    def end(self, termination: Termination, detail: str) -> None:
        """End without a judgement."""
        self._end(Verdict(Outcome.UNLABELLED, termination, detail))

    def go_on(self, stamp_s: float, by: str) -> bool:
        """A person lets the policy go on without taking over; false where nobody was asked."""
        if self.phase is not Phase.HELP or self.monitor is None:
            return False
        self.monitor.resume(stamp_s)
        self.judgement = None
        self._resume(f"{by} lets it go on")
        return True

    # The tick ---------------------------------------------------------------------------------

    def step(self, now_s: float, stamp_s: float, control: Control | None) -> None:
        """Advance by one tick.

        Args:
            now_s: of the clock of ages and time-outs.
            stamp_s: now on the clock of the samples' stamps.
            control: of hil; None: it is silent.
        """
        gone_s = 0.0 if math.isnan(self._stepped_s) else now_s - self._stepped_s
        self._stepped_s = now_s
        if math.isnan(self._phase_since_s):
            self._phase_since_s = now_s
        if self.phase is Phase.DONE:
            return
        if control is None or not control.in_control:
            reason = "hil is silent" if control is None else control.reason
            self.end(Termination.HOLD, f"robot is not under control: {reason}")
        elif self.phase is Phase.RESETTING:
            self._step_resetting(now_s, control)
        elif self.phase is Phase.SCENE:
            self._step_scene(now_s, control)
        else:
            self._step_running(now_s, stamp_s, gone_s, control)

    def _step_resetting(self, now_s: float, control: Control) -> None:
        if control.mode == Control.RESET:
            self._seen_reset = True
        elif control.mode == Control.HUMAN:
            self._seen_reset, self._phase_since_s = False, now_s  # the motion was not finished
        elif self._seen_reset and not control.resume_required:
            self._enter(Phase.SCENE)
            self.check.restart()
        elif now_s - self._phase_since_s > self.settings.reset_timeout_s:
            self.end(Termination.HOLD, f"reset motion did not run: {control.reason}")

    def _step_scene(self, now_s: float, control: Control) -> None:
        if control.mode == Control.HUMAN:
            # A person moves the arm away from where the reset has put it.
            self._seen_reset = self._scene_ready = False
            self._enter(Phase.RESETTING if self.settings.reset_motion else Phase.SCENE)
            return
        waited_s = now_s - self._phase_since_s
        if self.call_reset:
            if waited_s > self.settings.reset_timeout_s:
                self.end(Termination.ERROR, "reset service did not answer")
            return
        fault = self.check.fault()
        if not fault:
            self._enter(Phase.RUNNING)
        elif waited_s > self.settings.settle_s:
            self.end(Termination.ERROR, f"reset: {fault}")

    def _step_running(self, now_s: float, stamp_s: float, gone_s: float, control: Control) -> None:
        if self.monitor is None:
            self._await_policy(now_s, stamp_s, control)
        elif not self._given_up(now_s, stamp_s, gone_s, control):
            self._judge(stamp_s)

    def _await_policy(self, now_s: float, stamp_s: float, control: Control) -> None:
        if control.mode == Control.HUMAN:
            self._phase_since_s = now_s  # the policy cannot start meanwhile
        elif control.mode == Control.POLICY:
            self.monitor, self._leads_since_s = self._make_monitor(), stamp_s
            if self._gate is not None:
                self._gate.reset()
            self.changes.append((Change.RUNNING, ""))
        elif now_s - self._phase_since_s > self.settings.start_timeout_s:
            waited = f"{self.unready} for {self.settings.start_timeout_s:g} s"
            why = waited if self.unready else control.reason
            self.end(Termination.HOLD, f"policy did not start: {why}")

    def _given_up(self, now_s: float, stamp_s: float, gone_s: float, control: Control) -> bool:
        """Step the monitor as who leads demands; whether nobody leads for too long."""
        assert self.monitor is not None
        if control.mode == Control.HUMAN:
            self.helped = self._after_human = True
            self._held_since_s = math.nan
            self.judgement = self.monitor.step(stamp_s, human=True)
            if self.phase is Phase.HELP:
                self._resume(f"{control.source or 'a person'} took over")
        elif control.mode == Control.POLICY or self.phase is Phase.HELP:
            if not math.isnan(self._held_since_s):
                self.monitor.resume(stamp_s)  # nothing moved meanwhile: that was no stall
            self._held_since_s = math.nan
            self._after_human = self._after_human and control.mode != Control.POLICY
            self.judgement = self.monitor.step(stamp_s)
            if self.phase is Phase.RUNNING:
                self.duration_s += gone_s
        else:
            # Nobody moves the arm: a person may resume, but not for ever.
            self._held_since_s = now_s if math.isnan(self._held_since_s) else self._held_since_s
            settings = self.settings
            limit_s = settings.human_timeout_s if self._after_human else settings.hold_timeout_s
            if now_s - self._held_since_s > limit_s:
                self.end(Termination.HOLD, self.unready or control.reason)
                return True
        return False

    def _judge(self, stamp_s: float) -> None:
        assert self.monitor is not None
        signals, decision = self.signals, self.decision
        blind = signals.staleness_s(stamp_s) > self.monitor.thresholds.limits[STALENESS.key]
        failure = Outcome.UNLABELLED if blind else Outcome.FAILURE
        if self.monitor.complete and not self.waiting_for(stamp_s):
            settings = self.monitor.tracker.settings
            detail = f"reward {signals.progress:.2f}, {settings.level} {signals.level:.2f}"
            if settings.completion == ENGAGED:
                detail += f", risen by {signals.engaged:.2f}"
            self._end(Verdict(Outcome.SUCCESS, Termination.PROGRESS, detail))
        elif decision.step is Step.ABORT:
            self._end(Verdict(failure, Termination.ALARM, decision.reason))
        elif self.duration_s > self.timeout_s:
            seen = "no fresh reward" if blind else f"peak progress {self.peak:.2f}"
            self._end(Verdict(failure, Termination.TIMEOUT, f"{self.timeout_s:g} s, {seen}"))
        elif decision.step is Step.HOLD and self.phase is Phase.RUNNING:
            self._enter(Phase.HELP)
            self.asked = True
            self.changes.append((Change.HELP, decision.reason))
        elif decision.step is Step.WARN and decision.signal not in self._warned:
            self._warned.add(decision.signal)  # once, however often it comes and goes
            self.changes.append((Change.WARNING, f"{decision.signal} alarm"))

    def _resume(self, detail: str) -> None:
        self._enter(Phase.RUNNING)
        self._warned.clear()
        self.changes.append((Change.RESUMED, detail))

    def _enter(self, phase: Phase) -> None:
        self.phase, self._phase_since_s = phase, self._stepped_s

    def _end(self, verdict: Verdict) -> None:
        if self.phase is not Phase.DONE:
            self.phase, self.verdict = Phase.DONE, verdict
            self.changes.append((Change.VERDICT, verdict.detail))


def _larger(peak: float, value: float) -> float:
    """The larger of two values of which either may be unknown (NaN)."""
    return peak if math.isnan(value) else value if math.isnan(peak) else max(peak, value)
