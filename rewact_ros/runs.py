"""Every run of anything goes to `runs/<time>-<what>/`; `runs/latest` points at the newest."""

import os
import platform
import time
from pathlib import Path

# In a learning run's folder: its versions, the link among them to the newest, the robot's journal.
VERSIONS, NEWEST, ROBOT_JOURNAL = "policies", "newest", "robot"


def new_run(what: str, root: str | Path = "runs") -> Path:
    """Make the folder of a run and point `runs/latest` at it."""
    root = Path(root)
    folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{what}"
    suffix = 1
    while folder.exists():
        suffix += 1
        folder = folder.with_name(f"{folder.name.split('+')[0]}+{suffix}")
    folder.mkdir(parents=True)
    link = root / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    os.replace(link, root / "latest")
    return folder


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
