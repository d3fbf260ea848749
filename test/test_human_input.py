"""One device of a person at a time: what it says, when it is believed, and what it asks for."""

from dataclasses import replace

import numpy as np
import pytest
from test_control import HOME

from rewact_ros.control.human import HumanControl, TeleopInput

NAMES = ("a", "b")


@pytest.fixture
def contract(vx300s):
    """Two joints of the arm by a device of two joints; steps are judged by speed alone."""
    leader = replace(
        vx300s.teleop_source("leader"),
        joints=("waist", "gripper"),
        source_joints=NAMES,
        scale=(2.0, -1.0),
        offset=(0.5, 0.0),
        max_age_s=0.25,
    )
    other = replace(leader, name="other", topic="other/joint_states", deadman=None, align="ramp")
    action = replace(vx300s.action[0], max_start_jump=(0.01,) * 7)
    return replace(vx300s, teleop=(leader, other), action=(action,))


@pytest.fixture
def device(contract):
    device = TeleopInput(contract.teleop[0], contract)
    device.on_deadman(False, 10.0)
    return device


def send(device, waist, now_s, gripper=0.0):
    device.on_values(NAMES, [(waist - 0.5) / 2.0, -gripper], now_s)


def test_values_are_scaled_and_moved_and_are_of_the_joints_named(device):
    device.on_values(("b", "x", "a"), [0.25, 9.0, 1.0], 10.0)
    assert device.joints.tolist() == [0, 6]
    np.testing.assert_allclose(device.at(10.0), [2.5, -0.25])


def test_what_no_position_can_be_read_from_says_why_once_the_usable_ones_stay_away(device):
    send(device, 0.0, 10.0)
    device.refuse("leader/targets: expected a stream of single points")
    assert device.fault(10.2) == ""
    assert device.fault(10.3) == "teleop leader: leader/targets: expected a stream of single points"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("after_s", "allowed"),
    [
        (0.001, 0.25),
        (0.02, 0.25),
        (0.04, 0.5),
        (0.1, 1.25),
        (0.24, 1.6),
        (0.25, 1.625),
        (9.0, 1.625),
    ],
)
def test_a_step_is_judged_by_the_time_since_the_last_message(contract, sign, after_s, allowed):
    """Waist: 2.5 rad/s, of which a hand may do five times for a tenth of a second."""
    for beyond, lost in ((-1e-3, False), (1e-3, True)):
        device = TeleopInput(contract.teleop[0], contract)
        send(device, 0.0, 10.0)
        now_s = 10.0 + after_s
        send(device, sign * (allowed + beyond), now_s)
        device.on_deadman(False, now_s)
        assert ("stepped" in device.fault(now_s)) is lost
        assert (device.at(now_s) is None) is lost


def test_the_joint_that_steps_furthest_beyond_its_own_bound_is_named_with_both_values(device):
    send(device, 0.0, 10.0)
    send(device, 0.4, 10.02, gripper=0.9)  # the gripper may: 5 · 6.0 · 0.02 = 0.6
    device.on_deadman(False, 10.02)
    assert device.fault(10.02).startswith(
        "teleop leader: gripper stepped from 0.000 to 0.900, and no hand moves it by more than "
        "0.600 at once"
    )


def test_a_step_counts_also_where_it_is_spread_over_a_tenth_of_a_second(device):
    for k, place in enumerate((0.0, 0.24, 0.48, 0.72, 0.96, 1.2)):  # 12 rad/s
        send(device, place, 10.0 + 0.02 * k)
    device.on_deadman(False, 10.1)
    assert device.fault(10.1) == ""
    send(device, 1.44, 10.105)  # 0.24 in 5 ms, 1.2 in 85 ms: more than 12.5 rad/s
    assert "stepped from 0.240 to 1.440" in device.fault(10.105)


def test_what_is_longer_ago_than_a_tenth_of_a_second_is_no_matter(device):
    for k in range(41):
        send(device, 0.24 * k, 10.0 + 0.02 * k)
    device.on_deadman(False, 10.8)
    assert device.fault(10.8) == ""


def test_a_device_that_stepped_is_believed_again_after_a_second_without_a_step(device):
    send(device, 0.0, 10.0)
    send(device, 3.0, 10.02)
    for k in range(1, 60):
        now_s = 10.02 + 0.02 * k
        send(device, 3.0, now_s)
        device.on_deadman(False, now_s)
        believed = device.fault(now_s) == ""
        assert believed is (now_s >= 11.02), now_s
        assert (device.at(now_s) is not None) is believed
    np.testing.assert_allclose(device.at(12.0)[0], 3.0)


