"""Robots that take poses or twists: from the contract file to messages on a real graph."""

import copy
import math

import numpy as np
import pytest
from conftest import VX300S
from geometry_msgs.msg import PoseStamped, TwistStamped
from stage import OBSERVED, POSE, TWIST, Stage, cartesian

from rewact_ros.contract import ContractError, load_contract, parse_contract
from rewact_ros.control.chunks import ChunkError
from rewact_ros.control.limits import make_gate, start_jump
from rewact_ros.control.modes import Mode
from rewact_ros.control.path import CommandPath
from rewact_ros.control.space import Space
from rewact_ros.msg import ModeRequest
from rewact_ros.ros.chunk_messages import ChunkWriter
from rewact_ros.ros.chunk_reader import read_chunk
from rewact_ros.ros.commands import command_decoder, command_encoder
from rewact_ros.ros.convert import to_stamp

SPACE = Space([0])
UNSTOPPED = {key: value for key, value in TWIST.items() if key != "controller_timeout_s"}


# The contract --------------------------------------------------------------------------------


def test_a_pose_is_six_values_by_name_with_the_limits_of_its_part():
    contract = parse_contract(cartesian())
    assert contract.action_names == ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "gripper")
    assert contract.action_units == ("m",) * 3 + ("rad",) * 3 + ("normalized",)
    assert contract.poses == (0,) and contract.joint_columns.tolist() == [6]
    limits = contract.limits
    np.testing.assert_array_equal(limits.high[:3], [0.7, 0.4, 0.6])
    np.testing.assert_array_equal(limits.velocity[:6], [0.25] * 3 + [0.6] * 3)
    np.testing.assert_array_equal(limits.start_jump[:6], [0.03] * 3 + [0.2] * 3)
    assert contract.action_in_state.tolist() == list(range(7))


def test_a_twist_holds_poses_too_so_that_data_and_policies_fit_both():
    pose, twist = parse_contract(cartesian()), parse_contract(cartesian(TWIST))
    assert pose.hash == twist.hash
    part = twist.action[0]
    assert (part.topic, part.type) == ("servo/twist/commanded", OBSERVED["type"])
    assert (part.drive.topic, part.drive.type) == ("servo/twist", TWIST["type"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["action"][0].update(command="twist"), "command: expected pose, for geometry"),
        (lambda d: d["action"][0].update(name="tool"), "tool is commanded but its pose is not in "),
        (lambda d: d["action"][0].pop("workspace"), r"action\[0\].workspace: missing"),
        (lambda d: d["action"][0]["workspace"].pop("y"), r"action\[0\].workspace.y: missing"),
        (lambda d: d["action"][0]["linear"].update(velocity=0), "expected a number above 0"),
        (lambda d: d["action"][0].update(joints=["ee"]), "joints: unknown key"),
        (lambda d: d["action"].__setitem__(0, UNSTOPPED), "controller_timeout_s: missing"),
        (lambda d: d["reset"]["pose"].__setitem__(0, 0.1),
         r"reset.pose: ee.x: expected within \[0.2, 0.7\], got 0.1"),
        (lambda d: d["observation.state"].pop(0), "ee is commanded but its pose is not in"),
        (lambda d: d["action"][1].update(command="velocity", controller_timeout_s=1,
                                         command_rate_hz=50),
         "'gripper' is commanded by velocity beside a Cartesian part"),
    ],
)  # fmt: skip
def test_a_cartesian_part_that_makes_no_sense_is_refused_by_key(change, words):
    data = copy.deepcopy(cartesian())
    change(data)
    with pytest.raises(ContractError, match=words):
        contract = parse_contract(data)
        CommandPath(contract)


def test_contracts_of_joints_alone_stay_what_they_were():
    """Their hashes are in data sets and checkpoints."""
    contract = load_contract(VX300S)
    assert contract.hash == "5d24ff427013374d29410ff08c694a90712415be162d863b27fe36dc3b57710d"
    assert contract.poses == () and contract.joint_columns.tolist() == list(range(7))
    make_gate(contract)
    with pytest.raises(ContractError, match="Cartesian"):
        make_gate(parse_contract(cartesian()))


# Messages ------------------------------------------------------------------------------------


