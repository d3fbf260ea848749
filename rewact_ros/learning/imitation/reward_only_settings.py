"""What a training of the reward alone is made of."""

from dataclasses import dataclass

from rewact_ros.settings import check, same, setting

from .settings import TrainError, TrainSettings


@dataclass(frozen=True)
class RewardOnlySettings:
    """What a run is made of; saved with the checkpoint.

    Attributes:
        policy: checkpoint whose reward learns; nothing else of it changes.
        demos: its demonstrations with progress labels, a LeRobotDataset.
        judged: LeRobotDatasets of its roll-outs, each episode with a verdict.
        out: folder of the new checkpoint.

    Raises:
        TrainError: a setting out of its range.
    """

    policy: str
    demos: str
    judged: tuple[str, ...]
    out: str
    steps: int = setting(1000, "optimiser steps", low=1)
    batch_size: int = setting(256, "frames per step", low=2)
    lr: float = setting(1e-3, "peak learning rate", above=0)
    # More widens the margin and pulls down the early progress that failures share with successes.
    failure_share: float = setting(0.25, "of each batch that comes from failures", above=0, below=1)
    seed: int = same(TrainSettings, "seed", doc="seed of the batches")
    device: str = same(TrainSettings, "device")
    threads: int = same(TrainSettings, "threads")

    def __post_init__(self) -> None:
        check(self, TrainError)
        if not self.judged:
            raise TrainError("judged: expected at least one dataset of roll-outs")
