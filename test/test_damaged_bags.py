"""Damaged, foreign and hostile recordings: read right, mended, or refused by name; never more."""

import random
import re
import resource
import shutil
import sqlite3
import struct
from contextlib import closing

import lz4.frame
import pytest
import zstandard
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from test_bag_writer import START_NS, TOPICS, as_tuples, bag_topic, messages, write_bag
from typer.testing import CliRunner

from rewact_ros.cli.bag import bag as bag_command
from rewact_ros.data.bags.episode_file import (
    EPISODE_FILE,
    EpisodeFileError,
    read_episode,
)
from rewact_ros.data.bags.episode_labels import label_episode
from rewact_ros.data.bags.mcap_scan import scan
from rewact_ros.data.bags.reader import Bag, BagError, typestore
from rewact_ros.data.bags.recorder import BagRecorder, RecordingSettings
from rewact_ros.data.bags.recovery import Recovered, recover_all
from rewact_ros.data.bags.writer import WriterSettings

GIVEN = list(messages(150))
WHOLE = as_tuples(GIVEN)
SPLIT = WriterSettings(max_file_bytes=700_000)


def read(path):
    """(topic, time, image bytes or body's text) of all messages."""
    with Bag(path) as bag:
        return [(m.topic, m.logged_ns) for m in bag.messages(TOPICS)]


def stock_bag(folder, plugin=StoragePlugin.MCAP, compression=None, given=GIVEN):
    """As another recorder writes it: rosbags' writer, without checksums and episode.json."""
    writer = Writer(folder, version=9, storage_plugin=plugin)
    if compression is not None:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    connections, store = {}, typestore()
    with writer:
        for m in given:
            if m.topic not in connections:
                type_name = bag_topic(m.topic).type.name
                connections[m.topic] = writer.add_connection(m.topic, type_name, typestore=store)
            writer.write(connections[m.topic], m.log_ns, m.data)
    return folder


def rewritten(source, target, **options):
    """The messages of an .mcap file by the mcap library, written in another way."""
    with open(source, "rb") as file, open(target, "wb") as out:
        writer = McapWriter(out, **options)
        writer.start(profile="ros2", library="test")
        schemas, channels = {}, {}
        for schema, channel, message in make_reader(file).iter_messages():
            if schema.id not in schemas:
                schemas[schema.id] = writer.register_schema(
                    schema.name, schema.encoding, schema.data
                )
            if channel.id not in channels:
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, schemas[schema.id], channel.metadata
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time
            )
        writer.finish()
    return target


NOTHING = {
    "index_types": IndexType.NONE,
    "use_summary_offsets": False,
    "repeat_channels": False,
    "repeat_schemas": False,
    "use_statistics": False,
}
FOREIGN = {
    "no index": NOTHING,
    "no chunks, no index": {**NOTHING, "use_chunking": False},
    "no chunks": {"use_chunking": False},
    "lz4": {"compression": CompressionType.LZ4},
    "zstd": {"compression": CompressionType.ZSTD},
    "large chunks": {"chunk_size": 1 << 24},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_writer_gives_every_message_in_order(tmp_path, kind):
    folder = write_bag(tmp_path / "ep", GIVEN)
    path = rewritten(folder / "ep_0.mcap", tmp_path / "other.mcap", **FOREIGN[kind])
    assert read(path) == [m[:2] for m in WHOLE]


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_a_compressed_stock_recording_gives_every_message(tmp_path, plugin, mode):
    assert read(stock_bag(tmp_path / "stock", plugin, mode)) == [m[:2] for m in WHOLE]


def test_messages_of_overlapping_chunks_and_swapped_files_come_in_order(tmp_path):
    folder = write_bag(tmp_path / "ep", GIVEN, SPLIT)
    metadata = (folder / "metadata.yaml").read_text()
    names = sorted(path.name for path in folder.glob("*.mcap"))
    assert len(names) > 1
    swapped = metadata.replace(f"- {names[0]}", "- x").replace(f"- {names[-1]}", f"- {names[0]}")
    (folder / "metadata.yaml").write_text(swapped.replace("- x", f"- {names[-1]}"))
    assert read(folder) == [m[:2] for m in WHOLE]
    with open(folder / "apart.mcap", "wb") as file:  # every topic in chunks of its own
        writer = McapWriter(file, chunk_size=1 << 18)
        writer.start(profile="ros2")
        for topic in TOPICS:
            type_ = bag_topic(topic).type
            schema = writer.register_schema(type_.name, "ros2msg", type_.definition.encode())
            channel = writer.register_channel(topic, "cdr", schema)
            for m in GIVEN:
                if m.topic == topic:
                    writer.add_message(channel, m.log_ns, m.data, m.publish_ns)
            writer.flush()
        writer.finish()
    assert read(folder / "apart.mcap") == [m[:2] for m in WHOLE]


# Damage, what we say, and what comes of doing it ------------------------------------------------


def _edit(old, new):
    def act(folder):
        path = folder / "metadata.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return act


def _metadata(text):
    return lambda folder: (folder / "metadata.yaml").write_text(text)


def _files(folder):
    return sorted(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))


