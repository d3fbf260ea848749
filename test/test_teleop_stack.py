"""Teleoperation on the real topics: gamepad, keyboard in a terminal, and the scripted human."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
import yaml
from conftest import VX300S
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from rewact_ros import strict_yaml
from rewact_ros.contract import load_contract
from rewact_ros.kinematics import ArmModel
from rewact_ros.msg import ControlStatus, SimTruth
from rewact_ros.ros import interfaces as names
from rewact_ros.sim.pick_place.scene import build_xml
from rewact_ros.stack.bringup import BringUp, Process, processes
from rewact_ros.stack.commander import Commander
from rewact_ros.stack.domain import own_domain
from rewact_ros.stack.runner import Runner

pytestmark = [pytest.mark.timeout(240), pytest.mark.real_time]
TELEOP = [sys.executable, "-c", "from rewact_ros.cli import main; main()", "teleop"]


class Robot:
    """The running arm, a gamepad in the test's hands, and what was seen."""

    def __init__(self, client, contract, folder):
        self.client, self.contract, self.folder = client, contract, folder
        self.joints = self.truth = self.command = None
        node = client.node
        self._joy = node.create_publisher(Joy, "joy", names.SENSOR_OUT)
        node.create_subscription(JointState, "joint_states", self._on_joints, names.SENSOR)
        node.create_subscription(SimTruth, names.SIM_TRUTH, self._on_truth, names.EVENTS)
        node.create_subscription(Float64MultiArray, "arm/commands", self._on_command, names.COMMAND)
        self._heard_s = 0.0
        gamepad = contract.teleop_source("gamepad")
        node.create_subscription(JointState, gamepad.topic, self._on_target, names.SENSOR)

    def _on_joints(self, msg):
        self.joints = np.array(msg.position)

    def _on_truth(self, msg):
        self.truth = msg

    def _on_command(self, msg):
        self.command = np.array(msg.data)

    def _on_target(self, msg):
        self._heard_s = time.monotonic()

    @property
    def mode(self):
        return self.client.control.mode

    def wait(self, condition, what, timeout_s=30.0):
        self.client.wait(condition, timeout_s, what)

    def hold_stick(self, until, what, pressed=True, timeout_s=20.0, **axes):
        """Publish the gamepad at 50 Hz until a condition holds."""
        msg = Joy(axes=[0.0] * 6, buttons=[0] * 6)
        msg.buttons[5] = int(pressed)
        for name, value in axes.items():
            msg.axes[{"x": 1, "y": 0, "z": 4, "yaw": 3}[name]] = value
        timer = self.client.node.create_timer(0.02, lambda: self._joy.publish(msg))
        try:
            self.wait(until, what, timeout_s)
        finally:
            self.client.node.destroy_timer(timer)

    def rest_stick(self):
        """The gamepad lies on the table until the teleop node was seen to know it.

        A node that is still being started hears nothing of a rest that is over by then, and moves
        nothing afterwards.
        """
        end_s = time.monotonic() + 0.3
        self.hold_stick(lambda: self._heard_s > end_s, "rest", pressed=False, timeout_s=60.0)

    def arm(self):
        self.client.arm()
        self.wait(lambda: self.command is not None and self.mode == ControlStatus.HOLD, "HOLD")


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teleop")
    data = strict_yaml.load(VX300S)
    for key, value in data.items():  # a busy machine must not trip watchdogs
        if key.startswith("observation"):
            value["max_age_s"] = 1.5
    for source in data["teleop"].values():
        source["max_age_s"] = source["deadman"]["max_age_s"] = 3.0
    (folder / "vx300s.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (folder / "params.yaml").write_text("/**/sim:\n  ros__parameters:\n    render: false\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ROS_DOMAIN_ID", raising=False)
        lock = own_domain()
        contract = str(folder / "vx300s.yaml")
        args = BringUp(
            contract=contract,
            params_file=str(folder / "params.yaml"),
            policy="none",
            sim=True,
            seed=100_010,
        )
        extra = [
            Process(name, f"rewact_ros.nodes.{name}", {"contract": contract}, sys.executable, True)
            for name in ("teleop", "scripted_human")
        ]
        with (
            Runner([*processes(args), *extra], lambda line: None) as runner,
            Commander(look_after=runner.poll) as client,
        ):
            robot = Robot(client, load_contract(contract), folder)
            robot.wait(
                lambda: client.control is not None and robot.joints is not None, "robot", 60.0
            )
            yield robot
        lock.release()


def test_a_gamepad_moves_the_tool_while_the_deadman_is_down_and_no_longer(robot):
    robot.arm()
    tool = ArmModel(robot.contract.teleop_source("gamepad").jog.tool, build_xml)
    robot.rest_stick()
    begin, turned = tool.pose(robot.command[:6])
    robot.hold_stick(
        lambda: tool.pose(robot.command[:6])[0][1] > begin[1] + 0.03, "3 cm to the left", y=1.0
    )
    assert robot.mode == ControlStatus.HUMAN and robot.client.control.active_source == "gamepad"
    point, rotation = tool.pose(robot.command[:6])
    np.testing.assert_allclose(point[[0, 2]], begin[[0, 2]], atol=1e-3)
    np.testing.assert_allclose(rotation, turned, atol=2e-2)
    robot.rest_stick()
    robot.wait(lambda: robot.mode == ControlStatus.HOLD, "HOLD")
    stopped = robot.command.copy()
    np.testing.assert_allclose(tool.pose(stopped[:6])[0][1], begin[1] + 0.03, atol=0.05)


def test_a_gamepad_that_falls_silent_stops_the_arm(robot):
    robot.arm()
    robot.rest_stick()
    robot.hold_stick(lambda: robot.mode == ControlStatus.HUMAN, "HUMAN", z=0.3)
    robot.wait(lambda: robot.mode == ControlStatus.HOLD, "HOLD")
    assert robot.client.control.resume_required
    assert "gamepad" in robot.client.control.reason
    robot.client.arm()  # resumes
    robot.rest_stick()


def test_the_scripted_human_finishes_the_task_through_the_same_topics(robot):
    robot.arm()
    helper = robot.client.node.create_client(SetBool, "scripted_human/help")
    robot.wait(helper.service_is_ready, "scripted_human")
    robot.wait(lambda: robot.truth is not None, "truth")
    future = helper.call_async(SetBool.Request(data=True))
    robot.wait(future.done, "help")
    assert future.result().success
    robot.wait(lambda: robot.mode == ControlStatus.HUMAN, "HUMAN")
    assert robot.client.control.active_source == "scripted_human"
    robot.wait(lambda: robot.truth.success, "the cube in the tray", 60.0)
    robot.wait(lambda: robot.mode == ControlStatus.HOLD, "released")
    assert "released" in robot.client.control.reason


class Terminal:
    """`rewact teleop` behind a pseudo-terminal."""

    def __init__(self, folder):
        self.outside, self.inside = pty.openpty()
        self.before = termios.tcgetattr(self.inside)
        self.shown = ""
        self.process = subprocess.Popen(
            [*TELEOP, "--contract", str(folder / "vx300s.yaml")],
            stdin=self.inside,
            stdout=self.inside,
            stderr=self.inside,
            env={**os.environ, "COLUMNS": "400"},
        )

    def read(self):
        while select.select([self.outside], [], [], 0)[0]:
            self.shown += os.read(self.outside, 65536).decode(errors="replace")
        return self.shown

    def line(self):
        return re.split(r"[\r\n]", self.read())[-1]

    def type(self, keys):
        os.write(self.outside, keys.encode())

    def type_until(self, robot, keys, condition):
        """Type again every half second: hil's services may take that long to be found."""
        end_s = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < end_s, self.line()
            self.type(keys)
            due_s = time.monotonic() + 0.5
            robot.wait(lambda due_s=due_s: condition() or time.monotonic() > due_s, keys)

    def ready(self):
        assert self.process.poll() is None, self.read()
        raw = not termios.tcgetattr(self.inside)[3] & termios.ICANON
        return raw and "q quit" in self.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.inside), os.close(self.outside)


