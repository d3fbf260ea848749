"""Progress labels of demonstrations, in [0, 1], timed by what really happened."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALL_FRAMES = 5
# A joint has moved when it went further than this many of its usual steps, which noise does not.
_MOVED_STEPS, _MOVED = 10, 1e-3  # rad or m
_ARRIVED = 0.05  # of a joint's way: nearer to where it ends, it has arrived
LONG_STILL_S = 2.0  # longer than a person takes to judge


def progress_ramp(n_frames: int, start: float = 0.05, end: float = 0.95) -> NDArray[np.float32]:
    """Return the label of an undisturbed success: 0, then linear in time, then 1.

    Args:
        n_frames: frames of the episode, at least 1.
        start: share of the episode that is labelled 0.
        end: share of the episode from which on the label is 1.

    Returns:
        (n_frames,) float32; frame k lies at share k / (n_frames - 1), a lone frame at the end.

    Raises:
        ValueError: `n_frames` below 1, or not 0 <= start < end <= 1.
    """
    _require_count("n_frames", n_frames, 1)
    _require_shares(start, end)
    if n_frames == 1:
        return np.ones(1, np.float32)
    return _ramp(np.arange(n_frames), float(n_frames - 1), start, end)


def task_progress(
    n_frames: int,
    nominal_frames: int,
    success_frame: int | None = None,
    failure_frame: int | None = None,
    resume_frame: int | None = None,
    start: float = 0.05,
    end: float = 0.95,
) -> NDArray[np.float32]:
    """Return the labels of an episode in which the task succeeded, failed, or failed and recovered.

    Each attempt climbs as `progress_ramp` does, with 1 reached exactly at `success_frame`, and
    stays at 1 while the clip goes on. A failed attempt climbs as a success that takes
    `nominal_frames` would, up to `failure_frame`, then falls to 0 within `FALL_FRAMES` frames and
    stays there; a retry climbs again from `resume_frame`.

    Args:
        n_frames: frames of the episode.
        nominal_frames: frames that an undisturbed success takes.
        success_frame: first frame of success, None for a failed episode.
        failure_frame: first frame of a failure, None for an undisturbed success.
        resume_frame: first frame of the renewed approach after the failure.
        start, end: as for `progress_ramp`.

    Returns:
        (n_frames,) float32.

    Raises:
        ValueError: counts below 1, frames outside the episode or out of order, neither success nor
            failure, or a success after a failure without `resume_frame`.
    """
    _require_count("n_frames", n_frames, 1)
    _require_count("nominal_frames", nominal_frames, 1)
    _require_shares(start, end)
    _require_order(n_frames, failure_frame, resume_frame, success_frame)
    if success_frame is None and failure_frame is None:
        raise ValueError("an episode needs a success_frame or a failure_frame; got neither")
    if failure_frame is None:
        return _climb(n_frames, success_frame or 0, start, end)
    labels = np.zeros(n_frames, dtype=np.float32)
    labels[: failure_frame + 1] = _climb(failure_frame + 1, nominal_frames, start, end)
    fall = np.linspace(1.0, 0.0, FALL_FRAMES + 1)[1:] * labels[failure_frame]
    stop = min(n_frames, failure_frame + 1 + FALL_FRAMES)
    labels[failure_frame + 1 : stop] = fall[: stop - failure_frame - 1]
    if success_frame is not None:
        if resume_frame is None:
            raise ValueError("a success after a failure needs resume_frame; got None")
        again = _climb(n_frames - resume_frame, success_frame - resume_frame, start, end)
        labels[resume_frame:] = again
    return labels


def still_frames(state: NDArray[Any]) -> int:
    """Count the frames at the end of an episode in which no joint moves any more.

    Args:
        state: (n, S) joints, whatever their units; their noise does not count as motion.
    """
    if len(state) <= _MOVED_STEPS + 1:
        return 0  # too short to tell noise from motion
    way, noise = np.ptp(state, axis=0), np.median(np.abs(np.diff(state, axis=0)), axis=0)
    moved = way > np.maximum(_MOVED_STEPS * noise, _MOVED)
    near = np.maximum(_ARRIVED * way, _MOVED_STEPS / 2 * noise)[moved]
    under_way = (np.abs(state[:, moved] - np.median(state[-3:, moved], axis=0)) > near).any(axis=1)
    return len(state) - 1 - int(np.flatnonzero(under_way)[-1]) if under_way.any() else len(state)


def _climb(n_frames: int, done_frame: int, start: float, end: float) -> NDArray[np.float32]:
    """Ramp of `n_frames` that reaches 1 at `done_frame` and stays there."""
    if done_frame == 0:
        return np.ones(n_frames, np.float32)
    return _ramp(np.arange(n_frames), done_frame / end, start, end)


def _ramp(
    frames: NDArray[np.integer], last: float, start: float, end: float
) -> NDArray[np.float32]:
    return np.clip((frames / last - start) / (end - start), 0.0, 1.0).astype(np.float32)


def _require_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {value!r}")


def _require_shares(start: float, end: float) -> None:
    if not (math.isfinite(start) and math.isfinite(end) and 0.0 <= start < end <= 1.0):
        raise ValueError(f"progress ramp: expected 0 <= start < end <= 1, got {start}, {end}")


def _require_order(n_frames: int, *frames: int | None) -> None:
    before = -1
    for name, frame in zip(("failure_frame", "resume_frame", "success_frame"), frames, strict=True):
        if frame is None:
            continue
        _require_count(name, frame, 0)
        if not before < frame < n_frames:
            raise ValueError(
                f"{name}: expected after frame {before} and before {n_frames}, got {frame}"
            )
        before = frame
