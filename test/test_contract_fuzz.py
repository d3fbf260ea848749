"""Any text gives a contract that a robot can be driven with, or one line of refusal."""

import numpy as np
import pytest
from conftest import G1, VX300S
from hypothesis import given, settings
from hypothesis import strategies as st

from rewact_ros.contract import Contract, ContractError, load_contract, parse_contract
from rewact_ros.contract.problems import MOST_SHOWN

NASTY = st.sampled_from(
    ["", "~", "true", "0", "-1", "010", "1e3", "6e1", "1e-310", "1e999", ".nan", ".inf", "9" * 400,
     "1_000", "1:30", "'6e1'", "[]", "{}", "[1, 2]", "[[0, 1]]", "{a: 1}", "{default: 1}", "*arm",
     "&a x", "!!python/name:os.system", "!x y", "~/x", "/x/", "//", "a b", "joint_states",
     "default", "/arm/commands", '"\\u202e"', '"\\n"', "é", "x" * 300, "[waist, waist]", "|", ">",
     "[on, y, no]", "{<<: [1]}", "rewact/x", "velocity", "position", "-.5", "0.0000001",
     "1000000000", "- x", "\t"]
)  # fmt: skip


@st.composite
def broken(draw, base):
    """A good contract of which some lines are changed, lost, doubled or moved."""
    lines = base.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        line, how = (
            lines[at],
            draw(st.sampled_from(["value", "value", "key", "drop", "twice", "in"])),
        )
        key, colon, _ = line.partition(":")
        if how == "value":
            lines[at] = f"{key}{colon} {draw(NASTY)}"
        elif how == "key":
            lines[at] = f"{draw(NASTY)}:{line.partition(':')[2]}"
        elif how == "drop" and len(lines) > 1:
            del lines[at]
        elif how == "twice":
            lines.insert(draw(st.integers(0, len(lines))), line)
        else:
            lines[at] = f"  {line}"
    return "\n".join(lines)


def check(contract: Contract) -> None:
    """What the command path does with a contract stays finite."""
    limits = contract.limits
    for each in (limits.velocity, limits.acceleration, limits.start_jump, limits.high - limits.low):
        assert np.isfinite(each).all() and (each >= 1e-6).all()
        assert np.isfinite(each / (1 / contract.command_rate_hz) ** 2).all()
    assert np.isfinite(limits.velocity**2 / limits.acceleration).all()
    assert contract.hash and contract.dt_s > 0 and len(contract.action_in_state)
    assert contract.robot.isprintable() and contract.dataset_features()


@pytest.mark.parametrize("path", [VX300S, G1], ids=["vx300s", "g1"])
def test_a_broken_contract_is_refused_in_one_line_or_safe(tmp_path_factory, path):
    file = tmp_path_factory.mktemp("fuzz") / "robot.yaml"
    refused = 0

    @settings(deadline=None)
    @given(broken(path.read_text()))
    def run(text):
        nonlocal refused
        file.write_text(text)
        try:
            check(load_contract(file))
        except ContractError as error:
            message = str(error)
            lines = message.splitlines()
            assert str(file) in lines[0] and all(line.isprintable() for line in lines)
            assert max(map(len, lines)) < 1000
            assert len(lines) == 1 or len(error.problems) == len(lines) - 1 <= MOST_SHOWN
            refused += 1

    run()
    assert refused > 20


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_refused_by_a_line_for_each_error(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "robot.yaml"
    file.write_bytes(data)
    with pytest.raises(ContractError) as error:
        load_contract(file)
    first, *others = str(error.value).split("\n")
    assert str(file) in first and all(line.isprintable() for line in (first, *others))
    assert all(line.startswith("  ") for line in others)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "robot",
        "rate_hz",
        "action",
        "observation.state",
        "observation.images.front",
        "teleop",
        "reset",
    ]
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, JSON) | JSON)
def test_a_contract_that_a_recording_brings_is_refused_by_the_same_rules(data):
    """Recordings carry it as JSON, so it does not come through the YAML reader."""
    with pytest.raises(ContractError):
        parse_contract(data)
