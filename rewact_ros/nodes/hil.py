"""Node `hil`: the only process that publishes robot commands."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger

from rewact_ros.checks.graph import look_before_arming, second_hil, topics_of
from rewact_ros.contract import SampleError, load_contract
from rewact_ros.contract.measured import measured_action
from rewact_ros.control.chunks import ChunkError
from rewact_ros.control.human import TeleopInput
from rewact_ros.control.modes import MOVING, Mode
from rewact_ros.control.path import Answer, CommandPath, PathSettings
from rewact_ros.control.pose_input import PoseInput, TwistInput
from rewact_ros.msg import ActionChunk, ControlStatus, ModeRequest, PolicyStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_reader import read_chunk
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.commands import COMMANDS, read_pose
from rewact_ros.ros.control_report import ControlReport
from rewact_ros.ros.controllers import ControllerSwitch
from rewact_ros.ros.convert import joint_state_message, publication_sequence, twist_numbers
from rewact_ros.ros.diagnostics import publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.graph_look import look
from rewact_ros.ros.graph_watch import OwnTopics, other_publishers, publisher_names
from rewact_ros.ros.loop import ControlLoop, LoopSettings
from rewact_ros.ros.outputs import make_outputs
from rewact_ros.ros.params import HilParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.states import state_sample, state_type
from rewact_ros.ros.streams import Arrivals, stream_state, stream_values
from rewact_ros.stamps import NANO

WATCH_S = 0.25  # between two looks at who publishes what
CLOCK_STOPPED_S = 0.5
FEEDBACK_S = 0.02  # between two positions for a leader to follow


class HilNode(Guarded, Node):
    """Feeds `CommandPath` and sends what it decides, once per command period."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("hil", **node_arguments)
        self.params = declare(self, HilParams)
        self.contract = load_contract(self.params.contract, self.get_namespace())
        self.clock = NodeClock(self)
        self.path = CommandPath(
            self.contract,
            PathSettings(
                combine=self.params.combine,
                ensemble_coefficient=self.params.ensemble_coefficient,
                interpolation=self.params.interpolation,
                crossfade_s=self.params.crossfade_s,
                lease_timeout_s=self.params.lease_timeout_s,
                policy_required=self.params.policy_required,
            ),
        )
        self._parts: dict[int, tuple[NDArray[np.float64], float]] = {}
        # Commanded and observed poses are compared, so both are in one frame.
        frames = {part.name: part.frame_id for part in self.contract.action if part.name}
        self._frames = {
            i: frames[part.name]
            for i, part in enumerate(self.contract.state)
            if part.name in frames
        }
        self._joint_fault = [""] * len(self.contract.state)
        self._arrivals = [Arrivals() for _ in self.contract.state]
        self._period_s = 1.0 / self.contract.command_rate_hz
        self._last_sent_s: float | None = None
        self._last_command: NDArray[np.float64] | None = None
        self._reported: tuple[object, ...] = ()
        wishes = LoopSettings(self.params.priority, self.params.cpu, self.params.lock_memory)
        self.loop = ControlLoop(self, self._period_s, self._tick, wishes)
        self.report = ControlReport(self.path, self.loop, self.get_logger())
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        self._ticks = 0
        controllers = self.contract.controllers
        self.controllers = (
            ControllerSwitch(self, controllers) if controllers and not self.params.dry_run else None
        )
        dry_run = self.params.dry_run
        self._outputs = make_outputs(self, self.contract, self.path.gate, dry_run, self.path.stop)
        # In a dry run the robot is another's.
        publishers = [] if dry_run else [one for each in self._outputs for one in each.publishers]
        self.own_topics = OwnTopics(self, publishers, self.path.on_publishers)
        for i in self.contract.measuring:
            measured = self.contract.state[i]
            self.create_subscription(
                state_type(measured), measured.topic, partial(self._on_joints, i), names.SENSOR
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
            self.create_service(Trigger, f"~/{name}", partial(self._serve, call))
        self.create_timer(1.0 / self.params.status_hz, self._publish_status)
        self.create_timer(WATCH_S, self._watch_graph, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Inputs -----------------------------------------------------------------------------------

    def _on_joints(self, index: int, msg: Any, info: dict[str, int | None]) -> None:
        now = self.clock.now()
        source = self.path.sources[index]
        self._arrivals[index].add(now.age_s)
        try:
            if index in self._frames and msg.header.frame_id != self._frames[index]:
                raise SampleError(
                    f"{source.part.topic}: poses are in frame '{msg.header.frame_id}', expected "
                    f"'{self._frames[index]}', action's frame_id"
                )
            sample = state_sample(source.part, msg, now.age_s, now.ros_ns)
        except SampleError as error:
            self._refuse_joints(index, str(error))
            return
        values = np.asarray(sample.value, np.float64)
        fault = source.take(values, sample.stamp_ns, publication_sequence(info), now)
        self._refuse_joints(index, fault)
        if fault:
            return
        self._parts[index] = (values, now.age_s)
        parts = {i: part for i, (part, _) in self._parts.items()}
        positions = measured_action(self.contract, parts, self._last_command)
        if positions is not None:
            self.path.joints.take(positions, min(heard_s for _, heard_s in self._parts.values()))

    def _refuse_joints(self, index: int, fault: str) -> None:
        """Note why a joint state was not used, or that it was."""
        self._joint_fault[index] = fault
        if fault:
            self.path.joints.take_fault(fault)

    def _streams(self) -> dict[str, object]:
        """The joint states as entries of `/diagnostics`."""
        now_s = self.clock.now().age_s
        return stream_values(
            stream_state(
                part.topic,
                self._arrivals[i],
                now_s,
                self.contract.rate_hz,
                part.max_age_s,
                self._joint_fault[i],
            )
            for i, part in enumerate(self.contract.state)
            if i in self.contract.measuring
        )

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        level, line, values = self.report.diagnose(self.clock.now())
        return level, line, values | self._streams()

    def _on_policy_status(self, msg: PolicyStatus) -> None:
        fault = "" if msg.ready else (msg.reason or "not ready")
        self.path.heartbeat.take(fault, self.clock.now())

    def _listen_to(self, device: TeleopInput) -> None:
        source, on_targets = device.source, self._on_targets_of(device)

        def on_buttons(msg: Joy) -> None:
            device.on_buttons(msg.buttons, self.clock.now().age_s)

        self.create_subscription(*on_targets, names.SENSOR)
        if source.deadman:
            self.create_subscription(Joy, source.deadman.topic, on_buttons, names.SENSOR)
        if source.feedback_topic and not self.params.dry_run:
            leader = self.create_publisher(JointState, source.feedback_topic, names.SENSOR_OUT)
            tell = partial(self._tell_leader, device, leader)
            self.create_timer(FEEDBACK_S, tell, clock=steady_clock())

    def _tell_leader(self, device: TeleopInput, leader: Publisher) -> None:
        """Let an actuated leader stand where the robot is, until it leads."""
        measured, source = self.path.joints.measured, device.source
        if measured is None or self.path.human.active is device:
            return
        if self.path.joints.fault(self.clock.now()):
            return
        values = (measured[device.joints] - np.array(source.offset)) / np.array(source.scale)
        stamp = self.get_clock().now().to_msg()
        leader.publish(joint_state_message(source.source_joints, "position", values, stamp))

    def _on_targets_of(self, device: TeleopInput) -> tuple[type, str, Callable[[Any], None]]:
        """Message class and topic of a device, and what takes its messages."""
        source = device.source
        if isinstance(device, TwistInput):
            return TwistStamped, source.topic, partial(self._on_twist, device)
        if isinstance(device, PoseInput):
            return PoseStamped, source.topic, partial(self._on_pose, device)
        interface = COMMANDS[source.type]

        def on_targets(msg: Any) -> None:
            try:
                joints, values = interface.read(msg, "position", source.topic)
            except SampleError as error:
                device.refuse(str(error))
            else:
                assert joints is not None  # a contract's teleop types name their joints
                device.on_values(joints, values, self.clock.now().age_s)

        return interface.message, source.topic, on_targets

    def _on_pose(self, device: PoseInput, msg: PoseStamped) -> None:
        try:
            _, values = read_pose(msg, "pose", device.source.topic)
        except SampleError as error:
            device.refuse(str(error))
        else:
            device.on_pose(np.array(values), self.clock.now().age_s)

    def _on_twist(self, device: TwistInput, msg: TwistStamped) -> None:
        device.on_twist(twist_numbers(msg.twist), self.clock.now().age_s)

    def _on_chunk(self, msg: ActionChunk) -> None:
        rejected = self.path.rejected
        try:
            refusal = self.path.on_chunk(read_chunk(msg, self.contract), self.clock.now())
        except ChunkError as error:
            self.path.rejected += 1
            refusal = str(error)
        if self.path.rejected > rejected:
            self.get_logger().warning(f"chunk dropped: {refusal}", throttle_duration_sec=1.0)

    def _on_mode_request(self, msg: ModeRequest) -> None:
        if msg.mode not in (Mode.HOLD, Mode.POLICY, Mode.RESET):
            return
        refusal = self.path.on_request(
            Mode(msg.mode), msg.holder, msg.request, self.clock.now(), msg.proof, msg.next
        )
        if refusal:
            self.get_logger().warning(f"mode request refused: {refusal}", throttle_duration_sec=1.0)

    # Operator ---------------------------------------------------------------------------------

    def _arm(self) -> Answer:
        if self.path.mode is Mode.DISARMED:  # it takes a millisecond, which a moving arm has not
            topics = topics_of(self.contract, self.get_namespace())
            look_before_arming(self.path, look(self, topics), self.get_namespace())
            if self.controllers is not None:
                # First what needs nobody else: a switch that is undone at once still moves brakes.
                refusal = self.path.arm_refusal(self.clock.now())
                refusal = refusal or self.controllers.take(self.loop.wait)
                if refusal:
                    return Answer(False, self.path.mode, refusal)
        answer = self.path.arm(self.clock.now())
        if answer.ok:
            self.report.interval.clear()
        return answer

    def _serve(
        self,
        call: Callable[[], Answer],
        request: Trigger.Request,
        response: Trigger.Response,
    ) -> Trigger.Response:
        answer = call()
        response.success = answer.ok
        response.message = f"{answer.mode.name}: {answer.reason}"
        self._publish_status()
        return response

    def _watch_graph(self) -> None:
        """What no message tells: who else publishes where."""
        self.own_topics.look()
        self.path.twin = second_hil(other_publishers(self, names.CONTROL_STATUS))
        unready = next(filter(None, (output.absent() for output in self._outputs)), "")
        if self.controllers is not None:
            if self.path.mode is Mode.DISARMED and self.controllers.switched:
                if not self.path.gate.moving:
                    self.controllers.give_back()
            else:
                self.controllers.look()
            unready = unready or self.controllers.fault
        self.path.unready = unready
        for source in self.path.sources:
            several = self.count_publishers(source.part.topic) > 1
            source.publishers = tuple(publisher_names(self, source.part.topic)) if several else ()

    def destroy_node(self) -> None:
        """As of every node; clients of actions are not the node's own."""
        for output in self._outputs:
            output.close()
        super().destroy_node()  # type: ignore[no-untyped-call]

    def internal_fault(self, what: str, error: Exception) -> None:
        """As of every node; and no error of ours goes on moving the arm."""
        super().internal_fault(what, error)
        self.path.fail(f"internal error in {what}: {type(error).__name__}: {error}")

    # The tick ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self.clock.now()
        if self.loop.clock_silence_s > CLOCK_STOPPED_S:  # first: it explains why this tick is late
            self.path.stop(f"/clock has stood still for {self.loop.clock_silence_s:.1f} s")
        # Targets are sampled at the deadline: evenly spaced whenever this process was woken.
        late_ns = round(min(self.loop.late_s, self._period_s) * NANO)
        try:
            command = self.path.step(replace(now, ros_ns=now.ros_ns - late_ns))
        except Exception as error:
            self.internal_fault("control tick", error)
            command = self.path.rest()  # whatever is broken: the arm brakes before we fall silent
        if command is None:
            self._fall_silent()
        elif not self.params.dry_run:
            self._send(command, now.steady_s)
        if command is not None:
            self._last_command = command
            sent_s = time.monotonic()
            if self._last_sent_s is not None:
                self.report.interval.add(sent_s - self._last_sent_s)
            self._last_sent_s = sent_s
        if self._reported != self._state():
            self._tell_change()

    def _send(self, command: NDArray[np.float64], now_s: float) -> None:
        stamp, moving = self.get_clock().now().to_msg(), self.path.mode in MOVING
        for output in self._outputs:
            if self._ticks % output.every == 0:
                output.send(command[output.span], stamp, now_s, moving)
                self.own_topics.sent(output.publishers)
        self._ticks += 1

    def _fall_silent(self) -> None:
        if self._last_sent_s is not None:
            self._last_sent_s, self._ticks = None, 0
            for output in self._outputs:
                output.forget()

    def _tell_change(self) -> None:
        try:
            self._publish_status()
        except Exception as error:  # whoever listens hears no more of us; the arm is braked
            self.internal_fault("status", error)

    def _state(self) -> tuple[object, ...]:
        modes = self.path.modes
        return modes.mode, modes.reason, modes.resume_required, self.path.epoch

    def _publish_status(self) -> None:
        self._reported = self._state()
        self.report.log(self.clock.now())
        msg = self.report.status()
        msg.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(msg)


def main() -> None:
    """Entry point."""
    run_node(HilNode)


if __name__ == "__main__":
    main()
