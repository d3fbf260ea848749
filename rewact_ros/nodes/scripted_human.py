"""Node `scripted_human`: helps the simulated arm through the topics that a person would use."""

import math
import time

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from rewact_ros.contract import ContractError, load_contract
from rewact_ros.msg import EpisodeEvent, SimTruth
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.diagnostics import OK, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.params import ScriptedHumanParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.teleop import RobotState, TargetPublisher
from rewact_ros.sim.human import ScriptedHuman, Traits
from rewact_ros.sim.task import Scene, find_task

RATE_HZ = 50.0
# Of the simulation's own topics, at 20 Hz.
SCENE_FRESH_S = 0.5


class ScriptedHumanNode(Guarded, Node):
    """Feeds `ScriptedHuman` with what the simulation shows and publishes targets and deadman.

    Only this node, which stands for a person with eyes, may read the simulation's truth.
    """

    def __init__(self) -> None:
        super().__init__("scripted_human")
        self.params = p = declare(self, ScriptedHumanParams)
        self.contract = load_contract(p.contract, self.get_namespace())
        self.source = self.contract.teleop_source(p.source)
        task = find_task(p.task)
        if self.contract.action_names != task.joints:
            raise ContractError(
                f"scripted_human: it knows the robot of task {task.name} only; use "
                f"{task.contract_file()}"
            )
        if self.source.deadman is None or self.source.type != "sensor_msgs/msg/JointState":
            raise ContractError(
                f"teleop.{self.source.name}: expected a JointState with a 'deadman'"
            )
        self.clock = NodeClock(self)
        self.human = ScriptedHuman(task, Traits(p.reaction_s, p.noise_rad, p.attempts), p.seed)
        self.robot = RobotState(self, self.contract)
        self._targets = TargetPublisher(self, self.source, self.source.deadman)
        self._truth: SimTruth | None = None
        self._objects: Float64MultiArray | None = None
        self._seen_s = -math.inf
        self.create_subscription(SimTruth, names.SIM_TRUTH, self._on_truth, names.EVENTS)
        self.create_subscription(
            Float64MultiArray, names.SIM_OBJECTS, self._on_objects, names.EVENTS
        )
        if p.answers_help:
            self.create_subscription(
                EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS
            )
        self._success = self.create_client(Trigger, "supervisor/success") if p.judges else None
        self.create_service(SetBool, "~/help", self._on_help)
        self.create_timer(1.0 / RATE_HZ, self._tick, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    def _on_truth(self, msg: SimTruth) -> None:
        self._truth, self._seen_s = msg, time.monotonic()

    def _on_objects(self, msg: Float64MultiArray) -> None:
        self._objects = msg

    def _on_event(self, msg: EpisodeEvent) -> None:
        if msg.event == EpisodeEvent.HELP:
            self.human.ask(self.clock.now().age_s)

    def _on_help(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if request.data:
            self.human.ask(self.clock.now().age_s)
        else:
            self.human.leave("sent away")
        response.success = True
        response.message = f"{self.human.phase.value}: {self.human.reason}"
        return response

    def _scene(self) -> Scene | None:
        truth, objects = self._truth, self._objects
        if truth is None or objects is None or time.monotonic() - self._seen_s > SCENE_FRESH_S:
            return None
        return Scene(truth.seed, truth.stage, truth.success, np.array(objects.data))

    def _tick(self) -> None:
        led = self.human.pressed
        target = self.human.step(
            self.clock.now().age_s,
            self.robot.joints(),
            self._scene(),
            self.robot.led_by(self.source.name),
        )
        self._targets.publish(target, self.human.pressed)
        finished = led and not self.human.pressed and self.human.reason == "done"
        if finished and self._success is not None and self._success.service_is_ready():
            self._success.call_async(Trigger.Request())

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        return OK, f"{self.human.phase.value}: {self.human.reason}", {"source": self.source.name}


def main() -> None:
    """Entry point."""
    run_node(ScriptedHumanNode, (ValueError, RuntimeError))


if __name__ == "__main__":
    main()
