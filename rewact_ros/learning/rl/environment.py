"""Episodes in the simulation, in process: the same driver, monitor, gate and human as on the robot.

Verdicts are learned ones: the monitor judges by the base's reward, a success classifier may have to
agree, and what a human did counts as done when the human says so. The simulation's truth evaluates,
and judges where it is asked to.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from rewact_ros.contract import Contract
from rewact_ros.control.limits import SafetyGate, make_gate
from rewact_ros.control.modes import Mode
from rewact_ros.episodes.rollout import observe
from rewact_ros.reward.classifier import LoadedClassifier
from rewact_ros.sim.pick_place.human import Scene, ScriptedHuman
from rewact_ros.sim.pick_place.simulation import PickPlaceSim
from rewact_ros.sim.timing import COMMAND_HZ, RATE_HZ
from rewact_ros.supervision.escalation import Step
from rewact_ros.supervision.signals import SignalSettings

from .driver import Driver
from .run_settings import EpisodeSettings
from .transitions import Transition, TransitionBuilder

_TICKS = COMMAND_HZ // RATE_HZ
_TRUTH_FRAMES = RATE_HZ // 2


@dataclass(frozen=True)
class Acting:
    """How the policy acts in an episode.

    Attributes:
        explore: share of the exploration, as for ``Agent.decide``.
        base_only: the base acts, whatever the critics say.
        version: name of the weights, for the transitions.
    """

    explore: float = 0.0
    base_only: bool = False
    version: str = ""


@dataclass(frozen=True)
class EpisodeResult:
    """How an episode went.

    Attributes:
        seed: of the scene.
        success: the verdict; reason: in one line.
        truth: the simulation's, for evaluation only.
        interventions: takeovers.
        human_s, duration_s: time that the human led, and all time.
        choices: decisions by who made them.
        speed: mean of the policy's steps.
    """

    seed: int
    success: bool
    reason: str
    truth: bool
    interventions: int
    human_s: float
    duration_s: float
    choices: dict[str, int]
    speed: float = 1.0


class SimEpisode:
    """Drives one episode from reset to verdict.

    Args:
        sim: with both cameras at the base policy's image size.
        driver: who sees and acts.
        contract: its limits are the gate's.
        signals: what the monitor judges by.
        settings: when it ends, and when help is called.
        builder: of transitions.
        sink: takes each finished transition.
        classifier: as ``settings.classifier`` names it.
    """

    def __init__(
        self,
        sim: PickPlaceSim,
        driver: Driver,
        contract: Contract,
        signals: SignalSettings,
        settings: EpisodeSettings,
        builder: TransitionBuilder,
        sink: Callable[[Transition], None],
        classifier: LoadedClassifier | None = None,
    ) -> None:
        self._sim, self._driver, self._settings = sim, driver, settings
        self._builder, self._sink = builder, sink
        self._monitor = settings.monitor(signals)
        self._reward = settings.judge(classifier)
        gate = make_gate(contract)
        assert isinstance(gate, SafetyGate)  # `open_base` refuses velocity commands
        self._gate = gate
        self._mode = Mode.POLICY
        self._led = False  # somebody led the step before
        self._human: ScriptedHuman | None = None
        self._choices: Counter[str] = Counter()
        self._speeds = 0.0
        self._interventions = self._human_frames = self._policy_frames = self._done_frames = 0

    def run(self, name: str, number: int, seed: int, acting: Acting) -> EpisodeResult:
        """Drive a scene to its verdict.

        Args:
            name: of the episode, for its transitions.
            number: of the episode, from which all its draws derive.
            seed: of the scene.
            acting: how the policy acts.
        """
        self._sim.reset(seed)
        self._gate.start(self._sim.command)
        self._driver.begin(number)
        self._builder.begin(name)
        self._reward.begin()
        if self._settings.human is not None:
            self._human = ScriptedHuman(self._settings.human, seed)
        frame = 0
        while True:
            now_s = frame / RATE_HZ
            if self._handed_back():
                self._driver.release()  # of what it saw before the human led
            raw = observe(self._sim)
            seen = self._driver.observe(raw, now_s)
            self._monitor.add(seen.sample)
            self._reward.see(raw, now_s)
            verdict = self._judge(now_s, seen.observation)
            if verdict is not None:
                success, reason = verdict
                reward = self._earned(success, last=True)
                self._emit(self._builder.end(seen.observation, success, reward, success))
                return self._result(seed, success, reason, frame)
            self._step(seen.observation, now_s, acting)
            frame += 1

    def _judge(self, now_s: float, observation: dict[str, np.ndarray]) -> tuple[bool, str] | None:
        """Who leads next, or the verdict: success and reason."""
        judgement = self._monitor.step(now_s, human=self._mode is Mode.HUMAN)
        human = self._human
        if human is not None and self._mode is Mode.HUMAN and not human.pressed:
            if not self._handed_back():
                return True, "done by a human"
            self._mode = Mode.POLICY
            return None
        if human is not None and self._mode is Mode.HOLD and human.pressed:
            self._mode = Mode.HUMAN
            self._interventions += 1
        if self._mode is not Mode.POLICY:
            return None
        self._done_frames = self._done_frames + 1 if self._sim.truth().success else 0
        by = self._settings.success_by
        if by == "environment":
            if self._done_frames > _TRUTH_FRAMES:
                return True, "truth"
        elif judgement.complete and self._reward.agrees(now_s):
            return True, "progress" if by == "progress" else "progress and classifier"
        if judgement.decision.step is Step.ABORT:
            return False, judgement.decision.reason
        if self._policy_frames >= self._settings.limit_s * RATE_HZ:
            return False, "timeout"
        if judgement.decision.step is Step.HOLD and human is not None:
            self._mode = Mode.HOLD
            self._emit(self._builder.cut(observation, self._earned()))
            human.ask(now_s)
        return None

    def _handed_back(self) -> bool:
        """Whether the human lets go with something left to do."""
        human = self._human
        led = human is not None and self._mode is Mode.HUMAN and not human.pressed
        return led and human.reason != "done"

    def _step(self, observation: dict[str, np.ndarray], now_s: float, acting: Acting) -> None:
        """Execute one robot step and hand it over."""
        value, decided, target = float("nan"), False, None
        if self._mode is Mode.POLICY:
            act = self._driver.act(acting.explore, acting.base_only)
            value, decided, target = act.value, act.decided, act.target
            self._policy_frames += 1
            self._speeds += act.speed
            if decided:
                self._choices[act.choice] += 1
        leads = self._mode is Mode.HUMAN
        self._human_frames += leads
        start = self._gate.position
        for tick in range(1, _TICKS + 1):
            wanted = None if target is None else start + (target - start) * tick / _TICKS
            if self._human is not None:
                time_s = now_s + (tick - 1) / COMMAND_HZ
                guided = self._human.step(time_s, self._gate.position, self._scene(), leads)
                wanted = guided if leads else wanted
            if wanted is None or self._gate.apply(wanted) is None:
                self._gate.brake()
            self._sim.set_command(self._gate.position)
            self._sim.advance(1 / COMMAND_HZ)
        if self._mode is Mode.HOLD:
            self._led = False
            self._builder.skip()
            return
        earned, self._led = self._earned(), True
        self._emit(
            self._builder.add(
                observation, self._gate.position, leads, acting.version, value, decided, earned
            )
        )

    def _earned(self, success: bool = False, last: bool = False) -> float:
        """Reward of the step that the last observation ended; 0 where nobody led it."""
        return self._reward.step(success, last) if self._led else 0.0

    def _emit(self, transition: Transition | None) -> None:
        if transition is not None:
            self._sink(transition)

    def _scene(self) -> Scene:
        position, yaw = self._sim.cube_pose()
        return Scene(position, yaw, self._sim.layout, self._sim.truth().stage)

    def _result(self, seed: int, success: bool, reason: str, frames: int) -> EpisodeResult:
        return EpisodeResult(
            seed=seed,
            success=success,
            reason=reason,
            truth=self._sim.truth().success,
            interventions=self._interventions,
            human_s=self._human_frames / RATE_HZ,
            duration_s=frames / RATE_HZ,
            choices=dict(self._choices),
            speed=self._speeds / max(self._policy_frames, 1),
        )


@contextmanager
def simulation(contract: Contract) -> Iterator[PickPlaceSim]:
    """The simulated arm, its cameras at the size of the contract's first one."""
    height, width, _ = contract.cameras[0].shape
    sim = PickPlaceSim(width, height)
    try:
        yield sim
    finally:
        sim.close()
