"""The three clocks of a node as one reading."""

import time

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from rewact_ros.contract.frames import NANO
from rewact_ros.control.watch import Now


class NodeClock:
    """Reads steady, age and ROS time; ages follow `/clock` only where the node uses sim time."""

    def __init__(self, node: Node) -> None:
        self._ros = node.get_clock()
        self.uses_sim_time = bool(node.get_parameter("use_sim_time").value)

    def now(self) -> Now:
        """Current instant."""
        steady_s = time.monotonic()
        # Without sim time, ROS time is the system's; rclpy's way to it costs several times more.
        ros_ns = self._ros.now().nanoseconds if self.uses_sim_time else time.time_ns()
        return Now(steady_s, ros_ns / NANO if self.uses_sim_time else steady_s, ros_ns)


def steady_clock() -> Clock:
    """Clock for heartbeats and watchdogs, which sim time must not stop."""
    return Clock(clock_type=ClockType.STEADY_TIME)
