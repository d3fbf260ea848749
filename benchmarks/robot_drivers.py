"""Fake drivers of the shipped robots: their topics, types, joint orders and controllers, no robot.

`python benchmarks/robot_drivers.py NAME` runs one until it is ended. What each driver has stands in
`robot_models/drivers.json`; each page in `docs/robots` names the sources. A controller in place
of a gripper's action is ours, and rates above 100 Hz are brought down to 100 Hz. The models beside
it hold names and limits only.
"""

import contextlib
import json
import signal
import sys
import threading
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from rewact_ros.contract.urdf import read_urdf_file
from rewact_ros.ros.graph_facts import LATCHED_TEXT
from rewact_ros.ros.interfaces import SENSOR_OUT

MODELS = Path(__file__).with_name("robot_models")
DRIVERS = json.loads((MODELS / "drivers.json").read_text())
_COMMANDS = {
    "std_msgs/msg/Float64MultiArray": Float64MultiArray,
    "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
}
CAMERA_HZ = 30.0


class FakeDriver:
    """A driver in nodes of its own, turned by a thread.

    Attributes:
        received: (topic, message) of every command.
        pose: joint → position that it reports; in the middle of the model's range.
    """

    def __init__(self, name: str, context: rclpy.Context, cameras: bool = True) -> None:
        self.about, self.received = DRIVERS[name], []
        model = read_urdf_file(MODELS / f"{name}.urdf").model
        self.pose = {
            joint: 0.0 if each.low is None else (each.low + each.high) / 2
            for joint, each in model.items()
        }
        self.node = Node("driver", context=context, use_global_arguments=False)
        self.nodes = [self.node]
        for topic, joints in self.about["joint_states"].items():
            self._publish_joints(topic, joints)
        for camera in self.about["cameras"].values() if cameras else ():
            self._publish_images(camera)
        for controller in self.about["controllers"]:
            self._listen(controller, context)
        self._model = self.node.create_publisher(String, "robot_description", LATCHED_TEXT)
        self._model.publish(String(data=(MODELS / f"{name}.urdf").read_text()))
        self.executor = SingleThreadedExecutor(context=context)
        for node in self.nodes:
            self.executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def _publish_joints(self, topic: str, joints: list[str]) -> None:
        publisher = self.node.create_publisher(JointState, topic, SENSOR_OUT)
        msg = JointState(name=joints, position=[self.pose[joint] for joint in joints])

        def publish() -> None:
            msg.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(msg)

        self.node.create_timer(1 / self.about["joint_rate_hz"], publish)

    def _publish_images(self, camera: dict) -> None:
        height, width, _ = camera["shape"]
        kind = {"sensor_msgs/msg/Image": Image}.get(camera["type"], CompressedImage)
        publisher = self.node.create_publisher(kind, camera["topic"], SENSOR_OUT)
        # Grey: a third of the bytes, so that they fit the default transport of this machine.
        msg = Image(height=height, width=width, encoding="mono8", step=width)
        msg.data.frombytes(bytes(height * width))

        def publish() -> None:
            msg.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(msg)

        self.node.create_timer(1 / CAMERA_HZ, publish)

    def _listen(self, controller: dict, context: rclpy.Context) -> None:
        namespace, _, name = controller["node"].rpartition("/")
        node = Node(name, namespace=namespace, context=context, use_global_arguments=False)
        node.declare_parameter("joints", controller["joints"])
        node.declare_parameter("interface_name", "position")
        topic = controller["topic"]

        def keep(msg: object) -> None:
            self.received.append((topic, msg))

        node.create_subscription(_COMMANDS[controller["type"]], f"/{topic}", keep, 10)
        self.nodes.append(node)

    def close(self) -> None:
        """End the thread and its nodes."""
        self.executor.shutdown()
        self._thread.join(10.0)
        for node in self.nodes:
            node.destroy_node()


def main() -> None:
    """Run one until it is ended."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    driver = FakeDriver(sys.argv[1], context)
    print("ready", flush=True)
    ended.wait()
    driver.close()
    rclpy.shutdown(context=context)


if __name__ == "__main__":
    main()
