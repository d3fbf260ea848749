"""The doctor before fake robots that run: what it hears, tells, publishes, and leaves alone."""

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from conftest import ROOT, run_command
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from rewact_ros.checks.table import CHECKS
from rewact_ros.nodes.hil import HilNode
from rewact_ros.ros.interfaces import DIAGNOSTICS
from rewact_ros.stack.doctor import diagnose
from rewact_ros.stack.doctor_settings import DoctorSettings
from rewact_ros.stack.machine_facts import machine_facts

sys.path.append(str(ROOT / "benchmarks"))

from doctor_faults import FAULTS, Robot, checkpoint, dataset
from robots_doctor import Running

BY_NAME = {fault.name: fault for fault in FAULTS}
TOGETHER = (  # faults of different checks that hide nothing of each other
    "camera misspelt in the contract",
    "second publisher of commands",
    "controller has another order",
    "joints without stamps",
    "degrees for rad",
    "limits wider than the model's",
)


class Ear:
    """Hears the diagnostics of a domain in a thread."""

    def __init__(self, context):
        self.node, self.heard = Node("ear", context=context, use_global_arguments=False), []
        self.node.create_subscription(DiagnosticArray, DIAGNOSTICS, self.heard.append, 10)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.spin)
        self.thread.start()

    def spin(self):
        while not self.over.is_set():
            self.executor.spin_once(timeout_sec=0.05)

    def close(self):
        self.over.set()
        self.thread.join()
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def robot(graph, tmp_path):
    return Robot.of("koch", tmp_path)


def by_name(results):
    return {result.name: result for result in results}


def test_a_robot_that_runs_is_heard_whole_and_nothing_is_sent_to_it(robot, tmp_path):
    checkpoint(robot), dataset(robot)
    picture = tmp_path / "views.png"
    with Running(robot) as running:
        ear = Ear(rclpy.get_default_context())
        try:
            asked = DoctorSettings(contract=robot.write(), pictures=picture, **robot.asked)
            found = by_name(diagnose(asked))
            end_s = time.monotonic() + 10
            while not ear.heard and time.monotonic() < end_s:
                time.sleep(0.02)
        finally:
            ear.close()
        assert running.received == []  # no command
    # Rates, gaps and losses are those of a busy machine; whatever else is told is wrong.
    timed = {"load", "real time", "time sync", "rates", "losses", "jitter", "skew", "stamps"}
    assert {n: r.text for n, r in found.items() if r.findings and n not in timed} == {}
    not_asked = {"teleop", "deadman", "rest", "calibration"}
    assert {n for n, r in found.items() if r.not_asked} == not_asked
    (told,) = [array.status for array in ear.heard]
    assert [s.name for s in told] == [f"/rewact_doctor: {check.name}" for check in CHECKS]
    assert next(s for s in told if s.name.endswith("topics")).message == "well"
    views = cv2.imread(str(picture))
    assert views.shape == (2 * (240 + 24), 2 * 320, 3)
    live, known = views[24:264, :320], views[24:264, 320:]
    assert np.abs(live.astype(int) - known).mean() < 12 and live.std() > 20


def test_a_clock_that_the_robot_does_not_follow_is_no_fault_of_its_stamps(robot):
    asked = DoctorSettings(contract=robot.write(), seconds=1.5)
    with Running(robot):
        node = Node("simulator", context=rclpy.get_default_context(), use_global_arguments=False)
        clock, over = node.create_publisher(Clock, "/clock", 10), threading.Event()

        def tick():
            while not over.wait(0.01):
                clock.publish(Clock(clock=Time(sec=12)))

        thread = threading.Thread(target=tick)
        thread.start()
        try:
            apart, followed = (
                by_name(diagnose(replace(asked, use_sim_time=follows)))["stamps"].text
                for follows in (False, True)
            )
        finally:
            over.set()
            thread.join()
            node.destroy_node()
    assert " ahead" not in apart
    assert " ahead" in followed and "--use-sim-time" in followed


