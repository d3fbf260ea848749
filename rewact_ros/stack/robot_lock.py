"""One robot per ROS domain and namespace on this machine."""

import os

from rewact_ros.files import FileLock, LockedError, runtime_folder


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
        try:
            # No ROS name has a dot: another namespace is another file.
            place = runtime_folder() / f"{domain}-{space.replace('/', '.')}.lock"
            self._lock = FileLock(place)
        except LockedError as error:
            raise BringUpError(
                f"a robot is already running in ROS domain {domain}, namespace '/{space}' "
                f"({error.holder}): stop it, or choose another ROS_DOMAIN_ID or namespace"
            ) from None
        except OSError as error:
            raise BringUpError(
                f"{error.filename}: cannot be locked: {error.strerror}; remove it"
            ) from None

    def release(self) -> None:
        """Let another bring-up start."""
        self._lock.release()
