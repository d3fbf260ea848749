"""What the recording of a recorder that was killed lacks once it is mended."""

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from recording_stack import domain, recorder, source_of

from rewact_ros.bench.figures import Bench
from rewact_ros.data.bags.episode_file import EPISODE_FILE
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.bags.recovery import recover_bag


def run(bench: Bench) -> None:
    """Kill 50 recorders; `--quick`: four."""
    bench.settings |= {"kill": "SIGKILL, 0 to 3 s after the start of the recording"}
    with domain(), tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        _kills(bench, 4 if bench.quick else 50, Path(folder))


def _kills(bench: Bench, n: int, bags: Path) -> None:
    """Kill recorders at random moments; what their recordings lack at the end once mended.

    Half of them record a camera, whose chunks fill at once; the others joints alone, whose chunks
    are closed by time.
    """
    draw, lost_s, gaps = random.Random(0), [], 0
    empty = 0
    for load in ("one", "joints"):
        with source_of(load, 0.0) as source:
            for i in range(n // 2):
                place = bags / f"{load}_{i}"
                with recorder(place) as (pid, remote):
                    if i == 0:
                        source.begin()
                    remote.call("start")
                    begun_ns = time.time_ns()
                    time.sleep(draw.uniform(0.0, 3.0))
                    killed_ns = time.time_ns()
                    os.kill(pid, signal.SIGKILL)
                (folder,) = (path.parent for path in place.glob(f"*/{EPISODE_FILE}"))
                try:
                    found = recover_bag(folder)
                    end_ns, missing = _end_of(folder) if found.messages else (None, 0)
                except (BagError, ValueError, OSError) as error:
                    bench.settings[f"not_reopened_{load}_{i}"] = str(error)
                    continue
                empty += end_ns is None
                lost_s.append((killed_ns - (end_ns or begun_ns)) / 1e9)
                gaps += missing
                shutil.rmtree(place)
    bench.add("kills_reopened", len(lost_s), "recordings", goal=str(n), n=n)
    bench.add("kills_empty", empty, "of them without a message yet", n=n)
    bench.add("kill_lost_p50", float(np.median(lost_s)), "s", goal="≤ 1", n=len(lost_s))
    bench.add("kill_lost_max", max(lost_s), "s", goal="≤ 1", n=len(lost_s))
    bench.add("kill_gaps", gaps, "messages missing before the end", goal="0", n=len(lost_s))


def _end_of(folder: Path) -> tuple[int, int]:
    """Last log time, and joint messages that are missing before the last one."""
    with Bag(folder) as bag:
        end_ns = max(m.logged_ns for m in bag.messages(bag.topics))
    sequences = []
    for path in folder.glob("*.mcap"):
        with open(path, "rb") as file:
            for _, channel, message in make_reader(file, validate_crcs=True).iter_messages():
                if channel.topic == "/joint_states":
                    sequences.append(message.sequence)
    if not sequences:
        return end_ns, 0
    return end_ns, max(sequences) - min(sequences) + 1 - len(set(sequences))
