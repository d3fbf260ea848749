"""One topic of joint states at its bounds: who disagrees, and for how long that counts."""

from dataclasses import replace

import numpy as np
import pytest

from rewact_ros.control.joint_sources import MEMORY_S, JointSource
from rewact_ros.control.watch import Now

NANO = 1_000_000_000
AGE_S = 0.25
ZERO = np.zeros(7)


class Topic:
    """A source whose numbers are exact in binary: 0.5 apart, 2.0 per second, 0.25 s old."""

    def __init__(self, contract):
        part = replace(contract.state[0], max_age_s=AGE_S)
        joints = np.arange(7, dtype=np.intp)
        self.source = JointSource(part, joints, np.full(7, 0.5), np.full(7, 2.0))

    def say(self, at_s, value, number, ahead_s=0.0, joint=0, ros_s=1000.0):
        values = ZERO.copy()
        values[joint] = value
        now = Now(at_s, at_s, round((ros_s + at_s) * NANO))
        return self.source.take(values, now.ros_ns + round(ahead_s * NANO), number, now)

    def refusal(self, at_s):
        return self.source.refusal(Now(at_s, at_s, NANO))

    def fault(self, at_s):
        return self.source.fault(Now(at_s, at_s, NANO))


@pytest.fixture
def topic(vx300s):
    return Topic(vx300s)


@pytest.mark.parametrize("sign", [1, -1])
def test_two_publishers_disagree_beyond_the_tolerance_and_the_joint_is_named(topic, sign):
    topic.say(0.0, 0.0, 5000, joint=3)
    topic.say(0.0625, sign * 0.5, 1, joint=3)
    topic.say(0.125, 0.0, 5001, joint=3)
    assert topic.fault(0.125) == topic.refusal(0.125) == ""
    topic.say(0.1875, sign * 0.5625, 2, joint=3)
    topic.say(0.25, 0.0, 5002, joint=3)
    name = topic.source.part.joints[3]
    told = f"joint_states: its publishers disagree, {name} is 0.000 and {sign * 0.5625:.3f}"
    assert topic.fault(0.25) == told


def test_before_the_second_message_of_a_publisher_nothing_ends_but_nothing_begins(topic):
    topic.say(0.0, 0.0, 5000)
    topic.say(0.0625, 9.0, 1, joint=2)
    assert topic.fault(0.0625) == ""
    assert f"{topic.source.part.joints[2]} is 0.000 and 9.000" in topic.refusal(0.0625)
    topic.say(0.125, 0.0, 5001)
    assert "disagree" in topic.fault(0.125)


def test_a_publisher_counts_up_to_its_age(topic):
    topic.say(0.0, 0.0, 5000)
    topic.say(0.25, 9.0, 1)
    assert "disagree" in topic.refusal(0.25)
    assert topic.refusal(0.2501) == "" and topic.fault(0.25) == ""


def test_a_publisher_is_compared_with_one_heard_up_to_its_age_ago(topic):
    topic.say(0.0, 0.0, 5000)
    topic.say(0.0, 9.0, 1)
    topic.say(0.25, 0.0, 5001)
    assert "disagree" in topic.fault(0.25)


def test_one_that_fell_silent_is_compared_no_more(topic):
    topic.say(0.0, 0.0, 5000)
    topic.say(0.0, 0.0, 1)
    for k in range(1, 9):
        topic.say(k / 4 + 0.125, k * 1.0, 5000 + k)
    assert topic.fault(2.5) == topic.refusal(2.5) == ""


@pytest.mark.parametrize(("other", "apart"), [(0.75, False), (0.25, True)])
def test_what_one_said_within_the_age_is_what_the_other_may_still_say(topic, other, apart):
    for k in range(4):
        topic.say(k / 8, float(k), 5000 + k)
    topic.say(0.4375, other, 1)
    topic.say(0.5, 4.0, 5004)
    assert bool(topic.fault(0.5)) is apart


def test_a_slow_publisher_may_have_been_anywhere_since_its_last_message_but_one(topic):
    for k in range(2):
        topic.say(float(k), float(k), 5000 + k)
    topic.say(1.9375, 0.25, 1)
    topic.say(2.0, 2.0, 5002)
    assert "disagree" in topic.fault(2.0)


