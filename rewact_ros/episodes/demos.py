"""Scripted demonstrations, successes and real failures, written as a LeRobotDataset v3."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from rewact_ros.contract import Contract, load_contract
from rewact_ros.episodes.dataset import (
    DemosError,
    add_episode,
    check_contract,
    new_dataset,
    whole_folder,
    write_json,
)
from rewact_ros.episodes.demo_jobs import DemoJob, Simulator
from rewact_ros.episodes.demonstration import Demonstration
from rewact_ros.reward.labels import task_progress
from rewact_ros.sim.task import DEFAULT_TASK, Task, find_task

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset


@dataclass(frozen=True)
class DemoSettings:
    """What to record.

    Attributes:
        out: folder of the new dataset; must not exist.
        contract: robot contract (features, rate, image size).
        episodes: episodes that succeed, `retries` of them after the task's retry fault.
        failures: episodes that end failed, by each of the task's faults in turn.
        retries: as above.
        seed: first scene seed; each episode takes the next (training 0 to 99 999, tuning 100 000
            to 199 999, reported figures 200 000 and up).
        noise_rad: standard deviation of the motion noise on the arm joints.
        workers: processes that simulate; with 1, the writing process does it itself.
        task: name of the simulated task.

    Raises:
        DemosError: a number out of range.
    """

    out: Path
    contract: Path
    episodes: int = 300
    failures: int = 60
    retries: int = 40
    seed: int = 0
    noise_rad: float = 0.035
    workers: int = 2
    task: str = DEFAULT_TASK

    def __post_init__(self) -> None:
        for name, least in (
            ("episodes", 0),
            ("failures", 0),
            ("retries", 0),
            ("seed", 0),
            ("workers", 1),
        ):
            if getattr(self, name) < least:
                raise DemosError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.retries > self.episodes:
            raise DemosError(
                f"retries: expected at most episodes ({self.episodes}), got {self.retries}"
            )
        if self.episodes + self.failures == 0:
            raise DemosError("nothing to record: episodes and failures are both 0")
        if not 0.0 <= self.noise_rad <= 0.2:
            raise DemosError(f"noise: expected 0 to 0.2 rad, got {self.noise_rad}")


def write_demos(settings: DemoSettings, progress: bool = True) -> dict[str, Any]:
    """Record the demonstrations and return the report that is also in `meta/demos.json`.

    The dataset grows in `<out>.partial` and takes its name when it is complete; an interrupted or
    failed run removes it. Every frame of an episode is labelled from the simulator's truth:
    `next.reward` (progress), `next.success` (true from the success on), `next.done` (last frame)
    and `demo_is_pad` (true where the action is not to be imitated: in failures, and in a retry
    before the renewed approach; the name is one that LeRobot's own processors pass on).

    Raises:
        DemosError: the folder exists, or the contract does not fit the simulated robot.
        ContractError: the contract cannot be read.
        SimulationUnavailableError: MuJoCo, its assets or off-screen OpenGL are missing.
    """
    contract = load_contract(settings.contract)
    task = find_task(settings.task)
    check_contract(contract, task)
    with whole_folder(settings.out) as partial:
        height, width, _ = contract.cameras[0].shape
        task(width, height, task.cameras).close()  # a missing part is named here, before any worker
        return _record(settings, task, contract, partial, progress)


def episode_labels(episode: Demonstration, task: type[Task]) -> dict[str, np.ndarray]:
    """Return the labels of an episode's n frames, each (n,).

    Raises:
        ValueError: the episode neither succeeded nor failed in a way that the truth names.
    """
    frames = len(episode.action)
    reward = task_progress(
        frames,
        episode.nominal_frames + task.settle_frames,
        success_frame=episode.success_frame,
        failure_frame=episode.failure_frame,
        resume_frame=episode.resume_frame if episode.success_frame is not None else None,
    )
    index = np.arange(frames)
    success = np.zeros(frames, bool)
    teaches = np.zeros(frames, bool)
    if episode.success_frame is not None:
        success = index >= episode.success_frame
        teaches = index >= (episode.resume_frame or 0)
    return {
        "next.reward": reward,
        "next.done": index == frames - 1,
        "next.success": success,
        "demo_is_pad": ~teaches,
    }


def _record(
    settings: DemoSettings, task: type[Task], contract: Contract, folder: Path, progress: bool
) -> dict[str, Any]:
    with new_dataset(contract, folder) as dataset:
        report = _fill(dataset, settings, task, contract, progress)
    write_json(folder / "meta" / "demos.json", report)
    return report


def _fill(
    dataset: LeRobotDataset,
    settings: DemoSettings,
    task: type[Task],
    contract: Contract,
    progress: bool,
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "settings": {**asdict(settings), "out": settings.out.name, "contract": contract.robot},
        "rejected": 0,
        "episodes": [],
    }
    size = contract.cameras[0].shape[:2]
    jobs = _jobs(settings, task)
    next_seed = settings.seed + len(jobs)
    with (
        Simulator(task, settings.workers, size) as simulator,
        tqdm(
            total=len(jobs), desc="demos", unit="episode", disable=not progress, mininterval=1.0
        ) as bar,
    ):
        rounds = 0
        while jobs:
            rounds += 1
            if rounds > 10:
                raise DemosError(
                    f"{len(jobs)} episodes still do not turn out as asked: lower --noise"
                )
            again = []
            for job, episode in simulator.run(jobs):
                if not _as_asked(job, episode):
                    report["rejected"] += 1
                    again.append(DemoJob(next_seed, job.fault, job.retry, job.noise_rad))
                    next_seed += 1
                    continue
                labels = episode_labels(episode, task)
                add_episode(
                    dataset,
                    contract,
                    task.text,
                    episode.state,
                    episode.action,
                    episode.images,
                    labels,
                )
                report["episodes"].append(_summary(episode))
                bar.update()
            jobs = again
    return report


def _jobs(settings: DemoSettings, task: type[Task]) -> list[DemoJob]:
    """Return the episodes to record, the kinds mixed so that any part of the set has them all."""
    kinds: list[tuple[str | None, bool]] = [(None, False)] * (settings.episodes - settings.retries)
    kinds += [(task.retry_fault, True)] * settings.retries
    kinds += [(task.faults[index % len(task.faults)], False) for index in range(settings.failures)]
    order = np.random.default_rng(settings.seed).permutation(len(kinds))
    return [
        DemoJob(settings.seed + place, *kinds[kind], settings.noise_rad)
        for place, kind in enumerate(order)
    ]


def _as_asked(job: DemoJob, episode: Demonstration) -> bool:
    """Tell whether chance (noise, a lucky miss) left the episode what it was meant to be."""
    if job.wants_success:
        disturbed = episode.failure_frame is not None
        return episode.success_frame is not None and disturbed == job.retry
    return episode.success_frame is None and episode.failure_frame is not None


def _summary(episode: Demonstration) -> dict[str, Any]:
    return {
        "seed": episode.seed,
        "fault": episode.fault,
        "retried": episode.retried,
        "frames": len(episode.action),
        "success_frame": episode.success_frame,
        "failure": episode.truth.failure,
    }
