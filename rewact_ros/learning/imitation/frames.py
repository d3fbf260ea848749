"""Decoded-frame cache: camera frames of a dataset as memory-mapped uint8 arrays."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from tqdm import tqdm

from rewact_ros.contract import image_shape
from rewact_ros.files import replace_file, replacing_file
from rewact_ros.home import cache_home
from rewact_ros.policy.images import resize_frames

from .videos import FramesError, decode_episodes

DEFAULT_CACHE = cache_home() / "rewact_ros" / "frames"
_LAYOUT = 2  # raise when the cached bytes change meaning
_DONE = "episodes.json"
_Map = np.memmap[Any, np.dtype[np.uint8]]


def open_frames(
    dataset: LeRobotDataset,
    cameras: list[str],
    image_size: tuple[int, int] | None,
    episodes: list[int],
    cache: Path | None = None,
    progress: bool = True,
) -> dict[str, NDArray[np.uint8]]:
    """Return each camera's frames, decoding those episodes that the cache does not hold yet.

    The frames are resized by the policy's own ``resize_images`` (rounded to 8 bits), so a frame
    read here equals what the policy makes of the camera's frame on the robot, bit for bit.

    Args:
        dataset: a LeRobotDataset (all its episodes).
        cameras: feature keys such as ``observation.images.front``.
        image_size: (height, width) px, None for the dataset's own.
        episodes: those whose frames are needed; rows of others may be black.
        cache: folder for caches (default ``~/.cache/rewact_ros/frames``).
        progress: show a progress bar while decoding.

    Returns:
        camera -> (N, H, W, 3) uint8 RGB, read-only memory map over all frames of the dataset.

    Raises:
        FramesError: a frame is missing from a video, or the cache cannot be written.
    """
    recipe = {"layout": _LAYOUT, "dataset": dataset_fingerprint(dataset.meta), "size": image_size}
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    folder = Path(cache or DEFAULT_CACHE) / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return {
            camera: _open_camera(dataset, camera, image_size, episodes, folder / camera, progress)
            for camera in cameras
        }
    except OSError as error:
        raise FramesError(
            f"frame cache {folder}: {error.strerror or error}; name another disk by --cache, "
            "take a smaller image_size, or train with --no-cache"
        ) from error


def dataset_fingerprint(meta: LeRobotDatasetMetadata) -> str:
    """SHA-256 over the dataset's description and the name, size and time of each data file."""
    digest = hashlib.sha256()
    for file in sorted((meta.root / "meta").rglob("*")):
        if file.is_file() and file.suffix in (".json", ".parquet"):
            digest.update(str(file.relative_to(meta.root)).encode() + file.read_bytes())
    for folder in ("images", "videos", "data"):
        for file in sorted((meta.root / folder).rglob("*")):
            if file.is_file():
                stat = file.stat()
                digest.update(
                    f"{file.relative_to(meta.root)} {stat.st_size} {stat.st_mtime_ns}".encode()
                )
    return digest.hexdigest()


def _open_camera(
    dataset: LeRobotDataset,
    camera: str,
    image_size: tuple[int, int] | None,
    episodes: list[int],
    folder: Path,
    progress: bool,
) -> NDArray[np.uint8]:
    """Fill in what is missing; an episode counts as cached once its frames lie on the disk."""
    folder.mkdir(exist_ok=True)
    file, done = folder / "frames.npy", _cached_episodes(folder)
    missing = sorted(set(episodes) - done)
    if missing:
        size = image_size or image_shape(camera, dataset.meta.features[camera])[:2]
        shape = (dataset.meta.total_frames, *size, 3)
        frames = _writable(file, shape)
        _reserve(file, frames, [dataset.meta.episodes[index] for index in missing])
        _fill(frames, dataset, camera, image_size, missing, progress)
        frames.flush()
        replace_file(folder / _DONE, json.dumps(sorted(_cached_episodes(folder) | set(missing))))
    return np.load(file, mmap_mode="r")


def _cached_episodes(folder: Path) -> set[int]:
    file = folder / _DONE
    return set(json.loads(file.read_text())) if file.exists() else set()


def _writable(file: Path, shape: tuple[int, ...]) -> _Map:
    """Open the array, creating it (sparse: only what is filled takes room) under its final name."""
    if not file.exists():
        with replacing_file(file) as partial:
            np.lib.format.open_memmap(partial.name, mode="w+", dtype=np.uint8, shape=shape)
    return np.lib.format.open_memmap(file, mode="r+")


def _reserve(file: Path, frames: _Map, spans: list[dict[str, Any]]) -> None:
    """Take the disk space of some episodes now: writing to a mapped file on a full disk kills."""
    frame = frames[0].nbytes
    with open(file, "r+b") as handle:
        for span in spans:
            start, end = span["dataset_from_index"], span["dataset_to_index"]
            os.posix_fallocate(
                handle.fileno(), frames.offset + start * frame, (end - start) * frame
            )


def _fill(
    frames: _Map,
    dataset: LeRobotDataset,
    camera: str,
    image_size: tuple[int, int] | None,
    episodes: list[int],
    progress: bool,
) -> None:
    filled = np.ones(len(frames), bool)
    for index in episodes:
        span = dataset.meta.episodes[index]
        filled[span["dataset_from_index"] : span["dataset_to_index"]] = False
    with tqdm(
        total=int((~filled).sum()),
        desc=f"decode {camera.rsplit('.', 1)[-1]}",
        unit="frame",
        mininterval=1,
        disable=not progress,
    ) as bar:
        for rows, images in _batched(decode_episodes(dataset, camera, episodes), 32):
            frames[rows] = resize_frames(images, image_size)
            filled[rows] = True
            bar.update(len(rows))
    if not filled.all():
        row = int(np.flatnonzero(~filled)[0])
        episode = next(e for e in dataset.meta.episodes if e["dataset_to_index"] > row)
        raise FramesError(
            f"{dataset.meta.root}: {camera}: {int((~filled).sum())} frames missing from the "
            f"videos, the first is episode {episode['episode_index']} "
            f"frame {row - episode['dataset_from_index']}; "
            "the dataset is damaged, copy or record it again"
        )


def _batched(
    pairs: Iterator[tuple[int, NDArray[np.uint8]]], size: int
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    rows, images = [], []
    for row, image in pairs:
        rows.append(row)
        images.append(image)
        if len(rows) == size:
            yield rows, np.stack(images)
            rows, images = [], []
    if rows:
        yield rows, np.stack(images)
