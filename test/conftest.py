"""Fixtures of all tests: contracts, small checkpoints, isolated ROS domains."""

import os
import signal
import socket
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import pytest

from rewact_ros.contract import Contract, load_contract

ROOT = Path(__file__).parents[1]
VX300S = ROOT / "config" / "robots" / "vx300s.yaml"
G1 = ROOT / "config" / "robots" / "g1.yaml"
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What nodes remember or make once stays out of the user's own folders, and of other runs."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk():
    """Tests kill processes and cut no power, and a busy disk takes tens of ms for each file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def own_modules():
    """What a benchmark imports from beside itself is gone afterwards, as before a command."""
    before, beside = (set(sys.modules), list(sys.path)), str(ROOT / "benchmarks")
    yield
    for name in set(sys.modules) - before[0]:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(beside):
            del sys.modules[name]
    sys.path[:] = before[1]


@pytest.fixture(autouse=True)
def ordinary_priority():
    """No test leaves the process realtime: all that runs after it would starve the machine."""
    before = os.sched_getscheduler(0)
    yield
    left = os.sched_getscheduler(0)
    if left != before:
        os.sched_setscheduler(0, before, os.sched_param(0))
    assert left == before, f"left the process with scheduling policy {left}, not {before}"


@pytest.fixture(scope="module")
def graph():
    """ROS in this process, in a domain of its own."""
    import rclpy

    from rewact_ros.stack.domain import own_domain

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        lock = own_domain()
        rclpy.init()
        yield
        rclpy.shutdown()
        lock.release()


@pytest.fixture(scope="session")
def vx300s() -> Contract:
    """Contract of the simulated arm."""
    return load_contract(VX300S)


@pytest.fixture(scope="session")
def g1() -> Contract:
    """Contract of the real humanoid data set."""
    return load_contract(G1)


def write_policy(contract: Contract, folder: Path, **config: object) -> Path:
    """A small untrained checkpoint for a contract, that commands poses near the reset pose."""
    import numpy as np
    import torch
    from lerobot.configs import FeatureType, PolicyFeature

    from rewact_ros.policy.checkpoint import save_policy
    from rewact_ros.policy.configuration_rewact import RewACTConfig
    from rewact_ros.policy.modeling_rewact import RewACTPolicy
    from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors

    actions = len(contract.action_names)
    home = torch.tensor(contract.reset.pose if contract.reset else np.zeros(actions))
    state = home if len(contract.state_names) == actions else torch.zeros(len(contract.state_names))
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(contract.state_names),))}
    stats = {
        "observation.state": {"mean": state.float(), "std": torch.ones(len(contract.state_names))},
        "action": {"mean": home.float(), "std": torch.full((actions,), 0.05)},
    }
    for camera in contract.cameras:
        height, width, channels = camera.shape
        inputs[camera.key] = PolicyFeature(FeatureType.VISUAL, (channels, height, width))
        stats[camera.key] = {
            "mean": torch.full((3, 1, 1), 0.5),
            "std": torch.full((3, 1, 1), 0.25),
        }
    settings = {
        "chunk_size": 20,
        "n_action_steps": 20,
        "vision_backbone": "small_cnn",
        "dim_model": 32,
        "n_heads": 4,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "use_vae": False,
        "device": "cpu",
    }
    torch.manual_seed(0)
    policy = RewACTPolicy(
        RewACTConfig(
            input_features=inputs,
            output_features={"action": PolicyFeature(FeatureType.ACTION, (actions,))},
            **{**settings, **config},
        )
    )
    processors = make_rewact_pre_post_processors(policy.config, dataset_stats=stats)
    record = {"hash": contract.hash, "signature": contract.signature()}
    save_policy(folder, policy, *processors, contract=record)
    return folder


@pytest.fixture(scope="session")
def tiny_policy(vx300s: Contract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint folder of an untrained policy for the simulated arm."""
    return write_policy(vx300s, tmp_path_factory.mktemp("policy") / "tiny")


def help_out(task, human, limit_s: float) -> None:
    """Let a scripted human drive a task at 100 Hz until done, or for as long as the limit."""
    human.ask(0.0)
    for tick in range(round(limit_s * 100)):
        target = human.step(tick / 100, task.command, task.scene(), human.pressed)
        if human.pressed and target is not None:
            task.set_command(target)
        task.advance(0.01)
        if human.reason == "done":
            break


def run_command(monkeypatch, *words) -> int:
    """Run `rewact WORDS` in this process as its script does; returns the exit code."""
    from rewact_ros.cli import main

    monkeypatch.setattr(sys, "argv", ["rewact", *map(str, words)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    return end.value.code or 0