def _cut(index, share):
    def act(folder):
        path = _files(folder)[index]
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return act


def _zero(index, first, last):
    def act(folder):
        path = _files(folder)[index]
        data = bytearray(path.read_bytes())
        a, b = int(first * len(data)), int(last * len(data))
        data[a:b] = bytes(b - a)
        path.write_bytes(data)

    return act


def _flip_in_chunk(folder):
    path = _files(folder)[0]
    data = bytearray(path.read_bytes())
    data[scan(path).chunks[1].data_start + 5000] ^= 1
    path.write_bytes(data)


def _flip_opcode(folder):
    path = _files(folder)[0]
    data = bytearray(path.read_bytes())
    data[scan(path).chunks[1].start] ^= 0x80  # a private record, which readers pass over
    path.write_bytes(data)


def _flip_length(folder):
    path = _files(folder)[0]
    data = bytearray(path.read_bytes())
    data[scan(path).chunks[1].start + 5] ^= 1
    path.write_bytes(data)


def _spoil_index(folder):
    path = _files(folder)[0]
    data = bytearray(path.read_bytes())
    data[next(iter(scan(path).chunks[0].offsets.values()))] = 0x55
    path.write_bytes(data)


def _copy(folder):
    shutil.copy(_files(folder)[0], folder / "copy of it.mcap")


def _remove(folder):
    _files(folder)[1].unlink()


def _episode(text):
    return lambda folder: (folder / EPISODE_FILE).write_text(text)


