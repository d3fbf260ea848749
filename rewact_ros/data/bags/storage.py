"""Messages out of one file of a recording, MCAP or sqlite3, in the order of their times.

The files are foreign and may be damaged or lie: nothing is read that does not fit into memory, and
what is wrong is one `StorageError`.
"""

import heapq
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from rewact_ros.data.bags.decompress import (
    MAX_BYTES,
    ZSTD,
    DecompressError,
    plain_file,
    plain_message,
)
from rewact_ros.data.bags.mcap_index import chunk_times, index_entries, message_at
from rewact_ros.data.bags.mcap_records import MAGIC
from rewact_ros.data.bags.mcap_scan import (
    MAX_NS,
    ChunkError,
    ChunkRecord,
    ScanError,
    content,
    messages_in,
    scan,
)

# Of chunks whose times overlap, all at once.
MAX_OPEN_BYTES = 1 << 30
_SQLITE = b"SQLite format 3\0"


class StorageError(ValueError):
    """A file of a recording cannot be read; the message says where and why.

    Attributes:
        is_damage: recovery may keep what is whole; else the message says what to do.
    """

    def __init__(self, why: str, is_damage: bool = True) -> None:
        super().__init__(why)
        self.is_damage = is_damage


@dataclass(frozen=True)
class StoredTopic:
    """A topic as a file has it: `encoding` of the definition (ros2msg, ros2idl or empty)."""

    name: str
    type: str
    encoding: str
    definition: str
    count: int
    qos: str = ""
    type_hash: str = ""
    serialization: str = "cdr"


@dataclass(frozen=True)
class StoredMessage:
    """Topic, time of recording, CDR bytes."""

    topic: str
    log_ns: int
    data: bytes


