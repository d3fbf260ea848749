"""Reward models of LeRobot and its plug-ins as judges: made by its factories, checked by us."""

import json
import math
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VX300S
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.rewards import (
    get_reward_model_class,
    make_reward_model_config,
    make_reward_pre_post_processors,
)
from lerobot.utils.import_utils import register_third_party_plugins
from safetensors.torch import load_file, save_file
from test_foreign_checkpoints import edit
from test_reward_model_node import write_classifier

from rewact_ros.contract import ContractError
from rewact_ros.policy.checkpoint_files import CheckpointError
from rewact_ros.policy.images import unit_images
from rewact_ros.reward.judges import JudgeSettings, load_judge, open_judge
from rewact_ros.reward.lerobot_judge import Spread, Window
from rewact_ros.reward.lerobot_model import LoadedRewardModel

SITE = Path(__file__).parent / "lerobot_site"
FRONT = "observation.images.front"
STATE = "observation.state"
SETTINGS = JudgeSettings("cpu")


def save(folder, config, stats):
    """A reward model's checkpoint as lerobot-train writes it."""
    model = get_reward_model_class(config.type)(config)
    model.save_pretrained(folder)
    make_reward_pre_post_processors(config, dataset_stats=stats)[0].save_pretrained(folder)
    return folder


def write_glow(folder, contract):
    """Checkpoint of the plug-in in `lerobot_site`, for a robot with a front camera."""
    if str(SITE) not in sys.path:
        sys.path.append(str(SITE))
    register_third_party_plugins()
    (camera,) = [c for c in contract.cameras if c.key == FRONT]
    joints = len(contract.state_names)
    inputs = {
        STATE: PolicyFeature(FeatureType.STATE, (joints,)),
        FRONT: PolicyFeature(FeatureType.VISUAL, (3, *camera.shape[:2])),
        "task": PolicyFeature(FeatureType.LANGUAGE, (1,)),
    }
    stats = {STATE: {"mean": torch.full((joints,), 2.0), "std": torch.full((joints,), 0.5)}}
    config = make_reward_model_config("glow", device="cpu", input_features=inputs)
    return save(folder, config, stats)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, vx300s):
    return write_glow(tmp_path_factory.mktemp("glow") / "it", vx300s)


@pytest.fixture
def glow(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "glow")


def seen(vx300s, grey, first_joint=2.0):
    state = np.full(len(vx300s.state_names), first_joint, np.float32)
    pictures = {c.key: np.full(c.shape, grey, np.uint8) for c in vx300s.cameras}
    return {STATE: state, **pictures}


def opened(folder, vx300s, text="brighten"):
    judge, _ = open_judge(folder, vx300s, SETTINGS, pytest.fail)
    judge.instruction = text
    return judge


# What it says -------------------------------------------------------------------------------------


def test_it_sees_the_frames_that_its_configuration_asks_for_and_the_text(glow, vx300s):
    judge, period_s = opened(glow, vx300s), 1 / vx300s.rate_hz
    greys = [0, 51, 102, 153, 204]
    said = [judge.infer(seen(vx300s, grey), k * period_s).reward for k, grey in enumerate(greys)]
    # The episode's first frame stands in for those that never were.
    assert said == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.6], abs=1e-6)
    judge.instruction = "darken it"
    assert judge.infer(seen(vx300s, 255), 5 * period_s).reward == pytest.approx(0.2, abs=1e-6)
    judge.reset()
    assert judge.infer(seen(vx300s, 255), 6 * period_s).reward == pytest.approx(0.0, abs=1e-6)
    # The state is normalised by the checkpoint's statistics: 0.01 x (3 - 2) / 0.5.
    judge.reset()
    judge.instruction = "brighten"
    said = judge.infer(seen(vx300s, 51, first_joint=3.0), 7 * period_s).reward
    assert said == pytest.approx(0.22, abs=1e-6)


def test_it_needs_a_text_unless_its_configuration_has_one(glow, vx300s):
    judge = opened(glow, vx300s, text="")
    judge.warm_up()
    assert judge.needs_text and judge.instruction == ""
    with pytest.raises(ValueError, match="task: expected a text that tells"):
        judge.infer(seen(vx300s, 0), 0.0)
    edit(glow / "config.json", lambda c: c.update(default_task="brighten"))
    assert not opened(glow, vx300s).needs_text


