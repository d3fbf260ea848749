"""A person moves a pose: by a tracked hand with a clutch, and by a SpaceMouse."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
from conftest import VX300S
from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import JointState, Joy
from stage import CARTESIAN, POSE, TWIST, Stage, cartesian

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, parse_contract
from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode
from rewact_ros.control.path import CommandPath
from rewact_ros.control.space import Space
from rewact_ros.control.watch import Now
from rewact_ros.ros import interfaces as names

SPACE = Space([0])
HOME = np.array(POSE)
DEADMAN = {"topic": "joy", "button": 0}
HAND = {"topic": "hand/pose", "type": "geometry_msgs/msg/PoseStamped", "deadman": DEADMAN}
MOUSE = {"topic": "spacenav/twist", "type": "geometry_msgs/msg/TwistStamped", "deadman": DEADMAN}
PERIOD_S = 0.02


def led_by(source, part=CARTESIAN):
    return {**cartesian(part), "teleop": {"device": source}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deadman": None}, "deadman"),
        ({"joints": {"gripper": "x"}}, "device.joints: expected none beside geometry_msgs"),
        ({"align": "ramp"}, "align: expected offset, for geometry_msgs"),
        ({"scale": 2.0}, "scale: expected none beside geometry_msgs/msg/PoseStamped"),
        ({"part": "tool"}, r"part: expected a Cartesian part of action \(ee\), got tool"),
        ({"takeover_motion": 0.1}, "takeover_motion: expected none"),
    ],
)
def test_a_source_of_poses_that_makes_no_sense_is_refused_by_key(changes, words):
    source = copy.deepcopy({**HAND, **changes})
    with pytest.raises(ContractError, match=words):
        parse_contract(led_by({k: v for k, v in source.items() if v is not None}))


def test_a_device_of_poses_moves_no_joints():
    data = strict_yaml.load(VX300S)
    data["teleop"] = {"hand": HAND}
    with pytest.raises(ContractError, match="such a source moves a pose, not joints"):
        parse_contract(data)


class Person:
    """hil's command path with a device, on a clock of its own; the robot does what is sent.

    Attributes:
        device: what the device says now: a pose, or a twist.
        speaks: whether it says anything.
    """

    def __init__(self, source, device):
        self.contract = parse_contract(led_by(source))
        self.path = CommandPath(self.contract)
        self.input = self.path.human.inputs["device"]
        self.device, self.pressed, self.speaks = np.array(device, float), False, True
        self.measured, self.t_s, self.sent = np.array([*POSE, 1.0]), 0.0, []
        self.run(0.2)
        answer = self.path.arm(self.now)
        assert answer.ok, answer.reason

    @property
    def now(self):
        return Now(self.t_s, self.t_s, NANO + round(self.t_s * NANO))

    def run(self, seconds, moves=lambda person: None):
        for _ in range(round(seconds / PERIOD_S)):
            self.t_s += PERIOD_S
            moves(self)
            self.path.joints.take(self.measured, self.t_s)
            if self.speaks:
                self.input.on_deadman(self.pressed, self.t_s)
                self.say()
            command = self.path.step(self.now)
            if command is not None:
                self.measured = command
            self.sent.append(self.measured)
        return self

    def say(self):
        if self.input.source.type == MOUSE["type"]:
            self.input.on_twist(self.device, self.t_s)
        else:
            self.input.on_pose(self.device, self.t_s)

    def assert_smooth(self):
        """No step beyond speed and acceleration in all that was sent."""
        sent = np.stack(self.sent)[:, :6]
        steps = np.stack([SPACE.minus(b, a) for a, b in itertools.pairwise(sent)])
        velocity = steps / PERIOD_S
        change = np.diff(velocity, axis=0) / PERIOD_S
        for part, top, most in ((slice(0, 3), 0.25, 2.0), (slice(3, 6), 0.6, 5.0)):
            assert np.linalg.norm(velocity[:, part], axis=1).max() <= top * (1 + 1e-6)
            assert np.linalg.norm(change[:, part], axis=1).max() <= most * (1 + 1e-5)


def test_a_hand_moves_the_pose_from_wherever_both_are_and_the_clutch_lets_it_reach_further():
    person = Person(HAND, [5.0, -3.0, 1.0, 1.0, 0.5, 0.0])
    person.pressed = True
    person.run(1.0)
    assert person.path.mode is Mode.HUMAN and person.path.source == "device"
    np.testing.assert_allclose(person.measured[:6], HOME, atol=1e-9)  # nothing jumped
    way = np.array([0.002, 0.001, 0, 0, 0, 0.005])

    def moves(p):
        p.device = SPACE.plus(p.device, way)

    person.run(0.6, moves).run(1.0)
    reached = SPACE.plus(HOME, 30 * way)
    np.testing.assert_allclose(SPACE.minus(person.measured[:6], reached), 0, atol=1e-3)
    person.pressed = False  # the clutch: the hand goes back, the robot stays
    person.run(0.5)
    assert person.path.mode is Mode.HOLD
    held = person.measured.copy()
    person.path.resume()

    def back(p):
        p.device = SPACE.plus(p.device, -way)

    person.run(0.6, back)
    np.testing.assert_allclose(person.measured, held, atol=1e-9)
    person.pressed = True
    person.run(0.5).run(0.6, moves).run(1.0)
    further = SPACE.plus(reached, 30 * way)
    np.testing.assert_allclose(SPACE.minus(person.measured[:6], further), 0, atol=2e-3)
    person.assert_smooth()


def test_a_hand_that_jumps_is_a_lost_device():
    person = Person(HAND, POSE)
    person.pressed = True
    person.run(1.0)
    person.device = SPACE.plus(person.device, np.array([0.5, 0, 0, 0, 0, 0]))
    person.run(0.1)
    assert person.path.mode is Mode.HOLD and "ee.x stepped" in person.path.modes.reason
    person.assert_smooth()


def test_a_push_moves_the_pose_at_its_speed_and_letting_go_stops_it():
    person = Person(MOUSE, np.zeros(6))
    person.pressed = True
    person.run(1.0)
    before = person.measured.copy()
    person.device = np.array([0.1, 0, 0, 0, 0, 0.2])
    person.run(1.0)
    moved = SPACE.minus(person.measured[:6], before[:6])
    np.testing.assert_allclose(moved, [0.1, 0, 0, 0, 0, 0.2], atol=0.01)
    person.device = np.zeros(6)
    person.run(0.5)
    still = person.measured.copy()
    person.run(0.5)
    np.testing.assert_allclose(person.measured, still, atol=1e-6)
    assert person.path.mode is Mode.HUMAN
    person.assert_smooth()


def test_a_push_against_a_wall_leaves_nothing_to_make_up():
    person = Person(MOUSE, np.zeros(6))
    person.pressed = True
    person.run(1.0)
    person.device = np.array([5.0, 0, 0, 0, 0, 0])
    person.run(4.0)
    assert person.measured[0] == pytest.approx(0.7, abs=1e-3)
    person.device = np.array([-0.1, 0, 0, 0, 0, 0])
    person.run(0.6)
    assert person.measured[0] < 0.67
    person.assert_smooth()


def test_a_device_that_is_pushed_when_the_deadman_goes_down_moves_nothing_until_it_rests():
    person = Person(MOUSE, [0.1, 0, 0, 0, 0, 0])
    person.pressed = True
    person.run(1.0)
    np.testing.assert_allclose(person.measured[:6], HOME, atol=1e-9)
    person.device = np.zeros(6)
    person.run(0.1)
    person.device = np.array([0.1, 0, 0, 0, 0, 0])
    person.run(0.5)
    assert person.measured[0] > HOME[0] + 0.03


@pytest.mark.parametrize("source", [HAND, MOUSE])
def test_a_device_that_falls_silent_stops_the_arm(source):
    person = Person(source, POSE if source is HAND else np.zeros(6))
    person.pressed = True
    person.run(1.0)
    person.speaks = False
    person.run(0.5)
    assert person.path.mode is Mode.HOLD and "teleop device" in person.path.modes.reason


def test_a_spacemouse_leads_a_robot_by_its_topics(graph, tmp_path):
    stage = Stage(led_by({**MOUSE, "max_age_s": 1.0}, TWIST), tmp_path)
    mouse = stage.node.create_publisher(TwistStamped, "spacenav/twist", names.SENSOR_OUT)
    joy = stage.node.create_publisher(Joy, "joy", names.SENSOR_OUT)
    push, pressed = TwistStamped(), [0]

    def say():
        mouse.publish(push)
        joy.publish(Joy(buttons=pressed))

    stage.every(0.04, say)
    try:
        stage.leased = False
        path = stage.arm()
        stage.press(partial(pressed.__setitem__, 0))
        stage.wait(lambda: bool(stage.sent[0]), "a pose")
        push.twist.linear.y = 0.1
        stage.wait(lambda: stage.sent[0][-1][1] > 0.05, "motion")
        push.twist.linear.y = 0.0
        stage.wait(lambda: not path.gate.moving, "rest")
        pressed[0] = 0
        stage.wait(lambda: path.mode is Mode.HOLD, "hold")
    finally:
        stage.close()


def test_an_actuated_leader_is_told_where_the_robot_is_until_it_leads(graph, tmp_path):
    data = strict_yaml.load(VX300S)
    leader = data["teleop"]["leader"]
    leader.update(feedback_topic="leader/goal", max_age_s=1.0)
    leader["deadman"]["max_age_s"] = 1.0
    data["teleop"] = {"leader": leader}
    stage = Stage(data, tmp_path)
    told = []
    stage.node.create_subscription(JointState, "leader/goal", told.append, 10)
    says = stage.node.create_publisher(JointState, leader["topic"], names.SENSOR_OUT)
    joy = stage.node.create_publisher(Joy, "leader/joy", names.SENSOR_OUT)
    pressed = [0]

    def follow():
        if told:
            says.publish(JointState(name=told[-1].name, position=told[-1].position))
        joy.publish(Joy(buttons=pressed))

    stage.every(0.04, follow)
    try:
        stage.leased = False
        stage.wait(lambda: bool(told), "the robot's joints")
        source = stage.contract.teleop_source("leader")
        assert tuple(told[-1].name) == source.source_joints
        back = np.array(told[-1].position) * np.array(source.scale) + np.array(source.offset)
        np.testing.assert_allclose(back, stage.measured, atol=1e-9)
        stage.arm()
        stage.press(partial(pressed.__setitem__, 0))
        stage.wait(lambda: len(stage.sent[0]) > 5, "commands")
        count, sent = len(told), len(stage.sent[0])
        stage.wait(lambda: len(stage.sent[0]) > sent + 20, "commands")
        assert len(told) <= count + 1
    finally:
        stage.close()
