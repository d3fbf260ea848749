"""The table of what is fuzzed: every reader of a stranger's files or messages is a row."""

import asyncio
import json
import shutil
import sqlite3
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import mutations as spoil
import numpy as np
import pytest
import zstandard
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from conftest import G1, ROOT, VX300S, write_policy
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rclpy.serialization import deserialize_message
from run import Target

from rewact_ros import strict_yaml
from rewact_ros.console.jog import HeldKeys
from rewact_ros.console.requests import body, text
from rewact_ros.console.sessions import Sessions
from rewact_ros.console.stream import MESSAGE_BYTES, Looking, Stream
from rewact_ros.contract import (
    ActionPart,
    Camera,
    Contract,
    ContractError,
    SampleError,
    StatePart,
    load_contract,
    parse_contract,
)
from rewact_ros.contract.schema import STATE_KEY
from rewact_ros.contract.urdf import read_urdf_file
from rewact_ros.control.chunks import COMBINE, ChunkError, ChunkQueue
from rewact_ros.data.bags.episode_file import EPISODE_FILE, EpisodeFileError, read_episode
from rewact_ros.data.bags.folder import METADATA_FILE
from rewact_ros.data.bags.mcap_records import CHUNK_HEAD, HEADER, MAGIC
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.bags.recovery import RecoveryError, recover_bag
from rewact_ros.data.dataset.info import DatasetError, read_info
from rewact_ros.data.labels.frames import frame_labels_file, read_frame_labels
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import CheckpointError
from rewact_ros.reward.judge_check import JudgeCheck
from rewact_ros.reward.keypoints import LabelError, keypoint_curve
from rewact_ros.reward.label_file import read_label_file
from rewact_ros.ros.chunk_messages import ChunkWriter
from rewact_ros.ros.chunk_reader import read_chunk
from rewact_ros.ros.commands import command_decoder, command_encoder
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.images import camera_message, camera_sample
from rewact_ros.ros.states import state_message, state_sample
from rewact_ros.supervision.calibration import (
    Basis,
    Bound,
    Calibration,
    CalibrationError,
    CalibrationSettings,
    Groups,
    load_calibration,
)
from rewact_ros.supervision.signals import FeatureDistance, SignalSettings

NOW_NS = 1_700_000_000_000_000_000
STAMP = to_stamp(NOW_NS)
Prepared = tuple[SearchStrategy[bytes], Callable[[bytes], object]]


def _file(
    name: str, cases: SearchStrategy[bytes], read: Callable[[Path], object]
) -> Callable[[Path], Prepared]:
    """A target that is one file."""

    def prepare(folder: Path) -> Prepared:
        def read_bytes(data: bytes) -> object:
            (folder / name).write_bytes(data)
            return read(folder / name)

        return cases, read_bytes

    return prepare


# Contracts and robot models -------------------------------------------------------------------

_ROBOTS = sorted((ROOT / "config" / "robots").glob("*.yaml"))


def _contract(folder: Path) -> Prepared:
    texts = [path.read_bytes() for path in _ROBOTS]
    cases = spoil.spoilt_yaml([strict_yaml.load(path) for path in _ROBOTS], texts)
    return _file("robot.yaml", cases, lambda path: load_contract(path).signature())(folder)


def _recorded_contract(folder: Path) -> Prepared:
    """As recordings carry it: JSON, with folders of their own."""
    cases = spoil.spoilt_json([strict_yaml.load(path) for path in _ROBOTS])

    def read(data: bytes) -> None:
        parse_contract(strict_yaml.parse_json(data.decode("utf-8", "replace")), folder).signature()

    return cases, read


