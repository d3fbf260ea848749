"""Label files: what happened when in which episode, in our YAML or the public RewACT JSON.

Ours (`docs/labels.md`) names milestones or subtasks once and gives their moments per episode; the
public layout (`rewact_extensions/reward_keypoints.json` of the RewACT packages) lists keypoints by
episode. Both become keypoints; see `read_label_file`.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewact_ros.formats import FORMAT_KEY, FormatError, require_format

from .keypoints import INTERPOLATIONS, Keypoint, LabelError, check_keypoints
from .label_syntax import is_index, load, nearest, number, numbers, require_known, short

# Keys of an episode that are no milestones.
_START, _FAILURE, _FAILED, _KEYPOINTS, _SUBTASKS = EPISODE_KEYS = (
    "start",
    "failure",
    "failed",
    "keypoints",
    "subtasks",
)
FORMAT = 1
_TOP_KEYS = (FORMAT_KEY, "dataset", "interpolation", "milestones", "subtasks", "episodes")
_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*s")


@dataclass(frozen=True)
class EpisodePlan:
    """How one episode is to be labelled: by keypoints, or by a time ramp up to `ramp_to`."""

    keypoints: tuple[Keypoint, ...] = ()
    ramp_to: float | None = None


@dataclass(frozen=True)
class LabelFile:
    """A label file against one dataset: plans by episode index; the rest None where not given."""

    episodes: dict[int, EpisodePlan]
    interpolation: str | None = None
    shares: dict[str, float] | None = None


@dataclass(frozen=True)
class _Episode:
    where: str
    n_frames: int
    fps: float

    def frame(self, where: str, moment: object) -> int:
        """Frame of a moment: a frame index, or seconds from the episode's start like `3.2s`."""
        if isinstance(moment, int) and not isinstance(moment, bool):
            if not 0 <= moment < self.n_frames:
                raise LabelError(
                    f"{where}: expected a frame of 0 to {self.n_frames - 1}, got {moment}"
                )
            return moment
        match = _SECONDS.fullmatch(moment.strip()) if isinstance(moment, str) else None
        if match is None:
            raise LabelError(
                f"{where}: expected a frame index like 64 or seconds like 3.2s, got {moment!r}"
            )
        return self.frame_at(where, float(match[1]))

    def frame_at(self, where: str, seconds: float) -> int:
        """The observation nearest to a time from the episode's start."""
        frame = round(seconds * self.fps) if math.isfinite(seconds) else -1
        if not 0 <= frame < self.n_frames:
            raise LabelError(
                f"{where}: expected 0 to {(self.n_frames - 1) / self.fps:.2f} s, got {seconds} s"
            )
        return frame


def read_label_file(
    path: Path,
    fps: float,
    lengths: Mapping[int, int],
    require_fits: Callable[[object], None] = lambda kept: None,
) -> LabelFile:
    """Read a label file for a dataset.

    Args:
        path: YAML, or JSON where it ends in `.json`.
        fps: frames per second of the dataset.
        lengths: frames by episode index.
        require_fits: gets what the file keeps of the episodes that it was made for, None where it
            is by hand, before any is read; raises LabelError where they are others.

    Raises:
        LabelError: not readable, of another format, an unknown key or episode, a key given twice,
            a moment outside its episode, or keypoints that make no curve.
    """
    data = load(path)
    try:
        if not isinstance(data, Mapping) or not data:
            raise LabelError(f"expected a mapping of episodes, got {short(data)}")
        if all(is_index(key) for key in data):
            return LabelFile(_public_episodes(data, fps, lengths))
        require_format(data, FORMAT, "write it anew as docs/labels.md says", absent=FORMAT)
        require_known("", data, _TOP_KEYS)
        require_fits(data.get("dataset"))
        return _own(data, fps, lengths)
    except (LabelError, FormatError) as error:
        raise LabelError(f"{path}: {error}") from None


def subtask_keypoints(
    where: str, spans: Iterable[tuple[str, int, int]], shares: Mapping[str, float]
) -> list[Keypoint]:
    """Turn annotated subtasks into keypoints: each adds its share of progress while it lasts.

    Args:
        where: begins every message.
        spans: (name, first frame, end frame) in order of time; an end may equal the next start.
        shares: share of progress by subtask, in the task's order, summing to 1.

    Raises:
        LabelError: an unknown, repeated or skipped subtask, an end that does not lie after its
            start, or an overlap.
    """
    points: list[Keypoint] = []
    order, done = list(shares), 0.0
    for place, (name, first, end) in enumerate(spans):
        if name not in shares:
            raise LabelError(f"{where}.{name}: no such subtask{nearest(name, order)}")
        if place >= len(order) or name != order[place]:
            expected = order[place] if place < len(order) else "the end"
            raise LabelError(
                f"{where}: expected {expected} as subtask {place + 1} (order: {', '.join(order)}), "
                f"got {name}"
            )
        if end <= first:
            raise LabelError(f"{where}.{name}: expected an end after frame {first}, got {end}")
        if not points or first != points[-1].frame:
            if points and first < points[-1].frame:
                raise LabelError(
                    f"{where}.{name}: starts at frame {first}, before {order[place - 1]} ends at "
                    f"{points[-1].frame}"
                )
            points.append(Keypoint(first, done, f"{name} starts"))
        done = min(1.0, done + shares[name])
        points.append(Keypoint(end, 1.0 if place == len(order) - 1 else done, name))
    return points


