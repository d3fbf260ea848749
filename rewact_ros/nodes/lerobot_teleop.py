"""Node `lerobot_teleop`: a LeRobot teleoperator plug-in as a source of the contract's targets.

Its action goes out as joint states, and hil decides on them. The deadman of the source is the
user's: no plug-in publishes it. Where the source has a `feedback_topic` and the plug-in takes
feedback, the leader follows the robot until it takes over.
"""

import time
from functools import partial
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState

from rewact_ros.contract import load_contract, select_joints
from rewact_ros.contract.schema import Contract, TeleopSource
from rewact_ros.contract.tables import JOINT_STATE
from rewact_ros.nodes.device_node import DeviceNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.convert import joint_state_message, to_stamp
from rewact_ros.ros.device_loop import DeviceLoop
from rewact_ros.ros.diagnostics import ERROR, OK, publish_diagnostics
from rewact_ros.ros.lerobot_features import link_leader, listed, norm_modes
from rewact_ros.ros.lerobot_plugins import (
    TELEOP,
    DeviceFile,
    PluginError,
    connect_device,
    make_device,
    read_device,
)
from rewact_ros.ros.params import LerobotTeleopParams, declare
from rewact_ros.ros.process import run_node

# A leader is led no further ahead of where it is than this, in LeRobot's degrees or percent: it
# comes to the robot as fast as its motors follow, and does not leap.
MOST_LEAD = 5.0
# hil sends feedback at 50 Hz until the leader takes over; then its motors let go.
FEEDBACK_FRESH_S = 0.2


class LerobotTeleopNode(DeviceNode):
    """One thread reads the device and gives it feedback; the executor only takes messages."""

    def __init__(self) -> None:
        super().__init__("lerobot_teleop")
        self.params = declare(self, LerobotTeleopParams)
        self.contract = load_contract(self.params.contract, self.get_namespace())
        self.source = _joint_source(self.contract, self.params.source)
        file = read_device(TELEOP, self.params.teleop_config, self.params.teleop_type)
        self.device = make_device(TELEOP, file)
        self._link = link_leader(
            self.contract,
            self.source,
            self.device.action_features,
            norm_modes(self.device),
            file.numbers,
        )
        self.clock = NodeClock(self)
        self._where: dict[str, Any] = {}
        self._fed_s = 0.0
        self._powered = False
        self.device_loop = DeviceLoop(
            self._read,
            self._feed,
            self.device.disconnect,
            1.0 / self.params.rate_hz,
            self.params.most_failures,
        )
        self.device_loop.start(partial(self._connect, file))
        deadman = self.source.deadman
        self.get_logger().info(
            f"{file.type} is connected as source {self.source.name}; its deadman is "
            f"{f'yours to publish on {deadman.topic}' if deadman else 'not in the contract'}"
        )

    def _connect(self, file: DeviceFile) -> None:
        """What is not connected has nothing to say: nobody may see its topics before."""
        connect_device(TELEOP, file, self.device)
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        self._targets = self.create_publisher(JointState, self.source.topic, names.SENSOR_OUT)
        publish_diagnostics(self, self._diagnose)
        topic = self.source.feedback_topic
        if topic is None:
            return
        missing = set(self._link.features) - set(self.device.feedback_features)
        if missing:
            self.get_logger().warning(
                f"teleop.{self.source.name}.feedback_topic: the plug-in takes no feedback of "
                f"{', '.join(sorted(missing))}; it takes: {listed(self.device.feedback_features)}"
            )
            return
        self.create_subscription(JointState, topic, self._on_feedback, names.SENSOR)
        self.create_timer(FEEDBACK_FRESH_S / 2, self._watch_feedback, clock=steady_clock())

    def _read(self) -> None:
        at_ns = self.clock.now().ros_ns
        self._where = self.device.get_action()
        numbers = self._link.to_topic(self._where)
        self._targets.publish(
            joint_state_message(self.source.source_joints, "position", numbers, to_stamp(at_ns))
        )

    # Feedback ---------------------------------------------------------------------------------

    def _on_feedback(self, msg: JointState) -> None:
        topic = str(self.source.feedback_topic)
        numbers = select_joints(msg.name, msg.position, self.source.source_joints, topic)
        self._fed_s = time.monotonic()
        self.device_loop.offer(self._link.from_topic(np.asarray(numbers)))

    def _watch_feedback(self) -> None:
        if self._powered and time.monotonic() - self._fed_s > FEEDBACK_FRESH_S:
            self.device_loop.offer({})

    def _feed(self, goals: dict[str, float]) -> None:
        """In the device's thread: lead it towards the goals; none of them lets go."""
        if not goals or not self._where:
            self._power(False)
            return
        near = {f: float(self._where[f]) for f in goals}
        self.device.send_feedback(
            {f: at + float(np.clip(goals[f] - at, -MOST_LEAD, MOST_LEAD)) for f, at in near.items()}
        )
        # After the goal, which may be of another day.
        self._power(True)

    def _power(self, on: bool) -> None:
        if on == self._powered:
            return
        switch = getattr(self.device, "enable_torque" if on else "disable_torque", None)
        if switch is not None:
            switch()
        self._powered = on

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        loop = self.device_loop
        return (
            ERROR if loop.failing else OK,
            loop.newest if loop.failing else "connected",
            {
                "source": self.source.name,
                "reads": loop.done["read"],
                "failed_reads": loop.failed["read"],
                "failed_feedback": loop.failed["write"],
                "last_failure": loop.newest,
            },
        )


def _joint_source(contract: Contract, name: str) -> TeleopSource:
    """The source of that name. Raises ContractError or PluginError."""
    source = contract.teleop_source(name)
    if source.type != JOINT_STATE:
        raise PluginError(
            f"teleop.{name}.type: expected {JOINT_STATE} for a plug-in of LeRobot, got "
            f"{source.type}"
        )
    return source


def main() -> None:
    """Entry point."""
    run_node(LerobotTeleopNode)


if __name__ == "__main__":
    main()
