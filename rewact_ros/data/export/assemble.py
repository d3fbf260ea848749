"""Encoded recordings → one LeRobotDataset v3, without touching a picture again."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from lerobot.datasets.compute_stats import get_feature_stats
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.dataset_writer import DatasetWriter
from lerobot.datasets.io_utils import write_stats
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY
from rewact_ros.data.export.encode import EncodedEpisode, Segment
from rewact_ros.data.export.labels import DRIVEN, StepLabels, label_steps
from rewact_ros.data.export.video import video_settings
from rewact_ros.data.video.encoders import quiet_encoders
from rewact_ros.reward.labels import still_frames

REWARD, PREDICTED = "next.reward", "predicted_reward"
_MAY_BE_UNKNOWN = (REWARD, PREDICTED)
COLUMNS: dict[str, dict[str, Any]] = {
    key: {"dtype": dtype, "shape": (1,), "names": None}
    for key, dtype in {
        REWARD: "float32",
        "next.done": "bool",
        "next.success": "bool",
        "demo_is_pad": "bool",
        "intervention": "bool",
        "control_mode": "int64",
        PREDICTED: "float32",
        "policy_version": "string",
    }.items()
}


@dataclass(frozen=True)
class ExportedEpisode:
    """An episode to write: which of its segments, from where, and how it was judged."""

    episode: EncodedEpisode
    segments: tuple[Segment, ...]
    folder: Path
    outcome: str
    task: str


class DatasetAssembler:
    """Writes exported episodes into a new dataset; every segment becomes an episode of it.

    Args:
        folder: of the dataset; must not exist.
        contract: features and rate; also written to `meta/contract.json`.
        video: one of `VIDEO_KINDS`, as the videos were encoded.
        failed_cap: highest label of a failure.
        attempt_s: duration of an undisturbed attempt; 0: not known.
    """

    def __init__(
        self, folder: Path, contract: Contract, video: str, failed_cap: float, attempt_s: float
    ) -> None:
        datasets.disable_progress_bars()  # one bar for the export, not one per episode
        quiet_encoders()
        self._folder, self._contract = folder, contract
        self._failed_cap, self._attempt_s = failed_cap, attempt_s
        self._meta = LeRobotDatasetMetadata.create(
            repo_id=f"local/{folder.name}",
            fps=round(contract.rate_hz),
            features={**contract.dataset_features(), **COLUMNS},
            robot_type=contract.robot,
            root=folder,
        )
        self._videos = _ReadyVideos(folder)
        self._writer = DatasetWriter(
            self._meta,
            folder,
            rgb_encoder=video_settings(video).encoder,
            depth_encoder=None,
            encoder_threads=None,
            batch_encoding_size=1,
            streaming_encoder=self._videos,
        )
        self._known: dict[str, list[NDArray[Any]]] = {key: [] for key in _MAY_BE_UNKNOWN}

    def add(self, exported: ExportedEpisode) -> dict[str, Any]:
        """Append an episode; returns its part of the report."""
        columns = [
            dict(np.load(exported.folder / segment.folder / "columns.npz"))
            for segment in exported.segments
        ]
        span = exported.episode.span
        joined = {
            key: np.concatenate([part[key] for part in columns])
            for key in ("stamp_ns", "mode", "state")
        }
        labels = label_steps(
            exported.outcome,
            (joined["stamp_ns"] - span.start_ns) / NANO,
            (span.end_ns - span.start_ns) / NANO,
            joined["mode"],
            self._contract.rate_hz,
            self._failed_cap,
            self._attempt_s,
        )
        driven = np.isin(joined["mode"], DRIVEN)
        first, indices = 0, []
        for segment, part in zip(exported.segments, columns, strict=True):
            rows = slice(first, first + segment.frames)
            first += segment.frames
            indices.append(self._meta.total_episodes)
            self._save(exported, segment, part, labels, rows)
        return {
            "dataset_episodes": indices,
            "human_frames": int(labels.intervention.sum()),
            "success_frames": int(labels.success.sum()),
            "still_s": round(still_frames(joined["state"][driven]) / self._contract.rate_hz, 3),
        }

    def close(self) -> None:
        """Finish the dataset's files."""
        self._writer.finalize()
        stats = self._meta.stats or {}
        for key, parts in self._known.items():
            known = np.concatenate([part[np.isfinite(part)] for part in parts] or [np.empty(0)])
            stats.pop(key, None)  # LeRobot's own are NaN where one value is
            if len(known):
                stats[key] = get_feature_stats(known, axis=0, keepdims=True)
        write_stats(stats, self._folder)
        write_json(self._folder / "meta" / "contract.json", self._contract.record())

    def abandon(self) -> None:
        """Close files and forget them; the folder is not a dataset."""
        self._writer.finalize()

    def _save(
        self,
        exported: ExportedEpisode,
        segment: Segment,
        part: dict[str, NDArray[Any]],
        labels: StepLabels,
        rows: slice,
    ) -> None:
        n = segment.frames
        cameras = [camera.key for camera in self._contract.cameras]
        columns = {
            STATE_KEY: part["state"],
            ACTION_KEY: part["action"],
            REWARD: labels.reward[rows],
            "next.done": np.arange(n) == n - 1,
            "next.success": labels.success[rows],
            "demo_is_pad": labels.pad[rows],
            "intervention": labels.intervention[rows],
            "control_mode": part["mode"],
            PREDICTED: part["predicted_reward"],
            "policy_version": part["policy_version"],
        }
        for key in _MAY_BE_UNKNOWN:
            self._known[key].append(columns[key])
        self._videos.offer(exported.folder / segment.folder, cameras)
        self._writer.save_episode(
            {
                "size": n,
                "task": [exported.task] * n,
                "episode_index": self._meta.total_episodes,
                "frame_index": np.arange(n),
                "timestamp": np.arange(n) / self._meta.fps,
                "index": [],  # LeRobot fills these two in
                "task_index": [],
                **columns,
                **{key: [None] * n for key in cameras},
            }
        )


class _ReadyVideos:
    """Stands where LeRobot's recorder has its encoder, and hands out what was encoded before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next: dict[str, tuple[Path, dict[str, NDArray[Any]]]] = {}

    def offer(self, segment: Path, cameras: Iterable[str]) -> None:
        """The next episode's videos; copied, as LeRobot moves what it gets."""
        for key in cameras:
            place = Path(tempfile.mkdtemp(dir=self._folder)) / f"{key}.mp4"
            shutil.copyfile(segment / f"{key}.mp4", place)
            self._next[key] = place, dict(np.load(segment / f"{key}.npz"))

    def finish_episode(self) -> dict[str, tuple[Path, dict[str, NDArray[Any]]]]:
        ready, self._next = self._next, {}
        return ready

    def cancel_episode(self) -> None:
        self._next = {}

    def close(self) -> None:
        self._next = {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file; numbers that are not finite become null, which every reader takes."""
    path.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
