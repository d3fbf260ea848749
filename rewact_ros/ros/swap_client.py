"""Asks the running policy for another checkpoint and watches what becomes of it."""

import time
from collections.abc import Callable
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from rewact_ros.msg import PolicyStatus, PolicyUpdate
from rewact_ros.policy.checkpoint_files import CheckpointError, open_folder
from rewact_ros.policy.updates import Update, robot_of
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.absent import nobody
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.door import Guarded

REPEAT_S = 1.0


class SwapError(ValueError):
    """The policy did not take the checkpoint; the message says why."""


def update_for(folder: Path | None, stamp_ns: int) -> Update:
    """Request for a checkpoint folder, or for a rollback where there is none.

    Raises:
        SwapError: no checkpoint there, or one that no policy would take.
    """
    if folder is None:
        return Update(stamp_ns, rollback=True)
    try:
        files = open_folder(folder.expanduser().resolve())
        robot = robot_of(files)
    except CheckpointError as error:
        raise SwapError(str(error)) from error
    return Update(stamp_ns, str(files.path), files.sha256, files.version, robot)


def to_message(update: Update) -> PolicyUpdate:
    """The request as a message."""
    msg = PolicyUpdate(
        version=update.version,
        path=update.path,
        sha256=update.sha256,
        rollback=update.rollback,
        robot=update.robot,
    )
    msg.header.stamp = to_stamp(update.stamp_ns)
    return msg


class SwapClient(Guarded, Node):
    """One request at a time; spins itself."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__("rewact_swap", namespace=namespace)
        self._status: PolicyStatus | None = None
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._updates = self.create_publisher(PolicyUpdate, names.POLICY_UPDATE, names.EVENTS)
        self.create_subscription(PolicyStatus, names.POLICY_STATUS, self._keep, names.COMMAND)

    def _keep(self, msg: PolicyStatus) -> None:
        self._status = msg

    def version(self, timeout_s: float) -> str:
        """Version that runs.

        Raises:
            SwapError: no policy is heard.
        """
        deadline_s = time.monotonic() + timeout_s
        while self._status is None or not self._status.policy_version:
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > deadline_s:
                raise SwapError(nobody(self, "topic", names.POLICY_STATUS, timeout_s))
        return str(self._status.policy_version)

    def swap(self, update: Update, timeout_s: float, say: Callable[[str], None]) -> str:
        """Ask until it is heard, wait until it is done; returns the version that runs then.

        Args:
            update: the request.
            timeout_s: longest wait.
            say: told what the policy says on the way.

        Raises:
            SwapError: refused, or not done in time.
        """
        before, said = self.version(10.0), ""
        deadline_s, again_s = time.monotonic() + timeout_s, 0.0
        while True:
            now_s = time.monotonic()
            found = self._updates.get_subscription_count() > 0  # else nobody would hear it
            if found and now_s >= again_s and f"{update.label}:" not in said:
                self._updates.publish(to_message(update))
                again_s = now_s + REPEAT_S
            self._executor.spin_once(timeout_sec=0.1)
            assert self._status is not None
            version, reason = self._status.policy_version, self._status.reason
            if version and version != before:
                return str(version)
            if reason != said and f"{update.label}:" in reason:
                said = reason
                if ": refused: " in reason:
                    raise SwapError(f"{reason}; {before} runs on")
                say(reason)
            if now_s > deadline_s:
                raise SwapError(f"not done within {timeout_s:g} s ({reason or 'no answer'})")

    def close(self) -> None:
        """Free the node."""
        self._executor.shutdown()
        self.destroy_node()