def test_several_faults_are_each_named(robot):
    for name in TOGETHER:
        BY_NAME[name].put(robot)
    with Running(robot):
        found = by_name(diagnose(DoctorSettings(contract=robot.write(), seconds=1.5)))
    for name in TOGETHER:
        fault = BY_NAME[name]
        texts = [finding.text for finding in found[fault.check].findings]
        assert any(re.search(fault.words, text) for text in texts), (name, texts)


def arm(context):
    """The answer of hil to a call to arm."""
    node = Node("person", context=context)
    try:
        client = node.create_client(Trigger, "hil/arm")
        assert client.wait_for_service(20)
        future = client.call_async(Trigger.Request())
        rclpy.spin_until_future_complete(node, future, timeout_sec=10)
        return future.result().message
    finally:
        node.destroy_node()


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("controller of another type", "controllers"),
        ("joint states misspelt in the contract", "topics"),
        ("arm outside its limits", "pose"),
    ],
)
def test_hil_arm_refuses_with_the_doctors_words(robot, fault, check):
    BY_NAME[fault].put(robot)
    context = rclpy.get_default_context()
    with Running(robot):
        hil = HilNode(parameter_overrides=[Parameter("contract", value=str(robot.write()))])
        stop = threading.Event()
        thread = threading.Thread(target=hil.loop.run, args=(stop.is_set,))
        thread.start()
        try:
            end_s, refusal, texts = time.monotonic() + 60, "\n", []
            # Both look at a graph that each of them has yet to discover.
            while not any(text.endswith(refusal) for text in texts):
                assert time.monotonic() < end_s, (refusal, texts)
                asked = DoctorSettings(contract=robot.write(), seconds=1.0)
                found = by_name(diagnose(asked))
                texts = [finding.text for finding in found[check].findings]
                refusal = arm(context).partition(": ")[2]
            assert not found["one hil"].findings and not found["commands"].findings
        finally:
            stop.set()
            thread.join(10)
            hil.destroy_node()


def run(monkeypatch, capsys, *words):
    code = run_command(monkeypatch, "doctor", *words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_alone_examines_the_machine(graph, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "--json")
    found = {each["check"]: each for each in json.loads(out)}
    assert len(found) == len(CHECKS) and found["topics"]["state"] == "not_asked"
    assert code == int(any(each["state"] == "error" for each in found.values()))


def test_a_wrong_contract_is_told_whole_and_a_domain_that_is_none_before_ros_starts(
    graph, robot, monkeypatch, capsys
):
    monkeypatch.setenv("ROS_DOMAIN_ID", "robot")
    code, out, _ = run(monkeypatch, capsys, "--contract", robot.write())
    assert code == 1 and "ERROR domain" in out and "expected a number from 0 to 101" in out
    assert "not asked: mend what is wrong with ros, rmw and domain first" in out
    robot.contract["rate_hz"] = "fast"
    code, out, err = run(monkeypatch, capsys, "--contract", robot.write())
    assert code == 2 and not out and "rate_hz: expected a finite number" in err


def test_the_facts_of_a_machine_are_numbers_that_can_be(tmp_path):
    facts = machine_facts("rmw_x", [tmp_path / "not" / "yet"])
    assert facts.missing == () and facts.rmw == "rmw_x" and facts.cores >= 1
    assert facts.open_files > 64 and facts.memory_free > 1 << 20
    (free,) = facts.disk_free.values()
    assert free > 0 and facts.synchronised in (True, False, None)
    assert all(name.startswith(("ROS_", "RMW_", "FAST")) for name in facts.environment)


def test_the_doctor_loads_neither_torch_nor_lerobot_not_even_for_a_checkpoint():
    code = (
        "import sys, rewact_ros.cli.doctor\n"
        "assert 'numpy' not in sys.modules\n"
        "import rewact_ros.stack.doctor, rewact_ros.ros.robot_ears\n"
        "import rewact_ros.stack.doctor_report\n"
        "import rewact_ros.policy.checkpoint_facts, rewact_ros.supervision.calibration_facts\n"
        "import rewact_ros.data.dataset.first_pictures\n"
        "assert not {'torch', 'lerobot', 'cv2'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
