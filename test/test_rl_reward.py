"""What tells success and what steps earn: progress, a classifier, the environment."""

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_rl_agent import make_base
from test_rl_loop import RL, SHORT, fast, write_demos

from rewact_ros import strict_yaml
from rewact_ros.cli.learn import _check_judges
from rewact_ros.contract import Contract
from rewact_ros.learning.rl.demos import open_demos
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.environment import Acting, EpisodeResult, SimEpisode
from rewact_ros.learning.rl.figures import RunFigures
from rewact_ros.learning.rl.journal import Journal, from_record, to_record
from rewact_ros.learning.rl.loop import FastLoop, new_agent
from rewact_ros.learning.rl.reward_judge import RewardJudge, load_reward, open_classifier
from rewact_ros.learning.rl.run_settings import SimEpisodeSettings
from rewact_ros.learning.rl.settings import LearnError
from rewact_ros.learning.rl.transitions import Transition, TransitionBuilder
from rewact_ros.reward.classifier import LoadedClassifier, ResNetRewardModel, RewardModelConfig
from rewact_ros.reward.classifier_checkpoint import load_classifier, save_classifier
from rewact_ros.reward.composition import CompositionSettings, compose_episode
from rewact_ros.sim.human import Traits
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.stack.bringup import processes
from rewact_ros.stack.learner import SimulatedRobot, _simulation
from rewact_ros.supervision.signals import SignalSettings

EAGER = replace(SHORT, completion=0.0)  # whose progress counts as done within half a second
PAYING = CompositionSettings(reward_mode="per_step")
YES, NO = 5.0, -5.0


def write_classifier(folder: Path, offset: float, camera: str = "front") -> str:
    """One that always answers sigmoid(offset)."""
    config = RewardModelConfig(
        (f"observation.images.{camera}",), arch="small_cnn", image_size=(32, 32), hidden_dim=8
    )
    model = ResNetRewardModel(config)
    torch.nn.init.zeros_(model.head[-1].weight)
    torch.nn.init.zeros_(model.head[-1].bias)
    model.offset.fill_(offset)
    save_classifier(folder, model)
    return str(folder)


@pytest.fixture(scope="module")
def yes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_classifier(tmp_path_factory.mktemp("classifier") / "yes", YES)


@pytest.fixture(scope="module")
def no(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_classifier(tmp_path_factory.mktemp("classifier") / "no", NO)


@pytest.fixture(scope="module")
def sim():
    found = PickPlace()
    yield found
    found.close()


@pytest.fixture(scope="module")
def contract_file() -> str:
    return str(Path(__file__).parents[1] / "config" / "robots" / "vx300s.yaml")


@pytest.fixture
def drive(sim: PickPlace, tiny_policy: Path, vx300s: Contract):
    """Function: drive one episode; its transitions and result."""

    def drive(
        settings: SimEpisodeSettings, classifier: LoadedClassifier | None = None
    ) -> tuple[list[Transition], EpisodeResult]:
        base = make_base(tiny_policy, vx300s, RL)
        driver = Driver(RL, base, new_agent(RL, base))
        found: list[Transition] = []
        if settings.classifier and classifier is None:
            classifier = load_classifier(settings.classifier, "cpu")
        episode = SimEpisode(
            sim, driver, vx300s, SignalSettings(level="mean"), settings,
            TransitionBuilder(base.spec(RL), RL.steps), found.append, classifier,
        )  # fmt: skip
        return found, episode.run("000000", 0, 1000, Acting(version="v"))

    return drive


# -- success ---------------------------------------------------------------------------------


def test_progress_alone_tells_success_unless_a_classifier_has_to_agree(drive, yes: str, no: str):
    alone = drive(EAGER)[1]
    assert alone.success and alone.reason == "progress" and alone.duration_s < 0.6
    asked = replace(EAGER, success_by="classifier", classifier=yes, success_hold=16)
    found, agreed = drive(asked)
    assert agreed.success and agreed.reason == "progress and classifier"
    assert agreed.duration_s == pytest.approx(15 / 20)  # the 16th observation
    assert found[-1].success and found[-1].reward[-1] == 1
    assert drive(replace(asked, classifier=no))[1].reason == "timeout"
    assert drive(replace(asked, success_threshold=0.999))[1].reason == "timeout"


def test_the_environment_tells_success_whatever_the_progress_says(
    drive, sim: PickPlace, monkeypatch: pytest.MonkeyPatch
):
    judged = replace(EAGER, success_by="environment")
    found, result = drive(judged)
    assert result.reason == "timeout" and not any(t.reward.any() for t in found)
    truth = sim.truth
    monkeypatch.setattr(sim, "truth", lambda: replace(truth(), success=True))
    found, result = drive(judged)
    assert (result.success, result.reason) == (True, "truth") and found[-1].reward[-1] == 1


# -- rewards ---------------------------------------------------------------------------------


class Scripted:
    """A classifier that says what it is told to."""

    version = "scripted"

    def __init__(self, probabilities: np.ndarray) -> None:
        self._rest = list(probabilities)

    def probability(self, images: dict[str, np.ndarray]) -> float:
        return float(self._rest.pop(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"fail_reward": -0.1, "reward_threshold": 0.6},
        {"success_hold_steps": 2, "history_window": 3, "interval_reward": 0.25},
        {"reward_mode": "terminal", "use_reward_prob": True, "reward_threshold": 0.01},
        {"combine_mode": "add", "use_reward_prob": True},
        {"combine_mode": "weighted", "reward_weight": 0.5, "env_reward_weight": 2.0},
    ],
)
@pytest.mark.parametrize("success", [False, True])
def test_a_step_earns_what_the_observation_after_it_is_worth(
    drive, changes: dict[str, object], success: bool
):
    reward = CompositionSettings(**changes)
    settings = replace(EAGER if success else SHORT, classifier="scripted", reward=reward)
    probabilities = np.random.default_rng(1).uniform(0.02, 0.98, 40)
    found, result = drive(settings, Scripted(probabilities))
    steps = sum(len(t) for t in found)
    environment = np.zeros(steps)
    environment[-1] = success
    expected = compose_episode(reward, list(probabilities[1 : steps + 1]), list(environment))
    assert result.success is success and steps >= 8 and expected.any()
    np.testing.assert_allclose(np.concatenate([t.reward for t in found]), expected, atol=1e-6)


