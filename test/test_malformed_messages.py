"""Every malformed form of every message that our nodes listen to ends none of them.

Which topics those are is read from the nodes themselves. `pytest -s` shows the table.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import rclpy
from action_msgs.msg import GoalStatus
from conftest import VX300S
from malformed import HOSTILE_TEXT, HUGE_TEXT, forms, right
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger
from test_reward_model_node import write_classifier

from rewact_ros.action import ExecuteTask
from rewact_ros.msg import ActionChunk, ControlStatus, PolicyStatus, Reward, SupervisorStatus
from rewact_ros.nodes.hil import HilNode
from rewact_ros.nodes.policy import PolicyNode
from rewact_ros.nodes.recorder import RecorderNode
from rewact_ros.nodes.reward_model import RewardModelNode
from rewact_ros.nodes.scripted_human import ScriptedHumanNode
from rewact_ros.nodes.sim import SimNode
from rewact_ros.nodes.supervisor import SupervisorNode
from rewact_ros.nodes.teleop import TeleopNode
from rewact_ros.nodes.transitions import TransitionsNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.door import takes_info
from rewact_ros.stack.domain import own_domain

NODES = (
    HilNode, PolicyNode, SupervisorNode, RecorderNode, RewardModelNode, TransitionsNode,
    TeleopNode, ScriptedHumanNode, SimNode,
)  # fmt: skip


@dataclass
class Door:
    """A subscription of a node, and how many messages came through."""

    node: Node
    subscription: Subscription
    count: int = 0

    def __post_init__(self) -> None:
        inside = self.subscription.callback

        def with_info(message, info):
            self.count += 1
            inside(message, info)

        def alone(message):
            self.count += 1
            inside(message)

        self.subscription.callback = with_info if takes_info(inside) else alone


class Stack:
    """All nodes of ours in this process; hil in its own loop, and a peer that says anything."""

    def __init__(self, contract):
        self.contract = contract
        self.nodes = [make() for make in NODES]
        self.peer = Node("peer", use_global_arguments=False)
        self.executor = SingleThreadedExecutor()
        self.hil = self.nodes[0]
        self.doors: dict[str, list[Door]] = {}
        for node in self.nodes:
            for subscription in list(node.subscriptions):
                # The recorder polls some as bytes, and looks into few of them.
                if subscription.callback_group is node.default_callback_group:
                    topic = subscription.topic_name
                    self.doors.setdefault(topic, []).append(Door(node, subscription))
            if node is not self.hil:
                self.executor.add_node(node)
        self.executor.add_node(self.peer)
        self._stop = False
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run_hil, daemon=True)
        self._thread.start()

    def _run_hil(self) -> None:
        try:
            self.hil.loop.run(lambda: self._stop)
        except Exception as error:
            self._fault = error

    def until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> bool:
        """Turn the nodes until something is so; whether it came to that."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert self._fault is None and self._thread.is_alive(), repr(self._fault)
            if time.monotonic() > end_s:
                return False
            self.executor.spin_once(timeout_sec=0.01)
        return True

    def close(self) -> None:
        self._stop = True
        self._thread.join(timeout=10)
        self.executor.shutdown()
        for node in (*self.nodes, self.peer):
            getattr(node, "close", lambda: None)()
            node.destroy_node()

    # Messages ---------------------------------------------------------------------------------

    def right(self, topic: str, now_ns: int = 0):
        subscription = self.doors[topic][0].subscription
        name = topic.removeprefix("/s/").removeprefix("/")
        return right(subscription.msg_type, name, self.contract, now_ns or time.time_ns())

    def publisher(self, topic: str):
        doors = self.doors[topic]
        durability = max(d.subscription.qos_profile.durability for d in doors)
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        publisher = self.peer.create_publisher(doors[0].subscription.msg_type, topic, qos)
        assert self.until(lambda: publisher.get_subscription_count() >= len(doors))
        return publisher

    def send(self, publisher, topic: str, message, timeout_s: float = 0.3, tries: int = 3) -> bool:
        """Publish until every door has had it; whether they have."""
        doors = self.doors[topic]
        before = [door.count for door in doors]
        for _ in range(tries):
            publisher.publish(message)
            if self.until(
                lambda: all(d.count > n for d, n in zip(doors, before, strict=True)), timeout_s
            ):
                return True
        return False


def patient(contract: str) -> str:
    """A contract whose watchdogs leave a busy machine its time."""
    for name, value in (
        ("max_age_s", 5.0),
        ("max_skew_s", 1.0),
        ("max_chunk_age_s", 5.0),
        ("heartbeat_timeout_s", 5.0),
    ):
        contract, n = re.subn(rf"{name}: [\d.]+", f"{name}: {value}", contract)
        assert n, name
    return contract


