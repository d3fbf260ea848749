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


class Swapping:
    """One request on its way: asked until it is heard, watched until it is done.

    Attributes:
        update: the request.
        said: what the policy said of it last; "": nothing.
        version: that runs since; "": not done yet.

    Args:
        update: the request.
        before: version that runs now.
        timeout_s: longest wait.
        now_s: steady clock.
    """

    def __init__(self, update: Update, before: str, timeout_s: float, now_s: float) -> None:
        self.update, self.said, self.version = update, "", ""
        self._before, self._timeout_s = before, timeout_s
        self._deadline_s, self._again_s = now_s + timeout_s, now_s

    def must_ask(self, now_s: float, found: bool) -> bool:
        """Whether to publish the request now; `found`: somebody would hear it."""
        if not found or now_s < self._again_s or f"{self.update.label}:" in self.said:
            return False
        self._again_s = now_s + REPEAT_S
        return True

    def hear(self, now_s: float, version: str, reason: str) -> bool:
        """Take the policy's newest status; whether it says something new of this request.

        Raises:
            SwapError: refused, or not done in time.
        """
        news = False
        if version and version != self._before:
            self.version = version
        elif reason != self.said and f"{self.update.label}:" in reason:
            self.said, news = reason, True
            if ": refused: " in reason:
                raise SwapError(f"{reason}; {self._before} runs on")
        if not self.version and now_s > self._deadline_s:
            raise SwapError(f"not done within {self._timeout_s:g} s ({reason or 'no answer'})")
        return news


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
        swapping = Swapping(update, self.version(10.0), timeout_s, time.monotonic())
        while True:
            found = self._updates.get_subscription_count() > 0
            if swapping.must_ask(time.monotonic(), found):
                self._updates.publish(to_message(update))
            self._executor.spin_once(timeout_sec=0.1)
            assert self._status is not None
            status = self._status
            if swapping.hear(time.monotonic(), status.policy_version, status.reason):
                say(swapping.said)
            if swapping.version:
                return swapping.version

    def close(self) -> None:
        """Free the node."""
        self._executor.shutdown()
        self.destroy_node()
