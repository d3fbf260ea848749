"""Tables of the documentation that repeat code say what the code says."""

import re
import tomllib
from dataclasses import fields

import pytest
from conftest import ROOT
from lerobot.policies.act.configuration_act import ACTConfig

from rewact_ros.cli.app import COMMANDS as COMMAND_TABLE
from rewact_ros.control.chunks import COMBINE, INTERPOLATION
from rewact_ros.control.modes import Mode
from rewact_ros.data.export.assemble import COLUMNS
from rewact_ros.exposition import Family
from rewact_ros.learning.rl.settings import RLSettings
from rewact_ros.policy import RewACTConfig
from rewact_ros.policy.checked_engine import TOLERANCES
from rewact_ros.policy.engines import ENGINES
from rewact_ros.ros import robot_metrics
from rewact_ros.ros.commands import COMMANDS
from rewact_ros.ros.images import CAMERAS, ENCODINGS
from rewact_ros.stack.keyboard_recorder import KEYS


def rows(page: str, heading: str = "") -> list[list[str]]:
    """Cells of the tables on a page, below a heading up to the next one."""
    text = (ROOT / page).read_text()
    if heading:
        text = re.split(r"^#+ ", text.split(f"\n{heading}\n")[1], flags=re.MULTILINE)[0]
    lines = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    return [re.split(r"\s*\|\s*", line) for line in lines]


def names(cell: str) -> list[str]:
    """What a cell has in code."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_of_commands_has_every_command():
    listed = {name for row in rows("docs/run.md", "## Commands") for name in names(row[0])}
    missing = [
        name for name in COMMAND_TABLE if not any(f"rewact {name}" in text for text in listed)
    ]
    assert not missing


@pytest.mark.parametrize(
    ("page", "heading"), [("README.md", "## What runs"), ("docs/architecture.md", "## Processes")]
)
def test_the_tables_of_nodes_name_nodes_that_exist(page, heading):
    listed = [name for row in rows(page, heading) for name in names(row[0])]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    nodes = {name.removesuffix("_node") for name in scripts if name.endswith("_node")}
    # The README's table has what most robots run.
    special = {"scripted_human"}
    assert set(listed) == nodes - (special if page == "README.md" else set())


def test_the_table_of_modes_has_every_mode():
    table = [row[0] for row in rows("docs/command-path.md", "## Modes")]
    assert set(table[1:]) == {mode.name for mode in Mode}


def test_the_tables_of_chunks_have_every_choice():
    first = [row[0] for row in rows("docs/chunks-and-limits.md")]
    for choices in (COMBINE, INTERPOLATION):
        assert {f"`{choice}`" for choice in choices} <= set(first)


def test_the_table_of_engines_has_every_engine_and_its_tolerance():
    table = rows("docs/engines.md")
    assert set(ENGINES) <= {name for row in table for name in names(row[0])}
    tolerances = {row[0].strip("`"): row[1:] for row in table if len(row) == 4}
    for precision, allowed in TOLERANCES.items():
        assert [float(cell) for cell in tolerances[precision]] == list(vars(allowed).values())


def test_the_table_of_columns_has_every_column_of_an_export():
    listed = {name for row in rows("docs/export.md", "## Columns") for name in names(row[0])}
    assert listed - {"observation.state", "observation.images.*", "action"} == set(COLUMNS)


def test_the_table_of_recording_keys_has_every_key():
    table = [(row[0].split(", "), names(row[1])) for row in rows("docs/recording.md")]
    pairs = [pair for keys, calls in table for pair in zip(keys, calls, strict=False)]
    assert {key: call for key, call in pairs if len(key) == 1} == KEYS


def test_the_table_of_policy_settings_has_all_that_are_not_acts():
    own = set(RewACTConfig.__annotations__) - {f.name for f in fields(ACTConfig)}
    listed = {name for row in rows("docs/policy.md", "## Settings") for name in names(row[0])}
    assert own <= {name.partition("=")[0] for name in listed}


def test_the_page_of_the_contract_has_every_key_that_is_read():
    read = re.compile(r"\b(?:section|top|entry|data)\.(?:\w+)\(\"([a-z_]+)\"")
    page = " ".join(name for row in rows("docs/contract.md") for name in names(" ".join(row)))
    for path in (ROOT / "rewact_ros" / "contract").glob("load*.py"):
        found = set(read.findall(path.read_text()))
        assert found and not [key for key in found if not re.search(rf"\b{key}\b", page)]


def test_the_table_of_learning_settings_has_their_defaults():
    for row in rows("docs/rl.md", "## Settings")[1:]:
        values = re.findall(r"\([^)]*\)|[^,\s][^,]*", row[1])
        for name, value in zip(names(row[0]), values, strict=True):
            assert written(getattr(RLSettings(), name)) == value.strip(), name


def written(value: object) -> str:
    """A default as the documentation writes it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(written, value))})"
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value).lower()
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,g}".replace(",", " ").replace("-", "−")


def test_the_page_of_views_has_every_sample_of_prometheus():
    listed = {name for row in rows("docs/views.md", "## Prometheus") for name in names(row[0])}
    made = {f.name for f in vars(robot_metrics).values() if isinstance(f, Family)}
    assert listed == made


def test_the_page_of_the_contract_has_every_encoding_and_every_type():
    page = (ROOT / "docs" / "contract.md").read_text()
    types = [name.rpartition("/")[2] for name in (*CAMERAS, *COMMANDS)]
    assert not [name for name in (*ENCODINGS, *types) if f"`{name}`" not in page]
