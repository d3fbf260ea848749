"""A reward learns failure from verdicts; actions stay, and its episodes calibrate nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_policy

from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.episodes.dataset import add_episode, new_dataset
from rewact_ros.learning.evaluation.calibrate import Rollouts, rollout_basis
from rewact_ros.learning.evaluation.scorers import PolicyScorer
from rewact_ros.learning.evaluation.settings import RolloutSource
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.judged import judged_labels, load_judged, verdicts
from rewact_ros.learning.imitation.origin import ORIGIN, acts_as, taught_episodes
from rewact_ros.learning.imitation.reward_only import train_reward
from rewact_ros.learning.imitation.reward_only_settings import RewardOnlySettings
from rewact_ros.learning.imitation.settings import TrainError
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.supervision.calibration import CalibrationError

FRAMES = 16
HEADS = {"token": "model.action_head.reward.", "images": "eyes.head."}


def write_episodes(
    contract, folder: Path, outcomes: list[bool | None], seed: int, success: bool = True
) -> Path:
    """Episodes whose joints move alike; a bright bar grows in the pictures of successes alone.

    ``outcomes``: success, failure, or None for an episode that nobody judged. Without ``success``
    the dataset has no such column.
    """
    rng = np.random.default_rng(seed)
    with new_dataset(contract, folder) as dataset:
        for outcome in outcomes:
            ramp = np.linspace(0, 1, FRAMES, dtype=np.float32)
            images = {}
            for camera in contract.cameras:
                image = rng.integers(0, 40, (FRAMES, *camera.shape), np.uint8)
                for frame in range(FRAMES if outcome else 0):
                    image[frame, :, : round(ramp[frame] * camera.shape[1])] += 180
                images[camera.name] = image
            reward = {True: ramp, False: 0.5 * ramp, None: np.full(FRAMES, np.nan)}[outcome]
            labels = {
                "next.reward": reward.astype(np.float32),
                "next.done": np.arange(FRAMES) == FRAMES - 1,
                "next.success": np.array(outcome is True) & (ramp >= 0.9),
                "demo_is_pad": np.full(FRAMES, outcome is not True),
            }
            state = (ramp[:, None] + 0.02 * rng.normal(size=(FRAMES, 7))).astype(np.float32)
            add_episode(dataset, contract, "task", state, state, images, labels)
    return folder


@pytest.fixture(scope="module")
def demos(vx300s, tmp_path_factory) -> Path:
    return write_episodes(vx300s, tmp_path_factory.mktemp("data") / "demos", [True] * 6, seed=0)


@pytest.fixture(scope="module")
def judged(vx300s, tmp_path_factory) -> Path:
    outcomes = [False, True, None, False, False, True, False, False]
    return write_episodes(vx300s, tmp_path_factory.mktemp("data") / "judged", outcomes, seed=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=sorted(HEADS))
def tiny_policy(request, vx300s, tmp_path_factory) -> Path:
    """An untrained policy whose reward reads a token, or the cameras alone."""
    folder = tmp_path_factory.mktemp("policy") / "tiny"
    return write_policy(vx300s, folder, reward_reads=request.param)


@pytest.fixture(scope="module")
def trained(demos, judged, tiny_policy, cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "policy"
    train_reward(settings(demos, judged, tiny_policy, out), cache, show_progress=False)
    return out


def settings(demos, judged, policy, out, **changes) -> RewardOnlySettings:
    base = {"steps": 300, "batch_size": 64, "device": "cpu"}
    return RewardOnlySettings(
        policy=str(policy), demos=str(demos), judged=(str(judged),), out=str(out), **base | changes
    )


def progress(policy: Path, data, episode: int) -> np.ndarray:
    batch = data.batch(data.rows([episode]), 1)
    keys = ["observation.state", *data.camera_shapes]
    return load_policy(policy, "cpu").predict({k: batch[k] for k in keys}).reward.value.numpy()


# -- what learns ---------------------------------------------------------------------------


def test_only_the_reward_changes_and_every_served_action_is_the_same_to_the_bit(
    trained, tiny_policy, vx300s
):
    from rewact_ros.policy.engine import TorchEngine

    before, after = (load_policy(folder, "cpu") for folder in (tiny_policy, trained))
    old, new = before.policy.state_dict(), after.policy.state_dict()
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        name for name in old if name.startswith(HEADS[before.config.reward_reads])
    }
    assert after.reward_hash != before.reward_hash and after.contract == before.contract
    engines = [TorchEngine(loaded, rate_hz=vx300s.rate_hz) for loaded in (before, after)]
    rng = np.random.default_rng(0)
    for _ in range(3):
        observation = {
            key: rng.integers(0, 256, (*feature.shape[1:], 3), dtype=np.uint8)
            if key in before.config.image_features
            else rng.normal(size=feature.shape).astype(np.float32)
            for key, feature in before.config.input_features.items()
        }
        told = [engine.infer(observation) for engine in engines]
        assert np.array_equal(told[0].actions, told[1].actions)
        assert np.array_equal(told[0].features, told[1].features)
        assert told[0].reward != told[1].reward


def test_it_then_tells_successes_from_failures_that_it_has_never_seen(
    trained, tiny_policy, vx300s, cache, tmp_path
):
    from rewact_ros.learning.evaluation.judging import check_progress

    outcomes = [True, False] * 6
    folder = write_episodes(vx300s, tmp_path / "fresh", outcomes, seed=2)
    data = load_demonstrations(folder)
    data.decode(None, list(range(12)), cache, progress=False)
    checks = [
        check_progress([progress(policy, data, e) for e in range(12)], outcomes, data.fps)
        for policy in (tiny_policy, trained)
    ]
    assert checks[0].fault and not checks[1].fault and checks[1].auc == 1.0
    assert progress(trained, data, 0)[-1] > progress(trained, data, 1).max() + 0.2


def test_the_same_run_gives_the_same_weights_and_leaves_the_first_policy_alone(
    trained, demos, judged, tiny_policy, cache, tmp_path
):
    weights = (tiny_policy / "model.safetensors").read_bytes()
    out = tmp_path / "again"
    train_reward(settings(demos, judged, tiny_policy, out), cache, show_progress=False)
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert (tiny_policy / "model.safetensors").read_bytes() == weights
    record = json.loads((out / "training.json").read_text())
    assert acts_as(out) == [load_policy(tiny_policy, "cpu").version]
    assert (record["figures"]["successes"], record["figures"]["failures"]) == (2, 5)


# -- verdicts and labels -------------------------------------------------------------------


def test_an_episode_that_nobody_judged_teaches_nothing(judged, demos):
    data = load_judged(judged, load_demonstrations(demos))
    found = verdicts(data)
    assert found == {0: False, 1: True, 3: False, 4: False, 5: True, 6: False, 7: False}
    labels = judged_labels(data, found, 0.0, 1.0)
    assert np.isnan(labels[data.rows([2])]).all()
    success = labels[data.rows([1])]
    told = int(np.flatnonzero(success >= 1)[0])
    assert success[0] == 0 and (np.diff(success) >= 0).all() and (success[told:] == 1).all()


def test_roll_outs_without_verdicts_or_without_failures_are_refused_by_name(
    demos, tiny_policy, vx300s, cache, tmp_path
):
    with pytest.raises(TrainError, match=r"demos: expected failures among .* got 6 successes"):
        train_reward(settings(demos, demos, tiny_policy, tmp_path / "out"), cache, False)
    from test_train import write_dataset

    plain = write_dataset(tmp_path / "plain")
    with pytest.raises(DatasetError, match="has no column next.success.*rewact label"):
        load_judged(plain, load_demonstrations(demos))
    with pytest.raises(TrainError, match="expected .* as in .*tiny"):
        train_reward(settings(plain, plain, tiny_policy, tmp_path / "out"), cache, False)
    assert not (tmp_path / "out").exists()


def test_a_policy_without_a_reward_is_refused(demos, judged, vx300s, cache, tmp_path):
    from conftest import write_policy

    mute = write_policy(vx300s, tmp_path / "mute", reward_head="none")
    with pytest.raises(TrainError, match="mute: has no reward head"):
        train_reward(settings(demos, judged, mute, tmp_path / "out"), cache, False)


# -- calibration keeps away ----------------------------------------------------------------


def test_episodes_that_taught_the_reward_are_refused_for_its_calibration(
    trained, judged, tiny_policy, vx300s, tmp_path
):
    assert len(taught_episodes(trained)) == 6 + 7 and taught_episodes(tiny_policy) == {}
    loaded = load_policy(trained, "cpu")
    copied = shutil.copytree(judged, tmp_path / "copy")
    with pytest.raises(CalibrationError) as error:
        Rollouts(RolloutSource(copied)).require_untaught(loaded.path)
    assert "7 of 8 roll-outs taught this reward (copy: episode 0, as judged: episode 0)" in str(
        error.value
    )
    assert "--episodes 2" in str(error.value)
    Rollouts(RolloutSource(copied, "2")).require_untaught(loaded.path)
    fresh = write_episodes(vx300s, tmp_path / "other", [True, False], seed=9)
    Rollouts(RolloutSource(fresh)).require_untaught(loaded.path)
    Rollouts(RolloutSource(copied)).require_untaught(tiny_policy)


def test_roll_outs_of_the_policy_that_it_came_from_count_as_its_own(trained, judged, tiny_policy):
    old, new = (load_policy(folder, "cpu") for folder in (tiny_policy, trained))
    assert old.version != new.version
    for driver, expected in ((old.version, new.version), ("another", "another")):
        source = RolloutSource(judged, timeout_s=1.0, driver=driver)
        assert rollout_basis(PolicyScorer(new), source).policy_version == expected
    source = RolloutSource(judged, timeout_s=1.0, driver=new.version)
    assert (
        rollout_basis(PolicyScorer(old), source).policy_version == new.version
    )  # not the other way round


def test_a_second_training_remembers_the_episodes_of_the_first(
    trained, demos, vx300s, cache, tmp_path
):
    more = write_episodes(vx300s, tmp_path / "more", [False], seed=5)
    train_reward(settings(demos, more, trained, tmp_path / "out", steps=2), cache, False)
    assert set(taught_episodes(trained)) < set(taught_episodes(tmp_path / "out"))
    assert len(taught_episodes(tmp_path / "out")) == 14


def test_a_damaged_list_of_episodes_is_named(trained, judged, tmp_path):
    policy = shutil.copytree(trained, tmp_path / "policy")
    (policy / ORIGIN).write_text('{"acts_as": [], "taught": ["a"]}')
    with pytest.raises(ValueError, match=rf"{ORIGIN}: expected acts_as and taught"):
        taught_episodes(policy)
