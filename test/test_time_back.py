"""Time that runs backwards: the recorder goes on in another recording, and readers refuse."""

import numpy as np
import pytest
from conftest import VX300S
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from test_bag_writer import START_NS, closed, event, make, messages, session  # noqa: F401
from test_bags import recording
from typer.testing import CliRunner

from rewact_ros.cli.bag import bag as bag_command
from rewact_ros.contract import Frame, FrameAssembler, Sample, SampleError, Stale, load_contract
from rewact_ros.data.bags.episode_file import EpisodeRecord, write_episode
from rewact_ros.data.bags.reader import Bag, BagError, typestore
from rewact_ros.data.bags.time_order import step_back
from rewact_ros.msg import EpisodeEvent
from rewact_ros.stamps import NANO

S = NANO
MS = NANO // 1000


def in_order(folder, messages, plugin=StoragePlugin.MCAP):
    """A bag whose file holds the messages in the order in which they came."""
    store, connections = typestore(), {}
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        for topic, ns, message in messages:
            if topic not in connections:
                kind = f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], ns, serialize_message(message))
    return folder


def passes():
    """A simulation that began anew after a second: the same times again."""
    once = sorted(recording(), key=lambda item: item[1])
    return [*once, *once]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_two_passes_in_one_recording_are_refused_with_file_and_time(tmp_path, plugin):
    folder = in_order(tmp_path / "bag", passes(), plugin)
    with (
        pytest.raises(BagError, match=r"bag\.(mcap|db3|.*): time ran backwards by \d"),
        Bag(folder),
    ):
        pass


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_recording_written_topic_by_topic_is_none_whose_time_ran_back(tmp_path, plugin):
    by_topic = sorted(recording(), key=lambda item: (item[0], item[1]))
    assert step_back(in_order(tmp_path / "bag", by_topic, plugin)) is None


def test_bag_info_tells_of_it(tmp_path):
    folder = in_order(tmp_path / "e1", passes())
    write_episode(folder, EpisodeRecord("e1", started_ns=1, ended_ns=2, outcome="success"))
    shown = CliRunner().invoke(bag_command, ["info", str(tmp_path)]).output
    assert "time ran" in shown and "backwards" in shown


def test_the_recorder_ends_the_recording_and_begins_another(session):  # noqa: F811
    given = list(messages(300))
    session.on_event(event(EpisodeEvent.STARTED, task="pick"), START_NS)
    session.on_event(event(EpisodeEvent.RUNNING), START_NS + 5)
    assert not session.ran_back(START_NS + 8 * S)
    session.recording.take(given[:100])
    assert session.ran_back(START_NS + S)
    session.begin_anew(START_NS + S)
    session.recording.take(given[100:200])
    judged = {"outcome": 1, "termination_reason": "progress", "by": "supervisor"}
    session.on_event(event(EpisodeEvent.VERDICT, **judged), START_NS + 2 * S)
    session.on_event(
        event(EpisodeEvent.RELABELLED, outcome=2, by="ada", termination_reason="human"),
        START_NS + 2 * S,
    )
    found = closed(session)
    assert set(found) == {"e1", "e1-2"}
    first, second = found["e1"], found["e1-2"]
    assert (first.outcome, first.termination_reason) == ("unlabelled", "interrupted")
    assert "backwards by 7.00 s" in first.detail
    assert first.ended_ns - first.started_ns == 8 * S
    assert (second.outcome, second.by, second.task) == ("failure", "ada", "pick")
    assert second.running_ns == second.started_ns == START_NS + S
    counts = [sum(n["received"] for n in record.topics.values()) for record in (first, second)]
    assert counts == [100, 100]


def test_time_that_ran_back_in_the_pre_roll_takes_it_away(make):  # noqa: F811
    kept = make(preroll_s=100.0)
    kept.take(list(messages(50)))
    kept.forget_preroll()
    kept.start(EpisodeRecord("e1", started_ns=START_NS), "")
    assert not kept.received.total()


# Observations, live and from bags alike -------------------------------------------------------


