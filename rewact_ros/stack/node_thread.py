"""A node with a ROS context and a thread of its own, so that a script may do other things."""

import threading
import time
from collections.abc import Callable

import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

JOIN_S = 5.0
POLL_S, LOOK_S = 0.005, 0.05


class NodeThread:
    """Takes a node's messages from `start` to `close`; callbacks run in the thread.

    Attributes:
        node: the node.
        broken: the error that ended the thread; None: it runs.

    Args:
        make: makes the node in the context that it is given.
    """

    def __init__(self, make: Callable[[Context], Node]) -> None:
        self.broken: Exception | None = None
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = make(self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=self.node.get_name(), daemon=True)

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except InvalidHandle:  # somebody has just destroyed a timer or a client of the node
                continue
            except Exception as error:
                self.broken = error
                return

    def call[T](self, act: Callable[[], T]) -> T:
        """Do something in the thread, between two messages.

        An action client is used in this way only: it loses an answer that comes before it has noted
        what it asked.

        Raises:
            TimeoutError: the thread does not get to it.
        """
        task = self._executor.create_task(act)
        if not poll(task.done, JOIN_S):
            raise TimeoutError(f"the thread of {self.node.get_name()} does not answer")
        return task.result()

    def close(self) -> None:
        """End the thread and free the node."""
        self._stop.set()
        self._thread.join(JOIN_S)
        self._executor.shutdown()
        for part in list(self.node.waitables):
            if isinstance(part, ActionClient | ActionServer):  # a node leaves its own to be found
                part.destroy()  # type: ignore[no-untyped-call]  # one of two classes of rclpy
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)


def poll(
    until: Callable[[], bool], timeout_s: float, look_after: Callable[[], None] = lambda: None
) -> bool:
    """Whether a condition that messages change came to hold in time.

    Args:
        until: the condition, asked in the caller's thread.
        timeout_s: longest wait.
        look_after: called some twenty times a second; what it raises ends the wait.
    """
    deadline_s, look_s = time.monotonic() + timeout_s, 0.0
    while not until():
        now_s = time.monotonic()
        if now_s > deadline_s:
            return False
        if now_s >= look_s:
            look_after()
            look_s = now_s + LOOK_S
        time.sleep(POLL_S)
    return True
