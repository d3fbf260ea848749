"""The learner's end of the pull: what to ask the robot for, and what is taken of what comes.

The robot keeps every transition in its journal and sends those that are asked for. The learner asks
for the first one that it has not got until it comes, so nothing is lost or taken twice, whatever
the network, the robot or the learner do in between.
"""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from .journal import JournalError, from_record
from .transitions import FrameSpec, Transition, TransitionError

# Transitions that may wait; the others wait at the robot. Half of it takes one answer
# (`outbox.WINDOW`), so it asks again while the learner still has work.
_ROOM = 64
_FULL_ASK_S = 1.0  # with no room left, asking is a sign of life only


@dataclass(frozen=True)
class Wish:
    """What to ask for: transitions of ``run`` (empty: of any) from number ``first`` on."""

    run: str
    first: int


class Feed:
    """Keeps order; one thread offers what comes, another takes it.

    Attributes:
        run: journal of the robot that is followed; empty: none yet.
        refused: why the last offer was refused; empty: it was taken.

    Args:
        run: journal to follow; empty: the first that answers.
        have: transitions of it that are on disk here.
        robot: contract hash that transitions must be of.
    """

    def __init__(self, run: str, have: int, robot: str) -> None:
        self.run, self._robot = run, robot
        self._next = self._there = have
        self._waiting: deque[Transition] = deque()
        self._change = threading.Condition()
        self._asked_s = float("-inf")
        self.refused = ""

    @property
    def behind(self) -> int:
        """Transitions at the robot or on their way that were not taken yet."""
        with self._change:
            return self._there - self._next + len(self._waiting)

    def wish(self, now_s: float) -> Wish | None:
        """What to ask for now; None: nothing, there is no room."""
        with self._change:
            full = len(self._waiting) >= _ROOM // 2
            if full and now_s - self._asked_s < _FULL_ASK_S:
                return None
            self._asked_s = now_s
            return Wish(self.run, self._next)

    def offer(self, run: str, robot: str, number: int, count: int, record: bytes) -> None:
        """Take what came if it is the next one; what comes twice or too early is left.

        Args:
            run: journal that it is of, which now holds ``count`` transitions.
            robot: contract hash of the robot.
            number: in that journal.
            record: as the journal keeps it.
        """
        with self._change:
            if self.run and run != self.run:
                self.refused = f"transitions of journal {run}: expected {self.run}"
            elif robot != self._robot:
                self.refused = f"transitions of robot {robot}: expected contract {self._robot}"
            else:
                self._there = max(self._there, count)
                if number == self._next and len(self._waiting) < _ROOM:
                    self._accept(run, record)

    def _accept(self, run: str, record: bytes) -> None:
        try:
            self._waiting.append(from_record(record))
        except JournalError as error:  # it is asked for again
            self.refused = str(error)
            return
        self.run, self.refused = run, ""
        self._next += 1
        self._change.notify()

    def take(self, timeout_s: float) -> Transition | None:
        """The next transition; None if none comes in time."""
        with self._change:
            self._change.wait_for(lambda: bool(self._waiting), timeout_s)
            return self._waiting.popleft() if self._waiting else None


def check_transition(transition: Transition, spec: FrameSpec) -> None:
    """Raise unless every frame, action and reward is what this run learns from, and finite.

    Raises:
        TransitionError: the first value that is not, and in which transition.
    """
    try:
        steps = len(transition)
        if not steps:
            raise TransitionError("action: expected at least one step, got none")
        for name, values in transition.observations.items():
            if len(values) != steps + 1:
                raise TransitionError(f"{name}: expected {steps + 1} frames, got {len(values)}")
        for k in range(steps + 1):
            spec.check({name: values[k] for name, values in transition.observations.items()})
        for name, values, shape in (
            ("action", transition.action, (steps, spec.action_dim)),
            ("reward", transition.reward, (steps,)),
        ):
            if values.shape != shape or not np.isfinite(values).all():
                raise TransitionError(f"{name}: expected {shape} finite numbers, got {values}")
    except TransitionError as error:
        where = f"episode {transition.episode}, step {transition.first}"
        raise TransitionError(f"{where}: {error}; nothing was learned from it") from None
