"""Serialized messages of chosen topics, whoever publishes them and whenever they appear."""

import importlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from rewact_ros.data.bags.message_types import MessageType, is_installed, message_type
from rewact_ros.data.bags.metadata import BagTopic
from rewact_ros.data.bags.sequence_gaps import SequenceGaps
from rewact_ros.data.bags.writer_thread import RawMessage
from rewact_ros.ros.convert import publication_sequence
from rewact_ros.ros.polled import Polled, subscribe_polled
from rewact_ros.text import printable

# Messages that may wait in the middleware between two polls; also the most taken at once.
DEPTH = 100
# State of this many latched publishers is kept at most.
MAX_LATCHED = 100
NANO = 1_000_000_000


@dataclass
class _Joined:
    """One subscription, and what the publishers' sequence numbers show to be lost."""

    subscription: Subscription
    type: type
    qos: QoSProfile
    gaps: SequenceGaps


class RawTopics:
    """Joins every topic that is wanted, with the QoS that its publishers offer.

    Reliable and latched only where all publishers are, so that none is left out. Subscribing never
    makes a publisher wait: histories are bounded, and what does not fit is lost and counted here.

    Args:
        node: polled by `poll`, not by its executor.
        wanted: full topic name → whether to join it.
        warn: gets one line for each wanted topic that cannot be joined.
    """

    def __init__(
        self, node: Node, wanted: Callable[[str], bool], warn: Callable[[str], object]
    ) -> None:
        self.lost: Counter[str] = Counter()
        self._node, self._wanted, self._warn = node, wanted, warn
        self._group = Polled()
        self._joined: dict[str, _Joined] = {}
        self._refused: set[str] = set()
        self._sim_time = bool(node.get_parameter("use_sim_time").value)

    def discover(self) -> list[tuple[BagTopic, int]]:
        """Join what is new, and join anew what would be left out; call it twice a second.

        Returns:
            Topics joined by this call, each with how many of its last messages are latched state.
        """
        found = []
        for name, types in self._node.get_topic_names_and_types():
            if name in self._refused or _is_hidden(name) or not self._wanted(name):
                continue
            offers = self._node.get_publishers_info_by_topic(name)
            if not offers:
                continue
            qos = _matching(offers)
            joined = self._joined.get(name)
            if joined is not None and not _is_weaker(qos, joined.qos):
                joined.gaps.expect(len(offers))
                continue
            if self._join(name, types[0], qos, len(offers)):
                found.append((_bag_topic(name, types[0], offers), _latched(qos, offers)))
        return found

    def poll(self) -> list[RawMessage]:
        """Take all messages that have come, in the order of their receipt."""
        messages: list[RawMessage] = []
        sim_ns = self._node.get_clock().now().nanoseconds if self._sim_time else 0
        for name, joined in self._joined.items():
            take = joined.subscription.handle.take_message
            for _ in range(DEPTH):
                taken = take(joined.type, True)
                if taken is None:
                    break
                data, info = taken
                messages.append(self._message(name, joined, data, info, sim_ns))
        messages.sort(key=lambda message: message.log_ns)
        return messages

    def _message(
        self, name: str, joined: _Joined, data: bytes, info: dict[str, int | None], sim_ns: int
    ) -> RawMessage:
        sequence = publication_sequence(info)
        if sequence is None:
            sequence = 0
        else:
            self.lost[name] += joined.gaps.lost(sequence)
        if self._sim_time:
            log_ns = publish_ns = sim_ns
        else:
            log_ns = info.get("received_timestamp") or time.time_ns()
            publish_ns = info.get("source_timestamp") or log_ns
        return RawMessage(name, data, log_ns, publish_ns, sequence & 0xFFFFFFFF)

    def _join(self, name: str, type_name: str, qos: QoSProfile, publishers: int) -> bool:
        class_ = message_class(type_name)
        if class_ is None:
            self._refused.add(name)
            self._warn(
                f"{printable(name)} is NOT recorded: messages of type {printable(type_name)} are "
                "not installed here; install the package that defines them, or leave the topic out"
            )
            return False
        old = self._joined.pop(name, None)
        if old is not None:
            self._node.destroy_subscription(old.subscription)
        subscription = subscribe_polled(
            self._node, class_, name, lambda message: None, qos, self._group, raw=True
        )
        gaps = SequenceGaps()
        gaps.expect(publishers)
        self._joined[name] = _Joined(subscription, class_, qos, gaps)
        return old is None


def message_class(type_name: str) -> type | None:
    """Python class of a message type such as `sensor_msgs/msg/Joy`; None: not installed.

    Anybody in the graph names types: nothing is imported but an installed interface package.
    """
    if not is_installed(type_name):
        return None
    package, folder, name = type_name.split("/")
    try:
        found = getattr(importlib.import_module(f"{package}.{folder}"), name, None)
    except ImportError:
        return None
    return found if hasattr(found, "get_fields_and_field_types") else None


def _is_hidden(name: str) -> bool:
    """Whether a topic is a tool's own business, such as those of actions."""
    return any(part.startswith("_") for part in name.split("/"))


def _matching(offers: list[TopicEndpointInfo]) -> QoSProfile:
    """The strongest request that every publisher meets."""
    reliable = all(o.qos_profile.reliability == ReliabilityPolicy.RELIABLE for o in offers)
    latched = all(o.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers)
    return QoSProfile(
        depth=DEPTH,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _is_weaker(one: QoSProfile, other: QoSProfile) -> bool:
    return (one.reliability, one.durability) != (other.reliability, other.durability) and (
        one.reliability >= other.reliability and one.durability >= other.durability
    )


def _latched(qos: QoSProfile, offers: list[TopicEndpointInfo]) -> int:
    if qos.durability != DurabilityPolicy.TRANSIENT_LOCAL:
        return 0
    # Fast DDS does not announce depths: then one message of each publisher.
    return min(sum(max(offer.qos_profile.depth, 1) for offer in offers), MAX_LATCHED)


def _bag_topic(name: str, type_name: str, offers: list[TopicEndpointInfo]) -> BagTopic:
    known = message_type(type_name)
    announced = str(offers[0].topic_type_hash)
    type_hash = known.type_hash if announced == "INVALID" else announced
    qos = tuple(_qos_mapping(offer.qos_profile) for offer in offers)
    return BagTopic(name, MessageType(type_name, known.definition, type_hash), qos)


def _qos_mapping(qos: QoSProfile) -> dict[str, Any]:
    """A profile in the words of rosbag2."""
    return {
        "history": qos.history.name.lower(),
        "depth": qos.depth,
        "reliability": qos.reliability.name.lower(),
        "durability": qos.durability.name.lower(),
        "deadline": _duration_mapping(qos.deadline),
        "lifespan": _duration_mapping(qos.lifespan),
        "liveliness": qos.liveliness.name.lower(),
        "liveliness_lease_duration": _duration_mapping(qos.liveliness_lease_duration),
        "avoid_ros_namespace_conventions": qos.avoid_ros_namespace_conventions,
    }


def _duration_mapping(duration: Duration) -> dict[str, int]:
    seconds, nanoseconds = divmod(duration.nanoseconds, NANO)
    return {"sec": seconds, "nsec": nanoseconds}