# Name → (what happens to a recording in several files, least share of messages that must be left).
DAMAGES = {
    "storage_identifier empty": (_edit("storage_identifier: mcap", "storage_identifier: ''"), 1),
    "storage_identifier of another": (_edit("identifier: mcap", "identifier: sqlite3"), 1),
    "newer version": (_edit("version: 9", "version: 99"), 1),
    "metadata empty": (_metadata(""), 1),
    "metadata of zeros": (_metadata("\0" * 4096), 1),
    "metadata cut off": (_metadata("rosbag2_bagfile_information:\n  version: 9\n"), 1),
    "metadata no mapping": (_metadata("- 1\n- 2\n"), 1),
    "metadata a bomb": (
        _metadata("a: &a [x, x]\nb: &b [*a, *a]\nrosbag2_bagfile_information: *b\n"),
        1,
    ),
    "metadata nested": (_metadata("[" * 20_000), 1),
    "metadata with a tag": (_metadata("!!python/object/apply:os.getcwd []"), 1),
    "metadata gone": (lambda folder: (folder / "metadata.yaml").unlink(), 1),
    "metadata lists a stranger": (_edit("- ep_0.mcap", "- ep_0.mcap\n  - other.mcap"), 1),
    "metadata lists a path": (_edit("- ep_0.mcap", "- /etc/ep_0.mcap"), 1),
    "renamed by hand": (lambda f: (f / "ep_0.mcap").rename(f / "renamed_0.mcap"), 1),
    "a file not listed": (_edit("- ep_1.mcap\n", ""), 1),
    "a file gone": (_remove, 0.3),
    "first file cut": (_cut(0, 0.6), 0.6),
    "last file cut": (_cut(-1, 0.5), 0.6),
    "cut within the header": (_cut(0, 0.0001), 0.3),
    "an empty file": (_cut(0, 0), 0.3),
    "footer lost": (_cut(0, 0.9999), 1),
    "zeros in the middle": (_zero(0, 0.4, 0.45), 0.6),
    "zeros at the beginning": (_zero(0, 0, 0.0003), 0.6),
    "zeros at the end": (_zero(-1, 0.98, 1), 0.6),
    "a bit in a chunk": (_flip_in_chunk, 0.6),
    "a bit in an opcode": (_flip_opcode, 0.6),
    "a bit in a length": (_flip_length, 0.6),
    "an index spoiled": (_spoil_index, 1),
    "episode.json empty": (_episode(""), 1),
    "episode.json of zeros": (_episode("\0" * 400), 1),
    "episode.json nested": (_episode('{"format": 1, "task": ' + "[" * 90_000), 1),
    "episode.json of kinds": (_episode('{"format": 1, "episode_id": 3}'), 1),
    "episode.json counts": (
        _episode('{"format": 1, "episode_id": "ep", "topics": {"/a": {"received": "x"}}}'),
        1,
    ),
    "episode without an end": (_episode('{"format": 1, "episode_id": "ep"}'), 1),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recording in several files of several chunks; nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rewact_ros.data.bags.writer.CHUNK_BYTES", 100_000)
        folder = write_bag(tmp_path_factory.mktemp("whole") / "ep", GIVEN, SPLIT)
    assert len(_files(folder)) > 1 and len(scan(folder / "ep_0.mcap").chunks) > 4
    return folder


def advice(text):
    """The command that a message tells us to run: its arguments behind `rewact bag`."""
    return re.search(r"`rewact bag ([^`]*)`", text)[1].split(" ", 1)


def look(folder):
    """Read a recording and its episode as commands do; returns (messages, what was refused)."""
    try:
        read_episode(folder)
        return read(folder), ""
    except (BagError, EpisodeFileError) as error:
        return [], str(error)


@pytest.mark.parametrize("name", DAMAGES)
def test_doing_as_the_message_says_ends_well(tmp_path, whole, name):
    folder = tmp_path / "ep"
    shutil.copytree(whole, folder)
    damage, least = DAMAGES[name]
    damage(folder)
    found, why = look(folder)
    if why:
        assert str(folder) in why
        command, place = advice(why)
        done = CliRunner().invoke(bag_command, [command, place])
        assert done.exit_code == 0, done.output
        found, why = look(folder)
        assert not why
        assert recover_all(tmp_path) == []  # nothing is left to mend
        judged = label_episode(folder, "success", "ada")
        assert judged.outcome == "success"
        others = []
        for path in _files(folder):  # other readers get the same
            with open(path, "rb") as file:
                reader = make_reader(file, validate_crcs=True)
                others += [(c.topic, m.log_time) for _, c, m in reader.iter_messages()]
        assert sorted(others, key=lambda m: m[1]) == found
    assert len(found) >= least * len(WHOLE)
    assert not set(found) - {m[:2] for m in WHOLE} and found == sorted(found, key=lambda m: m[1])


def test_recover_tells_a_folder_without_recordings_from_one_whose_recordings_are_whole(
    tmp_path, whole
):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    done = CliRunner().invoke(bag_command, ["recover", str(tmp_path / "empty")])
    assert done.exit_code == 2 and "no recording in it or directly below" in done.output
    shutil.copytree(whole, tmp_path / "bags" / "one")
    done = CliRunner().invoke(bag_command, ["recover", str(tmp_path / "bags")])
    assert done.exit_code == 0 and "every recording is whole" in done.output


def test_a_whole_recording_is_left_as_it_is(tmp_path, whole):
    folder = tmp_path / "ep"
    shutil.copytree(whole, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = CliRunner().invoke(bag_command, ["recover", str(folder)])
    assert done.exit_code == 0 and "150 messages" in done.output
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("at", ["length", "data"])
def test_the_first_chunk_does_not_take_the_definitions_of_all_others_with_it(tmp_path, whole, at):
    """Writers define a channel once, in the first chunk, and again in the summary."""
    file = tmp_path / "foreign.mcap"
    with open(whole / "ep_0.mcap", "rb") as source, open(file, "wb") as target:
        writer = McapWriter(target, chunk_size=20_000)
        writer.start("ros2")
        known = {}
        for schema, channel, message in make_reader(source).iter_messages():
            if channel.id not in known:
                made = writer.register_schema(schema.name, schema.encoding, schema.data)
                known[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, made, channel.metadata
                )
            writer.add_message(
                known[channel.id], message.log_time, message.data, message.publish_time
            )
        writer.finish()
    chunks, before = scan(file).chunks, scan(file).counts
    data = bytearray(file.read_bytes())
    place = chunks[0].start + 1 if at == "length" else chunks[0].data_start + 40
    data[place : place + 4] = b"\x07\x00\x00\x00"
    file.write_bytes(data)
    with pytest.raises(BagError, match="rewact bag recover"), Bag(file) as bag:
        list(bag.messages(TOPICS))
    done = CliRunner().invoke(bag_command, ["recover", str(file)])
    assert done.exit_code == 0, done.output
    gone = chunks[0].messages.total()
    assert len(chunks) > 3 and scan(file).counts.total() == before.total() - gone > 0


def test_a_copy_among_the_files_is_not_taken_for_more_messages(tmp_path, whole):
    folder = tmp_path / "ep"
    shutil.copytree(whole, folder)
    _copy(folder)
    with pytest.raises(BagError, match=r"does not list copy of it\.mcap; move it away"):
        read(folder)
    done = CliRunner().invoke(bag_command, ["recover", str(folder)])
    assert done.exit_code == 2 and "hold the same messages; move one" in done.output


def test_a_link_is_not_mended_through(tmp_path, whole):
    folder = tmp_path / "ep"
    shutil.copytree(whole, folder)
    outside = tmp_path / "precious.mcap"
    (folder / "ep_0.mcap").rename(outside)
    outside.write_bytes(outside.read_bytes()[:-100])
    (folder / "ep_0.mcap").symlink_to(outside)
    before = outside.read_bytes()
    done = CliRunner().invoke(bag_command, ["recover", str(folder)])
    assert done.exit_code == 2 and "is a link" in done.output
    assert outside.read_bytes() == before


def test_one_file_that_was_cut_off_is_mended_by_itself(tmp_path, whole):
    path = tmp_path / "alone.mcap"
    data = (whole / "ep_0.mcap").read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(BagError, match="cut off") as error:
        read(path)
    assert CliRunner().invoke(bag_command, advice(str(error.value))).exit_code == 0
    assert read(path) == [m[:2] for m in WHOLE][: len(read(path))]


@pytest.mark.parametrize("compression", [None, CompressionMode.STORAGE])
def test_of_a_chunk_that_was_cut_off_the_messages_before_the_cut_are_kept(tmp_path, compression):
    """A short recording of another recorder is one chunk, and would be lost as a whole."""
    folder = stock_bag(tmp_path / "stock", compression=compression, given=GIVEN[:60])
    path = next(folder.glob("*.mcap"))
    assert len(scan(path).chunks) == 1
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(BagError, match="cut off") as error:
        read(folder)
    assert CliRunner().invoke(bag_command, advice(str(error.value))).exit_code == 0
    found = read(folder)
    assert len(found) > 20 and found == [m[:2] for m in WHOLE][: len(found)]
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert [(c.topic, m.log_time) for _, c, m in reader.iter_messages()] == found


def test_an_sqlite_recording_without_metadata_is_mended(tmp_path):
    folder = stock_bag(tmp_path / "stock", StoragePlugin.SQLITE3)
    (folder / "metadata.yaml").write_text("")
    with pytest.raises(BagError, match=r"metadata\.yaml is damaged") as error:
        read(folder)
    assert CliRunner().invoke(bag_command, advice(str(error.value))).exit_code == 0
    assert read(folder) == [m[:2] for m in WHOLE]
    path = next(folder.glob("*.db3"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BagError) as error:
        read(folder)
    done = CliRunner().invoke(bag_command, advice(str(error.value)))
    assert done.exit_code == 0 or "copy it again" in done.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"#ROSBAG V2.0\n" + bytes(100), "ROS 1.*rosbags-convert"),
        (b"PK\x03\x04" + bytes(100), "expected an MCAP or sqlite3 file"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "copy it again"),
    ],
)
def test_what_is_no_recording_is_named(tmp_path, content, words):
    path = tmp_path / "x.mcap.active"
    path.write_bytes(content)
    with pytest.raises(BagError, match=words):
        read(path)


