"""A robot's cameras and joints at fixed rates, as a process of its own; counts what it published.

python recording_source.py raw|compressed|one|joints SECONDS      (0: until it is ended)
"""

import signal
import sys
import time
from dataclasses import dataclass

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from rewact_ros.ros import interfaces as names
from rewact_ros.ros.images import compressed_message, image_message

HEIGHT, WIDTH, JPEG_QUALITY = 480, 640, 90
CAMERA_HZ, JOINTS_HZ = 30.0, 100.0
JOINTS = tuple(f"joint_{i}" for i in range(7))
CAMERAS = {"raw": 2, "compressed": 4, "one": 1, "joints": 0}


@dataclass
class Stream:
    """One publisher and how its next message comes about."""

    publisher: object
    period_s: float
    message: object
    due_s: float = 0.0
    sent: int = 0


class Source(Node):
    """Publishes until told to stop, each stream against its own deadlines."""

    def __init__(self, load: str) -> None:
        super().__init__("source")
        stamp = self.get_clock().now().to_msg()
        compressed = load == "compressed"
        self.streams = {}
        for i in range(CAMERAS[load]):
            topic = f"/camera_{i}/image_raw" + ("/compressed" if compressed else "")
            picture = _picture(i)
            message = (
                compressed_message(picture, stamp, "camera", JPEG_QUALITY)
                if compressed
                else image_message(picture, stamp, "camera")
            )
            publisher = self.create_publisher(type(message), topic, names.SENSOR_OUT)
            self.streams[topic] = Stream(publisher, 1 / CAMERA_HZ, message)
        joints = JointState(name=list(JOINTS), position=[0.0] * len(JOINTS))
        publisher = self.create_publisher(JointState, "/joint_states", names.SENSOR_OUT)
        self.streams["/joint_states"] = Stream(publisher, 1 / JOINTS_HZ, joints)

    def wait(self) -> None:
        """Until something listens to every stream."""
        while not all(s.publisher.get_subscription_count() for s in self.streams.values()):
            time.sleep(0.05)

    def run(self, seconds: float, stopping) -> None:  # type: ignore[no-untyped-def]
        start_s = time.monotonic()
        for i, stream in enumerate(self.streams.values()):
            stream.due_s = start_s + 0.003 * i
        while not stopping():
            stream = min(self.streams.values(), key=lambda s: s.due_s)
            if seconds and stream.due_s > start_s + seconds:
                return
            time.sleep(max(stream.due_s - time.monotonic(), 0.0))
            stream.message.header.stamp = self.get_clock().now().to_msg()
            stream.publisher.publish(stream.message)
            stream.sent += 1
            stream.due_s += stream.period_s


def _picture(seed: int) -> np.ndarray:
    """A room of smooth shades with a little noise: neither empty nor incompressible."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    shade = (96 + 80 * np.sin(x / 90 + seed) * np.cos(y / 70))[..., None] + [0, 20, -20]
    return np.clip(shade + rng.normal(0, 4, shade.shape), 0, 255).astype(np.uint8)


def main() -> None:
    """Publish, and print `topic count` lines at the end."""
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(1))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    source = Source(sys.argv[1])
    source.wait()
    print("listening", flush=True)
    sys.stdin.readline()  # begin when told to, and not before anybody records
    source.run(float(sys.argv[2]), lambda: bool(stopped))
    time.sleep(1.0)  # what is in the middleware still arrives
    for topic, stream in source.streams.items():
        print(topic, stream.sent, flush=True)
    source.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
