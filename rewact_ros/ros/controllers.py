"""Switching ros2_control's controllers: to ours when the robot is armed, and back when disarmed."""

import difflib
import time
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

from rewact_ros.contract import ContractError
from rewact_ros.contract.schema import Controllers

try:  # no wheel has it: ros-jazzy-controller-manager-msgs of a ROS installation
    from controller_manager_msgs import srv
except ImportError:
    srv = None

ANSWER_S = 3.0
LOOK_S = 0.5  # between two looks while the robot is armed
ACTIVE = "active"
# (condition, time-out) → whether it came true; inputs are served meanwhile.
Wait = Callable[[Callable[[], bool], float], bool]


class ControllerSwitch:
    """Client of one controller_manager.

    Attributes:
        fault: why our controllers do not drive the robot any more, or an empty string.
        switched: ours are active because of us.

    Args:
        node: its loop must poll service clients.
        controllers: of the contract.

    Raises:
        ContractError: the package of its services is not installed.
    """

    def __init__(self, node: Node, controllers: Controllers) -> None:
        if srv is None:
            raise ContractError(
                "controllers: controller_manager_msgs is not installed; install it (apt-get "
                "install ros-jazzy-controller-manager-msgs), and source that ROS"
            )
        self._wanted, self._logger = controllers, node.get_logger()
        name = controllers.manager
        self._list: Client = node.create_client(srv.ListControllers, f"{name}/list_controllers")
        self._switch: Client = node.create_client(srv.SwitchController, f"{name}/switch_controller")
        self.fault = ""
        self.switched = False
        self._started: list[str] = []
        self._stopped: list[str] = []
        self._restoring: Future | None = None
        self._looking: Future | None = None
        self._looked_s = 0.0

    def take(self, wait: Wait) -> str:
        """Make our controllers the active ones; why that failed, or an empty string.

        Whoever calls it waits. Nothing is changed where it fails, as far as the manager keeps to
        its STRICT switch.
        """
        name = self._wanted.manager
        if self._restoring is not None:
            wait(self._restoring.done, ANSWER_S)
        if not self._list.service_is_ready() or not self._switch.service_is_ready():
            return f"no service {name}/switch_controller; start the robot's controller_manager"
        listed = self._list.call_async(srv.ListControllers.Request())
        if not wait(listed.done, ANSWER_S):
            return f"{name} did not answer within {ANSWER_S:g} s"
        states = {each.name: each for each in listed.result().controller}
        refusal = self._unfit(states)
        if refusal:
            return refusal
        start = [each for each in self._wanted.activate if states[each].state != ACTIVE]
        stop = [
            each
            for each in self._wanted.deactivate
            if each in states and states[each].state == ACTIVE
        ]
        if start or stop:
            switched = self._switch.call_async(_request(start, stop))
            if not wait(switched.done, ANSWER_S):
                return f"{name} did not switch within {ANSWER_S:g} s"
            answer = switched.result()
            if not answer.ok:
                told = getattr(answer, "message", "") or "no reason given"
                return f"{name} refused to activate {', '.join(start) or 'nothing'}: {told}"
        self._started, self._stopped = start, stop
        self.fault, self.switched, self._looked_s = "", True, time.monotonic()
        return ""

    def give_back(self) -> None:
        """Make active again what was so before; nobody waits for it."""
        self.switched, self.fault = False, ""
        if not self._started and not self._stopped:
            return
        self._restoring = self._switch.call_async(_request(self._stopped, self._started))
        self._restoring.add_done_callback(self._given_back)

    def look(self) -> None:
        """See whether ours still drive the robot; call it a few times a second while armed."""
        now_s = time.monotonic()
        if not self.switched or now_s - self._looked_s < LOOK_S:
            return
        if self._looking is not None and not self._looking.done():
            if now_s - self._looked_s > ANSWER_S:
                self.fault = f"{self._wanted.manager} does not answer"
            return
        self._looked_s = now_s
        self._looking = self._list.call_async(srv.ListControllers.Request())
        self._looking.add_done_callback(self._seen)

    def _seen(self, future: Future) -> None:
        states = {each.name: each.state for each in future.result().controller}
        gone = [each for each in self._wanted.activate if states.get(each) != ACTIVE]
        self.fault = (
            f"controller {gone[0]} is {states.get(gone[0], 'gone')}; it drives the robot, so "
            "activate it, then resume"
            if gone and self.switched
            else ""
        )

    def _given_back(self, future: Future) -> None:
        self._restoring = None
        if not future.result().ok:
            names = ", ".join(self._stopped) or "nothing"
            self._logger.error(
                f"{self._wanted.manager} did not activate {names} again after disarming; the "
                "robot has none of its own controllers"
            )

    def _unfit(self, states: dict[str, Any]) -> str:
        """Why ours cannot be activated, or an empty string."""
        for each in self._wanted.activate:
            if each not in states:
                near = difflib.get_close_matches(each, states, 1)
                hint = f"; did you mean '{near[0]}'?" if near else "; load and configure it"
                return f"{self._wanted.manager} has no controller {each}{hint}"
        needed: dict[str, str] = {}
        for each in self._wanted.activate:
            needed |= dict.fromkeys(_interfaces(states[each]), each)
        others = states.keys() - {*self._wanted.activate, *self._wanted.deactivate}
        for name in sorted(others):
            claimed = sorted(set(states[name].claimed_interfaces) & needed.keys())
            if states[name].state == ACTIVE and claimed:
                return (
                    f"controller {name} is active and claims {claimed[0]}, which "
                    f"{needed[claimed[0]]} needs; deactivate it, or add it to "
                    "controllers.deactivate"
                )
        return ""


def _interfaces(state: Any) -> Iterable[str]:
    return (*state.required_command_interfaces, *state.claimed_interfaces)


def _request(start: list[str], stop: list[str]) -> Any:
    request = srv.SwitchController.Request()
    request.activate_controllers, request.deactivate_controllers = start, stop
    request.strictness = srv.SwitchController.Request.STRICT
    request.timeout.sec = int(ANSWER_S) - 1
    return request
