"""The table of tasks: what a file may say, which row a task's text chooses, and every refusal."""

from pathlib import Path

import pytest

from rewact_ros.policy.task_table import (
    ByTask,
    TaskTableError,
    UnknownTaskError,
    load_tasks,
    table_of,
)
from rewact_ros.ros.params import PolicyParams


@pytest.fixture
def write(tmp_path):
    """Function: a table's file beside the checkpoint folders a and b and a calibration c.json."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "c.json").touch()

    def write(text):
        file = tmp_path / "tasks.yaml"
        file.write_text(text)
        return file

    return write


def test_a_row_has_what_the_file_says_relative_to_its_folder(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    table = load_tasks(
        write(
            "tasks:\n"
            "  - {task: 'put the cube*', policy: a, judge: b, calibration: c.json, timeout_s: 20}\n"
            f"  - {{task: '*', policy: {tmp_path / 'b'}}}\n"
            "  \n"
        )
    )
    cube, rest = table.rows
    assert (cube.pattern, cube.timeout_s) == ("put the cube*", 20.0)
    assert (cube.policy, cube.judge, cube.calibration) == tuple(
        tmp_path / name for name in ("a", "b", "c.json")
    )
    assert cube.judged_by == tmp_path / "b" and cube.thresholds == tmp_path / "c.json"
    assert (rest.judge, rest.calibration, rest.timeout_s) == (None, None, 0.0)
    assert rest.judged_by == rest.policy == tmp_path / "b" and rest.thresholds is None
    (tmp_path / "b" / "calibration.json").touch()
    assert rest.thresholds == tmp_path / "b" / "calibration.json"
    assert table.judged_apart
    (home,) = load_tasks(write("tasks: [{task: x, policy: ~/a}]")).rows
    assert home.policy == tmp_path / "a"


def test_the_first_pattern_that_matches_counts_and_case_does_not():
    names = ["put the CUBE*", "sort [ab]?", "*"]
    by_task = ByTask([(name, name) for name in names], "t.yaml")
    chosen = {
        "Put the cube into the tray": names[0],
        "  put the cube  ": names[0],
        "sort a1": names[1],
        "sort c1": "*",
        "": "*",
        "put\nthe cube": "*",
    }
    assert {task: by_task.of(task) for task in chosen} == chosen
    assert by_task.usual == "*"


def test_a_task_without_a_row_is_refused_by_name_with_the_patterns_that_there_are():
    by_task = ByTask([("put*", 1), ("sort*", 2)], "t.yaml")
    assert by_task.usual == 1
    with pytest.raises(UnknownTaskError, match=r"t\.yaml matches \('put\*', 'sort\*'\), got 'dan"):
        by_task.of("dance")
    with pytest.raises(UnknownTaskError) as error:
        by_task.of("\x1b[2J" * 1000)
    assert str(error.value).isprintable() and len(str(error.value)) < 300
    assert ByTask.one(3).of("anything") == ByTask.one(3).usual == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a mapping"),
        ("tasks: []", "tasks: expected a list with a mapping for each pattern"),
        ("tasks: {task: a}", "tasks: expected a list"),
        ("task: []", "did you mean it by 'task'"),
        ("tasks: [a]", "line 1: tasks[0]: expected a mapping, got 'a'"),
        ("tasks: [{task: x, policy: a}]\nrobot: y", "line 2: robot: unknown key"),
        ("tasks:\n- {task: x}", "line 2: tasks[0].policy: missing"),
        ("tasks:\n- {policy: a}", "line 2: tasks[0].task: missing"),
        ("tasks: [{task: '', policy: a}]", "tasks[0].task: expected text"),
        ("tasks: [{task: 3, policy: a}]", "tasks[0].task: expected text, got 3"),
        ("tasks: [{task: x, policy: a, timeout: 3}]", "nearest known key is 'timeout_s'"),
        ("tasks: [{task: x, policy: a, judges: b}]", "nearest known key is 'judge'"),
        ("tasks: [{task: x, policy: a, timeout_s: 0}]", "expected a number above 0"),
        ("tasks: [{task: x, policy: a, timeout_s: 1e9}]", "timeout_s: expected 0.1 to 86400"),
        ("tasks: [{task: x, policy: a, timeout_s: '3'}]", "without quotes"),
        ("tasks: [{task: x, policy: a, task: y}]", "given twice"),
        ("tasks:\n- {task: x, policy: a}\n- {task: y, policy: no}", "line 3: tasks[1].policy: 'y': "
         "no such checkpoint folder"),
        ("tasks: [{task: x, policy: empty}]", "checkpoint folder with a model.safetensors"),
        ("tasks: [{task: x, policy: c.json}]", "'x': no such checkpoint folder"),
        ("tasks: [{task: x, policy: a, judge: no}]", "tasks[0].judge: 'x': no such checkpoint"),
        ("tasks: [{task: x, policy: a, calibration: a}]", "calibration: 'x': no such file"),
        (f"tasks: [{{task: x, policy: {'p' * 3000}}}]", "no such checkpoint folder"),
        ("tasks: [{task: x, policy: ~nobody-here/a}]", "no such checkpoint folder"),
        ("tasks:\n- {task: Put*, policy: a}\n- {task: 'put* ', policy: b}",
         "line 3: tasks[1].task: 'put* ' is there twice, so that tasks[0]"),
        ("tasks:\n- {task: '*', policy: a}\n- {task: x, policy: b}",
         "line 3: tasks[1].task: 'x' stands below '*', so that tasks[0] takes all its tasks"),
        ("tasks: [", "not valid YAML"),
        ("tasks: !!python/object:os.system {}", "tag"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(write, text, words):
    file = write(text)
    with pytest.raises(TaskTableError) as error:
        load_tasks(file)
    assert words in str(error.value) and str(file) in str(error.value)


def test_all_that_is_wrong_is_told_at_once(write):
    file = write("tasks:\n- {task: x, policy: no}\n- {task: y, policy: a, jugde: b}\n")
    with pytest.raises(TaskTableError, match=r"(?s)line 2: .*line 3: .*'judge'"):
        load_tasks(file)


def test_no_file_is_named():
    with pytest.raises(TaskTableError, match="nowhere"):
        load_tasks("nowhere.yaml")


def test_a_row_that_a_node_cannot_use_is_named(write):
    table = load_tasks(write("tasks: [{task: x, policy: a}, {task: 'y*', policy: b}]"))

    def make(row):
        if row.policy.name == "b":
            raise RuntimeError("too slow")
        return row.policy.name

    with pytest.raises(TaskTableError, match=r"task 'y\*': too slow"):
        table.by_task(make)


def test_a_table_stands_alone(write):
    file = str(write("tasks: [{task: x, policy: a}]"))
    assert table_of(PolicyParams(policy="a"), ("policy",)) is None
    assert len(table_of(PolicyParams(tasks=file), ("policy",)).rows) == 1
    with pytest.raises(TaskTableError, match="policy: expected none beside tasks.*got 'a'"):
        table_of(PolicyParams(tasks=file, policy="a"), ("policy",))


def test_the_shipped_example_reads(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    for folder in ("policies/cube", "policies/sort", "policies/sort_judge"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").touch()
    (tmp_path / "sort.json").touch()
    (tmp_path / "tasks.yaml").write_text(example)
    assert len(load_tasks(tmp_path / "tasks.yaml").rows) == 3
