"""The parts of the command path one by one, at the edges that a whole motion seldom meets."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from test_control import HOME, Robot

from rewact_ros.contract.schema import OnViolation
from rewact_ros.control.keyboard import PRESS_S, Call, KeyboardJog, split_keys
from rewact_ros.control.leads import PolicyLead, ResetLead
from rewact_ros.control.modes import Event, Mode, ModeMachine
from rewact_ros.control.motion import Handover, ResetMotion
from rewact_ros.control.path import CONFIRM, RESUME, PathSettings
from rewact_ros.control.profile import PEAK_ACCELERATION, PEAK_SPEED, minimum_jerk
from rewact_ros.control.timing import DurationHistogram
from rewact_ros.control.violations import Violation, beyond, non_finite
from rewact_ros.control.watch import Freshness, Heartbeat, Joints, Lease, Now
from rewact_ros.msg import ControlStatus

NANO = 1_000_000_000


def at(seconds):
    return Now(seconds, seconds, round(seconds * NANO))


# Watchdogs --------------------------------------------------------------------------------------


def test_a_stream_is_fresh_up_to_its_limit_and_an_unusable_message_tells_why_after_it():
    stream = Freshness("arm/joint_states", 0.25, "nothing yet")
    assert stream.fault(0.0) == "nothing yet"
    stream.take(10.0)
    stream.take_fault("joint a is nan")
    assert stream.fault(10.25) == ""
    assert stream.fault(10.26) == "joint a is nan"
    stream.take(11.0)
    assert stream.fault(11.5) == "arm/joint_states is 0.50 s old, limit 0.25 s"


def test_joints_are_as_fresh_as_their_strictest_part_asks(vx300s):
    part = vx300s.state[0]
    parts = (replace(part, max_age_s=0.5), replace(part, max_age_s=0.125))
    joints = Joints(replace(vx300s, state=parts))
    assert joints.fault(at(1.0)) == (
        "no joint state received yet on joint_states (sensor_msgs/msg/JointState)"
    )
    joints.take(HOME, 1.0)
    assert joints.fault(at(1.125)) == "" and joints.fault(at(1.2)) != ""
    joints.take_fault("joint_states: joint waist is nan")
    assert joints.fault(at(1.1)) == ""
    assert joints.fault(at(1.2)) == "joint_states: joint waist is nan"


def test_a_heartbeat_counts_up_to_its_limit():
    heartbeat = Heartbeat(0.25)
    assert heartbeat.silence(at(0.1)) == (
        "policy: no heartbeat received yet on rewact/policy_status"
    )
    heartbeat.take("", at(1.0))
    assert heartbeat.silence(at(1.25)) == ""
    assert heartbeat.silence(at(1.5)) == "policy heartbeat is 0.50 s old, limit 0.25 s"
    heartbeat.take("front is old", at(2.0))
    assert heartbeat.silence(at(2.0)) == "policy: front is old"


def test_a_lease_is_nobodys_at_first_and_lasts_to_its_limit():
    lease = Lease(0.25)
    assert (lease.mode, lease.holder, lease.request) == (Mode.HOLD, "", 0)
    assert lease.expired(at(0.1)) and lease.changed_hands is False
    assert lease.take(Mode.POLICY, "one", 3, at(1.0)) == "" and lease.changed_hands
    assert (lease.mode, lease.holder, lease.request) == (Mode.POLICY, "one", 3)
    assert lease.take(Mode.RESET, "two", 1, at(1.25)) == "lease is held by one"
    assert not lease.changed_hands and not lease.expired(at(1.25))
    assert lease.take(Mode.RESET, "two", 1, at(1.5)) == "" and lease.changed_hands
    assert lease.take(Mode.HOLD, "two", 2, at(1.75)) == "" and not lease.changed_hands
    nameless = Lease(0.25)
    assert nameless.take(Mode.POLICY, "", 1, at(1.0)) == "" and not nameless.expired(at(1.1))
    protected = Lease(0.25)
    protected.take(Mode.POLICY, "one", 1, at(1.0), "", "promise")
    refusal = protected.take(Mode.POLICY, "one", 1, at(1.1), "guess", "other")
    assert refusal == "lease is held by one; another uses its name"


# Modes ------------------------------------------------------------------------------------------


def test_modes_have_the_numbers_of_the_message():
    for mode in Mode:
        assert getattr(ControlStatus, mode.name) == mode


def test_a_machine_starts_disarmed_and_says_what_to_do():
    machine = ModeMachine()
    assert (machine.mode, machine.reason) == (Mode.DISARMED, "started")
    assert machine.remedy == "arm when the workspace is clear"
    assert machine.resume_required is False


@pytest.mark.parametrize("start", [Event.START_POLICY, Event.START_RESET])
def test_the_machine_itself_starts_no_motion_before_resume(start):
    machine = ModeMachine()
    machine.fire(Event.ARM, "armed")
    machine.fire(Event.TAKE_OVER, "person")
    machine.fire(Event.RELEASE, "done", "resume", latch=True)
    assert machine.resume_required and machine.remedy == "resume"
    assert not machine.fire(start, "go") and machine.mode is Mode.HOLD
    machine.resume()
    assert (machine.reason, machine.remedy) == ("resumed", "")
    machine.reason = "as it was"
    machine.resume()  # nothing to lift
    assert machine.reason == "as it was"
    assert machine.fire(start, "go")


def test_a_takeover_does_not_lift_the_latch_of_a_stop():
    machine = ModeMachine()
    for event in (Event.ARM, Event.START_POLICY, Event.STOP, Event.TAKE_OVER):
        assert machine.fire(event, "test")
    assert machine.mode is Mode.HUMAN and machine.resume_required
    machine.fire(Event.RELEASE, "done")
    assert machine.resume_required


def test_the_documented_diagram_is_the_whole_table():
    text = (ROOT / "docs" / "command-path.md").read_text()
    assert text.split("```mermaid\n")[1].split("\n```")[0] == ModeMachine.diagram()


# Violations -------------------------------------------------------------------------------------


def test_a_violation_says_joint_kind_asked_and_allowed():
    names = ("a", "b")
    text = Violation("position", 1, 1.23456, -1.0).text(names)
    assert text == "b: position 1.235 asked, -1.000 allowed"
    text = Violation("non_finite", 0, float("inf"), float("nan")).text(names)
    assert text == "a: inf asked, expected a finite number"


def test_every_joint_that_is_no_number_is_named_and_so_is_a_missing_one():
    found = non_finite(np.array([0.0, np.nan, np.inf]), 3)
    assert [(v.kind, v.joint) for v in found] == [("non_finite", 1), ("non_finite", 2)]
    assert found[1].asked == np.inf and np.isnan(found[1].allowed)
    assert non_finite(np.zeros(3), 3) == ()
    (missing,) = non_finite(np.zeros(2), 3)
    assert missing.joint == 2 and np.isnan(missing.asked) and np.isnan(missing.allowed)
    assert non_finite(np.zeros((3, 3)), 3)[0].joint == 2


def test_rounding_is_no_violation_and_the_first_limit_that_a_joint_breaks_is_its_cause():
    zero = np.zeros(3)
    large = np.array([1e6, 0.5, -1e6])
    assert beyond(("velocity", large * (1 + 0.9e-6) + [0, 0.4e-6, 0], large)) == ()
    (one,) = beyond(("velocity", large * (1 + 1.1e-6), large * [1, 1, 1 + 1.1e-6]))
    assert one.joint == 0
    assert [v.joint for v in beyond(("velocity", np.array([0, 1.1e-6, 0]), zero))] == [1]
    assert [v.joint for v in beyond(("velocity", zero + 1, zero))] == [0, 1, 2]
    asked, allowed = np.array([0.0, 2.0, 3.0]), np.array([0.0, 1.0, -2.0])
    found = beyond(("position", asked * [1, 1, 0], zero), ("velocity", -asked, allowed))
    assert [(v.kind, v.joint, v.asked, v.allowed) for v in found] == [
        ("position", 1, 2.0, 0.0),
        ("velocity", 2, -3.0, -2.0),
    ]


def test_the_defaults_of_a_violation_are_those_of_the_contract():
    assert OnViolation() == OnViolation("clip", "clip", "clip", "hold")


# Motions ----------------------------------------------------------------------------------------


def test_minimum_jerk_is_the_quintic_with_its_peaks():
    s = np.linspace(0, 1, 20001)
    path = minimum_jerk(s)
    np.testing.assert_allclose(path, 10 * s**3 - 15 * s**4 + 6 * s**5, atol=1e-12)
    assert np.gradient(path, s).max() == pytest.approx(PEAK_SPEED, rel=1e-4)
    acceleration = np.gradient(np.gradient(path, s), s)
    assert np.abs(acceleration[2:-2]).max() == pytest.approx(PEAK_ACCELERATION, rel=1e-3)
    np.testing.assert_array_equal(minimum_jerk([-1.0, 2.0]), [0.0, 1.0])


def plan(vx300s, distance, duration_s, **limits):
    start, goal = HOME, HOME + distance
    return ResetMotion.plan(start, goal, 5 * NANO, duration_s, replace(vx300s.limits, **limits))


def test_a_reset_takes_its_time_or_longer_where_speed_or_acceleration_asks(vx300s):
    step = 0.5 * np.eye(7)[1]
    assert plan(vx300s, step, 3.0).duration_s == 3.0
    by_speed = plan(vx300s, -step, 0.1, velocity=np.full(7, 0.5), acceleration=np.full(7, 1e6))
    assert by_speed.duration_s == pytest.approx(PEAK_SPEED)
    slow = plan(vx300s, step, 0.1, velocity=np.full(7, 1e6), acceleration=np.full(7, 0.5))
    assert slow.duration_s == pytest.approx(np.sqrt(PEAK_ACCELERATION))
    motion = plan(vx300s, step, 2.0)
    for seconds, share, over in ((4.0, 0.0, False), (6.0, 0.5, False), (7.0, 1.0, True)):
        position, done = motion.at(round(seconds * NANO))
        np.testing.assert_allclose(position, HOME + share * step)
        assert done is over


def test_a_handover_follows_its_quintic_and_ends_in_the_target():
    one = np.ones(1)
    handover = Handover(2.0 * one, 1.0 * one, 2.0)
    assert not handover.begun
    np.testing.assert_allclose(handover.apply(0.5 * one, -0.5 * one, 0), [2.0])
    assert handover.begun
    # Half-way the offset has faded to one half; the slope is of 1.5 rad/s for 2 s.
    slope = 0.5 - 0.125 * (6.0 + 0.5 * (3.0 * 0.5 - 8.0))
    np.testing.assert_allclose(
        handover.apply(0.5 * one, 9.0 * one, NANO), [0.5 + 0.5 * 1.5 + slope * 3.0]
    )
    np.testing.assert_allclose(handover.apply(0.5 * one, 0.0 * one, 3 * NANO), [0.5])
    at_once = Handover(2.0 * one, 1.0 * one, 0.0)
    np.testing.assert_array_equal(at_once.apply(0.5 * one, 0.0 * one, 0), [0.5])


def test_the_policy_leads_with_chunks_of_its_epoch_and_is_measured_once_per_chunk(vx300s):
    robot = Robot(vx300s)
    lead = PolicyLead(vx300s, PathSettings().queue(vx300s))
    now_ns = robot.now.ros_ns
    lead.begin(7, now_ns)
    assert lead.target(now_ns) is None and lead.fault(now_ns + NANO // 2) == ""
    assert lead.fault(now_ns + NANO) == "newest chunk is 1.00 s old, limit 0.5 s"
    rising = HOME + 0.1 * np.arange(20)[:, None]
    chunk = replace(robot.chunk(), stamp_ns=now_ns, epoch=7, positions=rising)
    now_ns += 1
    lead.queue.add(replace(chunk, stamp_ns=now_ns), now_ns)
    for ns, place in ((now_ns + NANO // 10, 0.2), (now_ns + NANO // 5, 0.4)):
        command = lead.target(ns)
        np.testing.assert_allclose(command, HOME + place)
        np.testing.assert_allclose(lead.rate(command, ns), 2.0)
    summary = lead.observation_to_command.summary()
    assert summary.n == 1 and summary.max_ms == pytest.approx(100.0)
    np.testing.assert_array_equal(lead.rate(command, now_ns + NANO), np.zeros(7))
    assert lead.fault(now_ns + NANO // 2) == "" and lead.fault(now_ns + NANO * 3 // 4) != ""


def test_a_policy_that_was_never_begun_leads_nowhere_and_is_old(vx300s):
    lead = PolicyLead(vx300s, PathSettings().queue(vx300s))
    assert lead.target(NANO) is None
    assert lead.fault(NANO) == "newest chunk is 1.00 s old, limit 0.5 s"


def test_a_reset_by_velocity_feeds_forward_its_speed_and_pulls_onto_its_path(vx300s):
    lead = ResetLead(vx300s, by_velocity=True)
    goal = np.array(vx300s.reset.pose)
    lead.begin(goal + 0.2, 0)
    middle, ahead = (goal + 0.2 * (1 - minimum_jerk(t)) for t in (0.5, 0.505))
    speed, reached = lead.target(middle - 0.01, NANO)
    np.testing.assert_allclose(speed, (ahead - middle) * 100 + 2.0 * 0.01)
    assert not reached
    for off, over in ((0.019, True), (0.021, False), (-0.021, False)):
        assert lead.target(goal + off, 2 * NANO)[1] is over
    assert not lead.target(goal, NANO)[1]
    apart = goal.copy()
    apart[3] += 0.5
    assert not lead.target(apart, 2 * NANO)[1], "every joint has to be there"
    by_position = ResetLead(vx300s, by_velocity=False)
    by_position.begin(goal + 0.2, 0)
    command, reached = by_position.target(goal + 0.0011, 2 * NANO)
    np.testing.assert_allclose(command, goal)
    assert not reached and by_position.target(goal + 0.0009, 2 * NANO)[1]


# Timing -----------------------------------------------------------------------------------------


def test_durations_beyond_the_bins_are_counted_at_their_ends_and_cleared():
    histogram = DurationHistogram()
    assert histogram.summary().n == 0 and np.isnan(histogram.summary().p50_ms)
    for seconds in (-1.0, 0.0, 1e-6):
        histogram.add(seconds)
    assert histogram.summary().max_ms == 1e-3
    histogram.add(1e9)
    summary = histogram.summary()
    assert (summary.max_ms, summary.n) == (1e12, 4)
    assert summary.p50_ms == pytest.approx(1e-3 * 10 ** (0.5 / 200), rel=1e-9)
    assert summary.p99_ms == pytest.approx(1e5 / 10 ** (0.5 / 200), rel=1e-9)
    histogram.clear()
    histogram.add(0.25)
    summary = histogram.summary()
    assert (summary.n, summary.p50_ms, summary.max_ms) == (1, summary.p99_ms, 250.0)
    assert summary.p95_ms == pytest.approx(250.0, rel=0.01) and summary.p95_ms <= 250.0


def test_a_percentile_is_never_above_the_largest_duration():
    histogram, low_in_its_bin_s = DurationHistogram(), 1e-6 * 10 ** (700.1 / 200)
    histogram.add(low_in_its_bin_s)
    assert histogram.summary().p50_ms == histogram.summary().max_ms == 1e3 * low_in_its_bin_s


def test_percentiles_are_those_of_numpy_from_bin_to_bin():
    histogram, values = DurationHistogram(), np.linspace(1e-3, 0.1, 1000)
    for value in values:
        histogram.add(value)
    got = histogram.summary()
    for ms, percent in ((got.p50_ms, 50), (got.p95_ms, 95), (got.p99_ms, 99)):
        assert ms == pytest.approx(1e3 * np.percentile(values, percent), rel=0.012)


# Keys -------------------------------------------------------------------------------------------


@pytest.fixture
def keys(vx300s):
    return KeyboardJog(vx300s.teleop_source("keyboard").jog)


MOVES = {
    "i": (0, 1), "k": (0, -1), "j": (1, 1), "l": (1, -1), "u": (2, 1), "m": (2, -1),
    "b": (5, 1), "n": (5, -1), "o": (6, 1), "c": (6, -1),
}  # fmt: skip
CALLS = {
    "t": "take_over", "r": "release", "p": "resume", "a": "arm", "d": "disarm", " ": "stop",
    "\x1b": "stop", "q": "quit", "\x03": "quit", "\x04": "quit",
}  # fmt: skip


def test_every_key_does_what_the_help_says(keys):
    for key, (direction, sign) in MOVES.items():
        keys.stop()
        assert keys.press(key, 10.0) is None
        assert keys.given(10.1).rates.tolist() == [sign * (i == direction) for i in range(7)]
    for key, name in CALLS.items():
        assert keys.press(key, 10.0) is Call(name)


def test_arrows_of_both_kinds_choose_a_direction_around_and_move_it(keys):
    assert split_keys("a\x1b[Ab\x1bOD\x1b") == ["a", "up", "b", "left", "\x1b"]
    assert split_keys("\x1b[B\x1bOC") == ["down", "right"]
    assert keys.selected == "x"
    keys.press("left", 10.0)
    assert keys.selected == "gripper"
    for name in ("x", "y", "z"):
        keys.press("right", 10.0)
        assert keys.selected == name
    keys.press("up", 10.0)
    assert keys.given(10.0).rates[2] == 1.0
    keys.press("down", 10.0)
    assert keys.given(10.0).rates[2] == -1.0


def test_a_press_lasts_and_the_deadman_outlasts_it(keys):
    keys.press("i", 10.0)
    for seconds, rate, pressed in ((0.14, 1.0, True), (0.16, 0.0, True), (0.49, 0.0, True)):
        given = keys.given(10.0 + seconds)
        assert (given.rates[0], given.pressed, given.received_s) == (rate, pressed, 10.0 + seconds)
    assert not keys.given(10.51).pressed
    assert not keys.given(10.5).pressed
    keys.press("i", 16.0)
    assert keys.given(16.0 + PRESS_S).rates[0] == 0.0
    keys.press("right", 20.0)  # choosing is no motion
    assert not keys.given(20.0).pressed


# The path ---------------------------------------------------------------------------------------


def test_remedies_are_said(vx300s):
    robot = Robot(vx300s).moving_under_policy()
    robot.beat = False
    robot.run(300)
    assert robot.path.modes.remedy == RESUME == "check the robot, then call ~/resume"
    confirmed = replace(vx300s, reset=replace(vx300s.reset, confirm=True))
    robot = Robot(confirmed)
    robot.run(100)
    robot.path.arm(robot.now)
    robot.lease = Mode.RESET
    robot.run(200)
    assert robot.path.modes.remedy == CONFIRM