def test_a_file_is_told_by_its_content_whatever_its_name(tmp_path, whole):
    path = tmp_path / "recording.mcap.active"
    shutil.copy(whole / "ep_0.mcap", path)
    assert read(path) == read(whole / "ep_0.mcap")


# Bombs and lies ---------------------------------------------------------------------------------

BOMB = 1 << 29


def _chunk_file(path, compression, packed, size, crc=0, start_ns=0, end_ns=1 << 62):
    """An MCAP file of one chunk whose head claims `size`; closed, with statistics of nothing."""

    def record(opcode, body):
        return struct.pack("<BQ", opcode, len(body)) + body

    def text(words):
        return struct.pack("<I", len(words)) + words

    chunk = struct.pack("<QQQI", start_ns, end_ns, size, crc) + text(compression)
    chunk += struct.pack("<Q", len(packed)) + packed
    schema = struct.pack("<H", 1) + text(b"std_msgs/msg/Empty") + text(b"ros2msg") + text(b"")
    channel = struct.pack("<HH", 1, 1) + text(b"/joint_states") + text(b"cdr") + text(b"")
    index = struct.pack("<HI", 1, 16) + bytes(16)
    body = record(1, text(b"ros2") + text(b"")) + record(3, schema) + record(4, channel)
    body += record(6, chunk) + record(7, index) + record(15, bytes(4))
    path.write_bytes(b"\x89MCAP0\r\n" + body + record(2, bytes(20)) + b"\x89MCAP0\r\n")
    return path


