"""hil on a real graph: who else speaks there, what it refuses, and what its log says."""

import subprocess
import sys
import threading
import time

import pytest
from conftest import VX300S
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rewact_ros.msg import ActionChunk, ControlStatus, ModeRequest, PolicyStatus
from rewact_ros.nodes.hil import HilNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.convert import to_stamp
from rewact_ros.tokens import TokenSender

HOME = [0.0, -0.96, 1.16, 0.0, -0.3, 0.0, 1.0]


def joint_state(contract, node, offset=0.0):
    msg = JointState(name=list(contract.state_names), position=[HOME[0] + offset, *HOME[1:]])
    msg.header.stamp = node.get_clock().now().to_msg()
    return msg


class World:
    """A robot that publishes its joints at 50 Hz, and a client of hil beside it."""

    def __init__(self, contract, namespace="", sim_time=False, path=VX300S):
        self.contract = contract
        clock = Parameter("use_sim_time", value=sim_time)
        self.node = Node("robot", namespace=namespace, parameter_overrides=[clock])
        self.joints = self.node.create_publisher(JointState, "joint_states", names.SENSOR_OUT)
        self.every(0.02, lambda: self.joints.publish(joint_state(contract, self.node)))
        self.statuses, self.lines = [], []
        self.node.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self.statuses.append, names.LATCHED
        )
        self.node.create_subscription(Log, "/rosout", self.lines.append, QoSProfile(depth=100))
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.hil = HilNode(
            namespace=namespace,
            parameter_overrides=[Parameter("contract", value=str(path)), clock],
        )
        self.stop = False
        self.thread = threading.Thread(target=self.hil.loop.run, args=(lambda: self.stop,))
        self.thread.start()

    def every(self, period_s, act):
        return self.node.create_timer(period_s, act, clock=steady_clock())

    def wait(self, condition, what, timeout_s=20.0):
        end_s = time.monotonic() + timeout_s
        while not condition():
            self.executor.spin_once(timeout_sec=0.01)
            assert time.monotonic() < end_s, f"{what}: {self.hil.path.modes.reason}"

    def call(self, service, request=None, kind=Trigger):
        client = self.node.create_client(kind, service)
        self.wait(client.service_is_ready, service)
        future = client.call_async(request or Trigger.Request())
        self.wait(future.done, service)
        self.node.destroy_client(client)
        return future.result()

    def arm(self):
        """Armed as soon as nothing that was speaks against it any more."""
        self.call("hil/clear_fault")
        answers = []

        def armed():
            answers.append(self.call("hil/arm"))
            return answers[-1].success

        self.wait(armed, "arm")
        self.call("hil/resume")
        return self.hil.path

    def refused(self, *words):
        """Wait for a refusal to arm with certain words."""
        path = self.hil.path
        path.disarm()

        def told():
            answer = self.call("hil/arm")
            path.disarm()
            return not answer.success and all(word in answer.message for word in words)

        self.wait(told, f"refusal with {words}")

    def log_of(self, level):
        return " | ".join(line.msg for line in self.lines if line.level == level)

    def close(self):
        self.stop = True
        self.thread.join(10.0)
        self.hil.destroy_node()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def world(graph, vx300s):
    with pytest.MonkeyPatch.context() as patch:  # what was wrong is forgotten sooner
        patch.setattr("rewact_ros.control.joint_sources.MEMORY_S", 1.0)
        patch.setattr("rewact_ros.ros.graph_watch.MEMORY_S", 1.0)
        world = World(vx300s)
        yield world
        world.close()


BAG_PLAYER = """
import sys, time
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
rclpy.init()
node = Node("rosbag2_player")
publisher = node.create_publisher(JointState, "joint_states", 10)
names = sys.argv[1].split(",")
while True:
    msg = JointState(name=names, position=[1.5, -0.96, 1.16, 0.0, -0.3, 0.0, 1.0])
    msg.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(msg)
    time.sleep(0.02)
"""


