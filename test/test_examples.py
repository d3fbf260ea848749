"""The examples do what they say: the contract loads, the scripts run."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import rclpy
from conftest import ROOT
from fake_robot import FakeRobot

from rewact_ros.contract import load_contract
from rewact_ros.msg import Reward
from rewact_ros.stack.node_thread import NodeThread
from rewact_ros.supervision.verdict import Outcome

EXAMPLES = ROOT / "examples"


def test_the_smallest_contract_is_one():
    contract = load_contract(EXAMPLES / "contract.yaml")
    assert contract.action_names == ("shoulder", "elbow", "gripper")
    assert [camera.name for camera in contract.cameras] == ["front"]


def test_an_episode_is_shown_inline(vx300s, tmp_path):
    from PIL import Image
    from test_visualise import FRAMES, write_dataset

    dataset = write_dataset(tmp_path / "noise", vx300s)
    script = EXAMPLES / "show_episode.py"
    assert script.read_text().count("\n# %% ") == 3  # the cells
    command = [sys.executable, script, dataset.root, "1", tmp_path / "a.png"]
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"episode 1: none; {FRAMES} frames, 0.7 s\n")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 960 and len(picture.convert("RGB").getcolors(10**6)) > 100


def marked(mark):
    """Processes whose environment holds a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


@pytest.mark.timeout(500)
def test_a_script_of_forty_lines_runs_a_task_and_leaves_nothing_behind():
    script = EXAMPLES / "commander.py"
    assert len(script.read_text().splitlines()) <= 40
    environment = {**os.environ, "REWACT_MARK": uuid.uuid4().hex}
    environment.pop("ROS_DOMAIN_ID", None)
    done = subprocess.run(
        [sys.executable, script, "--timeout-s", "20"],
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    verdict, figures = done.stdout.splitlines()[-2:]
    assert verdict.startswith(("success: ", "failure: ", "unlabelled: "))
    assert "final reward " in figures
    assert any(line.startswith("reward 0.") for line in done.stdout.splitlines())
    assert not marked(environment["REWACT_MARK"])


def test_a_plain_node_hears_the_reward_fall(graph, tmp_path):
    node = rclpy.create_node("rewarding")
    publisher = node.create_publisher(Reward, "rewact/reward", 10)
    log = tmp_path / "log"
    with log.open("w") as stream:
        watch = subprocess.Popen([sys.executable, EXAMPLES / "reward_subscriber.py"], stderr=stream)
    try:
        end_s = time.monotonic() + 60.0
        while not publisher.get_subscription_count():
            assert time.monotonic() < end_s
            time.sleep(0.05)
        while "from 0.80 to 0.50" not in log.read_text():
            assert time.monotonic() < end_s, log.read_text()
            for value in (0.8, 0.7, 0.5):
                publisher.publish(Reward(value=value))
            time.sleep(0.1)
        assert "0.70" not in log.read_text()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 0
    finally:
        watch.kill()
        node.destroy_node()


@pytest.fixture
def leaf(graph):
    py_trees = pytest.importorskip("py_trees")
    spec = importlib.util.spec_from_file_location("leaf", EXAMPLES / "execute_task_leaf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    thread = NodeThread(FakeRobot)
    thread.start()
    node = rclpy.create_node("tree")
    leaf = module.ExecuteTaskLeaf("task", "a task", 5.0)
    tree = py_trees.trees.BehaviourTree(leaf)
    tree.setup(node=node)

    def tick_until(condition):
        end_s = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < end_s, leaf.feedback_message
            rclpy.spin_once(node, timeout_sec=0.05)
            tree.tick()

    yield leaf, tree, tick_until, node, thread.node
    tree.shutdown()
    node.destroy_node()
    thread.close()


@pytest.mark.parametrize(
    ("outcome", "accepts", "status", "words"),
    [
        (Outcome.SUCCESS, True, "SUCCESS", "progress"),
        (Outcome.FAILURE, True, "FAILURE", "progress"),
        (Outcome.UNLABELLED, True, "FAILURE", "progress"),
        (Outcome.SUCCESS, False, "FAILURE", "refused"),
    ],
)
def test_a_leaf_ends_as_its_task_was_judged(leaf, outcome, accepts, status, words):
    leaf, tree, tick_until, _, robot = leaf
    robot.verdict, robot.accepts = outcome, accepts
    for _ in range(2):  # a leaf is used again
        tree.tick()
        assert leaf.status.value == "RUNNING"
        tick_until(lambda: leaf.status.value != "RUNNING")
        assert leaf.status.value == status and leaf.feedback_message.startswith(words)


def test_a_leaf_that_is_interrupted_cancels_its_task(leaf):
    leaf, _, tick_until, node, robot = leaf
    invalid = type(leaf.status)("INVALID")
    leaf.stop(invalid)  # before it ran at all
    robot.verdict = None
    tick_until(lambda: leaf.feedback_message.startswith("running, progress 0.50"))
    leaf.stop(invalid)
    end_s = time.monotonic() + 30.0
    while not robot.cancelled:
        assert time.monotonic() < end_s
        rclpy.spin_once(node, timeout_sec=0.05)
    assert leaf.status.value == "INVALID"
