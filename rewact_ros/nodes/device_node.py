"""What the nodes of LeRobot's plug-ins share: a device, and how the process ends with it."""

from rclpy.node import Node

from rewact_ros.ros.device_loop import DeviceLoop
from rewact_ros.ros.door import Guarded


class DeviceNode(Guarded, Node):
    """A node with a device, whose process ends when the device cannot be used any more.

    Attributes:
        device_loop: that talks to the device.
    """

    device_loop: DeviceLoop

    @property
    def broken(self) -> str:
        """Why the process must end; empty: it goes on."""
        return self.device_loop.broken

    def close(self) -> None:
        """Leave the device by the plug-in's own way, once; its settings say what of the torque."""
        if trouble := self.device_loop.close():
            self.get_logger().error(f"disconnect: {trouble}")
