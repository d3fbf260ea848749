"""What came of a study's trials, line by line as it comes: a kill loses the running trial at most.

A line says that a trial began, how it was scored, that it could not be scored, or that the study
has ended. None names a version: which one a trial drove follows from the study's file.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rewact_ros.files import sync
from rewact_ros.strict_yaml import YamlError, parse_json

from .study import Study, StudyError, Trial

JOURNAL = "trials.jsonl"
BEGAN, SCORED, UNSCORED, ENDED = "began", "scored", "unscored", "ended"
STOPPED = "stopped"  # by a person; the other ends are those of `Standing.finished`
ENDS = ("decided", "blocks", "futile", STOPPED)


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes:
        score: in [0, 1]; None: nobody could say, and the trial is driven again.
        success: whether the task was done; None where the score is None.
        about: plain values for the report, such as who judged and why it ended.
    """

    score: float | None
    success: bool | None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Course:
    """How far a study has come.

    Attributes:
        results: of the trials that were scored, in their order.
        began: (block, slot) of each trial that was begun, those again that were lost.
        unscored: (block, slot) of each trial that could not be scored.
        ended: why the study ended; "": it has not.
    """

    results: list[tuple[Trial, Result]] = field(default_factory=list)
    began: list[tuple[int, int]] = field(default_factory=list)
    unscored: list[tuple[int, int]] = field(default_factory=list)
    ended: str = ""

    @property
    def lost(self) -> Counter[tuple[int, int]]:
        """How often a trial was begun and cut short: by a kill, a fault or a person who paused."""
        lost = Counter(self.began)
        lost.subtract((trial.block, trial.slot) for trial, _ in self.results)
        lost.subtract(self.unscored)
        return +lost

    def blocks(self, study: Study) -> list[dict[str, float]]:
        """Scores by version's name, of each block that is whole."""
        size = len(study.versions)
        whole = len(self.results) // size * size
        found = []
        for first in range(0, whole, size):
            scores = {}
            for trial, result in self.results[first : first + size]:
                assert result.score is not None
                scores[study.versions[trial.version].name] = result.score
            found.append(scores)
        return found

    def next(self, study: Study) -> Trial:
        """The trial that is due."""
        block, slot = divmod(len(self.results), len(study.versions))
        return study.block(block)[slot]


class Journal:
    """The journal of a study, open to be written; close it, or use ``with``.

    Attributes:
        course: what it says.

    Args:
        folder: of the study.
        study: whose trials are expected, one after the other.

    Raises:
        StudyError: a line that is damaged, or of another study.
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path, study: Study) -> None:
        self._path, self._study = folder / JOURNAL, study
        self.course, whole = _read(self._path, study)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o666)
        os.ftruncate(self._file, whole)  # a line that a kill cut short
        sync(folder)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is left to be written."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def began(self, trial: Trial) -> None:
        """Note that a trial begins."""
        self._write({"event": BEGAN, **_place(trial)})

    def result(self, trial: Trial, result: Result) -> None:
        """Note what came of it."""
        if result.score is None:
            self._write({"event": UNSCORED, **_place(trial), "about": dict(result.about)})
            return
        self._write(
            {
                "event": SCORED,
                **_place(trial),
                "score": result.score,
                "success": result.success,
                "about": dict(result.about),
            }
        )

    def ended(self, why: str) -> None:
        """Note that the study is over, for good."""
        self._write({"event": ENDED, "why": why})

    def _write(self, event: dict[str, Any]) -> None:
        _take(self.course, self._study, event)
        line = (json.dumps(event, allow_nan=False) + "\n").encode()
        while line:
            line = line[os.write(self._file, line) :]
        os.fsync(self._file)


def read_course(folder: Path, study: Study) -> Course:
    """What the journal of a study says, without writing there; raises as `Journal`."""
    return _read(folder / JOURNAL, study)[0]


def _read(path: Path, study: Study) -> tuple[Course, int]:
    """The course, and how many bytes of the file are whole lines."""
    course, whole = Course(), 0
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return course, whole
    *lines, _ = content.split(b"\n")  # what follows the last line's end, a kill cut short
    for number, line in enumerate(lines, 1):
        try:
            _take(course, study, parse_json(line.decode()))
        except (YamlError, UnicodeDecodeError, StudyError) as error:
            raise StudyError(
                f"{path}: line {number}: {error}; the journal is never edited: put the file back, "
                "or begin another study by another --name"
            ) from error
        whole += len(line) + 1
    return course, whole


def _take(course: Course, study: Study, event: object) -> None:
    """Add an event to a course; raises StudyError where it is none that may come now."""
    if not isinstance(event, dict):
        raise StudyError(f"expected an object, got {type(event).__name__}")
    if course.ended:
        raise StudyError(f"expected nothing after the end ({course.ended}), got another event")
    kind = event.get("event")
    if kind == ENDED:
        if event.get("why") not in ENDS:
            raise StudyError(f"why: expected one of {', '.join(ENDS)}")
        course.ended = event["why"]
        return
    trial = course.next(study)
    got = {key: event.get(key) for key in _place(trial)}
    if got != _place(trial):
        raise StudyError(f"expected the trial {_place(trial)}, got {got}")
    if kind == BEGAN:
        course.began.append((trial.block, trial.slot))
    elif kind == UNSCORED:
        course.unscored.append((trial.block, trial.slot))
    elif kind == SCORED:
        course.results.append((trial, _result(event)))
    else:
        raise StudyError(f"event: expected {BEGAN}, {SCORED}, {UNSCORED} or {ENDED}")


def _result(event: dict[str, Any]) -> Result:
    score, success, about = (event.get(key) for key in ("score", "success", "about"))
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        raise StudyError(f"score: expected 0 to 1, got {score!r}")
    if not isinstance(success, bool):
        raise StudyError(f"success: expected true or false, got {success!r}")
    if not isinstance(about, dict):
        raise StudyError("about: expected an object")
    return Result(float(score), success, about)


def _place(trial: Trial) -> dict[str, Any]:
    return {"block": trial.block, "slot": trial.slot, "code": trial.code}
