"""The records of an MCAP file, whole, damaged or cut off anywhere.

The records themselves are the truth; indexes and summary may lie. Only their heads are read, so
that gigabytes take a moment. Behind a damaged place the next chunk is looked for.
"""

import mmap
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mcap.opcode import Opcode
from mcap.records import AttachmentIndex, Channel, MessageIndex, MetadataIndex, Schema

from rewact_ros.data.bags.decompress import MAX_BYTES, DecompressError, beginning, decompress
from rewact_ros.data.bags.mcap_records import (
    CHUNK_HEAD,
    FOOTER_BYTES,
    HEADER,
    MAGIC,
    MAX_RECORD_BYTES,
    MESSAGE_HEAD,
    MOVED_OPCODE,
    Fields,
    RecordError,
    attachment_index,
    channel_counts,
    channel_of,
    metadata_of,
    records,
    schema_of,
)

# After a power failure the newest blocks of a file may be missing: so much of its end is verified.
VERIFIED_BYTES = 256 << 20
EVERYTHING = 1 << 62
MAX_NS = (1 << 63) - 1  # MCAP has a bit more, NumPy and ROS have not
# Messages outside of chunks are read in runs of about this size.
_RUN_BYTES = 1 << 20
_HEAD_BYTES = 4096
_COMPRESSIONS = rb"\0{4}|\x04\0{3}zstd|\x03\0{3}lz4"
_CHUNK = re.compile(rb"(?s)\x06.{5}\0{3}.{28}(?:" + _COMPRESSIONS + rb")")


class ScanError(ValueError):
    """A file is no MCAP file, or cannot be read as one; the message names it."""


class ChunkError(ValueError):
    """A chunk is damaged, or larger than anything that is read; the message says which."""


@dataclass
class ChunkRecord:
    """Place and content of one chunk; `messages` are per channel, `offsets` of their indexes.

    `loose`: no chunk, but messages that stand in the file by themselves. `origin`: where it was
    written first, for the order of writing.
    """

    start: int
    length: int
    start_ns: int
    end_ns: int
    size: int
    crc: int
    compression: str
    data_start: int
    data_size: int
    messages: Counter[int] = field(default_factory=Counter)
    offsets: dict[int, int] = field(default_factory=dict)
    index_end: int = 0
    loose: bool = False
    origin: int = -1

    def __post_init__(self) -> None:
        self.origin = self.start if self.origin < 0 else self.origin


@dataclass
class Scan:
    """What is whole in a file.

    Attributes:
        closed: it has its summary and footer.
        damaged: (first byte, byte behind) of what is no record, and why.
        end: of the data section, or of what is whole in it.
        reindex: chunks whose own index is damaged, by their first byte.
        moved: where the next chunk was written first.
        torn: first byte of a chunk that the end of the file cuts off.
    """

    path: Path
    closed: bool = False
    chunks: list[ChunkRecord] = field(default_factory=list)
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    attachments: list[AttachmentIndex] = field(default_factory=list)
    metadata: list[MetadataIndex] = field(default_factory=list)
    damaged: list[tuple[int, int, str]] = field(default_factory=list)
    reindex: dict[int, ChunkRecord] = field(default_factory=dict)
    end: int = 0
    moved: int | None = None
    torn: int | None = None

    @property
    def complete(self) -> bool:
        """Whether it is closed and nothing in it is damaged."""
        return self.closed and not self.damaged and not self.reindex

    @property
    def counts(self) -> Counter[str]:
        """Messages per topic."""
        counts: Counter[str] = Counter()
        for chunk in self.chunks:
            for channel, n in chunk.messages.items():
                if channel in self.channels:
                    counts[self.channels[channel].topic] += n
        return counts

    def why(self) -> str:
        """What is wrong with it; empty: nothing."""
        if self.damaged:
            start, _, why = self.damaged[0]
            return f"{self.path.name}: damaged at byte {start} ({why})"
        return "" if self.closed else f"{self.path.name}: cut off at byte {self.end}"


