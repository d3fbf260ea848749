"""What a contract holds where it says nothing, and what it has in common with data sets."""

import hashlib
import json

import numpy as np
import pytest
from conftest import G1, VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import (
    ContractError,
    check_signature,
    parse_contract,
    signature_of_dataset,
)


def edited(change, path=VX300S):
    data = strict_yaml.load(path)
    change(data)
    return data


def test_what_a_contract_does_not_say_has_a_value_of_its_own():
    optional = ("replan_hz", "max_chunk_age_s", "heartbeat_timeout_s", "handover_s", "on_release")
    bare = parse_contract(edited(lambda d: [d.pop(key) for key in (*optional, "reset", "teleop")]))
    assert (bare.replan_hz, bare.max_chunk_age_s, bare.heartbeat_timeout_s) == (20.0, 0.5, 0.15)
    assert (bare.handover_s, bare.on_release, bare.reset, bare.teleop) == (0.5, "hold", None, ())
    assert bare.action[0].controller_timeout_s is None and bare.action[0].on_stale == "hold"

    def as_little_as_can_be(d):
        d["teleop"]["leader"] = {"topic": "leader", "deadman": {"topic": "pad", "button": 0}}
        tool = d["teleop"]["gamepad"]["jog"]["tool"]
        tool.pop("tip"), tool.pop("model")

    leader, gamepad, *_ = parse_contract(edited(as_little_as_can_be)).teleop
    assert leader.max_age_s == leader.deadman.max_age_s == 0.2
    assert leader.scale == (1.0,) * 7 and leader.offset == (0.0,) * 7
    assert (leader.type, leader.align) == ("sensor_msgs/msg/JointState", "offset")
    assert gamepad.jog.tool.tip_m == (0.0, 0.0, 0.0) and gamepad.jog.tool.model is None


def test_how_far_a_joint_may_be_from_its_commands_is_said_by_joint_or_not_at_all():
    limits = {"default": 0.15, "gripper": 2.0}
    contract = parse_contract(edited(lambda d: d["action"].update(max_following_error=limits)))
    assert contract.following.tolist() == [0.15] * 6 + [2.0]
    assert contract.hash == parse_contract(edited(lambda d: None)).hash
    assert np.isinf(parse_contract(edited(lambda d: None)).following).all()

    def velocity(d):
        d.pop("teleop")
        d["action"].update(command="velocity", controller_timeout_s=0.2, max_following_error=0.1)

    with pytest.raises(ContractError, match=r"max_following_error: .*velocity"):
        parse_contract(edited(velocity))


def test_a_velocity_interface_and_measured_velocities_and_efforts_are_taken():
    def velocity(d):
        d.pop("teleop")
        d["action"].update(command="velocity", controller_timeout_s=0.2)
        own = {"topic": "wheels", "type": "sensor_msgs/msg/JointState", "unit": "rad"}
        d["observation.state"] = [
            d["observation.state"],
            {**own, "joints": ["wheel"], "field": "velocity", "max_age_s": 0.2},
            {**own, "joints": ["spin"], "field": "effort", "max_age_s": 0.2},
        ]

    contract = parse_contract(edited(velocity))
    assert contract.action[0].controller_timeout_s == 0.2
    features = contract.signature()["features"]
    assert features["observation.state"]["field"][-3:] == ["position", "velocity", "effort"]
    assert features["action"]["command"] == ["velocity"] * 7


