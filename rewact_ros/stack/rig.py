"""A robot without hardware for fault tests and figures: it feeds real processes and watches.

The rig publishes whatever part of the stack does not run as a process (joints, cameras, policy,
supervisor), lets a test spoil any stream, and keeps every command and status with its time of
arrival on the wire.
"""

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.action import ExecuteTask
from rewact_ros.contract import Camera, Contract
from rewact_ros.msg import ActionChunk, ControlStatus, ModeRequest, PolicyStatus
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.commands import COMMANDS, command_type
from rewact_ros.ros.convert import joint_state_message, to_stamp
from rewact_ros.ros.images import camera_message, camera_type
from rewact_ros.stack.commander import READY_S
from rewact_ros.stack.node_thread import NodeThread
from rewact_ros.stamps import NANO

FloatArray = NDArray[np.float64]
RATES_HZ = {"joints": 50.0, "heartbeat": 30.0, "chunk": 20.0, "lease": 10.0}
PLAYS = {
    "joints": ("joints",),
    "cameras": ("cameras",),
    "policy": ("heartbeat", "chunk"),
    "supervisor": ("lease",),
}
CHUNK_STEPS = 20
GOAL_ANSWER_S = 2.0  # a goal sent to a supervisor that has died is never answered
# The motion that chunks ask for: within every start-jump limit, and fast enough to be seen.
AMPLITUDE_RAD, RATE_RAD_S = 0.1, 3.0


class RigError(RuntimeError):
    """What a test waited for did not come; the message says what, and what was there instead."""


