"""What the supervisor remembers over a restart: one small file, written whole or not at all."""

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rewact_ros.files import replace_file
from rewact_ros.formats import require_format
from rewact_ros.supervision.batch import Plan, Tally
from rewact_ros.supervision.evidence import Ended, Kind, kind_of
from rewact_ros.supervision.standing import Judged
from rewact_ros.supervision.verdict import SUPERVISOR, Outcome, Termination, Verdict
from rewact_ros.supervision.withdrawal import BoundState, read_bound_state

FORMAT = 1
MOST_KEPT = 64  # pairs of judge and policy, and calibrations


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
        judged: those that people judged, of each pair of a judge and a policy, the newest last.
        bounds: whether each calibration's bound still stands, likewise.
    """

    last: EpisodeRecord | None = None
    batch: Plan | None = None
    tally: Tally = field(default_factory=Tally)
    judged: tuple[Judged, ...] = ()
    bounds: tuple[BoundState, ...] = ()

    def judged_of(self, pair: str) -> Judged:
        """Episodes that people judged of a judge and a policy."""
        return next((judged for judged in self.judged if judged.of == pair), Judged(pair))

    def bound_of(self, calibration: str) -> BoundState:
        """What is known of a calibration's bound, by its key."""
        found = (bound for bound in self.bounds if bound.of == calibration)
        return next(found, BoundState(calibration))


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
        now = _counted(_counted(self.now, last, -1), record)
        self._store(replace(now, last=record, tally=tally.add(verdict.outcome)))

    def keep(self, batch: Plan | None) -> None:
        """Remember what is left of a batch; None: nothing."""
        if batch != self.now.batch:
            self._store(replace(self.now, batch=batch))

    def stand(self, bound: BoundState) -> None:
        """Remember what is known of a bound."""
        self._store(replace(self.now, bounds=_with(self.now.bounds, bound)))

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


def _counted(now: Remembered, record: EpisodeRecord, count: int = 1) -> Remembered:
    """With an episode more, or less, if a person has judged it."""
    if record.kind is None:
        return now
    judged = now.judged_of(record.of).add(record.kind, count)
    return replace(now, judged=_with(now.judged, judged))


def _with[T: Judged | BoundState](known: tuple[T, ...], newest: T) -> tuple[T, ...]:
    """Of each pair or calibration one, of which only the newest are kept."""
    return (*(each for each in known if each.of != newest.of), newest)[-MOST_KEPT:]


def _verdict(raw: dict[str, Any] | None) -> Verdict | None:
    if raw is None:
        return None
    kinds = {"outcome": Outcome(raw["outcome"]), "termination": Termination(raw["termination"])}
    return Verdict(**{**raw, **kinds})


def _remembered(raw: dict[str, Any]) -> Remembered:
    require_format(raw, FORMAT, "read it with the rewact_ros that wrote it")
    last, batch = raw["last"], raw["batch"]
    if last is not None:
        verdicts = {key: _verdict(last.get(key)) for key in ("verdict", "ended")}
        last = EpisodeRecord(**{**last, **verdicts})
    if batch is not None:
        batch = Plan(**{**batch, "tally": Tally(**batch["tally"])})
    return Remembered(
        last,
        batch,
        Tally(**raw["tally"]),
        # Earlier versions neither counted nor watched.
        tuple(Judged(**each) for each in raw.get("judged", ())),
        tuple(read_bound_state(each) for each in raw.get("bounds", ())),
    )


def state_file(folder: str, namespace: str, robot: str) -> Path:
    """File of one robot; without a folder below `$XDG_STATE_HOME`, or `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    name = "-".join([*filter(None, namespace.split("/")), robot])
    return Path(folder or Path(home) / "rewact_ros") / f"supervisor-{name}.json"


def _utc() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