def test_a_pose_survives_its_command_message():
    part = parse_contract(cartesian()).action[0]
    values = np.array([0.3, -0.1, 0.2, 1.0, -2.0, 0.5])
    message = command_encoder(part)(values, to_stamp(7))
    assert type(message) is PoseStamped and message.header.frame_id == "base_link"
    np.testing.assert_allclose(command_decoder(part)(message), values, atol=1e-12)


def sound_chunk(contract, steps=5):
    rows = np.tile([*POSE, 1.0], (steps, 1))
    rows[:, 0] += 0.01 * np.arange(steps)
    return ChunkWriter(contract).write(rows, to_stamp(10**9)), rows


def test_a_chunk_of_poses_and_joints_survives_its_message():
    contract = parse_contract(cartesian())
    message, rows = sound_chunk(contract)
    assert message.trajectory.joint_names == ["gripper"] and message.poses.joint_names == ["ee"]
    np.testing.assert_allclose(read_chunk(message, contract).positions, rows, atol=1e-12)


def spoil_quaternion(m):
    m.poses.points[2].transforms[0].rotation.w = 0.5


def spoil_length(m):
    m.poses.points[2].transforms = []


def spoil_time(m):
    m.poses.points[2].time_from_start.nanosec += 50_000_000


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_quaternion, r"step 2 of the chunk: ee: the quaternion .* has the norm"),
        (spoil_length, "step 2 of the chunk has 0 poses, expected 1"),
        (spoil_time, "step 2 of the chunk has time_from_start 0.1500 s, expected 0.1000"),
        (lambda m: m.poses.joint_names.append("tool"), r"poses of ee \(2\), expected ee"),
        (lambda m: m.poses.points.pop(), "5 steps of joints and 4|4 steps|5 steps"),
        (lambda m: m.poses.points.clear(), "chunk has 0 steps, expected 1 to"),
        (lambda m: m.trajectory.points.clear(), "chunk has 0 steps, expected 1 to"),
    ],
)
def test_a_chunk_that_is_no_chunk_of_poses_is_refused_by_name(spoil, words):
    contract = parse_contract(cartesian())
    message, _ = sound_chunk(contract)
    spoil(message)
    with pytest.raises(ChunkError, match=words):
        read_chunk(message, contract)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_position_that_is_no_number_never_enters_the_queue(value):
    contract = parse_contract(cartesian())
    message, _ = sound_chunk(contract)
    message.poses.points[1].transforms[0].translation.y = value
    path = CommandPath(contract)
    queue = path.policy.queue
    queue.start_epoch(0, 0)
    with pytest.raises(ChunkError, match="not finite"):
        queue.add(read_chunk(message, contract), 10**9)


def test_a_first_pose_far_from_the_measured_one_names_the_part_and_the_distance():
    contract = parse_contract(cartesian())
    here = np.array([*POSE, 1.0])
    far = here + np.array([0.03, 0.03, 0, 0, 0, 0, 0])
    assert start_jump(far, here, contract).startswith("ee commanded to 0.042 m from where it is")
    turned = Space(contract.poses).plus(here, np.array([0, 0, 0, 0, 0.3, 0, 0]))
    assert "ee commanded to 0.300 rad" in start_jump(turned, here, contract)
    assert not start_jump(here, here, contract)


# On a graph ----------------------------------------------------------------------------------


@pytest.fixture
def stage(graph, tmp_path):
    stages = []

    def make(data):
        stages.append(Stage(data, tmp_path))
        return stages[-1]

    yield make
    for each in stages:
        each.close()


