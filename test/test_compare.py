"""`rewact compare` in the simulation: blinded, resumable, and honest about an early end."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import run_command, write_policy
from safetensors.torch import load_file, save_file
from test_tasks import EXAMPLE
from test_tasks import installed as installed  # the task `reach`, of another package

from rewact_ros.contract import load_contract
from rewact_ros.episodes import rollout
from rewact_ros.learning.evaluation import simulated_trials
from rewact_ros.trials.journal import JOURNAL
from rewact_ros.trials.study import STUDY

SCENE = 150_000
QUICK = ("--task", "reach", "--limit-s", 1, "--hold-s", 0, "--first-scene", SCENE, "--seed", 5)
FEW = ("--futility", 0, "--most-blocks")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two small policies for the task `reach`: one stays folded, one goes to the first point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        from rewact_reach import Reach
    home, contract = tmp_path_factory.mktemp("reach"), load_contract(Reach.contract_file())
    folders = [
        write_policy(contract, home / name, dim_feedforward=size)
        for name, size in (("champion", 64), ("underdog", 32))
    ]
    task = Reach()
    task.reset(SCENE)
    goal = task.expert().command(10.0)
    (file,) = folders[0].glob("policy_postprocessor*.safetensors")
    tensors = load_file(file)
    tensors["action.mean"] = tensors["action.mean"].new_tensor(np.asarray(goal))
    tensors["action.std"] = tensors["action.std"] * 0.01
    save_file(tensors, file)
    return folders


@pytest.fixture
def here(monkeypatch, tmp_path, installed, capsys):
    """Run `rewact compare WORDS` in a folder of its own; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def compare(*words):
        code = run_command(monkeypatch, "compare", *words)
        said = capsys.readouterr()
        return code, said.out, said.err

    compare.folder = tmp_path / "runs" / "compare"
    return compare