URDF = b"""<?xml version="1.0"?><robot name="arm">
<link name="base"/><link name="upper"/><link name="tool"/><link name="jaw"/>
<joint name="waist" type="revolute"><parent link="base"/><child link="upper"/>
<limit lower="-3.1" upper="3.1" velocity="2" effort="1"/></joint>
<joint name="lift" type="prismatic"><parent link="upper"/><child link="tool"/>
<limit lower="0" upper="0.4" velocity="0.2"/></joint>
<joint name="turn" type="continuous"><parent link="tool"/><child link="jaw"/>
<mimic joint="waist"/><limit velocity="1e3"/></joint></robot>
"""
BOMB = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><robot name="&b;"/>'


# Checkpoints ----------------------------------------------------------------------------------


def _checkpoint(name: str) -> Callable[[Path], Prepared]:
    """A small policy's folder of which one file is another."""

    def prepare(folder: Path) -> Prepared:
        whole = _policy(folder.parent)
        copy = shutil.copytree(whole, folder / "policy")
        (file,) = copy.glob(name)
        data = file.read_bytes()
        if file.suffix == ".json":
            cases = spoil.spoilt_json([json.loads(data)])
        else:
            size = 8 + int.from_bytes(data[:8], "little")
            header, tensors = json.loads(data[8:size]), data[size:]
            cases = spoil.spoilt_bytes([data]) | spoil.spoilt_json([header]).map(
                lambda said: len(said).to_bytes(8, "little") + said + tensors
            )

        def read(data: bytes) -> object:
            file.write_bytes(data)
            return load_policy(copy, "cpu").reward_hash

        return cases, read

    return prepare


def _policy(beside: Path) -> Path:
    """The policy that all targets of checkpoints spoil, written once."""
    folder = beside / "tiny"
    return folder if folder.exists() else write_policy(load_contract(VX300S), folder)


# Recordings -----------------------------------------------------------------------------------


def _recording(folder: Path, close: bool = True) -> Path:
    from test_bag_writer import messages, write_bag

    return write_bag(folder, messages(30, image_bytes=300), close=close)


def _read_bag(path: Path) -> None:
    with Bag(path) as bag:
        for _ in bag.messages(bag.topics):
            pass
        for topic in bag.topics:
            bag.times(topic)
        bag.rewards()
    with Bag(path, sparse=True) as bag:
        for _ in bag.messages(bag.topics):
            pass


def _mcap(folder: Path) -> Prepared:
    whole = _recording(folder / "ep")
    seeds = [next(whole.glob("*.mcap")).read_bytes()]
    for compression in (CompressionType.LZ4, CompressionType.ZSTD, CompressionType.NONE):
        other = folder / "other.mcap"
        with open(other, "wb") as out:
            writer = McapWriter(out, chunk_size=400, compression=compression)
            writer.start("ros2")
            schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
            channel = writer.register_channel("/said", "cdr", schema)
            for k in range(20):
                said = b"\0\1\0\0\6\0\0\0hello\0"
                writer.add_message(channel, NOW_NS + k, said, NOW_NS + k)
            writer.finish()
        seeds.append(other.read_bytes())
    return _file("one.mcap", spoil.spoilt_bytes(seeds), _read_bag)(folder)


def _hostile_mcap() -> list[bytes]:
    """Chunks whose channel nothing defines, one that claims a terabyte, and one that has much."""

    def record(opcode: int, content: bytes) -> bytes:
        return HEADER.pack(opcode, len(content)) + content

    def chunk(size: int, compression: bytes, data: bytes) -> bytes:
        head = CHUNK_HEAD.pack(NOW_NS, NOW_NS, size, 0) + struct.pack("<I", len(compression))
        return record(6, head + compression + struct.pack("<Q", len(data)) + data)

    index = record(7, struct.pack("<HI", 1, 16) + struct.pack("<QQ", NOW_NS, 0))
    begin, end = MAGIC + record(1, bytes(8)), record(15, bytes(4)) + record(2, bytes(20)) + MAGIC
    much = zstandard.ZstdCompressor().compress(bytes(200 << 20))
    return [
        begin + (chunk(0, b"", b"") + index) * 20_000 + end,
        begin + chunk(1 << 40, b"zstd", much) + end,
        begin + chunk(200 << 20, b"zstd", much) + end,
        begin + HEADER.pack(3, 1 << 40),
    ]


