"""How messages become observations live: what is decoded, when, by whom, and what is refused."""

import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, JointState
from test_bags import START_NS, contract_of, write_bag

from rewact_ros.contract import Frame, FrameAssembler, Sample, SampleError
from rewact_ros.contract.frames import DecodeError, Selection
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag
from rewact_ros.ros import convert, images, states
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.observations import Observations
from rewact_ros.ros.path_times import PathTimes

MS = 1_000_000
FRONT, WRIST, STATE = (
    "observation.images.front",
    "observation.images.wrist",
    "observation.state[0]",
)
CORRUPT = b"\xff\xd8\xff\xe0 not a picture"


# Pure ----------------------------------------------------------------------------------------


def undecodable(raw):
    raise SampleError("wrist/image_raw: does not decode")


def fed(contract, ms, stream, value=0, decode=None):
    image = np.full((96, 96, 3), value, np.uint8)
    raw = np.full(len(contract.state_names), 0.1) if stream == STATE else image
    return Sample(ms * MS, ms / 1000, raw, decode)


def put_all(assembler, ms, spoiled="", value=0):
    for stream in (STATE, WRIST, FRONT):
        decode = undecodable if stream == spoiled else None
        assembler.put(stream, fed(assembler.contract, ms, stream, value, decode))


@pytest.fixture
def assembler(vx300s):
    return FrameAssembler(vx300s)


def test_a_picture_that_does_not_decode_counts_as_not_received(assembler):
    put_all(assembler, 0, value=1)
    assert isinstance(assembler.assemble(0.0, 0), Frame)
    put_all(assembler, 50, spoiled=WRIST, value=2)
    selected = assembler.select(0.05, 50 * MS)
    with pytest.raises(DecodeError) as error:
        assembler.read(selected)
    assert error.value.stream == WRIST
    assembler.discard(WRIST, selected)
    frame = assembler.assemble(0.05, 50 * MS)
    assert frame.stamp_ns == 50 * MS
    assert frame.values[FRONT].max() == 2 and frame.values[WRIST].max() == 1


def test_a_spoiled_reference_image_does_not_bring_the_one_before_again(assembler):
    put_all(assembler, 0)
    assert isinstance(assembler.assemble(0.0, 0), Frame)
    put_all(assembler, 50, spoiled=FRONT)
    selected = assembler.select(0.05, 50 * MS)
    assembler.discard(FRONT, selected)
    assert assembler.assemble(0.05, 50 * MS) is None
    put_all(assembler, 100)
    assert assembler.assemble(0.1, 100 * MS).stamp_ns == 100 * MS


def test_a_picture_discarded_late_does_not_bring_a_newer_observation_again(assembler):
    put_all(assembler, 0, spoiled=WRIST)
    first = assembler.select(0.0, 0)
    put_all(assembler, 50)
    assert isinstance(assembler.select(0.05, 50 * MS), Selection)
    assembler.discard(WRIST, first)
    assert assembler.select(0.06, 60 * MS) is None


def test_a_latency_by_another_clock_is_not_counted_and_said():
    times = PathTimes("chunk")
    assert times.latency(0, 20 * MS) == pytest.approx(0.02) and not times.odd_stamp
    for stamp_ns, now_ns in ((100 * MS, 0), (0, 3_600_000 * MS)):
        assert np.isnan(times.latency(stamp_ns, now_ns)) and "clock" in times.odd_stamp
    values = times.values()
    assert values["stamps_of_another_clock"] == 2
    assert 19.5 < float(values["stamp_to_chunk_p99_ms"]) < 20.5
    times.latency(0, 10 * MS)
    assert not times.odd_stamp


def compressed_session():
    """A camera of JPEG, some of them spoiled and some twice the same, and joints."""
    rng = np.random.default_rng(0)
    data = b""
    for k in range(40):
        ns = START_NS + k * 50 * MS
        joints = convert.joint_state_message(
            ("a", "b"), "position", np.array([k / 10, 0.0]), convert.to_stamp(ns)
        )
        yield "/joint_states", ns + MS, joints
        picture = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        data = data if k % 7 == 3 else cv2.imencode(".jpg", picture)[1].tobytes()
        message = CompressedImage(format="jpeg", data=CORRUPT if k % 5 == 4 else data)
        message.header.stamp = convert.to_stamp(ns)
        yield "/front/image_raw", ns + 2 * MS, message


