"""Which labels the episodes of a dataset are to get: label file, annotation, or a ramp in time."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.dataset.made_for import require_made_for
from rewact_ros.reward.keypoints import Keypoint, LabelError, keypoint_curve
from rewact_ros.reward.label_file import (
    EpisodePlan,
    LabelFile,
    read_label_file,
    subtask_keypoints,
)
from rewact_ros.reward.labels import progress_ramp

from .annotations import read_subtasks, subtask_shares
from .settings import KEYPOINT_FILES, LabelSettings
from .write import EpisodeLabels, LabelledDataset


@dataclass(frozen=True)
class PlannedLabels:
    """New labels of one episode, with what they come from."""

    labels: EpisodeLabels
    source: str
    keypoints: tuple[Keypoint, ...] = ()


def plan_labels(
    dataset: LabelledDataset, episodes: Collection[int], settings: LabelSettings
) -> dict[int, PlannedLabels]:
    """Make the new labels of those `episodes` that the settings say anything about.

    Raises:
        LabelError: a file or annotation that is wrong (also about other episodes), an episode
            that both the file and `failed` speak of, or no episode to label at all.
    """
    path = settings.keypoints or keypoint_file(dataset.root)
    known = LabelFile({})
    if path is not None:
        known = label_file_of(dataset.root, path, dataset.fps, dataset.lengths)
    sources = dict.fromkeys(known.episodes, "" if path is None else path.name)
    plans = dict(known.episodes)
    if settings.subtasks is not None:
        for index, points in _annotated(dataset, settings.subtasks, known).items():
            if index not in plans:
                plans[index], sources[index] = EpisodePlan(points), f"{settings.subtasks} subtasks"
    for index in settings.failed:
        if index in plans:
            raise LabelError(f"episode {index}: is in failed and in {sources[index]}; say it once")
        plans[index], sources[index] = EpisodePlan(ramp_to=settings.failed_cap), "failed"
    if settings.ramp:
        for index in set(dataset.lengths) - set(plans):
            plans[index], sources[index] = EpisodePlan(ramp_to=1.0), "ramp"
    interpolation = settings.interpolation or known.interpolation or "pchip"
    made = {
        index: PlannedLabels(
            labels_by(plans[index], dataset.lengths[index], settings, interpolation),
            sources[index],
            plans[index].keypoints,
        )
        for index in sorted(set(episodes) & set(plans))
    }
    if not made:
        raise LabelError(_nothing(dataset, path))
    return made


def keypoint_file(root: Path) -> Path | None:
    """The keypoints that the dataset itself holds, if any."""
    return next((root / name for name in KEYPOINT_FILES if (root / name).is_file()), None)


def label_file_of(root: Path, path: Path, fps: float, lengths: Mapping[int, int]) -> LabelFile:
    """Read a label file for the dataset in `root`, whose episodes have `lengths`.

    Raises:
        LabelError: as `read_label_file`; also where the file was made for other episodes.
    """

    def require_fits(kept: object) -> None:
        try:
            require_made_for(root, kept)
        except DatasetError as error:
            raise LabelError(str(error)) from None

    return read_label_file(path, fps, lengths, require_fits)


def _annotated(
    dataset: LabelledDataset, kind: str, known: LabelFile
) -> dict[int, tuple[Keypoint, ...]]:
    root = dataset.root
    episodes = read_subtasks(root, kind, dataset.fps, dataset.lengths)
    shares = known.shares or subtask_shares(root, kind, episodes)
    return {
        index: tuple(subtask_keypoints(f"{kind} subtasks of episode {index}", spans, shares))
        for index, spans in episodes.items()
    }


def labels_by(
    plan: EpisodePlan, n_frames: int, settings: LabelSettings, interpolation: str
) -> EpisodeLabels:
    """Labels of an episode of n_frames by its plan; raises LabelError for a wrong interpolation."""
    if plan.ramp_to is None:
        curve = keypoint_curve(n_frames, plan.keypoints, interpolation)
    else:
        ramp = progress_ramp(n_frames, settings.ramp_start, settings.ramp_end)
        curve = plan.ramp_to * ramp.astype(np.float64)
    return EpisodeLabels(curve.astype(np.float32), curve >= 1.0)


def _nothing(dataset: LabelledDataset, path: Path | None) -> str:
    said = f"{path} names none of the episodes" if path else "no label file is given or in it"
    return (
        f"{dataset.root}: nothing to label: {said}; give --keypoints FILE, --subtasks KIND, "
        "--failed EPISODES or --ramp"
    )
