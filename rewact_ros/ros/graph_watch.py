"""Who else publishes where this node should be alone, heard and seen."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from rewact_ros.ros.convert import publication_sequence

# A publisher that was heard counts so long, though it may have left again.
MEMORY_S = 3.0
# Matches every publisher; deeper than what comes between two ticks, of which one message is enough.
HEARING = QoSProfile(
    depth=20, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
UNKNOWN = "_UNKNOWN_"  # part of the name by which the graph calls a node that it does not know yet
NAMELESS = "a node whose name the graph does not know"


def publisher_names(node: Node, topic: str) -> list[str]:
    """Full names of the nodes that publish on a topic, one for each publisher."""
    found = []
    for info in node.get_publishers_info_by_topic(node.resolve_topic_name(topic)):
        known = UNKNOWN not in f"{info.node_namespace}{info.node_name}"
        space = info.node_namespace.rstrip("/")
        found.append(f"{space}/{info.node_name}" if known else NAMELESS)
    return found


def other_publishers(node: Node, topic: str) -> list[str]:
    """As `publisher_names`, sorted and without the one publisher that the node itself has."""
    if node.count_publishers(topic) <= 1:  # far cheaper, and nearly always so
        return []
    found = publisher_names(node, topic)
    own = node.get_fully_qualified_name()
    if own in found:
        found.remove(own)  # once: a second one of our name is a stranger too
    return sorted(set(found))


@dataclass
class _Own:
    """One topic of ours: how much was sent, and the number of the last that came back."""

    publisher: Publisher
    sent: int = 0
    returned: int = 0


class OwnTopics:
    """Listens on the topics that only this node may publish on.

    The messages of a publisher are numbered 1, 2, 3 …: one whose number this node did not send, or
    that came before, is another's, however briefly that one was there. Which one, the graph says as
    long as it is there.

    Args:
        node: with one publisher for each topic.
        publishers: of these topics.
        report: gets who else publishes, as one text, and an empty one when nobody does any more.
    """

    def __init__(
        self, node: Node, publishers: list[Publisher], report: Callable[[str], object]
    ) -> None:
        self._node, self._report = node, report
        self._heard_s = -MEMORY_S
        self._named = ""
        self._own = [_Own(publisher) for publisher in publishers]
        self._by_publisher = {own.publisher: own for own in self._own}
        for own in self._own:
            node.create_subscription(
                own.publisher.msg_type,
                own.publisher.topic_name,
                partial(self._on_message, own),
                HEARING,
                raw=True,  # whose it is tells all
            )

    def sent(self, publishers: Iterable[Publisher]) -> None:
        """One message has gone out by each of these."""
        for publisher in publishers:
            self._by_publisher[publisher].sent += 1

    def look(self) -> None:
        """See who is there; call it a few times a second."""
        found: set[str] = set()
        for own in self._own:
            found.update(other_publishers(self._node, own.publisher.topic_name))
        if found - {NAMELESS}:
            self._named = ", ".join(sorted(found - {NAMELESS}))
        elif found or time.monotonic() - self._heard_s <= MEMORY_S:
            self._named = self._named or NAMELESS
        else:
            self._named = ""
        self._report(self._named)

    def _on_message(self, own: _Own, message: bytes, info: dict[str, int | None]) -> None:
        number = publication_sequence(info)
        if number is None:  # not told by this middleware: more than was sent cannot be ours
            number = own.returned + 1
        if own.returned < number <= own.sent:
            own.returned = number
            return
        self._heard_s = time.monotonic()
        self.look()
