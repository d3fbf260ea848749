"""Node `sim`: the simulated robot behind the same topics as a real one."""

import time
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from rewact_ros.contract import ContractError, SampleError, load_contract
from rewact_ros.contract.state_values import POSE
from rewact_ros.msg import SimTruth
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.commands import Decode, command_decoder, command_type
from rewact_ros.ros.company import require_alone
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.diagnostics import OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.images import camera_message, camera_type
from rewact_ros.ros.params import SimParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.states import state_message, state_type
from rewact_ros.sim.task import find_task

TICK_HZ, JOINT_HZ = 100, 50
# Falling further behind than this, the clock runs slower than asked instead of catching up.
MAX_TICKS_PER_CALL = 5
# A command younger than this means that a controller holds the arm: a reset must not teleport it.
COMMAND_FRESH_S = 0.2


class SimNode(Guarded, Node):
    """Advances MuJoCo in step with the wall clock and publishes what a robot would."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("sim", **node_arguments)
        self.params = declare(self, SimParams)
        self.contract = load_contract(self.params.contract, self.get_namespace())
        self._task = find_task(self.params.task)
        self._check_contract()
        require_alone(self, (part.topic for part in self.contract.state))
        shapes = [camera.shape for camera in self.contract.cameras]
        height, width, _ = shapes[0] if shapes else (1, 1, 3)
        self.sim = self._task(width, height, tuple(c.name for c in self.contract.cameras))
        self._next_seed = self.params.seed
        self._ticks = 0
        self._last_command_s = -np.inf
        self._refused = self._overruns = 0
        # The first scene is there before anybody asks; the first ~/reset shows the same seed again.
        self.sim.reset(self.params.seed)
        self._make_interfaces()
        self._started_s = time.monotonic()
        self._origin = (time.monotonic(), 0)
        cameras = ", ".join(c.name for c in self.contract.cameras) or "no camera"
        self.get_logger().info(
            f"simulates {self.contract.robot} from seed {self.params.seed} with {cameras}, at "
            f"{self.params.real_time_factor:g} times the speed of the clock"
        )

    def _check_contract(self) -> None:
        if self.contract.action_names != self._task.joints:
            raise ContractError(
                f"sim: expected the joints {', '.join(self._task.joints)} as action, got "
                f"{', '.join(self.contract.action_names)}; use {self._task.contract_file()}"
            )
        for state in self.contract.state:
            known = set(state.joints) <= set(self._task.joints)
            joints = state.of_joints and state.field == "position"
            if not (known and (joints or state.type == POSE)):
                raise ContractError(
                    f"sim: observation.state: expected positions of {', '.join(self._task.joints)} "
                    f"or a pose of them, got {state.type} of "
                    f"{', '.join(state.joints)}"
                )
        for part in self.contract.action:
            if part.command not in ("position", "pose"):
                raise ContractError(
                    f"sim: {part.topic}: expected an action of positions or poses, got "
                    f"{part.command}"
                )
        if len({c.shape for c in self.contract.cameras}) > 1:
            raise ContractError("sim: expected cameras of one shape")
        if TICK_HZ % self.contract.rate_hz:
            raise ContractError(f"sim: rate_hz must divide {TICK_HZ}, got {self.contract.rate_hz}")

    def _make_interfaces(self) -> None:
        first = 0
        for part in self.contract.action:
            columns = slice(first, first + len(part.joints))
            take = partial(self._on_command, command_decoder(part), columns)
            self.create_subscription(command_type(part), part.topic, take, names.COMMAND)
            first = columns.stop
        self._clock_pub = self.create_publisher(Clock, "/clock", QoSProfile(depth=10))
        joints, pub = self._task.joints, self.create_publisher
        self._states = [
            (
                part,
                [joints.index(joint) for joint in part.joints],
                pub(state_type(part), part.topic, names.SENSOR_OUT),
            )
            for part in self.contract.state
        ]
        # Poses are observed in the frame in which they are commanded.
        frames = (part.frame_id for part in self.contract.action if part.frame_id)
        self._pose_frame = next(frames, "")
        self._image_pubs = {
            camera.name: self.create_publisher(camera_type(camera), camera.topic, names.SENSOR_OUT)
            for camera in self.contract.cameras
        }
        self._truth_pub = self.create_publisher(SimTruth, names.SIM_TRUTH, 10)
        self._objects_pub = self.create_publisher(Float64MultiArray, names.SIM_OBJECTS, 10)
        self.create_service(Trigger, "~/reset", self._on_reset)
        period_s = 1.0 / TICK_HZ / self.params.real_time_factor
        self.create_timer(period_s, self._on_timer, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    def _on_command(self, decode: Decode, columns: slice, msg: Any) -> None:
        command = self.sim.command
        try:
            command[columns] = decode(msg)
        except SampleError:
            self._refused += 1
            return
        self._last_command_s = time.monotonic()
        self.sim.set_command(command)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"seed {self._reset()}"
        return response

    def _reset(self) -> int:
        """Next seed. Where a controller holds the arm only the objects move."""
        seed, self._next_seed = self._next_seed, self._next_seed + 1
        held = time.monotonic() - self._last_command_s < COMMAND_FRESH_S
        self.sim.reset(seed, keep_arm=held)
        return seed

    def _on_timer(self) -> None:
        origin_s, origin_ticks = self._origin
        elapsed_s = (time.monotonic() - origin_s) * self.params.real_time_factor
        due = origin_ticks + int(elapsed_s * TICK_HZ) - self._ticks
        if due > MAX_TICKS_PER_CALL:
            self._overruns += 1
            self._origin = (time.monotonic(), self._ticks + MAX_TICKS_PER_CALL)
            due = MAX_TICKS_PER_CALL
        for _ in range(due):
            self._tick()

    def _tick(self) -> None:
        self.sim.advance(1.0 / TICK_HZ)
        self._ticks += 1
        sim_stamp = to_stamp(round(self._ticks * 1e9 / TICK_HZ))
        self._clock_pub.publish(Clock(clock=sim_stamp))
        stamp = sim_stamp if self.params.stamp_sim_time else self.get_clock().now().to_msg()
        if self._ticks % (TICK_HZ // JOINT_HZ) == 0:
            self._publish_state(stamp)
        if self._ticks % round(TICK_HZ / self.contract.rate_hz) == 0:
            self._publish_cameras(stamp)
            self._publish_truth(stamp)

    def _publish_state(self, stamp: Time) -> None:
        measured = self.sim.joint_positions()
        for part, order, publisher in self._states:
            msg = state_message(part, measured[order], stamp)
            if part.type == POSE:
                msg.header.frame_id = self._pose_frame
            publisher.publish(msg)

    def _publish_cameras(self, stamp: Time) -> None:
        if not self.params.render:
            return
        # The reference camera goes last: its image completes the observation.
        for camera in reversed(self.contract.cameras):
            image = self.sim.render(camera.name)
            self._image_pubs[camera.name].publish(
                camera_message(camera, image, stamp, f"{camera.name}_optical_frame")
            )

    def _publish_truth(self, stamp: Time) -> None:
        truth = self.sim.truth()
        msg = SimTruth(
            seed=truth.seed,
            stage=truth.stage,
            success=truth.success,
            success_time=truth.success_time_s,
            failure=truth.failure,
        )
        msg.header.stamp = stamp
        self._objects_pub.publish(Float64MultiArray(data=self.sim.objects().tolist()))
        self._truth_pub.publish(msg)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        factor = self._ticks / TICK_HZ / (time.monotonic() - self._started_s)
        slow = factor < 0.95 * self.params.real_time_factor
        return (
            WARN if slow else OK,
            "slower than asked" if slow else "running",
            {
                "real_time_factor": f"{factor:.2f}",
                "overruns": self._overruns,
                "refused_commands": self._refused,
            },
        )

    def close(self) -> None:
        """Free the renderers before the interpreter ends."""
        self.sim.close()


def main() -> None:
    """Entry point."""
    run_node(SimNode, (ValueError, RuntimeError, ImportError))


if __name__ == "__main__":
    main()
