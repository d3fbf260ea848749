"""Whether time ran backwards within a recording.

Readers sort by the time of recording, so that two passes over the same times lie over each other:
the images of one with the joints of the other. Only the order of the messages in the file tells.
"""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewact_ros.data.bags.mcap_index import chunk_times
from rewact_ros.data.bags.mcap_scan import scan
from rewact_ros.stamps import BACK_S, NANO

_MCAP, _DB3 = ".mcap", ".db3"
_STEPS_BACK = """
    SELECT name, before, timestamp FROM (
        SELECT topic_id, id, timestamp,
               LAG(timestamp) OVER (PARTITION BY topic_id ORDER BY id) AS before FROM messages)
    JOIN topics ON topics.id = topic_id WHERE before - timestamp > ? LIMIT 1
"""


@dataclass(frozen=True)
class StepBack:
    """A topic's messages of which one was recorded long before the one before it in the file."""

    file: Path
    topic: str
    from_ns: int
    to_ns: int

    def __str__(self) -> str:
        back_s = (self.from_ns - self.to_ns) / NANO
        return (
            f"{self.file}: time ran backwards by {back_s:.2f} s on {self.topic}, from "
            f"{self.from_ns / NANO:.3f} to {self.to_ns / NANO:.3f}"
        )


def step_back(path: Path) -> StepBack | None:
    """The first place at which the time of recording of a topic runs backwards; None: it does not.

    Args:
        path: folder of a recording, or one of its files. What cannot be read is not judged here.
    """
    files = [path] if path.is_file() else sorted(path.glob("*"), key=_in_order)
    for file in files:
        try:
            if file.suffix == _MCAP:
                found = _in_mcap(file)
            elif file.suffix == _DB3:
                found = _in_sqlite(file)
            else:
                continue
        except (OSError, sqlite3.Error, ValueError):
            continue  # whoever reads it says what is wrong
        if found is not None:
            return found
    return None


def _in_order(path: Path) -> list[str | int]:
    """`bag_10` comes after `bag_9`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _in_mcap(path: Path) -> StepBack | None:
    """By the message indexes behind the chunks; no chunk that has them is decompressed."""
    found = scan(path)
    last: dict[int, int] = {}
    with open(path, "rb") as file:
        for chunk in sorted(found.chunks, key=lambda chunk: chunk.origin):
            for channel, times in chunk_times(file, chunk).items():
                if channel not in found.channels:
                    continue
                for before, now in _falls(times, last.get(channel)):
                    return StepBack(path, found.channels[channel].topic, before, now)
                if len(times):
                    last[channel] = int(times[-1])
    return None


def _falls(times: NDArray[np.int64], last: int | None) -> Iterator[tuple[int, int]]:
    """Neighbours of (n,) times that fall by more than a slewed clock does."""
    all_times = times if last is None else np.concatenate([[last], times])
    for place in np.flatnonzero(np.diff(all_times) < -BACK_S * NANO):
        yield int(all_times[place]), int(all_times[place + 1])


def _in_sqlite(path: Path) -> StepBack | None:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        row = connection.execute(_STEPS_BACK, (round(BACK_S * NANO),)).fetchone()
    finally:
        connection.close()
    return None if row is None else StepBack(path, *row)