def test_between_two_messages_the_target_glides_and_after_a_gap_it_does_not(device):
    send(device, 0.0, 10.0)
    assert device.at(10.0)[0] == pytest.approx(0.0)
    send(device, 0.2, 10.04)
    for now_s, place in ((10.04, 0.0), (10.06, 0.1), (10.08, 0.2), (10.5, 0.2), (10.03, 0.0)):
        assert device.at(now_s)[0] == pytest.approx(place)
    send(device, 0.4, 10.06)  # from where it was on its way
    assert device.at(10.06)[0] == pytest.approx(0.1)
    assert device.at(10.07)[0] == pytest.approx(0.25)
    send(device, 0.5, 10.17)  # 0.11 s: no glide
    assert device.at(10.17)[0] == pytest.approx(0.5)
    send(device, 0.6, 10.265)
    assert device.at(10.265)[0] == pytest.approx(0.5)


def test_a_device_is_heard_up_to_its_age(device):
    device.on_deadman(False, 9.9)
    assert "no message received yet on leader/joint_states (sensor_msgs/msg/JointState)" in (
        device.fault(10.0)
    )
    assert device.at(10.0) is None
    send(device, 0.0, 10.0)
    for k in range(5):
        device.on_deadman(False, 10.0 + 0.1 * k)
    assert device.fault(10.25) == "" and "is 0.30 s old, limit 0.25 s" in device.fault(10.3)


def test_a_deadman_is_heard_up_to_its_age(contract):
    source = contract.teleop[0]
    source = replace(source, deadman=replace(source.deadman, max_age_s=0.25))
    device = TeleopInput(source, contract)
    assert "deadman on leader/joy is silent" in device.deadman_silence(0.1)
    device.on_deadman(False, 10.0)
    assert device.deadman_silence(10.25) == "" and device.deadman_silence(10.26) != ""
    device.on_deadman(True, 10.25)
    assert device.held and device.pressed
    device.on_deadman(True, 10.5)
    assert device.held
    device.on_deadman(True, 10.76)  # it was silent
    assert device.pressed and not device.held and not device.may_move()
    device.on_deadman(True, 10.8)
    assert not device.held
    device.on_deadman(False, 10.9)
    device.on_deadman(True, 10.95)
    assert device.held and device.may_move()
    device.forget_motion()
    assert device.pressed and not device.held


def moving(contract, **changes):
    """A device whose motion takes over, resting at 0."""
    device = TeleopInput(replace(contract.teleop[1], **changes), contract)
    for k in range(30):
        send(device, 0.0, 10.0 + 0.05 * k)
    return device, 11.45


def test_motion_beyond_the_threshold_within_a_second_takes_over_and_a_drift_does_not(contract):
    device, now_s = moving(contract, takeover_motion=0.2)
    assert device.asks(now_s) == ""
    for k in range(1, 60):  # 0.19 per second
        send(device, -0.19 * 0.05 * k, now_s + 0.05 * k)
        assert device.asks(now_s + 0.05 * k) == ""
    now_s += 3.0
    send(device, -0.19 * 3.0 - 0.02, now_s)
    assert device.asks(now_s) == "waist of the leader moved"
    device.forget_motion()
    assert device.asks(now_s) == ""
    quick, now_s = moving(contract, takeover_motion=0.2)
    send(quick, 0.0, now_s + 0.05, gripper=0.2)
    assert quick.asks(now_s + 0.05) == ""  # at the threshold
    send(quick, 0.1, now_s + 0.1, gripper=0.21)
    assert quick.asks(now_s + 0.1) == "gripper of the leader moved"
    still, now_s = moving(contract, takeover_motion=None)
    send(still, 1.0, now_s + 0.1)
    assert still.asks(now_s + 0.1) == ""


def test_motion_takes_over_only_while_the_deadman_is_held_where_there_is_one(contract):
    deadman = contract.teleop[0].deadman
    device, now_s = moving(contract, takeover_motion=0.2, deadman=deadman)
    send(device, 0.3, now_s + 0.05)
    device.on_deadman(False, now_s + 0.05)
    assert device.asks(now_s + 0.05) == "" and not device.may_move()
    device.on_deadman(True, now_s + 0.05)
    assert device.asks(now_s + 0.05) == "deadman pressed"


# Which of several -------------------------------------------------------------------------------


@pytest.fixture
def human(contract):
    human = HumanControl(contract)
    for device in human.inputs.values():
        send(device, 0.1, 10.0)
    human.inputs["leader"].on_deadman(False, 10.0)
    return human


def test_who_is_pressed_and_who_asks_is_told_by_name(human):
    assert human.pressed(10.0) == "" and human.asks(10.0) == ("", "")
    human.inputs["leader"].on_deadman(True, 10.1)
    assert human.pressed(10.1) == "leader"
    assert human.asks(10.1) == ("leader", "deadman pressed")
    assert human.pressed(10.4) == "" and human.asks(10.4) == ("", "")  # silent: it says nothing


