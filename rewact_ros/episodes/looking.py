"""A judge that looks in a thread of its own, so that a slow one takes nothing from control."""

import logging
import threading

from rewact_ros.policy.engine import Observation

from .judge import EpisodeJudge

logger = logging.getLogger(__name__)


class Looking:
    """The newest observation waits for the judge; older ones are skipped.

    Attributes:
        fault: why the newest could not be scored; "": it was. Then nothing is known, and the
            judge's staleness tells.
    """

    def __init__(self, judge: EpisodeJudge) -> None:
        self._judge, self.fault = judge, ""
        self._changed, self._ended = threading.Condition(), False
        self._looking, self._episode = threading.Lock(), 0
        self._waiting: tuple[Observation, float] | None = None
        self._thread = threading.Thread(target=self._look, name="judge", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """An episode begins with the next observation; waits for one that is being looked at."""
        with self._looking:
            with self._changed:
                self._waiting, self._episode = None, self._episode + 1
            self._judge.reset()

    def show(self, observation: Observation, stamp_s: float) -> None:
        """Show an observation, see ``EpisodeJudge.see``; it is the caller's no longer."""
        with self._changed:
            self._waiting = observation, stamp_s
            self._changed.notify()

    def end(self) -> None:
        """End the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(timeout=5.0)

    def _look(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._waiting is not None)
                if self._ended or self._waiting is None:
                    return
                (observation, stamp_s), self._waiting = self._waiting, None
                episode = self._episode
            with self._looking:
                if episode == self._episode:  # else another one has begun meanwhile
                    self._see(observation, stamp_s)

    def _see(self, observation: Observation, stamp_s: float) -> None:
        try:
            self._judge.see(observation, stamp_s)
            self.fault = ""
        except Exception as error:  # a judge's families are many, and control must go on
            if not self.fault:
                logger.error("the judge cannot score: %s", error)
            self.fault = " ".join(str(error).split())[:200] or type(error).__name__
