"""The few MCAP records that are read, from bytes that may be damaged or lie.

https://mcap.dev/spec
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mcap.opcode import Opcode
from mcap.records import AttachmentIndex, Channel, Schema

MAGIC = b"\x89MCAP0\r\n"
HEADER = struct.Struct("<BQ")  # opcode and length before every record
FOOTER_BYTES = HEADER.size + 20 + len(MAGIC)
CHUNK_HEAD = struct.Struct("<QQQI")  # first and last log time, bytes uncompressed, CRC
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log and publish time
# Records with these opcodes are a program's own: every reader passes over them.
PRIVATE = 0x80
# Ours: the chunk behind it stood at the byte that it names; its index had been damaged there.
MOVED = struct.Struct("<BQQ")
MOVED_OPCODE = 0x81
INDEX_HEAD_BYTES = HEADER.size + 6  # before the entries: channel, and their bytes
# Definitions, metadata and indexes; messages and chunks have their own bounds.
MAX_RECORD_BYTES = 16 << 20
# Of one chunk; one of a recorder has 1 MB and so at most 34,000 messages. A few kilobytes of
# compressed zeros would else be read for minutes.
MAX_RECORDS = 1 << 20


class RecordError(ValueError):
    """A record is not what its opcode says."""


@dataclass
class Fields:
    """Takes the fields of a record's body one after the other; raises RecordError at its end."""

    body: bytes
    at: int = 0

    def number(self, size: int) -> int:
        """Unsigned, of `size` bytes."""
        return int.from_bytes(self.bytes(size), "little")

    def bytes(self, size: int) -> bytes:
        """So many bytes."""
        taken = self.body[self.at : self.at + size]
        if len(taken) != size:
            raise RecordError(f"a field of {size} bytes in a record of {len(self.body)}")
        self.at += size
        return taken

    def text(self) -> str:
        """A string behind its length."""
        try:
            return self.bytes(self.number(4)).decode()
        except UnicodeDecodeError as error:
            raise RecordError(f"a text that is no UTF-8: {error.reason}") from None

    def mapping(self) -> dict[str, str]:
        """Strings by strings."""
        end = self.number(4) + self.at
        found = {}
        while self.at < end:
            key = self.text()
            found[key] = self.text()
        return found


def schema_of(body: bytes) -> Schema:
    """A schema record; raises RecordError."""
    fields = Fields(body)
    number, name, encoding = fields.number(2), fields.text(), fields.text()
    return Schema(id=number, name=name, encoding=encoding, data=fields.bytes(fields.number(4)))


def channel_of(body: bytes) -> Channel:
    """A channel record; raises RecordError."""
    fields = Fields(body)
    number, schema, topic, encoding = (
        fields.number(2),
        fields.number(2),
        fields.text(),
        fields.text(),
    )
    return Channel(
        id=number,
        topic=topic,
        message_encoding=encoding,
        metadata=fields.mapping(),
        schema_id=schema,
    )


def metadata_of(body: bytes) -> tuple[str, dict[str, str]]:
    """Name and content of a metadata record; raises RecordError."""
    fields = Fields(body)
    return fields.text(), fields.mapping()


def attachment_index(at: int, length: int, head: bytes) -> AttachmentIndex:
    """Index of an attachment by the first bytes of its body; raises RecordError."""
    fields = Fields(head)
    log_ns, create_ns = fields.number(8), fields.number(8)
    name, media_type, size = fields.text(), fields.text(), fields.number(8)
    if fields.at + size + 4 != length:
        raise RecordError(f"an attachment of {size} bytes in a record of {length}")
    return AttachmentIndex(at, HEADER.size + length, log_ns, create_ns, size, name, media_type)


def channel_counts(summary: bytes) -> dict[int, int] | None:
    """Messages per channel as the statistics in a file's summary have them; None: it has none."""
    for opcode, start, length in records(summary):
        if opcode == Opcode.STATISTICS:
            fields = Fields(summary[start : start + length], 42)
            end = fields.number(4) + fields.at
            counts = {}
            while fields.at < end:
                channel = fields.number(2)
                counts[channel] = fields.number(8)
            return counts
        if opcode == Opcode.FOOTER:
            break
    return None


def records(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (opcode, start of the body, its length) of records one behind the other.

    Raises:
        RecordError: one reaches beyond the end, is of zeros, or there are more than `MAX_RECORDS`.
    """
    at = n = 0
    while at < len(data):
        n += 1
        if n > MAX_RECORDS:
            raise RecordError(f"more than {MAX_RECORDS} records; write smaller chunks")
        if at + HEADER.size > len(data):
            raise RecordError(f"{len(data) - at} bytes are no record")
        opcode, length = HEADER.unpack_from(data, at)
        if opcode == 0:
            raise RecordError(f"zeros instead of a record, {at} bytes from its beginning")
        start = at + HEADER.size
        if start + length > len(data):
            raise RecordError(f"a record of {length} bytes reaches beyond the end")
        yield opcode, start, length
        at = start + length