def test_a_refusal_is_that_of_the_source_asked_for_or_of_the_first_where_none_can(human, contract):
    assert human.refusal("", 10.0) == human.refusal("leader", 10.0) == ""
    assert human.refusal("x", 10.0) == "teleop x: no such source; the contract has leader, other"
    human.inputs["other"].on_values(NAMES, [0.0, 0.0], 11.0)
    assert human.refusal("leader", 11.0).startswith("teleop leader: leader/joint_states is 1.00 s")
    assert human.refusal("", 11.0) == human.refusal("other", 11.0) == ""
    assert human.engage("", HOME, 11.0) == "other"
    assert human.refusal("", 12.0).startswith("teleop leader:")
    nobody = HumanControl(replace(contract, teleop=()))
    assert nobody.refusal("", 10.0) == "the contract names no teleop source"


def test_by_offset_the_difference_stays_and_by_ramp_there_is_none(human):
    assert human.fault(10.0) == "" and not human.released()
    for name, places in (("leader", (0.3, 0.4)), ("other", (0.1, 0.2))):
        sent = HOME + np.append(0.3, np.full(6, 0.01))
        assert human.engage(name, sent, 10.0) == name and not human.by_deadman
        if name == "leader":
            command, begins = human.target(sent, 10.0)
            np.testing.assert_array_equal(command, sent)  # the deadman is up
            assert not begins
            human.inputs[name].on_deadman(True, 10.01)
        command, begins = human.target(sent, 10.01)
        assert begins and command[0] == pytest.approx(places[0])
        np.testing.assert_array_equal(command[1:6], sent[1:6])
        send(human.inputs[name], 0.2, 10.01)
        command, begins = human.target(sent + 1.0, 10.1)
        assert not begins and command[0] == pytest.approx(places[1])
        np.testing.assert_array_equal(command[1:6], sent[1:6])
        human.disengage()
        assert human.active is None and human.fault(99.0) == ""


def test_a_person_who_took_over_by_the_deadman_releases_by_it_and_others_do_not(human):
    leader = human.inputs["leader"]
    leader.on_deadman(True, 10.02)
    human.engage("", HOME, 10.02)
    assert human.by_deadman and not human.released()
    leader.on_deadman(False, 10.04)
    assert human.released()
    assert "leader/joint_states is" in human.fault(11.0)
    human.disengage()
    human.engage("leader", HOME, 10.05)
    assert not human.by_deadman and not human.released()


def test_a_new_press_begins_anew_from_where_the_arm_is(human):
    leader = human.inputs["leader"]
    human.engage("leader", HOME, 10.0)
    leader.on_deadman(True, 10.02)
    assert human.target(HOME, 10.02)[1]
    leader.on_deadman(False, 10.04)
    moved = HOME + 0.05
    command, begins = human.target(moved, 10.04)
    np.testing.assert_array_equal(command, moved)
    command, begins = human.target(moved + 1.0, 10.05)
    np.testing.assert_array_equal(command, moved)  # held, not followed
    leader.on_deadman(True, 10.06)
    command, begins = human.target(moved + 0.01, 10.06)
    assert begins
    np.testing.assert_allclose(command, moved + 0.01)


def test_a_ramp_within_limits_and_their_slack_may_begin(human, contract):
    other = human.inputs["other"]
    high = contract.limits.high[0]
    for place, words in ((high + 0.009, ""), (high + 0.011, "teleop other: waist is at")):
        other = TeleopInput(other.source, contract)
        human.inputs["other"] = other
        send(other, place, 10.0)
        assert human.refusal("other", 10.0).startswith(words)
        assert bool(human.refusal("other", 10.0)) is bool(words)


def test_by_offset_the_place_of_the_device_does_not_matter_and_by_ramp_it_does(contract):
    leader = replace(contract.teleop[0], deadman=None, align="offset")
    for source, words in ((leader, ""), (replace(leader, align="ramp"), "teleop leader: waist is")):
        human = HumanControl(replace(contract, teleop=(source,)))
        send(human.inputs["leader"], contract.limits.high[0] + 0.5, 10.0)
        refusal = human.refusal("leader", 10.0)
        assert refusal.startswith(words) and bool(refusal) is bool(words)


def test_nobody_leads_by_a_deadman_before_anybody_leads(human):
    assert human.by_deadman is False and not human.released()


def test_the_deadman_is_one_button_of_a_joy_message_and_without_it_nothing_is_said(device):
    button = device.source.deadman.button
    buttons = [0] * (button + 1)
    device.on_buttons(buttons, 10.0)
    assert not device.pressed and not device.deadman_silence(10.0)
    device.on_buttons([*buttons[:button], 1], 10.01)
    assert device.pressed
    device.on_buttons(buttons[:button], 10.02)  # of another device
    device.on_buttons([], 10.02)
    assert device.pressed
    device.on_buttons([*[1] * button, 0], 10.03)
    assert not device.pressed


def test_a_message_without_the_devices_joints_is_not_its_own(device):
    send(device, 0.0, 10.0)
    device.on_values(["x"], [0.0], 10.1)
    assert device.fault(10.2) == ""
    assert device.fault(10.3).endswith("leader/joint_states: joint a is missing; got x")
