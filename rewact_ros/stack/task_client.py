"""A client of the running stack: arms it, runs tasks through the action, keeps what it saw."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from action_msgs.msg import GoalStatus
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.contract import Contract
from rewact_ros.msg import (
    ControlStatus,
    EpisodeEvent,
    PolicyStatus,
    Reward,
    SimTruth,
    SupervisorStatus,
    Timing,
)
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import NANO, to_ns
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.images import camera_sample, camera_type

FRAME_PERIOD_S = 0.5
STATUS_LAG_S = 0.2
# hil may take this long to hear its robot after this client has found both.
ARM_PATIENCE_S = 10.0
RELEASE_S = 60.0
# A busy or slow machine imports PyTorch and exports an engine for minutes; a process that dies
# meanwhile is told at once.
READY_S = 300.0


class StackError(RuntimeError):
    """The running stack refused or did not answer; the message says which part and why."""


@dataclass
class EpisodeLog:
    """What a client saw of one episode; times are header stamps in seconds.

    `state` is the goal's, of `action_msgs/GoalStatus`: SUCCEEDED where somebody judged the episode.
    """

    episode_id: str = ""
    running_s: float = math.nan
    verdict_s: float = math.nan
    state: int = GoalStatus.STATUS_UNKNOWN
    outcome: int = ExecuteTask.Result.UNLABELLED
    reason: str = ""
    duration_s: float = math.nan
    peak_reward: float = math.nan
    rewards: list[tuple[float, float]] = field(default_factory=list)
    frames: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    true_success_s: float = math.nan
    bag: str = ""
    truth: SimTruth | None = None
    policy_version: str = ""


class TaskClient(Guarded, Node):
    """Runs tasks one after another; `spin(until)` drives everything in the caller's thread."""

    def __init__(self, contract: Contract, look_after: Callable[[], None]) -> None:
        super().__init__("rewact_client")
        self.contract = contract
        self.control: ControlStatus | None = None
        self.policy: PolicyStatus | None = None
        self.supervisor: SupervisorStatus | None = None
        self._look_after = look_after
        self._log: EpisodeLog | None = None
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._action = ActionClient(self, ExecuteTask, names.EXECUTE_TASK)
        for kind, topic, call, qos in (
            (Reward, names.REWARD, self._on_reward, names.EVENTS),
            (EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS),
            (ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED),
            (PolicyStatus, names.POLICY_STATUS, self._on_policy, names.COMMAND),
            (SupervisorStatus, names.SUPERVISOR_STATUS, self._on_supervisor, names.LATCHED),
            (SimTruth, names.SIM_TRUTH, self._on_truth, names.EVENTS),
        ):
            self.create_subscription(kind, topic, call, qos)
        camera = contract.cameras[0]
        self.create_subscription(camera_type(camera), camera.topic, self._on_image, names.SENSOR)

    # What it sees -----------------------------------------------------------------------------

    def _on_control(self, msg: ControlStatus) -> None:
        self.control = msg

    def _on_policy(self, msg: PolicyStatus) -> None:
        self.policy = msg

    def _on_supervisor(self, msg: SupervisorStatus) -> None:
        self.supervisor = msg

    def _on_reward(self, msg: Reward) -> None:
        if self._log and not math.isnan(self._log.running_s):
            self._log.rewards.append((to_ns(msg.header.stamp) / NANO, msg.value))
            self._log.policy_version = msg.policy_version

    def _on_event(self, msg: EpisodeEvent) -> None:
        if self._log is None:
            return
        if msg.event == EpisodeEvent.RUNNING:
            self._log.running_s = to_ns(msg.header.stamp) / NANO
            self._log.true_success_s = math.nan
        elif msg.event == EpisodeEvent.VERDICT:
            self._log.verdict_s = to_ns(msg.header.stamp) / NANO

    def _on_truth(self, msg: SimTruth) -> None:
        log = self._log
        if log is None:
            return
        log.truth = msg
        if msg.success and math.isnan(log.true_success_s):
            log.true_success_s = to_ns(msg.header.stamp) / NANO

    def _on_image(self, msg) -> None:  # type: ignore[no-untyped-def]
        log = self._log
        if log is None or math.isnan(log.running_s) or not math.isnan(log.verdict_s):
            return
        stamp_s = to_ns(msg.header.stamp) / NANO
        if not log.frames or stamp_s - log.frames[-1][0] >= FRAME_PERIOD_S:
            sample = camera_sample(self.contract.cameras[0], msg, stamp_s)
            log.frames.append((stamp_s, np.array(sample.value, dtype=np.uint8)))

    # What it does -----------------------------------------------------------------------------

    def spin(self, until: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Handle messages until a condition holds.

        Raises:
            StackError: it did not within `timeout_s`; the message says `what` was awaited.
        """
        deadline_s = time.monotonic() + timeout_s
        while not until():
            self._look_after()
            self._executor.spin_once(timeout_sec=0.05)
            if time.monotonic() > deadline_s:
                raise StackError(f"{what}: no answer within {timeout_s:g} s{self._state()}")

    def _linger(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self.spin(lambda: time.monotonic() > end_s, seconds + 5.0, "lingering")

    def _state(self) -> str:
        parts = []
        if self.control is not None:
            parts.append(f"hil: {self.control.reason}")
        if self.policy is not None and not self.policy.ready:
            parts.append(f"policy: {self.policy.reason}")
        if self.supervisor is not None:
            parts.append(f"supervisor: {self.supervisor.text}")
        return f" ({'; '.join(parts)})" if parts else " (no status from hil or policy)"

    def trigger(self, service: str, timeout_s: float = 10.0) -> str:
        """Call a std_srvs/Trigger; returns its message, raises StackError if it says no."""
        client = self.create_client(Trigger, service)
        try:
            self.spin(client.service_is_ready, timeout_s, f"service {service}")
            future = client.call_async(Trigger.Request())
            self.spin(future.done, timeout_s, f"service {service}")
        finally:
            self.destroy_client(client)
        response = future.result()
        if not response.success:
            raise StackError(f"{service}: {response.message}")
        return str(response.message)

    def wait_until_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until hil answers and the policy is warmed up and fed."""
        self.spin(
            lambda: self.control is not None and self.policy is not None and self.policy.ready,
            timeout_s,
            "bring-up",
        )

    def arm(self) -> None:
        """Arm hil, and resume it where a watchdog or a human's release stopped it before."""
        if self.control is not None and self.control.mode == ControlStatus.HUMAN:
            # A verdict may come while a human still leads; the arm is theirs until they let go.
            self.spin(
                lambda: self.control.mode != ControlStatus.HUMAN, RELEASE_S, "the human's release"
            )
        if self.control is None or self.control.mode == ControlStatus.DISARMED:
            self._arm_when_fed()
            armed = (ControlStatus.HOLD, ControlStatus.HUMAN)
            self.spin(lambda: self.control and self.control.mode in armed, 10.0, "hil armed")
        if self.control.resume_required:
            self.trigger("hil/resume")
        self.spin(
            lambda: self.control.mode == ControlStatus.HOLD and not self.control.resume_required,
            10.0,
            "hil in HOLD",
        )
        # The supervisor hears of it by the same topic, a moment earlier or later than this client.
        self._linger(STATUS_LAG_S)

    def _arm_when_fed(self) -> None:
        """Arm a hil that may have been found by this client before it found its robot."""
        end_s = time.monotonic() + ARM_PATIENCE_S
        while True:
            try:
                self.trigger("hil/arm")
                return
            except StackError as error:
                if not re.search("(received|has come) yet", str(error)) or time.monotonic() > end_s:
                    raise
                self._linger(STATUS_LAG_S)

    def start_task(
        self, task: str, timeout_s: float = 0.0, episodes: int = 1, preempt: bool = False
    ) -> ClientGoalHandle:
        """Send one task and return its accepted goal.

        Raises:
            StackError: the supervisor refused it or went silent.
        """
        self.spin(self._action.server_is_ready, 10.0, "action execute_task")
        goal = ExecuteTask.Goal(task=task, timeout=timeout_s, episodes=episodes, preempt=preempt)
        sent: Future = self._action.send_goal_async(goal)
        self.spin(sent.done, 10.0, "action execute_task")
        handle = sent.result()
        if not handle.accepted:
            self._linger(STATUS_LAG_S)  # the supervisor's status says why
            raise StackError(f"execute_task was refused{self._state()}")
        return handle

    def run_task(self, task: str, timeout_s: float = 0.0, settle_s: float = 1.0) -> EpisodeLog:
        """Run one task to its verdict, then watch `settle_s` longer for what really happened.

        Raises:
            StackError: the supervisor refused the goal or went silent.
        """
        self._log = log = EpisodeLog()
        goal = self.start_task(task, timeout_s)
        done: Future = goal.get_result_async()
        self.spin(done.done, 120.0 + timeout_s, "verdict")
        result, log.state = done.result().result, done.result().status
        log.episode_id, log.outcome, log.reason = result.episode_id, result.outcome, result.reason
        log.duration_s, log.peak_reward = result.duration, result.peak_reward
        log.bag = result.bag
        self._linger(settle_s)
        self._log = None
        return log

    def timings(self) -> dict[str, Timing]:
        """Newest timing figures of hil, by name."""
        assert self.control is not None
        return {timing.name: timing for timing in self.control.timings}

    def close(self) -> None:
        """Free the node."""
        self._executor.shutdown()
        self.destroy_node()