def scan(path: Path, verify_bytes: int = 0) -> Scan:
    """Read a file's records.

    Args:
        path: the file.
        verify_bytes: so much of its end is verified by content; of a file that was cut off at least
            the last chunk.

    Raises:
        ScanError: not an MCAP file.
        OSError: not readable.
    """
    found = Scan(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = len(MAGIC)
        if file.read(at) != MAGIC:
            first = _next_chunk(file, 0, size) if size else None
            if first is None:
                raise ScanError(f"{path.name}: expected an MCAP file, got something else")
            found.damaged.append((0, first, "its beginning is missing"))
            at = first
        _read_records(file, at, size, found)
        if verify_bytes:
            _verify(file, found, verify_bytes)
        unread: list[ChunkRecord] = []
        for chunk in found.chunks:
            if not chunk.loose and not chunk.messages:
                chunk.messages = _count(file, found, chunk)
            else:
                unread.append(chunk)
                _define_all(file, found, chunk, unread)
        if found.closed:
            _define_from_summary(file, size, found)
        if found.closed and not found.damaged:
            _compare_with_summary(file, size, found)
    return found


def is_closed(path: Path) -> bool:
    """Whether a file ends as a finished one does; nothing else of it is read.

    Raises:
        OSError: not readable.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(len(MAGIC))
        file.seek(max(size - FOOTER_BYTES, 0))
        tail = file.read()
    return head == MAGIC and tail.endswith(MAGIC) and tail[:1] == bytes([Opcode.FOOTER])


def content(file: BinaryIO, chunk: ChunkRecord) -> bytes:
    """Uncompressed records of a chunk.

    Raises:
        ChunkError: damaged, or larger than anything that is read.
    """
    file.seek(chunk.data_start)
    try:
        data = decompress(chunk.compression, file.read(chunk.data_size), chunk.size)
    except DecompressError as error:
        raise ChunkError(f"chunk at byte {chunk.start}: {error}") from error
    if chunk.crc and zlib.crc32(data) != chunk.crc:
        raise ChunkError(f"chunk at byte {chunk.start}: its checksum does not match")
    return data


def messages_in(data: bytes, chunk: ChunkRecord) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (channel, log time, offset of the record, start and end of the bytes) of messages.

    Raises:
        ChunkError: what is in the chunk are no records, or its head lies about their times.
    """
    try:
        for opcode, start, length in records(data):
            if opcode != Opcode.MESSAGE:
                continue
            if length < MESSAGE_HEAD.size:
                raise RecordError(f"a message of {length} bytes")
            channel, _, log_ns, _ = MESSAGE_HEAD.unpack_from(data, start)
            if not chunk.start_ns <= log_ns <= min(chunk.end_ns, MAX_NS):
                raise RecordError(f"a message at {log_ns} ns outside of the chunk's times")
            yield (
                channel,
                log_ns,
                start - HEADER.size,
                start + MESSAGE_HEAD.size,
                start + length,
            )
    except RecordError as error:
        raise ChunkError(f"chunk at byte {chunk.start}: {error}") from error


def torn_content(file: BinaryIO, found: Scan) -> bytes:
    """Whole records of the chunk that the end of the file cuts off; none where they are damaged."""
    if found.torn is None:
        return b""
    file.seek(found.torn + HEADER.size)
    try:
        fields = Fields(file.read(CHUNK_HEAD.size + 64))
        _, _, size, _ = CHUNK_HEAD.unpack(fields.bytes(CHUNK_HEAD.size))
        compression = fields.text()
        fields.number(8)
        file.seek(found.torn + HEADER.size + fields.at)
        plain = beginning(compression, file.read(MAX_BYTES), size)
        whole = plain[: _whole_records(plain)]
        _define_from(found, whole)
    except (RecordError, DecompressError):
        return b""
    return whole


def _whole_records(plain: bytes) -> int:
    """Bytes of the whole records at the beginning of a chunk's content."""
    end = 0
    try:
        for opcode, start, length in records(plain):
            if opcode not in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                break
            end = start + length
    except RecordError:  # the last one reaches beyond what is there
        return end
    return end


def index_of(data: bytes, chunk: ChunkRecord) -> dict[int, MessageIndex]:
    """Message indexes of a chunk's content; raises ChunkError."""
    indexes: dict[int, MessageIndex] = {}
    for channel, log_ns, offset, _, _ in messages_in(data, chunk):
        indexes.setdefault(channel, MessageIndex(channel, [])).records.append((log_ns, offset))
    return indexes


def drop_from(found: Scan, index: int) -> None:
    """Leave out chunk `index` and all that follows."""
    found.end = found.chunks[index].start
    for chunk in found.chunks[index:]:
        found.reindex.pop(chunk.start, None)
    del found.chunks[index:]
    found.metadata = [m for m in found.metadata if m.offset < found.end]
    found.attachments = [a for a in found.attachments if a.offset < found.end]
    found.damaged = [d for d in found.damaged if d[1] <= found.end]


# Record by record ------------------------------------------------------------------------------


def _read_records(file: BinaryIO, at: int, size: int, found: Scan) -> None:
    """Go from record to record, seeking over the chunks' data."""
    found.end = at
    while at + HEADER.size <= size:
        file.seek(at)
        opcode, length = HEADER.unpack(file.read(HEADER.size))
        end = at + HEADER.size + length
        why = ""
        if opcode == 0 or end > size:  # zeros where a power failure ate the data, or cut off
            why = f"a record of {length} bytes reaches beyond the file" if opcode else "zeros"
        elif opcode == Opcode.DATA_END:
            file.seek(max(size - FOOTER_BYTES, 0))
            tail = file.read()
            found.closed = tail.endswith(MAGIC) and tail[:1] == bytes([Opcode.FOOTER])
            found.end = at
            return
        else:
            try:
                _take_record(file, opcode, at, length, found)
            except RecordError as error:
                why = str(error)
        if not why:
            at = found.end = end
            continue
        following = _next_chunk(file, at + 1, size)
        if following is None:
            found.torn = at if opcode == Opcode.CHUNK and end > size else None
            return
        found.damaged.append((at, following, why))
        if found.chunks and found.chunks[-1].index_end == at and not found.chunks[-1].loose:
            found.reindex[found.chunks[-1].start] = found.chunks[-1]
        at = following


def _take_record(file: BinaryIO, opcode: int, at: int, length: int, found: Scan) -> None:
    if (opcode == Opcode.HEADER) != (at == len(MAGIC)):
        raise RecordError("a header where none is expected, or none where one is")
    if opcode == Opcode.CHUNK:
        found.chunks.append(_chunk_at(file, at, length))
        if found.moved is not None:
            found.chunks[-1].origin, found.moved = found.moved, None
        return
    if opcode == MOVED_OPCODE and length == 8:
        found.moved = int.from_bytes(file.read(8), "little")
        return
    if opcode == Opcode.MESSAGE:
        _take_loose(file, at, length, found)
        return
    if opcode == Opcode.ATTACHMENT:
        head = file.read(min(length, _HEAD_BYTES))
        found.attachments.append(attachment_index(at, length, head))
        return
    if opcode not in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA, Opcode.MESSAGE_INDEX):
        if Opcode.HEADER < opcode < 0x80:
            raise RecordError(f"opcode {opcode:#04x} where none is expected")
        return
    if length > MAX_RECORD_BYTES:
        raise RecordError(f"a definition of {length} bytes")
    if opcode == Opcode.MESSAGE_INDEX:
        _take_index(file, at, length, found)
        return
    body = file.read(length)
    if opcode == Opcode.METADATA:
        found.metadata.append(MetadataIndex(at, HEADER.size + length, metadata_of(body)[0]))
    else:
        _take_definition(found, opcode, body)