def test_a_joint_jog_and_the_speeds_of_a_jog_are_taken_as_written():
    def joint_jog(d):
        d["teleop"]["gamepad"]["jog"] = {"mode": "joint", "speed": -0.5, "axes": {"waist": 1023}}

    jog = parse_contract(edited(joint_jog)).teleop_source("gamepad").jog
    assert jog.speed == (-0.5,) * 7 and jog.axes == (("waist", 1023),) and jog.buttons == ()
    assert jog.tool is None and jog.directions[0] == "waist"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # A key that nobody knows, in every section.
        (lambda d: d["observation.state"].update(rate=1), "observation.state.rate: unknown key"),
        (lambda d: d["observation.images.wrist"].update(fps=1), "wrist.fps: unknown key"),
        (lambda d: d["action"].update(effort=1), "action.effort: unknown key"),
        (lambda d: d["reset"].update(speed=1), "reset.speed: unknown key"),
        (lambda d: d["teleop"]["gamepad"]["jog"].update(gain=1), "jog.gain: unknown key"),
        (
            lambda d: d["teleop"]["gamepad"]["jog"]["tool"].update(base="x"),
            "tool.base: unknown key",
        ),
        # Commands that are not absolute.
        *(
            (lambda d, c=c: d["action"].update(command=c), f"'{c}' actions are not supported")
            for c in ("delta", "relative", "pose", "end_effector")
        ),
        (lambda d: d["observation.state"].update(joints=[]), "expected a list of joint names"),
        (lambda d: d["observation.state"].update(joints="abc"), "expected a list of joint names"),
        (
            lambda d: d["observation.state"].update(joints=["b", "a", "c", "b", "a"]),
            "expected each joint once, got a twice",
        ),
        (lambda d: d.update(action=[]), "action: expected at least one part, got an empty list"),
        (
            lambda d: d["action"].update(command_rate_hz=19),
            r"action.command_rate_hz: expected at least rate_hz \(20.0\), got 19.0",
        ),
        (lambda d: d["teleop"]["leader"].update(joints={}), "expected at least one 'robot joint"),
        (
            lambda d: d["teleop"]["gamepad"]["jog"]["buttons"].update(gripper=[2, 2]),
            "expected two different buttons, got 2 twice",
        ),
        (lambda d: d["teleop"]["gamepad"]["jog"]["axes"].update(x=1024), "an index of 0 to 1023"),
        (lambda d: d["teleop"]["gamepad"].update(joints={"waist": "w"}), "gamepad.joints: .*jog"),
        (lambda d: d["teleop"]["gamepad"].update(offset=1.0), "gamepad.offset: .*jog"),
        (lambda d: d["teleop"]["leader"].update(scale=-1.1e6), "leader.scale: expected 0, or"),
        (lambda d: d["reset"]["pose"].__setitem__(1, -1.9), r"within \[-1.85, 1.26\], got -1.9"),
        (lambda d: d.update(robot=20), "robot: expected text, got 20"),
        (lambda d: d.update(robot=".."), "robot: expected a name that a file may have, got '..'"),
        (lambda d: d.update(robot="."), "robot: expected a name that a file may have"),
        (lambda d: d.update(robot="a/b"), "robot: expected a name that a file may have"),
        (
            lambda d: d["observation.state"].update(joints=[f"j{k}" for k in range(1001)]),
            "joints: expected at most 1000, got 1001",
        ),
    ],
)
def test_what_is_wrong_is_named_in_every_section(change, words):
    with pytest.raises(ContractError, match=words):
        parse_contract(edited(change))


def test_parts_have_each_joint_once_and_rates_that_one_loop_can_give():
    def two_rates(d):
        d["action"][1]["command_rate_hz"] = 50

    with pytest.raises(ContractError, match=r"a whole fraction .* 60, got 50; .* 60 or 30 Hz"):
        parse_contract(edited(two_rates, G1))

    def doubled(d):
        for key in ("observation.state", "action"):
            d[key][1]["joints"] = [*d[key][1]["joints"][:-2], "kLeftElbow", "kLeftWristRoll"]

    with pytest.raises(ContractError, match=r"^observation.state.joints: .* got kLeftElbow twice"):
        parse_contract(edited(doubled, G1))


def test_a_reset_pose_may_lie_on_a_limit(vx300s):
    limits = vx300s.action[0].position
    for end in (0, 1):
        pose = [limit[end] for limit in limits]
        data = edited(lambda d, p=pose: d["reset"].update(pose=p))
        assert parse_contract(data).reset.pose == tuple(pose)


def test_the_messages_stay_short_and_name_the_nearest_key():
    with pytest.raises(ContractError) as error:
        parse_contract(edited(lambda d: d["action"].update(velocity="x" * 500)))
    assert "'" + "x" * 56 + "... (str)" in str(error.value)
    with pytest.raises(ContractError) as error:
        parse_contract(edited(lambda d: d["action"].update(velocity="x" * 58)))  # 60 with quotes
    assert f"'{'x' * 58}' (str)" in str(error.value)
    with pytest.raises(ContractError, match="max_skew_s: missing; did you mean it by 'max_skew'"):
        parse_contract(edited(lambda d: d.update(max_skew=d.pop("max_skew_s"))))
    # A key that was read already is not what was meant.
    with pytest.raises(ContractError, match="velocity: missing$"):
        parse_contract(edited(lambda d: d["action"].pop("velocity")))
    known = r"zz: unknown key; known: \['action', 'controllers', 'format', 'handover_s'"
    with pytest.raises(ContractError, match=known):
        parse_contract(edited(lambda d: d.update(zz=1)))


def test_data_sets_are_made_with_the_features_of_the_contract(g1):
    names = list(g1.action_names)
    videos, images = g1.dataset_features(), g1.dataset_features(use_videos=False)
    vector = {"dtype": "float32", "shape": (26,), "names": names}
    camera = {"shape": (480, 640, 3), "names": ["height", "width", "channel"]}
    assert videos == {
        "observation.state": {**vector, "names": list(g1.state_names)},
        "action": vector,
        "observation.images.cam_high": {"dtype": "video", **camera},
    }
    assert images["observation.images.cam_high"] == {"dtype": "image", **camera}


