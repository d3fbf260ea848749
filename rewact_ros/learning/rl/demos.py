"""Demonstrations of a LeRobotDataset as transitions, through the same eyes as the robot's own."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rewact_ros.contract import check_signature
from rewact_ros.data.dataset.info import recorded_signature
from rewact_ros.learning.imitation.demonstrations import Demonstrations, load_demonstrations
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import SignalSettings

from .base import Base
from .driver import Driver
from .journal import Journal
from .reward_judge import RewardJudge
from .settings import LearnError, RLSettings
from .transitions import STATE, Transition, TransitionBuilder

_DONE = "demos.json"


def open_demos(
    folder: Path, dataset: Path, episodes: int, base: Base, settings: RLSettings,
    signals: SignalSettings, completion: float, judge: RewardJudge | None = None,
) -> Journal:  # fmt: skip
    """The journal of a run's demonstrations, made on the first call.

    Args:
        folder: of the journal.
        dataset: a LeRobotDataset of successes, such as demonstrations or recorded interventions.
        episodes: how many of its successful episodes, the first ones.
        base: the frozen policy, which adds its plan and progress to every frame.
        settings: of the run.
        signals, completion: a demonstration ends where the monitor says that it is done, as the
            robot's own episodes do, else with its last frame.
        judge: of their rewards; with another one than before they are made anew.

    Raises:
        LearnError: none of the dataset's episodes succeeds, or the journal is of something else.
        DatasetError: not a dataset.
        ContractError: it was recorded on another robot, or at another rate.
    """
    data, judge = load_demonstrations(dataset, labels_needed=False), judge or RewardJudge()
    recipe = {
        "dataset": data.fingerprint,
        "episodes": episodes,
        "base": base.loaded.version,
        "steps": settings.steps,
        "candidates": settings.candidates,
        "speeds": list(settings.speeds),
        "image_size": list(base.image_size),
        "signals": asdict(signals),
        "completion": completion,
        "reward": judge.recipe,
    }
    done = folder / _DONE
    if done.exists():
        made = {"reward": None, "speeds": [1.0]} | json.loads(done.read_text())
        if made == recipe:
            return Journal(folder)
        if made | {"reward": recipe["reward"]} != recipe:
            raise LearnError(
                f"{folder}: holds other demonstrations, or of another base or other settings; "
                "give another --out"
            )
    _check(base, dataset)
    chosen = _successes(data, dataset, episodes)
    shutil.rmtree(folder, ignore_errors=True)  # of a process killed while making it
    journal = Journal(folder)
    data.decode(None, chosen, None)
    driver = Driver(settings, base, None)
    for index in tqdm(chosen, desc="demonstrations", unit="episode", mininterval=1):
        monitor = EpisodeMonitor(Thresholds(completion=completion), signals)
        for transition in _transitions(data, index, driver, base, settings, monitor, judge):
            journal.append(transition)
    journal.sync()
    done.write_text(json.dumps(recipe))
    return journal


def _transitions(
    data: Demonstrations,
    index: int,
    driver: Driver,
    base: Base,
    settings: RLSettings,
    monitor: EpisodeMonitor,
    judge: RewardJudge,
) -> Iterator[Transition]:
    """One episode. The action of step t, in force at its end, is the dataset's of frame t + 1."""
    rows = data.rows([index])
    builder = TransitionBuilder(base.spec(settings), settings.steps)
    builder.begin(f"demo-{index:06d}")
    driver.begin(index)
    judge.begin()
    for place, row in enumerate(rows):
        raw = {STATE: data.state[row]}
        raw |= {camera: np.array(frames[row]) for camera, frames in data.frames.items()}
        seen = driver.observe(raw, place / data.fps)
        monitor.add(seen.sample)
        judge.see(raw, place / data.fps)
        over = monitor.complete or place == len(rows) - 1
        reward = judge.step(success=over, last=over) if place else 0.0
        if over:
            finished = builder.end(seen.observation, True, reward, success=True)
        else:
            action = data.action[row + 1]
            finished = builder.add(seen.observation, action, human=True, reward=reward)
        if finished is not None:
            yield finished
        if monitor.complete:
            return


def _successes(data: Demonstrations, dataset: Path, episodes: int) -> list[int]:
    found = np.unique(data.episode[data.succeeds]).tolist()
    if not found:
        raise LearnError(
            f"{dataset}: none of its episodes succeeds, so there is nothing to imitate; give "
            "demonstrations, or none (--demos '')"
        )
    return found[:episodes]


def _check(base: Base, dataset: Path) -> None:
    check_signature(base.contract, recorded_signature(dataset), str(dataset))