def test_a_study_runs_to_its_end_and_only_then_tells_names(here, small):
    code, said, error = here(*small, *QUICK, *FEW, 3, "--device", "cpu")
    assert code == 0, error
    before, after = said.split("3 blocks: the most blocks were driven")
    assert len(re.findall(r"trial \d \(at most 6\), block \d, code [0-9a-f]{6}", before)) == 6
    assert "champion" not in before and "underdog" not in before
    assert "champion: mean score" in after and "underdog: mean score 0.00" in after
    folder = here.folder / "study"
    report = json.loads((folder / "report.json").read_text())
    first = {t["version"]: t["success"] for t in report["trials"] if t["block"] == 0}
    assert first == {"champion": True, "underdog": False}
    assert [t["scene"] for t in report["trials"]] == [SCENE + k // 2 for k in range(6)]
    assert report["ended"] == "blocks" and report["lost"] == 0
    assert "| champion | " in (folder / "report.md").read_text()
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert not re.search("champion|underdog", (folder / JOURNAL).read_text())
    assert here("--name", "study")[1].endswith(after)  # an ended study drives no more


def test_a_fault_in_mid_study_costs_one_trial_and_an_early_end_is_told(here, small, monkeypatch):
    driven, whole = [], simulated_trials.roll_out

    def roll_out(engine, task, seed, settings):
        driven.append(seed)
        if len(driven) == 4:
            raise KeyboardInterrupt
        return whole(engine, task, seed, settings)

    monkeypatch.setattr(simulated_trials, "roll_out", roll_out)
    words = (*small, *QUICK, "--name", "lamp")
    code, said, _ = here(*words)
    assert code == 130 and "paused; `rewact compare --name lamp` goes on, blinded" in said
    code, said, _ = here("--name", "lamp", "--report")
    assert code == 0 and "1 of at most 200 blocks of 2 trials, and 1 of the next one" in said
    assert "1 trials cut short" in said and "champion" not in said
    monkeypatch.setattr(simulated_trials, "roll_out", whole)
    code, said, _ = here("--name", "lamp", "--end")
    assert code == 0 and said.startswith("1 blocks: stopped early by a person\nnothing decided")
    text = (here.folder / "lamp" / "report.md").read_text()
    assert "The study was stopped early by a person after 1 blocks." in text
    assert "1 trials of a block that was not finished do not count" in text
    assert driven == [SCENE, SCENE, SCENE + 1, SCENE + 1]
    report = json.loads((here.folder / "lamp" / "report.json").read_text())
    assert sorted(version["lost"] for version in report["versions"]) == [0, 1]


def test_a_study_that_ends_before_its_first_block_says_that_nothing_is_known(
    here, small, monkeypatch
):
    def roll_out(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated_trials, "roll_out", roll_out)
    assert here(*small, *QUICK)[0] == 130
    code, said, _ = here("--end")
    assert (
        code == 0 and "nothing decided" in said and "champion: mean score – (0.00 to 1.00)" in said
    )


def test_partial_credit_is_the_progress_that_a_failure_reached(here, small, monkeypatch):
    told = iter((0.25, 0.5, 0.75, 0.5))
    monkeypatch.setattr(simulated_trials, "furthest", lambda task, trace: next(told))
    asked = ("--partial", *FEW, 2, "--first-scene", SCENE + 1)
    code, _, error = here(*small, *QUICK, *asked)
    assert code == 0, error
    report = json.loads((here.folder / "study" / "report.json").read_text())
    assert [t["score"] for t in report["trials"]] == [0.25, 0.5, 0.75, 0.5]
    assert not any(t["success"] for t in report["trials"])


def test_the_furthest_progress_is_that_of_the_labels(installed):
    task = installed()
    trace = rollout.Trace(expert=None)

    class Labelled(type(task)):
        labels = np.array([0.1, 0.6, np.nan, 0.0], np.float32)

        @classmethod
        def progress(cls, course):
            return cls.labels

    trace.expert = task.expert()
    assert simulated_trials.furthest(Labelled(), trace) == pytest.approx(0.6)
    Labelled.labels = np.full(3, np.nan, np.float32)
    assert simulated_trials.furthest(Labelled(), trace) == 0.0


def test_what_cannot_be_compared_is_refused_by_name(here, small, tiny_policy, tmp_path):
    a, b = small
    for words, told in (
        ((a,), "expected two or more checkpoints, got 1"),
        ((a, a), "the same files as"),
        ((a, tmp_path / "none"), "no such checkpoint folder"),
        ((a, tiny_policy), "contract"),
        ((a, b, "--name", "../x"), "--name: expected letters"),
        ((a, b, "--alpha", 2), "alpha"),
        ((a, b, "--most-blocks", 3), "--most-blocks 3: too few to find a difference of 0.15"),
        ((a, b, "--calibration", a), "expected --judge supervisor and whole verdicts"),
        ((a, b, "--judge", "supervisor", "--calibration", a), "rewact calibrate"),
        ((a, b, "--unattended"), "expected --robot and --judge supervisor"),
        (("--name", "unknown"), "no study; begin one"),
        (("--name", "unknown", "--end"), "no study; begin one"),
    ):
        code, _, error = here(*words, *QUICK)
        assert code == 2 and told in error, (words, error)
    assert not here.folder.exists() or not list(here.folder.iterdir())


def test_a_study_goes_on_only_as_what_it_began(here, small, tmp_path):
    a, b = small
    c = shutil.copytree(b, tmp_path / "copy")
    assert here(a, c, *QUICK, *FEW, 2)[0] == 0
    folder = here.folder / "study"
    (folder / "report.md").unlink()
    (folder / JOURNAL).write_text("")  # as if it had only begun
    (c / "README.md").write_text("another")
    for words, told in (
        ((), f"{c}: its files were"),
        ((a, b), f"holds a study without {b}"),
        (("--most-blocks", 9), "most_blocks: expected 2 as the study began, got 9"),
        (("--seed", 9), "has one of its own"),
    ):
        code, _, error = here(*words)
        assert code == 2 and told in error, (words, error)
    (folder / STUDY).write_text("{")
    code, _, error = here()
    assert code == 2 and f"{STUDY}: line 1: not valid JSON" in error
    (here.folder / "other").mkdir()
    (here.folder / "other" / "notes.txt").touch()
    code, _, error = here(a, b, *QUICK, "--name", "other")
    assert code == 2 and "expected an empty folder, or a study" in error


def test_two_processes_do_not_drive_one_study(here, small):
    from rewact_ros.files import locked_folder

    (here.folder / "study").mkdir(parents=True)
    with locked_folder(here.folder / "study"):
        code, _, error = here(*small, *QUICK)
    assert code == 2 and "another process drives this study" in error