def test_an_episode_is_seen_evenly_spread_and_a_long_one_is_thinned():
    spread = Spread(4)
    seen = [spread.add({"n": np.array(k)}, k * 0.5) for k in range(601)]
    assert [int(o["n"]) for o in seen[0]] == [0, 0, 0, 0]
    assert [int(o["n"]) for o in seen[30]] == [0, 10, 20, 30]
    assert [int(o["n"]) for o in seen[600]] == [0, 200, 400, 600]
    assert len(spread._kept) <= 256
    assert [int(o["n"]) for o in spread.add({"n": np.array(-1)}, 3.0)] == [-1] * 4  # time ran back


def test_a_window_takes_steps_of_the_datas_rate_and_the_present_for_the_future():
    window = Window([-20, -10, 0, 10], rate_hz=10.0)
    seen = [window.add({"n": np.array(k)}, k / 10) for k in range(31)]
    assert [int(o["n"]) for o in seen[0]] == [0, 0, 0, 0]
    assert [int(o["n"]) for o in seen[15]] == [0, 5, 15, 15]
    assert [int(o["n"]) for o in seen[30]] == [10, 20, 30, 30]


# What a calibration is bound to -------------------------------------------------------------------


def test_its_hash_is_of_all_that_the_score_depends_on_and_of_nothing_else(glow):
    before = load_judge(glow, "cpu")
    assert isinstance(before, LoadedRewardModel)
    (glow / "calibration.json").write_text("{}")
    edit(glow / "config.json", lambda c: c.update(device="cuda", repo_id="me/it", tags=["x"]))
    same = load_judge(glow, "cpu")
    assert (same.version, same.reward_hash) == (before.version, before.reward_hash)
    hashes = {before.reward_hash}
    edit(glow / "config.json", lambda c: c.update(back=3))
    hashes.add(load_judge(glow, "cpu").reward_hash)
    (state,) = glow.glob("*normalizer_processor.safetensors")
    stats = load_file(state)
    save_file({k: v + 1 for k, v in stats.items()}, state)
    hashes.add(load_judge(glow, "cpu").reward_hash)
    save_file({"weight": torch.tensor([0.5])}, glow / "model.safetensors")
    hashes.add(load_judge(glow, "cpu").reward_hash)
    assert len(hashes) == 4


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "joint", "error", "words"),
    [
        (2.0, 2.0, ValueError, "from 0 to 1, got 2;"),
        (-1.0, 2.0, ValueError, "from 0 to 1, got -1;"),
        (1.0, np.nan, FloatingPointError, "answers nan"),
        (1.0, np.inf, FloatingPointError, "answers inf"),
    ],
)
def test_a_score_that_is_no_progress_is_refused_by_name(glow, vx300s, weight, joint, error, words):
    save_file({"weight": torch.tensor([weight])}, glow / "model.safetensors")
    judge = opened(glow, vx300s)
    judge.warm_up()  # what it says of zeros is nobody's progress
    with pytest.raises(error, match=rf"glow \(glow\).*{words}"):
        judge.infer(seen(vx300s, 255, joint), 0.0)


def test_a_robot_without_what_it_looks_at_is_refused_by_name(glow, vx300s):
    with pytest.raises(ContractError, match=rf"needs {FRONT}, the contract has .*wrist"):
        opened(glow, replace(vx300s, cameras=vx300s.cameras[1:]))
    camera = replace(vx300s.cameras[0], shape=(48, 64, 3))
    with pytest.raises(ContractError, match=rf"{FRONT}: expected .*the contract has \(48, 64, 3"):
        opened(glow, replace(vx300s, cameras=(camera, *vx300s.cameras[1:])))
    part = replace(vx300s.state[0], joints=vx300s.state[0].joints[:-1])
    with pytest.raises(ContractError, match=r"observation\.state: expected 7 numbers.*has 6"):
        opened(glow, replace(vx300s, state=(part,)))
    judge = opened(glow, vx300s)
    with pytest.raises(KeyError, match="lacks observation.images.front"):
        judge.infer({STATE: np.zeros(7, np.float32)}, 0.0)
    with pytest.raises(ValueError, match="front: expected shape"):
        judge.infer({**seen(vx300s, 0), FRONT: np.zeros((4, 4, 3), np.uint8)}, 0.0)


def without_statistics(folder):
    for file in folder.glob("policy_preprocessor*"):
        file.unlink()


