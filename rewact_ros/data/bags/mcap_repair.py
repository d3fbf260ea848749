"""An MCAP file that was cut off or damaged is made whole in place.

No whole chunk is lost: what is no record is covered by a private one, which every reader passes
over, and the index that a reader needs is written behind the rest.
"""

import errno
import os
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import BinaryIO

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Statistics,
    SummaryOffset,
)

from rewact_ros.data.bags.mcap_records import HEADER, MAGIC, MOVED, MOVED_OPCODE, PRIVATE
from rewact_ros.data.bags.mcap_scan import (
    VERIFIED_BYTES,
    ChunkError,
    ChunkRecord,
    Scan,
    ScanError,
    content,
    drop_from,
    index_of,
    scan,
    torn_content,
)

# The disk, the quota or the largest allowed file is full.
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def repaired(path: Path, verify_bytes: int = VERIFIED_BYTES) -> tuple[Scan, list[str]]:
    """Give a file what it lacks; a whole one is left alone.

    Where there is no room for index and footer, they take that of the last chunks.

    Args:
        path: the file.
        verify_bytes: so much of its end is verified by content.

    Returns:
        what it holds then, and what was taken out of it.

    Raises:
        ScanError: not an MCAP file, or one that cannot be mended in place.
        OSError: not writable, or no room at all.
    """
    if path.is_symlink():
        raise ScanError(f"{path.name}: is a link; mend the file that it points to")
    found = scan(path, verify_bytes)
    lost = [f"{end - start} bytes at {start}: {why}" for start, end, why in found.damaged]
    if found.closed and not found.complete and not found.damaged:
        lost.append(f"the index of {len(found.reindex)} chunks was written anew")
    torn = b""
    if not found.closed and found.torn is not None:
        with open(path, "rb") as file:
            torn = torn_content(file, found)
    while not found.complete:
        if any(chunk.loose for chunk in found.chunks):
            raise ScanError(
                f"{found.why()}; has messages outside of chunks, which only `mcap recover` of the "
                "MCAP command line tool mends, into a new file"
            )
        try:
            _complete(found, torn)
        except OSError as error:
            if error.errno in NO_ROOM and torn:
                torn = b""
                continue
            if error.errno not in NO_ROOM or not found.chunks or found.damaged or found.reindex:
                raise
            drop_from(found, len(found.chunks) - 1)
    return found, lost


def summary(found: Scan, at: int) -> bytes:
    """Everything that a file needs after its data section, which ends at byte `at`."""
    data_end = RecordBuilder()
    DataEnd(0).write(data_end)
    start = at + data_end.count
    counts: Counter[int] = sum((chunk.messages for chunk in found.chunks), Counter())
    filled = [chunk for chunk in found.chunks if chunk.messages.total()]
    statistics = Statistics(
        attachment_count=len(found.attachments),
        channel_count=len(found.channels),
        channel_message_counts=dict(counts),
        chunk_count=len(found.chunks),
        message_count=counts.total(),
        message_end_time=max((chunk.end_ns for chunk in filled), default=0),
        message_start_time=min((chunk.start_ns for chunk in filled), default=0),
        metadata_count=len(found.metadata),
        schema_count=len(found.schemas),
    )
    groups: list[tuple[Opcode, list[McapRecord]]] = [
        (Opcode.SCHEMA, [*found.schemas.values()]),
        (Opcode.CHANNEL, [*found.channels.values()]),
        (Opcode.STATISTICS, [statistics]),
        (Opcode.CHUNK_INDEX, [_chunk_index(chunk) for chunk in found.chunks]),
        (Opcode.ATTACHMENT_INDEX, [*found.attachments]),
        (Opcode.METADATA_INDEX, [*found.metadata]),
    ]
    builder, offsets = RecordBuilder(), []
    for opcode, records in groups:
        group_start = builder.count
        for record in records:
            record.write(builder)
        if records:
            offsets.append(SummaryOffset(opcode, start + group_start, builder.count - group_start))
    offset_start = start + builder.count
    for offset in offsets:
        offset.write(builder)
    body = builder.end()
    footer = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offset_start)
    Footer(start, offset_start, zlib.crc32(footer, zlib.crc32(body))).write(builder)
    return data_end.end() + body + builder.end() + MAGIC


