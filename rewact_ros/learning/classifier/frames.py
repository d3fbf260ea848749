"""Labelled frames of one or several datasets, split by whole episodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from torch import Tensor

from rewact_ros.contract import image_shape
from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.data.labels.frames import SUCCESS, UNUSED, read_frame_labels
from rewact_ros.learning.imitation.frames import open_frames
from rewact_ros.learning.imitation.settings import TrainError
from rewact_ros.policy.images import unit_images

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Frames:
    """Labelled frames of a split, over all datasets.

    Attributes:
        source: (N,) dataset of each frame.
        row: (N,) its row there.
        success: (N,) bool.
    """

    source: NDArray[np.int64]
    row: NDArray[np.int64]
    success: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.row)

    def chosen(self, index: NDArray[np.intp]) -> "Frames":
        """Pick some."""
        return Frames(self.source[index], self.row[index], self.success[index])


class LabelledFrames:
    """Reads frame labels, splits the episodes and serves images.

    Args:
        roots: folders of LeRobotDatasets v3.
        cameras: feature keys; empty for all that every dataset has.
        margin: see `frames_from_outcome`.
        val_fraction, test_fraction: shares of the episodes, drawn by `seed` from those with and
            those without success alike.
        seed: of the split.

    Raises:
        TrainError: a camera that a dataset lacks, or a class that a split lacks.
        LabelError: no labels.
        DatasetError: no dataset, or a damaged one.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        cameras: tuple[str, ...],
        margin: int,
        val_fraction: float,
        test_fraction: float,
        seed: int,
    ) -> None:
        self._roots = list(roots)
        self.labels = [read_frame_labels(root, margin) for root in roots]
        self._sources = [open_dataset(root) for root in roots]
        self.cameras = cameras or _common_cameras(self._sources)
        for source in self._sources:
            for camera in self.cameras:
                if camera not in source.meta.camera_keys:
                    raise TrainError(
                        f"{source.meta.root}: has no camera {camera}; it has "
                        f"{', '.join(source.meta.camera_keys) or 'none'}"
                    )
        self.episodes = [
            _split(labels, val_fraction, test_fraction, seed) for labels in self.labels
        ]
        self.splits = {name: self._frames(name) for name in SPLITS}
        self._require_both_classes()
        self._images: list[dict[str, NDArray[np.uint8]]] = []

    def own_size(self) -> tuple[int, int]:
        """(height, width) px of the first camera of the first dataset."""
        camera = self.cameras[0]
        height, width, _ = image_shape(camera, self._sources[0].meta.features[camera])
        return height, width

    def decode(self, image_size: tuple[int, int], cache: Path | None, progress: bool) -> None:
        """Decode all frames of episodes in use into the frame cache and open it."""
        self._images = [
            open_frames(
                source,
                list(self.cameras),
                image_size,
                sorted(index for own in episodes.values() for index in own),
                cache,
                progress,
            )
            for source, episodes in zip(self._sources, self.episodes, strict=True)
        ]

    def images(self, frames: Frames) -> Tensor:
        """Images (B, cameras, 3, H, W) in [0, 1] of some frames."""
        pictures = np.stack(
            [
                np.stack([self._images[s][camera][r] for camera in self.cameras])
                for s, r in zip(frames.source, frames.row, strict=True)
            ]
        )
        return unit_images(torch.from_numpy(pictures))

    def _frames(self, split: str) -> Frames:
        parts = []
        for number, (source, labels) in enumerate(zip(self._sources, self.labels, strict=True)):
            for index in self.episodes[number][split]:
                used = np.flatnonzero(labels[index] != UNUSED)
                first = source.meta.episodes[index]["dataset_from_index"]
                parts.append(
                    (np.full(len(used), number), first + used, labels[index][used] == SUCCESS)
                )
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
        return Frames(*(np.concatenate(column) for column in zip(empty, *parts, strict=True)))

    def _require_both_classes(self) -> None:
        for name, frames in self.splits.items():
            for success, word in ((True, "success"), (False, "failure")):
                if len(frames) and not (frames.success == success).any():
                    raise TrainError(
                        f"{', '.join(map(str, self._roots))}: the {name} split has no {word} frame "
                        f"among {len(frames)}; label more episodes, or change the fractions"
                    )
        for name in ("train", "val"):
            if not len(self.splits[name]):
                raise TrainError(
                    f"{', '.join(map(str, self._roots))}: the {name} split has no labelled frame; "
                    "label more episodes"
                )


def _common_cameras(sources: Sequence[LeRobotDataset]) -> tuple[str, ...]:
    common = [
        camera
        for camera in sources[0].meta.camera_keys
        if all(camera in source.meta.camera_keys for source in sources)
    ]
    if not common:
        raise TrainError("the datasets have no camera in common; name them by --camera")
    return tuple(common)


def _split(
    labels: dict[int, NDArray[np.int8]], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[int]]:
    """Split the episodes that have labels; at least one of each kind for a fraction above 0."""
    rng = np.random.default_rng(seed)
    split: dict[str, list[int]] = {name: [] for name in SPLITS}
    used = {index: own for index, own in labels.items() if (own != UNUSED).any()}
    with_success = [index for index, own in used.items() if (own == SUCCESS).any()]
    without = [index for index, own in used.items() if not (own == SUCCESS).any()]
    for group in (with_success, without):
        order = rng.permutation(group).tolist()
        for name, fraction in (("val", val_fraction), ("test", test_fraction)):
            count = int(np.ceil(len(group) * fraction))
            split[name] += order[:count]
            order = order[count:]
        split["train"] += order
    return {name: sorted(own) for name, own in split.items()}
