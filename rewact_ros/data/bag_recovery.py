"""Recordings that were cut off by a kill, a power failure or a full disk are made whole in place.

Nothing is copied and no whole chunk is lost: what was cut off mid-way is cut away, and the index
that a reader needs is written behind the rest.
"""

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.records import Metadata

from rewact_ros import strict_yaml
from rewact_ros.data.bag_metadata import METADATA_FILE, BagTopic, FileSummary, write_metadata
from rewact_ros.data.episode_file import (
    EPISODE_FILE,
    FORMAT,
    EpisodeFileError,
    EpisodeRecord,
    read_episode,
    write_episode,
)
from rewact_ros.data.mcap_scan import (
    HEADER,
    MAGIC,
    Scan,
    ScanError,
    content,
    drop_from,
    index_of,
    scan,
    summary,
)
from rewact_ros.data.message_types import MessageType

# Name of our own metadata record in an MCAP file.
RECORD_NAME = "rewact"
# The disk, the quota or the largest allowed file is full.
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class RecoveryError(ValueError):
    """A recording that cannot be made whole; the message says why and what to do."""


@dataclass(frozen=True)
class Recovered:
    """What `recover_bag` found: messages and seconds in the recording, and files without any."""

    folder: Path
    messages: int
    duration_s: float
    empty: tuple[str, ...]


def repair_file(path: Path) -> FileSummary:
    """Give a file that was cut off its index and footer; a whole one is left alone.

    Where there is no room for them, they take that of the last chunks.

    Raises:
        ScanError: not an MCAP file in chunks.
        OSError: not writable, or no room at all.
    """
    return _file_summary(_repaired(path))


def needs_recovery(folder: Path) -> bool:
    """Whether a folder is a recording that never was finished."""
    if not (folder / METADATA_FILE).is_file():
        return any(folder.glob("*.mcap"))
    try:
        return read_episode(folder).ended_ns is None
    except EpisodeFileError:
        return False  # a stock recording, which is whole


def recover_bag(folder: Path) -> Recovered:
    """Make one recording whole: its files, `metadata.yaml` and `episode.json`.

    The episode becomes unlabelled, `interrupted`, unless it had ended. Files of less than a header
    are renamed to *.damaged. Stock recordings without an `episode.json` get none.

    Raises:
        RecoveryError: no recording there, or none of its files is an MCAP file.
        OSError: not writable, or no room.
    """
    paths = sorted(folder.glob("*.mcap"), key=_number)
    if not paths:
        raise RecoveryError(
            f"{folder}: holds no .mcap file; give the folder of a recording, or the folder that "
            "holds recordings"
        )
    scans, empty = [], []
    for path in paths:
        try:
            scans.append(_repaired(path))
        except ScanError as error:
            with open(path, "rb") as file:
                started = file.read(len(MAGIC)) == MAGIC
            if started:
                raise RecoveryError(str(error)) from error
            path.rename(path.with_name(f"{path.name}.damaged"))
            empty.append(path.name)
    files = [_file_summary(found) for found in scans]
    write_metadata(folder, _topics(scans), files)
    _end_episode(folder, scans, files)
    filled = [file for file in files if file.counts]
    return Recovered(
        folder,
        messages=sum(file.counts.total() for file in files),
        duration_s=_span_ns(filled) / 1e9,
        empty=tuple(empty),
    )


def recover_all(bags_dir: Path) -> list[Recovered | RecoveryError]:
    """Recover every unfinished recording directly in a folder, or that folder if it is one."""
    found: list[Recovered | RecoveryError] = []
    folders = [bags_dir, *sorted(p for p in bags_dir.iterdir() if p.is_dir())]
    for folder in folders:
        if needs_recovery(folder):
            try:
                found.append(recover_bag(folder))
            except (RecoveryError, OSError) as error:
                found.append(RecoveryError(f"{folder}: not recovered: {error}"))
    return found


def _repaired(path: Path) -> Scan:
    found = scan(path)
    while not found.complete:
        try:
            _complete(found)
        except OSError as error:
            if error.errno not in NO_ROOM or not found.chunks:
                raise
            drop_from(found, len(found.chunks) - 1)
    return found


def _complete(found: Scan) -> None:
    """Cut the file at its last whole chunk and write what it lacks."""
    with open(found.path, "r+b", buffering=0) as file:
        file.truncate(found.end)
        tail = RecordBuilder()
        if found.chunks and not found.chunks[-1].offsets:
            last = found.chunks[-1]
            for channel, index in index_of(content(file, last) or b"").items():
                last.offsets[channel] = found.end + tail.count
                index.write(tail)
            last.index_end = found.end + tail.count
        start, data = found.end, tail.end()
        data += summary(found, start + len(data))
        file.seek(start)
        view = memoryview(data)
        while view:
            view = view[file.write(view) or 0 :]
        os.fsync(file.fileno())
    found.complete = True


def _file_summary(found: Scan) -> FileSummary:
    filled = [chunk for chunk in found.chunks if chunk.messages]
    return FileSummary(
        found.path.name,
        min((chunk.start_ns for chunk in filled), default=0),
        max((chunk.end_ns for chunk in filled), default=0),
        found.counts,
    )


def _topics(scans: Sequence[Scan]) -> list[BagTopic]:
    topics: dict[str, BagTopic] = {}
    for found in scans:
        for channel in found.channels.values():
            schema = found.schemas[channel.schema_id]
            qos = strict_yaml.parse(channel.metadata.get("offered_qos_profiles", "")) or []
            type_hash = channel.metadata.get("topic_type_hash", "")
            type_ = MessageType(schema.name, schema.data.decode(), type_hash)
            topics[channel.topic] = BagTopic(channel.topic, type_, tuple(qos))
    return list(topics.values())


def _end_episode(folder: Path, scans: Sequence[Scan], files: Sequence[FileSummary]) -> None:
    try:
        record = read_episode(folder)
    except EpisodeFileError:
        stored = _stored_episode(scans)
        if stored is None:
            return
        record = stored
    if record.ended_ns is None:
        record = replace(
            record.labelled("unlabelled", "", "interrupted", "the recorder was killed"),
            ended_ns=max((file.end_ns for file in files), default=0) or record.started_ns or 0,
        )
    counts: Counter[str] = sum((file.counts for file in files), Counter())
    topics = {
        topic.name: {
            "type": topic.type.name,
            "received": counts[topic.name],
            "dropped": record.topics.get(topic.name, {}).get("dropped", 0),
        }
        for topic in _topics(scans)
    }
    write_episode(folder, replace(record, topics=topics, recovered=True))


def _stored_episode(scans: Sequence[Scan]) -> EpisodeRecord | None:
    """The episode as the newest of the files has it, where `episode.json` is lost."""
    for found in reversed(scans):
        for index in reversed(found.metadata):
            if index.name != RECORD_NAME:
                continue
            with open(found.path, "rb") as file:
                file.seek(index.offset + HEADER.size)
                text = Metadata.read(ReadDataStream(file)).metadata.get(EPISODE_FILE, "{}")
            document = json.loads(text)
            if document.pop("format", None) == FORMAT:
                return EpisodeRecord(**document)
    return None


def _span_ns(files: Sequence[FileSummary]) -> int:
    if not files:
        return 0
    return max(file.end_ns for file in files) - min(file.start_ns for file in files)


def _number(path: Path) -> tuple[int, str]:
    """Order of a recording's files: `_9` before `_10`."""
    number = re.search(r"_(\d+)$", path.stem)
    return int(number[1]) if number else -1, path.name