def _recovered(folder: Path) -> Prepared:
    closed, killed = _recording(folder / "ep"), _recording(folder / "ep2", close=False)
    seeds = [next(path.glob("*.mcap")).read_bytes() for path in (closed, killed)]
    kept = {path.name: path.read_bytes() for path in closed.iterdir()}

    def read(data: bytes) -> None:
        place = folder / "mended"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in kept.items():
            (place / name).write_bytes(data if name.endswith(".mcap") else content)
        recover_bag(place)
        if any(path.suffix == ".mcap" for path in place.iterdir()):
            _read_bag(place)

    return spoil.spoilt_bytes(seeds), read


def _beside_bag(name: str, read: Callable[[Path], object]) -> Callable[[Path], Prepared]:
    """A document in the folder of a whole recording."""

    def prepare(folder: Path) -> Prepared:
        whole = _recording(folder / "ep")
        written = whole / name
        load = strict_yaml.load_json if name.endswith(".json") else strict_yaml.load
        make = spoil.spoilt_json if name.endswith(".json") else spoil.spoilt_yaml
        cases = make([load(written)])

        def read_bytes(data: bytes) -> object:
            written.write_bytes(data)
            return read(whole)

        return cases, read_bytes

    return prepare


def _read_recorded_episode(folder: Path) -> None:
    record = read_episode(folder)
    if record.contract is not None:
        parse_contract(record.contract)
    record.text().encode()


def _sqlite(folder: Path) -> Prepared:
    path = folder / "seed.db3"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "PRAGMA page_size = 512;"
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,"
            " serialization_format TEXT, offered_qos_profiles TEXT);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,"
            " data BLOB);"
            "INSERT INTO topics VALUES(1, '/said', 'std_msgs/msg/String', 'cdr', '');"
        )
        said = b"\0\1\0\0\6\0\0\0hello\0"
        rows = [(k, 1, NOW_NS + k, said) for k in range(10)]
        database.executemany("INSERT INTO messages VALUES(?, ?, ?, ?)", rows)
        database.commit()
    return _file("one.db3", spoil.spoilt_bytes([path.read_bytes()]), _read_bag)(folder)


# Labels, data sets, calibrations --------------------------------------------------------------

LENGTHS = {0: 120, 1: 80, 2: 60}
OWN_LABELS = {
    "interpolation": "pchip",
    "milestones": {"grasped": 0.4, "lifted": 0.7, "placed": 1.0},
    "subtasks": {"reach": 0.3, "carry": 0.7},
    "episodes": {
        "0": {"start": 3, "grasped": 30, "failure": [50], "lifted": "3.5s", "placed": 110},
        "1": {"subtasks": {"reach": [0, 30], "carry": ["1.5s", 70]}},
        "2": "ramp",
    },
}
PUBLIC_LABELS = {
    "0": {"keypoints": [{"frame_index": 3, "reward": 0.2}, {"timestamp": 2, "reward": 1}]},
    "1": {"10": 0.3, "70": 1.0},
    "2": {"keypoints": [{"frame_index": 20, "timestamp": 1.0, "reward": 0.5}], "fps": 20},
}


def _read_labels(path: Path) -> None:
    for index, plan in read_label_file(path, 20.0, LENGTHS).episodes.items():
        if plan.keypoints:
            keypoint_curve(LENGTHS[index], plan.keypoints)


