"""Subscriptions that are polled: of many messages, waking the executor for each costs the most."""

from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class Polled(CallbackGroup):
    """Keeps its subscriptions out of the executor."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


def subscribe_polled(
    node: Node, kind: type, topic: str, callback: Any, qos: QoSProfile, group: Polled, **more: Any
) -> Subscription:
    """A subscription whose messages wait in the middleware, as many as its depth, for `poll`."""
    return node.create_subscription(
        kind,
        topic,
        callback,
        qos,
        callback_group=group,
        event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        **more,
    )


def poll(subscription: Subscription) -> None:
    """Give its callback all that waits, at most as many messages as its depth."""
    for _ in range(subscription.qos_profile.depth):
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        subscription.callback(taken[0])
