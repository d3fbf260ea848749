"""Messages of an MCAP file by the indexes behind its chunks: when they were recorded, and where.

A topic that is a thousandth of a recording is read without the rest. What an index says is compared
with the message that stands there, but the checksum of a chunk, which covers all of it, is not.
"""

from typing import BinaryIO

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from rewact_ros.data.bags.mcap_records import HEADER, INDEX_HEAD_BYTES, MESSAGE_HEAD
from rewact_ros.data.bags.mcap_scan import MAX_NS, ChunkError, ChunkRecord, content, messages_in


def index_entries(file: BinaryIO, chunk: ChunkRecord, channel: int) -> NDArray[np.int64]:
    """(time of recording in ns, offset in the chunk) (n, 2) of a channel, in the order of writing.

    The chunk has an index of the channel.
    """
    file.seek(chunk.offsets[channel] + INDEX_HEAD_BYTES)
    raw = file.read(16 * chunk.messages[channel])
    entries: NDArray[np.uint64] = np.frombuffer(raw, "<u8").reshape(-1, 2)
    entries = entries[np.argsort(entries[:, 1], kind="stable")]
    return np.minimum(entries, MAX_NS).astype(np.int64)


def chunk_times(file: BinaryIO, chunk: ChunkRecord) -> dict[int, NDArray[np.int64]]:
    """Times (n,) of a chunk's messages per channel, ns, in the order in which they were written.

    No chunk that has indexes is decompressed. Raises ChunkError.
    """
    if chunk.offsets:
        return {channel: index_entries(file, chunk, channel)[:, 0] for channel in chunk.offsets}
    found: dict[int, list[int]] = {}
    for channel, log_ns, *_ in messages_in(content(file, chunk), chunk):
        found.setdefault(channel, []).append(min(log_ns, MAX_NS))
    return {channel: np.array(times, np.int64) for channel, times in found.items()}


def message_at(file: BinaryIO, chunk: ChunkRecord, channel: int, log_ns: int, offset: int) -> bytes:
    """Bytes of the message that an entry of an uncompressed chunk's index names.

    Raises:
        ChunkError: another message stands there, or none.
    """
    where = f"chunk at byte {chunk.start}: its index names a message at byte {offset}"
    head_bytes = HEADER.size + MESSAGE_HEAD.size
    if not 0 <= offset <= chunk.data_size - head_bytes:
        raise ChunkError(f"{where}, which is outside of it")
    file.seek(chunk.data_start + offset)
    head = file.read(head_bytes)
    if len(head) < head_bytes:
        raise ChunkError(f"{where}, behind the end of the file")
    opcode, length = HEADER.unpack_from(head)
    own, _, at_ns, _ = MESSAGE_HEAD.unpack_from(head, HEADER.size)
    if (opcode, own, min(at_ns, MAX_NS)) != (Opcode.MESSAGE, channel, log_ns):
        raise ChunkError(f"{where}, where something else is")
    if length < MESSAGE_HEAD.size or offset + HEADER.size + length > chunk.data_size:
        raise ChunkError(f"{where}, of {length} bytes")
    return file.read(length - MESSAGE_HEAD.size)
