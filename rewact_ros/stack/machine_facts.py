"""What this computer has for a robot; Linux tells it in files and one system call."""

import ctypes
import os
import resource
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from rewact_ros.checks.facts import Machine

PACKAGES = (
    "rclpy",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "trajectory_msgs",
    "diagnostic_msgs",
    "rewact_ros.msg",
)
PREFIXES = ("ROS_", "RMW_", "FASTRTPS_", "FASTDDS_", "CYCLONEDDS_")
CAP_SYS_NICE = 23
TIME_ERROR = 5  # of adjtimex(2): the clock is not synchronised
TIMEX_BYTES = 256  # more than the kernel's struct


def machine_facts(rmw: str, folders: Iterable[Path]) -> Machine:
    """Look at this computer.

    Args:
        rmw: middleware that is in use.
        folders: where recordings shall go; a folder that is not there yet counts as its parent.
    """
    kept = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
    return Machine(
        environment=kept,
        rmw=rmw,
        missing=tuple(package for package in PACKAGES if not _there(package)),
        open_files=_soft(resource.RLIMIT_NOFILE),
        shared_memory_free=_free(Path("/dev/shm")),
        memory_free=_memory_free(),
        disk_free={str(folder): _free(folder) for folder in folders},
        realtime=_may_be_realtime(),
        synchronised=_synchronised(),
        load=os.getloadavg()[0],
        cores=len(os.sched_getaffinity(0)),
        gpus=len(list(Path("/dev").glob("nvidia[0-9]*"))),
    )


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _soft(limit: int) -> int:
    soft, _ = resource.getrlimit(limit)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def _free(folder: Path) -> int:
    there = next((p for p in (folder, *folder.absolute().parents) if p.is_dir()), Path("/"))
    return shutil.disk_usage(there).free


def _memory_free() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 40


def _may_be_realtime() -> bool:
    if _soft(resource.RLIMIT_RTPRIO) > 0:
        return True
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_SYS_NICE & 1)
    return False


def _synchronised() -> bool | None:
    """By the kernel's own word; None where it says nothing."""
    state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
    return None if state < 0 else state != TIME_ERROR
