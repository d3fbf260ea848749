"""What the frames of a dataset teach: progress labels, and whether their actions are imitated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.utils.constants import REWARD
from numpy.typing import NDArray

from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.export.labels import DRIVEN
from rewact_ros.policy.modeling_rewact import DEMO_IS_PAD
from rewact_ros.reward.labels import progress_ramp as time_ramp

SUCCESS = "next.success"
INTERVENTION = "intervention"
CONTROL_MODE = "control_mode"

Column = Callable[[str], NDArray[Any] | None]  # name -> (N, width), None where there is no such one


def succeeding(column: Column, episode: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell (N,) which frames belong to an episode with any ``next.success``; without it, all."""
    success = column(SUCCESS)
    if success is None:
        return np.ones(len(episode), bool)
    return np.isin(episode, episode[success[:, 0].astype(bool)])


def progress_labels(
    root: Path, column: Column, episode: NDArray[np.integer], ramp: bool, needed: bool = True
) -> NDArray[np.float32]:
    """Return (N,) float32 labels, NaN where unknown: ``next.reward``, or a ramp over successes.

    Raises:
        DatasetError: no such column, no ramp asked for, and labels are needed.
    """
    reward = column(REWARD)
    if reward is not None:
        return reward[:, 0].astype(np.float32)
    labels = np.full(len(episode), np.nan, np.float32)
    if not ramp:
        if needed:
            raise DatasetError(
                f"{root}: has no column {REWARD}; label it, or give --progress-ramp to label "
                "successful episodes by time (5 % to 95 %)"
            )
        return labels
    successful = succeeding(column, episode)
    for index in np.unique(episode[successful]):
        rows = np.flatnonzero(episode == index)
        # As `rewact label` does by default.
        labels[rows] = time_ramp(len(rows), start=0.05, end=0.95)
    return labels


def imitated(
    root: Path,
    column: Column,
    episode: NDArray[np.integer],
    action_frames: str = "all",
    imitate_failures: bool = False,
) -> NDArray[np.bool_]:
    """Tell (N,) which frames teach actions.

    ``demo_is_pad`` decides where there is such a column (its name ends in ``_is_pad`` because
    LeRobot's stock processors keep such keys only); without it, episodes that never succeed do not
    teach. With ``imitate_failures`` those do, all of their frames in which somebody drove the arm
    (column ``control_mode``, as an export writes it). ``action_frames`` then leaves out human or
    autonomous ones.

    Raises:
        DatasetError: ``action_frames`` needs a column ``intervention``.
    """
    is_pad, human = column(DEMO_IS_PAD), column(INTERVENTION)
    succeeds, mode = succeeding(column, episode), column(CONTROL_MODE)
    teaches = succeeds if is_pad is None else ~is_pad[:, 0].astype(bool)
    if imitate_failures:
        driven = True if mode is None else np.isin(mode[:, 0], DRIVEN)
        teaches = teaches | (~succeeds & driven)
    if action_frames != "all":
        if human is None:
            raise DatasetError(
                f"{root}: has no column {INTERVENTION} (true where a human was in control); "
                f"action_frames {action_frames} needs it, take all"
            )
        teaches = teaches & (human[:, 0].astype(bool) == (action_frames == "human"))
    return teaches
