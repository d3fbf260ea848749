"""Labels of a LeRobotDataset v3: what it holds, and writing others in one step."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rewact_ros.contract.schema import STATE_KEY
from rewact_ros.data.dataset.files import check_tables, tables
from rewact_ros.data.dataset.info import read_info
from rewact_ros.data.dataset.replace_folder import recover_folder, replacing
from rewact_ros.files import replace_file
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.reward.labels import still_frames

from .tables import (
    column_numbers,
    drop_columns,
    rewrite_frames,
    rewrite_table,
    set_column,
)

REWARD, SUCCESS, DONE = LABEL_KEYS = ("next.reward", "next.success", "next.done")
_TYPES = {REWARD: "float32", SUCCESS: "bool", DONE: "bool"}


@dataclass(frozen=True)
class EpisodeLabels:
    """Labels of one episode's n frames.

    `reward` (n,) float32 in [0, 1], or NaN where unknown; `success` (n,) bool, true where the task
    is done (false also where unknown: ask `reward`).
    """

    reward: NDArray[np.float32]
    success: NDArray[np.bool_]

    @classmethod
    def unknown(cls, n_frames: int) -> "EpisodeLabels":
        """Labels of an episode of which nothing is known."""
        return cls(np.full(n_frames, np.nan, np.float32), np.zeros(n_frames, bool))

    def same_as(self, other: "EpisodeLabels") -> bool:
        """Tell whether both say the same, unknown being the same as unknown."""
        return np.array_equal(self.reward, other.reward, equal_nan=True) and np.array_equal(
            self.success, other.success
        )


@dataclass(frozen=True)
class LabelledDataset:
    """A dataset as labelling sees it.

    Attributes:
        root: its folder.
        fps: frames per second.
        lengths: frames by episode index.
        labels: present labels by episode index; None for a dataset without labels.
    """

    root: Path
    fps: float
    lengths: dict[int, int]
    labels: dict[int, EpisodeLabels] | None

    def labels_of(self, index: int) -> EpisodeLabels:
        """Labels that an episode has now."""
        return (self.labels or {}).get(index, EpisodeLabels.unknown(self.lengths[index]))


def open_labelled(root: Path) -> LabelledDataset:
    """Read lengths and present labels, after tidying up what a killed run left.

    Raises:
        DatasetError: no LeRobotDataset v3, or its tables do not fit together.
        LabelError: a label column that cannot be read.
    """
    with _mended(root):
        recover_folder(root)
    info = read_info(root)
    episodes = check_tables(root, info)
    try:
        lengths = dict(enumerate(episodes["length"].to_pylist()))
        labels = {index: EpisodeLabels.unknown(length) for index, length in lengths.items()}
        labelled = REWARD in info["features"]
        for path in tables(root, "data"):
            _read_labels(path, labelled, labels)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise LabelError(f"{root}: its tables cannot be read: {error}") from error
    return LabelledDataset(root, float(info["fps"]), lengths, labels if labelled else None)


def still_at_end_s(dataset: LabelledDataset) -> dict[int, float]:
    """How long, in s, no joint moves at the end of each episode; empty without joints."""
    still: dict[int, float] = {}
    for path in tables(dataset.root, "data"):
        if STATE_KEY not in pq.read_schema(path).names:
            return {}
        table = pq.read_table(path, columns=["episode_index", STATE_KEY])
        episode, rows = column_numbers(table, "episode_index"), table[STATE_KEY]
        for index in np.unique(episode):
            own = rows.filter(pa.array(episode == index)).to_pylist()
            state = np.array(own, float).reshape(len(own), -1)
            still[int(index)] = still_frames(state) / dataset.fps
    return still


def write_labels(
    dataset: LabelledDataset,
    changed: Mapping[int, EpisodeLabels],
    also: Callable[[Path], None] = lambda copy: None,
) -> None:
    """Write labels of some episodes; the others keep theirs, or get unknown where there are none.

    `next.reward`, `next.success` and `next.done` (true at each episode's last frame), their
    features in meta/info.json, the episodes' statistics in meta/episodes and the dataset's in
    meta/stats.json change together: whatever happens, the dataset is the old or the new one.

    Args:
        dataset: as it was opened.
        changed: labels by episode index.
        also: changes further files in the same step; it gets the copy that becomes the dataset, of
            which it must replace files and write into none.

    Raises:
        LabelError: not writable, disk full, or changed by another process; nothing was changed.
    """
    from .statistics import ColumnStatistics

    present = dataset.labels or {}
    columns: dict[str, dict[int, NDArray[Any]]] = {key: {} for key in LABEL_KEYS}
    for index, length in dataset.lengths.items():
        own = changed.get(index, present.get(index, EpisodeLabels.unknown(length)))
        columns[REWARD][index], columns[SUCCESS][index] = own.reward, own.success
        columns[DONE][index] = np.arange(length) == length - 1
    statistics = {key: ColumnStatistics(key, episodes) for key, episodes in columns.items()}

    def describe(info: dict[str, Any]) -> None:
        for key, kind in _TYPES.items():
            info["features"][key] = {"dtype": kind, "shape": [1], "names": None}

    def summarise(stats: dict[str, Any]) -> None:
        for key, own in statistics.items():
            stats.pop(key, None)
            if own.total is not None:
                stats[key] = {name: value.tolist() for name, value in own.total.items()}

    with _mended(dataset.root), replacing(dataset.root) as copy:
        for path in tables(copy, "data"):
            rewrite_frames(path, _with_labels(pq.read_table(path), columns))
        for path in tables(copy, "meta/episodes"):
            table = pq.read_table(path)
            for column in statistics.values():
                table = column.add_to(table)
            rewrite_table(path, table)
        _edit_json(copy / "meta" / "info.json", describe)
        _edit_json(copy / "meta" / "stats.json", summarise)
        also(copy)


def remove_labels(dataset: LabelledDataset) -> None:
    """Remove the label columns with their features and statistics; raises as `write_labels`."""

    def drop(data: dict[str, Any]) -> None:
        for key in LABEL_KEYS:
            data.get("features", data).pop(key, None)

    with _mended(dataset.root), replacing(dataset.root) as copy:
        for path in tables(copy, "data"):
            rewrite_frames(path, drop_columns(pq.read_table(path), LABEL_KEYS))
        for path in tables(copy, "meta/episodes"):
            table = pq.read_table(path)
            prefixes = tuple(f"stats/{key}/" for key in LABEL_KEYS)
            names = [name for name in table.column_names if name.startswith(prefixes)]
            rewrite_table(path, drop_columns(table, names))
        for name in ("info.json", "stats.json"):
            _edit_json(copy / "meta" / name, drop)


def _read_labels(path: Path, labelled: bool, labels: dict[int, EpisodeLabels]) -> None:
    have = pq.read_schema(path).names
    keys = [key for key in (REWARD, SUCCESS) if labelled and key in have]
    table = pq.read_table(path, columns=["episode_index", "frame_index", *keys])
    episode, frame = (column_numbers(table, key) for key in ("episode_index", "frame_index"))
    for index in np.unique(episode):
        rows = np.flatnonzero(episode == index)
        own = labels[int(index)]
        if frame[rows].min() < 0 or frame[rows].max() >= len(own.reward):
            raise ValueError(f"{path}: frame_index of episode {index} leaves its length")
        for key, target in ((REWARD, own.reward), (SUCCESS, own.success)):
            if key in keys:
                target[frame[rows]] = column_numbers(table, key)[rows]


def _with_labels(table: pa.Table, columns: Mapping[str, Mapping[int, NDArray[Any]]]) -> pa.Table:
    episode, frame = (column_numbers(table, key) for key in ("episode_index", "frame_index"))
    for key, episodes in columns.items():
        values = np.zeros(len(episode), _TYPES[key])
        for index in np.unique(episode):
            rows = np.flatnonzero(episode == index)
            values[rows] = episodes[int(index)][frame[rows]]
        table = set_column(table, key, pa.array(values))
    return table


def _edit_json(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    if not path.is_file():
        return  # stats.json of a dataset that never had one
    data = json.loads(path.read_text())
    edit(data)
    replace_file(path, json.dumps(data, indent=4, ensure_ascii=False))


@contextmanager
def _mended(root: Path) -> Iterator[None]:
    """Say of a failed write what it means for the dataset."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LabelError(
            f"{getattr(error, 'filename', None) or root}: {reason}; {root} was not changed"
        ) from error
