"""The contract is strict, its errors say what to mend, and observations are never invented."""

import copy
import json
import math
import re

import numpy as np
import pytest
import yaml
from conftest import G1, SHARED_DATA, VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import (
    ContractError,
    Frame,
    FrameAssembler,
    Sample,
    SampleError,
    Stale,
    check_signature,
    load_contract,
    parse_contract,
    select_joints,
    signature_of_dataset,
)
from rewact_ros.contract.frames import check_image

MS = 1_000_000


def edited(path, change):
    data = strict_yaml.load(path)
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("rate_hz"), ["rate_hz", "missing"]),
        (lambda d: d.update(rate_hertz=d.pop("rate_hz")), ["rate_hz", "missing"]),
        (lambda d: d.update(handover=1.0), ["handover", "unknown", "handover_s"]),
        (lambda d: d.update(rate_hz="fast"), ["rate_hz", "number", "fast"]),
        (lambda d: d.update(rate_hz=-1), ["rate_hz", "above 0", "-1"]),
        (lambda d: d.update(rate_hz=True), ["rate_hz", "number"]),
        (
            lambda d: d["action"].update(type="std_msgs/msg/Float64MultiArry"),
            ["action.type", "Float64MultiArray"],
        ),
        (
            lambda d: d["action"]["velocity"].update(wrist_rotat=1.0),
            ["wrist_rotat", "did you mean 'wrist_rotate'"],
        ),
        (lambda d: d["action"]["position"].pop("elbow"), ["action.position.elbow", "missing"]),
        (lambda d: d["action"]["position"].update(elbow=[1, -1]), ["elbow", "low < high"]),
        (lambda d: d["action"].pop("acceleration"), ["action.acceleration", "missing"]),
        (lambda d: d["action"].update(command="delta"), ["action.command", "absolute"]),
        (lambda d: d["action"].update(command="velocity"), ["controller_timeout_s", "missing"]),
        (lambda d: d["action"].update(unit="degrees"), ["action.unit", "rad", "degrees"]),
        (lambda d: d["action"]["joints"].append("elbow"), ["elbow"]),
        (
            lambda d: d["observation.state"]["joints"].remove("elbow"),
            ["elbow", "observation.state"],
        ),
        (
            lambda d: d["observation.images.front"].update(shape=[96, 96]),
            ["front.shape", "height, width"],
        ),
        (lambda d: d["reset"].update(pose=[0.0]), ["reset.pose", "7", "1"]),
        (lambda d: d["reset"]["pose"].__setitem__(0, 9.0), ["reset.pose", "waist", "9.0"]),
        (lambda d: d.update(replan_hz=50), ["replan_hz", "20"]),
        (lambda d: d.update(on_release="stop"), ["on_release", "hold, policy", "stop"]),
        (lambda d: d["reset"].update(confirm="yes"), ["reset.confirm", "true or false", "yes"]),
        (
            lambda d: d["action"].update(on_violation={"speed": "clip"}),
            ["action.on_violation.speed", "unknown"],
        ),
        (
            lambda d: d["action"].update(on_violation={"non_finite": "clip"}),
            ["action.on_violation.non_finite", "hold, fault", "clip"],
        ),
    ],
)
def test_a_wrong_key_is_refused_with_where_and_what(change, words):
    with pytest.raises(ContractError) as error:
        parse_contract(edited(VX300S, change))
    for word in words:
        assert word in str(error.value)
    assert str(error.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("source", "change", "words"),
    [
        ("leader", lambda s: s.update(topics="x"), ["teleop.leader.topics", "'topic'"]),
        ("leader", lambda s: s.update(type="sensor_msgs/msg/Joy"), ["leader.type", "JointState"]),
        ("leader", lambda s: s.update(max_age_s=0), ["leader.max_age_s", "above 0"]),
        ("leader", lambda s: s["joints"].update(elbw="e"), ["joints.elbw", "'elbow'"]),
        ("leader", lambda s: s["scale"].update(elbw=2.0), ["scale.elbw", "'elbow'"]),
        ("leader", lambda s: s.update(offset="none"), ["leader.offset", "number"]),
        ("leader", lambda s: s.update(takeover_motion=-1), ["takeover_motion", "above 0"]),
        ("leader", lambda s: s.update(align="snap"), ["leader.align", "offset, ramp"]),
        ("leader", lambda s: s["deadman"].update(button=-1), ["deadman.button", "index"]),
        ("leader", lambda s: s["deadman"].update(buton=1), ["deadman.buton", "'button'"]),
        ("leader", lambda s: s.update(topic="joint_states"), ["leader.topic", "observation.state"]),
        ("leader", lambda s: s.update(topic="teleop/gamepad"), ["gamepad.topic", "teleop.leader"]),
        ("gamepad", lambda s: s.pop("deadman"), ["gamepad.deadman", "missing"]),
        ("gamepad", lambda s: s.update(scale=2.0), ["gamepad.scale", "jog"]),
        (
            "gamepad",
            lambda s: s.update(type="trajectory_msgs/msg/JointTrajectory"),
            ["gamepad.type", "JointState"],
        ),
        ("gamepad", lambda s: s["jog"].update(mode="polar"), ["jog.mode", "joint, cartesian"]),
        ("gamepad", lambda s: s["jog"]["axes"].update(waist=2), ["axes.waist", "x, y, z"]),
        ("gamepad", lambda s: s["jog"]["buttons"].update(gripper=0), ["buttons.gripper", "up"]),
        ("gamepad", lambda s: s["deadman"].update(button=1), ["buttons.gripper", "deadman's, 1"]),
        ("gamepad", lambda s: s["jog"]["speed"].update(yaw=0), ["speed.yaw", "other than 0"]),
        ("gamepad", lambda s: s["jog"].pop("tool"), ["jog.tool", "missing"]),
        ("gamepad", lambda s: s["jog"]["tool"].update(tip=[0.1]), ["tool.tip", "x, y, z"]),
        ("gamepad", lambda s: s["jog"].update(mode="joint"), ["gamepad.jog"]),
    ],
)
def test_a_wrong_teleop_key_is_refused_with_where_and_what(source, change, words):
    with pytest.raises(ContractError) as error:
        parse_contract(edited(VX300S, lambda d: change(d["teleop"][source])))
    for word in words:
        assert word in str(error.value)


