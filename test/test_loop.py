"""The control loop: deadlines on a clock of its own, and a real ROS graph served between ticks."""

import gc
import time

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from rewact_ros.ros import loop as loop_module
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.loop import ControlLoop, LoopSettings, request_priority

pytestmark = pytest.mark.usefixtures("graph")
PERIOD_S = 0.01
MS = 1_000_000


@pytest.fixture
def node():
    node = Node("loop")
    yield node
    node.destroy_node()


@pytest.fixture
def peer():
    """A second node, that the test spins itself."""
    node = Node("peer")
    yield node
    node.destroy_node()


class SlowClock:
    """Stands in for `time`: every sleep ends 0.3 ms late, a tick may take as long as it likes."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds + 0.0003


def run_ticks(loop, count, ticks):
    deadline_s = time.monotonic() + 20
    loop.run(lambda: len(ticks) >= count or time.monotonic() > deadline_s)
    assert len(ticks) >= count


def test_lateness_of_the_sleeps_does_not_add_up(node, monkeypatch):
    clock, ticks = SlowClock(), []
    monkeypatch.setattr(loop_module, "time", clock)
    loop = ControlLoop(node, PERIOD_S, lambda: ticks.append(clock.now_s))
    run_ticks(loop, 500, ticks)
    assert all(abs(t - (k + 1) * PERIOD_S - 0.0003) < 1e-6 for k, t in enumerate(ticks))
    assert (loop.late_ticks, loop.skipped_ticks) == (0, 0)
    assert loop.lateness.summary().n == 500


def test_ticks_that_were_missed_are_skipped_and_counted_not_made_up_for(node, monkeypatch):
    clock, ticks = SlowClock(), []
    monkeypatch.setattr(loop_module, "time", clock)

    def tick():
        ticks.append(clock.now_s)
        if len(ticks) == 3:
            clock.now_s += 4.6 * PERIOD_S

    loop = ControlLoop(node, PERIOD_S, tick)
    run_ticks(loop, 10, ticks)
    indices = [round(t / PERIOD_S) for t in ticks]
    assert indices == [1, 2, 3, 8, 9, 10, 11, 12, 13, 14]
    assert loop.skipped_ticks == 4


def test_a_tick_that_begins_late_is_counted(node, monkeypatch):
    clock, ticks = SlowClock(), []
    monkeypatch.setattr(loop_module, "time", clock)

    def tick():
        ticks.append(clock.now_s)
        if len(ticks) == 3:
            clock.now_s += 0.9 * PERIOD_S
            clock.sleep = lambda seconds: setattr(clock, "now_s", clock.now_s + 0.6 * PERIOD_S)

    loop = ControlLoop(node, PERIOD_S, tick)
    run_ticks(loop, 4, ticks)
    assert loop.late_ticks == 1


def test_messages_services_and_timers_are_served_between_ticks(node, peer):
    got, timed, ticks, done = [], [], [], []
    node.create_subscription(Int32, "number", lambda m: got.append(m.data), 10)

    def answer(request, response):
        response.message = "here"
        return response

    node.create_service(Trigger, "ask", answer)
    node.create_timer(0.02, lambda: timed.append(1))
    publisher = peer.create_publisher(Int32, "number", 10)
    client = peer.create_client(Trigger, "ask")
    executor = SingleThreadedExecutor()
    executor.add_node(peer)
    asked = []

    def tick():
        ticks.append(1)
        publisher.publish(Int32(data=len(ticks)))
        if not asked and client.service_is_ready():
            asked.append(client.call_async(Trigger.Request()))
        executor.spin_once(timeout_sec=0)
        if asked and asked[0].done() and got and timed:
            done.append(asked[0].result().message)

    run_ticks(ControlLoop(node, PERIOD_S, tick), 1, done)
    executor.shutdown()
    assert done[0] == "here"
    assert got == sorted(got)


def test_a_flood_of_messages_costs_a_tick_no_more_than_the_queue_is_deep(node, peer):
    got, ticks, most = [], [], []
    node.create_subscription(Int32, "flood", got.append, QoSProfile(depth=3))
    publisher = peer.create_publisher(Int32, "flood", 100)

    def tick():
        ticks.append(1)
        most.append(len(got))
        got.clear()
        for k in range(50):
            publisher.publish(Int32(data=k))

    run_ticks(ControlLoop(node, PERIOD_S, tick), 100, ticks)
    assert max(most) == 3


def test_the_garbage_collector_is_out_of_the_way_only_while_the_loop_runs(node):
    seen = []
    run_ticks(ControlLoop(node, PERIOD_S, lambda: seen.append(gc.isenabled())), 3, seen)
    assert not any(seen)
    assert gc.isenabled()


def test_an_error_in_a_tick_ends_the_loop(node):
    def tick():
        raise ValueError("broken tick")

    with pytest.raises(ValueError, match="broken tick"):
        ControlLoop(node, PERIOD_S, tick).run(lambda: False)
    assert gc.isenabled()


def test_what_the_system_does_not_permit_is_a_warning(node):
    warnings = []
    request_priority(LoopSettings(cpu=100_000), warnings.append)
    assert len(warnings) == 1 and "core 100000" in warnings[0]


@pytest.fixture
def sim_loop(peer):
    """Function (feed, stop) → (ticks in ns, loop): `feed(k)` is the clock of wake-up k, in ms."""
    node = Node("sim_loop", parameter_overrides=[Parameter("use_sim_time", value=True)])
    publisher = peer.create_publisher(Clock, "/clock", 10)
    deadline_s = time.monotonic() + 10
    while publisher.get_subscription_count() == 0:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)

    def run(times_ms, stop):
        ticks = []
        loop = ControlLoop(
            node, PERIOD_S, lambda: ticks.append(node.get_clock().now().nanoseconds / MS)
        )
        feed = iter(times_ms)
        deadline_s = time.monotonic() + 10

        def should_stop():
            time_ms = next(feed, None)
            if time_ms is not None:
                publisher.publish(Clock(clock=to_stamp(time_ms * MS)))
            assert time.monotonic() < deadline_s
            return stop(ticks, time_ms is None)

        loop.run(should_stop)
        return ticks, loop

    yield run
    node.destroy_node()


def test_with_sim_time_a_tick_is_due_when_the_clock_passes_a_period(sim_loop):
    times = [1000, 1004, 1010, 1013, 1020, 1029, 1030]
    ticks, loop = sim_loop(times, lambda ticks, fed: fed and ticks[-1] == 1030)
    assert ticks == [1000, 1010, 1020, 1030]
    assert loop.clock_silence_s < 0.5


def test_a_jump_of_the_clock_back_or_forth_ticks_at_once_and_only_once(sim_loop):
    times = [20_000, 20_010, 10_000, 10_010, 30_000, 30_010]
    ticks, loop = sim_loop(times, lambda ticks, fed: fed and ticks[-1] == 30_010)
    assert ticks == [20_000, 20_010, 10_000, 10_010, 30_000, 30_010]
    assert loop.skipped_ticks > 1000


def test_a_stopped_clock_does_not_stop_the_watchdogs(sim_loop):
    _, loop = sim_loop([1000, 1010], lambda ticks, fed: ticks.count(1010) > 5)
    assert loop.clock_silence_s > 0.5
