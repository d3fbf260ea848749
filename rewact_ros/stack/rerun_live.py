"""A robot that runs, in the Rerun viewer: pictures, joints, commands, progress and events."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node

from rewact_ros.contract import Camera, Contract, SampleError
from rewact_ros.contract.schema import StatePart
from rewact_ros.data.video.rerun_events import EVENT_TOPICS, EventLines
from rewact_ros.data.video.rerun_file import RerunFile, RerunLog, entity_of
from rewact_ros.data.video.rerun_viewer import RerunViewer, is_address
from rewact_ros.data.video.reward_chart import Reading
from rewact_ros.msg import ControlStatus, EpisodeEvent, Reward, SupervisorStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import command_decoder, command_type
from rewact_ros.ros.images import camera_sample, camera_type
from rewact_ros.ros.states import state_sample, state_type
from rewact_ros.stack.client import client_node
from rewact_ros.stack.node_thread import NodeThread

# More of each camera's pictures is more than an eye sees, and than a viewer keeps for long.
PICTURES_S = 0.1
_EVENT_KINDS = (EpisodeEvent, ControlStatus, SupervisorStatus)


def live_log(target: str, contract: Contract) -> RerunLog:
    """Where a live view goes: a viewer, where `target` is an address, or an .rrd file.

    Raises:
        RerunMissingError: rerun-sdk is not installed.
        ValueError: nobody listens at the address.
    """
    cameras, title = [camera.name for camera in contract.cameras], f"{contract.robot}, live"
    if is_address(target):
        return RerunViewer(target, title, cameras)
    return RerunFile(Path(target), title, cameras, live=True)


@contextmanager
def live_view(log: RerunLog, contract: Contract, namespace: str = "") -> Iterator["RerunLive"]:
    """Show a robot as long as the block lasts; a thread of its own takes the messages."""
    with log:
        thread = NodeThread(partial(client_node, "rewact_view", namespace))
        try:
            live = RerunLive(thread.node, contract, log)
            thread.start()
            yield live
        finally:
            thread.close()


class RerunLive:
    """Hears a robot and writes down what comes, by the time of its arrival in s since the start.

    Attributes:
        messages: so many were taken.
        refused: messages by topic that did not fit the contract, as the nodes would refuse them.

    Args:
        node: in the robot's namespace.
        contract: of the robot.
        out: of Rerun, inside its `with`.
    """

    def __init__(self, node: Node, contract: Contract, out: RerunLog) -> None:
        self.messages, self.refused = 0, dict[str, int]()
        self._out, self._start_s, self._lines = out, time.monotonic(), EventLines()
        self._pictured_s: dict[str, float] = {}

        def hear(kind: type, topic: str, qos: Any, take: Callable[[float, Any], None]) -> None:
            node.create_subscription(kind, topic, partial(self._take, topic, take), qos)

        for part in contract.state:
            entity = entity_of("joints", part, len(contract.state))
            out.names(entity, part.joints)
            hear(state_type(part), part.topic, names.SENSOR, partial(self._state, part, entity))
        for action in contract.action:
            entity = entity_of("commands", action, len(contract.action))
            out.names(entity, action.joints)
            take = partial(self._command, command_decoder(action), entity)
            hear(command_type(action), action.topic, names.SENSOR, take)
        for camera in contract.cameras:
            take = partial(self._picture, camera)
            hear(camera_type(camera), camera.topic, names.SENSOR, take)
        hear(Reward, names.REWARD, names.SENSOR, self._reward)
        for topic, kind in zip(EVENT_TOPICS, _EVENT_KINDS, strict=True):
            hear(kind, topic, names.EVENTS, partial(self._event, topic))

    def _take(self, topic: str, take: Callable[[float, Any], None], msg: Any) -> None:
        self.messages += 1
        try:
            take(time.monotonic() - self._start_s, msg)
        except SampleError:
            self.refused[topic] = self.refused.get(topic, 0) + 1

    def _state(self, part: StatePart, entity: str, at_s: float, msg: Any) -> None:
        self._out.numbers(at_s, entity, np.asarray(state_sample(part, msg, at_s).value))

    def _command(self, decode: Any, entity: str, at_s: float, msg: Any) -> None:
        self._out.numbers(at_s, entity, decode(msg))

    def _picture(self, camera: Camera, at_s: float, msg: Any) -> None:
        if at_s - self._pictured_s.get(camera.name, -PICTURES_S) < PICTURES_S:
            return
        self._pictured_s[camera.name] = at_s
        pixels = np.asarray(camera_sample(camera, msg, at_s).value, np.uint8)
        self._out.pictures(at_s, {camera.name: pixels})

    def _reward(self, at_s: float, msg: Reward) -> None:
        self._out.progress(at_s, "predicted", Reading(msg.value, msg.q10, msg.q90))

    def _event(self, topic: str, at_s: float, msg: Any) -> None:
        if line := self._lines.take(topic, msg):
            self._out.event(at_s, *line)
