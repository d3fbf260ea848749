"""One recorder per folder of recordings, on this machine."""

from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from rewact_ros.files import FileLock, LockedError

LOCK_FILE = ".recorder.lock"


class BagsLockedError(RuntimeError):
    """Another process records into the folder, or mends it; the message says which."""


class BagsLock:
    """Holds a folder of recordings until `close`, or until the process ends however it does.

    Raises:
        BagsLockedError: another process holds it.
        OSError: the folder is not writable, or the lock is a planted link.
    """

    def __init__(self, bags_dir: Path) -> None:
        try:
            self._lock = FileLock(bags_dir / LOCK_FILE)
        except LockedError as error:
            raise BagsLockedError(
                f"bags folder {bags_dir}: a recorder is at work in it "
                f"({error.holder or 'another process'}); stop that one, or give this one another "
                "folder (bags_dir)"
            ) from None

    def close(self) -> None:
        """Let others in."""
        self._lock.release()


def lock_around(recording: Path) -> AbstractContextManager[object]:
    """Keep recorders away from a recording, or a folder of some, while it is mended.

    One recording is locked by the folder around it. Where no recorder ever was, nothing is locked.

    Raises:
        ValueError: no such folder.
        BagsLockedError: a recorder is at work.
    """
    folder = recording.absolute().parent if recording.is_file() else recording
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    for place in (folder, folder.absolute().parent):
        if (place / LOCK_FILE).is_file():
            return closing(BagsLock(place))
    return nullcontext()
