"""Another checkpoint for the policy node: heard at any time, taken at an episode boundary."""

from collections.abc import Callable

from rclpy.node import Node

from rewact_ros.msg import ControlStatus, EpisodeEvent, PolicyUpdate
from rewact_ros.policy.preparation import Load, ReadyPolicy, UpdatePreparation
from rewact_ros.policy.updates import PolicyUpdates, Update
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.convert import to_ns

CHECK_HZ = 20.0
# In a running episode the policy is needed, also while a human helps. RELABELLED says nothing.
RUNNING = {
    EpisodeEvent.STARTED: False,
    EpisodeEvent.RESETTING: False,
    EpisodeEvent.RUNNING: True,
    EpisodeEvent.HELP: True,
    EpisodeEvent.WARNING: True,
    EpisodeEvent.RESUMED: True,
    EpisodeEvent.VERDICT: False,
}


class PolicySwap:
    """Hears updates, prepares them off the inference thread and hands them over when due.

    Args:
        node: the policy node.
        take: lets a prepared checkpoint run; called in the executor's thread.
    """

    def __init__(self, node: Node, take: Callable[[ReadyPolicy], None]) -> None:
        self._node, self._take = node, take
        self._preparation: UpdatePreparation | None = None
        self._mode, self._in_episode = ControlStatus.HOLD, False
        for kind, topic, call, qos in (
            (PolicyUpdate, names.POLICY_UPDATE, self._on_update, names.EVENTS),
            (EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS),
            (ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED),
        ):
            node.create_subscription(kind, topic, call, qos)
        node.create_timer(1.0 / CHECK_HZ, self._tick, clock=steady_clock())

    def begin(self, updates: PolicyUpdates, load: Load) -> None:
        """The node is configured; ``load`` as in ``UpdatePreparation``."""
        self._preparation = UpdatePreparation(updates, load)

    def end(self) -> None:
        """The node is not configured any more; what is being prepared comes to nothing."""
        self._preparation = None

    @property
    def text(self) -> str:
        """What became of the last update, one short line; empty once that is settled."""
        return self._preparation.text if self._preparation is not None else ""

    def _on_update(self, msg: PolicyUpdate) -> None:
        if self._preparation is None:
            self._node.get_logger().warning("update refused: the policy is not configured")
            return
        stamp_ns = to_ns(msg.header.stamp)
        self._preparation.request(
            Update(stamp_ns, msg.path, msg.sha256, msg.version, msg.robot, msg.rollback)
        )

    def _on_event(self, msg: EpisodeEvent) -> None:
        if self._preparation is not None and msg.event == EpisodeEvent.STARTED:
            self._preparation.forget_refusal()
        self._in_episode = RUNNING.get(msg.event, self._in_episode)

    def _on_control(self, msg: ControlStatus) -> None:
        self._mode = msg.mode

    def _tick(self) -> None:
        preparation = self._preparation
        if preparation is not None and preparation.ready is not None and self._at_boundary():
            ready = preparation.ready
            preparation.taken()
            self._take(ready)

    def _at_boundary(self) -> bool:
        """Whether nobody follows the policy; an episode ends with the supervisor, too."""
        supervised = self._node.count_publishers(names.EPISODE_EVENT) > 0
        return self._mode != ControlStatus.POLICY and not (supervised and self._in_episode)
