"""LeRobot's plug-ins as processes on a real graph: hil in front, a leader beside, and every end."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from test_lerobot_features import SITE, contract_data

from rewact_ros.msg import ControlStatus
from rewact_ros.nodes.hil import HilNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns

pytestmark = [pytest.mark.timeout(1200), pytest.mark.real_time]
# LeRobot brings PyTorch, and other tests may share the cores.
START_S = 600.0


class Cell:
    """Processes of the plug-in's nodes in this graph, and a person who watches."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.contract = folder / "robot.yaml"
        self.contract.write_text(yaml.safe_dump(contract_data(), sort_keys=False))
        self.node = Node("person")
        self.joints, self.images, self.targets, self.statuses = [], [], [], []
        self.diagnostics = {}
        listen = self.node.create_subscription
        listen(JointState, "joint_states", self.joints.append, names.SENSOR)
        listen(Image, "front/image_raw", self.images.append, names.SENSOR)
        listen(JointState, "leader/joint_states", self.targets.append, names.SENSOR)
        listen(ControlStatus, names.CONTROL_STATUS, self.statuses.append, names.LATCHED)
        listen(DiagnosticArray, names.DIAGNOSTICS, self._on_diagnostics, 10)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _on_diagnostics(self, msg):
        for status in msg.status:
            values = {pair.key: pair.value for pair in status.values}
            self.diagnostics[status.name] = status.message, values

    def start(self, node, what, settings, *parameters):
        """Start a node with a device's file; `what` is its folder's name."""
        folder = self.folder / what
        folder.mkdir()
        values = [f"contract:={self.contract}", *parameters]
        if settings:
            file = folder / "device.yaml"
            given = {"folder": str(folder), "calibration_dir": str(folder), **settings}
            file.write_text(yaml.safe_dump(given))
            values.append(f"{node.removeprefix('lerobot_')}_config:={file}")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"rewact_ros.nodes.{node}", "--ros-args"),
                *(part for value in values for part in ("-p", value)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{SITE}:{os.environ.get('PYTHONPATH', '')}"},
        )
        self.processes.append(process)
        return process, folder

    def wait(self, condition, what, timeout_s=30.0):
        end_s = time.monotonic() + timeout_s
        while not condition():
            self.executor.spin_once(timeout_sec=0.02)
            for process in self.processes:
                if process.poll() not in (None, 0) and "ends" not in what:
                    pytest.fail(f"{what}: {process.communicate()[0]}")
            assert time.monotonic() < end_s, what

    def call(self, service):
        client = self.node.create_client(Trigger, service)
        self.wait(client.service_is_ready, service)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, service)
        self.node.destroy_client(client)
        return future.result()

    def end(self, process, folder, signum):
        """Stop a node; returns its code and the plug-in's log."""
        process.send_signal(signum)
        self.wait(lambda: process.poll() is not None, "the process ends", 60.0)
        return process.returncode, log(folder)

    def close(self):
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.kill()
            process.communicate()
        self.executor.shutdown()
        self.node.destroy_node()


def log(folder):
    path = folder / "log"
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.fixture
def cell(graph, tmp_path):
    cell = Cell(tmp_path)
    yield cell
    cell.close()


@pytest.fixture
def hil(cell):
    """hil in this process, in front of the robot."""
    node = HilNode(parameter_overrides=[Parameter("contract", value=str(cell.contract))])
    stop = threading.Event()
    thread = threading.Thread(target=node.loop.run, args=(stop.is_set,))
    thread.start()
    yield node
    stop.set()
    thread.join(10.0)
    node.destroy_node()


def arm(cell):
    cell.wait(lambda: cell.call("hil/arm").success, "armed")
    cell.call("hil/resume")


def lead(cell):
    """Let the leader lead, also after a stop of hil on a busy machine."""
    if cell.statuses[-1].mode != ControlStatus.HUMAN:
        cell.call("hil/resume")
        cell.call("hil/take_over")


def write_pose(folder, **pose):
    path = Path(folder, "pose")
    path.with_suffix(".new").write_text(json.dumps(pose))
    path.with_suffix(".new").rename(path)


