"""What `rewact label` labels by."""

from dataclasses import dataclass
from pathlib import Path

from rewact_ros.reward.keypoints import INTERPOLATIONS, LabelError
from rewact_ros.settings import check, setting

# What was marked in the console, and where the RewACT packages keep keypoints inside a dataset.
MARKS_FILE = "rewact_extensions/labels.yaml"
KEYPOINT_FILES = (
    MARKS_FILE,
    "rewact_extensions/reward_keypoints.json",
    "meta/reward_keypoints.json",
)


@dataclass(frozen=True)
class LabelSettings:
    """What to label by; an episode is labelled by the first that knows it.

    Attributes:
        keypoints: label file; None: one of `KEYPOINT_FILES` in the dataset, if there.
        failed: episodes that failed; labelled by a ramp up to `failed_cap`.
        ramp: whether all others are successes, to be labelled by a ramp up to 1.

    Raises:
        LabelError: a cap out of range, or no such interpolation.
    """

    keypoints: Path | None = setting(
        None,
        "label file, YAML or JSON; default: that of the console or RewACT in the dataset",
    )
    subtasks: str | None = setting(None, "LeRobot's annotation: sparse, dense or language")
    failed: tuple[int, ...] = ()
    failed_cap: float = setting(0.5, "highest label of --failed", low=0, below=1)
    ramp: bool = setting(False, "label the other episodes by time, as successes")
    ramp_start: float = setting(0.05, "share of an episode before a ramp")
    ramp_end: float = setting(0.95, "share at which a ramp has ended")
    interpolation: str | None = setting(
        None,
        "between keypoints; default: as the label file says, else pchip",
        choices=INTERPOLATIONS,
    )

    def __post_init__(self) -> None:
        check(self, LabelError)