HOSTILE = {
    "a field that nobody has": (lambda c: c.update(hook="os.system"), "hook"),
    "a type that nobody has": (lambda c: c.update(type="evil"), "type: expected one of.*evil"),
    "a type that is no text": (lambda c: c.update(type=["glow"]), "type"),
    "code to be loaded": (
        lambda c: c.update(license={"auto_map": {"AutoModel": "evil/repo--x.Y"}}),
        "auto_map: code would be loaded",
    ),
    "no inputs": (lambda c: c.update(input_features={}), "input_features: expected 1 to"),
    "an input of no type": (
        lambda c: c["input_features"].update({FRONT: {"type": "PICKLE", "shape": [3, 4, 4]}}),
        "type: expected one of",
    ),
    "no way to normalise": (
        lambda c: c.update(normalization_mapping={"STATE": "EVAL"}),
        "normalization_mapping",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_configuration_of_a_stranger_is_refused_by_name(glow, kind):
    change, words = HOSTILE[kind]
    edit(glow / "config.json", change)
    with pytest.raises(CheckpointError, match=f"config.json.*{words}"):
        load_judge(glow, "cpu")


def test_weights_and_statistics_must_be_there_and_fit(glow, tmp_path):
    bare = shutil.copytree(glow, tmp_path / "bare")
    without_statistics(bare)
    with pytest.raises(CheckpointError, match="observation.state: missing mean, std"):
        load_judge(bare, "cpu")
    save_file({"weight": torch.ones(2)}, bare / "model.safetensors")
    with pytest.raises(CheckpointError, match="weight: expected shape"):
        load_judge(bare, "cpu")
    (bare / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing model.safetensors"):
        load_judge(bare, "cpu")
    edit(glow / "policy_preprocessor.json", lambda c: c["steps"][0].update(state_file="../x"))
    with pytest.raises(CheckpointError, match="state_file: expected the name"):
        load_judge(glow, "cpu")


# Models of the Hub --------------------------------------------------------------------------------


def cached(hub, name, files):
    """A repository in the Hub's cache."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    for file, text in {"config.json": "{}", **files}.items():
        (snapshot / file).write_text(text)
    return snapshot


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the Hub of this test's own; asking the Hub itself is no option even online."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def asked(*arguments, **named):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("socket.socket.connect", asked)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def foreign(folder, kind, weights=True, **settings):
    """A folder that says it is of a type of LeRobot's own."""
    folder.mkdir()
    inputs = {FRONT: {"type": "VISUAL", "shape": [3, 96, 128]}}
    config = {"type": kind, "input_features": inputs, **settings}
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("kind", "settings", "repository"),
    [
        ("reward_classifier", {}, "lerobot/resnet10"),
        ("reward_classifier", {"model_name": "some/backbone"}, "some/backbone"),
        ("sarm", {}, "openai/clip-vit-base-patch32"),
        ("robometer", {}, "Qwen/Qwen3-VL-4B-Instruct"),
        # LeRobot writes its default threshold as JSON has no number: -Infinity.
        (
            "topreward",
            {"weights": False, "success_threshold": -math.inf},
            "Qwen/Qwen3-VL-8B-Instruct",
        ),
    ],
)
def test_a_model_of_the_hub_that_is_not_here_is_named_and_not_fetched(
    hub, tmp_path, kind, settings, repository
):
    folder = foreign(tmp_path / "it", kind, **settings)
    with pytest.raises(CheckpointError, match=f"type {kind}.*: hf download {repository}"):
        load_judge(folder, "cpu")


@pytest.mark.parametrize("code", ["modeling.py", "auto_map"])
def test_a_backbones_own_code_runs_only_where_lerobot_itself_names_it(hub, tmp_path, code):
    evil = {code: "raise SystemExit"} if code.endswith(".py") else {}
    evil = evil or {"tokenizer_config.json": '{"auto_map": {"AutoModel": "evil/repo--x.Y"}}'}
    cached(hub, "some/backbone", evil)
    folder = foreign(tmp_path / "it", "reward_classifier", model_name="some/backbone")
    with pytest.raises(CheckpointError, match="its own code would run, and none does"):
        load_judge(folder, "cpu")


@pytest.mark.parametrize("name", ["some/backbone", "../backbone", "/tmp", ""])
def test_a_backbone_is_a_repository_and_no_folder(hub, tmp_path, name):
    (tmp_path / "some" / "backbone").mkdir(parents=True)
    folder = foreign(tmp_path / "it", "reward_classifier", model_name=name)
    with pytest.raises(CheckpointError, match="expected a repository of the Hub"):
        load_judge(folder, "cpu")


def test_lerobots_own_classifier_gives_its_probability(hub, tmp_path, vx300s):
    transformers = pytest.importorskip("transformers")
    size = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"
    )
    torch.manual_seed(0)
    transformers.ResNetModel(size).save_pretrained(cached(hub, "some/backbone", {}))
    inputs = {FRONT: PolicyFeature(FeatureType.VISUAL, (3, 32, 32))}
    config = make_reward_model_config(
        "reward_classifier",
        model_name="some/backbone",
        num_cameras=1,
        input_features=inputs,
        hidden_dim=8,
        latent_dim=8,
    )
    stats = {FRONT: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}}
    folder = save(tmp_path / "it", config, stats)
    camera = replace(vx300s.cameras[0], shape=(32, 32, 3))
    robot = replace(vx300s, cameras=(camera,))
    judge, version = open_judge(folder, robot, SETTINGS, pytest.fail)
    judge.warm_up()
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    own = get_reward_model_class("reward_classifier").from_pretrained(folder)
    unit = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    expected = float(own.predict([(unit - 0.5) / 0.25]).probabilities)
    assert judge.infer({FRONT: picture}).reward == pytest.approx(expected, abs=1e-6)
    assert 0 < expected < 1 and not judge.needs_text and version