def test_a_bag_that_is_played_beside_the_robot_is_a_fault_by_name_and_refuses_to_arm(world):
    path = world.arm()
    command = [sys.executable, "-c", BAG_PLAYER, ",".join(world.contract.state_names)]
    player = subprocess.Popen(command)
    try:
        world.wait(lambda: path.mode == ControlStatus.FAULT, "fault")
        world.wait(lambda: "/rosbag2_player" in path.modes.reason, "its name")
        assert "joint_states" in path.modes.reason and "waist" in path.modes.reason
        world.call("hil/clear_fault")
        world.refused("disagree", "/rosbag2_player", "/robot")
    finally:
        player.kill()
        player.wait()
    world.wait(lambda: "joint_states" in world.log_of(Log.ERROR), "FAULT in the log as an error")


def test_old_stamps_of_another_publisher_refuse_to_arm_though_the_values_are_right(world):
    world.arm()
    other = Node("replayer")
    publisher = other.create_publisher(JointState, "joint_states", names.SENSOR_OUT)
    msg = joint_state(world.contract, other)
    msg.header.stamp.sec = 1000
    timer = world.every(0.02, lambda: publisher.publish(msg))
    try:
        path = world.hil.path
        world.wait(lambda: path.mode == ControlStatus.FAULT, "fault")
        assert "joint_states: header stamp is" in path.modes.reason
        world.call("hil/clear_fault")
        world.refused("header stamp is", "/replayer")
    finally:
        world.node.destroy_timer(timer)
        other.destroy_node()


@pytest.mark.parametrize("armed", [True, False])
def test_a_publisher_of_commands_that_is_there_for_one_message_is_not_overlooked(world, armed):
    path = world.arm()
    if not armed:
        path.disarm()
    other = Node("rogue")
    publisher = other.create_publisher(Float64MultiArray, "arm/commands", 10)
    while publisher.get_subscription_count() == 0:
        time.sleep(0.001)
    publisher.publish(Float64MultiArray(data=HOME))
    time.sleep(0.02)  # the shortest life that was seen to go unnoticed
    other.destroy_node()
    if armed:
        world.wait(lambda: path.mode == ControlStatus.FAULT, "fault")
        assert "also publishes robot commands" in path.modes.reason
        world.call("hil/clear_fault")
    world.refused("also publishes robot commands")
    world.arm()  # once it is gone for a while


def test_use_sim_time_cannot_be_set_while_a_node_runs(world):
    request = SetParameters.Request(
        parameters=[Parameter("use_sim_time", value=True).to_parameter_msg()]
    )
    result = world.call("hil/set_parameters", request, SetParameters).results[0]
    assert not result.successful and "use_sim_time" in result.reason
    assert not world.hil.get_parameter("use_sim_time").value
    assert not world.hil.get_clock().ros_time_is_active


def chunk(world, steps=20, **changes):
    contract, path = world.contract, world.hil.path
    msg = ActionChunk(epoch=path.epoch)
    msg.header.stamp = world.node.get_clock().now().to_msg()
    step = changes.get("dt_s", contract.dt_s)
    points = []
    for k in range(steps):
        point = JointTrajectoryPoint(positions=HOME[: changes.get("width", 7)])
        seconds = k * step + changes.get("shift_s", 0.0)
        point.time_from_start.sec = int(seconds)
        point.time_from_start.nanosec = round(seconds % 1 * 1e9)
        points.append(point)
    joints = changes.get("joints", contract.action_names)
    msg.trajectory = JointTrajectory(joint_names=list(joints), points=points)
    return msg


BAD_CHUNKS = [
    ({"steps": 0}, "chunk has 0 steps, expected 1 to"),
    ({"steps": 501}, "chunk has 501 steps, expected 1 to"),
    ({"width": 6}, "step 0 of the chunk has 6 positions, expected 7"),
    ({"joints": ["shoulder", "waist", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate",
                 "gripper"]}, "in this order"),
    ({"joints": [f"j{i}" for i in range(5000)]}, "(5000)"),
    ({"dt_s": 0.0}, "step 1 of the chunk has time_from_start 0.0000 s, expected 0.0500"),
    ({"dt_s": 0.1}, "step 1 of the chunk has time_from_start 0.1000 s, expected 0.0500"),
    ({"shift_s": 0.05}, "step 0 of the chunk has time_from_start 0.0500 s, expected 0.0000"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), BAD_CHUNKS)
