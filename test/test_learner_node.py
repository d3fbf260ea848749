"""The learner node against a robot that answers from its journal."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VX300S
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from test_rl_agent import make_base
from test_rl_learner import QUICK, learn, make_learner, stream
from test_rl_loop import write_demos

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.base import Base
from rewact_ros.learning.rl.journal import Journal, to_record
from rewact_ros.learning.rl.learner import Learner
from rewact_ros.learning.rl.learner_state import agent_tensors
from rewact_ros.learning.rl.settings import preset, settings_text
from rewact_ros.learning.rl.transitions import Transition
from rewact_ros.learning.rl.updates import open_update
from rewact_ros.msg import LearnerStatus, PolicyStatus, PolicyUpdate, TransitionRequest
from rewact_ros.msg import Transition as TransitionMessage
from rewact_ros.nodes.learner import LearnerNode
from rewact_ros.policy.updates import Candidate, PolicyUpdates, Update
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns

RL = preset("residual", **QUICK)
WINDOW = 8
pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture(scope="module")
def base(tiny_policy: Path, vx300s: Contract) -> Base:
    return make_base(tiny_policy, vx300s, RL)


class Robot(Node):
    """Answers requests from its journal, as the transitions node does; also plays the policy."""

    def __init__(self, contract: Contract, transitions: list[Transition]) -> None:
        super().__init__("robot")
        self._contract, self._records = contract.hash, [to_record(t) for t in transitions]
        self.there = len(transitions)  # it has executed so many
        self.updates: list[PolicyUpdate] = []
        self.statuses: list[LearnerStatus] = []
        self._out = self.create_publisher(TransitionMessage, names.TRANSITIONS, names.EVENTS)
        self._policy = self.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
        for kind, topic, call in (
            (TransitionRequest, names.TRANSITION_REQUEST, self._answer),
            (PolicyUpdate, names.POLICY_UPDATE, self.updates.append),
            (LearnerStatus, names.LEARNER_STATUS, self.statuses.append),
        ):
            self.create_subscription(kind, topic, call, names.EVENTS)

    def _answer(self, msg: TransitionRequest) -> None:
        if msg.run not in ("", "robot-run"):
            return
        for number in range(msg.next, min(msg.next + WINDOW, self.there)):
            out = TransitionMessage(
                run="robot-run", robot=self._contract, number=number, count=self.there
            )
            out.record.frombytes(self._records[number])
            self._out.publish(out)

    def runs(self, version: str) -> None:
        self._policy.publish(PolicyStatus(ready=True, policy_version=version))

    @property
    def figures(self) -> dict[str, float]:
        if not self.statuses:
            return {}
        return dict(zip(self.statuses[-1].names, self.statuses[-1].values, strict=True))

    @property
    def text(self) -> str:
        return self.statuses[-1].text if self.statuses else ""


def learner_node(policy: Path, out: Path, settings: Path, **more: object) -> LearnerNode:
    values = {"contract": str(VX300S), "policy": str(policy), "out": str(out), "nice": 0}
    values |= {"settings": str(settings), "device": "cpu", "video_every": 0, **more}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    return LearnerNode(parameter_overrides=overrides)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.json"
    file.write_text(settings_text(RL))
    return file


@contextmanager
def spinning(*nodes: Node) -> Iterator[Callable[[Callable[[], bool]], None]]:
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)

    def until(condition: Callable[[], bool], timeout_s: float = 180.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            executor.spin_once(timeout_sec=0.05)
            if time.monotonic() > end_s:
                texts = [getattr(node, "text", "") for node in nodes]
                raise AssertionError(f"not within {timeout_s} s: {texts}")

    try:
        yield until
    finally:
        executor.shutdown()
        for node in nodes:
            getattr(node, "close", lambda: None)()
            node.destroy_node()


def test_what_it_learns_over_topics_is_what_it_learns_in_process(
    vx300s: Contract, base: Base, tiny_policy: Path, tmp_path: Path, settings: Path
):
    own = stream(base, RL)
    whole = make_learner(base, RL)
    whole.restore((), ())
    for transition in own:
        learn(whole, transition)
    robot = Robot(vx300s, own)
    node = learner_node(tiny_policy, tmp_path / "run", settings, publish_every=2)
    with spinning(robot, node) as until:
        until(lambda: robot.figures.get("robot_steps") == whole.counts.robot_steps)
        assert robot.figures["updates"] == whole.counts.updates
        assert robot.figures["behind"] == 0 and robot.statuses[-1].run == "robot-run"
        until(lambda: bool(robot.updates) and robot.figures["episodes"] == 5)
        # An update is repeated until the policy runs it, then no more; the policy would take it.
        first = len(robot.updates)
        until(lambda: len(robot.updates) > first)
        msg = robot.updates[-1]
        policies = tmp_path / "run" / "policies"
        running = Candidate(policies, "another", "")
        judge = PolicyUpdates(str(policies), vx300s.hash, running)
        update = Update(
            to_ns(msg.header.stamp), msg.path, msg.sha256, msg.version, msg.robot, msg.rollback
        )
        assert judge.judge(update).version == msg.version
        robot.runs(msg.version)
        until(lambda: node._heard)
        assert (policies / "newest").resolve() == (policies / msg.path).resolve()
        assert open_update(policies / msg.path, vx300s, "cpu")[1].settings == RL
    mine, theirs = agent_tensors(whole.agent), agent_tensors(node.run.agent)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    journal = Journal(tmp_path / "run" / "journal")
    assert [to_record(t) for t in journal.read()] == [to_record(t) for t in own]
    journal.close()


@pytest.mark.timeout(300)
def test_a_learner_killed_in_mid_run_has_lost_nothing_when_it_is_back(
    vx300s: Contract, base: Base, tiny_policy: Path, tmp_path: Path, settings: Path
):
    own, out = stream(base, RL), tmp_path / "run"
    texts = {"contract": VX300S, "policy": tiny_policy, "out": out, "settings": settings}
    command = [sys.executable, "-m", "rewact_ros.nodes.learner", "--ros-args"]
    command += ["-p", "video_every:=0", "-p", "device:=cpu", "-p", "nice:=0"]
    for name, value in texts.items():
        command += ["-p", f'{name}:="{value}"']
    robot = Robot(vx300s, own)
    robot.there = 5
    with spinning(robot) as until, subprocess.Popen(command, env=dict(os.environ)) as learner:
        try:
            until(lambda: robot.figures.get("robot_steps", 0) > 0)
        finally:
            learner.send_signal(signal.SIGKILL)
    robot = Robot(vx300s, own)  # which went on meanwhile
    node = learner_node(tiny_policy, out, settings)
    with spinning(robot, node) as until:
        until(lambda: node.run.learner.counts.robot_steps == sum(map(len, own)))
    journal = Journal(out / "journal")
    assert [to_record(t) for t in journal.read()] == [to_record(t) for t in own]
    journal.close()
    state = json.loads((out / "checkpoints" / "last" / "state.json").read_text())
    assert state["transitions"] == len(own)


def test_a_second_learner_for_a_robot_yields(
    vx300s: Contract, base: Base, tiny_policy: Path, tmp_path: Path, settings: Path
):
    robot = Robot(vx300s, stream(base, RL, 1))
    first = learner_node(tiny_policy, tmp_path / "one", settings)
    second = learner_node(tiny_policy, tmp_path / "two", settings)
    with spinning(robot, first, second) as until:
        until(lambda: bool(second.stopped))
        assert f"learner {first.name} serves this robot" in second.text
        until(lambda: first.run.learner.counts.transitions == robot.there)
        assert not first.stopped


def test_a_transition_that_is_not_finite_stops_learning_with_a_reason(
    vx300s: Contract, base: Base, tiny_policy: Path, tmp_path: Path, settings: Path
):
    own = stream(base, RL, 1)
    own[2] = replace(own[2], reward=np.full_like(own[2].reward, np.nan))
    robot = Robot(vx300s, own)
    node = learner_node(tiny_policy, tmp_path / "run", settings)
    with spinning(robot, node) as until:
        until(lambda: robot.text.startswith("stopped: ") and not robot.statuses[-1].learning)
        assert "reward: expected" in robot.text and "finite" in robot.text
        assert node.run.learner.counts.transitions == 2 == len(node.run.journal)


def test_memory_that_is_used_up_stops_learning_with_a_reason_and_keeps_what_came(
    vx300s: Contract, base: Base, tiny_policy: Path, tmp_path: Path, settings: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    def full(*_: object) -> dict:
        raise MemoryError

    monkeypatch.setattr(Learner, "_batch", full)
    robot = Robot(vx300s, stream(base, RL, 2))
    node = learner_node(tiny_policy, tmp_path / "run", settings)
    with spinning(robot, node) as until:
        until(lambda: robot.text.startswith("stopped: out of memory at update 0: lower batch_size"))
        assert len(node.run.journal) > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda contract, g1, folder: write_demos(contract, folder, success=False), "none of its"),
        (lambda contract, g1, folder: _of_another_robot(contract, g1, folder), "rate_hz: expected"),
        (lambda contract, g1, folder: folder / "nothing", "nothing"),
    ],
    ids=["without a success", "of another robot and rate", "absent"],
)
def test_demonstrations_that_cannot_be_used_stop_it_with_a_reason(
    make, words: str, vx300s: Contract, g1: Contract, tiny_policy: Path, tmp_path: Path,
    settings: Path, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    demos = make(vx300s, g1, tmp_path / "demos")
    node = learner_node(tiny_policy, tmp_path / "run", settings, demos=str(demos))
    with spinning(node) as until:
        until(lambda: bool(node.stopped))
        assert words in node.text


def _of_another_robot(contract: Contract, g1: Contract, folder: Path) -> Path:
    write_demos(contract, folder)
    about = {"hash": g1.hash, "signature": g1.signature()}
    (folder / "meta" / "contract.json").write_text(json.dumps(about))
    return folder
