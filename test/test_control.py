"""The command path: what reaches the robot, when, and what stops it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from rewact_ros.control.chunks import Chunk
from rewact_ros.control.modes import TRANSITIONS, Event, Mode, ModeMachine
from rewact_ros.control.path import CommandPath
from rewact_ros.control.timing import DurationHistogram
from rewact_ros.control.watch import Now

MS = 1_000_000
HOME = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 1.0])


def check_limits(contract, sent):
    limits, dt = contract.limits, 0.01
    velocity = np.diff(sent, axis=0) / dt
    acceleration = np.diff(np.vstack([np.zeros(7), velocity]), axis=0) / dt
    assert np.isfinite(sent).all()
    assert (sent >= limits.low - 1e-9).all() and (sent <= limits.high + 1e-9).all()
    assert (np.abs(velocity) <= limits.velocity + 1e-6).all()
    assert (np.abs(acceleration) <= limits.acceleration + 1e-4).all()


# Modes ------------------------------------------------------------------------------------------


def test_only_the_edges_of_the_table_change_a_mode():
    for mode, event in itertools.product(Mode, Event):
        machine = ModeMachine()
        machine.mode = mode
        moved = machine.fire(event, "test")
        assert moved == ((mode, event) in TRANSITIONS)
        assert machine.mode == TRANSITIONS.get((mode, event), mode)


def test_no_single_event_leads_from_disarmed_to_motion():
    reachable = {TRANSITIONS[edge] for edge in TRANSITIONS if edge[0] is Mode.DISARMED}
    assert reachable == {Mode.HOLD}


# The whole path ---------------------------------------------------------------------------------


class Robot:
    """A command path with a fake clock; by default policy, joints and lease are all well."""

    def __init__(self, contract):
        self.path = CommandPath(contract)
        self.ms = 1000
        self.measured = HOME.copy()
        self.sent = []
        self.policy_fault = ""
        self.beat = self.joints = self.renew = self.chunks = True
        self.lease = Mode.HOLD
        self.request = 1
        self.offset = np.zeros(7)
        self.jump_ms = 0
        self.blocked = False  # an emergency stop, an obstacle

    @property
    def now(self):
        return Now(self.ms / 1000, self.ms / 1000, (self.ms + 60_000 + self.jump_ms) * MS)

    def run(self, ms):
        for _ in range(ms // 10):
            self.ms += 10
            if self.joints and self.ms % 20 == 0:
                self.path.joints.take(self.measured, self.now.age_s)
            if self.beat and self.ms % 30 == 0:
                self.path.heartbeat.take(self.policy_fault, self.now)
            if self.renew and self.ms % 100 == 0:
                self.path.on_request(self.lease, "supervisor", self.request, self.now)
            if self.chunks and self.ms % 50 == 0:
                self.path.on_chunk(self.chunk(), self.now)
            command = self.path.step(self.now)
            self.sent.append(command)
            if command is not None and not self.blocked:
                self.measured = command.copy()
        return self

    def chunk(self):
        """From an observation 20 ms ago: hold the measured joints plus an offset."""
        return Chunk(
            self.now.ros_ns - 20 * MS, self.path.epoch, np.tile(HOME + self.offset, (20, 1)), 0.05
        )

    def moving_under_policy(self):
        self.run(100)
        assert self.path.arm(self.now).ok
        self.lease = Mode.POLICY
        self.offset = np.array([0.2, 0, 0, 0, 0, 0, 0])
        self.run(300)
        assert self.path.mode is Mode.POLICY
        return self


@pytest.fixture
def robot(vx300s):
    return Robot(vx300s)


def test_nothing_is_sent_before_arm(robot):
    robot.lease = Mode.POLICY
    robot.run(2000)
    assert all(command is None for command in robot.sent)
    assert robot.path.mode is Mode.DISARMED


def test_arming_needs_fresh_joints(robot):
    assert not robot.path.arm(robot.now).ok
    robot.run(100)
    robot.joints = False
    robot.run(300)
    answer = robot.path.arm(robot.now)
    assert not answer.ok and "joint state" in answer.reason


@pytest.mark.parametrize("command", ["position", "velocity"])
def test_arming_a_joint_that_counts_another_turn_is_refused_by_name(vx300s, command):
    action = tuple(replace(part, command=command) for part in vx300s.action)
    robot = Robot(replace(vx300s, action=action))
    robot.measured[1] += 2 * np.pi
    robot.run(100)
    answer = robot.path.arm(robot.now)
    assert not answer.ok and answer.mode is Mode.DISARMED
    for words in ("shoulder is at 5.323", "[-1.85, 1.26]", "2π less is -0.960"):
        assert words in answer.reason
    robot.run(100)
    assert all(command is None for command in robot.sent)
    robot.measured[1] = 1.26 + 0.2  # a little outside is nothing: the arm is held at the limit
    robot.run(100)
    assert robot.path.arm(robot.now).ok


def test_policy_moves_the_arm_smoothly_to_the_chunk(robot, vx300s):
    robot.moving_under_policy().run(1000)
    sent = np.array([c for c in robot.sent if c is not None])
    check_limits(vx300s, sent)
    assert sent[-1][0] == pytest.approx(0.2, abs=1e-3)
    assert robot.path.clipped == 0


FAULTS = {
    "heartbeat": lambda r: setattr(r, "beat", False),
    "front": lambda r: setattr(
        r, "policy_fault", "observation.images.front: last message 0.2 s ago"
    ),
    "joint state": lambda r: setattr(r, "joints", False),
    "chunk": lambda r: setattr(r, "chunks", False),
    "lease": lambda r: setattr(r, "renew", False),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_watchdog_brakes_to_a_hold_that_only_resume_ends(robot, vx300s, name):
    robot.moving_under_policy()
    FAULTS[name](robot)
    robot.run(800)
    assert robot.path.mode is Mode.HOLD
    assert name in robot.path.modes.reason and robot.path.modes.resume_required
    check_limits(vx300s, np.array([c for c in robot.sent if c is not None]))
    assert robot.sent[-1] is not None and not robot.path.gate.moving
    # All is well again: still no motion.
    robot.beat = robot.joints = robot.renew = robot.chunks = True
    robot.policy_fault = ""
    robot.run(500)
    assert robot.path.mode is Mode.HOLD
    robot.path.resume()
    robot.run(300)
    assert robot.path.mode is Mode.POLICY


def test_a_new_policy_phase_raises_the_epoch_and_drops_older_chunks(robot):
    robot.moving_under_policy()
    before, old = robot.path.epoch, robot.chunk()
    robot.lease = Mode.HOLD
    robot.run(500)
    robot.lease = Mode.POLICY
    robot.chunks = False
    robot.run(200)
    assert robot.path.epoch == before + 1
    assert "epoch" in robot.path.on_chunk(old, robot.now)
    observed_before = replace(robot.chunk(), stamp_ns=old.stamp_ns)
    assert "before its epoch" in robot.path.on_chunk(observed_before, robot.now)


def test_a_first_command_far_from_the_measured_joints_is_refused(robot):
    robot.run(100)
    robot.path.arm(robot.now)
    robot.lease, robot.offset = Mode.POLICY, np.array([0, 0.6, 0, 0, 0, 0, 0])
    robot.run(400)
    assert robot.path.mode is Mode.HOLD
    assert "shoulder" in robot.path.modes.reason and "max_start_jump" in robot.path.modes.reason


@pytest.mark.parametrize("lease", [Mode.POLICY, Mode.RESET])
def test_nothing_starts_while_a_joint_counts_another_turn_than_its_command(robot, lease):
    """The encoder wraps in HOLD: a policy that follows what it sees would turn the joint back."""
    robot.measured[5] = 3.1
    robot.run(100)
    assert robot.path.arm(robot.now).ok
    robot.run(100)
    robot.path.joints.take(robot.measured - 2 * np.pi * np.eye(7)[5], robot.now.age_s)
    robot.joints = False
    robot.lease, robot.offset = lease, np.array([0, 0, 0, 0, 0, -3.18, 0])
    robot.path.on_request(lease, "supervisor", 1, robot.now)
    robot.run(100)
    assert robot.path.mode is Mode.HOLD and robot.sent[-1][5] == 3.1
    assert "wrist_rotate commanded to 3.100, measured -3.183" in robot.path.modes.reason
    assert "2π more is 3.100" in robot.path.modes.reason


def test_reset_reaches_the_pose_once_per_request(robot, vx300s):
    robot.measured = HOME + np.array([0.4, 0.2, -0.2, 0, 0, 0, -0.5])
    robot.run(100)
    robot.path.arm(robot.now)
    robot.lease = Mode.RESET
    robot.run(1000)
    assert robot.path.mode is Mode.RESET
    robot.run(2500)
    assert robot.path.mode is Mode.HOLD
    assert robot.sent[-1] == pytest.approx(np.array(vx300s.reset.pose), abs=2e-3)
    robot.run(500)
    assert robot.path.mode is Mode.HOLD
    robot.request = 2
    robot.run(200)
    assert robot.path.mode is Mode.RESET
    check_limits(vx300s, np.array([c for c in robot.sent if c is not None]))


def test_disarm_brakes_and_then_is_silent(robot, vx300s):
    robot.moving_under_policy()
    robot.path.disarm()
    robot.run(1000)
    sent = [c for c in robot.sent if c is not None]
    check_limits(vx300s, np.array(sent))
    assert robot.sent[-1] is None
    assert robot.path.mode is Mode.DISARMED


@pytest.mark.parametrize("jump_ms", [-10_000, 10_000])
def test_a_clock_jump_brakes_to_a_hold(robot, vx300s, jump_ms):
    robot.moving_under_policy()
    robot.jump_ms = jump_ms
    robot.chunks = False
    robot.run(100)
    assert robot.path.mode is Mode.HOLD and robot.path.modes.resume_required
    check_limits(vx300s, np.array([c for c in robot.sent if c is not None]))


@pytest.mark.parametrize("jump_ms", [1_000, 10_000])
def test_a_jump_ahead_stops_the_arm_though_a_chunk_of_the_new_time_comes_at_once(robot, jump_ms):
    robot.moving_under_policy().run(40)
    robot.jump_ms = jump_ms
    robot.run(10)
    assert robot.path.policy.queue.newest_stamp_ns == robot.now.ros_ns - 20 * MS
    assert robot.path.mode is Mode.HOLD and "jumped ahead by" in robot.path.modes.reason


def test_a_simulation_may_be_twenty_times_as_fast_as_the_clock(robot):
    robot.moving_under_policy()
    for _ in range(20):
        robot.jump_ms += 190
        robot.run(10)
    assert "jumped" not in robot.path.modes.reason


def test_a_stall_of_hil_itself_is_excused_for_one_tick_only(robot):
    robot.moving_under_policy()
    robot.ms += 400  # the process did not run; everybody's messages wait in its queues
    robot.path.step(robot.now)
    assert robot.path.mode is Mode.POLICY
    robot.ms += 10
    robot.path.step(robot.now)  # no message was waiting after all
    assert robot.path.mode is Mode.HOLD


def test_a_loop_that_is_always_late_is_excused_every_other_tick_only(robot):
    """A machine that is too slow for every tick must not switch the watchdogs off."""
    robot.moving_under_policy()
    late_ms = 100
    for _ in range(2):
        robot.ms += late_ms
        robot.path.joints.take(robot.measured, robot.now.age_s)
        robot.path.on_chunk(robot.chunk(), robot.now)
        robot.path.on_request(Mode.POLICY, "supervisor", 1, robot.now)
        robot.path.step(robot.now)  # the heartbeat stays away
        late_ms = 150
    assert robot.path.mode is Mode.HOLD and "heartbeat" in robot.path.modes.reason


def test_a_second_supervisor_does_not_get_the_lease(robot):
    robot.moving_under_policy()
    refusal = robot.path.on_request(Mode.RESET, "intruder", 1, robot.now)
    assert "supervisor" in refusal
    assert robot.path.mode is Mode.POLICY


def test_histogram_percentiles_are_within_one_percent():
    rng = np.random.default_rng(0)
    values = rng.lognormal(-5, 0.5, 20000)
    histogram = DurationHistogram()
    for value in values:
        histogram.add(float(value))
    summary = histogram.summary()
    assert summary.n == 20000
    for got, share in ((summary.p50_ms, 50), (summary.p99_ms, 99)):
        assert got == pytest.approx(1e3 * np.percentile(values, share), rel=0.02)
    assert summary.max_ms == pytest.approx(1e3 * values.max())


def watching(vx300s, **limits):
    """A robot whose joints are watched while they follow; those without a limit are not."""
    (part,) = vx300s.action
    following = tuple(limits.get(joint, 1e3) for joint in part.joints)
    return Robot(replace(vx300s, action=(replace(part, max_following_error=following),)))


def test_an_arm_that_does_not_follow_is_a_fault_and_falls_silent(vx300s):
    robot = watching(vx300s, waist=0.05)
    robot.moving_under_policy()
    robot.blocked = True
    robot.offset[0] = 0.6
    before = len(robot.sent)
    robot.run(1500)
    assert robot.path.mode is Mode.FAULT
    reason = robot.path.modes.reason
    assert reason.startswith("waist does not follow: commanded 0.") and "0.05" in reason
    assert "clear_fault" in robot.path.modes.remedy
    apart = [command is not None and abs(command[0] - robot.measured[0]) > 0.05
             for command in robot.sent[before:]]  # fmt: skip
    first = apart.index(True)
    silent = next(k for k, c in enumerate(robot.sent[before:]) if k > first and c is None)
    assert 0.3 <= (silent - first) / 100 <= 0.8  # the limit of 0.3 s, and braking
    assert robot.sent[-1] is None
    robot.run(1000)  # it is latched, whatever the arm does now
    assert robot.path.mode is Mode.FAULT and robot.sent[-1] is None
    robot.path.clear_fault()
    robot.lease = Mode.HOLD
    assert robot.path.arm(robot.now).ok
    robot.run(20)
    assert np.abs(robot.sent[-1] - robot.measured).max() < 1e-6  # it is held where it is


def test_a_held_arm_that_is_pushed_away_is_a_fault_too(vx300s):
    robot = watching(vx300s, waist=0.05)
    robot.run(100)
    assert robot.path.arm(robot.now).ok
    robot.blocked = True
    robot.measured[0] += 0.2
    robot.run(250)
    assert robot.path.mode is Mode.HOLD
    robot.run(150)
    assert robot.path.mode is Mode.FAULT


@pytest.mark.parametrize("lag_ms", [100, 250])
def test_a_lag_that_passes_is_no_fault(vx300s, lag_ms):
    robot = watching(vx300s, waist=0.02)
    robot.moving_under_policy()
    robot.offset[0] = 0.6
    robot.blocked = True
    robot.run(lag_ms)
    robot.blocked = False
    robot.run(1000)
    assert robot.path.mode is Mode.POLICY


def test_what_has_no_limit_is_not_watched(vx300s):
    for robot in (Robot(vx300s), watching(vx300s, gripper=0.05)):
        robot.moving_under_policy()
        robot.blocked = True
        robot.offset[0] = 0.6  # the waist's
        robot.run(2000)
        assert robot.path.mode is not Mode.FAULT
