"""What a training run of the success classifier is made of."""

from dataclasses import dataclass

from rewact_ros.learning.imitation.settings import LARGEST_SEED, TrainError, TrainSettings
from rewact_ros.settings import check, same, setting


@dataclass(frozen=True)
class ClassifierSettings:
    """What a run is made of; saved with the checkpoint.

    Attributes:
        datasets: folders of LeRobotDatasets v3.
        out: checkpoint folder.
        cameras: feature keys; empty for all common ones.
        image_size: (height, width) px; None for the datasets' own.
        init: checkpoint to go on from; its settings replace the model's here.

    Raises:
        TrainError: a setting out of its range.
    """

    datasets: tuple[str, ...]
    out: str
    cameras: tuple[str, ...] = ()
    arch: str = setting("resnet18", "backbone: small_cnn, resnet18 or resnet34")
    hidden_dim: int = setting(256, "width of the hidden layer")
    dropout: float = setting(0.1, "before the logit")
    image_size: tuple[int, int] | None = None
    init: str | None = None
    # More loses hard examples, less learns from doubtful labels.
    margin: int = setting(5, "frames left out before success, for labels from outcomes", low=0)
    val_fraction: float = setting(
        0.1, "share of episodes for early stopping and calibration", above=0
    )
    test_fraction: float = setting(
        0.1, "share of episodes for the printed figures; 0: none", low=0, below=1
    )
    # More failures make false successes rarer, and learn slower.
    fail_success_ratio: float = setting(3.0, "failure frames per success frame in a batch", above=0)
    steps: int = setting(2000, "optimiser steps at most", low=1)
    batch_size: int = setting(64, "frames per step, over all processes", low=1)
    lr: float = setting(3e-4, "learning rate", above=0)
    weight_decay: float = setting(1e-4, "AdamW's weight decay", low=0)
    random_shift_px: int = setting(4, "augmentation: largest shift", "px", low=0)
    brightness: float = setting(
        0.2, "augmentation: change of brightness, of the full scale", low=0, below=1
    )
    noise: float = setting(
        0.01, "augmentation: standard deviation of the pixels' noise, of the full scale", low=0
    )
    eval_every: int = setting(100, "steps between validations", low=1)
    # Fewer stop at noise, more train on after the best.
    patience: int = setting(5, "validations without improvement before it stops", low=1)
    min_delta: float = setting(1e-4, "smallest fall of the loss that is an improvement", low=0)
    seed: int = setting(0, "of weights, batches and split", low=0, high=LARGEST_SEED)
    mixed_precision: str = same(TrainSettings, "mixed_precision")
    device: str = same(TrainSettings, "device")
    threads: int = same(TrainSettings, "threads")

    def __post_init__(self) -> None:
        check(self, TrainError)
        if not self.datasets:
            raise TrainError("datasets: expected at least one folder")
        if self.val_fraction + self.test_fraction >= 1:
            raise TrainError(
                f"val_fraction and test_fraction: expected a sum below 1, got "
                f"{self.val_fraction + self.test_fraction:g}"
            )
