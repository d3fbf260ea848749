"""The real stack: robot, hil, supervisor and policy as processes on a ROS graph of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from action_msgs.msg import GoalStatus
from conftest import VX300S, write_policy
from std_msgs.msg import Float64MultiArray

from rewact_ros import strict_yaml
from rewact_ros.msg import ActionChunk, ControlStatus, Reward
from rewact_ros.policy.checkpoint_files import weights_version
from rewact_ros.policy.task_table import load_tasks
from rewact_ros.ros import interfaces as names
from rewact_ros.stack.bringup import BringUp
from rewact_ros.stack.commander import Commander, StackError
from rewact_ros.stack.domain import own_domain
from rewact_ros.stack.episode_watch import EpisodeWatch
from rewact_ros.stack.runner import BringUpError
from rewact_ros.supervision.verdict import Outcome

pytestmark = [pytest.mark.timeout(480), pytest.mark.real_time]


class Stack:
    """A running robot, its commander, and counters of what was on the wire."""

    def __init__(self, robot, log):
        self.runner, self.robot, self.log = robot.runner, robot, log
        self.commands, self.chunks, self.rewards = [], [], []
        for kind, topic, sink, qos in (
            (Float64MultiArray, "arm/commands", self.commands, names.COMMAND),
            (ActionChunk, names.ACTION_CHUNK, self.chunks, names.EVENTS),
            (Reward, names.REWARD, self.rewards, names.EVENTS),
        ):
            robot.node.create_subscription(kind, topic, sink.append, qos)

    def mode(self):
        return self.robot.control.mode if self.robot.control else None

    def wait(self, condition, what, timeout_s=60.0):
        self.robot.wait(condition, timeout_s, what)


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """Contract and parameters with long time limits: a busy machine must not trip watchdogs."""
    folder = tmp_path_factory.mktemp("patient")
    data = strict_yaml.load(VX300S)
    for key, value in data.items():
        if key.startswith("observation"):
            value["max_age_s"] = 1.5
    data.update(heartbeat_timeout_s=1.5, max_chunk_age_s=1.0)
    (folder / "vx300s.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (folder / "params.yaml").write_text(
        "/**/hil:\n  ros__parameters:\n    lease_timeout_s: 2.0\n"
        "/**/supervisor:\n  ros__parameters:\n    staleness_s: 5.0\n"
    )
    return folder


@pytest.fixture(scope="module")
def table(tiny_policy, vx300s, patient):
    """A table of two tasks, each with a policy and a time-out of its own."""
    write_policy(vx300s, patient / "other", dim_feedforward=32)
    rows = [
        {"task": "test*", "policy": str(tiny_policy)},
        {"task": "another*", "policy": "other", "timeout_s": 1.0},
    ]
    (patient / "tasks.yaml").write_text(yaml.safe_dump({"tasks": rows}))
    return patient / "tasks.yaml"


@pytest.fixture(scope="module")
def stack(table, monkeypatch_module, patient):
    monkeypatch_module.delenv("ROS_DOMAIN_ID", raising=False)
    log = []
    args = BringUp(
        contract=str(patient / "vx300s.yaml"),
        params_file=str(patient / "params.yaml"),
        tasks=str(table),
        sim=True,
    )
    with Commander(args, write=log.append) as robot:
        yield Stack(robot, log)
        pids = [robot.runner.pid(name) for name in ("sim", "hil", "supervisor", "policy")]
    left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not left, f"processes left running: {left}"


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_the_reward_flows_while_disarmed_and_nothing_is_commanded(stack):
    stack.wait(lambda: len(stack.rewards) > 20, "rewards")
    assert stack.mode() == ControlStatus.DISARMED
    assert not stack.commands
    assert all(0 <= r.value <= 1 for r in stack.rewards)
    stamps = [(r.header.stamp.sec, r.header.stamp.nanosec) for r in stack.rewards]
    assert len(set(stamps)) == len(stamps), "one observation gave two rewards"


def test_a_stopped_neighbour_cannot_lock_shared_memory_that_hil_writes_to(stack):
    def ports(name):
        return "/dev/shm/fastrtps_port" in Path(f"/proc/{stack.runner.pid(name)}/maps").read_text()

    assert ports("policy") and not ports("hil")


def test_a_task_is_refused_while_disarmed(stack):
    with pytest.raises(StackError, match="refused"):
        stack.robot.execute("test", 1.0)
    assert not stack.commands


def test_a_task_runs_through_reset_and_policy_to_a_verdict(stack, vx300s):
    stack.robot.arm()
    result, log = EpisodeWatch(stack.robot, vx300s).execute("test", 2.0, settle_s=0.2)
    assert result.outcome is Outcome.FAILURE and result.reason.startswith("timeout")
    assert result.state == GoalStatus.STATUS_SUCCEEDED and not result.success
    assert 0 <= result.reward <= 1 and result.duration_s >= 2.0
    assert log.truth is not None and not log.truth.success
    assert log.frames and log.rewards
    assert stack.commands and all(len(c.data) == 7 for c in stack.commands)
    timings = stack.robot.timings()
    assert timings["observation_to_command"].n > 10 and timings["command_interval"].n > 100
    stack.wait(lambda: stack.mode() == ControlStatus.HOLD, "hold after the verdict")


def test_another_task_runs_another_policy_and_no_chunk_of_the_first(stack, table):
    first, other = (weights_version(row.policy) for row in load_tasks(table).rows)
    robot, led = stack.robot, set()

    def keep(chunk):
        control = robot.control
        leads = control is not None and control.mode == ControlStatus.POLICY
        if leads and chunk.epoch == control.epoch:  # hil drops any other
            led.add(chunk.policy_version)

    listening = robot.node.create_subscription(ActionChunk, names.ACTION_CHUNK, keep, names.EVENTS)
    for task, version in (("another one", other), ("test", first)):
        led.clear()
        result = robot.execute(task, 0.0 if version == other else 1.0)
        assert result.outcome is Outcome.FAILURE and result.reason.startswith("timeout: 1 s")
        assert led == {version}
    robot.node.destroy_subscription(listening)
    with pytest.raises(StackError, match="refused"):
        robot.execute("dance", 1.0)
    assert "('test*', 'another*'), got 'dance'" in robot.supervisor.text


def test_a_killed_policy_leaves_the_arm_held_until_a_person_resumes(stack):
    robot = stack.robot
    task = robot.start("test", 60.0)
    stack.wait(lambda: stack.mode() == ControlStatus.POLICY, "policy mode")
    stack.robot.pause(0.5)
    os.kill(stack.runner.pid("policy"), signal.SIGKILL)
    stack.wait(lambda: stack.mode() == ControlStatus.HOLD, "hold", 10.0)
    assert robot.control.resume_required
    stack.robot.pause(0.5)
    held = list(stack.commands[-1].data)
    # The policy is started again by the bring-up; the arm must not move by itself.
    robot.policy = None
    robot.wait_until_ready()
    stack.robot.pause(0.5)
    assert stack.mode() == ControlStatus.HOLD
    assert list(stack.commands[-1].data) == held
    result = task.result(30.0)
    assert result.outcome is Outcome.UNLABELLED and result.state == GoalStatus.STATUS_ABORTED
    robot.arm()  # resumes


def test_cancelling_a_task_stops_motion(stack):
    robot = stack.robot
    task = robot.start("test", 60.0)
    stack.wait(lambda: stack.mode() == ControlStatus.POLICY, "policy mode")
    with pytest.raises(StackError, match="got one that runs"):
        robot.start("test", 60.0)
    stack.wait(lambda: task.feedback and task.feedback.phase == "running", "feedback")
    assert task.running
    result = task.cancel()
    stack.wait(lambda: stack.mode() == ControlStatus.HOLD, "hold", 10.0)
    assert not robot.control.resume_required
    assert result.state == GoalStatus.STATUS_CANCELED and not task.running


def test_processes_have_the_names_of_their_nodes(stack):
    for name in ("sim", "hil", "supervisor", "policy"):
        assert Path(f"/proc/{stack.runner.pid(name)}/comm").read_text().strip() == name
    assert any(line.startswith("sim | simulates vx300s from seed 300000") for line in stack.log)


def test_disarming_silences_the_command_topic(stack):
    stack.robot.disarm()
    stack.robot.pause(0.5)
    count = len(stack.commands)
    stack.robot.pause(0.5)
    assert len(stack.commands) == count


def test_a_second_robot_in_the_same_domain_is_refused(stack):
    with pytest.raises(BringUpError, match="already running"):
        own_domain()


def node(name, *args):
    """Run a node process that should refuse its configuration; returns (exit code, output)."""
    command = [sys.executable, "-m", f"rewact_ros.nodes.{name}", "--ros-args"]
    for arg in args:
        command += ["-p", arg]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("hil", ["contract:='nowhere.yaml'"], "nowhere.yaml"),
        ("hil", [f"contract:='{VX300S}'", "lease_timeout_s:=99.0"], "lease_timeout_s"),
        ("supervisor", [f"contract:='{VX300S}'", "dwell:=50"], "dwell"),
        ("sim", [f"contract:='{VX300S.with_name('g1.yaml')}'"], "expected the joints waist"),
    ],
)
def test_a_wrong_configuration_ends_a_node_with_one_line(name, args, words):
    code, output = node(name, *args)
    assert code == 2
    assert words in output and "Traceback" not in output


def test_a_policy_for_another_robot_is_refused_at_bring_up(tiny_policy):
    g1 = VX300S.with_name("g1.yaml")
    code, output = node("policy", f"contract:='{g1}'", f"policy:='{tiny_policy}'")
    assert code == 2
    assert "rate_hz" in output and "expected 30.0, got 20.0" in output and "Traceback" not in output


def test_up_stops_everything_when_a_node_refuses_its_configuration(tiny_policy, tmp_path):
    """A checkpoint of another robot: one line that says so, and nothing left running."""
    environment = {**os.environ, "ROS_DOMAIN_ID": "33"}
    policy = tmp_path / "policy"  # a path of its own tells these processes from the fixture's
    policy.symlink_to(tiny_policy)
    command = [sys.executable, "-c", "from rewact_ros.cli import main; main()", "up"]
    command += ["--contract", str(VX300S.with_name("g1.yaml")), "--policy", str(policy)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 2
    assert "error: policy: " in done.stderr and "rate_hz" in done.stderr
    assert "Traceback" not in done.stderr
    left = subprocess.run(["pgrep", "-f", str(policy)], capture_output=True, text=True, check=False)
    assert not left.stdout
