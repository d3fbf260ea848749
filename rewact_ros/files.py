"""Files at places that others can guess, and may have prepared: no link of theirs is followed."""

import errno
import fcntl
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


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
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told = os.read(self._handle, 80).decode(errors="replace")
                raise LockedError("".join(c for c in told if c.isprintable())) from None
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
