"""Scripted episodes simulated for a dataset, in this process or in several."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from rewact_ros.episodes.demonstration import Demonstration, demonstrate
from rewact_ros.sim.task import Task, find_task
from rewact_ros.workers import begin_worker


@dataclass(frozen=True)
class DemoJob:
    """One episode to simulate; arguments as for `demonstrate`."""

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

    def __init__(self, task: type[Task], workers: int, size: tuple[int, int]) -> None:
        self._pool: Any = None
        if workers > 1:
            # Spawned, as OpenGL and torch do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = context.Pool(
                workers, initializer=_start_named, initargs=(task.name, *size)
            )
        else:
            _start_worker(task, *size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()
        else:
            _stop_worker()

    def run(self, jobs: list[DemoJob]) -> Iterator[tuple[DemoJob, Demonstration]]:
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


_worker_task: Task | None = None


def _start_named(task: str, height: int, width: int) -> None:
    begin_worker()
    _start_worker(find_task(task), height, width)  # by name: a class of a family has no module


def _start_worker(task: type[Task], height: int, width: int) -> None:
    global _worker_task
    _worker_task = task(width, height, task.cameras)


def _stop_worker() -> None:
    global _worker_task
    if _worker_task is not None:
        _worker_task.close()
    _worker_task = None


def _simulate(job: DemoJob) -> tuple[DemoJob, Demonstration]:
    if _worker_task is None:
        raise RuntimeError("worker without a simulation: _start_worker did not run")
    return job, demonstrate(_worker_task, job.seed, job.fault, job.retry, job.noise_rad)
