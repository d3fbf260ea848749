"""Episodes of datasets and bags as recordings for the Rerun viewer."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_STATE, REWARD, SUCCESS
from numpy.typing import NDArray

from rewact_ros.contract import Contract, SampleError
from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import mode_name
from rewact_ros.data.video.rerun_events import EVENT_TOPICS, EventLines
from rewact_ros.data.video.rerun_file import RerunFile, entity_of
from rewact_ros.data.video.reward_chart import Reading
from rewact_ros.learning.evaluation.film import (
    Film,
    FilmError,
    engine_of_dataset,
    engine_of_robot,
    reading_of,
    title_of,
)
from rewact_ros.learning.imitation.videos import decode_episodes
from rewact_ros.policy.checkpoint import LoadedPolicy

if TYPE_CHECKING:
    from rewact_ros.data.bags.reader import Bag

PREDICTED = "predicted_reward"
# Curves of a dataset: column → name beside the quantiles.
CURVES = {REWARD: "label", PREDICTED: "recorded"}
# Changes of these columns are lines of the log.
SAID = {"intervention": "a person leads: {}", "control_mode": "{}"}


def view_dataset(
    dataset: LeRobotDataset, index: int, loaded: LoadedPolicy | None, path: Path
) -> Film:
    """Write one recorded episode with what it holds of progress and, given a policy, its own.

    Raises:
        FilmError: the dataset lacks what the policy needs.
        RerunMissingError: rerun-sdk is not installed.
    """
    meta = dataset.meta
    engine = engine_of_dataset(dataset, loaded)
    columns = _columns(dataset, index, loaded)
    title = title_of(f"{meta.root.name}, episode {index}", loaded)
    length = dataset.meta.episodes[index]["length"]
    with RerunFile(path, title, [_short(key) for key in meta.camera_keys]) as out:
        for what, key in (("joints", OBS_STATE), ("commands", ACTION)):
            if key in columns:
                out.names(what, _names(meta.features[key]))
        out.event(0.0, f"task: {', '.join(meta.episodes[index]['tasks'])}")
        for k, images in enumerate(_pictures(dataset, index)):
            time_s = k / meta.fps
            out.pictures(time_s, {_short(key): image for key, image in images.items()})
            for what, key in (("joints", OBS_STATE), ("commands", ACTION)):
                if key in columns:
                    out.numbers(time_s, what, columns[key][k])
            for key, name in CURVES.items():
                if key in columns:
                    out.progress(time_s, name, Reading(float(columns[key][k])))
            if engine is not None:
                state = {key: columns[key][k] for key in _inputs(loaded, columns)}
                if reading := reading_of(engine.infer({**state, **images}, time_s)):
                    out.progress(time_s, "predicted", reading)
        _say_changes(out, columns, meta.fps)
        out.outcome(_outcome(columns))
    return Film(path, length)


def _pictures(dataset: LeRobotDataset, index: int) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """Camera → (H, W, 3) of each frame of an episode.

    Raises:
        FilmError: a video is shorter than the episode.
    """
    cameras, length = dataset.meta.camera_keys, dataset.meta.episodes[index]["length"]
    streams = [decode_episodes(dataset, camera, [index]) for camera in cameras]
    for k in range(length):
        found = [next(stream, None) for stream in streams]
        if short := [key for key, one in zip(cameras, found, strict=True) if one is None]:
            raise FilmError(
                f"data set {dataset.meta.root}: {short[0]}: episode {index} has {length} frames, "
                f"its video {k}; copy the dataset anew"
            )
        yield {key: one[1] for key, one in zip(cameras, found, strict=True) if one is not None}


def _inputs(loaded: LoadedPolicy | None, columns: dict[str, NDArray[Any]]) -> list[str]:
    """The policy's inputs that are numbers."""
    return [key for key in loaded.config.input_features if key in columns] if loaded else []


def _columns(
    dataset: LeRobotDataset, index: int, loaded: LoadedPolicy | None
) -> dict[str, NDArray[Any]]:
    """Numbers of one episode, those that the dataset has: (N, D) or (N,)."""
    features, row = dataset.meta.features, dataset.meta.episodes[index]
    wanted = {OBS_STATE, ACTION, SUCCESS, *CURVES, *SAID}
    if loaded is not None:
        wanted |= set(loaded.config.input_features) - set(dataset.meta.camera_keys)
    keys = [key for key in features if key in wanted]
    table = dataset.hf_dataset.with_format(None).select_columns(keys)
    span = table[row["dataset_from_index"] : row["dataset_to_index"]]
    columns = {key: np.array(span[key], np.float32) for key in keys}
    flat = {SUCCESS, *CURVES, *SAID}
    return {key: c.reshape(len(c)) if key in flat else c for key, c in columns.items()}


