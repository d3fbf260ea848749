"""What was found of a robot and its machine, as plain values; whoever asks ROS fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.found import JointModel
from rewact_ros.contract.schema import Contract
from rewact_ros.control.path import CommandPath
from rewact_ros.control.watch import Now
from rewact_ros.stamps import NANO

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Endpoint:
    """A publisher or a subscription of another node.

    Attributes:
        node: full name.
        type: of its messages.
        mismatch: why its QoS does not meet ours; empty: it does.
    """

    node: str
    type: str
    mismatch: str = ""


@dataclass(frozen=True)
class Graph:
    """Who is there and who says what; names of topics are whole.

    Attributes:
        types: of every topic of the domain.
        publishers, listeners: of the topics that matter, ours left out.
        controllers: (node, topic) that listens for commands → (joints that it takes, in order;
            position or velocity); only of those that say so.
    """

    nodes: tuple[str, ...]
    types: Mapping[str, tuple[str, ...]]
    publishers: Mapping[str, tuple[Endpoint, ...]]
    listeners: Mapping[str, tuple[Endpoint, ...]]
    controllers: Mapping[tuple[str, str], tuple[tuple[str, ...], str]] = field(default_factory=dict)


@dataclass
class Heard:
    """What came of one topic within the time of listening; a row for each message.

    Attributes:
        where: key of the contract that names the topic.
        topic: whole name.
        limit_s: `max_age_s` of the contract.
        arrivals_s: on the steady clock.
        stamps_ns, ros_ns: of the header, and the ROS clock on arrival.
        sequences: number of the message among its publisher's; None: the middleware does not say.
        refused: why its newest unusable message is that; empty: none was.
    """

    where: str
    topic: str
    type: str
    limit_s: float
    arrivals_s: list[float] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)
    ros_ns: list[int] = field(default_factory=list)
    sequences: list[int | None] = field(default_factory=list)
    refused: str = ""

    @property
    def count(self) -> int:
        """Messages that came."""
        return len(self.arrivals_s)

    @property
    def received_hz(self) -> float:
        """Rate of arrival; 0 where fewer than three came."""
        span_s = self.arrivals_s[-1] - self.arrivals_s[0] if self.count > 2 else 0.0
        return (self.count - 1) / span_s if span_s > 0 else 0.0

    @property
    def published_hz(self) -> float:
        """Rate at which it was sent, those that were lost included; as far as numbers tell."""
        sent = self._sent
        span_s = self.arrivals_s[-1] - self.arrivals_s[0] if self.count > 2 else 0.0
        return sent / span_s if sent and span_s > 0 else self.received_hz

    @property
    def lost(self) -> float:
        """Share of the messages between the first and the last that never came."""
        return 1 - (self.count - 1) / self._sent if self._sent else 0.0

    @property
    def _sent(self) -> int:
        """Messages after the first, by the numbers of one publisher; 0: they do not tell."""
        known = [number for number in self.sequences if number is not None]
        rising = all(a < b for a, b in pairwise(known))
        return known[-1] - known[0] if len(known) == self.count > 2 and rising else 0

    @property
    def gaps_s(self) -> NDArray[np.float64]:
        """(n,) between two messages of which none between was lost.

        By their stamps where these rise: then a stall of whoever listens does not count.
        """
        stamps_s = np.array(self.stamps_ns, float) / NANO
        rise = len(stamps_s) > 1 and bool((np.diff(stamps_s) > 0).all())
        gaps = np.diff(stamps_s if rise else np.array(self.arrivals_s))
        if not self._sent:
            return gaps
        return gaps[np.diff(np.array([number or 0 for number in self.sequences])) == 1]

    @property
    def ages_s(self) -> NDArray[np.float64]:
        """(n,) header stamps' ages on arrival."""
        return (np.array(self.ros_ns) - np.array(self.stamps_ns)) / NANO


