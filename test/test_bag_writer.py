"""Recordings on disk: whole, readable by every tool, and mended after any cut."""

import json
import random
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image, JointState
from typer.testing import CliRunner

from rewact_ros import strict_yaml
from rewact_ros.cli.bag import bag as bag_command
from rewact_ros.data.bags.episode_file import (
    EPISODE_FILE,
    EpisodeFileError,
    EpisodeRecord,
    read_episode,
    write_episode,
)
from rewact_ros.data.bags.episode_labels import label_episode
from rewact_ros.data.bags.lock import BagsLockedError
from rewact_ros.data.bags.mcap_scan import scan
from rewact_ros.data.bags.message_types import message_type
from rewact_ros.data.bags.metadata import BagTopic
from rewact_ros.data.bags.reader import Bag, typestore
from rewact_ros.data.bags.recorder import BagRecorder, RecordingError, RecordingSettings
from rewact_ros.data.bags.recorder_session import RecordingSession, RefusedError, SessionSettings
from rewact_ros.data.bags.recorder_setup import calibrations
from rewact_ros.data.bags.recovery import needs_recovery, recover_all, recover_bag
from rewact_ros.data.bags.sequence_gaps import SequenceGaps
from rewact_ros.data.bags.writer import BagWriter, WriterSettings
from rewact_ros.data.bags.writer_thread import BagThread, OpenBag, RawMessage
from rewact_ros.msg import EpisodeEvent, Reward
from rewact_ros.policy.task_table import ByTask, TaskTableError
from rewact_ros.ros.params import RecorderParams
from rewact_ros.tokens import TokenSender

START_NS = 1_700_000_000_000_000_000
QOS = (
    {
        "history": "unknown",
        "depth": 0,
        "reliability": "reliable",
        "durability": "volatile",
        "deadline": {"sec": 9223372036, "nsec": 854775807},
        "lifespan": {"sec": 9223372036, "nsec": 854775807},
        "liveliness": "automatic",
        "liveliness_lease_duration": {"sec": 9223372036, "nsec": 854775807},
        "avoid_ros_namespace_conventions": False,
    },
)
TOPICS = {
    "/front/image_raw": Image,
    "/joint_states": JointState,
    "/rewact/reward": Reward,
}
RECORD = EpisodeRecord("ep", task="pick", started_ns=START_NS)


def bag_topic(name):
    class_ = TOPICS[name]
    package = class_.__module__.split(".")[0]
    return BagTopic(name, message_type(f"{package}/msg/{class_.__name__}"), QOS)


def messages(n, image_bytes=30_000):
    """n raw messages of the three topics, 10 ms apart."""
    rng = np.random.default_rng(0)
    for i in range(n):
        name = [*TOPICS][i % 3]
        if name == "/front/image_raw":
            body = Image(height=1, width=image_bytes, step=image_bytes, encoding="mono8")
            body.data.frombytes(rng.integers(0, 255, image_bytes, dtype=np.uint8).tobytes())
        elif name == "/joint_states":
            body = JointState(name=["a", "b"], position=[0.1 * i, -0.1 * i])
        else:
            body = Reward(value=i / n, policy_version="abc")
        log_ns = START_NS + i * 10_000_000
        yield RawMessage(name, serialize_message(body), log_ns, log_ns - 1_000_000, i)


def write_bag(folder, given, settings=None, close=True):
    folder.mkdir()
    write_episode(folder, RECORD)
    writer = BagWriter(folder, RECORD.text(), "robot: two_joints\n", settings)
    for name in TOPICS:
        writer.add_topic(bag_topic(name))
    for m in given:
        writer.write(m.topic, m.log_ns, m.publish_ns, m.sequence, m.data)
    if close:
        ended = replace(RECORD, outcome="success", ended_ns=START_NS + 10**9)
        writer.close(ended.text())
        write_episode(folder, ended)
    else:
        writer.abandon()
    return folder


def test_a_fault_without_a_number_of_the_system_is_told_in_its_own_words(tmp_path, monkeypatch):
    def refuse(*given):
        raise OSError("the device is gone")

    monkeypatch.setattr("rewact_ros.data.bags.writer_thread.BagWriter", refuse)
    thread = BagThread(WriterSettings(), tmp_path / "reserve")
    thread.put(OpenBag(tmp_path, RECORD, ""))
    thread.close()
    assert thread.fault.text == "disk fault: the device is gone"


