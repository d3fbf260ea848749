"""Labels of datasets written in a process of their own.

LeRobot comes with PyTorch. Imported into a console it would hold up the threads that hear a jog's
hand for most of a second, and stay there with half a gigabyte.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from rewact_ros.data.review.rows import ReviewError
from rewact_ros.workers import begin_worker

NICENESS = 10


class Labeller:
    """Runs functions one after another in a process that begins with the first; any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def warm(self) -> None:
        """Let the process begin, so that it is there when it is needed; returns at once."""
        with self._lock:
            is_new = self._pool is None
        if is_new:
            self._there().submit(_load)

    def run[**P](self, work: Callable[P, None], *given: P.args, **named: P.kwargs) -> None:
        """Run a module's function with plain values, and raise what it raises.

        Raises:
            ReviewError: the process died; a label is written whole or not at all.
        """
        pool = self._there()
        try:
            pool.submit(work, *given, **named).result()
        except BrokenProcessPool as error:
            self.close()
            raise ReviewError("the process that writes labels died; look, and try again") from error

    def close(self) -> None:
        """End the process once it has written what it writes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _there(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                spawn = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, spawn, initializer=_begin)
            return self._pool


def _begin() -> None:
    begin_worker()
    os.nice(NICENESS)


def _load() -> None:
    """What writing labels needs."""
    import rewact_ros.data.labels.statistics
    import rewact_ros.data.review.dataset_verdict  # noqa: F401
