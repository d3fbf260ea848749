"""A policy that is told by a text what to do: in an engine, a simulation and the node's graph."""

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import VX300S, write_policy
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.import_utils import register_third_party_plugins
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from test_policy_node import Feeder

from rewact_ros.episodes.loop import Planned
from rewact_ros.msg import EpisodeEvent
from rewact_ros.nodes.policy import PolicyNode
from rewact_ros.policy.checkpoint import load_policy, save_policy
from rewact_ros.policy.checkpoint_files import CheckpointError
from rewact_ros.policy.compatibility import check_contract, check_pace
from rewact_ros.policy.engines import load_engine
from rewact_ros.ros.chunk_reader import read_chunk

SITE = Path(__file__).parent / "lerobot_site"


@pytest.fixture(scope="module")
def told(tmp_path_factory, vx300s):
    """Checkpoint of the plug-in in `lerobot_site`, for the simulated arm."""
    from lerobot.policies.factory import get_policy_class, make_policy_config

    from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors

    if str(SITE) not in sys.path:
        sys.path.append(str(SITE))
    register_third_party_plugins()
    joints = (len(vx300s.action_names),)
    cameras = {
        camera.key: PolicyFeature(FeatureType.VISUAL, (3, *camera.shape[:2]))
        for camera in vx300s.cameras
    }
    state = {"observation.state": PolicyFeature(FeatureType.STATE, joints)}
    config = make_policy_config(
        "told",
        device="cpu",
        input_features=state | cameras | {"task": PolicyFeature(FeatureType.LANGUAGE, (1,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, joints)},
    )
    folder = tmp_path_factory.mktemp("told") / "policy"
    policy = get_policy_class("told")(config)
    save_policy(folder, policy, *make_rewact_pre_post_processors(config, {}))
    return folder


def seen(contract):
    return {
        "observation.state": np.array(contract.reset.pose, np.float32),
        **{camera.key: np.zeros(camera.shape, np.uint8) for camera in contract.cameras},
    }


def test_the_text_reaches_the_policy_and_without_one_it_does_not_act(told, vx300s):
    loaded = load_policy(told, "cpu")
    check_contract(loaded, vx300s)  # no robot has a text among its features
    engine = load_engine(loaded)
    engine.warm_up()
    assert loaded.needs_text and engine.needs_text and engine.instruction == ""
    with pytest.raises(ValueError, match="task: expected a text that tells this policy what to do"):
        engine.infer(seen(vx300s))
    here = vx300s.reset.pose[0]
    for text, side in (("to the left", 1.0), ("to the right", -1.0)):
        engine.instruction = text
        actions = engine.infer(seen(vx300s)).actions
        assert actions.shape == (8, 7) and actions[:, 0] == pytest.approx(here + 0.1 * side)


def test_a_simulation_tells_it_the_tasks_own_text(told):
    engine = load_engine(load_policy(told, "cpu"))
    task = SimpleNamespace(text="go left", rate_hz=20, command_hz=100, joints=range(7), poses=())
    Planned(task, engine, 0.0)
    assert engine.instruction == "go left"


def test_other_policies_need_no_text(tiny_policy):
    engine = load_engine(load_policy(tiny_policy, "cpu"), "torch")
    assert not engine.needs_text


class Told:
    """The node with such a policy, a feeder, and a supervisor's events."""

    def __init__(self, folder, contract, **parameters):
        given = {"contract": str(VX300S), "policy": str(folder), **parameters}
        self.contract, self.node = (
            contract,
            PolicyNode(
                parameter_overrides=[Parameter(key, value=value) for key, value in given.items()]
            ),
        )
        self.feeder = Feeder(contract)
        self.feeder.values = list(contract.reset.pose)
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.feeder):
            self.executor.add_node(node)

    def turn(self, condition, event=None, timeout_s=20.0):
        deadline_s, next_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            assert time.monotonic() < deadline_s, self.feeder.status
            if time.monotonic() >= next_s:
                if event is not None:
                    self.feeder.events.publish(event)
                self.feeder.feed()
                next_s = time.monotonic() + 0.05
            self.executor.spin_once(timeout_sec=0.01)

    def side(self):
        """Where the newest chunk leads the first joint."""
        if not self.feeder.chunks:
            return 0.0
        actions = read_chunk(self.feeder.chunks[-1], self.contract).positions
        return round(float(actions[0, 0] - self.contract.reset.pose[0]), 6)

    def close(self):
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.feeder.destroy_node()


@pytest.fixture
def start(graph, told, vx300s):
    made = []

    def start(**parameters):
        made.append(Told(told, vx300s, **parameters))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_each_episodes_text_is_heard_and_one_without_is_named(start):
    stack = start()
    feeder = stack.feeder
    stack.turn(lambda: feeder.status is not None and feeder.status.ready)
    count = stack.node._observations.received["observation.images.front"]
    stack.turn(lambda: stack.node._observations.received["observation.images.front"] > count + 5)
    assert not feeder.chunks, "nobody has told it what to do"
    running = EpisodeEvent.RUNNING
    stack.turn(lambda: stack.side() == 0.1, EpisodeEvent(event=running, task="to the left"))
    stack.turn(lambda: stack.side() == -0.1, EpisodeEvent(event=running, task="to the right"))
    stack.turn(
        lambda: not feeder.status.ready and "task: expected a text" in feeder.status.reason,
        EpisodeEvent(event=running),
    )
    stack.turn(lambda: feeder.status.ready, EpisodeEvent(event=EpisodeEvent.VERDICT))


