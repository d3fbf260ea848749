"""Which curves and cameras a recording has: by its contract, else by the types that it holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import (
    ActionPart,
    Camera,
    Contract,
    ContractError,
    SampleError,
    StatePart,
    parse_contract,
)
from rewact_ros.contract.tables import JOINT_STATE
from rewact_ros.data.bags.episode_file import EpisodeRecord
from rewact_ros.data.bags.reader import REWARD_TOPIC, Bag
from rewact_ros.ros.commands import command_decoder, command_type
from rewact_ros.ros.images import camera_sample, decode_image
from rewact_ros.ros.states import state_sample

JOINTS, COMMANDS, PROGRESS = "joints", "commands", "progress"
# Of one episode; the page would show no more, and a contract may have a thousand joints.
MOST_SERIES = 96
_IMAGE = "sensor_msgs/msg/Image"
_REWARD = "rewact_ros/msg/Reward"
Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """Curves that come in the messages of one topic.

    Attributes:
        group: `JOINTS`, `COMMANDS` or `PROGRESS`.
        title: what they are, with the unit.
        topic: full name.
        names: of the curves.
        read: message → a number per name; raises SampleError.
    """

    group: str
    title: str
    topic: str
    names: tuple[str, ...]
    read: Callable[[Any], Numbers]


@dataclass(frozen=True)
class Pictures:
    """A camera: its name, the full name of its topic, and message → (H, W, 3) uint8 RGB."""

    name: str
    topic: str
    read: Callable[[Any], NDArray[np.uint8]]


def contract_of(record: EpisodeRecord | None) -> Contract | None:
    """The contract that a recording carries; None: none, or one that cannot be read here."""
    if record is None or record.contract is None:
        return None
    try:
        return parse_contract(record.contract)
    except ContractError:
        return None


def streams_of(bag: Bag, contract: Contract | None) -> list[Stream]:
    """The curves of an open recording, progress first."""
    found = [_progress(bag.resolve(REWARD_TOPIC))]
    if contract is None:
        found += [
            _any_joints(bag, name) for name, type_ in bag.topics.items() if type_ == JOINT_STATE
        ]
    else:
        found += [_state(bag, part) for part in contract.state]
        found += [_command(bag, part) for part in contract.action]
    there, left = [], MOST_SERIES
    types = {_REWARD, JOINT_STATE} | _types(contract)
    for stream in found:
        if bag.topics.get(stream.topic) in types and 0 < len(stream.names) <= left:
            there.append(stream)
            left -= len(stream.names)
    return there


def cameras_of(bag: Bag, contract: Contract | None) -> list[Pictures]:
    """The cameras of an open recording; without a contract those of raw pictures."""
    if contract is None:
        return [
            Pictures(name.strip("/"), name, partial(_raw, name))
            for name, type_ in sorted(bag.topics.items())
            if type_ == _IMAGE
        ]
    return [
        Pictures(camera.name, bag.resolve(camera.topic), partial(_of_contract, camera))
        for camera in contract.cameras
        if bag.topics.get(bag.resolve(camera.topic)) == camera.type
    ]


def _types(contract: Contract | None) -> set[str]:
    if contract is None:
        return set()
    commands = {part.type for part in contract.action}
    return commands | {part.type for part in contract.state}


def _progress(topic: str) -> Stream:
    def read(body: Any) -> Numbers:
        return [float(body.value), float(body.q10), float(body.q90)]

    return Stream(PROGRESS, "progress", topic, ("value", "q10", "q90"), read)


def _state(bag: Bag, part: StatePart) -> Stream:
    def read(body: Any) -> Numbers:
        return np.asarray(state_sample(part, body, 0.0).value, np.float64)

    title = _title(part.name or part.field, part.units)
    return Stream(JOINTS, title, bag.resolve(part.topic), part.joints, read)


def _command(bag: Bag, part: ActionPart) -> Stream:
    title = _title(f"commanded {part.command}", part.units)
    command_type(part)
    return Stream(COMMANDS, title, bag.resolve(part.topic), part.joints, command_decoder(part))


def _title(what: str, units: tuple[str, ...]) -> str:
    return f"{what} [{', '.join(dict.fromkeys(units))}]"


def _any_joints(bag: Bag, topic: str) -> Stream:
    """Joints by the names of the first message."""
    first = next(bag.messages([topic]), None)
    names = tuple(map(str, first.body.name)) if first is not None else ()

    def read(body: Any) -> Numbers:
        if tuple(body.name) != names or len(body.position) != len(names):
            raise SampleError(f"{topic}: other joints than in the first message")
        return np.asarray(body.position, np.float64)

    return Stream(JOINTS, f"{topic} position", topic, names, read)


def _raw(topic: str, body: Any) -> NDArray[np.uint8]:
    return decode_image(body, topic)


def _of_contract(camera: Camera, body: Any) -> NDArray[np.uint8]:
    return np.asarray(camera_sample(camera, body, 0.0).value, np.uint8)
