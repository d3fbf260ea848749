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
from rewact_ros.ros.policy_swap import RUNNING
from rewact_ros.ros.prediction_messages import RewardPublishers
from rewact_ros.ros.process import run_node
from rewact_ros.ros.views import ViewPublisher
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


@dataclass(frozen=True)
class _Turn:
    """What may not share a history: somebody else moved the robot, or another episode began."""

    resident: _Resident
    epoch: int
    episode: int


class JudgeNode(ScoringNode):
    """Opens its models when it starts, then judges every complete observation."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("judge", JudgeParams, "reward", **node_arguments)
        table = table_of(self.params, ("model",))
        opened = cache(self._open)  # one judge a checkpoint
        self._by_task = (
            ByTask.one(opened(Path(self.params.model).expanduser().resolve()))
            if table is None
            else table.by_task(lambda row: opened(row.judged_by.resolve()))
        )
        self._resident = self._by_task.usual
        self._instruction, self._in_episode = self.params.instruction, False
        self._episodes, self._turn = 0, _Turn(self._resident, 0, 0)
        self._rewards, self._views = RewardPublishers(self), ViewPublisher(self, self.contract)
        self.begin()
        self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        self.create_subscription(EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS)

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
        """Of the weights that judge."""
        return self._resident.version

    def _on_control(self, msg: ControlStatus) -> None:
        self._observations.epoch = msg.epoch

    def _on_event(self, msg: EpisodeEvent) -> None:
        """Let the judge of the episode's task look; some are told in words what it is about."""
        if msg.event not in RUNNING:
            return
        self._in_episode = msg.event != EpisodeEvent.VERDICT
        task = printable(msg.task, TASK_LIMIT)
        self._instruction = task or self.params.instruction
        if msg.event == EpisodeEvent.RUNNING:
            self._episodes += 1
        if not self._in_episode:
            return
        try:
            # The supervisor tells the judges of a table apart by their versions.
            self._resident = self._by_task.of(task)
        except UnknownTaskError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)

    def idle(self) -> bool:
        """Nobody has told it the task yet; within an episode that is a fault that `infer` names."""
        silent = self._resident.judge.needs_text and not self._instruction
        return silent and not self._in_episode

    def infer(self, seen: Observation) -> _Scored:
        """Score an observation."""
        turn = _Turn(self._resident, seen.epoch, self._episodes)
        judge = turn.resident.judge
        if turn != self._turn:
            judge.reset()
            self._turn = turn
        judge.instruction = self._instruction
        self._observations.tell_missed(seen, judge)
        found = judge.infer(seen.frame.values, seen.frame.stamp_ns / NANO)
        return _Scored(turn.resident, found)

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

    def keep(self, seen: Observation, found: _Scored) -> None:
        """Show what it saw, once the reward is out."""
        self._views.publish(seen.frame.values, to_stamp(seen.frame.stamp_ns))


def main() -> None:
    """Entry point."""
    run_node(JudgeNode)


if __name__ == "__main__":
    main()
