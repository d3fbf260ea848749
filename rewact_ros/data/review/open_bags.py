"""Recordings that are looked at stay open: to open gigabytes anew for each picture is slow."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rewact_ros.data.bags.folder import bag_names
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.review.places import Signature, bag_signature

MOST_OPEN = 4


@dataclass
class _Opened:
    """One open recording; `lock` is held by whoever reads it."""

    signature: Signature
    lock: threading.Lock = field(default_factory=threading.Lock)
    bag: Bag | None = None
    times: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)


class Looked:
    """An open recording with the times that were asked for before."""

    def __init__(self, bag: Bag, times: dict[str, NDArray[np.int64]]) -> None:
        self.bag, self._times = bag, times

    def times(self, topic: str) -> NDArray[np.int64]:
        """As `Bag.times`, read once."""
        if topic not in self._times:
            self._times[topic] = self.bag.times(topic)
        return self._times[topic]


class OpenBags:
    """Keeps a few recordings open, each read by one thread at a time; safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: OrderedDict[Path, _Opened] = OrderedDict()

    @contextmanager
    def use(self, folder: Path, namespace: str) -> Iterator[Looked]:
        """Give an open recording; one whose files changed is opened anew.

        Raises:
            BagError: it cannot be read.
        """
        if not _may_stay_open(folder):
            with Bag(folder, namespace, sparse=True) as bag:
                yield Looked(bag, {})
            return
        opened = self._entry(folder)
        with opened.lock:
            if opened.bag is None:
                opened.bag = opened.stack.enter_context(Bag(folder, namespace, sparse=True))
            yield Looked(opened.bag, opened.times)
        self._close_old()

    def close(self) -> None:
        """Close what nobody reads now."""
        with self._lock:
            opened = list(self._opened.values())
            self._opened.clear()
        for one in opened:
            _close(one)

    def _entry(self, folder: Path) -> _Opened:
        now = bag_signature(folder)
        with self._lock:
            found = self._opened.get(folder)
            if found is None or found.signature != now:
                if found is not None:
                    _close(found)  # or, while another thread still reads it, with its last user
                found = self._opened[folder] = _Opened(now)
            self._opened.move_to_end(folder)
            return found

    def _close_old(self) -> None:
        with self._lock:
            for folder in list(self._opened)[:-MOST_OPEN]:
                if _close(self._opened[folder]):
                    del self._opened[folder]


def _close(opened: _Opened) -> bool:
    """Close a recording that nobody reads; whether it is closed."""
    if not opened.lock.acquire(blocking=False):
        return False
    try:
        opened.stack.close()
        opened.bag = None
    finally:
        opened.lock.release()
    return True


def _may_stay_open(folder: Path) -> bool:
    """MCAP alone: a connection of sqlite belongs to the thread that made it."""
    names = bag_names(folder)
    return bool(names) and all(name.endswith(".mcap") for name in names)
