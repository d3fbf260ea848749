"""Decisions, commands, modes and episode events, heard in any order, become transitions.

A step lies between two observations of the policy. Its action is the command in force at its end,
and who led then gave it. A step that nobody led (HOLD, reset, a pause, a policy whose chunks of the
present epoch have not come), one with a missing observation and one without a command belong to no
transition: the turn breaks off before it, and the next one begins a run of its own.
"""

import math
from collections import Counter, deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode
from rewact_ros.supervision.verdict import Change, Outcome

from .timeline import Timeline
from .transitions import (
    CANDIDATES,
    FrameSpec,
    Observation,
    Transition,
    TransitionBuilder,
    TransitionError,
)

# What has not come by then does not come. Less would lose steps to a late message, more would hold
# a turn's end back from the learner where a stream has died.
_PATIENCE_NS = NANO
_KEEP_NS = 5 * NANO  # a look back goes as far as patience and one step; the rest is clocks apart


@dataclass(frozen=True)
class Decided:
    """What the policy saw and decided: a ``msg/Decision`` as it was heard.

    Attributes:
        stamp_ns: of the observation.
        epoch: that it was decided for.
        version: of the policy.
        observation: as the replay keeps it.
        value, decided: as of ``Decision``.
    """

    stamp_ns: int
    epoch: int
    version: str
    observation: Observation
    value: float
    decided: bool


@dataclass(frozen=True)
class Happened:
    """One change in the life of an episode, and when."""

    stamp_ns: int
    episode: str
    change: Change
    outcome: Outcome = Outcome.UNLABELLED