def read_mcap(path):
    """Every message by the mcap library, checksums verified: (topic, log time, bytes)."""
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        return [(c.topic, m.log_time, m.data) for _, c, m in reader.iter_messages()]


def as_tuples(given):
    return [(m.topic, m.log_ns, m.data) for m in given]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_recording_opens_in_every_reader_with_every_message(tmp_path, compression):
    given = list(messages(90))
    folder = write_bag(tmp_path / "ep", given, WriterSettings(compression=compression))
    assert read_mcap(folder / "ep_0.mcap") == as_tuples(given)
    with AnyReader([folder]) as reader:  # by the definitions in the file alone
        found = [(c.topic, t, bytes(raw)) for c, t, raw in reader.messages()]
        assert found == as_tuples(given)
        values = [
            reader.deserialize(raw, c.msgtype).policy_version
            for c, _, raw in reader.messages()
            if c.topic == "/rewact/reward"
        ]
    assert values == ["abc"] * 30
    with Bag(folder) as bag:
        decoded = list(bag.messages(TOPICS))
    assert [m.topic for m in decoded] == [m.topic for m in given]
    for ours, theirs in zip(decoded, given, strict=True):
        live = deserialize_message(theirs.data, TOPICS[theirs.topic])
        if theirs.topic == "/joint_states":
            np.testing.assert_array_equal(ours.body.position, live.position)


def test_metadata_is_what_rosbag2_expects(tmp_path):
    folder = write_bag(tmp_path / "ep", list(messages(30)))
    information = strict_yaml.load(folder / "metadata.yaml")
    information = information["rosbag2_bagfile_information"]
    assert (information["version"], information["storage_identifier"]) == (9, "mcap")
    assert information["message_count"] == 30
    assert information["relative_file_paths"] == ["ep_0.mcap"]
    assert information["starting_time"]["nanoseconds_since_epoch"] == START_NS
    assert information["duration"]["nanoseconds"] == 290_000_000
    topics = {t["topic_metadata"]["name"]: t for t in information["topics_with_message_count"]}
    assert {name: t["message_count"] for name, t in topics.items()} == dict.fromkeys(TOPICS, 10)
    joints = topics["/joint_states"]["topic_metadata"]
    assert joints["type"] == "sensor_msgs/msg/JointState"
    assert joints["offered_qos_profiles"] == list(QOS)
    with open(folder / "ep_0.mcap", "rb") as file:
        reader = make_reader(file)
        assert reader.get_header().profile == "ros2"
        (channel,) = (c for c in reader.get_summary().channels.values() if "joint" in c.topic)
        assert channel.metadata["topic_type_hash"] == joints["type_description_hash"]
        assert strict_yaml.parse(channel.metadata["offered_qos_profiles"]) == list(QOS)
        stored = {record.name: record.metadata for record in reader.iter_metadata()}
        assert json.loads(stored["rewact"][EPISODE_FILE])["outcome"] == "success"  # the last wins
        assert strict_yaml.parse(stored["rosbag2"]["serialized_metadata"])["ros_distro"] == "jazzy"
        (contract,) = reader.iter_attachments()
        assert contract.data == b"robot: two_joints\n"


@pytest.mark.parametrize(
    "name", ["sensor_msgs/msg/JointState", "std_msgs/msg/Header", "rewact_ros/msg/ActionChunk"]
)
def test_definitions_and_hashes_agree_with_an_independent_library(name):
    store = get_typestore(Stores.ROS2_JAZZY) if "rewact" not in name else typestore()
    ours = message_type(name)
    assert ours.type_hash == store.hash_rihs01(name)
    from rosbags.typesys import get_types_from_msg

    parsed = get_types_from_msg(ours.definition, name)
    for part, fields in parsed.items():
        assert fields[1] == store.get_msgdef(part).fields


def test_a_type_that_is_not_installed_has_no_definition():
    assert message_type("nobody_msgs/msg/Nothing").definition == ""
    assert message_type("rewact_ros/action/ExecuteTask_Feedback").definition == ""


