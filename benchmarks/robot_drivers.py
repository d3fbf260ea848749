"""Fake drivers of the shipped robots: their topics, types, joint orders and controllers, no robot.

`python benchmarks/robot_drivers.py NAME` runs one until it is ended. What each driver has stands in
`robot_models/drivers.json`; each page in `docs/robots` names the sources. A controller in place
of a gripper's action is ours, and rates above 100 Hz are brought down to 100 Hz. The models beside
it hold names and limits only.
"""

import array
import contextlib
import itertools
import json
import signal
import sys
import threading
import zlib
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from rewact_ros.contract import Contract, load_contract
from rewact_ros.contract.urdf import read_urdf
from rewact_ros.picture_file import encode_picture
from rewact_ros.ros.graph_facts import LATCHED_TEXT
from rewact_ros.ros.interfaces import SENSOR_OUT
from rewact_ros.share import share_dir

MODELS = Path(__file__).with_name("robot_models")
DRIVERS = json.loads((MODELS / "drivers.json").read_text())
_COMMANDS = {
    "std_msgs/msg/Float64MultiArray": Float64MultiArray,
    "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
    "std_msgs/msg/Float64": Float64,
}
CAMERA_HZ = 30.0
# No two that follow each other are the same: a sensor has noise.
DIFFERENT_PICTURES = 5


def of_contract(contract: Contract) -> dict:
    """What a driver of a contract's robot has, where no page of one is known (see drivers.json)."""
    return {
        "joint_states": {part.topic: list(part.joints) for part in contract.state},
        "joint_rate_hz": 50,
        "cameras": {
            camera.name: {"topic": camera.topic, "type": camera.type, "shape": camera.shape}
            for camera in contract.cameras
        },
        "controllers": [
            {
                "topic": part.topic,
                "type": part.type,
                "node": part.topic.rpartition("/")[0],
                "joints": list(part.joints),
            }
            for part in contract.action
        ],
    }


class FakeDriver:
    """A driver in nodes of its own, turned by a thread.

    Attributes:
        received: (topic, message) of every command.
        pose: joint → position that it reports; in the middle of the model's range.

    Args:
        name: of drivers.json.
        about: what stands there, where something else shall be.
        urdf: likewise of the model; empty: none is published.
        pose: likewise of the pose.
        change: what becomes of a message before it is sent: (topic, message) → message, or None.
    """

    def __init__(
        self,
        name: str,
        context: rclpy.Context,
        cameras: bool = True,
        about: dict | None = None,
        urdf: str | None = None,
        pose: dict[str, float] | None = None,
        change: Callable[[str, Any], Any] = lambda topic, msg: msg,
    ) -> None:
        self.about, self.received = about or DRIVERS[name], []
        self._change = change
        urdf = (MODELS / f"{name}.urdf").read_text() if urdf is None else urdf
        model = read_urdf(urdf, name).model if urdf else {}
        self.pose = {
            joint: 0.0 if each.low is None else (each.low + each.high) / 2
            for joint, each in model.items()
        } | (pose or {})
        self.node = Node("driver", context=context, use_global_arguments=False)
        self.nodes = [self.node]
        for topic, joints in self.about["joint_states"].items():
            self._publish_joints(topic, joints)
        for camera in self.about["cameras"].values() if cameras else ():
            self._publish_images(camera)
        for controller in self.about["controllers"]:
            self._listen(controller, context)
        self._model = self.node.create_publisher(String, "robot_description", LATCHED_TEXT)
        if urdf:
            self._model.publish(String(data=urdf))
        self.executor = SingleThreadedExecutor(context=context)
        for node in self.nodes:
            self.executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _send(self, publisher: Publisher, topic: str, msg: Any) -> None:
        """Stamp a message, change it, and publish what is left of it."""
        msg.header.stamp = self.node.get_clock().now().to_msg()
        if (changed := self._change(topic, msg)) is not None:
            publisher.publish(changed)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self.executor.spin()

    def _publish_joints(self, topic: str, joints: list[str]) -> None:
        publisher = self.node.create_publisher(JointState, topic, SENSOR_OUT)
        msg = JointState(name=joints, position=[self.pose[joint] for joint in joints])

        def publish() -> None:
            self._send(publisher, topic, copy(msg))

        self.node.create_timer(1 / self.about["joint_rate_hz"], publish)

    def _publish_images(self, camera: dict) -> None:
        height, width, _ = camera["shape"]
        kind = {"sensor_msgs/msg/Image": Image}.get(camera["type"], CompressedImage)
        publisher = self.node.create_publisher(kind, camera["topic"], SENSOR_OUT)
        pictures = itertools.cycle(_pictures(camera["topic"], height, width))
        if kind is CompressedImage:
            pictures = itertools.cycle([_jpeg(next(pictures), height, width) for _ in range(3)])

        def publish() -> None:
            # Grey: a third of the bytes, so that they fit the default transport of this machine.
            msg = kind(format="jpeg") if kind is CompressedImage else _grey(height, width)
            msg.data = next(pictures)
            self._send(publisher, camera["topic"], msg)

        self.node.create_timer(1 / camera.get("rate_hz", CAMERA_HZ), publish)

    def _listen(self, controller: dict, context: rclpy.Context) -> None:
        namespace, _, name = controller["node"].rpartition("/")
        node = Node(name, namespace=namespace, context=context, use_global_arguments=False)
        if controller["joints"]:
            node.declare_parameter("joints", controller["joints"])
            node.declare_parameter("interface_name", controller.get("interface", "position"))
        topic = controller["topic"]

        def keep(msg: object) -> None:
            self.received.append((topic, msg))

        qos = controller.get("qos", 10)
        node.create_subscription(_COMMANDS[controller["type"]], f"/{topic}", keep, qos)
        self.nodes.append(node)

    def close(self) -> None:
        """End the thread and its nodes."""
        self.executor.shutdown()
        self._thread.join(10.0)
        for node in self.nodes:
            node.destroy_node()


def known(name: str) -> dict[str, Any]:
    """Arguments of a shipped robot's driver; without a page of one, as its contract has it."""
    if name in DRIVERS:
        return {}
    contract = load_contract(share_dir() / "config" / "robots" / f"{name}.yaml")
    places = {
        joint: (low + high) / 2
        for part in contract.action
        for joint, (low, high) in zip(part.joints, part.position, strict=True)
    }
    return {"about": of_contract(contract), "urdf": "", "pose": places}


def _pictures(name: str, height: int, width: int) -> list["array.array[int]"]:
    """A few noisy grey pictures of a scene that is the camera's own; (height · width,) bytes."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    scene = np.kron(random.integers(30, 220, (6, 8)), np.ones((height // 6 + 1, width // 8 + 1)))
    found = []
    for _ in range(DIFFERENT_PICTURES):
        noisy = scene[:height, :width] + random.integers(-8, 9, (height, width))
        found.append(array.array("B", noisy.astype(np.uint8).tobytes()))
    return found


def _grey(height: int, width: int) -> Image:
    return Image(height=height, width=width, encoding="mono8", step=width)


def _jpeg(grey: "array.array[int]", height: int, width: int) -> "array.array[int]":
    pixels = np.frombuffer(grey, np.uint8).reshape(height, width)
    return array.array("B", encode_picture(np.repeat(pixels[..., None], 3, axis=2)))


def main() -> None:
    """Run one until it is ended."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    driver = FakeDriver(sys.argv[1], context, **known(sys.argv[1]))
    print("ready", flush=True)
    ended.wait()
    driver.close()
    rclpy.shutdown(context=context)


if __name__ == "__main__":
    main()