def test_a_policy_leads_a_robot_by_poses_within_its_workspace_and_a_stop_holds_the_pose(stage):
    robot = stage(cartesian())
    path = robot.lead()
    wanted = SPACE.plus(np.array(POSE), np.array([0.05, 0.1, 0, 0, 0.2, 0]))
    robot.goal[:6] = wanted
    robot.wait(lambda: robot.reached(0, wanted, 1e-4), "the pose")
    robot.goal[0] = 0.9  # beyond the workspace
    robot.wait(lambda: abs(robot.sent[0][-1][0] - 0.7) < 1e-4, "the wall")
    assert path.violations["position"] > 0 and path.mode is Mode.POLICY
    sent = np.stack(robot.sent[0])
    assert sent[:, 0].max() <= 0.7
    step = np.linalg.norm(np.diff(sent[:, :3], axis=0), axis=1)
    assert step.max() <= 0.25 * 0.02 * 1.001
    robot.goal[1] = -0.3
    robot.wait(lambda: robot.sent[0][-1][1] < 0.08, "motion")
    robot.leased = False
    robot.wait(lambda: path.mode is Mode.HOLD and not path.gate.moving, "hold")
    held = path.sent.copy()
    count = len(robot.sent[0])
    robot.wait(lambda: len(robot.sent[0]) > count + 20, "commands")
    np.testing.assert_allclose(robot.sent[0][-1], held[:6], atol=1e-9)


def test_a_pose_far_from_the_measured_one_stops_the_start(stage):
    robot = stage(cartesian())
    robot.goal[0] += 0.1
    path = robot.arm()
    robot.wait(lambda: "first command refused" in path.modes.reason, "refusal")
    assert "ee commanded to 0.100 m from where it is measured" in path.modes.reason


def test_a_reset_brings_the_pose_back(stage):
    robot = stage(cartesian())
    robot.mode = ModeRequest.RESET
    robot.measured[:6] = SPACE.plus(np.array(POSE), np.array([0.1, 0.1, 0.1, 0, 0, 0.5]))
    path = robot.arm()
    robot.wait(lambda: path.modes.reason == "reset pose reached", "reset")
    np.testing.assert_allclose(SPACE.minus(robot.sent[0][-1], np.array(POSE)), 0, atol=1e-3)


def test_silence_of_the_observed_pose_stops_the_arm_by_its_topic(stage):
    robot = stage(cartesian())
    path = robot.lead()
    robot.node.destroy_publisher(robot._states[0])
    robot._states[0] = robot.node.create_publisher(PoseStamped, "elsewhere", 5)
    robot.wait(lambda: path.mode is Mode.HOLD, "hold")
    assert "old" in path.modes.reason


def test_poses_in_another_frame_refuse_to_arm(stage):
    robot = stage(cartesian(frame_id="world"))
    robot.frame = "tool0"
    robot.refused("tcp_pose", "frame 'tool0'", "expected 'world'")


class TwistArm:
    """Moves the measured pose as the twists say."""

    def __init__(self, robot):
        self.robot, self.twists = robot, []
        robot.stuck = True
        robot.node.create_subscription(TwistStamped, "servo/twist", self._on_twist, 10)

    def _on_twist(self, msg):
        a, b = msg.twist.linear, msg.twist.angular
        twist = np.array([a.x, a.y, a.z, b.x, b.y, b.z])
        self.twists.append(twist)
        measured = self.robot.measured
        measured[:6] = SPACE.plus(measured[:6], twist * 0.02)


def test_a_policy_of_poses_leads_a_robot_by_twists_and_a_stop_is_zeros_until_silence(stage):
    robot = stage(cartesian(TWIST))
    arm = TwistArm(robot)
    path = robot.lead()
    wanted = SPACE.plus(np.array(POSE), np.array([0.05, 0.1, 0, 0, 0.2, 0]))
    robot.goal[:6] = wanted
    robot.wait(lambda: np.abs(SPACE.minus(robot.measured[:6], wanted)).max() < 0.01, "the pose")
    robot.wait(lambda: robot.reached(0, wanted), "the pose as it is recorded")
    assert np.linalg.norm(np.stack(arm.twists)[:, :3], axis=1).max() <= 0.25 + 1e-9
    robot.goal[1] = -0.2
    robot.wait(lambda: np.abs(arm.twists[-1]).max() > 0.05, "motion")
    robot.leased = False
    robot.wait(lambda: path.mode is Mode.HOLD, "hold")
    robot.wait(lambda: not np.abs(np.stack(arm.twists[-10:])).any(), "zeros")
    robot.call("hil/disarm")
    count = len(arm.twists)
    robot.wait(lambda: path.mode is Mode.DISARMED, "disarmed")
    assert len(arm.twists) <= count + 3
    assert path.rogue == ""
