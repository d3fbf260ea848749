"""Learning from corrections: who teaches what, the mixture, resuming, and rounds in simulation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VX300S, write_policy
from test_train import LENGTHS, TINY, write_dataset

from rewact_ros.control.modes import Mode
from rewact_ros.episodes.helped import HelpedEpisode
from rewact_ros.episodes.loop import FrameLog
from rewact_ros.episodes.settings import HelpSettings
from rewact_ros.learning.imitation import train as train_module
from rewact_ros.learning.imitation.batches import TrainingBatches
from rewact_ros.learning.imitation.dagger import collect, helped_labels, run_rounds
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.finetune import PolicyComparison, check_dataset
from rewact_ros.learning.imitation.mixture import draw_interventions, join, load_interventions
from rewact_ros.learning.imitation.origin import taught_episodes
from rewact_ros.learning.imitation.settings import RoundsSettings, TrainError, TrainSettings
from rewact_ros.learning.imitation.teaching import DatasetError
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.modeling_rewact import ACTION_IS_PAD
from rewact_ros.trials.replacement import ReplacementSettings, try_replacement

CAMERA = "observation.images.front"
FRAMES = sum(LENGTHS)


@pytest.fixture(scope="module")
def demos(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "demos")


@pytest.fixture(scope="module")
def corrections(tmp_path_factory) -> Path:
    """The human leads from frame 4 on; the last episode fails and has no label."""
    return write_dataset(
        tmp_path_factory.mktemp("data") / "corrections",
        columns={
            "intervention": lambda episode, frame: frame >= 4,
            "next.success": lambda episode, frame: episode < 2,
        },
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def running(demos, cache, tmp_path_factory) -> Path:
    """Checkpoint of a short training."""
    out = tmp_path_factory.mktemp("base")
    train(settings(demos, out, policy=TINY), cache, show_progress=False)
    return out / "checkpoints" / "last" / "pretrained_model"


def settings(demos, out, **changes) -> TrainSettings:
    base = {"steps": 6, "save_every": 3, "val_every": 3, "batch_size": 8, "warmup_steps": 2}
    return TrainSettings(
        dataset=str(demos), out=str(out), device="cpu", val_episodes="1", **{**base, **changes}
    )


def tuning(demos, corrections, running, out, **changes) -> TrainSettings:
    return settings(demos, out, start=str(running), interventions=(str(corrections),), **changes)


def mixed(demos, corrections, cache, **changes):
    """Joined data and pools of a mixture."""
    chosen = settings(demos, "unused", interventions=(str(corrections),), **changes)
    data = load_demonstrations(demos)
    further = load_interventions(chosen, data)
    for part in (data, *further):
        part.decode(None, [0, 1, 2], cache, progress=False)
    pools = draw_interventions(chosen, data, further, "sigmoid")
    return chosen, data, further, join([data, *further]), pools


def test_only_human_frames_of_successes_teach_actions_and_all_labels_the_reward(
    demos, corrections, cache
):
    _, _, _, data, (human, rewarded) = mixed(demos, corrections, cache)
    in_episode = data.start[human.rows]
    assert (human.rows >= FRAMES).all() and (human.rows - in_episode >= 4).all()
    assert len(human.rows) == (LENGTHS[0] - 4) + (LENGTHS[1] - 4)
    assert set(rewarded.rows) == {FRAMES + e + f for e in (0, LENGTHS[0]) for f in range(4)}
    batch = data.batch(rewarded.rows, 4)
    assert batch[ACTION_IS_PAD].all() and batch["next.reward"].isfinite().all()
    assert not data.batch(human.rows, 4)[ACTION_IS_PAD][:, 0].any()


def test_every_batch_keeps_the_shares_and_depends_on_seed_and_step_alone(demos, corrections, cache):
    chosen, data, _, joined, pools = mixed(demos, corrections, cache, batch_size=16, share=0.5)
    rows = data.rows([0, 1])
    batches = TrainingBatches(joined, rows, chosen, 4, 1, pools=pools)
    for step in (0, 3, 40):
        got, batch = batches[step]
        assert len(got) == 16 and (got < FRAMES).sum() == 8
        assert np.isin(got, pools[1].rows).sum() == 2
        again = TrainingBatches(joined, rows, chosen, 4, 1, pools=pools)[step][1]
        assert all(torch.equal(batch[key], again[key]) for key in batch)


def test_a_joined_batch_is_that_of_its_parts(demos, corrections, cache):
    _, data, (further,), joined, _ = mixed(demos, corrections, cache)
    own, other = np.array([2, 20]), np.array([0, 11, 27])
    both = joined.batch(np.concatenate([own, FRAMES + other]), 4, observations=2)
    parts = data.batch(own, 4, observations=2), further.batch(other, 4, observations=2)
    for key, values in both.items():
        expected = torch.cat([part[key] for part in parts])
        torch.testing.assert_close(values, expected, equal_nan=True, rtol=0, atol=0)
    assert (joined.episode[FRAMES:] == further.episode + 3).all()


def test_corrections_in_which_nobody_helped_or_of_another_robot_are_refused(
    demos, corrections, tmp_path
):
    alone = write_dataset(tmp_path / "alone", columns={"intervention": lambda e, f: False})
    chosen = settings(demos, "unused", interventions=(str(alone),))
    data = load_demonstrations(demos)
    with pytest.raises(DatasetError, match="no frame of a human"):
        draw_interventions(chosen, data, load_interventions(chosen, data), "sigmoid")
    with pytest.raises(DatasetError, match="no column intervention"):
        load_interventions(replace(chosen, interventions=(str(demos),)), data)
    info = tmp_path / "alone" / "meta" / "info.json"
    content = json.loads(info.read_text())
    content["features"]["action"]["names"] = ["a", "c", "b"]
    info.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"action\.names: expected .*'b', 'c'.*one robot"):
        load_interventions(chosen, data)


def test_fine_tuning_starts_from_the_weights_and_keeps_the_normalisation(
    demos, corrections, running, cache, tmp_path
):
    run = tuning(demos, corrections, running, tmp_path, steps=1, lr=1e-12, lr_backbone=1e-12)
    train(run, cache, show_progress=False)
    old = load_policy(running)
    new = load_policy(tmp_path / "checkpoints" / "last" / "pretrained_model")
    # One demonstration validates; both datasets have the same joints, so the same episodes.
    assert len(taught_episodes(running)) == 2 and len(taught_episodes(new.path)) == len(LENGTHS)
    for before, after in zip(old.policy.parameters(), new.policy.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)
    state = torch.zeros(1, 3)
    batch = {"observation.state": state, CAMERA: torch.zeros(1, 3, 40, 48)}
    torch.testing.assert_close(
        new.preprocessor(dict(batch))["observation.state"],
        old.preprocessor(dict(batch))["observation.state"],
        rtol=0,
        atol=0,
    )


def test_fine_tuning_takes_its_policy_from_the_checkpoint(demos, corrections, running, tmp_path):
    with pytest.raises(TrainError, match="leave them out"):
        tuning(demos, corrections, running, tmp_path, policy=TINY)


def test_a_killed_fine_tuning_resumes_to_the_very_same_weights(
    demos, corrections, running, cache, tmp_path, monkeypatch
):
    train(tuning(demos, corrections, running, tmp_path / "whole"), cache, show_progress=False)
    real_save = train_module.save_training_state

    def save_then_die(*args, **kwargs):
        real_save(*args, **kwargs)
        raise KeyboardInterrupt

    cut = tuning(demos, corrections, running, tmp_path / "cut")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "save_training_state", save_then_die)
        train(cut, cache, show_progress=False)
    train(cut, cache, resume=True, show_progress=False)
    a, b = (
        load_policy(tmp_path / name / "checkpoints" / "last" / "pretrained_model").policy
        for name in ("whole", "cut")
    )
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert any(
        not torch.equal(x, y)
        for x, y in zip(a.parameters(), load_policy(running).policy.parameters(), strict=True)
    )


def test_a_dataset_of_another_robot_is_refused_by_the_contract(demos, vx300s, tmp_path):
    with pytest.raises(ValueError, match="does not fit the contract"):
        check_dataset(vx300s, demos)
    with pytest.raises(DatasetError, match="no LeRobotDataset"):
        check_dataset(vx300s, tmp_path)


def driven(scores):
    """A comparison after these scores of the old and the new policy, scene by scene."""
    result = try_replacement(scores, ReplacementSettings(), len(scores))
    return PolicyComparison("a", "b", 100_000, result)


def test_a_policy_is_kept_only_where_scenes_show_that_it_is_hardly_worse():
    better, worse = [(0.0, 1.0), (1.0, 1.0)] * 15, [(1.0, 0.0), (1.0, 1.0)] * 15
    assert driven(better).kept and "kept" in driven(better).line
    assert not driven(worse).kept and "refused" in driven(worse).line
    # What chance gives is no reason: as many successes, once each where the other failed.
    assert not driven([(0.0, 1.0), (1.0, 0.0)] * 15).kept
    again = PolicyComparison.of_document(json.loads(json.dumps(driven(better).document)))
    assert again == driven(better)


def helped(modes: list[Mode], **changes) -> dict[str, np.ndarray]:
    result = HelpedEpisode(1, True, "human", "done", True, 1, 1.0, 5.0)
    frames = FrameLog(state=[np.zeros(7)] * len(modes), mode=modes)
    return helped_labels(replace(result, **changes), frames, nominal_frames=50, rate_hz=20)


def test_progress_is_labelled_on_the_way_to_a_success_only():
    modes = [Mode.POLICY] * 40 + [Mode.HOLD] * 10 + [Mode.HUMAN] * 60
    labels = helped(modes)
    reward = labels["next.reward"]
    assert np.isnan(reward[:50]).all() and (np.diff(reward[50:]) >= 0).all()
    assert reward[-1] == 1 and labels["next.success"].sum() == 16
    np.testing.assert_array_equal(labels["intervention"], np.arange(110) >= 50)
    np.testing.assert_array_equal(labels["demo_is_pad"], np.arange(110) < 50)
    failed = helped(modes, success=False)
    assert np.isnan(failed["next.reward"]).all() and failed["demo_is_pad"].all()
    alone = helped([Mode.POLICY] * 80, by="supervisor")
    assert np.isfinite(alone["next.reward"]).all() and alone["demo_is_pad"].all()


@pytest.fixture(scope="module")
def stuck(vx300s, tmp_path_factory) -> Path:
    """A policy that never gets anywhere, so that the human is called in every episode."""
    return write_policy(vx300s, tmp_path_factory.mktemp("policy") / "stuck")


def test_a_round_collects_corrections_learns_from_them_and_is_not_done_twice(
    vx300s, stuck, cache, tmp_path
):
    demos, help = tmp_path / "demos", HelpSettings(stall_s=0.5, limit_s=6.0)
    (episode,) = collect(load_policy(stuck), vx300s, [1], help, demos, 100)
    assert episode.success and episode.truth and episode.by == "human"
    assert episode.interventions == 1 and 3 < episode.human_s < episode.duration_s
    data = load_demonstrations(demos, action_frames="human")
    assert np.isclose(data.teaches.sum() / 20, episode.human_s, atol=0.1)

    training = settings(demos, tmp_path / "run", start=str(stuck), contract=str(VX300S), steps=2)
    training = replace(training, val_episodes=None, val_fraction=0.0)
    rounds = RoundsSettings(training, rounds=1, episodes=1, test_episodes=1, help=help)
    (first,) = run_rounds(rounds, cache, show_progress=False)
    assert first.comparison.old == load_policy(stuck).version != first.comparison.new
    assert first.collected[0].interventions and first.policy.is_dir()
    with pytest.raises(TrainError, match="--resume"):
        next(run_rounds(rounds, cache, show_progress=False))
    (again,) = run_rounds(rounds, cache, resume=True, show_progress=False)
    assert again == first
