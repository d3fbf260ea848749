"""Whether a LeRobotDataset's files are all there, and hold what its description says."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rewact_ros.data.labels.tables import column_numbers

from .info import SCALARS, DatasetError, read_info, read_json, unreadable

_SPANS = ("episode_index", "length", "dataset_from_index", "dataset_to_index")
# What `datasets` may build by the name that a table's metadata gives.
_ARRAYS = ("Array2D", "Array3D", "Array4D", "Array5D")
_TYPES = {"Value", "List", "LargeList", "Sequence", "ClassLabel", "Image", *_ARRAYS}
_DTYPES = SCALARS | {"null", "binary", "large_string", "large_binary", "date32", "date64"}
_TIMES = ("timestamp[", "duration[", "time32[", "time64[")
_LFS = b"version https://git-lfs"


def check_dataset(root: Path) -> dict[str, Any]:
    """Look at everything that LeRobot opens of a dataset, and return its description.

    Raises:
        DatasetError: a file is missing, damaged or of another dataset; names it and the mend.
    """
    info = read_info(root)
    try:
        if (root / "meta" / "stats.json").exists():
            read_json(root / "meta" / "stats.json", root)
        episodes = check_tables(root, info)
        _check_videos(root, info, episodes)
    except OSError as error:
        raise unreadable(root, error) from error
    return info


def check_tables(root: Path, info: dict[str, Any]) -> pa.Table:
    """Compare `meta/episodes`, `meta/tasks.parquet` and `data` with the description and each other.

    Returns:
        the columns of `meta/episodes` that say where the episodes lie, a row each.

    Raises:
        DatasetError: as `check_dataset`.
    """
    if info["total_tasks"]:
        _schema(root, root / "meta" / "tasks.parquet")
    episodes = _read_episodes(root, info)
    lengths = _spans(root, info, episodes)
    stored = {key for key, feature in info["features"].items() if feature["dtype"] != "video"}
    owners: list[NDArray[Any]] = []
    for file in tables(root, "data"):
        absent = (stored | {"episode_index"}) - set(_schema(root, file).names)
        if absent:
            raise _damaged(root, file, f"has no column {sorted(absent)[0]}")
        owners.append(_column(root, file, "episode_index"))
    owner = np.concatenate(owners)
    if len(owner) != info["total_frames"]:
        raise DatasetError(
            f"{root}: data: expected {info['total_frames']} frames (meta/info.json: total_frames), "
            f"got {len(owner)}; copy data and meta anew, whole"
        )
    wrong = np.flatnonzero(owner != np.repeat(np.arange(len(lengths)), lengths))
    if len(wrong):
        raise DatasetError(
            f"{root}: data: row {wrong[0]}: expected episode "
            f"{np.searchsorted(np.cumsum(lengths), wrong[0], side='right')} as in meta/episodes, "
            f"got {owner[wrong[0]]}; copy data and meta anew, of one dataset"
        )
    return episodes


def tables(root: Path, folder: str) -> list[Path]:
    """The tables of `data` or `meta/episodes`, in order; raises DatasetError without any."""
    paths = sorted((root / folder).glob("*/*.parquet"))
    if not paths:
        raise _missing(root, f"{folder}/chunk-000/file-000.parquet")
    return paths


def _read_episodes(root: Path, info: dict[str, Any]) -> pa.Table:
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    fields = ("chunk_index", "file_index", "from_timestamp")
    wanted = [*_SPANS, *(f"videos/{key}/{field}" for key in videos for field in fields)]
    parts = []
    for file in tables(root, "meta/episodes"):
        absent = [name for name in wanted if name not in _schema(root, file).names]
        if absent:
            raise _damaged(root, file, f"has no column {absent[0]}")
        with _telling(root, file):
            parts.append(pq.read_table(file, columns=wanted))
    table = pa.concat_tables(parts, promote_options="permissive")
    for name in wanted:
        if not (pa.types.is_integer(table[name].type) or pa.types.is_floating(table[name].type)):
            raise DatasetError(
                f"{root}: meta/episodes: {name}: expected numbers, got {table[name].type}; "
                "copy meta anew"
            )
    return table


def _spans(root: Path, info: dict[str, Any], episodes: pa.Table) -> NDArray[np.int64]:
    """Lengths (E,) of the episodes, which lie one after another."""
    count = info["total_episodes"]
    if len(episodes) != count:
        raise DatasetError(
            f"{root}: meta/episodes: expected {count} episodes (meta/info.json: total_episodes), "
            f"got {len(episodes)}; copy meta anew, whole"
        )
    index, length, start, end = (column_numbers(episodes, name) for name in _SPANS)
    expected = np.concatenate([[0], np.cumsum(length)])
    for name, got, right in (
        ("length", length > 0, np.ones(count, bool)),
        ("episode_index", index, np.arange(count)),
        ("dataset_from_index", start, expected[:-1]),
        ("dataset_to_index", end, expected[1:]),
    ):
        wrong = np.flatnonzero(got != right)
        if len(wrong):
            raise DatasetError(
                f"{root}: meta/episodes: {name}: expected episodes one after another, each of at "
                f"least a frame; that of row {wrong[0]} is not; copy meta anew"
            )
    return length.astype(np.int64)


def video_columns(
    info: dict[str, Any], episodes: pa.Table
) -> Iterator[tuple[str, tuple[NDArray[np.float64], ...]]]:
    """Each camera that is a video: (E,) chunk and file numbers, and when in it each begins, s."""
    columns = ("chunk_index", "file_index", "from_timestamp")
    for key, feature in info["features"].items():
        if feature["dtype"] == "video":
            yield key, tuple(column_numbers(episodes, f"videos/{key}/{name}") for name in columns)


def _check_videos(root: Path, info: dict[str, Any], episodes: pa.Table) -> None:
    for key, (chunk, file, begin) in video_columns(info, episodes):
        numbers = np.stack([chunk, file, begin])
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise DatasetError(
                f"{root}: meta/episodes: videos/{key}: expected numbers of files and times of at "
                "least 0; copy meta anew"
            )
        for c, f in sorted(set(zip(chunk.astype(int), file.astype(int), strict=True))):
            name = info["video_path"].format(video_key=key, chunk_index=c, file_index=f)
            _check_video(root, root / name)


def _check_video(root: Path, path: Path) -> None:
    """An MP4 file is a row of boxes; one cut short breaks off in a box, or has no index."""
    if not path.is_file():
        raise _missing(root, str(path.relative_to(root)))
    size, kinds = path.stat().st_size, []
    with path.open("rb") as stream:
        head = stream.read(len(_LFS))
        place = 0
        while head[4:8] == b"ftyp" and place < size:
            stream.seek(place)
            box = stream.read(16).ljust(16, b"\0")
            length, kind = struct.unpack(">I4s", box[:8])
            length = {0: size - place, 1: struct.unpack(">Q", box[8:])[0]}.get(length, length)
            kinds.append(kind)
            if length < 8 or place + length > size:
                raise _damaged(root, path, f"is cut short at {size} bytes")
            place += length
    if head == _LFS:
        raise _pointer(root, path)
    if not size or (kinds and b"moov" not in kinds):
        raise _damaged(root, path, "is empty" if not size else "has no index: it was not finished")


def _schema(root: Path, file: Path) -> pa.Schema:
    """The columns of a table, once nothing in its metadata makes a library call what it names."""
    if not file.is_file():
        raise _missing(root, str(file.relative_to(root)))
    with file.open("rb") as stream:
        if stream.read(len(_LFS)) == _LFS:
            raise _pointer(root, file)
    with _telling(root, file):
        schema = pq.read_schema(file)
    for field in schema:
        extension = (field.metadata or {}).get(b"ARROW:extension:name", b"")
        if extension.startswith(b"arrow.py_"):
            raise _foreign(root, file, f"column {field.name}: {extension.decode()}")
    try:
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        foreign = next(_unknown_types(described), "")
    except (ValueError, RecursionError) as error:
        raise _damaged(root, file, f"has no readable metadata: {error}") from error
    if foreign:
        raise _foreign(root, file, foreign)
    return schema


def _unknown_types(value: object) -> Iterator[str]:
    """Types that `datasets` would look up by name and build."""
    if isinstance(value, list):
        for item in value:
            yield from _unknown_types(item)
    if not isinstance(value, dict):
        return
    kind, dtype = value.get("_type", "Value"), value.get("dtype", "bool")
    if not isinstance(kind, dict) and kind not in _TYPES:
        yield f"_type {kind!r}"
    if isinstance(dtype, str) and dtype not in _DTYPES and not dtype.startswith(_TIMES):
        yield f"dtype {dtype!r}"
    for item in value.values():
        yield from _unknown_types(item)


def _column(root: Path, file: Path, name: str) -> NDArray[Any]:
    with _telling(root, file):
        return column_numbers(pq.read_table(file, columns=[name]), name)


@contextmanager
def _telling(root: Path, file: Path) -> Iterator[None]:
    """Say of a library's refusal which file it is about."""
    try:
        yield
    except (pa.ArrowException, ValueError, EOFError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # told for the whole dataset; pyarrow's have no number
        text = " ".join(str(error).split())
        raise _damaged(root, file, f"cannot be read ({text[:200]})") from error


def _missing(root: Path, name: str) -> DatasetError:
    return DatasetError(
        f"{root}: {name} is missing; copy the folder {name.split('/')[0]} anew, whole (nothing is "
        "fetched from the Hub)"
    )


def _damaged(root: Path, file: Path, what: str) -> DatasetError:
    return DatasetError(f"{root}: {file.relative_to(root)} {what}; copy it anew")


def _pointer(root: Path, file: Path) -> DatasetError:
    return DatasetError(
        f"{root}: {file.relative_to(root)} is a pointer of Git LFS; run `git lfs pull` there"
    )


def _foreign(root: Path, file: Path, what: str) -> DatasetError:
    return DatasetError(
        f"{root}: {file.relative_to(root)}: {what}: no type of a LeRobotDataset; "
        "write it anew with LeRobot"
    )
