"""The control loop of a node: evenly spaced ticks against absolute deadlines, messages between.

Instead of waking for every message, the loop polls all inputs once per tick, shortly before the
deadline: a tick then sees the newest of everything, and a flood of messages costs no more than
their queues are deep. docs/timing.md compares this with rclpy's executors.
"""

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from rewact_ros.contract.frames import NANO
from rewact_ros.control.timing import DurationHistogram
from rewact_ros.ros.door import takes_info

# Inputs are polled this long before the deadline: longer than polling takes, even when it has to
# share a core.
SERVE_AHEAD_S = 0.0015
# Upkeep (garbage, QoS events) runs in the slack after a tick, so often.
UPKEEP_S = 1.0
# With sim time: longest wait for /clock before looking at everything else, and its silence after
# which ticks go on by the steady clock, so that watchdogs still act.
CLOCK_WAIT_S, CLOCK_SILENCE_S = 0.02, 0.5
MCL_CURRENT_FUTURE_ONFAULT = 1 | 2 | 4


@dataclass(frozen=True)
class LoopSettings:
    """What the operating system is asked for; what it refuses is a warning, not a fault.

    Attributes:
        priority: SCHED_FIFO priority of the loop's thread, 1 to 99; 0: none.
        cpu: core that the process stays on; -1: any.
        lock_memory: keep touched memory from being paged out.
    """

    priority: int = 0
    cpu: int = -1
    lock_memory: bool = False


class ControlLoop:
    """Calls `tick` once per period in the thread that calls `run`, and callbacks in between.

    A tick that cannot begin within its period is skipped, never made up for: `late_ticks` counts
    ticks that began more than half a period late, `skipped_ticks` those that never began.
    `lateness` is the distribution of begin minus deadline; `late_s` is that of the present tick, by
    which targets can be sampled at the deadline (steady clock only). With `use_sim_time` a tick is
    due when `/clock` passes a multiple of the period. `clock_silence_s` is how long `/clock` has
    stood still on the steady clock (0 without sim time); past `CLOCK_SILENCE_S` ticks go on by the
    steady clock.

    Served are subscriptions (of bounded history), services, timers, clients of services and of
    actions that exist when `run` is called; action servers are not.

    Args:
        node: whose loop it is.
        period_s: time between two ticks.
        tick: called without arguments.
    """

    def __init__(
        self,
        node: Node,
        period_s: float,
        tick: Callable[[], None],
        settings: LoopSettings | None = None,
    ) -> None:
        self.late_ticks = self.skipped_ticks = 0
        self.lateness = DurationHistogram()
        self.late_s = 0.0
        self.clock_silence_s = 0.0
        self._node = node
        self._period_s = period_s
        self._tick = tick
        self._settings = settings or LoopSettings()
        self._uses_sim_time = bool(node.get_parameter("use_sim_time").value)
        self._upkeep_s = time.monotonic()

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Serve the node until `should_stop()`.

        Exceptions pass through: those of the tick are its owner's, and a `Guarded` node has none
        of callbacks.
        """
        node = self._node
        self._subscriptions = [(s, takes_info(s.callback)) for s in node.subscriptions]
        self._services = list(node.services)
        self._timers = list(node.timers)
        self._clients = list(node.clients)
        self._actions = [each for each in node.waitables if isinstance(each, ActionClient)]
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        request_priority(self._settings, node.get_logger().warning)
        # What start-up allocated stays for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            (self._run_sim if self._uses_sim_time else self._run_steady)(should_stop)
        finally:
            gc.enable()
            gc.unfreeze()
            self._executor.shutdown()

    def _run_steady(self, should_stop: Callable[[], bool]) -> None:
        origin_s, index = time.monotonic(), 1
        while not should_stop():
            due_s = origin_s + index * self._period_s
            _sleep_until(due_s - min(SERVE_AHEAD_S, 0.5 * self._period_s))
            self._serve()
            _sleep_until(due_s)
            self.late_s = time.monotonic() - due_s
            self.lateness.add(self.late_s)
            self.late_ticks += self.late_s > 0.5 * self._period_s
            self._tick()
            next_index = int((time.monotonic() - origin_s) / self._period_s) + 1
            self.skipped_ticks += next_index - index - 1
            index = next_index
            self._upkeep(origin_s + index * self._period_s)

    def _run_sim(self, should_stop: Callable[[], bool]) -> None:
        clock = self._node.get_clock()
        period_ns = round(self._period_s * NANO)
        last_ns = next_ns = clock.now().nanoseconds
        moved_s = ticked_s = time.monotonic()
        while not should_stop():
            self._wait_for_clock()
            self._serve()
            now_ns, now_s = clock.now().nanoseconds, time.monotonic()
            if now_ns != last_ns:
                moved_s = now_s
            self.clock_silence_s = now_s - moved_s
            stopped = self.clock_silence_s > CLOCK_SILENCE_S and now_s - ticked_s > self._period_s
            if now_ns >= next_ns or now_ns < last_ns or stopped:
                late_ns = now_ns - next_ns
                if now_ns >= next_ns:
                    self.late_ticks += late_ns > 0.5 * period_ns
                    self.skipped_ticks += late_ns // period_ns
                    self.lateness.add(late_ns / NANO)
                self._tick()
                ticked_s = now_s
                next_ns = (now_ns // period_ns + 1) * period_ns
                self._upkeep(now_s + self._period_s)
            last_ns = now_ns

    def _wait_for_clock(self) -> None:
        """Sleep until `/clock` has a message, at most `CLOCK_WAIT_S`."""
        clocks = [s for s, _ in self._subscriptions if s.topic_name == "/clock"]
        wait_set = rclpy_implementation.WaitSet(
            len(clocks), 0, 0, 0, 0, 0, self._node.context.handle
        )
        wait_set.clear_entities()
        for subscription in clocks:
            wait_set.add_subscription(subscription.handle)
        wait_set.wait(round(CLOCK_WAIT_S * NANO))

    def _serve(self) -> None:
        """Handle what has come in; each queue once, so nothing can keep the tick from its time."""
        self._serve_inputs()
        for service in self._services:
            kind: Any = service.srv_type  # a generated class, of which rclpy states nothing
            request, header = service.handle.service_take_request(kind.Request)
            if header is not None:
                answer = service.callback(request, kind.Response())
                service.send_response(answer, header)
        for timer in self._timers:
            if timer.handle.is_timer_ready():
                timer.handle.call_timer()
                timer.callback()

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Let a service's callback wait for others; no tick comes meanwhile, so nothing may move.

        Returns whether the condition came true in time.
        """
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                return False
            self._serve_inputs()
            time.sleep(SERVE_AHEAD_S)
        return True

    def _serve_inputs(self) -> None:
        for subscription, with_info in self._subscriptions:
            for _ in range(max(subscription.qos_profile.depth, 1)):
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
                if taken is None:
                    break
                subscription.callback(*(taken if with_info else taken[:1]))
        for answered in self._clients:
            poll_client(answered)
        for client in self._actions:
            poll_action(client)

    def _upkeep(self, due_s: float) -> None:
        """Once in a while, and only with half a period to spare: garbage, QoS events."""
        now_s = time.monotonic()
        if now_s - self._upkeep_s < UPKEEP_S or due_s - now_s < 0.5 * self._period_s:
            return
        self._upkeep_s = now_s
        gc.collect()
        self._executor.spin_once(timeout_sec=0.0)


