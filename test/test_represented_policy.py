"""A policy in another representation: trained, opened, judged, and in the node on a ROS graph."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import load_contract
from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.episodes.rollout_dataset import roll_outs
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.learning.imitation.settings import TrainError, TrainSettings
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import CheckpointError
from rewact_ros.policy.compatibility import check_contract, fitted
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.representations import POSE_NAMES, Gripper, Representation
from rewact_ros.policy.resolved import representation_of
from rewact_ros.policy.scaling import check_alike
from rewact_ros.sim.task import find_task

TINY = {
    "dim_model": "32",
    "n_heads": "2",
    "dim_feedforward": "32",
    "n_encoder_layers": "1",
    "image_size": "[32,32]",
    "reward_head": "none",
}


def model() -> str:
    return find_task("pick_place").robot_model()


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    pytest.importorskip("gym_aloha")
    folder = tmp_path_factory.mktemp("data") / "demos"
    settings = DemoSettings(folder, VX300S, episodes=2, failures=0, retries=0, workers=1)
    write_demos(settings, progress=False)
    return folder


def trained(demos: Path, out: Path, **asked) -> Path:
    settings = TrainSettings(
        str(demos), str(out), steps=2, batch_size=4, val_episodes="1", device="cpu", policy=TINY,
        contract=str(VX300S), **asked,
    )  # fmt: skip
    train(settings, cache=out.parent / "cache", show_progress=False)
    return out / "checkpoints" / "last" / "pretrained_model"


@pytest.fixture(scope="module")
def ee_delta(demos, tmp_path_factory):
    return trained(demos, tmp_path_factory.mktemp("run") / "ee", representation="ee_delta")


def test_training_writes_the_representation_into_the_configuration(ee_delta, vx300s):
    written = json.loads((ee_delta / "config.json").read_text())["action_representation"]
    assert written["kind"] == "ee_delta" and written["names"] == [*POSE_NAMES, "gripper"]
    loaded = load_policy(ee_delta, "cpu")
    assert loaded.config.action_representation == representation_of(vx300s, "ee_delta")
    scale = loaded.postprocessor.steps[0].state_dict()
    assert scale["action.std"][:3].max() < 0.05, "of steps in m, not of joints in rad"


def test_an_engine_gives_joints_of_the_robot_and_none_before_it_is_fitted(ee_delta, vx300s):
    loaded = load_policy(ee_delta, "cpu")
    state = np.array(vx300s.reset.pose, np.float32)
    seen = {"observation.state": state}
    seen |= {camera.key: np.zeros(camera.shape, np.uint8) for camera in vx300s.cameras}
    assert TorchEngine(loaded).infer(seen).actions.shape == (0, 7)
    engine = TorchEngine(fitted(loaded, vx300s, model))
    engine.warm_up(1)
    actions = engine.infer(seen, 0.0).actions
    limits = vx300s.limits
    assert actions.shape == (20, 7) and actions.dtype == np.float32
    assert (actions[:, :6] >= limits.low[:6] - 1e-6).all()
    assert (actions[:, :6] <= limits.high[:6] + 1e-6).all()
    assert np.abs(actions[0] - state)[:6].max() < 0.3


def test_it_drives_the_simulation(ee_delta, vx300s):
    settings = RolloutSettings(limit_s=1.0)
    rollouts = list(roll_outs(load_policy(ee_delta, "cpu"), vx300s, [100_000], settings))
    assert len(rollouts) == 1 and rollouts[0].duration_s == pytest.approx(1.0)


def test_a_robot_without_kinematics_is_refused_before_anything_moves(ee_delta, vx300s):
    joints_only = replace(vx300s, kinematics=None)
    with pytest.raises(CheckpointError, match="ee_delta: expected a section 'kinematics'"):
        check_contract(load_policy(ee_delta, "cpu"), joints_only)


def test_a_policy_that_speaks_otherwise_does_not_take_the_place_of_a_running_one(
    ee_delta, tiny_policy, vx300s
):
    new, running = load_policy(ee_delta, "cpu"), load_policy(tiny_policy, "cpu")
    with pytest.raises(CheckpointError, match="expected joints as of the running policy"):
        check_alike(new, running, vx300s)


def test_a_binary_gripper_is_trained_and_opened_again(demos, tmp_path, vx300s):
    with pytest.raises(TrainError, match="threshold . hysteresis: expected less than 1"):
        trained(demos, tmp_path / "no", gripper="binary", gripper_threshold=0.95)
    folder = trained(demos, tmp_path / "run", gripper="binary", gripper_interval_s=0.5)
    loaded = load_policy(folder, "cpu")
    assert loaded.config.action_representation.gripper == Gripper(
        "gripper", "binary", min_interval_s=0.5
    )
    seen = {"observation.state": np.array(vx300s.reset.pose, np.float32)}
    seen |= {camera.key: np.zeros(camera.shape, np.uint8) for camera in vx300s.cameras}
    actions = TorchEngine(fitted(loaded, vx300s, model)).infer(seen, 0.0).actions
    assert set(np.unique(actions[:, 6])) <= {0.0, 1.0}


def test_a_configuration_that_was_tampered_with_is_refused(ee_delta, tmp_path):
    for change, words in (
        ({"kind": "os.system"}, "kind: expected one of joints"),
        ({"names": ["ee.x"]}, "needs ee.y|expected the action's 7"),
        ({"tip_m": [float("nan"), 0, 0]}, "not finite|NaN|finite"),
    ):
        folder = tmp_path / str(len(words))
        shutil.copytree(ee_delta, folder)
        raw = json.loads((folder / "config.json").read_text())
        raw["action_representation"] |= change
        (folder / "config.json").write_text(json.dumps(raw))
        with pytest.raises(CheckpointError, match=words):
            load_policy(folder, "cpu")


def with_lerobots_steps(source: Path, folder: Path, relative: dict, absolute: dict) -> Path:
    """The checkpoint with the steps that LeRobot writes for relative actions."""
    shutil.copytree(source, folder)
    for name, step, config, first in (
        ("policy_preprocessor.json", "relative_actions_processor", relative, True),
        ("policy_postprocessor.json", "absolute_actions_processor", absolute, False),
    ):
        raw = json.loads((folder / name).read_text())
        added = {"registry_name": step, "config": config}
        raw["steps"] = [added, *raw["steps"]] if first else [*raw["steps"], added]
        (folder / name).write_text(json.dumps(raw))
    return folder


def test_lerobots_relative_actions_become_what_lerobot_makes_of_them(tiny_policy, vx300s, tmp_path):
    import torch
    from lerobot.processor import to_absolute_actions

    names = [f"{joint}.pos" for joint in vx300s.action_names]
    steps = {"enabled": True, "exclude_joints": ["gripper"], "action_names": names}
    folder = with_lerobots_steps(tiny_policy, tmp_path / "p", steps, {"enabled": True})
    loaded = load_policy(folder, "cpu")
    expected = Representation("joints_relative", tuple(names), tuple(names[:6]), by_index=True)
    assert loaded.config.action_representation == expected
    state = np.array(vx300s.reset.pose, np.float32)
    seen = {"observation.state": state}
    seen |= {camera.key: np.zeros(camera.shape, np.uint8) for camera in vx300s.cameras}
    plain = TorchEngine(load_policy(tiny_policy, "cpu")).infer(seen).actions
    mask = [True] * 6 + [False]
    theirs = to_absolute_actions(torch.tensor(plain)[None], torch.tensor(state)[None], mask)[0]
    ours = TorchEngine(fitted(loaded, vx300s, model)).infer(seen).actions
    assert ours == pytest.approx(theirs.numpy(), abs=1e-5)


def test_half_of_lerobots_relative_actions_is_refused(tiny_policy, vx300s, tmp_path):
    names = list(vx300s.action_names)
    steps = {"enabled": True, "exclude_joints": [], "action_names": names}
    one = with_lerobots_steps(tiny_policy, tmp_path / "one", steps, {"enabled": False})
    with pytest.raises(CheckpointError, match="expected both enabled or neither"):
        load_policy(one, "cpu")
    nameless = steps | {"action_names": None}
    two = with_lerobots_steps(tiny_policy, tmp_path / "two", nameless, {"enabled": True})
    with pytest.raises(CheckpointError, match="action_names: expected 7 names, got 0"):
        load_policy(two, "cpu")
    off = with_lerobots_steps(tiny_policy, tmp_path / "off", {"enabled": False}, {"enabled": False})
    assert load_policy(off, "cpu").config.action_representation is None


def test_the_node_publishes_absolute_joints_of_a_policy_of_poses(graph, ee_delta, vx300s, tmp_path):
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from test_policy_node import Feeder

    from rewact_ros.nodes.policy import PolicyNode

    def node(name: str, contract: Path) -> PolicyNode:
        settings = {"contract": str(contract), "policy": str(ee_delta), "engine": "torch"}
        return PolicyNode(
            namespace=name, parameter_overrides=[Parameter(k, value=v) for k, v in settings.items()]
        )

    without = strict_yaml.load(VX300S)
    del without["kinematics"], without["teleop"]
    bare = tmp_path / "bare.yaml"
    bare.write_text(json.dumps(without))  # JSON is YAML
    assert load_contract(bare).kinematics is None
    with pytest.raises(ValueError, match="ee_delta: expected a section 'kinematics'"):
        node("refused", bare)

    acting = node("acting", VX300S)
    feeder = Feeder(vx300s, namespace="acting")
    feeder.values = list(vx300s.reset.pose)
    executor = SingleThreadedExecutor()
    executor.add_node(acting)
    executor.add_node(feeder)
    try:
        deadline_s = time.monotonic() + 30
        while len(feeder.chunks) < 2:
            assert time.monotonic() < deadline_s, feeder.status
            feeder.feed()
            end_s = time.monotonic() + 0.05
            while time.monotonic() < end_s:
                executor.spin_once(timeout_sec=0.01)
        trajectory = feeder.chunks[-1].trajectory
        assert tuple(trajectory.joint_names) == vx300s.action_names
        joints = np.array([point.positions for point in trajectory.points])
        assert joints.shape == (20, 7)
        assert np.abs(joints[0] - vx300s.reset.pose)[:6].max() < 0.3
    finally:
        acting.close()
        executor.shutdown()
        acting.destroy_node()
        feeder.destroy_node()