def test_a_chunk_that_is_not_what_the_contract_says_is_refused_by_name(world, changes, words):
    before, told = world.hil.path.rejected, []
    world.hil.get_logger = lambda: type("Log", (), {"warning": lambda s, m, **k: told.append(m)})()
    try:
        world.hil._on_chunk(chunk(world, **changes))
    finally:
        del world.hil.get_logger
    assert world.hil.path.rejected == before + 1
    assert words in told[0] and len(told[0]) < 500


def test_a_sound_chunk_is_not_rejected(world):
    before = world.hil.path.rejected
    world.hil._on_chunk(chunk(world))
    assert world.hil.path.rejected == before


def policy_and_supervisor(world, tokens):
    """Timers that play both; `tokens()` makes proof and next of a lease."""
    requests = world.node.create_publisher(ModeRequest, names.MODE_REQUEST, names.EVENTS)
    heartbeat = world.node.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
    chunks = world.node.create_publisher(ActionChunk, names.ACTION_CHUNK, names.COMMAND)

    def renew():
        proof, promised = tokens()
        requests.publish(
            ModeRequest(mode=ModeRequest.POLICY, holder="/supervisor:1:2", request=1,
                        proof=proof, next=promised)
        )  # fmt: skip

    return [
        world.every(0.05, renew),
        world.every(0.05, lambda: heartbeat.publish(PolicyStatus(ready=True))),
        world.every(0.05, lambda: chunks.publish(chunk(world))),
    ]


def test_a_stranger_cannot_renew_the_lease_of_a_supervisor_by_its_name_and_stops_are_warnings(
    world,
):
    path = world.arm()
    sender, alive = TokenSender(), True

    def tokens():
        return sender.link() if alive else ("", "")

    timers = policy_and_supervisor(world, tokens)
    try:
        world.wait(lambda: path.mode == ControlStatus.POLICY, "policy")
        alive = False  # it died; from now on somebody else uses its name
        world.wait(lambda: path.mode == ControlStatus.HOLD, "hold")
        assert "lease expired" in path.modes.reason and path.modes.resume_required
    finally:
        for timer in timers:
            world.node.destroy_timer(timer)
    world.wait(lambda: "lease expired" in world.log_of(Log.WARN), "the stop in the log")
    path.disarm()


def test_what_the_operator_does_reaches_the_log(world):
    world.call("hil/disarm")
    world.lines.clear()
    world.arm()
    world.call("hil/disarm")
    for words in ("armed", "disarmed by the operator"):
        world.wait(lambda words=words: words in world.log_of(Log.INFO), words)


def test_a_clock_that_stands_still_stops_the_arm(graph, vx300s):
    clock = Node("clock")
    publisher = clock.create_publisher(Clock, "/clock", 10)
    world = World(vx300s, namespace="sim", sim_time=True)
    now_ns = 1_000_000_000

    def tick():
        nonlocal now_ns
        now_ns += 10_000_000
        publisher.publish(Clock(clock=to_stamp(now_ns)))

    running = world.every(0.01, tick)
    try:
        path = world.arm()
        policy_and_supervisor(world, lambda: ("", ""))
        world.wait(lambda: path.mode == ControlStatus.POLICY, "policy")
        world.node.destroy_timer(running)
        world.wait(lambda: path.mode == ControlStatus.HOLD, "hold")
        assert "/clock has stood still" in path.modes.reason and path.modes.resume_required
    finally:
        world.close()
        clock.destroy_node()


# Last: with the second node of a name in a process, the first one's log leaves the graph.
def test_another_hil_of_the_same_name_refuses_to_arm_and_says_so(world):
    path = world.arm()
    twin = HilNode(
        parameter_overrides=[
            Parameter("contract", value=str(VX300S)), Parameter("dry_run", value=True)
        ]
    )  # fmt: skip
    try:
        world.wait(lambda: path.mode == ControlStatus.FAULT, "a second of our name is a stranger")
        world.call("hil/clear_fault")
        world.refused("another hil", "/hil")
    finally:
        twin.destroy_node()
    world.arm()
