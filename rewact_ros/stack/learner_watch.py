"""Watches a learner over topics, and the processes beside it."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from rewact_ros.msg import LearnerStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.door import Guarded

if TYPE_CHECKING:
    from rewact_ros.stack.runner import Runner
    from rewact_ros.stack.stop_request import StopRequest

POLL_S = 0.05
ShowFigures = Callable[[Mapping[str, float], str], None]


class LearningStopped(RuntimeError):
    """The learner learns no more; the message is its own."""


class LearnerWatch(Guarded, Node):
    """Context manager around its node; `poll` drives it and looks after the processes.

    Attributes:
        note: said beside the learner's own status.
        figures: newest ones of the learner.
        statuses: how many came.

    Args:
        runners: of the processes; more may be added.
        stop: asked whether to end.
        show: called with the newest figures and what the learner and the note say.
    """

    def __init__(self, runners: Sequence["Runner"], stop: "StopRequest", show: ShowFigures) -> None:
        super().__init__("rewact_learn")
        self.note, self.figures, self.statuses = "", dict[str, float](), 0
        self._runners, self._stop, self._show, self._text = runners, stop, show, "starts"
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self.create_subscription(LearnerStatus, names.LEARNER_STATUS, self._on_status, names.EVENTS)

    def __enter__(self) -> "LearnerWatch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self.destroy_node()

    def _on_status(self, msg: LearnerStatus) -> None:
        self.figures = dict(zip(msg.names, msg.values, strict=False))
        self._text, self.statuses = msg.text, self.statuses + 1

    def poll(self) -> None:
        """Look once at everything.

        Raises:
            LearningStopped: the learner says so.
            BringUpError: a process cannot run.
            KeyboardInterrupt: somebody asked to end.
        """
        if self._stop.given:
            raise KeyboardInterrupt
        for runner in self._runners:
            runner.poll()
        self._executor.spin_once(timeout_sec=0.0)
        self._show(self.figures, " · ".join(filter(None, (self._text, self.note))))
        if self._text.startswith("stopped: "):
            raise LearningStopped(self._text)

    def wait(self, until: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Poll until a condition holds.

        Raises:
            LearningStopped: it did not in time, or as ``poll``.
        """
        end_s = time.monotonic() + timeout_s
        while not until():
            self.poll()
            time.sleep(POLL_S)
            if time.monotonic() > end_s:
                raise LearningStopped(f"{what}: nothing within {timeout_s:g} s ({self._text})")
