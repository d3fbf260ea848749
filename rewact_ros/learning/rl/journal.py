"""Every transition goes to disk before anything learns from it: append-only, crash-safe.

A record is ``RWT1``, whose digit is the format, the payload's length and CRC-32 (little-endian
uint32 each), and the payload: a safetensors document whose metadata holds what is no array. A
process that dies loses nothing that ``append`` returned from; a power cut loses at most what came
after the last ``sync``.
"""

import io
import json
import os
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rewact_ros.files import FileLock, LockedError, replace_file
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format

from .transitions import Transition

_KIND, FORMAT = b"RWT", 1
_MAGIC, _HEAD = _KIND + b"%d" % FORMAT, struct.Struct("<4sII")
_ROTATE_BYTES = 256 * 2**20  # so much has to be copied again where a file is damaged
_ITS_OWN = "resume with the rewact_ros that began it"
_PREFIX = "observation "  # of an observation's arrays among the record's
_RUN = "run"


class JournalError(RuntimeError):
    """The journal cannot be written or read; the robot goes on with its last policy."""


class Journal:
    """Transitions of a run in the order in which they happened.

    A torn record at the end, of a process killed while writing, is cut off on opening.

    Attributes:
        run: unique name, given when the journal is made.

    Args:
        folder: made if need be; one process at a time may hold it.
        rotate_bytes: size from which a new file is begun.

    Raises:
        JournalError: another process holds it, a record in the middle is damaged, or the journal
            is of another format, which leaves it as it is.
    """

    def __init__(self, folder: Path, rotate_bytes: int = _ROTATE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._rotate = folder, rotate_bytes
        self._lock = _lock(folder)
        self.run = _name(folder)
        files = self._files()
        self._counts = [_scan(file, last=file == files[-1]) for file in files]
        self._output = _open(files[-1]) if files else None  # file descriptor

    def __len__(self) -> int:
        return sum(self._counts)

    def append(self, transition: Transition) -> int:
        """Write a transition; returns its number, from 0.

        Raises:
            JournalError: it could not be written whole, e.g. the disk is full; what was there
                before is intact.
        """
        return self.append_record(to_record(transition))

    def append_record(self, record: bytes) -> int:
        """Write a record as it is; otherwise as ``append``."""
        try:
            output = self._file()
            start = os.lseek(output, 0, os.SEEK_END)
            try:
                _write(output, record)
            except OSError:
                os.ftruncate(output, start)
                raise
        except OSError as error:
            raise JournalError(
                f"{self.folder}: {error.strerror or error}; the transition is not kept; free the "
                "disk and resume the run"
            ) from error
        self._counts[-1] += 1
        return len(self) - 1

    def read(self, first: int = 0) -> Iterator[Transition]:
        """Transitions from number ``first`` on, those that are there now.

        Raises:
            JournalError: a damaged record.
        """
        return map(_decode, self.records(first))

    def records(self, first: int = 0) -> Iterator[bytes]:
        """As ``read``, each as it lies on disk."""
        for file, count in zip(self._files(), list(self._counts), strict=True):
            if first >= count:
                first -= count
                continue
            with file.open("rb") as handle:
                for index in range(count):
                    record = _read(handle)
                    if record is None:
                        raise JournalError(f"{file}: record {index} is damaged; copy the run again")
                    if index >= first:
                        yield record
            first = 0

    def sync(self) -> None:
        """Make sure that a power cut takes nothing written so far."""
        if self._output is not None:
            os.fsync(self._output)

    def close(self) -> None:
        """Sync, and let another process have it."""
        if self._output is not None:
            self.sync()
            os.close(self._output)
            self._output = None
        self._lock.release()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("journal-*.bin"))

    def _file(self) -> int:
        """Where the next record goes."""
        if self._output is not None and os.fstat(self._output).st_size >= self._rotate:
            self.sync()
            os.close(self._output)
            self._output = None
        if self._output is None:
            self._output = _open(self.folder / f"journal-{len(self._counts):05d}.bin")
            self._counts.append(0)
        return self._output

    # Last: below it, the name would hide the type.
    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self._files())


