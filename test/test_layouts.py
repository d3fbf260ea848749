"""The layouts that are shipped for Foxglove, PlotJuggler and RViz show what our topics carry."""

import ast
import importlib
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import fields

import pytest
from conftest import ROOT, VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import load_contract
from rewact_ros.msg import Reward
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import command_type
from rewact_ros.ros.images import camera_type
from rewact_ros.ros.states import state_type

FOXGLOVE = sorted((ROOT / "config" / "foxglove").glob("*.json"))
PLOTJUGGLER = sorted((ROOT / "config" / "plotjuggler").glob("*.xml"))
RVIZ = sorted((ROOT / "config" / "rviz").glob("*.rviz"))
# Robots whose driver publishes /robot_description and whose contracts name these cameras.
ARMS = ("franka_fr3", "kinova_gen3", "open_manipulator_x", "trossen_wxai", "ur5e_2f85", "xarm7")
NUMBER = re.compile(r"(boolean|octet|float|double|u?int(8|16|32|64))")
PICTURES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}
# A topic, then fields, each with an index or a slice; filters and @functions are not in use.
PATH = re.compile(r"(/[\w/]+)((?:\.\w+(?:\[\d*:?\d*\])?)*)")
STEP = re.compile(r"\.(\w+)(\[\d*:?\d*\])?")


