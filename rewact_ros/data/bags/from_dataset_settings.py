"""What `rewact bag from-dataset` is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from rewact_ros.data.bags.episode_file import OUTCOMES
from rewact_ros.settings import check, setting


class BagsError(ValueError):
    """A dataset that cannot be written as recordings as asked."""


@dataclass(frozen=True)
class BagsSettings:
    """What to write.

    Attributes:
        dataset: folder of a LeRobotDataset v3.
        contract: contract file of the robot that the recordings are of.
        out: folder that gets one recording per episode.
        episodes: indices; None: all.

    Raises:
        BagsError: a setting out of its range.
    """

    dataset: Path
    contract: Path
    out: Path
    episodes: tuple[int, ...] | None = None
    outcome: str = setting("", "where the dataset does not say", choices=("", *OUTCOMES))
    jpeg: int = setting(0, "quality of compressed images; default: PNG, lossless", low=0, high=100)
    zstd: bool = setting(False, "compress the bags")
    namespace: str = setting("", "of the robot")

    def __post_init__(self) -> None:
        check(self, BagsError)