def test_a_recording_gives_the_frames_that_were_decoded_live(tmp_path):
    contract = contract_of("sensor_msgs/msg/CompressedImage")
    messages = list(compressed_session())
    assembler, live = FrameAssembler(contract), []
    for topic, ns, message in messages:
        try:
            if topic == "/joint_states":
                sample = states.state_sample(contract.state[0], message, ns / 1e9)
            else:
                sample = images.camera_sample(contract.cameras[0], message, ns / 1e9)
        except SampleError:
            continue  # its header tells already; it counts as not received
        assembler.put(STATE if topic == "/joint_states" else FRONT, sample)
        selected = assembler.select()
        while isinstance(selected, Selection):
            try:
                live.append(assembler.read(selected))
                break
            except DecodeError as error:
                assembler.discard(error.stream, selected)
                selected = assembler.select()
    with Bag(write_bag(tmp_path / "bag", messages)) as bag:
        frames = BagFrames(bag, contract)
        found = list(frames.read())
        assert frames.refused.total() == 8
    assert len(live) == 32
    for ours, theirs in zip(live, found, strict=True):
        assert ours.stamp_ns == theirs.stamp_ns
        for key, value in ours.values.items():
            np.testing.assert_array_equal(value, theirs.values[key])


# In a graph ----------------------------------------------------------------------------------


def jpeg(value, size=(96, 96)):
    return cv2.imencode(".jpg", np.full((*size, 3), value, np.uint8))[1].tobytes()


class Robot(Node):
    """Publishes on request; both cameras give JPEG."""

    def __init__(self, contract):
        super().__init__("robot")
        self.part = contract.state[0]
        self.joints = self.create_publisher(JointState, self.part.topic, names.SENSOR_OUT)
        self.cameras = {
            c.name: self.create_publisher(CompressedImage, c.topic, names.SENSOR_OUT)
            for c in contract.cameras
        }

    def send(self, **pictures):
        """Joints, and the given pictures in the given order, all with one stamp."""
        stamp = self.get_clock().now().to_msg()
        joints = JointState(name=list(self.part.joints), position=[0.0] * len(self.part.joints))
        joints.header.stamp = stamp
        self.joints.publish(joints)
        for name, data in pictures.items():
            message = CompressedImage(format="jpeg", data=data)
            message.header.stamp = stamp
            self.cameras[name].publish(message)
        return convert.to_ns(stamp)


class Setup:
    """A robot and the observations of its topics; `turn` handles messages until a condition."""

    def __init__(self, contract):
        compressed = "sensor_msgs/msg/CompressedImage"
        cameras = tuple(replace(c, type=compressed, max_age_s=1.0) for c in contract.cameras)
        state = tuple(replace(part, max_age_s=1.0) for part in contract.state)
        self.contract = replace(contract, cameras=cameras, state=state, max_skew_s=0.5)
        self.robot, self.node = Robot(self.contract), Node("judge")
        self.observations = Observations(self.node, self.contract, NodeClock(self.node))
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.robot)
        self.executor.add_node(self.node)
        publishers = (self.robot.joints, *self.robot.cameras.values())
        self.turn(lambda: all(p.get_subscription_count() for p in publishers))

    def turn(self, condition, timeout_s=20.0):
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, (self.observations.fault(), self.received)
            self.executor.spin_once(timeout_sec=0.01)

    def turn_until(self, condition, **pictures):
        """Send again and again meanwhile."""
        deadline_s = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline_s, self.observations.fault()
            self.robot.send(**pictures)
            end_s = time.monotonic() + 0.05
            self.turn(lambda end_s=end_s: time.monotonic() > end_s)

    def get(self, **pictures):
        """Send one set and take in all of it."""
        before = dict(self.received)
        stamp_ns = self.robot.send(**pictures)
        expected = [STATE, *(f"observation.images.{name}" for name in pictures)]
        self.turn(lambda: all(self.received[key] > before.get(key, 0) for key in expected))
        return stamp_ns

    @property
    def received(self):
        return self.observations.received

    def close(self):
        self.observations.close()
        self.executor.shutdown()
        self.robot.destroy_node()
        self.node.destroy_node()


@pytest.fixture
def live(graph, vx300s):
    setup = Setup(vx300s)
    yield setup
    setup.close()


@pytest.fixture
def decoded(monkeypatch):
    """Threads in which pictures were decoded, by the real decoder."""
    threads, decode = [], images.decode_picture

    def noted(*given):
        threads.append(threading.current_thread().name)
        return decode(*given)

    monkeypatch.setattr(images, "decode_picture", noted)
    return threads


