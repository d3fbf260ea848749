"""Bench topic `judges`: what a judge beside another policy promises, and what it keeps.

The other policies have no reward of their own: an ACT, and LeRobot's diffusion policy. They learned
from other demonstrations than the judges, and not for long, so that they also fail. Their roll-outs
on unseen scenes, judging off, are scored by the shipped RewACT and by the shipped success
classifier, each as `rewact up --judge` runs it. Then thresholds are chosen on some roll-outs and
counted on the others, over many splits, as for a policy's own reward (`supervisor_splits.py`).

What was trained and driven lies in `runs/bench/judges` and `runs/bench/lerobot`; a run that was
killed goes on. The diffusion policy needs diffusers, and is left out where there is none.
"""

import json
import math
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from judges_rollouts import JUDGES, drive, file_of
from lerobot_training import DEMONSTRATIONS, demonstrations, is_installed, trained
from numpy.typing import NDArray
from robots_representations import acting_alone, require_fresh, train_kind
from supervisor_rollouts import SETTINGS, Collection, Recorded, read_one
from supervisor_splits import CALIBRATION_SHARE, MONITOR, episodes_of, over_splits
from tasks_stages import supported

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.reward.judge_check import check_judge, horizon
from rewact_ros.stack.bringup import default_contract
from rewact_ros.supervision.calibration import Basis, CalibrationSettings
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.workers import begin_worker

ACT, DIFFUSION = "ACT", "diffusion"
# First scenes; nobody else reports these.
REPORTED = {ACT: 244_000, DIFFUSION: 248_000}
SPREAD = (5, 95)  # percentiles over the splits
_GOALS = {
    "false_completions": "≤ 0.05 (β)",
    "false_alarms": "≤ 0.05 (α)",
    "successes_detected": "≥ 0.9",
    "failures_detected": "≥ 0.9",
}
_SHOWN = (*_GOALS, "failures_called_complete", "success_delay_p50", "threshold")


@dataclass(frozen=True)
class Plan:
    """How much is done with a policy."""

    scenes: int
    limit_s: float = SETTINGS.limit_s
    splits: int = 200


ACT_STEPS = 1500
# An inference of the diffusion policy takes 80 ms, and most of what fails has failed by then.
_FULL = {ACT: Plan(250), DIFFUSION: Plan(130, limit_s=12.0)}
_QUICK = dict.fromkeys((ACT, DIFFUSION), Plan(2, splits=2))


def run(bench: Bench) -> None:
    """Train the policies, let them drive, judge, split; `--quick` shows that it runs."""
    plans = dict(_QUICK if bench.quick else _FULL)
    if not is_installed(DIFFUSION):
        del plans[DIFFUSION]
    root = bench.folder / f"judges{'-quick' if bench.quick else ''}"
    if bench.quick:
        shutil.rmtree(root, ignore_errors=True)
    for name, plan in plans.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        require_fresh(folder, plan)
        policy = driver(name, folder, bench)
        record(policy, name, folder, plan, os.cpu_count() or 1)
        version = load_policy(policy, "cpu").version
        bench.settings[name] = asdict(plan) | {"version": version, "first scene": REPORTED[name]}
        for judge in JUDGES:
            collected = collection(folder, judge, version, _seeds(name, plan), plan.limit_s)
            add_figures(bench, f"{name}, {judge}", collected, plan)


def driver(name: str, folder: Path, bench: Bench) -> Path:
    """The policy that is judged."""
    lerobot = bench.folder / f"lerobot{'-quick' if bench.quick else ''}"
    if name == DIFFUSION:
        return trained(name, lerobot, bench.quick)
    demos = demonstrations(lerobot, 2 if bench.quick else DEMONSTRATIONS)
    batch_size, steps = (4, 10) if bench.quick else (32, ACT_STEPS)
    settings = acting_alone(demos, Path(default_contract()), steps, batch_size, 0.0)
    train_kind(replace(settings, out=str(folder / "policy")), folder / "frames")
    return folder / "policy" / "checkpoints" / "last" / "pretrained_model"