def _zeros(compressor, n=BOMB):
    block = bytes(1 << 20)
    return b"".join([*(compressor.compress(block) for _ in range(n >> 20)), compressor.flush()])


def _zstd_bomb(sized):
    options = {"size": BOMB} if sized else {}
    return _zeros(zstandard.ZstdCompressor().compressobj(**options))


def _lz4_bomb():
    compressor = lz4.frame.LZ4FrameCompressor()
    return compressor.begin() + _zeros(compressor)


@pytest.mark.parametrize("kind", ["zstd", "zstd unsized", "lz4", "none"])
def test_a_chunk_that_lies_about_its_size_takes_no_memory(tmp_path, kind):
    packed = {
        "zstd": lambda: _zstd_bomb(True),
        "zstd unsized": lambda: _zstd_bomb(False),
        "lz4": _lz4_bomb,
        "none": lambda: bytes(2000),
    }[kind]()
    compression = b"" if kind == "none" else kind.split()[0].encode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for claimed in (1000, BOMB, (1 << 63) + 5):
        path = _chunk_file(tmp_path / "bomb.mcap", compression, packed, claimed)
        with pytest.raises(BagError, match=r"bomb\.mcap: .*decompress"), Bag(path) as bag:
            list(bag.messages(["/joint_states"]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_a_message_that_is_a_bomb_is_refused(tmp_path):
    folder = stock_bag(tmp_path / "stock", given=GIVEN[:3], compression=CompressionMode.MESSAGE)
    path = next(folder.glob("*.mcap"))
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start(profile="ros2")
        type_ = bag_topic("/joint_states").type
        schema = writer.register_schema(type_.name, "ros2msg", type_.definition.encode())
        channel = writer.register_channel("/joint_states", "cdr", schema)
        writer.add_message(channel, START_NS, _zstd_bomb(True), START_NS)
        writer.finish()
    with pytest.raises(BagError, match="a message of /joint_states: claims"):
        read(folder)


def _joints(*parts):
    header = struct.pack("<iII", 0, 0, 1) + b"\0" + bytes(3)
    return b"\0\x01\0\0" + header + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_joints(struct.pack("<I", 0xFFFFFFFF)), "does not decode"),
        (_joints(struct.pack("<II", 1, 0x7FFFFFFF), b"abc"), "does not decode"),
        (_joints(struct.pack("<II", 0, 0x10000000)), "does not decode"),
        (b"\0\x01\0\0", "does not decode"),
        (b"", "begin with"),
        (b"\0\x07\0\0" + bytes(60), "no plain CDR"),
        (_joints(struct.pack("<I", 1_000_000), b"\x01\0\0\0\0\0\0\0" * (9 << 17)), "are no sensor"),
    ],
)
def test_a_message_that_lies_about_its_lengths_is_refused(tmp_path, data, words):
    type_ = bag_topic("/joint_states").type
    path = _defined_as(tmp_path / "lies.mcap", type_.name, type_.definition, data)
    with pytest.raises(BagError, match=f"a message of /it .*{words}"), Bag(path) as bag:
        list(bag.messages(["/it"]))


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("string[1000000000] name\n", "1000000000 items"),
        ("float64[] position\n", "has no field"),
        ("std_msgs/Header header\nstring name\nfloat64[] position\n", "another kind of field"),
        ("JointState joints\n", "no field|damaged"),
        ("Nowhere thing\n", "no field|damaged"),
        ("%$!\n", "damaged"),
        ("x" * 300_000, "300000 bytes"),
    ],
)
def test_a_hostile_definition_makes_no_code(tmp_path, definition, words):
    name = "sensor_msgs/msg/JointState"
    path = _defined_as(tmp_path / "x.mcap", name, definition, GIVEN[1].data)
    with pytest.raises(BagError, match=f"topic /it: .*({words})"), Bag(path) as bag:
        list(bag.messages(["/it"]))


