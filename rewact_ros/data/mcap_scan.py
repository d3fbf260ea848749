"""The records of an MCAP file that was cut off anywhere, and the end that it lacks.

Only chunk headers and message indexes are read, so that gigabytes take a moment.
"""

import os
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

MAGIC = b"\x89MCAP0\r\n"
HEADER = struct.Struct("<BQ")  # opcode and length before every record
FOOTER_BYTES = HEADER.size + 20 + len(MAGIC)
_CHUNK = struct.Struct("<QQQI")  # first and last log time, bytes uncompressed, CRC
# After a power failure the newest blocks of a file may be missing: so much of its end is verified.
VERIFIED_BYTES = 256 << 20


class ScanError(ValueError):
    """A file is no MCAP file, or one without chunks; the message names it."""


@dataclass
class Chunk:
    """Place and content of one chunk; `messages` are per channel, `offsets` of their indexes."""

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


@dataclass
class Scan:
    """What is whole in a file. `complete`: it has its summary and footer."""

    path: Path
    complete: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    attachments: list[AttachmentIndex] = field(default_factory=list)
    metadata: list[MetadataIndex] = field(default_factory=list)
    end: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Messages per topic."""
        counts: Counter[str] = Counter()
        for chunk in self.chunks:
            for channel, n in chunk.messages.items():
                counts[self.channels[channel].topic] += n
        return counts


def scan(path: Path) -> Scan:
    """Read a file's records up to where it was cut off; its last chunk gets no indexes.

    Raises:
        ScanError: not an MCAP file in chunks.
    """
    found = Scan(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise ScanError(f"{path}: expected an MCAP file, got something else")
        _read_records(file, size, found)
        _check_last_chunks(file, found)
        for chunk in found.chunks:
            if chunk.messages.keys() - found.channels.keys():
                _take_definitions(found, content(file, chunk))
    return found


def content(file: BinaryIO, chunk: Chunk) -> bytes | None:
    """Uncompressed records of a chunk, or None where they are damaged."""
    file.seek(chunk.data_start)
    data = _decompress(file.read(chunk.data_size), chunk)
    if data is None or len(data) != chunk.size or (chunk.crc and zlib.crc32(data) != chunk.crc):
        return None
    return data


def _decompress(data: bytes, chunk: Chunk) -> bytes | None:
    if chunk.compression == "zstd":
        try:
            return zstandard.decompress(data, max_output_size=chunk.size)
        except zstandard.ZstdError:
            return None
    if chunk.compression == "lz4":  # never ours
        import lz4.frame

        try:
            return lz4.frame.decompress(data)
        except RuntimeError:
            return None
    return data


def index_of(data: bytes) -> dict[int, MessageIndex]:
    """Message indexes of a chunk's content."""
    indexes: dict[int, MessageIndex] = {}
    for opcode, offset, body in _records(data):
        if opcode == Opcode.MESSAGE:
            channel, _, log_ns = struct.unpack_from("<HIQ", body)
            indexes.setdefault(channel, MessageIndex(channel, [])).records.append((log_ns, offset))
    return indexes


def summary(found: Scan, at: int) -> bytes:
    """Everything that a file needs after its data section, which ends at byte `at`."""
    data_end = RecordBuilder()
    DataEnd(0).write(data_end)
    start = at + data_end.count
    counts: Counter[int] = sum((chunk.messages for chunk in found.chunks), Counter())
    filled = [chunk for chunk in found.chunks if chunk.messages]
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


def _read_records(file: BinaryIO, size: int, found: Scan) -> None:
    """Go from record to record, seeking over the chunks' data."""
    at = found.end = len(MAGIC)
    while at + HEADER.size <= size:
        file.seek(at)
        opcode, length = HEADER.unpack(file.read(HEADER.size))
        end = at + HEADER.size + length
        if opcode == 0 or end > size:  # zeros where a power failure ate the data, or cut off
            return
        if opcode == Opcode.DATA_END:
            file.seek(max(size - FOOTER_BYTES, 0))
            tail = file.read()
            found.complete = tail.endswith(MAGIC) and tail[:1] == bytes([Opcode.FOOTER])
            return
        if opcode == Opcode.MESSAGE:
            raise ScanError(f"{found.path}: has messages outside of chunks; use `mcap recover`")
        _take_record(file, Opcode(opcode) if opcode < 0x80 else None, at, length, found)
        at = found.end = end