def by_velocity(part):
    return {**part, "command": "velocity", "controller_timeout_s": 0.1}


@pytest.mark.parametrize("source", ["leader", "gamepad", "keyboard", "scripted_human"])
def test_a_person_may_lead_a_velocity_interface(source):
    """hil makes velocities of the positions (test_path_interfaces.py)."""
    data = edited(VX300S, lambda d: d.update(teleop={source: d["teleop"][source]}))
    data["action"] = by_velocity(data["action"])
    contract = parse_contract(data)
    assert contract.action[0].command == "velocity" and contract.teleop[0].name == source


def test_a_reset_pose_whole_turns_off_is_named_as_that():
    for turns, words in ((1, r"2π less is 0\.100"), (-2, r"2 · 2π more is 0\.100")):
        pose = 0.1 + turns * 2 * math.pi
        with pytest.raises(ContractError, match=rf"reset\.pose: waist: .*{words}"):
            parse_contract(edited(VX300S, lambda d: d["reset"]["pose"].__setitem__(0, pose)))  # noqa: B023
    with pytest.raises(ContractError) as error:
        parse_contract(edited(VX300S, lambda d: d["reset"]["pose"].__setitem__(6, 6.5)))
    assert "gripper" in str(error.value) and "π" not in str(error.value)  # no angle