def _defined_as(path, type_name, definition, data):
    """A file with one message of a type as another version of its package defined it."""
    with open(path, "wb") as file:
        writer = McapWriter(file)
        writer.start(profile="ros2")
        schema = writer.register_schema(type_name, "ros2msg", definition.encode())
        channel = writer.register_channel("/it", "cdr", schema)
        writer.add_message(channel, START_NS, data, START_NS)
        writer.finish()
    return path


def test_a_recording_of_an_older_version_of_ours_is_read_unless_it_lacks_what_we_read(tmp_path):
    text = b"\x03\0\0\0e1\0"
    head = "builtin_interfaces/Time stamp\nuint32 more\n"
    old = f"{head}string a\nstring policy_version\n"
    name = "rewact_ros/msg/PolicyStatus"  # of which nothing is read, so that it may lack all
    data = b"\0\1\0\0" + bytes(12) + b"\1\0\0\0\0\0\0\0" + text
    with Bag(_defined_as(tmp_path / "old.mcap", name, old, data)) as bag:
        (message,) = bag.messages(["/it"])
    assert message.body.policy_version == "e1"
    reward = _defined_as(tmp_path / "odd.mcap", "rewact_ros/msg/Reward", "float32 value\n", data)
    with (
        pytest.raises(BagError, match="no field 'header'; read it with the version"),
        Bag(reward) as bag,
    ):
        list(bag.messages(["/it"]))


