"""A robot jogged by the keys of a terminal: targets, deadman and calls of `hil` on its topics."""

import signal
import sys
import time

import rclpy
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from rewact_ros.contract import Contract, ContractError, load_contract
from rewact_ros.contract.names import check_namespace
from rewact_ros.contract.schema import TeleopSource
from rewact_ros.control.jog import JogSource, make_integrator
from rewact_ros.control.keyboard import KEYS_HELP, Call, KeyboardJog, split_keys
from rewact_ros.control.modes import Mode, mode_name
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.teleop import RobotState, TargetPublisher
from rewact_ros.sim.task import DEFAULT_TASK, find_task
from rewact_ros.stack.bringup import default_contract
from rewact_ros.stack.stop_request import StopRequest
from rewact_ros.terminal import NoTerminalError, raw_keys, show_status, typed

PERIOD_S = 0.02
SHOW_S = 0.1


class KeyboardTeleop(Guarded, Node):
    """The robot's side of the terminal: targets, deadman and service calls."""

    def __init__(self, contract: Contract, source: TeleopSource, namespace: str, task: str) -> None:
        super().__init__("keyboard_teleop", namespace=namespace)
        if source.jog is None or source.deadman is None:
            raise ContractError(
                f"teleop.{source.name}.jog: missing; it says how fast and in which directions keys "
                "move, see config/robots/vx300s.yaml"
            )
        self._contract, self._source = contract, source
        self.keys = KeyboardJog(source.jog)
        self.robot = RobotState(self, contract)
        self._jog = JogSource(
            make_integrator(contract, source, find_task(task).robot_model), source.max_age_s
        )
        self._targets = TargetPublisher(self, source, source.deadman)
        self._hil: dict[Call, Client] = {
            call: self.create_client(Trigger, f"hil/{call.value}")
            for call in Call
            if call not in (Call.STOP, Call.QUIT)
        }
        self._pending: tuple[Call, Future] | None = None
        self._answer = ""

    def tick(self) -> None:
        """Publish the target and the deadman of this moment."""
        given = self.keys.given(time.monotonic())
        target = self._jog.step(
            given.received_s, given, self.robot.joints(), self.robot.led_by(self._source.name)
        )
        self._targets.publish(target, given.pressed and not self.robot.unready)

    def call(self, call: Call) -> None:
        """Ask hil for something; the answer appears in the status line."""
        if call is Call.STOP:
            self._answer = "stopped"
            if self._contract.on_release == "hold":
                return
            call = Call.DISARM  # letting go would hand the arm to the policy, which is no stop
        client = self._hil[call]
        if not client.service_is_ready():
            self._answer = f"{call.value}: hil does not answer"
            return
        self._pending = (call, client.call_async(Trigger.Request()))

    def line(self) -> str:
        """Mode, reason, chosen direction and joints, without a line end."""
        if self._pending is not None and self._pending[1].done():
            call, future = self._pending
            response, self._pending = future.result(), None
            answer = response.message if response else "no answer"
            refused = "" if response and response.success else "refused, "
            self._answer = f"{call.value}: {refused}{answer}"
        status, joints = self.robot.status, self.robot.measured()
        if status is None:
            mode = "hil is silent"
        else:
            who = f" ({status.active_source})" if status.mode == Mode.HUMAN else ""
            mode = f"{mode_name(status.mode)}{who}: {status.reason}"
        where = (
            "no joint states"
            if joints is None
            else " ".join(
                f"{name} {value:.2f}"
                for name, value in zip(self._contract.action_names, joints, strict=True)
            )
        )
        answer = f" | {self._answer}" if self._answer else ""
        return f"{mode}{answer} | > {self.keys.selected} | {where}"


def jog_by_keys(
    contract_path: str, source_name: str, namespace: str, task: str = DEFAULT_TASK
) -> None:
    """Read keys until q.

    Args:
        contract_path: "": of the task's robot.
        source_name: teleop source of the contract.
        namespace: of the robot.
        task: simulated one whose robot a tool without a model is of.

    Raises:
        NoTerminalError: standard input is not a terminal.
        ContractError: the contract has no such source, or it has no `jog`.
        TaskError: no such task.
    """
    if not sys.stdin.isatty():
        raise NoTerminalError(
            "teleop: standard input is not a terminal; run it in one (no pipe, and `-it` in a "
            "container), or use a gamepad with the node `teleop`"
        )
    namespace = check_namespace("--namespace", namespace)
    contract = load_contract(contract_path or default_contract(task), namespace)
    source = contract.teleop_source(source_name)
    # A terminal that is closed ends it like Ctrl-C, also before the loop.
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    node: KeyboardTeleop | None = None
    try:
        node = KeyboardTeleop(contract, source, namespace, task)
        executor.add_node(node)
        print(KEYS_HELP, flush=True)
        with StopRequest() as stop, raw_keys(sys.stdin.fileno()):
            _loop(node, executor, sys.stdin.fileno(), stop)
    finally:
        if node is not None:
            node.keys.stop()
            node.tick()  # the deadman is up before the process is gone
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def _loop(
    node: KeyboardTeleop, executor: SingleThreadedExecutor, keys: int, stop: StopRequest
) -> None:
    next_s = shown_s = time.monotonic()
    while not stop.given:
        text = typed(keys)
        if text is None:
            return
        for key in split_keys(text):
            call = node.keys.press(key, time.monotonic())
            if call is Call.QUIT:
                return
            if call is not None:
                node.call(call)
        node.tick()
        if time.monotonic() - shown_s >= SHOW_S:
            shown_s = time.monotonic()
            show_status(node.line())
        next_s = max(next_s + PERIOD_S, time.monotonic())
        while (wait_s := next_s - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=wait_s)