def test_a_leader_moves_the_arm_through_hil_and_both_are_left_once(cell, hil):
    robot, at = cell.start("lerobot_robot", "arm", {"type": "fixture_arm"})
    leader, held = cell.start("lerobot_teleop", "leader", {"type": "fixture_leader"})
    pose = {"shoulder_pan.pos": 0.0, "elbow_flex.pos": 0.0, "gripper.pos": 20.0}
    write_pose(held, **pose)
    cell.wait(lambda: cell.joints and cell.images and cell.targets, "all topics", START_S)
    first = dict(zip(cell.joints[0].name, cell.joints[0].position, strict=True))
    wanted = {"shoulder_pan": math.radians(9), "elbow_flex": math.radians(-18), "gripper": 50.0}
    assert first == pytest.approx(wanted)
    picture = cell.images[0]
    assert picture.encoding == "rgb8" and (picture.height, picture.width) == (24, 32)
    assert set(picture.data) == {128 + 9}
    age_s = (time.time_ns() - to_ns(cell.images[-1].header.stamp)) / 1e9
    assert 0 <= age_s < 5.0
    arm(cell)
    # Until the leader leads, hil tells it where the robot is.
    cell.wait(lambda: "torque on" in log(held), "feedback")
    fed = next(line for line in log(held) if line.startswith("feedback"))
    assert json.loads(fed.removeprefix("feedback ")) == pytest.approx(
        {"shoulder_pan.pos": 5.0, "elbow_flex.pos": -5.0, "gripper.pos": 25.0}
    ), "no more than 5 ahead of where the leader is"
    lead(cell)
    cell.wait(lambda: "torque off" in log(held), "the leader is let go")
    for step in range(1, 21):  # as a hand does it
        write_pose(held, **{**pose, "shoulder_pan.pos": float(step)})
        seen = len(cell.targets)
        cell.wait(lambda seen=seen: len(cell.targets) > seen + 2, "targets")

    def there():
        lead(cell)
        at = dict(zip(cell.joints[-1].name, cell.joints[-1].position, strict=True))
        return abs(at["shoulder_pan"] - math.radians(20)) < 1e-3 and abs(at["gripper"] - 20) < 0.1

    cell.wait(there, "the arm is where the leader is", 60.0)
    cell.wait(lambda: cell.images[-1].data[0] in (128 + 19, 128 + 20), "and the picture shows it")
    code, lines = cell.end(robot, at, signal.SIGTERM)
    assert code == 0 and lines == ["connect", "disconnect"], robot.stdout.read()
    code, lines = cell.end(leader, held, signal.SIGINT)
    assert code == 0 and lines[0] == "connect" and lines.count("disconnect") == 1


def test_clipping_and_failing_reads_are_told_and_lasting_ones_end_the_process(cell):
    settings = {"type": "fixture_arm", "max_relative_target": 5.0}
    robot, at = cell.start("lerobot_robot", "arm", settings, "most_failures:=400")
    cell.wait(lambda: cell.joints, "joints", START_S)
    commands = cell.node.create_publisher(Float64MultiArray, "arm/commands", names.COMMAND)
    aim = Float64MultiArray(data=[math.radians(90), math.radians(-18), 50.0])

    def value(key):
        return int(cell.diagnostics.get("/lerobot_robot", ("", {}))[1].get(key, 0))

    def told():
        commands.publish(aim)
        return value("clipped_commands")

    cell.wait(told, "clipping is told")
    assert cell.diagnostics["/lerobot_robot"][0].startswith("the plug-in clipped: shoulder_pan")
    # For a while: nothing is published, and then again.
    Path(at, "fail").touch()
    cell.wait(lambda: value("failed_reads"), "failures are told")
    assert "read failed: ConnectionError: no status packet" in cell.diagnostics["/lerobot_robot"][0]
    reads = value("reads")
    seen = len(cell.joints)
    failed = value("failed_reads")
    cell.wait(lambda: value("failed_reads") > failed, "more of them")
    assert value("reads") == reads and len(cell.joints) == seen
    Path(at, "fail").unlink()
    cell.wait(lambda: len(cell.joints) > seen, "joints again")
    Path(at, "fail").touch()
    cell.wait(lambda: robot.poll() is not None, "the process ends", 60.0)
    said = robot.stdout.read()
    assert robot.returncode == 1 and "error: 400 times in a row: read failed" in said, said
    assert "no status packet" in said
    assert log(at) == ["connect", "disconnect"]


def test_an_uncalibrated_robot_is_left_and_refused_with_the_command_that_mends_it(cell):
    robot, at = cell.start("lerobot_robot", "arm", {"type": "fixture_arm", "calibrated": False})
    cell.wait(lambda: robot.poll() is not None, "the process ends", START_S)
    said = robot.stdout.read()
    assert robot.returncode == 2 and "lerobot-calibrate --robot.type=fixture_arm" in said, said
    assert "Traceback" not in said
    assert log(at) == ["connect", "disconnect"] and not cell.joints


DUMMY = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_yaw", "wrist_roll"]


@pytest.mark.skipif(
    find_spec("lerobot_robot_dummy") is None,
    reason="pip install --no-deps lerobot-robot-dummy==1.0.1 (not in the lock: LeRobot imports it)",
)
def test_a_plug_in_of_the_registry_runs_by_its_type_alone(cell):
    data = contract_data()
    for key in ("observation.state", "action"):
        data[key] |= {"joints": [*DUMMY, "gripper"], "unit": "rad"}
    data["action"]["position"] = [-3.0, 3.0]
    del data["observation.images.front"], data["teleop"]
    cell.contract.write_text(yaml.safe_dump(data, sort_keys=False))
    robot, _ = cell.start("lerobot_robot", "arm", {}, "robot_type:=dummy_follower")
    cell.wait(lambda: cell.joints, "joints", START_S)
    assert list(cell.joints[0].name) == [*DUMMY, "gripper"] and not any(cell.joints[0].position)
    commands = cell.node.create_publisher(Float64MultiArray, "arm/commands", names.COMMAND)

    def taken():
        commands.publish(Float64MultiArray(data=[0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -0.25]))
        return int(cell.diagnostics.get("/lerobot_robot", ("", {}))[1].get("commands", 0))

    cell.wait(taken, "commands are taken")
    robot.send_signal(signal.SIGINT)
    said = robot.communicate(timeout=60.0)[0]
    assert robot.returncode == 0, said
    assert "shoulder_pan.pos: 0.5000" in said and "gripper.pos: -0.2500" in said
