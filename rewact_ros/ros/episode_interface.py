"""The supervisor's messages: leases, events and status out, rewards and joints in."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.subscription import Subscription

from rewact_ros.contract import Contract, SampleError
from rewact_ros.contract.measured import measured_action
from rewact_ros.control.chunks import ChunkError
from rewact_ros.msg import (
    ActionChunk,
    EpisodeEvent,
    ModeRequest,
    Reward,
    RewardFeatures,
    SupervisorStatus,
)
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_reader import read_chunk
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.door import MalformedError
from rewact_ros.ros.states import state_sample, state_type
from rewact_ros.stamps import NANO, Stamps
from rewact_ros.supervision.alarms import ALARMS, Moment
from rewact_ros.supervision.batch import Happening
from rewact_ros.supervision.episodes import Want
from rewact_ros.supervision.judging import RewardSource
from rewact_ros.supervision.signals import PolicySample, Signals
from rewact_ros.supervision.status import phase_name
from rewact_ros.supervision.supervisor import Supervisor
from rewact_ros.supervision.verdict import Outcome
from rewact_ros.tokens import TokenSender

FloatArray = NDArray[np.float64]
LEASE_HZ, STATUS_HZ = 10.0, 2.0


class EpisodeInterface:
    """Publishers of the supervisor.

    Args:
        node: whose they are.
        holder: unique name of this process, for the lease.
    """

    def __init__(self, node: Node, holder: str) -> None:
        self._node, self._holder = node, holder
        self._requests = node.create_publisher(ModeRequest, names.MODE_REQUEST, names.EVENTS)
        self._events = node.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        self._status = node.create_publisher(
            SupervisorStatus, names.SUPERVISOR_STATUS, names.LATCHED
        )
        # Their names are public; that only this process goes on for itself, these see to.
        self._lease_tokens, self._event_tokens = TokenSender(), TokenSender()
        self._request = 0
        self._want = Want.HOLD
        self._leased_s = self._status_s = -math.inf
        self._text = ""

    @property
    def heard(self) -> bool:
        """Whether anybody listens to events."""
        return self._events.get_subscription_count() > 0

    def lease(self, want: Want, active: bool) -> None:
        """Ask hil for a motion: at once when it changes, then at 10 Hz while a batch runs."""
        now_s = time.monotonic()
        changed = want is not self._want
        if not changed and (not active or now_s - self._leased_s < 0.9 / LEASE_HZ):
            return
        if changed:
            self._request += 1
        self._want, self._leased_s = want, now_s
        msg = ModeRequest(mode=int(want), holder=self._holder, request=self._request)
        msg.proof, msg.next = self._lease_tokens.link()
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._requests.publish(msg)

    def event(self, happening: Happening) -> None:
        """Tell of one change."""
        verdict = happening.verdict
        msg = EpisodeEvent(
            episode_id=happening.episode_id,
            task=happening.task,
            event=int(happening.change),
            outcome=int(verdict.outcome if verdict else Outcome.UNLABELLED),
            termination_reason=str(verdict.termination) if verdict else "",
            detail=happening.detail,
            by=verdict.by if verdict else "",
        )
        msg.proof, msg.next = self._event_tokens.link()
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._events.publish(msg)

    def status(self, supervisor: Supervisor, text: str, stamp_s: float) -> None:
        """Publish the state: at once when its line changes, else at 2 Hz."""
        now_s = time.monotonic()
        if text == self._text and now_s - self._status_s < 1.0 / STATUS_HZ:
            return
        self._text, self._status_s = text, now_s
        batch, episode = supervisor.batch, supervisor.episode
        signals = episode.signals if episode else Signals()
        now = Moment(signals, stamp_s)
        judgement = episode.judgement if episode else None
        msg = SupervisorStatus(
            episode_id=supervisor.episode_id,
            phase=phase_name(batch),
            text=text,
            progress=signals.progress,
            level=signals.level,
            **{alarm.field: alarm.score(now) for alarm in ALARMS.values() if alarm.field},
            slope_cusum=signals.slope_cusum,
            disagreement=signals.disagreement,
            alarms=sorted(judgement.alarms) if judgement else [],
            bound=supervisor.promise,
            episode=batch.plan.begun if batch else 0,
            episodes=batch.plan.episodes if batch else 0,
        )
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._status.publish(msg)


class SampleReader:
    """Makes one sample of a reward and of the chunk and features of the same observation.

    What cannot be is refused with a MalformedError, as the door has it.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract, self._step_s = contract, contract.dt_s
        self._chunk: tuple[int, FloatArray] | None = None  # stamp and actions
        self._driver = ""
        # Stamp, reward hash and they.
        self._features: tuple[int, str, NDArray[np.float32]] | None = None
        self._stamps: dict[str, Stamps] = defaultdict(Stamps)

    def on_chunk(self, msg: ActionChunk) -> None:
        """Keep the newest chunk; `policy` publishes it before the reward."""
        try:
            chunk = read_chunk(msg, self._contract)
        except ChunkError as error:
            raise MalformedError(str(error)) from None
        self._chunk, self._driver = (chunk.stamp_ns, chunk.positions), msg.policy_version

    def stamp_ns(self, msg: Reward, topic: str, now_ns: int) -> int:
        """Stamp of a reward or success, which is in [0, 1] (or NaN) and of now."""
        if not (0.0 <= msg.value <= 1.0 or math.isnan(msg.value)):
            raise MalformedError(f"value: expected 0 to 1, got {msg.value:g}")
        stamp_ns = to_ns(msg.header.stamp)
        if fault := self._stamps[topic].fault(stamp_ns, now_ns):
            raise MalformedError(fault)
        return stamp_ns

    def on_features(self, msg: RewardFeatures) -> None:
        """Keep the newest features; `policy` publishes them before the reward."""
        features = np.asarray(msg.features, np.float32)
        if not features.size or not np.isfinite(features).all():
            raise MalformedError("features: expected finite numbers, got none or another")
        self._features = to_ns(msg.header.stamp), msg.reward_hash, features

    def source(self, msg: Reward) -> RewardSource:
        """Whose reward this is, and by whose chunks the robot moves: a judge's own need not be."""
        quantiles = not math.isnan(msg.q10)
        return RewardSource(msg.reward_hash, self._driver, quantiles, msg.policy_version)

    def sample(self, msg: Reward, stamp_ns: int) -> PolicySample:
        """What the policy said at one observation."""
        chunk, seen = self._chunk, self._features
        same = seen is not None and seen[:2] == (stamp_ns, msg.reward_hash)
        return PolicySample(
            stamp_s=stamp_ns / NANO,
            mean=msg.value,
            q10=msg.q10,
            entropy=msg.entropy,
            features=seen[2] if seen is not None and same else None,
            actions=chunk[1] if chunk is not None and chunk[0] == stamp_ns else None,
            step_s=self._step_s,
        )