def test_the_hash_is_that_of_the_published_signature(vx300s, g1):
    """Checkpoints and recordings carry it, so it must stay the same from version to version."""
    signature = vx300s.signature()
    joints = {
        "shape": [7],
        "names": list(vx300s.state_names),
        "units": ["rad"] * 6 + ["normalized"],
    }
    picture = {"shape": [96, 96, 3]}
    assert signature == {
        "rate_hz": 20.0,
        "features": {
            "observation.state": {**joints, "field": ["position"] * 7},
            "action": {**joints, "command": ["position"] * 7},
            "observation.images.front": picture,
            "observation.images.wrist": picture,
        },
    }
    text = json.dumps(signature, sort_keys=True, separators=(",", ":"))
    assert vx300s.hash == hashlib.sha256(text.encode()).hexdigest()
    assert vx300s.hash.startswith("5d24ff427013374d") and g1.hash.startswith("2c8ee9d451723fe8")


def info_of(contract, **changes):
    """`meta/info.json` of a data set of that robot."""
    vector = {"dtype": "float32", "shape": [7], "names": list(contract.action_names)}
    picture = {"dtype": "video", "shape": [96, 96, 3], "names": ["height", "width", "channel"]}
    features = {
        "observation.state": vector,
        "action": vector,
        "observation.images.front": picture,
        "observation.images.wrist": picture,
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    }
    return {"fps": 20, "features": {**features, **changes}}


def test_a_data_set_is_compared_by_what_its_info_says(vx300s):
    found = signature_of_dataset(info_of(vx300s))
    assert found["rate_hz"] == 20.0 and "next.reward" not in found["features"]
    check_signature(vx300s, found, "data set")
    old = {"dtype": "float32", "shape": [7], "names": {"motors": list(vx300s.action_names)}}
    first = {"shape": [3, 96, 64], "names": ["channels", "height", "width"]}
    info = info_of(vx300s, action=old, **{"observation.images.front": first})
    found = signature_of_dataset(info)["features"]
    assert found["action"]["names"] == list(vx300s.action_names)
    assert found["observation.images.front"] == {"shape": [96, 64, 3]}
    nameless = signature_of_dataset(info_of(vx300s, action={"shape": [7]}))["features"]
    assert nameless["action"] == {"shape": [7], "names": []}


@pytest.mark.parametrize(
    ("names", "shape", "read"),
    [
        (["height", "width", "channel"], [96, 64, 3], [96, 64, 3]),
        (["channels", "height", "width"], [3, 96, 64], [96, 64, 3]),
        (["c", "h", "w"], [3, 96, 64], [96, 64, 3]),
        ({"axes": ["width", "height", "channel"]}, [64, 96, 3], [96, 64, 3]),
    ],
)
def test_the_layout_of_a_picture_is_read_by_the_names_of_its_axes(vx300s, names, shape, read):
    info = info_of(vx300s, **{"observation.images.front": {"shape": shape, "names": names}})
    found = signature_of_dataset(info)["features"]["observation.images.front"]
    assert found == {"shape": read}


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (None, [96, 96, 3]),
        (["height", "width"], [96, 96]),
        (["height", "width", "channel"], [96, 96]),
        (["height", "width", "channel"], None),
        (["height", "height", "channel"], [96, 96, 3]),
        (["height", "width", 3], [96, 96, 3]),
        (["a", "b", "c"], [96, 96, 3]),
        ({"a": ["height", "width", "channel"], "b": []}, [96, 96, 3]),
        ("hwc", [96, 96, 3]),
    ],
)
def test_a_picture_whose_axes_have_no_names_is_not_guessed_at(vx300s, names, shape):
    info = info_of(vx300s, **{"observation.images.front": {"shape": shape, "names": names}})
    with pytest.raises(ContractError, match=r"images.front: names: expected height, width and ch"):
        signature_of_dataset(info)


@pytest.mark.parametrize("key", ["observation.state", "action"])
def test_a_data_set_without_joints_or_actions_is_refused(vx300s, key):
    info = info_of(vx300s)
    del info["features"][key]
    with pytest.raises(ContractError, match=rf"no feature '{key}' in meta/info.json; got \['"):
        signature_of_dataset(info)


def test_features_that_one_side_lacks_and_rates_that_differ_are_named(vx300s):
    found = signature_of_dataset(info_of(vx300s))
    more = {**found["features"], "observation.images.aux": {"shape": [1, 1, 3]}}
    with pytest.raises(
        ContractError, match=r"features: .*aux.*wrist|features: expected \['action'"
    ):
        check_signature(vx300s, {**found, "features": more}, "data set")
    check_signature(vx300s, {**found, "features": more}, "x", frozenset({"observation.images.aux"}))
    check_signature(vx300s, {**found, "rate_hz": 20.0 + 5e-7}, "data set")
    for rate in (20.0 + 1.5e-6, 20.5):
        with pytest.raises(ContractError, match="rate_hz: expected 20.0, got 20"):
            check_signature(vx300s, {**found, "rate_hz": rate}, "data set")
    two = {**found["features"], "action": {"shape": [8]}, "observation.state": {"shape": [9]}}
    with pytest.raises(ContractError, match=r"action.shape\[0\]: expected 7, got 8"):
        check_signature(vx300s, {**found, "features": two}, "data set")