def _frame_labels(folder: Path) -> Prepared:
    """In a data set of which nothing but the lengths is read."""
    from types import SimpleNamespace

    file = frame_labels_file(folder)
    file.parent.mkdir()
    document = {
        "format": 1,
        "episodes": {"0": {"success": [[80, 116]], "fail": [[0, 76]]}, "2": {"fail": [[3, 5]]}},
    }

    def read(data: bytes) -> None:
        file.write_bytes(data)
        with pytest.MonkeyPatch.context() as patch:
            opened = SimpleNamespace(lengths=LENGTHS)
            patch.setattr("rewact_ros.data.labels.frames.open_labelled", lambda root: opened)
            read_frame_labels(folder, 0)

    return spoil.spoilt_json([document]), read


def _dataset(folder: Path) -> Prepared:
    info = {
        "codebase_version": "v3.0", "robot_type": "arm", "total_episodes": 3, "total_frames": 260,
        "total_tasks": 1, "chunks_size": 1000, "data_files_size_in_mb": 100, "fps": 20,
        "video_files_size_in_mb": 500, "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [2], "names": ["a", "b"]},
            "action": {"dtype": "float32", "shape": [2], "names": ["a", "b"]},
            "observation.images.front": {"dtype": "video", "shape": [96, 96, 3],
                                         "names": ["height", "width", "channels"]},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        },
    }  # fmt: skip
    (folder / "meta").mkdir()

    def read(data: bytes) -> object:
        (folder / "meta" / "info.json").write_bytes(data)
        return read_info(folder)

    return spoil.spoilt_json([info]), read


def _calibration(folder: Path) -> Prepared:
    whole = folder / "whole.json"
    Calibration(
        completion=Bound(0.05, 100, 96, 0.835),
        alarms={name: Bound(1 / 60, 59, 59, 2.5) for name in ("stall", "drawdown", "novelty")},
        distance=FeatureDistance(np.zeros(3, np.float32), np.eye(3, dtype=np.float32)),
        signals=SignalSettings(),
        basis=Basis("reward", "policy", "contract", ("front", "wrist"), 20.0, 20.0),
        settings=CalibrationSettings(),
        episodes=100,
        successes=59,
        recognised=50,
        judge=JudgeCheck(59, 41, 0.9, 0.8, 0.95, 0.6, 0.1),
        groups=Groups("task", {"pick": 60}, {"pick": Bound(0.05, 60, 59, 0.9)}),
    ).save(whole)
    load_calibration(whole)

    def read(path: Path) -> None:
        found = load_calibration(path)
        str(found.key + found.fault)

    return _file("calibration.json", spoil.spoilt_json([json.loads(whole.read_text())]), read)(
        folder
    )


# Messages -------------------------------------------------------------------------------------


def _messages(entries: Sequence[tuple[Any, Callable[[Any], object]]]) -> Prepared:
    """Messages, each with what reads it: a case is the entry's number and the message's CDR."""
    strategies = [
        spoil.spoilt_messages([message]).map(lambda data, k=k: bytes([k]) + data)
        for k, (message, _) in enumerate(entries)
    ]

    def read(data: bytes) -> None:
        message, one = entries[data[0] % len(entries)]
        one(deserialize_message(data[1:], type(message)))

    return st.one_of(strategies), read


def _chunks(folder: Path) -> Prepared:
    entries = []
    for path in (VX300S, ROOT / "config" / "robots" / "vx300s_cartesian.yaml", G1):
        contract = load_contract(path)
        pose = contract.reset.pose if contract.reset else [0.0] * len(contract.action_names)
        rows = np.tile(np.asarray(pose, float), (5, 1))
        entries.append((ChunkWriter(contract).write(rows, STAMP), partial(_take_chunk, contract)))
    return _messages(entries)


def _take_chunk(contract: Contract, message: Any) -> None:
    """As `hil` does: what is taken gives commands that are finite."""
    chunk = read_chunk(message, contract)
    for combine in COMBINE:
        queue = ChunkQueue(len(contract.action_names), combine, poses=contract.poses)
        queue.start_epoch(message.epoch, 0)
        queue.add(chunk, NOW_NS + 1_000_000)
        for ahead_ns in (1_000_000, 30_000_000, 200_000_000):
            due = queue.sample(NOW_NS + ahead_ns)
            assert due is None or np.isfinite(due).all(), f"commands {due}"


