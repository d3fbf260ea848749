"""Episodes in the simulation, in process: the same driver, monitor, gate and human as on the robot.

Verdicts are learned ones: the monitor judges by the base's reward, a success classifier may have to
agree, and what a human did counts as done when the human says so. The simulation's truth evaluates,
and judges where it is asked to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.control.limits import SafetyGate, make_gate
from rewact_ros.control.modes import Mode
from rewact_ros.episodes.loop import Turns, drive
from rewact_ros.policy.engine import Prediction
from rewact_ros.reward.classifier import LoadedClassifier
from rewact_ros.sim.human import ScriptedHuman
from rewact_ros.sim.task import FloatArray, Task
from rewact_ros.supervision.escalation import Step
from rewact_ros.supervision.signals import SignalSettings

from .driver import Driver
from .run_settings import SimEpisodeSettings
from .transitions import Transition, TransitionBuilder


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


@dataclass(frozen=True)
class _Step:
    """A robot step as it was decided.

    Attributes:
        observation: before it.
        time_s: when it begins; start: (A,) command in force then.
        human: a person leads it.
        target: (A,) that the policy wants at its end; None: the policy does not lead.
        value, decided: as in ``Act``.
    """

    observation: dict[str, NDArray[Any]]
    time_s: float
    start: FloatArray
    human: bool
    target: FloatArray | None = None
    value: float = float("nan")
    decided: bool = False


class SimEpisode:
    """Drives one episode from reset to verdict; hands change between robot steps.

    Args:
        task: with its cameras at the base policy's image size.
        driver: who sees and acts.
        contract: its limits are the gate's.
        signals: what the monitor judges by.
        settings: when it ends, and when help is called.
        builder: of transitions.
        sink: takes each finished transition.
        classifier: as ``settings.classifier`` names it.
    """

    every = 1

    def __init__(
        self,
        task: Task,
        driver: Driver,
        contract: Contract,
        signals: SignalSettings,
        settings: SimEpisodeSettings,
        builder: TransitionBuilder,
        sink: Callable[[Transition], None],
        classifier: LoadedClassifier | None = None,
    ) -> None:
        self._task, self._driver, self._settings = task, driver, settings
        self._ticks = task.command_hz // task.rate_hz
        self._builder, self._sink = builder, sink
        self._monitor = settings.monitor(signals)
        self._reward = settings.judge(classifier)
        gate = make_gate(contract)
        assert isinstance(gate, SafetyGate)  # `open_base` refuses velocity commands
        self._gate = gate
        self._led = False  # somebody led the step before
        self._choices: Counter[str] = Counter()
        self._speeds = 0.0
        self._human_frames = self._policy_frames = self._done_frames = 0
        self._verdict: tuple[bool, str] | None = None
        self._step: _Step | None = None  # that is being executed

    @property
    def mode(self) -> Mode:
        return self._turns.mode

    def run(self, name: str, number: int, seed: int, acting: Acting) -> EpisodeResult:
        """Drive a scene to its verdict.

        Args:
            name: of the episode, for its transitions.
            number: of the episode, from which all its draws derive.
            seed: of the scene.
            acting: how the policy acts.
        """
        self._task.reset(seed)
        self._gate.start(self._task.command)
        self._driver.begin(number)
        self._builder.begin(name)
        self._reward.begin()
        self._acting = acting
        traits = self._settings.human
        human = None if traits is None else ScriptedHuman(type(self._task), traits, seed)
        self._turns = Turns(human)
        ticks = drive(self._task, self)
        return self._result(seed, ticks // self._ticks)

    # as a lead ------------------------------------------------------------------------------

    def over(self, tick: int) -> bool:
        return False  # the verdict falls with an observation, which is the last transition's

    def see(self, tick: int, observation: dict[str, Any]) -> tuple[bool, Prediction]:
        """Finish the robot step before; judge; begin the next one, or end with the verdict."""
        now_s = tick / self._task.command_hz
        if self._step is not None:
            self._finish(self._step)
        if self._handed_back():
            self._driver.release()  # of what it saw before the human led
        seen = self._driver.observe(observation, now_s)
        self._monitor.add(seen.sample)
        self._reward.see(observation, now_s)
        self._verdict = self._judge(now_s, seen.observation)
        if self._verdict is not None:
            success = self._verdict[0]
            reward = self._earned(success, last=True)
            self._emit(self._builder.end(seen.observation, success, reward, success))
            return False, seen.prediction
        self._step = self._begin(seen.observation, now_s)
        return True, seen.prediction

    def command(self, tick: int) -> FloatArray:
        """(A,) in a straight line to the step's target, or the human's; through the gate."""
        step, human = self._step, self._turns.human
        assert step is not None
        done, wanted = tick % self._ticks + 1, None
        if step.target is not None:
            wanted = step.start + (step.target - step.start) * done / self._ticks
        if human is not None:
            time_s = step.time_s + (done - 1) / self._task.command_hz
            guided = human.step(time_s, self._gate.position, self._task.scene(), step.human)
            wanted = guided if step.human else wanted
        if wanted is None or self._gate.apply(wanted) is None:
            self._gate.brake()
        return self._gate.position

    # ----------------------------------------------------------------------------------------

    def _judge(self, now_s: float, observation: dict[str, NDArray[Any]]) -> tuple[bool, str] | None:
        """Who leads next, or the verdict: success and reason."""
        judgement = self._monitor.step(now_s, human=self.mode is Mode.HUMAN)
        changed = self._turns.change()
        if changed == "done":
            return True, "done by a human"
        if changed == "back" or self.mode is not Mode.POLICY:
            return None
        self._done_frames = self._done_frames + 1 if self._task.truth().success else 0
        by = self._settings.success_by
        if by == "environment":
            if self._done_frames > self._task.rate_hz // 2:
                return True, "truth"
        elif judgement.complete and self._reward.agrees(now_s):
            return True, "progress" if by == "progress" else "progress and classifier"
        if judgement.decision.step is Step.ABORT:
            return False, judgement.decision.reason
        if self._policy_frames >= self._settings.limit_s * self._task.rate_hz:
            return False, "timeout"
        if judgement.decision.step is Step.HOLD and self._turns.human is not None:
            self._emit(self._builder.cut(observation, self._earned()))
            self._turns.call(now_s)
        return None

    def _handed_back(self) -> bool:
        """Whether the human lets go with something left to do."""
        human = self._turns.human
        if human is None or self.mode is not Mode.HUMAN or human.pressed:
            return False
        return human.reason != "done"

    def _begin(self, observation: dict[str, NDArray[Any]], now_s: float) -> _Step:
        """Decide a robot step."""
        step = _Step(observation, now_s, self._gate.position, human=self.mode is Mode.HUMAN)
        if self.mode is Mode.POLICY:
            act = self._driver.act(self._acting.explore, self._acting.base_only)
            step = replace(step, target=act.target, value=act.value, decided=act.decided)
            self._policy_frames += 1
            self._speeds += act.speed
            if act.decided:
                self._choices[act.choice] += 1
        self._human_frames += step.human
        return step

    def _finish(self, step: _Step) -> None:
        """Hand over what was executed."""
        if self.mode is Mode.HOLD:
            self._led = False
            self._builder.skip()
            return
        earned, self._led = self._earned(), True
        version, position = self._acting.version, self._gate.position
        self._emit(
            self._builder.add(
                step.observation,
                position,
                step.human,
                version,
                step.value,
                step.decided,
                earned,
            )
        )

    def _earned(self, success: bool = False, last: bool = False) -> float:
        """Reward of the step that the last observation ended; 0 where nobody led it."""
        return self._reward.step(success, last) if self._led else 0.0

    def _emit(self, transition: Transition | None) -> None:
        if transition is not None:
            self._sink(transition)

    def _result(self, seed: int, frames: int) -> EpisodeResult:
        assert self._verdict is not None
        success, reason = self._verdict
        return EpisodeResult(
            seed=seed,
            success=success,
            reason=reason,
            truth=self._task.truth().success,
            interventions=self._turns.interventions,
            human_s=self._human_frames / self._task.rate_hz,
            duration_s=frames / self._task.rate_hz,
            choices=dict(self._choices),
            speed=self._speeds / max(self._policy_frames, 1),
        )
