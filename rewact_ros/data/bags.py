"""Recordings (rosbag2, MCAP or sqlite3) read back as the live node saw them. No running ROS."""

import difflib
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from rewact_ros.contract import Contract, Frame, Stale
from rewact_ros.contract.frames import NANO
from rewact_ros.data.bag_frames import BagFrames
from rewact_ros.data.bag_time import step_back
from rewact_ros.ros.convert import to_ns
from rewact_ros.share import share_dir

REWARD_TOPIC = "rewact/reward"
_REWARD_TYPE = "rewact_ros/msg/Reward"
# What the library and its storages raise on files that are not whole.
_DAMAGE = (
    AnyReaderError,
    ReaderError,
    SerdeError,
    TypesysError,
    sqlite3.Error,
    struct.error,
    UnicodeDecodeError,
    EOFError,
)


class BagError(ValueError):
    """A recording that cannot be used; the message says which, where, why and how to mend."""


@dataclass(frozen=True)
class Message:
    """One recorded message: topic as the bag names it, time of recording, fields as recorded."""

    topic: str
    logged_ns: int
    body: Any


@dataclass(frozen=True)
class RecordedReward:
    """One `Reward` message; `stamp_ns` is that of its observation.

    `quantiles` (q10, q50, q90) and `entropy` (nat) are None where a sigmoid head left NaN.
    """

    stamp_ns: int
    value: float
    quantiles: tuple[float, float, float] | None
    entropy: float | None


