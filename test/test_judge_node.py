"""The judge node: the reward of what does not act, in a ROS graph of this process."""

import time
from dataclasses import replace

import pytest
from conftest import VX300S, write_policy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from test_policy_node import Feeder
from test_reward_model_node import PICTURES, write_classifier

from rewact_ros.contract import ContractError
from rewact_ros.nodes.judge import JudgeNode
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import CheckpointError
from rewact_ros.reward.classifier_checkpoint import load_classifier
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.images import image_message
from rewact_ros.ros.views import read_view
from rewact_ros.supervision.camera_check import view_of


@pytest.fixture
def judged(graph, vx300s):
    """Function: what a judge publishes of at least three observations."""
    made = []

    def judged(folder, **parameters):
        given = {"contract": str(VX300S), "model": str(folder), "engine": "torch", **parameters}
        judge = JudgeNode(
            parameter_overrides=[Parameter(key, value=value) for key, value in given.items()]
        )
        feeder = Feeder(vx300s)
        feeder.views = {}
        feeder.create_subscription(
            Image, names.VIEWS, lambda m: feeder.views.update([read_view(m)]), names.EVENTS
        )
        for name, picture in PICTURES.items():
            feeder.images[name] = image_message(picture, feeder.stamp(), f"{name}_optical_frame")
        executor = SingleThreadedExecutor()
        made.extend((judge, feeder))
        executor.add_node(judge)
        executor.add_node(feeder)
        deadline_s = time.monotonic() + 20
        while len(feeder.rewards) < 3:
            assert time.monotonic() < deadline_s
            feeder.feed()
            end_s = time.monotonic() + 0.05
            while time.monotonic() < end_s:
                executor.spin_once(timeout_sec=0.01)
        executor.shutdown()
        return judge, feeder

    yield judged
    for node in made:
        if isinstance(node, JudgeNode):
            node.close()
        node.destroy_node()


def test_a_policys_reward_judges_and_its_actions_may_be_another_robots(judged, vx300s, tmp_path):
    part = vx300s.action[0]
    other = replace(vx300s, action=(replace(part, joints=part.joints[::-1]),))
    folder = write_policy(other, tmp_path / "p", reward_head="distributional")
    judge, feeder = judged(folder)
    loaded, reward = load_policy(folder, "cpu"), feeder.rewards[-1]
    assert 0 <= reward.q10 <= reward.q50 <= reward.q90 <= 1 and reward.entropy > 0
    assert 0 <= reward.value <= 1 and reward.header.frame_id == "front_optical_frame"
    assert (reward.policy_version, reward.reward_hash) == (loaded.version, loaded.reward_hash)
    (features,) = [f for f in feeder.features if f.header.stamp == reward.header.stamp]
    assert features.reward_hash == reward.reward_hash
    assert not feeder.chunks and feeder.status is None
    assert feeder.count_publishers("rewact/action_chunk") == 0
    assert feeder.count_publishers("rewact/policy_status") == 0
    # What it sees is shown to the supervisor, small and grey.
    assert set(feeder.views) == {f"observation.images.{name}" for name in PICTURES}
    for name, picture in PICTURES.items():
        assert (feeder.views[f"observation.images.{name}"] == view_of(picture)).all()
    values = judge._diagnose()[2]
    assert values["version"] == loaded.version and 0 <= float(values["score"]) <= 1


def test_a_success_classifier_judges_by_its_probability(judged, tmp_path):
    folder = write_classifier(tmp_path / "c")
    loaded = load_classifier(folder, "cpu")
    images = {f"observation.images.{name}": picture for name, picture in PICTURES.items()}
    _, feeder = judged(folder)
    reward = feeder.rewards[-1]
    assert reward.value == pytest.approx(loaded.probability(images), abs=1e-5)
    assert reward.reward_hash == reward.policy_version == loaded.version
    assert reward.q10 != reward.q10 and not feeder.features
    assert to_ns(reward.header.stamp) > 0


def test_who_cannot_judge_this_robot_is_refused_by_name(judged, vx300s, tmp_path):
    with pytest.raises(CheckpointError, match="has no reward head; a judge needs one"):
        judged(write_policy(vx300s, tmp_path / "p", reward_head="none"))
    folder = write_classifier(tmp_path / "c", cameras=("observation.images.ceiling",))
    with pytest.raises(ContractError, match="ceiling.*the contract has"):
        judged(folder)
    with pytest.raises(CheckpointError, match="nowhere"):
        judged(tmp_path / "nowhere")
