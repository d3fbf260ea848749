"""Node `hil`: the only process that publishes robot commands."""

import time
from dataclasses import replace

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from rewact_ros.contract import SampleError, load_contract
from rewact_ros.control.chunks import Chunk
from rewact_ros.control.human import TeleopInput
from rewact_ros.control.modes import Mode
from rewact_ros.control.path import Answer, CommandPath, PathSettings
from rewact_ros.control.timing import DurationHistogram
from rewact_ros.msg import ActionChunk, ControlStatus, ModeRequest, PolicyStatus, Timing
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.convert import NANO, command_encoder, command_type, state_sample, to_ns
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.loop import ControlLoop, LoopSettings
from rewact_ros.ros.params import HilParams, declare
from rewact_ros.ros.process import run_node

WATCH_S = 0.25  # between two looks at who publishes commands and whether time goes on
CLOCK_STOPPED_S = 0.5


class HilNode(Node):
    """Feeds `CommandPath` and sends what it decides, once per command period."""

    def __init__(self) -> None:
        super().__init__("hil")
        self.params = declare(self, HilParams)
        self.contract = load_contract(self.params.contract)
        self.clock = NodeClock(self)
        self.path = CommandPath(
            self.contract,
            PathSettings(
                combine=self.params.combine,
                ensemble_coefficient=self.params.ensemble_coefficient,
                interpolation=self.params.interpolation,
                crossfade_s=self.params.crossfade_s,
                lease_timeout_s=self.params.lease_timeout_s,
            ),
        )
        self._parts: dict[int, tuple[np.ndarray, float]] = {}
        self._period_s = 1.0 / self.contract.command_rate_hz
        self._interval = DurationHistogram()
        self._last_sent_s: float | None = None
        self._reported: tuple[object, ...] = ()
        self._make_interfaces()
        wishes = LoopSettings(self.params.priority, self.params.cpu, self.params.lock_memory)
        self.loop = ControlLoop(self, self._period_s, self._tick, wishes)

    def _make_interfaces(self) -> None:
        self._commands = []
        offset = 0
        for part in self.contract.action:
            publisher = self.create_publisher(command_type(part), part.topic, names.COMMAND)
            span = slice(offset, offset + len(part.joints))
            self._commands.append((publisher, command_encoder(part), span))
            offset = span.stop
        for i, part in enumerate(self.contract.state):
            self.create_subscription(
                JointState, part.topic, lambda msg, i=i: self._on_joints(i, msg), names.SENSOR
            )
        self.create_subscription(ActionChunk, names.ACTION_CHUNK, self._on_chunk, names.COMMAND)
        self.create_subscription(
            PolicyStatus, names.POLICY_STATUS, self._on_policy_status, names.COMMAND
        )
        self.create_subscription(
            ModeRequest, names.MODE_REQUEST, self._on_mode_request, names.EVENTS
        )
        for device in self.path.human.inputs.values():
            self._listen_to(device)
        self._status = self.create_publisher(ControlStatus, names.CONTROL_STATUS, names.LATCHED)
        for name, call in {
            "arm": self._arm,
            "disarm": self.path.disarm,
            "resume": self.path.resume,
            "clear_fault": self.path.clear_fault,
            "confirm_reset": self.path.confirm_reset,
            "take_over": lambda: self.path.take_over(self.clock.now()),
            "release": lambda: self.path.release(self.clock.now()),
        }.items():
            self.create_service(
                Trigger, f"~/{name}", lambda req, res, call=call: self._serve(call, res)
            )
        self.create_timer(1.0 / self.params.status_hz, self._publish_status)
        self.create_timer(WATCH_S, self._watch_graph, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Inputs -----------------------------------------------------------------------------------

    def _on_joints(self, index: int, msg: JointState) -> None:
        received_s = self.clock.now().age_s
        try:
            sample = state_sample(self.contract.state[index], msg, received_s)
        except SampleError as error:
            self.path.joints.take_fault(str(error))
            return
        self._parts[index] = (sample.value, received_s)
        if len(self._parts) == len(self.contract.state):
            parts = [self._parts[i] for i in range(len(self.contract.state))]
            state = np.concatenate([value for value, _ in parts])
            oldest_s = min(received for _, received in parts)
            self.path.joints.take(state[self.contract.action_in_state], oldest_s)

    def _on_policy_status(self, msg: PolicyStatus) -> None:
        fault = "" if msg.ready else (msg.reason or "not ready")
        self.path.heartbeat.take(fault, self.clock.now())

    def _listen_to(self, device: TeleopInput) -> None:
        source = device.source

        def on_joint_state(msg: JointState) -> None:
            device.on_values(msg.name, msg.position, self.clock.now().age_s)

        def on_trajectory(msg: JointTrajectory) -> None:
            first = msg.points[0].positions if msg.points else []
            device.on_values(msg.joint_names, first, self.clock.now().age_s)

        def on_buttons(msg: Joy) -> None:
            button = source.deadman.button
            if button < len(msg.buttons):  # else it is another device's, and says nothing of ours
                device.on_deadman(msg.buttons[button] == 1, self.clock.now().age_s)

        types = {
            "sensor_msgs/msg/JointState": (JointState, on_joint_state),
            "trajectory_msgs/msg/JointTrajectory": (JointTrajectory, on_trajectory),
        }
        self.create_subscription(
            types[source.type][0], source.topic, types[source.type][1], names.SENSOR
        )
        if source.deadman:
            self.create_subscription(Joy, source.deadman.topic, on_buttons, names.SENSOR)

    def _on_chunk(self, msg: ActionChunk) -> None:
        points = msg.trajectory.points
        if list(msg.trajectory.joint_names) != list(self.contract.action_names) or not points:
            self.path.rejected += 1
            return
        widths = {len(p.positions) for p in points}
        if widths != {len(self.contract.action_names)}:
            self.path.rejected += 1
            return
        chunk = Chunk(
            to_ns(msg.header.stamp),
            msg.epoch,
            np.array([p.positions for p in points], dtype=float),
            self.contract.dt_s,
        )
        rejected = self.path.rejected
        refusal = self.path.on_chunk(chunk, self.clock.now())
        if self.path.rejected > rejected:
            self.get_logger().warning(f"chunk dropped: {refusal}", throttle_duration_sec=1.0)

    def _on_mode_request(self, msg: ModeRequest) -> None:
        if msg.mode not in (Mode.HOLD, Mode.POLICY, Mode.RESET):
            return
        refusal = self.path.on_request(Mode(msg.mode), msg.holder, msg.request, self.clock.now())
        if refusal:
            self.get_logger().warning(f"mode request refused: {refusal}", throttle_duration_sec=1.0)

    # Operator ---------------------------------------------------------------------------------

    def _arm(self) -> Answer:
        answer = self.path.arm(self.clock.now())
        if answer.ok:
            self._interval.clear()
        return answer

    def _serve(self, call, response: Trigger.Response) -> Trigger.Response:  # type: ignore[no-untyped-def]
        answer: Answer = call()
        response.success = answer.ok
        response.message = f"{answer.mode.name}: {answer.reason}"
        self._publish_status()
        return response

    def _watch_graph(self) -> None:
        """What no message tells: another publisher of commands, and a clock that stands still."""
        if not self.params.dry_run:
            own = (self.get_name(), self.get_namespace())
            strangers = set()
            for part in self.contract.action:
                topic = self.resolve_topic_name(part.topic)
                infos = [
                    (i.node_name, i.node_namespace)
                    for i in self.get_publishers_info_by_topic(topic)
                ]
                if own in infos:
                    infos.remove(own)  # once: a second one of our name is a stranger too
                strangers.update(f"{space.rstrip('/')}/{name}" for name, space in infos)
            self.path.on_publishers(", ".join(sorted(strangers)))
        if self.loop.clock_silence_s > CLOCK_STOPPED_S:
            self.path.stop(f"/clock has stood still for {self.loop.clock_silence_s:.1f} s")

    # The tick ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self.clock.now()
        # Targets are sampled at the deadline: evenly spaced whenever this process was woken.
        late_ns = round(min(self.loop.late_s, self._period_s) * NANO)
        command = self.path.step(replace(now, ros_ns=now.ros_ns - late_ns))
        if command is None:
            self._last_sent_s = None
        elif not self.params.dry_run:
            stamp = self.get_clock().now().to_msg()
            for publisher, encode, span in self._commands:
                publisher.publish(encode(command[span], stamp))
        if command is not None:
            sent_s = time.monotonic()
            if self._last_sent_s is not None:
                self._interval.add(sent_s - self._last_sent_s)
            self._last_sent_s = sent_s
        modes = self.path.modes
        if self._reported != (modes.mode, modes.reason, modes.resume_required, self.path.epoch):
            self.get_logger().info(f"{modes.mode.name}: {modes.reason}")
            self._publish_status()

    # Outputs ----------------------------------------------------------------------------------

    def _publish_status(self) -> None:
        modes = self.path.modes
        self._reported = (modes.mode, modes.reason, modes.resume_required, self.path.epoch)
        msg = ControlStatus(
            mode=int(modes.mode),
            reason=modes.reason,
            remedy=modes.remedy,
            resume_required=modes.resume_required,
            epoch=self.path.epoch,
            active_source=self.path.source,
            commands=self.path.commands,
            clipped=self.path.clipped,
            violation=self.path.violation,
            rejected=self.path.rejected,
            late_ticks=self.loop.late_ticks + self.loop.skipped_ticks,
            timings=[
                _timing("command_interval", self._interval),
                _timing("observation_to_command", self.path.policy.observation_to_command),
                _timing("tick_lateness", self.loop.lateness),
            ],
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(msg)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        modes = self.path.modes
        level = ERROR if modes.mode is Mode.FAULT else WARN if modes.resume_required else OK
        values: dict[str, object] = {
            "mode": modes.mode.name,
            "remedy": modes.remedy,
            "commands": self.path.commands,
            "clipped": self.path.clipped,
            "rejected": self.path.rejected,
            "late_ticks": self.loop.late_ticks,
            "skipped_ticks": self.loop.skipped_ticks,
            "violation": self.path.violation,
            **{f"violations_{kind}": n for kind, n in self.path.violations.items()},
        }
        for name, histogram in (
            ("command_interval", self._interval),
            ("observation_to_command", self.path.policy.observation_to_command),
            ("tick_lateness", self.loop.lateness),
        ):
            summary = histogram.summary()
            values[f"{name}_p50_ms"] = f"{summary.p50_ms:.2f}"
            values[f"{name}_p95_ms"] = f"{summary.p95_ms:.2f}"
            values[f"{name}_p99_ms"] = f"{summary.p99_ms:.2f}"
        return level, f"{modes.mode.name}: {modes.reason}", values


def _timing(name: str, histogram: DurationHistogram) -> Timing:
    summary = histogram.summary()
    return Timing(
        name=name,
        n=summary.n,
        p50_ms=summary.p50_ms,
        p95_ms=summary.p95_ms,
        p99_ms=summary.p99_ms,
        max_ms=summary.max_ms,
    )


def main() -> None:
    """Entry point."""
    run_node(HilNode)


if __name__ == "__main__":
    main()
