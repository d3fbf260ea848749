"""Grippers on an interface of their own: one joint, goals of an action, open and closed."""

import math
import time

import pytest
from generated_interfaces import generate
from rclpy.action import ActionServer, GoalResponse
from stage import Stage, with_gripper

from rewact_ros.contract import ContractError, parse_contract
from rewact_ros.contract.schema import Binary
from rewact_ros.control.binary import BinarySwitch
from rewact_ros.control.modes import Mode
from rewact_ros.ros import goals
from rewact_ros.ros.goals import GoalSender

FLOAT64 = "std_msgs/msg/Float64"
GRIPPER = "control_msgs/action/GripperCommand"
PARALLEL = "control_msgs/action/ParallelGripperCommand"
TWO_WAYS = {"open": 1.0, "closed": 0.0}


# The switch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("open_", "closed"), [(1.0, 0.0), (0.0, 0.8)])
def test_a_switch_does_not_chatter_around_its_threshold(open_, closed):
    way = open_ - closed
    switch = BinarySwitch(Binary(open_, closed, closed + way / 2, 0.2 * abs(way), 0.3))
    states = [
        switch.step(closed + way * (0.5 + 0.09 * math.sin(17 * k)), 0.05 * k) for k in range(400)
    ]
    assert len(set(states[1:])) == 1
    assert switch.step(closed + 0.39 * way, 30.0) == closed
    assert switch.step(closed + 0.61 * way, 30.2) == closed  # too soon
    assert switch.step(closed + 0.61 * way, 30.31) == open_


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": FLOAT64, "joints": ["gripper", "waist"]}, "expected one joint, for std_msgs"),
        ({"binary": {"open": 0.5, "closed": 0.5}}, "binary.closed: expected another than open"),
        ({"binary": {"open": 2.0, "closed": 0.0}}, r"open: expected within position, \[0, 1\]"),
        (
            {"binary": {**TWO_WAYS, "threshold": 0.02}},
            r"hysteresis: expected threshold ± half of it within \[0, 1\], got 0.02 ± 0.05",
        ),
        ({"binary": {**TWO_WAYS, "opened": 1}}, "binary.opened: unknown key.*'open'"),
        (
            {"type": GRIPPER, "command": "velocity", "controller_timeout_s": 1},
            "position, for goals",
        ),
        ({"command_rate_hz": 30}, r"whole fraction .* 100, got 30; the nearest are 33.3333 or 25"),
        ({"command_rate_hz": 10}, r"at least rate_hz \(20.0\), got 10"),
        ({"type": "control_msgs/action/Gripper"}, "did you mean 'control_msgs/action/Gripper"),
    ],
)
def test_a_gripper_that_makes_no_sense_is_refused_by_key(changes, words):
    with pytest.raises(ContractError, match=words):
        parse_contract(with_gripper(**changes))


def test_a_gripper_whose_package_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(goals, "control_actions", None)
    contract = parse_contract(with_gripper(type=GRIPPER, command_rate_hz=5))
    with pytest.raises(ContractError, match="GripperCommand of 'gripper' is not installed"):
        GoalSender(None, contract.action[1], print)


# On a graph ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def actions(graph):
    """The package's actions, as a ROS installation has them."""
    generate("control_msgs", ("action_msgs", "sensor_msgs"))
    from control_msgs import action

    goals.control_actions = action
    yield action
    goals.control_actions = None


class Gripper:
    """An action server that accepts what it is told to, and keeps what it was asked."""

    def __init__(self, actions, type_):
        self.kind = getattr(actions, type_.rpartition("/")[2])
        self.asked, self.accepts = [], True

    def __call__(self, node):
        self.server = ActionServer(
            node, self.kind, "gripper", self._execute, goal_callback=self._ask
        )

    def close(self):
        self.server.destroy()

    def _ask(self, goal):
        position = goal.command.position
        self.asked.append(position if isinstance(position, float) else position[0])
        return GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT

    def _execute(self, handle):
        handle.abort()  # as a gripper does that holds something
        return self.kind.Result()


def test_one_joint_a_message_goes_out_at_a_rate_of_its_own(graph, tmp_path):
    stage = Stage(with_gripper(type=FLOAT64, command_rate_hz=25), tmp_path)
    try:
        stage.lead()
        stage.goal[:] = [*stage.goal[:6], 0.25]
        stage.wait(lambda: stage.reached(1, [0.25]), "gripper")
        arm, gripper = len(stage.sent[0]), len(stage.sent[1])
        stage.wait(lambda: len(stage.sent[1]) >= gripper + 20, "messages")
        assert 3.5 <= (len(stage.sent[0]) - arm) / 20 <= 4.5
        assert stage.hil.path.rogue == ""  # our own messages are counted as ours
    finally:
        stage.close()


@pytest.mark.parametrize("type_", [GRIPPER, PARALLEL])
def test_a_binary_gripper_gets_each_change_once_and_a_refusal_stops_the_arm(
    actions, tmp_path, type_
):
    server = Gripper(actions, type_)
    way = {**TWO_WAYS, "min_interval_s": 0.05}
    data = with_gripper(type=type_, command_rate_hz=20, binary=way)
    stage = Stage(data, tmp_path, server)
    try:
        path = stage.lead()
        stage.wait(lambda: server.asked == [1.0], "the first goal")
        for wanted in (0.0, 1.0) * 5:
            count = len(server.asked)
            stage.goal[6] = 0.5 + 0.3 * (1 if wanted else -1)
            stage.wait(lambda count=count: len(server.asked) > count, "goal")
            assert server.asked[-1] == wanted
        assert server.asked == [1.0, *(0.0, 1.0) * 5]
        stage.wait(lambda: stage.reached(1, [1.0]), "what is in force")
        server.accepts = False
        stage.goal[6] = 0.0
        stage.wait(lambda: path.mode is Mode.HOLD, "hold")
        assert path.modes.reason == "gripper: goal 0 was rejected by its action server"
        assert path.modes.resume_required
        held = len(server.asked)
        end_s = time.monotonic() + 0.5
        stage.wait(lambda: time.monotonic() > end_s, "half a second")
        assert len(server.asked) == held  # while nobody leads, no goal is sent
    finally:
        server.close()
        stage.close()


def test_a_gripper_whose_server_is_absent_refuses_to_arm_and_stops_what_moves(actions, tmp_path):
    server = Gripper(actions, GRIPPER)
    stage = Stage(with_gripper(type=GRIPPER, command_rate_hz=10), tmp_path, server)
    try:
        path = stage.lead()
        stage.wait(lambda: bool(server.asked), "a goal")
        server.close()
        stage.wait(lambda: path.mode is Mode.HOLD, "hold")
        words = "no action server gripper (control_msgs/action/GripperCommand)"
        assert words in path.modes.reason
        stage.refused(words)
    finally:
        stage.close()
