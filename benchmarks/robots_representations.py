"""Bench topic `robots-representations`: the simulated ViperX by joints, poses and pose deltas.

The same demonstrations, settings and steps for each of three policies; only `--representation`
differs. The same unseen scenes for all, paired. Those of poses drive the arm twice: resolved into
joints, as the policy's node does it, and through a simulated Cartesian controller (task
`pick_place_cartesian`), which takes the poses as they are. A run that was killed goes on:
demonstrations and trainings in `runs/bench/robots-representations`, scenes by twenties.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray

from rewact_ros.bench.figures import Bench
from rewact_ros.contract import Contract, load_contract
from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.episodes.rollout import Rollout, roll_out
from rewact_ros.episodes.rollout_dataset import roll_outs, simulation
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.files import replace_file
from rewact_ros.kinematics import ArmModel
from rewact_ros.learning.imitation.settings import TrainSettings
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.policy.engine import Observation, Prediction, TorchEngine
from rewact_ros.policy.representations import Columns, Poses, decode_poses, values_of
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.pick_place.cartesian import PickPlaceCartesian
from rewact_ros.sim.task import DEFAULT_TASK, find_task

KINDS = ("joints", "ee", "ee_delta")
THROUGH = "controller-"  # before a kind: its poses go to the Cartesian controller
DRIVEN = (*KINDS, *(f"{THROUGH}{kind}" for kind in KINDS[1:]))
CONTROLLER = "pick_place_cartesian"
# First scenes: demonstrations below 100 000, reported from 200 000; no other bench reports these.
DEMOS, REPORTED = 31_000, 240_000
_BATCH = 20  # scenes between two notes on disk
# As the shipped policy was trained, without a reward, since only actions are compared.
_POLICY = {
    "dropout": "0.0",
    "random_shift_px": "4",
    "brightness_jitter": "0.1",
    "state_noise_std": "0.02",
    "reward_head": "none",
}


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    demonstrations: int = 200
    retries: int = 30
    steps: int = 4000
    batch_size: int = 32
    scenes: int = 100
    limit_s: float = 20.0


_QUICK = Plan(demonstrations=2, retries=0, steps=10, batch_size=4, scenes=1, limit_s=2.0)


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
    require_fresh(folder, plan)
    bench.settings |= asdict(plan) | {"first scene": REPORTED, "threads": 1}
    contract_file, demos = find_task(DEFAULT_TASK).contract_file(), folder / "demos"
    if not demos.exists():
        shutil.rmtree(demos.with_name("demos.partial"), ignore_errors=True)
        settings = DemoSettings(
            demos,
            contract_file,
            episodes=plan.demonstrations,
            failures=0,
            retries=plan.retries,
            seed=DEMOS,
            workers=1,
        )
        write_demos(settings, progress=False)
    val_fraction = 0.05 if plan.demonstrations > 2 else 0.0
    base = acting_alone(demos, contract_file, plan.steps, plan.batch_size, val_fraction)
    for kind in KINDS:
        train_kind(replace(base, out=str(folder / kind), representation=kind), folder / "frames")
    found = {name: drive(name, folder, plan) for name in DRIVEN}
    _report(bench, found)


def acting_alone(
    demos: Path, contract: Path, steps: int, batch_size: int, val_fraction: float
) -> TrainSettings:
    """How a policy without a reward is trained on scripted demonstrations."""
    return TrainSettings(
        dataset=str(demos),
        out="",
        val_fraction=val_fraction,
        steps=steps,
        batch_size=batch_size,
        lr=5e-4,
        lr_backbone=5e-4,
        val_every=10_000,
        save_every=min(100, steps),
        policy=_POLICY,
        contract=str(contract),
    )


def train_kind(settings: TrainSettings, frames: Path) -> None:
    """Train, or go on where a training was killed."""
    out = Path(settings.out)
    if not (out / "trained").exists():
        typer.echo(f"  {out.name}: train")
        train(settings, frames, resume=True, show_progress=False)
        (out / "trained").touch()


def drive(name: str, folder: Path, plan: Plan) -> list[dict[str, Any]]:
    """Roll-outs of all scenes, those of an earlier run among them."""
    file = folder / f"{name}.json"
    done: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    kind = name.removeprefix(THROUGH)
    loaded = load_policy(folder / kind / "checkpoints" / "last" / "pretrained_model", "cpu")
    settings = RolloutSettings(limit_s=plan.limit_s)
    while len(done) < plan.scenes:
        first = REPORTED + len(done)
        seeds = range(first, min(first + _BATCH, REPORTED + plan.scenes))
        typer.echo(f"  {name}: scenes {seeds.start} to {seeds.stop - 1}")
        for rollout in _roll_outs(loaded, seeds, settings, name.startswith(THROUGH)):
            keys = ("seed", "success", "stage", "failure", "duration_s")
            done.append({key: getattr(rollout, key) for key in keys})
        replace_file(file, json.dumps(done) + "\n")
    return done


def _roll_outs(
    loaded: LoadedPolicy, seeds: range, settings: RolloutSettings, through: bool
) -> Iterator[Rollout]:
    contract = load_contract(find_task(DEFAULT_TASK).contract_file())
    if not through:
        yield from roll_outs(loaded, contract, seeds, settings)
        return
    with simulation(load_contract(find_task(CONTROLLER).contract_file()), CONTROLLER) as sim:
        assert isinstance(sim, PickPlaceCartesian)
        engine = ToController(loaded, sim, contract)
        for seed in seeds:
            yield roll_out(engine, sim, seed, settings)


class ToController(TorchEngine):
    """A policy of poses for an arm of joints, whose poses are not resolved.

    It sees the arm's joints, as in its training; the Cartesian controller gets its poses.
    """

    def __init__(self, loaded: LoadedPolicy, sim: PickPlaceCartesian, contract: Contract) -> None:
        super().__init__(loaded)
        assert loaded.representation is not None and contract.kinematics is not None
        self._sim, self._dt_s, self._kind = sim, contract.dt_s, loaded.representation.kind
        self._columns = Columns(loaded.representation, contract.action_names)
        self._arm = ArmModel(contract.kinematics, find_task(DEFAULT_TASK).robot_model)

    def infer(self, observation: Observation, stamp_s: float | None = None) -> Prediction:
        joints = self._sim.arm_joints().astype(np.float32)
        return super().infer({**observation, OBS_STATE: joints}, stamp_s)

    def _joints(
        self, prediction: Prediction, observation: Observation, stamp_s: float | None
    ) -> NDArray[np.float32]:
        numbers = prediction.actions.astype(np.float64)
        seen = Poses(*self._arm.pose(observation[OBS_STATE][:6].astype(np.float64)))
        poses = decode_poses(self._kind, numbers[:, self._columns.pose], seen, self._dt_s)
        gripper = numbers[:, self._columns.kept_columns]
        return np.concatenate([values_of(poses), gripper], axis=1).astype(np.float32)


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


def require_fresh(folder: Path, plan: Any) -> None:
    """Note the plan of a folder, or refuse one that holds results of another.

    Raises:
        StaleError: names both.
    """
    file, now = folder / "plan.json", asdict(plan) | {"policy": _POLICY}
    if not file.exists():
        replace_file(file, json.dumps(now) + "\n")
    elif (then := json.loads(file.read_text())) != now:
        raise StaleError(f"{file}: made with {then}, now {now}; move {folder} away")
