"""The public Python API, before a robot that answers as hil and supervisor do."""

import os
import signal
import subprocess
import sys

import pytest
from action_msgs.msg import GoalStatus
from fake_robot import FakeRobot

from rewact_ros.msg import ControlStatus
from rewact_ros.stack import commander as module
from rewact_ros.stack import task as task_module
from rewact_ros.stack.commander import Commander, StackError
from rewact_ros.stack.domain import kept_environment, own_domain
from rewact_ros.stack.node_thread import NodeThread
from rewact_ros.stack.robot_lock import BringUpError
from rewact_ros.supervision.verdict import Outcome


@pytest.fixture(scope="module")
def domain():
    with kept_environment("ROS_DOMAIN_ID"):
        os.environ.pop("ROS_DOMAIN_ID", None)
        lock = own_domain()
        yield
        lock.release()


@pytest.fixture
def robot(domain):
    thread = NodeThread(FakeRobot)
    thread.start()
    yield thread.node
    thread.close()


def test_a_task_is_armed_for_run_and_disarmed_after(robot):
    with Commander() as commander:
        commander.wait_until_ready(20.0)
        commander.arm()
        result = commander.execute("a task", timeout_s=5.0)
        assert commander.reward() == 0.75
        assert robot.calls == ["arm"]
    assert result.success and result.outcome is Outcome.SUCCESS
    assert result.reason == "progress" and result.duration_s == 1.5
    assert result.reward == 0.75 and result.peak_reward is None
    assert robot.calls == ["arm", "disarm"] and robot.mode == ControlStatus.DISARMED


def test_nobodys_verdict_is_no_success_and_no_failure(robot):
    robot.verdict = Outcome.UNLABELLED
    with Commander() as commander:
        result = commander.execute("a task")
    assert not result.success and result.outcome is Outcome.UNLABELLED
    assert robot.calls == []  # armed by somebody else, and left so


def test_a_reward_that_does_not_come_or_is_old_is_absent(robot):
    robot.rewards = False
    with Commander() as commander:
        commander.wait_until_ready(20.0)
        assert commander.reward() is None
        robot.rewards = True
        commander.wait(lambda: commander.reward() is not None, 10.0, "reward")
        robot.rewards = False
        commander.wait(lambda: commander.reward(max_age_s=0.2) is None, 10.0, "old reward")
        assert commander.reward(max_age_s=60.0) == 0.75


@pytest.mark.parametrize("error", [ValueError("of the script"), KeyboardInterrupt()])
def test_an_exception_of_the_script_ends_the_task_and_disarms(robot, error):
    robot.verdict = None
    with pytest.raises(type(error)), Commander() as commander:
        commander.arm()
        task = commander.start("a task")
        commander.wait(lambda: task.feedback is not None, 10.0, "feedback")
        assert task.running and task.feedback.phase == "running"
        raise error
    assert robot.cancelled == 1 and robot.calls == ["arm", "disarm"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_task_and_disarms(robot, number):
    robot.verdict = None
    ended = signal.getsignal(signal.SIGTERM)
    # A shell that runs the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Commander() as commander:
            commander.arm()
            robot.on_task = lambda: os.kill(os.getpid(), number)
            commander.execute("a task")
    finally:
        signal.signal(signal.SIGINT, before)
    assert robot.cancelled == 1 and robot.calls == ["arm", "disarm"]
    assert signal.getsignal(signal.SIGTERM) is ended


SCRIPT = """
import signal
# A shell that runs the tests in the background has its children ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import time
from rewact_ros.stack.commander import Commander
with Commander() as robot:
    robot.arm()
    robot.start("a task")
    print("runs", flush=True)
    time.sleep(600.0)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_script_that_is_killed_where_it_does_not_wait_for_the_robot_disarms(robot, number):
    robot.verdict = None
    script = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    try:
        assert script.stdout.readline() == "runs\n"
        script.send_signal(number)
        script.wait(60)
    finally:
        script.kill()
    assert robot.cancelled == 1 and robot.calls == ["arm", "disarm"]


def test_a_task_is_cancelled_and_only_then_another_begins(robot):
    robot.verdict = None
    with Commander() as commander:
        task = commander.start("a task")
        with pytest.raises(StackError, match="got one that runs; take its"):
            commander.start("another")
        result = task.cancel()
        assert result.state == GoalStatus.STATUS_CANCELED and not task.running
        robot.verdict = Outcome.FAILURE
        assert commander.execute("another").outcome is Outcome.FAILURE


def test_a_task_that_does_not_end_in_time_is_cancelled(robot, monkeypatch):
    robot.verdict = None
    monkeypatch.setattr(task_module, "PATIENCE_S", 0.3)
    with Commander() as commander, pytest.raises(StackError, match="verdict: no answer"):
        commander.execute("a task", timeout_s=0.1)
    assert robot.cancelled == 1


def test_a_person_takes_over_and_hands_back(robot):
    with Commander() as commander:
        commander.arm()
        commander.take_over()
        assert commander.control.mode == ControlStatus.HUMAN
        commander.hand_back()
    assert robot.calls == ["arm", "take_over", "release", "resume", "disarm"]


def test_a_refusal_says_what_the_robot_said_and_how_to_mend_it(robot):
    robot.accepts = robot.serves = False
    with Commander() as commander:
        commander.wait_until_ready(20.0)
        with pytest.raises(StackError, match="execute_task was refused .*hil: as told; mend"):
            commander.execute("a task")
        with pytest.raises(StackError, match="hil/take_over: broken"):
            commander.take_over()


def test_a_robot_that_cannot_be_disarmed_is_told(robot):
    told = pytest.raises(StackError, match="may still be armed.*emergency stop")
    with told, Commander() as commander:
        commander.arm()
        robot.serves = False
    robot.serves, robot.mode = True, ControlStatus.DISARMED
    with pytest.raises(ValueError, match="of the script") as raised, Commander() as commander:
        commander.arm()
        robot.serves = False
        raise ValueError("of the script")
    assert "may still be armed" in raised.value.__notes__[0]


def test_what_looks_after_the_processes_ends_a_wait(robot):
    def look():
        raise BringUpError("hil died")

    with Commander(look_after=look) as commander, pytest.raises(BringUpError, match="hil died"):
        commander.pause(5.0)


def test_no_robot_is_an_error_that_names_domain_and_namespace(domain, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    domain_id = os.environ["ROS_DOMAIN_ID"]
    with Commander(namespace="left") as commander:
        assert commander.reward() is None and commander.timings() == {}
        with pytest.raises(StackError, match=f"ROS domain {domain_id}, namespace '/left': start"):
            commander.arm()


def test_a_commander_is_used_inside_its_with():
    with pytest.raises(StackError, match="expected a call inside"):
        Commander().arm()
