"""Node `lerobot_robot`: a LeRobot robot plug-in behind the contract's topics, as a driver is.

It publishes the robot's joints and cameras and takes the commands that `hil` publishes. It limits
nothing itself: `hil` stands in front of it, and the plug-in's own limits behind.
"""

import math
import time
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import ActionPart, Camera, Contract, load_contract
from rewact_ros.contract.edge import to_driver
from rewact_ros.nodes.device_node import DeviceNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.commands import command_decoder, command_type
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.device_loop import DeviceLoop
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.images import camera_message, camera_type
from rewact_ros.ros.lerobot_features import Gathered, clipped, link_robot, norm_modes
from rewact_ros.ros.lerobot_plugins import (
    ROBOT,
    DeviceFile,
    PluginError,
    connect_device,
    make_device,
    read_device,
)
from rewact_ros.ros.params import LerobotRobotParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.states import STATES, state_type
from rewact_ros.stamps import NANO

# A new picture goes out when the last one is older than so much of a period of the contract.
CAMERA_EARLY = 0.75


class LerobotRobotNode(DeviceNode):
    """One thread reads and commands the plug-in; the executor only takes messages."""

    def __init__(self) -> None:
        super().__init__("lerobot_robot")
        self.params = declare(self, LerobotRobotParams)
        self.contract = load_contract(self.params.contract, self.get_namespace())
        file = read_device(ROBOT, self.params.robot_config, self.params.robot_type)
        self.robot = make_device(ROBOT, file)
        self._links = link_robot(
            self.contract,
            self.robot.observation_features,
            self.robot.action_features,
            norm_modes(self.robot),
            file.numbers,
        )
        _check_colours(self.robot)
        self.clock = NodeClock(self)
        read_hz = self.params.read_hz or _read_rate(self.contract)
        self.device_loop = DeviceLoop(
            self._read, self._write, self.robot.disconnect, 1 / read_hz, self.params.most_failures
        )
        self.device_loop.start(partial(self._connect, file))
        unused = ", ".join(self._links.unused) or "nothing"
        self.get_logger().info(
            f"{file.type} is connected as {self.contract.robot}, read at {read_hz:g} Hz; "
            f"observed and in no stream of the contract: {unused}"
        )

    def _connect(self, file: DeviceFile) -> None:
        """What is not connected has nothing to say: nobody may see its topics before."""
        connect_device(ROBOT, file, self.robot)
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        contract = self.contract
        self._states = [
            self.create_publisher(state_type(part), part.topic, names.SENSOR_OUT)
            for part in contract.state
        ]
        self._images = {
            camera.name: self.create_publisher(camera_type(camera), camera.topic, names.SENSOR_OUT)
            for camera in contract.cameras
        }
        self._last_image_ns = dict.fromkeys(self._images, 0)
        self._gathered = Gathered(contract.action, self._links.action)
        self._clipped = 0
        self._last_clip = ""
        for index, part in enumerate(contract.action):
            take = partial(self._on_command, index, part, command_decoder(part))
            self.create_subscription(command_type(part), part.topic, take, names.COMMAND)
        publish_diagnostics(self, self._diagnose)

    # Commands ---------------------------------------------------------------------------------

    def _on_command(self, index: int, part: ActionPart, decode: Any, msg: Any) -> None:
        numbers = to_driver(part, decode(msg))
        action = self._gathered.add(index, numbers, time.monotonic())
        if action is not None:
            self.device_loop.offer(action)

    def _write(self, action: dict[str, float]) -> None:
        sent = self.robot.send_action(action)
        if told := clipped(action, sent):
            self._clipped, self._last_clip = self._clipped + 1, told

    # Observations -----------------------------------------------------------------------------

    def _read(self) -> None:
        before_ns = self.clock.now().ros_ns
        captured_s = {name: _captured(self.robot, name) for name in self._images}
        observation = self.robot.get_observation()
        # Before the read is never later than when it was measured.
        stamp = to_stamp(before_ns)
        for part, link, publisher in zip(
            self.contract.state, self._links.state, self._states, strict=True
        ):
            numbers = link.to_topic(observation)
            publisher.publish(STATES[part.type].encode(part, numbers, stamp))
        # The reference camera goes last: its image completes the observation.
        for camera in reversed(self.contract.cameras):
            picture = observation[camera.name]
            seen_s = _captured(self.robot, camera.name, picture) or captured_s[camera.name]
            age_s = time.perf_counter() - seen_s if seen_s is not None else None
            at_ns = before_ns if age_s is None else self.clock.now().ros_ns - round(age_s * NANO)
            self._publish_picture(camera, picture, at_ns)

    def _publish_picture(self, camera: Camera, picture: Any, at_ns: int) -> None:
        since_ns = at_ns - self._last_image_ns[camera.name]
        if since_ns < CAMERA_EARLY * NANO / self.contract.rate_hz:
            return  # the same picture once more, or more of them than the contract wants
        pixels = _checked(camera, picture)
        frame_id = f"{camera.name}_optical_frame"
        message = camera_message(camera, pixels, to_stamp(at_ns), frame_id)
        self._images[camera.name].publish(message)
        self._last_image_ns[camera.name] = at_ns

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        loop = self.device_loop
        level = ERROR if loop.failing else WARN if self._last_clip else OK
        clip = f"the plug-in clipped: {self._last_clip}" if self._last_clip else ""
        message = (loop.newest if loop.failing else clip) or "connected"
        values: dict[str, object] = {
            "reads": loop.done["read"],
            "commands": loop.done["write"],
            "failed_reads": loop.failed["read"],
            "failed_commands": loop.failed["write"],
            "last_failure": loop.newest,
            "clipped_commands": self._clipped,
            "last_clip": self._last_clip,
        }
        self._last_clip = ""
        return level, message, values


def _read_rate(contract: Contract) -> float:
    """As fast as commands, and pictures of the contract's rate fall on a read."""
    return contract.rate_hz * math.ceil(contract.command_rate_hz / contract.rate_hz - 1e-9)


def _check_colours(robot: Any) -> None:
    """Refuse cameras that are set to give blue first: a topic carries rgb8."""
    cameras = getattr(getattr(robot, "config", None), "cameras", None) or {}
    for name, config in cameras.items():
        mode = getattr(config, "color_mode", "rgb")
        if str(getattr(mode, "value", mode)).lower() != "rgb":
            raise PluginError(f"cameras.{name}.color_mode: expected rgb, got {mode}; leave it out")


def _captured(robot: Any, name: str, picture: Any = None) -> float | None:
    """When the newest picture of a camera was taken, on `time.perf_counter`; None: not known.

    With a `picture`: only if it is that one. LeRobot's cameras are read by threads of their own and
    keep the time; plug-ins whose cameras do not are stamped by the read.
    """
    camera = (getattr(robot, "cameras", None) or {}).get(name)
    at_s = getattr(camera, "latest_timestamp", None)
    if picture is None:
        return at_s
    same = getattr(camera, "latest_frame", None) is picture
    return at_s if same and at_s == getattr(camera, "latest_timestamp", None) else None


def _checked(camera: Camera, picture: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB as the contract has it. Raises ValueError."""
    pixels = np.asarray(picture)
    if pixels.shape != camera.shape or pixels.dtype != np.uint8:
        raise ValueError(
            f"{camera.key}: expected {list(camera.shape)} of uint8, got {list(pixels.shape)} of "
            f"{pixels.dtype}"
        )
    return pixels


def main() -> None:
    """Entry point."""
    run_node(LerobotRobotNode)


if __name__ == "__main__":
    main()
