"""Poses in the command path: what is beyond a limit never goes out, and rotations are rotations."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewact_ros.contract.schema import Limits
from rewact_ros.control.chunks import COMBINE, Chunk, ChunkQueue
from rewact_ros.control.motion import Handover, ResetMotion
from rewact_ros.control.pose_gate import PoseGate, TwistGate
from rewact_ros.control.space import Space, mean_rotation, slerp, turn_between, turned
from rewact_ros.rotations import quaternion, rotation_vector

PERIOD_S = 0.01
LIMITS = Limits(
    low=np.array([0.2, -0.4, 0.0, *[-math.pi] * 3]),
    high=np.array([0.7, 0.4, 0.6, *[math.pi] * 3]),
    velocity=np.array([0.25] * 3 + [0.6] * 3),
    acceleration=np.array([2.0] * 3 + [5.0] * 3),
    start_jump=np.array([0.03] * 3 + [0.2] * 3),
)
HOME = np.array([0.4, 0.0, 0.3, 0.0, math.pi - 0.01, 0.0])
SPACE = Space([0])
vectors = st.lists(st.floats(-3, 3), min_size=3, max_size=3).map(np.array)


def lengths(steps):
    """(N, 2) of differences (N, 6): linear and angular."""
    return np.stack([np.linalg.norm(steps[:, :3], axis=1), np.linalg.norm(steps[:, 3:], axis=1)], 1)


def assert_within(sent, start=HOME, limits=LIMITS):
    """Workspace, speed and acceleration of a stream of poses that began at rest."""
    sent = np.stack([start, start, *sent])
    assert np.isfinite(sent).all()
    assert (sent[:, :3] >= limits.low[:3] - 1e-12).all()
    assert (sent[:, :3] <= limits.high[:3] + 1e-12).all()
    steps = [SPACE.minus(b, a) for a, b in itertools.pairwise(sent)]
    velocity = np.stack(steps) / PERIOD_S
    top = limits.velocity[[0, 3]]
    assert (lengths(velocity) <= top * (1 + 1e-6) + 1e-9).all()
    change = np.diff(velocity, axis=0) / PERIOD_S
    # Steps near the wall are rounded: 1e-16 m over a tick squared.
    assert (lengths(change) <= limits.acceleration[[0, 3]] * (1 + 1e-5) + 1e-6).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.2, 5.0]))
def test_whatever_is_asked_workspace_speed_and_acceleration_hold(seed, wild):
    rng = np.random.default_rng(seed)
    gate, sent, target = PoseGate(LIMITS, PERIOD_S), [], HOME
    gate.start(HOME)
    for _ in range(200):
        if rng.random() < 0.2:
            target = SPACE.plus(HOME, rng.normal(0, wild, 6))
        if rng.random() < 0.1:
            sent.append(gate.brake())
            continue
        gated = gate.apply(target)
        assert gated is not None
        sent.append(gated.command)
    while gate.moving:
        sent.append(gate.brake())
    assert_within(sent)


def test_a_pose_within_the_limits_goes_out_as_it_is():
    gate = PoseGate(LIMITS, PERIOD_S)
    gate.start(HOME)
    for k in range(200):
        s = k * PERIOD_S
        target = SPACE.plus(HOME, np.array([0.05, 0.02, 0, 0, 0.1, 0.1]) * (1 - math.cos(s)))
        gated = gate.apply(target)
        assert gated.violations == ()
    assert not gated.clipped
    np.testing.assert_allclose(SPACE.minus(gated.command, target), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("target", "kind", "joint"),
    [
        (HOME + np.array([0.5, 0, 0, 0, 0, 0]), "position", 0),
        (HOME + np.array([0, 0.1, 0, 0, 0, 0]), "velocity", 1),
        (SPACE.plus(HOME, np.array([0, 0, 0, 0, 0, 0.3])), "velocity", 5),
        (HOME + np.array([0, 0, 0.001, 0, 0, 0]), "acceleration", 2),
        (HOME * [1, math.nan, 1, 1, 1, 1], "non_finite", 1),
        (HOME[:5], "non_finite", 5),
    ],
)
def test_what_is_asked_beyond_a_limit_is_named(target, kind, joint):
    gate = PoseGate(LIMITS, PERIOD_S)
    gate.start(HOME)
    violations = gate.check(target)
    assert (kind, joint) in [(v.kind, v.joint) for v in violations]
    gated = gate.apply(target)
    assert (gated is None) == (kind == "non_finite")


def test_a_turn_through_half_a_circle_is_a_small_step():
    """Where the rotation vector flips its sign, the rotation goes on."""
    before, after = np.array([0, math.pi - 0.01, 0]), np.array([0, -(math.pi - 0.01), 0])
    np.testing.assert_allclose(turn_between(before, after), [0, 0.02, 0], atol=1e-12)
    gate = PoseGate(LIMITS, PERIOD_S)
    gate.start(HOME)
    sent = []
    for k in range(100):
        target = SPACE.plus(HOME, np.array([0, 0, 0, 0, 0.3 * k * PERIOD_S, 0]))
        sent.append(gate.apply(target).command)
    assert sent[-1][4] < 0 < sent[0][4]
    assert_within(sent)
    np.testing.assert_allclose(SPACE.minus(sent[-1], target), 0, atol=1e-6)


@given(vectors, vectors)
def test_difference_and_sum_of_poses_undo_each_other(a, b):
    there = np.array(turned(a, np.array(turn_between(a, b))))
    np.testing.assert_allclose(
        np.abs(np.dot(quaternion(tuple(there)), quaternion(tuple(b)))), 1.0, atol=1e-12
    )


@given(vectors, vectors, st.floats(0, 1))
def test_slerp_turns_at_a_constant_speed_by_the_shorter_way(a, b, share):
    qa, qb = quaternion(tuple(a)), quaternion(tuple(b))
    between = np.array(rotation_vector(slerp(qa, qb, share)))
    whole = np.linalg.norm(turn_between(a, b))
    assert np.linalg.norm(turn_between(a, between)) == pytest.approx(share * whole, abs=1e-6)


@given(st.lists(vectors, min_size=1, max_size=5), vectors)
def test_a_mean_of_rotations_turns_with_them_and_does_not_mind_signs(rotations, by):
    """What the mean of rotation vectors does not do."""
    near = [np.array(turned(0.3 * r / 3, np.zeros(3))) for r in rotations]
    weights = [1.0 + k for k in range(len(near))]
    plain = mean_rotation([quaternion(tuple(r)) for r in near], weights)
    turned_all = [tuple(-x for x in quaternion(turned(r, by))) for r in near]
    mean = mean_rotation(turned_all, weights)
    want = quaternion(turned(np.array(rotation_vector(plain)), by))
    assert abs(np.dot(mean, want)) == pytest.approx(1.0, abs=1e-9)


def chunk_of(stamp_ns, poses):
    return Chunk(stamp_ns, 1, np.stack(poses), 0.1)


@pytest.mark.parametrize("combine", COMBINE)
def test_chunks_of_poses_are_interpolated_and_averaged_as_rotations(combine):
    """Across the flip of the rotation vector, where a mean of vectors would be near zero."""
    queue = ChunkQueue(6, combine, poses=(0,))
    queue.start_epoch(1, 0)
    turn = np.array([0, 0, 0, 0, 0.02, 0])
    poses = [SPACE.plus(HOME, k * turn) for k in range(10)]
    queue.add(chunk_of(0, poses), 0)
    queue.add(chunk_of(100_000_000, poses[1:]), 110_000_000)
    for time_ms in (120, 150, 230, 310):
        command = queue.sample(time_ms * 1_000_000)
        want = SPACE.plus(HOME, time_ms / 100 * turn)
        np.testing.assert_allclose(SPACE.minus(command, want), 0, atol=1e-9)


def test_a_reset_takes_the_shortest_turn_at_the_speed_that_is_allowed():
    goal = SPACE.plus(HOME, np.array([0.1, 0.1, 0, 0, 0.5, 0]))
    motion = ResetMotion.plan(HOME, goal, 0, 0.5, LIMITS, SPACE)
    sent = [motion.at(round(t * 1e9))[0] for t in np.arange(0, motion.duration_s + 0.01, PERIOD_S)]
    assert_within(sent)
    np.testing.assert_allclose(SPACE.minus(sent[-1], goal), 0, atol=1e-9)


def test_a_handover_between_poses_begins_where_the_arm_is_and_ends_on_the_new_source():
    target = SPACE.plus(HOME, np.array([0.01, 0, 0, 0, 0.1, 0]))
    handover = Handover(HOME, np.zeros(6), 0.5, SPACE)
    first = handover.apply(target, np.zeros(6), 0)
    np.testing.assert_allclose(SPACE.minus(first, HOME), 0, atol=1e-12)
    sent = [handover.apply(target, np.zeros(6), k * 10_000_000) for k in range(60)]
    assert_within(sent)
    np.testing.assert_allclose(SPACE.minus(sent[-1], target), 0, atol=1e-12)


class Arm:
    """An arm that does what a twist says, after a delay of some ticks."""

    def __init__(self, delay=3):
        self.pose, self.twists = HOME.copy(), [np.zeros(6)] * delay

    def take(self, twist):
        self.twists.append(twist)
        self.pose = SPACE.plus(self.pose, self.twists.pop(0) * PERIOD_S)


def test_an_arm_led_by_twists_follows_the_poses_and_stops_by_zeros():
    gate, arm, sent = TwistGate(LIMITS, PERIOD_S), Arm(), []
    gate.start(arm.pose)
    for k in range(300):
        target = SPACE.plus(HOME, np.array([0.04, 0.02, 0, 0, 0.2, 0]) * (1 - math.cos(k / 50)))
        gate.apply(target, arm.pose)
        sent.append(gate.twist)
        arm.take(gate.twist)
    assert np.abs(SPACE.minus(arm.pose, target)).max() < 0.01
    while gate.moving:
        gate.brake(arm.pose)
        sent.append(gate.twist)
        arm.take(gate.twist)
    np.testing.assert_array_equal(sent[-1], 0)
    assert (lengths(np.stack(sent)) <= LIMITS.velocity[[0, 3]] + 1e-9).all()
    change = np.diff(np.stack([np.zeros(6), *sent]), axis=0) / PERIOD_S
    assert (lengths(change) <= LIMITS.acceleration[[0, 3]] * (1 + 1e-6)).all()


def test_a_twist_does_not_lead_the_measured_arm_out_of_the_workspace():
    gate, arm = TwistGate(LIMITS, PERIOD_S), Arm(delay=0)
    gate.start(arm.pose)
    for _ in range(400):
        gate.apply(HOME + np.array([5.0, 5.0, 5.0, 0, 0, 0]), arm.pose)
        arm.take(gate.twist)
        assert (arm.pose[:3] <= LIMITS.high[:3] + 1e-6).all()
    np.testing.assert_allclose(arm.pose[:3], LIMITS.high[:3], atol=5e-3)


def test_an_arm_that_is_pushed_while_it_holds_is_not_pulled_back():
    gate = TwistGate(LIMITS, PERIOD_S)
    gate.start(HOME)
    pushed = HOME + np.array([0.02, 0, 0, 0, 0, 0])
    gate.brake(pushed)
    np.testing.assert_array_equal(gate.twist, 0)
    np.testing.assert_allclose(gate.position, pushed)
