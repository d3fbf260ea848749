"""Node `teleop`: a gamepad, or a device of twists or poses, makes targets; hil decides on them."""

import time
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import Joy

from rewact_ros.contract import ContractError, load_contract
from rewact_ros.control.jog import (
    JogInput,
    JogSource,
    JoyError,
    is_pressed,
    joy_rates,
    make_integrator,
)
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.diagnostics import OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.jog_device import JogDeviceInput
from rewact_ros.ros.params import TeleopParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.teleop import RobotState, TargetPublisher
from rewact_ros.sim.task import find_task


class TeleopNode(Guarded, Node):
    """Feeds `JogSource` and publishes what it decides."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("teleop", **node_arguments)
        self.params = declare(self, TeleopParams)
        self.contract = load_contract(self.params.contract, self.get_namespace())
        self.source = self.contract.teleop_source(self.params.source)
        jog, deadman = self.source.jog, self.source.deadman
        if jog is None or deadman is None or not (jog.axes or jog.buttons or jog.device):
            raise ContractError(
                f"teleop.{self.source.name}.jog: expected 'axes' or 'buttons' of a gamepad, or a "
                "'device'; for keys use `rewact teleop`"
            )
        self._jog, self._button = jog, deadman.button
        self._device = None if jog.device is None else JogDeviceInput(self, jog)
        self.jog = JogSource(
            make_integrator(self.contract, self.source, find_task(self.params.task).robot_model),
            deadman.max_age_s,
        )
        self._given: JogInput | None = None
        self._alive = False
        self.robot = RobotState(self, self.contract)
        self._targets = TargetPublisher(self, self.source, None)
        self.create_subscription(Joy, deadman.topic, self._on_joy, names.SENSOR)
        self.create_timer(1.0 / self.params.rate_hz, self._tick, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    def _on_joy(self, msg: Joy) -> None:
        try:
            rates = joy_rates(self._jog, msg.axes, msg.buttons)
            pressed = is_pressed(msg.buttons, self._button)
        except JoyError as error:  # another device's, or ours is broken: then `_given` gets old
            self.get_logger().warning(str(error), throttle_duration_sec=2.0)
            return
        self._given = JogInput(pressed, rates, time.monotonic())

    def _tick(self) -> None:
        leads, given, now_s = self.robot.led_by(self.source.name), self._given, time.monotonic()
        if self._device is not None and given is not None:
            given = self._device.beside(given, now_s)
        target = self.jog.step(now_s, given, self.robot.joints(), leads)
        self._alive = target is not None
        if target is not None:
            self._targets.publish(target)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        level = OK if self._alive else WARN
        silent = "" if self._device is None else self._device.reason
        return level, silent or self.jog.reason or "moving", {"source": self.source.name}


def main() -> None:
    """Entry point."""
    run_node(TeleopNode, (ValueError, RuntimeError))


if __name__ == "__main__":
    main()