def _own(data: Mapping[Any, Any], fps: float, lengths: Mapping[int, int]) -> LabelFile:
    interpolation = data.get("interpolation")
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise LabelError(f"interpolation: expected pchip or linear, got {short(interpolation)}")
    milestones = numbers("milestones", data.get("milestones", {}))
    for name, value in milestones.items():
        if name in EPISODE_KEYS:
            raise LabelError(
                f"milestones.{name}: the name has a meaning of its own; choose another"
            )
        if not 0.0 < value <= 1.0:
            raise LabelError(f"milestones.{name}: expected above 0 and at most 1, got {value}")
    if len(set(milestones.values())) < len(milestones):
        raise LabelError(f"milestones: expected different rewards, got {milestones}")
    shares = _shares(numbers("subtasks", data["subtasks"])) if "subtasks" in data else None
    plans = {}
    for index, episode, entry in _episodes("episodes.", data.get("episodes", {}), fps, lengths):
        plans[index] = _plan(episode, entry, milestones, shares)
    return LabelFile(plans, interpolation, shares)


def _shares(numbers: dict[str, float]) -> dict[str, float]:
    for name, share in numbers.items():
        if share <= 0:
            raise LabelError(f"subtasks.{name}: expected a share above 0, got {share}")
    if not numbers or abs(sum(numbers.values()) - 1.0) > 1e-3:
        raise LabelError(f"subtasks: expected shares that sum to 1, got {sum(numbers.values()):g}")
    return numbers


def _plan(
    episode: _Episode,
    entry: object,
    milestones: Mapping[str, float],
    shares: Mapping[str, float] | None,
) -> EpisodePlan:
    where = episode.where
    if entry == "ramp":
        return EpisodePlan(ramp_to=1.0)
    if not isinstance(entry, Mapping) or not entry:
        raise LabelError(
            f"{where}: expected moments by milestone, or the word ramp; got {short(entry)}"
        )
    require_known(f"{where}.", entry, (*EPISODE_KEYS, *milestones))
    if set(entry) == {_START}:
        raise LabelError(f"{where}: a start alone labels nothing; add what was reached when")
    cap = None
    if _FAILED in entry:
        cap = number(f"{where}.failed", entry[_FAILED])
        if not 0.0 <= cap < 1.0:
            raise LabelError(f"{where}.failed: expected a cap of 0 to below 1, got {cap}")
        if set(entry) == {_FAILED}:
            return EpisodePlan(ramp_to=cap)
    points: list[Keypoint] = []
    if _KEYPOINTS in entry:
        if set(entry) != {_KEYPOINTS}:
            raise LabelError(f"{where}: keypoints go alone, without {_others(entry, _KEYPOINTS)}")
        points = _listed_keypoints(episode, entry[_KEYPOINTS])
        return EpisodePlan(tuple(points))
    if _SUBTASKS in entry:
        points = _own_subtasks(episode, entry[_SUBTASKS], shares)
    for name in (_START, _FAILURE, *milestones):
        moments = entry.get(name, [])
        for moment in moments if isinstance(moments, list) else [moments]:
            frame = episode.frame(f"{where}.{name}", moment)
            points.append(Keypoint(frame, milestones.get(name, 0.0), name))
    points.sort(key=lambda point: point.frame)
    if cap is not None:
        points = _capped(episode, points, cap)
    check_keypoints(points, episode.n_frames, where)
    _require_attempts(where, points)
    return EpisodePlan(tuple(points))


def _capped(episode: _Episode, points: list[Keypoint], cap: float) -> list[Keypoint]:
    """Let the last climb end at `cap`: just before the failure that ends it, else at the end."""
    if points and points[-1].name == _FAILURE:
        fall = points[-1]
        return [*points[:-1], Keypoint(fall.frame - 1, cap, _FAILED), fall]
    return [*points, Keypoint(episode.n_frames - 1, cap, _FAILED)]


def _require_attempts(where: str, points: list[Keypoint]) -> None:
    """Within an attempt the progress rises; only `failure` ends one, only then can one start."""
    before = Keypoint(-1, 0.0, "the episode's start")
    for point in points:
        repeated = point.name == before.name and point.name != _FAILURE
        if point.name != _FAILURE and (point.value < before.value or repeated):
            raise LabelError(
                f"{where}: {point.name} ({point.value:g}) at frame {point.frame} cannot follow "
                f"{before.name} ({before.value:g}) at frame {before.frame}: expected rising "
                "rewards; say `failure: MOMENT` where an attempt ends"
            )
        before = point


