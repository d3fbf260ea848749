"""`rewact contract check`: all errors at once, each with its line, before anything is loaded."""

import json
import re
import subprocess
import sys

import pytest
from conftest import G1, ROOT, VX300S

from rewact_ros import strict_yaml
from rewact_ros.cli.contract_check import check_contract, check_named, plain_check
from rewact_ros.contract import ContractError, load_contract
from rewact_ros.contract.tables import SCHEMA_FILE, json_schema
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import processes

ROBOTS = sorted((ROOT / "config" / "robots").glob("*.yaml"))
# What is written wrong in the contract of the simulated arm → what must be told of it.
WRONG = [
    ("rate_hz: 20 ", "rate_hz: fast ", "rate_hz: expected a finite number"),
    ("max_skew_s: 0.06", "max_skw_s: 0.06", "max_skew_s: missing; did you mean it by 'max_skw_s'"),
    ("    elbow: [-1.76", "    elbw: [-1.76", "action.position.elbw: no such joint; did you mean"),
    ("velocity: {default: 2.5", "velocity: {default: -2.5", "velocity.default: .* above 0"),
    ("on_release: hold", "on_release: 007", "on_release: 007 is octal"),
    ("pose: [0.0,", "pose: [9.0,", r"reset.pose: waist: expected within"),
    ("confirm: false", "confirm: no", "reset.confirm: expected true or false"),
    ("shape: [96, 96, 3]", "shape: [96, 96]", "observation.images.front.shape: expected"),
    ("button: 5}", "buton: 5}", "teleop.gamepad.deadman.button: missing"),
    ("mode: cartesian", "mode: polar", "teleop.gamepad.jog.mode: expected one of"),
    ("topic: arm/commands", "topic: front/image_raw", "front.topic: .* already the topic of act"),
]


@pytest.fixture
def all_wrong(tmp_path):
    text = VX300S.read_text()
    for old, new, _ in WRONG:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    return path


def test_every_error_is_told_at_once_with_its_line(all_wrong):
    with pytest.raises(ContractError) as told:
        load_contract(all_wrong)
    lines = str(told.value).splitlines()
    assert f"{len(told.value.problems)} errors" in lines[0] and len(lines) <= len(WRONG) + 3
    for old, new, words in WRONG:
        (line,) = [line for line in lines if re.search(words, line)]
        number = int(re.match(r"  line (\d+): ", line)[1])
        place = all_wrong.read_text().splitlines()[number - 1]
        written = new.strip().partition(":")[0]
        assert written in place or ("already" in line and "front" in place), (old, line, place)
    numbers = [problem.line for problem in told.value.problems]
    assert numbers == sorted(numbers)


def test_what_is_wrong_twice_over_is_told_once(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(G1.read_text().replace("velocity: 2.5", "velocity: none"))
    with pytest.raises(ContractError) as told:  # fourteen joints have that one value
        load_contract(path)
    assert len(told.value.problems) == 1


def test_errors_are_told_as_compilers_do_and_as_json(all_wrong, capsys):
    assert check_contract(all_wrong) == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(rf"{re.escape(str(all_wrong))}:\d+: ", line) for line in lines[:-1])
    assert re.fullmatch(r".*: 1\d errors", lines[-1])
    assert check_contract(all_wrong, as_json=True) == 2
    errors = {error["key"]: error for error in json.loads(capsys.readouterr().out)["errors"]}
    assert errors["reset.confirm"] == {
        "part": "reset",
        "key": "reset.confirm",
        "line": 48,
        "expected": "true or false",
        "got": "'no' (str)",
        "mend": "",
        "text": "reset.confirm: expected true or false, got 'no' (str)",
    }
    assert errors["teleop.gamepad.deadman.button"]["part"] == "teleop.gamepad"
    assert errors["observation.images.front.shape"]["part"] == "observation.images.front"
    assert check_contract(VX300S) == 0
    assert "7 observed and 7 commanded joints, 2 cameras" in capsys.readouterr().out


def test_a_name_of_a_stranger_steers_no_terminal(tmp_path, capsys):
    path = tmp_path / "robot.yaml"
    path.write_text(VX300S.read_text().replace("robot: vx300s", 'robot: "a\\u202eb"'))
    assert check_contract(path) == 2
    shown = capsys.readouterr().err
    assert "\u202e" not in shown and "\\u202e" in shown


