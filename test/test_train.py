"""Training: frame cache, batches, labels, resuming, splits and what stops it."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from rewact_ros.contract import load_contract
from rewact_ros.control.modes import Mode
from rewact_ros.data.dataset.info import parse_episodes
from rewact_ros.data.labels.write import EpisodeLabels, open_labelled, write_labels
from rewact_ros.learning.acceleration import make_accelerator
from rewact_ros.learning.classifier.settings import ClassifierSettings
from rewact_ros.learning.faults import machine_faults_told
from rewact_ros.learning.imitation import train as train_module
from rewact_ros.learning.imitation.batches import TrainingBatches, batch_rows
from rewact_ros.learning.imitation.demonstrations import (
    DatasetError,
    load_demonstrations,
    split_episodes,
)
from rewact_ros.learning.imitation.origin import taught_episodes
from rewact_ros.learning.imitation.settings import TrainError, TrainSettings
from rewact_ros.learning.imitation.teaching import imitated
from rewact_ros.learning.imitation.train import train
from rewact_ros.learning.imitation.videos import FramesError
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.images import resize_images

# As root, LeRobot's default AV1 encoder would make this process realtime.
H264 = RGBEncoderConfig(vcodec="h264")
CAMERA = "observation.images.front"
LENGTHS = (9, 12, 7)
TINY = {
    "chunk_size": "4",
    "dim_model": "32",
    "n_heads": "2",
    "dim_feedforward": "32",
    "n_encoder_layers": "1",
    "n_decoder_layers": "1",
    "random_shift_px": "2",
}


def write_dataset(
    root: Path, labelled: bool = True, bad_frame: bool = False, columns: dict | None = None
) -> Path:
    """A LeRobotDataset of three short episodes, 40x48 px video, the last episode a failure.

    ``columns`` adds bool columns, name -> value of (episode, frame).
    """
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        "action": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
        CAMERA: {"dtype": "video", "shape": (40, 48, 3), "names": ["height", "width", "channels"]},
    }
    if labelled:
        features |= {
            "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
            "demo_is_pad": {"dtype": "bool", "shape": (1,), "names": None},
        }
    features |= {name: {"dtype": "bool", "shape": (1,), "names": None} for name in columns or {}}
    dataset = LeRobotDataset.create("local/tiny", 20, features, root=root, rgb_encoder=H264)
    rng = np.random.default_rng(0)
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            image = np.full((40, 48, 3), (60 * episode + 5 * frame) % 256, np.uint8)
            image[: 2 + frame, :20] = 250
            item = {
                "observation.state": rng.normal(size=3).astype(np.float32),
                "action": np.array([episode, frame, 0.5], np.float32),
                CAMERA: image,
                "task": "tiny",
            }
            if bad_frame and (episode, frame) == (1, 3):
                item["action"][1] = np.nan
            if labelled:
                item["next.reward"] = np.array(
                    [frame / length if episode < 2 else np.nan], np.float32
                )
                item["demo_is_pad"] = np.array([episode >= 2])
            for name, values in (columns or {}).items():
                item[name] = np.array([values(episode, frame)])
            dataset.add_frame(item)
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def settings(dataset: Path, out: Path, **changes) -> TrainSettings:
    base = {
        "steps": 6,
        "batch_size": 4,
        "val_every": 3,
        "save_every": 3,
        "warmup_steps": 2,
        "log_every": 1,
        "val_episodes": "1",
        "device": "cpu",
        "policy": TINY,
    }
    return TrainSettings(dataset=str(dataset), out=str(out), **{**base, **changes})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", value) for value in (-1, 2**32, 10**30)),
        *((name, value) for name in ("lr", "weight_decay") for value in (np.inf, np.nan, -1.0)),
        ("warmup_steps", -1),
    ],
)
def test_a_number_that_no_optimiser_takes_is_refused_by_name(tmp_path, name, value):
    with pytest.raises(TrainError, match=f"^{name}: expected .*, got {value}"):
        settings(tmp_path, tmp_path, **{name: value})
    if name != "warmup_steps":
        with pytest.raises(TrainError, match=f"^{name}: expected .*, got {value}"):
            ClassifierSettings((str(tmp_path),), str(tmp_path), **{name: value})


def run(settings: TrainSettings, cache: Path, **kwargs):
    return train(settings, cache=cache, show_progress=False, **kwargs)


def test_cached_frames_equal_lerobots_own_decoding(dataset, cache):
    data = load_demonstrations(dataset)
    data.decode(None, [0, 1, 2], cache, progress=False)
    for row in (0, 8, 9, 20, 27):
        own = (data.source[row][CAMERA] * 255).round().to(torch.uint8)
        np.testing.assert_array_equal(data.frames[CAMERA][row], own.permute(1, 2, 0).numpy())


def test_resized_cache_equals_the_policys_resize_of_the_camera_frame(dataset, cache):
    data = load_demonstrations(dataset)
    data.decode(None, [0, 1, 2], cache, progress=False)
    raw = data.batch(np.arange(28), 4)[CAMERA]
    data.decode((24, 32), [0, 1, 2], cache, progress=False)
    cached = data.batch(np.arange(28), 4)[CAMERA]
    one_by_one = torch.cat(
        [resize_images(image[None], (24, 32), round_to_8_bits=True) for image in raw]
    )
    assert torch.equal(cached, one_by_one)


def test_cache_is_used_again_and_invalidated_by_size_and_by_the_dataset(tmp_path):
    root, cache = write_dataset(tmp_path / "data"), tmp_path / "cache"
    for size, expected in ((None, 1), (None, 1), ((24, 32), 2)):
        load_demonstrations(root).decode(size, [0], cache, progress=False)
        assert len(list(cache.iterdir())) == expected
    info = json.loads((root / "meta" / "info.json").read_text())
    (root / "meta" / "info.json").write_text(json.dumps({**info, "robot_type": "other"}))
    load_demonstrations(root).decode(None, [0], cache, progress=False)
    assert len(list(cache.iterdir())) == 3


def test_the_cache_decodes_the_episodes_that_are_asked_for_and_only_once(dataset, tmp_path):
    data = load_demonstrations(dataset)
    data.decode(None, [1], tmp_path, progress=False)
    assert data.frames[CAMERA][9:21].any((1, 2, 3)).all()
    assert not data.frames[CAMERA][:9].any() and not data.frames[CAMERA][21:].any()
    file = next(tmp_path.rglob("frames.npy"))
    written = file.stat().st_mtime_ns
    data.decode(None, [1], tmp_path, progress=False)
    assert file.stat().st_mtime_ns == written
    data.decode(None, [0, 1, 2], tmp_path, progress=False)
    for row in (0, 8, 9, 20, 27):
        own = (data.source[row][CAMERA] * 255).round().to(torch.uint8)
        np.testing.assert_array_equal(data.frames[CAMERA][row], own.permute(1, 2, 0).numpy())


def test_batches_without_the_cache_equal_those_with_it(dataset, cache):
    rows = np.array([20, 0, 27, 9, 0])
    for size, observations in ((None, 1), ((24, 32), 3)):
        data = load_demonstrations(dataset)
        data.decode(size, [0, 1, 2], cache, progress=False)
        cached = data.batch(rows, 4, observations)
        data.decode_on_demand(size)
        decoded = data.batch(rows, 4, observations)
        assert cached.keys() == decoded.keys()
        for key, value in cached.items():
            torch.testing.assert_close(value, decoded[key], rtol=0, atol=0, equal_nan=True)


def test_a_damaged_video_names_the_file_and_the_cache_is_not_taken_for_whole(tmp_path):
    root, cache = write_dataset(tmp_path / "data"), tmp_path / "cache"
    video = next(root.rglob("*.mp4"))
    whole = video.read_bytes()
    for size in (300, len(whole) - 400):
        video.write_bytes(whole)
        data = load_demonstrations(root)
        video.write_bytes(whole[:size])  # after the look at the file as it is opened
        for _ in range(2):
            with pytest.raises(FramesError, match=r"file-000\.mp4|missing from the videos"):
                data.decode(None, [0, 1, 2], cache, progress=False)
        data.decode_on_demand(None)
        with pytest.raises(FramesError, match=r"file-000\.mp4"):
            data.batch(np.arange(28), 4)


def test_a_history_is_oldest_first_and_repeats_the_episodes_first_frame(dataset, cache):
    data = load_demonstrations(dataset)
    data.decode(None, [0, 1, 2], cache, progress=False)
    batch = data.batch(np.array([10, 20]), 4, observations=3)
    np.testing.assert_array_equal(batch["observation.state"][0], data.state[[9, 9, 10]])
    np.testing.assert_array_equal(batch["observation.state"][1], data.state[[18, 19, 20]])
    assert batch[CAMERA].shape == (2, 3, 3, 40, 48)
    own = data.source[19][CAMERA]
    torch.testing.assert_close(batch[CAMERA][1, 1], own)


def test_a_sample_played_backwards_ends_at_its_frame_and_teaches_no_action(dataset):
    data = load_demonstrations(dataset)
    batch = data.batch(
        np.array([4, 4, 8]), 2, observations=3, backwards=np.array([True, False, True])
    )
    np.testing.assert_array_equal(batch["observation.state"][0], data.state[[6, 5, 4]])
    np.testing.assert_array_equal(batch["observation.state"][1], data.state[[2, 3, 4]])
    np.testing.assert_array_equal(batch["observation.state"][2], data.state[[8, 8, 8]])
    assert batch["action_is_pad"].tolist() == [[True, True], [False, False], [True, True]]
    assert batch["next.reward"][0] == batch["next.reward"][1]


def test_only_successes_are_played_backwards(tmp_path):
    root = write_dataset(tmp_path / "d", columns={"next.success": lambda e, f: (e, f) == (1, 11)})
    data = load_demonstrations(root)
    config = settings(root, tmp_path, rewind=0.999, batch_size=28)
    rows, batch = TrainingBatches(data, np.arange(28), config, 4, 2)[0]
    backwards = batch["action_is_pad"].all(1).numpy() & data.teaches[rows]
    np.testing.assert_array_equal(backwards, data.episode[rows] == 1)


def test_processes_share_a_steps_batch_between_them(dataset, tmp_path):
    data = load_demonstrations(dataset)
    config = settings(dataset, tmp_path)
    whole, _ = TrainingBatches(data, np.arange(28), config, 4, 1)[3]
    parts = [TrainingBatches(data, np.arange(28), config, 4, 1, i, 2)[3][0] for i in range(2)]
    np.testing.assert_array_equal(np.stack(parts, 1).ravel(), whole)


def test_a_batch_pads_at_the_episodes_end_and_masks_failed_episodes(dataset):
    data = load_demonstrations(dataset)
    batch = data.batch(np.array([0, 7, 22]), 4)
    np.testing.assert_array_equal(batch["action"][1, :, 1], [7, 8, 8, 8])
    np.testing.assert_array_equal(
        batch["action_is_pad"], [[False] * 4, [False, False, True, True], [True] * 4]
    )
    assert batch["next.reward"][:2].isfinite().all() and batch["next.reward"][2].isnan()


def test_human_and_autonomous_frames_teach_actions_as_asked_and_all_teach_the_reward(tmp_path):
    root = write_dataset(
        tmp_path / "data",
        columns={"intervention": lambda episode, frame: (episode, frame // 3) == (0, 1)},
    )
    masks = {
        whose: load_demonstrations(root, action_frames=whose).batch(np.array([1, 4]), 4)
        for whose in ("all", "human", "autonomous")
    }
    pad = {whose: batch["action_is_pad"].int().tolist() for whose, batch in masks.items()}
    assert pad["all"] == [[0, 0, 0, 0]] * 2
    assert pad["human"] == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert pad["autonomous"] == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert all(batch["next.reward"].isfinite().all() for batch in masks.values())


def test_asking_for_human_frames_of_a_dataset_that_does_not_mark_them_is_an_error(dataset):
    with pytest.raises(DatasetError, match="no column intervention"):
        load_demonstrations(dataset, action_frames="human")


def test_an_episode_without_success_teaches_no_actions_unless_asked_to(tmp_path):
    root = write_dataset(
        tmp_path / "data",
        labelled=False,
        columns={"next.success": lambda episode, frame: (episode, frame) == (1, 11)},
    )
    data = load_demonstrations(root, progress_ramp=True)
    assert set(data.episode[data.teaches]) == {1}
    with pytest.raises(DatasetError, match="none of the chosen frames teaches"):
        data.stats(data.rows([0]), min_std=0.01)
    assert load_demonstrations(root, progress_ramp=True, imitate_failures=True).teaches.all()


def test_statistics_come_from_the_given_rows_that_teach(dataset):
    data = load_demonstrations(dataset)
    stats = data.stats(data.rows([0, 2]), min_std=0.01)
    assert stats["action"]["mean"][0] == 0  # episode 2 fails, so only episode 0 counts
    assert stats["action"]["std"][2] == pytest.approx(0.01)  # a joint that never moves
    torch.testing.assert_close(
        stats["observation.state"]["mean"], torch.from_numpy(data.state[data.rows([0, 2])].mean(0))
    )


def test_an_unlabelled_dataset_is_an_error_that_names_the_option_and_the_ramp_labels_it(tmp_path):
    root = write_dataset(tmp_path / "data", labelled=False)
    with pytest.raises(DatasetError, match="--progress-ramp"):
        load_demonstrations(root)
    reward = load_demonstrations(root, progress_ramp=True).reward
    assert reward[0] == 0 and reward[8] == 1 and (np.diff(reward[:9]) >= 0).all() and reward[9] == 0


def test_values_that_are_not_finite_name_episode_and_frame(tmp_path):
    with pytest.raises(DatasetError, match="action is not finite.*episode 1 frame 3"):
        load_demonstrations(write_dataset(tmp_path / "data", bad_frame=True))


def relabelled(dataset: Path, root: Path, labels: dict[int, list[float]]) -> Path:
    """A copy of the dataset with other ``next.reward`` in some episodes."""
    root = Path(shutil.copytree(dataset, root))
    opened = open_labelled(root)
    given = {i: np.array(own, np.float32) for i, own in labels.items()}
    write_labels(opened, {i: EpisodeLabels(own, own >= 1) for i, own in given.items()})
    return root


def test_a_label_out_of_range_is_named_before_the_first_step(dataset, tmp_path, cache):
    ramp = np.linspace(0, 1, 12)
    ramp[7] = 1.2
    root = relabelled(dataset, tmp_path / "odd", {1: ramp.tolist()})
    words = r"next\.reward: expected 0 to 1, .* got 1\.2 in episode 1 frame 7 .*rewact label"
    with pytest.raises(DatasetError, match=words):
        run(settings(root, tmp_path / "run"), cache)
    assert not (tmp_path / "run" / "checkpoints").exists()
    run(settings(root, tmp_path / "rest", episodes="0,2", val_episodes="2", steps=1), cache)


@pytest.mark.parametrize("unknown", [[], [2]])
def test_a_sign_of_success_is_not_taken_for_progress(dataset, tmp_path, cache, unknown):
    sparse = {0: [0.0] * 8 + [1.0], 1: [0.0] * 12, 2: [0.0] * 7}
    sparse |= {index: [np.nan] * 7 for index in unknown}
    root = relabelled(dataset, tmp_path / "sparse", sparse)
    words = "expected progress that rises, got 0 and 1 only, the first jump in episode 0 frame 8"
    with pytest.raises(DatasetError, match=words):
        run(settings(root, tmp_path / "run"), cache)
    without = settings(root, tmp_path / "plain", steps=1, policy={**TINY, "reward_head": "none"})
    run(without, cache)


def test_progress_that_ends_in_a_step_is_progress(dataset, tmp_path):
    steps = {0: [0.0] * 4 + [0.5] * 4 + [1.0], 1: [0.0] * 11 + [1.0]}
    data = load_demonstrations(relabelled(dataset, tmp_path / "steps", steps))
    data.require_labels(np.arange(28), 0.0, 1.0)


def test_failures_of_an_export_teach_actions_when_asked(tmp_path):
    """An export marks every action of a failure as none to be imitated, and has modes."""
    root = write_dataset(
        tmp_path / "export",
        columns={"next.success": lambda episode, frame: episode == 1 and frame == 11},
    )
    data = load_demonstrations(root)
    assert data.teaches.sum() == 9 + 12  # by demo_is_pad: all but the last episode
    data = load_demonstrations(root, imitate_failures=True)
    assert data.teaches.all()
    column = {
        "demo_is_pad": np.array([[True]] * 4),
        "next.success": np.array([[False]] * 4),
        "control_mode": np.array([[Mode.POLICY], [Mode.HUMAN], [Mode.HOLD], [Mode.RESET]]),
    }.get
    taught = imitated(root, column, np.zeros(4, int), imitate_failures=True)
    assert taught.tolist() == [True, True, False, False]


def test_an_empty_folder_is_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="no LeRobotDataset here: the folder is empty"):
        load_demonstrations(tmp_path)


def test_episode_ranges():
    assert parse_episodes("0:2,5", 6) == [0, 1, 5]
    for text in ("0:9", "x", "", "3:3"):
        with pytest.raises(DatasetError):
            parse_episodes(text, 6)


def test_the_split_is_by_episode_and_repeatable():
    first, again = (split_episodes(list(range(10)), None, 0.2, seed=1) for _ in range(2))
    assert first == again and len(first[1]) == 2 and not set(first[0]) & set(first[1])
    with pytest.raises(DatasetError, match="no training episodes"):
        split_episodes([0, 1], [0, 1], 0.0, seed=0)


def test_every_epoch_visits_every_frame_once():
    rows = np.arange(12) * 2
    epoch = np.concatenate([batch_rows(rows, 4, seed=0, step=step) for step in range(3, 6)])
    np.testing.assert_array_equal(np.sort(epoch), rows)


def test_a_killed_run_resumes_to_the_very_same_weights(dataset, cache, tmp_path, monkeypatch):
    whole = settings(dataset, tmp_path / "whole")
    run(whole, cache)

    class Killed(Exception):
        pass

    saves = []

    def save_then_die(*args, **kwargs):
        folder = real_save(*args, **kwargs)
        saves.append(folder)
        raise Killed

    real_save = train_module.save_training_state
    monkeypatch.setattr(train_module, "save_training_state", save_then_die)
    cut = settings(dataset, tmp_path / "cut")
    with pytest.raises(Killed):
        run(cut, cache)
    monkeypatch.setattr(train_module, "save_training_state", real_save)
    assert saves[0].name == "000003"
    run(cut, cache, resume=True)

    a, b = (
        load_policy(tmp_path / n / "checkpoints/last/pretrained_model").policy
        for n in ("whole", "cut")
    )
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    names = {p.name for p in (tmp_path / "cut/checkpoints").iterdir()}
    assert names == {p.name for p in (tmp_path / "whole/checkpoints").iterdir()}


def test_a_run_reports_figures_and_its_recipe_and_exports_the_averaged_weights(
    dataset, cache, tmp_path
):
    figures = run(settings(dataset, tmp_path), cache)
    assert {"loss", "action_l1", "action_l1_normalised", "reward_mae"} == figures.keys()
    assert all(np.isfinite(value) for value in figures.values())
    record = json.loads((tmp_path / "checkpoints/last/pretrained_model/training.json").read_text())
    assert record["step"] == 6 and record["dataset"]["val_episodes"] == [1]
    taught = taught_episodes(tmp_path / "checkpoints/last/pretrained_model")
    assert [place.rpartition(": ")[2] for place in taught.values()] == ["episode 0", "episode 2"]
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_best_checkpoint_stays_when_later_ones_are_worse(dataset, cache, tmp_path, monkeypatch):
    losses = iter([0.5, 0.4, 0.6])
    monkeypatch.setattr(train_module, "evaluate", lambda *args: {"loss": next(losses)})
    run(settings(dataset, tmp_path, val_every=2, save_every=6), cache)
    checkpoints = tmp_path / "checkpoints"
    assert {p.name for p in checkpoints.iterdir()} == {"000004", "000006", "best", "last"}
    assert (checkpoints / "best").resolve().name == "000004"
    assert (checkpoints / "last").resolve().name == "000006"
    for name in ("best", "last"):
        load_policy(checkpoints / name / "pretrained_model")


def test_a_kill_between_the_two_links_is_put_right_on_resuming(dataset, cache, tmp_path):
    run(settings(dataset, tmp_path, save_every=6), cache)
    best = tmp_path / "checkpoints" / "best"
    chosen = best.resolve()
    best.unlink()
    run(settings(dataset, tmp_path, save_every=6), cache, resume=True)
    assert best.resolve() == chosen


def test_a_history_a_part_head_and_rewound_samples_train_without_the_cache_in_workers(
    dataset, tmp_path
):
    policy = {
        **TINY,
        "n_obs_steps": "2",
        "reward_head": "distributional",
        "action_parts": "{arm: 2, hand: 1}",
    }
    changes = {"rewind": 0.5, "frame_cache": False, "workers": 1, "policy": policy, "steps": 3}
    figures = run(settings(dataset, tmp_path, **changes), tmp_path / "unused")
    assert np.isfinite(figures["loss"]) and not (tmp_path / "unused").exists()
    loaded = load_policy(tmp_path / "checkpoints/last/pretrained_model")
    assert loaded.config.n_obs_steps == 2


def test_rewinding_single_observations_is_refused(dataset, cache, tmp_path):
    with pytest.raises(TrainError, match="rewind: a single observation"):
        run(settings(dataset, tmp_path, rewind=0.1), cache)


def test_a_policy_without_reward_head_trains_on_an_unlabelled_dataset(tmp_path):
    root = write_dataset(tmp_path / "data", labelled=False)
    policy = {**TINY, "reward_head": "none"}
    figures = run(settings(root, tmp_path / "run", policy=policy, steps=2), tmp_path / "cache")
    assert "reward_mae" not in figures


def test_backbone_rate_reaches_the_backbone_and_a_frozen_one_is_not_trained(
    dataset, cache, tmp_path
):
    def weights(name, **policy):
        torch.manual_seed(0)
        out = tmp_path / name
        base = {"steps": 2, "warmup_steps": 0, "weight_decay": 0.0, "lr_backbone": 1e-30}
        run(settings(dataset, out, **base, policy={**TINY, **policy}), cache)
        return load_policy(out / "checkpoints/last/pretrained_model").policy.state_dict()

    slow, frozen = weights("slow"), weights("frozen", freeze_backbone="true")
    backbone = [name for name in slow if name.startswith("model.backbone.")]
    assert backbone
    for name in backbone:
        torch.testing.assert_close(slow[name], frozen[name], rtol=0, atol=1e-20)
    state = json.loads(
        (tmp_path / "slow/checkpoints/last/training_state/scheduler_state.json").read_text()
    )
    assert state["base_lrs"] == [3e-4, 1e-30]


def test_memory_that_runs_out_names_what_to_lower_and_leaves_the_checkpoint(
    dataset, cache, tmp_path
):
    run(settings(dataset, tmp_path, steps=3), cache)
    for error in (torch.OutOfMemoryError("CUDA out of memory"), MemoryError()):
        with (
            pytest.raises(TrainError, match=r"batch_size 4.*--batch-size.*step 3.*is intact"),
            machine_faults_told(settings(dataset, tmp_path)),
        ):
            raise error


def test_an_allocation_beyond_the_memory_is_told_as_such(dataset, tmp_path):
    with (
        pytest.raises(TrainError, match="out of memory.*no checkpoint had been written"),
        machine_faults_told(settings(dataset, tmp_path)),
    ):
        torch.empty(2**55)


def test_a_full_disk_is_told_and_leaves_the_earlier_checkpoint(
    dataset, cache, tmp_path, monkeypatch
):
    run(settings(dataset, tmp_path, steps=3), cache)
    last = (tmp_path / "checkpoints" / "last").resolve()
    kept = {p: p.stat().st_mtime_ns for p in last.rglob("*")}
    with (
        pytest.raises(TrainError, match=r"disk is full.*--resume.*step 3.*is intact"),
        machine_faults_told(settings(dataset, tmp_path)),
    ):
        Path("/dev/full").write_text("x")
    assert kept == {p: p.stat().st_mtime_ns for p in last.rglob("*")}


def test_wandb_takes_the_same_scalars_offline(dataset, cache, tmp_path):
    # In a process of its own, as a user's: wandb starts threads and a service, and ends neither.
    script = (
        "import json, pathlib, sys; "
        "from rewact_ros.learning.imitation.settings import TrainSettings; "
        "from rewact_ros.learning.imitation.train import train; "
        "train(TrainSettings(**json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))"
    )
    wanted = json.dumps(asdict(settings(dataset, tmp_path, steps=2, wandb="rewact-test")))
    subprocess.run(
        [sys.executable, "-c", script, wanted, str(cache)],
        env={**os.environ, "WANDB_MODE": "offline"},
        check=True,
        timeout=180,
    )
    assert list((tmp_path / "wandb").rglob("*.wandb")) and list(
        (tmp_path / "tensorboard").iterdir()
    )


def test_wandb_that_is_not_installed_is_an_error_that_says_how(
    dataset, cache, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrainError, match="pip install wandb"):
        run(settings(dataset, tmp_path, steps=2, wandb="rewact-test"), cache)


def test_a_closed_loop_test_on_another_robots_dataset_is_refused(dataset, cache, tmp_path):
    with pytest.raises(TrainError, match="test_every: the task pick_place has cameras"):
        run(settings(dataset, tmp_path, test_every=3), cache)


def test_an_existing_run_is_neither_overwritten_nor_resumed_with_other_settings(
    dataset, cache, tmp_path
):
    run(settings(dataset, tmp_path, steps=3), cache)
    with pytest.raises(TrainError, match="--resume"):
        run(settings(dataset, tmp_path, steps=3), cache)
    with pytest.raises(TrainError, match="started with lr"):
        run(settings(dataset, tmp_path, steps=3, lr=1e-2), cache, resume=True)


def test_a_run_that_is_older_than_a_setting_resumes_with_its_default(dataset, cache, tmp_path):
    run(settings(dataset, tmp_path, steps=3), cache)
    record = tmp_path / "checkpoints/last/training_state/step.json"
    state = json.loads(record.read_text())
    del state["settings"]["action_frames"]
    record.write_text(json.dumps(state))
    run(settings(dataset, tmp_path, steps=3), cache, resume=True)
    with pytest.raises(TrainError, match="action_frames='all', now 'human'"):
        run(settings(dataset, tmp_path, steps=3, action_frames="human"), cache, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_frames(dataset, cache, tmp_path):
    with pytest.raises(TrainError, match=r"step \d+: loss is .*episode:frame \d+:\d+"):
        run(settings(dataset, tmp_path, lr=1e30, steps=50), cache)


def test_a_mistyped_policy_setting_is_refused(dataset, cache, tmp_path):
    with pytest.raises(TrainError, match="dim_modle.*did you mean dim_model"):
        run(settings(dataset, tmp_path, policy={"dim_modle": "3"}), cache)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"val_fraction": 1.0},
        {"lr": 0.0},
        {"mixed_precision": "x"},
        {"device": "y"},
        {"best_by": "success"},
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(change):
    with pytest.raises(TrainError, match=next(iter(change))):
        TrainSettings(dataset="d", out="o", **change)


def test_targets_that_are_a_whole_turn_apart_are_told_by_joint(dataset, capsys):
    contract, data = load_contract(ROOT / "config/robots/vx300s.yaml"), load_demonstrations(dataset)
    rows = data.rows([0, 1, 2, 3])
    rng = np.random.default_rng(0)
    data.action = rng.normal(0, 0.2, (len(data.episode), 7)).astype(np.float32)
    train_module._tell_turns(contract, data, rows)
    assert capsys.readouterr().out == ""
    data.action[:, 3] += np.where(data.episode % 2, np.pi, -np.pi)  # the wrist, either way round
    data.action[:, 5] += 6  # all turned alike
    train_module._tell_turns(contract, data, rows)
    told = capsys.readouterr().out
    assert told.count("\n") == 1 and told.startswith(contract.action_names[3] + ": ")
    assert "others have 2π away" in told


def test_splices_are_refused_where_they_cannot_be_made(dataset, cache, tmp_path):
    with pytest.raises(TrainError, match="splice: splices need .*, or set it to 0"):
        train(settings(dataset, tmp_path / "run", splice=0.3), cache, show_progress=False)
    with pytest.raises(TrainError, match="splice: .* leave out --no-cache"):
        asked = settings(dataset, tmp_path / "run", splice=0.3, frame_cache=False)
        train(asked, cache, show_progress=False)


def test_a_run_that_nobody_asked_for_splices_goes_on_without_and_says_so(
    dataset, cache, tmp_path, capsys
):
    train(settings(dataset, tmp_path / "run", steps=1), cache, show_progress=False)
    assert "no splices: splices need" in capsys.readouterr().out
    config = load_policy(tmp_path / "run/checkpoints/last/pretrained_model", "cpu").config
    assert config.reward_reads == "images"
    told = settings(dataset, tmp_path / "told", steps=1, policy={"reward_reads": "token"})
    train(told, cache, show_progress=False)
    config = load_policy(tmp_path / "told/checkpoints/last/pretrained_model", "cpu").config
    assert config.reward_reads == "token"


@pytest.mark.parametrize(
    ("capability", "precision", "used"),
    [
        ("AVX2", "bf16", "no"),
        ("AVX2", "fp16", "no"),
        ("DEFAULT", "bf16", "no"),
        ("AVX512", "bf16", "bf16"),
        ("AVX2", "no", "no"),
    ],
)
def test_half_precision_is_not_computed_in_software(monkeypatch, capability, precision, used):
    from rewact_ros.policy.weights import precision_on

    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    warns = pytest.warns(UserWarning, match="in software") if used != precision else nullcontext()
    with warns:
        assert precision_on("cpu", precision) == used
    assert precision_on("cuda", precision) == precision


def test_one_process_may_train_in_one_precision_and_then_in_another(monkeypatch):
    """As a notebook does with a classifier and a policy; accelerate itself refuses that."""
    monkeypatch.setattr("rewact_ros.learning.acceleration.precision_on", lambda device, kind: kind)
    for precision in ("no", "bf16", "no"):
        assert make_accelerator("cpu", precision, 1).mixed_precision == precision
