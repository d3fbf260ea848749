"""Every run of anything goes to `runs/<time>-<what>/`; `runs/latest` points at the newest."""

import errno
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .files import point
from .settings import setting

# In a learning run's folder: its versions, the links among them, the robot's journal.
VERSIONS, NEWEST, BEST, ROBOT_JOURNAL = "policies", "newest", "best", "robot"
LEARNED = "learned.json"  # of a version, beside its weights


@dataclass(frozen=True)
class LearnOptions:
    """What a learning run is told by its command and, over topics, by its node's parameters."""

    demos: str = setting("", "LeRobotDataset of successes to learn from too; empty: none")
    demo_episodes: int = setting(30, "how many of its successes", low=1, high=1_000_000)
    target: float = setting(
        0.95, "success rate without a human that the panel looks ahead to", low=0.0, high=1.0
    )
    video_every: int = setting(
        25, "episodes from one video to the next; 0: none", low=0, high=1_000_000
    )


def new_run(what: str, root: str | Path = "runs") -> Path:
    """Make the folder of a run and point `runs/latest` at it."""
    root = Path(root)
    folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{what}"
    suffix = 1
    while folder.exists():
        suffix += 1
        folder = folder.with_name(f"{folder.name.split('+')[0]}+{suffix}")
    folder.mkdir(parents=True)
    point(root / "latest", folder.name)
    return folder


def require_writable(*folders: Path | None) -> None:
    """Try, before long work, whether its result can be written; None is `runs`, made anew.

    Raises:
        OSError: no, with the folder that stands in the way.
    """
    for folder in folders:
        place = Path("runs" if folder is None else folder).absolute()
        while not place.exists() and not place.is_symlink():
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        try:
            with tempfile.TemporaryFile(dir=place):
                pass  # leaves nothing behind
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(place)) from error


def is_version(folder: Path) -> bool:
    """Whether a checkpoint folder is a version of a learning run."""
    return (folder / LEARNED).is_file()


def machine() -> dict[str, object]:
    """What a figure was measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
