"""Moments of an episode that a person marks, as a label file has them (docs/labels.md).

Pure: an episode's entry of the file in, the changed entry out. Whether the whole makes a curve is
for the file's own reader to say.
"""

import math
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from rewact_ros.data.review.rows import ReviewError
from rewact_ros.reward.label_file import EPISODE_KEYS

Entry = dict[str, Any] | str | None
KINDS = ("keypoint", "milestone", "subtask", "fall", "start", "ramp", "failed", "remove", "clear")
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*s")
_NAME = re.compile(r"[^\W\d][\w .-]{0,39}")
MOST_NAMES = 40


def marked(
    entry: Entry,
    mark: Mapping[str, Any],
    milestones: Mapping[str, float],
    fps: float,
    has_subtasks: bool = False,
) -> Entry:
    """An episode's entry with one more mark, or one less; None: nothing is marked any more.

    Args:
        entry: as the file has it now.
        mark: `kind` of `KINDS`; `frame` (`keypoint`, `milestone`, `fall`, `start`, `remove`),
            `reward` of a keypoint, `name` (`milestone`, `subtask`; `remove` for a subtask),
            `first` and `end` of a subtask in frames, `cap` of `failed`.
        milestones: of the file.
        fps: of the dataset, for moments that the file gives in seconds.
        has_subtasks: whether the file has subtasks.

    Raises:
        ReviewError: a value that is none, or a mark that cannot stand beside those that are there.
    """
    kind, by_name = mark.get("kind"), bool(milestones) or has_subtasks
    if kind == "clear":
        return None
    if kind == "ramp":
        return "ramp"
    if kind == "failed":
        return {**_kept(entry), "failed": _number(mark, "cap", 0.0, 1.0)}
    if kind == "remove":
        return _removed(_moments(entry), mark, fps)
    if kind == "subtask":
        return _with_subtask(_moments(entry), mark)
    if kind == "keypoint":
        return _with_keypoint(entry, _frame(mark, "frame"), _number(mark, "reward", 0.0, 1.0))
    if kind in ("fall", "start"):
        return _with_moment(entry, str(kind), _frame(mark, "frame"), by_name)
    if kind == "milestone":
        return _with_milestone(_moments(entry), mark, milestones, fps)
    raise ReviewError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r:.40}")


def scheme_of(given: object, what: str) -> dict[str, float]:
    """Milestones or subtasks by name as a page sends them.

    Raises:
        ReviewError: names that are none, or numbers outside 0 to 1.
    """
    if not isinstance(given, dict) or len(given) > MOST_NAMES:
        raise ReviewError(f"{what}: expected up to {MOST_NAMES} names with a number each")
    for name in given:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in EPISODE_KEYS:
            raise ReviewError(
                f"{what}: {name!r:.60} is no name here: expected a letter, then up to 39 letters, "
                f"digits, spaces, '.', '-' or '_', and none of {', '.join(EPISODE_KEYS)}"
            )
    return {name: _number(given, name, 0.0, 1.0) for name in given}


def frame_of(moment: object, fps: float) -> int:
    """The frame of a moment of a label file: a frame, or seconds like 3.2s; -1: it is neither."""
    if isinstance(moment, int) and not isinstance(moment, bool):
        return moment
    match = _SECONDS.fullmatch(moment.strip()) if isinstance(moment, str) else None
    return round(float(match[1]) * fps) if match else -1


def _with_keypoint(entry: Entry, frame: int, reward: float) -> Entry:
    """Listed keypoints stand alone, but a fall is one of them: down to 0."""
    made = _moments(entry)
    if made.keys() - {"keypoints", "start", "failure"}:
        others = ", ".join(sorted(made.keys() - {"keypoints"}))
        raise ReviewError(
            f"a free keypoint cannot stand beside {others}: mark a milestone, or clear the episode"
        )
    points = list(made.get("keypoints", []))
    for name in ("start", "failure"):
        for moment in _several(made.get(name, [])):
            if not isinstance(moment, int):
                raise ReviewError(f"{name}: {moment}: give it as a frame before adding keypoints")
            points.append({"frame_index": moment, "reward": 0.0})
    points = [point for point in points if point.get("frame_index") != frame]
    points.append({"frame_index": frame, "reward": reward})
    if not all(isinstance(point.get("frame_index"), int) for point in points):
        raise ReviewError("keypoints given by timestamp: change the file by hand")
    return {"keypoints": sorted(points, key=lambda point: point["frame_index"])}