@dataclass
class JointsHeard(Heard):
    """One part of the observed state.

    Attributes:
        names, values: of the newest message of joints; the field that the contract observes.
        state: what that means in our units, in the contract's order; empty: none could be used.
        travel: furthest way of a joint while listening, in its unit.
    """

    names: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    state: tuple[float, ...] = ()
    travel: float = 0.0


@dataclass
class CameraHeard(Heard):
    """Pictures of one camera.

    Attributes:
        name: of the camera in the contract.
        size: (height, width) of the newest, px; None: none came, or it has none.
        checksums: of the bytes of each.
        picture: the newest, (h, w, 3) uint8 RGB; None: none could be decoded.
    """

    name: str = ""
    size: tuple[int, int] | None = None
    checksums: list[int] = field(default_factory=list)
    picture: Pixels | None = None


@dataclass(frozen=True)
class Machine:
    """This computer, as far as a robot on it cares.

    Attributes:
        environment: variables of ROS and of its middleware.
        rmw: that is in use; empty: not known.
        missing: packages that cannot be imported.
        open_files: soft limit of this process.
        shared_memory_free, memory_free: bytes.
        disk_free: bytes by folder.
        realtime: whether a process of this user may have a real-time priority.
        synchronised: whether the kernel's clock is kept in step; None: not known.
        load: processes that want a core, of the last minute; cores: how many there are.
        gpus: NVIDIA devices.
    """

    environment: Mapping[str, str]
    rmw: str
    missing: tuple[str, ...]
    open_files: int
    shared_memory_free: int
    memory_free: int
    disk_free: Mapping[str, int]
    realtime: bool
    synchronised: bool | None
    load: float
    cores: int
    gpus: int


@dataclass(frozen=True)
class Model:
    """The robot model of `/robot_description`; joints by name; fault: why it cannot be used."""

    joints: Mapping[str, JointModel]
    fault: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A policy's files, read without PyTorch.

    Attributes:
        fault: why they cannot be read; nothing else is then known.
        signature, contract_hash: of the contract that it was trained with, where it carries one.
        shapes: input or output of the network → its shape.
        statistics: feature → name (mean, std, min, max, q01 …) → array.
        version: of the weights.
        weights_bytes: size of the weights.
    """

    path: str
    fault: str = ""
    signature: Mapping[str, Any] | None = None
    contract_hash: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, NDArray[np.generic]]] = field(default_factory=dict)
    version: str = ""
    weights_bytes: int = 0


@dataclass(frozen=True)
class Dataset:
    """Training data: its features, and the first picture of each camera that has one."""

    path: str
    fault: str = ""
    signature: Mapping[str, Any] | None = None
    pictures: Mapping[str, Pixels] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibrationFacts:
    """A supervisor's calibration; fault: why it cannot be read, or claims nothing here."""

    path: str
    fault: str = ""
    claim: str = ""


@dataclass(frozen=True)
class Engine:
    """What shall run the policy; installed: whether its package is there."""

    name: str
    device: str
    installed: bool


@dataclass
class Facts:
    """All of it; what is None was not asked for.

    Attributes:
        namespace: of the robot.
        path: the command path as hil would have it after these messages.
        now: when the listening ended, on the clocks of `path`.
        clock: whether somebody publishes `/clock`.
        no_graph: why nobody looked at the graph.
        teleop_buttons: source → buttons of its newest Joy message; None: none came.
    """

    machine: Machine | None = None
    contract: Contract | None = None
    namespace: str = "/"
    graph: Graph | None = None
    no_graph: str = "give --contract"
    joints: list[JointsHeard] | None = None
    cameras: list[CameraHeard] | None = None
    path: CommandPath | None = None
    now: Now | None = None
    clock: bool = False
    teleop_buttons: dict[str, int | None] = field(default_factory=dict)
    model: Model | None = None
    checkpoint: Checkpoint | None = None
    dataset: Dataset | None = None
    calibration: CalibrationFacts | None = None
    engine: Engine | None = None