def test_a_disagreement_is_remembered_in_the_words_of_its_beginning(topic):
    topic.say(0.0, 0.0, 5000)
    topic.say(0.0, 1.0, 1)
    topic.say(0.125, 0.0, 5001)
    topic.say(0.25, 2.0, 2)
    assert "is 1.000 and 0.000" in topic.fault(0.25)
    assert "is 1.000 and 0.000" in topic.fault(0.25 + MEMORY_S)
    assert topic.fault(0.3125 + MEMORY_S) == ""
    for k in range(2):  # a time after the memory has gone: it begins anew
        topic.say(8.0 + k / 8, 0.0, 6000 + k)
        topic.say(8.0625 + k / 8, 3.0, 10 + k)
    assert "3.000" in topic.fault(8.25) and "1.000" not in topic.fault(8.25)


def test_four_publishers_are_told_apart(topic):
    topic.say(0.0, 9.0, 400)
    for k, number in enumerate((300, 200, 100)):
        topic.say(0.0625 * (k + 1), 0.0, number)
    assert "disagree" in topic.refusal(0.1875)


def test_a_number_that_continues_two_is_of_the_one_that_is_near(topic):
    topic.say(0.0, 0.0, 5)
    for k, number in enumerate((3, 4, 5)):
        topic.say(0.0625 * (k + 1), 5.0, number)
    topic.say(0.25, 5.0, 6)
    assert [stream.newest[0] for stream in topic.source._streams] == [0.0, 5.0]


@pytest.mark.parametrize("sign", [1, -1])
def test_without_numbers_several_publishers_agree_where_an_arm_could_have_moved(topic, sign):
    topic.say(0.0, 0.0, None, joint=2)
    topic.say(0.125, sign * 9.0, None, joint=2)
    assert topic.fault(0.125) == topic.refusal(0.125) == ""  # the graph shows one alone
    topic.source.publishers = ("/bag", "/driver")
    topic.say(0.25, sign * 9.75, None, joint=2)  # 0.5 and 2.0 per second for 0.125 s
    assert topic.fault(0.25) == ""
    topic.say(0.375, sign * 10.5625, None, joint=2)
    told = topic.fault(0.375)
    assert f"{topic.source.part.joints[2]} is {sign * 10.5625:.3f} and {sign * 9.75:.3f}" in told
    assert told.endswith("; published by /bag, /driver")


def test_two_refused_stamps_a_tenth_of_a_second_apart_keep_from_beginning(topic):
    first = topic.say(0.0, 0.0, 1, ahead_s=1.0)
    assert first.startswith("joint_states: header stamp is 1.00 s ahead")
    topic.say(0.0625, 0.0, 2, ahead_s=2.0)
    assert topic.refusal(0.0625) == ""
    topic.say(0.1, 0.0, 3, ahead_s=2.0)
    assert topic.refusal(0.1) == first
    assert topic.refusal(MEMORY_S) == first and topic.refusal(MEMORY_S + 0.0625) == ""
    for k in range(2):
        later = topic.say(9.0 + k / 8, 0.0, 4 + k, ahead_s=3.0)
    assert topic.refusal(9.125) == later and "3.00 s ahead" in later


def test_five_refused_stamps_end_what_is_under_way(topic):
    for k in range(5):
        assert topic.fault(k / 8) == ""
        topic.say(k / 8, 0.0, k, ahead_s=1.0)
    assert "1.00 s ahead" in topic.fault(0.5)


def test_before_the_first_clock_no_stamp_is_a_fault_of_its_publisher(topic):
    for k in range(6):
        now = Now(k / 8, k / 8, 0)
        assert "no /clock has come yet" in topic.source.take(ZERO, NANO, k, now)
    assert topic.refusal(0.75) == topic.fault(0.75) == ""
    for k in range(6):
        topic.source.take(ZERO, 9 * NANO, 10 + k, Now(1 + k / 8, 1 + k / 8, 1))
    assert "ahead" in topic.fault(1.75)