def _say_changes(out: RerunFile, columns: dict[str, NDArray[Any]], fps: float) -> None:
    for key, words in SAID.items():
        values = columns.get(key, np.zeros(0))
        for k, (before, now) in enumerate(pairwise([None, *values.tolist()])):
            if before != now and (before is not None or now):
                said = mode_name(int(now)) if key == "control_mode" else "yes" if now else "no"
                out.event(k / fps, words.format(said))


def _outcome(columns: dict[str, NDArray[Any]]) -> str:
    if SUCCESS not in columns:
        return f"unknown: the dataset has no {SUCCESS}"
    if columns[SUCCESS].any():
        return "success"
    return "no success: it failed, or nobody has judged it"


def _names(feature: dict[str, Any]) -> list[str]:
    """Names of a vector's values; datasets of others may have none, or groups of them."""
    names = feature["names"]
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    size = int(np.prod(feature["shape"]))
    return list(map(str, names)) if names and len(names) == size else list(map(str, range(size)))


def _short(key: str) -> str:
    """`observation.images.front` as `front`, `observation.image` as `image`."""
    return key.removeprefix("observation.").removeprefix("images.")


def view_bag(bag: "Bag", contract: Contract, loaded: LoadedPolicy | None, path: Path) -> Film:
    """Write a recording: observations as the live node made them, commands, progress and events.

    Raises:
        FilmError: the policy has no reward.
        BagError: the recording does not fit the contract or is damaged.
        RerunMissingError: rerun-sdk is not installed.
    """
    from rewact_ros.data.bags.frames import BagFrames  # reads messages, which need ROS's classes

    engine = engine_of_robot(contract, loaded)
    found = BagFrames(bag, contract)
    start_ns: int | None = None
    cameras = {camera.key: camera.name for camera in contract.cameras}
    title = title_of(f"bag {bag.path.name}", loaded)
    with RerunFile(path, title, list(cameras.values())) as out:
        out.names("joints", contract.state_names)
        for frame in found.read():
            start_ns = frame.stamp_ns if start_ns is None else start_ns
            time_s = (frame.stamp_ns - start_ns) / NANO
            out.pictures(
                time_s,
                {name: np.asarray(frame.values[key], np.uint8) for key, name in cameras.items()},
            )
            out.numbers(time_s, "joints", frame.values[OBS_STATE])
            if engine is not None and (reading := reading_of(engine.infer(frame.values, time_s))):
                out.progress(time_s, "predicted", reading)
        assert start_ns is not None  # else `read` has said why there is no observation
        _write_commands(out, bag, contract, start_ns)
        for reward in bag.rewards():
            q = reward.quantiles
            reading = Reading(reward.value, *((q[0], q[2]) if q else ()))
            # A policy's own quantiles would be taken for those of the recorded reward.
            shown = reading if engine is None else Reading(reward.value)
            out.progress((reward.stamp_ns - start_ns) / NANO, "recorded", shown)
        _write_events(out, bag, start_ns)
        out.outcome(_judged(bag.path))
    return Film(path, found.frames, found.images - found.frames, found.refused)


def _write_commands(out: RerunFile, bag: "Bag", contract: Contract, start_ns: int) -> None:
    """What was sent to the robot, by the time of recording; a dry run sent nothing."""
    from rewact_ros.ros.commands import command_decoder

    for part in contract.action:
        topic, decode = bag.resolve(part.topic), command_decoder(part)
        if topic not in bag.topics:
            continue
        bag.require(part.topic, part.type)
        what = entity_of("commands", part, len(contract.action))
        out.names(what, part.joints)
        for message in bag.messages([topic]):
            try:
                values = decode(message.body)
            except SampleError:
                continue  # hil's own messages fit; this one is somebody else's
            out.numbers((message.logged_ns - start_ns) / NANO, what, values)


def _write_events(out: RerunFile, bag: "Bag", start_ns: int) -> None:
    """What the robot's nodes say of the episode, as lines of the log."""
    lines = EventLines()
    topics = {bag.resolve(topic): topic for topic in EVENT_TOPICS}
    for message in bag.messages(list(topics)):
        if line := lines.take(topics[message.topic], message.body):
            out.event((message.logged_ns - start_ns) / NANO, *line)


def _judged(path: Path) -> str:
    from rewact_ros.data.bags.episode_file import EpisodeFileError, read_episode

    try:
        record = read_episode(path)
    except EpisodeFileError:
        return "unknown: the recording has no episode.json of ours"
    why = f" ({record.termination_reason})" if record.termination_reason else ""
    return f"{record.outcome}{why}" + (f", judged by {record.by}" if record.by else "")
