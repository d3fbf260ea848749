"""The launch file: with recorders in the place of `launch`, and by the real one where it is."""

import importlib.util
import os
import subprocess
import sys
import types
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT

import rewact_ros
from rewact_ros.restarts import CONFIGURATION_FAULT, MAX_RESTARTS
from rewact_ros.stack.arguments import ArgumentError, BringUp
from rewact_ros.stack.robot_lock import BringUpError

LAUNCH_FILE = ROOT / "launch" / "rewact.launch.py"


class Context:
    """As much of a LaunchContext as the file uses."""

    def __init__(self, **given):
        self.launch_configurations, self.kept, self.is_shutdown = given, {}, False

    def extend_globals(self, more):
        self.kept |= more


def _same(function):
    return function


class Recorded:
    """What the launch file asks of `launch`."""

    def __init__(self, monkeypatch):
        self.declared, self.nodes, self.lines = {}, [], []

        def module(name, **members):
            monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**members))

        declared = self.declared

        class Configuration:
            def __init__(self, name):
                self.name = name

            def perform(self, context):
                return context.launch_configurations.get(self.name, declared[self.name])

        def declare(name, default_value, description):
            declared[name] = default_value

        module("launch", LaunchContext=Context, LaunchDescription=list)
        module(
            "launch.actions",
            DeclareLaunchArgument=declare,
            OpaqueFunction=lambda function: function,
            EmitEvent=types.SimpleNamespace,
        )
        module("launch.events", process=None, matches_action=lambda action: action)
        module(
            "launch.events.process",
            ProcessExited=object,
            ShutdownProcess=lambda process_matcher: process_matcher,
        )
        logger = types.SimpleNamespace(info=self.lines.append, warning=self.lines.append)
        module("launch.logging", get_logger=lambda name: logger)
        module("launch.substitutions", LaunchConfiguration=Configuration)
        module("launch_ros", actions=None)
        module("launch_ros.actions", Node=lambda **kwargs: self.nodes.append(kwargs))
        module("launch_ros.parameter_descriptions", ParameterValue=lambda value, value_type: value)
        module(
            "launch_ros.utilities",
            make_namespace_absolute=lambda space: None if space is None else f"/{space.strip('/')}",
            prefix_namespace=lambda outer, inner: "/".join(filter(None, (outer, inner))) or None,
        )
        namespace = {}
        exec(compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec"), namespace)
        self.start = namespace["generate_launch_description"]()[-1]

    def launch(self, **given):
        context = Context(**given)
        self.start(context)
        return context


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # of the locks
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return Recorded(monkeypatch)


def test_the_launch_file_starts_the_same_processes(recorded):
    assert set(recorded.declared) == {f.name for f in fields(BringUp)}
    context = recorded.launch(
        sim="true", policy="none", namespace="left", dry_run="on", log_level="debug", remap="a:=b"
    )
    names = [node["name"] for node in recorded.nodes]
    assert names == [node["executable"] for node in recorded.nodes] == ["sim", "hil", "supervisor"]
    assert names == [node["exec_name"] for node in recorded.nodes]  # not python-1, python-2
    hil = recorded.nodes[1]
    assert hil["parameters"][-1]["dry_run"] is True
    assert hil["ros_arguments"] == ["--log-level", "debug"] and hil["remappings"] == [("a", "b")]
    assert all(node["namespace"] == "left" for node in recorded.nodes)
    assert any(str(Path(rewact_ros.__file__).parent) in line for line in recorded.lines)
    with pytest.raises(BringUpError, match="already running"):
        recorded.launch(sim="true", policy="none", namespace="/left")
    context.kept.clear()  # the end of that launch
    recorded.launch(sim="true", policy="none", namespace="left")


def test_the_namespace_of_a_launch_file_around_it_is_part_of_the_robots(recorded):
    one = recorded.launch(policy="none", ros_namespace="cell1")
    two = recorded.launch(policy="none", ros_namespace="cell2")
    assert one.kept and two.kept
    with pytest.raises(BringUpError, match="namespace '/cell1'"):
        recorded.launch(policy="none", ros_namespace="cell1")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dry_run": "maybe"}, "dry_run: expected one of true"),
        ({"seed": "abc"}, "seed: expected an integer, got 'abc'"),
        ({"dryrun": "true"}, "dryrun: no such argument; expected dry_run"),
    ],
)
def test_the_launch_file_has_the_same_parser(recorded, given, words):
    with pytest.raises(ArgumentError, match=words):
        recorded.launch(**given)
    assert not recorded.nodes


def test_an_interpreter_that_is_not_there_leaves_no_half_started_robot(recorded):
    with pytest.raises(BringUpError, match="ml_python: /nonexistent does not exist"):
        recorded.launch(ml_python="/nonexistent")
    assert not recorded.nodes


def test_a_configuration_fault_ends_the_launch_and_a_death_does_not(recorded):
    context = recorded.launch(policy="none")
    on_exit = {node["name"]: node["on_exit"] for node in recorded.nodes}
    assert all(node["respawn"] for node in recorded.nodes)

    def event(code):
        return types.SimpleNamespace(returncode=code)

    for _ in range(MAX_RESTARTS):
        on_exit["hil"](event(-9), context)
    with pytest.raises(BringUpError, match="hil died 6 times"):
        on_exit["hil"](event(-9), context)
    with pytest.raises(BringUpError, match="supervisor: refuses its configuration"):
        on_exit["supervisor"](event(CONFIGURATION_FAULT), context)
    context.is_shutdown = True
    on_exit["supervisor"](event(CONFIGURATION_FAULT), context)


def test_a_shadow_policy_runs_aside_and_its_end_is_not_the_launchs(recorded, monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr("rewact_ros.stack.bringup.check_shadow", lambda *given: None)
    context = recorded.launch(shadow=str(tmp_path), bags_dir=str(tmp_path))
    nodes = {node["name"]: node for node in recorded.nodes}
    assert nodes["shadow_policy"]["prefix"] == ["nice -n 10"]
    assert all(node["prefix"] is None for n, node in nodes.items() if n != "shadow_policy")
    event = types.SimpleNamespace(returncode=CONFIGURATION_FAULT, action="its own")
    assert nodes["shadow_policy"]["on_exit"](event, context).event == "its own"  # stays ended
    assert recorded.lines[-1].startswith("shadow_policy: refuses its configuration")
    assert recorded.lines[-1].endswith("all else goes on without it")


RUN = """
import sys, launch
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
pairs = [tuple(text.split(":=", 1)) for text in sys.argv[2:]]
service = launch.LaunchService(argv=sys.argv[2:], noninteractive=True)
source = AnyLaunchDescriptionSource(sys.argv[1])
included = IncludeLaunchDescription(source, launch_arguments=pairs)
service.include_launch_description(launch.LaunchDescription([included]))
sys.exit(service.run())
"""


@pytest.mark.skipif(not importlib.util.find_spec("launch_ros"), reason="no `launch_ros` here")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dry_run:=maybe"], "dry_run: expected one of"),
        (["ml_python:=/nonexistent"], "does not exist"),
        (["policy:=none", f"contract:={ROOT / 'pyproject.toml'}"], "hil: refuses its config"),
    ],
)
def test_the_real_launch_ends_with_what_is_wrong(tmp_path, arguments, words):
    command = [sys.executable, "-c", RUN, str(LAUNCH_FILE), *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "ROS_LOG_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 1 and words in done.stdout + done.stderr
