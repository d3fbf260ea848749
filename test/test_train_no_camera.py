"""Training without a camera: the policy acts on the state alone."""

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_train import LENGTHS, settings

from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import load_policy


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """Three short episodes of joints alone."""
    root = tmp_path_factory.mktemp("data") / "blind"
    joints = {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]}
    features = {
        "observation.state": joints,
        "action": joints,
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    made = LeRobotDataset.create("local/blind", 20, features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            made.add_frame(
                {
                    "observation.state": rng.normal(size=3).astype(np.float32),
                    "action": np.array([episode, frame, 0.5], np.float32),
                    "next.reward": np.array([frame / length], np.float32),
                    "task": "tiny",
                }
            )
        made.save_episode()
    made.finalize()
    return root


def test_a_state_is_enough_to_train_and_to_act(blind, tmp_path):
    data = load_demonstrations(blind)
    assert data.camera_shapes == {} and list(data.input_features()) == ["observation.state"]
    figures = train(settings(blind, tmp_path / "run"), cache=tmp_path / "cache")
    assert np.isfinite(list(figures.values())).all()
    loaded = load_policy(tmp_path / "run" / "checkpoints" / "last" / "pretrained_model")
    assert not loaded.policy.config.image_features
    assert loaded.policy.config.reward_reads == "token"  # there are no pictures to look at
