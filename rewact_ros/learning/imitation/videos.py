"""A dataset's camera frames, resized as the policy resizes them: in storage order or any order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import torch
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import decode_video_frames
from numpy.typing import NDArray

from rewact_ros.contract import image_shape
from rewact_ros.data.dataset.reader import stored_pictures
from rewact_ros.policy.images import resize_frames


class FramesError(ValueError):
    """A video that cannot be turned into frames, or no room for them."""


class Frames(Protocol):
    """Frames of one camera by dataset row: an array, or what reads likewise."""

    def __getitem__(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        """(*rows.shape, H, W, 3) RGB of rows (...)."""


class VideoFrames:
    """Frames of one camera by dataset row, decoded item by item as LeRobot's own datasets do.

    Args:
        dataset: a LeRobotDataset (all its episodes).
        camera: feature key such as ``observation.images.front``.
        image_size: (height, width) px, None for the dataset's own.
    """

    def __init__(
        self, dataset: LeRobotDataset, camera: str, image_size: tuple[int, int] | None
    ) -> None:
        self._meta, self._camera, self._size = dataset.meta, camera, image_size
        self._is_video = dataset.meta.features[camera]["dtype"] == "video"
        self._images = None
        if not self._is_video:
            self._images = stored_pictures(dataset, camera)
        self._ends = np.array([e["dataset_to_index"] for e in dataset.meta.episodes])

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return (*rows.shape, H, W, 3) uint8 RGB of rows (...).

        Raises:
            FramesError: a video cannot be decoded.
        """
        unique, inverse = np.unique(rows, return_inverse=True)
        images = np.concatenate(
            [
                self._decode(int(episode), unique[episodes == episode])
                for episodes in [np.searchsorted(self._ends, unique, side="right")]
                for episode in np.unique(episodes)
            ]
        )
        return resize_frames(images, self._size)[inverse.reshape(rows.shape)]

    def _decode(self, episode: int, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        if self._images is not None:
            return np.stack([self._images(row) for row in rows.tolist()])
        meta, entry = self._meta, self._meta.episodes[episode]
        file = meta.root / meta.get_video_file_path(episode, self._camera)
        start_s = entry[f"videos/{self._camera}/from_timestamp"]
        times_s = [start_s + float(row - entry["dataset_from_index"]) / meta.fps for row in rows]
        try:
            # One call a frame: between two far frames the decoder would decode all that lie there.
            frames = [
                decode_video_frames(file, [time_s], 0.5 / meta.fps, return_uint8=True)
                for time_s in times_s
            ]
        except (av.FFmpegError, OSError, IndexError, RuntimeError, ValueError) as error:
            raise FramesError(_damaged(file, error)) from error
        return torch.cat(frames).permute(0, 2, 3, 1).numpy()


def decode_episodes(
    dataset: LeRobotDataset, camera: str, episodes: list[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode whole episodes front to back; yields (dataset row, (H, W, 3) uint8 RGB).

    Raises:
        FramesError: a video file cannot be decoded.
    """
    spans = [dataset.meta.episodes[index] for index in episodes]
    if dataset.meta.features[camera]["dtype"] == "video":
        size = image_shape(camera, dataset.meta.features[camera])[:2]
        for file, rows in _rows_of_files(dataset.meta, camera, spans).items():
            yield from _decode_file(file, rows, dataset.meta.fps, size)
        return
    read = stored_pictures(dataset, camera)
    for span in spans:
        for row in range(span["dataset_from_index"], span["dataset_to_index"]):
            yield row, read(row)


def _rows_of_files(
    meta: LeRobotDatasetMetadata, camera: str, spans: list[dict[str, Any]]
) -> dict[Path, dict[int, int]]:
    """Video file -> {frame number in that file: dataset row}."""
    files: dict[Path, dict[int, int]] = {}
    for span in spans:
        file = meta.root / meta.get_video_file_path(span["episode_index"], camera)
        first = round(span[f"videos/{camera}/from_timestamp"] * meta.fps)
        start, end = span["dataset_from_index"], span["dataset_to_index"]
        files.setdefault(file, {}).update({first + k: start + k for k in range(end - start)})
    return files


def _decode_file(
    file: Path, rows: dict[int, int], fps: float, size: tuple[int, int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode one file from the first wanted frame's key frame to the last wanted frame."""
    last = max(rows)
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            if (stream.height, stream.width) != size:
                raise FramesError(
                    f"{file}: expected {size[0]}x{size[1]} px (height, width) as meta/info.json "
                    f"says, got {stream.height}x{stream.width}; copy the dataset anew"
                )
            assert stream.time_base is not None  # of an open container
            container.seek(int(min(rows) / fps / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                number = round(frame.time * fps)
                if number in rows:
                    picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                    yield rows[number], picture
                if number >= last:
                    return
    except (av.FFmpegError, OSError, IndexError) as error:  # IndexError: no video stream
        raise FramesError(_damaged(file, error)) from error


def _damaged(file: Path, error: Exception) -> str:
    return f"{file}: cannot be decoded: {' '.join(str(error).split())}; copy or record it again"
