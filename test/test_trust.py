"""Who may tell hil where the arm is and who may renew a lease, with a fake clock."""

from dataclasses import replace

import numpy as np
import pytest
from test_control import HOME, MS, Robot
from test_takeover import Cell

from rewact_ros.contract.frames import SampleError, select_joints
from rewact_ros.control.joint_sources import MEMORY_S
from rewact_ros.control.modes import Mode
from rewact_ros.control.watch import Lease, Now
from rewact_ros.tokens import EpisodeOwners, TokenReceiver, TokenSender


class Publisher:
    """One publisher of the arm's joint states: its own numbers, offset, clock and rate."""

    def __init__(self, robot, sequence=1, offset=0.0, period_ms=20, clock_ms=0):
        self.robot, self.sequence, self.period_ms = robot, sequence, period_ms
        self.offset = np.array([offset, 0, 0, 0, 0, 0, 0])
        self.clock_ms = clock_ms
        self.numbered = True
        self.stamp_ns = None

    def publish(self, ms):
        if ms % self.period_ms:
            return
        path, now = self.robot.path, self.robot.now
        values = self.robot.measured + self.offset
        stamp_ns = now.ros_ns + self.clock_ms * MS if self.stamp_ns is None else self.stamp_ns
        number = self.sequence if self.numbered else None
        self.sequence += 1
        fault = path.sources[0].take(values, stamp_ns, number, now)
        if fault:
            path.joints.take_fault(fault)
        else:
            path.joints.take(values, now.age_s)


class PublishedRobot(Robot):
    """A robot whose joint states come from publishers."""

    def __init__(self, contract):
        super().__init__(contract)
        self.joints = False
        self.publishers = [Publisher(self, sequence=5000)]

    def run(self, ms):
        for _ in range(ms // 10):
            for i, publisher in enumerate(self.publishers):
                publisher.publish(self.ms + 10 + 10 * i)
            super().run(10)
        return self

    def armed(self):
        self.run(200)
        answer = self.path.arm(self.now)
        assert answer.ok, answer.reason
        return self


@pytest.fixture
def robot(vx300s):
    return PublishedRobot(vx300s)


# Publishers of joint states ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "offset", "period_ms"),
    [(1, 1.5, 20), (5000, -0.1, 20), (5001, 0.1, 10), (70_000, -1.5, 50), (1, 0.1, 1000)],
)
def test_a_second_publisher_that_disagrees_keeps_the_arm_disarmed_by_name(
    robot, number, offset, period_ms
):
    robot.publishers.append(Publisher(robot, number, offset, period_ms))
    robot.path.sources[0].publishers = ("/rosbag2_player", "/sim")
    robot.run(1100)
    answer = robot.path.arm(robot.now)
    assert not answer.ok and robot.path.mode is Mode.DISARMED
    for word in ("joint_states", "disagree", "waist", "/rosbag2_player, /sim"):
        assert word in answer.reason
    robot.publishers.pop()
    robot.run(int(1000 * MEMORY_S) + 300)
    assert robot.path.arm(robot.now).ok


@pytest.mark.parametrize("mode", [Mode.HOLD, Mode.POLICY])
def test_a_second_publisher_that_disagrees_is_a_fault_when_armed(robot, mode):
    robot.armed()
    if mode is Mode.POLICY:
        robot.lease = Mode.POLICY
        robot.run(300)
    assert robot.path.mode is mode
    robot.publishers.append(Publisher(robot, 1, 0.4))
    robot.run(50)
    assert robot.path.mode is Mode.FAULT and "disagree" in robot.path.modes.reason
    robot.path.sources[0].publishers = ("/other", "/sim")  # the graph knows them by now
    robot.run(500)
    assert "/other" in robot.path.modes.reason
    assert robot.sent[-1] is None
    robot.path.clear_fault()
    assert "disagree" in robot.path.arm(robot.now).reason


def test_the_first_message_of_another_publisher_already_keeps_the_arm_disarmed(robot):
    robot.run(200)
    other = Publisher(robot, 1, 1.5)
    other.publish(0)
    assert "disagree" in robot.path.arm(robot.now).reason


@pytest.mark.parametrize("period_ms", [10, 20, 100])
def test_two_publishers_of_the_same_values_are_no_fault_even_in_motion(robot, period_ms):
    robot.publishers.append(Publisher(robot, 40, 0.0, period_ms))
    robot.armed()
    robot.lease = Mode.POLICY
    robot.offset = np.array([0.2, 0, 0, 0, 0, 0, 0])
    robot.run(800)
    assert robot.path.mode is Mode.POLICY