@pytest.fixture
def terminal(robot):
    terminal = Terminal(robot.folder)
    try:
        robot.wait(terminal.ready, "keys", 60.0)
        yield terminal
    finally:
        terminal.close()


def test_keys_arm_take_over_jog_and_release(robot, terminal):
    robot.client.trigger("hil/disarm")
    robot.wait(lambda: re.search("DISARMED.*waist", terminal.line()), "DISARMED and the joints")
    terminal.type_until(robot, "a", lambda: robot.mode == ControlStatus.HOLD)
    terminal.type_until(robot, "t", lambda: robot.mode == ControlStatus.HUMAN)
    tool = ArmModel(robot.contract.teleop_source("keyboard").jog.tool, build_xml)
    height = tool.pose(robot.command[:6])[0][2]
    ended = time.monotonic() + 20.0

    def higher():
        terminal.type("u")
        return tool.pose(robot.command[:6])[0][2] > height + 0.01 or time.monotonic() > ended

    robot.wait(higher, "1 cm up")
    assert robot.client.control.active_source == "keyboard"
    robot.wait(lambda: "HUMAN (keyboard)" in terminal.line(), "the line says so")
    terminal.type_until(robot, "r", lambda: robot.client.control.resume_required)
    terminal.type_until(robot, "p", lambda: not robot.client.control.resume_required)
    terminal.type("q")
    assert terminal.process.wait(20) == 0
    assert termios.tcgetattr(terminal.inside) == terminal.before


def test_a_key_press_takes_over_by_itself_and_lets_go_by_itself(robot, terminal):
    robot.arm()
    robot.wait(lambda: "HOLD" in terminal.line(), "HOLD")
    terminal.type("\x1b[C")  # right: choose y
    terminal.type_until(robot, "\x1b[A", lambda: robot.mode == ControlStatus.HUMAN)  # up: move
    robot.wait(lambda: robot.mode == ControlStatus.HOLD, "let go")
    assert "released" in robot.client.control.reason
    robot.wait(lambda: "> y" in terminal.line(), "the chosen direction")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_terminal_is_given_back_however_it_ends(terminal, signum):
    terminal.process.send_signal(signum)
    terminal.process.wait(20)
    assert termios.tcgetattr(terminal.inside) == terminal.before


def test_without_a_terminal_it_says_so():
    result = subprocess.run(TELEOP, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert result.returncode == 2 and "not a terminal" in result.stderr
