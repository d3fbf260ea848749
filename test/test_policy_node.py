"""What the policy node says about unusable input, in a ROS graph of this process."""

import json
import shutil
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import rclpy
from conftest import VX300S, write_policy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from safetensors.torch import load_file, save_file
from sensor_msgs.msg import Image, JointState

from rewact_ros.msg import ActionChunk, EpisodeEvent, PolicyStatus, Reward, RewardFeatures
from rewact_ros.policy.updates import Update
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.images import image_message
from rewact_ros.ros.swap_client import SwapClient, SwapError, update_for
from rewact_ros.stack.domain import own_domain

PICTURE = np.zeros((96, 96, 3), np.uint8)


class Feeder(Node):
    """Publishes one set of messages at 20 Hz and keeps what the policy answers."""

    def __init__(self, contract, namespace=""):
        super().__init__("feeder", namespace=namespace)
        part = contract.state[0]
        self.names, self.values = list(part.joints), [0.0] * len(part.joints)
        self.images = {
            camera.name: image_message(PICTURE, self.stamp(), f"{camera.name}_optical_frame")
            for camera in contract.cameras
        }
        self.joints = self.create_publisher(JointState, part.topic, names.SENSOR_OUT)
        self.cameras = {
            c.name: self.create_publisher(Image, c.topic, names.SENSOR_OUT)
            for c in contract.cameras
        }
        self.events = self.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        self.event = None
        self.status, self.statuses, self.chunks, self.rewards = None, [], [], []
        self.features = []
        self.create_subscription(PolicyStatus, names.POLICY_STATUS, self.keep, names.EVENTS)
        self.create_subscription(ActionChunk, names.ACTION_CHUNK, self.chunks.append, names.EVENTS)
        self.create_subscription(Reward, names.REWARD, self.rewards.append, names.EVENTS)
        self.create_subscription(
            RewardFeatures, names.REWARD_FEATURES, self.features.append, names.EVENTS
        )

    def stamp(self):
        return self.get_clock().now().to_msg()

    def keep(self, msg):
        self.status = msg
        self.statuses.append(msg)

    def feed(self):
        stamp = self.stamp()
        if self.event is not None:  # again and again: who discovers late hears it too
            self.events.publish(EpisodeEvent(event=self.event))
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
        values = {"contract": VX300S, "policy": tiny_policy, "policy_dir": tiny_policy.parent}
        values["engine"] = "torch"  # exports, at swaps too: test_policy_path
        settings = [word for key in values for word in ("-p", f"{key}:={values[key]}")]
        rclpy.init(args=["--ros-args", *settings])
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
    run(lambda s: bool(feeder.chunks and feeder.rewards and feeder.features))
    assert len(feeder.chunks[0].trajectory.points) == 20
    assert feeder.chunks[0].header.stamp == feeder.rewards[0].header.stamp
    features, reward = feeder.features[0], feeder.rewards[0]
    assert features.header == reward.header and features.reward_hash == reward.reward_hash
    assert len(features.features) > 0 and np.isfinite(features.features).all()
    assert reward.header.frame_id == "front_optical_frame" == feeder.status.header.frame_id
    assert np.isnan(feeder.rewards[0].q10) and np.isnan(feeder.rewards[0].entropy)


def test_chunks_come_no_oftener_than_the_contract_wants_and_the_reward_as_ever(
    policy_node, run, monkeypatch
):
    monkeypatch.setattr(policy_node, "contract", replace(policy_node.contract, replan_hz=5.0))
    feeder = run(lambda s: s.ready)
    feeder.chunks.clear()
    run(lambda s: len(feeder.chunks) >= 4)
    stamps_s = [c.header.stamp.sec + c.header.stamp.nanosec / 1e9 for c in feeder.chunks]
    assert np.diff(stamps_s).min() > 0.15
    first, last = feeder.chunks[0].header.stamp, feeder.chunks[-1].header.stamp
    between = [r for r in feeder.rewards if first != r.header.stamp != last]
    assert len(between) > 2 * len(feeder.chunks)


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
    said_ns = to_ns(feeder.stamp())  # what had been seen before may still be answered
    end_s = time.monotonic() + 0.3
    run(lambda s: time.monotonic() > end_s)
    assert all(to_ns(chunk.header.stamp) <= said_ns for chunk in feeder.chunks)


def test_beside_a_judge_the_policy_is_silent_about_its_own_reward(policy_node, tiny_policy, vx300s):
    values = {"contract": str(VX300S), "policy": str(tiny_policy), "actions_only": True}
    node = type(policy_node)(
        namespace="acts",
        parameter_overrides=[rclpy.parameter.Parameter(k, value=v) for k, v in values.items()],
    )
    feeder = Feeder(vx300s, namespace="acts")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(feeder)
    try:
        deadline_s = time.monotonic() + 20
        while len(feeder.chunks) < 3:
            assert time.monotonic() < deadline_s
            feeder.feed()
            end_s = time.monotonic() + 0.05
            while time.monotonic() < end_s:
                executor.spin_once(timeout_sec=0.01)
        assert not feeder.rewards and feeder.count_publishers("/acts/rewact/reward") == 0
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        feeder.destroy_node()


