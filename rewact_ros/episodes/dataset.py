"""LeRobotDatasets of a simulated task: features, labels, and a writer that leaves no half set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.files import place_folder
from rewact_ros.sim.task import Task

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

LABELS: dict[str, dict[str, Any]] = {
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    "demo_is_pad": {"dtype": "bool", "shape": (1,), "names": None},
}


class DemosError(ValueError):
    """Episodes that cannot be made or written as asked."""


def check_contract(contract: Contract, task: type[Task]) -> None:
    """Refuse a contract that a task's robot does not fit.

    Raises:
        DemosError: other joints, rate or cameras.
    """
    for what, names in (("state", contract.state_names), ("action", contract.action_names)):
        if tuple(names) != task.joints:
            raise DemosError(
                f"contract {contract.robot}: {what} joints: expected {', '.join(task.joints)}, "
                f"got {', '.join(names)}"
            )
    if contract.rate_hz != task.rate_hz:
        raise DemosError(
            f"contract {contract.robot}: rate_hz: expected {task.rate_hz}, got {contract.rate_hz}"
        )
    cameras = {camera.name: camera.shape for camera in contract.cameras}
    if set(cameras) != set(task.cameras) or len(set(cameras.values())) != 1:
        raise DemosError(
            f"contract {contract.robot}: cameras: expected {' and '.join(task.cameras)} of "
            f"one size, got {cameras}"
        )


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give `<out>.partial` to write in; it becomes `out` at the end, or nothing on an error.

    Raises:
        DemosError: one of the two folders exists.
    """
    partial = out.with_name(out.name + ".partial")
    for folder in (out, partial):
        if folder.exists():
            raise DemosError(f"{folder} exists: choose another folder, or remove it first")
    try:
        yield partial
        place_folder(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def new_dataset(
    contract: Contract, folder: Path, further: dict[str, dict[str, Any]] | None = None
) -> Iterator[LeRobotDataset]:
    """Create a dataset with the contract's features and `LABELS`, and finalise it at the end.

    Args:
        contract: also written to `meta/contract.json`.
        folder: of the dataset.
        further: features beside the contract's and the labels.
    """
    features = {**contract.dataset_features(), **LABELS, **(further or {})}
    with create_dataset(folder, round(contract.rate_hz), features, contract.robot) as dataset:
        yield dataset
    write_json(folder / "meta" / "contract.json", contract.record())


@contextmanager
def create_dataset(
    folder: Path, fps: int, features: dict[str, dict[str, Any]], robot: str
) -> Iterator[LeRobotDataset]:
    """Create a dataset, and finalise it at the end.

    Args:
        folder: of the dataset.
        fps: frames a second.
        features: as LeRobot describes them.
        robot: its name, "" for none.
    """
    import datasets  # these take seconds to import
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from rewact_ros.data.video.encoders import quiet_encoders

    # Full colour resolution: in 96 px images a thing to grasp is a few pixels wide.
    encoder = RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p", crf=14, preset="veryfast")
    quiet_encoders()
    datasets.disable_progress_bars()  # one bar for the set, not one per episode
    dataset = LeRobotDataset.create(
        repo_id=f"local/{folder.stem}",
        fps=fps,
        features=features,
        root=folder,
        robot_type=robot or None,
        rgb_encoder=encoder,
        streaming_encoding=True,
        encoder_queue_maxsize=10_000,  # a full queue would drop frames; an episode has hundreds
        encoder_threads=1,
    )
    try:
        yield dataset
    finally:
        # Also when interrupted: encoders and writers left open would write into `folder` once more
        # after it was removed.
        dataset.clear_episode_buffer(delete_images=False)
        dataset.finalize()


def add_episode(
    dataset: LeRobotDataset,
    contract: Contract,
    text: str,
    state: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    action: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    images: Mapping[str, Sequence[NDArray[np.uint8]] | NDArray[np.uint8]],
    labels: dict[str, NDArray[Any]],
) -> None:
    """Append an episode of n frames.

    Args:
        dataset: from `new_dataset`.
        contract: names the cameras.
        text: what there is to do.
        state: n of (S,); action: n of (A,) float32.
        images: per camera name n of (H, W, 3) uint8.
        labels: per label or further feature (n,).
    """
    for index in range(len(action)):
        frame: dict[str, Any] = {
            "observation.state": state[index],
            "action": action[index],
            "task": text,
        }
        for camera in contract.cameras:
            frame[camera.key] = images[camera.name][index]
        for key, values in labels.items():
            frame[key] = values[index : index + 1]
        dataset.add_frame(frame)
    dataset.save_episode()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file."""
    path.write_text(json.dumps(content, indent=1) + "\n")