def test_a_parameter_tells_it_where_no_task_does(start):
    stack = start(instruction="turn left")
    stack.turn(lambda: stack.side() == 0.1)
    count = len(stack.feeder.chunks)
    running = EpisodeEvent(event=EpisodeEvent.RUNNING)
    stack.turn(lambda: len(stack.feeder.chunks) > count + 5 and stack.feeder.status.ready, running)
    assert stack.side() == 0.1


# Tokens -------------------------------------------------------------------------------------------


def with_tokenizer(folder, **changes):
    """A checkpoint whose preprocessor makes tokens of the task, as those of LeRobot's VLAs do."""
    file = folder / "policy_preprocessor.json"
    pipeline = json.loads(file.read_text())
    step = {"tokenizer_name": "some/tokenizer", "max_length": 8, "task_key": "task",
            "padding_side": "right", "padding": "max_length", "truncation": True}  # fmt: skip
    step |= changes
    pipeline["steps"].insert(1, {"registry_name": "smolvla_new_line_processor", "config": {}})
    pipeline["steps"].insert(2, {"registry_name": "tokenizer_processor", "config": step})
    file.write_text(json.dumps(pipeline))
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer_name": "../../etc"}, "tokenizer_name = "),
        ({"tokenizer_name": "/tmp/x"}, "tokenizer_name = "),
        ({"max_length": 10**9}, "max_length"),
        ({"task_key": "secret"}, "task_key"),
        ({"tokenizer": {"class": "os.system"}}, "tokenizer = "),
    ],
)
def test_a_tokenizer_that_leads_elsewhere_is_refused(told, tmp_path, changes, words):
    copy = with_tokenizer(shutil.copytree(told, tmp_path / "copy"), **changes)
    with pytest.raises(CheckpointError, match=words):
        load_policy(copy, "cpu")


def test_a_tokenizer_has_nothing_to_do_with_actions(told, tmp_path):
    copy = shutil.copytree(told, tmp_path / "copy")
    file = copy / "policy_postprocessor.json"
    pipeline = json.loads(file.read_text())
    pipeline["steps"].insert(0, {"registry_name": "tokenizer_processor", "config": {}})
    file.write_text(json.dumps(pipeline))
    words = "postprocessor.json.*registry_name: expected one of.*got 'tokenizer_processor'"
    with pytest.raises(CheckpointError, match=words):
        load_policy(copy, "cpu")


def test_a_tokenizer_that_is_not_here_is_named_and_nothing_is_downloaded(told, tmp_path):
    copy = with_tokenizer(shutil.copytree(told, tmp_path / "copy"))
    words = r"hf download some/tokenizer|pip install 'lerobot\[transformers-dep\]'"
    with pytest.raises(CheckpointError, match=words):
        load_policy(copy, "cpu")


def test_tokens_are_made_of_the_text_where_transformers_are_installed(told, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1, "to": 2, "the": 3, "left": 4}
    model = tokenizers.models.WordLevel(words, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    cache = tmp_path / "hub" / "models--some--tokenizer"
    snapshot = cache / "snapshots" / "abc"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(snapshot)
    (snapshot / "config.json").write_text('{"model_type": "bert"}')  # as every repository has one
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    copy = with_tokenizer(shutil.copytree(told, tmp_path / "copy"))
    loaded = load_policy(copy, "cpu")
    batch = loaded.preprocessor({"observation.state": torch.zeros(1, 7), "task": ["to the left"]})
    assert batch["observation.language.tokens"].tolist() == [[2, 3, 4, 0, 0, 0, 0, 0]]
    assert batch["task"] == ["to the left\n"] and loaded.needs_text


def test_what_a_policy_without_text_was_saved_with_stays_as_it_was(vx300s, tmp_path):
    folder = write_policy(vx300s, tmp_path / "p")
    assert not load_policy(folder, "cpu").needs_text


# How fast it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "chunk", "words"),
    [
        (0.1, 20, ""),
        (0.24, 20, ""),
        (0.26, 20, "max_chunk_age_s: expected at least 0.52 s, got 0.5"),
        (0.2, 6, "chunk_size: its 6 steps last 0.25 s, and 0.40 s pass"),
        (0.24, 1, ""),  # a single action is held as long as a chunk may be old
    ],
)
def test_a_policy_that_is_too_slow_for_the_contract_is_refused(vx300s, seconds, chunk, words):
    assert vx300s.max_chunk_age_s == 0.5 and vx300s.rate_hz == 20
    loaded = SimpleNamespace(path="p", config=SimpleNamespace(chunk_size=chunk))
    if not words:
        check_pace(loaded, vx300s, seconds)
        return
    with pytest.raises(CheckpointError, match=words):
        check_pace(loaded, vx300s, seconds)


def test_rare_chunks_get_older(vx300s):
    loaded = SimpleNamespace(path="p", config=SimpleNamespace(chunk_size=20))
    check_pace(loaded, replace(vx300s, replan_hz=3.0), 0.1)
    with pytest.raises(CheckpointError, match=r"expected at least 0\.60 s"):
        check_pace(loaded, replace(vx300s, replan_hz=2.0), 0.1)
