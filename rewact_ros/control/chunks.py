"""Timed action chunks → the command that is due now."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO

FloatArray = NDArray[np.float64]


class ChunkError(ValueError):
    """A chunk that must not drive the arm; the message says why."""


class OldEpochError(ChunkError):
    """A chunk from before the current epoch: in flight when control changed hands, so expected."""


@dataclass(frozen=True)
class Chunk:
    """`positions[k]` (K, A) is due at `stamp_ns + k * dt_s`; the stamp is the observation's."""

    stamp_ns: int
    epoch: int
    positions: FloatArray
    dt_s: float

    def at(self, time_ns: int) -> FloatArray | None:
        """Linear interpolation at a time, (A,); None before the stamp or past the last step."""
        index = (time_ns - self.stamp_ns) / NANO / self.dt_s
        last = len(self.positions) - 1
        if index < 0 or index > last:
            return None
        k = min(int(index), max(last - 1, 0))
        if last == 0:
            return self.positions[0]
        a, b = self.positions[k], self.positions[k + 1]
        return a + (index - k) * (b - a)


class ChunkQueue:
    """Combines overlapping chunks at the time of the command, so elapsed steps skip themselves.

    Args:
        joints: width A of a chunk.
        combine: `replace` (the newest chunk only) or `ensemble`, ACT's temporal ensembling with
            weights `exp(-m * i)`, i = 0 for the oldest (Zhao et al. 2023, §III-C), applied to
            steps that are due at the same time rather than to equal indices.
        coefficient: m of the ensembling; 0 weighs all alike.
        max_age_s: chunks whose observation is older are dropped.
    """

    def __init__(
        self,
        joints: int,
        combine: str = "ensemble",
        coefficient: float = 0.01,
        max_age_s: float = 0.5,
    ) -> None:
        if combine not in ("replace", "ensemble"):
            raise ValueError(f"combine: expected 'replace' or 'ensemble', got '{combine}'")
        self._joints = joints
        self._combine = combine
        self._coefficient = coefficient
        self._max_age_ns = round(max_age_s * NANO)
        self._chunks: deque[Chunk] = deque(maxlen=1 if combine == "replace" else 64)
        self._epoch = 0
        self._epoch_start_ns = 0

    def start_epoch(self, epoch: int, start_ns: int) -> None:
        """Drop all chunks; from now on accept only this epoch's, observed at or after its start."""
        self._chunks.clear()
        self._epoch, self._epoch_start_ns = epoch, start_ns

    @property
    def newest_stamp_ns(self) -> int | None:
        """Observation stamp of the newest chunk, None while empty."""
        return self._chunks[-1].stamp_ns if self._chunks else None

    def add(self, chunk: Chunk, now_ns: int) -> None:
        """Take a chunk.

        Raises:
            ChunkError: it is of another epoch, too old, from the future, out of order, of another
                width, empty or not finite.
        """
        if chunk.epoch != self._epoch:
            raise OldEpochError(f"chunk of epoch {chunk.epoch}, current epoch is {self._epoch}")
        if chunk.positions.ndim != 2 or chunk.positions.shape[1] != self._joints:
            raise ChunkError(
                f"chunk has shape {chunk.positions.shape}, expected (steps, {self._joints})"
            )
        if len(chunk.positions) == 0:
            raise ChunkError("chunk has no steps")
        if not np.isfinite(chunk.positions).all():
            raise ChunkError("chunk holds values that are not finite")
        if chunk.stamp_ns < self._epoch_start_ns:
            raise OldEpochError("chunk was observed before its epoch began")
        if now_ns - chunk.stamp_ns > self._max_age_ns:
            raise ChunkError(f"chunk is {(now_ns - chunk.stamp_ns) / NANO:.2f} s old")
        if chunk.stamp_ns - now_ns > self._max_age_ns:
            raise ChunkError(
                f"chunk is stamped {(chunk.stamp_ns - now_ns) / NANO:.2f} s in the future"
            )
        newest = self.newest_stamp_ns
        if newest is not None and chunk.stamp_ns <= newest:
            raise ChunkError("chunk is not newer than the last one")
        self._chunks.append(chunk)

    def sample(self, time_ns: int) -> FloatArray | None:
        """Command due at a time, (A,) in contract units; None when no live chunk covers it."""
        while self._chunks and time_ns - self._chunks[0].stamp_ns > self._max_age_ns:
            self._chunks.popleft()
        due = [step for chunk in self._chunks if (step := chunk.at(time_ns)) is not None]
        if not due:
            return None
        if len(due) == 1:
            return due[0]
        weights = np.exp(-self._coefficient * np.arange(len(due)))
        return np.asarray(weights @ np.stack(due) / weights.sum())