def _pictures(type_: str) -> Callable[[Path], Prepared]:
    def prepare(folder: Path) -> Prepared:
        entries = []
        noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
        for depth, quality in ((None, 90), (None, 100), ((0.2, 2.0), 90)):
            camera = Camera("front", "front/image_raw", type_, (16, 24, 3), 0.2, depth)
            message = camera_message(camera, noise, STAMP, "camera", quality)
            entries.append((message, partial(_look, camera)))
        return _messages(entries)

    return prepare


def _look(camera: Camera, message: Any) -> None:
    value = camera_sample(camera, message, 0.0).value
    assert value.shape == camera.shape and value.dtype == np.uint8, f"{value.shape} {value.dtype}"


def _states(folder: Path) -> Prepared:
    entries = []
    for path in _ROBOTS:
        for part in load_contract(path).state:
            message = state_message(part, np.full(len(part.joints), 0.1), STAMP)
            entries.append((message, partial(_read_state, part)))
    data = strict_yaml.load(VX300S)
    more = [
        {"name": "ft", "topic": "ft", "type": "geometry_msgs/msg/WrenchStamped", "max_age_s": 0.1},
        {"name": "v", "topic": "v", "type": "geometry_msgs/msg/TwistStamped", "max_age_s": 0.1},
        {"names": ["l", "r"], "topic": "f", "type": "std_msgs/msg/Float64MultiArray", "unit": "N",
         "max_age_s": 0.1},
        {"name": "p", "topic": "p", "type": "std_msgs/msg/Float32", "unit": "N", "max_age_s": 0.1},
    ]  # fmt: skip
    for part in parse_contract(data | {STATE_KEY: [data[STATE_KEY], *more]}).state[1:]:
        message = state_message(part, np.full(len(part.joints), 0.1), STAMP)
        entries.append((message, partial(_read_state, part)))
    return _messages(entries)


def _read_state(part: StatePart, message: Any) -> None:
    value = state_sample(part, message, 0.0, NOW_NS).value
    assert np.isfinite(value.astype(np.float32)).all(), f"{value}"


def _commands(folder: Path) -> Prepared:
    entries = []
    for path in _ROBOTS:
        for part in load_contract(path).action:
            message = command_encoder(part)(np.full(len(part.joints), 0.1), STAMP)
            entries.append((message, partial(_read_command, part)))
    return _messages(entries)


def _read_command(part: ActionPart, message: Any) -> None:
    value = command_decoder(part)(message)
    assert np.isfinite(value.astype(np.float32)).all(), f"{value}"


# The console's pages --------------------------------------------------------------------------

SAID = [
    {"session": "nobody", "shown": "front", "hidden": False},
    {"jog": {"n": 3, "t": 1234.5, "pressed": True, "rates": {"+x": 1.0, "-z": 0.5}}},
]


class _Jog:
    """What `BrowserJog` does with a message of the page that leads."""

    def __init__(self) -> None:
        self.keys = HeldKeys(("+x", "-x", "-z"))

    def take(self, session: Any, message: dict[str, Any]) -> None:
        self.keys.take(message, time.monotonic())
        assert np.isfinite(self.keys.given(time.monotonic()).rates).all()

    def let_go(self, session: Any) -> None:
        self.keys.let_go()


def _hear(folder: Path) -> Prepared:
    sessions = Sessions("token")
    session = sessions.log_in("token", "ada")
    stream = Stream(None, None, sessions, _Jog(), lambda error: None)
    said = [{**each, "session": session.secret} for each in SAID]

    def read(data: bytes) -> None:
        looking = Looking(session)
        stream._hear(looking, data[:MESSAGE_BYTES].decode("utf-8", "replace"))
        assert isinstance(looking.wanted, bool)

    return spoil.spoilt_json([*SAID, *said]), read


