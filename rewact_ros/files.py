"""Locks, and files, folders and links that are replaced in one step.

They stand at places that others can guess, and may have prepared: no link of theirs is followed.
"""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class LockedError(RuntimeError):
    """Another process holds a lock; `holder` is what it wrote there about itself."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class FileLock:
    """A lock file, held until `release`, or until the process ends however it does.

    Nothing is truncated or written before the lock is ours.

    Args:
        path: the file, which is made where it is missing and stays.

    Raises:
        LockedError: another process holds it.
        OSError: not writable, or not a plain file of one name: a link may have been planted there.
    """

    def __init__(self, path: Path) -> None:
        self._handle = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._handle = os.open(path, flags, 0o644)
        try:
            status = os.fstat(self._handle)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise OSError(errno.EMLINK, "is no plain file, or has a second name", str(path))
            if not _take(self._handle):
                told = os.read(self._handle, 80).decode(errors="replace")
                raise LockedError("".join(c for c in told if c.isprintable()))
            os.truncate(self._handle, 0)
            os.write(self._handle, f"process {os.getpid()}".encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others in."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self.release()  # whoever forgets a lock holds it no longer, such as a launch that is over


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder itself, until the block or the process ends.

    Raises:
        LockedError: another process holds it.
        OSError: no folder, a link, or replaced by another process before the lock was ours.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _take(handle):
            raise LockedError("")
        if os.fstat(handle).st_ino != os.stat(folder).st_ino:
            raise OSError(errno.EBUSY, "was replaced by another process", str(folder))
        yield
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    """Whether the lock of an open file is ours now; the kernel lets go of it when we end."""
    # Not the library `filelock`: it takes a file that has a second name, does not say who holds it,
    # locks no folder, and would be one dependency more on the robot.
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync(*paths: Path) -> None:
    """Make files, and the entries of folders, durable."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def new_beside(path: Path, mode: int = 0o666) -> BinaryIO:
    """Open a new temporary file beside `path`, under a name that none can guess: its `name`.

    Args:
        path: whose place it is to take.
        mode: of the file, less the umask.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    return open(str(partial), "wb", opener=lambda name, _: os.open(name, flags, mode))


def place_file(partial: Path, path: Path) -> None:
    """Rename a whole file to `path`, durably, over what is there.

    Raises:
        OSError: a folder stands there, or the disk refuses.
    """
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


@contextmanager
def replacing_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Give a temporary file to write, which takes the place of `path` when the block ends.

    An error in the block, a full disk or a kill leaves the old file, or none where there was none.

    Args:
        path: what is replaced, or made.
        mode: of the file, less the umask.
    """
    with new_beside(path, mode) as file:
        partial = Path(file.name)
        try:
            yield file
            file.flush()
            place_file(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write a file as `replacing_file` does."""
    with replacing_file(path, mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def place_folder(partial: Path, path: Path) -> None:
    """Rename a whole folder to `path`, durably; nothing may be there.

    Raises:
        OSError: something is there, or the disk refuses.
    """
    _sync_all(partial)
    partial.rename(path)
    sync(path.parent)


def replace_folder(partial: Path, path: Path) -> None:
    """Rename a whole folder to `path`, durably; an older folder there is removed.

    Where the file system cannot exchange two folders in one step, the older one is set aside
    first, and a kill in between leaves it beside its place.
    """
    if not path.exists():
        place_folder(partial, path)
        return
    _sync_all(partial)
    aside = partial
    if not exchange(partial, path):
        aside = path.with_name(f".{path.name}.old-{secrets.token_hex(6)}")
        os.replace(path, aside)
        os.replace(partial, path)
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give a new folder to fill, which takes the place of `path` when the block ends.

    All may read it then. An error in the block leaves what was there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp's are for the owner alone
        replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step (renameat2); False where system or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _sync_all(folder: Path) -> None:
    sync(folder, *(path for path in folder.rglob("*") if not path.is_symlink()))


def point(link: Path, target: str) -> None:
    """Let a link point at a neighbour, in one step.

    Raises:
        OSError: a folder stands there, or the disk refuses.
    """
    new = link.with_name(f".{link.name}.{secrets.token_hex(6)}")
    try:
        new.symlink_to(target)
        os.replace(new, link)
    finally:
        new.unlink(missing_ok=True)
    sync(link.parent)


def runtime_folder() -> Path:
    """Folder of this user's locks: in XDG_RUNTIME_DIR, else in the temporary folder.

    Raises:
        OSError: it is there and is not ours alone.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and os.path.isdir(base):
        return own_folder(Path(base) / "rewact_ros")
    return own_folder(Path(tempfile.gettempdir()) / f"rewact_ros-{os.getuid()}")


def own_folder(path: Path) -> Path:
    """Make a folder that only we may enter, or find that it is one.

    Raises:
        OSError: somebody else made it, it is a link, or others may write in it.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_ours or stat.S_IMODE(status.st_mode) & 0o022:
        raise PermissionError(
            errno.EPERM,
            "is not a folder of ours alone: somebody else may have made it; remove it, or set "
            "XDG_RUNTIME_DIR or TMPDIR",
            str(path),
        )
    return path