@pytest.fixture(scope="module")
def stack(tiny_policy, vx300s, tmp_path_factory):
    root = tmp_path_factory.mktemp("matrix")
    values = {
        "policy:policy": tiny_policy,
        "policy:engine": "torch",
        "policy:policy_dir": tiny_policy.parent,
        "recorder:bags_dir": root / "bags",
        "recorder:min_free_gb": 0.0,
        "recorder:joy_buttons": "discard=9",
        "reward_model:model": write_classifier(root / "classifier"),
        "sim:render": "false",
        "supervisor:state_dir": root / "state",
        "supervisor:success_model_required": "true",
        "supervisor:reset_motion": "false",
        "transitions:journal": root / "journal",
    }
    contract = root / "vx300s.yaml"
    contract.write_text(patient(VX300S.read_text()))
    arguments = ["--ros-args", "-r", "sim:__ns:=/s", "-p", f"contract:={contract}"]
    for name, value in values.items():
        arguments += ["-p", f"{name}:={value}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        lock = own_domain()
        rclpy.init(args=arguments)
        stack = Stack(vx300s)
        yield stack
        stack.close()
        rclpy.shutdown()
        lock.release()


def test_no_malformed_message_ends_a_node_or_keeps_it_from_its_work(stack, capsys):
    sent, unheard = Counter(), Counter()
    for topic in sorted(stack.doors):
        publisher = stack.publisher(topic)
        for what, data in forms(partial(stack.right, topic)):
            sent[topic] += 1
            decodes = what not in ("nothing", "half of it")  # the middleware itself drops those
            if not stack.send(publisher, topic, data, tries=3 if decodes else 1):
                unheard[topic] += 1
        stack.peer.destroy_publisher(publisher)
    told = {
        door.node: Counter(door.node.refusals.counts) for d in stack.doors.values() for door in d
    }
    with capsys.disabled():
        print_table(stack, sent, unheard)

    for topic in sorted(stack.doors):
        publisher = stack.publisher(topic)
        assert stack.send(publisher, topic, stack.right(topic), 2.0), f"{topic}: nobody listens"
        stack.peer.destroy_publisher(publisher)
    for node, before in told.items():
        assert node.refusals.counts == before, f"{node.get_name()}: refuses what is right"
    assert not [node.get_name() for node in stack.nodes if node.refusals.faults]
    check_that_they_work(stack)


def print_table(stack, sent, unheard):
    print(f"\n{'topic':32}{'type':36}{'forms':>6}  refused by each node")
    for topic, doors in sorted(stack.doors.items()):
        kind = doors[0].subscription.msg_type
        refused = ", ".join(
            f"{door.node.get_name()} {door.node.refusals.counts[door.subscription.topic]}"
            for door in doors
        )
        print(f"{topic:32}{kind.__name__:36}{sent[topic]:6}  {refused}")
    pairs = sum(map(len, stack.doors.values()))
    total = sum(sent[topic] * len(doors) for topic, doors in stack.doors.items())
    print(f"{len(stack.nodes)} nodes, {pairs} doors, {total} malformed messages")


class Feeder:
    """Sends what a sound robot does, again and again, and keeps what the nodes say."""

    TOPICS = ("/joint_states", "/wrist/image_raw", "/front/image_raw")

    def __init__(self, stack):
        self.stack = stack
        self.publishers = {topic: stack.publisher(topic) for topic in self.TOPICS}
        self.said: dict[type, object] = {}
        for kind, topic in (
            (PolicyStatus, names.POLICY_STATUS),
            (ActionChunk, names.ACTION_CHUNK),
            (Reward, names.SUCCESS),
            (ControlStatus, names.CONTROL_STATUS),
            (SupervisorStatus, names.SUPERVISOR_STATUS),
        ):
            stack.peer.create_subscription(kind, topic, self._keep, names.EVENTS)
        stack.peer.create_timer(0.05, self._publish)

    def _keep(self, msg):
        self.said[type(msg)] = msg

    def _publish(self):
        now_ns = time.time_ns()
        for topic, publisher in self.publishers.items():
            publisher.publish(self.stack.right(topic, now_ns))

    def call(self, service: str) -> Trigger.Response:
        client = self.stack.peer.create_client(Trigger, service)
        assert self.stack.until(client.service_is_ready), service
        future = client.call_async(Trigger.Request())
        assert self.stack.until(future.done), service
        return future.result()


def check_that_they_work(stack):
    """From joints and pictures to a policy that drives the arm in a recorded episode."""
    feeder = Feeder(stack)
    said = feeder.said
    _, _, _, recorder, _, transitions, teleop, human, sim = stack.nodes
    until = stack.until
    assert until(lambda: PolicyStatus in said and said[PolicyStatus].ready), said[PolicyStatus]
    assert until(lambda: ActionChunk in said and Reward in said), said.keys()
    assert until(lambda: teleop.robot.joints() is not None and human.robot.joints() is not None)
    assert until(lambda: feeder.call("hil/arm").success), feeder.call("hil/arm").message
    actions = ActionClient(stack.peer, ExecuteTask, names.EXECUTE_TASK)
    assert until(actions.server_is_ready)

    def send(**goal):
        future = actions.send_goal_async(ExecuteTask.Goal(**goal))
        assert until(future.done)
        return future.result()

    for goal in (
        {"task": HUGE_TEXT},
        {"timeout": float("nan")},
        {"timeout": -1.0},
        {"episodes": 2**32 - 1},
    ):
        assert not send(**goal).accepted, goal
    goal = send(task=HOSTILE_TEXT, timeout=30.0)
    assert goal.accepted
    assert until(lambda: said[SupervisorStatus].phase == "running"), said[SupervisorStatus]
    assert until(lambda: said[ControlStatus].mode == ControlStatus.POLICY), said[ControlStatus]
    assert said[SupervisorStatus].text.isprintable()
    episode = said[SupervisorStatus].episode_id
    assert until(lambda: transitions.steps.episode == episode)
    ticks = sim._ticks
    assert until(lambda: sim._ticks > ticks)
    goal.cancel_goal_async()
    result = goal.get_result_async()
    assert until(result.done)
    assert result.result().status == GoalStatus.STATUS_CANCELED
    assert until(lambda: not recorder.session.owner)
    assert recorder.session.record.episode_id == episode
    assert recorder.session.record.task.isprintable()
    assert all(node.refusals.faults == 0 for node in stack.nodes)
