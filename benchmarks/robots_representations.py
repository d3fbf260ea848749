"""Bench topic `robots-representations`: the simulated ViperX by joints, poses and pose deltas.

Poses drive it twice: resolved into joints by the policy's node, and through a simulated Cartesian
controller, which takes poses only. The same scenes, expert, settings and steps for each; robot and
`--representation` differ. Each begins with the weights of the shipped policy but for what reads the
state and what gives the action, which begin anew: so all act well after minutes of training, and a
difference of a few points shows. Then the same unseen scenes, paired. A run that was killed goes
on: demonstrations and trainings in `runs/bench/robots-representations`, scenes by twenties.
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer
from safetensors.torch import load_file, save_file

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import load_contract
from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.episodes.rollout_dataset import roll_outs
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.files import replace_file
from rewact_ros.learning.imitation.settings import TrainSettings
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.task import DEFAULT_TASK, find_task

# What is driven → task, and representation of its actions.
DRIVEN = {
    "joints": (DEFAULT_TASK, "joints"),
    "ee": (DEFAULT_TASK, "ee"),
    "ee_delta": (DEFAULT_TASK, "ee_delta"),
    "controller-ee": ("pick_place_cartesian", "ee"),
    "controller-ee_delta": ("pick_place_cartesian", "ee_delta"),
}
# First scenes: demonstrations below 100 000, reported from 200 000; no other bench reports these.
DEMOS, REPORTED = 30_000, 230_000
_BATCH = 20  # scenes between two notes on disk
# As the shipped policy was trained, without a reward, since only actions are compared.
_POLICY = {
    "dropout": "0.0",
    "random_shift_px": "4",
    "brightness_jitter": "0.1",
    "state_noise_std": "0.02",
    "reward_head": "none",
}
# Layers that depend on what a state and an action are.
_ANEW = ("model.encoder_robot_state_input_proj.", "model.action_head.")


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    demonstrations: int = 50
    steps: int = 1200
    batch_size: int = 32
    scenes: int = 100
    limit_s: float = 20.0


_QUICK = Plan(demonstrations=2, steps=10, batch_size=4, scenes=1, limit_s=2.0)


class StaleError(ValueError):
    """Results of another plan lie in the folder."""


def run(bench: Bench) -> None:
    """Train three policies and try each on the same scenes.

    Raises:
        StaleError: results of another plan lie there.
    """
    plan = _QUICK if bench.quick else Plan()
    folder = bench.folder / f"robots-representations{'-quick' if bench.quick else ''}"
    if bench.quick:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    _require_fresh(folder, plan)
    bench.settings |= asdict(plan) | {"first scene": REPORTED, "threads": 1}
    found = {}
    for name, (task, kind) in DRIVEN.items():
        contract_file = find_task(task).contract_file()
        demos = folder / ("demos" if task == DEFAULT_TASK else f"demos-{task}")
        if not demos.exists():
            _demonstrate(demos, task, plan)
        out = folder / name
        if not (out / "trained").exists():
            typer.echo(f"  {name}: train")
            settings = replace(_training(demos, out, contract_file, plan), task=task)
            begin = folder / f"{name}-begin"
            _begin(replace(settings, out=str(begin), representation=kind), folder / "frames")
            settings = replace(settings, start=str(_newest(begin)), policy={})
            train(settings, folder / "frames", resume=True, show_progress=False)
            (out / "trained").touch()
        found[name] = _drive(_newest(out), task, folder / f"{name}.json", plan)
    _report(bench, found)


def _begin(settings: TrainSettings, frames: Path) -> None:
    """A checkpoint of the kind, with the shipped policy's weights wherever a layer has the same."""
    begin = Path(settings.out)
    if (begin / "begun").exists():
        return
    shutil.rmtree(begin, ignore_errors=True)
    one = replace(settings, steps=1, warmup_steps=0, save_every=1, val_every=1)
    train(one, frames, show_progress=False)
    shipped = find_task(DEFAULT_TASK).policy_folder()
    assert shipped is not None
    ours, file = load_file(shipped / "model.safetensors"), _newest(begin) / "model.safetensors"
    weights = load_file(file)
    kept = {k: ours[k] for k in weights if k in ours and not k.startswith(_ANEW)}
    save_file(weights | kept, file)
    (begin / "begun").touch()


def _newest(run: Path) -> Path:
    return run / "checkpoints" / "last" / "pretrained_model"


def _demonstrate(demos: Path, task: str, plan: Plan) -> None:
    shutil.rmtree(demos.with_name(f"{demos.name}.partial"), ignore_errors=True)
    settings = DemoSettings(
        demos,
        find_task(task).contract_file(),
        episodes=plan.demonstrations,
        failures=0,
        retries=0,
        seed=DEMOS,
        workers=1,
        task=task,
    )
    write_demos(settings, progress=False)


def _training(demos: Path, out: Path, contract_file: Path, plan: Plan) -> TrainSettings:
    return TrainSettings(
        dataset=str(demos),
        out=str(out),
        val_fraction=0.05 if plan.demonstrations > 2 else 0.0,
        steps=plan.steps,
        batch_size=plan.batch_size,
        warmup_steps=min(100, plan.steps // 2),
        val_every=10_000,
        save_every=min(100, plan.steps),
        policy=_POLICY,
        contract=str(contract_file),
    )


def _drive(policy: Path, task: str, file: Path, plan: Plan) -> list[dict[str, Any]]:
    """Roll-outs of all scenes, those of an earlier run among them."""
    done: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    contract = load_contract(find_task(task).contract_file())
    settings, loaded = RolloutSettings(limit_s=plan.limit_s), load_policy(policy, "cpu")
    while len(done) < plan.scenes:
        first = REPORTED + len(done)
        seeds = range(first, min(first + _BATCH, REPORTED + plan.scenes))
        typer.echo(f"  {file.stem}: scenes {seeds.start} to {seeds.stop - 1}")
        for rollout in roll_outs(loaded, contract, seeds, settings, task):
            keys = ("seed", "success", "stage", "failure", "duration_s")
            done.append({key: getattr(rollout, key) for key in keys})
        replace_file(file, json.dumps(done) + "\n")
    return done


def _report(bench: Bench, found: dict[str, list[dict[str, Any]]]) -> None:
    of_joints = [episode["success"] for episode in found["joints"]]
    for kind, episodes in found.items():
        wins = [episode["success"] for episode in episodes]
        low, high = wilson_interval(sum(wins), len(wins))
        share = sum(wins) / len(wins)
        bench.add(f"{kind} success", share, "share", n=len(wins), low=low, high=high)
        times = sorted(e["duration_s"] for e in episodes if e["success"])
        median = times[len(times) // 2] if times else None
        bench.add(f"{kind} median time of a success", median, "s", n=len(times))
        if kind == "joints":
            continue
        behind = 100 * (sum(of_joints) - sum(wins)) / len(wins)
        bench.add(f"{kind} behind joints", behind, "points", goal="<= 3", n=len(wins))
        pairs = list(zip(of_joints, wins, strict=True))
        bench.add(f"scenes that joints alone solve, beside {kind}", pairs.count((True, False)), "")
        bench.add(f"scenes that {kind} alone solves", pairs.count((False, True)), "")


def _require_fresh(folder: Path, plan: Plan) -> None:
    file, now = folder / "plan.json", asdict(plan) | {"policy": _POLICY}
    if not file.exists():
        replace_file(file, json.dumps(now) + "\n")
    elif (then := json.loads(file.read_text())) != now:
        raise StaleError(f"{file}: made with {then}, now {now}; move {folder} away")