def _request(folder: Path) -> Prepared:
    """Its content type in the first line, its body behind."""
    seeds = [
        b"application/json\n" + json.dumps(said).encode()
        for said in ({"text": "pick", "episodes": 3, "timeout": 60}, {"name": "ada"})
    ]
    hostile = ["utf-16", "punycode", "zlib", "idna", "x", "utf-7", "unicode_escape"]
    seeds += [f"application/json; charset={kind}\n{{}}".encode() for kind in hostile]
    loop = asyncio.new_event_loop()

    async def ask(data: bytes) -> None:
        kind, _, content = data.partition(b"\n")
        payload = StreamReader(mock.Mock(_reading_paused=False), 2**16, loop=loop)
        payload.feed_data(content)
        payload.feed_eof()
        headers = {"Content-Type": kind.decode("latin-1"), "Content-Length": str(len(content))}
        given = await body(make_mocked_request("POST", "/", headers=headers, payload=payload))
        for key in [*given, "text"]:
            text(given, key)

    def read(data: bytes) -> None:
        try:
            loop.run_until_complete(ask(data))
        except web.HTTPException as answer:
            assert answer.status < 500, f"answered {answer.status}"
            raise

    return spoil.spoilt_bytes(seeds), read


BAG = (BagError,)
CHECKPOINT = (CheckpointError,)
_PRE, _POST = "policy_preprocessor", "policy_postprocessor"

TARGETS = [
    Target("contract", _contract, (ContractError,), 120),
    Target("recorded_contract", _recorded_contract, (ContractError, strict_yaml.YamlError), 120),
    Target("urdf", _file("arm.urdf", spoil.spoilt_bytes([URDF, BOMB]), read_urdf_file),
           (ContractError,)),
    Target("checkpoint_config", _checkpoint("config.json"), CHECKPOINT, 60),
    Target("checkpoint_contract", _checkpoint("contract.json"), CHECKPOINT, 20),
    Target("checkpoint_weights", _checkpoint("model.safetensors"), CHECKPOINT, 30),
    Target("checkpoint_processor", _checkpoint(f"{_PRE}.json"), CHECKPOINT, 60),
    Target("checkpoint_actions", _checkpoint(f"{_POST}.json"), CHECKPOINT, 30),
    Target("checkpoint_statistics", _checkpoint(f"{_PRE}_*.safetensors"), CHECKPOINT, 30),
    Target("bag_mcap", _mcap, BAG, hostile=_hostile_mcap),
    Target("bag_sqlite", _sqlite, BAG),
    Target("bag_recovery", _recovered, (RecoveryError, BagError), 100, _hostile_mcap),
    Target("bag_metadata", _beside_bag(METADATA_FILE, _read_bag), BAG, 60),
    Target("episode", _beside_bag(EPISODE_FILE, _read_recorded_episode),
           (EpisodeFileError, ContractError)),
    Target("labels_yaml", _file("labels.yaml", spoil.spoilt_yaml([OWN_LABELS]), _read_labels),
           (LabelError,)),
    Target("labels_json",
           _file("labels.json", spoil.spoilt_json([OWN_LABELS, PUBLIC_LABELS]), _read_labels),
           (LabelError,)),
    Target("frame_labels", _frame_labels, (LabelError,)),
    Target("dataset", _dataset, (DatasetError,)),
    Target("calibration", _calibration, (CalibrationError,)),
    Target("chunk", _chunks, (ChunkError,)),
    Target("image", _pictures("sensor_msgs/msg/Image"), (SampleError,)),
    Target("compressed_image", _pictures("sensor_msgs/msg/CompressedImage"), (SampleError,)),
    Target("state", _states, (SampleError,)),
    Target("command", _commands, (SampleError,)),
    Target("console_page", _hear, ()),
    Target("console_request", _request, (web.HTTPException,)),
]  # fmt: skip
