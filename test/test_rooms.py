"""The house: arrows between rooms point down, and no modules import each other in a circle."""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent / "scripts" / "rooms"


@pytest.fixture(scope="module")
def rooms():
    loader = SourceFileLoader("rooms", str(PATH))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("rooms", loader))
    loader.exec_module(module)
    return module


def test_every_arrow_points_down_and_there_is_no_circle(rooms):
    imports = rooms.modules()
    assert len(imports) > 200
    assert rooms.upward(imports) == []
    assert rooms.circles(imports) == []


def test_every_folder_is_a_room(rooms):
    folders = {p.parent.name for p in rooms.PACKAGE.glob("*/__init__.py")}
    assert folders == set(rooms.ROOMS) - {"files", "kinematics"}


def test_nothing_imports_a_node(rooms):
    nodes = {
        one
        for one, others in rooms.modules().items()
        if any(rooms.room(other) == "nodes" for other in others)
    }
    assert {rooms.room(one) for one in nodes} <= {"nodes"}


def test_an_arrow_up_and_a_circle_are_seen(rooms, tmp_path):
    package = tmp_path / "rewact_ros"
    for folder in ("control", "data"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "control" / "gate.py").write_text(
        "def late():\n    from rewact_ros.data import bags\n"
    )
    (package / "data" / "bags.py").write_text("from .labels import x\n")
    (package / "data" / "labels.py").write_text("import rewact_ros.data.bags\n")
    imports = rooms.modules(package)
    assert rooms.upward(imports) == [("rewact_ros.control.gate", "rewact_ros.data.bags")]
    assert rooms.circles(imports) == [["rewact_ros.data.bags", "rewact_ros.data.labels"]]
