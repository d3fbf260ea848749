"""Decoded-frame cache: every camera frame of a dataset as a memory-mapped uint8 array."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from tqdm import tqdm

from rewact_ros.policy.checkpoint import replace_folder
from rewact_ros.policy.images import resize_images

DEFAULT_CACHE = Path.home() / ".cache" / "rewact_ros" / "frames"
_LAYOUT = 1  # raise when the cached bytes change meaning


class FrameCacheError(RuntimeError):
    """A video that cannot be turned into frames, or no room for them."""


def open_frames(
    dataset: LeRobotDataset,
    cameras: list[str],
    image_size: tuple[int, int] | None,
    cache: Path | None = None,
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """Return each camera's frames, decoding them once if no valid cache exists.

    The frames are resized by the policy's own ``resize_images`` (rounded to 8 bits), so a frame
    read here equals what the policy makes of the camera's frame on the robot, bit for bit.

    Args:
        dataset: a LeRobotDataset (all its episodes).
        cameras: feature keys such as ``observation.images.front``.
        image_size: (height, width) px, None for the dataset's own.
        cache: folder for caches (default ``~/.cache/rewact_ros/frames``).
        progress: show a progress bar while decoding.

    Returns:
        camera -> (N, H, W, 3) uint8 RGB, read-only memory map over all frames of the dataset.

    Raises:
        FrameCacheError: a frame is missing from a video, or the cache cannot be written.
    """
    fingerprint = dataset_fingerprint(dataset.meta)
    recipe = {
        "layout": _LAYOUT,
        "dataset": fingerprint,
        "size": image_size,
        "cameras": sorted(cameras),
    }
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    folder = Path(cache or DEFAULT_CACHE) / key
    if not (folder / "recipe.json").exists():
        _build(dataset, cameras, image_size, folder, recipe, progress)
    return {camera: np.load(folder / f"{camera}.npy", mmap_mode="r") for camera in cameras}


def dataset_fingerprint(meta: LeRobotDatasetMetadata) -> str:
    """SHA-256 over the dataset's description and the name, size and time of each data file."""
    digest = hashlib.sha256()
    for file in sorted((meta.root / "meta").rglob("*")):
        if file.is_file() and file.suffix in (".json", ".parquet"):
            digest.update(str(file.relative_to(meta.root)).encode() + file.read_bytes())
    for folder in ("videos", "data"):
        for file in sorted((meta.root / folder).rglob("*")):
            if file.is_file():
                stat = file.stat()
                digest.update(
                    f"{file.relative_to(meta.root)} {stat.st_size} {stat.st_mtime_ns}".encode()
                )
    return digest.hexdigest()


def _build(dataset, cameras, image_size, folder: Path, recipe: dict, progress: bool) -> None:
    """Decode into a temporary folder and rename it, so that a killed build leaves no cache."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise FrameCacheError(
            f"frame cache {folder.parent}: {error.strerror}; name another by --cache"
        ) from error
    total = dataset.meta.total_frames
    try:
        with tqdm(
            total=total * len(cameras),
            desc="decode",
            unit="frame",
            mininterval=1,
            disable=not progress,
        ) as bar:
            for camera in cameras:
                size = image_size or tuple(dataset.meta.features[camera]["shape"][:2])
                _require_room(partial, total * size[0] * size[1] * 3)
                frames = np.lib.format.open_memmap(
                    partial / f"{camera}.npy", mode="w+", dtype=np.uint8, shape=(total, *size, 3)
                )
                _fill(frames, dataset, camera, image_size, bar)
                frames.flush()
        (partial / "recipe.json").write_text(json.dumps(recipe))
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(frames: np.memmap, dataset, camera: str, image_size, bar) -> None:
    filled = np.zeros(len(frames), bool)
    for rows, images in _batched(_decoded(dataset, camera), 32):
        frames[rows] = _resize(images, image_size)
        filled[rows] = True
        bar.update(len(rows))
    if not filled.all():
        row = int(np.flatnonzero(~filled)[0])
        episode = next(e for e in dataset.meta.episodes if e["dataset_to_index"] > row)
        raise FrameCacheError(
            f"{dataset.meta.root}: {camera}: {int((~filled).sum())} frames missing from the "
            "videos, "
            f"the first is episode {episode['episode_index']} "
            f"frame {row - episode['dataset_from_index']}; "
            "the dataset is damaged, copy or record it again"
        )


def _resize(images: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Resize (B, H, W, 3) uint8 exactly as the policy resizes them."""
    if size is None or images.shape[1:3] == tuple(size):
        return images
    unit = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    resized = resize_images(unit, size, round_to_8_bits=True)
    return (resized * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _decoded(dataset: LeRobotDataset, camera: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (dataset row, (H, W, 3) uint8) in storage order."""
    if dataset.meta.features[camera]["dtype"] == "video":
        yield from _decoded_videos(dataset.meta, camera)
        return
    column = dataset.hf_dataset.with_format(None).select_columns([camera])
    for row, item in enumerate(column):
        yield row, np.asarray(item[camera].convert("RGB"))


def _decoded_videos(meta: LeRobotDatasetMetadata, camera: str) -> Iterator[tuple[int, np.ndarray]]:
    """Decode each video file once, in order, and place its frames by their time stamps."""
    rows_of_file: dict[Path, dict[int, int]] = {}
    for episode in meta.episodes:
        file = meta.root / meta.get_video_file_path(episode["episode_index"], camera)
        first = round(episode[f"videos/{camera}/from_timestamp"] * meta.fps)
        start, end = episode["dataset_from_index"], episode["dataset_to_index"]
        rows_of_file.setdefault(file, {}).update({first + k: start + k for k in range(end - start)})
    for file, rows in rows_of_file.items():
        try:
            with av.open(str(file)) as container:
                for frame in container.decode(container.streams.video[0]):
                    row = rows.get(round(frame.time * meta.fps))
                    if row is not None:
                        yield row, frame.to_ndarray(format="rgb24")
        except (av.FFmpegError, OSError, IndexError) as error:  # IndexError: no video stream
            raise FrameCacheError(
                f"{file}: cannot be decoded: {error}; copy or record it again"
            ) from error


def _batched(
    pairs: Iterator[tuple[int, np.ndarray]], size: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    rows, images = [], []
    for row, image in pairs:
        rows.append(row)
        images.append(image)
        if len(rows) == size:
            yield rows, np.stack(images)
            rows, images = [], []
    if rows:
        yield rows, np.stack(images)


def _require_room(folder: Path, size: int) -> None:
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    if free < size:
        raise FrameCacheError(
            f"frame cache {folder.parent}: needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB free; "
            "name another disk by --cache, or a smaller image_size"
        )
