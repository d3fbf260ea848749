"""Gets another checkpoint ready beside the one that runs: verified, loaded and warmed up."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .checkpoint import LoadedPolicy
from .checkpoint_files import CheckpointFiles
from .engine import Engine
from .updates import Candidate, PolicyUpdates, Update, one_line

Load = Callable[[CheckpointFiles], tuple[LoadedPolicy, Engine]]
REFUSED_S = 60.0  # a refusal is shown so long, or until an episode begins
MAX_TEXT = 500  # characters; it goes out with every heartbeat


@dataclass(frozen=True)
class ReadyPolicy:
    """A checkpoint that can run at once."""

    candidate: Candidate
    loaded: LoadedPolicy
    engine: Engine


class UpdatePreparation:
    """Prepares one update at a time in a thread of its own.

    Args:
        updates: judges requests and keeps the history.
        load: opens a checkpoint of the files that were judged, checks it against the robot's
            contract and warms it up; what it raises is a refusal.
    """

    def __init__(self, updates: PolicyUpdates, load: Load) -> None:
        self._updates, self._load = updates, load
        self._thread: threading.Thread | None = None
        self._requested_ns = -1
        self._text, self._refused_s = "", 0.0
        self.ready: ReadyPolicy | None = None

    @property
    def text(self) -> str:
        """What became of the last request, one line; empty once it is taken or long refused."""
        if self._refused_s and time.monotonic() - self._refused_s > REFUSED_S:
            self.forget_refusal()
        return self._text

    def forget_refusal(self) -> None:
        """Say no more of a request that was refused."""
        if self._refused_s:
            self._text, self._refused_s = "", 0.0

    def request(self, update: Update) -> None:
        """Begin to prepare; a sender may repeat a request until it hears of it."""
        if update.stamp_ns == self._requested_ns:
            return
        if self._thread is not None and self._thread.is_alive():
            # No refusal to keep: a sender that repeats it is heard once the other one is done.
            self._text = f"{update.label}: refused: another update is being prepared"
            return
        self._requested_ns, self._refused_s = update.stamp_ns, 0.0
        self.ready, self._text = None, f"{update.label}: being prepared"
        self._thread = threading.Thread(
            target=self._prepare, args=(update,), name="update", daemon=True
        )
        self._thread.start()

    def taken(self) -> None:
        """The prepared checkpoint runs now."""
        assert self.ready is not None
        self._updates.taken(self.ready.candidate)
        self.ready, self._text = None, ""

    def _prepare(self, update: Update) -> None:
        try:
            candidate = self._updates.judge(update)
            assert candidate.files is not None
            ready = ReadyPolicy(candidate, *self._load(candidate.files))
        except Exception as error:  # whatever a foreign checkpoint does, the policy runs on
            why = str(error) or type(error).__name__
            self._text = f"{update.label}: refused: {one_line(why, MAX_TEXT)}"
            self._refused_s = time.monotonic()
            return
        self._text = f"{update.label}: loaded, waits for the end of the episode"
        self.ready = ready
