"""Node `judge`: the reward of a policy that does not act, while anything else moves the robot.

It publishes what node `policy` publishes of its own reward, in every control mode, and neither
chunks nor a heartbeat.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rewact_ros.msg import ControlStatus, EpisodeEvent
from rewact_ros.nodes.scoring_node import ScoringNode
from rewact_ros.policy.engine import Prediction
from rewact_ros.policy.task_table import ByTask, UnknownTaskError, table_of
from rewact_ros.reward.judges import Judge, JudgeSettings, open_judge
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.observations import Observation
from rewact_ros.ros.params import JudgeParams
from rewact_ros.ros.prediction_messages import RewardPublishers
from rewact_ros.ros.process import run_node
from rewact_ros.stamps import NANO
from rewact_ros.supervision.supervisor import TASK_LIMIT
from rewact_ros.text import printable


@dataclass(frozen=True)
class _Resident:
    """A judge that is warm, and the version of its weights."""

    judge: Judge
    version: str


@dataclass(frozen=True)
class _Scored:
    """What a judge found; another may judge by the time that it is published."""

    by: _Resident
    prediction: Prediction


class JudgeNode(ScoringNode):
    """A judge's score of the newest observation."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("judge", JudgeParams, "reward", **node_arguments)
        table = table_of(self.params, ("model",))
        opened = cache(self._open)  # one judge a checkpoint
        self._by_task = (
            ByTask.one(opened(Path(self.params.model).expanduser().resolve()))
            if table is None
            else table.by_task(lambda row: opened(row.judged_by.resolve()))
        )
        self._resident, self._last, self._epoch = self._by_task.usual, self._by_task.usual, 0
        self._rewards = RewardPublishers(self)
        self.begin()
        self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        if table is not None:
            self.create_subscription(
                EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS
            )

    def _open(self, folder: Path) -> _Resident:
        p = self.params
        settings = JudgeSettings(p.device, p.engine, p.precision, p.threads)
        judge, version = open_judge(folder, self.contract, settings, self.get_logger().warning)
        judge.warm_up()
        _ = judge.reward_hash  # which reads all weights once
        self.get_logger().info(f"judge {version}: {judge.description}")
        return _Resident(judge, version)

    @property
    def version(self) -> str:
        """Of the judge's weights."""
        return self._resident.version

    def _on_control(self, msg: ControlStatus) -> None:
        self._observations.epoch = msg.epoch

    def _on_event(self, msg: EpisodeEvent) -> None:
        """Let the judge of the episode's task look; the supervisor tells them by their versions."""
        if msg.event in (EpisodeEvent.VERDICT, EpisodeEvent.RELABELLED):
            return
        try:
            self._resident = self._by_task.of(printable(msg.task, TASK_LIMIT))
        except UnknownTaskError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)

    def infer(self, seen: Observation) -> _Scored:
        """Score an observation."""
        resident = self._resident
        if seen.epoch != self._epoch or resident is not self._last:
            # Somebody else moved the robot in between: what was seen then is no history.
            resident.judge.reset()
            self._epoch, self._last = seen.epoch, resident
        judge, stamp_s = resident.judge, seen.frame.stamp_ns / NANO
        return _Scored(resident, judge.infer(seen.frame.values, stamp_s))

    def publish(self, seen: Observation, found: _Scored) -> float:
        """Publish the reward as node `policy` does its own."""
        reward, by = found.prediction.reward, found.by
        assert reward is not None  # `open_judge` refuses what has none
        self._rewards.publish(
            found.prediction,
            to_stamp(seen.frame.stamp_ns),
            self._observations.frame_id,
            by.version,
            by.judge.reward_hash,
        )
        return reward


def main() -> None:
    """Entry point."""
    run_node(JudgeNode)


if __name__ == "__main__":
    main()
