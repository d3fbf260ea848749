"""The cameras' newest pictures, for pages that look; nobody looks: nothing is even subscribed."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription

from rewact_ros.contract import Camera, SampleError
from rewact_ros.data.review.pictures import page_jpeg
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.images import camera_sample, camera_type


class Pictures:
    """Newest message of each camera of a contract.

    Args:
        node: that subscribes.
        cameras: of the contract.
        later: runs a function in the node's executor, soon.
    """

    def __init__(
        self,
        node: Node,
        cameras: tuple[Camera, ...],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self.cameras = cameras
        self._node, self._later = node, later
        self._newest: dict[str, tuple[int, Any]] = {}
        self._subscriptions: list[Subscription] = []
        self._lock, self._lookers = threading.Lock(), 0

    def look(self, more: int) -> None:
        """So many more pages look; fewer, if negative."""
        with self._lock:
            self._lookers += more
        self._later(self._follow)

    def _follow(self) -> None:
        """Subscribe to the cameras while somebody looks."""
        if self._lookers > 0 and not self._subscriptions:
            self._subscriptions = [
                self._node.create_subscription(
                    camera_type(camera), camera.topic, partial(self._keep, camera), names.SENSOR
                )
                for camera in self.cameras
            ]
        elif self._lookers <= 0 and self._subscriptions:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions, self._newest = [], {}

    def _keep(self, camera: Camera, msg: Any) -> None:
        number, _ = self._newest.get(camera.name, (0, None))
        self._newest[camera.name] = (number + 1, msg)

    def newest(self, camera: Camera) -> tuple[int, Any]:
        """Number and message of the newest picture; (0, None): there is none."""
        return self._newest.get(camera.name, (0, None))


def as_jpeg(camera: Camera, msg: Any) -> bytes:
    """A message as a JPEG that a page can show, as `page_jpeg` makes it.

    Raises:
        SampleError: it is no picture of this camera; the message says why.
    """
    pixels = np.asarray(camera_sample(camera, msg, 0.0).value)
    try:
        return page_jpeg(pixels)
    except ValueError as error:
        raise SampleError(f"{camera.topic}: {error}") from error
