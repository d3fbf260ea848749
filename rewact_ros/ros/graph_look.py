"""The graph as one look sees it: who publishes and who listens, and whether QoS of both meet."""

from collections.abc import Iterable

from rclpy.duration import Infinite
from rclpy.node import Node
from rclpy.qos import LivelinessPolicy, QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from rewact_ros.checks.facts import Endpoint, Graph
from rewact_ros.ros.graph_watch import NAMELESS, UNKNOWN
from rewact_ros.ros.interfaces import COMMAND, SENSOR
from rewact_ros.text import printable


def look(node: Node, topics: Iterable[str]) -> Graph:
    """See who is there; the node itself and what it listens to are left out.

    Args:
        node: who looks.
        topics: whole names of those that matter.
    """
    own, wanted = node.get_fully_qualified_name(), list(topics)
    infos = node.get_subscriptions_info_by_topic
    spaces = node.get_node_names_and_namespaces()
    nodes = sorted(f"{space.rstrip('/')}/{name}" for name, space in spaces)
    publishers = {
        topic: tuple(map(_as_publisher, node.get_publishers_info_by_topic(topic)))
        for topic in wanted
    }
    listeners = {
        topic: tuple(each for each in map(_as_listener, infos(topic)) if each.node != own)
        for topic in wanted
    }
    types = {name: tuple(kinds) for name, kinds in node.get_topic_names_and_types()}
    # Our own subscriptions make a topic exist that nobody publishes.
    for topic in wanted:
        if not publishers[topic] and not listeners[topic]:
            types.pop(topic, None)
    return Graph(tuple(name for name in nodes if name != own), types, publishers, listeners)


def _as_publisher(info: TopicEndpointInfo) -> Endpoint:
    return _endpoint(info, info.qos_profile, _told(SENSOR))


def _as_listener(info: TopicEndpointInfo) -> Endpoint:
    return _endpoint(info, _told(COMMAND), info.qos_profile)


def _told(profile: QoSProfile) -> QoSProfile:
    """As the graph tells a profile: what is not set has no end."""
    return QoSProfile(
        depth=profile.depth,
        reliability=profile.reliability,
        durability=profile.durability,
        liveliness=LivelinessPolicy.AUTOMATIC,
        deadline=Infinite,
        lifespan=Infinite,
        liveliness_lease_duration=Infinite,
    )


def _endpoint(info: TopicEndpointInfo, offered: QoSProfile, asked: QoSProfile) -> Endpoint:
    known = UNKNOWN not in f"{info.node_namespace}{info.node_name}"
    name = f"{info.node_namespace.rstrip('/')}/{info.node_name}" if known else NAMELESS
    level, reason = qos_check_compatible(offered, asked)
    met = level != QoSCompatibility.ERROR
    return Endpoint(printable(name), info.topic_type, "" if met else printable(reason).strip("; "))
