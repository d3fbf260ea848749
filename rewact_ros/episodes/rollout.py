"""Closed loop without ROS: a policy drives a simulated robot, timed as the robot side times it.

Seeds from 100 000 are for choosing between models, those from 200 000 for reported figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewact_ros.control.modes import Mode
from rewact_ros.policy.engine import Engine, Prediction
from rewact_ros.sim.task import Course, Expert, FloatArray, Task

from .loop import Disturbance, FrameLog, Listener, Planned, drive
from .settings import RolloutSettings


@dataclass(frozen=True)
class Rollout:
    """One episode.

    Attributes:
        seed: of the scene.
        success: the simulation's truth at the end.
        stage, failure: as the task's truth names them.
        duration_s: until lasting success, else until the time-out.
        rewards: predicted progress at every inference, None where none is predicted.
    """

    seed: int
    success: bool
    stage: str
    failure: str
    duration_s: float
    rewards: list[float | None]


@dataclass
class Trace(FrameLog):
    """All of a roll-out.

    Attributes:
        expert: what it would do in this scene: the pace of an undisturbed attempt.
    """

    expert: Expert | None = None

    @property
    def course(self) -> Course:
        """As labels are made of it."""
        assert self.expert is not None
        return Course(self.expert, np.array(self.state), self.truths, self.notes)


def roll_out(
    engine: Engine,
    task: Task,
    seed: int,
    settings: RolloutSettings | None = None,
    listeners: Sequence[Listener] = (),
) -> Rollout:
    """Drive one episode.

    Args:
        engine: the policy; its history is cleared.
        task: with the policy's cameras at its image size.
        seed: of the scene, and of the disturbances.
        settings: timing, end and disturbances.
        listeners: who watches.
    """
    settings = settings or RolloutSettings()
    task.reset(seed)
    lead = _Policy(engine, task, settings)
    disturbance = Disturbance(
        task, seed, settings.limit_s, settings.action_noise_rad, settings.push_n
    )
    ticks = drive(task, lead, listeners, disturbance)
    truth = task.truth()
    return Rollout(
        seed, truth.success, truth.stage, truth.failure, ticks / task.command_hz, lead.rewards
    )


def record_rollout(
    engine: Engine, task: Task, seed: int, settings: RolloutSettings
) -> tuple[Rollout, Trace]:
    """Drive one episode and keep all of it; arguments as for ``roll_out``."""
    task.reset(seed)
    trace = Trace(expert=task.expert())
    rollout = roll_out(engine, task, seed, settings, [trace])
    trace.sent(task.command, Mode.POLICY)  # a last frame may have seen no command
    return rollout, trace


class UntilDone:
    """Whether an episode is over at a command's tick: success has lasted, or time is up."""

    def __init__(self, task: Task, settings: RolloutSettings) -> None:
        self._task = task
        self._limit = round(settings.limit_s * task.command_hz)
        self._hold = settings.hold_s * task.command_hz
        self._succeeded_at: int | None = None

    def __call__(self, tick: int) -> bool:
        """Ask once for each tick, in their order."""
        if not self._task.truth().success:
            self._succeeded_at = None
        elif self._succeeded_at is None:
            self._succeeded_at = tick
        held = self._succeeded_at is not None and tick - self._succeeded_at >= self._hold
        return held or tick >= self._limit


class _Policy:
    """Leads by a policy alone, until success has lasted or time is up."""

    mode = Mode.POLICY

    def __init__(self, engine: Engine, task: Task, settings: RolloutSettings) -> None:
        self.every = settings.replan_steps
        self.rewards: list[float | None] = []
        self._planned = Planned(task, engine, settings.latency_s, settings.combine)
        self._task, self._ticks = task, task.command_hz // task.rate_hz
        self.over = UntilDone(task, settings)

    def see(self, tick: int, observation: dict[str, Any]) -> tuple[bool, Prediction | None]:
        if tick % (self._ticks * self.every):
            return True, None
        prediction = self._planned.infer(tick, observation)
        self._planned.add(tick, prediction)
        self.rewards.append(prediction.reward)
        return True, prediction

    def command(self, tick: int) -> FloatArray | None:
        return self._planned.command(tick)
