"""Recordings that were cut off by a kill, a power failure or a full disk are made whole in place.

Nothing is copied and no whole chunk is lost: what was cut off mid-way is cut away, and the index
that a reader needs is written behind the rest.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.data.bags.decompress import ZSTD
from rewact_ros.data.bags.episode_file import (
    EPISODE_FILE,
    EpisodeDamagedError,
    EpisodeFileError,
    EpisodeRecord,
    parse_episode,
    read_episode,
    write_episode,
)
from rewact_ros.data.bags.folder import (
    METADATA_FILE,
    FolderError,
    bag_names,
    looks_listed,
    read_listed,
    recording_files,
)
from rewact_ros.data.bags.mcap_records import HEADER, MAGIC, RecordError, metadata_of
from rewact_ros.data.bags.mcap_repair import repaired
from rewact_ros.data.bags.mcap_scan import (
    EVERYTHING,
    VERIFIED_BYTES,
    ChunkError,
    Scan,
    ScanError,
    content,
    is_closed,
    messages_in,
)
from rewact_ros.data.bags.message_types import MessageType
from rewact_ros.data.bags.metadata import BagTopic, FileSummary, write_metadata
from rewact_ros.data.bags.storage import SqliteStorage, StorageError
from rewact_ros.text import reason

# Name of our own metadata record in an MCAP file.
RECORD_NAME = "rewact"


class RecoveryError(ValueError):
    """A recording that cannot be made whole; the message says why and what to do."""


@dataclass(frozen=True)
class Recovered:
    """What `recover_bag` found.

    Attributes:
        folder: of the recording, or its only file.
        messages, duration_s: that it holds now.
        empty: files without any record, now named *.damaged.
        lost: what was damaged and taken out.
        absent: files that `metadata.yaml` listed and that are not there.
    """

    folder: Path
    messages: int
    duration_s: float
    empty: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def repair_file(path: Path) -> FileSummary:
    """Give a file that was cut off its index and footer; a whole one is left alone.

    Raises:
        ScanError: not an MCAP file, or one that cannot be mended in place.
        OSError: not writable, or no room at all.
    """
    return _file_summary(repaired(path)[0])


def needs_recovery(folder: Path) -> bool:
    """Whether a folder is a recording that never was finished, or is no longer whole.

    Files are looked at by their ends; what is damaged within them only reading tells.

    Raises:
        OSError: not readable.
    """
    has_episode = (folder / EPISODE_FILE).is_file()
    if not (has_episode or bag_names(folder) or (folder / METADATA_FILE).is_file()):
        return False
    try:
        if has_episode and read_episode(folder).ended_ns is None:
            return True
        is_listed = looks_listed(folder)
        files = [folder / n for n in bag_names(folder)] if is_listed else recording_files(folder)
    except (EpisodeDamagedError, FolderError):
        return True
    except EpisodeFileError:
        return False  # of another version, which knows better
    return any(path.suffix == ".mcap" and not is_closed(path) for path in files)


def recover_bag(folder: Path, verify_bytes: int = VERIFIED_BYTES) -> Recovered:
    """Make one recording whole: its files, `metadata.yaml` and `episode.json`.

    The episode becomes unlabelled, `interrupted`, unless it had ended. Files of less than a header
    are renamed to *.damaged. Stock recordings without an `episode.json` get none.

    Args:
        folder: the recording.
        verify_bytes: so much of the end of each file is verified by content.

    Raises:
        RecoveryError: no recording there, or it cannot be mended in place.
        OSError: not writable, or no room.
    """
    names = bag_names(folder)
    if not names and not (folder / EPISODE_FILE).is_file():
        raise RecoveryError(
            f"{folder}: holds no .mcap or .db3 file; give the folder of a recording, or the folder "
            "that holds recordings"
        )
    was_whole = not needs_recovery(folder)
    absent: tuple[str, ...] = ()
    with suppress(FolderError):
        absent = tuple(n for n in read_listed(folder).names if not (folder / n).is_file())
    kinds = {Path(name).suffix for name in names}
    if ".zstd" in kinds:
        raise RecoveryError(
            f"{folder}: its files are compressed as a whole; decompress them (`zstd -d --rm "
            f"{names[0]}`) and recover it then"
        )
    if len(kinds) > 1:
        raise RecoveryError(
            f"{folder}: holds MCAP and sqlite3 files, which are not one recording; move those of "
            "one kind away"
        )
    paths = sorted((folder / name for name in names), key=_number)
    if kinds == {".db3"}:
        return _recover_sqlite(folder, paths, absent)
    scans, empty, lost = _repair_all(folder, paths, verify_bytes)
    files = [_file_summary(found) for found in scans]
    if was_whole and not lost:
        return _recovered(folder, files)
    _require_different(folder, files)
    write_metadata(folder, _topics(scans), files)
    _end_episode(folder, scans, files)
    return _recovered(folder, files, empty=empty, lost=lost, absent=absent)


def recover_file(path: Path) -> Recovered:
    """Make one .mcap file whole, all of it verified.

    Raises:
        RecoveryError: it cannot be mended in place.
        OSError: not writable, or no room.
    """
    try:
        found, lost = repaired(path, EVERYTHING)
    except ScanError as error:
        raise RecoveryError(f"{path}: {error}") from error
    return _recovered(path, [_file_summary(found)], lost=tuple(lost))


def subfolders(bags_dir: Path) -> list[Path]:
    """The folders directly in a folder, where recordings are looked for."""
    return sorted(p for p in bags_dir.iterdir() if p.is_dir())


def recover_all(bags_dir: Path, thorough: bool = False) -> list[Recovered | RecoveryError]:
    """Recover every unfinished recording directly in a folder, or that folder if it is one.

    Args:
        bags_dir: the folder.
        thorough: if it is a recording itself, all of it is verified, finished or not.

    Returns:
        one entry per recording that needed it; no recording keeps another from being mended.
    """
    found: list[Recovered | RecoveryError] = []
    for folder in (bags_dir, *subfolders(bags_dir)):
        try:
            itself = thorough and folder == bags_dir and bool(bag_names(folder))
            if itself or needs_recovery(folder):
                found.append(recover_bag(folder, EVERYTHING if itself else VERIFIED_BYTES))
        except RecoveryError as error:
            found.append(error)
        except OSError as error:
            found.append(RecoveryError(f"{folder}: not recovered: {reason(error)}"))
        except Exception as error:  # a damaged recording must not end the recorder
            found.append(RecoveryError(f"{folder}: not recovered: {error!r:.200}; move it away"))
    return found


def _repair_all(
    folder: Path, paths: Sequence[Path], verify_bytes: int
) -> tuple[list[Scan], tuple[str, ...], tuple[str, ...]]:
    """Mend the files one by one: what is in them, which were empty, what was taken out."""
    scans, empty, lost = [], [], []
    for path in paths:
        try:
            found, taken_out = repaired(path, verify_bytes)
        except ScanError as error:
            with open(path, "rb") as file:
                started = file.read(len(MAGIC)) == MAGIC
            if started or path.is_symlink():
                raise RecoveryError(f"{folder}: {error}") from error
            _set_aside(path)
            empty.append(path.name)
            continue
        if _is_compressed_by_message(found):
            raise RecoveryError(
                f"{folder}: {path.name}: its messages are compressed one by one, which only its "
                f"own {METADATA_FILE} can tell other readers; read {path} by itself"
            )
        scans.append(found)
        lost += [f"{path.name}: {what}" for what in taken_out]
    return scans, tuple(empty), tuple(lost)


def _recover_sqlite(folder: Path, paths: Sequence[Path], absent: tuple[str, ...]) -> Recovered:
    """Write the `metadata.yaml` of sqlite3 files; sqlite mends itself when it can."""
    files, topics = [], {}
    for path in paths:
        try:
            storage = SqliteStorage(path)
        except StorageError as error:
            raise RecoveryError(
                f"{folder}: {error}; sqlite3 files are not mended here: try `sqlite3 {path} "
                "'.recover'`, or copy it again"
            ) from error
        storage.close()
        counts: Counter[str] = Counter()
        for topic in storage.topics:
            counts[topic.name] += topic.count
            type_ = MessageType(topic.type, topic.definition, topic.type_hash)
            topics[topic.name] = BagTopic(topic.name, type_, _qos(topic.qos))
        files.append(FileSummary(path.name, storage.start_ns, storage.end_ns, counts))
    if not needs_recovery(folder):
        return _recovered(folder, files)
    _require_different(folder, files)
    write_metadata(folder, topics.values(), files, "sqlite3")
    _end_episode(folder, [], files, topics.values())
    return _recovered(folder, files, absent=absent)


def _set_aside(path: Path) -> None:
    """Give a file that is of no use another name, over no other."""
    name, number = f"{path.name}.damaged", 1
    while path.with_name(name).exists():
        number += 1
        name = f"{path.name}.damaged-{number}"
    path.rename(path.with_name(name))


def _require_different(folder: Path, files: Sequence[FileSummary]) -> None:
    """Refuse a copy of a file among the files of a recording."""
    seen: dict[Any, str] = {}
    for file in files:
        key = (file.start_ns, file.end_ns, frozenset(file.counts.items()))
        if file.counts.total() and key in seen:
            raise RecoveryError(
                f"{folder}: {seen[key]} and {file.path} hold the same messages; move one of them "
                "away and recover it then"
            )
        seen[key] = file.path


def _recovered(place: Path, files: Sequence[FileSummary], **further: Any) -> Recovered:
    filled = [file for file in files if file.counts.total()]
    return Recovered(
        place,
        messages=sum(file.counts.total() for file in files),
        duration_s=_span_ns(filled) / 1e9,
        **further,
    )


def _is_compressed_by_message(found: Scan) -> bool:
    chunk = next((chunk for chunk in found.chunks if chunk.messages.total()), None)
    if chunk is None:
        return False
    try:
        with open(found.path, "rb") as file:
            data = content(file, chunk)
        first = next(messages_in(data, chunk), None)
    except ChunkError:
        return False
    return first is not None and data[first[3] : first[4]].startswith(ZSTD)


def _file_summary(found: Scan) -> FileSummary:
    filled = [chunk for chunk in found.chunks if chunk.messages.total()]
    return FileSummary(
        found.path.name,
        min((chunk.start_ns for chunk in filled), default=0),
        max((chunk.end_ns for chunk in filled), default=0),
        found.counts,
    )


def _topics(scans: Iterable[Scan]) -> list[BagTopic]:
    topics: dict[str, BagTopic] = {}
    for found in scans:
        for channel in found.channels.values():
            schema = found.schemas.get(channel.schema_id)
            if schema is None:
                continue
            type_hash = channel.metadata.get("topic_type_hash", "")
            type_ = MessageType(schema.name, schema.data.decode(errors="replace"), type_hash)
            qos = _qos(channel.metadata.get("offered_qos_profiles", ""))
            topics[channel.topic] = BagTopic(channel.topic, type_, qos)
    return list(topics.values())


@cache  # the same for most topics
def _qos(text: str) -> tuple[dict[str, Any], ...]:
    """QoS of a topic; none where the recording's is not readable."""
    try:
        found = strict_yaml.parse(text)
    except strict_yaml.YamlError:
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(profile for profile in found if isinstance(profile, dict))


def _end_episode(
    folder: Path,
    scans: Sequence[Scan],
    files: Sequence[FileSummary],
    bag_topics: Iterable[BagTopic] | None = None,
) -> None:
    try:
        record = read_episode(folder)
    except EpisodeFileError as error:
        if isinstance(error, EpisodeDamagedError):
            _set_aside(folder / EPISODE_FILE)
        elif (folder / EPISODE_FILE).is_file():
            return
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
        for topic in (_topics(scans) if bag_topics is None else bag_topics)
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
                body = file.read(index.length - HEADER.size)
            with suppress(RecordError, EpisodeFileError):
                return parse_episode(metadata_of(body)[1].get(EPISODE_FILE, ""))
    return None


def _span_ns(files: Sequence[FileSummary]) -> int:
    if not files:
        return 0
    return max(file.end_ns for file in files) - min(file.start_ns for file in files)


def _number(path: Path) -> tuple[int, str]:
    """Order of a recording's files: `_9` before `_10`."""
    number = re.search(r"_(\d{1,9})$", path.stem)
    return int(number[1]) if number else -1, path.name
