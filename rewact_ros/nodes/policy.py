"""Node `policy`: observations in, timed action chunks and the reward out. Never a robot command."""

import threading
import time
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from rewact_ros.contract import load_contract
from rewact_ros.learning.rl.serving import DecidedPrediction
from rewact_ros.learning.rl.transitions import pack_observation
from rewact_ros.msg import ActionChunk, ControlStatus, Decision, EpisodeEvent, PolicyStatus
from rewact_ros.nodes.residents import Residents
from rewact_ros.policy.engine import UNTOLD, Prediction
from rewact_ros.policy.preparation import MAX_TEXT, ReadyPolicy
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.observations import Observation, Observations
from rewact_ros.ros.params import PolicyParams, declare
from rewact_ros.ros.path_times import PathTimes
from rewact_ros.ros.policy_swap import RUNNING, PolicySwap
from rewact_ros.ros.prediction_messages import ChunkMessages, RewardPublishers
from rewact_ros.ros.process import run_node
from rewact_ros.ros.views import ViewPublisher
from rewact_ros.stamps import NANO
from rewact_ros.supervision.supervisor import TASK_LIMIT
from rewact_ros.text import printable


class ConfigurationError(ValueError):
    """The node could not be configured; the cause was logged."""


class PolicyNode(Guarded, LifecycleNode):
    """Loads and checks in configure, infers in a worker thread, newest observation wins."""

    NAME, PARAMS = "policy", PolicyParams
    PACED = True  # the robot waits for its chunks

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(self.NAME, **node_arguments)
        self.params = declare(self, self.PARAMS)
        self.clock = NodeClock(self)
        self._active = self._leads = False
        self._observations: Observations | None = None
        self._residents: Residents | None = None
        self._worker: threading.Thread | None = None
        self._worker_fault = ""
        self._instruction, self._in_episode = self.params.instruction, False
        self._replanned = 0, 0  # epoch and stamp of the last chunk's observation, ns
        self._times = PathTimes("chunk")
        self._status = self.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
        self._chunks = self.create_publisher(ActionChunk, names.ACTION_CHUNK, names.COMMAND)
        self._decisions = self.create_publisher(Decision, names.DECISION, names.EVENTS)
        self._rewards = None if self.params.actions_only else RewardPublishers(self)
        self._views: ViewPublisher | None = None
        period_s = 1.0 / self.params.heartbeat_hz
        self.create_timer(period_s, self._beat, clock=steady_clock())
        self._swap = PolicySwap(self, self._take)
        publish_diagnostics(self, self._diagnose)
        self.configuration_fault = ""
        if self.params.autostart:
            self.trigger_configure()
            if self.configuration_fault:
                raise ConfigurationError(self.configuration_fault)
            self.trigger_activate()

    @property
    def version(self) -> str:
        """Of the weights that infer; empty before they are loaded."""
        return self._residents.running.loaded.version if self._residents is not None else ""

    # Lifecycle --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the contract and all checkpoints, check these against it, warm up."""
        started_s = time.monotonic()
        try:
            self.contract = load_contract(self.params.contract, self.get_namespace())
            residents = Residents(self.params, self.contract, self.get_logger(), self.PACED)
        except (ValueError, RuntimeError, OSError) as error:
            self.configuration_fault = str(error)
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self.configuration_fault, self._residents = "", residents
        self._swap.begin(residents.updates, residents.open_beside)
        self._chunk_messages = ChunkMessages(self.contract)
        if self._views is None and self._rewards is not None:
            self._views = ViewPublisher(self, self.contract)
        self._observations = Observations(self, self.contract, self.clock)
        self._observations.shut()
        self._control_input = self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        self._event_input = self.create_subscription(
            EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS
        )
        elapsed_s = time.monotonic() - started_s
        versions = ", ".join(residents.versions)
        self.get_logger().info(f"policy {versions} loaded and warm in {elapsed_s:.1f} s")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inferring."""
        assert self._observations is not None
        self._active = True
        self._observations.open()
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inferring; the heartbeat goes on and says so."""
        self._stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Drop the model and the subscriptions."""
        assert self._observations is not None
        self._observations.close()
        self._observations = None
        self.destroy_subscription(self._control_input)
        self.destroy_subscription(self._event_input)
        self._swap.end()
        self._residents = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._stop_worker()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """End the threads before the node goes."""
        self._stop_worker()
        self._swap.end()

    def _stop_worker(self) -> None:
        self._active = False
        if self._observations is not None:
            self._observations.shut()
        if self._worker is not None:
            self._worker.join(timeout=5.0)
            self._worker = None

    def _take(self, ready: ReadyPolicy) -> None:
        """Let another checkpoint run, by way of the lifecycle; meanwhile nothing is ready."""
        before, active = self.version, self._active
        if active:
            self.trigger_deactivate()
            self._beat()
        assert self._residents is not None  # else nothing was prepared
        self._residents.replace(ready)
        self._worker_fault = ""
        if active:
            self.trigger_activate()
        self.get_logger().info(f"policy {before} -> {self.version} ({ready.candidate.folder})")

    # Inference --------------------------------------------------------------------------------

    def _on_control(self, msg: ControlStatus) -> None:
        self._leads = msg.mode == ControlStatus.POLICY
        if self._observations is not None:
            self._observations.epoch = msg.epoch
        self._settle()

    def _on_event(self, msg: EpisodeEvent) -> None:
        """Take what an episode is about: it chooses the policy, and some are told it in words."""
        if msg.event not in RUNNING:
            return
        task = printable(msg.task, TASK_LIMIT)
        self._in_episode = msg.event != EpisodeEvent.VERDICT
        self._instruction = task or self.params.instruction
        if self._in_episode and self._residents is not None:
            self._residents.ask_for(task)
            self._settle()

    def _settle(self) -> None:
        """Let the task's policy run, and tell the supervisor so, who waits for its version."""
        if self._residents is not None and self._residents.settle(self._leads):
            self._beat()
            self.get_logger().info(f"policy {self.version} for {self._instruction!r}")

    def _untold(self) -> str:
        """Why the policy cannot know what to do, or an empty string.

        Between episodes nobody has told it yet; then it is ready, and says nothing.
        """
        residents = self._residents
        if residents is None or not self._in_episode:
            return ""
        silent = residents.running.engine.needs_text and not self._instruction
        told = f"{UNTOLD}, or set the parameter instruction" if silent else ""
        return residents.unknown or told

    def _work(self) -> None:
        """Worker thread: the newest observation, one at a time."""
        observations, residents = self._observations, self._residents
        assert observations is not None and residents is not None
        last, last_epoch = residents.running, observations.epoch
        try:
            while (seen := observations.newest()) is not None:
                started_s = time.monotonic()
                # After the observation: of an epoch that began behind a switch, none is another's.
                ready = residents.running
                engine = ready.engine
                if engine.needs_text and not self._instruction:
                    continue
                engine.instruction = self._instruction
                if seen.epoch != last_epoch or ready is not last:
                    # Somebody else moved the robot in between: what was seen then is no history.
                    engine.reset()
                    last, last_epoch = ready, seen.epoch
                observations.tell_missed(seen, engine)
                prediction = engine.infer(seen.frame.values, seen.frame.stamp_ns / NANO)
                if ready is not residents.running:
                    continue  # what it says is of no task any more
                queue_s, elapsed_s = started_s - seen.complete_s, time.monotonic() - started_s
                published_s = self._publish(seen, ready, prediction, queue_s, elapsed_s)
                self._times.add(queue_s, elapsed_s, published_s - seen.complete_s)
                self._worker_fault = ""
        except Exception as error:
            self._worker_fault = printable(f"inference failed: {error}", MAX_TEXT)
            self.get_logger().error(self._worker_fault)

    def _publish(
        self,
        seen: Observation,
        ready: ReadyPolicy,
        prediction: Prediction,
        queue_s: float,
        elapsed_s: float,
    ) -> float:
        """Publish all that came of an observation; when the chunk, or else the reward, was out."""
        stamp = to_stamp(seen.frame.stamp_ns)
        frame_id = self._observations.frame_id if self._observations else ""
        acts = self._residents is not None and self._residents.acts and self._replans(seen)
        version = ready.loaded.version
        chunk = self._chunk_messages.chunk(prediction, stamp) if acts else None
        latency_s = self._times.latency(seen.frame.stamp_ns, self.clock.now().ros_ns)
        if chunk is not None:
            chunk.epoch, chunk.policy_version = seen.epoch, version
            chunk.inference_time, chunk.queue_time = elapsed_s, queue_s
            chunk.latency = latency_s
            self._chunks.publish(chunk)
            ready.engine.drives()
            ready.engine.delay_s = self._times.recent_latency_s
        published_s = time.monotonic()
        if self._rewards is not None:
            reward_hash = "" if prediction.reward is None else ready.engine.reward_hash
            self._rewards.publish(prediction, stamp, frame_id, version, reward_hash)
            if not acts:
                published_s = time.monotonic()
        if isinstance(prediction, DecidedPrediction) and acts:
            self._publish_decision(seen, prediction, version)
        if self._views is not None and prediction.reward is not None:
            self._views.publish(seen.frame.values, stamp)
        return published_s

    def _replans(self, seen: Observation) -> bool:
        """Whether a chunk is due; the contract may want fewer than there are observations."""
        rate_hz, replan_hz = self.contract.rate_hz, self.contract.replan_hz
        (epoch, last_ns), stamp_ns = self._replanned, seen.frame.stamp_ns
        # Half a frame early is nearer than a whole one late.
        wait_ns = NANO / replan_hz - NANO / rate_hz / 2
        if replan_hz < rate_hz and seen.epoch == epoch and 0 <= stamp_ns - last_ns < wait_ns:
            return False
        self._replanned = seen.epoch, stamp_ns
        return True

    def _publish_decision(
        self, seen: Observation, prediction: DecidedPrediction, version: str
    ) -> None:
        """What a learner needs to know, after what the robot waits for."""
        decision = prediction.decision
        msg = Decision(
            epoch=seen.epoch,
            policy_version=version,
            decided=decision.decided,
            choice=decision.choice,
            value=decision.value,
        )
        msg.header.stamp = to_stamp(seen.frame.stamp_ns)
        msg.observation.frombytes(pack_observation(prediction.observation))
        self._decisions.publish(msg)

    # Outputs ----------------------------------------------------------------------------------

    def _fault(self) -> tuple[str, str]:
        """(stream, reason) that keeps the policy from being ready, or two empty strings."""
        if not self._active or self._observations is None:
            return "policy", "not active"
        if self._worker_fault:
            return "policy", self._worker_fault
        if untold := self._untold():
            return "task", untold
        return self._observations.fault()

    def _beat(self) -> None:
        stream, reason = self._fault()
        fault = f"{stream}: {reason}" if reason else ""
        msg = PolicyStatus(
            ready=not reason,
            stale_stream=stream,
            reason=printable("; ".join(filter(None, (fault, self._swap.text))), 2 * MAX_TEXT),
            epoch=self._observations.epoch if self._observations is not None else 0,
            policy_version=self.version,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        msg.header.frame_id = self._observations.frame_id if self._observations else ""
        self._status.publish(msg)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        stream, reason = self._fault()
        warning = f"{stream}: {reason}" if reason else self._times.odd_stamp
        engine = self._residents.running.engine if self._residents is not None else None
        if not warning and engine is not None:
            warning = engine.trouble
        level = ERROR if self._worker_fault else WARN if warning else OK
        return (
            level,
            warning or "inferring",
            {
                "policy_version": self.version,
                "engine": engine.description if engine else "",
                "guided_steps": engine.guided_steps if engine else 0,
                "update": self._swap.text,
                **self._times.values(),
                **(self._observations.values() if self._observations is not None else {}),
            },
        )


def main() -> None:
    """Entry point."""
    run_node(PolicyNode)


if __name__ == "__main__":
    main()