class Rig:
    """Context manager: a node in a thread of its own. One contract with one state and action part.

    Attributes:
        spoil: per stream ("joints", a camera's name, "heartbeat", "chunk", "lease") a function
            that gets every message before it goes out and returns what goes out, or None.
        wire: (arrival on the steady clock, command (A,)) of every command.
        sent_ns: when each command was published, on the system clock.
        statuses, heartbeats: (arrival, message) of hil and of a policy process.
        offset: added to the first joint of the motion.
        swing: report joints that swing by themselves, whatever is commanded.
        look_after: called a few times a second while something is awaited.
        rate_factor: set it before `__enter__` to publish everything so many times faster.

    Args:
        contract: whose topics and types are used.
        plays: which parts of the stack the rig stands in for; keys of `PLAYS`.
        namespace: of the robot.
    """

    def __init__(self, contract: Contract, plays: tuple[str, ...], namespace: str = "") -> None:
        self.contract = contract
        self.spoil: dict[str, Callable[[Any], Any]] = {}
        self.wire: list[tuple[float, FloatArray]] = []
        self.sent_ns: list[int] = []
        self.statuses: list[tuple[float, ControlStatus]] = []
        self.heartbeats: list[tuple[float, PolicyStatus]] = []
        self.offset = 0.0
        self.swing = False
        self.look_after: Callable[[], None] = lambda: None
        self.rate_factor = 1.0
        self._streams = [stream for play in plays for stream in PLAYS[play]]
        self._namespace = namespace
        assert contract.reset is not None
        self._home = np.array(contract.reset.pose)
        self._measured = self._home
        self._noise = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)

    def __enter__(self) -> "Rig":
        self._thread = NodeThread(
            lambda context: Node(
                "rig", namespace=self._namespace, context=context, use_global_arguments=False
            )
        )
        self.node = self._thread.node
        self._services: dict[str, Any] = {}
        self._make_interfaces()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.close()

    def _make_interfaces(self) -> None:
        node, contract = self.node, self.contract
        part = contract.action[0]
        node.create_subscription(
            command_type(part),
            part.topic,
            self._on_command,  # type: ignore[arg-type]  # rclpy gives it the message's info as well
            names.EVENTS,
        )
        node.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_status, names.LATCHED
        )
        if "heartbeat" not in self._streams:
            node.create_subscription(
                PolicyStatus, names.POLICY_STATUS, self._on_heartbeat, names.COMMAND
            )
        makers = {
            "joints": (JointState, contract.state[0].topic, names.SENSOR_OUT, self._joints),
            "heartbeat": (PolicyStatus, names.POLICY_STATUS, names.COMMAND, self._heartbeat),
            "chunk": (ActionChunk, names.ACTION_CHUNK, names.COMMAND, self.chunk),
            "lease": (ModeRequest, names.MODE_REQUEST, names.EVENTS, self._lease),
        }
        for stream in self._streams:
            if stream == "cameras":
                for camera in reversed(contract.cameras):
                    self._feed(
                        camera.name,
                        camera_type(camera),
                        camera.topic,
                        names.SENSOR_OUT,
                        partial(self._picture, camera),
                        contract.rate_hz,
                    )
            else:
                kind, topic, qos, make = makers[stream]
                self._feed(stream, kind, topic, qos, make, RATES_HZ[stream])

    def _feed(
        self,
        stream: str,
        kind: type,
        topic: str,
        qos: Any,
        make: Callable[[], Any],
        rate_hz: float,
    ) -> None:
        publisher = self.node.create_publisher(kind, topic, qos)

        def publish() -> None:
            message = self.spoil.get(stream, lambda m: m)(make())
            if message is not None:
                publisher.publish(message)

        period_s = 1.0 / (rate_hz * self.rate_factor)
        self.node.create_timer(period_s, publish, clock=steady_clock())

    # What it plays ----------------------------------------------------------------------------

    def now_ns(self) -> int:
        """ROS time in force for stamps; override it to play with the clock."""
        return time.time_ns()

    def motion(self, time_ns: int) -> FloatArray:
        """Where the arm should be at a time, (A,): all joints but the last swing."""
        pose = self._home.copy()
        pose[:-1] += AMPLITUDE_RAD * np.sin(RATE_RAD_S * (time_ns % (1000 * NANO)) / NANO)
        pose[0] += self.offset
        return pose

    def _joints(self) -> JointState:
        part = self.contract.state[0]
        if self.swing:
            self._measured = self.motion(self.now_ns())
        return joint_state_message(part.joints, part.field, self._measured, to_stamp(self.now_ns()))

    def _picture(self, camera: Camera) -> Any:
        """Noise that shifts with the joints: any motion shows, and rest is a still picture."""
        height, width, _ = camera.shape
        shift = int(1000 * float(self._measured[:-1].sum())) % 128
        image = np.ascontiguousarray(self._noise[shift : shift + height, :width])
        return camera_message(camera, image, to_stamp(self.now_ns()), camera.name)

    def _heartbeat(self) -> PolicyStatus:
        return PolicyStatus(ready=True, policy_version="rig")

    def chunk(self) -> ActionChunk:
        """A sound chunk of the motion, observed now."""
        now_ns = self.now_ns()
        message = ActionChunk(epoch=self.status.epoch if self.statuses else 0)
        message.header.stamp = to_stamp(now_ns)
        step_ns = round(self.contract.dt_s * NANO)
        message.trajectory = JointTrajectory(
            joint_names=list(self.contract.action_names),
            points=[
                JointTrajectoryPoint(
                    positions=self.motion(now_ns + k * step_ns).tolist(),
                    time_from_start=Duration(nanoseconds=k * step_ns).to_msg(),
                )
                for k in range(CHUNK_STEPS)
            ],
        )
        return message

    def _lease(self) -> ModeRequest:
        return ModeRequest(mode=ModeRequest.POLICY, holder="rig", request=1)

    # What it sees -----------------------------------------------------------------------------

    def _on_command(self, message: Any, info: dict[str, int]) -> None:
        part = self.contract.action[0]
        # As it came, sound or not: what hil sends is what a test is about.
        _, values = COMMANDS[part.type].read(message, part.command, part.topic)
        command = np.array(values)
        self.wire.append((time.monotonic(), command))
        self.sent_ns.append(info["source_timestamp"])
        if command.shape == self._home.shape and np.isfinite(command).all():
            self._measured = command

    def _on_status(self, message: ControlStatus) -> None:
        self.statuses.append((time.monotonic(), message))

    def _on_heartbeat(self, message: PolicyStatus) -> None:
        self.heartbeats.append((time.monotonic(), message))

    @property
    def status(self) -> ControlStatus:
        """Newest status of hil. Raises IndexError before the first."""
        return self.statuses[-1][1]

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Poll until a condition holds; raises RigError, which says what was awaited."""
        deadline_s = time.monotonic() + timeout_s
        look_s = 0.0
        while not condition():
            if time.monotonic() > look_s:
                self.look_after()
                look_s = time.monotonic() + 0.1
            if time.monotonic() > deadline_s:
                got = f"hil: {self.status.reason}" if self.statuses else "no status from hil"
                raise RigError(f"{what}: not within {timeout_s:g} s ({got})")
            time.sleep(0.002)

    def pause(self, seconds: float) -> None:
        """Let time pass while the processes are looked after."""
        end_s = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end_s, "pause", seconds + 10.0)

    def wait_for_policy(self) -> None:
        """Wait for a policy process that says, from now on, that it is ready."""
        self.heartbeats.clear()
        self.wait(
            lambda: bool(self.heartbeats and self.heartbeats[-1][1].ready), "policy ready", READY_S
        )

    def wait_for_mode(self, mode: int, since_s: float = 0.0, timeout_s: float = 30.0) -> float:
        """Wait for a status with a mode; returns the arrival of the first one after `since_s`."""

        def arrival() -> float | None:
            return next((t for t, m in self.statuses if t >= since_s and m.mode == mode), None)

        self.wait(lambda: arrival() is not None, f"mode {mode}", timeout_s)
        found = arrival()
        assert found is not None
        return found

    def trigger(self, service: str, timeout_s: float = 10.0) -> str:
        """Call a std_srvs/Trigger; returns its message, raises RigError if it says no."""
        if service not in self._services:
            self._services[service] = self.node.create_client(Trigger, service)
        client = self._services[service]
        self.wait(client.service_is_ready, f"service {service}", timeout_s)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"service {service}", timeout_s)
        if not future.result().success:
            raise RigError(f"{service}: {future.result().message}")
        return str(future.result().message)

    def send_goal(self, goal: ExecuteTask.Goal, timeout_s: float = 30.0) -> None:
        """Give a real supervisor a task, again until one accepts it: it may just be starting.

        Raises:
            RigError: none accepted it in time.
        """
        action: ActionClient = self._services.setdefault(
            "task", ActionClient(self.node, ExecuteTask, names.EXECUTE_TASK)
        )
        self.wait(action.server_is_ready, "action execute_task", timeout_s)
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            sent = action.send_goal_async(goal)
            end_s = time.monotonic() + GOAL_ANSWER_S

            def answered(sent: Future = sent, end_s: float = end_s) -> bool:
                return sent.done() or time.monotonic() > end_s

            self.wait(answered, "")
            if sent.done() and sent.result().accepted:
                return
            self.pause(0.2)
        raise RigError(f"execute_task: not accepted within {timeout_s:g} s")

    def arm(self, timeout_s: float = 30.0) -> None:
        """Bring hil from wherever it is to a HOLD that may be left."""
        self.wait(lambda: bool(self.statuses), "status of hil", timeout_s)
        if self.status.mode == ControlStatus.DISARMED:
            deadline_s = time.monotonic() + timeout_s
            while True:
                try:
                    self.trigger("hil/arm")
                    break
                except RigError:  # joints have not reached it yet
                    if time.monotonic() > deadline_s:
                        raise
                    time.sleep(0.05)
        if self.status.resume_required:
            self.trigger("hil/resume")

    def run_policy(self, moving: bool = True, timeout_s: float = 30.0) -> None:
        """Bring hil from wherever it is to POLICY; with `moving`, wait until the arm moves."""
        start_s = time.monotonic()
        self.arm(timeout_s)
        self.wait_for_mode(ControlStatus.POLICY, start_s, timeout_s)
        self.wait(lambda: not moving or self.speed() > 0.02, "motion", timeout_s)

    def speed(self) -> float:
        """Largest joint speed of the newest two commands, rad/s; 0 without commands."""
        if len(self.wire) < 2:
            return 0.0
        step = self.wire[-1][1] - self.wire[-2][1]
        return float(np.abs(step).max() * self.contract.command_rate_hz)
