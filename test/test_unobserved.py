"""A gripper that is commanded but not observed: where it counts as being, what is sent to it."""

import copy

import numpy as np
import pytest
import yaml
from conftest import VX300S
from std_msgs.msg import Float64MultiArray
from test_contract_check import valid
from test_hil_node import HOME, World, chunk

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, parse_contract
from rewact_ros.contract.measured import measured_action, rest_pose
from rewact_ros.contract.tables import json_schema
from rewact_ros.control.modes import Mode
from rewact_ros.data.dataset.episodes import RecordedEpisode
from rewact_ros.learning.evaluation.open_loop import _held
from rewact_ros.msg import ModeRequest, PolicyStatus
from rewact_ros.ros import interfaces as names

PER_JOINT = ("unit", "position", "velocity", "acceleration", "max_start_jump")


def blind_gripper(**changes):
    """The simulated arm, whose gripper has a topic of its own and says nothing."""
    data = copy.deepcopy(strict_yaml.load(VX300S))
    state, arm = data["observation.state"], data["action"]
    state["joints"].remove("gripper")
    state["unit"] = "rad"
    gripper = copy.deepcopy(arm)
    gripper |= {"topic": "gripper/commands", "joints": ["gripper"], "observed": False, "rest": 1.0}
    arm["joints"].remove("gripper")
    for key in PER_JOINT:
        gripper[key] = arm[key].pop("gripper")
    gripper |= changes
    data["action"] = [arm, {key: value for key, value in gripper.items() if value is not None}]
    return data


@pytest.fixture(scope="module")
def contract():
    return parse_contract(blind_gripper())


def test_it_counts_as_at_rest_until_something_was_sent(contract, vx300s):
    assert valid(blind_gripper(), json_schema())
    assert contract.state_names == vx300s.state_names[:-1]
    assert contract.action_names == vx300s.action_names
    joints = np.arange(6) / 10
    np.testing.assert_array_equal(measured_action(contract, {0: joints}), [*joints, 1.0])
    sent = np.full(7, 0.25)
    np.testing.assert_array_equal(measured_action(contract, {0: joints}, sent), [*joints, 0.25])
    assert np.isnan(rest_pose(contract)[:6]).all() and rest_pose(contract)[6] == 1.0
    assert sent.tolist() == [0.25] * 7


def test_what_needs_its_position_in_the_state_is_refused(contract):
    with pytest.raises(ContractError) as error:
        _ = contract.action_in_state
    assert str(error.value) == (
        "action: gripper has observed: false, and what is asked here needs its position in the "
        "state; observe it, or choose absolute actions"
    )


def test_a_baseline_that_holds_holds_what_was_last_sent(contract):
    action = np.arange(21.0).reshape(3, 7)
    episode = RecordedEpisode(0, np.arange(3.0), np.full((3, 6), 9.0), action)
    np.testing.assert_array_equal(_held(episode, contract)[:, 6], [6.0, 6.0, 13.0])
    assert (_held(episode, contract)[:, :6] == 9.0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"rest": None},
            "action[1].rest: missing beside observed: false; give what is sent to it on arming, "
            "before anything else was sent",
        ),
        ({"rest": 1.5}, "action[1].rest.gripper: expected within [0, 1], got 1.5"),
        (
            {"rest": "open"},
            "action[1].rest: expected a finite number, got 'open' (str); numbers are written like "
            "10, 0.5 or 6e1, without quotes",
        ),
        (
            {"observed": True},
            "action[1].rest: expected observed: false beside it, got none; leave it out: the "
            "joints are measured\naction.joints: gripper is commanded but its position is not in "
            "observation.state; the start-jump guard needs it",
        ),
        ({"observed": "no"}, "action[1].observed: expected true or false, got 'no' (str)"),
    ],
)
def test_what_does_not_belong_together_is_named(changes, words):
    with pytest.raises(ContractError) as error:
        parse_contract(blind_gripper(**changes))
    assert str(error.value) == words