class Storage(Protocol):
    """A file of a recording; `start_ns` and `end_ns` are those of its first and last message."""

    topics: list[StoredTopic]
    start_ns: int
    end_ns: int

    def messages(
        self, topics: Collection[str], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        """Messages of some topics with start ≤ time < end; raises StorageError."""
        ...

    def times(self, topic: str) -> NDArray[np.int64]:
        """When the messages of a topic were recorded (n,), ns, rising; raises StorageError."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_storage(path: Path, scratch: Callable[[], Path], sparse: bool = False) -> Storage:
    """Open a file by its first bytes, whatever its name.

    Args:
        path: the file.
        scratch: makes a folder that a compressed file is decompressed into.
        sparse: read no more than the messages that are asked for, see `McapStorage`.

    Raises:
        StorageError: neither MCAP nor sqlite3, damaged, or cut off.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
        if head.startswith(ZSTD):
            path = plain_file(path, scratch())
            with open(path, "rb") as file:
                head = file.read(16)
        if head.startswith(MAGIC) or path.suffix == ".mcap":
            return McapStorage(path, sparse)
        if head == _SQLITE:
            return SqliteStorage(path)
    except ScanError as error:
        raise StorageError(str(error)) from error
    except DecompressError as error:
        raise StorageError(f"{error}; copy it again", is_damage=False) from error
    except OSError as error:
        raise StorageError(f"{path.name}: {error.strerror or error}", is_damage=False) from error
    if head.startswith(b"#ROSBAG"):
        raise StorageError(
            f"{path.name}: is of ROS 1; convert it with `rosbags-convert`", is_damage=False
        )
    if not head:
        raise StorageError(f"{path.name}: is empty")
    raise StorageError(
        f"{path.name}: expected an MCAP or sqlite3 file, got one that begins with {head[:8]!r}",
        is_damage=False,
    )


class McapStorage:
    """An MCAP file; raises StorageError where it is not whole.

    Args:
        path: the file.
        sparse: read messages of uncompressed chunks by the index, without what stands between
            them, and without comparing the chunks' checksums.
    """

    def __init__(self, path: Path, sparse: bool = False) -> None:
        self._name, self._sparse = path.name, sparse
        self._scan = scan(path)
        if why := self._scan.why():
            raise StorageError(why)
        self._file = open(path, "rb")  # noqa: SIM115 - held until close
        counts: dict[int, int] = {}
        for chunk in self._scan.chunks:
            for channel, n in chunk.messages.items():
                counts[channel] = counts.get(channel, 0) + n
        filled = [chunk for chunk in self._scan.chunks if chunk.messages.total()]
        self.start_ns = min((chunk.start_ns for chunk in filled), default=0)
        self.end_ns = min(max((chunk.end_ns for chunk in filled), default=0), MAX_NS)
        self.topics = [
            self._topic(number, counts.get(number, 0)) for number in sorted(self._scan.channels)
        ]

    def _topic(self, number: int, count: int) -> StoredTopic:
        channel = self._scan.channels[number]
        schema = self._scan.schemas.get(channel.schema_id)
        return StoredTopic(
            channel.topic,
            schema.name if schema else "",
            schema.encoding if schema else "",
            schema.data.decode(errors="replace") if schema else "",
            count,
            channel.metadata.get("offered_qos_profiles", ""),
            channel.metadata.get("topic_type_hash", ""),
            channel.message_encoding,
        )

    def messages(
        self, topics: Collection[str], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        """See `Storage`."""
        names = {number: c.topic for number, c in self._scan.channels.items() if c.topic in topics}
        chunks = [
            (chunk.start_ns, lambda chunk=chunk: self._of_chunk(chunk, names, start_ns, end_ns))
            for chunk in self._scan.chunks
            if chunk.messages.keys() & names.keys()
            and chunk.end_ns >= start_ns
            and chunk.start_ns < end_ns
        ]
        self._open_bytes = 0
        return in_time(chunks)

    def _of_chunk(
        self, chunk: ChunkRecord, names: dict[int, str], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        if self._sparse and chunk.offsets and not chunk.compression:
            yield from self._by_index(chunk, names, start_ns, end_ns)
            return
        self._open_bytes += chunk.size
        if self._open_bytes > MAX_OPEN_BYTES and chunk.size <= MAX_BYTES:
            raise StorageError(
                f"{self._name}: chunks of {self._open_bytes >> 20} MiB have overlapping times; at "
                f"most {MAX_OPEN_BYTES >> 20} MiB are read at once; sort them (`mcap sort`)",
                is_damage=False,
            )
        try:
            data = content(self._file, chunk)
            found = []
            for channel, log_ns, _, start, end in messages_in(data, chunk):
                if channel not in self._scan.channels:
                    raise ChunkError(
                        f"chunk at byte {chunk.start}: a message of channel {channel}, which "
                        "nothing defines"
                    )
                if channel in names and start_ns <= log_ns < end_ns:
                    found.append((log_ns, names[channel], start, end))
        except ChunkError as error:
            raise StorageError(f"{self._name}: {error}") from error
        found.sort(key=lambda message: message[0])
        for log_ns, topic, start, end in found:
            yield StoredMessage(topic, log_ns, _plain(data[start:end], self._name, topic))
        self._open_bytes -= chunk.size

    def _by_index(
        self, chunk: ChunkRecord, names: dict[int, str], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        found = []
        for channel in names.keys() & chunk.offsets.keys():
            entries = index_entries(self._file, chunk, channel)
            wanted = (entries[:, 0] >= start_ns) & (entries[:, 0] < min(end_ns, MAX_NS))
            found += [(*entry, channel) for entry in entries[wanted].tolist()]
        for log_ns, offset, channel in sorted(found):
            try:
                data = message_at(self._file, chunk, channel, log_ns, offset)
            except ChunkError as error:
                raise StorageError(f"{self._name}: {error}") from error
            yield StoredMessage(names[channel], log_ns, _plain(data, self._name, names[channel]))

    def times(self, topic: str) -> NDArray[np.int64]:
        """See `Storage`."""
        numbers = {number for number, c in self._scan.channels.items() if c.topic == topic}
        parts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        try:
            for chunk in self._scan.chunks:
                if chunk.messages.keys() & numbers:
                    times = chunk_times(self._file, chunk)
                    parts += [times[number] for number in numbers & times.keys()]
        except ChunkError as error:
            raise StorageError(f"{self._name}: {error}") from error
        return np.sort(np.concatenate(parts))

    def close(self) -> None:
        """See `Storage`."""
        self._file.close()


class SqliteStorage:
    """A sqlite3 file of rosbag2; raises StorageError where it is damaged."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        # Beside a file whose recorder was killed, its journal holds the newest messages.
        journal = path.with_name(f"{path.name}-wal")
        is_still = not (journal.is_file() and journal.stat().st_size)
        place = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if is_still else ''}"
        try:
            self._db = sqlite3.connect(place, uri=True)
            try:
                self._open()
            except BaseException:
                self.close()
                raise
        except (sqlite3.Error, OverflowError) as error:
            raise StorageError(f"{self._name}: {error}") from error

    def _open(self) -> None:
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
        self._db.execute("PRAGMA trusted_schema = OFF")
        # A view could compute anything, for ever.
        tables = {
            name
            for name, sql in self._db.execute("SELECT name, sql FROM sqlite_master")
            if str(sql).upper().startswith("CREATE TABLE")
        }
        if not {"topics", "messages"} <= tables:
            raise StorageError(f"{self._name}: has no tables 'topics' and 'messages'")
        columns = {row[1] for row in self._db.execute("PRAGMA table_info(topics)")}
        wanted = ["id", "name", "type", "serialization_format"]
        wanted += [c for c in ("offered_qos_profiles", "type_description_hash") if c in columns]
        definitions: dict[str, tuple[str, str]] = {}
        if "message_definitions" in tables:
            for name, encoding, text in self._db.execute(
                "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            ):
                definitions[str(name)] = (str(encoding), str(text))
        counts: dict[int, int] = {}
        spans = []
        for topic, n, first, last in self._db.execute(
            "SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages "
            "GROUP BY topic_id"
        ):
            if not (isinstance(first, int) and isinstance(last, int)):
                raise StorageError(f"{self._name}: a message has no time")
            counts[topic] = n
            spans += [first, last]
        self.start_ns, self.end_ns = min(spans, default=0), max(spans, default=0)
        self.topics, self._names = [], {}
        for number, name, type_, serialization, *more in self._db.execute(
            f"SELECT {', '.join(wanted)} FROM topics ORDER BY id"
        ):
            further = dict(zip(wanted[4:], map(str, more), strict=True))
            self._names[number] = str(name)
            self.topics.append(
                StoredTopic(
                    str(name),
                    str(type_),
                    *definitions.get(str(type_), ("", "")),
                    counts.get(number, 0),
                    further.get("offered_qos_profiles", ""),
                    further.get("type_description_hash", ""),
                    str(serialization),
                )
            )

    def messages(
        self, topics: Collection[str], start_ns: int, end_ns: int
    ) -> Iterator[StoredMessage]:
        """See `Storage`."""
        numbers = [number for number, name in self._names.items() if name in topics]
        marks = ", ".join("?" * len(numbers))
        limit = (1 << 63) - 1
        try:
            # Sorted without their bytes, which sqlite would copy.
            rows = self._db.execute(
                f"SELECT rowid, topic_id, timestamp FROM messages WHERE topic_id IN ({marks}) "
                "AND timestamp >= ? AND timestamp < ? ORDER BY timestamp, rowid",
                (*numbers, max(start_ns, -limit), min(end_ns, limit)),
            )
            for row, topic, log_ns in rows:
                (data,) = self._db.execute(
                    "SELECT data FROM messages WHERE rowid = ?", (row,)
                ).fetchone() or (None,)
                if not isinstance(data, bytes):
                    raise StorageError(f"{self._name}: message {row} has no data")
                name = self._names[topic]
                yield StoredMessage(name, log_ns, _plain(data, self._name, name))
        except sqlite3.Error as error:
            raise StorageError(f"{self._name}: {error}") from error

    def times(self, topic: str) -> NDArray[np.int64]:
        """See `Storage`."""
        numbers = [number for number, name in self._names.items() if name == topic]
        marks = ", ".join("?" * len(numbers))
        try:
            rows = self._db.execute(
                f"SELECT timestamp FROM messages WHERE topic_id IN ({marks}) ORDER BY timestamp",
                numbers,
            )
            return np.array([time for (time,) in rows], np.int64)
        except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
            raise StorageError(f"{self._name}: {error}") from error

    def close(self) -> None:
        """See `Storage`."""
        with suppress(sqlite3.Error, AttributeError):
            self._db.close()


def in_time(
    sources: Collection[tuple[int, Callable[[], Iterator[StoredMessage]]]],
) -> Iterator[StoredMessage]:
    """Merge sorted messages by time; a source is opened when its first time has come.

    Args:
        sources: (time before which it has no message, what opens it).
    """
    waiting = sorted(sources, key=lambda source: source[0], reverse=True)
    heap: list[tuple[int, int, StoredMessage, Iterator[StoredMessage]]] = []
    opened = 0

    def advance(number: int, messages: Iterator[StoredMessage]) -> None:
        if (message := next(messages, None)) is not None:
            heapq.heappush(heap, (message.log_ns, number, message, messages))

    while heap or waiting:
        while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
            _, make = waiting.pop()
            opened += 1
            advance(opened, make())
        if heap:
            _, number, message, messages = heapq.heappop(heap)
            yield message
            advance(number, messages)


def _plain(data: bytes, file: str, topic: str) -> bytes:
    try:
        return plain_message(data)
    except DecompressError as error:
        raise StorageError(f"{file}: a message of {topic}: {error}") from error