def test_a_source_maps_its_joints_by_name_and_leaves_the_others_alone(vx300s):
    leader = vx300s.teleop_source("leader")
    assert leader.joints == vx300s.action_names
    assert leader.source_joints[-1] == "left_finger" and leader.takeover_motion is None
    closed, opened = (leader.scale[-1] * m + leader.offset[-1] for m in (0.021, 0.057))
    assert abs(closed) < 0.01 and abs(opened - 1) < 0.01
    data = edited(
        VX300S, lambda d: d["teleop"]["leader"].update(joints={"elbow": "e", "waist": "w"})
    )
    data["teleop"]["leader"]["scale"] = 2.0
    data["teleop"]["leader"].pop("offset")
    two = parse_contract(data).teleop_source("leader")
    assert two.joints == ("waist", "elbow") and two.source_joints == ("w", "e")  # action order
    assert two.scale == (2.0, 2.0) and two.offset == (0.0, 0.0)
    with pytest.raises(ContractError, match=r"teleop\.leadr.*leader, gamepad"):
        vx300s.teleop_source("leadr")


def test_what_a_person_must_agree_to_is_asked_for_unless_the_contract_says_otherwise(vx300s):
    assert vx300s.reset is not None and not vx300s.reset.confirm
    data = edited(VX300S, lambda d: [d["reset"].pop("confirm"), d.pop("on_release")])
    asked = parse_contract(data)
    assert asked.reset is not None and asked.reset.confirm and asked.on_release == "hold"


def test_a_violation_clips_and_a_command_that_is_no_number_holds_unless_told_otherwise(vx300s, g1):
    for contract in (vx300s, g1):
        chosen = contract.on_violation
        assert (chosen.position, chosen.velocity, chosen.acceleration) == ("clip",) * 3
        assert chosen.non_finite == "hold"
    strict = edited(VX300S, lambda d: d["action"].update(on_violation={"position": "fault"}))
    assert parse_contract(strict).on_violation.position == "fault"
    mixed = edited(G1, lambda d: d["action"][0].update(on_violation={"velocity": "hold"}))
    with pytest.raises(ContractError, match=r"on_violation.*same for all parts"):
        parse_contract(mixed)


def test_a_robot_model_is_looked_for_beside_the_contract(tmp_path):
    data = edited(VX300S, lambda d: d["teleop"]["gamepad"]["jog"]["tool"].update(model="arm.urdf"))
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    jog = load_contract(path).teleop_source("gamepad").jog
    assert jog.tool.model == str(tmp_path / "arm.urdf")
    assert jog.directions == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


@pytest.mark.parametrize("text", ["a: [", "just text", ""])
def test_a_file_that_is_no_mapping_is_refused_with_its_path(tmp_path, text):
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    with pytest.raises(ContractError, match="robot.yaml"):
        load_contract(path)
    with pytest.raises(ContractError, match="absent.yaml"):
        load_contract(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "velocity: {default: 2.5",
            "velocity: 1.0\n  velocity: {default: 2.5",
            "line 41: action.vel",
        ),
        ("rate_hz: 20 ", "rate_hz: 020 ", "line 4: rate_hz: 020 is octal"),
        ("  on_stale: hold", "  on_stale: !!str hold", "line 43: action.on_stale: the tag '!!str'"),
        ("reset:", "reset: *arm\nrest:", "line 45: reset: no anchor '&arm' before"),
    ],
)
def test_a_contract_file_is_read_strictly(tmp_path, old, new, words):
    path = tmp_path / "robot.yaml"
    path.write_text(VX300S.read_text().replace(old, new, 1))
    with pytest.raises(ContractError, match=f"^contract .*robot.yaml: {re.escape(words)}"):
        load_contract(path)


def test_numbers_of_yaml_1_2_and_merged_mappings_are_taken(tmp_path, vx300s):
    text = VX300S.read_text().replace("default: 60.0", "default: 6e1").replace("20 ", "2e1 ")
    text = text.replace("front:\n  {topic", "front: &camera\n  {topic")
    text = text.replace("wrist:\n  {", "wrist:\n  {<<: *camera, ", 1)
    text = text.replace("wrist/image_raw, type: sensor_msgs/msg/Image, ", "wrist/image_raw, ", 1)
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    assert text.count("*camera") == 1 and "type: sensor_msgs/msg/Image, shape" in text
    assert load_contract(path) == vx300s