def message(type_name):
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def type_name(kind):
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def published():
    """Topic → message class, as the code of our nodes creates its publishers; nothing is run."""
    found = {}
    for file in (*ROOT.glob("rewact_ros/nodes/*.py"), *ROOT.glob("rewact_ros/ros/*.py")):
        text = file.read_text()
        homes = {
            alias.name: node.module
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for kind, topic in re.findall(
            r"create_publisher\(\s*(\w+),\s*(?:names\.)?([A-Z_]+)\b", text
        ):
            held, topic = getattr(importlib.import_module(homes[kind]), kind), getattr(names, topic)
            assert found.setdefault(topic, held) is held, f"{topic} has two types"
    return found


def declared():
    """Topic → message class: of our own topics, and of those of the shipped robot's contract."""
    contract = load_contract(VX300S)
    found = published()
    found |= {part.topic: state_type(part) for part in contract.state}
    found |= {camera.topic: camera_type(camera) for camera in contract.cameras}
    found |= {part.topic: command_type(part) for part in contract.action}
    return {f"/{topic.lstrip('/')}": kind for topic, kind in found.items()}


TOPICS = declared()
LENGTHS = {
    "/joint_states.position": len(load_contract(VX300S).state[0].joints),
    "/arm/commands.data": len(load_contract(VX300S).action[0].joints),
}


def field_type(kind, steps):
    """Type of what a path of (field, index) leads to, as messages name it; fails where it ends."""
    shown = type_name(kind)
    for name, index in steps:
        assert "/" in shown, f"{name}: {shown} has no fields"
        held = message(shown.replace("/", "/msg/") if shown.count("/") == 1 else shown)
        known = held.get_fields_and_field_types()
        assert name in known, f"{held.__name__} has no field {name}; it has {', '.join(known)}"
        inner = re.fullmatch(r"sequence<(.+?)(?:, \d+)?>|(.+)\[\d+\]", known[name])
        assert not index or inner, f"{name} is no list"
        shown = (inner[1] or inner[2]) if index else known[name]
    return shown


def resolve(path):
    """(topic, type of what a Foxglove message path leads to)."""
    match = PATH.fullmatch(path)
    assert match, f"{path}: not a path that this test can read"
    topic, rest = match.groups()
    assert topic in TOPICS, f"{path}: no such topic; there are {', '.join(sorted(TOPICS))}"
    index = re.search(r"\[(\d+)\]$", path)
    if index and (length := LENGTHS.get(path[: index.start()])):
        assert int(index[1]) < length, f"{path}: {length} joints"
    return topic, field_type(TOPICS[topic], STEP.findall(rest))


def paths_in(value, key=""):
    """(key, text) of every text in a layout that begins like a topic."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths_in(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from paths_in(inner, key)
    elif isinstance(value, str) and value.startswith("/"):
        yield key, value


def leaves(tree):
    if isinstance(tree, str):
        return [tree]
    assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
    return [*leaves(tree["first"]), *leaves(tree["second"])]


# What a panel asks of the value that its path leads to.
SHOWS = {
    "Plot": lambda shown: NUMBER.fullmatch(shown),
    "Gauge": lambda shown: NUMBER.fullmatch(shown),
    "StateTransitions": lambda shown: NUMBER.fullmatch(shown) or shown == "string",
    "Indicator": lambda shown: NUMBER.fullmatch(shown) or shown == "string",
    "RawMessages": lambda shown: True,
    "Image": lambda shown: shown in PICTURES,
    "DiagnosticSummary": lambda shown: shown == "diagnostic_msgs/msg/DiagnosticArray",
}


@pytest.mark.parametrize("file", FOXGLOVE, ids=lambda file: file.stem)
def test_every_path_of_a_foxglove_layout_leads_to_a_value_that_its_panel_shows(file):
    panels = strict_yaml.load(file)["configById"]
    checked = 0
    for panel, config in panels.items():
        for _, path in paths_in(config):
            _, shown = resolve(path)
            assert SHOWS[panel.split("!")[0]](shown), f"{panel}: {path} is a {shown}"
            checked += 1
    assert checked >= len(panels)  # every panel shows something


@pytest.mark.parametrize("file", FOXGLOVE, ids=lambda file: file.stem)
def test_a_foxglove_layout_is_what_its_import_takes(file):
    layout = json.loads(file.read_text())
    assert set(layout) == {
        "configById", "globalVariables", "userNodes", "playbackConfig", "layout",
    }  # fmt: skip
    shown = leaves(layout["layout"])
    assert sorted(shown) == sorted(layout["configById"])  # each panel has one place


@pytest.mark.parametrize("file", FOXGLOVE, ids=lambda file: file.stem)
def test_foxgloves_own_package_knows_every_setting_of_a_panel(file):
    layouts = pytest.importorskip("foxglove.layouts")
    kinds = {
        "Plot": layouts.PlotConfig, "Gauge": layouts.GaugeConfig, "Image": layouts.ImageConfig,
        "StateTransitions": layouts.StateTransitionsConfig, "Indicator": layouts.IndicatorConfig,
        "RawMessages": layouts.RawMessagesConfig,
        "DiagnosticSummary": layouts.DiagnosticsSummaryConfig,
    }  # fmt: skip
    inside = {
        ("Plot", "paths"): layouts.PlotSeries,
        ("StateTransitions", "paths"): layouts.StateTransitionsSeries,
        ("Indicator", "rules"): layouts.IndicatorRule,
        ("Image", "imageMode"): layouts.ImageModeConfig,
    }

    def known(kind, given):
        camel = (re.sub(r"_(\w)", lambda m: m[1].upper(), f.name) for f in fields(kind))
        unknown = given.keys() - set(camel)
        assert not unknown, f"{kind.__name__} has no {', '.join(sorted(unknown))}"

    for panel, config in json.loads(file.read_text())["configById"].items():
        name = panel.split("!")[0]
        known(kinds[name], {k: v for k, v in config.items() if k != "foxglovePanelTitle"})
        for (of, key), kind in inside.items():
            if of == name:
                for each in config[key] if isinstance(config[key], list) else [config[key]]:
                    known(kind, each)


def test_the_layouts_show_what_a_person_wants_to_see():
    """Cameras, reward with quantiles, mode and reason, alarms, joints, commands, diagnostics."""
    shown = {path for file in FOXGLOVE for _, path in paths_in(json.loads(file.read_text()))}
    contract = load_contract(VX300S)
    assert {f"/{camera.topic}" for camera in contract.cameras} <= shown
    assert {f"/rewact/reward.{name}" for name in ("value", "q10", "q90")} <= shown
    assert {f"/rewact/control_status.{name}" for name in ("mode", "reason")} <= shown
    supervisor = "/rewact/supervisor_status"
    assert {f"{supervisor}.progress", f"{supervisor}.level", f"{supervisor}.alarms[0]"} <= shown
    joints = range(len(contract.state_names))
    assert {f"/joint_states.position[{i}]" for i in joints} <= shown
    assert {f"/arm/commands.data[{i}]" for i in joints} <= shown
    assert "/diagnostics" in shown


def curve(name):
    """A curve of PlotJuggler as a message path; it names the values of a JointState by joint."""
    topic = next((topic for topic in TOPICS if name.startswith(f"{topic}/")), "")
    assert topic, f"{name}: no such topic"
    parts = name.removeprefix(f"{topic}/").split("/")
    if type_name(TOPICS[topic]) == "sensor_msgs/msg/JointState":
        joint, field = parts
        part = next(part for part in load_contract(VX300S).state if f"/{part.topic}" == topic)
        assert joint in part.joints, f"{name}: no such joint"
        return f"{topic}.{field}[{part.joints.index(joint)}]"
    return f"{topic}.{'.'.join(parts)}"


@pytest.mark.parametrize("file", PLOTJUGGLER, ids=lambda file: file.stem)
def test_every_curve_of_a_plotjuggler_layout_is_a_number_that_we_publish(file):
    root = ElementTree.parse(file).getroot()
    curves = [each.get("name") for each in root.iter("curve")]
    assert len(curves) > 20
    for name in curves:
        _, shown = resolve(curve(name))
        assert NUMBER.fullmatch(shown), f"{name} is a {shown}"
    for splitter in root.iter("DockSplitter"):
        sizes = [float(size) for size in splitter.get("sizes").split(";")]
        assert len(sizes) == len(splitter) == int(splitter.get("count"))
        assert sum(sizes) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("robot", ARMS)
@pytest.mark.parametrize("file", RVIZ, ids=lambda file: file.stem)
def test_rviz_shows_the_model_and_the_cameras_of_the_contract(file, robot):
    displays = strict_yaml.load(file)["Visualization Manager"]["Displays"]
    contract = load_contract(ROOT / "config" / "robots" / f"{robot}.yaml")
    of = {kind: [d for d in displays if d["Class"] == f"rviz_default_plugins/{kind}"]
          for kind in ("RobotModel", "TF", "Image")}  # fmt: skip
    assert of["TF"] and [m["Description Topic"]["Value"] for m in of["RobotModel"]] == [
        "/robot_description"  # the name that rewact doctor reads, too
    ]
    assert of["RobotModel"][0]["Description Topic"]["Durability Policy"] == "Transient Local"
    cameras = {f"/{camera.topic}": camera.type for camera in contract.cameras}
    # RViz's display Image takes this type alone.
    assert cameras == {d["Topic"]["Value"]: "sensor_msgs/msg/Image" for d in of["Image"]}


@pytest.mark.parametrize(
    "path",
    [
        "/rewact/reward.q11",
        "/rewact/rewards.value",
        "/rewact/reward.value.x",
        "/rewact/reward.header.stamp.seconds",
        "/rewact/control_status.mode[0]",
        "/joint_states.position[7]",
        "/rewact/control_status.timings[0].p50",
        "/rewact/reward{a==1}.value",
    ],
)
def test_a_renamed_field_or_topic_is_noticed(path):
    with pytest.raises(AssertionError):
        resolve(path)


def test_a_message_that_loses_a_field_breaks_the_layouts(monkeypatch):
    kept = dict(Reward.get_fields_and_field_types())
    kept["q95"] = kept.pop("q90")
    monkeypatch.setattr(Reward, "get_fields_and_field_types", lambda: kept)
    with pytest.raises(AssertionError, match="Reward has no field q90"):
        resolve("/rewact/reward.q90")


def test_paths_into_lists_and_headers_resolve():
    assert resolve("/rewact/reward.header.stamp.sec")[1] == "int32"
    assert resolve("/rewact/control_status.timings[0].p50_ms")[1] == "double"
    assert resolve("/rewact/control_status.timings[:]")[1] == "rewact_ros/Timing"
    assert resolve("/diagnostics.status[0].values[0].key")[1] == "string"
