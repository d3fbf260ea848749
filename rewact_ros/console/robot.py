"""The console's side towards the robot: what it hears, and what it asks for on behalf of a person.

Everything here runs in the node's executor, but for the three doors that the web server uses:
`snapshot`, `ask` and `Pictures.newest`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.timer import Timer
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.console.buttons import BUTTONS, Button
from rewact_ros.console.records import command_record, episode_record, event_record, number
from rewact_ros.msg import (
    ControlStatus,
    EpisodeEvent,
    PolicyStatus,
    PolicyUpdate,
    Reward,
    SupervisorStatus,
)
from rewact_ros.policy.updates import Update
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.swap_client import SwapError, Swapping, to_message
from rewact_ros.stack.robot_status import StatusListener
from rewact_ros.stack.task_words import outcome_line

ANSWER_S = 5.0
# A version is taken at an episode boundary: a change waits for the end of the episode that runs.
SWAP_S, SWAP_LOOK_S = 300.0, 0.1
# Some minutes at 20 Hz: what a page shows that was opened in the middle of an episode.
CURVE, EVENTS = 6000, 200


class RefusedError(RuntimeError):
    """The robot said no, or nobody answered; the message says which."""


class Robot:
    """Hears one robot and asks it.

    Args:
        node: in the robot's namespace.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._listener = StatusListener(node)
        self._lock = threading.Lock()
        self._curve: deque[tuple[int, list[float | None]]] = deque(maxlen=CURVE)
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=EVENTS)
        self._points = self._told = 0  # so far, to go on from
        self._clients = {b.name: node.create_client(Trigger, b.service) for b in BUTTONS}
        self._tasks = ActionClient(node, ExecuteTask, names.EXECUTE_TASK)
        # Also of a task that a terminal began: the action client knows its own goals only.
        self._cancel = node.create_client(CancelGoal, f"{names.EXECUTE_TASK}/_action/cancel_goal")
        self._jobs: deque[Callable[[], object]] = deque()
        self._wake = node.create_guard_condition(self._do_jobs)
        self._since_s: float | None = None  # an episode runs since then, by the steady clock
        self._ran_s: float | None = None
        self._swapping: tuple[Swapping, Timer] | None = None
        self._updates = node.create_publisher(PolicyUpdate, names.POLICY_UPDATE, names.EVENTS)
        # Every reward makes the curve; the listener keeps the newest alone.
        node.create_subscription(Reward, names.REWARD, self._on_reward, names.EVENTS)
        node.create_subscription(EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS)

    # Hearing ----------------------------------------------------------------------------------

    def _on_reward(self, msg: Reward) -> None:
        with self._lock:
            self._points += 1
            values = (msg.value, msg.q10, msg.q90)
            self._curve.append((self._points, [time.time(), *map(number, values)]))

    def _on_event(self, msg: EpisodeEvent) -> None:
        if msg.event == EpisodeEvent.RUNNING:
            self._since_s, self._ran_s = time.monotonic(), None
        elif msg.event == EpisodeEvent.VERDICT and self._since_s is not None:
            self._ran_s, self._since_s = time.monotonic() - self._since_s, None
        self._add(event_record(msg))

    def _clock_s(self) -> float | None:
        """Running time of the episode, or of the last one; None: none was seen to begin."""
        since_s = self._since_s
        return self._ran_s if since_s is None else time.monotonic() - since_s

    def snapshot(self) -> dict[str, Any]:
        """The robot now, for JSON: `RobotStatus`, what nodes say of themselves, buttons."""
        status = self._listener.status()
        supervisor = self._listener.newest(SupervisorStatus)
        control = self._listener.newest(ControlStatus)
        return {
            "t": time.time(),
            "robot": status.record(),
            "episode": episode_record(supervisor) if status.supervisor else None,
            "clock_s": self._clock_s(),
            "nodes": [asdict(node) for node in self._listener.nodes()],
            "command": command_record(control) if status.mode else None,
            "buttons": {button.name: button.why_not(status) for button in BUTTONS},
            "task": "" if status.supervisor else "no supervisor is heard",
        }

    def since(self, point: int, told: int) -> tuple[int, list[Any], int, list[Any]]:
        """Curve points [t, value, q10, q90] and events after these numbers, and the newest ones."""
        with self._lock:
            points = [values for n, values in self._curve if n > point]
            events = [event for n, event in self._events if n > told]
            return self._points, points, self._told, events

    # Asking -----------------------------------------------------------------------------------

    def ask(self, button: Button) -> "Future[str]":
        """Call a button's service; the future has its words, or raises RefusedError."""
        answer: Future[str] = Future()

        def call() -> None:
            client = self._clients[button.name]
            if not client.service_is_ready():
                answer.set_exception(RefusedError(f"{client.srv_name}: nobody offers it now"))
                return
            client.call_async(Trigger.Request()).add_done_callback(done)

        def done(future: Any) -> None:
            response = future.result()
            if answer.done():
                return  # too late: the page was told so
            if response is None or not response.success:
                words = response.message if response else "no answer"
                answer.set_exception(RefusedError(f"{button.label} refused: {words}"))
            else:
                answer.set_result(str(response.message))

        self.later(call)
        return answer

    def start_task(self, text: str, timeout_s: float, episodes: int) -> "Future[str]":
        """Send a goal; the future says that it runs. Its end is told as an event."""
        answer: Future[str] = Future()

        def send() -> None:
            if not self._tasks.server_is_ready():
                answer.set_exception(RefusedError("no supervisor takes tasks now"))
                return
            goal = ExecuteTask.Goal(task=text, timeout=timeout_s, episodes=episodes)
            self._tasks.send_goal_async(goal).add_done_callback(taken)

        def taken(future: Any) -> None:
            handle = future.result()
            if not handle.accepted:
                said = self._listener.newest(SupervisorStatus)
                words = said[0].text if said else "no reason given"
                answer.set_exception(RefusedError(f"task refused: {words}"))
                return
            handle.get_result_async().add_done_callback(ended)
            answer.set_result("the task runs")

        def ended(future: Any) -> None:
            self._tell("task over", outcome_line(future.result().result))

        self.later(send)
        return answer

    def cancel_task(self) -> "Future[str]":
        """Cancel every task of the supervisor, also one that a terminal began."""
        answer: Future[str] = Future()

        def send() -> None:
            if not self._tasks.server_is_ready():
                answer.set_exception(RefusedError("no supervisor is there"))
                return
            # Zeros: all goals.
            self._cancel.call_async(CancelGoal.Request()).add_done_callback(done)

        def done(future: Any) -> None:
            response = future.result()
            if response is None or not response.goals_canceling:
                answer.set_exception(RefusedError("no task runs"))
            else:
                answer.set_result("cancelled; the arm brakes and holds")

        self.later(send)
        return answer

    def swap(self, update: Update) -> "Future[str]":
        """Ask the policy for another version; the future says which runs then."""
        answer: Future[str] = Future()

        def begin() -> None:
            status = self._policy()
            if status is None or not status.policy_version:
                answer.set_exception(RefusedError("no policy is heard"))
            elif self._swapping is not None:
                answer.set_exception(RefusedError("another change of the version is on its way"))
            else:
                now_s = time.monotonic()
                swapping = Swapping(update, status.policy_version, SWAP_S, now_s)
                timer = self._node.create_timer(SWAP_LOOK_S, look, clock=steady_clock())
                self._swapping = (swapping, timer)

        def look() -> None:
            status = self._policy()
            assert self._swapping is not None and status is not None
            swapping, timer = self._swapping
            found = self._updates.get_subscription_count() > 0
            try:
                now_s = time.monotonic()
                if swapping.must_ask(now_s, found):
                    self._updates.publish(to_message(update))
                if swapping.hear(now_s, status.policy_version, status.reason):
                    self._tell("policy", swapping.said)
                if swapping.version:
                    answer.set_result(f"version {swapping.version} runs")
            except SwapError as error:
                answer.set_exception(RefusedError(str(error)))
            if answer.done():
                self._node.destroy_timer(timer)
                self._swapping = None
                done = answer.exception() or answer.result()
                self._tell("policy", str(done))

        self.later(begin)
        return answer

    def _policy(self) -> PolicyStatus | None:
        heard = self._listener.newest(PolicyStatus)
        return heard[0] if heard else None

    def _tell(self, event: str, detail: str) -> None:
        """An event of the console's own."""
        self._add({"t": time.time(), "event": event, "detail": detail})

    def _add(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._told += 1
            self._events.append((self._told, event))

    def later(self, job: Callable[[], object]) -> None:
        """Run something in the node's executor, soon."""
        self._jobs.append(job)
        self._wake.trigger()

    def _do_jobs(self) -> None:
        while self._jobs:
            self._jobs.popleft()()
