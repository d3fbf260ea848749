"""What a policy is judged, and a monitor calibrated, on."""

from dataclasses import dataclass
from pathlib import Path

from rewact_ros.settings import check, setting


@dataclass(frozen=True)
class EvaluationSettings:
    """What to judge a policy on.

    Attributes:
        dataset: a LeRobotDataset.
        train_episodes: as ``episodes``; empty: all of another dataset, and of the same none, so
            that there are no baselines.
        cache: of decoded frames; None: the usual.
    """

    dataset: Path
    episodes: str = setting("", "such as 24:30; empty: all")
    train_dataset: Path | None = setting(None, "where the reward's baselines are fitted")
    train_episodes: str = setting(
        "", "of it, or of --dataset: episodes for the baselines, e.g. 0:24"
    )
    progress_ramp: bool = setting(False, "label a dataset without labels by time")
    ablations: bool = setting(True, "also spoil one input at a time")
    cache: Path | None = None


@dataclass(frozen=True)
class RolloutSource:
    """Recorded roll-outs.

    Attributes:
        dataset: a LeRobotDataset with ``next.success`` per frame, such as `rewact eval --record`
            writes; what it says itself stands in `meta/rollouts.json`.
        cache: of decoded frames; None: the usual.

    Raises:
        ValueError: a time-out below 0.
    """

    dataset: Path
    episodes: str = setting("", "such as 0:100; empty: all")
    timeout_s: float = setting(
        0.0, "of the roll-outs; 0: as the dataset says", "s", low=0, option="timeout"
    )
    driver: str = setting("", "version that drove; empty: as the dataset says")
    cache: Path | None = None

    def __post_init__(self) -> None:
        check(self)
