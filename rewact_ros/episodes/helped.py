"""An episode in simulation in which the policy may call for the scripted human; no ROS.

Who is called and who judges is as on the robot: the monitor sees the policy's own reward, never the
simulation's truth. The human sees the scene, and what the human did counts as done when the human
says so.
"""

from dataclasses import dataclass, field
from typing import Any

from rewact_ros.control.modes import Mode
from rewact_ros.policy.engine import Engine, Prediction
from rewact_ros.sim.human import ScriptedHuman, Traits
from rewact_ros.sim.task import FloatArray, Task
from rewact_ros.supervision.escalation import EscalationSettings, Ladder, Step
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import PolicySample, SignalSettings

from .loop import FrameLog, Planned, Turns, drive


@dataclass(frozen=True)
class HelpSettings:
    """When help is called, and how an episode ends.

    Attributes:
        completion: level of progress that counts as done.
        stall_s, drawdown: of the learned progress, above which a human is called.
        hold_s: how long such an alarm stands first.
        limit_s: time-out, of the time in which nobody helps.
        latency_s: from an observation until its chunk may act.
        human: how the human differs from a machine.
    """

    completion: float = 0.9
    stall_s: float = 3.0
    drawdown: float = 0.3
    hold_s: float = 0.5
    limit_s: float = 20.0
    latency_s: float = 0.02
    human: Traits = field(default_factory=Traits)

    def __post_init__(self) -> None:
        for name in ("completion", "stall_s", "drawdown", "hold_s", "limit_s", "latency_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class HelpedEpisode:
    """How an episode went.

    Attributes:
        seed: of the scene.
        success: the verdict; by: ``supervisor`` or ``human``; reason: one line.
        truth: the simulation's, for evaluation only.
        interventions: takeovers.
        human_s, duration_s: time that the human led, and all time.
    """

    seed: int
    success: bool
    by: str
    reason: str
    truth: bool
    interventions: int
    human_s: float
    duration_s: float


def drive_with_help(
    engine: Engine, task: Task, seed: int, level: str, settings: HelpSettings
) -> tuple[HelpedEpisode, FrameLog]:
    """Drive one episode from reset to verdict; returns how it went, and what a recorder had kept.

    Args:
        engine: the policy, with a reward head; its history is cleared.
        task: with the policy's cameras at its image size.
        seed: of the scene, and of the human's delays and unsteady hand.
        level: what completion is judged by, as in ``SignalSettings``.
        settings: when help is called.
    """
    task.reset(seed)
    lead, log = _Helped(engine, task, seed, level, settings), FrameLog()
    ticks = drive(task, lead, [log])
    success, by, reason = lead.verdict or (False, "supervisor", "timeout")
    episode = HelpedEpisode(
        seed,
        success,
        by,
        reason,
        task.truth().success,
        lead.turns.interventions,
        lead.human_ticks / task.command_hz,
        ticks / task.command_hz,
    )
    return episode, log


class _Helped:
    """Leads by the policy, and by a person while she helps; hands change at any tick, as in hil."""

    every = 1

    def __init__(
        self, engine: Engine, task: Task, seed: int, level: str, settings: HelpSettings
    ) -> None:
        self._engine, self._task, self._settings = engine, task, settings
        self._monitor = EpisodeMonitor(
            Thresholds(
                completion=settings.completion,
                stall_s=settings.stall_s,
                drawdown=settings.drawdown,
            ),
            SignalSettings(level=level),
            EscalationSettings(default=Ladder(hold_s=settings.hold_s)),
        )
        self._human = ScriptedHuman(type(task), settings.human, seed)
        self.turns = Turns(self._human)
        self.human_ticks = self._helped_ticks = 0
        self.verdict: tuple[bool, str, str] | None = None
        self._planned = Planned(task, engine, settings.latency_s)

    @property
    def mode(self) -> Mode:
        return self.turns.mode

    def over(self, tick: int) -> bool:
        led = tick - self._helped_ticks
        return self.verdict is not None or led > self._settings.limit_s * self._task.command_hz

    def see(self, tick: int, observation: dict[str, Any]) -> tuple[bool, Prediction | None]:
        """Infer and judge."""
        now_s = tick / self._task.command_hz
        prediction = self._planned.infer(tick, observation)
        q10 = prediction.quantiles[0] if prediction.quantiles else None
        self._monitor.add(PolicySample(now_s, prediction.reward, q10))
        judgement = self._monitor.step(now_s, human=self.mode is Mode.HUMAN)
        if self.mode is not Mode.POLICY:
            return True, prediction
        self._planned.add(tick, prediction)
        if judgement.complete:
            self.verdict = (True, "supervisor", "progress")
        elif judgement.decision.step is Step.ABORT:
            self.verdict = (False, "supervisor", judgement.decision.reason)
        elif judgement.decision.step is Step.HOLD:
            self.turns.call(now_s)
        return True, prediction

    def command(self, tick: int) -> FloatArray:
        """(A,) of whoever leads; while a call for help is unanswered the arm holds."""
        now_s, held = tick / self._task.command_hz, self._task.command
        leads = self.mode is Mode.HUMAN
        target = self._human.step(now_s, held, self._task.scene(), leads)
        changed = self.turns.change()
        if changed == "done":
            self.verdict = (True, "human", "done")
        elif changed == "back":
            # Only what is observed from now on counts.
            self._monitor.resume(now_s)
            self._planned = Planned(self._task, self._engine, self._settings.latency_s)
        self.human_ticks += self.mode is Mode.HUMAN
        self._helped_ticks += self.mode is not Mode.POLICY
        if leads and target is not None:
            return target
        planned = self._planned.command(tick) if self.mode is Mode.POLICY else None
        return held if planned is None else planned
