"""The command path with a velocity interface, and with every answer to a violation."""

from dataclasses import replace

import numpy as np
import pytest
from test_control import HOME, Robot
from test_takeover import LEADER, Cell

from rewact_ros.contract.schema import OnViolation
from rewact_ros.control.modes import Mode


def with_action(contract, **changes):
    return replace(contract, action=tuple(replace(part, **changes) for part in contract.action))


class VelocityCell(Cell):
    """Joints that follow velocity commands; chunks carry velocities."""

    def run(self, ms):
        for _ in range(ms // 10):
            before = len(self.sent)
            at = self.measured.copy()
            super().run(10)
            command = self.sent[before]
            self.measured = at if command is None else at + 0.01 * command
        return self

    def chunk(self):
        return replace(super().chunk(), positions=np.tile(self.offset, (20, 1)))


@pytest.fixture
def velocity(vx300s):
    return VelocityCell(with_action(vx300s, command="velocity", controller_timeout_s=0.1))


def test_velocity_commands_follow_the_policy_and_every_stop_brakes_to_zero_and_stays(velocity):
    velocity.moving_under_policy().run(500)
    limits = velocity.path.contract.limits
    assert velocity.sent[-1][0] == pytest.approx(0.2, abs=1e-6)
    velocity.beat = False
    velocity.run(1000)
    assert velocity.path.mode is Mode.HOLD and velocity.path.modes.resume_required
    np.testing.assert_array_equal(velocity.sent[-1], np.zeros(7))
    change = np.abs(np.diff(velocity.wire, axis=0))
    assert (change <= limits.acceleration * 0.01 + 1e-9).all()


def test_a_reset_by_velocity_brings_the_measured_joints_to_the_pose(velocity):
    velocity.measured = HOME + np.array([0.4, 0.2, -0.2, 0, 0, 0, -0.5])
    velocity.run(100)
    assert velocity.path.arm(velocity.now).ok
    velocity.lease = Mode.RESET
    velocity.run(6000)
    assert velocity.path.mode is Mode.HOLD and velocity.path.modes.reason == "reset pose reached"
    goal = np.array(velocity.path.contract.reset.pose)
    np.testing.assert_allclose(velocity.measured, goal, atol=0.03)


def test_position_targets_lead_a_velocity_interface_by_the_speed_that_follows_them(velocity):
    velocity.run(100)
    velocity.path.arm(velocity.now)
    velocity.pressed = True
    velocity.run(1000)
    assert velocity.path.mode is Mode.HUMAN and velocity.path.source == LEADER
    np.testing.assert_allclose(velocity.measured, HOME, atol=1e-6)  # nothing moved by itself
    begin = velocity.leader.copy()
    for k in range(1, 101):
        velocity.leader = begin + 0.3 * np.array([1, 0, 0, 0, 0, 0, 0]) * k / 100
        velocity.run(10)
    velocity.run(1500)
    assert velocity.measured[0] - HOME[0] == pytest.approx(0.3, abs=5e-3)
    assert np.abs(velocity.wire[-1]).max() < 0.01  # 1.5 rad never become 1.5 rad/s
    velocity.pressed = False
    velocity.run(500)
    assert velocity.path.mode is Mode.HOLD and not np.abs(velocity.wire[-1]).any()
    limits = velocity.path.contract.limits
    change = np.abs(np.diff(velocity.wire, axis=0))
    assert (change <= limits.acceleration * 0.01 + 1e-9).all()
    assert (np.abs(velocity.wire) <= limits.velocity).all()


@pytest.mark.parametrize(
    ("answer", "mode"), [("clip", Mode.POLICY), ("hold", Mode.HOLD), ("fault", Mode.FAULT)]
)
def test_a_violation_is_counted_named_and_answered_as_the_contract_says(vx300s, answer, mode):
    robot = Robot(with_action(vx300s, on_violation=OnViolation(velocity=answer)))
    robot.moving_under_policy()
    robot.path.gate._limits = replace(robot.path.gate._limits, velocity=np.full(7, 0.05))
    robot.offset = np.array([-0.2, 0, 0, 0, 0, 0, 0])
    robot.run(600)
    assert robot.path.mode is mode
    assert robot.path.violations["velocity"] > 0
    assert robot.path.violation.startswith("policy: waist: velocity")
    if answer != "clip":
        assert "waist: velocity" in robot.path.modes.reason
