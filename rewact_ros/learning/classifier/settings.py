"""What a training run of the success classifier is made of."""

import math
from dataclasses import dataclass

from rewact_ros.learning.imitation.settings import TrainError, check_seed


@dataclass(frozen=True)
class ClassifierSettings:
    """What a run is made of; saved with the checkpoint.

    Attributes:
        datasets: folders of LeRobotDatasets v3.
        out: checkpoint folder.
        cameras: feature keys; empty for all common ones.
        arch, hidden_dim, dropout: see `RewardModelConfig`.
        image_size: (height, width) px; None for the datasets' own.
        init: checkpoint to go on from; its settings replace the model's here.
        margin: frames left out before success, where labels come from outcomes.
        val_fraction: share of episodes for early stopping and calibration.
        test_fraction: share of episodes that the figures come from; 0: no figures.
        fail_success_ratio: failure frames per success frame in a batch.
        steps: optimiser steps at most.
        batch_size: frames per step, over all processes.
        random_shift_px, brightness, noise: augmentation: largest shift, px; change of brightness
            and standard deviation of the pixels' noise, both as shares of the full scale.
        eval_every: steps between looks at the validation split.
        patience: looks without an improvement by `min_delta` before the training stops.
        min_delta: smallest fall of the validation loss that counts.

    Raises:
        TrainError: a setting out of its range.
    """

    datasets: tuple[str, ...]
    out: str
    cameras: tuple[str, ...] = ()
    arch: str = "resnet18"
    hidden_dim: int = 256
    dropout: float = 0.1
    image_size: tuple[int, int] | None = None
    init: str | None = None
    margin: int = 5  # more loses hard examples, less learns from doubtful labels
    val_fraction: float = 0.1
    test_fraction: float = 0.1
    fail_success_ratio: float = 3.0  # more failures make false successes rarer, and learn slower
    steps: int = 2000
    batch_size: int = 64
    lr: float = 3e-4
    weight_decay: float = 1e-4
    random_shift_px: int = 4
    brightness: float = 0.2
    noise: float = 0.01
    eval_every: int = 100
    patience: int = 5  # fewer stop at noise, more train on after the best
    min_delta: float = 1e-4
    seed: int = 0
    mixed_precision: str = "no"
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.datasets:
            raise TrainError("datasets: expected at least one folder")
        for name in ("steps", "batch_size", "eval_every", "patience", "threads"):
            if getattr(self, name) < 1:
                raise TrainError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("margin", "random_shift_px", "noise", "weight_decay", "min_delta"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainError(f"{name}: expected at least 0, got {getattr(self, name)}")
        for name in ("lr", "fail_success_ratio", "val_fraction"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrainError(f"{name}: expected more than 0, got {getattr(self, name)}")
        check_seed(self.seed)
        for name in ("test_fraction", "brightness"):
            if not 0 <= getattr(self, name) < 1:
                raise TrainError(f"{name}: expected 0 <= x < 1, got {getattr(self, name)}")
        if self.val_fraction + self.test_fraction >= 1:
            raise TrainError(
                f"val_fraction and test_fraction: expected a sum below 1, got "
                f"{self.val_fraction + self.test_fraction:g}"
            )
        if self.device not in ("auto", "cpu", "cuda"):
            raise TrainError(f"device: expected one of auto, cpu, cuda, got {self.device}")
