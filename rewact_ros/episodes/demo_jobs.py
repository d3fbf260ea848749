"""Scripted episodes simulated for a dataset, in this process or in several."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from rewact_ros.episodes.demonstration import Episode, roll_out
from rewact_ros.sim.pick_place.simulation import PickPlaceSim


@dataclass(frozen=True)
class DemoJob:
    """One episode to simulate; arguments as for `roll_out`."""

    seed: int
    fault: str | None
    retry: bool
    noise_rad: float

    @property
    def wants_success(self) -> bool:
        """Whether the episode is meant to end well."""
        return self.fault is None or self.retry


class Simulator:
    """Simulates jobs here (one worker) or in processes of their own; a context manager."""

    def __init__(self, workers: int, size: tuple[int, int]) -> None:
        self._pool: Any = None
        if workers > 1:
            # Spawned, as OpenGL and torch do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = context.Pool(workers, initializer=_start_worker, initargs=(*size, True))
        else:
            _start_worker(*size, ignore_interrupt=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
        else:
            _stop_worker()

    def run(self, jobs: list[DemoJob]) -> Iterator[tuple[DemoJob, Episode]]:
        """Yield results in the order of the jobs; few wait, as an episode's images weigh 7 MB."""
        if self._pool is None:
            yield from map(_simulate, jobs)
            return
        pending: deque[Any] = deque()
        for job in jobs:
            pending.append(self._pool.apply_async(_simulate, (job,)))
            if len(pending) > 6:
                yield pending.popleft().get()
        while pending:
            yield pending.popleft().get()


_worker_sim: PickPlaceSim | None = None


def _start_worker(height: int, width: int, ignore_interrupt: bool) -> None:
    global _worker_sim
    if ignore_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _worker_sim = PickPlaceSim(width, height)


def _stop_worker() -> None:
    global _worker_sim
    if _worker_sim is not None:
        _worker_sim.close()
    _worker_sim = None


def _simulate(job: DemoJob) -> tuple[DemoJob, Episode]:
    if _worker_sim is None:
        raise RuntimeError("worker without a simulation: _start_worker did not run")
    return job, roll_out(_worker_sim, job.seed, job.fault, job.retry, job.noise_rad)
