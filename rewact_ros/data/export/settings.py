"""What `rewact export` is asked to do."""

from dataclasses import dataclass
from pathlib import Path

from rewact_ros.data.bags.episode_file import OUTCOMES
from rewact_ros.settings import check, setting

VIDEO_KINDS = ("lerobot", "fine", "lossless")
GAPS = ("split", "trim", "refuse")


class ExportError(ValueError):
    """An export that cannot be done as asked."""


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and how.

    Attributes:
        bags: recordings, or folders of recordings.
        out: folder of the new dataset.

    Raises:
        ExportError: a setting out of its range.
    """

    bags: tuple[Path, ...]
    out: Path
    contract: Path | None = setting(
        None, "robot contract of recordings without one; default: the one recorded in the bag"
    )
    namespace: str | None = setting(None, "of the robot; default: as recorded")
    outcome: str = setting("", "of foreign bags that nobody judged", choices=("", *OUTCOMES))
    task: str = setting("", "of episodes without one, in words")
    gaps: str = setting(
        "split",
        "what becomes of an episode with a gap; trim keeps its longest part",
        choices=GAPS,
    )
    max_step: float = setting(
        1.75, "longest time between two frames; more is a gap", "periods", above=1, high=10
    )
    min_frames: int = setting(10, "leave shorter parts out", low=1)
    failed_cap: float = setting(0.5, "highest progress label of a failure", low=0, below=1)
    # Without it the progress after a takeover is not labelled.
    attempt_s: float = setting(
        0.0, "duration of an undisturbed attempt, to label rescues by; 0: unknown", "s", low=0
    )
    video: str = setting(
        "lerobot",
        "encoding of the cameras; lerobot is AV1, fine H.264 in full colour",
        choices=VIDEO_KINDS,
    )
    discarded: bool = setting(False, "also what was marked as discarded")
    replace: bool = setting(False, "take the place of a dataset at --out")
    workers: int = setting(0, "recordings encoded at a time; 0: one per processor", low=0)

    def __post_init__(self) -> None:
        check(self, ExportError)