def _chunk_at(file: BinaryIO, at: int, length: int) -> ChunkRecord:
    fields = Fields(file.read(min(length, CHUNK_HEAD.size + 64)))
    start_ns, end_ns, size, crc = CHUNK_HEAD.unpack(fields.bytes(CHUNK_HEAD.size))
    compression, data_size = fields.text(), fields.number(8)
    if fields.at + data_size != length:
        raise RecordError(f"{data_size} bytes of data in a chunk of {length}")
    chunk = ChunkRecord(at, HEADER.size + length, start_ns, end_ns, size, crc, compression,
                  at + HEADER.size + fields.at, data_size)  # fmt: skip
    chunk.index_end = at + chunk.length
    return chunk


def _take_loose(file: BinaryIO, at: int, length: int, found: Scan) -> None:
    """Add a message that stands by itself to the run of those before it."""
    if not MESSAGE_HEAD.size <= length <= MAX_BYTES:
        raise RecordError(f"a message of {length} bytes")
    channel, _, log_ns, _ = MESSAGE_HEAD.unpack(file.read(MESSAGE_HEAD.size))
    run = found.chunks[-1] if found.chunks else None
    if run is None or not run.loose or run.index_end != at or run.size > _RUN_BYTES:
        run = ChunkRecord(at, 0, log_ns, log_ns, 0, 0, "", at, 0, loose=True)
        found.chunks.append(run)
    run.messages[channel] += 1
    run.start_ns, run.end_ns = min(run.start_ns, log_ns), max(run.end_ns, log_ns)
    run.index_end = at + HEADER.size + length
    run.length = run.size = run.data_size = run.index_end - run.start


