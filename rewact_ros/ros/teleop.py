"""What every teleoperation process shares: where the robot is, who leads it, how targets go out."""

import time
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy

from rewact_ros.contract import Contract, SampleError
from rewact_ros.contract.measured import measured_action, rest_pose
from rewact_ros.contract.schema import Deadman, TeleopSource
from rewact_ros.msg import ControlStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import command_decoder, command_type
from rewact_ros.ros.convert import joint_state_message
from rewact_ros.ros.states import state_sample, state_type

FloatArray = NDArray[np.float64]
# An older command is not in force any more: nobody holds the arm.
COMMAND_FRESH_S = 0.1
STATUS_FRESH_S = 1.0


class RobotState:
    """Joints and mode of one robot, from its topics.

    `joints()` is the command in force where there is one, else the measured joints: a gripper that
    holds something never reaches its command, and starting from where it is would let go.
    """

    def __init__(self, node: Node, contract: Contract) -> None:
        self._contract = contract
        self._state: dict[int, tuple[Any, float]] = {}
        self._command: dict[int, tuple[Any, float]] = {}
        self._decoders = [command_decoder(part) for part in contract.action]
        self._status: tuple[ControlStatus, float] | None = None
        for i in contract.measuring:
            state_part = contract.state[i]
            node.create_subscription(
                state_type(state_part), state_part.topic, partial(self._on_joints, i), names.SENSOR
            )
        for i, part in enumerate(contract.action):
            node.create_subscription(
                command_type(part),
                part.topic,
                partial(self._on_command, i),
                names.SENSOR,
            )
        node.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_status, names.LATCHED
        )

    # Messages come faster than anybody asks: they are kept, and read when asked for.

    def _on_joints(self, index: int, msg: Any) -> None:
        self._state[index] = (msg, time.monotonic())

    def _on_command(self, index: int, msg: Any) -> None:
        self._command[index] = (msg, time.monotonic())

    def _on_status(self, msg: ControlStatus) -> None:
        self._status = (msg, time.monotonic())

    @property
    def status(self) -> ControlStatus | None:
        """Newest status of hil, or None where it is silent."""
        if self._status is None or time.monotonic() - self._status[1] > STATUS_FRESH_S:
            return None
        return self._status[0]

    @property
    def unready(self) -> str:
        """Why no target can be made, or "": a deadman that counts before would stop the arm."""
        if self.status is None:
            return "hil is not heard yet"
        return "" if self.joints() is not None else "the robot's joints are not known"

    def led_by(self, source: str) -> bool:
        """Whether this teleop source moves the robot now."""
        status = self.status
        return (
            status is not None
            and status.mode == ControlStatus.HUMAN
            and status.active_source == source
        )

    def measured(self) -> FloatArray | None:
        """(A,) measured positions of the commanded joints, or None where a part is not fresh."""
        now_s = time.monotonic()
        values = {}
        for i, (msg, received_s) in self._state.items():
            part = self._contract.state[i]
            if now_s - received_s > part.max_age_s:
                return None
            try:
                values[i] = state_sample(part, msg, now_s).value
            except SampleError:
                return None
        return measured_action(self._contract, values, self._last_sent())

    def _last_sent(self) -> FloatArray:
        """(A,) newest command of each part, however old; before the first, where it rests."""
        sent, first = rest_pose(self._contract), 0
        for i, part in enumerate(self._contract.action):
            span = slice(first, first + len(part.joints))
            first = span.stop
            if not part.observed and i in self._command:
                with suppress(SampleError):
                    sent[span] = self._decoders[i](self._command[i][0])
        return sent

    def joints(self) -> FloatArray | None:
        """(A,) command in force, or measured joints where there is none; None while not known."""
        measured, command = self.measured(), self._command_in_force()
        if measured is None or command is None:
            return measured
        near = np.abs(command - measured) <= self._contract.limits.start_jump
        return command if near.all() else measured

    def _command_in_force(self) -> FloatArray | None:
        now_s = time.monotonic()
        values = []
        for i, decode in enumerate(self._decoders):
            msg, received_s = self._command.get(i, (None, 0.0))
            if msg is None or now_s - received_s > COMMAND_FRESH_S:
                return None
            try:
                values.append(decode(msg))
            except SampleError:
                return None
        return np.concatenate(values)


class TargetPublisher:
    """Publishes targets of one source, and its deadman where no device does."""

    def __init__(self, node: Node, source: TeleopSource, own_deadman: Deadman | None) -> None:
        self._node, self._source, self._deadman = node, source, own_deadman
        self._targets = node.create_publisher(JointState, source.topic, names.SENSOR_OUT)
        self._joy = (
            node.create_publisher(Joy, own_deadman.topic, names.SENSOR_OUT) if own_deadman else None
        )

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens to its deadman; a source without an own one is not asked."""
        return self._joy is None or self._joy.get_subscription_count() > 0

    def publish(self, target: FloatArray | None, pressed: bool = False) -> None:
        """Send one target (A,) in action order (None: none), and the deadman where it is ours."""
        stamp = self._node.get_clock().now().to_msg()
        if target is not None:
            self._targets.publish(
                joint_state_message(self._source.joints, "position", target, stamp)
            )
        if self._joy is not None and self._deadman is not None:
            msg = Joy(buttons=[0] * self._deadman.button + [int(pressed)])
            msg.header.stamp = stamp
            self._joy.publish(msg)