LIMITS = ("velocity", "acceleration", "max_start_jump")


@pytest.mark.parametrize("key", LIMITS)
@pytest.mark.parametrize(
    "value", [1e-310, 5e-324, 9e-7, 1.1e6, 1e300, 0, -1.0, float("nan"), "6e1"]
)
def test_a_limit_has_a_size_that_the_gate_can_work_with(key, value):
    with pytest.raises(ContractError, match=rf"^action\.{key}: expected (a|1e-06)") as error:
        parse_contract(edited(VX300S, lambda d: d["action"].update({key: value})))
    assert ("without quotes" in str(error.value)) == (value == "6e1")


@pytest.mark.parametrize("key", LIMITS)
@pytest.mark.parametrize("value", [1e-6, 1e6, 3])
def test_a_limit_of_a_robot_is_taken(key, value):
    taken = parse_contract(edited(VX300S, lambda d: d["action"].update({key: value})))
    assert getattr(taken.action[0], key) == (float(value),) * 7


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ([0.0, 1e-310], "expected 0, or 1e-09 to 1e\\+06 with either sign, got 1e-310"),
        ([-1.1e6, 0], "with either sign, got -1.1e\\+06"),
        ([0.0, 1.1e6], "with either sign"),
        ([0.0, 9e-7], "at least 1e-06 between"),
        ([1.0, 1.0], "low < high"),
        ([float("-inf"), 1.0], "finite number"),
        ([True, 2.0], "finite number"),
        ([0.0], "\\[low, high\\]"),
        ([0.0, 1.0, 2.0], "\\[low, high\\]"),
        (1.0, "\\[low, high\\]"),
    ],
)
def test_an_interval_has_a_size_that_the_gate_can_work_with(pair, words):
    with pytest.raises(ContractError, match=rf"^action\.position\.elbow: .*{words}"):
        parse_contract(edited(VX300S, lambda d: d["action"]["position"].update(elbow=pair)))


@pytest.mark.parametrize("pair", [[-1e6, 1e6], [0.0, 1e-6], [-1e-9, 1], [0, 2]])
def test_an_interval_of_a_robot_is_taken(pair):
    # Without the reset pose, which lies elsewhere.
    data = edited(VX300S, lambda d: [d["action"]["position"].update(elbow=pair), d.pop("reset")])
    assert parse_contract(data).action[0].position[2] == tuple(pair)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d, v: d.update(rate_hz=v), "rate_hz"),
        (lambda d, v: d.update(replan_hz=v), "replan_hz"),
        (lambda d, v: d["action"].update(command_rate_hz=v), "action.command_rate_hz"),
    ],
)
def test_a_rate_is_one_of_cameras_and_control_loops(change, where):
    for value in (0.09, 2001, 1e9):
        with pytest.raises(ContractError, match=f"^{where}: expected 0.1 to 2000, got"):
            parse_contract(edited(VX300S, lambda d, v=value: change(d, v)))


def test_the_slowest_and_the_quickest_rate_are_taken():
    def slow(d):
        d.update(rate_hz=0.1, replan_hz=0.1)
        d["action"]["command_rate_hz"] = 0.1

    assert parse_contract(edited(VX300S, slow)).dt_s == pytest.approx(10)

    def quick(d):
        d.update(rate_hz=2000, replan_hz=2000)
        d["action"]["command_rate_hz"] = 2000

    assert parse_contract(edited(VX300S, quick)).command_rate_hz == 2000


@pytest.mark.parametrize(
    "shape",
    [[96, 96], [96, 96, 3, 1], [96, 96, 1], [0, 96, 3], [96, 16385, 3], [True, 96, 3],
     [96.0, 96, 3], ["4_8", 96, 3], "96x96x3", None],
)  # fmt: skip
def test_a_picture_has_a_size(shape):
    with pytest.raises(ContractError, match=r"front\.shape: expected \[height, width, 3\] of at"):
        parse_contract(edited(VX300S, lambda d: d["observation.images.front"].update(shape=shape)))


