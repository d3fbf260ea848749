"""A robot's camera and joint topics as complete observations, for the nodes that judge images."""

from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from rewact_ros.contract import Contract, Frame, FrameAssembler, SampleError, Stale
from rewact_ros.contract.frames import Sample, state_stream
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.convert import camera_sample, camera_type, state_sample


class Observations:
    """Subscribes to what a contract observes and gives each complete observation to ``take``.

    Attributes:
        open: while False, messages are not even looked at.
        refused: messages that did not carry what the contract promises.
    """

    def __init__(
        self, node: Node, contract: Contract, clock: NodeClock, take: Callable[[Frame], None]
    ) -> None:
        self.open = True
        self.refused = 0
        self._node, self._contract, self._clock, self._take = node, contract, clock, take
        self._assembler = FrameAssembler(contract)
        self._stale: Stale | None = None
        self._unusable: dict[str, str] = {}
        self._last_frame_s = -np.inf
        self._inputs = []
        for i, part in enumerate(contract.state):

            def on_state(msg, part=part, i=i):  # type: ignore[no-untyped-def]
                self._store(state_stream(i), lambda now_s: state_sample(part, msg, now_s))

            self._inputs.append(
                node.create_subscription(JointState, part.topic, on_state, names.SENSOR)
            )
        for camera in contract.cameras:

            def on_image(msg, camera=camera):  # type: ignore[no-untyped-def]
                self._store(camera.key, lambda now_s: camera_sample(camera, msg, now_s))

            self._inputs.append(
                node.create_subscription(camera_type(camera), camera.topic, on_image, names.SENSOR)
            )

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._inputs:
            self._node.destroy_subscription(subscription)

    def _store(self, stream: str, read: Callable[[float], Sample]) -> None:
        if not self.open:
            return
        now = self._clock.now()
        try:
            self._assembler.put(stream, read(now.age_s))
            self._unusable.pop(stream, None)
        except SampleError as error:
            # The stream goes stale by its own age limit; the reason is kept for the status.
            self.refused += 1
            self._unusable[stream] = str(error)
            return
        frame = self._assembler.assemble(now.age_s, now.ros_ns)
        if isinstance(frame, Frame):
            self._stale, self._last_frame_s = None, now.age_s
            self._take(frame)
        elif isinstance(frame, Stale):
            self._stale = frame

    def fault(self) -> tuple[str, str]:
        """(stream, reason) that keeps observations from being complete, or two empty strings."""
        now = self._clock.now()
        reference = self._contract.cameras[0]
        age_s = now.age_s - self._last_frame_s
        if age_s <= reference.max_age_s and not (self._stale and self._stale.frozen):
            return "", ""
        stale = self._stale or self._assembler.check_fresh(now.age_s, now.ros_ns)
        stale = stale or Stale(reference.key, f"no new image for {age_s:.2f} s")
        # Why its messages are unusable explains more than the age that follows from it.
        for stream in (stale.stream, *self._unusable):
            if stream in self._unusable:
                return stream, self._unusable[stream]
        return stale.stream, stale.reason
