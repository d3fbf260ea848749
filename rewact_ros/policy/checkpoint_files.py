"""The files of a checkpoint folder, read once: what is checked is what is used.

Everything that loads a checkpoint takes its bytes from here, so that a file that changes afterwards
changes nothing. Pure; torch is not needed.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rewact_ros.strict_yaml import YamlError, parse_json
from rewact_ros.text import reason

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CONTRACT = "contract.json"
CALIBRATION = "calibration.json"  # the monitor's thresholds, see `rewact calibrate`

MAX_FILES = 1000
MAX_DEPTH = 6
MAX_FOLDER_BYTES = 8 * 1024**3
MAX_WEIGHTS_BYTES = 2 * 1024**3  # 500 million parameters in float32; a large ACT has 100 million
MAX_JSON_BYTES = 4 * 1024**2
MAX_HEADER_BYTES = 16 * 1024**2
_KEPT = (".json", ".safetensors")  # no loader reads others
_CHUNK = 1024 * 1024
_LFS = b"version https://git-lfs"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what, where, expected, got, mend."""


class CheckpointFiles:
    """Content of a folder at one moment.

    Attributes:
        path: the folder, for messages and for files that are written beside it.
    """

    def __init__(self, path: Path, digests: Mapping[str, str], content: Mapping[str, bytes]):
        """Take what `open_folder` read: SHA-256 of every file, and the bytes of those kept."""
        self.path = path
        self._digests, self._content = dict(digests), dict(content)

    @classmethod
    def of(cls, source: "str | Path | CheckpointFiles") -> "CheckpointFiles":
        """The files of a folder, which may have been read already; raises as ``open_folder``."""
        return source if isinstance(source, CheckpointFiles) else open_folder(source)

    def __contains__(self, name: str) -> bool:
        return name in self._digests

    @property
    def names(self) -> list[str]:
        """Names of the files, below the folder, sorted."""
        return sorted(self._digests)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole folder, 64 hexadecimal digits.

        It is that of the list that ``sha256sum`` prints of all files, sorted by the bytes of their
        names: every file counts, by its name and its content.
        """
        names = sorted(self._digests, key=str.encode)
        listing = "".join(f"{self._digests[name]}  {name}\n" for name in names)
        return hashlib.sha256(listing.encode()).hexdigest()

    @property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the weights, else of the configuration."""
        return self._digests[WEIGHTS if WEIGHTS in self else CONFIG][:12]

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            CheckpointError: it is missing, or a Git LFS pointer stands in its place.
        """
        if name not in self._content:
            raise CheckpointError(f"{self.path}: missing {name}; copy the whole checkpoint again")
        content = self._content[name]
        if content.startswith(_LFS):
            raise CheckpointError(
                f"{self.path / name}: a Git LFS pointer, not the file itself; run `git lfs pull` "
                "in its repository"
            )
        return content

    def json(self, name: str, infinity: bool = False) -> dict[str, Any]:
        """The JSON object in a file; ``infinity``: see ``parse_json``.

        Raises:
            CheckpointError: as ``read``; or no JSON that can be trusted (see ``parse_json``).
        """
        return json_object(self.read(name), str(self.path / name), MAX_JSON_BYTES, infinity)

    def metadata(self, name: str) -> dict[str, Any]:
        """What a safetensors file says of itself beside its tensors.

        Raises:
            CheckpointError: no whole safetensors file.
        """
        content, what = self.read(name), f"{self.path / name}: header"
        size = int.from_bytes(content[:8], "little")
        if len(content) < 8 or size > len(content) - 8:
            raise CheckpointError(
                f"{self.path / name}: not a whole safetensors file; copy the checkpoint again"
            )
        found = json_object(content[8 : 8 + size], what, MAX_HEADER_BYTES)
        metadata = found.get("__metadata__", {})
        return metadata if isinstance(metadata, dict) else {}

    def below(self, name: str) -> "CheckpointFiles":
        """The files of a folder in this one."""
        inside, start = f"{name}/", len(name) + 1
        return CheckpointFiles(
            self.path / name,
            {n[start:]: digest for n, digest in self._digests.items() if n.startswith(inside)},
            {n[start:]: content for n, content in self._content.items() if n.startswith(inside)},
        )


def json_object(
    content: bytes, what: str, max_bytes: int, infinity: bool = False
) -> dict[str, Any]:
    """The JSON object that some bytes of a checkpoint are.

    Raises:
        CheckpointError: larger, not UTF-8, no object, or no JSON that can be trusted.
    """
    if len(content) > max_bytes:
        raise CheckpointError(f"{what}: expected at most {max_bytes} bytes, got {len(content)}")
    try:
        value = parse_json(content.decode("utf-8"), infinity)
    except (YamlError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{what}: {error}; copy the file again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{what}: expected a JSON object, got {type(value).__name__}")
    return value


@dataclass(frozen=True)
class Size:
    """What a checkpoint may weigh.

    Attributes:
        weights_bytes: of one file that is kept in memory.
        folder_bytes: of all files together.
        weightless: it may have no weights of its own.
    """

    weights_bytes: int = MAX_WEIGHTS_BYTES
    folder_bytes: int = MAX_FOLDER_BYTES
    weightless: bool = False


_POLICY = Size()


def open_folder(path: str | Path, size: Size = _POLICY) -> CheckpointFiles:
    """Read a checkpoint folder of at most that size.

    Raises:
        CheckpointError: no folder, or one without weights (a folder near it that has some is
            named); links, pipes, devices or odd names in it; more or larger files than a
            checkpoint has.
    """
    path = Path(path).expanduser()
    try:
        _require_checkpoint(path, size.weightless)
        digests, content = _read_all(path, size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {reason(error)}") from error
    return CheckpointFiles(path, digests, content)


def weights_version(folder: Path) -> str:
    """As ``CheckpointFiles.version``, without keeping what it reads. Raises OSError."""
    with open(folder / WEIGHTS, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:12]


def type_of(path: str | Path) -> str:
    """The type that a folder's configuration names, before the folder is read; "": none.

    It tells how large a folder may be, and nothing else: what is opened is asked again.

    Raises:
        CheckpointError: a configuration that is no JSON that can be trusted.
    """
    file = Path(path).expanduser() / CONFIG
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # `open_folder` says what is wrong with it
        return ""
    with open(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            return ""
        content = handle.read(MAX_JSON_BYTES + 1)
    if content.startswith(_LFS):
        return ""
    kind = json_object(content, str(file), MAX_JSON_BYTES, infinity=True).get("type")
    return kind if isinstance(kind, str) else ""


def _require_checkpoint(path: Path, weightless: bool) -> None:
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such checkpoint folder; give the folder that holds {WEIGHTS}"
        )
    if not path.is_dir():
        raise CheckpointError(f"{path}: a file; give the folder that holds {WEIGHTS}")
    if not os.path.lexists(path / WEIGHTS) and not weightless:
        near = _checkpoint_near(path)
        raise CheckpointError(
            f"{path}: missing {WEIGHTS}; "
            + (
                f"give {near}, which has it"
                if near
                else "expected a folder written by `rewact train` or LeRobot's save_pretrained "
                "(with both processors)"
            )
        )


def _read_all(path: Path, most: Size) -> tuple[dict[str, str], dict[str, bytes]]:
    """SHA-256 of every file, and the bytes of those that loaders read."""
    digests: dict[str, str] = {}
    content: dict[str, bytes] = {}
    total = 0
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name, descriptor in _files(root, path, ""):
        with open(descriptor, "rb") as handle:
            size = os.fstat(descriptor).st_size
            total += size
            _check_size(path / name, size, total, len(digests), most)
            digests[name], kept = _read(handle, size, name.endswith(_KEPT))
            if kept is not None:
                content[name] = kept
    return digests, content


def _files(folder: int, path: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Names below the root and open descriptors of all regular files; closes ``folder``."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            inside = prefix + name
            if not name.isprintable() or "\\" in name:
                raise CheckpointError(f"{path}: a file with an odd name, {name!r}; remove it")
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISLNK(kind):
                raise CheckpointError(
                    f"{path / inside}: a link; a checkpoint has its files in it: copy the folder "
                    "with `cp -rL`"
                )
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise CheckpointError(
                    f"{path / inside}: neither a file nor a folder; copy the checkpoint without it"
                )
            if stat.S_ISDIR(kind) and inside.count("/") + 1 >= MAX_DEPTH:
                raise CheckpointError(
                    f"{path / inside}: expected folders {MAX_DEPTH} deep at most; give the folder "
                    "of one checkpoint"
                )
            # It may have become a link or a pipe just now: neither is followed or waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            directory = os.O_DIRECTORY if stat.S_ISDIR(kind) else 0
            descriptor = os.open(name, flags | directory, dir_fd=folder)
            if directory:
                yield from _files(descriptor, path, f"{inside}/")
            elif stat.S_ISREG(os.fstat(descriptor).st_mode):
                yield inside, descriptor
            else:
                os.close(descriptor)
                raise CheckpointError(f"{path / inside}: changed while it was read; try again")
    finally:
        os.close(folder)


def _check_size(file: Path, size: int, total: int, files: int, most: Size) -> None:
    if size > most.weights_bytes and file.name.endswith(_KEPT):
        raise CheckpointError(
            f"{file}: expected at most {most.weights_bytes / 1e9:.1f} GB, got {size / 1e9:.1f} GB; "
            f"give a model of at most {most.weights_bytes / 4e6:.0f} million parameters in float32"
        )
    if total > most.folder_bytes or files >= MAX_FILES:
        raise CheckpointError(
            f"{file.parent}: expected at most {MAX_FILES} files of "
            f"{most.folder_bytes / 1e9:.1f} GB together; give the folder of one checkpoint alone"
        )


def _read(handle: Any, size: int, keep: bool) -> tuple[str, bytes | None]:
    """SHA-256 of at most ``size`` bytes and, where asked for, the bytes themselves."""
    if keep:
        content = handle.read(size)
        return hashlib.sha256(content).hexdigest(), content
    digest = hashlib.sha256()
    while size > 0 and (chunk := handle.read(min(_CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest(), None


def _checkpoint_near(path: Path) -> Path | None:
    """The folder with weights that is meant by one around or below it; None: there is none."""
    for inner in (
        "pretrained_model",  # of a numbered checkpoint, or of `last`
        "last/pretrained_model",  # of `checkpoints`
        "checkpoints/last/pretrained_model",  # of a training run
        "policies/newest",  # of a learning run
        "newest",
    ):
        if (path / inner / WEIGHTS).is_file():
            return path / inner
    return path.parent if (path.parent / WEIGHTS).is_file() else None
