#!/usr/bin/env python3
"""A task of the policy as a leaf of a behaviour tree.

Needs py_trees (`apt install ros-jazzy-py-trees`, or `pip install py-trees`) and a robot that runs
and is armed. Try it: `python examples/execute_task_leaf.py "put the cube into the tray"`.
"""

import sys
import time
from typing import Any

import py_trees
import rclpy
from py_trees.common import Status
from rclpy.action import ActionClient
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from rewact_ros.action import ExecuteTask

SERVER_S, TICK_S = 10.0, 0.1
CANCEL_TICKS = 10
# A server that this client has found may find it later, and its answer would be lost.
MUTUAL_S = 0.5


class ExecuteTaskLeaf(py_trees.behaviour.Behaviour):
    """RUNNING while the policy works, SUCCESS where it was judged one, else FAILURE.

    A leaf that is interrupted cancels its task; the arm holds then. Tick it in the thread that
    spins the node.

    Args:
        name: of the leaf.
        task: what to do, in words.
        timeout_s: of running, reset excluded; 0: the supervisor's default.
    """

    def __init__(self, name: str, task: str, timeout_s: float = 0.0) -> None:
        super().__init__(name)
        self._task = ExecuteTask.Goal(task=task, timeout=timeout_s)
        self._sent: Future | None = None
        self._done: Future | None = None

    def setup(self, **kwargs: Any) -> None:
        """Find the supervisor; `node` of ROS is among the arguments. Raises RuntimeError."""
        self._action = ActionClient(kwargs["node"], ExecuteTask, "rewact/execute_task")
        if not self._action.wait_for_server(SERVER_S):
            raise RuntimeError(
                f"{self.name}: no action rewact/execute_task within {SERVER_S:g} s; start the "
                "robot with `rewact up`, or mend ROS_DOMAIN_ID or the namespace"
            )
        time.sleep(MUTUAL_S)

    def initialise(self) -> None:
        """Send the task."""
        self._done = None
        self._sent = self._action.send_goal_async(self._task, feedback_callback=self._on_feedback)
        self.feedback_message = "sent"

    def update(self) -> Status:
        """Look once at how far it is."""
        if not self._sent.done():
            return Status.RUNNING
        goal = self._sent.result()
        if not goal.accepted:
            self.feedback_message = "refused: is the robot armed, and no other task running?"
            return Status.FAILURE
        if self._done is None:
            self._done = goal.get_result_async()
        if not self._done.done():
            return Status.RUNNING
        result = self._done.result().result
        self.feedback_message = result.reason
        success = result.outcome == ExecuteTask.Result.SUCCESS  # nobody's verdict is none
        return Status.SUCCESS if success else Status.FAILURE

    def terminate(self, new_status: Status) -> None:
        """Cancel what runs when another branch takes over; INVALID says so."""
        over = self._sent is None or (self._done is not None and self._done.done())
        if new_status is Status.INVALID and not over:
            if self._sent.done():
                _cancel(self._sent)
            else:  # accepted later, if at all
                self._sent.add_done_callback(_cancel)

    def shutdown(self) -> None:
        """Free the client."""
        self._action.destroy()

    def _on_feedback(self, msg: Any) -> None:
        self.feedback_message = f"{msg.feedback.phase}, progress {msg.feedback.progress:.2f}"


def _cancel(sent: Future) -> None:
    if sent.result().accepted:
        sent.result().cancel_goal_async()


def main() -> None:
    """Tick a tree of this one leaf until it is decided."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C still lets the task end
    node = rclpy.create_node("tree")
    leaf = ExecuteTaskLeaf("task", " ".join(sys.argv[1:]) or "put the cube into the tray")
    tree = py_trees.trees.BehaviourTree(leaf)
    try:
        tree.setup(node=node)
        tree.tick()
        while leaf.status is Status.RUNNING:
            rclpy.spin_once(node, timeout_sec=TICK_S)
            tree.tick()
        print(f"{leaf.status.value}: {leaf.feedback_message}")
    finally:
        leaf.stop(Status.INVALID)
        for _ in range(CANCEL_TICKS):
            rclpy.spin_once(node, timeout_sec=TICK_S)
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
