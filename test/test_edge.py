"""Conversions at the edge: units, scales, offsets and names of a driver ↔ ours."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import VX300S
from sensor_msgs.msg import JointState
from test_contract_check import valid

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, parse_contract
from rewact_ros.contract.tables import json_schema
from rewact_ros.ros.commands import COMMANDS, command_decoder, command_encoder
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.states import state_message, state_sample

TICK = 2 * math.pi / 4096


def changed(state=None, action=None):
    """The simulated arm's contract with other keys in its parts."""
    data = copy.deepcopy(strict_yaml.load(VX300S))
    data["observation.state"].update(state or {})
    data["action"].update(action or {})
    return data


def read(contract, values, field="position"):
    part = contract.state[0]
    message = JointState(name=list(part.drivers or part.joints), **{field: values})
    return state_sample(part, message, 0.0).value


@pytest.mark.parametrize(
    ("keys", "raw", "ours"),
    [
        ({"unit": "deg"}, 180.0, math.pi),
        ({"unit": "mm"}, 35.0, 0.035),
        ({"unit": "percent"}, 40.0, 0.4),
        ({"unit": "percent", "scale": 0.02, "offset": -1}, 40.0, -0.2),
        ({"unit": "ticks", "scale": TICK, "offset": -math.pi}, 1024.0, -math.pi / 2),
        ({"unit": "rad", "scale": -1}, 0.5, -0.5),
        ({"unit": "m", "scale": 0.085, "offset": 0.001}, 1.0, 0.086),
    ],
)
def test_a_drivers_numbers_become_ours_and_commands_its(keys, raw, ours):
    units = {"deg": "rad", "mm": "m", "percent": "normalized", "ticks": "rad"}
    data = changed(keys, keys)
    assert valid(data, json_schema())
    contract = parse_contract(data)
    unit = units.get(keys["unit"], keys["unit"])
    assert set(contract.state[0].units) == set(contract.action_units) == {unit}
    np.testing.assert_allclose(read(contract, [raw] * 7), [ours] * 7, rtol=1e-12)
    again = state_message(contract.state[0], np.full(7, ours), to_stamp(1))
    np.testing.assert_allclose(again.position, [raw] * 7, rtol=1e-12)
    for type_ in COMMANDS:
        part = replace(contract.action[0], type=type_)
        message = command_encoder(part)(np.full(7, ours), to_stamp(1))
        _, sent = COMMANDS[type_].read(message, "position", "x")
        np.testing.assert_allclose(sent, [raw] * 7, rtol=1e-12)
        np.testing.assert_allclose(command_decoder(part)(message), [ours] * 7, rtol=1e-12)


def test_each_joint_may_have_its_own_and_others_keep_theirs():
    units = {"default": "deg", "gripper": "percent", "waist": "ticks"}
    keys = {"unit": units, "scale": {"waist": TICK}, "offset": {"gripper": 0.1}}
    contract = parse_contract(changed(keys))
    ours = read(contract, [1024.0, 90, 90, 90, 90, 90, 50])
    np.testing.assert_allclose(ours, [math.pi / 2] * 6 + [0.6])
    assert contract.state[0].units == ("rad",) * 6 + ("normalized",)


def test_where_the_drivers_numbers_are_ours_nothing_is_multiplied_nor_hashed(vx300s):
    contract = parse_contract(changed({"scale": 1, "offset": 0}, {"scale": 1.0}))
    assert contract.state == vx300s.state and contract.action == vx300s.action
    degrees = {"default": "deg", "gripper": "percent"}
    assert parse_contract(changed({"unit": degrees}, {"unit": degrees})).hash == vx300s.hash


def data_name(joint):
    return joint if joint == "default" else f"{joint}.pos"


