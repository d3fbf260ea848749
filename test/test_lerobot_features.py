"""LeRobot's features against a contract: names, units, and every refusal before anything runs."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT

from rewact_ros import strict_yaml
from rewact_ros.contract import load_contract
from rewact_ros.ros.lerobot_features import (
    DEGREES,
    MINUS_TO_PLUS,
    PERCENT,
    Gathered,
    clipped,
    link_leader,
    link_robot,
    norm_modes,
)
from rewact_ros.ros.lerobot_plugins import (
    ROBOT,
    PluginError,
    calibrate_command,
    connect_device,
    make_device,
    read_device,
)

CONFIG = ROOT / "config"
SITE = Path(__file__).parent / "lerobot_site"
JOINTS = ("shoulder_pan", "elbow_flex", "gripper")
MODES = {"shoulder_pan": DEGREES, "elbow_flex": DEGREES, "gripper": PERCENT}
FEATURES = {f"{joint}.pos": float for joint in JOINTS}
OBSERVED = {**FEATURES, "front": (24, 32, 3)}


def contract_data():
    """An arm whose wire is rad, with a gripper in percent."""
    unit = {"default": "rad", "gripper": "percent"}
    names = {"pan": "shoulder_pan", "elbow": "elbow_flex", "gripper": "gripper"}
    return {
        "robot": "fixture",
        "rate_hz": 20,
        "max_skew_s": 0.2,
        "observation.state": {
            "topic": "joint_states",
            "type": "sensor_msgs/msg/JointState",
            "joints": dict(names),
            "field": "position",
            "unit": unit,
            "max_age_s": 3.0,
        },
        "observation.images.front": {
            "topic": "front/image_raw",
            "type": "sensor_msgs/msg/Image",
            "shape": [24, 32, 3],
            "max_age_s": 3.0,
        },
        "action": {
            "topic": "arm/commands",
            "type": "std_msgs/msg/Float64MultiArray",
            "joints": dict(names),
            "command": "position",
            "unit": unit,
            "command_rate_hz": 40,
            "position": {"default": [-3.0, 3.0], "gripper": [0.0, 1.0]},
            "velocity": 3.0,
            "acceleration": 20.0,
            "max_start_jump": 0.5,
        },
        "teleop": {
            "leader": {
                "topic": "leader/joint_states",
                "feedback_topic": "leader/feedback",
                "max_age_s": 3.0,
                "joints": dict(names),
                "scale": {"default": 1.0, "gripper": 0.01},
                "align": "ramp",
            }
        },
    }


@pytest.fixture
def make(tmp_path):
    """Contract of a change to `contract_data`."""

    def make(change=lambda data: None):
        data = contract_data()
        change(data)
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return load_contract(path)

    return make


@pytest.fixture
def site(monkeypatch):
    """The plug-in of this folder is installed, in this process."""
    monkeypatch.syspath_prepend(str(SITE))


def test_degrees_and_percent_become_what_the_contract_has_on_the_wire(make):
    contract = make()
    links = link_robot(contract, OBSERVED, FEATURES, MODES, {})
    read = {"shoulder_pan.pos": 90.0, "elbow_flex.pos": -45.0, "gripper.pos": 25.0, "front": None}
    np.testing.assert_allclose(links.state[0].to_topic(read), [math.pi / 2, -math.pi / 4, 25.0])
    back = links.action[0].from_topic(np.array([math.pi / 2, -math.pi / 4, 25.0]))
    assert back == pytest.approx({f: read[f] for f in FEATURES})
    assert links.unused == ()


def in_degrees(data):
    for key in ("observation.state", "action"):
        data[key]["unit"] = {"default": "deg", "gripper": "percent"}


def test_where_the_contract_says_degrees_the_wire_has_lerobots_numbers(make):
    links = link_robot(make(in_degrees), OBSERVED, FEATURES, MODES, {})
    read = {"shoulder_pan.pos": 90.0, "elbow_flex.pos": -45.0, "gripper.pos": 25.0}
    assert links.state[0].to_topic(read).tolist() == [90.0, -45.0, 25.0]


def test_a_plug_in_that_does_not_tell_its_units_is_taken_at_the_contracts_word(make):
    links = link_robot(make(), OBSERVED, FEATURES, {}, {})
    read = {"shoulder_pan.pos": 1.5, "elbow_flex.pos": -1.0, "gripper.pos": 25.0}
    assert links.state[0].to_topic(read).tolist() == [1.5, -1.0, 25.0]


def test_a_feature_may_have_the_very_name_that_the_contract_gives_the_driver(make):
    def change(data):
        for key in ("observation.state", "action"):
            data[key]["joints"] = {"pan": "pan.q", "elbow": "elbow_flex", "gripper": "gripper"}

    features = {"pan.q": float, "elbow_flex.pos": float, "gripper.pos": float}
    links = link_robot(make(change), {**features, "front": (24, 32, 3)}, features, {}, {})
    assert links.action[0].features == ("pan.q", "elbow_flex.pos", "gripper.pos")


def gripper_in_rad(data):
    for key in ("observation.state", "action"):
        data[key]["unit"] = "rad"


REFUSALS = {
    "gripper in rad": (gripper_in_rad, {}, {}, ["LeRobot gives 0 to 100", "numbers.gripper"]),
    "degrees off": (
        in_degrees,
        {"modes": {**MODES, "shoulder_pan": MINUS_TO_PLUS}},
        {},
        ["LeRobot gives -100 to 100", "use_degrees: true"],
    ),
    "joint": (
        lambda data: None,
        {"observed": {"gripper.pos": float, "front": (24, 32, 3)}},
        {},
        ["no shoulder_pan.pos or shoulder_pan; it has: gripper.pos, front", "elbow_flex.pos"],
    ),
    "camera": (
        lambda data: None,
        {"observed": {**FEATURES, "side": (24, 32, 3)}},
        {},
        ["observation.images.front: the plug-in has no camera front; it has: side"],
    ),
    "size": (
        lambda data: None,
        {"observed": {**FEATURES, "front": (480, 640, 3)}},
        {},
        ["expected [24, 32, 3], got [480, 640, 3]"],
    ),
    "base": (
        lambda data: None,
        {"taken": {**FEATURES, "x.vel": float, "lift.pos": float}},
        {},
        ["takes x.vel", "velocities", "takes lift.pos", "add lift to joints"],
    ),
    "numbers of nobody": (
        lambda data: None,
        {},
        {"gripr": (1.0, 0.0)},
        ["numbers.gripr: expected a joint", "gripper"],
    ),
    "speeds": (
        lambda data: (
            data["action"].update(
                command="velocity", controller_timeout_s=0.1, position=[-3.0, 3.0]
            )
            or data.pop("teleop")
        ),
        {},
        {},
        ["action[0] (arm/commands)", "got command: velocity"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_named_all_at_once_with_the_mend(make, case):
    change, plugin, given, words = REFUSALS[case]
    about = {"observed": OBSERVED, "taken": FEATURES, "modes": MODES, **plugin}
    with pytest.raises(PluginError) as error:
        link_robot(make(change), about["observed"], about["taken"], about["modes"], given)
    for word in words:
        assert word in str(error.value)


def test_a_leader_in_degrees_speaks_in_rad_and_its_gripper_as_the_source_scales_it(make):
    contract = make()
    source = contract.teleop_source("leader")
    link = link_leader(contract, source, FEATURES, MODES, {})
    read = {"shoulder_pan.pos": 180.0, "elbow_flex.pos": 0.0, "gripper.pos": 50.0}
    np.testing.assert_allclose(link.to_topic(read), [math.pi, 0.0, 50.0])


# The shipped arms -----------------------------------------------------------------------------


class Bus:
    """Stands for a bus whose vendor's library is not installed; it holds what LeRobot gives it."""

    def __init__(self, port, motors, calibration=None):
        self.motors, self.is_connected = motors, False


