"""The success classifier: labels of frames, training, calibration, checkpoints, two-stage use."""

import json
import re

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from safetensors.torch import load_file, save_file

from rewact_ros.data.labels.frames import (
    FAIL,
    SUCCESS,
    UNUSED,
    frame_labels_file,
    frames_from_outcome,
    label_by_outcomes,
    read_frame_labels,
    write_frame_labels,
)
from rewact_ros.data.labels.write import EpisodeLabels
from rewact_ros.learning.classifier.calibration import calibrate
from rewact_ros.learning.classifier.frames import Frames, LabelledFrames
from rewact_ros.learning.classifier.marking import FrameMarker
from rewact_ros.learning.classifier.settings import ClassifierSettings
from rewact_ros.learning.classifier.train import balanced_batches, train_classifier
from rewact_ros.learning.imitation.origin import taught_episodes
from rewact_ros.learning.imitation.settings import TrainError
from rewact_ros.reward.classifier import ClassifierError, ResNetRewardModel, RewardModelConfig
from rewact_ros.reward.classifier_checkpoint import load_classifier, save_classifier
from rewact_ros.reward.composition import CompositionSettings, RewardComposition, compose_episode
from rewact_ros.reward.debug_images import DebugImages
from rewact_ros.reward.keypoints import LabelError

CAMERA = "observation.images.front"
CELLS, GOAL, SIDE = 5, 4, 32


def picture(cell: int, rng: np.random.Generator) -> np.ndarray:
    """A noisy corridor of five cells, its lower half lit in the last; the robot is a white bar."""
    image = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    image[4:16, cell * 6 + 1 : cell * 6 + 6] = 250
    if cell == GOAL:
        image[18:] += 120
    return image


