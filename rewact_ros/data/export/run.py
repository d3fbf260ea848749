"""Recordings → a LeRobotDataset v3: encoded in parallel, resumed when killed, there in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rewact_ros.contract import Contract, ContractError, load_contract
from rewact_ros.contract.frames import NANO
from rewact_ros.data.bags.episode_file import EpisodeFileError, EpisodeRecord
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.dataset.replace_folder import replacing
from rewact_ros.data.export.assemble import DatasetAssembler, ExportedEpisode, write_json
from rewact_ros.data.export.encode import EncodedEpisode, Job, Segment, encoded
from rewact_ros.data.export.jobs import run_jobs
from rewact_ros.data.export.report import text, totals
from rewact_ros.data.export.settings import ExportError, ExportSettings
from rewact_ros.data.export.sources import RecordedBag, open_recording, recording_folders
from rewact_ros.files import LockedError, locked_folder, own_folder, place_folder

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]{postfix}"


def export(settings: ExportSettings, progress: bool = True) -> dict[str, Any]:
    """Write the dataset and return the report that is also in its `meta/export.json`.

    What was encoded is kept beside `out` until the dataset is complete, so that a killed export
    goes on where it was when it is started again; the dataset takes its name in one step.

    Raises:
        ExportError: nothing can be exported, or the recordings do not belong together.
        BagError: no recording where one should be.
        ContractError: a contract cannot be read.
        OSError: the disk is full, or another export is at work on `out`.
    """
    out = settings.out.resolve()
    if out.exists() and not settings.replace:
        raise ExportError(f"{out} exists: choose another folder, or give --replace")
    if out.exists() and not (out / "meta" / "info.json").is_file():
        raise ExportError(f"{out}: is no dataset, and --replace would delete what is in it")
    contract = load_contract(settings.contract) if settings.contract is not None else None
    recordings, refused = _recordings(settings, contract)
    common = _common_contract(recordings)
    work = out.with_name(f".{out.name}.export")
    with _locked(work):
        jobs = _jobs(settings, recordings, work)
        for index, why in _encode(settings, jobs, progress).items():
            refused[jobs[index].recording.path] = why
        jobs = [job for job in jobs if job.recording.path not in refused]
        report = _assemble(settings, common, jobs, refused, work / "dataset")
        _put_in_place(work / "dataset", out, settings.replace)
        shutil.rmtree(work)
    return report


def _recordings(
    settings: ExportSettings, contract: Contract | None
) -> tuple[list[RecordedBag], dict[Path, str]]:
    """Recordings to export, and why others are not."""
    found: list[RecordedBag] = []
    refused: dict[Path, str] = {}
    for path in recording_folders(settings.bags):
        try:
            recording = open_recording(path, contract, settings.namespace)
        except (BagError, ContractError, EpisodeFileError) as error:
            refused[path] = str(error)
            continue
        if recording.record is not None and recording.record.discarded and not settings.discarded:
            refused[path] = "marked as discarded"
        else:
            found.append(recording)
    if not found:
        path, why = next(iter(refused.items()))
        raise ExportError(f"none of {len(refused)} recordings can be exported; {path.name}: {why}")
    return found, refused


def _common_contract(recordings: list[RecordedBag]) -> Contract:
    first = recordings[0]
    for other in recordings[1:]:
        if other.contract.hash != first.contract.hash:
            raise ExportError(
                f"{other.path}: was recorded under another contract than {first.path}: expected "
                f"hash {first.contract.hash[:12]} ({first.contract.robot}), got "
                f"{other.contract.hash[:12]} ({other.contract.robot}); export them apart"
            )
    if not float(first.contract.rate_hz).is_integer():
        raise ExportError(
            f"contract {first.contract.robot}: rate_hz: a LeRobotDataset has a whole number of "
            f"frames per second, got {first.contract.rate_hz}"
        )
    return first.contract


def _jobs(settings: ExportSettings, recordings: list[RecordedBag], work: Path) -> list[Job]:
    cores = os.cpu_count() or 1
    threads = max(1, cores // min(settings.workers or cores, len(recordings)))
    return [
        Job(r, work, settings.video, settings.max_step, settings.min_frames, threads)
        for r in recordings
    ]


def _encode(settings: ExportSettings, jobs: list[Job], progress: bool) -> dict[int, str]:
    """Encode what is not encoded yet; returns why which jobs could not be done."""
    seconds = [_seconds(job.recording) for job in jobs]
    waiting = [index for index, job in enumerate(jobs) if encoded(job) is None]
    failed: dict[int, str] = {}
    with tqdm(
        total=sum(seconds), desc="export", bar_format=_BAR, disable=not progress, mininterval=1.0
    ) as bar:
        done = sum(seconds) - sum(seconds[index] for index in waiting)
        bar.update(done)
        if done:
            bar.set_postfix_str(f"{len(jobs) - len(waiting)} recordings were done before")
        workers = min(settings.workers or os.cpu_count() or 1, len(waiting))
        for place, why in run_jobs([jobs[i] for i in waiting], workers, bar.update):
            if why:
                failed[waiting[place]] = why
    return failed


def _seconds(recording: RecordedBag) -> float:
    try:
        with Bag(recording.path, recording.namespace) as bag:
            return bag.duration_s
    except BagError:
        return 0.0  # the job will say why


def why_nothing(entry: dict[str, Any]) -> str:
    """Why a recording gives no frame, by its entry in the report."""
    reasons = (entry["refused"], *(episode["refused"] for episode in entry["episodes"]))
    return f"{entry['name']}: {next(filter(None, reasons), 'it holds no episode')}"


def _assemble(
    settings: ExportSettings,
    contract: Contract,
    jobs: list[Job],
    refused: dict[Path, str],
    folder: Path,
) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    entries: list[dict[str, Any]] = [
        {"name": path.name, "path": str(path), "refused": why, "episodes": []}
        for path, why in refused.items()
    ]
    dataset = DatasetAssembler(
        folder, contract, settings.video, settings.failed_cap, settings.attempt_s
    )
    try:
        for job in jobs:
            episodes = [_add(settings, dataset, job, e) for e in encoded(job) or []]
            recording = job.recording
            entries.append(
                {
                    "name": recording.name,
                    "path": str(recording.path),
                    "refused": "",
                    "recorded": _provenance(recording.record),
                    "episodes": episodes,
                }
            )
        entries.sort(key=lambda entry: str(entry["path"]))
        sums = totals(entries)
        if not sums["frames"]:
            raise ExportError(f"no frame can be exported; {why_nothing(entries[0])}")
        dataset.close()
    except BaseException:
        dataset.abandon()
        raise
    chosen = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(settings).items()
        if key != "bags"
    }
    report = {"settings": chosen, "totals": sums, "recordings": entries}
    write_json(folder / "meta" / "export.json", report)
    (folder / "meta" / "export.txt").write_text(text(report))
    return report


def _add(
    settings: ExportSettings, dataset: DatasetAssembler, job: Job, episode: EncodedEpisode
) -> dict[str, Any]:
    """Write one episode; returns its part of the report."""
    span, record = episode.span, job.recording.record
    outcome, task = span.outcome, span.task or settings.task
    if record is not None:  # labels may have changed since it was encoded
        outcome, task = record.outcome, record.task or settings.task
    elif outcome == "unlabelled" and settings.outcome:
        outcome = settings.outcome
    segments, why = _chosen(settings, episode)
    added = dict(dataset_episodes=[], human_frames=0, success_frames=0, still_s=0.0)
    if segments:
        added = dataset.add(ExportedEpisode(episode, segments, job.folder, outcome, task))
    return {
        "episode_id": span.episode_id,
        "task": task,
        "outcome": outcome,
        "termination_reason": record.termination_reason if record else span.termination_reason,
        "frames": sum(segment.frames for segment in segments),
        **added,
        "spans_s": [
            [round((at_ns - span.start_ns) / NANO, 3) for at_ns in (part.start_ns, part.end_ns)]
            for part in segments
        ],
        "refused": why,
        **episode.summary,
    }


def _chosen(settings: ExportSettings, episode: EncodedEpisode) -> tuple[tuple[Segment, ...], str]:
    """Segments to export, or why there are none."""
    segments, summary = episode.segments, episode.summary
    if not segments:
        rate = summary["camera_hz"]
        why = f"no {settings.min_frames} frames in a row"
        if rate is not None and abs(rate / summary["rate_hz"] - 1) > 0.2:
            why += f": observations at {rate:.1f} Hz, the contract says {summary['rate_hz']:g} Hz"
        elif summary["gaps"]:
            why += f": {summary['gaps'][0]['why']}"
        return (), why
    if not summary["driven_frames"]:
        return (), "neither policy nor human drove the arm"
    if settings.gaps == "trim":
        return (max(segments, key=lambda segment: segment.frames),), ""
    if settings.gaps == "refuse" and (len(segments) > 1 or summary["short_frames"]):
        return (), "it has gaps"
    return segments, ""


def _provenance(record: EpisodeRecord | None) -> dict[str, Any]:
    """What a recording says of its origin."""
    if record is None:
        return {}
    keys = ("operator", "by", "labelled_at", "policy_version", "git_revision", "recovered")
    return {key: getattr(record, key) for key in keys} | {
        "contract_hash": record.contract_hash,
        "calibrated": record.calibration is not None,
    }


def _put_in_place(folder: Path, out: Path, replace: bool) -> None:
    if not (replace and out.exists()):
        place_folder(folder, out)
        return
    with replacing(out) as copy:
        for old in copy.iterdir():
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        for new in folder.iterdir():
            new.rename(copy / new.name)


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Keep a second export off the same work folder."""
    work.parent.mkdir(parents=True, exist_ok=True)
    own_folder(work)  # its name can be guessed
    try:
        with locked_folder(work):
            yield
    except LockedError:
        raise ExportError(f"{work}: another export is at work there; wait for it") from None
