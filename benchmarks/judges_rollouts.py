"""Roll-outs of another policy, and what each judge says of their frames; for `judges`."""

import json
import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from supervisor_rollouts import SETTINGS, arrays_of, write_one

from rewact_ros.contract import load_contract
from rewact_ros.episodes.rollout import Trace, record_rollout
from rewact_ros.files import replace_file
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.reward.judges import Judge, JudgeSettings, open_judge
from rewact_ros.share import share_dir
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.sim.timing import RATE_HZ
from rewact_ros.stack.bringup import default_contract

JUDGES = {
    "rewact": share_dir() / "models" / "vx300s_pick_place",
    "classifier": share_dir() / "models" / "vx300s_pick_place_success",
}


def file_of(folder: Path, judge: str, seed: int) -> Path:
    """Where a judge's scores of a scene lie."""
    return folder / "rollouts" / judge / f"{seed}.npz"


def drive(policy: Path, folder: Path, seeds: list[int], limit_s: float) -> None:
    """In a process of its own: roll-outs, and what each judge says of their frames."""
    torch.set_num_threads(1)
    contract = load_contract(default_contract())
    engine = TorchEngine(load_policy(policy, "cpu"), rate_hz=contract.rate_hz)
    judges = {
        name: open_judge(model, contract, JudgeSettings("cpu"), print)[0]
        for name, model in JUDGES.items()
    }
    for name, judge in judges.items():
        judge.warm_up()
        (folder / "rollouts" / name).mkdir(parents=True, exist_ok=True)
    height, width = contract.cameras[0].shape[:2]
    with closing(PickPlace(width, height)) as sim:
        for seed in seeds:
            _, trace = record_rollout(engine, sim, seed, replace(SETTINGS, limit_s=limit_s))
            for name, judge in reversed(judges.items()):  # whose file says that all is done: last
                write_one(file_of(folder, name, seed), judged(trace, judge))
    about = {name: judge.reward_hash for name, judge in judges.items()}
    replace_file(folder / "judges.json", json.dumps(about) + "\n")


def judged(trace: Trace, judge: Judge) -> dict[str, np.ndarray]:
    """Arrays of `Recorded`: the judge looks at the frames in their order, as on the robot."""
    judge.reset()
    said = []
    for k, state in enumerate(trace.state):
        images = {f"observation.images.{name}": seen[k] for name, seen in trace.images.items()}
        said.append(judge.infer({"observation.state": state, **images}, k / RATE_HZ))
    return arrays_of(trace, said, [math.nan] * len(said))
