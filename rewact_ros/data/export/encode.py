"""One recording → videos and columns on disk, from which a dataset is put together at once.

This is the slow part of an export. It runs per recording, in a process of its own, and what it
has finished is not done again.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import STATE_KEY
from rewact_ros.data.bags.episode_file import EPISODE_FILE
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.export.labels import DRIVEN
from rewact_ros.data.export.sources import RecordedBag, Span, episodes_of
from rewact_ros.data.export.steps import Step, StepReader, StepReport
from rewact_ros.data.export.video import VideoSettings, VideoWriter, video_settings
from rewact_ros.files import place_folder, replace_file

_LAYOUT = 1  # raise when the files below change meaning
_DONE = "recording.json"
_BLOCK = 1000  # steps that are kept as objects; an hour of them would weigh much


@dataclass(frozen=True)
class Job:
    """A recording to encode.

    Attributes:
        recording: which.
        work: folder that the result goes into, below a name of its own.
        video: one of `VIDEO_KINDS`.
        max_step: longest time between two frames, in periods of the contract's rate.
        min_frames: shorter pieces between two gaps are left out.
        threads: of each video encoder.
    """

    recording: RecordedBag
    work: Path
    video: str
    max_step: float
    min_frames: int
    threads: int

    @property
    def folder(self) -> Path:
        """Where the result lies; another recording, contract or setting has another place."""
        recording = self.recording
        files = sorted(recording.path.iterdir()) if recording.path.is_dir() else [recording.path]
        record = recording.record
        recipe = {
            "layout": _LAYOUT,
            "contract": repr(recording.contract),
            "namespace": recording.namespace,
            "files": [
                (str(file), file.stat().st_size, file.stat().st_mtime_ns)
                for file in files
                if file.name != EPISODE_FILE  # labels may change: they are added at the end
            ],
            "span": (record.running_ns, record.ended_ns) if record is not None else None,
            "settings": (self.video, self.max_step, self.min_frames),
        }
        key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
        return self.work / f"{recording.name}-{key}"


@dataclass(frozen=True)
class Segment:
    """Frames without a gap; `folder` holds their columns, videos and image statistics."""

    folder: str
    frames: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class EncodedEpisode:
    """An episode of a recording, in segments, and what was left out (`summary`)."""

    span: Span
    segments: tuple[Segment, ...]
    summary: dict[str, Any]


def encoded(job: Job) -> list[EncodedEpisode] | None:
    """What `encode` made of a recording; None: it has not finished."""
    path = job.folder / _DONE
    if not path.is_file():
        return None
    return [
        EncodedEpisode(
            Span(**episode["span"]),
            tuple(Segment(**segment) for segment in episode["segments"]),
            episode["summary"],
        )
        for episode in json.loads(path.read_text())["episodes"]
    ]


def encode(job: Job, on_seconds: Callable[[float], object]) -> None:
    """Encode a recording into `job.folder`, which appears when all of it is there.

    Args:
        job: which and how.
        on_seconds: called with the seconds of the recording that were done since the last call.

    Raises:
        BagError: the recording does not fit its contract, or is damaged.
    """
    partial = job.work / f".{job.folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    recording = job.recording
    progress = _Progress(on_seconds)
    with Bag(recording.path, recording.namespace) as bag:
        episodes = [
            _encode_episode(job, bag, span, partial, f"{index:03d}", progress)
            for index, span in enumerate(episodes_of(recording, bag))
        ]
    document = {"episodes": [asdict(episode) for episode in episodes]}
    replace_file(partial / _DONE, json.dumps(document, indent=1) + "\n")
    place_folder(partial, job.folder)


class _Progress:
    """Tells in steps of half a second how far a recording has been read."""

    def __init__(self, on_seconds: Callable[[float], object]) -> None:
        self._on_seconds, self._told_ns = on_seconds, 0

    def begin(self, at_ns: int) -> None:
        self._told_ns = at_ns

    def reach(self, at_ns: int) -> None:
        if at_ns - self._told_ns > NANO // 2:
            self._on_seconds((at_ns - self._told_ns) / NANO)
            self._told_ns = at_ns


def _encode_episode(
    job: Job, bag: Bag, span: Span, folder: Path, name: str, progress: _Progress
) -> EncodedEpisode:
    contract = job.recording.contract
    reader = StepReader(bag, contract, span.start_ns, span.end_ns, job.max_step)
    writers = _SegmentWriters(job, folder, name)
    progress.begin(span.start_ns)
    with writers:
        for step in reader.steps(progress.reach):
            writers.add(step)
    summary = summarise(reader.report, span, contract.rate_hz)
    summary["short_frames"] = writers.left_out
    summary["driven_frames"] = writers.driven
    return EncodedEpisode(span, tuple(writers.segments), summary)


class _SegmentWriters:
    """Writes a segment once it is long enough; a new one begins after every gap."""

    def __init__(self, job: Job, folder: Path, name: str) -> None:
        self.segments: list[Segment] = []
        self.left_out = self.driven = 0
        self._job, self._folder, self._name = job, folder, name
        self._waiting: list[Step] = []
        self._writer: _SegmentWriter | None = None

    def __enter__(self) -> "_SegmentWriters":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()
        elif self._writer is not None:
            self._writer.abandon()

    def add(self, step: Step) -> None:
        self.driven += step.mode in DRIVEN
        if step.after_gap:
            self._end()
        if self._writer is not None:
            self._writer.add(step)
            return
        self._waiting.append(step)
        if len(self._waiting) >= self._job.min_frames:
            place = self._folder / f"{self._name}-{len(self.segments):03d}"
            job = self._job
            settings = video_settings(job.video)
            self._writer = _SegmentWriter(place, job.recording.contract, settings, job.threads)
            for waiting in self._waiting:
                self._writer.add(waiting)
            self._waiting = []

    def _end(self) -> None:
        self.left_out += len(self._waiting)
        self._waiting = []
        if self._writer is not None:
            self.segments.append(self._writer.close())
            self._writer = None


class _SegmentWriter:
    """One video per camera, and the other columns as bare numbers until the end."""

    def __init__(
        self, folder: Path, contract: Contract, settings: VideoSettings, threads: int
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._steps: list[Step] = []
        self._blocks: list[dict[str, NDArray[Any]]] = []
        self._stack = ExitStack()
        self._videos = {
            camera.key: self._stack.enter_context(
                VideoWriter(
                    folder / f"{camera.key}.mp4", round(contract.rate_hz), settings, threads
                )
            )
            for camera in contract.cameras
        }

    def add(self, step: Step) -> None:
        for key, video in self._videos.items():
            video.add(step.values[key])
        self._steps.append(replace(step, values={STATE_KEY: step.values[STATE_KEY]}))
        if len(self._steps) >= _BLOCK:
            self._pack()

    def _pack(self) -> None:
        steps, self._steps = self._steps, []
        self._blocks.append(
            {
                "stamp_ns": np.array([step.stamp_ns for step in steps], np.int64),
                "state": np.array([step.values[STATE_KEY] for step in steps], np.float32),
                "action": np.array([step.action for step in steps], np.float32),
                "mode": np.array([step.mode for step in steps], np.int64),
                "predicted_reward": np.array([s.predicted_reward for s in steps], np.float32),
                "policy_version": np.array([step.policy_version for step in steps]),
            }
        )

    def abandon(self) -> None:
        """Let go of the files; the disk may be full."""
        with suppress(OSError):
            self._stack.close()

    def close(self) -> Segment:
        self._stack.close()
        if self._steps:
            self._pack()
        columns = {
            key: np.concatenate([block[key] for block in self._blocks]) for key in self._blocks[0]
        }
        np.savez(self._folder / "columns.npz", **columns)
        for key, video in self._videos.items():
            statistics: dict[str, Any] = video.statistics()
            np.savez(self._folder / f"{key}.npz", **statistics)
        stamps = columns["stamp_ns"]
        return Segment(self._folder.name, len(stamps), int(stamps[0]), int(stamps[-1]))


def summarise(report: StepReport, span: Span, rate_hz: float) -> dict[str, Any]:
    """The report of an episode as it is stored: plain numbers, gaps in seconds from its start."""
    return {
        "seconds": round((span.end_ns - span.start_ns) / NANO, 3),
        "images": report.images,
        "steps": report.steps,
        "surplus": report.surplus,
        "without_command": report.without_command,
        "incomplete": dict(report.incomplete),
        "refused_messages": dict(report.refused),
        "camera_hz": None if math.isnan(report.camera_hz) else round(report.camera_hz, 3),
        "rate_hz": rate_hz,
        "gaps": [
            {
                "at_s": round((gap.start_ns - span.start_ns) / NANO, 3),
                "seconds": round((gap.end_ns - gap.start_ns) / NANO, 3),
                "why": gap.why,
            }
            for gap in report.gaps
        ],
        "skew_ms": {
            stream: {
                "p50": round(float(np.median(values)), 3),
                "p99": round(float(np.quantile(values, 0.99)), 3),
                "max": round(float(np.max(values)), 3),
            }
            for stream, values in report.skew_ms.items()
        },
    }
