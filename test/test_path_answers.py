"""What the command path answers and counts, and how the arm changes hands."""

import time
from dataclasses import replace

import numpy as np
import pytest
from test_control import HOME, MS, Robot
from test_takeover import Cell, release_to, with_source

from rewact_ros.control.modes import Mode
from rewact_ros.control.path import CommandPath, PathSettings
from rewact_ros.ros.params import HilParams

SETTINGS = (
    "combine",
    "ensemble_coefficient",
    "interpolation",
    "crossfade_s",
    "lease_timeout_s",
    "policy_required",
)


@pytest.fixture
def robot(vx300s):
    return Robot(vx300s)


def person(contract, where="hold"):
    cell = Cell(release_to(contract, where)).moving_under_policy()
    cell.pressed = True
    cell.run(200)
    assert cell.path.mode is Mode.HUMAN
    return cell


def test_settings_are_those_of_the_node():
    node, path = HilParams(), PathSettings()
    assert all(getattr(node, name) == getattr(path, name) for name in SETTINGS)


def test_a_new_path_has_seen_nothing_and_an_epoch_of_its_own(vx300s):
    path = CommandPath(vx300s)
    assert (path.violation, path.rogue, path.source) == ("", "", "none")
    assert path.commands == path.clipped == path.rejected == 0
    assert isinstance(path.epoch, int) and abs(path.epoch - time.time_ns() // 1000) < 60_000_000


# Answers ----------------------------------------------------------------------------------------


def test_arming_says_why_not_and_arming_twice_is_the_same(robot):
    robot.run(100)
    assert robot.path.arm(robot.now).ok
    again = robot.path.arm(robot.now)
    assert again.ok and again.reason == "already HOLD"
    robot.path.on_publishers("/rogue")
    refused = robot.path.arm(robot.now)
    assert not refused.ok and refused.reason == "already FAULT"
    assert robot.path.clear_fault().ok
    refused = robot.path.arm(robot.now)
    assert not refused.ok and refused.reason.startswith("/rogue also publishes")
    robot.path.on_publishers("")
    robot.path.twin = "another hil is there: /hil"
    refused = robot.path.arm(robot.now)
    assert not refused.ok and refused.reason == "another hil is there: /hil; stop it first"
    robot.path.twin = ""
    assert robot.path.arm(robot.now).reason == "armed"


def test_where_a_policy_is_configured_arming_waits_until_it_is_ready(vx300s):
    robot = Robot(vx300s)
    robot.path = CommandPath(vx300s, PathSettings(policy_required=True))
    robot.beat = False
    robot.run(100)
    refused = robot.path.arm(robot.now)
    assert not refused.ok and refused.mode is Mode.DISARMED
    assert refused.reason == (
        "waiting for the policy to be ready: policy: no heartbeat received yet on "
        "rewact/policy_status"
    )
    robot.beat, robot.policy_fault = True, "observation.images.front: no new image for 1.20 s"
    robot.run(100)
    assert "observation.images.front: no new image" in robot.path.arm(robot.now).reason
    robot.policy_fault = ""
    robot.run(100)
    assert robot.path.arm(robot.now).ok
    robot.beat = False  # armed already: the watchdog has it from here
    robot.run(1000)
    assert robot.path.arm(robot.now).reason == "already HOLD"


def test_where_no_policy_is_configured_arming_needs_none(robot):
    robot.beat = False
    robot.run(100)
    assert robot.path.arm(robot.now).ok


def test_a_pose_outside_the_limits_is_refused_by_joint_value_and_limit(robot, vx300s):
    robot.measured[2] = vx300s.limits.high[2] + vx300s.limits.start_jump[2] + 0.01
    robot.run(100)
    refused = robot.path.arm(robot.now)
    assert not refused.ok
    low, high = vx300s.limits.low[2], vx300s.limits.high[2]
    for words in (
        f"{vx300s.action_names[2]} is at {robot.measured[2]:.3f}",
        f"outside the contract's position limits [{low:g}, {high:g}]",
    ):
        assert words in refused.reason


def test_while_it_brakes_a_disarmed_arm_cannot_be_armed(robot):
    robot.moving_under_policy()
    answer = robot.path.disarm()
    assert answer.ok and answer.mode is Mode.DISARMED
    refused = robot.path.arm(robot.now)
    assert not refused.ok and "still braking" in refused.reason
    robot.run(500)
    with pytest.raises(RuntimeError, match="no start position"):
        _ = robot.path.sent  # nothing is kept of the stream before
    assert robot.path.arm(robot.now).ok


def test_in_fault_neither_disarming_nor_clearing_twice_is_mistaken(robot):
    robot.run(100)
    robot.path.arm(robot.now)
    robot.path.fail("an error of our own")
    assert robot.path.mode is Mode.FAULT and robot.path.modes.reason == "an error of our own"
    assert robot.path.modes.remedy == "report it, then call ~/clear_fault"
    assert not robot.path.disarm().ok and robot.path.mode is Mode.FAULT
    assert robot.path.clear_fault().ok and robot.path.mode is Mode.DISARMED
    assert robot.path.clear_fault().ok


def test_a_fault_that_goes_on_gets_the_better_reason_and_another_kind_does_not(robot):
    robot.run(100)
    robot.path.arm(robot.now)
    robot.path.on_publishers("/_NODE_NAME_UNKNOWN_")
    robot.path.on_publishers("/rogue")
    assert robot.path.modes.reason == "/rogue also publishes robot commands"
    robot.path.fail("an error of our own")
    assert robot.path.modes.reason == "/rogue also publishes robot commands"
    robot.path.clear_fault()
    robot.path.on_publishers("/other")  # disarmed: nothing to stop, and no fault
    assert robot.path.mode is Mode.DISARMED and robot.path.modes.reason == "fault cleared"


def test_a_stopped_arm_that_is_armed_again_says_that_it_is_still_stopped(robot):
    robot.moving_under_policy()
    robot.path.stop("for a reason")
    robot.run(300)
    robot.path.disarm()
    robot.run(100)
    assert robot.path.arm(robot.now).reason == "armed, still stopped"
    assert "~/resume" in robot.path.modes.remedy


def test_a_release_is_answered_with_yes_and_where_it_leads(vx300s):
    for where, mode in (("hold", Mode.HOLD), ("policy", Mode.HOLD)):
        cell = person(vx300s, where)
        answer = cell.path.release(cell.now)
        assert answer.ok and answer.mode is mode
        assert ("policy" in answer.reason) is (where == "policy")


@pytest.mark.parametrize("ends", ["stop", "fault", "disarm"])
def test_however_a_persons_turn_ends_nobody_leads_and_a_button_that_is_down_asks_for_nothing(
    vx300s, ends
):
    cell = person(vx300s)
    if ends == "stop":
        cell.path.stop("for a reason")
    elif ends == "fault":
        cell.path.fail("an error of our own")
    else:
        cell.path.disarm()
    assert cell.path.human.active is None and cell.path.source == "none"
    assert cell.device.pressed and not cell.device.held


def test_a_stop_where_nothing_moves_takes_no_press_away(vx300s):
    cell = Cell(vx300s)
    cell.run(100)
    cell.path.arm(cell.now)
    cell.run(100)
    cell.device.on_deadman(True, cell.now.age_s)
    cell.path.stop("without effect")
    assert cell.device.held


def test_a_leader_that_was_moved_before_arming_does_not_take_over(vx300s):
    cell = Cell(with_source(vx300s, takeover_motion=0.15, deadman=None))
    cell.run(500)
    cell.leader[0] += 0.2
    cell.run(100)
    assert cell.path.arm(cell.now).ok
    cell.run(300)
    assert cell.path.mode is Mode.HOLD


# What leads next --------------------------------------------------------------------------------


def test_waiting_says_for_what_and_has_no_remedy_but_a_confirmation(vx300s):
    robot = Robot(replace(vx300s, reset=replace(vx300s.reset, confirm=True)))
    robot.run(100)
    robot.path.arm(robot.now)
    robot.lease = Mode.RESET
    robot.run(200)
    assert robot.path.modes.reason == "waiting to reset: a reset motion needs a confirmation"
    robot.path.confirm_reset()
    robot.path.joints.take(HOME + 0.5, robot.now.age_s)
    robot.joints = False
    robot.run(10)
    assert robot.path.modes.reason.startswith("waiting to reset: waist commanded to")
    assert robot.path.modes.remedy == ""
    robot.lease, robot.request = Mode.POLICY, 2
    robot.path.on_request(Mode.POLICY, "supervisor", 2, robot.now)
    robot.path.modes.remedy = "an old one"
    robot.run(10)
    assert robot.path.modes.reason.startswith("waiting to start: waist commanded to")
    assert robot.path.modes.remedy == ""


def test_the_supervisor_may_ask_for_another_motion_at_once(robot):
    robot.moving_under_policy()
    robot.lease, robot.request = Mode.RESET, 2
    robot.path.on_request(Mode.RESET, "supervisor", 2, robot.now)
    robot.run(10)
    assert robot.path.mode is Mode.HOLD
    assert robot.path.modes.reason == "the supervisor asked for another motion"
    robot.run(300)
    assert robot.path.mode is Mode.RESET and robot.path.source == "reset"


def test_a_policy_that_starts_again_is_met_anew(robot):
    robot.moving_under_policy()
    robot.run(1000)
    robot.lease = Mode.HOLD
    robot.run(500)
    assert robot.path.mode is Mode.HOLD and not robot.path.modes.resume_required
    robot.lease, robot.offset = Mode.POLICY, np.array([0, 0.6, 0, 0, 0, 0, 0])
    robot.run(400)
    assert robot.path.mode is Mode.HOLD
    assert "first command refused: shoulder" in robot.path.modes.reason


class Rising(Cell):
    """A policy that turns the waist at 1.2 rad/s: no step of velocity is within the limits."""

    def chunk(self):
        stamp_ns = self.now.ros_ns - 20 * MS
        times_s = (stamp_ns / MS - 61_000) / 1000 + 0.05 * np.arange(20)
        positions = HOME + 1.2 * (times_s[:, None] - 0.2) * np.eye(7)[0]
        return replace(super().chunk(), positions=positions)


def test_no_change_of_hands_is_a_step_of_velocity(vx300s):
    cell = Rising(release_to(vx300s, "policy"))
    cell.run(100)
    cell.path.arm(cell.now)
    cell.lease = Mode.POLICY
    cell.run(600)
    assert cell.path.mode is Mode.POLICY and cell.path.gate.velocity[0] > 1.0
    cell.pressed = True
    cell.run(600)
    assert cell.path.mode is Mode.HUMAN
    assert not any(cell.path.violations.values()), cell.path.violation
    assert cell.path.clipped == 0


def test_a_ramp_takes_as_long_as_half_the_arms_speed_asks_in_either_direction(vx300s):
    for sign in (1, -1):
        cell = Cell(with_source(vx300s, align="ramp"))
        cell.leader = np.append(HOME[:6], (1.0 + 0.583) / 27.78)
        cell.leader[0] += sign * 1.0
        cell.run(100)
        cell.path.arm(cell.now)
        cell.run(100)
        cell.pressed = True
        cell.run(1600)
        speed = np.abs(np.diff(cell.wire[:, 0])).max() / 0.01
        assert 1.1 < speed < 1.3
        assert cell.sent[-1][0] == pytest.approx(sign * 1.0, abs=1e-3)


# Counters and stalls ----------------------------------------------------------------------------


def test_commands_and_clipped_ones_are_counted(robot):
    robot.run(100)
    robot.path.arm(robot.now)
    robot.run(500)
    assert robot.path.commands == 50
    robot.lease, robot.offset = Mode.POLICY, np.array([0.2, 0, 0, 0, 0, 0, 0])
    robot.run(600)
    assert robot.path.commands == 110 and robot.path.clipped == 0
    robot.offset = np.array([-0.4, 0, 0, 0, 0, 0, 0])
    robot.run(100)
    before = robot.path.clipped
    robot.run(10)
    assert before > 0 and robot.path.clipped == before + 1
    robot.path.disarm()
    robot.run(500)
    sent = [command for command in robot.sent if command is not None]
    assert robot.path.commands == len(sent) < 180


def test_what_is_rejected_is_counted_but_not_what_a_change_of_hands_left_behind(robot):
    robot.moving_under_policy()
    robot.path.on_chunk(replace(robot.chunk(), epoch=robot.path.epoch - 1), robot.now)
    assert robot.path.rejected == 0
    robot.path.on_chunk(replace(robot.chunk(), positions=np.zeros((3, 6))), robot.now)
    assert robot.path.rejected == 1
    robot.path.policy.target = lambda now_ns: np.full(7, np.nan)
    command = robot.path.step(robot.now)
    assert robot.path.rejected == 2 and np.isfinite(command).all()
    assert robot.path.violations["non_finite"] == 1 and robot.path.mode is Mode.HOLD


def test_figures_begin_anew_when_the_arm_is_armed(robot):
    robot.moving_under_policy()
    assert robot.path.policy.observation_to_command.summary().n > 0
    robot.path.disarm()
    robot.run(500)
    robot.lease = Mode.HOLD
    robot.run(200)
    assert robot.path.arm(robot.now).ok
    assert robot.path.policy.observation_to_command.summary().n == 0


@pytest.mark.parametrize(("late_ms", "mode"), [(29, Mode.HOLD), (35, Mode.POLICY)])
def test_only_a_tick_that_is_more_than_three_periods_late_is_excused(robot, late_ms, mode):
    robot.moving_under_policy()
    robot.beat = False
    heard_ms = robot.ms
    robot.path.heartbeat.take("", robot.now)
    robot.run(130)
    robot.ms += late_ms
    assert robot.ms - heard_ms > 150
    robot.path.step(robot.now)
    assert robot.path.mode is mode
