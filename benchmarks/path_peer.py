"""The policy's job as public ROS 2 runtimes do it, for comparison.

python path_peer.py CONTRACT POLICY

One node: subscriptions keep the latest message of each topic; a timer at the data's rate converts
them, calls LeRobot's `select_action` and publishes the action as the robot's command, all in the
callback. Network, torch path, processors, threads and transports are those of our node. Each call
infers anew (`n_action_steps` 1), which gives the freshest commands that this design can give.
"""

import json
import signal
import sys
import time

import numpy as np
import rclpy
import torch
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from rewact_ros.contract import Contract, load_contract
from rewact_ros.contract.frames import select_joints
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import command_encoder, command_type
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.images import camera_type, decode_image

LATEST = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
STATE = "observation.state"


class PeerNode(Node):
    """Timer-driven, synchronous, one command per inference."""

    def __init__(self, contract: Contract, loaded: LoadedPolicy) -> None:
        super().__init__("peer")
        self.contract, self.loaded = contract, loaded
        self.received = dict.fromkeys([c.key for c in contract.cameras], 0)
        self.commands: list[tuple[int, int]] = []  # stamp of the image, time of the command
        self._latest: dict = {}
        part = contract.state[0]
        self.create_subscription(
            JointState, part.topic, lambda msg: self._latest.update({STATE: msg}), LATEST
        )
        for camera in contract.cameras:
            self.create_subscription(
                camera_type(camera),
                camera.topic,
                lambda msg, key=camera.key: self._on_image(key, msg),
                LATEST,
            )
        action = contract.action[0]
        self._encode = command_encoder(action)
        self._publisher = self.create_publisher(command_type(action), action.topic, names.COMMAND)
        self.create_timer(contract.dt_s, self._on_timer)

    def _on_image(self, key: str, msg) -> None:  # type: ignore[no-untyped-def]
        self.received[key] += 1
        self._latest[key] = msg

    @torch.inference_mode()
    def select_action(self, batch: dict[str, torch.Tensor]) -> np.ndarray:
        """One action (A,) in contract units."""
        loaded = self.loaded
        action = loaded.policy.select_action(loaded.preprocessor(batch))
        return loaded.postprocessor(action)[0].numpy()

    def _on_timer(self) -> None:
        if len(self._latest) <= len(self.contract.cameras):
            return
        part, state = self.contract.state[0], self._latest[STATE]
        values = select_joints(state.name, getattr(state, part.field), part.joints, part.topic)
        batch = {STATE: torch.from_numpy(values).float().unsqueeze(0)}
        for camera in self.contract.cameras:
            image = torch.from_numpy(decode_image(self._latest[camera.key], camera.topic))
            batch[camera.key] = image.permute(2, 0, 1).float().div(255).unsqueeze(0)
        action = self.select_action(batch)
        stamp = self._latest[self.contract.cameras[0].key].header.stamp
        message = self._encode(action.astype(np.float64), stamp)
        self.commands.append((to_ns(stamp), time.time_ns()))
        self._publisher.publish(message)

    def warm_up(self) -> None:
        """Three inferences on black."""
        batch = {STATE: torch.zeros(1, len(self.contract.state_names))}
        for camera in self.contract.cameras:
            height, width, _ = camera.shape
            batch[camera.key] = torch.zeros(1, 3, height, width)
        for _ in range(3):
            self.select_action(dict(batch))


def main() -> None:
    """Run until SIGINT, then print what was received and sent."""
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    torch.set_num_threads(1)
    loaded = load_policy(sys.argv[2], "cpu")
    loaded.policy.config.n_action_steps = 1
    loaded.policy.reset()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    peer = PeerNode(load_contract(sys.argv[1]), loaded)
    peer.warm_up()
    print("ready", flush=True)
    executor = SingleThreadedExecutor()
    executor.add_node(peer)
    while not stopped:
        executor.spin_once(timeout_sec=0.2)
    print(json.dumps({"received": peer.received, "commands": peer.commands}), flush=True)
    peer.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