def test_the_smallest_and_the_largest_picture_are_taken():
    for shape in ([1, 1, 3], [16384, 16384, 3]):
        data = edited(VX300S, lambda d, s=shape: d["observation.images.front"].update(shape=s))
        assert parse_contract(data).cameras[0].shape == tuple(shape)


def test_an_empty_file_and_an_empty_section_are_told_so(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text("# nothing yet\n")
    with pytest.raises(ContractError, match=r"robot.yaml: the file is empty$"):
        load_contract(path)
    for key in ("reset", "teleop"):
        with pytest.raises(
            ContractError, match=f"^{key}: expected a mapping, got None.*fill it in"
        ):
            parse_contract(edited(VX300S, lambda d, k=key: d.update({k: None})))
    with pytest.raises(ContractError, match=r"top level: expected a mapping, got \[\]"):
        parse_contract([])


def test_the_hash_covers_features_but_not_topics_or_limits(vx300s):
    def with_change(change):
        return parse_contract(edited(VX300S, change)).hash

    def set_part(key, **values):
        return lambda d: d[key].update(values)

    assert with_change(set_part("action", topic="other/commands")) == vx300s.hash
    assert with_change(set_part("action", velocity=0.1)) == vx300s.hash
    assert with_change(set_part("observation.state", max_age_s=1.0)) == vx300s.hash
    assert with_change(lambda d: d.pop("teleop")) == vx300s.hash
    assert with_change(set_part("action", on_violation={"velocity": "fault"})) == vx300s.hash
    assert with_change(lambda d: d.update(rate_hz=25)) != vx300s.hash
    assert with_change(set_part("action", unit="rad")) != vx300s.hash
    assert with_change(set_part("observation.images.front", shape=[48, 96, 3])) != vx300s.hash
    assert with_change(lambda d: d["observation.state"]["joints"].reverse()) != vx300s.hash


def test_a_mismatch_names_key_expected_and_got(vx300s, g1):
    other = copy.deepcopy(vx300s.signature())
    other["features"]["action"]["names"][2] = "elbow_roll"
    with pytest.raises(ContractError, match=r"action\.names\[2\].*expected elbow, got elbow_roll"):
        check_signature(vx300s, other, "checkpoint x")
    with pytest.raises(ContractError, match=r"rate_hz: expected 20\.0, got 30\.0"):
        check_signature(vx300s, g1.signature(), "checkpoint x")


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="real robot data is not on this machine")
def test_the_g1_contract_fits_the_real_data_set(g1, vx300s):
    info = json.loads((SHARED_DATA / "g1_bottle" / "meta" / "info.json").read_text())
    check_signature(g1, signature_of_dataset(info), "data set")
    with pytest.raises(ContractError):
        check_signature(vx300s, signature_of_dataset(info), "data set")


def test_parts_become_one_vector_with_their_own_units_and_limits(g1):
    assert len(g1.state_names) == len(g1.action_names) == 26
    assert g1.limits.velocity[0] == 2.5 and g1.limits.velocity[25] == 6.0
    assert g1.signature()["features"]["action"]["units"][13:15] == ["rad", "normalized"]
    assert load_contract(G1).hash == g1.hash


def test_joints_are_matched_by_name_in_any_order():
    picked = select_joints(["c", "a", "b"], [3.0, 1.0, 2.0], ["a", "b", "c"], "joint_states")
    assert picked.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("names", "values", "words"),
    [
        (["a"], [1.0], "joint b is missing"),
        (["a", "b", "a"], [1.0, 2.0, 3.0], "joint a is listed twice"),
        (["a", "b"], [1.0, float("nan")], "joint b is nan"),
        (["a", "b"], [1.0], "expected 2 values"),
    ],
)
def test_unusable_joints_are_named(names, values, words):
    with pytest.raises(SampleError, match=words):
        select_joints(names, values, ["a", "b"], "joint_states")


