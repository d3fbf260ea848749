"""The recorder node beside real publishers: what it records, when, and what survives it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from conftest import ROOT, VX300S
from mcap.reader import make_reader
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState, Joy
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from rewact_ros.data.bags.episode_file import EPISODE_FILE, read_episode
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.lock import BagsLockedError
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.bags.recorder_setup import git_revision, topic_filter
from rewact_ros.data.bags.recovery import needs_recovery
from rewact_ros.msg import EpisodeEvent, PolicyStatus, RecorderStatus, Reward, SupervisorStatus
from rewact_ros.nodes.recorder import RecorderNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.images import image_message
from rewact_ros.ros.parameter_values import ParameterError
from rewact_ros.ros.params import RecorderParams
from rewact_ros.ros.process import CONFIGURATION_FAULT

PICTURE = np.arange(96 * 96 * 3, dtype=np.uint8).reshape(96, 96, 3)


class Robot(Node):
    """Publishes a robot's topics, numbered in a field of each, and what other nodes say."""

    def __init__(self, contract, namespace=""):
        super().__init__("robot", namespace=namespace)
        self.count = 0
        part = contract.state[0]
        self.joints = JointState(name=list(part.joints), position=[0.0] * len(part.joints))
        self.out = {
            "joints": self.create_publisher(JointState, part.topic, names.SENSOR_OUT),
            "policy": self.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND),
            "reward": self.create_publisher(Reward, names.REWARD, names.EVENTS),
            "command": self.create_publisher(
                Float64MultiArray, contract.action[0].topic, names.COMMAND
            ),
        }
        self.cameras = [
            self.create_publisher(Image, c.topic, names.SENSOR) for c in contract.cameras
        ]
        self.events = self.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        self.supervisor = self.create_publisher(
            SupervisorStatus, names.SUPERVISOR_STATUS, names.LATCHED
        )
        self.joy = self.create_publisher(Joy, "joy", names.SENSOR_OUT)
        self.status = None
        self.create_subscription(RecorderStatus, names.RECORDER_STATUS, self.keep, names.LATCHED)

    def keep(self, msg):
        self.status = msg

    def publish(self):
        self.count += 1
        stamp = self.get_clock().now().to_msg()
        self.joints.header.stamp = stamp
        self.joints.position[0] = float(self.count)
        self.out["joints"].publish(self.joints)
        self.out["policy"].publish(PolicyStatus(ready=True, policy_version="v7"))
        self.out["reward"].publish(Reward(value=float(self.count)))
        self.out["command"].publish(Float64MultiArray(data=[float(self.count)]))
        for camera in self.cameras:
            camera.publish(image_message(PICTURE, stamp, str(self.count)))

    def say(self, kind, name="e1", **more):
        self.events.publish(EpisodeEvent(episode_id=name, event=kind, **more))


