"""Keypoints: what the progress of an episode is at a few moments, and the label curve between."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

INTERPOLATIONS = ("pchip", "linear")


class LabelError(ValueError):
    """Labels that cannot be made or written; names file, episode, expected and got."""


@dataclass(frozen=True)
class Keypoint:
    """At observation `frame` of an episode the progress is `value` in [0, 1]; `name` says why."""

    frame: int
    value: float
    name: str = "keypoint"


def check_keypoints(keypoints: Sequence[Keypoint], n_frames: int, where: str) -> None:
    """Refuse keypoints that do not describe one curve over the episode.

    Raises:
        LabelError: no keypoint, a frame outside 0 to n_frames - 1, a value outside [0, 1], a frame
            given twice, or frames that do not increase. The message begins with `where`.
    """
    if not keypoints:
        raise LabelError(f"{where}: expected at least one keypoint, got none")
    for point in keypoints:
        if not 0 <= point.frame < n_frames:
            raise LabelError(
                f"{where}: {point.name}: expected a frame of 0 to {n_frames - 1} (the episode has "
                f"{n_frames}), got {point.frame}"
            )
        if not (math.isfinite(point.value) and 0.0 <= point.value <= 1.0):
            raise LabelError(
                f"{where}: {point.name} at frame {point.frame}: expected a reward of 0 to 1, "
                f"got {point.value}"
            )
    for before, after in pairwise(keypoints):
        if after.frame == before.frame:
            raise LabelError(
                f"{where}: {before.name} and {after.name} are both at frame {after.frame}; "
                "give each frame one keypoint"
            )
        if after.frame < before.frame:
            raise LabelError(
                f"{where}: expected frames that increase, got {after.name} at frame {after.frame} "
                f"after {before.name} at frame {before.frame}; put them in order"
            )


def keypoint_curve(
    n_frames: int, keypoints: Sequence[Keypoint], interpolation: str = "pchip"
) -> NDArray[np.float64]:
    """Return the label curve (n_frames,) through the keypoints.

    The curve starts at 0 unless a keypoint lies on frame 0, rises monotonically between keypoints
    and never leaves the range of its two neighbours (Fritsch-Carlson slopes, "pchip"; or straight
    lines, "linear"), and keeps the last value to the end. A keypoint below the one before it is a
    drop: the value before is held, and the fall happens at the keypoint's own frame. What follows
    a drop rises only towards a higher keypoint.

    Args:
        n_frames: frames of the episode.
        keypoints: as `check_keypoints` demands them.
        interpolation: one of `INTERPOLATIONS`.
    """
    from scipy.interpolate import PchipInterpolator  # seconds, for every command

    if interpolation not in INTERPOLATIONS:
        raise LabelError(f"interpolation: expected pchip or linear, got {interpolation!r}")
    points = list(keypoints)
    if points[0].frame > 0:
        points.insert(0, Keypoint(0, 0.0, "episode start"))
    curve = np.empty(n_frames)
    for climb in _climbs(points):
        frames = np.array([point.frame for point in climb])
        values = np.array([point.value for point in climb])
        inside = np.arange(frames[0], frames[-1] + 1)
        if len(climb) > 2 and interpolation == "pchip":
            curve[inside] = np.clip(
                PchipInterpolator(frames, values)(inside), values[0], values[-1]
            )
        else:
            curve[inside] = np.interp(inside, frames, values)
        curve[frames] = values  # exact, so that 1 is reached at its keypoint and not nearly
        curve[frames[-1] :] = values[-1]  # held; the next climb, if any, overwrites from its drop
    return curve


def _climbs(points: list[Keypoint]) -> list[list[Keypoint]]:
    """Cut the keypoints where the value drops; within each piece it never falls."""
    climbs = [[points[0]]]
    for before, after in pairwise(points):
        if after.value < before.value:
            climbs.append([])
        climbs[-1].append(after)
    return climbs
