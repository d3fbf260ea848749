"""The one loop in which an episode of a simulated task is driven, on the simulation's own clock.

A `Lead` says what the robot does and when the episode is over: the scripted expert, a policy, a
policy with a person at hand, a learner. What watches (frames for a dataset, a film) listens.

Time convention, equal to the robot's: frame k is observed at k / rate_hz, before the command of
that moment is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.control.chunks import Chunk, ChunkQueue
from rewact_ros.control.modes import Mode
from rewact_ros.sim.human import ScriptedHuman
from rewact_ros.sim.task import FloatArray, Task, Truth
from rewact_ros.sim.timing import smooth_noise

if TYPE_CHECKING:  # torch, which demonstrations can do without
    from rewact_ros.policy.engine import Engine, Prediction


class Lead(Protocol):
    """Who leads an episode.

    Attributes:
        every: frames from one observation that it needs to the next.
        mode: of control, as the command path has it.
    """

    every: int

    @property
    def mode(self) -> Mode: ...

    def over(self, tick: int) -> bool:
        """Whether the episode has ended before this tick."""

    def see(self, tick: int, observation: dict[str, Any]) -> tuple[bool, Prediction | None]:
        """Take a frame's observation; whether the episode goes on, and what a policy said."""

    def command(self, tick: int) -> FloatArray | None:
        """(A,) to be sent now; None: nothing is."""


class Listener(Protocol):
    """Who watches an episode."""

    def frame(
        self, task: Task, tick: int, observation: dict[str, Any], prediction: Prediction | None
    ) -> None:
        """A frame was observed."""

    def sent(self, command: FloatArray, mode: Mode) -> None:
        """A command is sent."""


def drive(
    task: Task,
    lead: Lead,
    listeners: Sequence[Listener] = (),
    disturbance: Disturbance | None = None,
) -> int:
    """Drive to the end that the lead sets; returns the ticks of ``command_hz`` that it took.

    Args:
        task: reset to its scene.
        lead: who moves the robot.
        listeners: who watches.
        disturbance: what acts on command and scene.
    """
    tick, ticks = 0, task.command_hz // task.rate_hz
    while not lead.over(tick):
        frame, between = divmod(tick, ticks)
        if not between and (listeners or frame % lead.every == 0):
            observation = task.observe()
            goes_on, prediction = lead.see(tick, observation)
            for listener in listeners:
                listener.frame(task, tick, observation, prediction)
            if not goes_on:
                break
        command = lead.command(tick)
        if command is not None:
            if disturbance is not None:
                command = command + disturbance.noise(tick)
            task.set_command(command)
            for listener in listeners:
                listener.sent(command, lead.mode)
        if disturbance is not None:
            task.push(disturbance.force(tick))
        task.advance(1 / task.command_hz)
        tick += 1
    return tick


@dataclass
class FrameLog:
    """Everything about an episode, one entry per frame.

    Attributes:
        state: (S,) float32 measured joints each.
        action: (A,) float32 each: the first command sent at or after the frame.
        mode: of control while that command was sent.
        images: per camera, (H, W, 3) uint8 each.
        truths: of the simulation.
        notes: as `Task.note`.
        predictions: what a policy said, None where it was not asked.
    """

    state: list[NDArray[np.float32]] = field(default_factory=list)
    action: list[NDArray[np.float32]] = field(default_factory=list)
    mode: list[Mode] = field(default_factory=list)
    images: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    truths: list[Truth] = field(default_factory=list)
    notes: list[float] = field(default_factory=list)
    predictions: list[Prediction | None] = field(default_factory=list)

    def frame(
        self, task: Task, tick: int, observation: dict[str, Any], prediction: Prediction | None
    ) -> None:
        """Append what is true and seen now; the action comes with the next command."""
        self.state.append(observation["observation.state"])
        for camera in task.cameras:
            seen = observation[f"observation.images.{camera}"].copy()
            self.images.setdefault(camera, []).append(seen)
        self.truths.append(task.truth())
        self.notes.append(task.note())
        self.predictions.append(prediction)

    def sent(self, command: FloatArray, mode: Mode) -> None:
        """Take a command: it is the action of the frames that have none yet."""
        while len(self.action) < len(self.state):
            self.action.append(command.astype(np.float32))
            self.mode.append(mode)

    @property
    def reward(self) -> list[float]:
        """What the policy predicted, NaN where it did not."""
        said = (p.reward if p is not None else None for p in self.predictions)
        return [float("nan") if reward is None else reward for reward in said]


