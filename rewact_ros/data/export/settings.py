"""What `rewact export` is asked to do."""

import math
from dataclasses import dataclass
from pathlib import Path

from rewact_ros.data.bags.episode_file import OUTCOMES

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
        contract: contract file for recordings without one; None: each has its own.
        namespace: of the robot; None: as recorded.
        outcome: of episodes in foreign recordings that nobody judged: `success` or `failure`;
            empty: unlabelled.
        task: of episodes without one, in words.
        gaps: what becomes of an episode with a gap: `split` into episodes, `trim` to its longest
            part, or `refuse`.
        max_step: longest time between two frames, in periods of the contract's rate; more is a gap.
        min_frames: shorter parts are left out.
        failed_cap: highest progress label of a failure.
        attempt_s: duration of an undisturbed attempt, for the progress after a takeover; 0: not
            known, and then that progress is not labelled.
        video: one of `VIDEO_KINDS`.
        discarded: also export what was marked as discarded.
        replace: take the place of a dataset at `out`.
        workers: recordings that are encoded at a time; 0: one per processor.

    Raises:
        ExportError: a setting out of its range.
    """

    bags: tuple[Path, ...]
    out: Path
    contract: Path | None = None
    namespace: str | None = None
    outcome: str = ""
    task: str = ""
    gaps: str = "split"
    max_step: float = 1.75
    min_frames: int = 10
    failed_cap: float = 0.5
    attempt_s: float = 0.0
    video: str = "lerobot"
    discarded: bool = False
    replace: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("outcome", ("", *OUTCOMES)),
            ("gaps", GAPS),
            ("video", VIDEO_KINDS),
        ):
            if getattr(self, name) not in choices:
                known = ", ".join(filter(None, choices))
                raise ExportError(f"{name}: expected one of {known}, got {getattr(self, name)!r}")
        if not 1.0 < self.max_step <= 10.0:
            raise ExportError(f"max_step: expected above 1 to 10 periods, got {self.max_step}")
        if self.min_frames < 1:
            raise ExportError(f"min_frames: expected at least 1, got {self.min_frames}")
        if not 0.0 <= self.failed_cap < 1.0:
            raise ExportError(f"failed_cap: expected 0 to below 1, got {self.failed_cap}")
        if not 0.0 <= self.attempt_s < math.inf:
            raise ExportError(f"attempt_s: expected 0 or more seconds, got {self.attempt_s}")
        if self.workers < 0:
            raise ExportError(f"workers: expected 0 or more, got {self.workers}")
