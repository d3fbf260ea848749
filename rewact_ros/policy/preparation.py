"""Gets another checkpoint ready beside the one that runs: verified, loaded and warmed up."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .checkpoint import LoadedPolicy
from .engine import Engine
from .updates import Candidate, PolicyUpdates, Update, UpdateRefused

Load = Callable[[Path], tuple[LoadedPolicy, Engine]]


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
        load: opens a checkpoint, checks it against the robot's contract and warms it up; what it
            raises of the ValueError, RuntimeError and OSError families is a refusal.
    """

    def __init__(self, updates: PolicyUpdates, load: Load) -> None:
        self._updates, self._load = updates, load
        self._thread: threading.Thread | None = None
        self._requested_ns = -1
        self.ready: ReadyPolicy | None = None
        self.text = ""  # what became of the last request, one line; empty once it is taken

    def request(self, update: Update) -> None:
        """Begin to prepare; a sender may repeat a request until it hears of it."""
        if update.stamp_ns == self._requested_ns:
            return
        if self._thread is not None and self._thread.is_alive():
            self.text = f"{update.label}: refused: another update is being prepared"
            return
        self._requested_ns = update.stamp_ns
        self.ready, self.text = None, f"{update.label}: being prepared"
        self._thread = threading.Thread(
            target=self._prepare, args=(update,), name="update", daemon=True
        )
        self._thread.start()

    def taken(self) -> None:
        """The prepared checkpoint runs now."""
        assert self.ready is not None
        self._updates.taken(self.ready.candidate)
        self.ready, self.text = None, ""

    def close(self) -> None:
        """Wait for the thread."""
        if self._thread is not None:
            self._thread.join(timeout=30.0)

    def _prepare(self, update: Update) -> None:
        try:
            candidate = self._updates.judge(update)
            loaded, engine = self._load(candidate.folder)
            if loaded.version != candidate.version:
                raise UpdateRefused(
                    f"{candidate.folder}: changed while it was loaded: expected version "
                    f"{candidate.version}, got {loaded.version}"
                )
        except (ValueError, RuntimeError, OSError) as error:
            self.text = f"{update.label}: refused: {' '.join(str(error).split())}"
            return
        self.text = f"{update.label}: ready, waits for the end of the episode"
        self.ready = ReadyPolicy(candidate, loaded, engine)
