"""The package as it is shipped: interfaces, dependencies, layering and what must not be in it."""

import ast
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import rewact_ros
from rewact_ros.share import share_dir

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
INTERFACES = sorted(path for kind in ("msg", "srv", "action") for path in ROOT.glob(f"{kind}/*"))


def defined_fields(text: str) -> dict[str, str]:
    """Field names and types of one section of an interface definition, constants left out."""
    lines = (line.split("#")[0].split() for line in text.splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2 and "=" not in words[1]}


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_compiled_interfaces_have_the_fields_of_their_definitions(path):
    kind = path.suffix[1:]
    compiled = getattr(importlib.import_module(f"rewact_ros.{kind}"), path.stem)
    parts = {"msg": [""], "srv": ["Request", "Response"], "action": ["Goal", "Result", "Feedback"]}
    for part, text in zip(parts[kind], path.read_text().split("---\n"), strict=True):
        message = getattr(compiled, part) if part else compiled
        assert set(message.get_fields_and_field_types()) == set(defined_fields(text)), (
            f"{path.name} changed since it was compiled: run scripts/setup"
        )


def ros_package(name: str) -> bool:
    prefixes = [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    index = "share/ament_index/resource_index/packages"
    return name in {"launch", "launch_ros"} or any(
        Path(prefix, index, name).exists() for prefix in prefixes if prefix
    )


def test_package_xml_lists_every_ros_package_in_use():
    used = {
        type_.split("/")[0]
        for path in INTERFACES
        for section in path.read_text().split("---\n")
        for type_ in defined_fields(section).values()
        if "/" in type_
    }
    for path in [*ROOT.glob("rewact_ros/**/*.py"), *ROOT.glob("launch/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                used.add(node.module.split(".")[0])
    used = {name for name in used if ros_package(name)} - {"rewact_ros"}
    listed = {tag.text for tag in PACKAGE if tag.tag.endswith("depend")}
    assert used <= listed


def test_the_version_is_the_same_everywhere():
    assert PACKAGE.findtext("version") == PROJECT["project"]["version"] == rewact_ros.__version__


def test_console_scripts_name_modules_that_exist():
    for target in PROJECT["project"]["scripts"].values():
        module, function = target.split(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        tree = ast.parse(Path(spec.origin).read_text())
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert function in names, target


def test_every_folder_of_modules_is_a_package():
    # one without __init__.py works in the source tree and is missing from an installation
    folders = {path.parent for path in ROOT.glob("rewact_ros/**/*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


IMPORT_ALL = """
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        generated = name.startswith(("rewact_ros.msg", "rewact_ros.srv", "rewact_ros.action"))
        if name.split(".")[0] in {blocked} or generated:
            raise ModuleNotFoundError(f"{{name}} is out of bounds for the rooms {rooms}", name=name)

sys.meta_path.insert(0, Blocker())
for room in {rooms}:
    package = importlib.import_module("rewact_ros." + room)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
"""
ROS = {"rclpy", "std_msgs", "sensor_msgs", "trajectory_msgs", "std_srvs", "launch"}
HEAVY = {"torch", "lerobot", "mujoco", "cv2"}


@pytest.mark.parametrize(
    ("rooms", "blocked"),
    [
        (["contract", "control", "supervision"], ROS | HEAVY),
        (["policy", "reward", "sim", "episodes", "learning"], ROS),
    ],
    ids=["pure", "torch"],
)
def test_rooms_import_without_what_they_must_not_need(rooms, blocked):
    code = IMPORT_ALL.format(rooms=rooms, blocked=blocked)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_the_lock_holds_names_and_versions_of_all_that_is_required():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9A-Za-z.+!]+", line) for line in locked)
    names = {line.split("==")[0] for line in locked}
    project = PROJECT["project"]
    required = [*PROJECT["build-system"]["requires"], *project["dependencies"]]
    extras = project["optional-dependencies"]
    # Suites of tasks have an environment of their own, and a viewer's package is nobody's need: the
    # lock stays what the robot needs.
    for extra in extras.keys() - {"suites", "rerun"}:
        required += extras[extra]
    for requirement in required:
        name = re.match(r"[\w-]+", requirement).group().lower().replace("_", "-")
        assert name in names, f"{requirement}: run scripts/lock"


def test_every_ros_requirement_is_pinned():
    # the registry holds several ROS distributions under one name
    required = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["optional-dependencies"]["ros"],
    ]
    assert not [
        name for name in required if name.startswith("ros-") and not re.search("==|<", name)
    ]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_machine_or_registry_address_is_tracked():
    places = ["pypi" + ".org", "python" + "hosted.org", str(ROOT)]
    pattern = re.compile("|".join(map(re.escape, places)) + r"|/(home|root|Users)/\w")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    found = []
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".safetensors", ".png"}:
            for match in pattern.finditer(path.read_text(errors="replace")):
                found.append(f"{name}: {match.group()}")
    assert not found


def load_share(package: Path):
    package.mkdir(parents=True)
    shutil.copy(ROOT / "rewact_ros/share.py", package)
    spec = importlib.util.spec_from_file_location("installed_share", package / "share.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_share_is_found_in_the_source_tree_and_in_an_installation(tmp_path):
    assert (share_dir() / "config").is_dir()
    module = load_share(tmp_path / "lib/python3.12/site-packages/rewact_ros")
    with pytest.raises(FileNotFoundError, match=r"share/rewact_ros; neither exists"):
        module.share_dir()
    (tmp_path / "share/rewact_ros").mkdir(parents=True)
    assert module.share_dir() == tmp_path / "share/rewact_ros"