class Fed:
    """An assembler fed with stamps at a time of receipt; both in milliseconds."""

    def __init__(self):
        self.contract = load_contract(VX300S)
        self.assembler = FrameAssembler(self.contract)
        self.now_ms = 1_000_000

    def put(self, stream, stamp_ms, value=0):
        image = np.full((96, 96, 3), value, np.uint8)
        joints = np.full(len(self.contract.state_names), float(value))
        raw = joints if stream.startswith("observation.state") else image
        sample = Sample(stamp_ms * MS, self.now_ms / 1000, raw)
        self.assembler.put(stream, sample, self.now_ms * MS)

    def all(self, value=0):
        for stream in ("state[0]", "images.wrist", "images.front"):
            self.put(f"observation.{stream}", self.now_ms, value)
        return self.assembler.assemble(self.now_ms / 1000, self.now_ms * MS)


@pytest.mark.parametrize(
    ("stamp_ms", "says"), [(0, "zero"), (2**31 * 1000, "ahead"), (1, "old"), (999_900, "before")]
)
@pytest.mark.parametrize("stream", ["state[0]", "images.wrist", "images.front"])
def test_one_impossible_stamp_is_named_and_costs_no_observation(stream, stamp_ms, says):
    fed = Fed()
    assert isinstance(fed.all(), Frame)
    with pytest.raises(SampleError, match=says):
        fed.put(f"observation.{stream}", stamp_ms)
    fed.now_ms += 50
    assert isinstance(fed.all(), Frame)


def test_after_a_clock_that_ran_back_no_sample_of_before_is_used():
    fed = Fed()
    for value in range(5):
        assert isinstance(fed.all(value), Frame)
        fed.now_ms += 20
    fed.now_ms -= 90  # so little that the joints of before would be near enough
    fed.put("observation.images.wrist", fed.now_ms, 9)
    fed.put("observation.images.front", fed.now_ms, 9)
    stale = fed.assembler.assemble(fed.now_ms / 1000, fed.now_ms * MS)
    assert isinstance(stale, Stale) and stale.stream == "observation.state[0]"


def test_a_clock_that_ran_back_counts_also_where_no_stamp_tells_of_it():
    fed = Fed()
    for value in range(5):
        fed.put("observation.state[0]", fed.now_ms, value)
        fed.now_ms += 20
    fed.now_ms -= 90
    for camera in ("wrist", "front"):  # their first pictures
        fed.put(f"observation.images.{camera}", fed.now_ms, 9)
    stale = fed.assembler.assemble(fed.now_ms / 1000, fed.now_ms * MS)
    assert isinstance(stale, Stale) and stale.stream == "observation.state[0]"


def test_a_camera_slower_than_its_age_limit_is_named_by_its_rate():
    fed, made = Fed(), None
    while fed.now_ms < 1_000_000 + 16 * 25 * 10 + 300:  # the last picture is 0.3 s old
        fed.now_ms += 25
        fed.put("observation.state[0]", fed.now_ms)
        if (fed.now_ms // 25) % 16 == 0:
            fed.put("observation.images.wrist", fed.now_ms)
            fed.put("observation.images.front", fed.now_ms)
        made = fed.assembler.assemble(fed.now_ms / 1000, fed.now_ms * MS)
    assert isinstance(made, Stale) and "2.5 Hz: raise its rate, or max_age_s" in made.reason


def test_a_slow_camera_is_named_by_its_rate():
    fed, reasons = Fed(), []
    for k in range(60):
        fed.now_ms += 25
        fed.put("observation.state[0]", fed.now_ms)
        if k % 8 == 0:  # 5 Hz
            fed.put("observation.images.wrist", fed.now_ms)
        fed.put("observation.images.front", fed.now_ms)
        made = fed.assembler.assemble(fed.now_ms / 1000, fed.now_ms * MS)
        if isinstance(made, Stale):
            reasons.append(made.reason)
    assert "5.0 Hz" in reasons[-1] and "max_" in reasons[-1]
