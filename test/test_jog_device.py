"""A SpaceMouse and a tracked hand lead a robot that takes joints, through the node `teleop`."""

import json
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from conftest import VX300S
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.parameter import Parameter
from sensor_msgs.msg import Joy
from stage import Stage

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, parse_contract
from rewact_ros.control.jog import JogInput, JogSource, JoyError, make_integrator, twist_rates
from rewact_ros.control.modes import Mode
from rewact_ros.kinematics import ArmModel, pose_error, rotation_by
from rewact_ros.nodes.teleop import TeleopNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import pose_message
from rewact_ros.ros.jog_device import JogDeviceInput
from rewact_ros.sim.pick_place.scene import build_xml

pytest.importorskip("gym_aloha")
SPACENAV = {"topic": "spacenav/twist", "type": "geometry_msgs/msg/Twist", "scale": 0.2}
HAND = {"topic": "hand/pose", "type": "geometry_msgs/msg/PoseStamped"}
HOME = np.array([0.0, -0.229, 0.226, 0.0, 1.573, 0.0, 1.0])
DT_S = 0.01


def led_by(device, **jog):
    data = strict_yaml.load(VX300S)
    gamepad = data["teleop"]["gamepad"]
    changed = {**gamepad["jog"], "device": device, **jog}
    del changed["axes"]
    data["teleop"] = {"device": {**gamepad, "jog": changed}}
    return data


@pytest.fixture(scope="module")
def arm():
    contract = parse_contract(led_by(HAND), VX300S.parent)
    return ArmModel(contract.teleop[0].jog.tool, build_xml)


@pytest.mark.parametrize(
    ("device", "jog", "words"),
    [
        ({**SPACENAV, "type": "std_msgs/msg/String"}, {}, "device.type: expected one of"),
        (
            {**HAND, "scale": 2.0},
            {},
            "device.scale: expected none beside geometry_msgs/msg/PoseStamped",
        ),
        ({**SPACENAV, "speed": 1}, {}, "device.speed"),
        (SPACENAV, {"buttons": {"z": [1, 2]}}, "device: expected no axis or button for z"),
        ({**SPACENAV, "topic": "arm/commands"}, {}, "device.topic"),
    ],
)
def test_a_device_that_makes_no_sense_is_refused_by_key(device, jog, words):
    with pytest.raises(ContractError, match=words):
        parse_contract(led_by(device, **jog), VX300S.parent)


def test_a_device_moves_no_single_joints():
    data = led_by(SPACENAV, mode="joint", speed=0.5)
    with pytest.raises(ContractError, match="device: expected none beside mode: joint"):
        parse_contract(data, VX300S.parent)


def test_a_twist_is_metres_and_radians_per_second_up_to_the_jogs_speed():
    jog = parse_contract(led_by(SPACENAV), VX300S.parent).teleop[0].jog
    rates = twist_rates(jog, [0.3, -9.0, 0.0, 0.0, 0.0, 1.5])
    speed = np.array(jog.speed)
    assert (rates * speed)[[0, 5]] == pytest.approx([0.06, 0.3])
    assert rates[1] == -1.0
    with pytest.raises(JoyError, match="spacenav/twist: expected a finite twist"):
        twist_rates(jog, [np.nan, 0, 0, 0, 0, 0])
    turned = replace(jog, speed=(-jog.speed[0], *jog.speed[1:]))
    assert twist_rates(turned, [0.3, 0, 0, 0, 0, 0])[0] * turned.speed[0] == pytest.approx(-0.06)


class Hand:
    """A `JogSource` on a hand-wound clock, with a device that has a pose."""

    def __init__(self, arm):
        contract = parse_contract(led_by(HAND), VX300S.parent)
        source = contract.teleop[0]
        self.told_by = source
        self.source = JogSource(make_integrator(contract, source, build_xml), 0.2)
        self.arm, self.speed = arm, np.abs(np.array(source.jog.speed))
        self.now_s, self.joints = 10.0, HOME.copy()
        self.place, self.turn = np.array([5.0, -3.0, 1.0]), rotation_by(np.array([0.4, 2.0, 0.1]))

    def run(self, seconds, pressed=True):
        targets = []
        for _ in range(round(seconds / DT_S)):
            self.now_s += DT_S
            given = JogInput(pressed, np.zeros(7), self.now_s, (self.place.copy(), self.turn))
            target = self.source.step(self.now_s, given, self.joints, pressed)
            self.joints = target.copy()
            targets.append(target)
        return np.array(targets)

    @property
    def tool(self):
        return self.arm.pose(self.joints[:6])


def test_the_tool_moves_as_the_hand_has_moved_since_the_takeover(arm):
    hand = Hand(arm)
    hand.run(0.1, pressed=False)
    hand.run(0.05)
    begin, moved = hand.tool, np.array([0.06, -0.05, 0.04, 0.0, 0.0, 0.3])
    hand.place = hand.place + moved[:3]
    hand.turn = rotation_by(moved[3:]) @ hand.turn
    targets = hand.run(2.0)
    assert np.abs(pose_error(begin, hand.tool) - moved).max() < 2e-3
    places = np.array([arm.pose(q[:6])[0] for q in targets])
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=1) / DT_S
    assert speeds.max() < 1.05 * hand.speed[:3].min(), "no faster than the jog's speed"


def test_a_new_press_takes_hold_anew(arm):
    hand = Hand(arm)
    hand.run(0.05, pressed=False)
    hand.run(0.05)
    hand.place = hand.place + np.array([0.05, 0.0, 0.0])
    hand.run(1.0)
    before = hand.tool
    hand.run(0.05, pressed=False)
    hand.place = hand.place - np.array([0.3, 0.2, 0.0])  # it reaches back, the deadman is up
    hand.run(0.3, pressed=False)
    hand.run(0.5)
    assert np.abs(pose_error(before, hand.tool)).max() < 1e-4
    hand.place = hand.place + np.array([0.05, 0.0, 0.0])
    hand.run(1.0)
    assert pose_error(before, hand.tool)[0] == pytest.approx(0.05, abs=2e-3)


