"""Episodes of a LeRobotDataset → recordings, as if the robot had been recorded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from sensor_msgs.msg import JointState
from tqdm import tqdm

from rewact_ros import strict_yaml
from rewact_ros.contract import Contract, load_contract, names
from rewact_ros.contract.edge import to_driver
from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode
from rewact_ros.data.bags.episode_file import OUTCOMES, EpisodeRecord, write_episode
from rewact_ros.data.bags.from_dataset_settings import BagsError, BagsSettings
from rewact_ros.data.bags.reader import REWARD_TOPIC, typestore
from rewact_ros.data.dataset.episodes import RecordedEpisodes
from rewact_ros.data.export.sources import EVENT_TOPIC
from rewact_ros.data.export.steps import CONTROL_TOPIC
from rewact_ros.files import place_folder
from rewact_ros.msg import ControlStatus, EpisodeEvent, Reward
from rewact_ros.ros.commands import command_encoder
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.images import camera_message
from rewact_ros.ros.states import is_stamped, state_message

EPOCH_NS = 1_704_067_200 * NANO  # 2024-01-01: the first recording begins then,
PAUSE_NS = 10 * NANO  # and each next one this long after the end of the one before
# What belongs to one frame is recorded in this order, the observation's last part last.
_STATUS, _JOINTS, _IMAGES, _COMMANDS, _REWARDS = (1000 * k for k in range(5))  # ns
_FURTHER = (
    "control_mode",
    "intervention",
    "next.success",
    "next.reward",
    "predicted_reward",
    "policy_version",
)


def write_bags(settings: BagsSettings, progress: bool = True) -> list[Path]:
    """Write one recording per episode, each in one step; returns their folders.

    Raises:
        BagsError: no such episode, or a recording of it exists already.
        ContractError: the contract cannot be read, or the dataset does not fit it.
        DatasetError: no dataset, or a damaged one.
    """
    contract = load_contract(settings.contract)
    source = RecordedEpisodes(settings.dataset, contract)
    chosen = range(source.total) if settings.episodes is None else settings.episodes
    if outside := [index for index in chosen if not 0 <= index < source.total]:
        raise BagsError(
            f"{settings.dataset}: episodes: expected 0 to {source.total - 1}, got {outside[0]}"
        )
    name = settings.dataset.resolve().name
    folders = [settings.out / f"{name}-{index:06d}" for index in chosen]
    for folder in folders:
        if folder.exists():
            raise BagsError(f"{folder} exists: choose another folder, or remove it first")
    further = _Further(source)
    start_ns = EPOCH_NS
    settings.out.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=settings.out))
    try:
        for index, folder in zip(
            tqdm(chosen, "bags", unit="episode", disable=not progress), folders, strict=True
        ):
            episode = _Episode(settings, contract, source, further, index, start_ns)
            episode.write(partial / folder.name)
            place_folder(partial / folder.name, folder)
            start_ns = episode.end_ns + PAUSE_NS
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folders


class _Further:
    """Columns beside state and action that say how an episode went, where there are any."""

    def __init__(self, source: RecordedEpisodes) -> None:
        self._meta = source.meta
        keys = [key for key in _FURTHER if key in source.meta.features]
        self._table = source.table.select_columns(keys) if keys else None

    def of(self, index: int) -> dict[str, NDArray[Any]]:
        """Column → (n,) of an episode."""
        if self._table is None:
            return {}
        row = self._meta.episodes[index]
        span = self._table.select(range(row["dataset_from_index"], row["dataset_to_index"]))
        return {key: np.asarray(span[key]).reshape(-1) for key in span.column_names}

    def task(self, index: int) -> str:
        """What the episode is about, in words."""
        return "; ".join(self._meta.episodes[index]["tasks"])


class _Episode:
    """One episode as a recording."""

    def __init__(
        self,
        settings: BagsSettings,
        contract: Contract,
        source: RecordedEpisodes,
        further: _Further,
        index: int,
        start_ns: int,
    ) -> None:
        self._settings, self._contract, self._source = settings, contract, source
        self._numbers = source.episode(index)
        self._columns, self._task = further.of(index), further.task(index)
        self._stamps_ns = [
            start_ns + round(k * NANO / contract.rate_hz) for k in range(len(self._numbers.state))
        ]
        self.start_ns, self.end_ns = start_ns, self._stamps_ns[-1]

    def write(self, folder: Path) -> None:
        """Write the bag and its `episode.json`."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        store = typestore()
        connections: dict[str, Connection] = {}
        counts: dict[str, dict[str, Any]] = {}
        writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        if self._settings.zstd:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            for topic, logged_ns, message in self._messages(folder.name):
                kind = type(message)
                name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, name, typestore=store)
                    counts[topic] = {"type": name, "received": 0, "dropped": 0}
                writer.write(connections[topic], logged_ns, serialize_message(message))
                counts[topic]["received"] += 1
        write_episode(folder, self._record(folder.name, counts))

    def _record(self, name: str, counts: dict[str, Any]) -> EpisodeRecord:
        return EpisodeRecord(
            episode_id=name,
            task=self._task,
            outcome=OUTCOMES[self._outcome()],
            termination_reason="dataset",
            by="dataset",
            contract=strict_yaml.load(self._settings.contract),
            contract_hash=self._contract.hash,
            started_ns=self.start_ns,
            running_ns=self.start_ns,
            ended_ns=self.end_ns,
            topics=counts,
            namespace=self._settings.namespace,
        )

    def _outcome(self) -> int:
        """By `next.success`; an episode without a single label is not judged."""
        reward, success = self._columns.get("next.reward"), self._columns.get("next.success")
        if success is not None and (reward is None or np.isfinite(reward).any()):
            return EpisodeEvent.SUCCESS if success.any() else EpisodeEvent.FAILURE
        return OUTCOMES.index(self._settings.outcome or "unlabelled")

    def _messages(self, name: str) -> Iterator[tuple[str, int, Any]]:
        """Yield (full topic, time of recording, message) in the order of recording."""
        yield self._event(name, EpisodeEvent.RUNNING, self.start_ns)
        modes = self._modes()
        rewards = self._columns.get("predicted_reward")
        versions = self._columns.get("policy_version", [""] * len(self._stamps_ns))
        images = self._source.images(self._numbers.index)
        for k, (at_ns, pictures) in enumerate(zip(self._stamps_ns, images, strict=True)):
            stamp = to_stamp(at_ns)
            if modes is not None:
                status = ControlStatus(mode=int(modes[k]), reason="replayed from a dataset")
                status.header.stamp = stamp
                yield self._topic(CONTROL_TOPIC), at_ns + _STATUS, status
            for stamped in (False, True):
                states = self._states(self._numbers.state[k], stamp, stamped)
                # Without a camera, the reference completes the observation: it goes last.
                reference = self._topic(self._contract.reference.topic)
                for topic, observed in sorted(states, key=lambda each: each[0] == reference):
                    # Without a header, the time of recording is the stamp.
                    yield topic, at_ns + (_JOINTS if stamped else _STATUS), observed
            for camera in (*self._contract.cameras[1:], *self._contract.cameras[:1]):
                image, quality = pictures[camera.key], self._settings.jpeg
                picture = camera_message(camera, image, stamp, camera.name, quality)
                yield self._topic(camera.topic), at_ns + _IMAGES, picture
            for topic, command in self._commands(self._numbers.action[k], stamp):
                yield topic, at_ns + _COMMANDS, command
            if rewards is not None and np.isfinite(rewards[k]):
                unknown = dict.fromkeys(("q10", "q50", "q90", "entropy"), np.nan)
                reward = Reward(value=float(rewards[k]), policy_version=str(versions[k]), **unknown)
                reward.header.stamp = stamp
                yield self._topic(REWARD_TOPIC), at_ns + _REWARDS, reward
        yield self._event(name, EpisodeEvent.VERDICT, self.end_ns + _REWARDS)

    def _topic(self, name: str) -> str:
        return names.resolve(name, self._settings.namespace)

    def _event(self, name: str, event: int, at_ns: int) -> tuple[str, int, Any]:
        verdict = event == EpisodeEvent.VERDICT
        message = EpisodeEvent(
            episode_id=name,
            task=self._task,
            event=event,
            outcome=self._outcome() if verdict else EpisodeEvent.UNLABELLED,
            termination_reason="dataset" if verdict else "",
            by="dataset" if verdict else "",
        )
        message.header.stamp = to_stamp(at_ns)
        return self._topic(EVENT_TOPIC), at_ns, message

    def _modes(self) -> NDArray[Any] | None:
        mode, human = self._columns.get("control_mode"), self._columns.get("intervention")
        if mode is not None:
            return mode if (mode >= 0).all() else None
        return None if human is None else np.where(human, Mode.HUMAN, Mode.POLICY)

    def _states(
        self, state: NDArray[np.float64], stamp: Time, stamped: bool
    ) -> Iterator[tuple[str, Any]]:
        """One message per topic; one of joints may carry several parts of the state."""
        messages: dict[str, dict[str, dict[str, float]]] = {}
        first = 0
        for part in self._contract.state:
            values = state[first : first + len(part.joints)]
            first += len(part.joints)
            if is_stamped(part) != stamped:
                continue
            if not part.of_joints:
                yield self._topic(part.topic), state_message(part, values, stamp)
                continue
            joints = zip(part.drivers or part.joints, to_driver(part, values).tolist(), strict=True)
            messages.setdefault(part.topic, {}).setdefault(part.field, {}).update(joints)
        for topic, fields in messages.items():
            names = list(dict.fromkeys(joint for field in fields.values() for joint in field))
            message = JointState(name=names)
            message.header.stamp = stamp
            for field, known in fields.items():  # nobody reads a joint that is not in the contract
                setattr(message, field, [known.get(joint, np.nan) for joint in names])
            yield self._topic(topic), message

    def _commands(self, action: NDArray[np.float64], stamp: Time) -> Iterator[tuple[str, Any]]:
        first = 0
        for part in self._contract.action:
            values = action[first : first + len(part.joints)]
            first += len(part.joints)
            yield self._topic(part.topic), command_encoder(part)(values, stamp)
