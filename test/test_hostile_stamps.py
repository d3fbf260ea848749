"""One impossible stamp, ragged chunk or unknown code at a real node costs that message alone."""

import time

import numpy as np
import pytest
from conftest import VX300S
from malformed import right
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectoryPoint

from rewact_ros.control.modes import Mode
from rewact_ros.msg import ActionChunk, ControlStatus, EpisodeEvent, Reward
from rewact_ros.nodes.hil import HilNode
from rewact_ros.nodes.supervisor import SupervisorNode
from rewact_ros.nodes.transitions import TransitionsNode
from rewact_ros.ros import interfaces as names
from rewact_ros.stamps import NANO

pytestmark = pytest.mark.usefixtures("graph")
IN_2038 = 2**31 * NANO - NANO


def parameters(**values):
    given = {"contract": str(VX300S), **values}
    return [Parameter(name, value=value) for name, value in given.items()]


def deliver(node, topic, message):
    """Put a message through the door of a topic, as the executor does."""
    full = node.resolve_topic_name(topic)
    subscription = next(s for s in node.subscriptions if s.topic_name == full)
    subscription.callback(serialize_message(message))


def stamped(kind, contract, stamp_ns, **fields):
    message = right(kind, "", contract, stamp_ns)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.fixture
def supervisor(tmp_path):
    node = SupervisorNode(parameter_overrides=parameters(state_dir=str(tmp_path)))
    node.taken = []
    node.supervisor.add = node.taken.append
    type(node.supervisor).episode, before = (
        property(lambda self: object()),
        type(node.supervisor).episode,
    )  # what matters here is what reaches an episode
    yield node
    type(node.supervisor).episode = before
    node.destroy_node()


def test_a_reward_of_2038_does_not_deafen_the_supervisor(supervisor, vx300s):
    for stamp_ns in (time.time_ns(), IN_2038, 0, time.time_ns() - 60 * NANO):
        deliver(supervisor, names.REWARD, stamped(Reward, vx300s, stamp_ns))
    deliver(supervisor, names.REWARD, stamped(Reward, vx300s, time.time_ns(), value=0.7))
    assert [round(sample.mean, 1) for sample in supervisor.taken] == [0.2, 0.7]
    assert supervisor.refusals.counts[names.REWARD] == 3


def test_a_ragged_chunk_of_the_same_stamp_costs_no_reward(supervisor, vx300s):
    stamp_ns = time.time_ns()
    chunk = stamped(ActionChunk, vx300s, stamp_ns)
    chunk.trajectory.points.append(JointTrajectoryPoint(positions=[0.0]))
    deliver(supervisor, names.ACTION_CHUNK, chunk)
    deliver(supervisor, names.REWARD, stamped(Reward, vx300s, stamp_ns))
    assert supervisor.taken[0].actions is None
    assert "positions" in supervisor.refusals.reasons[names.ACTION_CHUNK]


def test_an_unknown_code_or_a_stamp_of_2038_costs_transitions_that_message(tmp_path, vx300s):
    node = TransitionsNode(parameter_overrides=parameters(journal=str(tmp_path / "journal")))
    deliver(node, names.EPISODE_EVENT, stamped(EpisodeEvent, vx300s, time.time_ns(), event=99))
    deliver(node, names.CONTROL_STATUS, stamped(ControlStatus, vx300s, time.time_ns(), mode=77))
    deliver(node, names.CONTROL_STATUS, stamped(ControlStatus, vx300s, IN_2038, mode=1))
    now_ns = time.time_ns()
    deliver(node, names.CONTROL_STATUS, stamped(ControlStatus, vx300s, now_ns, mode=1))
    assert node.steps._control.heard_ns == now_ns
    assert node.refusals.counts[names.EPISODE_EVENT] == 1
    assert node.refusals.counts[names.CONTROL_STATUS] == 2
    node.close()
    node.destroy_node()


def test_an_error_of_our_own_in_hils_tick_brakes_the_arm_and_is_a_fault(vx300s):
    node, peer = HilNode(parameter_overrides=parameters()), Node("peer")
    joints = peer.create_publisher(JointState, vx300s.state[0].topic, names.SENSOR_OUT)
    arm = peer.create_client(Trigger, "hil/arm")
    executor = SingleThreadedExecutor()
    executor.add_node(peer)
    asked, end_s = [], time.monotonic() + 30
    speeds = []

    def broken(now):
        raise KeyError("a bug")

    def stop():
        assert time.monotonic() < end_s, (node.path.modes.mode, node.path.modes.reason)
        joints.publish(right(JointState, vx300s.state[0].topic, vx300s, time.time_ns()))
        executor.spin_once(timeout_sec=0.0)
        if node.path.mode is Mode.DISARMED and arm.service_is_ready():
            if not asked or asked[-1].done():
                asked.append(arm.call_async(Trigger.Request()))
        elif node.path.mode is Mode.HOLD:
            node.path.gate.velocity[:] = 0.5  # it moves
            node.path.step = broken
        elif node.path.mode is Mode.FAULT:
            speeds.append(float(np.abs(node.path.gate.velocity).max()))
            return not node.path.gate.moving
        return False

    node.loop.run(stop)
    executor.shutdown()
    assert "internal error in control tick: KeyError" in node.path.modes.reason
    assert node.refusals.faults and speeds == sorted(speeds, reverse=True) and speeds[-1] == 0.0
    peer.destroy_node()
    node.destroy_node()


def test_a_stream_that_never_came_is_named_with_topic_type_and_who_publishes(vx300s):
    from std_msgs.msg import String

    from rewact_ros.ros.observations import _who_publishes

    node = Node("asks")
    camera = vx300s.cameras[0]
    assert "nobody publishes it" in _who_publishes(node, camera.topic, camera.type)
    node.create_publisher(String, camera.topic, 1)
    end_s = time.monotonic() + 10
    while "std_msgs/msg/String" not in (said := _who_publishes(node, camera.topic, camera.type)):
        assert time.monotonic() < end_s, said
    node.destroy_node()
