"""One recorder per folder of recordings, on this machine."""

import fcntl
import os
from pathlib import Path

LOCK_FILE = ".recorder.lock"


class BagsLockedError(RuntimeError):
    """Another process records into the folder, or mends it; the message says which."""


class BagsLock:
    """Holds a folder of recordings until `close`, or until the process ends however it does.

    Raises:
        BagsLockedError: another process holds it.
        OSError: the folder is not writable.
    """

    def __init__(self, bags_dir: Path) -> None:
        path = bags_dir / LOCK_FILE
        self._file = open(path, "a+")  # noqa: SIM115 - held until close
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise BagsLockedError(
                f"bags folder {bags_dir}: a recorder is at work in it ({holder}); stop that one, "
                "or give this one another folder (bags_dir)"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}")
        self._file.flush()

    def close(self) -> None:
        """Let others in."""
        self._file.close()
