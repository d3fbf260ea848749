#!/usr/bin/env python3
"""Warn when the predicted progress falls: `.venv/bin/python examples/reward_subscriber.py`.

A plain node beside a running robot. Options of ROS work: `--ros-args -r __ns:=/left -p fall:=0.3`.
"""

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from rewact_ros.msg import Reward


class RewardWatch(Node):
    """Logs every fall of the reward from its highest value since the last one."""

    def __init__(self) -> None:
        super().__init__("reward_watch")
        self.fall = self.declare_parameter("fall", 0.2).value
        self.highest = 0.0
        self.create_subscription(Reward, "rewact/reward", self.on_reward, 10)

    def on_reward(self, msg: Reward) -> None:
        """Take one reward in [0, 1]; where none could be computed, none comes."""
        self.highest = max(self.highest, msg.value)
        if msg.value < self.highest - self.fall:
            self.get_logger().warning(f"reward fell from {self.highest:.2f} to {msg.value:.2f}")
            self.highest = msg.value


def main() -> None:
    """Run until Ctrl-C."""
    rclpy.init()
    node = RewardWatch()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
