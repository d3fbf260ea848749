"""What the doctor judges, from facts alone: no graph, no files."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import typer
from conftest import ROOT

from rewact_ros.checks import graph, joints, machine, policy, streams
from rewact_ros.checks.facts import (
    CalibrationFacts,
    CameraHeard,
    Checkpoint,
    Dataset,
    Endpoint,
    Engine,
    Facts,
    Graph,
    Heard,
    JointsHeard,
    Machine,
    Model,
)
from rewact_ros.checks.finding import Severity, error, result, warning
from rewact_ros.checks.table import CHECKS, NEEDS, examine
from rewact_ros.cli import doctor as command
from rewact_ros.contract import load_contract
from rewact_ros.contract.found import JointModel
from rewact_ros.contract.turns import unit_hint
from rewact_ros.control.path import CommandPath
from rewact_ros.control.watch import Now
from rewact_ros.stack.doctor import exit_code
from rewact_ros.stack.doctor_settings import DoctorSettings
from rewact_ros.stamps import NANO

KOCH = load_contract(ROOT / "config" / "robots" / "koch.yaml")
IMAGE, JOINT_STATE = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
FLOATS = "std_msgs/msg/Float64MultiArray"
NOW = Now(100.0, 100.0, 1000 * NANO)
HEALTHY = Machine({}, "rmw_fastrtps_cpp", (), 4096, 1 << 30, 8 << 30, {".": 1 << 36}, True, True,
                  0.5, 2, 0)  # fmt: skip


def fill(stream, hz, seconds=3.0, lost=(), late_s=0.002):
    """Messages of a driver that sends at a rate; those whose number is in `lost` never came."""
    for number in range(1, round(seconds * hz) + 1):
        if number in lost:
            continue
        at_s = 90 + number / hz
        stream.arrivals_s.append(at_s + late_s)
        stream.stamps_ns.append(round((900 + at_s) * NANO))
        stream.ros_ns.append(round((900 + at_s + late_s) * NANO))
        stream.sequences.append(number)
    return stream


def scene(seed):
    tiles = np.random.default_rng(seed).integers(30, 220, (6, 8, 3))
    return np.kron(tiles, np.ones((20, 20, 1))).astype(np.uint8)


def healthy(pose=-0.4):
    """Facts of a Koch that is well."""
    part = KOCH.state[0]
    arm = JointsHeard("observation.state", "/joint_states", part.type, part.max_age_s)
    arm.names, arm.values, arm.state = part.joints, (pose,) * 6, (pose,) * 6
    cameras = []
    for i, camera in enumerate(KOCH.cameras):
        heard = CameraHeard(camera.key, f"/{camera.topic}", IMAGE, 0.1, name=camera.name)
        heard.size, heard.picture = (480, 640), scene(i)
        heard.checksums = [1000 * i + k for k in range(90)]
        cameras.append(fill(heard, 30))
    path = CommandPath(KOCH)
    path.joints.take(np.full(6, pose), NOW.age_s)
    driver = {f"/{c.topic}": (Endpoint("/driver", IMAGE),) for c in KOCH.cameras}
    driver["/joint_states"] = (Endpoint("/driver", JOINT_STATE),)
    return Facts(
        machine=HEALTHY,
        contract=KOCH,
        graph=Graph(
            ("/driver", "/arm"),
            {topic: (there[0].type,) for topic, there in driver.items()}
            | {"/arm/commands": (FLOATS,)},
            driver,
            {"/arm/commands": (Endpoint("/arm", FLOATS),)},
            {("/arm", "/arm/commands"): (KOCH.action[0].joints, "position")},
        ),
        joints=[fill(arm, 50)],
        cameras=cameras,
        path=path,
        now=NOW,
        model=Model(
            {
                joint: JointModel(joint, "rad", low, high, 2.0, False, "urdf")
                for joint, (low, high) in zip(
                    KOCH.action[0].joints, KOCH.action[0].position, strict=True
                )
            }
        ),
    )  # fmt: skip


def told(judge, facts):
    return [(finding.severity, finding.text) for finding in judge(facts)]


def only(judge, facts):
    (found,) = told(judge, facts)
    return found


def test_nothing_is_wrong_with_a_healthy_robot_and_what_was_not_given_is_not_asked():
    results = list(examine(healthy()))
    assert {r.name: r.text for r in results if r.findings} == {}
    assert exit_code(results) == 0
    unasked = {r.name for r in results if r.severity is Severity.NOT_ASKED}
    assert unasked == {
        "teleop", "deadman", "rest", "checkpoint", "fits", "statistics", "quantiles", "dataset",
        "calibration", "engine", "room",
    }  # fmt: skip


def test_every_row_needs_what_can_be_given_and_a_new_one_is_one_row():
    assert len(CHECKS) >= 25 and len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(set(check.needs) <= set(NEEDS) for check in CHECKS)
    listed = (ROOT / "docs" / "doctor.md").read_text().partition("## Checks")[2]
    for check in CHECKS:
        assert f"\n| `{check.name}` | " in listed, check.name


def test_an_error_is_exit_code_1_and_comes_before_a_warning():
    both = result("x", [warning("a", fault="slow"), error("b", "1", "2", "mend it")])
    assert both.severity is Severity.ERROR and both.text.startswith("b: expected 1, got 2; mend it")
    assert "1 more" in both.text and exit_code([both]) == 1
    assert exit_code([result("x", [warning("a", fault="slow")])]) == 0
    assert both.record()["findings"][0]["mend"] == "mend it"


def test_lines_and_json_tell_every_check():
    results = list(examine(healthy()))
    shown = command.lines(results)
    assert len(shown) == len(CHECKS) + 1 and "0 to mend" in shown[-1]
    assert len(json.loads(command._json(results))) == len(CHECKS)


# The graph ----------------------------------------------------------------------------------------


def test_a_topic_that_nobody_publishes_names_the_nearest_of_its_type():
    facts = healthy()
    del facts.graph.publishers["/front/image_raw"]
    facts.graph.publishers["/front/image_raw"] = ()
    facts.graph.types["/frnt/image_raw"] = (IMAGE,)
    severity, text = only(graph.topics, facts)
    assert severity is Severity.ERROR and "the nearest that exists is /frnt/image_raw" in text
    del facts.graph.types["/frnt/image_raw"]
    assert "nearest" not in only(graph.topics, facts)[1]  # the other camera's is not it


def test_another_type_is_told_as_that_with_the_topic_that_has_the_right_one():
    facts = healthy()
    other = "sensor_msgs/msg/CompressedImage"
    facts.graph.publishers["/front/image_raw"] = (Endpoint("/driver", other),)
    assert told(graph.topics, facts) == []
    assert f"published as {other}" in only(graph.types, facts)[1]


def test_a_command_topic_without_a_fitting_controller_is_refused_by_hil_arm_too():
    facts = healthy()
    facts.graph.listeners["/arm/commands"] = (Endpoint("/arm", "std_msgs/msg/Float64"),)
    text = only(graph.controllers, facts)[1]
    assert "/arm takes std_msgs/msg/Float64 there" in text
    graph.look_before_arming(facts.path, facts.graph)
    assert ("controllers", graph.wrong_takers(facts.graph, KOCH)) in facts.path.refusals(NOW)
    assert facts.path.untaken in text
    facts.graph.listeners["/arm/commands"] = (Endpoint("/recorder", FLOATS),)
    assert "nobody listens" in only(graph.controllers, facts)[1]
    graph.look_before_arming(facts.path, facts.graph)
    assert facts.path.untaken == ""  # it may not be discovered yet


def test_a_controller_with_another_order_is_told_only_where_no_names_travel():
    facts = healthy()
    facts.graph.controllers[("/arm", "/arm/commands")] = (KOCH.action[0].joints[::-1], "velocity")
    texts = [text for _, text in told(graph.controllers, facts)]
    assert "the order must be the controller's" in texts[0] and "got velocity" in texts[1]
    facts.graph.controllers[("/arm", "/arm/commands")] = (("shoulder_pan",), "position")
    assert "takes other joints" in only(graph.controllers, facts)[1]


def test_unmet_qos_two_publishers_and_nobody_at_all():
    facts = healthy()
    camera = Endpoint("/driver", IMAGE, "deadline")
    facts.graph.publishers["/front/image_raw"] = (camera, Endpoint("/clone", IMAGE))
    facts.graph.listeners["/arm/commands"] = (Endpoint("/arm", FLOATS, "durability"),)
    assert [text.split(":")[0] for _, text in told(graph.qos, facts)] == [
        "observation.images.front", "action[0]",
    ]  # fmt: skip
    assert "got 2: /clone, /driver" in only(graph.publishers, facts)[1]
    assert told(graph.controllers, facts) == []
    facts.graph = replace(facts.graph, nodes=())
    assert "ROS domain 0" in only(graph.discovery, facts)[1]


def test_who_else_commands_is_told_in_the_words_of_hil_arm():
    facts = healthy()
    facts.path.rogue, facts.path.twin = "/rogue", graph.second_hil(["/hil", "/hil"])
    assert (
        only(graph.commands, facts)[1]
        == ": /rogue also publishes robot commands; stop it first"[2:]
    )
    assert facts.path.arm(NOW).reason == only(graph.one_hil, facts)[1]


# Streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hz", "severity"), [(5, Severity.ERROR), (12, Severity.WARN)])
def test_a_camera_of_5_or_12_hz_for_15_is_told_as_its_rate_and_as_nothing_else(hz, severity):
    facts = healthy()
    facts.contract = replace(KOCH, rate_hz=15.0, max_skew_s=0.15)
    wrist = facts.cameras[1]
    facts.cameras[1] = fill(CameraHeard(wrist.where, wrist.topic, IMAGE, 0.3, name="wrist"), hz)
    got = only(streams.rates, facts)
    assert got[0] is severity and f"expected 15 Hz as in the contract, got {hz}.0 Hz" in got[1]
    assert told(streams.skew, facts) == told(streams.jitter, facts) == []


def test_a_rate_is_the_senders_and_what_is_lost_on_the_way_is_told_apart():
    facts = healthy()
    lost = set(range(3, 90, 4))
    facts.joints[0] = fill(JointsHeard("s", "/joint_states", JOINT_STATE, 0.06), 50, lost=lost)
    assert facts.joints[0].published_hz == pytest.approx(50)
    assert told(streams.rates, facts) == []
    severity, text = only(streams.losses, facts)
    assert severity is Severity.WARN and "config/fastdds.xml" in text
    assert told(streams.jitter, facts) == []  # what was lost leaves no gap of the driver's


def test_numbers_of_two_publishers_or_of_none_do_not_tell_a_rate():
    stream = fill(Heard("s", "/t", IMAGE, 0.1), 30)
    stream.sequences = [1, 7] * 45
    assert stream.published_hz == pytest.approx(stream.received_hz) and stream.lost == 0
    stream.sequences = [None] * 90
    assert stream.published_hz == pytest.approx(30)
    assert Heard("s", "/t", IMAGE, 0.1).published_hz == 0


def test_bursts_are_jitter_by_their_stamps():
    facts, stream = healthy(), JointsHeard("s", "/joint_states", JOINT_STATE, 0.06)
    for burst in range(12):
        for k in range(10):
            stamp_s = 990 + burst * 0.25 + k * 0.004
            stream.stamps_ns.append(round(stamp_s * NANO))
            stream.ros_ns.append(round(stamp_s * NANO))
            stream.arrivals_s.append(stamp_s)
            stream.sequences.append(len(stream.sequences) + 1)
    facts.joints = [stream]
    severity, text = only(streams.jitter, facts)
    assert severity is Severity.ERROR and "gaps of at most max_age_s, 0.06 s" in text


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        (lambda ns: 0, "header stamp is zero"),
        (lambda ns: ns + 2 * NANO, "s ahead"),
        (lambda ns: ns - 3600 * NANO, "s old, allowed 0.1 s"),
        (lambda ns: 990 * NANO, "the same in 90 messages"),
    ],
)
def test_stamps_that_cannot_be(stamp, words):
    facts = healthy()
    facts.cameras[0].stamps_ns = [stamp(ns) for ns in facts.cameras[0].stamps_ns]
    assert words in only(streams.stamps, facts)[1]
    assert told(streams.skew, facts) == []


def test_stamps_that_a_stall_of_ours_made_old_are_no_fault():
    facts = healthy()
    facts.cameras[0].ros_ns[10:] = [ns + NANO for ns in facts.cameras[0].ros_ns[10:]]
    assert told(streams.stamps, facts) == []


def test_a_lag_between_cameras_is_skew():
    facts = healthy()
    wrist = facts.cameras[1]
    wrist.limit_s, wrist.stamps_ns = 0.3, [ns - 150_000_000 for ns in wrist.stamps_ns]
    assert "within max_skew_s, 0.05 s" in only(streams.skew, facts)[1]


def test_a_publisher_that_sends_nothing():
    facts = healthy()
    facts.cameras[0] = CameraHeard("f", "/front/image_raw", IMAGE, 0.1, name="front")
    assert "/driver publishes it, but sends nothing" in only(streams.silent, facts)[1]


# Pictures -----------------------------------------------------------------------------------------


def test_size_and_encoding_are_told_apart():
    facts = healthy()
    facts.cameras[0].size, facts.cameras[0].refused = (240, 320), "front: got (240, 320, 3)"
    assert "got (240, 320, 3)" in only(streams.sizes, facts)[1]
    assert told(streams.encodings, facts) == []
    facts.cameras[0].size, facts.cameras[0].refused = (480, 640), "front: 'yuv' is not supported"
    assert "'yuv'" in only(streams.encodings, facts)[1]


@pytest.mark.parametrize(
    ("value", "words"), [(0, "got black"), (255, "got white"), (128, "of one colour")]
)
def test_nothing_in_the_picture(value, words):
    facts = healthy()
    facts.cameras[0].picture = np.full((48, 64, 3), value, np.uint8)
    assert words in only(streams.black, facts)[1]


def test_a_dark_scene_is_not_black():
    facts = healthy()
    facts.cameras[0].picture = (scene(0) // 8).astype(np.uint8)
    assert told(streams.black, facts) == []


def test_frozen_is_an_error_only_while_joints_move():
    facts = healthy()
    facts.cameras[0].checksums = [7] * 60
    assert only(streams.frozen, facts)[0] is Severity.WARN
    facts.joints[0].travel = 0.2
    severity, text = only(streams.frozen, facts)
    assert severity is Severity.ERROR and "60 times the same while joints moved" in text
    facts.cameras[0].checksums = [7] * 3
    assert told(streams.frozen, facts) == []


def test_swapped_cameras_are_told_by_the_training_data_and_twins_without_them():
    facts = healthy()
    keys = [camera.key for camera in KOCH.cameras]
    straight = {key: scene(i)[:, ::-1][:, ::-1] for i, key in enumerate(keys)}
    facts.dataset = Dataset("data", pictures=straight)
    assert told(streams.swapped, facts) == []
    facts.dataset = Dataset("data", pictures=dict(zip(keys, (scene(1), scene(0)), strict=True)))
    assert "each shows what the other had" in only(streams.swapped, facts)[1]
    facts.dataset = None
    facts.cameras[1].checksums[-1] = facts.cameras[0].checksums[-1]
    assert "the same as observation.images.front" in only(streams.swapped, facts)[1]


# Joints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (KOCH.state_names[:-1], "joint gripper is missing"),
        ((*KOCH.state_names[:5], "griper"), "the nearest is griper"),
        ((*KOCH.state_names, "gripper"), "joint gripper is listed twice"),
    ],
)
def test_names_of_joints(names, words):
    facts = healthy()
    facts.joints[0].names, facts.joints[0].values = names, (0.0,) * len(names)
    assert words in only(joints.names, facts)[1]
    assert told(joints.numbers, facts) == []


def test_values_that_are_none():
    facts = healthy()
    facts.joints[0].values = (*[0.0] * 5, math.nan)
    assert "joint gripper is nan" in only(joints.numbers, facts)[1]
    facts.joints[0].values = ()
    assert "'position' of each joint" in only(joints.numbers, facts)[1]


def place(facts, **values):
    pose = np.full(6, -0.4)
    for joint, value in values.items():
        pose[KOCH.action_names.index(joint)] = value
    facts.path.joints.take(pose, NOW.age_s)
    return facts


def test_units_and_places_are_told_in_the_words_of_hil_arm():
    facts = place(healthy(), wrist_flex=-40.0, elbow_flex=2.3)
    unit, at = only(joints.units, facts)[1], only(joints.pose, facts)[1]
    assert "as degrees it is -0.698 rad" in unit and "elbow_flex is at 2.300, outside" in at
    assert facts.path.arm(NOW).reason == unit
    assert "2π less is 0.400" in only(joints.units, place(facts, wrist_flex=0.4 + 2 * math.pi,
                                                           elbow_flex=0.0))[1]  # fmt: skip
    assert told(joints.pose, facts) == []


@pytest.mark.parametrize(
    ("unit", "value", "low", "high", "words"),
    [
        ("rad", 57.0, -1.5, 1.5, "as degrees it is 0.995"),
        ("rad", 3000.0, -2.0, 2.0, "as servo ticks it is 1.460"),
        ("rad", 2.0, -1.5, 1.5, ""),
        ("rad", 6.5, -1.5, 1.5, ""),
        ("m", 12.0, 0.0, 0.04, "as millimetres it is 0.012"),
        ("m", 55.0, 0.0, 0.04, "as percent it is 0.022"),
        ("normalized", 40.0, 0.0, 1.0, "as percent it is 0.400"),
        ("m", 5.0e6, 0.0, 0.04, ""),
    ],
)
def test_another_unit_is_named_where_it_fits(unit, value, low, high, words):
    hint = unit_hint(unit, value, low, high)
    assert words in hint and bool(hint) == bool(words)


def test_limits_beyond_the_models_and_joints_that_it_lacks():
    facts = healthy()
    facts.model.joints["wrist_flex"] = JointModel("wrist_flex", "rad", -1.0, 1.0, 0.5, False, "u")
    assert [(s.name, t.split(":")[0]) for s, t in told(joints.limits, facts)] == [
        ("ERROR", "action[0].position.wrist_flex"), ("WARN", "action[0].velocity.wrist_flex"),
    ]  # fmt: skip
    facts = healthy()
    del facts.model.joints["gripper"]
    facts.model.joints["wrist_roll"] = JointModel("wrist_roll", "m", 0, 1, None, False, "u")
    texts = [text for _, text in told(joints.limits, facts)]
    assert any("gripper, which it lacks" in text for text in texts)
    assert any("expected m as in /robot_description" in text for text in texts)
    facts.model = Model({}, "not XML")
    assert only(joints.limits, facts) == (Severity.WARN, "/robot_description: not XML")


# Teleop -------------------------------------------------------------------------------------------


def with_leader(vx300s, held=False, joy=True, moved=0.0):
    facts = healthy()
    source = vx300s.teleop_source("leader")
    source = replace(source, deadman=None, takeover_motion=0.2) if moved else None
    source = source or next(s for s in vx300s.teleop if s.deadman)
    facts.contract = replace(vx300s, teleop=(source,))
    facts.path = CommandPath(facts.contract)
    device = facts.path.human.inputs[source.name]
    low = vx300s.limits.low[device.joints]
    for k in range(40):
        scale = np.array(source.scale)
        value = (0.5 * (low + vx300s.limits.high[device.joints]) - source.offset) / scale
        at_s = NOW.age_s - 0.8 + k * 0.02
        device.on_values(source.source_joints, list(value + moved * k / 40 / scale), at_s)
        if joy and source.deadman:
            device.on_buttons([int(held)] * 8, at_s)
            facts.teleop_buttons[source.name] = 8
    publishers = {f"/{source.topic}": (Endpoint("/leader", source.type),)}
    if source.deadman:
        publishers[f"/{source.deadman.topic}"] = (Endpoint("/joy", graph.JOY),) if joy else ()
    facts.graph = replace(facts.graph, publishers=publishers)
    return facts


def test_a_deadman_that_is_down_or_absent(vx300s):
    assert (
        told(joints.deadman, with_leader(vx300s)) == told(joints.teleop, with_leader(vx300s)) == []
    )
    facts = with_leader(vx300s, held=True)
    assert facts.path.arm(NOW).reason in [text for _, text in told(joints.deadman, facts)]
    facts = with_leader(vx300s, joy=False)
    assert "nobody publishes it" in only(joints.deadman, facts)[1]
    facts = with_leader(vx300s)
    source = facts.contract.teleop[0]
    facts.teleop_buttons = {source.name: source.deadman.button}
    assert (
        f"expected a button of the {source.deadman.button} that" in only(joints.deadman, facts)[1]
    )


def test_a_leader_that_moves_and_one_that_is_off(vx300s):
    facts = with_leader(vx300s, moved=0.6)
    assert "of the leader moved" in only(joints.rest, facts)[1]
    facts.graph = replace(facts.graph, publishers={"/joint_states": ()})
    assert only(joints.teleop, facts)[0] is Severity.WARN


# Policy, machine ----------------------------------------------------------------------------------


def known(**values):
    stats = {"mean": np.zeros(6), "std": np.ones(6)} | values
    shapes = {"observation.state": (6,), "action": (6,)} | {
        camera.key: (3, 480, 640) for camera in KOCH.cameras
    }
    return Checkpoint(
        "models/x", "", KOCH.signature(), "0", shapes, {"observation.state": stats}, "v", 1000
    )


def test_a_checkpoint_of_this_robot_and_others():
    facts = healthy()
    facts.checkpoint = known()
    for judge in (policy.checkpoint, policy.fits, policy.statistics, policy.quantiles, policy.room):
        assert told(judge, facts) == []
    facts.checkpoint = replace(known(), signature={**KOCH.signature(), "rate_hz": 50.0})
    assert "rate_hz: expected 30.0, got 50.0" in only(policy.fits, facts)[1]
    facts.checkpoint = replace(known(), shapes={"observation.images.top": (3, 1, 1)})
    assert "needs 'observation.images.top'" in only(policy.fits, facts)[1]
    facts.checkpoint = Checkpoint("x", "x: missing model.safetensors")
    assert "missing" in only(policy.checkpoint, facts)[1] and told(policy.fits, facts) == []


def test_statistics_and_the_place_of_the_arm_in_the_data():
    facts = healthy(pose=-0.5)
    facts.checkpoint = known(std=np.array([1, 1, math.nan, 1, 1, 1]))
    assert "observation.state.std[2]: expected a finite" in only(policy.statistics, facts)[1]
    facts.checkpoint = known(std=np.array([1, 1, 0, 1, 1, 1]))
    assert only(policy.statistics, facts)[0] is Severity.WARN
    facts.checkpoint = known(q01=np.full(6, -0.1), q99=np.full(6, 0.1))
    texts = [text for _, text in told(policy.quantiles, facts)]
    assert len(texts) == 6 and "gripper: expected -0.100 to 0.100, the 1 % and 99 %" in texts[5]
    facts.checkpoint = known(mean=np.zeros(6), std=np.full(6, 0.2))
    assert told(policy.quantiles, facts) == []


def test_data_thresholds_and_engine():
    facts = healthy()
    facts.dataset = Dataset("d", signature={**KOCH.signature(), "rate_hz": 10.0})
    assert "expected 30.0, got 10.0" in only(policy.dataset, facts)[1]
    facts.calibration = CalibrationFacts("c", claim="bound: not claimed (…)")
    assert only(policy.calibration, facts)[0] is Severity.WARN
    facts.engine = Engine("openvino", "cuda", installed=False)
    assert [text.split(":")[0] for _, text in told(policy.engine, facts)] == [
        "engine openvino", "device cuda",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("judge", "changes", "words"),
    [
        (machine.environment, {"missing": ("rclpy",)}, "package rclpy"),
        (machine.environment, {"environment": {machine.PROFILES[0]: "/no.xml"}}, "got /no.xml"),
        (machine.rmw, {"rmw": ""}, "none that loads"),
        (machine.rmw, {"rmw": "rmw_zenoh_cpp"}, "which the package is tried with"),
        (machine.rmw, {"environment": {"RMW_IMPLEMENTATION": "rmw_x"}}, "expected rmw_x"),
        (machine.domain, {"environment": {"ROS_DOMAIN_ID": "x"}}, "a number from 0"),
        (machine.domain, {"environment": {"ROS_DOMAIN_ID": "300"}}, "a number from 0"),
        (machine.domain, {"environment": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}}, "no node"),
        (machine.open_files, {"open_files": 256}, "got 256"),
        (machine.shared_memory, {"shared_memory_free": 1 << 20}, "got 1 MiB"),
        (machine.memory, {"memory_free": 1 << 20}, "expected 1 GB free"),
        (machine.disk, {"disk_free": {"/data": 1 << 20}}, "disk of /data"),
        (machine.load, {"load": 9.0}, "got 9.0"),
        (machine.realtime, {"realtime": False}, "SCHED_FIFO"),
        (machine.time_sync, {"synchronised": False}, "not in step"),
    ],
)
def test_the_machine(judge, changes, words):
    assert told(judge, Facts(machine=HEALTHY)) == []
    assert words in only(judge, Facts(machine=replace(HEALTHY, **changes)))[1]


def test_options_are_checked_and_generated_from_the_settings():
    with pytest.raises(ValueError, match="engine: expected one of"):
        DoctorSettings(engine="tensorrt")
    with pytest.raises(ValueError, match="pictures: expected a contract"):
        DoctorSettings(pictures=ROOT)
    shown = {p.name for p in typer.main.get_command(_app()).params}
    assert {"contract", "policy", "dataset", "pictures", "seconds", "as_json"} <= shown


def _app():
    app = typer.Typer()
    app.command()(command.doctor)
    return app
