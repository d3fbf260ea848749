"""One recording on disk: a rosbag2 folder of MCAP files, of which a kill costs the open chunk."""

import os
import time
from collections import Counter
from collections.abc import Buffer
from dataclasses import dataclass
from pathlib import Path

from mcap.writer import CompressionType, Writer

from rewact_ros.data.bags.episode_file import EPISODE_FILE
from rewact_ros.data.bags.mcap_scan import ScanError
from rewact_ros.data.bags.metadata import BagTopic, FileSummary, file_metadata, write_metadata
from rewact_ros.data.bags.recovery import RECORD_NAME, repair_file
from rewact_ros.files import sync

COMPRESSIONS = {"none": CompressionType.NONE, "zstd": CompressionType.ZSTD}
# An image alone may be as large; the chunk that is open is what a kill costs.
CHUNK_BYTES = 1 << 20
CONTRACT_FILE = "contract.yaml"


@dataclass(frozen=True)
class WriterSettings:
    """How a recording is written.

    Attributes:
        chunk_s: age at which an open chunk is closed and handed to the operating system.
        sync_s: period of handing everything to the disk itself, against power loss; 0: never.
        max_file_bytes: size at which the next file of the recording begins; 0: never.
        compression: none or zstd, per chunk.
    """

    chunk_s: float = 0.25
    sync_s: float = 0.5
    max_file_bytes: int = 4_000_000_000
    compression: str = "none"


class BagWriter:
    """Writes one recording; not thread-safe. Every method may raise OSError when there is no room.

    After such an error only `salvage` makes sense.

    Args:
        folder: existing and without .mcap files; also the stem of their names.
        episode: text of `episode.json`, stored in each file too.
        contract: the contract's YAML, stored in each file; empty: none.
    """

    def __init__(
        self, folder: Path, episode: str, contract: str, settings: WriterSettings | None = None
    ) -> None:
        self.folder = folder
        self.settings = settings or WriterSettings()
        self.topics: dict[str, BagTopic] = {}
        self.files: list[FileSummary] = []
        self._episode, self._contract = episode, contract
        self._closed_bytes = 0
        self._start_ns: int | None = None
        self._end_ns = 0
        self._chunk_s = self._sync_s = 0.0
        self._open()

    @property
    def size_bytes(self) -> int:
        """Bytes written so far, in all files."""
        return self._closed_bytes + self._file.position

    @property
    def counts(self) -> Counter[str]:
        """Messages per topic, in all files."""
        return sum((file.counts for file in [*self.files, self._summary()]), Counter())

    def add_topic(self, topic: BagTopic) -> None:
        """Declare a topic before its first message."""
        self.topics[topic.name] = topic
        self._register(topic)

    def write(self, name: str, log_ns: int, publish_ns: int, sequence: int, data: bytes) -> None:
        """Append one CDR message of a declared topic."""
        self._mcap.add_message(self._channels[name], log_ns, data, publish_ns, sequence)
        self._counts[name] += 1
        self._start_ns = log_ns if self._start_ns is None else min(self._start_ns, log_ns)
        self._end_ns = max(self._end_ns, log_ns)
        if 0 < self.settings.max_file_bytes <= self._file.position:
            self._finish_file()
            write_metadata(self.folder, self.topics.values(), self.files)
            self._open()

    def tick(self) -> None:
        """Close the open chunk and reach the disk when it is time; call at least every 0.1 s."""
        now_s = time.monotonic()
        if now_s - self._chunk_s >= self.settings.chunk_s:
            self._mcap.flush()
            self._chunk_s = now_s
        if self.settings.sync_s and now_s - self._sync_s >= self.settings.sync_s:
            os.fdatasync(self._file.handle)
            self._sync_s = time.monotonic()

    def close(self, episode: str) -> None:
        """Finish the last file and write `metadata.yaml`."""
        self._episode = episode
        self._finish_file()
        write_metadata(self.folder, self.topics.values(), self.files)

    def salvage(self, disk_works: bool) -> Counter[str]:
        """After an error: mend the open file, without needing more room, and close the recording.

        Args:
            disk_works: the open chunk can still be written; else it is lost.

        Returns:
            Messages per topic that the recording holds.

        Raises:
            OSError: not even that is possible; `rewact bag recover` mends it when there is room.
        """
        if disk_works and self._counts:
            self._mcap.flush()
        self._file.close()
        if self._path.is_file() and self._path.name not in {file.path for file in self.files}:
            try:
                self.files.append(repair_file(self._path))
            except ScanError:
                self._path.unlink()  # not even its beginning found room
        write_metadata(self.folder, self.topics.values(), self.files)
        return sum((file.counts for file in self.files), Counter())

    def abandon(self) -> None:
        """Let go of the open file as it is."""
        self._file.close()

    def _open(self) -> None:
        self._path = self.folder / f"{self.folder.name}_{len(self.files)}.mcap"
        self._file = _File(self._path)
        self._counts: Counter[str] = Counter()
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._start_ns, self._end_ns = None, 0
        self._chunk_s = self._sync_s = time.monotonic()
        self._mcap: Writer = Writer(
            self._file,  # type: ignore[arg-type]
            chunk_size=CHUNK_BYTES,
            compression=COMPRESSIONS[self.settings.compression],
        )
        self._mcap.start(profile="ros2", library="rewact_ros")
        self._mcap.add_metadata(RECORD_NAME, {EPISODE_FILE: self._episode})
        if self._contract:
            now_ns = time.time_ns()
            self._mcap.add_attachment(
                now_ns, now_ns, CONTRACT_FILE, "application/yaml", self._contract.encode()
            )
        for topic in self.topics.values():
            self._register(topic)
        sync(self.folder)

    def _register(self, topic: BagTopic) -> None:
        name = topic.type.name
        if name not in self._schemas:
            encoding = "ros2msg" if topic.type.definition else ""
            self._schemas[name] = self._mcap.register_schema(
                name, encoding, topic.type.definition.encode()
            )
        self._channels[topic.name] = self._mcap.register_channel(
            topic.name,
            "cdr",
            self._schemas[name],
            {"offered_qos_profiles": topic.qos_text, "topic_type_hash": topic.type.type_hash},
        )

    def _finish_file(self) -> None:
        self._mcap.flush()
        summary = self._summary()
        self._mcap.add_metadata(RECORD_NAME, {EPISODE_FILE: self._episode})
        self._mcap.add_metadata(
            "rosbag2", {"serialized_metadata": file_metadata(self.topics.values(), summary)}
        )
        self._mcap.finish()
        os.fsync(self._file.handle)
        self._file.close()
        self._closed_bytes += self._file.position
        self._file.position = 0
        self.files.append(summary)
        self._counts = Counter()

    def _summary(self) -> FileSummary:
        return FileSummary(
            self._path.name, self._start_ns or 0, self._end_ns, Counter(self._counts)
        )


class _File:
    """Output without a buffer of its own, so that an error is raised where it happens."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.position = 0

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self.handle, view)
            self.position += written
            view = view[written:]

    def tell(self) -> int:
        return self.position

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1