class Bag:
    """A recording, open inside `with`.

    Args:
        path: folder of a rosbag2 recording, or one .mcap or .db3 file.
        namespace: of the robot whose relative topics are meant.

    Attributes:
        refused: messages per topic that did not carry what the contract promises; as live, they
            count as not received.
        incomplete: images of the reference camera that never became an observation.

    Raises:
        BagError: no recording there, empty, damaged, its message types are unknown, or time ran
            backwards in it.
    """

    def __init__(self, path: str | Path, namespace: str = "") -> None:
        self.path = Path(path)
        self.refused: Counter[str] = Counter()
        self.incomplete = 0
        self._namespace = namespace.strip("/")
        if not self.path.exists():
            raise BagError(f"bag {self.path}: no such recording; give its folder or .mcap file")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise BagError(
                f"bag {self.path}: no metadata.yaml; give the recording's own folder, or one of "
                "its .mcap files if the recorder was killed"
            )
        try:
            self._reader = AnyReader([self.path], default_typestore=typestore())
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def __enter__(self) -> "Bag":
        try:
            self._reader.open()
        except (*_DAMAGE, AssertionError) as error:  # asserts on foreign definitions
            raise self._damaged(error) from error
        if self._reader.message_count == 0:
            self._reader.close()
            raise BagError(f"bag {self.path}: holds no message; record again")
        if back := step_back(self.path):
            self._reader.close()
            raise BagError(
                f"bag {back}: images of one pass would meet joints of the other; record the passes "
                "apart"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Recorded topics and their message types, such as `/front/image_raw`."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return self._reader.duration / NANO

    def resolve(self, topic: str) -> str:
        """Full name of a contract's topic in the robot's namespace."""
        if topic.startswith("/"):
            return topic
        return f"/{self._namespace}/{topic}" if self._namespace else f"/{topic}"

    def require(self, topic: str, type_: str) -> str:
        """Full name of a topic that the bag must hold with that type and at least one message.

        Raises:
            BagError: the topic is not there, is empty or has another type.
        """
        name = self.resolve(topic)
        found = [c for c in self._reader.connections if c.topic == name]
        if not found:
            near = difflib.get_close_matches(name, self.topics, n=1, cutoff=0.5)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise BagError(
                f"bag {self.path}: topic {name} was not recorded{meant}; it holds "
                f"{', '.join(sorted(self.topics))}; give another contract or namespace"
            )
        if found[0].msgtype != type_:
            raise BagError(
                f"bag {self.path}: topic {name}: expected {type_}, got {found[0].msgtype}; correct "
                "'type' in the contract"
            )
        if not sum(connection.msgcount for connection in found):
            raise BagError(f"bag {self.path}: topic {name}: no message was recorded")
        return name

    @property
    def span_ns(self) -> tuple[int, int]:
        """Times of recording of the first and the last message."""
        return self._reader.start_time, self._reader.end_time

    def messages(
        self, topics: Iterable[str], start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[Message]:
        """Yield the messages of some topics (full names) in the order of their recording.

        Args:
            topics: those that were not recorded have none.
            start_ns, end_ns: times of recording to begin at and to stop before.

        Raises:
            BagError: the file ends early or a message does not decode.
        """
        wanted = set(topics)
        connections = [c for c in self._reader.connections if c.topic in wanted]
        if not connections:  # none would mean all to the library
            return
        try:
            for connection, logged_ns, raw in self._reader.messages(connections, start_ns, end_ns):
                yield Message(connection.topic, logged_ns, self._decode(connection, raw))
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def observations(self, contract: Contract) -> Iterator[Frame]:
        """Yield the observations that the live node would have made of the same messages.

        Raises:
            BagError: a topic of the contract is missing or never fits it, no observation is
                complete, or the file is damaged.
        """
        frames = BagFrames(self, contract)
        self.refused = frames.refused
        stale: Stale | None = None
        for message in self.messages(frames.topics):
            for made in frames.put(message):
                if isinstance(made, Frame):
                    yield made
                else:
                    stale = made
        if why := frames.unusable():
            raise BagError(f"bag {self.path}: {why}")
        if not frames.frames:
            why = f"{stale.stream}: {stale.reason}" if stale else "its streams never met"
            raise BagError(f"bag {self.path}: no complete observation: {why}")
        self.incomplete = frames.images - frames.frames

    def rewards(self) -> list[RecordedReward]:
        """Read what was published on `rewact/reward`, by stamp; empty where nothing was.

        Raises:
            BagError: the topic has another type, or the file is damaged.
        """
        name = self.resolve(REWARD_TOPIC)
        if name not in self.topics:
            return []
        if self.topics[name] != _REWARD_TYPE:
            self.require(REWARD_TOPIC, _REWARD_TYPE)
        rewards = [_reward(message.body) for message in self.messages([name])]
        return sorted(rewards, key=lambda reward: reward.stamp_ns)

    def _decode(self, connection: Connection, raw: bytes | memoryview) -> Any:
        """Decode CDR as ROS does: bytes after the last field are padding, however many.

        The library's own call refuses more than three of them, but rclpy's `serialize_message`
        leaves eight behind a JointState without velocity and effort.
        """
        store = self._reader.typestore
        try:
            definition = store.get_msgdef(connection.msgtype)
            decode = definition.deserialize_cdr_le if raw[1] else definition.deserialize_cdr_be
            return decode(raw[4:], 0, definition.cls, store)[0]
        except (*_DAMAGE, IndexError, ValueError) as error:
            raise BagError(
                f"bag {self.path}: a message of {connection.topic} does not decode as "
                f"{connection.msgtype} ({error}); the file is damaged, copy it again"
            ) from error

    def _damaged(self, error: BaseException) -> BagError:
        return BagError(
            f"bag {self.path}: cannot be read: {' '.join(str(error).split())}; copy it again, or "
            "re-index it (`ros2 bag reindex`, `mcap recover`) if the recorder was killed"
        )


def typestore() -> Typestore:
    """ROS 2 Jazzy's message types and this package's own, for bags that store no definitions."""
    store = get_typestore(Stores.ROS2_JAZZY)
    own: dict[str, Any] = {}
    for file in sorted((share_dir() / "msg").glob("*.msg")):
        own |= get_types_from_msg(file.read_text(), f"rewact_ros/msg/{file.stem}")
    store.register(own)
    return store


def _reward(body: Any) -> RecordedReward:
    quantiles = (float(body.q10), float(body.q50), float(body.q90))
    entropy = float(body.entropy)
    return RecordedReward(
        stamp_ns=to_ns(body.header.stamp),
        value=float(body.value),
        quantiles=quantiles if np.isfinite(quantiles).all() else None,
        entropy=entropy if np.isfinite(entropy) else None,
    )
