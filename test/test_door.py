"""The door of every subscription, service and timer, on a ROS graph of this process."""

import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from malformed import HOSTILE_TEXT, HUGE_TEXT
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from rewact_ros.msg import ControlStatus, PolicyUpdate, RecorderStatus
from rewact_ros.ros import process
from rewact_ros.ros.diagnostics import publish_diagnostics
from rewact_ros.ros.door import (
    MESSAGE_BYTES,
    Guarded,
    MalformedError,
    has_payload,
    read_message,
)
from rewact_ros.ros.loop import ControlLoop
from rewact_ros.text import TEXT_LIMIT, printable, printable_lines

pytestmark = pytest.mark.usefixtures("graph")


class Listener(Guarded, Node):
    """Hears numbers; those below zero break it, as a bug of ours would."""

    def __init__(self):
        super().__init__("listener")
        self.heard, self.informed, self.ticks = [], [], 0
        self.create_subscription(Int32, "number", self._on_number, 10)
        self.create_subscription(Int32, "number", self._on_info, 10)
        self.create_service(Trigger, "~/break", lambda request, response: self.nothing_there)
        self.create_timer(0.01, self._tick)
        publish_diagnostics(self, lambda: (DiagnosticStatus.OK, "fine", {}))

    def _on_number(self, msg):
        if msg.data < 0:
            raise ValueError(f"number: expected 0 or more, got {msg.data}")
        self.heard.append(msg.data)

    def _on_info(self, msg, info):
        self.informed.append(info["source_timestamp"])

    def _tick(self):
        self.ticks += 1
        if self.ticks == 3:
            raise RuntimeError("third tick")


@pytest.fixture
def listener():
    node = Listener()
    yield node
    node.destroy_node()


@pytest.fixture
def peer():
    node = Node("peer")
    yield node
    node.destroy_node()


def run_executor(node, stop):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not stop():
        executor.spin_once(timeout_sec=0.01)
    executor.shutdown()


def run_loop(node, stop):
    ControlLoop(node, 0.01, lambda: None).run(stop)


@pytest.mark.parametrize("run", [run_executor, run_loop])
def test_what_a_message_a_timer_or_a_service_breaks_does_not_end_the_node(listener, peer, run):
    numbers = peer.create_publisher(Int32, "number", 10)
    client = peer.create_client(Trigger, "listener/break")
    said, answers, asked = [], [], []
    peer.create_subscription(DiagnosticArray, "/diagnostics", said.append, 10)
    executor = SingleThreadedExecutor()
    executor.add_node(peer)
    end_s = time.monotonic() + 30

    def stop():
        numbers.publish(Int32(data=-1))
        numbers.publish(b"\0\1\0\0")  # cut off
        numbers.publish(Int32(data=7))
        if client.service_is_ready() and not asked:
            asked.append(client.call_async(Trigger.Request()))
            asked[0].add_done_callback(lambda done: answers.append(done.result()))
        for _ in range(5):
            executor.spin_once(timeout_sec=0)
        assert time.monotonic() < end_s, (listener.heard, listener.ticks, answers, said)
        return len(listener.heard) > 3 and listener.informed and answers and shown()

    def shown():
        values = {pair.key: pair.value for msg in said[-1:] for pair in msg.status[0].values}
        return values if values.get("internal_faults") == "2" and "refused number" in values else {}

    run(listener, stop)
    executor.shutdown()
    assert set(listener.heard) == {7} and listener.ticks > 3
    assert not answers[0].success and "nothing_there" in answers[0].message
    assert said[-1].status[0].level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)
    reason = shown()["refused number"]
    assert "expected 0 or more" in reason or "does not decode" in reason


def test_reasons_are_named_once_each_however_often_they_come(listener):
    refusals = listener.refusals
    assert refusals.add("number", "value: expected 1, got 2")
    assert not refusals.add("number", "value: expected 1, got 3")
    assert refusals.add("number", "does not decode")
    assert refusals.counts["number"] == 3
    named = sum(refusals.add("number", "".join(chr(97 + (k >> b) % 7) for b in range(9)))
                for k in range(5000))  # fmt: skip
    assert named <= 101


def test_a_message_is_bounded_before_it_is_decoded():
    data = serialize_message(PolicyUpdate(path=HUGE_TEXT))
    with pytest.raises(MalformedError, match=f"at most {MESSAGE_BYTES} bytes, got 1000"):
        read_message(data, PolicyUpdate)


def test_texts_come_in_printable_and_short():
    data = serialize_message(
        RecorderStatus(text=HOSTILE_TEXT, episode_id="y" * 5000, topics=["/a", HOSTILE_TEXT])
    )
    msg = read_message(data, RecorderStatus)
    assert msg.text.isprintable() and msg.text.startswith("\\x1b[2J") and "\\u202e" in msg.text
    assert len(msg.episode_id) == TEXT_LIMIT and msg.episode_id.endswith("…")
    assert msg.topics[0] == "/a" and msg.topics[1].isprintable()
    assert read_message(serialize_message(ControlStatus(reason="é, 日本")), ControlStatus).reason


def test_a_stamp_of_too_many_nanoseconds_is_refused_wherever_it_is():
    joints = JointState()
    joints.header.stamp.nanosec = 4_000_000_000
    with pytest.raises(MalformedError, match="nanosec"):
        read_message(serialize_message(joints), JointState)


def test_pictures_and_documents_are_rightly_large():
    assert has_payload(Image) and not has_payload(JointState)
    image = Image(height=480, width=640, encoding="rgb8", step=1920)
    image.data.frombytes(bytes(480 * 1920))
    assert len(read_message(serialize_message(image), Image).data) == 480 * 1920


def test_printable_texts_stay_as_they_are():
    assert printable("pick up the cube") == "pick up the cube"
    assert printable("x" * 50, 10) == "x" * 9 + "…"
    assert printable("a\nb\x9b31m") == "a\\nb\\x9b31m"
    assert printable_lines("a\nb\x1b") == "a\nb\\x1b"


class Broken(Listener):
    """Its executor breaks: nothing that a callback could catch."""

    def __init__(self):
        super().__init__()
        self.create_guard_condition(self._explode).trigger()
        self.exploded = 0

    def _explode(self):
        self.exploded += 1
        raise ValueError("not of a message")


def test_an_error_after_the_node_was_made_is_no_configuration_fault(graph):
    node = Broken()
    process._spin(node, lambda: bool(node.exploded and node.ticks > 5))
    assert node.refusals.counts["executor"] == node.exploded == 1
    node.destroy_node()
