"""A dataset's episode as the page shows it: curves, labels, and a picture of a frame."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY
from rewact_ros.control.modes import Mode, mode_name
from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.labels.write import REWARD, SUCCESS
from rewact_ros.data.review.bag_streams import COMMANDS, JOINTS, MOST_SERIES, PROGRESS
from rewact_ros.data.review.dataset_index import HUMAN, DatasetIndex, VideoPlace, short_name
from rewact_ros.data.review.pictures import page_jpeg
from rewact_ros.data.review.rows import ReviewError
from rewact_ros.data.review.series import as_series, thin
from rewact_ros.data.review.story import MOST_HAPPENINGS
from rewact_ros.text import printable, reason

MODE = "control_mode"
# What a column is called on the page.
_PROGRESS = {"predicted_reward": "value", "predicted_q10": "q10", "predicted_q90": "q90",
             REWARD: "label"}  # fmt: skip
_LARGEST_BYTES = 64 << 20
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # of the others some start programs


def look_at_episode(index: DatasetIndex, episode: int) -> dict[str, Any]:
    """All that the page draws of an episode but its pictures; as `look_at_bag` returns it.

    Raises:
        DatasetError: a table cannot be read.
    """
    n = int(index.lengths[episode])
    times_s = np.arange(n) / index.fps
    columns = _rows(index, episode)
    span_s = max(float(times_s[-1]), 1 / index.fps)
    groups = [
        group
        for group in (
            _progress(columns, times_s, span_s),
            _numbers(index, columns, STATE_KEY, JOINTS, "state", times_s),
            _numbers(index, columns, ACTION_KEY, COMMANDS, "action", times_s),
        )
        if group is not None
    ]
    faults = [] if index.cameras(episode) else ["the dataset has no pictures of this episode"]
    return {
        "span_s": round(span_s, 3),
        "frames_ms": np.round(times_s * 1000).astype(int).tolist(),
        "cameras": [printable(short_name(key), 80) for key in index.cameras(episode)],
        "groups": groups,
        "happenings": _happenings(columns, times_s),
        "human_s": _spans(columns.get(HUMAN), times_s),
        "faults": faults,
    }


def frame_picture(index: DatasetIndex, episode: int, camera: int, at_s: float) -> bytes:
    """JPEG of the frame of a camera at or before a time.

    Raises:
        DatasetError: the video or table is damaged.
        ReviewError: no such camera.
    """
    cameras = index.cameras(episode)
    if not 0 <= camera < len(cameras):
        raise ReviewError(f"camera {camera}: the episode has {len(cameras)}")
    frame = int(np.clip(np.floor(at_s * index.fps + 1e-3), 0, index.lengths[episode] - 1))
    key = cameras[camera]
    try:
        if key in index.stored:
            return page_jpeg(_stored(index, key, episode, frame))
        place = index.videos[key][episode]
        assert place is not None
        return page_jpeg(_of_video(place, frame, index.fps))
    except ValueError as error:
        raise DatasetError(f"{index.root.name}: {key}: frame {frame}: {error}") from error


def _rows(index: DatasetIndex, episode: int) -> dict[str, NDArray[Any]]:
    """The columns of an episode that are drawn: (n,) or (n, width)."""
    path, _ = index.file_of(episode)
    n = int(index.lengths[episode])
    try:
        have = pq.read_schema(path).names
        wanted = [k for k in (*_PROGRESS, STATE_KEY, ACTION_KEY, SUCCESS, HUMAN, MODE) if k in have]
        table = pq.read_table(path, columns=wanted, filters=[("episode_index", "==", episode)])
        if len(table) != n:
            raise DatasetError(f"{path.name}: expected {n} frames of episode {episode}")
        return {key: _matrix(table[key]) for key in wanted}
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path.name}: cannot be read: {reason(error)}") from error


def _matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found.reshape(len(column), -1).astype(np.float64)


def _progress(
    columns: dict[str, NDArray[Any]], times_s: NDArray[np.float64], span_s: float
) -> dict[str, Any] | None:
    series = [
        as_series(name, *thin(times_s, columns[key][:, 0], (0.0, span_s)))
        for key, name in _PROGRESS.items()
        if key in columns and np.isfinite(columns[key]).any()
    ]
    return {"name": PROGRESS, "title": "progress", "series": series} if series else None


def _numbers(
    index: DatasetIndex,
    columns: dict[str, NDArray[Any]],
    key: str,
    group: str,
    title: str,
    times_s: NDArray[np.float64],
) -> dict[str, Any] | None:
    if key not in columns:
        return None
    names = index.info["features"].get(key, {}).get("names")
    if isinstance(names, dict) and len(names) == 1:  # as LeRobot v2 wrote names
        names = next(iter(names.values()))
    width = columns[key].shape[1]
    if not isinstance(names, list) or len(names) != width:
        names = [f"{title} {k}" for k in range(width)]
    span_s = (0.0, float(times_s[-1]))
    series = [
        as_series(printable(name, 80), *thin(times_s, columns[key][:, k], span_s))
        for k, name in enumerate(names[: MOST_SERIES // 2])
    ]
    return {"name": group, "title": title, "series": series}


def _happenings(
    columns: dict[str, NDArray[Any]], times_s: NDArray[np.float64]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if MODE in columns:
        modes = columns[MODE][:, 0].astype(int)
        for k in np.flatnonzero(np.diff(modes, prepend=modes[0] - 1)):
            known = int(modes[k]) in set(Mode)
            text = mode_name(int(modes[k])) if known else "nobody says the mode"
            found.append({"t": round(float(times_s[k]), 3), "kind": "mode", "text": text})
    if SUCCESS in columns:
        done = np.flatnonzero(columns[SUCCESS][:, 0] > 0)
        if len(done):
            told = {"t": round(float(times_s[done[0]]), 3), "kind": "episode", "text": "success"}
            found.append(told)
    return sorted(found, key=lambda each: each["t"])[:MOST_HAPPENINGS]


def _spans(flags: NDArray[Any] | None, times_s: NDArray[np.float64]) -> list[list[float]]:
    if flags is None:
        return []
    edges = np.flatnonzero(np.diff((flags[:, 0] > 0).astype(np.int8), prepend=0, append=0))
    return [
        [round(float(times_s[a]), 3), round(float(times_s[b - 1]), 3)]
        for a, b in edges.reshape(-1, 2)
    ][:MOST_HAPPENINGS]


def _of_video(place: VideoPlace, frame: int, fps: float) -> NDArray[np.uint8]:
    """A frame of a video, decoded from the key frame before it."""
    import av

    wanted_s = place.from_s + frame / fps
    try:
        with av.open(str(place.path)) as container:
            stream = container.streams.video[0]
            ticks = round(wanted_s / (stream.time_base or 1))
            container.seek(max(ticks, 0), stream=stream)
            for picture in container.decode(stream):
                if picture.time is not None and picture.time >= wanted_s - 0.5 / fps:
                    pixels: Any = picture.to_ndarray(format="rgb24")
                    return np.asarray(pixels, np.uint8)
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{place.path.name} does not decode ({error})") from error
    raise ValueError(f"{place.path.name} ends before it")


def _stored(index: DatasetIndex, key: str, episode: int, frame: int) -> NDArray[np.uint8]:
    """A picture that lies in the tables; what a row says of paths is not followed."""
    from PIL import Image

    path, begin = index.file_of(episode)
    row = int(index.starts[episode]) + frame - begin
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                cell = _cell(file, group, key, row)
                break
            row -= rows
        else:
            raise ValueError("lies behind the table's end")
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if not content or len(content) > _LARGEST_BYTES:
        raise ValueError("no picture is stored")
    try:
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        return np.asarray(picture.convert("RGB"), np.uint8)
    except (Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"does not decode ({error})") from error


def _cell(file: pq.ParquetFile, group: int, key: str, row: int) -> Any:
    """One cell; the rows before it in its group are passed over a few at a time."""
    for batch in file.iter_batches(16, row_groups=[group], columns=[key]):
        if row < batch.num_rows:
            return batch.column(0)[row].as_py()
        row -= batch.num_rows
    raise ValueError("lies behind the table's end")