def _own_subtasks(
    episode: _Episode, spans: object, shares: Mapping[str, float] | None
) -> list[Keypoint]:
    where = f"{episode.where}.subtasks"
    if shares is None:
        raise LabelError(f"{where}: the file gives no shares; add `subtasks: {{NAME: SHARE, …}}`")
    if not isinstance(spans, Mapping) or not spans:
        raise LabelError(f"{where}: expected {{NAME: [START, END], …}}, got {short(spans)}")
    framed = []
    for name, span in spans.items():
        if not isinstance(span, list) or len(span) != 2:
            raise LabelError(f"{where}.{name}: expected [START, END], got {short(span)}")
        first, end = (episode.frame(f"{where}.{name}", moment) for moment in span)
        framed.append((str(name), first, end))
    return subtask_keypoints(where, sorted(framed, key=lambda span: span[1]), shares)


def _public_episodes(
    data: Mapping[Any, Any], fps: float, lengths: Mapping[int, int]
) -> dict[int, EpisodePlan]:
    plans = {}
    for index, episode, entry in _episodes("", data, fps, lengths):
        if not isinstance(entry, Mapping) or not entry:
            raise LabelError(f"{episode.where}: expected keypoints, got {short(entry)}")
        if all(is_index(key) for key in entry):  # the older form: reward by frame
            pairs = sorted((int(frame), value) for frame, value in entry.items())
            points = [Keypoint(f, number(f"{episode.where}.{f}", v)) for f, v in pairs]
            check_keypoints(points, episode.n_frames, episode.where)
        else:
            require_known(f"{episode.where}.", entry, (_KEYPOINTS, "fps"))
            if "fps" in entry and abs(number(f"{episode.where}.fps", entry["fps"]) - fps) > 1e-6:
                raise LabelError(
                    f"{episode.where}.fps: expected the dataset's {fps}, got {entry['fps']}"
                )
            points = _listed_keypoints(episode, entry.get(_KEYPOINTS))
        plans[index] = EpisodePlan(tuple(points))
    return plans


def _listed_keypoints(episode: _Episode, entries: object) -> list[Keypoint]:
    """Keypoints `{frame_index or timestamp, reward}`; with both, they must agree."""
    where = f"{episode.where}.keypoints"
    if not isinstance(entries, list):
        raise LabelError(f"{where}: expected a list, got {short(entries)}")
    points = []
    for place, entry in enumerate(entries):
        here = f"{where}[{place}]"
        if not isinstance(entry, Mapping):
            raise LabelError(f"{here}: expected {{frame_index, reward}}, got {short(entry)}")
        require_known(f"{here}.", entry, ("frame_index", "timestamp", "reward"))
        if "reward" not in entry:
            raise LabelError(f"{here}.reward: missing")
        frames = []
        if "frame_index" in entry:
            frame = entry["frame_index"]
            if not isinstance(frame, int):
                raise LabelError(f"{here}.frame_index: expected a whole number, got {frame!r}")
            frames.append(episode.frame(f"{here}.frame_index", frame))
        if "timestamp" in entry:
            seconds = number(f"{here}.timestamp", entry["timestamp"])
            frames.append(episode.frame_at(f"{here}.timestamp", seconds))
        if not frames:
            raise LabelError(f"{here}: expected frame_index or timestamp, got neither")
        if frames[0] != frames[-1]:
            raise LabelError(
                f"{here}: frame_index {frames[0]} and timestamp {entry['timestamp']} s (frame "
                f"{frames[1]}) differ; give one of them"
            )
        points.append(
            Keypoint(frames[0], number(f"{here}.reward", entry["reward"]), f"keypoint {place}")
        )
    check_keypoints(points, episode.n_frames, where)
    return points


def _episodes(
    prefix: str, entries: object, fps: float, lengths: Mapping[int, int]
) -> Iterable[tuple[int, _Episode, object]]:
    if not isinstance(entries, Mapping):
        raise LabelError(f"episodes: expected a mapping by episode, got {short(entries)}")
    seen = set()
    for key, entry in entries.items():
        where = f"{prefix}{key}"
        if not is_index(key) or int(key) not in lengths:
            raise LabelError(
                f"{where}: no such episode; the dataset has {len(lengths)}: "
                f"0 to {max(lengths, default=-1)}"
            )
        if int(key) in seen:
            raise LabelError(f"{where}: the episode is given twice")
        seen.add(int(key))
        yield int(key), _Episode(where, lengths[int(key)], fps), entry


def _others(entry: Mapping[Any, Any], key: str) -> str:
    return ", ".join(str(other) for other in entry if other != key)
