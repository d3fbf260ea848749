"""Node `judge`: the reward of a policy that does not act, while anything else moves the robot.

It publishes what node `policy` publishes of its own reward, in every control mode, and neither
chunks nor a heartbeat.
"""

from typing import Any

from rewact_ros.msg import ControlStatus
from rewact_ros.nodes.scoring_node import ScoringNode
from rewact_ros.policy.engine import Prediction
from rewact_ros.reward.judges import JudgeSettings, open_judge
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.observations import Observation
from rewact_ros.ros.params import JudgeParams
from rewact_ros.ros.prediction_messages import RewardPublishers
from rewact_ros.ros.process import run_node
from rewact_ros.ros.views import ViewPublisher
from rewact_ros.stamps import NANO


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
        self._epoch = 0
        self._rewards, self._views = RewardPublishers(self), ViewPublisher(self, self.contract)
        self.begin()
        self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        self.get_logger().info(f"judge {self.version}: {self._judge.description}")

    @property
    def version(self) -> str:
        """Of the judge's weights."""
        return self._version

    def _on_control(self, msg: ControlStatus) -> None:
        self._observations.epoch = msg.epoch

    def infer(self, seen: Observation) -> Prediction:
        """Score an observation."""
        if seen.epoch != self._epoch:
            # Somebody else moved the robot in between: what was seen then is no history.
            self._judge.reset()
            self._epoch = seen.epoch
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

    def keep(self, seen: Observation, found: Prediction) -> None:
        """Show what it saw, once the reward is out."""
        self._views.publish(seen.frame.values, to_stamp(seen.frame.stamp_ns))


def main() -> None:
    """Entry point."""
    run_node(JudgeNode)


if __name__ == "__main__":
    main()