ARMS = {
    "so101": ("so_follower", "FeetechMotorsBus"),
    "koch": ("koch_follower", "DynamixelMotorsBus"),
}


def shipped(name, monkeypatch, tmp_path):
    """Contract and plug-in of a shipped arm, made of the files beside it."""
    module, bus = ARMS[name]
    monkeypatch.setattr(f"lerobot.robots.{module}.{module}.{bus}", Bus)
    file = read_device(ROBOT, str(CONFIG / "lerobot" / f"{name}.yaml"))
    file.settings["calibration_dir"] = str(tmp_path)
    return load_contract(CONFIG / "robots" / f"{name}.yaml"), file, make_device(ROBOT, file)


@pytest.mark.parametrize("name", sorted(ARMS))
def test_the_shipped_contract_and_the_file_beside_it_fit_lerobots_arm(name, monkeypatch, tmp_path):
    contract, file, robot = shipped(name, monkeypatch, tmp_path)
    links = link_robot(
        contract,
        robot.observation_features,
        robot.action_features,
        norm_modes(robot),
        file.numbers,
    )
    gripper = links.action[-1].features.index("gripper.pos")
    low, high = contract.action[-1].position[gripper]
    ends = [
        links.action[-1].scale[gripper] * value + links.action[-1].offset[gripper]
        for value in (0.0, 100.0)
    ]
    assert sorted(ends) == pytest.approx([low, high], abs=1e-4)
    assert links.state[0].to_topic({**dict.fromkeys(robot.action_features, 0.0)})[0] == 0.0
    assert links.unused == ()


