"""Recordings (rosbag2, MCAP or sqlite3) read back as the live node saw them. No running ROS."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import names
from rewact_ros.contract.frames import NANO
from rewact_ros.data.bags.folder import FolderError, recording_files, recover
from rewact_ros.data.bags.messages import MessageError, decoder_of, typestore
from rewact_ros.data.bags.storage import Storage, StorageError, StoredTopic, in_time, open_storage
from rewact_ros.data.bags.time_order import step_back
from rewact_ros.ros.convert import to_ns

__all__ = ["REWARD_TOPIC", "Bag", "BagError", "Message", "RecordedReward", "typestore"]

REWARD_TOPIC = "rewact/reward"
_REWARD_TYPE = "rewact_ros/msg/Reward"
_END_NS = 1 << 64


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
        sparse: of uncompressed MCAP files read no more than the messages that are asked for, by
            the files' index: for who looks at a few of them. Chunks' checksums are not compared.

    Raises:
        BagError: no recording there, empty, damaged, its message types are unknown, or time ran
            backwards in it.
    """

    def __init__(self, path: str | Path, namespace: str = "", sparse: bool = False) -> None:
        self.path, self._sparse = Path(path), sparse
        self._namespace = namespace.strip("/")
        self._stack = ExitStack()
        self._files: list[Storage] = []
        self._topics: dict[str, list[StoredTopic]] = {}
        try:
            self._paths = recording_files(self.path)
        except FolderError as error:
            raise BagError(f"bag {self.path}: {error}") from error
        except OSError as error:
            raise BagError(f"bag {self.path}: {error.strerror}; mend its permissions") from error

    def __enter__(self) -> "Bag":
        with ExitStack() as stack:
            scratch = self._scratch(stack)
            try:
                for path in self._paths:
                    self._files.append(open_storage(path, scratch, self._sparse))
                    stack.callback(self._files[-1].close)
            except StorageError as error:
                raise self._damaged(error) from error
            for topic in (topic for file in self._files for topic in file.topics):
                self._topics.setdefault(topic.name, []).append(topic)
            if not self._counts.total():
                raise BagError(f"bag {self.path}: holds no message; record again")
            if back := step_back(self.path):
                raise BagError(
                    f"bag {back}: images of one pass would meet joints of the other; record the "
                    "passes apart"
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._files, self._topics = [], {}

    @property
    def topics(self) -> dict[str, str]:
        """Recorded topics and their message types, such as `/front/image_raw`."""
        return {name: found[0].type for name, found in self._topics.items()}

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        start_ns, end_ns = self.span_ns
        return (end_ns - start_ns) / NANO

    @property
    def _counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for name, found in self._topics.items():
            counts[name] = sum(topic.count for topic in found)
        return counts

    def resolve(self, topic: str) -> str:
        """Full name of a contract's topic in the robot's namespace."""
        return names.resolve(topic, self._namespace)

    def require(self, topic: str, type_: str) -> str:
        """Full name of a topic that the bag must hold with that type and at least one message.

        Raises:
            BagError: the topic is not there, is empty or has another type.
        """
        name = self.resolve(topic)
        if name not in self._topics:
            near = difflib.get_close_matches(name, self.topics, n=1, cutoff=0.5)
            meant = f" (did you mean {near[0]}?)" if near else ""
            raise BagError(
                f"bag {self.path}: topic {name} was not recorded{meant}; it holds "
                f"{', '.join(sorted(self.topics))}; give another contract or namespace"
            )
        if wrong := [found for found in self._topics[name] if found.type != type_]:
            raise BagError(
                f"bag {self.path}: topic {name}: expected {type_}, got {wrong[0].type}; correct "
                "'type' in the contract"
            )
        if not self._counts[name]:
            raise BagError(f"bag {self.path}: topic {name}: no message was recorded")
        return name

    @property
    def span_ns(self) -> tuple[int, int]:
        """Time of recording of the first message, and the nanosecond after the last one's."""
        filled = [file for file in self._files if any(topic.count for topic in file.topics)]
        return min(file.start_ns for file in filled), max(file.end_ns for file in filled) + 1

    def times(self, topic: str) -> NDArray[np.int64]:
        """When the messages of a topic (its full name) were recorded: (n,) ns, rising.

        Raises:
            BagError: the file is damaged.
        """
        try:
            parts = [file.times(topic) for file in self._files]
        except StorageError as error:
            raise self._damaged(error) from error
        return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))

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
        wanted = {name for name in topics if name in self._topics}
        decoders = {name: self._decoder(name) for name in sorted(wanted)}
        first, end = start_ns or 0, _END_NS if end_ns is None else end_ns
        sources: list[tuple[int, Callable[[], Any]]] = [
            (file.start_ns, partial(file.messages, wanted, first, end)) for file in self._files
        ]
        try:
            for message in in_time(sources):
                try:
                    body = decoders[message.topic](message.data)
                except MessageError as error:
                    raise BagError(
                        f"bag {self.path}: a message of {message.topic} {error}; the file is "
                        "damaged, copy it again"
                    ) from error
                yield Message(message.topic, message.log_ns, body)
        except StorageError as error:
            raise self._damaged(error) from error

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

    def _decoder(self, name: str) -> Callable[[bytes], Any]:
        """What reads the messages of a topic, which its files must agree on."""
        found = self._topics[name]
        if len({(topic.type, topic.definition) for topic in found if topic.count}) > 1:
            raise BagError(
                f"bag {self.path}: topic {name}: its files define {found[0].type} differently; "
                "they are of several recordings, read them one by one"
            )
        try:
            return decoder_of(next((topic for topic in found if topic.count), found[0]))
        except MessageError as error:
            raise BagError(f"bag {self.path}: topic {name}: {error}") from error

    def _scratch(self, stack: ExitStack) -> Callable[[], Path]:
        return lambda: Path(stack.enter_context(TemporaryDirectory(prefix="rewact-bag-")))

    def _damaged(self, error: StorageError) -> BagError:
        why = f"bag {self.path}: cannot be read: {' '.join(str(error).split())}"
        if not error.is_damage:
            return BagError(why)
        return BagError(f"{why}; copy it again, or keep what is whole: {recover(self.path)}")


def _reward(body: Any) -> RecordedReward:
    quantiles = (float(body.q10), float(body.q50), float(body.q90))
    entropy = float(body.entropy)
    return RecordedReward(
        stamp_ns=to_ns(body.header.stamp),
        value=float(body.value),
        quantiles=quantiles if np.isfinite(quantiles).all() else None,
        entropy=entropy if np.isfinite(entropy) else None,
    )
