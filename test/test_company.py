"""A simulated or replayed robot does not begin where a robot is already."""

import pytest
import rclpy
from conftest import VX300S
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from rewact_ros.nodes.sim import SimNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.company import CompanyError, require_alone
from rewact_ros.stack.replay_robot import ReplayRobot

TOPICS = ["joint_states", "front/image_raw"]


@pytest.fixture
def driver(graph):
    """A robot's driver, in no namespace."""
    node = Node("arm_driver")
    node.create_publisher(JointState, "joint_states", names.SENSOR_OUT)
    yield node
    node.destroy_node()


def sim(namespace=""):
    asked = {"contract": str(VX300S), "render": False}
    overrides = [Parameter(name, value=value) for name, value in asked.items()]
    return SimNode(namespace=namespace, parameter_overrides=overrides)


def test_no_robot_is_simulated_where_a_drivers_states_come_from(driver):
    pytest.importorskip("gym_aloha")
    with pytest.raises(CompanyError, match="/joint_states: expected nobody .* got /arm_driver"):
        sim()
    beside = sim("left")  # another robot's topics are others
    beside.close()
    beside.destroy_node()


def test_no_robot_is_replayed_there(driver, vx300s):
    with pytest.raises(CompanyError, match="replayed would be taken for it"):
        ReplayRobot(vx300s, lambda: None)


def test_whoever_only_listens_is_no_robot_nor_what_a_killed_one_left(graph):
    listener = Node("rviz")
    listener.create_subscription(JointState, "joint_states", lambda msg: None, names.SENSOR)
    left = Node("robot")
    left.create_publisher(JointState, "joint_states", names.SENSOR_OUT)
    again = Node("robot", context=rclpy.get_default_context())
    try:
        require_alone(again, TOPICS)
    finally:
        for node in (listener, left, again):
            node.destroy_node()
