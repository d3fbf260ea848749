"""What the policy node says about unusable input, in a ROS graph of this process."""

import time

import numpy as np
import pytest
import rclpy
from conftest import VX300S, write_policy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from rewact_ros.cli.domain import own_domain
from rewact_ros.msg import ActionChunk, PolicyStatus, Reward
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import image_message

PICTURE = np.zeros((96, 96, 3), np.uint8)


class Feeder(Node):
    """Publishes one set of messages at 20 Hz and keeps what the policy answers."""

    def __init__(self, contract, namespace=""):
        super().__init__("feeder", namespace=namespace)
        part = contract.state[0]
        self.names, self.values = list(part.joints), [0.0] * len(part.joints)
        self.images = {
            camera.name: image_message(PICTURE, self.stamp(), "") for camera in contract.cameras
        }
        self.joints = self.create_publisher(JointState, part.topic, names.SENSOR_OUT)
        self.cameras = {
            c.name: self.create_publisher(Image, c.topic, names.SENSOR_OUT)
            for c in contract.cameras
        }
        self.status, self.chunks, self.rewards = None, [], []
        self.create_subscription(PolicyStatus, names.POLICY_STATUS, self.keep, names.COMMAND)
        self.create_subscription(ActionChunk, names.ACTION_CHUNK, self.chunks.append, names.EVENTS)
        self.create_subscription(Reward, names.REWARD, self.rewards.append, names.EVENTS)

    def stamp(self):
        return self.get_clock().now().to_msg()

    def keep(self, msg):
        self.status = msg

    def feed(self):
        stamp = self.stamp()
        joints = JointState(name=self.names, position=self.values)
        joints.header.stamp = stamp
        self.joints.publish(joints)
        for name, image in reversed(self.images.items()):
            image.header.stamp = stamp
            self.cameras[name].publish(image)


@pytest.fixture(scope="module")
def policy_node(tiny_policy):
    from rewact_ros.nodes.policy import PolicyNode

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        lock = own_domain()
        args = ["--ros-args", "-p", f"contract:={VX300S}", "-p", f"policy:={tiny_policy}"]
        rclpy.init(args=args)
        node = PolicyNode()
        yield node
        node.close()
        node.destroy_node()
        rclpy.shutdown()
        lock.release()


@pytest.fixture
def run(policy_node, vx300s):
    """Function: feed until the status fulfils a condition; returns the feeder."""
    feeder = Feeder(vx300s)
    executor = SingleThreadedExecutor()
    executor.add_node(policy_node)
    executor.add_node(feeder)

    def run(condition, feeding=True, timeout_s=20.0):
        deadline_s, next_s = time.monotonic() + timeout_s, 0.0
        while not (feeder.status is not None and condition(feeder.status)):
            assert time.monotonic() < deadline_s, f"last status: {feeder.status}"
            if feeding and time.monotonic() >= next_s:
                feeder.feed()
                next_s = time.monotonic() + 0.05
            executor.spin_once(timeout_sec=0.01)
        return feeder

    run.feeder = feeder
    yield run
    executor.remove_node(policy_node)
    executor.shutdown()
    feeder.destroy_node()


def test_without_data_the_status_names_the_missing_stream(run):
    run(lambda s: not s.ready and "no message received yet" in s.reason, feeding=False)
    assert not run.feeder.chunks and not run.feeder.rewards


def test_complete_observations_give_chunks_and_rewards(run):
    feeder = run(lambda s: s.ready)
    run(lambda s: bool(feeder.chunks and feeder.rewards))
    assert len(feeder.chunks[0].trajectory.points) == 20
    assert feeder.chunks[0].header.stamp == feeder.rewards[0].header.stamp
    assert np.isnan(feeder.rewards[0].q10) and np.isnan(feeder.rewards[0].entropy)


FAULTS = {
    "another size": (
        lambda f: f.images.update(front=image_message(PICTURE[:48], f.stamp(), "")),
        ["front/image_raw", "(96, 96, 3)", "(48, 96, 3)"],
    ),
    "another encoding": (
        lambda f: f.images.update(wrist=Image(encoding="32FC1", height=96, width=96)),
        ["wrist/image_raw", "32FC1", "rgb8"],
    ),
    "a joint missing": (
        lambda f: (f.names.pop(), f.values.pop()),
        ["joint_states", "gripper is missing"],
    ),
    "a joint is NaN": (
        lambda f: f.values.__setitem__(2, float("nan")),
        ["joint_states", "elbow is nan"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unusable_input_stops_predictions_and_is_named(run, fault):
    run(lambda s: s.ready)
    change, words = FAULTS[fault]
    change(run.feeder)
    feeder = run(lambda s: not s.ready and all(word in s.reason for word in words))
    count = len(feeder.chunks)
    end_s = time.monotonic() + 0.3
    run(lambda s: time.monotonic() > end_s)
    assert len(feeder.chunks) == count


def test_with_reward_only_the_reward_comes_alone_and_actions_of_another_robot_do_not_matter(
    policy_node, vx300s, tmp_path
):
    from dataclasses import replace

    from rclpy.parameter import Parameter

    from rewact_ros.nodes.policy import PolicyNode

    gripper_last = vx300s.action[0]
    other = replace(vx300s, action=(replace(gripper_last, joints=gripper_last.joints[::-1]),))
    folder = write_policy(other, tmp_path / "p", reward_head="distributional")

    def node(name, **settings):
        settings = {"contract": str(VX300S), "policy": str(folder), **settings}
        return PolicyNode(
            namespace=name, parameter_overrides=[Parameter(k, value=v) for k, v in settings.items()]
        )

    with pytest.raises(ValueError, match="does not fit the contract: action"):
        node("refused")
    judge = node("judge", reward_only=True)
    feeder = Feeder(vx300s, namespace="judge")
    executor = SingleThreadedExecutor()
    executor.add_node(judge)
    executor.add_node(feeder)
    try:
        deadline_s = time.monotonic() + 20
        while len(feeder.rewards) < 3:
            assert time.monotonic() < deadline_s
            feeder.feed()
            end_s = time.monotonic() + 0.05
            while time.monotonic() < end_s:
                executor.spin_once(timeout_sec=0.01)
        reward = feeder.rewards[-1]
        assert 0 <= reward.q10 <= reward.q50 <= reward.q90 <= 1 and reward.entropy > 0
        assert 0 <= reward.value <= 1
        assert not feeder.chunks and feeder.status is None
        assert feeder.count_publishers("/judge/rewact/action_chunk") == 0
    finally:
        judge.close()
        executor.shutdown()
        judge.destroy_node()
        feeder.destroy_node()