def test_dense_rewards_keep_a_call_for_help_apart_from_a_success(drive, yes: str, no: str):
    helped = replace(SHORT, human=Traits(reaction_s=0.1, noise_rad=0.0), completion=2.0)
    for classifier, per_step in ((yes, 1.0), (no, 0.0)):
        found, result = drive(replace(helped, classifier=classifier, reward=PAYING))
        assert result.reason == "done by a human" and result.interventions == 1
        assert all((t.reward == per_step).all() for t in found)
        first = [t.human for t in found].index(True)
        assert found[first - 1].terminated and not found[first - 1].success
        assert [t.success for t in found] == [False] * (len(found) - 1) + [True]
        figures = RunFigures(0.05, 0.99, 0.95)
        assert [figures.add(t) for t in found] == [t.success for t in found]
        now = figures.now()
        assert (now["episodes"], now["success"], now["success_alone"]) == (1, 1, 0)


def test_rewards_per_step_pay_for_staying_and_costs_per_step_do_not():
    """As docs/rl.md says, of 5 s at what looks done before the end, and of none."""

    def value(steps: int, **changes: float) -> float:
        settings = CompositionSettings(combine_mode="add", **changes)
        earned = compose_episode(settings, [0.9] * steps, [0.0] * (steps - 1) + [1.0])
        return float((0.99 ** np.arange(steps) * earned).sum())

    assert value(100) > value(1)
    assert value(100, success_reward=0.0, fail_reward=-0.01) < value(1, success_reward=0.0)
    terminal = {"reward_mode": "terminal"}
    assert value(100, **terminal) < value(1, **terminal)


def test_a_record_of_before_the_success_field_has_it_by_its_reward(drive):
    def without(record: bytes) -> bytes:
        field = rb", \"success\": " + (b"true" if from_record(record).success else b"false")
        payload = record[12:].replace(field, b" " * len(field))
        assert b"success" not in payload
        return record[:8] + struct.pack("<I", zlib.crc32(payload)) + payload

    found = drive(EAGER)[0]
    assert found[-1].success and not found[0].success
    for transition in found:
        assert from_record(without(to_record(transition))).success == transition.success