def _take_index(file: BinaryIO, at: int, length: int, found: Scan) -> None:
    chunk = found.chunks[-1] if found.chunks else None
    head = Fields(file.read(6))
    channel, entries = head.number(2), head.number(4)
    if chunk is None or chunk.loose or chunk.index_end != at:
        raise RecordError("an index that belongs to no chunk")
    if entries != length - 6 or entries % 16 or channel in chunk.messages:
        raise RecordError(f"an index of {entries} bytes in a record of {length}")
    chunk.messages[channel] = entries // 16
    chunk.offsets[channel] = at
    chunk.index_end = at + HEADER.size + length


def _take_definition(found: Scan, opcode: int, body: bytes) -> None:
    if opcode == Opcode.SCHEMA:
        schema = schema_of(body)
        found.schemas[schema.id] = schema
        return
    channel = channel_of(body)
    known = found.channels.setdefault(channel.id, channel)
    if (known.topic, known.schema_id) != (channel.topic, channel.schema_id):
        raise RecordError(f"channel {channel.id} is {known.topic} and {channel.topic}")


def _next_chunk(file: BinaryIO, at: int, size: int) -> int | None:
    """First place from `at` on where a chunk begins, by the shape of its head."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while match := _CHUNK.search(data, at):
            place, at = match.start(), match.start() + 1
            _, length = HEADER.unpack_from(data, place)
            if place + HEADER.size + length > size:
                continue
            file.seek(place + HEADER.size)
            try:
                _chunk_at(file, place, length)
            except RecordError:
                continue
            return place
    return None


# Chunk by chunk --------------------------------------------------------------------------------


def _verify(file: BinaryIO, found: Scan, verify_bytes: int) -> None:
    """Read the last chunks and leave out what is damaged; the last one's index may be missing."""
    for i in range(len(found.chunks) - 1, -1, -1):
        chunk = found.chunks[i]
        is_near = chunk.start + chunk.length > found.end - verify_bytes
        if chunk.loose or not (is_near or chunk.start in found.reindex):
            continue
        is_last = i == len(found.chunks) - 1 and not found.closed
        try:
            indexes = index_of(content(file, chunk), chunk)
            _define(file, found, chunk)
        except ChunkError as error:
            _leave_out(found, i, str(error))
            continue
        found.reindex.pop(chunk.start, None)
        counted = Counter({channel: len(index.records) for channel, index in indexes.items()})
        if is_last:
            chunk.messages = counted
            chunk.offsets, chunk.index_end = {}, chunk.start + chunk.length
            found.end = chunk.index_end  # records behind it are written anew, or lost with it
            found.metadata = [m for m in found.metadata if m.offset < found.end]
            found.attachments = [a for a in found.attachments if a.offset < found.end]
        elif chunk.offsets and counted != chunk.messages:
            found.reindex[chunk.start] = chunk


