"""Episodes of datasets, bags and the simulation as videos with the reward drawn in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import OBS_STATE, REWARD
from numpy.typing import NDArray
from tqdm import tqdm

from rewact_ros.contract import Contract
from rewact_ros.contract.frames import NANO, Frame
from rewact_ros.control.modes import Mode
from rewact_ros.data.video.reward_chart import MAX_GAP_S, Reading, Reference
from rewact_ros.data.video.reward_video import RewardVideo
from rewact_ros.episodes.rollout import Rollout, roll_out
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.learning.imitation.videos import decode_episodes
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.compatibility import check_contract
from rewact_ros.policy.engine import Prediction, TorchEngine
from rewact_ros.sim.task import Task

if TYPE_CHECKING:
    from rewact_ros.data.bags.reader import Bag, RecordedReward


class FilmError(ValueError):
    """What was asked for cannot be shown; the message says why and how to mend it."""


@dataclass(frozen=True)
class Film:
    """A finished video.

    Attributes:
        path: its file.
        frames: its length.
        incomplete: of a bag: images that never became an observation, and are not shown.
        refused: of a bag: messages per topic that did not fit the contract.
    """

    path: Path
    frames: int
    incomplete: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


def film_dataset(
    dataset: LeRobotDataset, index: int, loaded: LoadedPolicy | None, path: Path
) -> Film:
    """Show one recorded episode with its labels and, given a policy, what it predicts.

    Raises:
        FilmError: the dataset lacks what the policy needs, or there is nothing to draw.
    """
    meta, cameras = dataset.meta, dataset.meta.camera_keys
    engine = engine_of_dataset(dataset, loaded)
    numbers = _columns(dataset, index, loaded)
    times = np.arange(len(numbers["timestamp"])) / meta.fps
    labels = numbers.get(REWARD)
    if engine is None and labels is None:
        raise FilmError(
            f"data set {meta.root}: has no {REWARD}; give --policy, or label it by `rewact label`"
        )
    streams = [decode_episodes(dataset, camera, [index]) for camera in cameras]
    predicted = engine is not None
    with (
        RewardVideo(
            path,
            title_of(f"{meta.root.name}, episode {index}", loaded),
            meta.fps,
            name="predicted" if predicted else "label",
            duration_s=float(times[-1]),
            value_range=_range(loaded, labels),
            reference=Reference("label", times, labels)
            if predicted and labels is not None
            else None,
        ) as video,
        tqdm(total=len(times), desc=path.stem, unit="frame", mininterval=1) as bar,
    ):
        for k, pictures in enumerate(zip(*streams, strict=True)):
            images = {key: image for key, (_, image) in zip(cameras, pictures, strict=True)}
            if engine is not None:
                state = {key: column[k] for key, column in numbers.items()}
                reading = reading_of(engine.infer({**state, **images}, float(times[k])))
            else:
                assert labels is not None  # else there is nothing to draw
                reading = None if np.isnan(labels[k]) else Reading(float(labels[k]))
            video.add(float(times[k]), images, reading)
            bar.update()
    if k + 1 != len(times):
        raise FilmError(f"{path}: episode {index} has {len(times)} frames, its videos {k + 1}")
    return Film(path, len(times))


def film_bag(bag: "Bag", contract: Contract, loaded: LoadedPolicy | None, path: Path) -> Film:
    """Show a recording with the reward published then and, given a policy, what it predicts.

    Raises:
        FilmError: neither a policy nor a recorded reward.
        BagError: the recording does not fit the contract or is damaged.
    """
    from rewact_ros.data.bags.frames import BagFrames  # reads messages, which need ROS's classes

    engine = engine_of_robot(contract, loaded)
    rewards = bag.rewards()
    if engine is None and not rewards:
        raise FilmError(f"bag {bag.path}: no reward was recorded; give --policy")
    found = BagFrames(bag, contract)
    frames = found.read()
    first = next(frames)
    cameras = [camera.key for camera in contract.cameras]
    with (
        RewardVideo(
            path,
            title_of(f"bag {bag.path.name}", loaded),
            contract.rate_hz,
            name="predicted" if engine else "recorded",
            duration_s=bag.duration_s,
            value_range=_range(loaded, np.array([reward.value for reward in rewards])),
            reference=_recorded(rewards, first.stamp_ns) if engine and rewards else None,
        ) as video,
        tqdm(desc=path.stem, unit="frame", mininterval=1) as bar,
    ):
        waiting = iter(rewards)
        frame: Frame | None = first
        ahead = next(waiting, None)
        while frame is not None:
            time_s = (frame.stamp_ns - first.stamp_ns) / NANO
            if engine is not None:
                reading = reading_of(engine.infer(frame.values, time_s))
            else:
                reading = None
                while ahead is not None and ahead.stamp_ns <= frame.stamp_ns:
                    if frame.stamp_ns - ahead.stamp_ns <= MAX_GAP_S * NANO:
                        q = ahead.quantiles
                        reading = Reading(ahead.value, *((q[0], q[2]) if q else ()))
                    ahead = next(waiting, None)
            images = {key: np.asarray(frame.values[key], np.uint8) for key in cameras}
            video.add(time_s, images, reading)
            bar.update()
            frame = next(frames, None)
    return Film(path, bar.n, found.images - found.frames, found.refused)


def film_simulation(
    loaded: LoadedPolicy,
    sim: Task,
    seed: int,
    path: Path,
    settings: RolloutSettings | None = None,
) -> tuple[Film, Rollout]:
    """Let a policy drive a simulated robot and show what it saw and predicted."""
    require_reward(loaded)
    with (
        RewardVideo(
            path,
            title_of(f"simulation, seed {seed}", loaded),
            sim.rate_hz,
            value_range=_range(loaded),
        ) as video,
        tqdm(desc=path.stem, unit="frame", mininterval=1) as bar,
    ):
        engine = TorchEngine(loaded, rate_hz=sim.rate_hz)
        rollout = roll_out(engine, sim, seed, settings, [_Filming(video, bar)])
        outcome = "success" if rollout.success else f"failed at {rollout.stage}"
        video.title += f" — {outcome}"
    return Film(path, bar.n), rollout


class _Filming:
    """Films every observation of an episode that a policy answered."""

    def __init__(self, video: RewardVideo, bar: tqdm) -> None:
        self._video, self._bar = video, bar

    def frame(
        self, task: Task, tick: int, observation: dict[str, Any], prediction: Prediction | None
    ) -> None:
        if prediction is None:
            return
        images = {key: value for key, value in observation.items() if value.ndim == 3}
        self._video.add(tick / task.command_hz, images, reading_of(prediction))
        self._bar.update()

    def sent(self, command: NDArray[np.float64], mode: Mode) -> None:
        pass


def reading_of(prediction: Prediction) -> Reading | None:
    """What a prediction says of the reward, None without one."""
    if prediction.reward is None:
        return None
    q = prediction.quantiles
    return Reading(prediction.reward, *((q[0], q[2]) if q else ()))


def _columns(
    dataset: LeRobotDataset, index: int, loaded: LoadedPolicy | None
) -> dict[str, NDArray[Any]]:
    """Numbers of one episode: inputs (N, D) float32, `timestamp` and `next.reward` (N,)."""
    row, features = dataset.meta.episodes[index], dataset.meta.features
    wanted = loaded.config.input_features if loaded is not None else {}
    inputs = [key for key in wanted if key not in dataset.meta.camera_keys]
    keys = [*inputs, "timestamp", *([REWARD] if REWARD in features else [])]
    table = dataset.hf_dataset.with_format(None).select_columns(keys)
    span = table[row["dataset_from_index"] : row["dataset_to_index"]]
    columns = {key: np.array(span[key], np.float32) for key in inputs}
    columns["timestamp"] = np.array(span["timestamp"], float)
    if REWARD in features:
        columns[REWARD] = np.array(span[REWARD], float).reshape(-1)
    return columns


def engine_of_dataset(dataset: LeRobotDataset, loaded: LoadedPolicy | None) -> TorchEngine | None:
    """What runs a policy on a dataset's frames; raises FilmError where it lacks what that needs."""
    if loaded is None:
        return None
    require_reward(loaded)
    _check_inputs(dataset, loaded)
    return TorchEngine(loaded, rate_hz=dataset.meta.fps)