# Ours in LeRobot's register -----------------------------------------------------------------------


def test_lerobot_opens_our_checkpoints_as_reward_models(tiny_policy, vx300s, tmp_path):
    from lerobot.configs.parser import load_plugin
    from lerobot.configs.rewards import RewardModelConfig
    from lerobot.rewards import make_reward_model

    load_plugin("rewact_ros.reward.plug_in")
    classifier = write_classifier(tmp_path / "c")
    batch = {
        key: torch.from_numpy(value)[None]
        if key == STATE
        else unit_images(torch.tensor(value))[None]
        for key, value in seen(vx300s, 99).items()
    }
    for folder in (tiny_policy, classifier):
        said = opened(folder, vx300s).infer(seen(vx300s, 99), 0.0).reward
        config = RewardModelConfig.from_pretrained(folder, cli_overrides=["--device=cpu"])
        config.pretrained_path = str(folder)
        model, (preprocessor, _) = (
            make_reward_model(config),
            make_reward_pre_post_processors(config),
        )
        assert not model.is_trainable
        with torch.no_grad():
            (value,) = model.compute_reward(preprocessor(batch)).tolist()
        assert value == pytest.approx(said, abs=1e-5)
        model.save_pretrained(tmp_path / config.type)  # it is a checkpoint again
        assert (
            load_judge(tmp_path / config.type, "cpu").version == load_judge(folder, "cpu").version
        )
    with pytest.raises(ValueError, match="rewact: expected a checkpoint"):
        make_reward_model(make_reward_model_config("rewact", device="cpu"))


# In the graph, and calibrated ---------------------------------------------------------------------


def test_the_node_tells_it_the_episodes_task(graph, glow, vx300s):
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from test_policy_node import Feeder

    from rewact_ros.msg import EpisodeEvent
    from rewact_ros.nodes.judge import JudgeNode

    given = {"contract": str(VX300S), "model": str(glow), "device": "cpu"}
    judge = JudgeNode(parameter_overrides=[Parameter(k, value=v) for k, v in given.items()])
    feeder, executor = Feeder(vx300s), SingleThreadedExecutor()
    feeder.values = [2.5] + [2.0] * 6
    for node in (judge, feeder):
        executor.add_node(node)

    def until(condition, event=None):
        deadline_s, next_s = time.monotonic() + 20, 0.0
        while not condition():
            assert time.monotonic() < deadline_s, judge._diagnose()
            if time.monotonic() >= next_s:
                if event is not None:
                    feeder.events.publish(event)
                feeder.feed()
                next_s = time.monotonic() + 0.05
            executor.spin_once(timeout_sec=0.01)

    try:
        until(lambda: judge._observations.received.get(FRONT, 0) > 3)
        assert not feeder.rewards and not judge._fault, "nobody has told it what to do"
        running = EpisodeEvent.RUNNING
        until(lambda: feeder.rewards, EpisodeEvent(event=running, task="brighten"))
        first = feeder.rewards[-1]
        assert first.reward_hash == load_judge(glow, "cpu").reward_hash
        dark = EpisodeEvent(event=running, task="darken")
        until(lambda: feeder.rewards[-1].value != pytest.approx(first.value, abs=1e-3), dark)
        assert feeder.rewards[-1].value == pytest.approx(1 - first.value, abs=0.02)
        until(lambda: "expected a text" in judge._fault, EpisodeEvent(event=running))
    finally:
        judge.close()
        executor.shutdown()
        for node in (judge, feeder):
            node.destroy_node()