def _take_record(file: BinaryIO, opcode: Opcode | None, at: int, length: int, found: Scan) -> None:
    stream = ReadDataStream(file)
    if opcode == Opcode.CHUNK:
        start_ns, end_ns, size, crc = _CHUNK.unpack(stream.read(_CHUNK.size))
        compression = stream.read_prefixed_string()
        data_size = stream.read8()
        chunk = Chunk(at, HEADER.size + length, start_ns, end_ns, size, crc, compression,
                      file.tell(), data_size)  # fmt: skip
        chunk.index_end = at + chunk.length
        found.chunks.append(chunk)
    elif opcode == Opcode.MESSAGE_INDEX and found.chunks:
        channel, entries = stream.read2(), stream.read4() // 16
        chunk = found.chunks[-1]
        chunk.messages[channel] = entries
        chunk.offsets[channel] = at
        chunk.index_end = at + HEADER.size + length
    elif opcode == Opcode.SCHEMA:
        schema = Schema.read(stream)
        found.schemas[schema.id] = schema
    elif opcode == Opcode.CHANNEL:
        channel_record = Channel.read(stream)
        found.channels[channel_record.id] = channel_record
    elif opcode == Opcode.METADATA:
        name = Metadata.read(stream).name
        found.metadata.append(MetadataIndex(at, HEADER.size + length, name))
    elif opcode == Opcode.ATTACHMENT:
        a = Attachment.read(stream)
        found.attachments.append(
            AttachmentIndex(at, HEADER.size + length, a.log_time, a.create_time, len(a.data),
                            a.name, a.media_type)
        )  # fmt: skip


def _check_last_chunks(file: BinaryIO, found: Scan) -> None:
    """Cut at the first damaged chunk near the end; the last chunk's index may be missing."""
    if found.complete or not found.chunks:
        return
    first = next(
        i for i, c in enumerate(found.chunks) if c.start + c.length > found.end - VERIFIED_BYTES
    )
    for i in range(first, len(found.chunks)):
        chunk = found.chunks[i]
        data = content(file, chunk)
        if data is None:
            drop_from(found, i)
            return
        _take_definitions(found, data)
        if i == len(found.chunks) - 1:
            chunk.messages = Counter({c: len(m.records) for c, m in index_of(data).items()})
            chunk.offsets, chunk.index_end = {}, chunk.start + chunk.length
            found.end = chunk.index_end  # records behind it are written anew, or lost with it
            found.metadata = [m for m in found.metadata if m.offset < found.end]
            found.attachments = [a for a in found.attachments if a.offset < found.end]


def drop_from(found: Scan, index: int) -> None:
    """Leave out chunk `index` and all that follows."""
    found.end = found.chunks[index].start
    del found.chunks[index:]
    found.metadata = [m for m in found.metadata if m.offset < found.end]
    found.attachments = [a for a in found.attachments if a.offset < found.end]


def _take_definitions(found: Scan, data: bytes | None) -> None:
    for opcode, _, body in _records(data or b""):
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(ReadDataStream(BytesIO(body)))
            found.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(ReadDataStream(BytesIO(body)))
            found.channels[channel.id] = channel


def _records(data: bytes) -> list[tuple[int, int, bytes]]:
    """(opcode, offset, body) of the records of a chunk's content; messages only by their head."""
    found, at = [], 0
    while at + HEADER.size <= len(data):
        opcode, length = HEADER.unpack_from(data, at)
        start = at + HEADER.size
        shown = min(length, 22) if opcode == Opcode.MESSAGE else length
        found.append((opcode, at, data[start : start + shown]))
        at = start + length
    return found


def _chunk_index(chunk: Chunk) -> ChunkIndex:
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