def test_a_driver_that_starts_again_after_the_arm_was_moved_is_no_second_publisher(robot):
    robot.run(200)
    robot.publishers = []
    robot.run(500)
    robot.measured = HOME + np.array([0.5, 0, 0, 0, 0, 0, 0])
    robot.publishers = [Publisher(robot, 1)]
    robot.armed()
    robot.run(1000)
    assert robot.path.mode is Mode.HOLD


def test_an_arm_that_is_thrown_about_by_hand_has_one_publisher_all_the_same(robot):
    for step in range(50):
        robot.measured = HOME + np.array([0.5 * (step % 2), 0, 0, 0, 0, 0, 0])
        robot.run(20)
    assert robot.path.arm(robot.now).ok


def test_without_numbers_values_that_jump_between_several_publishers_disagree(robot):
    robot.publishers.append(Publisher(robot, 1, 1.5))
    for publisher in robot.publishers:
        publisher.numbered = False
    robot.path.sources[0].publishers = ("/bag", "/sim")
    robot.run(200)
    assert "disagree" in robot.path.arm(robot.now).reason


def test_parts_of_two_topics_are_not_compared_with_each_other(vx300s):
    part = vx300s.state[0]
    parts = (
        replace(part, joints=part.joints[:6], units=part.units[:6]),
        replace(part, joints=part.joints[6:], units=part.units[6:]),
    )
    path = Robot(replace(vx300s, state=parts)).path
    now = Now(1.0, 1.0, 61_000 * MS)
    for number in (1, 2, 3):
        assert not path.sources[0].take(HOME[:6], now.ros_ns, number, now)
        assert not path.sources[1].take(HOME[6:], now.ros_ns, number, now)
    assert not any(source.refusal(now) for source in path.sources)


# Stamps ------------------------------------------------------------------------------------------