@pytest.mark.parametrize("name", sorted(ARMS))
def test_without_the_files_numbers_the_gripper_of_a_shipped_contract_is_refused(
    name, monkeypatch, tmp_path
):
    contract, _, robot = shipped(name, monkeypatch, tmp_path)
    with pytest.raises(PluginError, match="gripper: LeRobot gives 0 to 100"):
        link_robot(
            contract, robot.observation_features, robot.action_features, norm_modes(robot), {}
        )


# The file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port: /dev/x", ["type: missing", "robot_type"]),
        ("[1]", ["expected fields"]),
        ("{type: fixture_arm, type: x}", ["given twice"]),
        ("{type: fixture_arm, numbers: {gripper: 3}}", ["numbers.gripper", "got 3"]),
        ("{type: fixture_arm, numbers: {gripper: {scale: 0}}}", ["scale not 0"]),
        ("{type: fixture_arm, numbers: {gripper: {scal: 1}}}", ["numbers.gripper"]),
    ],
)
def test_a_file_that_says_nothing_sound_is_refused(tmp_path, text, words):
    path = tmp_path / "arm.yaml"
    path.write_text(text)
    with pytest.raises(PluginError) as error:
        read_device(ROBOT, str(path))
    assert all(word in str(error.value) for word in [*words, "arm.yaml"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"type": "fixture_arn"}, ["did you mean fixture_arm", "so101_follower"]),
        (
            {"type": "so101_follower", "prot": "/dev/x", "foo": 1},
            ["prot: so101_follower has no such field; did you mean port", "foo:", "port: missing"],
        ),
        ({"type": "fixture_arm", "folder": ".", "calibrated": "so so"}, ["calibrated:", "so so"]),
        (
            {
                "type": "so101_follower",
                "port": "x",
                "cameras": {"front": {"type": "opencvv", "index_or_path": 0}},
            },
            ["opencvv", "LeRobot has the cameras", "opencv,"],
        ),
        (
            {
                "type": "so101_follower",
                "port": "x",
                "cameras": {"front": {"type": "opencv", "index_or_path": 0, "width": "wide"}},
            },
            ["cameras.front.width: ", "wide"],
        ),
        (
            {
                "type": "so101_follower",
                "port": "x",
                "cameras": {"front": {"type": "opencv", "index_or_path": 0, "width": 640}},
            },
            ["height"],
        ),
    ],
)
def test_every_fault_of_the_configuration_is_named_by_its_key(site, tmp_path, settings, words):
    path = tmp_path / "arm.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(PluginError) as error:
        make_device(ROBOT, read_device(ROBOT, str(path)))
    assert all(word in str(error.value) for word in words), str(error.value)


