"""An episode in simulation in which the policy may call for the scripted human; no ROS.

Who is called and who judges is as on the robot: the monitor sees the policy's own reward, never the
simulation's truth. The human sees the scene, and what the human did counts as done when the human
says so.
"""

from dataclasses import dataclass, field

import numpy as np

from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk, ChunkQueue
from rewact_ros.control.modes import Mode
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.sim.pick_place.human import Scene, ScriptedHuman
from rewact_ros.sim.pick_place.simulation import CAMERAS, PickPlaceSim
from rewact_ros.sim.timing import COMMAND_HZ, RATE_HZ
from rewact_ros.supervision.escalation import EscalationSettings, Ladder, Step
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import PolicySample, SignalSettings

from .rollout import observe
from .settings import HelpSettings

_TICKS_PER_FRAME = COMMAND_HZ // RATE_HZ


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


@dataclass
class Frames:
    """What a recorder would have kept, one entry per frame at ``RATE_HZ``.

    Attributes:
        state: (7,) measured joints each; action: (7,) first command sent at or after the frame.
        mode: of control while that command was sent.
        images: per camera (H, W, 3) uint8 each.
    """

    state: list[np.ndarray] = field(default_factory=list)
    action: list[np.ndarray] = field(default_factory=list)
    mode: list[Mode] = field(default_factory=list)
    images: dict[str, list[np.ndarray]] = field(default_factory=lambda: {c: [] for c in CAMERAS})

    def commanded(self, command: np.ndarray, mode: Mode) -> None:
        """Take a command that is sent: it is the action of the frame that has none yet."""
        if len(self.action) < len(self.state):
            self.action.append(command.astype(np.float32))
            self.mode.append(mode)


class EpisodeWithHelp:
    """Drives one episode from reset to verdict.

    Args:
        engine: the policy, with a reward head; its history is cleared.
        sim: with both cameras at the policy's image size.
        seed: of the scene, and of the human's delays and unsteady hand.
        level: what completion is judged by, as in ``SignalSettings``.
        settings: when help is called.
    """

    def __init__(
        self, engine: TorchEngine, sim: PickPlaceSim, seed: int, level: str, settings: HelpSettings
    ) -> None:
        self._engine, self._sim, self._seed, self._settings = engine, sim, seed, settings
        self._monitor = EpisodeMonitor(
            Thresholds(
                completion=settings.completion,
                stall_s=settings.stall_s,
                drawdown=settings.drawdown,
            ),
            SignalSettings(level=level),
            EscalationSettings(default=Ladder(hold_s=settings.hold_s)),
        )
        self._human = ScriptedHuman(settings.human, seed)
        self._mode = Mode.HOLD
        self._interventions = self._human_ticks = self._helped_ticks = 0
        self._verdict: tuple[bool, str, str] | None = None
        self.frames = Frames()
        sim.reset(seed)
        self._give_to_policy()

    def run(self) -> HelpedEpisode:
        """Drive to the verdict."""
        tick = 0
        while self._verdict is None:
            if tick % _TICKS_PER_FRAME == 0:
                self._frame(tick)
            command = self._command(tick)
            self.frames.commanded(command, self._mode)
            self._sim.set_command(command)
            self._sim.advance(1 / COMMAND_HZ)
            self._human_ticks += self._mode is Mode.HUMAN
            self._helped_ticks += self._mode is not Mode.POLICY
            tick += 1
            if tick - self._helped_ticks > self._settings.limit_s * COMMAND_HZ:
                self._verdict = (False, "supervisor", "timeout")
        success, by, reason = self._verdict
        truth = self._sim.truth().success
        human_s, duration_s = self._human_ticks / COMMAND_HZ, tick / COMMAND_HZ
        return HelpedEpisode(
            self._seed, success, by, reason, truth, self._interventions, human_s, duration_s
        )

    def _frame(self, tick: int) -> None:
        """Observe, infer and judge."""
        now_s = tick / COMMAND_HZ
        observation = observe(self._sim)
        self.frames.state.append(observation["observation.state"])
        for camera, frames in self.frames.images.items():
            frames.append(observation[f"observation.images.{camera}"].copy())
        prediction = self._engine.infer(observation, now_s)
        q10 = prediction.quantiles[0] if prediction.quantiles else None
        self._monitor.add(PolicySample(now_s, prediction.reward, q10))
        judgement = self._monitor.step(now_s, human=self._mode is Mode.HUMAN)
        if self._mode is not Mode.POLICY:
            return
        now_ns = tick * NANO // COMMAND_HZ
        chunk = Chunk(now_ns, 0, prediction.actions.astype(np.float64), 1 / RATE_HZ)
        self._waiting.append((now_ns + round(self._settings.latency_s * NANO), chunk))
        if judgement.complete:
            self._verdict = (True, "supervisor", "progress")
        elif judgement.decision.step is Step.ABORT:
            self._verdict = (False, "supervisor", judgement.decision.reason)
        elif judgement.decision.step is Step.HOLD:
            self._mode = Mode.HOLD
            self._human.ask(now_s)

    def _command(self, tick: int) -> np.ndarray:
        """(7,) command of whoever leads; while a call for help is unanswered the arm holds."""
        leads = self._mode is Mode.HUMAN
        target = self._human.step(tick / COMMAND_HZ, self._sim.command, self._scene(), leads)
        if self._mode is Mode.HOLD and self._human.pressed:
            self._mode = Mode.HUMAN
            self._interventions += 1
        elif leads and not self._human.pressed:
            if self._human.reason == "done":
                self._verdict = (True, "human", "done")
            else:
                self._monitor.resume(tick / COMMAND_HZ)
                self._give_to_policy()
        if leads and target is not None:
            return target
        planned = self._planned(tick) if self._mode is Mode.POLICY else None
        return self._sim.command if planned is None else planned

    def _planned(self, tick: int) -> np.ndarray | None:
        now_ns = tick * NANO // COMMAND_HZ
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._queue.add(self._waiting.pop(0)[1], now_ns)
        return self._queue.sample(now_ns)

    def _give_to_policy(self) -> None:
        """Only what is observed from now on counts."""
        self._mode = Mode.POLICY
        self._engine.reset()
        self._queue = ChunkQueue(len(self._sim.JOINTS))
        self._waiting: list[tuple[int, Chunk]] = []

    def _scene(self) -> Scene:
        position, yaw = self._sim.cube_pose()
        return Scene(position, yaw, self._sim.layout, self._sim.truth().stage)