class Stage:
    """A robot and recorder nodes in this process, turned by hand."""

    def __init__(self, contract, bags, namespace=""):
        self.bags = bags
        self.namespace = namespace
        self.robot = Robot(contract, namespace)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.robot)
        self.nodes, self.clients = [], {}

    def recorder(self, **parameters):
        given = {
            "contract": str(VX300S),
            "bags_dir": str(self.bags),
            "min_free_gb": 0.0,
            "sync_s": 0.0,
            **parameters,
        }
        overrides = [Parameter(key, value=value) for key, value in given.items()]
        node = RecorderNode(parameter_overrides=overrides, namespace=self.namespace)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def until(self, condition, timeout_s=20.0, publish=True):
        """Go on, with messages every 10 ms or so, until something is so."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, "it never came to that"
            if publish:
                self.robot.publish()
            for _ in range(20):
                self.executor.spin_once(timeout_sec=0.001)

    def joined(self, node, *topics):
        self.until(lambda: set(topics) <= node.recording.topics.keys())

    def call(self, action):
        """Answer of a service; a request that discovery lost is sent again."""
        if action not in self.clients:
            name = f"{self.namespace}/recorder/{action}"
            self.clients[action] = self.robot.create_client(Trigger, name)
        self.until(self.clients[action].service_is_ready)
        while True:
            future, end_s = self.clients[action].call_async(Trigger.Request()), time.monotonic() + 5
            self.until(lambda f=future, e=end_s: f.done() or time.monotonic() > e)
            if future.done():
                return future.result()

    def end(self, node):
        """End a recorder; its episodes by name."""
        self.executor.remove_node(node)
        self.nodes.remove(node)
        node.close()
        node.destroy_node()
        return self.episodes()

    def episodes(self):
        return {p.parent.name: read_episode(p.parent) for p in self.bags.glob(f"*/{EPISODE_FILE}")}

    def close(self):
        for node in [*self.nodes]:
            self.end(node)
        self.executor.shutdown()
        self.robot.destroy_node()


@pytest.fixture
def stage(graph, vx300s, tmp_path):
    stage = Stage(vx300s, tmp_path / "bags")
    yield stage
    stage.close()


def contents(folder, topic):
    """Messages of one topic in a recording."""
    with Bag(folder) as bag:
        return [message.body for message in bag.messages([topic])]


def test_a_supervised_episode_is_recorded_whole(stage, vx300s):
    node = stage.recorder()
    stage.joined(node, "/joint_states", "/front/image_raw", "/rewact/reward", "/arm/commands")
    said = []

    def begin():
        stage.robot.say(EpisodeEvent.STARTED, task="pick")
        said.append(1)
        return bool(node.session.owner)

    stage.joined(node, "/rewact/episode_event")
    stage.until(begin)
    stage.robot.say(EpisodeEvent.RUNNING)
    stage.until(lambda: node.recording.received["/joint_states"] >= 50)
    stage.until(lambda: stage.robot.status is not None and stage.robot.status.recording)
    assert stage.robot.status.episode_id == "e1"
    assert stage.robot.status.bag == str(stage.bags / "e1")
    stage.robot.say(EpisodeEvent.VERDICT, outcome=1, termination_reason="progress", by="supervisor")
    stage.until(lambda: not node.session.owner)
    record = stage.end(node)["e1"]
    assert (record.outcome, record.task, record.policy_version) == ("success", "pick", "v7")
    assert record.contract_hash == vx300s.hash and record.contract["robot"] == vx300s.robot
    assert record.started_ns < record.running_ns < record.ended_ns
    folder = stage.bags / "e1"
    counts = [int(msg.position[0]) for msg in contents(folder, "/joint_states")]
    assert counts == [*range(counts[0], counts[-1] + 1)]
    assert record.topics["/joint_states"] == {
        "type": "sensor_msgs/msg/JointState", "received": len(counts), "dropped": 0,
    }  # fmt: skip
    kinds = [msg.event for msg in contents(folder, "/rewact/episode_event")]
    assert {EpisodeEvent.STARTED, EpisodeEvent.RUNNING} <= set(kinds)
    assert kinds[-1] == EpisodeEvent.VERDICT
    with Bag(folder) as bag:
        assert len(list(BagFrames(bag, vx300s).read())) > 20
        assert "/sim/truth" not in bag.topics


def test_people_record_by_services_without_any_policy_or_supervisor(stage):
    node = stage.recorder(operator="ada", task="wipe", preroll_s=0.3)
    stage.joined(node, "/joint_states")
    stage.until(lambda: stage.robot.count > 60)
    answer = stage.call("start")
    assert answer.success, answer.message
    assert not stage.call("start").success
    stage.until(lambda: node.recording.received["/joint_states"] >= 60)
    assert stage.call("success").success
    assert stage.call("start").success
    assert stage.call("rerecord").success
    assert stage.call("stop").success
    found = sorted(stage.end(node).values(), key=lambda record: record.started_ns)
    assert [r.outcome for r in found] == ["success", "unlabelled", "unlabelled"]
    assert [r.discarded for r in found] == [False, True, False]
    first = found[0]
    assert (first.by, first.operator, first.task) == ("ada", "ada", "wipe")
    with Bag(stage.bags / first.episode_id) as bag:
        times = [m.logged_ns for m in bag.messages(["/joint_states"])]
    assert 0 < first.started_ns - times[0] < 0.4e9  # the pre-roll


def test_buttons_of_a_gamepad_record(stage):
    node = stage.recorder(joy_buttons="start=2, failure=3")
    pressed = [0, 0, 1, 0]

    def press():
        stage.robot.joy.publish(Joy(buttons=pressed))
        return bool(node.session.owner)

    stage.until(press)
    pressed[2] = 0
    stage.until(lambda: press() and not node._pressed)
    pressed[3] = 1
    stage.until(lambda: not press())
    (record,) = stage.end(node).values()
    assert record.outcome == "failure"


def test_other_topics_join_by_pattern_and_when_they_appear(stage):
    node = stage.recorder(topics="/extra/.*", exclude="/wrist/.*")
    stage.joined(node, "/front/image_raw")
    assert stage.call("start").success
    latched = stage.robot.create_publisher(String, "/extra/late", names.LATCHED)
    latched.publish(String(data="here"))  # before anybody listens
    best_effort = stage.robot.create_publisher(String, "/extra/mixed", names.SENSOR)
    stage.joined(node, "/extra/late", "/extra/mixed")
    stage.until(lambda: node.recording.received["/extra/late"] == 1)
    reliable = stage.robot.create_publisher(String, "/extra/mixed", QoSProfile(depth=10))
    for publisher in (best_effort, reliable):
        before = node.recording.received["/extra/mixed"]

        def heard(publisher=publisher, before=before):
            publisher.publish(String(data="x"))
            return node.recording.received["/extra/mixed"] > before

        stage.until(heard)
    assert stage.call("stop").success
    (record,) = stage.end(node).values()
    assert "/wrist/image_raw" not in record.topics
    (late,) = contents(stage.bags / record.episode_id, "/extra/late")
    assert late.data == "here"


def test_what_goes_to_a_learner_is_recorded_only_if_asked_for(vx300s):
    streams = [f"/left/{names.DECISION}", f"/left/{names.TRANSITIONS}"]
    wanted = topic_filter(vx300s, RecorderParams(), "/left", sim_time=False)
    assert wanted(f"/left/{names.REWARD}") and not any(map(wanted, streams))
    asked = topic_filter(vx300s, RecorderParams(topics=".*/rewact/.*"), "/left", sim_time=False)
    assert all(map(asked, streams))


def test_a_recorder_in_a_namespace_records_that_robot(graph, vx300s, tmp_path):
    stage = Stage(vx300s, tmp_path / "bags", "/left")
    try:
        node = stage.recorder()
        stage.joined(node, "/left/joint_states", "/left/rewact/reward")
        assert stage.call("start").success
        stage.until(lambda: node.recording.received["/left/joint_states"] >= 5)
        (record,) = stage.end(node).values()
        assert record.namespace == "left" and record.termination_reason == "stopped"
    finally:
        stage.close()


def test_with_sim_time_messages_are_logged_by_the_clock(stage):
    node = stage.recorder(use_sim_time=True)
    clock = stage.robot.create_publisher(Clock, "/clock", names.SENSOR_OUT)
    now = {"s": 100}

    def tick():
        now["s"] += 1
        clock.publish(Clock(clock=Time(sec=now["s"])))
        return node.recording.received["/joint_states"] >= 20

    stage.joined(node, "/joint_states", "/clock")
    stage.until(lambda: tick() or node.get_clock().now().nanoseconds > 0)
    assert stage.call("start").success
    stage.until(tick)
    assert stage.call("stop").success
    (record,) = stage.end(node).values()
    with Bag(stage.bags / record.episode_id) as bag:
        times = [m.logged_ns for m in bag.messages(["/joint_states"])]
    assert 100e9 < times[0] <= times[-1] <= now["s"] * 1e9
    assert 100e9 < record.started_ns <= record.ended_ns <= now["s"] * 1e9


def test_messages_lost_on_the_way_are_counted(stage):
    node = stage.recorder()
    stage.joined(node, "/joint_states")
    assert stage.call("start").success
    stage.until(lambda: node.recording.received["/joint_states"] >= 5)
    before = stage.robot.count
    for _ in range(150):  # more than wait in the middleware while nobody takes them
        stage.robot.publish()
    stage.until(lambda: node.recording.dropped["/joint_states"] > 0)
    stage.call("stop")
    (record,) = stage.end(node).values()
    joints = record.topics["/joint_states"]
    assert joints["dropped"] >= 150 - 100 - 5
    counts = [int(m.position[0]) for m in contents(stage.bags / record.episode_id, "/joint_states")]
    assert joints["dropped"] == counts[-1] - counts[0] + 1 - len(counts)
    assert before in counts


def test_wrong_parameters_are_refused_by_name(stage):
    for name, value in (
        ("topics", "("),
        ("joy_buttons", "begin=1"),
        ("calibration", "/nowhere.json"),
        ("compression", "lzma"),
    ):
        with pytest.raises(ParameterError, match=name):
            stage.recorder(**{name: value})
    stage.recorder()
    with pytest.raises(BagsLockedError, match="another folder"):
        stage.recorder()


@pytest.fixture
def process(stage):
    """Function: start a recorder in a process of its own."""
    started = []

    def start():
        command = [sys.executable, "-m", "rewact_ros.nodes.recorder", "--ros-args"]
        for setting in (f"contract:={VX300S}", f"bags_dir:={stage.bags}", "min_free_gb:=0.0"):
            command += ["-p", setting]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True
            )
        )
        return started[-1]

    yield start
    for running in started:
        running.kill()
        running.wait()


def test_a_killed_recorder_costs_less_than_a_second_and_the_next_one_mends(stage, process):
    first = process()
    stage.until(
        lambda: stage.robot.status is not None and len(stage.robot.status.topics) >= 8, 60.0
    )
    assert stage.call("start").success
    second = process()

    def received():
        status = stage.robot.status
        return dict(zip(status.topics, status.received, strict=True)).get("/joint_states", 0)

    stage.until(lambda: received() >= 150)
    assert second.wait(60) == CONFIGURATION_FAULT  # two never write one bag
    assert "a recorder is at work" in second.communicate()[1]
    stage.robot.publish()
    killed_ns = time.time_ns()
    first.send_signal(signal.SIGKILL)
    first.wait()
    (folder,) = (p.parent for p in stage.bags.glob(f"*/{EPISODE_FILE}"))
    assert needs_recovery(folder)
    process()
    stage.until(lambda: not needs_recovery(folder), 60.0)
    record = read_episode(folder)
    assert record.recovered and record.termination_reason == "interrupted"
    with open(next(folder.glob("*.mcap")), "rb") as file:
        times = [m.log_time for _, _, m in make_reader(file, validate_crcs=True).iter_messages()]
    assert killed_ns - max(times) < 1e9
    counts = [int(m.position[0]) for m in contents(folder, "/joint_states")]
    assert counts == [*range(counts[0], counts[-1] + 1)]


def test_keys_of_a_terminal_record(stage):
    command = [Path(sys.executable).parent / "rewact", "record", "--operator", "ada"]
    command += ["--contract", VX300S, "--bags-dir", stage.bags]
    terminal, inside = pty.openpty()
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, cwd=ROOT)
    shown = bytearray()

    def status():
        while select.select([terminal], [], [], 0)[0]:
            shown.extend(os.read(terminal, 4096))
        return stage.robot.status

    def press(key, done):
        """Type it again every few seconds, should discovery have lost the call."""
        due_s = 0.0

        def typed():
            nonlocal due_s
            if time.monotonic() >= due_s:
                os.write(terminal, key)
                due_s = time.monotonic() + 5.0
            return status() is not None and done()

        stage.until(typed, 30.0)

    try:
        stage.until(lambda: status() and "/joint_states" in stage.robot.status.topics, 60.0)
        press(b"s", lambda: stage.robot.status.recording)
        press(b"y", lambda: not stage.robot.status.recording)
        press(b"q", lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(inside)
    assert b"recording 2" in shown
    (record,) = stage.episodes().values()
    assert (record.outcome, record.by) == ("success", "ada")


def test_a_tree_of_which_git_knows_nothing_adds_no_words_to_the_log(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("rewact_ros.data.bags.recorder_setup.share_dir", lambda: tmp_path)
    assert git_revision() == ""
    (tmp_path / ".git").mkdir()  # what is left of a clone, or one of somebody else
    assert git_revision() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision() == ""
    assert capfd.readouterr() == ("", "")


def test_the_revision_is_that_of_our_own_tree_and_says_where_it_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("rewact_ros.data.bags.recorder_setup.share_dir", lambda: tmp_path)
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "file"], [*name, "commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    revision = git_revision()
    assert len(revision) == 40
    (tmp_path / "file").write_text("2")
    assert git_revision() == f"{revision}+"
