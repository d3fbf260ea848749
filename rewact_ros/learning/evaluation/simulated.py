"""A policy judged in the simulation: its successes, its failures, and what its reward is worth."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rewact_ros.contract import load_contract
from rewact_ros.episodes.rollout_dataset import record_rollouts, roll_outs
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.reward.judge_check import JudgeCheck
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.task import find_task

from .dataset import judge_summary
from .judging import check_rewards


def evaluate_simulation(
    loaded: LoadedPolicy,
    task: str,
    seeds: Sequence[int],
    settings: RolloutSettings,
    record: Path | None = None,
) -> tuple[dict[str, Any], JudgeCheck | None]:
    """Drive an episode per seed; returns the figures as JSON takes them, and the judge's check.

    Args:
        loaded: the policy.
        task: simulated task.
        seeds: scenes, at least one.
        settings: timing, end and disturbances.
        record: dataset to write the episodes to; None: none.

    Raises:
        TaskError: no such task.
        DemosError: the folder to record to exists.
        ContractError, CheckpointError: the policy was made for another robot.
    """
    contract, results = load_contract(find_task(task).contract_file()), []
    if record is not None:
        episodes = record_rollouts(loaded, contract, seeds, settings, record, task)
    else:
        episodes = roll_outs(loaded, contract, seeds, settings, task)
    bar = tqdm(episodes, total=len(seeds), unit="episode", mininterval=1)
    for result in bar:
        results.append(result)
        bar.set_postfix_str(f"success {sum(r.success for r in results)}/{len(results)}")
    successes = sum(r.success for r in results)
    low, high = wilson_interval(successes, len(results))
    inferences_hz = contract.rate_hz / settings.replan_steps
    check = check_rewards([r.rewards for r in results], [r.success for r in results], inferences_hz)
    failures = Counter(f"{r.stage}: {r.failure or 'time-out'}" for r in results if not r.success)
    figures = {
        "success": {
            "value": successes / len(results),
            "n": len(results),
            "low": low,
            "high": high,
        },
        "failures": dict(failures.most_common()),
        "judge": judge_summary(check),
        "episodes": [asdict(r) for r in results],
    }
    return figures, check
