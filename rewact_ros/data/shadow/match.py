"""Chunks of two policies that were made from the same observation, found by their stamps."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rewact_ros.data.shadow.axes import Axes
from rewact_ros.stamps import NANO

FloatArray = NDArray[np.float64]
# So many chunks wait for their partner; a slower one is given up.
MOST_WAITING = 1000
# Beside the first action of a chunk: what it means to do this much later.
AHEAD_S = 0.5


@dataclass(frozen=True)
class Predicted:
    """One chunk: `actions` (K, A) from `stamp_ns` on, one a step of the contract's rate."""

    stamp_ns: int
    epoch: int
    actions: FloatArray


@dataclass(frozen=True)
class Match:
    """The two chunks of one observation, reduced to what is reported.

    Attributes:
        stamp_ns: of the observation.
        start, mean, end: (J,) distance of the first action, over the steps that both have, and of
            the last of these, in the units of the axes.
        now, ahead: (2, A) first actions, and those of about `AHEAD_S` later: running, shadow.
        ahead_ns: when the latter are due.
    """

    stamp_ns: int
    start: FloatArray
    mean: FloatArray
    end: FloatArray
    now: FloatArray
    ahead: FloatArray
    ahead_ns: int


@dataclass
class MatchCounts:
    """How the observations of the two fit together.

    Attributes:
        running, shadow: chunks of each.
        matched: observations that both predicted from.
        missed: chunks of the running policy without one of the shadow, which skipped that
            observation, or had none of it.
        longest_silence_s: longest time in which the shadow missed all of them.
        other_epoch: pairs of different control epochs, whose histories differ; they are left out.
    """

    running: int = 0
    shadow: int = 0
    matched: int = 0
    missed: int = 0
    longest_silence_s: float = 0.0
    other_epoch: int = 0


@dataclass
class Matcher:
    """Takes chunks in any order and pairs those of one stamp.

    Attributes:
        counts: complete once `close` was called.
    """

    axes: Axes
    dt_s: float
    counts: MatchCounts = field(default_factory=MatchCounts)
    _waiting: tuple[dict[int, Predicted], dict[int, Predicted]] = field(
        default_factory=lambda: ({}, {})
    )
    _running_ns: set[int] = field(default_factory=set)
    _shadow_ns: set[int] = field(default_factory=set)

    def put(self, chunk: Predicted, of_shadow: bool) -> Match | None:
        """Take a chunk; the pair that it completes, if it does."""
        seen = self._shadow_ns if of_shadow else self._running_ns
        if chunk.stamp_ns in seen:
            return None  # told twice: the first counts
        seen.add(chunk.stamp_ns)
        mine, others = self._waiting[of_shadow], self._waiting[not of_shadow]
        other = others.pop(chunk.stamp_ns, None)
        if other is None:
            mine[chunk.stamp_ns] = chunk
            if len(mine) > MOST_WAITING:
                del mine[next(iter(mine))]
            return None
        if other.epoch != chunk.epoch:
            self.counts.other_epoch += 1
            return None
        self.counts.matched += 1
        running, shadow = (other, chunk) if of_shadow else (chunk, other)
        return self._match(running, shadow)

    def _match(self, running: Predicted, shadow: Predicted) -> Match:
        steps = min(len(running.actions), len(shadow.actions))
        ours, theirs = running.actions[:steps], shadow.actions[:steps]
        far = self.axes.distances(ours, theirs)
        ahead = min(round(AHEAD_S / self.dt_s), steps - 1)
        return Match(
            running.stamp_ns,
            start=far[0],
            mean=far.mean(axis=0),
            end=far[-1],
            now=np.stack([ours[0], theirs[0]]),
            ahead=np.stack([ours[ahead], theirs[ahead]]),
            ahead_ns=running.stamp_ns + round(ahead * self.dt_s * NANO),
        )

    def close(self) -> None:
        """Count what never found its partner."""
        counts = self.counts
        counts.running, counts.shadow = len(self._running_ns), len(self._shadow_ns)
        counts.missed = len(self._running_ns - self._shadow_ns)
        since_ns: int | None = None  # the first of those missed in a row
        for stamp_ns in sorted(self._running_ns):
            if stamp_ns in self._shadow_ns:
                since_ns = None
                continue
            since_ns = stamp_ns if since_ns is None else since_ns
            silence_s = (stamp_ns - since_ns) / NANO + self.dt_s
            counts.longest_silence_s = max(counts.longest_silence_s, silence_s)