@pytest.fixture(scope="module")
def other_policy(tiny_policy, vx300s):
    """Another checkpoint in the directory that updates may come from."""
    return write_policy(vx300s, tiny_policy.parent / "other", dim_feedforward=32)


class Asking:
    """`rewact swap` in a thread, while the test's thread spins the node."""

    def __init__(self, update):
        self.said, self.answer = [], None
        self.update = update
        self._client = SwapClient()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self):
        try:
            self.answer = self._client.swap(self.update, 30.0, self.said.append)
        except SwapError as error:
            self.answer = str(error)
        finally:
            self._client.close()

    def done(self, status=None):
        return not self._thread.is_alive()


def test_an_update_waits_for_the_episodes_end_and_is_rolled_back_on_request(run, other_policy):
    feeder = run(lambda s: s.ready)
    first = feeder.status.policy_version
    feeder.event = EpisodeEvent.RUNNING
    run(lambda s: feeder.count_subscribers(names.EPISODE_EVENT) > 0)
    asking = Asking(update_for(other_policy, time.time_ns()))
    run(lambda s: s.ready and "waits for the end of the episode" in s.reason)
    count = len(feeder.chunks)
    run(lambda s: len(feeder.chunks) > count + 3)
    assert feeder.chunks[-1].policy_version == first and not asking.done()

    feeder.event = EpisodeEvent.VERDICT
    feeder.statuses.clear()
    run(asking.done)
    assert asking.answer == asking.update.version != first and asking.said
    run(lambda s: any("not active" in status.reason for status in feeder.statuses))
    run(lambda s: s.ready and not s.reason)
    run(lambda s: feeder.chunks[-1].policy_version == feeder.status.policy_version != first)

    back = Asking(Update(time.time_ns(), rollback=True))
    run(back.done)
    assert back.answer == first
    run(lambda s: s.ready and s.policy_version == first)


def test_a_refused_update_is_told_and_the_policy_runs_on(run, other_policy, tmp_path):
    feeder = run(lambda s: s.ready)
    first = feeder.status.policy_version
    whole = update_for(other_policy, time.time_ns())
    for update, words in (
        (replace(whole, sha256="0" * 64), "sha256"),
        (replace(whole, path=str(tmp_path)), "policy_dir"),
        (replace(whole, robot="another"), "expected contract"),
    ):
        asking = Asking(replace(update, stamp_ns=time.time_ns()))
        run(asking.done)
        assert words in asking.answer and f"{first} runs on" in asking.answer
    count = len(feeder.chunks)
    run(lambda s: s.ready and s.policy_version == first and len(feeder.chunks) > count)


def test_an_update_that_does_not_fit_the_contract_is_refused_after_loading(
    run, vx300s, tiny_policy
):
    part = vx300s.state[0]
    fewer = replace(vx300s, state=(replace(part, joints=part.joints[:5]),))
    narrow = write_policy(fewer, tiny_policy.parent / "narrow")
    (narrow / "contract.json").unlink()  # without a word for it the network's shapes tell
    run(lambda s: s.ready)
    asking = Asking(update_for(narrow, time.time_ns()))
    run(asking.done)
    assert "observation.state" in asking.answer and "runs on" in asking.answer


def test_a_checkpoint_that_names_code_is_refused_and_nothing_of_it_runs(
    run, other_policy, tiny_policy, tmp_path, monkeypatch
):
    (tmp_path / "trap_node.py").write_text("class Step:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    hostile = shutil.copytree(other_policy, tiny_policy.parent / "hostile")
    pipeline = json.loads((hostile / "policy_postprocessor.json").read_text())
    pipeline["steps"].append({"class": "trap_node.Step", "config": {}})
    (hostile / "policy_postprocessor.json").write_text(json.dumps(pipeline))
    run(lambda s: s.ready)
    asking = Asking(update_for(hostile, time.time_ns()))
    run(asking.done)
    assert "trap_node.Step" in asking.answer and "runs on" in asking.answer
    assert "trap_node" not in sys.modules


def test_an_unnormaliser_times_fifty_is_refused_beside_the_running_policy(
    run, other_policy, tiny_policy
):
    wild = shutil.copytree(other_policy, tiny_policy.parent / "wild")
    file = wild / "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "action.std": tensors["action.std"] * 50}, file)
    run(lambda s: s.ready)
    asking = Asking(update_for(wild, time.time_ns()))
    run(asking.done)
    assert "action: spread of waist: 2.5" in asking.answer and "runs on" in asking.answer


def test_a_refusal_leaves_the_status_with_the_next_episode_and_no_text_grows_it(run, other_policy):
    feeder = run(lambda s: s.ready)
    long = Update(time.time_ns(), path="p" * 1500, sha256="0" * 64, version="v" * 1500)
    asking = Asking(long)
    run(asking.done)
    assert ": refused: " in asking.answer
    assert ": refused: " in feeder.status.reason and len(feeder.status.reason) < 2000
    feeder.event = EpisodeEvent.STARTED
    run(lambda s: s.ready and not s.reason)
