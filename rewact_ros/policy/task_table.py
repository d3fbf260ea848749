"""Which policy does which task, who judges it and for how long: a small YAML file, read strictly.

    tasks:
      - {task: "fold the*", policy: folding, timeout_s: 20}
      - {task: "*", policy: tidy, judge: tidy_judge, calibration: tidy.json}

The first pattern that a task's text matches counts. Pure; torch is not needed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.contract.problems import ContractError, Problem, Problems, shown, with_lines
from rewact_ros.contract.sections import TEXT, Key, Section, above_zero, nested, short
from rewact_ros.text import printable, reason

from .checkpoint_files import CALIBRATION, WEIGHTS

EVERY_TASK = "*"
LONGEST_S = 86_400.0
SHOWN = 80  # characters of a task in a message
_TABLE = (Key("tasks", nested({"type": "array"}), "one mapping for each pattern"),)
_ROW = (
    Key("task", TEXT, "pattern of the task's text, as of a shell: * ? [abc]; case does not count"),
    Key("policy", TEXT, "checkpoint folder"),
    Key("judge", TEXT, "checkpoint folder whose reward judges; absent: the policy's", None),
    Key("calibration", TEXT, "file of thresholds; absent: calibration.json of the judge", None),
    Key("timeout_s", above_zero(0.1, LONGEST_S), "where a goal gives none; absent: usual", 0.0),
)


class TaskTableError(ValueError):
    """A table of tasks that cannot be used; says where, what was expected and what came."""


class UnknownTaskError(ValueError):
    """A task that no pattern matches; the message lists those that there are."""


class ByTask[T]:
    """One thing for each pattern, such as an engine.

    Args:
        rows: pattern and thing; the first that matches counts.
        source: file of the patterns, for messages.
    """

    def __init__(self, rows: list[tuple[str, T]], source: str = "") -> None:
        self.rows, self._source = rows, source

    @classmethod
    def one(cls, thing: T) -> "ByTask[T]":
        """The same thing for every task."""
        return cls([(EVERY_TASK, thing)])

    @property
    def usual(self) -> T:
        """What there is before anybody has named a task: that of every task, else the first."""
        return self.rows[-1 if self.rows[-1][0] == EVERY_TASK else 0][1]

    def of(self, task: str) -> T:
        """What belongs to a task. Raises UnknownTaskError."""
        text = task.strip().casefold()
        for pattern, thing in self.rows:
            if fnmatchcase(text, pattern.strip().casefold()):
                return thing
        known = ", ".join(repr(pattern) for pattern, _ in self.rows)
        raise UnknownTaskError(
            f"task: expected one that a pattern of {self._source} matches ({known}), got "
            f"'{printable(task, SHOWN)}'; add a row for it, or a last one, {EVERY_TASK!r}"
        )


@dataclass(frozen=True)
class TaskRow:
    """What belongs to the tasks of one pattern.

    Attributes:
        pattern: of the task's text.
        policy: checkpoint folder.
        judge: checkpoint folder whose reward judges; None: the policy's own.
        calibration: file of thresholds; None: calibration.json of the judge, where it has one.
        timeout_s: of an episode whose goal gives none; 0: the supervisor's own.
    """

    pattern: str
    policy: Path
    judge: Path | None
    calibration: Path | None
    timeout_s: float

    @property
    def judged_by(self) -> Path:
        """Checkpoint folder whose reward judges."""
        return self.judge or self.policy

    @property
    def thresholds(self) -> Path | None:
        """File of thresholds, which may be the one beside the judge; None: there is none."""
        beside = self.judged_by / CALIBRATION
        return self.calibration or (beside if beside.is_file() else None)


@dataclass(frozen=True)
class TaskTable:
    """The rows of a file, in its order."""

    file: Path
    rows: tuple[TaskRow, ...]

    @property
    def judged_apart(self) -> bool:
        """Whether the node `judge` judges, all rows: of two judges on a topic nobody knows whose
        curve it is.
        """
        return any(row.judge is not None for row in self.rows)

    def by_task[T](self, make: Callable[[TaskRow], T]) -> ByTask[T]:
        """Make one thing for each row.

        Raises:
            TaskTableError: `make` refused a row; names it.
        """
        made = []
        for row in self.rows:
            try:
                made.append((row.pattern, make(row)))
            except (ValueError, RuntimeError, OSError) as error:
                raise TaskTableError(f"tasks {self.file}: task {row.pattern!r}: {error}") from error
        return ByTask(made, str(self.file))


def table_of(params: Any, instead: tuple[str, ...]) -> TaskTable | None:
    """The table that a node's or bring-up's setting `tasks` names; None: there is none.

    Args:
        params: with `tasks` and the settings that the rows stand for.
        instead: names of these.

    Raises:
        TaskTableError: as ``load_tasks``; or one of these is given too.
    """
    if not params.tasks:
        return None
    for name in instead:
        if getattr(params, name):
            raise TaskTableError(
                f"{name}: expected none beside tasks, whose rows say it, got "
                f"{getattr(params, name)!r}; leave one of the two out"
            )
    return load_tasks(params.tasks)


def load_tasks(file: str | Path) -> TaskTable:
    """Read a table of tasks.

    Raises:
        TaskTableError: the file is missing or no strict YAML; a key is unknown, missing or wrong; a
            folder or file of a row is not there; a pattern that can never match. All that is wrong
            is told, with lines.
    """
    path, notes = Path(os.path.expanduser(file)), strict_yaml.Notes()
    try:
        data = strict_yaml.load(path, notes=notes)
    except (OSError, strict_yaml.YamlError) as error:
        raise TaskTableError(f"tasks {path}: {reason(error, path)}") from None
    problems = Problems()
    rows = _rows(data, path.parent, problems)
    found = [Problem(fault.key, fault=fault.what, line=fault.line) for fault in notes.faults]
    try:
        problems.require_none()
    except ContractError as error:
        misread = {fault.key for fault in found}
        found += with_lines((p for p in error.problems if p.key not in misread), notes.lines)
    if found:
        listed = shown(sorted(found, key=lambda problem: problem.line)).replace("\n", "\n  ")
        raise TaskTableError(f"tasks {path}: {listed}")
    return TaskTable(path, tuple(rows))


def _rows(data: Any, folder: Path, problems: Problems) -> list[TaskRow]:
    table = Section("", data, _TABLE, problems)
    if "tasks" not in table:
        return []
    given = table.data["tasks"]
    if not isinstance(given, list) or not given:
        problems.add("tasks", "a list with a mapping for each pattern", short(given))
        return []
    rows, seen = [], dict[str, int]()
    for i, each in enumerate(given):
        where = f"tasks[{i}]"
        row = _row(where, each, folder, problems)
        if row is None:
            continue
        pattern = row.pattern.strip().casefold()
        above = next((p for p in (pattern, EVERY_TASK) if p in seen), None)
        if above is not None:
            what = "is there twice" if above == pattern else f"stands below {EVERY_TASK!r}"
            problems.add(
                f"{where}.task",
                fault=f"{row.pattern!r} {what}, so that tasks[{seen[above]}] takes all its tasks",
                mend=f"remove one, or put {EVERY_TASK!r} last",
            )
        seen.setdefault(pattern, i)
        rows.append(row)
    return rows


def _row(where: str, data: Any, folder: Path, problems: Problems) -> TaskRow | None:
    section = Section(where, data, _ROW, problems)
    if not section.whole:
        return None
    pattern = section.values["task"]

    def there(key: str, file: str, what: str) -> Path | None:
        given = section.values[key]
        if given is None:
            return None
        path = folder / os.path.expanduser(given)
        if not os.path.isfile(path / file):  # Path's own would raise for a name that is too long
            within = f" with a {file}" if os.path.isdir(path) and file else ""
            problems.add(f"{where}.{key}", fault=f"{pattern!r}: no such {what}{within}: {path}")
        return path

    policy = there("policy", WEIGHTS, "checkpoint folder")
    judge = there("judge", WEIGHTS, "checkpoint folder")
    calibration = there("calibration", "", "file")
    assert policy is not None  # the table requires it
    return TaskRow(pattern, policy, judge, calibration, section.values["timeout_s"])