def test_a_database_that_computes_for_ever_is_refused(tmp_path):
    path = tmp_path / "x.db3"
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type, serialization_format)"
        )
        database.execute(
            "CREATE VIEW messages AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 "
            "FROM n) SELECT id, 1 AS topic_id, id AS timestamp, zeroblob(1e9) AS data FROM n"
        )
        database.commit()
    with pytest.raises(BagError, match="no tables"):
        read(path)


# At random --------------------------------------------------------------------------------------


def spoil(draw, data):
    """One of the ways in which disks, copies and people spoil a file."""
    data, n = bytearray(data), len(data)
    if not n:
        return bytes(data)
    a = draw.randrange(n)
    b = min(n, a + draw.choice((1, 8, 100, 4096, 100_000)))
    kind = draw.randrange(7)
    if kind == 0:
        del data[a:]
    elif kind == 1:
        for _ in range(draw.choice((1, 5, 50))):
            data[draw.randrange(n)] ^= 1 << draw.randrange(8)
    elif kind == 2:
        data[a:b] = bytes(b - a)
    elif kind == 3:
        data[a:a] = data[a:b]
    elif kind == 4:
        del data[a:b]
    elif kind == 5:
        data[a:b] = draw.randbytes(b - a)
    else:
        data[-(b - a) :] = b"\xff" * min(b - a, n)
    return bytes(data)


def survive(folder, original):
    """Everything that reads recordings: a right result, or one of our own errors."""
    look(folder)
    for path in folder.iterdir():
        if path.suffix in (".mcap", ".db3"):
            try:
                with Bag(path) as bag:
                    list(bag.messages(TOPICS))
            except BagError:
                pass
    command = CliRunner()
    for words in (["info"], ["label", "--outcome", "failure"], ["recover"], ["prune", "--yes"]):
        done = command.invoke(bag_command, [*words, str(folder)])
        assert done.exception is None or isinstance(done.exception, SystemExit | ValueError), (
            words,
            done.exception,
        )
    found, why = look(folder)
    if not why:
        checked = set(found) - original
        assert not checked or not (folder / EPISODE_FILE).exists()  # without checksums, times lie


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_gives_anything_but_a_named_error(tmp_path, whole, seed):
    draw = random.Random(seed)
    sources = [whole]
    if seed % 4 == 0:
        sources = [stock_bag(tmp_path / "stock")]
    elif seed % 4 == 1:
        sources = [stock_bag(tmp_path / "stock", StoragePlugin.SQLITE3)]
    elif seed % 4 == 2:
        sources = [write_bag(tmp_path / "zstd", GIVEN, WriterSettings(compression="zstd"))]
    for turn in range(2):
        folder = tmp_path / f"bags-{turn}" / "ep"
        shutil.copytree(sources[0], folder)
        chosen = draw.choice(sorted(folder.iterdir()))
        chosen.write_bytes(spoil(draw, chosen.read_bytes()))
        survive(folder, {m[:2] for m in WHOLE})


def test_no_damaged_recording_ends_the_recorder(tmp_path, whole):
    draw = random.Random(1)
    for turn in range(5):
        folder = tmp_path / f"ep-{turn}"
        shutil.copytree(whole, folder)
        for path in sorted(folder.iterdir()):
            path.write_bytes(spoil(draw, path.read_bytes()))
    recording = BagRecorder(RecordingSettings(tmp_path, min_free_bytes=0))
    for turn in range(5):
        recording.label(tmp_path / f"ep-{turn}", "success", "ada")
    recording.close()
    assert all(note.text for note in recording.notes)
    assert all(isinstance(found, Recovered | ValueError) for found in recover_all(tmp_path))
