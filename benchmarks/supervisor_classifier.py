"""The success classifier on episodes that no training saw: how well it tells, and how fast."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rewact_ros.bench.figures import Bench
from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.data.labels.frames import SUCCESS, UNUSED, read_frame_labels
from rewact_ros.learning.imitation.frames import open_frames
from rewact_ros.policy.images import unit_images
from rewact_ros.reward.classifier import LoadedClassifier
from rewact_ros.reward.classifier_checkpoint import load_classifier
from rewact_ros.reward.metrics import bootstrap_interval, calibration_error, roc_auc

_BATCH, _DRAWS, _WARM_UP = 64, 200, 20
# What the classifier was trained to leave undecided: the task is as good as done there.
_BRINK_FRAMES = 5


def add_figures(bench: Bench, model: Path, dataset: Path, quick: bool) -> None:
    """AUC, ECE and accuracy over the frames of a dataset, and the latency of one observation."""
    torch.set_num_threads(1)
    loaded = load_classifier(model, "cpu")
    bench.settings.update(classifier=f"{model.name} {loaded.version}", classifier_data=str(dataset))
    judged = _judged(loaded, dataset, 4 if quick else None)
    for name, chosen in (("", judged), ("_off_brink", judged.off_brink())):
        _add(bench, f"classifier_auc{name}", roc_auc, "≥ 0.99", chosen)
        _add(bench, f"classifier_ece{name}", calibration_error, "≤ 0.02", chosen)
    _latency(bench, loaded, 50 if quick else 1000)


@dataclass(frozen=True)
class Judged:
    """Probability, truth and episode of every frame, and if it is just before a success: (N,)."""

    probability: NDArray[np.float32]
    success: NDArray[np.bool_]
    episode: NDArray[np.intp]
    brink: NDArray[np.bool_]

    def off_brink(self) -> "Judged":
        """The frames that training used too."""
        kept = ~self.brink
        return Judged(
            self.probability[kept], self.success[kept], self.episode[kept], self.brink[kept]
        )


def _add(bench: Bench, name: str, measure: Callable[..., float], goal: str, judged: Judged) -> None:
    """Add a figure over all frames; its interval is bootstrapped over episodes."""
    of_episode = [np.flatnonzero(judged.episode == i) for i in np.unique(judged.episode)]

    def of(rows: NDArray[np.intp]) -> float:
        return measure(judged.probability[rows], judged.success[rows])

    low, high = bootstrap_interval(
        lambda drawn: of(np.concatenate([of_episode[i] for i in drawn])), len(of_episode), _DRAWS
    )
    value = of(np.arange(len(judged.episode)))
    bench.add(name, value, "", goal=goal, n=len(of_episode), low=low, high=high)


def _judged(loaded: LoadedClassifier, dataset: Path, episodes: int | None) -> Judged:
    labels, sure = (read_frame_labels(dataset, margin) for margin in (0, _BRINK_FRAMES))
    source = open_dataset(dataset)
    chosen = sorted(labels)[:episodes]
    cameras = list(loaded.config.cameras)
    images = open_frames(source, cameras, loaded.config.image_size, chosen)
    columns: list[tuple[NDArray, ...]] = []
    for index in chosen:
        used = np.flatnonzero(labels[index] != UNUSED)
        rows = int(source.meta.episodes[index]["dataset_from_index"]) + used
        probability = _predict(loaded, np.stack([images[camera][rows] for camera in cameras], 1))
        brink = sure[index][used] == UNUSED
        success = labels[index][used] == SUCCESS
        columns.append((probability, success, np.full(len(used), index), brink))
    return Judged(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))


@torch.inference_mode()
def _predict(loaded: LoadedClassifier, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (N,) of pictures (N, cameras, H, W, 3)."""
    batches = torch.from_numpy(pictures).split(_BATCH)
    return torch.cat([loaded.model.predict(unit_images(batch)) for batch in batches]).numpy()


def _latency(bench: Bench, loaded: LoadedClassifier, runs: int) -> None:
    height, width = loaded.config.image_size
    rng = np.random.default_rng(0)
    times_ms = []
    for _ in range(runs + _WARM_UP):
        images = {
            camera: rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            for camera in loaded.config.cameras
        }
        started = time.perf_counter()
        loaded.probability(images)
        times_ms.append(1e3 * (time.perf_counter() - started))
    times = np.array(times_ms[_WARM_UP:])
    for percent in (50, 99):
        bench.add(
            f"classifier_latency_p{percent}",
            float(np.percentile(times, percent)),
            "ms, one thread",
            n=runs,
            low=float(times.min()),
            high=float(times.max()),
        )
