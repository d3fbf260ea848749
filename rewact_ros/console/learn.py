"""The tab of what is learned: a run's curves, the versions with their tests, and which one runs."""

import json
import math
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewact_ros.policy.checkpoint_files import CONTRACT, WEIGHTS, CheckpointError, open_folder
from rewact_ros.policy.updates import Update
from rewact_ros.ros.swap_client import SwapError, update_for
from rewact_ros.runs import BEST, LEARNED, NEWEST, VERSIONS
from rewact_ros.strict_yaml import YamlError, load_json
from rewact_ros.text import printable

# Of one curve, spread over the run; the newest so many versions and tests.
POINTS, MOST_CURVES, MOST_VERSIONS, MOST_TESTS = 1000, 200, 50, 20
RESULTS, BEST_FILE, BOARD = "episodes.jsonl", "best.json", "tensorboard"
TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class Version:
    """A checkpoint that a policy may become.

    Attributes:
        name: of its folder, by which the page asks for it.
        version: first digits of its weights' SHA-256; empty: it cannot be read.
        made: seconds since the epoch.
        updates: that a learner has made; None: nobody learned it.
        robot: contract hash that it was made for; empty: not said.
        marks: `best`, `newest`.
        trouble: why it cannot be used; empty: it can.
    """

    name: str
    version: str
    made: float
    updates: int | None
    robot: str
    marks: list[str]
    trouble: str


class Learning:
    """Reads a run's folder and a folder of checkpoints. Safe in any thread; it blocks.

    Args:
        run: of a training or learning; None: none is shown.
        policy_dir: whose folders are versions; None: that of the run, where it has one.
    """

    def __init__(self, run: Path | None, policy_dir: Path | None) -> None:
        self._run = run
        versions = run / VERSIONS if run is not None else None
        self._versions = policy_dir or (versions if versions and versions.is_dir() else None)
        self._lock = threading.Lock()
        self._read: dict[str, tuple[float, Version]] = {}
        self._board: tuple[object, dict[str, list[list[float]]]] = (None, {})

    def record(self) -> dict[str, Any]:
        """All but the curves, for JSON."""
        return {
            "run": self._run.name if self._run else "",
            "curves": sorted(self.curves()),
            "versions": [asdict(version) for version in self.versions()],
            "best": self._best(),
            "tests": self._tests(),
        }

    # Versions ---------------------------------------------------------------------------------

    def versions(self) -> list[Version]:
        """The newest versions, newest first."""
        if self._versions is None or not self._versions.is_dir():
            return []
        marks: dict[str, list[str]] = {}
        for mark in (BEST, NEWEST):
            if (link := self._versions / mark).is_symlink():
                marks.setdefault(link.resolve().name, []).append(mark)
        folders = [
            (path.stat().st_mtime, path)
            for path in self._versions.iterdir()
            if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
        ]
        newest = sorted(folders, reverse=True)[:MOST_VERSIONS]
        return [self._version(path, made, marks.get(path.name, [])) for made, path in newest]

    def _version(self, path: Path, made: float, marks: list[str]) -> Version:
        with self._lock:
            known = self._read.get(path.name)
        if known is None or known[0] != made:
            known = made, _look(path, made)
            with self._lock:
                self._read[path.name] = known
        return Version(**{**asdict(known[1]), "marks": marks})

    def update(self, name: str) -> Update:
        """The request for a version of the listing.

        Raises:
            SwapError: there is none of this name, or no policy would take it.
        """
        if self._versions is None or name not in {version.name for version in self.versions()}:
            raise SwapError(f"no version '{printable(name, 60)}' is offered here")
        return update_for(self._versions / name, time.time_ns())

    # The run ----------------------------------------------------------------------------------

    def curves(self) -> dict[str, list[list[float]]]:
        """What TensorBoard has of the run: name → [[seconds, step, value], …]."""
        board = self._run / BOARD if self._run is not None else None
        if board is None or not board.is_dir():
            return {}
        stamp = sorted((p.name, p.stat().st_size) for p in board.iterdir() if p.is_file())
        with self._lock:
            if self._board[0] != stamp:
                self._board = stamp, _read_board(board)
            return self._board[1]

    def _best(self) -> dict[str, Any]:
        file = self._run / BEST_FILE if self._run is not None else None
        if file is None or not file.is_file():
            return {}
        try:
            best = load_json(file)
        except (OSError, YamlError):
            return {}
        kept = ("version", "success", "verdicts_right", "cycle_s", "speed")
        return {key: best[key] for key in kept if key in best}

    def _tests(self) -> list[dict[str, Any]]:
        """The newest tests of versions, newest first."""
        file = self._run / RESULTS if self._run is not None else None
        if file is None or not file.is_file():
            return []
        with file.open("rb") as handle:
            handle.seek(max(file.stat().st_size - TAIL_BYTES, 0))
            lines = handle.read().decode("utf-8", "replace").splitlines()
        tests = []
        for line in lines:
            if '"validation_success"' in line:
                try:
                    tests.append(json.loads(line))
                except ValueError:  # torn, of a killed process
                    continue
        shown = ("robot_steps", "validation_success", "validation_cycle_s", "validation_replaces")
        return [{key: t.get(key) for key in shown} for t in tests[-MOST_TESTS:][::-1]]


def _look(path: Path, made: float) -> Version:
    about: dict[str, Any] = {"name": path.name, "made": made, "marks": []}
    try:
        if not (path / WEIGHTS).is_file():
            raise CheckpointError(f"no {WEIGHTS}")
        files = open_folder(path)
        robot = files.json(CONTRACT).get("hash", "") if CONTRACT in files else ""
        updates = files.json(LEARNED).get("updates") if LEARNED in files else None
    except (CheckpointError, OSError) as error:
        words = printable(str(error), 300)
        return Version(version="", updates=None, robot="", trouble=words, **about)
    known = updates if isinstance(updates, int) else None
    return Version(version=files.version, updates=known, robot=str(robot), trouble="", **about)


def _read_board(board: Path) -> dict[str, list[list[float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Its reservoir keeps the newest point, and the others without favour.
    events = EventAccumulator(str(board), size_guidance={"scalars": POINTS})
    events.Reload()
    return {
        printable(tag, 80): [
            [round(e.wall_time, 1), e.step, float(e.value)]
            for e in events.Scalars(tag)
            if math.isfinite(e.value)
        ]
        for tag in sorted(events.Tags()["scalars"])[:MOST_CURVES]
    }
