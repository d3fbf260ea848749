"""How the command of each action part leaves hil: as messages, as twists, as goals of a gripper."""

from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from numpy.typing import NDArray
from rclpy.node import Node

from rewact_ros.contract import ActionPart, Contract
from rewact_ros.control.binary import BinarySwitch
from rewact_ros.control.gates import Gate, PartGates
from rewact_ros.control.pose_gate import TwistGate
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import command_encoder, command_type
from rewact_ros.ros.goals import GoalSender

FloatArray = NDArray[np.float64]


class Output:
    """One action part's way out.

    Attributes:
        span: its values in the command (A,).
        every: it is sent each so many ticks of the control loop.
        publishers: by each of which one message goes out with a command.
    """

    def __init__(self, node: Node, part: ActionPart, first: int, every: int) -> None:
        self.span = slice(first, first + len(part.joints))
        self.every = every
        self._publisher = node.create_publisher(command_type(part), part.topic, names.COMMAND)
        self.publishers = [self._publisher]
        self._encode = command_encoder(part)

    def send(self, values: FloatArray, stamp: Time, now_s: float, moving: bool) -> None:
        """Send the part's command (n,); `moving`: somebody leads the arm."""
        self._publisher.publish(self._encode(values, stamp))

    def absent(self) -> str:
        """Why the robot cannot take it, or an empty string."""
        return ""

    def forget(self) -> None:
        """The stream has ended."""

    def close(self) -> None:
        """Give back what the node does not give back by itself."""


class BinaryOutput(Output):
    """Sends one of two commands; until somebody leads, what the gate says, which moves nothing."""

    def __init__(self, node: Node, part: ActionPart, first: int, every: int) -> None:
        super().__init__(node, part, first, every)
        assert part.binary is not None
        self._switch = BinarySwitch(part.binary)

    def send(self, values: FloatArray, stamp: Time, now_s: float, moving: bool) -> None:
        """As of every output."""
        value = float(values[0])
        if moving:
            value = self._switch.step(value, now_s)
        elif self._switch.state is not None:
            value = self._switch.state
        super().send(np.array([value]), stamp, now_s, moving)

    def forget(self) -> None:
        """As of every output."""
        self._switch.forget()


class GoalOutput(Output):
    """Sends goals at the part's rate while somebody leads; says at each tick what is in force."""

    def __init__(
        self,
        node: Node,
        part: ActionPart,
        first: int,
        every: int,
        on_refused: Callable[[str], object],
    ) -> None:
        super().__init__(node, part, first, 1)
        self.goals = GoalSender(node, part, on_refused)
        self._goal_every, self._tick = every, 0
        self._in_force: float | None = None

    def send(self, values: FloatArray, stamp: Time, now_s: float, moving: bool) -> None:
        """As of every output."""
        if moving and self._tick % self._goal_every == 0:
            self._in_force = self.goals.offer(float(values[0]), now_s)
        self._tick += 1
        said = values if self._in_force is None else np.array([self._in_force])
        super().send(said, stamp, now_s, moving)

    def absent(self) -> str:
        """As of every output."""
        return self.goals.absent()

    def forget(self) -> None:
        """As of every output."""
        self._in_force = None
        self.goals.forget()

    def close(self) -> None:
        """As of every output."""
        self.goals.close()


class TwistOutput(Output):
    """Sends the twist by which the arm follows the poses, and says these."""

    def __init__(
        self, node: Node, part: ActionPart, first: int, every: int, gate: TwistGate
    ) -> None:
        super().__init__(node, part, first, every)
        assert part.drive is not None
        self._gate = gate
        self._twists = node.create_publisher(TwistStamped, part.drive.topic, names.COMMAND)
        self.publishers.append(self._twists)
        self._msg = TwistStamped()
        self._msg.header.frame_id = part.frame_id

    def send(self, values: FloatArray, stamp: Time, now_s: float, moving: bool) -> None:
        """As of every output."""
        linear, angular = self._msg.twist.linear, self._msg.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = self._gate.twist.tolist()
        self._msg.header.stamp = stamp
        self._twists.publish(self._msg)
        super().send(values, stamp, now_s, moving)


def make_outputs(
    node: Node, contract: Contract, gate: Gate, dry_run: bool, on_refused: Callable[[str], object]
) -> list[Output]:
    """One for each action part, in order; in a dry run none sends anything but messages.

    Args:
        gate: says the twists.
        on_refused: gets why the robot did not take a command.

    Raises:
        ContractError: a package that a part needs is not installed.
    """
    made: list[Output] = []
    first = 0
    for part in contract.action:
        every = round(contract.command_rate_hz / part.command_rate_hz)
        if part.drive and part.name and not dry_run:
            assert isinstance(gate, PartGates)
            made.append(TwistOutput(node, part, first, every, gate.twists[part.name]))
        elif part.drive and not dry_run:
            made.append(GoalOutput(node, part, first, every, on_refused))
        else:
            made.append((BinaryOutput if part.binary else Output)(node, part, first, every))
        first += len(part.joints)
    return made
