"""Decompression that never gives more bytes than were promised, whatever the data claim."""

import os
import shutil
from pathlib import Path

import zstandard

# Of one chunk or one message, decompressed; a chunk of a recorder has 1 MB and a 4K image 25 MB.
MAX_BYTES = 256 << 20
ZSTD = b"\x28\xb5\x2f\xfd"
_BLOCK = 1 << 20


class DecompressError(ValueError):
    """Compressed data are damaged, or are not what they claim to be."""


def decompress(compression: str, data: bytes, size: int) -> bytes:
    """Data of `size` bytes, at most `MAX_BYTES`; `compression` is none (empty), zstd or lz4.

    Raises:
        DecompressError: damaged, or of another size.
    """
    if size > MAX_BYTES:
        raise DecompressError(
            f"claims {size:.3g} bytes decompressed; at most {MAX_BYTES >> 20} MiB are read"
        )
    if compression == "":
        plain = data
    elif compression == "zstd":
        plain = _zstd(data, size)
    elif compression == "lz4":
        plain = _lz4(data, size)
    else:
        raise DecompressError(f"compression '{compression[:20]}' is not known")
    if len(plain) != size:
        raise DecompressError(f"expected {size} bytes decompressed, got {len(plain)}")
    return plain


def beginning(compression: str, data: bytes, size: int) -> bytes:
    """As much of `size` bytes as data that were cut off give, at most `MAX_BYTES`.

    Raises:
        DecompressError: damaged, or its compression is not known.
    """
    limit = min(size, MAX_BYTES)
    if compression == "":
        return data[:limit]
    if compression != "zstd":
        raise DecompressError(f"of '{compression[:20]}' no beginning is read")
    plain = bytearray()
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while len(plain) < limit and (block := reader.read(min(_BLOCK, limit - len(plain)))):
                plain += block
    except zstandard.ZstdError as error:
        if not plain:
            raise DecompressError(str(error)) from error
    return bytes(plain)


def plain_message(data: bytes) -> bytes:
    """A message as it was sent; rosbag2 may have compressed it by itself (zstd).

    Raises:
        DecompressError: damaged, or too large.
    """
    if not data.startswith(ZSTD):  # CDR begins with a zero
        return data
    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise DecompressError(str(error)) from error
    if size < 0:
        raise DecompressError("a compressed message does not say its size")
    return decompress("zstd", data, size)


def plain_file(path: Path, folder: Path) -> Path:
    """Decompress a .zstd file of rosbag2 into a folder, within half of the room that is there.

    Raises:
        DecompressError: damaged, or too large.
        OSError: not readable, or no room.
    """
    plain = folder / path.stem
    limit = shutil.disk_usage(folder).free // 2
    with open(path, "rb") as source, open(plain, "wb") as target:
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
            while block := reader.read(_BLOCK):
                if target.tell() + len(block) > limit:
                    os.truncate(plain, 0)
                    raise DecompressError(
                        f"{path.name}: is more than {limit / 1e9:.1f} GB decompressed, half of "
                        f"what is free in {folder.parent}; set TMPDIR to a larger disk, or "
                        f"decompress it by hand (`zstd -d {path.name}`)"
                    )
                target.write(block)
        except zstandard.ZstdError as error:
            raise DecompressError(f"{path.name}: {error}") from error
    return plain


def _zstd(data: bytes, size: int) -> bytes:
    try:
        claimed = zstandard.frame_content_size(data)
        # The library believes the frame's own claim more than the limit it is given.
        if claimed >= 0 and claimed != size:
            raise DecompressError(f"expected {size} bytes decompressed, its frame has {claimed}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
    except zstandard.ZstdError as error:
        raise DecompressError(str(error)) from error


def _lz4(data: bytes, size: int) -> bytes:  # never ours
    import lz4.frame

    try:
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    except (RuntimeError, EOFError) as error:
        raise DecompressError(str(error)) from error