def test_no_check_loads_what_it_does_not_need(all_wrong):
    code = (
        "import sys\nfrom rewact_ros.cli import main\nsys.argv = ['rewact', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "print(code, [m for m in ('numpy', 'torch', 'lerobot', 'rclpy', 'typer') "
        "if m in sys.modules])"
    )
    file = str(all_wrong)
    for words in (
        ["contract", "check", file],
        ["train", "--dataset", "/nowhere", "--contract", file],
        ["export", "/nowhere", f"--contract={file}", "--out", "/nowhere"],
        ["up", "--contract", file],
    ):
        run = [sys.executable, "-c", code.format(words=words)]
        done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout.split("\n")[-2] == "2 []" and "on_release: 007" in done.stderr, words


def test_every_command_checks_the_contract_that_it_names_first(all_wrong):
    for words in (["x", "--contract", str(all_wrong)], ["x", f"--contract={all_wrong}", "--y"]):
        with pytest.raises(ContractError, match="errors"):
            check_named(words)
    check_named(["x", "--contract", str(VX300S)])
    check_named(["x", "--", "--contract", str(all_wrong)])
    check_named(["x", "--contract"])
    check_named(["x", "--contract", "none"])  # of `record` and `console`: there is no contract
    assert plain_check(["contract", "check", "a.yaml"]).name == "a.yaml"
    assert plain_check(["contract", "check", "--json", "a.yaml"]) is None
    with pytest.raises(ContractError, match="errors"):
        processes(BringUp(contract=str(all_wrong)))


# The JSON Schema -----------------------------------------------------------------------------


def valid(value, schema) -> bool:
    """What of JSON Schema ours uses."""
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(
        isinstance(value, kinds[t]) and (t == "boolean" or not isinstance(value, bool))
        for t in types
    ):
        return False
    if "anyOf" in schema and not any(valid(value, inner) for inner in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if isinstance(value, str):
        return (
            len(value) >= schema.get("minLength", 0)
            and len(value) <= schema.get("maxLength", 10**9)
            and re.search(schema.get("pattern", ""), value) is not None
        )
    if isinstance(value, int | float):
        return schema.get("minimum", -1e99) <= value <= schema.get("maximum", 1e99)
    if isinstance(value, list):
        items = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        unique = len(set(map(str, value))) == len(value) or not schema.get("uniqueItems")
        sized = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9)
        return unique and sized and all(map(valid, value, items))
    return not isinstance(value, dict) or valid_object(value, schema)


def valid_object(value, schema) -> bool:
    if not set(schema.get("required", [])) <= value.keys():
        return False
    if len(value) < schema.get("minProperties", 0):
        return False
    for key, inner in value.items():
        if not valid(key, schema.get("propertyNames", {})):
            return False
        own = schema.get("properties", {}).get(key)
        for pattern, other in schema.get("patternProperties", {}).items():
            own = other if own is None and re.search(pattern, key) else own
        own = schema.get("additionalProperties", {}) if own is None else own
        if own is False or not valid(inner, own):
            return False
    return True


def test_the_schema_beside_the_docs_is_that_of_the_tables():
    assert json.loads((ROOT / "docs" / SCHEMA_FILE).read_text()) == json_schema(), (
        "write it anew: rewact contract schema > docs/contract.schema.json"
    )


@pytest.mark.parametrize("path", ROBOTS, ids=lambda path: path.stem)
def test_every_contract_of_ours_is_well_and_fits_the_schema(path):
    load_contract(path)
    assert valid(strict_yaml.load(path), json_schema())
    first = path.read_text().partition("\n")[0]
    assert first == f"# yaml-language-server: $schema=../../docs/{SCHEMA_FILE}"


def test_the_schema_refuses_what_it_can_say(all_wrong):
    good = strict_yaml.load(VX300S)
    for change in (
        lambda d: d.update(rate_hz="fast"),
        lambda d: d.pop("max_skew_s"),
        lambda d: d.update(handover=1),
        lambda d: d["action"].update(type="std_msgs/msg/String"),
        lambda d: d["action"].update(velocity={"default": -1}),
        lambda d: d["observation.images.front"].update(shape=[96, 96, 1]),
        lambda d: d["teleop"]["gamepad"]["deadman"].update(button="x"),
        lambda d: d.update({"observation.images..": d["observation.images.front"]}),
        lambda d: d["reset"].update(confirm="no"),
    ):
        data = strict_yaml.load(VX300S)
        assert valid(data, json_schema())
        change(data)
        assert data != good and not valid(data, json_schema())


def test_the_whole_schema_is_json_schema():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    checker = jsonschema.Draft202012Validator
    checker.check_schema(json_schema())
    for path in ROBOTS:
        assert not list(checker(json_schema()).iter_errors(strict_yaml.load(path)))