class ExecutedSteps:
    """Feed it what is heard, call `step` now and then, and keep what it returns.

    Attributes:
        episode: that is being recorded; empty: none.
        recorded: steps in transitions.
        left_out: steps and observations in none, by reason.
        refused: why an observation or command was refused last, or an empty string.

    Args:
        dt_s: duration of a robot step.
        action_dim: A.
        like: a transition that the new ones must resemble; None: as the first observation.
    """

    def __init__(self, dt_s: float, action_dim: int, like: Transition | None = None) -> None:
        self.episode = self.refused = ""
        self.recorded = 0
        self.left_out: Counter[str] = Counter()
        self._dt_ns, self._action_dim = dt_s * NANO, action_dim
        self._spec: FrameSpec | None = None
        if like is not None:
            self._spec = _spec_of({n: a[0] for n, a in like.observations.items()}, action_dim)
        self._builder: TransitionBuilder | None = None
        self._decisions: deque[Decided] = deque()
        self._events: deque[Happened] = deque()
        self._commands = Timeline[NDArray[np.float64]]()
        self._control = Timeline[tuple[Mode, int]]()
        self._previous: Decided | None = None
        self._running = self._asked = False
        self._held: Transition | None = None  # the verdict may still concern it
        self._done: list[Transition] = []

    # Inputs -----------------------------------------------------------------------------------

    def decision(self, seen: Decided) -> None:
        """Take what the policy saw and decided; one that is not sound counts as missing."""
        newest = self._decisions[-1] if self._decisions else self._previous
        if newest is not None and seen.stamp_ns <= newest.stamp_ns:
            self.left_out["observation out of order"] += 1
            return
        try:
            spec = self._spec or _spec_of(seen.observation, self._action_dim)
            spec.check(seen.observation)
        except TransitionError as error:
            self.refuse(str(error))
            return
        self._spec = spec
        self._decisions.append(seen)

    def refuse(self, reason: str) -> None:
        """Note that something came that must not be learned from."""
        self.refused = reason
        self.left_out["refused"] += 1

    def command(self, time_ns: int, values: NDArray[np.float64]) -> None:
        """Take a command (A,) that is in force from a time on."""
        self._commands.add(time_ns, values)

    def control(self, time_ns: int, mode: Mode, epoch: int) -> None:
        """Take what the arbitration says at a time."""
        now = self._control.at(time_ns)
        if now is None or now[1] != (mode, epoch):
            self._control.add(time_ns, (mode, epoch))
        self._control.heard_ns = max(self._control.heard_ns, time_ns)

    def event(self, happened: Happened) -> None:
        """Take a change in the life of an episode."""
        self._events.append(happened)

    # Steps ------------------------------------------------------------------------------------

    def step(self, now_ns: int) -> list[Transition]:
        """Work off what is complete; returns finished transitions in the order of their steps."""
        while self._decisions and self._settled(self._decisions[0].stamp_ns, now_ns):
            self._advance(self._decisions.popleft())
        while self._events and self._events[0].stamp_ns < now_ns - _PATIENCE_NS:
            self._happen(self._events.popleft(), None)
        for timeline in (self._commands, self._control):
            timeline.forget(now_ns - _KEEP_NS)
        done, self._done = self._done, []
        return done

    def stop(self) -> list[Transition]:
        """Break the turn off for good; returns what there is of it."""
        if self._builder is not None and self._previous is not None:
            self._hold_back(self._builder.pause(self._previous.observation))
        self._let_go()
        self.episode = ""
        done, self._done = self._done, []
        return done

    def _settled(self, time_ns: int, now_ns: int) -> bool:
        """Whether what was in force at a time is known, or will not become known."""
        heard_ns = min(self._commands.heard_ns, self._control.heard_ns)
        return heard_ns >= time_ns or now_ns - time_ns > _PATIENCE_NS

    def _advance(self, seen: Decided) -> None:
        """Take the step that ends with an observation."""
        closed = False
        while self._events and self._events[0].stamp_ns <= seen.stamp_ns:
            closed |= self._happen(self._events.popleft(), None if closed else seen)
        if not closed and self.episode and self._previous is not None:
            human = self._leader(seen.stamp_ns, seen.stamp_ns - 1)
            if human is None or not self._add(seen.stamp_ns, human):
                self._break_off()
        self._previous = seen

    def _leader(self, end_ns: int, at_ns: int) -> bool | None:
        """Who led at a time within the step that ends: a human, the policy; None: it is left out.

        Args:
            end_ns: end of the step.
            at_ns: when it counts who led.
        """
        previous, control = self._previous, self._control.at(at_ns)
        assert previous is not None
        command = self._commands.at(end_ns)
        why = ""
        if not 0.5 < (end_ns - previous.stamp_ns) / self._dt_ns < 1.5:  # rounds to one step
            why = "observation missing"
        elif command is None or command[0] < previous.stamp_ns - self._dt_ns:
            why = "no command"
        elif control is not None and control[1][0] is Mode.HUMAN and self._running:
            return True
        elif control is not None and not self._asked:
            since_ns, (mode, epoch) = control
            if mode is Mode.POLICY and epoch == previous.epoch and since_ns <= previous.stamp_ns:
                return False
        self.left_out[why or "nobody led"] += 1
        return None

    def _add(self, end_ns: int, human: bool) -> bool:
        """Record the step that ends; false where its command is refused."""
        previous, command = self._previous, self._commands.at(end_ns)
        assert previous is not None and command is not None and self._spec is not None
        if self._builder is None:
            self._builder = TransitionBuilder(self._spec, self._spec.arrays[CANDIDATES][0][1])
            self._builder.begin(self.episode)
        value, decided = (math.nan, False) if human else (previous.value, previous.decided)
        try:
            done = self._builder.add(
                previous.observation, command[1], human, previous.version, value, decided
            )
        except TransitionError as error:
            self.refuse(str(error))
            return False
        self._let_go()
        self._keep(done)
        self.recorded += 1
        return True

    def _break_off(self) -> None:
        """Nobody led, or what was done is not known: the turn ends with the last observation."""
        assert self._previous is not None
        if self._builder is not None:  # steps count from the first one that somebody led
            self._hold_back(self._builder.pause(self._previous.observation))
            self._builder.skip()

    # Episodes ---------------------------------------------------------------------------------

    def _happen(self, event: Happened, seen: Decided | None) -> bool:
        """Take an event; returns whether it closed the step that ends with ``seen``."""
        known = event.episode == self.episode
        if event.change is Change.STARTED or (event.change is Change.RUNNING and not known):
            self._end(event.stamp_ns, seen, False, 0.0)  # without a verdict: cut off
            self._begin(event.episode)
            closed = True
        elif not known:
            return False
        elif event.change is Change.HELP:
            self._turn_ends(event.stamp_ns, seen, True, 0.0)
            closed = self._asked = True
        elif event.change is Change.VERDICT:
            success = event.outcome is Outcome.SUCCESS
            self._end(event.stamp_ns, seen, success, float(success))
            closed = True
        else:
            closed = False
        self._running |= event.change is Change.RUNNING
        self._asked &= event.change is not Change.RESUMED
        return closed

    def _begin(self, episode: str) -> None:
        self.episode, self._running, self._asked = episode, False, False
        self._builder = None

    def _end(self, at_ns: int, seen: Decided | None, terminated: bool, reward: float) -> None:
        """The episode is over."""
        if self.episode:
            self._turn_ends(at_ns, seen, terminated, reward)
            self._let_go()
        self.episode = ""

    def _turn_ends(self, at_ns: int, seen: Decided | None, terminated: bool, reward: float) -> None:
        """The turn is over, at an observation soon after the event, else at the last one.

        Where nobody has led since the last turn, the verdict is that turn's.
        """
        last, done = self._previous, None
        if seen is not None and last is not None:
            human = self._leader(seen.stamp_ns, at_ns)
            if human is not None and self._add(seen.stamp_ns, human):
                last = seen
            elif self._builder is not None:
                self._builder.skip()
        if last is not None and self._builder is not None:
            done = self._builder.end(last.observation, terminated, reward)
        if done is not None:
            self._hold_back(done)
        elif self._held is not None and (reward or not self._held.ended):
            rewards = self._held.reward.copy()
            rewards[-1] += reward
            self._held = replace(
                self._held,
                reward=rewards,
                terminated=terminated,
                truncated=not terminated,
                success=reward > 0,
            )

    def _hold_back(self, done: Transition | None) -> None:
        """Keep a turn's last transition until the next turn or the verdict."""
        if done is not None:
            self._let_go()
            self._held = done

    def _let_go(self) -> None:
        held, self._held = self._held, None
        self._keep(held)

    def _keep(self, done: Transition | None) -> None:
        if done is not None:
            self._done.append(done)


def _spec_of(observation: Observation, action_dim: int) -> FrameSpec:
    """What every observation must be like, from one of them.

    Raises:
        TransitionError: it lacks the base's plan.
    """
    plan = observation.get(CANDIDATES)
    if plan is None or plan.ndim != 3:
        raise TransitionError(
            f"{CANDIDATES}: expected chunks (N, steps, {action_dim}) of the base policy, got "
            f"{'none' if plan is None else plan.shape}"
        )
    arrays = {name: (value.shape, str(value.dtype)) for name, value in observation.items()}
    return FrameSpec(arrays, action_dim)
