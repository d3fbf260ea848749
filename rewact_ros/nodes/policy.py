"""Node `policy`: observations in, timed action chunks and the reward out. Never a robot command.

With `reward_only` it publishes the reward alone, in every control mode, and leaves chunks and
heartbeat to whatever else moves the robot.
"""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Float32
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.contract import Frame, load_contract
from rewact_ros.control.timing import DurationHistogram
from rewact_ros.msg import ActionChunk, ControlStatus, PolicyStatus, Reward
from rewact_ros.policy.checkpoint import LoadedPolicy, load_policy
from rewact_ros.policy.compatibility import check_contract
from rewact_ros.policy.engine import Engine, Prediction
from rewact_ros.policy.engines import load_engine
from rewact_ros.policy.preparation import ReadyPolicy
from rewact_ros.policy.updates import Candidate, PolicyUpdates
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.convert import NANO, to_stamp
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.observations import Observations
from rewact_ros.ros.params import PolicyParams, declare
from rewact_ros.ros.policy_swap import PolicySwap
from rewact_ros.ros.process import run_node


class ConfigurationError(ValueError):
    """The node could not be configured; the cause was logged."""


class PolicyNode(LifecycleNode):
    """Loads and checks in configure, infers in a worker thread, newest observation wins."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("policy", **node_arguments)
        self.params = declare(self, PolicyParams)
        self.clock = NodeClock(self)
        self.version = ""
        self._epoch = 0
        self._active = False
        self._observations: Observations | None = None
        self._engine: Engine | None = None
        self._waiting: tuple[Frame, int] | None = None
        self._wake = threading.Condition()
        self._worker: threading.Thread | None = None
        self._worker_fault = ""
        self._skipped = 0
        self._inference = DurationHistogram()
        if not self.params.reward_only:
            self._status = self.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
            self._chunks = self.create_publisher(ActionChunk, names.ACTION_CHUNK, names.COMMAND)
            period_s = 1.0 / self.params.heartbeat_hz
            self.create_timer(period_s, self._beat, clock=steady_clock())
        self._rewards = self.create_publisher(Reward, names.REWARD, names.EVENTS)
        self._values = self.create_publisher(Float32, names.REWARD_VALUE, names.EVENTS)
        self._swap = PolicySwap(self, self._take)
        publish_diagnostics(self, self._diagnose)
        self.configuration_fault = ""
        if self.params.autostart:
            self.trigger_configure()
            if self.configuration_fault:
                raise ConfigurationError(self.configuration_fault)
            self.trigger_activate()

    # Lifecycle --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the contract and the checkpoint, check one against the other, warm up."""
        started_s = time.monotonic()
        try:
            self.contract = load_contract(self.params.contract)
            loaded, self._engine = self._load(Path(self.params.policy))
        except (ValueError, RuntimeError, OSError) as error:
            self.configuration_fault = str(error)
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self.configuration_fault, self.version = "", loaded.version
        running = Candidate(Path(self.params.policy).resolve(), self.version)
        updates = PolicyUpdates(self.params.policy_dir, self.contract.hash, running)
        self._swap.begin(updates, self._load)
        self._observations = Observations(self, self.contract, self.clock, self._observe)
        self._observations.open = False
        self._control_input = self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        elapsed_s = time.monotonic() - started_s
        self.get_logger().info(f"policy {self.version} ready in {elapsed_s:.1f} s")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start inferring."""
        assert self._observations is not None
        self._active = self._observations.open = True
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
        self._swap.end()
        self._engine, self.version = None, ""
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
        if self._observations is not None:
            self._observations.open = False
        with self._wake:
            self._active = False
            self._wake.notify()
        if self._worker is not None:
            self._worker.join(timeout=5.0)
            self._worker = None

    def _load(self, folder: Path) -> tuple[LoadedPolicy, Engine]:
        """Open a checkpoint, check it against the contract, warm it up; in any thread."""
        loaded = load_policy(folder, self.params.device)
        check_contract(loaded, self.contract, self.params.reward_only)
        engine = load_engine(
            loaded,
            self.params.engine,
            self.params.precision,
            self.params.threads,
            self.contract.rate_hz,
            report=self.get_logger().warning,
        )
        engine.warm_up()
        return loaded, engine

    def _take(self, ready: ReadyPolicy) -> None:
        """Let another checkpoint run, by way of the lifecycle; meanwhile nothing is ready."""
        before, active = self.version, self._active
        if active:
            self.trigger_deactivate()
            if not self.params.reward_only:
                self._beat()
        self._engine, self.version = ready.engine, ready.loaded.version
        self._worker_fault = ""
        if active:
            self.trigger_activate()
        self.get_logger().info(f"policy {before} -> {self.version} ({ready.candidate.folder})")

    # Inputs -----------------------------------------------------------------------------------

    def _on_control(self, msg: ControlStatus) -> None:
        self._epoch = msg.epoch

    def _observe(self, frame: Frame) -> None:
        with self._wake:
            self._skipped += self._waiting is not None
            self._waiting = (frame, self._epoch)
            self._wake.notify()

    # Inference --------------------------------------------------------------------------------

    def _work(self) -> None:
        """Worker thread: the newest observation, one at a time."""
        last_epoch = self._epoch
        try:
            while True:
                with self._wake:
                    self._wake.wait_for(lambda: self._waiting is not None or not self._active)
                    if not self._active or self._waiting is None:
                        return
                    frame, epoch = self._waiting
                    self._waiting = None
                started_s = time.monotonic()
                assert self._engine is not None
                if epoch != last_epoch:
                    # Somebody else moved the robot in between: what was seen then is no history.
                    self._engine.reset()
                    last_epoch = epoch
                prediction = self._engine.infer(frame.values, frame.stamp_ns / NANO)
                elapsed_s = time.monotonic() - started_s
                self._inference.add(elapsed_s)
                self._publish(frame, epoch, prediction, elapsed_s)
                self._worker_fault = ""
        except Exception as error:
            self._worker_fault = f"inference failed: {error}"
            self.get_logger().error(self._worker_fault)

    def _publish(self, frame: Frame, epoch: int, prediction: Prediction, elapsed_s: float) -> None:
        stamp = to_stamp(frame.stamp_ns)
        if not self.params.reward_only:
            self._publish_chunk(stamp, epoch, prediction, elapsed_s)
        if prediction.reward is None:
            return
        unknown = (np.nan, np.nan, np.nan)
        q10, q50, q90 = prediction.quantiles or unknown
        reward = Reward(
            value=prediction.reward,
            q10=q10,
            q50=q50,
            q90=q90,
            entropy=np.nan if prediction.entropy is None else prediction.entropy,
            policy_version=self.version,
            reward_hash=self._engine.reward_hash if self._engine else "",
        )
        if prediction.features is not None:
            reward.features.frombytes(prediction.features.astype(np.float32).tobytes())
        reward.header.stamp = stamp
        self._rewards.publish(reward)
        self._values.publish(Float32(data=prediction.reward))

    def _publish_chunk(
        self, stamp: Time, epoch: int, prediction: Prediction, elapsed_s: float
    ) -> None:
        msg = ActionChunk(epoch=epoch, policy_version=self.version, inference_time=elapsed_s)
        msg.header.stamp = stamp
        msg.trajectory = JointTrajectory(joint_names=list(self.contract.action_names))
        msg.trajectory.header.stamp = stamp
        msg.trajectory.points = [
            JointTrajectoryPoint(positions=row, time_from_start=_duration(k * self.contract.dt_s))
            for k, row in enumerate(prediction.actions.astype(np.float64).tolist())
        ]
        self._chunks.publish(msg)

    # Outputs ----------------------------------------------------------------------------------

    def _fault(self) -> tuple[str, str]:
        """(stream, reason) that keeps the policy from being ready, or two empty strings."""
        if not self._active or self._observations is None:
            return "policy", "not active"
        if self._worker_fault:
            return "policy", self._worker_fault
        return self._observations.fault()

    def _beat(self) -> None:
        stream, reason = self._fault()
        fault = f"{stream}: {reason}" if reason else ""
        msg = PolicyStatus(
            ready=not reason,
            stale_stream=stream,
            reason="; ".join(filter(None, (fault, self._swap.text))),
            epoch=self._epoch,
            policy_version=self.version,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(msg)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        stream, reason = self._fault()
        summary = self._inference.summary()
        level = ERROR if self._worker_fault else WARN if reason else OK
        return (
            level,
            f"{stream}: {reason}" if reason else "inferring",
            {
                "policy_version": self.version,
                "engine": self._engine.description if self._engine else "",
                "update": self._swap.text,
                "inferences": summary.n,
                "inference_p50_ms": f"{summary.p50_ms:.2f}",
                "inference_p95_ms": f"{summary.p95_ms:.2f}",
                "inference_p99_ms": f"{summary.p99_ms:.2f}",
                "observations_skipped": self._skipped,
                "messages_refused": self._observations.refused if self._observations else 0,
            },
        )


def _duration(seconds: float) -> Duration:
    ns = round(seconds * NANO)
    return Duration(sec=ns // NANO, nanosec=ns % NANO)


def main() -> None:
    """Entry point."""
    run_node(PolicyNode)


if __name__ == "__main__":
    main()
