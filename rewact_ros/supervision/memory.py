"""What the supervisor remembers over a restart: one small file, written whole or not at all."""

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rewact_ros.files import replace_file
from rewact_ros.supervision.batch import Plan, Tally
from rewact_ros.supervision.verdict import Outcome, Termination, Verdict
from rewact_ros.supervision.withdrawal import Standing, read_standing

FORMAT = 1


class EpisodeMemoryError(ValueError):
    """The state folder cannot be used; the message names it and says how to mend it."""


@dataclass(frozen=True)
class EpisodeRecord:
    """The newest episode; ``verdict`` is None while it runs. ``judged_at``: UTC, ISO 8601."""

    episode_id: str
    task: str
    verdict: Verdict | None = None
    judged_at: str = ""


@dataclass(frozen=True)
class Remembered:
    """Content of the file: the newest episode, what is left of a batch, all episodes so far.

    ``bound``: whether the calibration's bound still stands.
    """

    last: EpisodeRecord | None = None
    batch: Plan | None = None
    tally: Tally = field(default_factory=Tally)
    bound: Standing = field(default_factory=Standing)


class EpisodeMemory:
    """Keeps `Remembered` on disk.

    Attributes:
        now: what is remembered.
        damaged: where an unreadable file was set aside, with the reason; "" if none was.
        fault: why the last change is not on disk, or an empty string.

    Args:
        file: its folder is made.

    Raises:
        EpisodeMemoryError: the folder cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.damaged = self.fault = ""
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.now = self._read()
            self._write()
        except OSError as error:
            raise EpisodeMemoryError(
                f"state_dir {file.parent}: {error.strerror}; name a folder that can be written"
            ) from error

    @property
    def open_episode(self) -> EpisodeRecord | None:
        """An episode without a verdict: it runs, or the supervisor died in it."""
        last = self.now.last
        return last if last is not None and last.verdict is None else None

    def begin(self, episode_id: str, task: str) -> None:
        """An episode begins."""
        self._store(replace(self.now, last=EpisodeRecord(episode_id, task)))

    def judge(self, verdict: Verdict) -> None:
        """The newest episode gets its verdict, or another one."""
        last = self.now.last
        if last is None:
            return
        tally = self.now.tally
        if last.verdict is not None:
            tally = tally.add(last.verdict.outcome, -1)
        record = replace(last, verdict=verdict, judged_at=_utc())
        self._store(replace(self.now, last=record, tally=tally.add(verdict.outcome)))

    def keep(self, batch: Plan | None) -> None:
        """Remember what is left of a batch; None: nothing."""
        if batch != self.now.batch:
            self._store(replace(self.now, batch=batch))

    def stand(self, bound: Standing) -> None:
        """Remember what is known of the bound."""
        self._store(replace(self.now, bound=bound))

    def _store(self, now: Remembered) -> None:
        self.now = now
        try:
            self._write()
            self.fault = ""
        except OSError as error:  # a full disk must not end an episode
            self.fault = f"{self._file}: {error.strerror}"

    def _write(self) -> None:
        document = {"format": FORMAT, **asdict(self.now)}
        replace_file(self._file, json.dumps(document, indent=1) + "\n")

    def _read(self) -> Remembered:
        if not self._file.exists():
            return Remembered()
        try:
            return _remembered(json.loads(self._file.read_text()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = self._file.with_suffix(".damaged")
            os.replace(self._file, aside)
            self.damaged = f"{self._file}: not readable ({error}), set aside as {aside.name}"
            return Remembered()


def _remembered(raw: dict[str, Any]) -> Remembered:
    if raw["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT}, got {raw['format']}")
    last, batch = raw["last"], raw["batch"]
    if last is not None:
        verdict = last["verdict"]
        if verdict is not None:
            kinds = {
                "outcome": Outcome(verdict["outcome"]),
                "termination": Termination(verdict["termination"]),
            }
            verdict = Verdict(**{**verdict, **kinds})
        last = EpisodeRecord(**{**last, "verdict": verdict})
    if batch is not None:
        batch = Plan(**{**batch, "tally": Tally(**batch["tally"])})
    # An earlier version did not watch the bound.
    bound = read_standing(raw.get("bound"))
    return Remembered(last, batch, Tally(**raw["tally"]), bound=bound)


def state_file(folder: str, namespace: str, robot: str) -> Path:
    """File of one robot; without a folder below `$XDG_STATE_HOME`, or `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = "-".join([*filter(None, namespace.split("/")), robot])
    return Path(folder or Path(home) / "rewact_ros") / f"supervisor-{name}.json"


def _utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
