"""Scripted demonstrations, successes and real failures, written as a LeRobotDataset v3."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
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
from rewact_ros.settings import check, setting
from rewact_ros.sim.task import DEFAULT_TASK, Task, find_task

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset


@dataclass(frozen=True)
class DemoSettings:
    """What to record.

    Attributes:
        out: folder of the new dataset; must not exist.
        contract: robot contract (features, rate, image size).

    Raises:
        DemosError: a number out of range.
    """

    out: Path
    contract: Path
    episodes: int = setting(300, "episodes that succeed", low=0)
    failures: int = setting(
        60, "further episodes that fail, by each of the task's faults in turn", low=0
    )
    retries: int = setting(
        40, "of the successes, how many make good a fault of the first attempt", low=0
    )
    # The next ones: tuning 100 000 to 199 999, reported figures 200 000 and up.
    seed: int = setting(
        0, "first scene seed; each episode takes the next (training: 0 to 99999)", low=0
    )
    noise_rad: float = setting(
        0.035, "motion noise on the arm joints", "rad", 0.0, 0.2, option="noise"
    )
    workers: int = setting(
        2, "simulating processes; with 1, the writing process does it itself", low=1
    )
    task: str = setting(DEFAULT_TASK, "simulated task")

    def __post_init__(self) -> None:
        check(self, DemosError)
        if self.retries > self.episodes:
            raise DemosError(
                f"retries: expected at most episodes ({self.episodes}), got {self.retries}"
            )
        if self.episodes + self.failures == 0:
            raise DemosError("nothing to record: episodes and failures are both 0")


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


def episode_labels(episode: Demonstration, task: type[Task]) -> dict[str, NDArray[Any]]:
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
    success: NDArray[np.bool_] = np.zeros(frames, bool)
    teaches: NDArray[np.bool_] = np.zeros(frames, bool)
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
        rounds, otherwise = 0, Counter[str]()
        while jobs:
            rounds += 1
            if rounds > 10:
                raise DemosError(_says_why(task, jobs, otherwise))
            again = []
            for job, episode in simulator.run(jobs):
                if not _as_asked(job, episode):
                    report["rejected"] += 1
                    otherwise[_what(job, episode)] += 1
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
        DemoJob(settings.seed + place, fault, retry, settings.noise_rad)
        for place, (fault, retry) in enumerate(kinds[kind] for kind in order.tolist())
    ]


def _as_asked(job: DemoJob, episode: Demonstration) -> bool:
    """Tell whether chance (noise, a lucky miss) left the episode what it was meant to be."""
    if job.wants_success:
        disturbed = episode.failure_frame is not None
        return episode.success_frame is not None and disturbed == job.retry
    return episode.success_frame is None and episode.failure_frame is not None


def _what(job: DemoJob, episode: Demonstration) -> str:
    """What was asked of an episode, and how it ended."""
    asked = job.fault or "success"
    truth = episode.truth
    ended = "success" if truth.success else truth.failure or f"nothing but {truth.stage}"
    return f"{asked}{' after it' if job.retry else ''} asked, {ended} at the end"


def _says_why(task: type[Task], jobs: list[DemoJob], otherwise: Counter[str]) -> str:
    causes = "; ".join(f"{count} × {what}" for what, count in otherwise.most_common(4))
    return (
        f"task {task.name}: {len(jobs)} episodes still do not turn out as asked ({causes}): lower "
        "--noise, ask for fewer --failures or --retries, or mend the task's expert"
    )


def _summary(episode: Demonstration) -> dict[str, Any]:
    return {
        "seed": episode.seed,
        "fault": episode.fault,
        "retried": episode.retried,
        "frames": len(episode.action),
        "success_frame": episode.success_frame,
        "failure": episode.truth.failure,
    }
