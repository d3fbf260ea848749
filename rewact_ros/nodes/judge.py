"""Node `judge`: the reward of a policy that does not act, while anything else moves the robot.

It publishes what node `policy` publishes of its own reward, in every control mode, and neither
chunks nor a heartbeat.
"""

from typing import Any

from rewact_ros.msg import ControlStatus, EpisodeEvent
from rewact_ros.nodes.scoring_node import ScoringNode
from rewact_ros.policy.engine import Prediction
from rewact_ros.reward.judges import JudgeSettings, open_judge
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.observations import Observation
from rewact_ros.ros.params import JudgeParams
from rewact_ros.ros.policy_swap import RUNNING
from rewact_ros.ros.prediction_messages import RewardPublishers
from rewact_ros.ros.process import run_node
from rewact_ros.stamps import NANO
from rewact_ros.supervision.supervisor import TASK_LIMIT
from rewact_ros.text import printable


class JudgeNode(ScoringNode):
    """A judge's score of the newest observation."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("judge", JudgeParams, "reward", **node_arguments)
        p = self.params
        settings = JudgeSettings(p.device, p.engine, p.precision, p.threads)
        self._judge, self._version = open_judge(
            p.model, self.contract, settings, self.get_logger().warning
        )
        self._judge.warm_up()
        self._instruction, self._in_episode = p.instruction, False
        self._epoch, self._episodes, self._judged = 0, 0, 0
        self._rewards = RewardPublishers(self)
        self.begin()
        self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        self.create_subscription(EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS)
        self.get_logger().info(f"judge {self.version}: {self._judge.description}")

    @property
    def version(self) -> str:
        """Of the judge's weights."""
        return self._version

    def _on_control(self, msg: ControlStatus) -> None:
        self._observations.epoch = msg.epoch

    def _on_event(self, msg: EpisodeEvent) -> None:
        """Take what an episode is about: some judges are told so in words."""
        if msg.event in RUNNING:
            self._in_episode = msg.event != EpisodeEvent.VERDICT
            self._instruction = printable(msg.task, TASK_LIMIT) or self.params.instruction
        if msg.event == EpisodeEvent.RUNNING:
            self._episodes += 1

    def idle(self) -> bool:
        """Nobody has told it the task yet; within an episode that is a fault that `infer` names."""
        return self._judge.needs_text and not self._instruction and not self._in_episode

    def infer(self, seen: Observation) -> Prediction:
        """Score an observation."""
        if (seen.epoch, self._episodes) != (self._epoch, self._judged):
            # Somebody else moved the robot in between, or another episode begins: what was seen
            # then is no history.
            self._judge.reset()
            self._epoch, self._judged = seen.epoch, self._episodes
        self._judge.instruction = self._instruction
        return self._judge.infer(seen.frame.values, seen.frame.stamp_ns / NANO)

    def publish(self, seen: Observation, found: Prediction) -> float:
        """Publish the reward as node `policy` does its own."""
        assert found.reward is not None  # `open_judge` refuses what has none
        self._rewards.publish(
            found,
            to_stamp(seen.frame.stamp_ns),
            self._observations.frame_id,
            self.version,
            self._judge.reward_hash,
        )
        return found.reward


def main() -> None:
    """Entry point."""
    run_node(JudgeNode)


if __name__ == "__main__":
    main()
