"""The robot's end of the pull: the journal's records, to one learner at a time."""

from collections import deque
from collections.abc import Iterator

from .journal import Journal, to_record
from .transitions import Transition

WINDOW = 32  # records per request
SILENCE_S = 5.0  # a learner that is quiet for longer is gone
_RECENT_BYTES = 64 * 2**20


class Outbox:
    """Writes transitions to the journal, and reads those that are asked for.

    Attributes:
        learner: that is served; empty: none.
        refused: why the last request was refused; empty: it was answered.

    Args:
        journal: of the robot.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.learner = self.refused = ""
        self._heard_s = float("-inf")
        self._recent: deque[bytes] = deque()  # the newest records, so that few are read back
        self._recent_bytes = 0
        self._older: tuple[int, Iterator[bytes]] = (-1, iter(()))

    def append(self, transition: Transition) -> int:
        """Write a transition; returns its number.

        Raises:
            JournalError: the disk is full; what is there is intact.
        """
        record = to_record(transition)
        number = self._journal.append_record(record)
        self._recent.append(record)
        self._recent_bytes += len(record)
        while self._recent_bytes > _RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft())
        return number

    def answer(self, learner: str, run: str, first: int, now_s: float) -> list[tuple[int, bytes]]:
        """Numbers and records to send for a request.

        Args:
            learner: unique name of the process that asks.
            run: journal that it follows; empty: any.
            first: number of the first transition that it has not got.
            now_s: on the steady clock.

        Raises:
            JournalError: a record on the disk is damaged.
        """
        self.refused = self._refusal(learner, run, first, now_s)
        if self.refused:
            return []
        self.learner, self._heard_s = learner, now_s
        count = len(self._journal)
        return [
            (number, self._record(number)) for number in range(first, min(first + WINDOW, count))
        ]

    def silent(self, now_s: float) -> bool:
        """Whether no learner has asked lately."""
        return now_s - self._heard_s > SILENCE_S

    def _refusal(self, learner: str, run: str, first: int, now_s: float) -> str:
        count = len(self._journal)
        if learner != self.learner and not self.silent(now_s):
            return (
                f"learner {learner}: {self.learner} learns from this robot already, and a robot "
                "has one learner at a time: stop one of them"
            )
        if run and run != self._journal.run:
            return (
                f"learner {learner}: follows journal {run}, here is {self._journal.run} "
                f"({self._journal.folder}): give one of the two another folder"
            )
        if first > count:
            return (
                f"learner {learner}: asks for transition {first}, the journal "
                f"{self._journal.folder} holds {count}: begin a new run"
            )
        return ""

    def _record(self, number: int) -> bytes:
        recent = number - (len(self._journal) - len(self._recent))
        if recent >= 0:
            return self._recent[recent]
        place, older = self._older
        if place != number:
            older = self._journal.records(number)
        record = next(older)
        self._older = (number + 1, older)
        return record
