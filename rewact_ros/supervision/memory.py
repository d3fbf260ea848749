"""What the supervisor remembers over a restart: one small file, written whole or not at all."""

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rewact_ros.files import replace_file
from rewact_ros.supervision.batch import Plan, Tally
from rewact_ros.supervision.evidence import Ended, Kind, kind_of
from rewact_ros.supervision.standing import Judged
from rewact_ros.supervision.verdict import SUPERVISOR, Outcome, Termination, Verdict

FORMAT = 1


class EpisodeMemoryError(ValueError):
    """The state folder cannot be used; the message names it and says how to mend it."""


@dataclass(frozen=True)
class EpisodeRecord:
    """The newest episode.

    Attributes:
        verdict: the last one; None while it runs.
        judged_at: UTC, ISO 8601.
        ended: the verdict that ended it.
        taken_over, asked: a person led; an alarm called one.
        of: judge and policy.
    """

    episode_id: str
    task: str
    verdict: Verdict | None = None
    judged_at: str = ""
    ended: Verdict | None = None
    taken_over: bool = False
    asked: bool = False
    of: str = ""

    @property
    def kind(self) -> Kind | None:
        """What it tells a calibration; None: nobody has judged it."""
        verdict, ended = self.verdict, self.ended
        if verdict is None or ended is None or verdict.by == SUPERVISOR:
            return None
        if verdict.outcome is Outcome.UNLABELLED:
            return None
        pressed = ended.termination is Termination.HUMAN and ended.outcome is verdict.outcome
        whole = ended.termination is Termination.TIMEOUT
        return kind_of(
            Ended(ended.termination, verdict.outcome, pressed, self.taken_over, self.asked, whole)
        )


@dataclass(frozen=True)
class Remembered:
    """Content of the file.

    Attributes:
        last: the newest episode.
        batch: what is left of one.
        tally: all episodes so far.
        judged: those that people judged, of the judge and policy that run.
    """

    last: EpisodeRecord | None = None
    batch: Plan | None = None
    tally: Tally = field(default_factory=Tally)
    judged: Judged = field(default_factory=Judged)


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

    def judge(
        self, verdict: Verdict, taken_over: bool = False, asked: bool = False, of: str = ""
    ) -> None:
        """The newest episode gets its verdict, or another one; the rest is said with the first."""
        last = self.now.last
        if last is None:
            return
        tally, record = self.now.tally, replace(last, verdict=verdict, judged_at=_utc())
        if last.verdict is not None:
            tally = tally.add(last.verdict.outcome, -1)
        else:
            record = replace(record, ended=verdict, taken_over=taken_over, asked=asked, of=of)
        judged = _judged(_judged(self.now.judged, last, -1), record)
        self._store(replace(self.now, last=record, tally=tally.add(verdict.outcome), judged=judged))

    def keep(self, batch: Plan | None) -> None:
        """Remember what is left of a batch; None: nothing."""
        if batch != self.now.batch:
            self._store(replace(self.now, batch=batch))

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


def _judged(judged: Judged, record: EpisodeRecord, count: int = 1) -> Judged:
    """With an episode more, or less, if a person has judged it."""
    if record.kind is None:
        return judged
    if record.of != judged.of:
        judged = Judged(record.of)
    return judged.add(record.kind, count)


def _verdict(raw: dict[str, Any] | None) -> Verdict | None:
    if raw is None:
        return None
    kinds = {"outcome": Outcome(raw["outcome"]), "termination": Termination(raw["termination"])}
    return Verdict(**{**raw, **kinds})


def _remembered(raw: dict[str, Any]) -> Remembered:
    if raw["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT}, got {raw['format']}")
    last, batch = raw["last"], raw["batch"]
    if last is not None:
        verdicts = {key: _verdict(last.get(key)) for key in ("verdict", "ended")}
        last = EpisodeRecord(**{**last, **verdicts})
    if batch is not None:
        batch = Plan(**{**batch, "tally": Tally(**batch["tally"])})
    judged = Judged(**raw.get("judged", {}))  # an earlier version did not count them
    return Remembered(last, batch, Tally(**raw["tally"]), judged)


def state_file(folder: str, namespace: str, robot: str) -> Path:
    """File of one robot; without a folder below `$XDG_STATE_HOME`, or `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = "-".join([*filter(None, namespace.split("/")), robot])
    return Path(folder or Path(home) / "rewact_ros") / f"supervisor-{name}.json"


def _utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