def test_demonstrations_earn_as_the_robots_own_steps_and_are_made_anew_for_another_reward(
    vx300s: Contract, tiny_policy: Path, yes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset, base = write_demos(vx300s, tmp_path / "demos"), make_base(tiny_policy, vx300s, RL)

    def rewards(judge: RewardJudge | None) -> list[float]:
        journal = open_demos(
            tmp_path / "journal", dataset, 1, base, RL, SignalSettings(level="mean"), 2.0, judge
        )
        found = list(journal.read())
        journal.close()
        assert found[-1].success and len(np.concatenate([t.reward for t in found])) == 11
        return np.concatenate([t.reward for t in found]).tolist()

    classifier = load_classifier(yes, "cpu")
    assert rewards(None) == [0] * 10 + [1]
    assert rewards(RewardJudge(PAYING, classifier)) == [1] * 11
    assert rewards(RewardJudge(replace(PAYING, combine_mode="add"), classifier)) == [1] * 10 + [2]
    assert rewards(RewardJudge()) == [0] * 10 + [1]


# -- two stages ------------------------------------------------------------------------------


def test_a_run_begins_with_the_environment_and_goes_on_with_the_classifier(
    tiny_policy: Path, contract_file: str, yes: str, tmp_path: Path
):
    learned = replace(EAGER, success_by="classifier", classifier=yes, reward=PAYING)

    def settings(out: str, episodes: int):
        return fast(
            tiny_policy, contract_file, tmp_path / out,
            episode=learned, episodes=episodes, environment_episodes=1, save_every_s=0,
        )  # fmt: skip

    FastLoop(settings("whole", 3)).run()
    FastLoop(settings("resumed", 1)).run()
    FastLoop(settings("resumed", 3), resume=True).run()
    for out in ("whole", "resumed"):
        lines = (tmp_path / out / "episodes.jsonl").read_text().splitlines()
        reasons = [json.loads(line)["reason"] for line in lines]
        assert reasons == ["timeout", "progress and classifier", "progress and classifier"]
        journal = Journal(tmp_path / out / "journal")
        for transition in journal.read():
            assert (transition.reward == (transition.episode != "000000")).all()
        journal.close()
    weights = "checkpoints/last/agent.safetensors"
    one, other = ((tmp_path / out / weights).read_bytes() for out in ("whole", "resumed"))
    assert one == other


# -- what cannot work ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"success_by": "luck"}, "expected one of progress, classifier, environment"),
        ({"success_by": "classifier"}, "classifier: none is given"),
        ({"reward": PAYING}, "classifier: none is given"),
        ({"classifier": "it"}, "nothing asks it"),
        ({"success_threshold": 0.0}, "reward_threshold: expected 0 < x <= 1"),
        ({"success_hold": 0}, "success_hold_steps: expected at least 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, object], words: str):
    with pytest.raises(LearnError, match=words):
        SimEpisodeSettings(**changes)


def test_the_environments_reward_needs_no_classifier():
    only = CompositionSettings(combine_mode="weighted", reward_weight=0.0, env_reward_weight=2.0)
    judge = SimEpisodeSettings(reward=only).judge(None)
    assert [judge.step(), judge.step(success=True, last=True)] == [0, 2]


def test_a_classifier_that_cannot_be_used_is_refused_before_the_run_begins(
    tiny_policy: Path, contract_file: str, vx300s: Contract, tmp_path: Path
):
    asked = replace(SHORT, success_by="classifier", classifier=str(tmp_path / "none"))
    with pytest.raises(LearnError, match="no such checkpoint folder"):
        FastLoop(fast(tiny_policy, contract_file, tmp_path / "run", episode=asked))
    assert not (tmp_path / "run").exists()
    other = write_classifier(tmp_path / "other", YES, camera="side")
    with pytest.raises(LearnError, match=r"needs observation\.images\.side, the robot has"):
        open_classifier(other, vx300s, "cpu")


def test_a_file_of_reward_settings_is_read_or_refused_by_name(tmp_path: Path):
    file = tmp_path / "reward.json"
    file.write_text('{"combine_mode": "add", "history_window": 3}')
    assert load_reward(file) == CompositionSettings(combine_mode="add", history_window=3)
    twice = '{"combine_mode": "add", "combine_mode": "add"}'
    texts = ("[1]", '{"mode": 1}', '{"reward_mode": "never"}', "{", "[" * 100_000, "\xff", twice)
    for text in texts:
        file.write_text(text, encoding="latin-1")
        with pytest.raises(LearnError, match=r"reward\.json: expected a JSON object"):
            load_reward(file)


# -- over topics -----------------------------------------------------------------------------


def test_over_topics_the_supervisor_asks_the_same_classifier(
    contract_file: str, yes: str, tmp_path: Path
):
    episode = SimEpisodeSettings(
        success_by="classifier", classifier=yes, success_threshold=0.8, success_hold=3
    )
    (tmp_path / "policies" / "newest").mkdir(parents=True)
    arguments = _simulation(SimulatedRobot(1, 0, episode), tmp_path, contract_file)
    nodes = {process.name: process for process in processes(arguments)}
    assert nodes["reward_model"].parameters["model"] == yes
    assert nodes["supervisor"].parameters["success_model_required"] is True
    given = strict_yaml.load(tmp_path / "params.yaml")["/**/supervisor"]
    assert given["ros__parameters"]["success_threshold"] == 0.8
    assert given["ros__parameters"]["success_hold"] == 3


def test_what_only_the_fast_path_has_is_refused_over_topics(
    contract_file: str, yes: str, tmp_path: Path
):
    by_classifier = {"success_by": "classifier", "classifier": yes}
    missing = {"success_by": "classifier", "classifier": str(tmp_path)}
    for changes, sim, stage_1, words in (
        ({"success_by": "environment"}, True, 0, "need --sim --fast"),
        ({"classifier": yes, "reward": PAYING}, True, 0, "need --sim --fast"),
        ({}, True, 5, "need --sim --fast"),
        (by_classifier, False, 0, "rewact up --success-model"),
        (missing, True, 0, "missing model.safetensors"),
    ):
        with pytest.raises(LearnError, match=words):
            _check_judges(sim, SimEpisodeSettings(**changes), stage_1, contract_file)
    _check_judges(True, SimEpisodeSettings(**by_classifier), 0, contract_file)
    _check_judges(False, SimEpisodeSettings(), 0, contract_file)