def to_record(transition: Transition) -> bytes:
    """A transition as the journal keeps it and as it travels: as it came, else encoded here."""
    if transition.record:
        return transition.record
    payload = _encode(transition)
    return _HEAD.pack(_MAGIC, len(payload), zlib.crc32(payload)) + payload


def from_record(record: bytes) -> Transition:
    """The transition in a record.

    Raises:
        JournalError: the record is not whole, not of a transition, or of another format.
    """
    _require_format(f"record of {len(record)} bytes", record[: len(_MAGIC)])
    whole = _read(io.BytesIO(record))
    if whole is None or len(record) != len(whole):
        raise JournalError(f"record of {len(record)} bytes: damaged; it has to be sent again")
    try:
        return _decode(whole)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise JournalError(f"record of {len(record)} bytes: not a transition: {error}") from error


def _name(folder: Path) -> str:
    """The journal's own name; two journals never share one."""
    file = folder / _RUN
    if not (file.is_file() and file.read_text().strip()):
        replace_file(file, f"{uuid.uuid4().hex}\n")
    return file.read_text().strip()


def _open(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _write(output: int, record: bytes) -> None:
    rest = memoryview(record)
    while rest:
        rest = rest[os.write(output, rest) :]


def _lock(folder: Path) -> FileLock:
    try:
        return FileLock(folder / ".lock")
    except LockedError as error:
        raise JournalError(
            f"{folder}: another learner holds this journal ({error.holder}); a robot has one "
            "learner at a time: stop the other, or give another --out"
        ) from error


def _scan(file: Path, last: bool) -> int:
    """Count the whole records; the last file's torn end is cut off.

    Raises:
        JournalError: damage elsewhere, or a record of another format, which is never cut off.
    """
    count, good = 0, 0
    with file.open("rb") as handle:
        while _read(handle) is not None:
            count, good = count + 1, handle.tell()
        handle.seek(good)
        _require_format(file, handle.read(len(_MAGIC)))
    size = file.stat().st_size
    if good < size:
        if not last:
            raise JournalError(f"{file}: damaged after {count} records; copy the run again")
        os.truncate(file, good)
    return count


def _require_format(where: object, magic: bytes) -> None:
    """Raise JournalError where a record begins as one of another format does."""
    number = magic[len(_KIND) :]
    if not magic.startswith(_KIND) or not number.isdigit():
        return
    try:
        require_format({FORMAT_KEY: int(number)}, FORMAT, _ITS_OWN)
    except FormatError as error:
        raise JournalError(f"{where}: {error}") from None


def _read(handle: BinaryIO) -> bytes | None:
    """The next record; None at the end or where one is not whole."""
    head = handle.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, size, checksum = _HEAD.unpack(head)
    payload = handle.read(size) if magic == _MAGIC else b""
    whole = magic == _MAGIC and len(payload) == size and zlib.crc32(payload) == checksum
    return head + payload if whole else None


def _encode(transition: Transition) -> bytes:
    arrays = {"action": transition.action, "reward": transition.reward}
    arrays |= {_PREFIX + name: value for name, value in transition.observations.items()}
    about = {
        name: getattr(transition, name)
        for name in (
            *("episode", "first", "human", "policy_version", "value"),
            *("terminated", "truncated", "success"),
        )
    }
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return save(arrays, metadata={"transition": json.dumps(about)})


def _decode(record: bytes) -> Transition:
    payload = record[_HEAD.size :]
    size = int.from_bytes(payload[:8], "little")
    about = json.loads(json.loads(payload[8 : 8 + size])["__metadata__"]["transition"])
    arrays = load(payload)
    observations = {n.removeprefix(_PREFIX): a for n, a in arrays.items() if n.startswith(_PREFIX)}
    # Journals of before the field: only a success earned anything.
    about.setdefault("success", about["terminated"] and bool(arrays["reward"][-1] > 0))
    transition = Transition(
        observations=observations, action=arrays["action"], reward=arrays["reward"], **about
    )
    object.__setattr__(transition, "record", record)
    return transition
