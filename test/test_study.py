"""A blinded comparison's order, codes and journal: what a kill costs, and what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from rewact_ros.trials.journal import (
    BEGAN,
    JOURNAL,
    SCORED,
    STOPPED,
    Journal,
    Result,
    read_course,
)
from rewact_ros.trials.run import run_trials
from rewact_ros.trials.sequential import PairedComparison
from rewact_ros.trials.study import (
    STUDY,
    Study,
    StudyError,
    Version,
    begin_study,
    named_versions,
    read_study,
    require_same,
    require_versions,
)

NAMES = ("lamp", "new/lamp", "old")


def a_study(seed: int = 7, n: int = 2) -> Study:
    versions = tuple(Version(NAMES[k], f"/models/{k}", f"{k}" * 64) for k in range(n))
    return Study(versions, seed, {"task": "reach", "partial": False})


class Counting(PairedComparison):
    """Is finished after so many blocks."""

    def __init__(self, blocks: int = 10**6, n: int = 2, why: str = "decided") -> None:
        super().__init__(NAMES[:n])
        self.needed, self.why, self.seen = blocks, why, []

    @property
    def state(self):
        over = self.why if len(self.seen) >= self.needed else ""
        return replace(PairedComparison(self.versions).state, finished=over)

    def add(self, block):
        self.seen.append(dict(block))


def score(trial) -> Result:
    """A result that follows from the trial alone."""
    good = (trial.block + trial.version) % 3 > 0
    return Result(float(good), good, {"by": "simulation"})


def silent(line: str) -> None:
    pass


def test_every_block_has_every_version_once_in_an_order_of_its_own():
    study = a_study(n=3)
    orders = [study.order(block) for block in range(600)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    counts = Counter(orders)
    assert len(counts) == 6 and min(counts.values()) > 60  # 100 each, sd 9
    assert orders != [a_study(seed=8, n=3).order(block) for block in range(600)]


def test_a_codes_trial_is_one_alone_and_tells_nothing_of_the_version():
    study = a_study()
    trials = [trial for block in range(200) for trial in study.block(block)]
    assert len({trial.code for trial in trials}) == len(trials)
    digits = {k: Counter(t.code[0] for t in trials if t.version == k) for k in (0, 1)}
    assert all(len(counts) == 16 for counts in digits.values())


def test_a_study_is_read_as_it_was_written(tmp_path):
    study = a_study(n=3)
    begin_study(tmp_path / "new", study)
    assert read_study(tmp_path / "new") == study
    with pytest.raises(StudyError, match="expected an empty folder"):
        begin_study(tmp_path / "new", study)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "mapping of format 1"),
        ('{"format": 1, "seed": "x"}', "seed: expected an integer"),
        ('{"format": 1, "seed": 1, "settings": {"a": []}}', "settings: expected"),
        ('{"format": 1, "seed": 1, "settings": {}, "versions": [1]}', "versions: expected two"),
        ('{"format": 1, "seed": 1, "settings": {}, "versions": [1, 2]}', "name, path and sha256"),
    ],
)
def test_a_damaged_study_is_refused_by_name(tmp_path, text, words):
    (tmp_path / STUDY).write_text(text)
    with pytest.raises(StudyError, match=words) as error:
        read_study(tmp_path)
    assert str(tmp_path / STUDY) in str(error.value)


def test_no_study_says_how_to_begin_one(tmp_path):
    with pytest.raises(StudyError, match="rewact compare CHECKPOINT CHECKPOINT --name lamp"):
        read_study(tmp_path / "lamp")


def test_fewer_than_two_versions_and_one_twice_are_refused():
    with pytest.raises(StudyError, match="expected two or more checkpoints, got 1"):
        named_versions([(Path("/a"), "1" * 64)])
    with pytest.raises(StudyError, match="/b: the same files as /a"):
        named_versions([(Path("/a"), "1" * 64), (Path("/b"), "1" * 64)])


def test_versions_have_as_short_names_as_tell_them_apart():
    found = [(Path(f"/runs/{k}/last"), str(k) * 64) for k in (1, 2)]
    assert [version.name for version in named_versions(found)] == ["1/last", "2/last"]


def test_changed_checkpoints_other_ones_and_other_settings_are_refused_by_name(tmp_path):
    study = a_study()
    same = {version.path: version.sha256 for version in study.versions}
    require_versions(tmp_path, study, same)
    require_same(tmp_path, study, {"task": "reach"})
    with pytest.raises(StudyError, match=r"/models/1: its files were 111111111111 .* now they are"):
        require_versions(tmp_path, study, {**same, "/models/1": "f" * 64})
    with pytest.raises(StudyError, match="holds a study without /models/9"):
        require_versions(tmp_path, study, {**same, "/models/9": "f" * 64})
    with pytest.raises(StudyError, match="/models/1 is compared here too"):
        require_versions(tmp_path, study, {"/models/0": "0" * 64})
    with pytest.raises(StudyError, match="task: expected 'reach' as the study began, got 'lift'"):
        require_same(tmp_path, study, {"task": "lift"})


@pytest.mark.parametrize("why", ["decided", "blocks", "futile"])
def test_trials_go_on_until_the_comparison_is_finished(tmp_path, why):
    comparison, said = Counting(3, why=why), []
    with Journal(tmp_path, a_study()) as journal:
        run_trials(a_study(), journal, comparison, score, said.append)
        assert journal.course.ended == why
    assert len(comparison.seen) == 3 and len(said) == 6
    assert not any(name in line for line in said for name in ("lamp", "models"))


def test_a_fault_in_mid_block_costs_the_running_trial_and_keeps_the_order(tmp_path):
    study, driven = a_study(n=3), []

    def drive(trial):
        driven.append(trial)
        if len(driven) == 5:
            raise RuntimeError("the power went")
        return score(trial)

    with Journal(tmp_path, study) as journal, pytest.raises(RuntimeError):
        run_trials(study, journal, Counting(3, 3), drive, silent)
    with Journal(tmp_path, study) as journal:
        assert journal.course.lost.total() == 1 and len(journal.course.results) == 4
        comparison = Counting(3, 3)
        run_trials(study, journal, comparison, drive, silent)
        assert journal.course.lost.total() == 1
    planned = [trial for block in range(3) for trial in study.block(block)]
    assert driven == [*planned[:5], *planned[4:]]
    assert comparison.seen == [
        {NAMES[t.version]: score(t).score for t in study.block(block)} for block in range(3)
    ]


def test_a_trial_that_nobody_can_score_is_driven_again_but_not_for_ever(tmp_path):
    study, results = a_study(), [Result(None, None, {"reason": "hold"})] * 2
    with Journal(tmp_path, study) as journal:
        run_trials(
            study, journal, Counting(1), lambda t: results.pop() if results else score(t), silent
        )
        assert journal.course.unscored == [(0, 0), (0, 0)] and journal.course.lost.total() == 0
        assert journal.course.ended == "decided"
    (tmp_path / "other").mkdir()
    with Journal(tmp_path / "other", study) as journal:
        hopeless = Result(None, None, {"reason": "hold: the arm stopped"})
        with pytest.raises(StudyError, match=r"3 times \(hold: the arm stopped\)"):
            run_trials(study, journal, Counting(), lambda trial: hopeless, silent)


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_line_that_a_kill_cut_short_is_as_if_it_had_not_been_written(tmp_path, cut):
    study = a_study()
    with Journal(tmp_path, study) as journal:
        run_trials(study, journal, Counting(2), score, silent)
    whole = (tmp_path / JOURNAL).read_bytes()
    results = [line for line in whole.splitlines(keepends=True) if b"ended" not in line]
    (tmp_path / JOURNAL).write_bytes(b"".join(results)[:-cut])
    assert len(read_course(tmp_path, study).results) == 3
    with Journal(tmp_path, study) as journal:
        run_trials(study, journal, Counting(2), score, silent)
        assert journal.course.lost.total() == 1
    assert [e for e in written(tmp_path) if e["event"] == SCORED] == [
        json.loads(line) for line in results if b'"scored"' in line
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines[:1], "{", *lines[1:]], "line 2: .*not valid JSON"),
        (lambda lines: lines[2:], "line 1: expected the trial"),
        (lambda lines: [lines[0], lines[1].replace('"score": ', '"score": 7')], "score: expected"),
        (lambda lines: [lines[0], lines[1].replace("true", "null")], "success: expected true"),
        (lambda lines: [*lines, lines[0]], "expected nothing after the end"),
        (lambda lines: [lines[0].replace(BEGAN, "dreamt")], "event: expected"),
        (lambda lines: ['{"event": "ended", "why": "bored"}'], "why: expected"),
        (lambda lines: ["[]"], "expected an object, got list"),
    ],
)
def test_a_journal_that_was_edited_is_refused_by_its_line(tmp_path, change, words):
    study = a_study()
    with Journal(tmp_path, study) as journal:
        run_trials(study, journal, Counting(1), lambda t: Result(1.0, True), silent)
    lines = (tmp_path / JOURNAL).read_text().splitlines()
    (tmp_path / JOURNAL).write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(StudyError, match=words):
        read_course(tmp_path, study)


def test_a_study_that_a_person_stopped_drives_no_more(tmp_path):
    study, driven = a_study(), []
    with Journal(tmp_path, study) as journal:
        journal.ended(STOPPED)
        run_trials(study, journal, Counting(), driven.append, silent)
    assert not driven and read_course(tmp_path, study).ended == STOPPED


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_study import Counting, a_study, score, silent
from rewact_ros.trials.journal import Journal
from rewact_ros.trials.run import run_trials

def drive(trial):
    print(trial.block, trial.slot, flush=True)
    sys.stdin.read(1)
    return score(trial)

study = a_study()
with Journal(Path(sys.argv[1]), study) as journal:
    run_trials(study, journal, Counting(6), drive, silent)
"""


