"""A policy over many simulated scenes, and these as a LeRobotDataset labelled from the truth."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.episodes.dataset import (
    add_episode,
    check_contract,
    new_dataset,
    whole_folder,
    write_json,
)
from rewact_ros.episodes.verdicts import FORMAT, ROLLOUTS
from rewact_ros.formats import FORMAT_KEY
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.compatibility import fitted
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.sim.task import DEFAULT_TASK, Task, find_task, open_task

from .rollout import Rollout, Trace, record_rollout, roll_out
from .settings import RolloutSettings

_FURTHER = {"predicted_reward": {"dtype": "float32", "shape": (1,), "names": None}}


def roll_outs(
    loaded: LoadedPolicy,
    contract: Contract,
    seeds: Iterable[int],
    settings: RolloutSettings,
    task: str = DEFAULT_TASK,
) -> Generator[Rollout, None, None]:
    """Drive an episode per seed and yield it.

    Raises:
        DemosError: the contract does not fit the simulated robot.
        ContractError, CheckpointError: the policy was made for another one.
    """
    with simulated(loaded, contract, task) as (engine, sim):
        for seed in seeds:
            yield roll_out(engine, sim, seed, settings)


def record_rollouts(
    loaded: LoadedPolicy,
    contract: Contract,
    seeds: Iterable[int],
    settings: RolloutSettings,
    out: Path,
    task: str = DEFAULT_TASK,
) -> Iterator[Rollout]:
    """Drive an episode per seed, yield it, and write them all to a new dataset.

    The dataset has the features and labels of the demonstrations (`rewact demos`), plus
    ``predicted_reward`` (float32, NaN where the policy gave none); `meta/rollouts.json` says which
    policy drove, how, and how each episode ended. The folder appears when the last episode is done.

    Args:
        loaded: the policy.
        contract: of the simulated robot.
        seeds: scenes.
        settings: timing, end and disturbances.
        out: must not exist.
        task: name of the simulated task.

    Raises:
        DemosError: the folder exists, or the contract does not fit the simulated robot.
        ContractError, CheckpointError: the policy was made for another contract.
    """

    results: list[Rollout] = []
    with whole_folder(out) as partial, simulated(loaded, contract, task) as (engine, sim):
        with new_dataset(contract, partial, _FURTHER) as dataset:
            for seed in seeds:
                rollout, trace = record_rollout(engine, sim, seed, settings)
                add_episode(
                    dataset,
                    contract,
                    sim.text,
                    trace.state,
                    trace.action,
                    trace.images,
                    rollout_labels(sim, trace),
                )
                results.append(rollout)
                yield rollout
        write_json(partial / ROLLOUTS, _report(loaded, settings, results))


@contextmanager
def simulated(
    loaded: LoadedPolicy, contract: Contract, task: str = DEFAULT_TASK
) -> Iterator[tuple[TorchEngine, Task]]:
    """Give the policy ready to run, and the task with its cameras, once both fit the contract.

    Raises:
        DemosError: the contract does not fit the simulated robot.
        ContractError, CheckpointError: the policy was made for another one.
    """
    engine = engine_for(loaded, contract, task)
    with simulation(contract, task) as sim:
        yield engine, sim


def engine_for(loaded: LoadedPolicy, contract: Contract, task: str) -> TorchEngine:
    """Give the policy ready to run in `simulation`, once both fit the contract.

    Raises:
        DemosError, ContractError, CheckpointError: as `simulated`.
    """
    check_contract(contract, find_task(task))
    loaded = fitted(loaded, contract, find_task(task).robot_model)
    return TorchEngine(loaded, rate_hz=contract.rate_hz)


def simulation(contract: Contract, task: str = DEFAULT_TASK) -> AbstractContextManager[Task]:
    """Give the task, its cameras at the size of the contract's first one."""
    height, width, _ = contract.cameras[0].shape
    return open_task(task, height, width)


def rollout_labels(task: Task, trace: Trace) -> dict[str, NDArray[Any]]:
    """Label the n frames of a roll-out; each (n,), ``predicted_reward`` the policy's own.

    No frame teaches the action (``demo_is_pad``): these are no demonstrations.
    """
    n = len(trace.truths)
    return {
        "next.reward": task.progress(trace.course),
        "next.done": np.arange(n) == n - 1,
        "next.success": np.array([truth.success for truth in trace.truths]),
        "demo_is_pad": np.ones(n, bool),
        "predicted_reward": np.array(trace.reward, np.float32),
    }


def _report(
    loaded: LoadedPolicy, settings: RolloutSettings, results: list[Rollout]
) -> dict[str, Any]:
    episodes = [asdict(result) for result in results]
    for episode in episodes:
        del episode["rewards"]  # the column predicted_reward has them
    return {
        FORMAT_KEY: FORMAT,
        "policy": {"path": loaded.path.name, "version": loaded.version},
        "settings": asdict(settings),
        "episodes": episodes,
    }
