"""Node `shadow_policy`: a candidate predicts beside the running policy, and nobody acts on it.

It is the node `policy` in all that makes a prediction: the same observations, the same control
epoch, the same resets of its history. It differs in what leaves it. Every publisher of this process
passes one door, and no name that a node of the command path or of the judging listens to lies
behind it: there is no parameter, remapping or wrong start by which a shadow could move a robot.
"""

from typing import Any

from rewact_ros.nodes.policy import PolicyNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.diagnostics import OK, WARN
from rewact_ros.ros.observations import Observation
from rewact_ros.ros.params import ShadowPolicyParams
from rewact_ros.ros.process import run_node

# What of the policy's own topics goes out, and under which name; of the others nothing does.
SHADOWS = {
    names.ACTION_CHUNK: names.SHADOW_CHUNK,
    names.REWARD: names.SHADOW_REWARD,
    names.POLICY_STATUS: names.SHADOW_STATUS,
}


class ShadowError(ValueError):
    """The shadow was started so that what it predicts could be taken for a policy's."""


class _Silent:
    """Stands for a publisher, and says nothing."""

    def publish(self, message: Any) -> None:
        """Drop a message."""


class ShadowPolicyNode(PolicyNode):
    """Predicts beside the running policy.

    Raises:
        ShadowError: a remapping gives one of its topics another name.
    """

    NAME, PARAMS = "shadow_policy", ShadowPolicyParams
    PACED = False  # nobody waits for its chunks, and what it skips is counted

    def __init__(self, **node_arguments: Any) -> None:
        self._skipped = 0
        super().__init__(**node_arguments)

    def create_publisher(self, msg_type: Any, topic: str, *more: Any, **named: Any) -> Any:
        """Of a policy's topic its shadow, or nothing; a topic of ROS itself as it is."""
        if topic.startswith("rewact/") and topic not in SHADOWS:
            return _Silent()
        if topic in SHADOWS:
            topic = SHADOWS[topic]
            self._require_own(topic)
        return super().create_publisher(msg_type, topic, *more, **named)

    def create_subscription(self, msg_type: Any, topic: str, *more: Any, **named: Any) -> Any:
        """Of all that a policy hears, but for its updates: those are for the one that runs."""
        if topic == names.POLICY_UPDATE:
            return None
        return super().create_subscription(msg_type, topic, *more, **named)

    def _require_own(self, topic: str) -> None:
        """Refuse a name that is not the shadow's own once all remappings have been applied."""
        mine, whole = (self.resolve_topic_name(topic, only_expand=only) for only in (True, False))
        if whole != mine:
            raise ShadowError(
                f"{self.NAME}: expected its topic as {mine}, got {whole}: under another name what "
                "it predicts might move the robot; take the remapping out"
            )

    def _replans(self, seen: Observation) -> bool:
        """Always: which observations the running policy replans at, only its own chunks tell."""
        return True

    def _publish_decision(self, *_: Any) -> None:
        """Nothing: a learner learns of what was executed."""

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        level, text, values = super()._diagnose()
        skipped = self._observations.skipped if self._observations is not None else 0
        more, self._skipped = skipped - self._skipped, skipped
        if level == OK and more > 0:
            level, text = WARN, f"slower than the observations: skipped {more} within a second"
        return level, text, values


def main() -> None:
    """Entry point."""
    run_node(ShadowPolicyNode)


if __name__ == "__main__":
    main()
