"""The reward_model node in a ROS graph of this process, with a tiny classifier."""

import time

import numpy as np
import pytest
import rclpy
from conftest import VX300S
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from rewact_ros.msg import Reward
from rewact_ros.nodes.reward_model import DEBUG_VARIABLE, RewardModelNode
from rewact_ros.reward.classifier import ClassifierError, ResNetRewardModel, RewardModelConfig
from rewact_ros.reward.classifier_checkpoint import load_classifier, save_classifier
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.images import image_message

PICTURES = {
    "front": np.full((96, 96, 3), 40, np.uint8),
    "wrist": np.full((96, 96, 3), 200, np.uint8),
}
CAMERAS = ("observation.images.wrist", "observation.images.front")


def write_classifier(folder, cameras=CAMERAS):
    config = RewardModelConfig(cameras, arch="small_cnn", image_size=(32, 32), hidden_dim=8)
    save_classifier(folder, ResNetRewardModel(config))
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("model") / "it")


@pytest.fixture(scope="module", autouse=True)
def no_debug_folder():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(DEBUG_VARIABLE, raising=False)
        yield


@pytest.fixture
def start(graph):
    """Function: build the node with parameters; all are destroyed afterwards."""
    nodes = []

    def start(model, **parameters):
        given = {"contract": str(VX300S), "model": str(model), **parameters}
        overrides = [rclpy.parameter.Parameter(key, value=value) for key, value in given.items()]
        nodes.append(RewardModelNode(parameter_overrides=overrides))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()
        node.destroy_node()


class Feeder(Node):
    """Publishes one set of messages at a time and keeps what comes back."""

    def __init__(self, contract):
        super().__init__("feeder")
        part = contract.state[0]
        self.joints = JointState(name=list(part.joints), position=[0.0] * len(part.joints))
        self.out = self.create_publisher(JointState, part.topic, names.SENSOR_OUT)
        self.cameras = [
            (c.name, self.create_publisher(Image, c.topic, names.SENSOR_OUT))
            for c in contract.cameras
        ]
        self.pictures = dict(PICTURES)
        self.rewards, self.diagnostics, self.stamps = [], {}, []
        self.create_subscription(Reward, names.SUCCESS, self.rewards.append, names.EVENTS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.keep, 10)

    def keep(self, msg):
        self.diagnostics |= {status.name: status for status in msg.status}

    def feed(self):
        stamp = self.get_clock().now().to_msg()
        self.stamps.append(to_ns(stamp))
        self.joints.header.stamp = stamp
        self.out.publish(self.joints)
        for name, camera in reversed(self.cameras):
            camera.publish(image_message(self.pictures[name], stamp, ""))

    def said(self):
        status = self.diagnostics.get("/reward_model")
        return status.message if status else ""


@pytest.fixture
def run(vx300s, graph):
    """Function: feed until a condition of the feeder holds."""
    feeder = Feeder(vx300s)
    executor = SingleThreadedExecutor()
    executor.add_node(feeder)

    def run(node, condition, timeout_s=20.0):
        executor.add_node(node)
        deadline_s, next_s = time.monotonic() + timeout_s, 0.0
        while not condition(feeder):
            assert time.monotonic() < deadline_s, f"{len(feeder.rewards)}, {feeder.said()}"
            if time.monotonic() >= next_s:
                feeder.feed()
                next_s = time.monotonic() + 0.05
            executor.spin_once(timeout_sec=0.01)
        executor.remove_node(node)
        return feeder

    run.feeder = feeder
    yield run
    executor.shutdown()
    feeder.destroy_node()


def test_it_publishes_the_classifiers_probability_at_the_observations_stamp(start, run, classifier):
    feeder = run(start(classifier), lambda f: len(f.rewards) >= 3)
    loaded = load_classifier(classifier, "cpu")
    images = {f"observation.images.{name}": picture for name, picture in PICTURES.items()}
    for msg in feeder.rewards:
        assert msg.value == pytest.approx(loaded.probability(images), abs=1e-5)
        assert to_ns(msg.header.stamp) in feeder.stamps
        assert msg.policy_version == loaded.version and np.isnan(msg.q10)


def test_unusable_images_silence_it_and_the_reason_is_in_the_diagnostics(start, run, classifier):
    node = start(classifier)
    run.feeder.pictures["front"] = PICTURES["front"][:48]
    feeder = run(node, lambda f: "(96, 96, 3)" in f.said() and "front/image_raw" in f.said())
    assert not feeder.rewards
    feeder.pictures["front"] = PICTURES["front"]
    run(node, lambda f: f.rewards and f.said() == "judging")


@pytest.mark.parametrize("by_variable", [False, True], ids=["parameter", "variable"])
def test_debug_images_are_written_where_asked_and_bounded(
    start, run, classifier, tmp_path, monkeypatch, by_variable
):
    folder = tmp_path / "seen"
    if by_variable:
        monkeypatch.setenv(DEBUG_VARIABLE, str(folder))
    chosen = {} if by_variable else {"debug_save_dir": str(folder)}
    node = start(classifier, debug_max_images=2, **chosen)
    run(node, lambda f: len(f.rewards) >= 5)
    node.close()
    found = list(folder.glob("resnet_*/*.png"))
    assert len(found) == 2
    assert all(
        abs(float(p.stem.split("_prob")[1]) - run.feeder.rewards[0].value) < 1e-3 for p in found
    )


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"hidden_dim": 16}, "hidden_dim: expected 16, got 8"),
        ({"image_height": 64, "image_width": 64}, r"image_size: expected \(64, 64\)"),
        ({"arch": "resnet18"}, "arch: expected resnet18, got small_cnn"),
    ],
)
def test_a_checkpoint_other_than_stated_is_refused_by_name(start, classifier, parameters, words):
    with pytest.raises(ClassifierError, match=words):
        start(classifier, **parameters)


def test_a_camera_that_the_robot_lacks_is_named(start, tmp_path):
    model = write_classifier(tmp_path / "it", ("observation.images.top",))
    with pytest.raises(ValueError, match=r"observation\.images\.top.*contract has"):
        start(model)
