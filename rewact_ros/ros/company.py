"""Whether a robot is in this ROS domain already, where a simulated or replayed one is to begin."""

import time
from collections.abc import Iterable

from rclpy.node import Node

from rewact_ros.ros.graph_look import look

# Discovery on one machine takes a few tenths of this; over a network it may take longer.
LISTEN_S = 1.0


class CompanyError(RuntimeError):
    """Somebody else's robot is here; the message says who, what and the mend."""


def require_alone(node: Node, topics: Iterable[str]) -> None:
    """Refuse to be a robot where another one is: what is commanded for this one would move that.

    The lock of a bring-up knows of bring-ups alone. A robot's drivers are known by what they
    publish. What an earlier process of this name has left in the graph does not count.

    Args:
        node: that is going to publish; it has not begun.
        topics: that it will publish, as in the contract.

    Raises:
        CompanyError: another node publishes one of them.
    """
    own, whole = node.get_fully_qualified_name(), [node.resolve_topic_name(t) for t in topics]
    end_s = time.monotonic() + LISTEN_S
    while time.monotonic() < end_s:
        for topic, publishers in look(node, whole).publishers.items():
            for publisher in publishers:
                if publisher.node == own:
                    continue
                raise CompanyError(
                    f"{topic}: expected nobody in this ROS domain, got {publisher.node}: a robot "
                    "is here, and what is simulated or replayed would be taken for it, and might "
                    "move it; set ROS_DOMAIN_ID to a domain without it, or stop it"
                )
        time.sleep(0.1)
