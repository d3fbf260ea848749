"""Roll-outs of which nobody knows more than a person's verdict."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lerobot.utils.constants import REWARD
from numpy.typing import NDArray

from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.reward.labels import task_progress

from .demonstrations import Demonstrations, load_demonstrations
from .mixture import check_features
from .teaching import SUCCESS


def load_judged(root: Path, demos: Demonstrations) -> Demonstrations:
    """Open judged roll-outs of the robot of some demonstrations.

    Raises:
        DatasetError: as ``load_demonstrations``; no verdicts; another robot.
    """
    data = load_demonstrations(root, labels_needed=False)
    if SUCCESS not in data.source.meta.features:
        raise DatasetError(
            f"{root}: has no column {SUCCESS}, so nobody knows which roll-outs succeeded; judge "
            "them (`rewact record`, `rewact bag`) before the export, or `rewact label` them"
        )
    check_features(demos, data)
    return data


def verdicts(data: Demonstrations) -> dict[int, bool]:
    """Episode -> whether it succeeded, of those that somebody judged.

    An episode without success and without any label has no verdict (see ``label_steps``).
    """
    found = {}
    for index in range(data.source.meta.total_episodes):
        rows = data.rows([index])
        judged = REWARD not in data.source.meta.features or np.isfinite(data.reward[rows]).any()
        if data.succeeds[rows[0]] or judged:
            found[index] = bool(data.succeeds[rows[0]])
    return found


def judged_labels(
    data: Demonstrations, found: Mapping[int, bool], low: float, high: float
) -> NDArray[np.float32]:
    """Progress (N,) of judged episodes from ``low`` to ``high``; NaN elsewhere.

    A success climbs in time up to the frame at which success was told, and stays. A failure is low
    throughout: nobody knows when it failed, and what it shares with successes these teach as well.
    """
    labels = np.full(len(data.episode), np.nan, np.float32)
    told = np.asarray(data.source.hf_dataset.with_format("numpy")[SUCCESS]).reshape(-1)
    for index, success in found.items():
        rows = data.rows([index])
        progress: NDArray[np.float32] = np.zeros(len(rows), np.float32)
        if success:
            frame = int(told[rows].astype(bool).argmax())
            progress = task_progress(len(rows), len(rows), success_frame=frame)
        labels[rows] = low + (high - low) * progress
    return labels
