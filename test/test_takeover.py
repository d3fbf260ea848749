"""A person takes over and gives back without a jerk, and a lost device leaves the arm held."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_control import HOME, MS, Robot, check_limits

from rewact_ros.control.human import TeleopInput
from rewact_ros.control.modes import Mode, ModeMachine
from rewact_ros.control.motion import Handover

LEADER = "leader"


class Cell(Robot):
    """The robot of the command-path tests with a leader arm beside it, sent at 50 Hz."""

    def __init__(self, contract):
        super().__init__(contract)
        self.leader = np.array([0.3, -0.6, 0.9, 0.1, 0.2, 0.0, 0.04])
        self.pressed = False
        self.leads = self.buttons = True

    @property
    def device(self) -> TeleopInput:
        return self.path.human.inputs[LEADER]

    def run(self, ms):
        for _ in range(ms // 10):
            if self.leads and self.ms % 20 == 0:
                names = self.device.source.source_joints
                self.device.on_values(names, self.leader.tolist(), self.now.age_s)
            if self.buttons and self.ms % 20 == 0:
                self.device.on_deadman(self.pressed, self.now.age_s)
            super().run(10)
        return self

    @property
    def wire(self):
        return np.array([c for c in self.sent if c is not None])


@pytest.fixture
def cell(vx300s):
    return Cell(vx300s)


def release_to(contract, where):
    return replace(contract, on_release=where)


def with_source(contract, **changes):
    teleop = tuple(replace(s, **changes) if s.name == LEADER else s for s in contract.teleop)
    return replace(contract, teleop=teleop)


def test_the_deadman_takes_over_within_one_tick_and_drops_every_chunk(cell, vx300s):
    cell.moving_under_policy()
    epoch, old = cell.path.epoch, cell.chunk()
    cell.pressed = True
    cell.ms += 20 - cell.ms % 20  # the next message carries it
    cell.run(10)
    assert cell.path.mode is Mode.HUMAN and cell.path.source == LEADER
    assert cell.path.epoch == epoch + 1
    assert cell.path.on_chunk(replace(old, epoch=epoch + 1), cell.now)
    check_limits(vx300s, cell.wire)


def test_with_alignment_by_offset_taking_over_moves_nothing_by_itself(cell, vx300s):
    cell.run(100)
    cell.path.arm(cell.now)
    cell.run(200)
    before = cell.sent[-1].copy()
    cell.pressed = True
    cell.run(1000)
    assert cell.path.mode is Mode.HUMAN
    np.testing.assert_allclose(cell.sent[-1], before, atol=1e-9)
    cell.leader = cell.leader + np.array([0.1, 0, 0, 0, 0, 0, -0.01])
    cell.run(1000)
    moved = cell.sent[-1] - before
    assert moved[0] == pytest.approx(0.1, abs=1e-6)
    assert moved[6] == pytest.approx(-0.01 * 27.78, abs=1e-6)
    check_limits(vx300s, cell.wire)


def test_with_alignment_by_ramp_the_arm_comes_to_the_leader_and_never_snaps(vx300s):
    cell = Cell(with_source(vx300s, align="ramp"))
    cell.run(100)
    cell.path.arm(cell.now)
    cell.run(100)
    cell.pressed = True
    cell.run(3000)
    wanted = cell.leader.copy()
    wanted[6] = wanted[6] * 27.78 - 0.583
    np.testing.assert_allclose(cell.sent[-1], wanted, atol=1e-6)
    speed = np.abs(np.diff(cell.wire, axis=0)).max(0) / 0.01
    assert (speed <= 0.55 * vx300s.limits.velocity).all()
    check_limits(vx300s, cell.wire)


def test_release_holds_until_resume_or_goes_back_to_the_policy_as_the_contract_says(vx300s):
    for where, expected in (("hold", Mode.HOLD), ("policy", Mode.POLICY)):
        cell = Cell(release_to(vx300s, where)).moving_under_policy()
        cell.pressed = True
        cell.run(500)
        assert cell.path.mode is Mode.HUMAN
        epoch = cell.path.epoch
        cell.pressed = False
        cell.run(600)
        assert cell.path.mode is expected
        assert cell.path.modes.resume_required is (where == "hold")
        assert cell.path.epoch > epoch
        cell.path.resume()
        cell.run(300)
        assert cell.path.mode is Mode.POLICY
        check_limits(vx300s, cell.wire)


def test_a_stop_before_the_takeover_still_needs_resume_after_the_release(vx300s):
    cell = Cell(release_to(vx300s, "policy")).moving_under_policy()
    cell.beat = False
    cell.run(500)
    assert cell.path.modes.resume_required
    cell.beat = cell.pressed = True
    cell.run(300)
    assert cell.path.mode is Mode.HUMAN
    cell.pressed = False
    cell.run(500)
    assert cell.path.mode is Mode.HOLD and cell.path.modes.resume_required
    assert cell.path.modes.reason == "released by the operator"
    assert "~/resume" in cell.path.modes.remedy


def test_after_the_release_only_chunks_observed_after_it_count(vx300s):
    cell = Cell(release_to(vx300s, "policy")).moving_under_policy()
    cell.pressed = True
    cell.run(300)
    cell.chunks = cell.pressed = False
    cell.run(100)
    assert cell.path.mode is Mode.POLICY
    observed_before = replace(cell.chunk(), stamp_ns=cell.now.ros_ns - 200 * MS)
    assert "before its epoch" in cell.path.on_chunk(observed_before, cell.now)
    assert not cell.path.on_chunk(cell.chunk(), cell.now)


LOSSES = {
    "silent arm": (lambda c: setattr(c, "leads", False), "leader/joint_states is"),
    "silent button": (lambda c: setattr(c, "buttons", False), "deadman on leader/joy is silent"),
    "NaN": (lambda c: c.leader.__setitem__(2, np.nan), "joint elbow is nan"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_device_brakes_to_a_hold_that_needs_resume(cell, vx300s, loss):
    cell.moving_under_policy()
    cell.pressed = True
    cell.run(300)
    cell.leader[:6] += 0.05
    cell.run(40)
    change, words = LOSSES[loss]
    change(cell)
    cell.run(500)
    assert cell.path.mode is Mode.HOLD and cell.path.modes.resume_required
    assert words in cell.path.modes.reason
    assert not cell.path.gate.moving and np.isfinite(cell.wire).all()
    check_limits(vx300s, cell.wire)


def test_a_service_call_takes_over_too_and_twice_is_the_same(cell):
    cell.moving_under_policy()
    assert cell.path.take_over(cell.now).ok
    first = cell.path.epoch
    answer = cell.path.take_over(cell.now)
    assert answer.ok and answer.mode is Mode.HUMAN and cell.path.epoch == first
    cell.run(200)
    assert cell.path.release(cell.now).mode is Mode.HOLD
    assert cell.path.release(cell.now).ok and cell.path.mode is Mode.HOLD


def test_taking_over_without_a_device_stops_the_policy_and_says_so(cell):
    cell.leads = False
    cell.moving_under_policy()
    answer = cell.path.take_over(cell.now)
    assert not answer.ok and "leader: no message received yet" in answer.reason
    assert answer.mode is Mode.HOLD and cell.path.modes.resume_required
    assert "no such source" in cell.path.take_over(cell.now, "joystick").reason


def test_nobody_takes_over_a_disarmed_arm_and_a_pressed_deadman_keeps_it_disarmed(cell):
    cell.pressed = True
    cell.run(200)
    assert cell.path.mode is Mode.DISARMED
    assert not cell.path.take_over(cell.now).ok
    answer = cell.path.arm(cell.now)
    assert not answer.ok and "deadman is down" in answer.reason
    cell.buttons = False
    cell.run(500)
    assert cell.path.arm(cell.now).ok  # a dead gamepad says nothing
    cell.path.disarm()
    cell.buttons = True
    cell.pressed = False
    cell.run(100)
    assert cell.path.arm(cell.now).ok


def test_a_leader_that_is_moved_takes_over_where_the_contract_says_so(vx300s):
    contract = with_source(vx300s, takeover_motion=0.15, deadman=None)
    cell = Cell(contract).moving_under_policy()
    cell.leader[0] += 0.1
    cell.run(500)
    assert cell.path.mode is Mode.POLICY
    cell.leader[0] += 0.1
    cell.run(100)
    assert cell.path.mode is Mode.HUMAN and "waist" in cell.path.modes.reason
    cell.path.release(cell.now)
    cell.run(500)
    assert cell.path.mode is Mode.HOLD  # at rest, where it now is, it asks for nothing


def test_pressing_again_takes_a_new_offset_so_that_one_can_reach_further(cell, vx300s):
    cell.run(100)
    cell.path.arm(cell.now)
    cell.run(100)
    cell.path.take_over(cell.now)
    cell.run(100)
    begin = cell.sent[-1][0]
    for _ in range(2):
        cell.pressed = True
        cell.run(200)
        cell.leader[0] += 0.2
        cell.run(600)
        cell.pressed = False
        cell.run(200)
        cell.leader[0] -= 0.2
        cell.run(200)
    assert cell.path.mode is Mode.HUMAN
    assert cell.sent[-1][0] - begin == pytest.approx(0.4, abs=2e-3)
    check_limits(vx300s, cell.wire)


def test_a_second_publisher_of_commands_is_a_fault_that_names_it(cell):
    cell.moving_under_policy()
    cell.path.on_publishers("/rogue")
    cell.run(1000)
    assert cell.path.mode is Mode.FAULT and "/rogue" in cell.path.modes.reason
    assert cell.sent[-1] is None  # after braking
    assert cell.path.clear_fault().mode is Mode.DISARMED
    assert "/rogue" in cell.path.arm(cell.now).reason
    cell.path.on_publishers("")
    cell.lease = Mode.HOLD
    assert cell.path.arm(cell.now).ok


def test_a_reset_of_a_real_robot_waits_for_a_confirmation_each_time(vx300s):
    cell = Cell(replace(vx300s, reset=replace(vx300s.reset, confirm=True)))
    cell.run(100)
    cell.path.arm(cell.now)
    assert not cell.path.confirm_reset().ok
    cell.lease = Mode.RESET
    cell.run(300)
    assert cell.path.mode is Mode.HOLD and "confirm_reset" in cell.path.modes.remedy
    assert cell.path.confirm_reset().ok
    cell.run(100)
    assert cell.path.mode is Mode.RESET
    cell.run(3000)
    cell.request = 2
    cell.run(300)
    assert cell.path.mode is Mode.HOLD


def test_a_long_stall_of_hil_stops_the_motion(cell):
    cell.moving_under_policy()
    cell.ms += 900
    cell.path.step(cell.now)
    assert cell.path.mode is Mode.HOLD and "stood still for 0.9" in cell.path.modes.reason


finite = st.floats(-1.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(p=finite, v=st.floats(-2, 2), y=finite, dy=st.floats(-2, 2), duration=st.floats(0.05, 2))
def test_a_handover_begins_and_ends_without_a_step_of_position_or_velocity(p, v, y, dy, duration):
    one = np.ones(1)
    handover = Handover(p * one, v * one, duration)
    times = np.linspace(0, 1.2 * duration, 2401)
    path = np.array(
        [handover.apply((y + dy * t) * one, dy * one, round(t * 1e9))[0] for t in times]
    )
    assert path[0] == pytest.approx(p, abs=1e-9)
    speed = np.diff(path) / np.diff(times)
    assert speed[0] == pytest.approx(v, abs=0.02 * (1 + abs(v - dy) + abs(p - y) / duration))
    after = times >= duration
    np.testing.assert_allclose(path[after], y + dy * times[after], atol=1e-9)
    assert np.abs(np.diff(speed)).max() <= 0.02 * (abs(v - dy) + abs(p - y) / duration) + 1e-6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_at_random_takeovers_and_releases_the_wire_keeps_every_limit(vx300s, seed):
    rng = np.random.default_rng(seed)
    cell = Cell(release_to(vx300s, "policy")).moving_under_policy()
    for _ in range(6):
        cell.offset = rng.uniform(-0.2, 0.2, 7)
        cell.pressed = not cell.pressed
        for _ in range(int(rng.integers(1, 15))):
            cell.leader = cell.leader + rng.normal(0, 0.01, 7)
            cell.run(20)
    check_limits(vx300s, cell.wire)


def test_the_documented_state_diagram_is_the_table():
    text = (ROOT / "docs" / "command-path.md").read_text()
    assert ModeMachine.diagram() in text


# What a person's input must be ------------------------------------------------------------------


def led(contract, align):
    """A leader in control for a while, and where the arm was then."""
    cell = Cell(with_source(contract, align=align))
    cell.leader = np.append(HOME[:6], 0.04)  # so that a ramp has nowhere to go
    cell.run(100)
    assert cell.path.arm(cell.now).ok
    cell.run(100)
    cell.pressed = True
    cell.run(1500)
    assert cell.path.mode is Mode.HUMAN
    return cell, cell.sent[-1].copy()


def turn(cell, rad):
    cell.leader[5] += rad


def restart(cell, ms, rad):
    """The driver is gone for a moment, shorter than counts as lost, and has another zero then."""
    cell.leads = False
    cell.run(ms)
    cell.leads = True
    turn(cell, rad)


def spread(cell, rad, messages):
    """As a filter does, or a driver that interpolates."""
    for _ in range(messages):
        turn(cell, rad / messages)
        cell.run(20)


STEPS = {
    "wraps up": lambda c: turn(c, 2 * np.pi),
    "wraps down": lambda c: turn(c, -2 * np.pi),
    "half a turn": lambda c: turn(c, np.pi),
    "another zero": lambda c: turn(c, -0.5),
    "another zero after 120 ms": lambda c: restart(c, 120, 1.6),
    "wraps after 180 ms": lambda c: restart(c, 180, 2 * np.pi),
    "wraps over 5 messages": lambda c: spread(c, 2 * np.pi, 5),
    "wraps over 20 messages": lambda c: spread(c, 2 * np.pi, 20),
    "there and back": lambda c: (turn(c, np.pi), c.run(20), turn(c, -np.pi)),
    "finger": lambda c: c.leader.__setitem__(6, 0.1),
}


@pytest.mark.parametrize("align", ["offset", "ramp"])
@pytest.mark.parametrize("step", STEPS)
def test_a_device_that_steps_where_no_hand_can_is_lost(vx300s, align, step):
    cell, before = led(vx300s, align)
    STEPS[step](cell)
    cell.run(100)
    assert cell.path.mode is Mode.HOLD and cell.path.modes.resume_required
    joint = "gripper" if step == "finger" else "wrist_rotate"
    assert f"teleop leader: {joint} stepped from" in cell.path.modes.reason
    cell.run(1500)  # the button is still down, and the device goes on smoothly
    assert cell.path.mode is Mode.HOLD
    assert np.abs(cell.sent[-1] - before).max() < 0.3
    check_limits(vx300s, cell.wire)


def test_after_a_step_the_device_leads_again_once_it_went_on_smoothly_and_is_asked_anew(vx300s):
    cell, before = led(vx300s, "offset")
    turn(cell, 2 * np.pi)
    cell.run(100)
    cell.pressed = False
    cell.run(100)
    assert "stepped" in cell.path.take_over(cell.now, LEADER).reason
    cell.pressed = True
    cell.run(500)
    assert cell.path.mode is Mode.HOLD
    cell.run(500)
    assert cell.path.mode is Mode.HUMAN
    np.testing.assert_allclose(cell.sent[-1], before, atol=1e-6)


@pytest.mark.parametrize("align", ["offset", "ramp"])
def test_a_quick_hand_is_a_hand(vx300s, align):
    """Twice as fast as the arm may, and as fast as messages in a burst look."""
    cell, _ = led(vx300s, align)
    for _ in range(10):
        cell.leader[:6] += 2 * vx300s.limits.velocity[:6] * 0.02
        cell.run(20)
    names = cell.device.source.source_joints
    for k in range(5):  # a stall of 100 ms: what waited comes at once
        cell.leader[0] += 0.05
        cell.ms += 90 if k == 0 else 0
        cell.device.on_values(names, cell.leader.tolist(), cell.now.age_s + 1e-4 * k)
    cell.run(300)
    cell.leader[6] -= 0.035  # the finger snaps open
    cell.run(20)
    assert cell.path.mode is Mode.HUMAN
    check_limits(vx300s, cell.wire[:-40])


def test_a_step_between_two_ticks_is_not_forgotten_by_the_good_message_after_it(vx300s):
    cell, _ = led(vx300s, "ramp")
    names, now_s = cell.device.source.source_joints, cell.now.age_s
    for k, turned in enumerate((np.pi, np.pi, np.pi)):
        device = cell.leader + turned * np.eye(7)[5]
        cell.device.on_values(names, device.tolist(), now_s + 0.002 * (k + 1))
    cell.leads = False
    cell.run(10)
    assert cell.path.mode is Mode.HOLD and "stepped" in cell.path.modes.reason


def test_a_late_tick_that_excuses_the_watchdogs_does_not_follow_a_step(vx300s):
    cell, before = led(vx300s, "ramp")
    cell.ms += 100
    turn(cell, np.pi)
    cell.device.on_values(cell.device.source.source_joints, cell.leader.tolist(), cell.now.age_s)
    cell.device.on_deadman(True, cell.now.age_s)
    cell.path.joints.take(cell.measured, cell.now.age_s)
    np.testing.assert_allclose(cell.path.step(cell.now), before, atol=1e-9)
    assert cell.path.mode is Mode.HUMAN  # excused
    cell.ms += 10
    cell.path.step(cell.now)
    assert cell.path.mode is Mode.HOLD


def test_a_step_is_no_motion_that_takes_over(vx300s):
    cell = Cell(with_source(vx300s, takeover_motion=0.15, deadman=None)).moving_under_policy()
    turn(cell, 2 * np.pi)
    cell.run(1500)
    assert cell.path.mode is Mode.POLICY


def test_a_ramp_to_where_the_arm_cannot_go_is_refused_with_joint_value_and_limit(vx300s):
    cell = Cell(with_source(vx300s, align="ramp"))
    cell.leader = np.append(HOME[:6], 0.04)
    turn(cell, 6.9)
    cell.run(100)
    cell.path.arm(cell.now)
    cell.pressed = True
    cell.run(200)
    assert cell.path.mode is Mode.HOLD
    answer = cell.path.take_over(cell.now)
    for words in ("teleop leader: wrist_rotate is at 6.900", "[-3.14, 3.14]", "2π less is 0.617"):
        assert words in answer.reason
    assert not answer.ok and not cell.path.gate.moving


FOREIGN = {
    "another device": (["wheel"], [0.0]),
    "nothing": ([], []),
    "a part of ours": (["waist", "elbow"], [9.0, 9.0]),
    "not finite": (None, [np.nan] * 7),
    "ragged": (None, [0.0] * 6),
    "doubled": (["waist"] * 7, [0.0] * 7),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_message_that_is_not_this_devices_is_ignored_as_on_the_robots_own_topic(vx300s, kind):
    cell, before = led(vx300s, "ramp")
    names, values = FOREIGN[kind]
    names = list(cell.device.source.source_joints) if names is None else names
    for _ in range(30):
        cell.run(20)
        cell.device.on_values(names, values, cell.now.age_s)
        cell.path.joints.take_fault("joint_states: joint waist is missing; got wheel")
        cell.path.step(cell.now)
    assert cell.path.mode is Mode.HUMAN
    np.testing.assert_allclose(cell.sent[-1], before, atol=1e-6)
    cell.leads = False  # alone, it says what is wrong
    for _ in range(15):
        cell.run(20)
        cell.device.on_values(names, values, cell.now.age_s)
    assert cell.path.mode is Mode.HOLD
    assert cell.path.modes.reason.startswith("teleop leader: leader/joint_states: ")


def test_extra_joints_of_the_device_are_no_matter(cell):
    cell.run(100)
    names = [*cell.device.source.source_joints, "wheel"]
    cell.device.on_values(names[::-1], [9.0, *cell.leader[::-1]], cell.now.age_s)
    assert cell.device.fault(cell.now.age_s) == ""


def test_a_deadman_that_is_down_from_the_start_counts_only_after_it_was_seen_up(cell):
    cell.buttons = False
    cell.run(100)
    assert cell.path.arm(cell.now).ok  # a dead gamepad says nothing
    cell.buttons = cell.pressed = True
    cell.run(300)
    assert cell.path.mode is Mode.HOLD
    before = cell.sent[-1].copy()
    assert cell.path.take_over(cell.now).ok  # by the service: the stuck button moves nothing
    cell.leader[0] += 0.2
    cell.run(300)
    np.testing.assert_array_equal(cell.sent[-1], before)
    cell.pressed = False
    cell.run(40)
    assert cell.path.mode is Mode.HUMAN
    cell.pressed = True
    cell.run(300)
    cell.leader[0] += 0.1
    cell.run(500)
    assert cell.sent[-1][0] == pytest.approx(before[0] + 0.1, abs=1e-3)


def test_a_deadman_that_comes_back_pressed_after_a_silence_asks_for_nothing(cell):
    cell.run(100)
    cell.path.arm(cell.now)
    cell.run(100)
    cell.buttons = False
    cell.run(300)
    cell.buttons = cell.pressed = True
    cell.run(300)
    assert cell.path.mode is Mode.HOLD
    assert "let it go and press it again" in cell.path.unheeded(cell.now)
    cell.pressed = False
    cell.run(40)
    assert not cell.path.unheeded(cell.now)
    cell.pressed = True
    cell.run(40)
    assert cell.path.mode is Mode.HUMAN and not cell.path.unheeded(cell.now)


def test_a_person_who_presses_in_vain_is_told_why(cell):
    cell.run(100)
    cell.path.arm(cell.now)
    cell.leads = False
    cell.run(500)
    assert not cell.path.unheeded(cell.now)
    cell.pressed = True
    cell.run(100)
    assert cell.path.mode is Mode.HOLD
    assert "pressed in vain: teleop leader" in cell.path.unheeded(cell.now)
    cell.leads = True
    cell.run(100)
    assert cell.path.mode is Mode.HUMAN


def test_the_deadman_interrupts_a_reset(cell, vx300s):
    cell.measured = HOME + np.array([0.4, 0.2, -0.2, 0, 0, 0, -0.5])
    cell.run(100)
    cell.path.arm(cell.now)
    cell.lease = Mode.RESET
    cell.run(600)
    assert cell.path.mode is Mode.RESET and cell.path.gate.moving
    epoch = cell.path.epoch
    cell.pressed = True
    cell.run(40)
    assert cell.path.mode is Mode.HUMAN and cell.path.epoch == epoch + 1
    cell.run(500)
    assert not cell.path.gate.moving  # aligned by offset, the leader stands
    check_limits(vx300s, cell.wire)


def test_a_joy_message_without_the_deadmans_button_says_nothing_of_it(vx300s):
    """Of another device on the topic: neither let go of, nor seen up, nor alive."""
    cell = Cell(release_to(vx300s, "policy")).moving_under_policy()
    cell.pressed = True
    cell.run(300)
    for _ in range(20):
        cell.run(20)
        cell.device.on_buttons([], cell.now.age_s)
        cell.path.step(cell.now)
    assert cell.path.mode is Mode.HUMAN and cell.device.held
    cell.device.on_buttons([2], cell.now.age_s)
    assert not cell.device.pressed
    cell.device.on_buttons([1], cell.now.age_s)
    assert cell.device.pressed
    cell.buttons = False
    for _ in range(15):
        cell.run(20)
        cell.device.on_buttons([], cell.now.age_s)
    assert cell.path.mode is Mode.HOLD
    assert "no message with a button 0 for 0.2 s" in cell.path.modes.reason
