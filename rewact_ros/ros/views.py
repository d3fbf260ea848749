"""What the judged cameras show, small and grey, for the supervisor: `rewact/views`.

Whoever publishes the reward decodes the pictures anyway. So the supervisor needs no OpenCV, gets no
stream of large pictures, and sees what the judge sees.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import Image

from rewact_ros.contract import Contract
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.door import MalformedError
from rewact_ros.supervision.camera_check import WIDEST_PX, View, view_of

# An episode begins within this time of its reset, and copies cost a millisecond each.
PERIOD_S = 0.5
_NAME_LIMIT = 200  # characters of a camera's key
_HIGHEST_PX = 4 * WIDEST_PX


class ViewPublisher:
    """Publishes each camera's view twice a second; its `frame_id` is the camera's key."""

    def __init__(self, node: Node, contract: Contract) -> None:
        self._cameras = [camera.key for camera in contract.cameras if camera.depth is None]
        self._views = node.create_publisher(Image, names.VIEWS, names.EVENTS)
        self._published_s = -np.inf

    def publish(self, values: Mapping[str, Any], stamp: Time) -> None:
        """Take an observation, whose pictures are (H, W, 3) uint8 RGB, where a view is due."""
        now_s = time.monotonic()
        if now_s - self._published_s < PERIOD_S:
            return
        self._published_s = now_s
        for key in self._cameras:
            self._views.publish(view_message(key, view_of(values[key]), stamp))


def view_message(key: str, view: View, stamp: Time) -> Image:
    """A view (h, w) as a mono8 message."""
    height, width = view.shape
    msg = Image(height=height, width=width, encoding="mono8", step=width)
    msg.data.frombytes(view.tobytes())
    msg.header.stamp, msg.header.frame_id = stamp, key
    return msg


def read_view(msg: Image) -> tuple[str, View]:
    """The camera's key and its view (h, w).

    Raises:
        MalformedError: it is no view.
    """
    height, width, data = msg.height, msg.width, np.frombuffer(msg.data, np.uint8)
    fits = 16 <= width <= WIDEST_PX and 16 <= height <= _HIGHEST_PX and msg.step == width
    if msg.encoding != "mono8" or not fits or data.size != height * width:
        raise MalformedError(
            f"view: expected mono8 of 16 to {WIDEST_PX} px width, got {msg.encoding[:20]!r}, "
            f"{width} x {height} px, step {msg.step}, {data.size} bytes"
        )
    if not 0 < len(msg.header.frame_id) <= _NAME_LIMIT:
        raise MalformedError("view: frame_id: expected the camera's key, got none or a long one")
    return msg.header.frame_id, data.reshape(height, width)
