"""One episode from the request to the verdict: phases, leases, time-outs, termination reasons."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from rewact_ros.supervision.monitor import ProgressMonitor


class Phase(Enum):
    """Where an episode is."""

    IDLE = "idle"
    RESETTING = "resetting"
    SCENE = "scene"
    RUNNING = "running"
    DONE = "done"


class Outcome(IntEnum):
    """Same numbers as `rewact_ros/msg/EpisodeEvent`; nobody's verdict is not a failure."""

    UNLABELLED = 0
    SUCCESS = 1
    FAILURE = 2


class Want(IntEnum):
    """Lease that the supervisor asks of hil; same numbers as `rewact_ros/msg/ModeRequest`."""

    HOLD = 1
    POLICY = 2
    RESET = 4


@dataclass(frozen=True)
class Control:
    """What hil last said: mode of `ControlStatus`, reason and the latch of a watchdog stop."""

    mode: int
    reason: str
    resume_required: bool

    HOLD = 1
    POLICY = 2
    HUMAN = 3
    RESET = 4


@dataclass(frozen=True)
class Verdict:
    """How an episode ended: outcome, termination reason (one word) and one line of detail."""

    outcome: Outcome
    termination: str
    detail: str


@dataclass(frozen=True)
class EpisodeSettings:
    """Time limits in seconds; `external_reset` waits for a reset service after the reset motion."""

    timeout_s: float = 20.0
    reset_motion: bool = True
    external_reset: bool = False
    reset_timeout_s: float = 15.0
    start_timeout_s: float = 5.0
    hold_timeout_s: float = 5.0


class Episode:
    """Pure state machine: call `step` at a fixed rate, do what `want` says, stop at `verdict`.

    `call_reset` is True while the external reset service should be called; answer with
    `scene_ready`.
    """

    def __init__(
        self, settings: EpisodeSettings, monitor: ProgressMonitor, timeout_s: float = 0.0
    ) -> None:
        self.settings = settings
        self.monitor = monitor
        self.timeout_s = timeout_s or settings.timeout_s
        self.phase = Phase.RESETTING if settings.reset_motion else Phase.SCENE
        self.verdict: Verdict | None = None
        self.running_since_s: float | None = None
        self.ended_s: float | None = None
        self._now_s: float | None = None
        self._stepped_s: float | None = None
        self._phase_since_s: float | None = None
        self._seen_reset = False
        self._held_since_s: float | None = None

    @property
    def want(self) -> Want:
        """Lease to ask for now."""
        wants = {Phase.RESETTING: Want.RESET, Phase.RUNNING: Want.POLICY}
        return wants.get(self.phase, Want.HOLD)

    @property
    def call_reset(self) -> bool:
        """Whether the external reset service is due."""
        return self.phase is Phase.SCENE and self.settings.external_reset

    @property
    def duration_s(self) -> float:
        """Seconds of running so far, without the reset and without a person's turns."""
        if self.running_since_s is None or self._now_s is None:
            return 0.0
        return (self.ended_s or self._now_s) - self.running_since_s

    def scene_ready(self, ok: bool, message: str) -> None:
        """Answer of the external reset service."""
        if self.phase is not Phase.SCENE:
            return
        if ok:
            self._enter(Phase.RUNNING)
        else:
            self._end(Outcome.UNLABELLED, "error", f"reset service failed: {message}")

    def reward(self, value: float, stamp_s: float) -> None:
        """Take one reward; rewards from outside the running phase do not count."""
        if self.phase is Phase.RUNNING and self.running_since_s is not None:
            self.monitor.add(value, stamp_s)

    def cancel(self, detail: str = "cancelled by the client") -> None:
        """End without judging."""
        self._end(Outcome.UNLABELLED, "cancelled", detail)

    def judge(self, outcome: Outcome, by: str) -> None:
        """A person's verdict overrides."""
        self._end(outcome, "human", f"judged by {by}")

    def step(self, now_s: float, control: Control | None) -> None:
        """Advance by one tick of the age clock."""
        self._stepped_s, self._now_s = self._now_s, now_s
        if self._phase_since_s is None:
            self._phase_since_s = now_s
        if self.phase is Phase.DONE:
            return
        in_control = (Control.HOLD, Control.POLICY, Control.HUMAN, Control.RESET)
        if control is None or control.mode not in in_control:
            reason = "hil is silent" if control is None else control.reason
            self._end(Outcome.UNLABELLED, "hold", f"robot is not under control: {reason}")
            return
        elapsed = now_s - self._phase_since_s
        if self.phase is Phase.RESETTING:
            self._step_resetting(control, elapsed)
        elif self.phase is Phase.SCENE:
            self._step_scene(elapsed)
        elif self.phase is Phase.RUNNING:
            self._step_running(now_s, control, elapsed)

    def _step_resetting(self, control: Control, elapsed: float) -> None:
        if control.mode == Control.RESET:
            self._seen_reset = True
        elif control.mode == Control.HUMAN:
            self._seen_reset = False  # the motion was not finished
        elif self._seen_reset and not control.resume_required:
            self._enter(Phase.SCENE)
        elif elapsed > self.settings.reset_timeout_s or control.resume_required:
            self._end(Outcome.UNLABELLED, "hold", f"reset motion did not run: {control.reason}")

    def _step_scene(self, elapsed: float) -> None:
        if not self.settings.external_reset:
            self._enter(Phase.RUNNING)
        elif elapsed > self.settings.reset_timeout_s:
            self._end(Outcome.UNLABELLED, "error", "reset service did not answer")

    def _step_running(self, now_s: float, control: Control, elapsed: float) -> None:
        if control.mode == Control.HUMAN and self.running_since_s is not None:
            # A person's turn costs the policy no time; what it achieves counts.
            self.running_since_s += now_s - (self._stepped_s or now_s)
            self._held_since_s = None
        elif control.mode == Control.POLICY:
            self._held_since_s = None
            if self.running_since_s is None:
                self.running_since_s = now_s
                self.monitor.reset()
        elif self.running_since_s is None:
            if elapsed > self.settings.start_timeout_s:
                self._end(Outcome.UNLABELLED, "hold", f"policy did not start: {control.reason}")
            return
        else:
            # Nobody moves the arm: a person may resume, but not for ever.
            self._held_since_s = now_s if self._held_since_s is None else self._held_since_s
            if now_s - self._held_since_s > self.settings.hold_timeout_s:
                self._end(Outcome.UNLABELLED, "hold", control.reason)
                return
        if self.monitor.complete:
            self._end(Outcome.SUCCESS, "progress", f"filtered reward {self.monitor.filtered:.2f}")
        elif now_s - self.running_since_s > self.timeout_s:
            peak = self.monitor.peak
            self._end(Outcome.FAILURE, "timeout", f"{self.timeout_s:g} s, peak progress {peak:.2f}")

    def _enter(self, phase: Phase) -> None:
        self.phase, self._phase_since_s = phase, self._now_s

    def _end(self, outcome: Outcome, termination: str, detail: str) -> None:
        if self.phase is not Phase.DONE:
            self.phase, self.ended_s = Phase.DONE, self._now_s
            self.verdict = Verdict(outcome, termination, detail)
