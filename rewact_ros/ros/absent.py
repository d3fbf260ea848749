"""What to say where nobody answers: what was looked for, where, and how to start it."""

import os

from rclpy.node import Node


def nobody(node: Node, kind: str, name: str, timeout_s: float) -> str:
    """A line about a topic, service or action that no one has.

    Args:
        node: who looked.
        kind: `topic`, `service` or `action`.
        name: relative to the node's namespace, or whole.
        timeout_s: how long it looked.
    """
    whole, space = node.resolve_topic_name(name), node.get_namespace()
    domain = os.environ.get("ROS_DOMAIN_ID", "").strip() or "0"
    option = f" --namespace {space}" if space != "/" else ""
    return (
        f"no {kind} {whole} in ROS domain {domain} within {timeout_s:g} s: start the robot with "
        f"`rewact up{option}`, or mend ROS_DOMAIN_ID or --namespace"
    )
