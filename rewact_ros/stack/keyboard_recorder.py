"""A recorder steered by the keys of a terminal: its services and its status."""

import contextlib
import sys
import time
from collections.abc import Iterator

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from rewact_ros.contract.names import check_namespace
from rewact_ros.data.bags.recorder_setup import ACTIONS
from rewact_ros.msg import RecorderStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.door import Guarded
from rewact_ros.stack.bringup import ParameterValue, Process, transport_environment
from rewact_ros.stack.runner import Runner, print_line
from rewact_ros.stack.stop_request import StopRequest
from rewact_ros.terminal import NoTerminalError, raw_keys, show_status, typed

KEYS = dict(zip("seynrd", ("start", "stop", *ACTIONS[2:]), strict=True))
KEYS_HELP = (
    "s start  e end, unlabelled  y success  n failure  r record again  d discard  q quit | "
    "y, n and d also judge the last episode anew"
)
QUIT = ("q", "\x03", "\x04")  # Ctrl-C and Ctrl-D, which a raw terminal gives as characters
PERIOD_S, STATUS_FRESH_S = 0.1, 2.0


class RecorderRemote(Guarded, Node):
    """Calls a recorder's services and knows its last status."""

    def __init__(self, namespace: str) -> None:
        super().__init__("recorder_terminal", namespace=namespace)
        self._actions = {
            action: self.create_client(Trigger, f"recorder/{action}") for action in ACTIONS
        }
        self._pending: tuple[str, Future] | None = None
        self._answer = ""
        self._status: tuple[RecorderStatus, float] | None = None
        self.create_subscription(
            RecorderStatus, names.RECORDER_STATUS, self._on_status, names.LATCHED
        )

    def _on_status(self, msg: RecorderStatus) -> None:
        self._status = (msg, time.monotonic())

    def call(self, action: str) -> None:
        """Ask for something; the answer appears in the status line."""
        client = self._actions[action]
        if not client.service_is_ready():
            self._answer = f"{action}: the recorder does not answer"
            return
        self._pending = (action, client.call_async(Trigger.Request()))

    def line(self) -> str:
        """State and last answer, without a line end."""
        if self._pending is not None and self._pending[1].done():
            action, future = self._pending
            response, self._pending = future.result(), None
            refused = "" if response and response.success else "refused, "
            self._answer = f"{action}: {refused}{response.message if response else 'no answer'}"
        if self._status is None or time.monotonic() - self._status[1] > STATUS_FRESH_S:
            state = "no recorder"
        else:
            status = self._status[0]
            free = f"{status.free_bytes / 1e9:.0f} GB free"
            state = f"{status.text} | {len(status.topics)} topics, {free}"
        return f"{state} | {self._answer}" if self._answer else state


def record_by_keys(
    parameters: dict[str, ParameterValue], namespace: str, params_file: str, attach: bool
) -> None:
    """Run a recorder, or attach to one, until q or Ctrl-C.

    Raises:
        BringUpError: the recorder refuses its configuration, or another one is at work.
        NoTerminalError: `attach` without a terminal, which would do nothing.
    """
    check_namespace("--namespace", namespace)
    terminal = sys.stdin.isatty()
    if attach and not terminal:
        raise NoTerminalError(
            "record: --attach needs a terminal for its keys; without one call the services, such "
            "as `ros2 service call /recorder/start std_srvs/srv/Trigger`"
        )
    process = Process(
        name="recorder",
        module="rewact_ros.nodes.recorder",
        parameters=parameters,
        python=sys.executable,
        respawn=True,
        params_file=params_file,
        namespace=namespace,
        environment=transport_environment(),
    )
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        runner = stack.enter_context(Runner([] if attach else [process], _print_above))
        if terminal:
            stack.enter_context(raw_keys(sys.stdin.fileno()))
            remote, executor = stack.enter_context(_remote(namespace))
            print(KEYS_HELP, flush=True)
        while not stop.given:
            runner.poll()
            if not terminal:
                time.sleep(PERIOD_S)
            elif _serve_keys(remote):
                return
            else:
                executor.spin_once(timeout_sec=PERIOD_S)
                show_status(remote.line())


def _serve_keys(remote: RecorderRemote) -> bool:
    """Act on what was typed; True: quit."""
    text = typed(sys.stdin.fileno())
    if text is None:
        return True
    for key in text:
        if key in QUIT:
            return True
        if key in KEYS:
            remote.call(KEYS[key])
    return False


@contextlib.contextmanager
def _remote(namespace: str) -> Iterator[tuple[RecorderRemote, SingleThreadedExecutor]]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    remote = RecorderRemote(namespace)
    try:
        executor.add_node(remote)
        yield remote, executor
    finally:
        executor.shutdown()
        remote.destroy_node()
        rclpy.try_shutdown()


def _print_above(line: str) -> None:
    """A log line in place of the status line, which comes again below it."""
    if sys.stdout.isatty():
        sys.stdout.write("\r\x1b[K")
    print_line(line)