def test_a_process_that_is_killed_twice_loses_two_trials_and_the_order_stays(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = []

    def start(after: int) -> None:
        """Run the study, and kill it in the middle of its `after`-th trial; 0: to the end."""
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path, ROOT / "test"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with child:
            for count, line in enumerate(child.stdout, 1):
                started.append(tuple(map(int, line.split())))
                if count == after:
                    child.send_signal(signal.SIGKILL)
                    break
                child.stdin.write(".")
                child.stdin.flush()
        assert child.returncode == (-signal.SIGKILL if after else 0)

    for after in (4, 3, 0):
        start(after)
    planned = [(block, slot) for block in range(6) for slot in range(2)]
    assert started == [*planned[:4], *planned[3:6], *planned[5:]]
    course = read_course(tmp_path, a_study())
    assert course.ended == "decided" and course.lost.total() == 2
    assert course.results == [
        (trial, score(trial)) for block in range(6) for trial in a_study().block(block)
    ]


def test_nothing_that_is_written_on_the_way_names_a_version(tmp_path):
    study = a_study()
    with Journal(tmp_path, study) as journal:
        run_trials(study, journal, Counting(4), score, silent)
    text = (tmp_path / JOURNAL).read_text()
    assert not re.search("lamp|models|version", text)
    assert set(written(tmp_path)[0]) == {"event", "block", "slot", "code"}
