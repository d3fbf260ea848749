"""A ROS domain for commands that bring their own robot."""

import contextlib
import os
from collections.abc import Iterator

from rewact_ros.stack.robot_lock import BringUpError, RobotLock

# Above 101 a domain's ports fall into the range from which Linux hands out ephemeral ones.
FIRST, LAST = 40, 99


@contextlib.contextmanager
def kept_environment(*names: str) -> Iterator[None]:
    """Variables are afterwards what they were before, set or not."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def own_domain(namespace: str = "") -> RobotLock:
    """Choose a domain that no other bring-up uses, unless the user set ROS_DOMAIN_ID, and lock it.

    Sets ROS_DOMAIN_ID and keeps discovery on this machine; call it before `rclpy.init`. The lock is
    of the robot in `namespace`.

    Raises:
        BringUpError: the user's domain, or every one of ours, is in use.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_DOMAIN_ID" in os.environ:
        return RobotLock(namespace)
    for domain in range(FIRST, LAST + 1):
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        try:
            return RobotLock(namespace)
        except BringUpError:
            continue
    del os.environ["ROS_DOMAIN_ID"]
    raise BringUpError(
        f"ROS domains {FIRST} to {LAST} are all in use: stop a bring-up, or set ROS_DOMAIN_ID"
    )
