"""A simulated robot that takes poses: task, node on a graph, and policies of poses for it."""

import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64
from test_represented_policy import TINY

from rewact_ros.contract import load_contract
from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.episodes.rollout_dataset import roll_outs
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.learning.imitation.represented import represent
from rewact_ros.learning.imitation.settings import TrainError, TrainSettings
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.compatibility import fitted
from rewact_ros.policy.representations import POSE_KINDS, POSE_NAMES, RepresentationError
from rewact_ros.policy.resolved import Resolver, representation_of, require_representation
from rewact_ros.ros.chunk_messages import ChunkWriter
from rewact_ros.ros.commands import pose_message
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.door import MalformedError
from rewact_ros.ros.episode_interface import SampleReader
from rewact_ros.ros.interfaces import SENSOR
from rewact_ros.rotations import rotations
from rewact_ros.sim.task import find_task

CONTRACT = ROOT / "config" / "robots" / "vx300s_cartesian.yaml"
NAME = "pick_place_cartesian"


@pytest.fixture(scope="module")
def contract():
    return load_contract(CONTRACT)


@pytest.fixture(scope="module")
def blind():
    pytest.importorskip("gym_aloha")
    return find_task(NAME)(96, 96, ())


@pytest.fixture(scope="module")
def episodes(blind):
    return [demonstrate(blind, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    pytest.importorskip("gym_aloha")
    folder = tmp_path_factory.mktemp("data") / "demos"
    write_demos(
        DemoSettings(folder, CONTRACT, episodes=2, failures=0, retries=0, workers=1, task=NAME),
        progress=False,
    )
    return folder


def test_the_expert_succeeds_through_the_controller(episodes):
    assert [episode.truth.success for episode in episodes] == [True] * 4


def test_the_controller_brings_the_tool_where_it_is_told(blind):
    blind.reset(3)
    goal = blind.command + np.array([0.05, -0.04, 0.06, 0.0, 0.0, 0.3, -0.5])
    blind.set_command(goal)
    blind.advance(2.0)
    there = blind.joint_positions()
    assert np.linalg.norm(there[:3] - goal[:3]) < 0.005
    turn = rotations(there[3:6]).T @ rotations(goal[3:6])
    assert np.trace(turn) > 3 - 0.001
    assert there[6] == pytest.approx(goal[6], abs=0.05)
    blind.reset(3)
    blind.set_command(goal + np.array([3.0, 0, 0, 0, 0, 0, 0]))  # out of reach
    blind.advance(1.0)
    assert np.isfinite(blind.joint_positions()).all()


def test_help_begins_where_the_tool_is(blind):
    blind.reset(5)
    blind.advance(0.5)
    rescue = find_task(NAME).rescue(blind.scene(), blind.joint_positions())
    ticks = int(rescue.duration_s * 100) + 100
    for tick in range(ticks):
        blind.set_command(rescue.command(min(tick / 100, rescue.duration_s)))
        blind.advance(0.01)
    assert blind.truth().success


@pytest.mark.parametrize("kind", POSE_KINDS)
def test_the_experts_poses_come_back_through_the_representation(kind, contract, episodes):
    representation = representation_of(contract, kind)
    assert representation.names == (*POSE_NAMES, "gripper")
    assert representation.joints == contract.action[0].joints
    resolver = Resolver(representation, contract, None)
    for episode in episodes[:2]:
        action, state = np.array(episode.action), np.array(episode.state)
        actions = represent(representation, contract, None, action, state, contract.action_names)
        rows = np.arange(0, len(action) - 20, 7)
        steps = rows[:, None] + np.arange(20)
        for row, chunk in zip(rows, actions.chunks(rows, steps), strict=True):
            found = resolver(chunk, state[row], None)
            assert np.abs(found - action[row : row + 20]).max() < 1e-4
            assert resolver.trouble == ""


def test_what_a_robot_of_poses_cannot_be_told_is_refused_by_name(contract):
    with pytest.raises(RepresentationError, match="expected none of a pose, .* got ee.x"):
        representation_of(contract, "joints_delta")
    made = representation_of(contract, "ee_delta")
    moved = replace(contract.action[0], frame_id="elsewhere")
    with pytest.raises(RepresentationError, match="frame: expected base_link as in training"):
        require_representation(made, replace(contract, action=(moved, contract.action[1])))
    other = replace(contract.action[0], name="other", joints=("a", "b", "c", "d", "e", "f"))
    seen = replace(contract.state[0], joints=other.joints)
    two = replace(contract, action=(*contract.action, other), state=(*contract.state, seen))
    with pytest.raises(RepresentationError, match="expected one Cartesian part .* ee, other"):
        representation_of(two, "ee_delta")
    of_joints = load_contract(ROOT / "config" / "robots" / "vx300s.yaml")
    with pytest.raises(RepresentationError, match="got 'ee.x'"):
        require_representation(made, of_joints)


@pytest.mark.parametrize("kind", [None, "ee_delta"])
def test_a_policy_of_poses_is_trained_and_drives_it(kind, demos, contract, tmp_path):
    settings = TrainSettings(
        str(demos), str(tmp_path / "out"), steps=2, batch_size=4, val_episodes="1", device="cpu",
        policy=TINY, contract=str(CONTRACT), representation=kind, task=NAME,
    )  # fmt: skip
    train(settings, cache=tmp_path / "cache", show_progress=False)
    loaded = load_policy(tmp_path / "out" / "checkpoints" / "last" / "pretrained_model", "cpu")
    assert (fitted(loaded, contract, str).resolver is not None) == (kind is not None)
    (rollout,) = roll_outs(loaded, contract, [100_000], RolloutSettings(limit_s=1.0), NAME)
    assert rollout.duration_s == pytest.approx(1.0)


def test_poses_without_their_contract_are_still_refused(demos, tmp_path):
    settings = TrainSettings(
        str(demos), str(tmp_path / "out"), steps=1, batch_size=4, policy=TINY, device="cpu"
    )
    with pytest.raises(TrainError, match="got tool poses .* --contract"):
        train(settings, cache=tmp_path / "cache", show_progress=False)


class Client(Node):
    """A controller's client: what it hears, and a pose that it sends."""

    def __init__(self, contract):
        super().__init__("client", use_global_arguments=False)
        self.poses, self.grippers = [], []
        (arm, hand), (seen, opening) = contract.action, contract.state
        self.create_subscription(PoseStamped, seen.topic, self.poses.append, SENSOR)
        self.create_subscription(JointState, opening.topic, self.grippers.append, SENSOR)
        self.arm = self.create_publisher(PoseStamped, arm.topic, 10)
        self.hand = self.create_publisher(Float64, hand.topic, 10)

    def at(self, goal, opening) -> bool:
        at = self.poses[-1].pose.position
        far = np.linalg.norm(np.array([at.x, at.y, at.z]) - goal[:3])
        return far < 0.01 and abs(self.grippers[-1].position[0] - opening) < 0.1


def test_the_node_takes_poses_and_tells_them(graph, contract):
    pytest.importorskip("gym_aloha")
    from rewact_ros.nodes.sim import SimNode

    asked = {"contract": str(CONTRACT), "task": NAME, "render": False}
    sim = SimNode(parameter_overrides=[Parameter(k, value=v) for k, v in asked.items()])
    client, executor = Client(contract), SingleThreadedExecutor()
    executor.add_node(sim)
    executor.add_node(client)
    goal, deadline_s = np.array([0.35, 0.1, 0.25, 0.0, 1.5708, 0.0]), time.monotonic() + 30
    try:
        while not (client.poses and client.grippers and client.at(goal, 0.2)):
            assert time.monotonic() < deadline_s, (client.poses[-1:], client.grippers[-1:])
            client.arm.publish(PoseStamped(pose=pose_message(goal)))
            client.hand.publish(Float64(data=0.2))
            executor.spin_once(timeout_sec=0.05)
        assert client.poses[-1].header.frame_id == "base_link"
        assert client.grippers[-1].name == ["gripper"]
        lame = PoseStamped()
        lame.pose.orientation.w = 0.0  # no rotation
        for _ in range(5):
            client.arm.publish(lame)
            executor.spin_once(timeout_sec=0.05)
        end_s = time.monotonic() + 1
        while time.monotonic() < end_s:
            executor.spin_once(timeout_sec=0.05)
        assert client.at(goal, 0.2)
    finally:
        client.destroy_node()
        sim.close()
        sim.destroy_node()


def test_the_supervisor_reads_chunks_of_poses(contract):
    rows = np.tile([0.3, 0.1, 0.2, 0.0, 1.5, 0.0, 0.4], (5, 1))
    message = ChunkWriter(contract).write(rows, to_stamp(2 * 10**9))
    reader = SampleReader(contract)
    reader.on_chunk(message)
    stamp_ns, actions = reader._chunk
    assert stamp_ns == 2 * 10**9 and np.abs(actions - rows).max() < 1e-6
    message.poses.points[0].transforms.clear()
    with pytest.raises(MalformedError, match="step 0 of the chunk has 0 poses, expected 1"):
        reader.on_chunk(message)