class JointFeed:
    """Joint states while somebody asks for them: a robot may send a thousand a second."""

    def __init__(self, node: Node, contract: Contract) -> None:
        self._node, self._contract = node, contract
        self._take: Callable[[FloatArray], None] | None = None
        self._subscriptions: list[Subscription] = []
        self._parts: dict[int, NDArray[Any]] = {}

    def listen(self, take: Callable[[FloatArray], None] | None) -> None:
        """Hand positions (A,) of the commanded joints to `take`; None ends it."""
        self._take = take
        if take is not None and not self._subscriptions:
            self._subscriptions = [
                self._node.create_subscription(
                    state_type(part), part.topic, partial(self._on_joints, i), names.SENSOR
                )
                for i, part in enumerate(self._contract.state)
                if i in self._contract.measuring
            ]
        elif take is None and self._subscriptions:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions, self._parts = [], {}

    def _on_joints(self, index: int, msg: Any) -> None:
        try:
            self._parts[index] = state_sample(self._contract.state[index], msg, 0.0).value
        except SampleError:
            return  # the check of the reset says that none came
        reset = self._contract.reset
        # Of what nobody measures, nobody can say that it is not in the pose.
        pose = None if reset is None else np.array(reset.pose)
        positions = measured_action(self._contract, self._parts, pose)
        if self._take is not None and positions is not None:
            self._take(positions)