def test_what_is_measured_after_all_is_not_unobserved():
    data = blind_gripper()
    data["observation.state"]["joints"].append("gripper")
    with pytest.raises(ContractError) as error:
        parse_contract(data)
    assert str(error.value) == (
        "action[1].observed: gripper is in observation.state; leave out observed: false, and rest"
    )


def test_an_arm_that_nobody_sees_and_velocities_are_refused():
    data = blind_gripper()
    data["action"][0] |= {"observed": False, "rest": 0.0}
    data["observation.state"]["joints"] = ["thumb"]
    with pytest.raises(ContractError) as error:
        parse_contract(data)
    assert str(error.value) == (
        "action.observed: expected a part that is observed, got none; an arm that nobody sees "
        "cannot be moved safely"
    )
    data = blind_gripper(command="velocity", controller_timeout_s=0.1)
    with pytest.raises(ContractError) as error:
        parse_contract(data)
    assert "action[1].observed: expected true for velocities, got false; only what is" in str(
        error.value
    )


def test_the_check_of_a_reset_does_not_ask_where_it_is(contract):
    from rewact_ros.ros.convert import to_stamp
    from rewact_ros.ros.episode_interface import JointFeed
    from rewact_ros.ros.states import state_message

    feed, taken = JointFeed(None, contract), []
    feed._subscriptions = [object()]
    feed.listen(taken.append)
    feed._on_joints(0, state_message(contract.state[0], np.zeros(6), to_stamp(1)))
    np.testing.assert_array_equal(taken, [[0.0] * 6 + [contract.reset.pose[6]]])


# In a graph ----------------------------------------------------------------------------------


def test_hil_sends_rest_once_armed_then_what_was_last_sent_through_hold_and_a_new_arming(
    graph, tmp_path, vx300s
):
    path = tmp_path / "blind.yaml"
    path.write_text(yaml.safe_dump(blind_gripper(), sort_keys=False))
    world = World(vx300s, path=path)  # its joint states have a gripper that the contract ignores
    gripper, arm = [], []
    node = world.node
    node.create_subscription(
        Float64MultiArray, "gripper/commands", lambda m: gripper.append(m.data[0]), names.EVENTS
    )
    node.create_subscription(
        Float64MultiArray, "arm/commands", lambda m: arm.append(list(m.data)), names.EVENTS
    )
    requests = node.create_publisher(ModeRequest, names.MODE_REQUEST, names.EVENTS)
    beats = node.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
    chunks = node.create_publisher(type(chunk(world)), names.ACTION_CHUNK, names.COMMAND)
    alive = [True]

    def act():
        if alive[0]:
            wish = ModeRequest(mode=ModeRequest.POLICY, holder="test", request=1)
            requests.publish(wish)
            beats.publish(PolicyStatus(ready=True))
            message = chunk(world)
            for point in message.trajectory.points:
                point.positions = [*HOME[:6], 0.25]
            chunks.publish(message)

    try:
        control = world.arm()
        world.wait(lambda: len(gripper) > 5, "commands")
        assert set(gripper) == {1.0} and len(arm[0]) == 6
        np.testing.assert_allclose(arm[0], HOME[:6])
        node.create_timer(0.05, act)
        world.wait(lambda: abs(gripper[-1] - 0.25) < 1e-3, "the policy's command")
        steps = np.diff(gripper)
        assert abs(steps).max() <= 6.0 * 0.01 + 1e-6  # the limits hold for it as for the others
        alive[0] = False
        world.wait(lambda: control.mode is Mode.HOLD, "hold")
        count = len(gripper)
        world.wait(lambda: len(gripper) > count + 20, "commands in HOLD")
        assert abs(np.array(gripper[count:]) - 0.25).max() < 1e-3
        world.call("hil/disarm")
        world.wait(lambda: control.mode is Mode.DISARMED and not control.gate.moving, "disarmed")
        gripper.clear()
        world.arm()
        world.wait(lambda: len(gripper) > 20, "commands after a new arming")
        assert abs(np.array(gripper) - 0.25).max() < 1e-3
    finally:
        world.close()
