"""The workflow of a hosted machine: strict YAML, and every command that it calls exists."""

import importlib
import re
import shlex

import pytest
from conftest import ROOT, VX300S

from rewact_ros import strict_yaml
from rewact_ros.action import ExecuteTask
from rewact_ros.contract import load_contract
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.arguments import BringUp, check_names

WORKFLOW = strict_yaml.load(ROOT / ".github" / "workflows" / "ci.yml")
SCRIPTS = [
    step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step
]
LINES = [
    shlex.split(line, comments=True)
    for line in "\n".join(SCRIPTS).replace(" | ", "\n").splitlines()
    if not line.startswith("#")
]


def calls(*words):
    """Arguments of every call of a command."""
    found = []
    for line in LINES:
        command = line[2:] if line[:1] == ["timeout"] else line
        if tuple(command[: len(words)]) == words:
            found.append([word for word in command[len(words) :] if word != "&"])
    assert found, f"no {' '.join(words)}"
    return found


def message_type(text):
    package, kind, name = text.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


def test_it_has_the_two_jobs_and_only_steps_with_something_to_do():
    assert set(WORKFLOW["jobs"]) == {"tests", "ros"}
    assert WORKFLOW["jobs"]["ros"]["container"] == "ros:jazzy"
    for job in WORKFLOW["jobs"].values():
        assert job["timeout-minutes"] > 0
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_make_targets_and_scripts_are_there():
    makefile = (ROOT / "Makefile").read_text()
    for (target,) in calls("make"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert calls("scripts/setup") == [[]] and (ROOT / "scripts" / "setup").is_file()


def test_launch_arguments_are_those_of_a_bring_up(tmp_path):
    python = tmp_path / "python"
    python.touch()
    for package, file, *given in calls("ros2", "launch"):
        assert package == "rewact_ros" and (ROOT / "launch" / file).is_file()
        texts = dict(text.split(":=") for text in given if text != "--show-args")
        check_names(texts)
        BringUp.from_texts({**texts, "ml_python": str(python)})


def test_topics_services_and_the_action_have_these_names_and_types():
    contract = load_contract(VX300S)
    topics = {value for value in vars(names).values() if isinstance(value, str)}
    topics |= {contract.state[0].topic, *(camera.topic for camera in contract.cameras)}
    for echo in calls("ros2", "topic", "echo"):
        topic, kind = echo[-2:]
        assert topic.removeprefix("/") in topics
        assert message_type(kind)
        if "--filter" in echo:
            eval(echo[echo.index("--filter") + 1], {"m": message_type(kind)()})
    for service, kind in calls("ros2", "service", "call"):
        assert service == "/hil/arm" and message_type(kind)
    ((action, kind, goal),) = calls("ros2", "action", "send_goal")
    assert action == f"/{names.EXECUTE_TASK}" and message_type(kind) is ExecuteTask
    ExecuteTask.Goal(**{key: _typed(value) for key, value in strict_yaml.parse(goal).items()})


def _typed(value):
    return float(value) if isinstance(value, int) else value


@pytest.mark.parametrize("key", ["python3-mujoco-pip", "python3-torch"])
def test_what_rosdep_leaves_out_is_a_dependency(key):
    (line,) = calls("rosdep", "install")
    assert key in line[line.index("--skip-keys") + 1]
    assert f">{key}<" in (ROOT / "package.xml").read_text()
