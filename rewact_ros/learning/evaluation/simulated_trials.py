"""The trials of a blinded comparison in the simulation, judged by its truth."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from rewact_ros.contract import load_contract
from rewact_ros.episodes.rollout import Rollout, Trace, record_rollout, roll_out
from rewact_ros.episodes.rollout_dataset import engine_for, simulation
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import CheckpointFiles
from rewact_ros.sim.task import Task, find_task
from rewact_ros.trials.journal import Result
from rewact_ros.trials.settings import TrialSettings
from rewact_ros.trials.study import Trial


@contextmanager
def simulated_trials(
    checkpoints: Sequence[CheckpointFiles],
    task: str,
    trials: TrialSettings,
    settings: RolloutSettings,
    device: str = "auto",
) -> Iterator[Callable[[Trial], Result]]:
    """Give what drives a trial: every version of a block meets the same scene.

    Args:
        checkpoints: of the versions, in their order.
        task: simulated task.
        trials: the first scene, and whether progress counts, as the task's labels have it.
        settings: timing, end and disturbances.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        TaskError: no such task.
        ContractError, CheckpointError: a policy was made for another robot.
    """
    contract = load_contract(find_task(task).contract_file())
    engines = [engine_for(load_policy(files, device), contract, task) for files in checkpoints]
    with simulation(contract, task) as sim:

        def drive(trial: Trial) -> Result:
            engine, seed = engines[trial.version], trials.first_scene + trial.block
            if not trials.partial:
                return _result(roll_out(engine, sim, seed, settings), None)
            rollout, trace = record_rollout(engine, sim, seed, settings)
            return _result(rollout, 1.0 if rollout.success else furthest(sim, trace))

        yield drive


def furthest(task: Task, trace: Trace) -> float:
    """Largest progress label of an episode; 0 where its truth names none.

    The last label would not do: it falls to 0 where a failure is true.
    """
    labels = task.progress(trace.course)
    known = labels[np.isfinite(labels)]
    return float(known.max()) if len(known) else 0.0


def _result(rollout: Rollout, progress: float | None) -> Result:
    about: dict[str, Any] = {
        "by": "simulation",
        "scene": rollout.seed,
        "reason": "success" if rollout.success else f"{rollout.stage}: {_end(rollout)}",
        "duration_s": rollout.duration_s,
    }
    score = float(rollout.success) if progress is None else progress
    return Result(score, rollout.success, about)


def _end(rollout: Rollout) -> str:
    return rollout.failure or "time-out"
