"""The cameras of a contract as a process of its own; counts what it published.

python path_source.py CONTRACT LISTENERS      begins when a line comes in, ends with the next

It says `ready` once every camera has so many listeners.
"""

import sys
import threading
import time

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from rewact_ros.contract import Contract, load_contract
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.images import image_message

SHIFTS = 64  # pictures that differ


def pictures(contract: Contract) -> dict[str, list[np.ndarray]]:
    """Of each camera, by its name, `SHIFTS` crops (H, W, 3) uint8 of one noise."""
    rng = np.random.default_rng(0)
    made = {}
    for camera in contract.cameras:
        height, width, _ = camera.shape
        noise = rng.integers(0, 256, (height + SHIFTS, width, 3), dtype=np.uint8)
        made[camera.name] = [noise[i : i + height] for i in range(SHIFTS)]
    return made


class Source(Node):
    """Raw images of every camera at the contract's rate, the reference camera's last."""

    def __init__(self, contract: Contract) -> None:
        super().__init__("source")
        self.sent = 0
        self._period_s = 1.0 / contract.rate_hz
        self._pictures = pictures(contract)
        self._cameras = []
        for camera in reversed(contract.cameras):
            kind = type(image_message(self._pictures[camera.name][0], to_stamp(0), ""))
            publisher = self.create_publisher(kind, camera.topic, names.SENSOR_OUT)
            self._cameras.append((camera.name, publisher))

    def wait_for(self, listeners: int) -> None:
        """Until every camera has them, and they have found it too."""
        while any(p.get_subscription_count() < listeners for _, p in self._cameras):
            time.sleep(0.05)
        time.sleep(1.0)

    def run(self, ended: threading.Event) -> None:
        """Publish against absolute deadlines."""
        due_s = time.monotonic()
        while not ended.is_set():
            time.sleep(max(due_s - time.monotonic(), 0.0))
            stamp = to_stamp(time.time_ns())
            for name, publisher in self._cameras:
                picture = self._pictures[name][self.sent % SHIFTS]
                publisher.publish(image_message(picture, stamp, name))
            self.sent += 1
            due_s += self._period_s


def main() -> None:
    """Publish, and print how many images of each camera there were."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    source, ended = Source(load_contract(sys.argv[1])), threading.Event()
    source.wait_for(int(sys.argv[2]))
    print("ready", flush=True)
    sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    source.run(ended)
    print(source.sent, flush=True)
    source.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