def test_pictures_are_decoded_once_by_whoever_uses_them_and_the_rest_never(live, decoded):
    for value in (10, 20, 30):
        live.get(wrist=jpeg(value))
        stamp_ns = live.get(front=jpeg(value))
    assert not decoded and live.observations.skipped == 2
    seen = []
    worker = threading.Thread(target=lambda: seen.append(live.observations.newest()), name="w")
    worker.start()
    worker.join(timeout=10.0)
    assert decoded == ["w", "w"]
    assert seen[0].frame.stamp_ns == stamp_ns
    assert abs(int(seen[0].frame.values[FRONT].mean()) - 30) < 3
    stamp_ns = live.get(front=jpeg(40))
    again = live.observations.newest()
    assert again.frame.stamp_ns == stamp_ns
    assert len(decoded) == 3, "the wrist's picture was decoded already"


def test_whoever_looks_back_gets_what_it_was_too_slow_for(live, decoded):
    live.observations.memory = 2
    stamps = []
    for value in (10, 20, 30, 40):
        live.get(wrist=jpeg(value))
        stamps.append(live.get(front=jpeg(value)))
    seen = live.observations.newest()
    assert [frame.stamp_ns for frame in (*seen.missed, seen.frame)] == stamps[1:]
    means = [float(frame.values[FRONT].mean()) for frame in seen.missed]
    assert means == pytest.approx([20, 30], abs=3) and len(decoded) == 6
    live.get(wrist=jpeg(50))
    live.get(front=jpeg(50))
    assert live.observations.newest().missed == ()  # each is handed on once
    live.get(wrist=jpeg(60), front=jpeg(60))
    live.observations.epoch += 1  # somebody else moved the robot in between
    live.get(wrist=jpeg(70), front=jpeg(70))
    assert live.observations.newest().missed == ()


def test_a_missed_picture_that_does_not_decode_is_left_out(live):
    live.observations.memory = 5
    stamps = [live.get(wrist=jpeg(value), front=jpeg(value)) for value in (10, 20)]
    live.get(front=jpeg(25)[:200])
    stamps.append(live.get(wrist=jpeg(30), front=jpeg(30)))
    seen = live.observations.newest()
    assert [frame.stamp_ns for frame in (*seen.missed, seen.frame)] == stamps


def test_an_observation_is_there_with_its_reference_image_and_only_then(live):
    live.get(wrist=jpeg(1), front=jpeg(1))
    assert live.observations.newest() is not None
    live.get(wrist=jpeg(2))
    live.get(wrist=jpeg(3))
    taken = []
    worker = threading.Thread(target=lambda: taken.append(live.observations.newest()))
    worker.start()
    assert not taken
    before_s = time.monotonic()
    stamp_ns = live.get(front=jpeg(4))
    worker.join(timeout=10.0)
    assert taken[0].frame.stamp_ns == stamp_ns
    assert before_s <= taken[0].complete_s <= time.monotonic()
    assert abs(int(taken[0].frame.values[WRIST].mean()) - 3) < 3


def test_pictures_that_come_together_make_one_observation(live):
    for value in (10, 60, 110, 160):
        before = live.received[FRONT]
        live.robot.send(wrist=jpeg(value), front=jpeg(value))
        time.sleep(0.05)  # mostly both are there then; where they are not, they come in this order
        live.turn(lambda before=before: live.received[FRONT] > before)
        frame = live.observations.newest().frame
        assert abs(int(frame.values[WRIST].mean()) - value) < 3


@pytest.mark.parametrize(
    ("picture", "words"),
    [(CORRUPT, "does not decode"), (b"", "does not decode"), (jpeg(0, (48, 96)), "(48, 96, 3)")],
    ids=["corrupt", "empty", "another size"],
)
def test_what_does_not_decode_is_named_and_forgotten_when_the_camera_is_back(live, picture, words):
    live.get(wrist=jpeg(1), front=jpeg(1))
    worker = threading.Thread(target=lambda: [None for _ in iter(live.observations.newest, None)])
    worker.start()
    live.turn_until(lambda: live.observations.fault()[1] == "", wrist=jpeg(1), front=jpeg(2))
    live.turn_until(
        lambda: live.observations.fault()[0] == WRIST and words in live.observations.fault()[1],
        wrist=picture,
        front=jpeg(3),
    )
    assert live.observations.refused
    live.turn_until(lambda: live.observations.fault() == ("", ""), wrist=jpeg(4), front=jpeg(5))
    live.observations.shut()
    worker.join(timeout=10.0)
    assert not worker.is_alive()