class Planned:
    """A policy's chunks on their way to the robot, as hil combines them.

    Args:
        task: for the clock, and for the text that tells a policy what to do.
        engine: the policy; its history is cleared.
        latency_s: from an observation until its chunk may act.
        combine: as ``ChunkQueue``.
    """

    def __init__(
        self, task: Task, engine: Engine, latency_s: float, combine: str = "ensemble"
    ) -> None:
        engine.reset()
        engine.instruction, engine.delay_s = task.text, latency_s
        self._engine, self._rate_hz, self._command_hz = engine, task.rate_hz, task.command_hz
        self._latency_ns = round(latency_s * NANO)
        self._queue = ChunkQueue(len(task.joints), combine, poses=task.poses)
        self._waiting: list[tuple[int, Chunk]] = []

    def infer(self, tick: int, observation: dict[str, Any]) -> Prediction:
        """Ask the policy, whose chunk `add` may then take."""
        return self._engine.infer(observation, tick / self._command_hz)

    def add(self, tick: int, prediction: Prediction) -> None:
        """Let a chunk act as soon as it could have arrived."""
        now_ns = self._ns(tick)
        actions = prediction.actions.astype(np.float64)
        chunk = Chunk(now_ns, 0, actions, 1 / self._rate_hz)
        self._waiting.append((now_ns + self._latency_ns, chunk))
        self._engine.drives()

    def command(self, tick: int) -> FloatArray | None:
        """(A,) that is due; None: nothing has arrived yet."""
        now_ns = self._ns(tick)
        while self._waiting and self._waiting[0][0] <= now_ns:
            at_rest = self._queue.newest_stamp_ns is None
            self._queue.add(self._waiting.pop(0)[1], now_ns, at_rest)
        return self._queue.sample(now_ns)

    def _ns(self, tick: int) -> int:
        return tick * NANO // self._command_hz


class Turns:
    """Who leads: the policy; nobody, once help was called; the person, until she lets go.

    Args:
        human: who may be called; None: nobody.
    """

    def __init__(self, human: ScriptedHuman | None) -> None:
        self.human = human
        self.mode = Mode.POLICY
        self.interventions = 0

    def call(self, now_s: float) -> None:
        """Hold, and ask for help."""
        assert self.human is not None
        self.mode = Mode.HOLD
        self.human.ask(now_s)

    def change(self) -> str:
        """Look at the deadman: ``done`` or ``back`` where the person has let go, else ``""``."""
        if self.human is None:
            return ""
        if self.mode is Mode.HOLD and self.human.pressed:
            self.mode = Mode.HUMAN
            self.interventions += 1
        elif self.mode is Mode.HUMAN and not self.human.pressed:
            if self.human.reason == "done":
                return "done"
            self.mode = Mode.POLICY
            return "back"
        return ""


class Disturbance:
    """Noise on the commands and a push of the task's object, both drawn by the scene's seed.

    Args:
        task: for joints and clock.
        seed: of the scene.
        limit_s: the longest that the episode may take.
        noise_rad: standard deviation of smooth noise on the arm's commands.
        push_n: force that pushes sideways for a moment, at a time drawn by the seed.
    """

    _PUSH_S = 0.1
    _PUSH_WINDOW_S = (0.5, 4.0)  # a push later than that meets a task that is done

    def __init__(
        self, task: Task, seed: int, limit_s: float, noise_rad: float, push_n: float
    ) -> None:
        rng = np.random.default_rng((seed, 2))  # not the stream that draws the scene
        self._ticks = task.command_hz // task.rate_hz
        self._push_tick = round(rng.uniform(*self._PUSH_WINDOW_S) * task.command_hz)
        self._push_ticks = self._PUSH_S * task.command_hz
        angle = rng.uniform(-math.pi, math.pi)
        self._force = push_n * np.array([math.cos(angle), math.sin(angle), 0.0])
        frames = round(limit_s * task.rate_hz) + 2
        self._noise = smooth_noise(frames, noise_rad, rng, task.noisy, task.rate_hz)

    def noise(self, tick: int) -> FloatArray:
        """(A,) rad at a command tick, linear between frames."""
        frame, step = divmod(tick, self._ticks)
        here, there = self._noise[frame : frame + 2]
        return np.asarray(here + (there - here) * step / self._ticks)

    def force(self, tick: int) -> FloatArray:
        """(3,) N that acts during this tick."""
        pushed = 0 <= tick - self._push_tick < self._push_ticks
        return np.asarray(self._force if pushed else np.zeros(3))