STAMPS = {
    "1970": lambda p: setattr(p, "clock_ms", -p.robot.now.ros_ns // MS + 1000),
    "a bag of yesterday": lambda p: setattr(p, "clock_ms", -86_400_000),
    "ahead": lambda p: setattr(p, "clock_ms", 5000),
    "zero": lambda p: setattr(p, "stamp_ns", 0),
}


@pytest.mark.parametrize("kind", STAMPS)
@pytest.mark.parametrize("beside", [False, True])
def test_stamps_that_are_not_now_refuse_to_arm_and_fault_when_armed(robot, kind, beside):
    robot.ms += 10_000_000
    robot.armed()
    if beside:  # the driver goes on; the bag says the same, with its own stamps
        robot.publishers.append(Publisher(robot, 1))
    STAMPS[kind](robot.publishers[-1])
    robot.run(1000)
    assert robot.path.mode is Mode.FAULT
    assert "joint_states: header stamp is" in robot.path.modes.reason
    robot.path.clear_fault()
    answer = robot.path.arm(robot.now)
    assert not answer.ok and "joint_states: header stamp is" in answer.reason
    robot.publishers = [Publisher(robot, 9000)]
    robot.run(int(1000 * MEMORY_S) + 300)
    assert robot.path.arm(robot.now).ok


def test_a_stall_that_lets_a_few_stamps_grow_old_is_no_fault(robot):
    robot.armed()
    late = Publisher(robot, 6000, clock_ms=-300)
    for _ in range(5):
        late.publish(0)
    robot.run(1000)
    assert robot.path.mode is Mode.HOLD
    late.publish(0)
    robot.run(1000)
    assert robot.path.mode is Mode.HOLD


# The latch ---------------------------------------------------------------------------------------


def stopped(robot):
    """A watchdog has stopped the policy, and its cause is gone again."""
    robot.moving_under_policy()
    robot.beat = False
    robot.run(500)
    assert robot.path.modes.resume_required
    robot.beat = True
    robot.run(500)
    return robot


def around_by_disarm(robot):
    robot.path.disarm()
    robot.run(500)
    assert robot.path.arm(robot.now).ok


def around_by_fault(robot):
    robot.path.on_publishers("/rogue")
    robot.run(500)
    robot.path.on_publishers("")
    robot.path.clear_fault()
    assert robot.path.arm(robot.now).ok


def around_by_fault_and_resume(robot):
    robot.path.disarm()
    robot.run(500)
    assert not robot.path.resume().ok  # nothing to resume before the arm is armed
    assert robot.path.arm(robot.now).ok


def around_by_person(robot):
    robot.pressed = True
    robot.run(300)
    assert robot.path.mode is Mode.HUMAN
    robot.pressed = False
    robot.run(300)


def around_by_lease(robot):
    robot.renew = False
    robot.run(1000)
    robot.renew, robot.request = True, robot.request + 1
    robot.run(300)


@pytest.mark.parametrize(
    "around",
    [around_by_disarm, around_by_fault, around_by_fault_and_resume, around_by_person,
     around_by_lease],
)  # fmt: skip
def test_only_resume_lifts_the_latch_of_a_stop(vx300s, around):
    cell = Cell(replace(vx300s, on_release="policy"))
    stopped(cell)
    around(cell)
    cell.run(300)
    assert cell.path.mode is Mode.HOLD and cell.path.modes.resume_required
    assert "~/resume" in cell.path.modes.remedy
    assert cell.path.resume().ok
    cell.run(300)
    assert cell.path.mode is Mode.POLICY


# Tokens ------------------------------------------------------------------------------------------


def at(s):
    return Now(s, s, round(s * 1e9))


def test_a_lease_of_a_dead_supervisor_is_not_renewed_by_its_name():
    lease, sender = Lease(0.3), TokenSender()
    links = [sender.link() for _ in range(3)]
    assert lease.take(Mode.POLICY, "supervisor", 1, at(1.0), *links[0]) == ""
    assert lease.take(Mode.POLICY, "supervisor", 1, at(1.1), *links[1]) == ""
    for stolen in (("", ""), links[0], links[1], ("x" * 1_000_000, "y")):
        refusal = lease.take(Mode.RESET, "supervisor", 2, at(1.2), *stolen)
        assert "another uses its name" in refusal
    assert (lease.mode, lease.request) == (Mode.POLICY, 1)
    assert lease.take(Mode.POLICY, "supervisor", 1, at(1.3), *links[2]) == ""
    assert "is held by supervisor" in lease.take(Mode.POLICY, "other", 1, at(1.4))
    assert lease.expired(at(1.7))
    assert lease.take(Mode.POLICY, "other", 1, at(1.7)) == ""


def test_a_stranger_that_asks_at_the_instant_of_expiry_does_not_keep_the_arm_moving(robot):
    robot.armed()
    robot.renew = False
    path, sender = robot.path, TokenSender()
    assert path.on_request(Mode.POLICY, "supervisor", 1, robot.now, *sender.link()) == ""
    for _ in range(5):
        robot.run(100)
        assert path.mode is Mode.POLICY
        assert path.on_request(Mode.POLICY, "supervisor", 1, robot.now, *sender.link()) == ""
    robot.run(290)
    assert path.on_request(Mode.POLICY, "supervisor", 1, robot.now) != ""
    late = replace(robot.now, steady_s=robot.now.steady_s + 0.02)
    assert path.on_request(Mode.POLICY, "supervisor", 1, late) == ""
    assert path.mode is Mode.HOLD and path.modes.resume_required
    robot.run(200)
    assert path.mode is Mode.HOLD


def test_a_stall_of_hil_does_not_cost_the_holder_its_lease(robot):
    robot.armed()
    robot.renew = False
    path, sender = robot.path, TokenSender()
    path.on_request(Mode.POLICY, "supervisor", 1, robot.now, *sender.link())
    robot.run(100)
    robot.ms += 350
    assert path.on_request(Mode.POLICY, "supervisor", 1, robot.now, *sender.link()) == ""
    assert path.mode is Mode.POLICY


def test_a_supervisor_without_tokens_goes_on_by_its_name():
    lease = Lease(0.3)
    assert lease.take(Mode.POLICY, "script", 1, at(1.0)) == ""
    assert lease.take(Mode.POLICY, "script", 1, at(1.2)) == ""


def test_only_who_began_an_episode_goes_on_to_tell_of_it():
    owners, sender = EpisodeOwners(), TokenSender()
    assert owners.take("e1", True, *sender.link())
    assert not owners.take("e1", False, "", "")
    assert not owners.take("e1", True, *TokenSender().link())
    assert owners.take("e1", False, *sender.link())
    assert owners.take("e2", True, *sender.link())
    assert owners.take("e1", False, *sender.link())  # judged anew while the next one runs
    assert owners.take("e3", True, *sender.link())
    assert not owners.take("e1", False, *sender.link())  # too old
    assert not owners.take("never", False, *sender.link())
    assert owners.take("e3", False, *sender.link())


def test_a_proof_counts_once():
    receiver, sender = TokenReceiver(), TokenSender()
    first, second = sender.link(), sender.link()
    assert receiver.take(*first) and receiver.take(*second)
    assert not receiver.take(*second)


def test_a_joint_state_of_thousands_of_joints_is_refused_before_it_costs_anything():
    many = [f"j{i}" for i in range(5000)]
    with pytest.raises(SampleError, match="expected at most 1000 joints, got 5000"):
        select_joints(many, [0.0] * 5000, ["waist"], "joint_states")
    with pytest.raises(SampleError, match="joint waist is missing; got j0, ") as refusal:
        select_joints(many[:900], [0.0] * 900, ["waist"], "joint_states")
    assert len(str(refusal.value)) < 300
