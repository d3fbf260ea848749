"""The safety gates: whatever is asked, the wire stays within every limit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewact_ros.contract import ContractError
from rewact_ros.contract.schema import Limits, OnViolation
from rewact_ros.control.limits import (
    SafetyGate,
    VelocityGate,
    braking_speed,
    make_gate,
    outside_limits,
    start_jump,
)
from rewact_ros.control.violations import KINDS, Violation, ViolationCounts, worst

DT = 0.01
HOME = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 1.0])
EXTREME = [np.nan, np.inf, -np.inf, 1e9, -1e9, 1e308, -1e308, 5e-324]


def limits_of(rng, joints=5):
    """Random limits, from sluggish to snappy joints."""
    low, width = rng.uniform(-3, 0, joints), 10 ** rng.uniform(-1, 1, joints)
    return Limits(
        low=low,
        high=low + width,
        velocity=10 ** rng.uniform(-1, 1, joints),
        acceleration=10 ** rng.uniform(-0.5, 2.5, joints),
        start_jump=np.full(joints, 0.2),
    )


def hostile(rng, steps, joints, scale):
    """Targets that hold, jump, drift and hold values that no robot can reach: (steps, joints)."""
    held = np.repeat(rng.normal(size=(steps // 20 + 1, joints)), 20, axis=0)[:steps]
    targets = scale * (held + 0.05 * rng.normal(size=(steps, joints)).cumsum(axis=0))
    bad = rng.random((steps, joints)) < 0.01
    targets[bad] = rng.choice(EXTREME, bad.sum())
    return targets


def drive(gate, targets, rng, measured=None):
    """Commands sent for the targets; rejected ones brake, as do some stops in between."""
    sent, braking = [], 0
    for target in targets:
        if braking == 0 and rng.random() < 0.01:
            braking = rng.integers(1, 60)
        braking = max(braking - 1, 0)
        joints = None if measured is None else measured.positions
        gated = None if braking else gate.apply(target, joints)
        sent.append(gate.brake() if gated is None else gated.command)
        if measured is not None:
            measured.follow(sent[-1])
    return np.array(sent)


def check_positions(limits, start, sent):
    velocity = np.diff(np.vstack([start, sent]), axis=0) / DT
    assert (sent >= limits.low - 1e-9).all() and (sent <= limits.high + 1e-9).all()
    check_velocities(limits, velocity, 1e-5)


def check_velocities(limits, velocity, slack=1e-9):
    acceleration = np.diff(np.vstack([np.zeros_like(velocity[0]), velocity]), axis=0) / DT
    assert np.isfinite(velocity).all()
    assert (np.abs(velocity) <= limits.velocity + slack).all()
    assert (np.abs(acceleration) <= limits.acceleration + slack / DT).all()


class Plant:
    """Joints that follow velocity commands after a delay of some ticks."""

    def __init__(self, positions, delay_ticks):
        self.positions = positions
        self._commands = [np.zeros_like(positions)] * delay_ticks
        self.lowest = self.highest = positions

    def follow(self, velocity):
        self._commands.append(velocity)
        self.positions = self.positions + self._commands.pop(0) * DT
        self.lowest = np.minimum(self.lowest, self.positions)
        self.highest = np.maximum(self.highest, self.positions)


# Position commands ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 10.0, 1e9]))
def test_whatever_is_asked_positions_stay_within_all_limits(seed, scale):
    rng = np.random.default_rng(seed)
    limits = limits_of(rng)
    gate = SafetyGate(limits, DT)
    gate.start(limits.low + rng.random(5) * (limits.high - limits.low))
    start = gate.position
    sent = drive(gate, hostile(rng, 500, 5, scale), rng)
    check_positions(limits, start, sent)


def test_a_long_hostile_stream_stays_within_all_limits():
    """20,000 commands of 50 joints at once: a million values."""
    rng = np.random.default_rng(1)
    limits = limits_of(rng, 50)
    gate = SafetyGate(limits, DT)
    gate.start(np.zeros(50))
    start, targets = gate.position, hostile(rng, 20_000, 50, 2.0)
    # Bad values in few joints at a time, or every command would be rejected.
    finite = np.where(np.isfinite(targets), targets, 0.0)
    rejected = rng.random(20_000) < 0.02
    check_positions(limits, start, drive(gate, np.where(rejected[:, None], targets, finite), rng))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_target_is_rejected_not_clipped_and_the_joint_is_named(vx300s, bad):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    target = HOME.copy()
    target[3] = bad
    assert gate.apply(target) is None
    (violation,) = gate.check(target)
    assert (violation.kind, violation.joint) == ("non_finite", 3)
    assert "forearm_roll" in violation.text(vx300s.action_names)
    assert gate.position.tolist() == HOME.tolist()


def test_a_target_of_another_width_is_rejected(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    for width, named in ((0, 0), (3, 3), (8, 6)):
        assert gate.apply(np.zeros(width)) is None
        assert gate.check(np.zeros(width))[0].joint == named


def test_a_gentle_motion_passes_unchanged_without_a_violation(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    for t in np.arange(300) * DT:
        target = HOME + 0.3 * (1 - np.cos(t)) * np.array([1, 1, -1, 1, 1, 1, 0])
        gated = gate.apply(target)
        assert np.abs(gated.command - target).max() < 1e-6
        assert not gated.clipped and gated.violations == ()


def test_after_a_clipped_step_the_target_is_reached_without_ringing(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    target = HOME + np.array([0.5, 0, 0, 0, 0, 0, 0])
    sent = np.array([gate.apply(target).command[0] for _ in range(150)])
    assert sent[-1] == pytest.approx(0.5, abs=1e-6)
    assert sent.max() <= 0.5 + 1e-3


def test_a_violation_names_kind_joint_and_values_and_catching_up_is_none(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    target = HOME.copy()
    target[0] = 0.5  # 50 rad/s from here
    (violation,) = gate.check(target)
    assert violation == Violation("velocity", 0, pytest.approx(50.0), pytest.approx(2.5))
    assert violation.text(vx300s.action_names) == "waist: velocity 50.000 asked, 2.500 allowed"
    assert gate.apply(target).violations == (violation,)
    (violation,) = gate.apply(target).violations  # the source stops as abruptly as it went
    assert violation.kind == "acceleration"
    gated = [gate.apply(target) for _ in range(10)]
    assert all(g.clipped and g.violations == () for g in gated)


def test_a_small_step_breaks_the_acceleration_limit_only(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    (violation,) = gate.apply(HOME + np.array([0.02, 0, 0, 0, 0, 0, 0])).violations
    assert violation == Violation("acceleration", 0, pytest.approx(200.0), pytest.approx(60.0))


def test_a_target_beyond_a_position_limit_is_named_with_the_limit(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    (violation,) = gate.check(HOME + np.array([0, 10.0, 0, 0, 0, 0, 0]))
    assert violation == Violation("position", 1, pytest.approx(9.04), pytest.approx(1.26))


def test_check_changes_nothing(vx300s):
    gates = [SafetyGate(vx300s.limits, DT) for _ in range(2)]
    for gate in gates:
        gate.start(HOME)
    gates[0].check(HOME + 1.0)
    assert gates[0].apply(HOME + 0.01).violations == gates[1].apply(HOME + 0.01).violations
    assert gates[0].position.tolist() == gates[1].position.tolist()


def test_a_stop_brakes_at_the_acceleration_limit_and_then_holds(vx300s):
    gate = SafetyGate(vx300s.limits, DT)
    gate.start(HOME)
    for _ in range(10):
        gate.apply(HOME + np.array([1.5, 0, 0, 0, 0, 0, 0]))
    assert gate.moving and gate.velocity[0] == pytest.approx(2.5)
    sent = [gate.position] + [gate.brake() for _ in range(20)]
    velocity = np.diff(sent, axis=0)[:, 0] / DT
    assert velocity[:4] == pytest.approx([1.9, 1.3, 0.7, 0.1], abs=1e-6)
    assert not velocity[5:].any() and not gate.moving


def test_a_gate_without_a_start_says_so(vx300s):
    for gate in (SafetyGate(vx300s.limits, DT), VelocityGate(vx300s.limits, DT)):
        with pytest.raises(RuntimeError, match="start"):
            gate.apply(HOME, HOME)
        gate.start(HOME)
        gate.stop_stream()
        with pytest.raises(RuntimeError, match="start"):
            gate.apply(HOME, HOME)


# Velocity commands ------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 10.0, 1e9]), st.sampled_from([0, 1, 3, 5])
)
def test_whatever_is_asked_velocities_and_measured_joints_stay_within_all_limits(
    seed, scale, delay_ticks
):
    rng = np.random.default_rng(seed)
    limits = limits_of(rng)
    gate = VelocityGate(limits, DT, delay_s=0.05)
    plant = Plant(limits.low + rng.random(5) * (limits.high - limits.low), delay_ticks)
    gate.start(plant.positions)
    sent = drive(gate, hostile(rng, 500, 5, scale), rng, plant)
    check_velocities(limits, sent)
    assert (plant.lowest >= limits.low - 1e-9).all()
    assert (plant.highest <= limits.high + 1e-9).all()


def test_a_joint_driven_towards_its_limit_slows_down_and_stops_just_inside(vx300s):
    gate, plant = VelocityGate(vx300s.limits, DT, delay_s=0.0), Plant(HOME, 0)
    gate.start(HOME)
    kinds = set()
    for _ in range(300):
        gated = gate.apply(np.array([2.0, 0, 0, 0, 0, 0, 0]), plant.positions)
        kinds |= {(v.kind, v.joint) for v in gated.violations[:1]}
        plant.follow(gated.command)
    assert plant.positions[0] == pytest.approx(vx300s.limits.high[0], abs=1e-3)
    assert plant.positions[0] <= vx300s.limits.high[0] + 1e-9
    assert kinds == {("acceleration", 0), ("position", 0)}  # first the jump from rest to 2 rad/s


def test_a_joint_beyond_its_limit_may_only_move_back(vx300s):
    outside = HOME.copy()
    outside[6] = 1.2
    gate = VelocityGate(vx300s.limits, DT)
    gate.start(outside)
    out, back = np.eye(7)[6], -np.eye(7)[6]
    assert gate.apply(out, outside).command[6] == 0.0
    assert gate.apply(back, outside).command[6] < 0.0


def test_a_velocity_stream_brakes_to_zero_and_stays_there(vx300s):
    gate, target = VelocityGate(vx300s.limits, DT), np.array([2.0, -2.0, 0, 0, 0, 0, 0])
    gate.start(HOME)
    for _ in range(5):
        gate.apply(target, HOME)
    assert gate.moving and gate.velocity[:2] == pytest.approx([2.0, -2.0])
    sent = np.array([gate.brake() for _ in range(10)])
    assert sent[:, 0] == pytest.approx([1.4, 0.8, 0.2, 0, 0, 0, 0, 0, 0, 0], abs=1e-9)
    assert sent[:, 1] == pytest.approx(-sent[:, 0])
    assert not gate.moving


def test_without_finite_measured_joints_a_velocity_is_rejected(vx300s):
    gate = VelocityGate(vx300s.limits, DT)
    gate.start(HOME)
    lost = HOME.copy()
    lost[2] = np.nan
    assert gate.apply(np.zeros(7), lost) is None
    assert gate.check(np.zeros(7), lost)[0].joint == 2


def test_a_robot_gets_the_gate_of_its_command_interface(vx300s):
    velocity = replace(vx300s, action=(replace(vx300s.action[0], command="velocity"),))
    mixed = replace(vx300s, action=vx300s.action + velocity.action)
    assert isinstance(make_gate(vx300s), SafetyGate)
    assert isinstance(make_gate(velocity), VelocityGate)
    with pytest.raises(ContractError, match="got position and velocity"):
        make_gate(mixed)


positive = st.floats(5e-324, 1.7e308)
anything = st.floats(-1.7e308, 1.7e308)
BOTH = [-1.7e308, 1.7e308]


@settings(max_examples=60, deadline=None)
@example(ends=[0.0, 1.0], velocity=1.0, acceleration=5e-324, targets=[0.0, 0.5], rate_hz=100.0)
@example(ends=BOTH, velocity=1.0, acceleration=1.0, targets=[1e308, 0.0], rate_hz=1.0)
@example(ends=BOTH, velocity=1e308, acceleration=1e308, targets=[0.0, 1e308], rate_hz=100.0)
@example(ends=[0.0, 1.0], velocity=1.0, acceleration=1.0, targets=[1e308, 0.0], rate_hz=100.0)
@given(
    ends=st.lists(anything, min_size=2, max_size=2, unique=True).map(sorted),
    velocity=positive,
    acceleration=positive,
    targets=st.lists(anything, min_size=1, max_size=12),
    rate_hz=st.floats(1.0, 1000.0),
)
def test_limits_of_any_size_never_make_a_gate_send_what_is_no_number(
    ends, velocity, acceleration, targets, rate_hz
):
    one = np.ones(1)
    limits = Limits(ends[0] * one, ends[1] * one, velocity * one, acceleration * one, one)
    position, speed = SafetyGate(limits, 1 / rate_hz), VelocityGate(limits, 1 / rate_hz)
    position.start(targets[0] * one)
    speed.start(targets[0] * one)
    for target in targets:
        for _ in range(3):
            sent = position.apply(target * one).command
            assert np.isfinite(sent).all() and np.isfinite(position.velocity).all()
            assert np.isfinite(speed.apply(target * one, targets[0] * one).command).all()
        assert np.isfinite(position.brake()).all() and np.isfinite(speed.brake()).all()


def test_a_joint_with_limits_too_small_for_arithmetic_stands_and_the_others_move(vx300s):
    for name in ("velocity", "acceleration"):
        small = getattr(vx300s.limits, name).copy()
        small[0] = 1e-310
        for kind in (SafetyGate, VelocityGate):
            gate = kind(replace(vx300s.limits, **{name: small}), DT)
            gate.start(HOME)
            for _ in range(5):
                gate.apply(HOME + 0.1, HOME)
            assert gate.velocity[0] == 0.0 and gate.velocity[1] != 0.0


# What follows from a violation ------------------------------------------------------------------


def test_the_severest_verdict_of_the_contract_counts():
    policy = OnViolation(position="fault", velocity="hold", acceleration="clip", non_finite="hold")
    found = {kind: Violation(kind, 0, 1.0, 0.0) for kind in KINDS}
    assert worst([], policy) == "clip"
    assert worst([found["acceleration"]], policy) == "clip"
    assert worst([found["acceleration"], found["velocity"]], policy) == "hold"
    assert worst(found.values(), policy) == "fault"


def test_a_kind_counts_once_per_command():
    counts = ViolationCounts()
    counts.add([Violation("velocity", joint, 1.0, 0.0) for joint in range(3)])
    counts.add([Violation("velocity", 0, 1.0, 0.0), Violation("position", 1, 1.0, 0.0)])
    assert counts == {"non_finite": 0, "position": 1, "velocity": 2, "acceleration": 0}


def test_a_start_far_from_the_measured_joints_is_named(vx300s):
    assert start_jump(HOME + 0.2, HOME, vx300s) == ""
    text = start_jump(HOME + np.array([0, 0.6, 0, 0, 0, 0, 0]), HOME, vx300s)
    assert text == "shoulder commanded to -0.360, measured -0.960, max_start_jump 0.25"
    assert "elbow" in start_jump(HOME, np.where(np.arange(7) == 2, np.nan, HOME), vx300s)


def test_a_first_command_whole_turns_from_the_measured_joint_says_so(vx300s):
    command, measured = HOME.copy(), HOME.copy()
    command[0], measured[0] = 3.1, 3.1 - 2 * np.pi
    assert start_jump(command, measured, vx300s).startswith(
        "waist commanded to 3.100, measured -3.183, max_start_jump 0.25; 2π more is 3.100"
    )
    command[6], measured[6] = 0.0, 2 * np.pi  # a gripper has no turns
    assert "π" not in start_jump(np.append(HOME[:6], 0.0), measured * (np.arange(7) == 6), vx300s)


def test_joints_outside_their_limits_are_named_with_value_and_limit(vx300s):
    assert outside_limits(HOME, vx300s) == ""
    just = HOME.copy()
    just[1], just[2] = 1.26 + 0.24, -1.76 - 0.24  # within max_start_jump of the limits
    assert outside_limits(just, vx300s) == ""
    for value, hint in ((1.52, "move it inside"), (1.1 + 2 * np.pi, "2π less is 1.100")):
        just[1] = value
        text = outside_limits(just, vx300s)
        assert text.startswith(f"shoulder is at {value:.3f}, outside")
        assert "[-1.85, 1.26]" in text and hint in text
    limits = vx300s.limits
    for limit, sign in ((limits.low, -1), (limits.high, 1)):
        edge = HOME.copy()
        edge[6] = limit[6] + sign * limits.start_jump[6]
        assert outside_limits(edge, vx300s) == ""
        edge[6] += sign * 1e-6
        assert outside_limits(edge, vx300s).startswith("gripper is at")
    assert "elbow is at nan" in outside_limits(np.where(np.arange(7) == 2, np.nan, HOME), vx300s)


# At the edges -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(distance=st.floats(1e-6, 10), step=st.floats(1e-4, 10), period_s=st.floats(1e-3, 0.1))
def test_braking_in_whole_ticks_from_the_braking_speed_ends_exactly_at_the_distance(
    distance, step, period_s
):
    speed = float(braking_speed(np.array([distance]), np.array([step]), period_s)[0])
    ticks = int(speed / step + 1e-9) + 1
    travelled = sum(max(speed - k * step, 0.0) for k in range(ticks)) * period_s
    assert travelled == pytest.approx(distance, rel=1e-6)


def test_a_joint_moves_from_a_billionth_per_second_on_in_either_direction(vx300s):
    still, moved = 0.7e-9, 1.5e-9
    for sign in (1, -1):
        for kind in (SafetyGate, VelocityGate):
            for speed, moving in ((still, False), (moved, True)):
                gate = kind(vx300s.limits, DT)
                gate.start(np.zeros(7) if kind is SafetyGate else HOME)
                target = sign * speed * np.eye(7)[0]
                gate.apply(target * DT if kind is SafetyGate else target, HOME)
                assert gate.moving is moving


@pytest.mark.parametrize("kind", [SafetyGate, VelocityGate])
@pytest.mark.parametrize("again", ["start", "stop_stream"])
def test_a_new_stream_knows_nothing_of_the_one_before(vx300s, kind, again):
    near = HOME.copy()
    near[0] = vx300s.limits.high[0] - 0.02
    used, fresh = kind(vx300s.limits, DT), kind(vx300s.limits, DT)
    used.start(near)
    target = near + 0.02 * np.eye(7)[0] if kind is SafetyGate else 2.0 * np.eye(7)[0]
    for _ in range(2):
        used.apply(target, near)
    assert used.moving
    if again == "stop_stream":
        used.stop_stream()
        assert not used.moving and not used.velocity.any()
    for gate in (used, fresh):
        gate.start(near)
    assert not used.moving and not used.velocity.any()
    one, other = used.apply(target, near), fresh.apply(target, near)
    np.testing.assert_array_equal(one.command, other.command)
    assert one.violations == other.violations


@pytest.mark.parametrize("kind", [SafetyGate, VelocityGate])
def test_acceleration_is_that_of_the_source_from_one_target_to_the_next(vx300s, kind):
    gate = kind(vx300s.limits, DT)
    gate.start(HOME)
    speeds, place, asked = (0.5, 1.0, 1.0, -1.0, -1.0), HOME.copy(), []
    for speed in speeds:
        place = place + speed * DT * np.eye(7)[0]
        target = place if kind is SafetyGate else speed * np.eye(7)[0]
        violations = gate.check(target, HOME)
        assert gate.apply(target, HOME).violations == violations
        asked.append([(v.kind, v.joint, round(v.asked), round(v.allowed)) for v in violations])
    assert asked == [[], [], [], [("acceleration", 0, -200, -60)], []]


def test_a_velocity_beyond_its_limit_is_named_as_that_and_one_too_fast_to_stop_by_position(vx300s):
    gate = VelocityGate(vx300s.limits, DT)
    gate.start(HOME)
    (violation,) = gate.check(-3.0 * np.eye(7)[0], HOME)
    assert violation == Violation("velocity", 0, -3.0, -2.5)
    near = HOME.copy()
    near[1] = vx300s.limits.low[1] + 1e-3
    (violation,) = gate.check(-0.5 * np.eye(7)[1], near)
    assert (violation.kind, violation.joint, violation.asked) == ("position", 1, -0.5)
    assert violation.allowed == pytest.approx(-0.1)


def test_clipped_says_that_what_goes_out_is_not_what_was_asked(vx300s):
    limit = HOME.copy()
    limit[0] = vx300s.limits.high[0]
    for beyond, clipped in ((0.9e-6, False), (1.1e-6, True)):
        gate = SafetyGate(vx300s.limits, DT)
        gate.start(limit)
        assert gate.apply(limit + beyond * np.eye(7)[0]).clipped is clipped
        for sign in (1, -1):
            gate = VelocityGate(vx300s.limits, DT)
            gate.start(HOME)
            assert gate.apply(sign * (0.6 + beyond) * np.eye(7)[0], HOME).clipped is clipped


def test_what_was_sent_and_cannot_show_yet_counts_for_as_many_ticks_as_the_delay(vx300s):
    """Joints that seem to stand near a limit while they are driven at it."""
    limits = replace(vx300s.limits, acceleration=np.full(7, 1e4))
    waist = np.eye(7)[0]
    for sign, limit in ((1, limits.high), (-1, limits.low)):
        near = HOME.copy()
        near[0] = limit[0] - sign * 0.06
        for delay_s, sent in ((None, 0.05), (0.05, 0.05), (0.03, 0.03), (0.021, 0.03), (0.0, 0)):
            gate = VelocityGate(limits, DT, *([] if delay_s is None else [delay_s]))
            gate.start(near)
            for _ in range(8):
                gate.apply(sign * waist, near)
            gated = gate.apply(sign * 9.0 * waist, near)
            assert gated.command[0] == pytest.approx(sign * min((0.06 - sent) / DT, 2.5))
        gate = VelocityGate(limits, DT)
        gate.start(near)
        for _ in range(8):  # what moves away makes no room, for it may show at any time
            gate.apply(-sign * waist, near)
        near[0] = limit[0] - sign * 0.01
        assert gate.apply(sign * 2.0 * waist, near).command[0] == pytest.approx(sign)


@pytest.mark.parametrize("sign", [1, -1])
def test_towards_a_position_limit_the_gate_brakes_in_time_and_alike_on_both_sides(sign):
    one = np.ones(1)
    gate = SafetyGate(Limits(-one, one, 2.5 * one, 60.0 * one, one), DT)
    gate.start(0 * one)
    sent = np.array([gate.apply(sign * 9.0 * one).command[0] for _ in range(80)])
    velocity = np.diff(np.append(0.0, sent)) / DT
    assert np.abs(np.diff(velocity)).max() <= 0.6 + 1e-9
    assert np.abs(velocity).max() == pytest.approx(2.5) and sent[-1] == pytest.approx(sign)
    assert len(sent[np.abs(sent) < 1 - 1e-9]) < 46  # as soon as the limits let it
    gate.start(0 * one)
    caught = np.array([gate.apply(sign * 0.5 * one).command[0] for _ in range(60)])
    assert caught[-1] == pytest.approx(sign * 0.5, abs=1e-9)
    assert (sign * caught).max() <= 0.5 + 1e-9 and np.flatnonzero(sign * caught > 0.499)[0] < 32


def test_a_robots_gate_works_at_its_command_rate(vx300s):
    made, own = make_gate(vx300s), SafetyGate(vx300s.limits, 0.01)
    for gate in (made, own):
        gate.start(HOME)
    one, other = (gate.apply(HOME + 0.1) for gate in (made, own))
    np.testing.assert_allclose(one.command, other.command)
    assert one.violations == other.violations


def test_a_first_command_at_the_edge_of_the_start_jump_is_no_jump_on_either_side(vx300s):
    for sign in (1, -1):
        at_edge = HOME + sign * 0.25 * np.eye(7)[0]
        assert start_jump(at_edge, HOME, vx300s) == ""
        assert "waist" in start_jump(at_edge + sign * 1e-6 * np.eye(7)[0], HOME, vx300s)


def test_limits_that_arithmetic_holds_are_the_limits(vx300s):
    """At its largest, and where a joint just does not stand."""
    one = np.ones(1)
    gate = SafetyGate(Limits(-1e9 * one, 1e9 * one, 1e-9 * one, 1e-9 * one, one), 1.0)
    gate.start(2e9 * one)
    assert gate.position == 1e9
    gate.start(-2e9 * one)
    assert gate.position == -1e9
    gate = VelocityGate(Limits(-one, one, 1e-9 * one, 1e-9 * one, one), 1.0)
    gate.start(0 * one)
    assert gate.apply(one, 0 * one).command == 1e-9
    gate = VelocityGate(Limits(-1e12 * one, 1e12 * one, 1e12 * one, 1e12 * one, one), 1.0)
    gate.start(0 * one)
    assert gate.apply(1e12 * one, 0 * one).command == pytest.approx(1e9)