def test_a_silence_or_a_jump_that_ends_between_two_ticks_is_not_overlooked(arm, monkeypatch):
    hand, clock = Hand(arm), [20.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    node = SimpleNamespace(create_subscription=lambda *_: None, get_logger=lambda: MagicMock())
    device = JogDeviceInput(node, hand.told_by.jog)
    at = np.array([1.0, 2.0, 1.0, 0.0, 0.0, 1.0])

    def hear(gap_s):
        clock[0] += gap_s
        device._on_message(PoseStamped(pose=pose_message(at)))

    def ask():
        joy = JogInput(True, np.zeros(7), clock[0])
        return device.beside(joy, clock[0])

    hear(0.0)
    assert ask() is None and ask().pose is not None  # it was silent until now
    hear(0.02)
    assert ask() is not None
    at[0] += 1.0
    hear(0.45)  # as long as it counts as alive; a hand could be there
    hear(0.02)
    assert ask() is None and "lost" in device.reason
    assert ask().pose[0][0] == pytest.approx(2.0)
    hear(hand.told_by.jog.device.max_age_s + 0.1)
    assert ask() is None and ask() is not None


def test_a_stick_that_was_silent_between_two_ticks_is_seen_at_rest_anew(arm):
    hand = Hand(arm)
    given = JogInput(True, np.zeros(7), 10.0)
    assert hand.source.step(10.0, given, HOME, True) is not None
    away = JogInput(True, np.eye(7)[0], 10.5)
    assert hand.source.step(10.51, away, HOME, True) is None and "silent" in hand.source.reason
    for i in range(1, 20):
        late = replace(away, received_s=10.5 + i * DT_S)
        assert hand.source.step(late.received_s, late, HOME, True) == pytest.approx(HOME)
    assert "not seen at rest" in hand.source.reason


class Robot:
    """The simulated arm's graph with the node `teleop` and a device."""

    def __init__(self, device, tmp_path):
        data = led_by({**device, "max_age_s": 1.0})
        data["teleop"]["device"] |= {"max_age_s": 1.0}
        data["teleop"]["device"]["deadman"] |= {"max_age_s": 1.0}
        self.stage = Stage(data, tmp_path)
        contract = tmp_path / "device.yaml"
        contract.write_text(json.dumps(data))  # JSON is YAML
        asked = {"contract": str(contract), "source": "device"}
        self.node = TeleopNode(
            parameter_overrides=[Parameter(k, value=v) for k, v in asked.items()]
        )
        self.stage.executor.add_node(self.node)
        node = self.stage.node
        kind = PoseStamped if device is HAND else Twist
        self.device = node.create_publisher(kind, device["topic"], names.SENSOR_OUT)
        self.joy = node.create_publisher(Joy, "joy", names.SENSOR_OUT)
        self.says, self.buttons = kind(), [0] * 6
        self.speaks = True
        self.stage.every(0.03, self.say)

    def say(self):
        if self.speaks:
            self.device.publish(self.says)
        self.joy.publish(Joy(axes=[0.0] * 8, buttons=self.buttons))

    def take_over(self):
        self.stage.leased = False
        path = self.stage.arm()
        self.stage.press(partial(self.buttons.__setitem__, 5))
        self.stage.wait(lambda: bool(self.stage.sent[0]), "commands")
        return path

    def let_pass(self, seconds):
        end_s = time.monotonic() + seconds
        self.stage.wait(lambda: time.monotonic() > end_s, "time")

    def close(self):
        self.stage.close()
        self.node.destroy_node()


def test_a_spacemouse_leads_an_arm_of_joints_by_its_topics(graph, tmp_path, arm):
    robot = Robot(SPACENAV, tmp_path)
    try:
        path = robot.take_over()
        begin = arm.pose(np.array(robot.stage.sent[0][-1][:6]))[0]

        def gone():
            return arm.pose(np.array(robot.stage.sent[0][-1][:6]))[0] - begin

        robot.says.linear.y = 0.4
        robot.stage.wait(lambda: gone()[1] > 0.04, "motion")
        assert np.abs(gone()[[0, 2]]).max() < 0.02, "its wrist is near a singularity there"
        robot.says.linear.y = 0.0
        robot.stage.wait(lambda: not path.gate.moving, "rest")
        robot.speaks = False
        robot.stage.wait(lambda: path.mode is Mode.HOLD, "hold after a silence")
        assert "device" in path.modes.reason
    finally:
        robot.close()


def test_a_hand_leads_an_arm_of_joints_and_a_jump_of_its_tracker_moves_nothing(
    graph, tmp_path, arm
):
    robot = Robot(HAND, tmp_path)
    at = np.array([1.0, 2.0, 1.0, 0.0, 0.0, 1.0])
    robot.says.pose = pose_message(at)
    try:
        robot.take_over()

        def tool():
            return arm.pose(np.array(robot.stage.sent[0][-1][:6]))[0]

        begin = tool()
        # A machine that is late makes a silence, after which the tool takes hold anew.
        for _ in range(50):
            if tool()[1] - begin[1] < -0.04:
                break
            at[1] -= 0.01
            robot.says.pose = pose_message(at)
            robot.let_pass(0.1)
        assert tool()[1] - begin[1] < -0.04
        at[0] += 1.0
        robot.says.pose = pose_message(at)
        robot.let_pass(1.0)
        assert abs(tool()[0] - begin[0]) < 5e-3
    finally:
        robot.close()