def arm_file(tmp_path, **settings):
    path = tmp_path / "arm.yaml"
    base = {"type": "fixture_arm", "folder": str(tmp_path), "calibration_dir": str(tmp_path)}
    path.write_text(yaml.safe_dump({**base, **settings}))
    return read_device(ROBOT, str(path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": "gone"}, ["does not connect", "port 'gone'"]),
        ({"asks": True}, ["asks on the terminal"]),
        ({"calibrated": False, "id": "left arm"}, ["not calibrated", "lerobot-calibrate"]),
    ],
)
def test_what_does_not_connect_or_is_not_calibrated_is_refused(
    site, monkeypatch, tmp_path, settings, words
):
    monkeypatch.setattr(sys, "stdin", sys.stdin)  # it is taken away from plug-ins
    file = arm_file(tmp_path, **settings)
    device = make_device(ROBOT, file)
    with pytest.raises(PluginError) as error:
        connect_device(ROBOT, file, device)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_the_command_that_calibrates_is_lerobots_own_with_the_files_fields(tmp_path):
    file = arm_file(tmp_path, id="left arm")
    words = calibrate_command(ROBOT, file)
    assert words.startswith("lerobot-calibrate --robot.type=fixture_arm")
    assert "'--robot.id=left arm'" in words


def test_a_missing_sdk_is_named_with_what_installs_it(tmp_path):
    path = tmp_path / "arm.yaml"
    folder = str(tmp_path)
    path.write_text(f"{{type: so101_follower, port: /dev/none, calibration_dir: {folder}}}")
    with pytest.raises(PluginError) as error:
        make_device(ROBOT, read_device(ROBOT, str(path)))
    assert "lerobot[feetech]" in str(error.value)


# Commands -------------------------------------------------------------------------------------


def two_parts(data):
    arm = data["action"]
    hand = {**arm, "topic": "hand/commands", "joints": {"gripper": "gripper"}, "unit": "percent"}
    hand |= {"command_rate_hz": 20, "position": [0.0, 1.0]}
    arm["joints"] = {"pan": "shoulder_pan", "elbow": "elbow_flex"}
    arm |= {"unit": "rad", "position": [-3.0, 3.0]}
    data["action"] = [arm, hand]
    data.pop("teleop")


def test_an_action_is_sent_with_each_command_of_the_fastest_part_once_all_are_known(make):
    contract = make(two_parts)
    gathered = Gathered(contract.action, link_robot(contract, OBSERVED, FEATURES, MODES, {}).action)
    arm, hand = np.array([math.pi, 0.0]), np.array([30.0])
    assert gathered.add(0, arm, 0.0) is None, "nobody knows what the gripper shall do"
    assert gathered.add(1, hand, 0.001) == pytest.approx(
        {"shoulder_pan.pos": 180.0, "elbow_flex.pos": 0.0, "gripper.pos": 30.0}
    )
    assert gathered.add(1, hand, 0.01) is None, "the slower part alone sends nothing"
    assert gathered.add(0, arm, 0.02) is not None
    assert gathered.add(0, arm, 1.0) is None, "what the gripper was told is of another time"


def test_what_a_plug_in_sends_otherwise_is_told(make):
    assert clipped({"a.pos": 10.0, "b.pos": 1.0}, {"a.pos": 5.0, "b.pos": 1.0}) == "a.pos 10 → 5"
    assert clipped({"a.pos": 10.0}, {"a.pos": 10.0}) == "" == clipped({"a.pos": 1.0}, None)


def test_the_example_files_are_strict_yaml_with_a_type():
    for path in (CONFIG / "lerobot").glob("*.yaml"):
        assert isinstance(strict_yaml.load(path)["type"], str), path
