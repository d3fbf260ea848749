"""Messages in, recordings on disk: pre-roll, a bounded queue, enough room, one at a time."""

import os
import shutil
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rewact_ros.data.bags.episode_file import EpisodeRecord, write_episode
from rewact_ros.data.bags.lock import BagsLock
from rewact_ros.data.bags.metadata import BagTopic
from rewact_ros.data.bags.recovery import Recovered, RecoveryError, recover_all
from rewact_ros.data.bags.writer import COMPRESSIONS, WriterSettings
from rewact_ros.data.bags.writer_thread import (
    BagThread,
    CloseBag,
    Fault,
    LabelBag,
    Note,
    OpenBag,
    RawMessage,
)
from rewact_ros.files import sync

GIGA = 1_000_000_000
# Given back when the disk is full, so that index, metadata and labels still find room.
RESERVE_FILE, RESERVE_BYTES = ".reserve", 8 << 20
# A running episode ends below this share of the floor for starting one.
RUNNING_FLOOR = 0.1


class RecordingError(RuntimeError):
    """A recording cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class RecordingSettings:
    """Where and within which bounds recordings are made.

    Attributes:
        bags_dir: folder of all recordings; each episode gets a folder in it.
        preroll_s: seconds before the start that are kept ready, within `preroll_bytes`.
        queue_bytes: messages that wait for the disk; beyond it they are dropped, and counted.
        min_free_bytes: a recording is not started below this.
    """

    bags_dir: Path
    preroll_s: float = 1.0
    preroll_bytes: int = 256_000_000
    queue_bytes: int = 512_000_000
    min_free_bytes: int = 2 * GIGA
    writer: WriterSettings = field(default_factory=WriterSettings)

    def __post_init__(self) -> None:
        if self.preroll_bytes > self.queue_bytes:
            raise ValueError(
                f"preroll_bytes: expected at most queue_bytes ({self.queue_bytes}), got "
                f"{self.preroll_bytes}: the pre-roll passes through the queue in one piece"
            )
        if self.writer.compression not in COMPRESSIONS:
            raise ValueError(
                f"compression: expected one of {', '.join(COMPRESSIONS)}, got "
                f"'{self.writer.compression}'"
            )


class BagRecorder:
    """Takes messages without ever waiting: into the open recording, else into the pre-roll.

    Recordings that were cut off are recovered first; `notes` says which. Not thread-safe.

    Attributes:
        folder: of the open recording, or the last.
        received: messages per topic taken for it.
        dropped: messages per topic that are not in it: lost on the way here, or in excess of the
            queue.
        topics: all that were declared.

    Raises:
        BagsLockedError: another recorder works in the folder.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, settings: RecordingSettings) -> None:
        self.settings = settings
        self.folder: Path | None = None
        self.is_open = False
        self.received: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.topics: dict[str, BagTopic] = {}
        self._latched: dict[str, deque[RawMessage]] = {}
        self._preroll: deque[RawMessage] = deque()
        self._preroll_bytes = 0
        settings.bags_dir.mkdir(parents=True, exist_ok=True)
        self._lock = BagsLock(settings.bags_dir)
        recovered = recover_all(settings.bags_dir)
        self._reserve = settings.bags_dir / RESERVE_FILE
        self._fill_reserve()
        self._thread = BagThread(settings.writer, self._reserve)
        self._thread.notes.extend(_note(found) for found in recovered)

    @property
    def notes(self) -> deque[Note]:
        """Lines for people; take them away."""
        return self._thread.notes

    @property
    def fault(self) -> Fault | None:
        """Why the open recording takes nothing any more; None: it does. Then `end` it."""
        fault = self._thread.fault
        return fault if fault is not None and fault.folder == self.folder else None

    @property
    def bytes(self) -> int:
        """Bytes on disk of the open recording, or the last."""
        return self._thread.written_bytes

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self._thread.waiting_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes left on the disk."""
        return shutil.disk_usage(self.settings.bags_dir).free

    @property
    def too_full(self) -> bool:
        """Whether the disk has become too full to go on."""
        return self.free_bytes < RUNNING_FLOOR * self.settings.min_free_bytes

    def declare(self, topic: BagTopic, latched: int = 0) -> None:
        """Announce a topic before its messages; its last `latched` ones begin every recording."""
        self.topics[topic.name] = topic
        if latched:
            kept = self._latched.get(topic.name, ())
            self._latched[topic.name] = deque(kept, maxlen=latched)
        if self.is_open:
            self._thread.put(topic)

    def take(self, messages: list[RawMessage]) -> None:
        """Record messages, or keep them as pre-roll."""
        for message in messages:
            topic = message.topic
            if topic in self._latched:
                self._latched[topic].append(message)
            if not self.is_open:
                self._keep(message)
            elif self._is_full(message):
                self.dropped[topic] += 1
            else:
                self.received[topic] += 1
                self._thread.put(message)
        self._thread.wake()

    def lost(self, topic: str, n: int) -> None:
        """Count messages that never arrived here."""
        if self.is_open:
            self.dropped[topic] += n

    def start(self, record: EpisodeRecord, contract: str) -> Path:
        """Open a recording, beginning with the pre-roll.

        Args:
            record: with `started_ns`; the folder is named after its `episode_id`.
            contract: YAML text that is stored in the files; empty: none.

        Raises:
            RecordingError: too little room, or the folder exists.
        """
        self._require_room()
        folder = self.settings.bags_dir / record.episode_id
        try:
            folder.mkdir()
            write_episode(folder, record)
            sync(self.settings.bags_dir)
        except FileExistsError:
            raise RecordingError(
                f"{folder}: exists already; an episode is never recorded over another"
            ) from None
        except OSError as error:
            raise RecordingError(f"{folder}: {error.strerror}; nothing is recorded") from None
        self.folder, self.is_open = folder, True
        self.received, self.dropped = Counter(), Counter()
        self._thread.put(OpenBag(folder, record, contract))
        for topic in self.topics.values():
            self._thread.put(topic)
        preroll = [*self._preroll]
        self.forget_preroll()
        first_ns = preroll[0].log_ns if preroll else record.started_ns or 0
        for message in [*self._latched_before(preroll, first_ns), *preroll]:
            self.received[message.topic] += 1
            self._thread.put(message)
        return folder

    def forget_preroll(self) -> None:
        """Time ran backwards: what was kept would lie ahead of what comes."""
        self._preroll.clear()
        self._preroll_bytes = 0

    def end(self, record: EpisodeRecord) -> None:
        """Close the open recording, after all that was taken, with its final `episode.json`."""
        if self.is_open:
            self.is_open = False
            topics = tuple(self.topics.values())
            self._thread.put(CloseBag(record, topics, self.received, Counter(self.dropped)))

    def label(
        self, folder: Path, outcome: str | None, by: str, discarded: bool | None = None
    ) -> None:
        """Change the label of a recording that has ended, or is just being closed."""
        self._thread.put(LabelBag(folder, outcome, by, discarded))

    def close(self) -> None:
        """Write what waits and stop."""
        self._thread.close()
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        self._lock.close()

    def _is_full(self, message: RawMessage) -> bool:
        waiting = self._thread.waiting_bytes + len(message.data)
        return waiting > self.settings.queue_bytes or self.fault is not None

    def _keep(self, message: RawMessage) -> None:
        self._preroll.append(message)
        self._preroll_bytes += len(message.data)
        oldest_ns = message.log_ns - round(self.settings.preroll_s * 1e9)
        while self._preroll and (
            self._preroll[0].log_ns < oldest_ns or self._preroll_bytes > self.settings.preroll_bytes
        ):
            self._preroll_bytes -= len(self._preroll.popleft().data)

    def _latched_before(self, preroll: list[RawMessage], first_ns: int) -> list[RawMessage]:
        """State that a late joiner would still get, logged at the recording's beginning."""
        fresh = {message.topic for message in preroll}
        return [
            replace(message, log_ns=first_ns)
            for topic, messages in self._latched.items()
            if topic not in fresh
            for message in messages
        ]

    def _require_room(self) -> None:
        free, floor = self.free_bytes, self.settings.min_free_bytes
        if free < floor:
            raise RecordingError(
                f"disk of {self.settings.bags_dir}: {free / GIGA:.2f} GB free, min_free_gb is "
                f"{floor / GIGA:g}: nothing is recorded; make room (`rewact bag prune`)"
            )
        self._fill_reserve()

    def _fill_reserve(self) -> None:
        with suppress(OSError):  # without it, the last chunks of a full disk make room
            if self._reserve.is_file() and self._reserve.stat().st_size >= RESERVE_BYTES:
                return
            self._reserve.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(self._reserve, flags, 0o644), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def _note(found: Recovered | RecoveryError) -> Note:
    if isinstance(found, RecoveryError):
        return Note(str(found), fault=True)
    return Note(
        f"recovered {found.folder}: {found.messages} messages, {found.duration_s:.1f} s; now "
        "unlabelled, interrupted"
    )
