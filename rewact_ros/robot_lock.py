"""One robot per ROS domain and namespace on this machine."""

import fcntl
import os
import stat
import tempfile
from pathlib import Path


class BringUpError(RuntimeError):
    """A robot cannot be brought up, or its processes cannot go on; the message says why."""


class RobotLock:
    """Held for as long as a robot runs; the system lets go of it with the process.

    Args:
        namespace: of the robot, with or without slashes around it.

    Raises:
        BringUpError: another bring-up holds it, or the file is not ours to lock.
    """

    def __init__(self, namespace: str) -> None:
        domain = os.environ.get("ROS_DOMAIN_ID", "").strip().lstrip("0") or "0"
        space = namespace.strip("/")
        # No ROS name has a dot: another namespace is another file.
        name = f"rewact_ros-{os.getuid()}-{domain}-{space.replace('/', '.')}.lock"
        path = Path(tempfile.gettempdir()) / name
        try:
            # Whoever else may write there must not choose what is opened, nor lose what is in it.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise BringUpError(f"{path}: cannot be locked: {error.strerror}; remove it") from None
        try:
            if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                raise BringUpError(f"{path}: cannot be locked: it is no plain file; remove it")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise BringUpError(
                f"a robot is already running in ROS domain {domain}, namespace '/{space}': "
                "stop it, or choose another ROS_DOMAIN_ID or namespace"
            ) from None
        except BringUpError:
            self.release()
            raise

    def release(self) -> None:
        """Let another bring-up start."""
        self._file.close()
