"""The thread that writes recordings, so that a slow disk never makes the receiving side wait."""

import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rewact_ros.data.bags.episode_file import (
    EpisodeFileError,
    EpisodeRecord,
    write_episode,
)
from rewact_ros.data.bags.episode_labels import label_episode
from rewact_ros.data.bags.mcap_repair import NO_ROOM
from rewact_ros.data.bags.metadata import BagTopic
from rewact_ros.data.bags.writer import BagWriter, WriterSettings

WRITER_FAULT = "writer_fault"
# How often it looks up when nothing comes, and how long its end may take.
IDLE_S, CLOSE_TIMEOUT_S = 0.1, 30.0


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message as the middleware delivered it: topic, CDR bytes and times in ns."""

    topic: str
    data: bytes
    log_ns: int
    publish_ns: int
    sequence: int = 0


@dataclass(frozen=True)
class OpenBag:
    """Begin a recording in an existing folder; `contract` is YAML text, empty: none."""

    folder: Path
    record: EpisodeRecord
    contract: str


@dataclass(frozen=True)
class CloseBag:
    """End the open recording; counts are of what was taken for it and of what was not."""

    record: EpisodeRecord
    topics: tuple[BagTopic, ...]
    received: Counter[str]
    dropped: Counter[str]


@dataclass(frozen=True)
class LabelBag:
    """Change the label of a closed recording; see `label_episode`."""

    folder: Path
    outcome: str | None
    by: str
    discarded: bool | None


Item = RawMessage | BagTopic | OpenBag | CloseBag | LabelBag


@dataclass(frozen=True)
class Note:
    """One line for people, and whether it is a fault."""

    text: str
    fault: bool = False


@dataclass(frozen=True)
class Fault:
    """Why a recording takes nothing any more; `reason`: disk_full, disk_fault or writer_fault."""

    folder: Path
    reason: str
    text: str


@dataclass
class _Bag:
    """The open recording; no `writer`: it was broken off, and `saved` messages per topic are in."""

    folder: Path
    writer: BagWriter | None = None
    saved: Counter[str] = field(default_factory=Counter)


class BagThread:
    """Does what is put into its queue, in order; nobody waits for it.

    Args:
        settings: of every recording.
        reserve: file that is deleted to make room when the disk is full.

    Attributes:
        notes: what people should read, to be taken away by whoever shows it.
        fault: of the last recording that was broken off; None: none was.
        written_bytes: of the present recording, or the last.
    """

    def __init__(self, settings: WriterSettings, reserve: Path) -> None:
        self.notes: deque[Note] = deque()
        self.fault: Fault | None = None
        self.written_bytes = 0
        self._settings, self._reserve = settings, reserve
        self._items: deque[Item | None] = deque()
        self._bag: _Bag | None = None
        # Two counters, each written by one thread only, need no lock.
        self._in_bytes = self._out_bytes = 0
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bag writer", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of messages that are not written yet."""
        return self._in_bytes - self._out_bytes

    def put(self, item: Item) -> None:
        """Append to the queue; a message is seen at the next `wake`, or 0.1 s later."""
        if isinstance(item, RawMessage):
            self._in_bytes += len(item.data)
            self._items.append(item)
        else:
            self._items.append(item)
            self._wake.set()

    def wake(self) -> None:
        """Let the thread see the messages that were put; once per batch."""
        self._wake.set()

    def close(self) -> None:
        """Write what waits and stop; a recording that nobody ended is left for recovery."""
        self._items.append(None)
        self._wake.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while True:
            self._wake.wait(IDLE_S)
            self._wake.clear()
            while self._items:
                item = self._items.popleft()
                if item is None:
                    if self._bag is not None and self._bag.writer is not None:
                        self._bag.writer.abandon()
                    return
                try:
                    self._handle(item)
                except Exception as error:  # a thread that ended would lose everything, unseen
                    self._break_off(WRITER_FAULT, repr(error))
            self._write(lambda writer: writer.tick())

    def _handle(self, item: Item) -> None:
        if isinstance(item, RawMessage):
            self._write(lambda writer: _write_message(writer, item))
            self._out_bytes += len(item.data)
        elif isinstance(item, BagTopic):
            self._write(lambda writer: writer.add_topic(item))
        elif isinstance(item, OpenBag):
            self._open(item)
        elif isinstance(item, CloseBag):
            self._close(item)
        else:
            try:
                label_episode(item.folder, item.outcome, item.by, item.discarded)
            except (OSError, EpisodeFileError) as error:
                self.notes.append(Note(f"label not written: {error}", fault=True))

    def _open(self, item: OpenBag) -> None:
        self._bag, self.written_bytes = _Bag(item.folder), 0
        try:
            self._bag.writer = BagWriter(
                item.folder, item.record.text(), item.contract, self._settings
            )
        except OSError as error:
            self._break_off(_reason(error), error.strerror or str(error))

    def _write(self, act: Callable[[BagWriter], object]) -> None:
        """Do something with the open recording; when the disk refuses, save what is there."""
        bag = self._bag
        if bag is None or bag.writer is None:
            return
        try:
            act(bag.writer)
            self.written_bytes = bag.writer.size_bytes
        except OSError as error:
            self._break_off(_reason(error), error.strerror or str(error))

    def _break_off(self, reason: str, why: str) -> None:
        bag = self._bag
        if bag is None:
            self.notes.append(Note(f"bag writer: {why}", fault=True))
            return
        writer, bag.writer = bag.writer, None
        end = "what was written before is whole"
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        try:
            if writer is not None:
                bag.saved = writer.salvage(disk_works=reason == WRITER_FAULT)
        except (OSError, ValueError) as again:
            end = f"closing it failed too ({again}): make room and run `rewact bag recover`"
        text = f"{reason.replace('_', ' ')}: {why}"
        self.fault = Fault(bag.folder, reason, text)
        self.notes.append(Note(f"{bag.folder}: {text}: recording ended; {end}", fault=True))

    def _close(self, item: CloseBag) -> None:
        """Finish the files and write the final `episode.json`, after a fault too."""
        bag = self._bag
        if bag is None:
            return
        if bag.writer is not None:
            bag.saved = bag.writer.counts
            final = replace(item.record, topics=_counts(item, bag.saved)).text()
            self._write(lambda writer: writer.close(final))
        self._bag = None
        record = replace(item.record, topics=_counts(item, bag.saved))
        try:
            write_episode(bag.folder, record)
        except OSError as error:
            text = f"{bag.folder}: episode.json not written: {error.strerror}"
            self.notes.append(Note(text, fault=True))


def _reason(error: OSError) -> str:
    return "disk_full" if error.errno in NO_ROOM else "disk_fault"


def _write_message(writer: BagWriter, message: RawMessage) -> None:
    writer.write(message.topic, message.log_ns, message.publish_ns, message.sequence, message.data)
    writer.tick()


def _counts(item: CloseBag, saved: Counter[str]) -> dict[str, dict[str, object]]:
    """What is in the recording; what was taken and did not reach the disk counts as dropped."""
    return {
        topic.name: {
            "type": topic.type.name,
            "received": saved[topic.name],
            "dropped": item.dropped[topic.name]
            + max(item.received[topic.name] - saved[topic.name], 0),
        }
        for topic in item.topics
    }