class Streams:
    """Feeds an assembler; times in milliseconds on one clock."""

    def __init__(self, contract):
        self.assembler = FrameAssembler(contract)
        self.contract = contract

    def joints(self, ms, value=0.0):
        state = np.full(len(self.contract.state_names), value)
        self.assembler.put("observation.state[0]", Sample(ms * MS, ms / 1000, state))

    def image(self, name, ms, value=0):
        image = np.full((96, 96, 3), value, np.uint8)
        self.assembler.put(f"observation.images.{name}", Sample(ms * MS, ms / 1000, image))

    def assemble(self, ms):
        return self.assembler.assemble(ms / 1000, ms * MS)


def test_every_stream_gives_its_newest_sample_not_after_the_reference(vx300s):
    s = Streams(vx300s)
    for ms in (0, 20, 40, 60):
        s.joints(ms, ms)
    s.image("wrist", 0, 1)
    s.image("wrist", 45, 2)
    s.image("wrist", 55, 3)
    s.image("front", 50, 9)
    frame = s.assemble(60)
    assert isinstance(frame, Frame)
    assert frame.stamp_ns == 50 * MS
    assert frame.values["observation.state"].tolist() == [40.0] * 7
    assert frame.values["observation.state"].dtype == np.float32
    assert frame.values["observation.images.wrist"][0, 0, 0] == 2


def test_no_image_is_used_twice(vx300s):
    s = Streams(vx300s)
    s.joints(0), s.image("wrist", 0), s.image("front", 0)
    assert isinstance(s.assemble(1), Frame)
    s.joints(20)
    assert s.assemble(21) is None


@pytest.mark.parametrize(
    "silent", ["observation.state[0]", "observation.images.wrist", "observation.images.front"]
)
def test_a_silent_stream_is_named_and_gives_no_observation(vx300s, silent):
    s = Streams(vx300s)
    s.joints(0), s.image("wrist", 0), s.image("front", 0)
    for ms in range(20, 400, 20):
        if silent != "observation.state[0]":
            s.joints(ms)
        for name in ("wrist", "front"):
            if not silent.endswith(name):
                s.image(name, ms)
    stale = s.assemble(400)
    assert isinstance(stale, Stale) and stale.stream == silent


def test_streams_out_of_step_are_refused(vx300s):
    s = Streams(vx300s)
    s.image("wrist", 0), s.joints(95), s.image("front", 100)
    stale = s.assemble(101)
    assert isinstance(stale, Stale) and stale.stream == "observation.images.wrist"


def test_a_header_stamp_from_another_clock_is_refused(vx300s):
    s = Streams(vx300s)
    s.joints(0), s.image("wrist", 0), s.image("front", 0)
    stale = s.assembler.assemble(0.001, 10_000 * MS)
    assert isinstance(stale, Stale) and "clocks" in stale.reason


def test_a_clock_that_runs_backwards_flushes_the_stream(vx300s):
    s = Streams(vx300s)
    s.joints(1000), s.image("wrist", 1000), s.image("front", 1000)
    assert isinstance(s.assemble(1000), Frame)
    s.joints(0), s.image("wrist", 0), s.image("front", 0)
    assert s.assembler.assemble().stamp_ns == 0


def test_an_image_of_another_size_is_refused_with_both_sizes(vx300s):
    with pytest.raises(SampleError, match=r"\(96, 96, 3\).*\(48, 64, 3\)"):
        check_image(vx300s.cameras[0], (48, 64))


def test_memory_of_images_is_bounded_whatever_stands_still(vx300s):
    s = Streams(vx300s)
    for ms in range(0, 3000, 10):
        s.joints(ms)
        s.image("wrist", ms)
        if ms < 1500:  # then the reference camera dies
            s.image("front", ms)
        kept = {key: len(stream.samples) for key, stream in s.assembler._streams.items()}
        # The one in use, and the one before in case that does not decode.
        assert kept["observation.images.front"] <= 2
        assert max(kept.values()) <= (3 if ms < 1500 else 103)
