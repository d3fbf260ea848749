"""Timed action chunks → the command that is due now."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.control.interpolation import (
    cubic_coefficients,
    linear_coefficients,
    monotone_slopes,
    smooth,
)
from rewact_ros.control.space import POSE_WIDTH, mean_rotation, slerp, vector
from rewact_ros.rotations import Quaternion, Vector, quaternion, rotation_vector

FloatArray = NDArray[np.float64]
COMBINE = ("replace", "crossfade", "ensemble")
INTERPOLATION = ("linear", "cubic")
# More chunks than this are never live at once, whatever floods the queue; the oldest leaves.
CAPACITY = 64
# LeRobot's policies predict 8 to 100 steps; reading this many takes less than a command period.
MOST_STEPS = 500
# Far beyond any joint, and sums and products of such values are still finite.
LARGEST = 1e100
# Keeps the smallest weight, exp(-m * CAPACITY), far from underflow.
MAX_COEFFICIENT = 10.0


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


@dataclass(slots=True)
class _Entry:
    """A chunk ready for sampling: `rows` are its steps (n, A), under them their slopes if cubic.

    `rotations` are those of each pose at the steps. It covers the times from `first_ns` to
    `end_ns`. Its weight rises over `fade_in_ns` from `fade_ns` on and falls over `fade_out_ns`
    before its end; from `opaque_ns` on nothing older counts. `begin` is its first row among those
    of all entries, `order` its place among all chunks ever taken.
    """

    first_ns: int
    end_ns: int
    fade_ns: int
    fade_in_ns: float
    fade_out_ns: float
    opaque_ns: float
    dt_ns: float
    steps: int
    rows: FloatArray
    rotations: list[list[Quaternion]]
    begin: int = 0
    order: int = 0


class ChunkQueue:
    """Combines overlapping chunks at the time of the command, so elapsed steps skip themselves.

    The output is a function of the chunks, their times of arrival and the time asked for: it does
    not matter when it was sampled before, so a stall is followed by no burst. It lies within the
    hull of the live chunks, joint by joint. Between its first and last command it is continuous in
    time, except that with `replace` a new chunk takes over at once: every other chunk comes in
    under a rising weight and leaves over its last step under a falling one. A chunk of one step is
    held until the next chunk, which takes its place after one step, and no longer than `max_age_s`.

    Args:
        joints: width A of a chunk.
        combine: `replace`, the newest chunk only; `crossfade`, the newest chunk fades in over
            `crossfade_s` against what would have been commanded without it; or `ensemble`, ACT's
            temporal ensembling with weights `exp(-m * i)`, i = 0 for the oldest (Zhao et al. 2023,
            §III-C), applied to steps that are due at the same time rather than to equal indices;
            a chunk reaches its full weight one step after it arrived.
        coefficient: m of the ensembling; 0 weighs all alike, below 0 favours the newest.
        max_age_s: chunks whose observation is older are dropped.
        interpolation: `linear`, or `cubic`: monotone, so without overshoot, and without the
            velocity steps that linear interpolation makes at every chunk step.
        crossfade_s: duration of the fade of `crossfade`.
        poses: first column of each pose among the joints. Rotations are interpolated by slerp and
            averaged on SO(3), whatever the interpolation of the rest.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        joints: int,
        combine: str = "ensemble",
        coefficient: float = 0.01,
        max_age_s: float = 0.5,
        interpolation: str = "linear",
        crossfade_s: float = 0.1,
        poses: tuple[int, ...] = (),
    ) -> None:
        if combine not in COMBINE:
            raise ValueError(f"combine: expected one of {', '.join(COMBINE)}, got '{combine}'")
        if interpolation not in INTERPOLATION:
            raise ValueError(f"interpolation: expected linear or cubic, got '{interpolation}'")
        if not abs(coefficient) <= MAX_COEFFICIENT:
            raise ValueError(
                f"coefficient: expected -{MAX_COEFFICIENT:g} to {MAX_COEFFICIENT:g}, "
                f"got {coefficient}"
            )
        for name, value in (("max_age_s", max_age_s), ("crossfade_s", crossfade_s)):
            if not 0 < value < np.inf:
                raise ValueError(f"{name}: expected a positive number of seconds, got {value}")
        self._joints = joints
        self._turns = [slice(first + 3, first + POSE_WIDTH) for first in poses]
        self._max_age_ns = round(max_age_s * NANO)
        self._cubic = interpolation == "cubic"
        self._combine = combine
        self._crossfade_ns = round(crossfade_s * NANO)
        self._coefficient = coefficient
        self._coefficients = cubic_coefficients if self._cubic else linear_coefficients
        self._entries: list[_Entry] = []
        self._order = 0
        self._rows: FloatArray = np.zeros((0, joints))
        self._newest_ns: int | None = None
        self._epoch = 0
        self._epoch_start_ns = 0

    def start_epoch(self, epoch: int, start_ns: int) -> None:
        """Drop all chunks; from now on accept only this epoch's, observed at or after its start."""
        self._entries, self._newest_ns = [], None
        self._epoch, self._epoch_start_ns = epoch, start_ns

    @property
    def newest_stamp_ns(self) -> int | None:
        """Observation stamp of the newest chunk of this epoch, None before the first."""
        return self._newest_ns

    def add(self, chunk: Chunk, now_ns: int, at_rest: bool = False) -> None:
        """Take a chunk, which counts from `now_ns` or from its own stamp on, whichever is later.

        Args:
            chunk: to take.
            now_ns: when it arrives.
            at_rest: the robot stands still. Where no other chunk covers this time and more than a
                step of this one has elapsed, its steps begin now: a slow policy's motion begins
                where the robot is, and not where it would have been by now.

        Raises:
            ChunkError: it is of another epoch, too old, from the future, out of order, of another
                width, empty or not finite.
        """
        self._check(chunk, now_ns)
        entry = self._prepare(chunk, now_ns, at_rest)
        self._order += 1
        entry.order = self._order
        oldest = self._order - CAPACITY
        live = [e for e in self._not_covered(now_ns) if e.end_ns >= now_ns and e.order > oldest]
        self._entries = [*live, entry]
        self._rows = np.concatenate([e.rows for e in self._entries])
        begin = 0
        for e in self._entries:
            e.begin, begin = begin, begin + len(e.rows)
        self._newest_ns = chunk.stamp_ns

    def sample(self, time_ns: int) -> FloatArray | None:
        """Command due at a time, (A,) in contract units; None when no live chunk covers it.

        The time must not lie before that of the last `add`.
        """
        live = [e for e in self._not_covered(time_ns) if e.first_ns <= time_ns <= e.end_ns]
        if not live:
            return None
        weights = self._weights(live, time_ns) if len(live) > 1 else (1.0,)
        # Plain numbers up to here: for a few chunks that is faster than arrays.
        rows: list[int] = []
        coefficients: list[float] = []
        for weight, entry in zip(weights, live, strict=True):
            index = (time_ns - entry.first_ns) / entry.dt_ns
            step = min(int(index), entry.steps - 2)
            row = entry.begin + step
            rows += (row, row + 1)
            if self._cubic:
                rows += (row + entry.steps, row + entry.steps + 1)
            coefficients += [weight * c for c in self._coefficients(index - step)]
        command = np.asarray(np.array(coefficients) @ self._rows[rows])
        for number, turn in enumerate(self._turns):
            command[turn] = self._rotation(number, live, list(weights), time_ns)
        return command

    def _rotation(
        self, number: int, live: list[_Entry], weights: list[float], time_ns: int
    ) -> Vector:
        """Rotation vector of one pose: between the steps of each chunk, then their mean."""
        rotations = []
        for entry in live:
            index = (time_ns - entry.first_ns) / entry.dt_ns
            step = min(int(index), entry.steps - 2)
            before, after = entry.rotations[number][step : step + 2]
            rotations.append(slerp(before, after, index - step))
        return rotation_vector(mean_rotation(rotations, weights))

    def _not_covered(self, time_ns: int) -> list[_Entry]:
        """The newest entry that has taken over fully, and what came after it."""
        first = 0
        for i, entry in enumerate(self._entries):
            if entry.opaque_ns <= time_ns:
                first = i
        return self._entries[first:]

    def _weights(self, live: list[_Entry], time_ns: int) -> list[float]:
        """Normalised weights of the live chunks, oldest first; continuous in time."""
        fades = [
            smooth(min((time_ns - e.fade_ns) / e.fade_in_ns, (e.end_ns - time_ns) / e.fade_out_ns))
            for e in live
        ]
        if self._combine == "ensemble" and live[-1].opaque_ns == np.inf:  # no single action
            # Only ratios count, so i may be 0 for the oldest that is still live.
            full = [math.exp(-self._coefficient * (e.order - live[0].order)) for e in live]
            weights = [fade * weight for fade, weight in zip(fades, full, strict=True)]
        else:
            full, weights, through = [1.0] * len(live), [], 1.0
            for fade in reversed(fades):
                weights.append(through * fade)
                through *= 1 - fade
            weights.reverse()
        total = sum(weights)
        if total <= 0.0:  # the very moment at which all begin or end
            weights, total = full, sum(full)
        return [weight / total for weight in weights]

    def _check(self, chunk: Chunk, now_ns: int) -> None:
        if chunk.epoch != self._epoch:
            raise OldEpochError(f"chunk of epoch {chunk.epoch}, current epoch is {self._epoch}")
        if chunk.positions.ndim != 2 or chunk.positions.shape[1] != self._joints:
            raise ChunkError(
                f"chunk has shape {chunk.positions.shape}, expected (steps, {self._joints})"
            )
        if len(chunk.positions) == 0:
            raise ChunkError("chunk has no steps")
        # Within these a step in ns neither rounds away nor, 500 times over, leaves 64 bits.
        if not 1e-6 <= chunk.dt_s <= 3600:
            raise ChunkError(f"chunk has steps of {chunk.dt_s} s, expected 1e-6 to 3600")
        if not (np.abs(chunk.positions) < LARGEST).all():  # so for NaN
            raise ChunkError("chunk holds values that are not finite")
        if chunk.stamp_ns < self._epoch_start_ns:
            raise OldEpochError("chunk was observed before its epoch began")
        if now_ns - chunk.stamp_ns > self._max_age_ns:
            raise ChunkError(f"chunk is {(now_ns - chunk.stamp_ns) / NANO:.2f} s old")
        if chunk.stamp_ns - now_ns > self._max_age_ns:
            raise ChunkError(
                f"chunk is stamped {(chunk.stamp_ns - now_ns) / NANO:.2f} s in the future"
            )
        if self._newest_ns is not None and chunk.stamp_ns <= self._newest_ns:
            raise ChunkError("chunk is not newer than the last one")

    def _prepare(self, chunk: Chunk, now_ns: int, at_rest: bool) -> _Entry:
        """Times and rows of a checked chunk; steps that are due after `max_age_s` are cut off."""
        # An action without a future is held until the next one, as LeRobot's loop does it.
        single = len(chunk.positions) == 1
        dt_ns = self._max_age_ns if single else chunk.dt_s * NANO
        late = at_rest and now_ns - chunk.stamp_ns > chunk.dt_s * NANO and not self._covers(now_ns)
        first_ns = now_ns if late else chunk.stamp_ns
        length_ns = max(len(chunk.positions) - 1, 1) * dt_ns
        end_ns = min(first_ns + round(length_ns), chunk.stamp_ns + self._max_age_ns)
        # Some more than are sampled, because a slope depends on its neighbours.
        rows = np.array(chunk.positions[: int(self._max_age_ns / dt_ns) + 4], dtype=np.float64)
        if single:  # two steps lie at either end of what is interpolated
            rows = np.repeat(rows, 2, axis=0)
        steps = len(rows)
        rotations = [[quaternion(vector(row[turn])) for row in rows] for turn in self._turns]
        if self._cubic:
            rows = np.concatenate((rows, monotone_slopes(rows)))
        begin_ns = max(now_ns, first_ns)
        fades = {"replace": 1} if single else {"replace": 1, "crossfade": self._crossfade_ns}
        fade_in_ns = fades.get(self._combine, chunk.dt_s * NANO)
        if self._combine == "replace" or not self._covers(begin_ns):  # nothing to fade against
            begin_ns -= math.ceil(fade_in_ns)
        full_ns = begin_ns + fade_in_ns
        # A chunk too short to take over fully leaves the older ones in place.
        takes_over = self._combine == "replace" or full_ns <= end_ns - dt_ns
        takes_over = single or (takes_over and self._combine != "ensemble")
        opaque_ns = full_ns if takes_over else np.inf
        return _Entry(
            first_ns,
            end_ns,
            begin_ns,
            fade_in_ns,
            chunk.dt_s * NANO,
            opaque_ns,
            dt_ns,
            steps,
            rows,
            rotations,
        )

    def _covers(self, time_ns: int) -> bool:
        return any(e.first_ns <= time_ns < e.end_ns for e in self._entries)