def _complete(found: Scan, torn: bytes) -> None:
    """Cut the file at its last whole chunk, cover what is damaged and write what it lacks.

    `torn`: whole records of the chunk that was cut off, which become a chunk of their own.
    """
    covered = [(start, end) for start, end, _ in found.damaged if end > start]
    if any(end - start < len(_cover(start, end)[1]) for start, end in covered):
        raise ScanError(f"{found.why()}; too few bytes to cover, so that it cannot be mended")
    with open(found.path, "r+b", buffering=0) as file:
        file.truncate(found.end)
        place = found.end
        for chunk in found.reindex.values():
            covered.append((chunk.start, chunk.index_end))
            place = _move_to_end(file, chunk, place)
        tail = RecordBuilder()
        last = found.chunks[-1] if found.chunks else None
        if last is not None and (last.offsets or last.index_end > last.start + last.length):
            last = None  # it has its index
        if last is not None:
            _index_behind(tail, file, last, place)
        rest = _chunk_of(torn, tail, place) if torn else None
        if rest is not None:
            found.chunks.append(rest)
        data = tail.end()
        try:
            _write(file, place, data + summary(found, place + len(data)))
        except OSError:
            if rest is not None:
                found.chunks.remove(rest)
            if last is not None:  # what was written of its index is cut away again
                last.offsets, last.index_end = {}, last.start + last.length
            raise
        for start, end in covered:  # only now that all of it stands elsewhere
            _write(file, *_cover(start, end))
        os.fsync(file.fileno())
    found.closed, found.damaged, found.reindex = True, [], {}


def _chunk_of(data: bytes, tail: RecordBuilder, place: int) -> ChunkRecord | None:
    """Write records as a chunk with its index, which will stand at `place`; None: no message."""
    start = place + tail.count
    chunk = ChunkRecord(start, 0, 0, (1 << 63) - 1, len(data), zlib.crc32(data), "", 0, len(data))
    try:
        indexes = index_of(data, chunk)
    except ChunkError:
        return None
    times = [log_ns for index in indexes.values() for log_ns, _ in index.records]
    if not times:
        return None
    chunk.start_ns, chunk.end_ns = min(times), max(times)
    Chunk(
        compression="",
        data=data,
        message_start_time=chunk.start_ns,
        message_end_time=chunk.end_ns,
        uncompressed_crc=chunk.crc,
        uncompressed_size=chunk.size,
    ).write(tail)
    chunk.length = place + tail.count - start
    chunk.data_start = start + chunk.length - len(data)
    for channel, index in indexes.items():
        chunk.messages[channel] = len(index.records)
        chunk.offsets[channel] = place + tail.count
        index.write(tail)
    chunk.index_end = place + tail.count
    return chunk


def _cover(start: int, end: int) -> tuple[int, bytes]:
    """Where and what is written, so that readers pass over a range, or begin behind it."""
    head = b""
    if start <= len(MAGIC):
        builder = RecordBuilder()
        Header(profile="ros2", library="rewact_ros").write(builder)
        start, head = 0, MAGIC + builder.end()
    size = end - start - len(head) - HEADER.size
    return start, head + HEADER.pack(PRIVATE, max(size, 0))


def _move_to_end(file: BinaryIO, chunk: ChunkRecord, place: int) -> int:
    """Write a chunk once more at `place`, with all of its index; returns the byte behind it."""
    file.seek(chunk.start)
    record = file.read(chunk.length)
    _write(file, place, MOVED.pack(MOVED_OPCODE, 8, chunk.origin) + record)
    place += MOVED.size
    chunk.start, chunk.data_start = place, chunk.data_start + place - chunk.start
    tail = RecordBuilder()
    _index_behind(tail, file, chunk, place + len(record))
    data = tail.end()
    _write(file, place + len(record), data)
    return place + len(record) + len(data)


def _index_behind(tail: RecordBuilder, file: BinaryIO, chunk: ChunkRecord, place: int) -> None:
    """Write the indexes of a chunk that will stand at `place`."""
    try:
        indexes = index_of(content(file, chunk), chunk)
    except ChunkError:
        indexes = {}
    chunk.messages, chunk.offsets = Counter(), {}
    for channel, index in indexes.items():
        chunk.messages[channel] = len(index.records)
        chunk.offsets[channel] = place + tail.count
        index.write(tail)
    chunk.index_end = place + tail.count


def _write(file: BinaryIO, at: int, data: bytes) -> None:
    file.seek(at)
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _chunk_index(chunk: ChunkRecord) -> ChunkIndex:
    return ChunkIndex(
        chunk_length=chunk.length,
        chunk_start_offset=chunk.start,
        compression=chunk.compression,
        compressed_size=chunk.data_size,
        message_end_time=chunk.end_ns,
        message_index_length=chunk.index_end - chunk.start - chunk.length,
        message_index_offsets=chunk.offsets,
        message_start_time=chunk.start_ns,
        uncompressed_size=chunk.size,
    )
