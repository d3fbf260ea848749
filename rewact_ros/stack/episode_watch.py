"""What a commander's robot did in one episode, moment by moment."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Camera, Contract
from rewact_ros.msg import EpisodeEvent, Reward, SimTruth
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.images import camera_sample, camera_type
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.task import TaskResult
from rewact_ros.stamps import NANO

FRAME_PERIOD_S = 0.5


@dataclass
class EpisodeLog:
    """What was seen of one episode; times are header stamps in seconds, NaN until they come.

    Attributes:
        running_s: when the policy began to lead.
        verdict_s: when it was judged.
        rewards: (time, progress) since `running_s`.
        frames: (time, (H, W, 3) RGB) of the first camera, two a second until the verdict.
        true_success_s: when a simulation first had the task done.
        truth: newest of a simulation.
        policy_version: of the newest reward.
    """

    running_s: float = math.nan
    verdict_s: float = math.nan
    rewards: list[tuple[float, float]] = field(default_factory=list)
    frames: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    true_success_s: float = math.nan
    truth: SimTruth | None = None
    policy_version: str = ""


class EpisodeWatch:
    """Runs tasks by a commander and keeps what happens meanwhile.

    Args:
        robot: connected.
        contract: of the robot; its first camera is watched, where there is one.
    """

    def __init__(self, robot: Commander, contract: Contract) -> None:
        self._robot = robot
        self._log: EpisodeLog | None = None
        for kind, topic, call, qos in (
            (Reward, names.REWARD, self._on_reward, names.EVENTS),
            (EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS),
            (SimTruth, names.SIM_TRUTH, self._on_truth, names.EVENTS),
        ):
            robot.node.create_subscription(kind, topic, call, qos)
        for camera in contract.cameras[:1]:
            robot.node.create_subscription(
                camera_type(camera), camera.topic, partial(self._on_image, camera), names.SENSOR
            )

    def _on_reward(self, msg: Reward) -> None:
        log = self._log
        if log is not None and not math.isnan(log.running_s):
            log.rewards.append((to_ns(msg.header.stamp) / NANO, msg.value))
            log.policy_version = msg.policy_version

    def _on_event(self, msg: EpisodeEvent) -> None:
        log = self._log
        if log is None:
            return
        if msg.event == EpisodeEvent.RUNNING:
            log.running_s = to_ns(msg.header.stamp) / NANO
            log.true_success_s = math.nan
        elif msg.event == EpisodeEvent.VERDICT:
            log.verdict_s = to_ns(msg.header.stamp) / NANO

    def _on_truth(self, msg: SimTruth) -> None:
        log = self._log
        if log is None:
            return
        log.truth = msg
        if msg.success and math.isnan(log.true_success_s):
            log.true_success_s = to_ns(msg.header.stamp) / NANO

    def _on_image(self, camera: Camera, msg: Any) -> None:
        log = self._log
        if log is None or math.isnan(log.running_s) or not math.isnan(log.verdict_s):
            return
        stamp_s = to_ns(msg.header.stamp) / NANO
        if not log.frames or stamp_s - log.frames[-1][0] >= FRAME_PERIOD_S:
            sample = camera_sample(camera, msg, stamp_s)
            log.frames.append((stamp_s, np.array(sample.value, dtype=np.uint8)))

    def execute(
        self, task: str, timeout_s: float = 0.0, settle_s: float = 1.0
    ) -> tuple[TaskResult, EpisodeLog]:
        """As `Commander.execute`; then watch `settle_s` longer for what really happened."""
        self._log = log = EpisodeLog()
        try:
            result = self._robot.execute(task, timeout_s)
            self._robot.pause(settle_s)
        finally:
            self._log = None
        return result, log
