"""A session on a lent machine: what fails or hangs costs only itself, and nothing runs twice."""

import json
import subprocess
import sys
import tarfile
import time

import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import gpu_session
from gpu_session import LOGS, TABLE, Stage, run, show, stages

MARK = "open('ran', 'a').write('x')"


def stage(
    name: str, code: str, limit_s: float = 60, least_s: float = 0, figures: str = ""
) -> Stage:
    return Stage(name, ("-c", code), limit_s, least_s, figures)


def states(results) -> dict[str, str]:
    return {result.name: result.state for result in results}


def test_a_stage_that_fails_or_hangs_is_reported_and_the_next_one_runs(tmp_path, capsys):
    out = tmp_path / "out"
    figures = "import os; os.makedirs('runs/bench'); open('runs/bench/t-gpu.json', 'w').write('{}')"
    results = run(
        [
            stage("broken", "raise SystemExit('no such kernel')"),
            stage("hanging", "import time; time.sleep(600)", limit_s=1),
            stage("measured", figures, figures="t"),
            stage("late", MARK, least_s=1000),
        ],
        out,
        budget_s=500,
        cwd=tmp_path,
    )
    expected = {"broken": "failed", "hanging": "too slow", "measured": "passed", "late": "no time"}
    assert states(results) == expected
    assert not (tmp_path / "ran").exists()
    assert {file.name for file in out.iterdir()} == {TABLE, LOGS, "t-gpu.json"}
    assert states(gpu_session._earlier(out)) == expected
    with tarfile.open(out / LOGS) as archive:
        assert b"no such kernel" in archive.extractfile("logs/broken.log").read()
    show(results, tmp_path / "runs" / "gpu_session")
    printed = capsys.readouterr().out
    assert "no such kernel" in printed and "TensorRT: not measured" in printed


def test_a_hanging_stage_takes_its_children_with_it(tmp_path):
    child = "import time; open('child', 'w').write('x'); time.sleep(4); open('ghost', 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    run([stage("parent", parent, limit_s=2)], tmp_path / "out", 60, tmp_path)
    time.sleep(3)
    assert (tmp_path / "child").exists() and not (tmp_path / "ghost").exists()


def test_what_has_passed_is_not_run_again_and_what_has_not_is(tmp_path):
    plan = [stage("good", MARK), stage("bad", f"{MARK}; raise SystemExit(1)")]
    for _ in range(2):
        results = run(plan, tmp_path / "out", 60, tmp_path)
    assert states(results) == {"good": "passed", "bad": "failed"}
    assert (tmp_path / "ran").read_text() == "xxx"


def test_the_budget_cuts_the_last_stage_short(tmp_path):
    results = run([stage("long", "import time; time.sleep(60)")], tmp_path / "out", 1, tmp_path)
    assert states(results) == {"long": "too slow"}


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_results_fit_what_a_lent_machine_gives_back(dry_run, tmp_path):
    plan = stages(dry_run, tmp_path / "demos", tmp_path / "run")
    topics = [stage.figures for stage in plan if stage.figures]
    assert len({TABLE, LOGS, *topics}) <= 8
    for topic in topics:
        text = (ROOT / "benchmarks" / f"{topic.replace('-', '_')}.py").read_text()
        assert "\ndef run(bench" in text


def test_an_unknown_stage_is_named_with_those_there_are(tmp_path):
    command = [sys.executable, gpu_session.__file__, "--out", str(tmp_path), "--only", "tensorrt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "expected some of tests, engines" in done.stderr


def test_figures_of_a_session_are_published(tmp_path, monkeypatch):
    document = {"topic": "t-gpu", "machine": {}, "settings": {"quick": False}, "figures": {}}
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "t-gpu.json").write_text(json.dumps(document))
    monkeypatch.setattr(gpu_session, "ROOT", tmp_path)
    gpu_session.keep(tmp_path)
    kept = {file.name for file in (tmp_path / "docs" / "results").iterdir()}
    assert kept == {"t-gpu.json", "t-gpu.md"} and (tmp_path / "docs" / "performance.md").is_file()


def test_a_stage_whose_folder_is_not_there_any_more_runs_again(tmp_path):
    makes = Stage("demos", ("-c", MARK + "; import os; os.mkdir('d')"), 60, 0, makes="d")
    for expected in ("x", "x"):
        run([makes], tmp_path / "out", 60, tmp_path)
        assert (tmp_path / "ran").read_text() == expected
    (tmp_path / "d").rmdir()
    run([makes], tmp_path / "out", 60, tmp_path)
    assert (tmp_path / "ran").read_text() == "xx"


def test_what_a_chosen_stage_needs_runs_before_it(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(gpu_session, "run", lambda plan, *_: ran.extend(s.name for s in plan) or [])
    monkeypatch.setattr(sys, "argv", ["", "--out", str(tmp_path), "--only", "hil-serl-cost"])
    assert gpu_session.main() == 0
    assert ran == ["demos", "hil-serl-cost"]
