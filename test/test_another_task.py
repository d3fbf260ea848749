"""Training, fine-tuning, rounds and films of a task that is not the default one."""

from pathlib import Path

import pytest
from conftest import write_policy
from test_tasks import installed as installed  # the task `reach`, of another package
from typer.testing import CliRunner

from rewact_ros.bench.figures import Bench
from rewact_ros.bench.topics import load_topic
from rewact_ros.cli.app import app
from rewact_ros.contract import load_contract
from rewact_ros.episodes.demos import DemoSettings, write_demos
from rewact_ros.episodes.settings import HelpSettings
from rewact_ros.learning.imitation.dagger import collect, run_rounds
from rewact_ros.learning.imitation.settings import RoundsSettings, TrainError, TrainSettings
from rewact_ros.learning.imitation.train import train
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.share import share_dir
from rewact_ros.sim.task import find_task

SMALL = {"chunk_size": "20", "dim_model": "32", "n_heads": "2", "dim_feedforward": "32"}


@pytest.fixture
def demos(installed, tmp_path: Path) -> Path:
    out = tmp_path / "demos"
    made = {"episodes": 3, "failures": 0, "retries": 0, "workers": 1}
    write_demos(DemoSettings(out, installed.contract_file(), task="reach", **made), False)
    return out


def settings(demos: Path, out: Path, **changes) -> TrainSettings:
    base = {"steps": 2, "batch_size": 4, "val_fraction": 0.0, "device": "cpu", "task": "reach"}
    return TrainSettings(dataset=str(demos), out=str(out), **{**base, **changes})


def test_a_policy_in_training_is_tried_on_the_task_that_is_named(demos, tmp_path):
    tried = {"test_every": 2, "test_episodes": 1, "policy": SMALL}
    figures = train(settings(demos, tmp_path / "run", **tried), tmp_path / "cache", False, False)
    assert figures["success"] in (0.0, 1.0)
    with pytest.raises(TrainError, match="test_every: the task pick_place has cameras"):
        unnamed = settings(demos, tmp_path / "other", **tried, **{"task": "pick_place"})
        train(unnamed, tmp_path / "cache", False, False)


def test_a_round_is_of_the_task_that_is_named(installed, demos, tmp_path):
    contract = installed.contract_file()
    stuck = write_policy(load_contract(contract), tmp_path / "stuck")
    training = settings(demos, tmp_path / "run", start=str(stuck), contract=str(contract))
    help = HelpSettings(stall_s=0.5, limit_s=3.0)
    rounds = RoundsSettings(training, rounds=1, episodes=1, test_episodes=1, help=help)
    (only,) = run_rounds(rounds, tmp_path / "cache", show_progress=False)
    assert only.collected[0].interventions and len(only.comparison.result.new) == 1


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_fine_tuning_compares_on_the_task_that_is_named(installed, demos, tmp_path):
    contract = load_contract(installed.contract_file())
    policy, helped = write_policy(contract, tmp_path / "policy"), tmp_path / "helped"
    help = HelpSettings(stall_s=0.5, limit_s=3.0)
    (episode,) = collect(load_policy(policy, "cpu"), contract, [1], help, helped, 20, "reach")
    assert episode.by == "human" and episode.success
    given = ["--policy", policy, "--demos", demos, "--interventions", helped, "--task", "reach"]
    given += ["--steps", 2, "--batch-size", 4, "--val-fraction", 0, "--device", "cpu"]
    done = run(*("finetune", *given, "--test-episodes", 1, "--out", tmp_path / "run"))
    assert done.exit_code == 0, done.output
    assert "success 0/1 -> " in done.output and (tmp_path / "run" / "comparison.json").is_file()
    unknown = run("finetune", *given, "--task", "raech", "--out", tmp_path / "other")
    assert "expected one of pick_place" in str(unknown.exception)
    assert not (tmp_path / "other").exists()


def test_a_film_is_of_the_task_that_is_named(tmp_path):
    pytest.importorskip("gym_aloha")
    task = find_task("aloha/transfer-cube")
    policy = write_policy(load_contract(task.contract_file()), tmp_path / "policy")
    words = ("visualise", "--sim", "--policy", policy, "--out", tmp_path, "--device", "cpu")
    done = run(*words, "--task", task.name)
    assert done.exit_code == 0, done.output
    assert "seed 100000: failed at reach after 20.0 s" in done.output
    assert (tmp_path / "seed-100000.mp4").is_file()
    other = run(*words)
    assert "contract" in str(other.exception) and "pick_place" not in str(other.exception)


@pytest.mark.parametrize("topic", ["supervisor", "reward"])
def test_figures_of_the_shipped_policy_are_refused_for_another_task(topic, tmp_path):
    with pytest.raises(ValueError, match=f"bench {topic}: measures on pick_place only"):
        load_topic(share_dir() / "benchmarks", Bench(topic, True, tmp_path, "reach"))


def test_recording_dagger_asks_for_the_demonstrations_of_its_task(installed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = Bench("recording-dagger", True, tmp_path, "reach")
    measure = load_topic(share_dir() / "benchmarks", asked)
    with pytest.raises(ValueError, match="rewact demos --task reach --out datasets/reach_demos"):
        measure.__globals__["demonstrations"]("reach")
