"""Recordings encoded here or in several processes; one that is refused does not stop the others."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

from rewact_ros.data.bags.reader import BagError
from rewact_ros.data.export.encode import Job, encode
from rewact_ros.workers import begin_worker

_stop: Any = None
_progress: Any = None


class Stopped(RuntimeError):
    """The export was ended; what is not finished is done again next time."""


def run_jobs(
    jobs: list[Job], workers: int, on_seconds: Callable[[float], object]
) -> Iterator[tuple[int, str]]:
    """Encode all; yields (place in `jobs`, why it was refused or empty) as they end.

    Args:
        jobs: recordings.
        workers: processes; with 1 this one does it itself.
        on_seconds: called with seconds of recording that were done.
    """
    if workers <= 1:
        for place, job in enumerate(jobs):
            yield place, _encode(job, on_seconds)
        return
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    stop, progress = context.Event(), context.SimpleQueue()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (stop, progress))
    try:
        waiting = {pool.submit(_work, job): place for place, job in enumerate(jobs)}
        while waiting:
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            while not progress.empty():
                on_seconds(progress.get())
            for future in done:
                yield waiting.pop(future), future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _encode(job: Job, on_seconds: Callable[[float], object]) -> str:
    try:
        encode(job, on_seconds)
    except BagError as error:
        return str(error)
    return ""


def _start_worker(stop: Any, progress: Any) -> None:
    global _stop, _progress
    _stop, _progress = stop, progress
    begin_worker()


def _work(job: Job) -> str:
    return _encode(job, _tell)


def _tell(seconds: float) -> None:
    if _stop.is_set():
        raise Stopped
    _progress.put(seconds)