def record(policy: Path, name: str, folder: Path, plan: Plan, workers: int) -> None:
    """Drive and judge the scenes that were not driven yet; every episode is a file."""
    missing = [s for s in _seeds(name, plan) if not file_of(folder, "rewact", s).exists()]
    print(f"  {name}: {len(missing)} of {plan.scenes} scenes to drive")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=begin_worker) as pool:
        parts = [missing[i::workers] for i in range(workers)]
        for done in [
            pool.submit(drive, policy, folder, part, plan.limit_s) for part in parts if part
        ]:
            done.result()


def collection(folder: Path, judge: str, version: str, seeds: range, limit_s: float) -> Collection:
    """What a judge said of all roll-outs."""
    contract = load_contract(default_contract())
    episodes: list[Recorded] = [read_one(file_of(folder, judge, s), s) for s in seeds]
    basis = Basis(
        reward_hash=json.loads((folder / "judges.json").read_text())[judge],
        policy_version=version,
        contract_hash=contract.hash,
        cameras=tuple(camera.key for camera in contract.cameras),
        rate_hz=contract.rate_hz,
        timeout_s=limit_s,
    )
    level = "mean" if np.isnan(episodes[0].q10).all() else "q10"
    return Collection(basis, SignalSettings(level=level), episodes)


def add_figures(bench: Bench, name: str, collected: Collection, plan: Plan) -> None:
    """AUC over the same horizon, and what the thresholds keep on roll-outs they never saw."""
    episodes = episodes_of(collected)
    succeeds = np.isfinite(episodes.success)
    bench.settings[f"{name}: succeed"] = f"{int(succeeds.sum())} of {len(succeeds)}"
    limit = horizon([len(e.held) for e in episodes.sources], succeeds)
    scores = np.array([np.nan_to_num(e.held[:limit]).max() for e in episodes.sources])
    check = check_judge(scores, succeeds)
    if min(check.successes, check.failures):
        n = len(succeeds)
        bench.add(f"{name} auc", check.auc, "", goal="≥ 0.97", n=n, low=check.low, high=check.high)
    if bench.quick:
        return  # two roll-outs support no rate
    rates = supported(CalibrationSettings(), fewest(succeeds, plan.splits))
    bench.settings[f"{name}: alpha"] = rates.alpha
    goals = _GOALS | {"false_alarms": f"≤ {rates.alpha:g} (α)"}
    found = over_splits(collected, episodes, rates, plan.splits)
    for rule, prefix in ((MONITOR, name), ("one_sample_0.9", f"{name}, one sample above 0.9")):
        for figure in _SHOWN:
            values = np.array([split.get(figure, math.nan) for split in found[rule]])
            known = values[np.isfinite(values)]
            if not len(known) or (rule != MONITOR and figure == "threshold"):
                continue
            low, high = np.percentile(known, SPREAD)
            goal = goals.get(figure, "") if rule == MONITOR else ""
            unit = "s" if "delay" in figure else "score" if figure == "threshold" else "share"
            bench.add(
                f"{prefix} {figure}",
                float(known.mean()),
                unit,
                goal=goal,
                n=_count(figure, succeeds),
                low=float(low),
                high=float(high),
            )


def fewest(succeeds: NDArray[np.bool_], splits: int) -> int:
    """Successes among those that thresholds are chosen on, in the split that has the fewest."""
    rng, chosen = np.random.default_rng(0), round(CALIBRATION_SHARE * len(succeeds))
    orders = [rng.permutation(len(succeeds)) for _ in range(splits)]
    return int(min(succeeds[order[:chosen]].sum() for order in orders))


def _count(figure: str, succeeds: NDArray[np.bool_]) -> int:
    """Roll-outs that a figure speaks of: the failures, the successes, or all."""
    if figure.startswith("failures"):
        return int((~succeeds).sum())
    return int(succeeds.sum()) if "success" in figure or "alarm" in figure else len(succeeds)


def _seeds(name: str, plan: Plan) -> range:
    return range(REPORTED[name], REPORTED[name] + plan.scenes)
