"""Executed steps in memory-mapped arrays, and windows of them as training samples.

The arrays are a cache of the journal: they are made anew when a run is resumed, so they need not
survive a crash.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .transitions import FrameSpec, Observation, Transition

_TAIL = -1  # segment of an observation that no executed step follows


class ReplayError(RuntimeError):
    """The buffer cannot be made; says how much room it needs."""


@dataclass(frozen=True)
class Windows:
    """B samples; each is a run of k <= n_step steps of one source within one episode.

    Attributes:
        observation: per name (B, history, ...), oldest first; the newest is before the window.
        next_observation: per name (B, history, ...); the newest is after the window.
        action: (B, horizon, A) executed; from where its segment ends on its last action, which
            is what the robot holds after the end of an episode.
        length: (B,) share of the ``steps`` that was executed as decided: 1, or less where
            a takeover cut it.
        reward: (B,) sum of gamma^i r_i over the window, verified reward only.
        discount: (B,) gamma^k, 0 where the window ends the episode for good.
        human: (B,) bool, whether a human gave the window's commands.
        human_steps: (B, horizon) bool, which of ``action`` a human gave.
        own_steps: (B, horizon) bool, which of ``action`` the policy gave in a turn that it ended by
            success itself.
    """

    observation: Observation
    next_observation: Observation
    action: NDArray[np.float32]
    length: NDArray[np.float32]
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    human: NDArray[np.bool_]
    human_steps: NDArray[np.bool_]
    own_steps: NDArray[np.bool_]


class Replay:
    """A ring of robot steps; when it is full the oldest steps leave.

    Steps of one source in a row form a segment, and no window leaves its segment: it ends where
    somebody else took over, and at the end of the episode.

    Args:
        spec: what an observation is made of.
        capacity: rows; an episode takes one more than it has steps.
        folder: of the memory-mapped arrays, emptied first; None: keep them in memory.

    Raises:
        ReplayError: no room on the disk.
    """

    def __init__(self, spec: FrameSpec, capacity: int, folder: Path | None = None) -> None:
        self.spec, self.capacity = spec, capacity
        self._observations = {
            name: _array(folder, name, (capacity, *shape), dtype)
            for name, (shape, dtype) in spec.arrays.items()
        }
        self._action = np.zeros((capacity, spec.action_dim), np.float32)
        self._reward = np.zeros(capacity, np.float32)
        self._human = np.zeros(capacity, bool)
        self._terminated = np.zeros(capacity, bool)
        self._won = np.zeros(capacity, bool)  # in a segment that ended by success
        self._ended = np.zeros(capacity, bool)
        self._segment = np.full(capacity, _TAIL, np.int64)
        self._run = np.full(capacity, _TAIL, np.int64)
        self._head = 0  # row of the next step; its observation may be there already
        self._next: tuple[str, int] | None = None  # what would continue the newest run
        self._segments = self._runs = 0

    def __len__(self) -> int:
        """Steps that a window can begin with."""
        return int((self._segment != _TAIL).sum())

    @property
    def bytes(self) -> int:
        """Size of the full buffer, on disk and in memory."""
        arrays = [*self._observations.values(), *vars(self).values()]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    def add(self, transition: Transition) -> None:
        """Take a transition; one that continues the last one continues its run."""
        if self._next != (transition.episode, transition.first):
            if self._next is not None:
                self._head = (self._head + 1) % self.capacity  # keep the last run's end
            self._runs += 1
            self._segments += 1
        elif bool(self._human[self._head - 1]) != transition.human:
            self._segments += 1
        for k in range(len(transition)):
            row = self._put(transition, k)
            self._action[row] = transition.action[k]
            self._reward[row] = transition.reward[k]
            self._human[row] = transition.human
            self._segment[row] = self._segments
            self._terminated[row] = self._ended[row] = self._won[row] = False
            self._head = (row + 1) % self.capacity
        self._terminated[row] = transition.terminated
        self._ended[row] = transition.ended
        if transition.success:
            self._won |= self._segment == self._segments
        tail = self._put(transition, len(transition))
        self._segment[tail] = _TAIL
        if transition.ended:
            self._next, self._head = None, (tail + 1) % self.capacity
        else:
            self._next = (transition.episode, transition.first + len(transition))

    def sample(
        self,
        rng: np.random.Generator,
        size: int,
        steps: int,
        n_step: int,
        discount: float,
        history: int = 1,
        horizon: int = 0,
        human: bool = False,
    ) -> Windows:
        """Draw windows uniformly over the steps that they begin with, with replacement.

        Args:
            rng: of the draw.
            size: B.
            steps: actions per window.
            n_step: rewards per window.
            discount: gamma, per step.
            history: observations, one step apart; a run's first stands in for those before it.
            horizon: actions to imitate; at least ``steps``.
            human: only windows of a human.

        Raises:
            ReplayError: there is no such step.
        """
        wanted = self._segment != _TAIL
        starts = np.flatnonzero(wanted & self._human if human else wanted)
        if not len(starts):
            raise ReplayError("the replay buffer is empty: nothing was executed yet")
        rows = starts[rng.integers(len(starts), size=size)]
        return self.windows(rows, steps, n_step, discount, history, horizon)

    def windows(
        self,
        rows: NDArray[np.integer],
        steps: int,
        n_step: int,
        discount: float,
        history: int = 1,
        horizon: int = 0,
    ) -> Windows:
        """The windows (B,) that begin at rows of steps; arguments as for ``sample``."""
        horizon = max(horizon, steps)
        ahead = (rows[:, None] + np.arange(max(horizon, n_step))) % self.capacity
        inside = np.logical_and.accumulate(
            self._segment[ahead] == self._segment[rows][:, None], axis=1
        )
        available = inside.sum(1)
        taken = np.minimum(available, n_step)
        last = (rows + taken - 1) % self.capacity
        after = (rows + taken) % self.capacity
        powers = discount ** np.arange(n_step)
        counted = np.arange(n_step) < taken[:, None]
        reward = (self._reward[ahead[:, :n_step]] * counted * powers).sum(1)
        decided = np.minimum(available, steps)
        end = (rows + decided - 1) % self.capacity
        executed = np.arange(horizon) < available[:, None]
        index = np.minimum(np.arange(horizon), available[:, None] - 1)
        human, won = self._human[rows], self._won[rows]
        return Windows(
            observation=self._seen(rows, history),
            next_observation=self._seen(after, history),
            action=self._action[(rows[:, None] + index) % self.capacity],
            # After its end the robot holds the last command: such a chunk was executed as decided.
            length=np.where(self._ended[end], 1.0, decided / steps).astype(np.float32),
            reward=reward.astype(np.float32),
            discount=np.where(self._terminated[last], 0.0, discount**taken).astype(np.float32),
            human=human,
            human_steps=human[:, None] & executed,
            own_steps=(won & ~human)[:, None] & executed,
        )

    @property
    def human_steps(self) -> int:
        """Steps of a human that a window can begin with."""
        return int(((self._segment != _TAIL) & self._human).sum())

    def _put(self, transition: Transition, k: int) -> int:
        """Write an observation at the head; returns its row."""
        row = self._head
        for name, array in self._observations.items():
            array[row] = transition.observations[name][k]
        self._run[row] = self._runs
        return row

    def _seen(self, rows: NDArray[np.integer], history: int) -> Observation:
        """Observations (B, history, ...) up to rows, not beyond the beginning of their run."""
        past = [rows]
        for _ in range(history - 1):
            before = (past[0] - 1) % self.capacity
            past.insert(0, np.where(self._run[before] == self._run[rows], before, past[0]))
        index = np.stack(past, axis=1)
        return {name: array[index] for name, array in self._observations.items()}


def _array(folder: Path | None, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """A zeroed array, in memory or mapped from a file whose room is taken at once."""
    if folder is None:
        return np.zeros(shape, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.npy"
        file.unlink(missing_ok=True)
        array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        with open(file, "r+b") as handle:  # writing to a mapped file on a full disk kills
            os.posix_fallocate(handle.fileno(), array.offset, array.nbytes)
    except OSError as error:
        need = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raise ReplayError(
            f"{folder}: {name} needs {need / 1e6:.0f} MB: {error.strerror or error}; free the "
            "disk, or lower online_buffer_capacity, offline_buffer_capacity or image_size"
        ) from error
    return array
