"""The recorder's MCAP files in the eyes of readers that are not ours, as Foxglove's is not.

Foxglove opens an MCAP file that has, for each channel, a `ros2msg` schema with the text of all
messages inside, and bodies in `cdr`. `mcap` is the reader of Foxglove's own format library.
`rosbags` parses the schemas and decodes the bodies by nothing but them, in a store that knows no
message at all. `foxglove-sdk` would add nothing: it writes MCAP files and reads none.
"""

import re
from collections import Counter

import numpy as np
import pytest
from mcap.reader import make_reader
from rclpy.serialization import serialize_message
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from test_layouts import TOPICS, type_name

import rewact_ros.msg
from rewact_ros.data.bags.episode_file import EpisodeRecord
from rewact_ros.data.bags.message_types import message_type
from rewact_ros.data.bags.metadata import BagTopic
from rewact_ros.data.bags.writer import BagWriter, WriterSettings
from rewact_ros.msg import ControlStatus, Reward, Timing
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.images import image_message

START_NS = 1_700_000_000_000_000_000
NAMED = re.compile(r"(?:^=+\nMSG: (\S+)\n)?(.*?)(?=^=+\nMSG: |\Z)", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z]\w*", re.MULTILINE)
BASIC = re.compile(r"(bool|byte|char|float32|float64|u?int(8|16|32|64)|w?string)")

# Every topic that a layout may show, and every message type of ours.
KINDS = TOPICS | {
    f"/own/{name}": kind
    for name, kind in vars(rewact_ros.msg).items()
    if hasattr(kind, "get_fields_and_field_types")
}


def example(topic, kind):
    """A message that is not empty, where that matters to a reader: texts, lists, pictures.

    ROS pads after an empty list of doubles, which rosbags takes for too long a message.
    """
    if topic == "/front/image_raw":
        return image_message(
            np.arange(48, dtype=np.uint8).reshape(4, 4, 3), to_stamp(START_NS), "c"
        )
    if kind is ControlStatus:
        return ControlStatus(mode=1, reason="räumt auf", timings=[Timing(name="a", p50_ms=1.5)])
    if kind is Reward:
        return Reward(value=0.25, q10=float("nan"))
    message = kind()
    for field, of in kind.get_fields_and_field_types().items():
        if of == "sequence<double>":
            setattr(message, field, [0.5, -0.5])
    return message


@pytest.fixture(scope="module", params=["none", "zstd"])
def file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bag") / "episode"
    folder.mkdir()
    record = EpisodeRecord("episode", task="pick", started_ns=START_NS)
    writer = BagWriter(
        folder, record.text(), "robot: any\n", WriterSettings(compression=request.param)
    )
    for topic, kind in KINDS.items():
        writer.add_topic(BagTopic(topic, message_type(type_name(kind)), ()))
    for i in range(3):
        for topic, kind in KINDS.items():
            at_ns = START_NS + i * 50_000_000
            writer.write(topic, at_ns, at_ns, i, serialize_message(example(topic, kind)))
    writer.close(record.text())
    (found,) = folder.glob("*.mcap")
    return found


def definitions(text, of):
    """Definitions in a concatenated schema, by `package/Name`."""
    found = {}
    for match in NAMED.finditer(text):
        if match[0]:
            name = match[1] or of.replace("/msg/", "/")
            assert name not in found, f"{of}: {name} is there twice"
            found[name] = re.sub(r"#.*", "", match[2])
    return found


def test_every_channel_is_what_foxglove_decodes(file):
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        topics = {channel.topic for channel in summary.channels.values()}
        assert topics == set(KINDS)
        for channel in summary.channels.values():
            schema = summary.schemas[channel.schema_id]
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            assert schema.name == type_name(KINDS[channel.topic])
            text = schema.data.decode()
            assert all(line == "=" * 80 for line in re.findall(r"^==+$", text, re.MULTILINE))
            defined = definitions(text, schema.name)
            for name, body in defined.items():
                for kind in FIELD.findall(body):
                    if not BASIC.fullmatch(kind):
                        full = kind if "/" in kind else f"{name.split('/')[0]}/{kind}"
                        assert full.replace("/msg/", "/") in defined, f"{schema.name}: {kind}"


def test_every_message_decodes_by_the_schema_in_the_file_alone(file):
    counts = Counter()
    with file.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            store = get_typestore(Stores.EMPTY)
            store.register(get_types_from_msg(schema.data.decode(), schema.name))
            body = store.deserialize_cdr(message.data, schema.name)
            # Written anew it is as long, so that no byte was left over; padding may hold anything.
            assert len(store.serialize_cdr(body, schema.name)) == len(message.data)
            counts[channel.topic] += 1
            if channel.topic == "/rewact/control_status":
                assert (body.reason, body.timings[0].p50_ms) == ("räumt auf", 1.5)
            if channel.topic == "/rewact/reward":
                assert body.value == 0.25 and np.isnan(body.q10)
    assert counts == dict.fromkeys(KINDS, 3)


def test_the_index_finds_any_moment_of_any_topic(file):
    """Foxglove seeks by the summary: chunk indexes, statistics, and times in order."""
    with file.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary.chunk_indexes and summary.statistics.message_count == 3 * len(KINDS)
        assert summary.statistics.message_start_time == START_NS
        later = START_NS + 50_000_000
        found = [m for *_, m in reader.iter_messages(["/rewact/reward"], starting_at=later)]
        assert [m.log_time for m in found] == [later, later + 50_000_000]
