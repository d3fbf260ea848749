"""Tasks are found by name, ours and those of other packages; a new one is a folder and a line."""

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, help_out

from rewact_ros.contract import load_contract
from rewact_ros.sim import task as tasks
from rewact_ros.sim.human import ScriptedHuman, Traits
from rewact_ros.sim.task import Course, Task, TaskError, Truth, find_task, task_names

EXAMPLE = ROOT / "examples" / "reach_task"


@pytest.fixture
def installed(monkeypatch):
    """The example's package, as if it were installed."""
    sys.path.insert(0, str(EXAMPLE))
    point = EntryPoint("reach", "rewact_reach:Reach", tasks.ENTRY_POINTS)
    monkeypatch.setattr(tasks, "entry_points", lambda group: [point])
    yield find_task("reach")
    sys.path.remove(str(EXAMPLE))


def test_a_name_finds_its_task_and_another_is_refused_with_the_known_ones():
    assert find_task("pick_place").name == "pick_place" and "pick_place" in task_names()
    with pytest.raises(TaskError, match="task: expected one of pick_place.*, got 'pick_plaec'"):
        find_task("pick_plaec")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("no_such_module:Task", "task odd: its package does not import: .*no_such_module"),
        ("math:no_such_thing", "task odd: its package does not import: .*no_such_thing"),
        ("math:pi", "task odd: expected a subclass of .*Task, got 3.14"),
        ("collections:OrderedDict", "task odd: expected a subclass of"),
    ],
)
def test_a_broken_registration_is_named(monkeypatch, place, says):
    point = EntryPoint("odd", place, tasks.ENTRY_POINTS)
    monkeypatch.setattr(tasks, "entry_points", lambda group: [point])
    with pytest.raises(TaskError, match=says):
        find_task("odd")


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"truth": Task.truth}, "task odd: Odd lacks truth"),
        ({"text": None}, "task odd: Odd lacks text"),
        ({"noisy": (True,)}, "task odd: Odd.noisy: expected 2 numbers, one a joint"),
        ({"rate_hz": 30}, r"task odd: Odd.command_hz: expected a multiple of 30 \(rate_hz\)"),
        ({"retry_fault": "slip"}, "task odd: Odd.retry_fault: expected '' or one of faults"),
    ],
)
def test_a_class_that_is_not_all_of_a_task_is_named(installed, monkeypatch, attributes, says):
    odd = type("Odd", (installed,), attributes)
    if attributes.get("text", "") is None:
        methods = {name: getattr(installed, name) for name in vars(installed) if name != "text"}
        odd = type("Odd", (Task,), methods)
    monkeypatch.setattr(tasks, "_loaders", lambda: {"odd": lambda: odd})
    with pytest.raises(TaskError, match=says):
        find_task("odd")


def test_nobody_takes_the_place_of_our_own_task(monkeypatch):
    point = EntryPoint("pick_place", "math:pi", tasks.ENTRY_POINTS)
    monkeypatch.setattr(tasks, "entry_points", lambda group: [point])
    assert find_task("pick_place").name == "pick_place"
    assert task_names() == (
        "pick_place", "pick_place_cartesian", "aloha", "metaworld", "hil", "so101",
    )  # fmt: skip


def test_no_room_but_the_simulation_names_what_our_tasks_are_about():
    words = re.compile(
        r"cube|\btrays?\b|viperx|pickplace|vx300s|pick_place|metaworld|meta-world|sawyer|"
        r"gym_aloha|gym_hil|so101|puck|drawer|\bpegs?\b",
        re.IGNORECASE,
    )
    found = []
    for path in sorted((ROOT / "rewact_ros").rglob("*.py")):
        own = {"pick_place", "aloha", "metaworld", "hil", "so101"} & set(path.parts)
        if own or path == ROOT / "rewact_ros" / "sim" / "task.py":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if words.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    # One file of a robot is named where a file of a robot is asked for.
    assert [line for line in found if "config/robots/" not in line] == []


def test_the_example_is_small_and_whole(installed):
    lines = (EXAMPLE / "rewact_reach" / "__init__.py").read_text().splitlines()
    assert len(lines) <= 100
    contract = load_contract(installed.contract_file())
    assert contract.action_names == installed.joints
    assert [camera.name for camera in contract.cameras] == list(installed.cameras)


def test_the_example_s_expert_succeeds_and_fails_when_asked_to(installed):
    from rewact_ros.episodes.demonstration import demonstrate

    task = installed(48, 48, installed.cameras)
    for seed in range(10):
        good = demonstrate(task, seed, noise_rad=0.01)
        assert good.success_frame is not None and good.failure_frame is None
        assert good.images["top"].shape[1:] == (48, 48, 3)
        bad = demonstrate(task, seed, "short")
        assert bad.success_frame is None and bad.failure_frame is not None


def test_a_person_helps_with_a_task_of_another_package(installed):
    task, human = installed(), ScriptedHuman(installed, Traits(reaction_s=0.1), seed=0)
    task.reset(4)
    help_out(task, human, limit_s=10.0)
    assert human.reason == "done" and task.truth().success


def test_the_usual_labels_climb_to_a_success_fall_at_a_failure_and_are_unknown_else(installed):
    expert = installed().expert()
    frames = 60

    def progress(success=None, failure=None):
        truths = [
            Truth(
                0,
                "",
                success is not None and k >= success,
                float("nan"),
                "x" if failure is not None and k >= failure else "",
            )
            for k in range(frames)
        ]
        state = np.zeros((frames, 2), np.float32)
        return installed.progress(Course(expert, state, truths, [0.0] * frames))

    climbs = progress(success=40)
    assert climbs[0] == 0 and climbs[40] == 1 == climbs[-1] and (np.diff(climbs) >= 0).all()
    falls = progress(failure=20)
    assert falls.max() < 1 and falls[-1] == 0
    assert np.isnan(progress()).all()


def test_a_task_need_not_know_how_to_help_nor_have_a_model():
    class Bare(find_task("pick_place")):
        name = "bare"
        rescue, robot_model = Task.rescue, Task.robot_model

    with pytest.raises(ValueError, match="task bare: nobody here knows how to help"):
        Task.rescue.__func__(Bare, None, np.zeros(7))
    with pytest.raises(TaskError, match="task bare: has no model of its robot"):
        Task.robot_model.__func__(Bare)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Where the example is installed, as pip leaves it."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(site), str(EXAMPLE)]
    copy = tmp_path_factory.mktemp("source") / "reach_task"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(copy)], check=True)
    command[-1] = str(copy)
    subprocess.run(command, check=True, capture_output=True, text=True)
    paths = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.mark.timeout(400)
def test_an_installed_task_makes_demonstrations_and_is_offered(environment, tmp_path: Path):
    out = tmp_path / "reach"
    run = [sys.executable, "-c", "from rewact_ros.cli import main; main()"]
    demos = ["demos", "--task", "reach", "--episodes", "3", "--failures", "1", "--retries", "0"]
    done = subprocess.run(
        [*run, *demos, "--workers", "1", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/reach", root=out)
    assert dataset.num_episodes == 4 and dataset[0]["task"] == "Reach the red point."
    assert dataset[0]["observation.images.top"].shape == (3, 64, 64)
    unknown = subprocess.run(
        [*run, "demos", "--task", "raech", "--out", str(out)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert unknown.returncode == 2
    names = "pick_place, pick_place_cartesian, aloha, metaworld, hil, so101, reach"
    assert f"expected one of {names}" in unknown.stderr