def write_corridor(root, walks: list[list[int]]):
    """A LeRobotDataset of walks through the corridor; success is standing in the last cell."""
    features = {
        CAMERA: {"dtype": "image", "shape": (SIDE, SIDE, 3), "names": ["h", "w", "c"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "observation.state": {"dtype": "float32", "shape": (1,), "names": ["cell"]},
        "action": {"dtype": "float32", "shape": (1,), "names": ["cell"]},
    }
    dataset = LeRobotDataset.create("local/corridor", 10, features, root=root)
    rng = np.random.default_rng(len(walks))
    for walk in walks:
        for cell in walk:
            dataset.add_frame(
                {
                    CAMERA: picture(cell, rng),
                    "next.reward": np.array([cell / GOAL], np.float32),
                    "next.success": np.array([cell == GOAL]),
                    "observation.state": (cell + rng.normal(0, 0.01, 1)).astype(np.float32),
                    "action": np.array([cell], np.float32),
                    "task": "walk",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return root


WALKS = [[0, 1, 2, 3, 4, 4, 4]] * 5 + [[0, 1, 2, 1, 2, 3, 3]] * 4


@pytest.fixture(scope="module")
def corridor(tmp_path_factory):
    return write_corridor(tmp_path_factory.mktemp("data") / "corridor", WALKS)


def settings(dataset, out, **changes) -> ClassifierSettings:
    base = {
        "arch": "small_cnn",
        "hidden_dim": 16,
        "margin": 0,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "steps": 60,
        "eval_every": 10,
        "batch_size": 16,
        "lr": 2e-3,
        "random_shift_px": 1,
        "device": "cpu",
    }
    return ClassifierSettings(datasets=(str(dataset),), out=str(out), **{**base, **changes})


@pytest.fixture(scope="module")
def trained(corridor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    figures = train_classifier(settings(corridor, folder / "it"), folder / "cache", progress=False)
    return folder / "it", figures


@pytest.fixture
def saved(tmp_path):
    model = ResNetRewardModel(
        RewardModelConfig((CAMERA,), arch="small_cnn", image_size=(32, 32), hidden_dim=8)
    )
    save_classifier(tmp_path / "it", model)
    return tmp_path / "it"


# Labels of frames ---------------------------------------------------------------------------


def test_outcomes_label_frames_and_leave_out_the_brink_and_the_unknown():
    success = np.array([0, 0, 0, 0, 1, 1, 0, 0, 1], bool)
    reward = np.linspace(0, 1, 9, dtype=np.float32)
    reward[0] = np.nan
    frames = frames_from_outcome(EpisodeLabels(reward, success), margin=1)
    assert frames.tolist() == [UNUSED, FAIL, FAIL, UNUSED, SUCCESS, SUCCESS, FAIL, UNUSED, SUCCESS]


def test_frame_labels_survive_writing_and_reading(corridor, tmp_path):
    root = write_corridor(tmp_path / "own", WALKS[-2:])
    marked = {0: np.array([0, 0, -1, 1, 1, -1, 0], np.int8), 1: np.full(7, UNUSED, np.int8)}
    write_frame_labels(root, marked)
    read = read_frame_labels(root, margin=0)
    for index, own in marked.items():
        np.testing.assert_array_equal(read[index], own)
    assert not list(frame_labels_file(root).parent.glob("*.partial"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": 2, "episodes": {}}', "format: expected 1, got 2"),
        ('{"format": 1, "episodes": {"7": {}}}', "episode 7: the dataset has episodes 0 to 0"),
        ('{"format": 1, "episodes": {"0": {"fail": [[3, 9]]}}}', r"\[3, 9\] is no range of its 7"),
        (
            '{"format": 1, "episodes": {"0": {"fail": [[0, 3]], "success": [[2, 4]]}}}',
            "given twice",
        ),
        ('{"format": 1, "episodes": {"0": {"good": [[0, 3]]}}}', "success and fail, got good"),
        ("[]", "frame_labels.json"),
        ('{"format": 1, "episodes": {}, "episodes": {}}', "episodes: given twice in one object"),
        ("[" * 100_000, "too many levels inside one another"),
        ("\xff", "frame_labels.json: line 1: the byte 0xff is not UTF-8"),
    ],
)
def test_a_label_file_that_does_not_fit_is_refused_with_the_place(tmp_path, content, words):
    root = write_corridor(tmp_path / "own", WALKS[:1])
    frame_labels_file(root).parent.mkdir()
    frame_labels_file(root).write_text(content, encoding="latin-1")
    with pytest.raises(LabelError, match=words):
        read_frame_labels(root, margin=0)


def test_keys_mark_frames_one_by_one_in_ranges_and_back():
    marker = FrameMarker(np.full(6, UNUSED, np.int8))
    for key in ("a", "a", " ", "c"):
        marker.press(key)
    assert marker.frames.tolist() == [FAIL, FAIL, UNUSED, SUCCESS, UNUSED, UNUSED]
    marker.press("C")
    assert marker.frames.tolist() == [FAIL, FAIL, UNUSED, SUCCESS, SUCCESS, SUCCESS]
    assert marker.done
    for key in ("left", "left", "x"):
        marker.press(key)
    assert marker.frames.tolist() == [FAIL, FAIL, UNUSED, UNUSED, SUCCESS, SUCCESS]
    marker.press("right")
    assert marker.frame == 5 and not marker.done


# Training -----------------------------------------------------------------------------------


def test_training_tells_success_from_failure_on_episodes_it_has_not_seen(trained, corridor):
    folder, figures = trained
    assert figures["auc"] > 0.95 and figures["frames"] == 14
    record = json.loads((folder / "training.json").read_text())
    parts = [set(record["splits"][name]["episodes"][0]) for name in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(WALKS)
    assert str(corridor.parent) not in (folder / "training.json").read_text()


def test_a_classifier_remembers_the_episodes_that_taught_it(trained):
    folder, _ = trained
    splits = json.loads((folder / "training.json").read_text())["splits"]
    used = {index for name in ("train", "val") for index in splits[name]["episodes"][0]}
    assert len(taught_episodes(folder)) == len(used) > 0


def test_training_stops_early_and_keeps_the_best_weights(corridor, tmp_path):
    frozen = settings(corridor, tmp_path / "it", lr=1e-12, eval_every=2, patience=3)
    train_classifier(frozen, tmp_path / "cache", progress=False)
    record = json.loads((tmp_path / "it" / "training.json").read_text())
    assert record["best_step"] == 2 and record["steps"] == 8


def test_a_run_can_go_on_from_another_classifier(trained, corridor, tmp_path):
    further = settings(
        corridor, tmp_path / "it", init=str(trained[0]), steps=1, lr=1e-12, hidden_dim=99
    )
    figures = train_classifier(further, tmp_path / "cache", progress=False)
    assert figures["auc"] == pytest.approx(trained[1]["auc"])
    assert load_classifier(tmp_path / "it", "cpu").config.hidden_dim == 16


def test_batches_hold_the_set_class_ratio(tmp_path):
    success = np.arange(100) < 5
    frames = Frames(np.zeros(100, np.int64), np.arange(100), success)
    batches = balanced_batches(frames, settings("x", "y", fail_success_ratio=3.0, batch_size=16))
    for _ in range(5):
        batch = next(batches)
        assert batch.success.sum() == 4 and len(batch) == 16


def test_a_class_that_is_missing_is_named(tmp_path):
    root = write_corridor(tmp_path / "own", WALKS[-3:])
    with pytest.raises(TrainError, match="split has no success frame"):
        LabelledFrames([root], (), 0, 0.3, 0.0, 0)
    with pytest.raises(TrainError, match=r"no camera wrist; it has observation\.images\.front"):
        LabelledFrames([root], ("wrist",), 0, 0.3, 0.0, 0)


def test_calibration_recovers_probabilities_from_overconfident_logits():
    rng = np.random.default_rng(0)
    truth = rng.uniform(-3, 3, 20000)
    success = rng.random(20000) < 1 / (1 + np.exp(-truth))
    temperature, offset = calibrate((4 * (truth + 1)).astype(np.float32), success)
    assert temperature == pytest.approx(4, rel=0.1) and offset == pytest.approx(-1, abs=0.1)


def test_calibration_of_separable_frames_stays_finite():
    logits = np.array([-9, -8, 7, 9], np.float32)
    temperature, offset = calibrate(logits, logits > 0)
    probability = 1 / (1 + np.exp(-(logits / temperature + offset)))
    assert probability[1] > 0.05 and probability[2] < 0.95


# Model and checkpoint -----------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["small_cnn", "resnet18", "resnet34"])
def test_every_architecture_treats_a_batch_as_its_images_one_by_one(arch, tmp_path):
    torch.manual_seed(0)
    config = RewardModelConfig(("a", "b"), arch=arch, image_size=(48, 40), hidden_dim=8)
    model = ResNetRewardModel(config).eval()
    images = torch.rand(2, 2, 3, 48, 40)
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    save_classifier(tmp_path / "it", model, {"by": "test"})
    loaded = load_classifier(tmp_path / "it", "cpu")
    assert loaded.config == config
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(images), together)


@pytest.mark.parametrize(("name", "value"), [("hidden_dim", 16), ("image_size", [48, 48])])
def test_a_mismatched_setting_is_refused_by_name(saved, name, value):
    given = tuple(value) if isinstance(value, list) else value
    with pytest.raises(ClassifierError, match=f"{name}: expected {re.escape(str(given))}"):
        load_classifier(saved, "cpu", expected={name: given})
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(ClassifierError, match=rf"config\.json: {name}: expected.*got"):
        load_classifier(saved, "cpu")


def test_images_of_another_size_are_refused_by_name(saved):
    model = load_classifier(saved, "cpu").model
    with pytest.raises(ClassifierError, match=r"image_size say, got \(1, 1, 3, 40, 32\)"):
        model(torch.zeros(1, 1, 3, 40, 32))


def test_damaged_checkpoints_are_refused(saved):
    weights = load_file(saved / "model.safetensors")
    weights["head.0.bias"][0] = float("nan")
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(ClassifierError, match=r"head\.0\.bias: NaN"):
        load_classifier(saved, "cpu")
    (saved / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ClassifierError, match="not a whole safetensors file"):
        load_classifier(saved, "cpu")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ClassifierError, match=r"missing model\.safetensors"):
        load_classifier(saved, "cpu")


def test_a_missing_camera_is_named(saved):
    with pytest.raises(ClassifierError, match=r"observation\.images\.front is missing"):
        load_classifier(saved, "cpu").probability({"observation.images.wrist": np.zeros((8, 8, 3))})


def test_debug_images_are_named_by_probability_and_bounded_in_number(tmp_path):
    images = DebugImages(tmp_path, threshold=0.5, most=2)
    pictures = [np.full((8, 10, 3), 9, np.uint8)] * 2
    for probability in (0.9, 0.1, 0.8, 0.7, 0.25):
        images.write(pictures, probability)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert found == [
        "resnet_fail/000001_prob0.1000.png",
        "resnet_fail/000004_prob0.2500.png",
        "resnet_success/000002_prob0.8000.png",
        "resnet_success/000003_prob0.7000.png",
    ]
    DebugImages(tmp_path, threshold=0.5, most=2).write(pictures, 0.6)  # numbers go on
    assert (tmp_path / "resnet_success" / "000005_prob0.6000.png").is_file()
    assert len(list(tmp_path.rglob("*.png"))) == 4


# Two stages ---------------------------------------------------------------------------------

ENVIRONMENT = CompositionSettings(combine_mode="weighted", reward_weight=0.0, env_reward_weight=1.0)
LEARNED = CompositionSettings(combine_mode="replace", reward_threshold=0.5)


def learn(table: np.ndarray, reward, episodes: int, rng: np.random.Generator) -> list[list[int]]:
    """Q-learning in the corridor from the reward function's answers; returns the walks."""
    walks = []
    for _ in range(episodes):
        cell, walk = 0, [0]
        for step in range(12):
            greedy = int(table[cell].argmax())
            action = greedy if rng.random() > 0.4 else int(rng.integers(2))
            following = int(np.clip(cell + (1 if action else -1), 0, CELLS - 1))
            value, done = reward(following, step == 11)
            target = value + (0 if done else 0.9 * table[following].max())
            table[cell, action] += 0.5 * (target - table[cell, action])
            walk.append(following)
            cell = following
            if done:
                break
        walks.append(walk)
    return walks


def test_stage_two_resumes_stage_one_with_the_learned_reward(tmp_path):
    rng = np.random.default_rng(1)

    # Stage 1: the environment's reward teaches the policy, and what it does is recorded.
    first = RewardComposition(ENVIRONMENT)

    def environment(cell, last):
        return first.step(None, float(cell == GOAL), last).reward, cell == GOAL

    table = np.ones((CELLS, 2))  # optimism, so that every step is tried
    walks = learn(table, environment, 25, rng)
    np.save(tmp_path / "stage1.npy", table)
    root = write_corridor(tmp_path / "recorded", walks)
    write_frame_labels(root, label_by_outcomes(root, margin=0))
    train_classifier(settings(root, tmp_path / "it"), tmp_path / "cache", progress=False)

    # Stage 2: the same policy goes on; the environment says nothing any more.
    classifier = load_classifier(tmp_path / "it", "cpu")
    second = RewardComposition(LEARNED)

    def learned(cell, last):
        step = second.step(classifier.probability({CAMERA: picture(cell, rng)}), last=last)
        return step.reward, step.success

    resumed = np.load(tmp_path / "stage1.npy")
    walks = learn(resumed, learned, 10, rng)
    assert all(GOAL not in walk[:-1] for walk in walks)  # it stops where success is, nowhere else
    assert (resumed.argmax(1)[:GOAL] == 1).all() and not np.array_equal(resumed, table)
    walk = [0, 1, 2, 3, 4]
    probabilities = [classifier.probability({CAMERA: picture(cell, rng)}) for cell in walk]
    np.testing.assert_array_equal(compose_episode(LEARNED, probabilities), [0, 0, 0, 0, 1])


HOSTILE = {
    "huge": {"hidden_dim": 10**9},
    "a number as text": {"hidden_dim": "8"},
    "huge pictures": {"image_size": [10**6, 10**6]},
    "another architecture": {"arch": "vit_h_14"},
    "too many cameras": {"cameras": [f"observation.images.{i}" for i in range(1000)]},
    "cameras that are no names": {"cameras": [{"class": "os.system"}]},
    "an unknown field": {"class": "os.system"},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_settings_out_of_bounds_are_refused_before_anything_is_built(saved, kind, monkeypatch):
    monkeypatch.setattr("rewact_ros.reward.classifier_checkpoint.ResNetRewardModel", None)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **HOSTILE[kind]}))
    with pytest.raises(ClassifierError, match=r"config\.json: .*take the file of the run"):
        load_classifier(saved, "cpu")


def test_a_classifiers_folder_is_checked_as_a_policys(saved, tmp_path):
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text.replace("{", '{"arch": "resnet18", ', 1))
    with pytest.raises(ClassifierError, match="given twice"):
        load_classifier(saved, "cpu")
    (saved / "config.json").write_text(text)
    weights = load_file(saved / "model.safetensors")
    save_file(weights, saved / "model.safetensors", metadata={"config": "[1]"})
    with pytest.raises(ClassifierError, match="expected a JSON object"):
        load_classifier(saved, "cpu")
    (saved / "model.safetensors").rename(tmp_path / "elsewhere")
    (saved / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ClassifierError, match="a link"):
        load_classifier(saved, "cpu")
