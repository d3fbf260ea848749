"""Subtask annotations that LeRobot's own tools leave in a dataset."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rewact_ros import strict_yaml
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.text import reason

Span = tuple[str, int, int]
KINDS = ("sparse", "dense", "language")


def read_subtasks(
    root: Path, kind: str, fps: float, lengths: Mapping[int, int]
) -> dict[int, list[Span]]:
    """Read the annotated subtasks (name, first frame, end frame) of every annotated episode.

    Args:
        root: the dataset's folder.
        kind: `sparse` or `dense`: the columns that lerobot.data_processing.sarm_annotations writes
            into meta/episodes (the older ones without prefix serve as `sparse`); `language`: the
            rows of style `subtask` in the column `language_persistent` that lerobot-annotate
            writes, each of which lasts until the next.
        fps: frames per second.
        lengths: frames by episode.

    Raises:
        LabelError: an unknown kind, no such annotation, or frames outside an episode.
    """
    if kind not in KINDS:
        raise LabelError(f"subtasks: expected {', '.join(KINDS)}, got {kind!r}")
    read = _language_rows if kind == "language" else _sarm_columns
    episodes = read(root, kind, fps, lengths)
    if not episodes:
        have = [k for k in KINDS if k != kind and _any(root, k, fps, lengths)]
        hint = f"it has {', '.join(have)}" if have else "it has none of any kind"
        raise LabelError(f"{root}: has no {kind} subtask annotation; {hint}")
    for index, spans in episodes.items():
        last = lengths[index] - 1
        for place, (name, first, end) in enumerate(spans):
            # An end at the episode's length means its end: no observation lies there.
            if not 0 <= first <= end <= last + 1:
                raise LabelError(
                    f"{root}: {kind} subtask {name!r} of episode {index}: expected frames of 0 to "
                    f"{last}, got {first} to {end}"
                )
            spans[place] = (name, first, min(end, last))
    return episodes


def subtask_shares(root: Path, kind: str, episodes: Mapping[int, list[Span]]) -> dict[str, float]:
    """Share of progress by subtask, in the task's order.

    LeRobot's meta/temporal_proportions_<kind>.json where it exists; else each subtask's mean share
    of time over the episodes (SARM, arXiv 2509.25358, formula 1), which needs every episode to go
    through the same subtasks.

    Raises:
        LabelError: a damaged file, or episodes with different subtasks.
    """
    path = root / "meta" / f"temporal_proportions_{kind}.json"
    if path.is_file():
        try:
            shares = {
                str(name): float(share) for name, share in strict_yaml.load_json(path).items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            why = reason(error, path)
            raise LabelError(f"{path}: expected {{NAME: SHARE, …}}: {why}") from None
        total = sum(shares.values())
        if not shares or min(shares.values()) < 0 or not 0 < total < np.inf:
            raise LabelError(f"{path}: expected shares above 0, got {shares}")
        return {name: share / total for name, share in shares.items() if share > 0}
    names = [tuple(name for name, _, _ in spans) for spans in episodes.values()]
    for index, own in zip(episodes, names, strict=True):
        if own != names[0]:
            raise LabelError(
                f"{root}: episode {index} goes through {', '.join(own)}, but episode "
                f"{next(iter(episodes))} through {', '.join(names[0])}; give the shares in a label "
                "file: `subtasks: {NAME: SHARE, …}`"
            )
    durations = np.array([[end - first for _, first, end in s] for s in episodes.values()], float)
    mean = (durations / durations.sum(1, keepdims=True)).mean(0)
    return dict(zip(names[0], mean / mean.sum(), strict=True))


def _any(root: Path, kind: str, fps: float, lengths: Mapping[int, int]) -> bool:
    return bool((_language_rows if kind == "language" else _sarm_columns)(root, kind, fps, lengths))


def _sarm_columns(
    root: Path, kind: str, fps: float, lengths: Mapping[int, int]
) -> dict[int, list[Span]]:
    episodes = {}
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        columns = pq.read_schema(path).names
        prefix = f"{kind}_" if f"{kind}_subtask_names" in columns else ""
        if f"{prefix}subtask_names" not in columns or (not prefix and kind != "sparse"):
            continue
        keys = [f"{prefix}subtask_{part}" for part in ("names", "start_frames", "end_frames")]
        for row in pq.read_table(path, columns=["episode_index", *keys]).to_pylist():
            if all(row[key] for key in keys):
                spans = list(zip(*(row[key] for key in keys), strict=True))
                episodes[row["episode_index"]] = spans
    return episodes


def _language_rows(
    root: Path, kind: str, fps: float, lengths: Mapping[int, int]
) -> dict[int, list[Span]]:
    episodes: dict[int, list[Span]] = {}
    for path in sorted((root / "data").glob("*/*.parquet")):
        if "language_persistent" not in pq.read_schema(path).names:
            continue
        table = pq.read_table(path, columns=["episode_index", "language_persistent"])
        # The rows are the same in every frame of an episode: its first frame has them all.
        _, firsts = np.unique(table["episode_index"].to_numpy(), return_index=True)
        for row in table.take(firsts).to_pylist():
            index = row["episode_index"]
            starts = sorted(
                (round(item["timestamp"] * fps), item["content"])
                for item in row["language_persistent"] or []
                if item["style"] == "subtask"
            )
            ends = [frame for frame, _ in starts[1:]] + [lengths[index]]
            if starts:
                episodes[index] = [
                    (name, frame, end) for (frame, name), end in zip(starts, ends, strict=True)
                ]
    return episodes