def poll_client(client: Client) -> None:
    """Take what a service has answered, by the steps of rclpy's executors, without waiting."""
    kind: Any = client.srv_type
    header, response = client.handle.take_response(kind.Response)
    if header is None:
        return
    with contextlib.suppress(KeyError):  # nobody waits for it any more
        client.get_pending_request(header.request_id.sequence_number).set_result(response)


def poll_action(client: ActionClient) -> None:
    """Take what an action's server has said, by the steps of rclpy's executors, without waiting."""
    kinds = client.get_num_entities()
    wait_set = rclpy_implementation.WaitSet(
        kinds.num_subscriptions,
        kinds.num_guard_conditions,
        kinds.num_timers,
        kinds.num_clients,
        kinds.num_services,
        0,
        client._node.context.handle,
    )
    wait_set.clear_entities()
    client.add_to_wait_set(wait_set)
    wait_set.wait(0)
    if not client.is_ready(wait_set):
        return
    step = client.execute(client.take_data())
    try:
        step.send(None)  # a coroutine that waits for nothing: no callback here is one
    except StopIteration:
        return
    step.close()


def request_priority(settings: LoopSettings, warn: Callable[[str], object]) -> None:
    """Ask for priority, core and locked memory for the calling thread; refusals go to `warn`."""
    try:
        if settings.priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(settings.priority))
    except (OSError, AttributeError) as error:
        warn(
            f"real-time priority {settings.priority} is not permitted ({error}): commands will be "
            "less even under load; allow rtprio in /etc/security/limits.conf"
        )
    try:
        if settings.cpu >= 0:
            os.sched_setaffinity(0, {settings.cpu})
    except (OSError, AttributeError) as error:
        warn(f"core {settings.cpu} cannot be had ({error}); {os.cpu_count()} cores are there")
    if settings.lock_memory:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(MCL_CURRENT_FUTURE_ONFAULT) != 0:
            warn(
                f"memory cannot be locked ({os.strerror(ctypes.get_errno())}): allow memlock in "
                "/etc/security/limits.conf"
            )


def _sleep_until(steady_s: float) -> None:
    """Sleep to an instant of the steady clock; at once if it has passed."""
    remaining_s = steady_s - time.monotonic()
    if remaining_s > 0:
        time.sleep(remaining_s)
