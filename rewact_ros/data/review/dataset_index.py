"""What the list shows of a dataset's episodes, and where each lies; read once per version of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rewact_ros.contract.schema import IMAGE_PREFIX
from rewact_ros.data.dataset.files import check_tables, tables, video_columns
from rewact_ros.data.dataset.info import DatasetError, read_info
from rewact_ros.data.labels.tables import column_numbers
from rewact_ros.data.labels.write import REWARD, SUCCESS
from rewact_ros.data.review.places import Signature, signature

HUMAN = "intervention"
# A frame later than this many periods leaves room for another.
_HOLE = 1.5


@dataclass(frozen=True)
class VideoPlace:
    """A camera's video of an episode: its file, and when in it the episode begins."""

    path: Path
    from_s: float


@dataclass(frozen=True)
class DatasetIndex:
    """A dataset's episodes; arrays are (E,).

    Attributes:
        root: its folder.
        info: `meta/info.json`.
        fps: frames per second.
        lengths, starts: frames, and the first row in `data`.
        files: of `data`, each with the row behind its last.
        tasks: in words.
        outcomes: by `next.success`, as `rewact bag from-dataset` judges.
        interventions, missing: counts; None: the dataset does not say.
        videos: by camera, a place per episode; None: the file is not there.
        stored: cameras whose pictures lie in the tables.
    """

    root: Path
    info: dict[str, Any]
    fps: float
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]
    files: list[tuple[Path, int]]
    tasks: list[str]
    outcomes: list[str]
    interventions: list[int] | None
    missing: list[int] | None
    videos: dict[str, list[VideoPlace | None]] = field(default_factory=dict)
    stored: tuple[str, ...] = ()

    def cameras(self, episode: int) -> list[str]:
        """Features of an episode whose pictures are there."""
        there = [key for key, places in self.videos.items() if places[episode] is not None]
        return [*there, *self.stored]

    def file_of(self, episode: int) -> tuple[Path, int]:
        """The table that an episode begins in, and the dataset row of its first row."""
        begin = 0
        for path, end in self.files:
            if self.starts[episode] < end:
                return path, begin
            begin = end
        raise DatasetError(f"{self.root}: episode {episode} lies in no table")


def dataset_signature(root: Path) -> Signature:
    """What changes with a dataset's episodes or labels."""
    meta = [root / "meta" / "info.json", *sorted((root / "meta" / "episodes").glob("*/*.parquet"))]
    return signature([*meta, *sorted((root / "data").glob("*/*.parquet"))])


def read_index(root: Path) -> DatasetIndex:
    """Read what the list shows; no picture and no state is read.

    Raises:
        DatasetError: no LeRobotDataset v3, or its tables do not fit together.
    """
    info = read_info(root)
    try:
        spans = check_tables(root, info)
        lengths = column_numbers(spans, "length").astype(np.int64)
        starts = column_numbers(spans, "dataset_from_index").astype(np.int64)
        files, columns = _columns(root)
        bounds = [slice(a, a + n) for a, n in zip(starts, lengths, strict=True)]
        fps = float(info["fps"])
        return DatasetIndex(
            root, info, fps, lengths, starts, files,
            _tasks(root, len(lengths)),
            [_outcome(columns, rows) for rows in bounds],
            _turns(columns.get(HUMAN), bounds),
            _missing(columns.get("timestamp"), bounds, fps),
            _videos(root, info, spans),
            tuple(k for k, f in info["features"].items() if f["dtype"] == "image"),
        )  # fmt: skip
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, IndexError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{root}: its tables cannot be read: {error}") from error


def short_name(key: str) -> str:
    """`front` of `observation.images.front`."""
    return key.removeprefix(IMAGE_PREFIX)


def _columns(root: Path) -> tuple[list[tuple[Path, int]], dict[str, NDArray[Any]]]:
    """The tables of `data`, and the few columns that the list needs, over all rows."""
    files: list[tuple[Path, int]] = []
    parts: dict[str, list[NDArray[Any]]] = {}
    end, paths = 0, tables(root, "data")
    for path in paths:
        have = pq.read_schema(path).names
        wanted = [key for key in (REWARD, SUCCESS, HUMAN, "timestamp") if key in have]
        table = pq.read_table(path, columns=["episode_index", *wanted])
        end += len(table)
        files.append((path, end))
        for key in wanted:
            parts.setdefault(key, []).append(column_numbers(table, key))
    return files, {key: np.concatenate(own) for key, own in parts.items() if len(own) == len(paths)}


def _outcome(columns: dict[str, NDArray[Any]], rows: slice) -> str:
    """A success where it was reached; a failure where any label is known; else nobody judged."""
    reward, success = columns.get(REWARD), columns.get(SUCCESS)
    if success is not None and success[rows].any():
        return "success"
    known = reward is not None and np.isfinite(reward[rows].astype(np.float64)).any()
    return "failure" if known or (success is not None and reward is None) else "unlabelled"


def _turns(human: NDArray[Any] | None, bounds: list[slice]) -> list[int] | None:
    if human is None:
        return None
    flags = human.astype(np.int8)
    return [int((np.diff(flags[rows], prepend=0) == 1).sum()) for rows in bounds]


def _missing(times: NDArray[Any] | None, bounds: list[slice], fps: float) -> list[int] | None:
    if times is None:
        return None
    found = []
    for rows in bounds:
        apart = np.diff(times[rows]) * fps
        holes = apart[apart > _HOLE]
        found.append(int(np.round(holes).sum()) - len(holes))
    return found


def _tasks(root: Path, n: int) -> list[str]:
    tasks: list[str] = []
    for path in tables(root, "meta/episodes"):
        if "tasks" not in pq.read_schema(path).names:
            return [""] * n
        rows = pq.read_table(path, columns=["tasks"])["tasks"].to_pylist()
        tasks += [
            "; ".join(map(str, row)) if isinstance(row, list) else str(row or "") for row in rows
        ]
    return tasks if len(tasks) == n else [""] * n


def _videos(
    root: Path, info: dict[str, Any], spans: pa.Table
) -> dict[str, list[VideoPlace | None]]:
    found: dict[str, list[VideoPlace | None]] = {}
    for key, (chunk, file, begin) in video_columns(info, spans):
        places: list[VideoPlace | None] = []
        there: dict[Path, bool] = {}
        for c, f, from_s in zip(chunk, file, begin, strict=True):
            name = info["video_path"].format(video_key=key, chunk_index=int(c), file_index=int(f))
            path = root / name
            if path not in there:
                inside = path.resolve().is_relative_to(root.resolve())
                there[path] = inside and path.is_file()
            good = there[path] and np.isfinite(from_s) and from_s >= 0
            places.append(VideoPlace(path, float(from_s)) if good else None)
        found[key] = places
    return found
