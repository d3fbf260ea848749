"""The label file of a dataset, changed mark by mark: `rewact_extensions/labels.yaml`.

`rewact label` uses it where no other is given. Each change is tried with its own reader first, so
that nothing is written that it would refuse.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rewact_ros.data.bags.episode_file import now_text
from rewact_ros.data.dataset.made_for import DATASET_KEY, made_for
from rewact_ros.data.labels.plan import keypoint_file, label_file_of, labels_by
from rewact_ros.data.labels.settings import MARKS_FILE, LabelSettings
from rewact_ros.data.review.dataset_index import DatasetIndex
from rewact_ros.data.review.dataset_notes import MOST_MARKS, read_notes, write_notes
from rewact_ros.data.review.marks import Entry, marked, scheme_of
from rewact_ros.data.review.rows import ReviewError
from rewact_ros.files import new_beside, place_file
from rewact_ros.formats import FORMAT_KEY
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.reward.label_file import FORMAT, LabelFile, read_label_file
from rewact_ros.reward.label_syntax import is_index, load
from rewact_ros.text import printable, reason

_ORDER = (FORMAT_KEY, DATASET_KEY, "interpolation", "milestones", "subtasks")
_ABOUT = "# Marked in the console; `rewact label` reads it (docs/labels.md).\n"


@dataclass(frozen=True)
class Marked:
    """The marks of one episode.

    Attributes:
        milestones, subtasks: of the file: progress, and share of it, by name.
        entry: of the episode, as the file has it.
        points: frame, progress and name of each keypoint that follows from it.
        curve: label of each frame (n,); empty: nothing is marked.
        file: which file it comes from, within the dataset; empty: there is none.
        undo: steps that can be taken back.
    """

    milestones: dict[str, float]
    subtasks: dict[str, float]
    entry: Entry
    points: list[tuple[int, float, str]]
    curve: list[float]
    file: str
    undo: int


def read_marks(index: DatasetIndex, episode: int) -> Marked:
    """The marks of an episode.

    Raises:
        ReviewError: the file cannot be read.
    """
    path = keypoint_file(index.root)
    content, known = _read(index, path)
    plan = known.episodes.get(episode)
    n, points, curve = int(index.lengths[episode]), [], list[float]()
    if plan is not None:
        points = [(p.frame, p.value, printable(p.name, 60)) for p in plan.keypoints]
        labels = labels_by(plan, n, LabelSettings(), known.interpolation or "pchip")
        curve = [round(float(value), 4) for value in labels.reward]
    return Marked(
        dict(content.get("milestones") or {}),
        dict(content.get("subtasks") or {}),
        content["episodes"].get(episode),
        points,
        curve,
        "" if path is None else str(path.relative_to(index.root)),
        len(read_notes(index.root, episode).marks),
    )


def mark_episode(index: DatasetIndex, episode: int, mark: Mapping[str, Any], by: str) -> None:
    """Add a mark to an episode, or take one away; the dataset's folder is locked by who calls.

    Raises:
        ReviewError: `rewact label` would refuse what comes out; nothing was written.
    """

    def change(content: dict[str, Any]) -> None:
        milestones = content.get("milestones") or {}
        has_subtasks = bool(content.get("subtasks"))
        entry = content["episodes"].get(episode)
        entry = marked(entry, mark, milestones, index.fps, has_subtasks)
        _put(content, episode, entry)

    before = _change(index, change)["episodes"].get(episode)
    notes = read_notes(index.root, episode)
    kept = [*notes.marks, {"before": before, "by": by, "at": now_text()}][-MOST_MARKS:]
    write_notes(index.root, episode, replace(notes, marks=kept))


def unmark_episode(index: DatasetIndex, episode: int) -> None:
    """Take the newest mark of an episode back; raises as `mark_episode`."""
    notes = read_notes(index.root, episode)
    if not notes.marks:
        raise ReviewError("nothing was marked here that could be taken back")
    *kept, last = notes.marks
    _change(index, lambda content: _put(content, episode, last.get("before")))
    write_notes(index.root, episode, replace(notes, marks=kept))


def set_scheme(index: DatasetIndex, milestones: object, subtasks: object) -> None:
    """Give the milestones (progress by name) and subtasks (share by name) of the file.

    Raises:
        ReviewError: as `mark_episode`; also where an episode has a mark of a name that would go.
    """
    named = {
        "milestones": scheme_of(milestones, "milestones"),
        "subtasks": scheme_of(subtasks, "subtasks"),
    }

    def change(content: dict[str, Any]) -> None:
        for key, values in named.items():
            content.pop(key, None)
            if values:
                content[key] = dict(sorted(values.items(), key=lambda item: item[1])
                                    if key == "milestones" else values)  # fmt: skip

    _change(index, change)


def _put(content: dict[str, Any], episode: int, entry: Entry) -> None:
    content["episodes"].pop(episode, None)
    if entry is not None:
        content["episodes"][episode] = entry
    content["episodes"] = dict(sorted(content["episodes"].items()))


def _change(index: DatasetIndex, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Write the file changed, in one step; returns what it held before."""
    path = index.root / MARKS_FILE
    before, _ = _read(index, keypoint_file(index.root))
    content, _ = _read(index, keypoint_file(index.root))
    change(content)
    content |= {FORMAT_KEY: FORMAT, DATASET_KEY: made_for(index.root)}
    try:
        path.parent.mkdir(exist_ok=True)
        with new_beside(path) as file:
            partial = Path(file.name)
            try:
                file.write(_text(content).encode())
                file.flush()
                _check(index, partial)
                place_file(partial, path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise ReviewError(f"{MARKS_FILE}: {reason(error)}; nothing was marked") from error
    return before


def _check(index: DatasetIndex, partial: Path) -> None:
    try:
        read_label_file(partial, index.fps, _lengths(index))
    except LabelError as error:
        why = str(error).removeprefix(f"{partial}: ")
        raise ReviewError(f"not marked: {printable(why, 400)}") from None


def _text(content: dict[str, Any]) -> str:
    """The file's text: an episode a line. Without episodes a list of none is still a file."""
    ordered: dict[str, Any] = {k: content[k] for k in _ORDER if k in content}
    ordered["episodes"] = content["episodes"]
    return _ABOUT + yaml.safe_dump(
        ordered, sort_keys=False, default_flow_style=None, allow_unicode=True, width=math.inf
    )


def _read(index: DatasetIndex, path: Path | None) -> tuple[dict[str, Any], LabelFile]:
    """A label file as our own layout has it, episodes by number, and as its reader takes it."""
    if path is None:
        return {"episodes": {}}, LabelFile({})
    try:
        known = label_file_of(index.root, path, index.fps, _lengths(index))
        data: Any = load(path)
    except LabelError as error:
        raise ReviewError(printable(error, 400)) from None
    if all(is_index(key) for key in data):  # the public layout
        episodes = {
            number: {"keypoints": [{"frame_index": p.frame, "reward": p.value}
                                   for p in plan.keypoints]}
            for number, plan in known.episodes.items()
        }  # fmt: skip
        return {"episodes": episodes}, known
    return {**data, "episodes": {int(k): v for k, v in (data.get("episodes") or {}).items()}}, known


def _lengths(index: DatasetIndex) -> dict[int, int]:
    return dict(enumerate(index.lengths.tolist()))
