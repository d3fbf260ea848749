"""Thin clients of a robot that runs: one call, its answer, and what to do where nobody answers.

`rewact arm`, `task`, `status` and their like are made of this. It imports rclpy and our messages
and nothing heavier, so that a command is there at once; a script has `Commander`.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from rewact_ros.msg import SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.absent import nobody
from rewact_ros.ros.door import Guarded
from rewact_ros.stack.stop_request import StopRequest

if TYPE_CHECKING:
    from rewact_ros.action import ExecuteTask

SPIN_S = 0.05
IDLE_LOOKS = 5
# A server that this client has found may find it later, and its answer would be lost.
MUTUAL_S = 0.5
# So long the supervisor's status may take to say why it refused a goal.
WORDS_S = 1.0
# Beside the running time: the reset, a person's help, the end.
PATIENCE_S = 120.0
CANCEL_S = 10.0


class AbsentError(RuntimeError):
    """Nobody answers; the message names what was looked for, where, and how to start it."""


class RefusedError(RuntimeError):
    """A node said no; the message is its own."""


class _Client(Guarded, Node):
    """A node with a door."""


def client_node(name: str, namespace: str, context: Context) -> Node:
    """A node that hears and asks, and tells nothing of itself: no log, no parameters."""
    return _Client(
        name,
        namespace=namespace,
        context=context,
        enable_rosout=False,
        start_parameter_services=False,
    )


class RobotClient:
    """Context manager around a node that speaks to one robot; every call ends in bounded time.

    Attributes:
        node: valid inside ``with``.

    Args:
        namespace: of the robot, as `rewact up` had it.
        timeout_s: longest wait for a node, and for its answer.
        name: of the node.
    """

    def __init__(
        self, namespace: str = "", timeout_s: float = 5.0, name: str = "rewact_client"
    ) -> None:
        self._namespace, self._timeout_s, self._name = namespace, timeout_s, name

    def __enter__(self) -> "RobotClient":
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = client_node(self._name, self._namespace, self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def spin(self, until: Callable[[], bool], timeout_s: float) -> bool:
        """Take messages until a condition holds; whether it came to hold in time.

        Raises:
            KeyboardInterrupt: Ctrl-C or a kill, once the message in hand is done.
        """
        end_s = time.monotonic() + timeout_s
        with StopRequest() as stop:
            while not until() and not stop.given:
                if time.monotonic() > end_s:
                    return False
                self._executor.spin_once(timeout_sec=SPIN_S)
        return True

    def drain(self, taken: Callable[[], int]) -> None:
        """Take what has come, without waiting; signals are the caller's own.

        Args:
            taken: how many messages were taken so far.
        """
        idle = 0  # the executor also wakes for what is no message
        while idle < IDLE_LOOKS:
            before = taken()
            self._executor.spin_once(timeout_sec=0.0)
            idle = 0 if taken() > before else idle + 1

    # Services ---------------------------------------------------------------------------------

    def call(self, service: str) -> str:
        """Call a std_srvs/Trigger of the robot, such as `hil/arm`; returns its message.

        Raises:
            AbsentError: it is not there, or does not answer.
            RefusedError: it says no.
        """
        client = self.node.create_client(Trigger, service)
        if not self.spin(client.service_is_ready, self._timeout_s):
            raise AbsentError(nobody(self.node, "service", service, self._timeout_s))
        future = client.call_async(Trigger.Request())
        if not self.spin(future.done, self._timeout_s):
            raise AbsentError(
                f"{client.srv_name}: no answer within {self._timeout_s:g} s; it may have been "
                "done all the same: look with `rewact status`"
            )
        answer = future.result()
        if not answer.success:
            raise RefusedError(f"{service} refused: {answer.message}")
        return str(answer.message)

    # A task -----------------------------------------------------------------------------------

    def run_task(
        self,
        goal: "ExecuteTask.Goal",
        on_feedback: Callable[["ExecuteTask.Feedback"], None] = lambda feedback: None,
    ) -> "ExecuteTask.Result":
        """Run a task to its end; the arm holds by then. Ctrl-C cancels it.

        Args:
            goal: a timeout of 0 is the supervisor's own, whose end is then waited for.
            on_feedback: told how it goes.

        Raises:
            AbsentError: no supervisor answers.
            RefusedError: it does not take the task; the message says why.
            KeyboardInterrupt: the task is cancelled, and over.
        """
        from rclpy.action import ActionClient  # NumPy comes with it

        from rewact_ros.action import ExecuteTask

        status: list[SupervisorStatus] = []
        self.node.create_subscription(
            SupervisorStatus, names.SUPERVISOR_STATUS, status.append, names.LATCHED
        )
        action = ActionClient(self.node, ExecuteTask, names.EXECUTE_TASK)
        try:
            if not self.spin(action.server_is_ready, self._timeout_s):
                raise AbsentError(nobody(self.node, "action", names.EXECUTE_TASK, self._timeout_s))
            self.spin(lambda: False, MUTUAL_S)
            sent = action.send_goal_async(goal, lambda message: on_feedback(message.feedback))
            return self._follow(sent, goal, status)
        finally:
            action.destroy()  # a node leaves its own to be found

    def _follow(
        self, sent: Any, goal: "ExecuteTask.Goal", status: list[SupervisorStatus]
    ) -> "ExecuteTask.Result":
        """From the goal that was sent to its result."""
        interrupted: KeyboardInterrupt | None = None
        try:
            answered = self.spin(sent.done, self._timeout_s)
        except KeyboardInterrupt as error:  # what was sent may be taken: it is cancelled too
            interrupted = error
            answered = self.spin(sent.done, CANCEL_S)
        if not answered:
            raise AbsentError(
                f"{names.EXECUTE_TASK}: the supervisor did not answer; the task may run: look with "
                "`rewact status`"
            )
        handle = sent.result()
        if not handle.accepted:
            del status[:-1]
            self.spin(lambda: any("refused" in s.text for s in status), WORDS_S)
            raise RefusedError(f"task refused: {status[-1].text if status else 'no reason given'}")
        done = handle.get_result_async()
        # The supervisor's own limit is not known here; it ends every task.
        limit_s = goal.timeout * max(goal.episodes, 1) + PATIENCE_S if goal.timeout else 1e9
        try:
            if interrupted:
                raise interrupted
            if self.spin(done.done, limit_s):
                return done.result().result
        except KeyboardInterrupt:
            self._cancel(handle, done)
            raise
        raise AbsentError(
            f"{names.EXECUTE_TASK}: no verdict within {limit_s:g} s; the task may run: look with "
            "`rewact status`"
        )

    def _cancel(self, handle: Any, done: Any) -> None:
        """End the task and wait until the arm holds."""
        handle.cancel_goal_async()
        if not self.spin(done.done, CANCEL_S):
            raise AbsentError(
                f"{names.EXECUTE_TASK}: cancelled, but no end within {CANCEL_S:g} s; look with "
                "`rewact status`, or use the emergency stop"
            )