def test_a_recording_goes_on_in_another_file(tmp_path):
    given = list(messages(300))
    folder = write_bag(tmp_path / "ep", given, WriterSettings(max_file_bytes=1_500_000))
    files = sorted(folder.glob("*.mcap"))
    assert len(files) == 2
    assert [m for path in files for m in read_mcap(path)] == as_tuples(given)
    with Bag(folder) as bag:
        assert len(list(bag.messages(TOPICS))) == 300


def test_a_recording_that_was_cut_anywhere_keeps_every_whole_chunk(tmp_path):
    given = list(messages(450))
    folder = write_bag(tmp_path / "ep", given, close=False)
    path = folder / "ep_0.mcap"
    whole = path.read_bytes()
    sizes = [c.start + c.length for c in scan(path).chunks]
    assert len(sizes) >= 3
    draw = random.Random(0)
    cuts = [draw.randrange(300, len(whole)) for _ in range(6)]
    cuts += [sizes[0], sizes[0] + 1, sizes[1] - 1, len(whole)]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        write_episode(folder, RECORD)
        (folder / "metadata.yaml").unlink(missing_ok=True)
        assert needs_recovery(folder)
        recover_bag(folder)
        assert not needs_recovery(folder)
        found = read_mcap(path)
        assert found == as_tuples(given)[: len(found)]
        whole_chunks = sum(size <= cut for size in sizes)
        # of the chunk that was cut off, the messages before the cut are in one of their own
        assert len(scan(path).chunks) in (whole_chunks, whole_chunks + 1)
        if found:
            with Bag(folder) as bag:
                assert len(list(bag.messages(TOPICS))) == len(found)
        record = read_episode(folder)
        assert (record.outcome, record.termination_reason) == ("unlabelled", "interrupted")
        assert record.recovered and record.ended_ns is not None
        assert sum(n["received"] for n in record.topics.values()) == len(found)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_blocks_that_never_reached_the_disk_are_cut_off(tmp_path, compression):
    given = list(messages(450))
    folder = write_bag(tmp_path / "ep", given, WriterSettings(compression=compression), close=False)
    path = folder / "ep_0.mcap"
    chunks = scan(path).chunks
    data = bytearray(path.read_bytes())
    hole = chunks[-1].data_start + 5000
    data[hole : hole + 4096] = bytes(4096)
    path.write_bytes(bytes(data) + bytes(8192))
    recover_bag(folder)
    assert len(scan(path).chunks) == len(chunks) - 1
    found = read_mcap(path)
    assert found and found == as_tuples(given)[: len(found)]


def test_a_file_that_had_only_begun_is_set_aside(tmp_path):
    folder = write_bag(tmp_path / "ep", list(messages(30)))
    (folder / "ep_1.mcap").write_bytes(b"")
    (folder / "metadata.yaml").unlink()
    (found,) = recover_all(tmp_path)
    assert found.messages == 30 and found.empty == ("ep_1.mcap",)
    assert (folder / "ep_1.mcap.damaged").exists()
    assert read_episode(folder).outcome == "success"  # it had ended, and keeps its verdict


def test_a_lost_episode_file_comes_back_from_the_recording(tmp_path):
    folder = write_bag(tmp_path / "ep", list(messages(30)), close=False)
    (folder / EPISODE_FILE).unlink()
    recover_bag(folder)
    record = read_episode(folder)
    assert (record.episode_id, record.task, record.recovered) == ("ep", "pick", True)


def test_labels_change_and_messages_do_not(tmp_path):
    folder = write_bag(tmp_path / "ep", list(messages(30)))
    before = (folder / "ep_0.mcap").read_bytes()
    label_episode(folder, "failure", "ada")
    label_episode(folder, None, "", discarded=True)
    record = read_episode(folder)
    assert (record.outcome, record.by, record.discarded) == ("failure", "ada", True)
    assert record.labelled_at
    assert (folder / "ep_0.mcap").read_bytes() == before
    label_episode(folder, "unlabelled", "ada", discarded=False)
    record = read_episode(folder)
    assert (record.outcome, record.by, record.labelled_at) == ("unlabelled", "", "")
    with pytest.raises(EpisodeFileError, match="expected one of"):
        label_episode(folder, "nice", "ada")