def test_data_set_and_driver_may_name_joints_differently(vx300s):
    drivers = {f"{name}.pos": name for name in vx300s.state_names}
    data = changed({"joints": drivers}, {"joints": drivers})
    for key in ("unit", "position", "velocity", "acceleration", "max_start_jump"):
        for part in (data["observation.state"], data["action"]):
            if isinstance(part.get(key), dict):
                part[key] = {data_name(joint): v for joint, v in part[key].items()}
    del data["teleop"], data["kinematics"]
    contract = parse_contract(data)
    assert contract.state_names == contract.action_names == tuple(drivers)
    values = np.arange(7.0) / 10
    np.testing.assert_array_equal(read(contract, values.tolist()), values)
    assert state_message(contract.state[0], values, to_stamp(1)).name == list(vx300s.state_names)
    for type_ in COMMANDS:
        part = replace(contract.action[0], type=type_)
        message = command_encoder(part)(values, to_stamp(1))
        named, _ = COMMANDS[type_].read(message, "position", "x")
        assert named is None or list(named) == list(vx300s.action_names)
        np.testing.assert_array_equal(command_decoder(part)(message), values)
    same = {name: name for name in vx300s.state_names}
    assert parse_contract(changed({"joints": same}, {"joints": same})).state == vx300s.state


@pytest.mark.parametrize(
    ("state", "action", "words"),
    [
        (
            {"unit": {"default": "rad", "waist": "ticks"}},
            {},
            "observation.state.scale.waist: missing; give the rad in one of its ticks, such as "
            "0.00153398 for 4096 a turn",
        ),
        (
            {"unit": {"default": "rad", "waist": "deg"}, "scale": {"waist": 2}},
            {},
            "observation.state.scale.waist: expected none beside unit: deg, which is 0.0174533 rad "
            "by itself, got 2; write unit: rad with the scale and the offset that lead to rad",
        ),
        (
            {"unit": {"default": "rad", "waist": "mm"}, "offset": {"waist": 2}},
            {},
            "observation.state.offset.waist: expected none beside unit: mm, which is 0.001 m "
            "by itself, got 2; write unit: m with the scale and the offset that lead to m",
        ),
        (
            {"scale": {"waist": 0}},
            {},
            "observation.state.scale.waist: expected a number other than 0 (negative turns it "
            "round), got 0",
        ),
        (
            {"scale": {"wrist": 1}},
            {},
            "observation.state.scale.wrist: no such joint; did you mean 'waist'?",
        ),
        (
            {},
            {"unit": {"default": "rad", "waist": "deg"}, "position": {"default": [-180, 180]}},
            "action.position.waist: expected limits in rad, at most ±50, got [-180, 180]; only the "
            "driver has deg: limits and poses are in rad",
        ),
        (
            {},
            {"command": "velocity", "controller_timeout_s": 0.1, "offset": {"waist": 1}},
            "action.offset.waist: a velocity has no zero to shift, got 1; leave it out",
        ),
        (
            {"unit": "inch"},
            {},
            "observation.state.unit: expected one of rad, m, normalized, deg, mm, percent, ticks, "
            "m/s, rad/s, N, Nm; got 'inch' (str), got 'inch' (str)",
        ),
    ],
)
def test_what_cannot_be_converted_is_named(state, action, words):
    data = changed(state, action)
    if action.get("command") == "velocity":
        del data["teleop"]
    with pytest.raises(ContractError) as error:
        parse_contract(data)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("joints", "words"),
    [
        ({"a": "x", "b": "x"}, "each joint once, got x twice"),
        ({"a": 1}, "observation.state.joints[0]: expected a joint name, got 1 (int); quote a name"),
        ({}, "a list of joint names, got [] (list)"),
    ],
)
def test_a_mapping_of_names_is_as_strict_as_a_list(joints, words):
    with pytest.raises(ContractError) as error:
        parse_contract(changed({"joints": joints}))
    assert words in str(error.value)


def test_a_joint_of_degrees_that_is_a_turn_off_is_told_so_when_the_arm_is_armed():
    from rewact_ros.control.limits import outside_limits

    degrees = {"unit": {"default": "deg", "gripper": "percent"}}
    contract = parse_contract(changed(degrees, degrees))
    home = np.degrees([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 0.0])
    home[0] += 360.0
    measured = read(contract, home.tolist())
    told = outside_limits(measured, contract)
    assert (
        "waist" in told and "2π less is 0.000, which fits: the encoder counts another turn" in told
    )
