"""Goals of a gripper's action: one after the other, when they change, and each answered."""

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future

from rewact_ros.contract import ActionPart, ContractError
from rewact_ros.contract.edge import to_driver
from rewact_ros.contract.schema import Drive
from rewact_ros.control.binary import BinarySwitch

try:  # no wheel has it: ros-jazzy-control-msgs of a ROS installation
    from control_msgs import action as control_actions
except ImportError:
    control_actions = None

# A server that takes longer to accept a goal does not live.
ANSWER_S = 2.0
# Goals that differ by less, in the joint's unit, are one.
SAME = 1e-6


def _gripper_goal(part: ActionPart, drive: Drive, value: float) -> Any:
    goal = control_actions.GripperCommand.Goal()
    goal.command.position, goal.command.max_effort = value, drive.max_effort
    return goal


def _parallel_gripper_goal(part: ActionPart, drive: Drive, value: float) -> Any:
    goal = control_actions.ParallelGripperCommand.Goal()
    goal.command.name, goal.command.position = list(part.drivers or part.joints), [value]
    if drive.max_effort:
        goal.command.effort = [drive.max_effort]
    return goal


_GOALS = {
    "control_msgs/action/GripperCommand": _gripper_goal,
    "control_msgs/action/ParallelGripperCommand": _parallel_gripper_goal,
}


class GoalSender:
    """Client of one gripper's action server.

    A goal goes out once the one before was accepted, so that none is lost. How a goal ends is the
    controller's business: a gripper that holds something never gets there.

    Args:
        node: that has the client; its loop must poll it.
        part: with a `drive`.
        on_refused: gets why a goal was not accepted.

    Raises:
        ContractError: the package of the action is not installed.
    """

    def __init__(self, node: Node, part: ActionPart, on_refused: Callable[[str], object]) -> None:
        assert part.drive is not None
        self._part, self._drive, self._on_refused = part, part.drive, on_refused
        kind = getattr(control_actions, part.drive.type.rpartition("/")[2], None)
        if kind is None:
            raise ContractError(
                f"action.type: {part.drive.type} of '{part.drive.topic}' is not installed; install "
                "control_msgs (apt-get install ros-jazzy-control-msgs), and source that ROS"
            )
        self._client = ActionClient(node, kind, part.drive.topic)
        self._switch = BinarySwitch(part.binary) if part.binary else None
        self._last: float | None = None
        self._waits_since_s: float | None = None

    def close(self) -> None:
        """Leave the graph."""
        self._client.destroy()

    def absent(self) -> str:
        """Why no goal can be sent, or an empty string."""
        if self._client.server_is_ready():
            return ""
        drive = self._drive
        return f"no action server {drive.topic} ({drive.type}); start the gripper's controller"

    def offer(self, value: float, now_s: float) -> float:
        """Send a goal where it differs from the last; returns the command in force.

        Args:
            value: position, past the gate.
            now_s: steady clock.
        """
        if self._waits_since_s is not None:
            if now_s - self._waits_since_s > ANSWER_S:
                self._refuse(f"no answer to a goal within {ANSWER_S:g} s")
            return value if self._last is None else self._last
        wanted = self._switch.step(value, now_s) if self._switch else value
        if self._last is None or abs(wanted - self._last) > SAME:
            self._last, self._waits_since_s = wanted, now_s
            theirs = float(to_driver(self._part, np.array([wanted]))[0])
            goal = _GOALS[self._drive.type](self._part, self._drive, theirs)
            future = self._client.send_goal_async(goal)
            future.add_done_callback(lambda future: self._answered(future, wanted, now_s))
        return wanted

    def forget(self) -> None:
        """Nothing is commanded any more: the next command is sent whatever it is."""
        self._last = self._waits_since_s = None
        if self._switch:
            self._switch.forget()

    def _answered(self, future: Future, wanted: float, sent_s: float) -> None:
        if self._waits_since_s != sent_s:
            return  # of a goal that is given up
        self._waits_since_s = None
        if not future.result().accepted:
            self._refuse(f"goal {wanted:g} was rejected by its action server")

    def _refuse(self, reason: str) -> None:
        self.forget()
        self._on_refused(f"{self._drive.topic}: {reason}")