def test_an_episode_without_an_end_is_not_judged(tmp_path):
    folder = write_bag(tmp_path / "ep", list(messages(30)), close=False)
    with pytest.raises(EpisodeFileError, match="no end"):
        label_episode(folder, "success", "ada")


def test_a_recording_of_another_recorder_is_mended_too(tmp_path):
    given, store, connections = list(messages(300)), typestore(), {}
    writer = Writer(tmp_path / "stock", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.open()
    for m in given:
        if m.topic not in connections:
            type_name = bag_topic(m.topic).type.name
            connections[m.topic] = writer.add_connection(m.topic, type_name, typestore=store)
        writer.write(connections[m.topic], m.log_ns, m.data)
    writer.abort()  # as if it had been killed
    (found,) = recover_all(tmp_path)
    assert 0 < found.messages < 300
    assert not (tmp_path / "stock" / EPISODE_FILE).exists()  # what we do not know is not made up
    with Bag(tmp_path / "stock") as bag:
        assert len(list(bag.messages(TOPICS))) == found.messages
    assert recover_all(tmp_path) == []


def test_only_what_is_marked_is_deleted_and_only_after_asking(tmp_path):
    kept = write_bag(tmp_path / "a", list(messages(9)))
    marked = write_bag(tmp_path / "b", list(messages(9)))
    command = CliRunner()
    assert command.invoke(bag_command, ["label", str(marked), "--discard"]).exit_code == 0
    shown = command.invoke(bag_command, ["info", str(tmp_path)]).output
    assert "success, discarded" in shown and shown.count("success") == 2
    command.invoke(bag_command, ["prune", str(tmp_path)], input="n\n")
    assert kept.is_dir() and marked.is_dir()
    answer = command.invoke(bag_command, ["prune", str(tmp_path)], input="y\n")
    assert str(kept) not in answer.output
    assert kept.is_dir() and not marked.exists()
    nothing = command.invoke(bag_command, ["label", str(kept)])
    assert isinstance(nothing.exception, ValueError) and "--outcome" in str(nothing.exception)


# The queue, the pre-roll and the disk -------------------------------------------------------


@pytest.fixture
def make(tmp_path):
    """Function: a recording in a folder of its own; all are closed afterwards."""
    made = []

    def make(**settings):
        settings = {"bags_dir": tmp_path / "bags", "min_free_bytes": 0, **settings}
        made.append(BagRecorder(RecordingSettings(**settings)))
        for name in TOPICS:
            made[-1].declare(bag_topic(name))
        return made[-1]

    yield make
    for recording in made:
        recording.close()


def finish(recording, record=RECORD):
    """End and close; the folder's messages and its episode."""
    recording.end(replace(record, ended_ns=START_NS + 10**10))
    recording.close()
    folder = recording.folder
    found = [m for path in sorted(folder.glob("*.mcap")) for m in read_mcap(path)]
    return found, read_episode(folder)


def test_the_seconds_before_the_start_are_recorded_within_their_bounds(make):
    given = list(messages(300))
    recording = make(preroll_s=0.5, preroll_bytes=2_000_000)
    recording.take(given[:200])
    recording.start(RECORD, "")
    recording.take(given[200:])
    found, record = finish(recording)
    assert found == as_tuples(given[149:])
    assert record.topics["/joint_states"] == {
        "type": "sensor_msgs/msg/JointState",
        "received": sum(m[0] == "/joint_states" for m in found),
        "dropped": 0,
    }


def test_the_preroll_is_bounded_in_memory(make):
    recording = make(preroll_s=100.0, preroll_bytes=100_000)
    recording.take(list(messages(300)))
    recording.start(RECORD, "")
    found, _ = finish(recording)
    assert 0 < sum(len(data) for _, _, data in found) <= 100_000


def test_latched_state_from_long_ago_begins_every_recording(make):
    given = list(messages(300))
    recording = make(preroll_s=0.1)
    recording.declare(bag_topic("/rewact/reward"), latched=1)
    recording.take([m for m in given if m.topic != "/rewact/reward" or m.log_ns < START_NS + 10**8])
    recording.start(RECORD, "")
    found, _ = finish(recording)
    states = [(at, data) for topic, at, data in found if topic == "/rewact/reward"]
    assert states == [(min(at for _, at, _ in found), given[8].data)]


def test_what_exceeds_the_queue_is_dropped_and_counted(make):
    given = list(messages(300))
    recording = make(preroll_bytes=0, queue_bytes=20_000)
    recording.start(RECORD, "")
    recording.take(given)  # no image fits
    recording.lost("/joint_states", 3)  # the middleware's own loss counts too
    found, record = finish(recording)
    got = Counter(topic for topic, _, _ in found)
    assert got["/front/image_raw"] == 0
    for name in TOPICS:
        extra = 3 if name == "/joint_states" else 0
        assert record.topics[name]["received"] == got[name]
        assert record.topics[name]["dropped"] == 100 - got[name] + extra


def test_a_start_is_refused_without_room_or_over_another_episode(make):
    recording = make(min_free_bytes=10**18)
    with pytest.raises(RecordingError, match="min_free_gb"):
        recording.start(RECORD, "")
    assert not (recording.settings.bags_dir / "ep").exists()
    recording.close()
    recording = make()
    (recording.settings.bags_dir / "ep").mkdir()
    with pytest.raises(RecordingError, match="exists already"):
        recording.start(RECORD, "")


def test_two_recorders_never_share_a_folder(make):
    recording = make()
    with pytest.raises(BagsLockedError, match="another folder"):
        make()
    recording.close()
    make()


FILL = """
    import resource, sys, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_bag_writer import *
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    recording = BagRecorder(RecordingSettings(Path({folder!r}), min_free_bytes=0))
    for name in TOPICS:
        recording.declare(bag_topic(name))
    session = RecordingSession(
        recording, EpisodeRecord(""), ByTask.one(None), "", SessionSettings(), lambda: ""
    )
    session.start(START_NS)
    given = list(messages(300))
    recording.take(given)
    while session.owner:
        session.step(START_NS, 0.0)
        time.sleep(0.01)
    recording.close()
    print(*[note.text for note in recording.notes], sep="\\n")
"""


@pytest.mark.parametrize("limit", [2_500_000, 3000])
def test_a_full_disk_ends_the_episode_with_the_rest_intact(tmp_path, limit):
    """The largest allowed file size stands for the disk: beyond it, writing fails likewise."""
    script = FILL.format(tests=str(Path(__file__).parent), limit=limit, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "disk full" in done.stdout
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    record = read_episode(folder)
    assert (record.outcome, record.termination_reason) == ("unlabelled", "disk_full")
    found = read_mcap(folder / f"{folder.name}_0.mcap")
    assert [m[:2] for m in found] == [m[:2] for m in as_tuples(messages(300))][: len(found)]
    lost_bytes = limit - sum(len(data) for _, _, data in found)
    assert lost_bytes < 2.2e6 and (found or limit < 2_000_000)
    for name, counts in record.topics.items():
        assert counts["received"] == sum(topic == name for topic, _, _ in found)
        assert counts["received"] + counts["dropped"] == 100
    assert not needs_recovery(folder)


@pytest.mark.parametrize("publishers", [1, 2, 3])
def test_gaps_of_several_publishers_add_up_to_what_is_missing(publishers):
    draw = random.Random(publishers)
    numbers = [draw.randrange(1, 1000) for _ in range(publishers)]
    gaps, dropped, missing = SequenceGaps(), 0, 0
    gaps.expect(publishers)
    for i in range(2000):
        who = i if i < publishers else draw.randrange(publishers)  # each is heard once at first
        numbers[who] += 1
        if i >= publishers and draw.random() < 0.1 and i < 1990:
            dropped += 1
        else:
            missing += gaps.lost(numbers[who])
    for number in numbers:  # what comes last shows the gap before it
        missing += gaps.lost(number + 1)
    assert missing == dropped


def test_a_publisher_that_starts_again_loses_nothing():
    gaps = SequenceGaps()
    assert [gaps.lost(n) for n in (7, 8, 11, 1, 2, 4)] == [0, 0, 2, 0, 0, 1]


# Episodes -----------------------------------------------------------------------------------


@pytest.fixture
def session(make):
    recording = make(preroll_s=0.0)
    settings = SessionSettings(operator="ada")
    return RecordingSession(
        recording, EpisodeRecord(""), ByTask.one(None), "", settings, lambda: "v1"
    )


def event(kind, name="e1", **more):
    return EpisodeEvent(episode_id=name, event=kind, **more)


def wait_for(condition):
    end_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end_s, "it never came to that"
        time.sleep(0.01)


def closed(session):
    """The episodes on disk by name, once all is written."""
    session.close(START_NS + 10**12)
    session.recording.close()
    folders = session.recording.settings.bags_dir.glob(f"*/{EPISODE_FILE}")
    return {path.parent.name: read_episode(path.parent) for path in folders}


def test_the_supervisors_episode_is_recorded_to_its_verdict_and_a_little_longer(session):
    given = list(messages(300))
    session.on_event(event(EpisodeEvent.STARTED, task="pick"), START_NS)
    session.recording.take(given[:100])
    session.on_event(event(EpisodeEvent.RUNNING), START_NS + 5)
    judged = {"outcome": 1, "termination_reason": "progress", "by": "supervisor"}
    verdict_ns = given[100].log_ns
    session.on_event(event(EpisodeEvent.VERDICT, **judged), verdict_ns)
    for message in given[100:]:
        if session.owner:
            session.recording.take([message])
        session.step(message.log_ns, 0.0)
    assert session.owner == ""
    record = closed(session)["e1"]
    assert (record.task, record.outcome, record.by) == ("pick", "success", "supervisor")
    assert (record.started_ns, record.running_ns) == (START_NS, START_NS + 5)
    assert (record.ended_ns, record.policy_version) == (verdict_ns, "v1")
    assert sum(n["received"] for n in record.topics.values()) == 151


def test_a_recording_carries_the_calibration_of_its_task(make, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    (tmp_path / "a" / "calibration.json").write_text('{"of": "a"}')
    table = tmp_path / "tasks.yaml"
    table.write_text("tasks: [{task: put*, policy: a}, {task: sort*, policy: b}]")
    by_task = calibrations(RecorderParams(tasks=str(table)))
    session = RecordingSession(
        make(preroll_s=0.0), EpisodeRecord(""), by_task, "", SessionSettings(), lambda: "v1"
    )
    for i, task in enumerate(("Put it", "sort it", "what a person calls it")):
        session.on_event(event(EpisodeEvent.STARTED, name=f"e{i}", task=task), START_NS + i)
    found = closed(session)
    assert [found[f"e{i}"].calibration for i in range(3)] == [{"of": "a"}, None, None]
    (tmp_path / "a" / "calibration.json").write_text("no JSON")
    with pytest.raises(TaskTableError, match=r"task 'put\*': recorder: parameter calibration"):
        calibrations(RecorderParams(tasks=str(table)))


def test_a_later_verdict_of_a_person_changes_the_label(session):
    session.on_event(event(EpisodeEvent.STARTED), START_NS)
    session.on_event(event(EpisodeEvent.VERDICT, outcome=1, by="supervisor"), START_NS + 1)
    relabelled = {"outcome": 2, "by": "ada", "termination_reason": "human"}
    session.on_event(event(EpisodeEvent.STARTED, name="e2"), START_NS + 2)
    session.on_event(event(EpisodeEvent.RELABELLED, **relabelled), START_NS + 3)
    found = closed(session)
    assert (found["e1"].outcome, found["e1"].by) == ("failure", "ada")
    assert found["e2"].termination_reason == "stopped"


def linked(sender, kind, name="e1", **more):
    proof, promised = sender.link()
    return event(kind, name=name, proof=proof, next=promised, **more)


def test_a_stranger_neither_judges_an_episode_nor_changes_its_label(session):
    sender, stranger = TokenSender(), TokenSender()
    session.on_event(linked(sender, EpisodeEvent.STARTED), START_NS)
    session.on_event(linked(sender, EpisodeEvent.VERDICT, outcome=2, by="supervisor"), START_NS + 1)
    session.on_event(linked(sender, EpisodeEvent.STARTED, name="e2"), START_NS + 2)
    for forged in (event(EpisodeEvent.RELABELLED, outcome=1, by="mallory"),
                   linked(stranger, EpisodeEvent.RELABELLED, outcome=1, by="mallory"),
                   event(EpisodeEvent.VERDICT, name="e2", outcome=1, by="mallory")):  # fmt: skip
        session.on_event(forged, START_NS + 3)
    found = closed(session)
    assert (found["e1"].outcome, found["e1"].by) == ("failure", "supervisor")
    assert (found["e2"].outcome, found["e2"].by) == ("unlabelled", "")
    said = " | ".join(note.text for note in session.recording.notes)
    assert "episode e1: a new verdict (success) was refused" in said
    assert "episode e2: verdict of another supervisor" in said


def test_nobody_changes_the_label_of_an_old_recording(session):
    sender = TokenSender()
    for i, name in enumerate(("e1", "e2", "e3")):
        session.on_event(linked(sender, EpisodeEvent.STARTED, name=name), START_NS + 10 * i)
        session.on_event(linked(sender, EpisodeEvent.VERDICT, name=name, outcome=2, by="s"),
                         START_NS + 10 * i + 1)  # fmt: skip
    session.on_event(linked(sender, EpisodeEvent.RELABELLED, outcome=1, by="ada"), START_NS + 50)
    later = linked(sender, EpisodeEvent.RELABELLED, name="e3", outcome=1, by="ada")
    session.on_event(later, START_NS + 51)
    found = closed(session)
    assert [found[name].outcome for name in ("e1", "e2", "e3")] == ["failure", "failure", "success"]


def test_an_episode_whose_supervisor_fell_silent_ends(session):
    session.on_event(event(EpisodeEvent.STARTED), START_NS)
    session.heard_supervisor(10.0)
    session.step(START_NS, 14.0)
    assert session.owner
    session.step(START_NS, 15.5)
    assert closed(session)["e1"].termination_reason == "interrupted"


def test_a_fault_of_the_writer_ends_the_episode_loudly_and_not_the_next_one(session):
    given = list(messages(90))
    session.start(START_NS)
    session.recording.take(given)
    session.recording.take([replace(given[0], topic="/never_declared")])
    wait_for(lambda: session.recording.fault is not None)
    session.step(START_NS + 1, 0.0)
    assert session.owner == "" and "writer fault" in session.trouble
    first = session.record.episode_id
    session.start(START_NS + 2)
    session.recording.take(given)
    second = session.record.episode_id
    found = closed(session)
    assert found[first].termination_reason == "writer_fault"
    for name in (first, second):
        assert sum(n["received"] for n in found[name].topics.values()) == 90


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".", "x" * 200])
def test_an_episode_cannot_name_another_folder(session, name):
    session.on_event(event(EpisodeEvent.STARTED, name=name), START_NS)
    assert session.owner == "" and session.recording.notes[-1].fault


def test_people_start_judge_repeat_and_discard_and_nothing_is_deleted(session):
    with pytest.raises(RefusedError, match="nothing is being recorded"):
        session.stop(START_NS)
    with pytest.raises(RefusedError, match="no episode"):
        session.judge("success", START_NS)
    session.start(START_NS)
    with pytest.raises(RefusedError, match="is being recorded"):
        session.start(START_NS)
    first = session.record.episode_id
    session.rerecord(START_NS + 1)
    second = session.record.episode_id
    session.judge("success", START_NS + 2)
    session.judge("failure", START_NS + 3)  # a change of mind
    session.start(START_NS + 4)
    third = session.record.episode_id
    session.stop(START_NS + 5)
    session.discard(START_NS + 6)
    found = closed(session)
    assert found.keys() == {first, second, third}
    assert found[first].discarded and found[third].discarded
    assert (found[second].outcome, found[second].by) == ("failure", "ada")
    assert found[second].discarded is False


def test_people_do_not_judge_for_the_supervisor(session):
    session.on_event(event(EpisodeEvent.STARTED), START_NS)
    with pytest.raises(RefusedError, match="supervisor/success"):
        session.judge("success", START_NS)
    with pytest.raises(RefusedError, match="cancel its goal"):
        session.rerecord(START_NS)
    session.discard(START_NS)
    session.stop(START_NS + 1)
    record = closed(session)["e1"]
    assert record.discarded and record.termination_reason == "stopped"