def _leave_out(found: Scan, index: int, why: str) -> None:
    """Take a damaged chunk and its indexes for what is no record."""
    chunk = found.chunks[index]
    found.reindex.pop(chunk.start, None)
    if index == len(found.chunks) - 1 and not found.closed:
        drop_from(found, index)
        return
    del found.chunks[index]
    found.damaged.append((chunk.start, chunk.index_end, why))


def _count(file: BinaryIO, found: Scan, chunk: ChunkRecord) -> Counter[int]:
    """Messages per channel of a chunk without index; its definitions are taken as well."""
    try:
        data = content(file, chunk)
        _define_from(found, data)
        return Counter(channel for channel, *_ in messages_in(data, chunk))
    except (ChunkError, RecordError):
        return Counter()  # whoever reads it, or mends it, says so


def _define_all(file: BinaryIO, found: Scan, chunk: ChunkRecord, unread: list[ChunkRecord]) -> None:
    """Find the definitions of what a chunk holds: in it, or in a chunk before it.

    A topic may be announced long before its first message; writers define it where they hear of it.
    Each chunk is read once and taken off `unread`: in a file of which no chunk defines anything,
    all would be read for each.
    """
    missing = chunk.messages.keys() - found.channels.keys()
    while missing and unread:
        before = unread.pop()
        if not before.loose:
            _define(file, found, before)
            missing -= found.channels.keys()


def _define(file: BinaryIO, found: Scan, chunk: ChunkRecord) -> None:
    """Take the definitions that stand in a chunk; a damaged one has none to give."""
    try:
        _define_from(found, content(file, chunk))
    except (ChunkError, RecordError):
        return


def _define_from(found: Scan, data: bytes) -> None:
    for opcode, start, length in records(data):
        if opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
            if length > MAX_RECORD_BYTES:
                raise RecordError(f"a definition of {length} bytes")
            _take_definition(found, opcode, data[start : start + length])


def _define_from_summary(file: BinaryIO, size: int, found: Scan) -> None:
    """Take definitions that are gone with a damaged chunk from where a closed file repeats them.

    Writers define a channel once, before its first message: the chunks behind need it as well.
    """
    missing = {channel for chunk in found.chunks for channel in chunk.messages} - set(
        found.channels
    )
    if not missing or size - found.end > MAX_BYTES:
        return
    file.seek(found.end)
    repeated = Scan(found.path)
    try:
        _define_from(repeated, file.read(size - found.end - len(MAGIC)))
    except RecordError:
        return
    for channel in (repeated.channels[i] for i in sorted(missing & repeated.channels.keys())):
        found.channels[channel.id] = channel
        if channel.schema_id in repeated.schemas:
            found.schemas.setdefault(channel.schema_id, repeated.schemas[channel.schema_id])


def _compare_with_summary(file: BinaryIO, size: int, found: Scan) -> None:
    """A file whose summary counts other messages than its chunks have has lost some."""
    if size - found.end > MAX_BYTES:
        return
    file.seek(found.end)
    try:
        counts = channel_counts(file.read(size - found.end - len(MAGIC)))
    except RecordError:
        return  # the summary serves other readers; none of it is used here
    held: Counter[int] = sum((chunk.messages for chunk in found.chunks), Counter())
    for channel, n in (counts or {}).items():
        if held[channel] != n:
            why = f"its summary counts {n} messages of channel {channel}, it holds {held[channel]}"
            found.damaged.append((found.end, found.end, why))
            return