def _with_moment(entry: Entry, kind: str, frame: int, by_name: bool) -> Entry:
    made = _moments(entry)
    # Until something else is marked, a fall could be of either form: keypoints if no names are.
    if "keypoints" in made or (not made and not by_name):
        return _with_keypoint(made, frame, 0.0)
    key = "failure" if kind == "fall" else kind
    if kind == "start":
        return {**made, key: frame}
    moments = [m for m in _several(made.get(key, [])) if m != frame]
    return {**made, key: _one_or_several([*moments, frame])}


def _with_milestone(
    made: dict[str, Any], mark: Mapping[str, Any], milestones: Mapping[str, float], fps: float
) -> Entry:
    name, frame = mark.get("name"), _frame(mark, "frame")
    if not isinstance(name, str) or name not in milestones:
        raise ReviewError(
            f"milestone: {name!r:.60}: the file has {', '.join(milestones) or 'none'}"
        )
    if "keypoints" in made:
        raise ReviewError("a milestone cannot stand beside free keypoints: clear the episode first")
    falls = sorted(frame_of(m, fps) for m in _several(made.get("failure", [])))

    def attempt(moment: object) -> int:
        return sum(fall < frame_of(moment, fps) for fall in falls)

    # One of a name per attempt: marking it again moves it.
    kept = [m for m in _several(made.get(name, [])) if attempt(m) != attempt(frame)]
    moments = sorted([*kept, frame], key=lambda moment: frame_of(moment, fps))
    return {**made, name: _one_or_several(moments)}


def _with_subtask(made: dict[str, Any], mark: Mapping[str, Any]) -> Entry:
    name = mark.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ReviewError(f"subtask: {name!r:.60} is no name")
    if "keypoints" in made:
        raise ReviewError("a subtask cannot stand beside free keypoints: clear the episode first")
    spans = {**made.get("subtasks", {}), name: [_frame(mark, "first"), _frame(mark, "end")]}
    return {**made, "subtasks": spans}


def _removed(made: dict[str, Any], mark: Mapping[str, Any], fps: float) -> Entry:
    """Without what is marked at a frame, or without a subtask."""
    name = mark.get("name")
    if isinstance(name, str) and name in made.get("subtasks", {}):
        made["subtasks"] = {k: v for k, v in made["subtasks"].items() if k != name}
    else:
        frame = _frame(mark, "frame")
        for key, value in list(made.items()):
            if key == "keypoints":
                made[key] = [point for point in value if point.get("frame_index") != frame]
            elif key not in ("subtasks", "failed"):
                moments = _several(value)
                kept = [moment for moment in moments if frame_of(moment, fps) != frame]
                if len(kept) < len(moments):
                    made[key] = _one_or_several(kept) if kept else []
    return {key: value for key, value in made.items() if value not in ([], {})} or None


def _kept(entry: Entry) -> dict[str, Any]:
    """What stays beside a cap: the falls and the start."""
    return {key: value for key, value in _moments(entry).items() if key in ("failure", "start")}


def _moments(entry: Entry) -> dict[str, Any]:
    """A copy to change; `ramp` and a cap alone say nothing of moments, and give way to them."""
    if not isinstance(entry, dict):
        return {}
    return {} if set(entry) == {"failed"} else deepcopy(entry)


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _one_or_several(moments: list[Any]) -> Any:
    return moments[0] if len(moments) == 1 else moments


def _frame(mark: Mapping[str, Any], key: str) -> int:
    value = mark.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ReviewError(f"{key}: expected a frame, a whole number from 0 on, got {value!r:.40}")
    return value


def _number(mark: Mapping[str, Any], key: str, low: float, high: float) -> float:
    value = mark.get(key)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= float(value or 0) <= high:
        raise ReviewError(f"{key}: expected a number from {low:g} to {high:g}, got {value!r:.40}")
    return float(value or 0)