def engine_of_robot(contract: Contract, loaded: LoadedPolicy | None) -> TorchEngine | None:
    """What runs a policy on a robot's observations; raises FilmError, or of another contract."""
    if loaded is None:
        return None
    require_reward(loaded)
    check_contract(loaded, contract)
    return TorchEngine(loaded, rate_hz=contract.rate_hz)


def _check_inputs(dataset: LeRobotDataset, loaded: LoadedPolicy) -> None:
    """The dataset has every input of the policy, its joints in the policy's order.

    Raises:
        FilmError: it has not.
    """
    features, root = dataset.meta.features, dataset.meta.root
    missing = sorted(loaded.config.input_features.keys() - features.keys())
    if missing:
        raise FilmError(
            f"data set {root}: has no {missing[0]}, an input of {loaded.path}; it has "
            f"{', '.join(sorted(features))}; use a policy of this robot"
        )
    if loaded.contract is None:
        return
    names = features[OBS_STATE]["names"] if OBS_STATE in features else None
    trained = loaded.contract["signature"]["features"].get(OBS_STATE, {}).get("names")
    if isinstance(names, list) and trained and names != trained:
        raise FilmError(
            f"data set {root}: {OBS_STATE}: expected joints {', '.join(trained)} as for "
            f"{loaded.path}, got {', '.join(names)}; use a policy of this robot"
        )


def require_reward(loaded: LoadedPolicy) -> None:
    """Raise FilmError where a policy predicts no reward."""
    if loaded.config.reward_head == "none":
        raise FilmError(f"{loaded.path}: has no reward head, so there is no reward to show")


def _range(loaded: LoadedPolicy | None, values: NDArray[Any] | None = None) -> tuple[float, float]:
    """Ends of the reward axis: the head's range, at least 0 to 1, and what was recorded."""
    ends = [0.0, 1.0]
    if loaded is not None:
        ends += [loaded.config.value_min, loaded.config.value_max]
    if values is not None and np.isfinite(values).any():
        ends += [float(np.nanmin(values)), float(np.nanmax(values))]
    return min(ends), max(ends)


def _recorded(rewards: "list[RecordedReward]", start_ns: int) -> Reference:
    times = np.array([(reward.stamp_ns - start_ns) / NANO for reward in rewards])
    return Reference("recorded", times, np.array([reward.value for reward in rewards]))


def title_of(what: str, loaded: LoadedPolicy | None) -> str:
    """What is shown, and by which policy."""
    return what if loaded is None else f"{what}, policy {loaded.path.name} {loaded.version}"
