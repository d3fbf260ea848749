"""Several policies, and several judges, in one process: each episode's task chooses, on a graph."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import VX300S, write_policy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from test_policy_node import Feeder

from rewact_ros.msg import ControlStatus, EpisodeEvent, PolicyUpdate
from rewact_ros.nodes.judge import JudgeNode
from rewact_ros.nodes.policy import ConfigurationError, PolicyNode
from rewact_ros.policy.checkpoint_files import weights_version
from rewact_ros.ros import interfaces as names

HOLD, POLICY = ControlStatus.HOLD, ControlStatus.POLICY


@pytest.fixture(scope="module")
def folders(tiny_policy, vx300s, tmp_path_factory):
    """Checkpoint folders put and sort, a copy of put, and one of another robot."""
    home = tmp_path_factory.mktemp("residents")
    shutil.copytree(tiny_policy, home / "put")
    shutil.copytree(tiny_policy, home / "copy")
    write_policy(vx300s, home / "sort", dim_feedforward=32)
    part = vx300s.state[0]
    write_policy(
        replace(vx300s, state=(replace(part, joints=part.joints[:5]),)), home / "elsewhere"
    )
    return home


@pytest.fixture(scope="module")
def version(folders):
    """Versions by folder."""
    return {folder.name: weights_version(folder) for folder in folders.iterdir() if folder.is_dir()}


@pytest.fixture
def table(folders):
    """Function: file of a table of patterns and folders."""

    def table(**rows):
        file = folders / "tasks.yaml"
        lines = [{"task": f"{name}*", "policy": folder} for name, folder in rows.items()]
        file.write_text(json.dumps({"tasks": lines}))
        return file

    return table


class Graph:
    """A node, a feeder of observations, and what a supervisor and hil say."""

    def __init__(self, kind, contract, file, **parameters):
        given = {"contract": str(VX300S), "tasks": str(file), "engine": "torch", **parameters}
        self.feeder = Feeder(contract)
        self.feeder.values = list(contract.reset.pose)
        self._control = self.feeder.create_publisher(
            ControlStatus, names.CONTROL_STATUS, names.LATCHED
        )
        self.updates = self.feeder.create_publisher(PolicyUpdate, names.POLICY_UPDATE, names.EVENTS)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.feeder)
        self.node = None
        try:
            self.node = kind(parameter_overrides=[Parameter(k, value=v) for k, v in given.items()])
        except Exception:
            self.close()
            raise
        self.executor.add_node(self.node)

    def turn(self, condition, feeding=True, timeout_s=20.0):
        deadline_s, next_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            assert time.monotonic() < deadline_s, self.feeder.status
            if feeding and time.monotonic() >= next_s:
                self.feeder.feed()
                next_s = time.monotonic() + 0.05
            self.executor.spin_once(timeout_sec=0.01)

    def more(self, messages, count=4):
        """So many more of these."""
        end = len(messages) + count
        self.turn(lambda: len(messages) >= end)

    def control(self, mode, epoch):
        """Say as hil does which mode and epoch are in force, and wait until it is heard."""
        self._control.publish(ControlStatus(mode=mode, epoch=epoch))
        self.turn(lambda: self.node._observations.epoch == epoch)

    def task(self, text, event=EpisodeEvent.STARTED):
        assert self.feeder.count_subscribers(names.EPISODE_EVENT) > 0
        self.feeder.events.publish(EpisodeEvent(event=event, task=text))

    def close(self):
        if self.node is not None:
            self.node.close()
            self.node.destroy_node()
        self.executor.shutdown()
        self.feeder.destroy_node()


@pytest.fixture
def start(graph, vx300s):
    made = []

    def start(kind, file, **parameters):
        made.append(Graph(kind, vx300s, file, **parameters))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_the_task_switches_the_policy_and_no_epoch_has_chunks_of_two(start, table, version):
    it = start(PolicyNode, table(put="put", sort="sort", stack="copy"))
    feeder, chunks = it.feeder, it.feeder.chunks
    assert len(it.node._residents.versions) == 2, "the same files twice are one engine"
    it.turn(lambda: feeder.status is not None and feeder.status.ready)
    it.more(feeder.rewards)
    assert not chunks, "nobody has said which task it is"
    assert feeder.rewards[-1].policy_version == version["put"] == feeder.status.policy_version

    it.control(HOLD, 1)
    it.task("put it there")
    it.more(chunks)
    it.task("Sort them")
    it.turn(lambda: feeder.status.policy_version == version["sort"])
    it.control(POLICY, 2)  # hil follows only what was observed from now on
    it.more(chunks, 8)
    it.task("stack them")  # while the arm moves: it waits
    it.more(chunks, 8)
    assert feeder.status.policy_version == version["sort"]
    it.control(HOLD, 2)
    it.turn(lambda: feeder.status.policy_version == version["put"])
    it.control(POLICY, 3)
    it.more(chunks, 8)
    led = {(chunk.epoch, chunk.policy_version) for chunk in chunks if chunk.epoch > 1}
    # In epoch 2 also what was computed while hil held the arm again, which it drops.
    assert led - {(2, version["put"])} == {(2, version["sort"]), (3, version["put"])}
    rewards = {reward.policy_version for reward in feeder.rewards}
    assert rewards == {version["put"], version["sort"]}
    hashes = {(r.policy_version, r.reward_hash) for r in feeder.rewards}
    assert len(hashes) == 2 == len({reward_hash for _, reward_hash in hashes})


def test_a_chunk_that_was_being_computed_at_the_switch_is_not_published(
    start, table, version, monkeypatch
):
    it = start(PolicyNode, table(put="put", sort="sort"))
    chunks = it.feeder.chunks
    it.task("put")
    it.more(chunks)
    engine, at_work = it.node._residents.running.engine, []
    infer = engine.infer

    def slow(*observation):
        at_work.append(it.node._residents.running)
        while it.node._residents.running is at_work[-1]:
            time.sleep(0.001)
        return infer(*observation)

    monkeypatch.setattr(engine, "infer", slow)
    it.turn(lambda: at_work)
    count = len(chunks)
    it.task("sort")
    it.more(chunks)
    assert {chunk.policy_version for chunk in chunks[count:]} == {version["sort"]}
    assert len(at_work) == 1


def test_a_task_without_a_row_is_named_and_nothing_acts(start, table):
    it = start(PolicyNode, table(put="put", sort="sort"))
    it.task("put")
    it.more(it.feeder.chunks)
    it.task("dance")
    it.turn(lambda: not it.feeder.status.ready and "got 'dance'" in it.feeder.status.reason)
    count = len(it.feeder.chunks)
    it.more(it.feeder.rewards)
    assert len(it.feeder.chunks) <= count + 1  # one may have been on its way
    it.task("sort")
    it.turn(lambda: it.feeder.status.ready)
    it.more(it.feeder.chunks)


def test_a_policy_that_was_started_within_an_episode_learns_its_task_by_the_next_event(
    start, table, version
):
    it = start(PolicyNode, table(put="put", sort="sort"))
    it.task("sort", EpisodeEvent.VERDICT)  # of one that is over
    it.turn(lambda: it.feeder.status is not None and it.feeder.status.ready)
    it.more(it.feeder.rewards)
    assert it.feeder.status.policy_version == version["put"] and not it.feeder.chunks
    it.control(POLICY, 5)  # which nothing moves, as nothing acts
    it.task("sort", EpisodeEvent.RESUMED)
    it.turn(lambda: it.feeder.status.policy_version == version["sort"])
    it.more(it.feeder.chunks)


def test_an_update_is_refused_by_name(start, table, folders):
    it = start(PolicyNode, table(put="put", sort="sort"))
    it.turn(lambda: it.feeder.status is not None)
    it.updates.publish(PolicyUpdate(path=str(folders / "copy"), sha256="0" * 64))
    it.turn(lambda: "several policies are resident" in it.feeder.status.reason)


def test_a_checkpoint_that_does_not_fit_is_refused_with_its_pattern(start, table, folders):
    with pytest.raises(ConfigurationError, match=r"task 'sort\*': .*observation\.state"):
        start(PolicyNode, table(put="put", sort="elsewhere"))
    odd = shutil.copytree(folders / "put", folders.parent / "odd", dirs_exist_ok=True)
    (odd / "notes.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"task 'sort\*': .*expected other weights than"):
        start(PolicyNode, table(put="put", sort=str(odd)))
    with pytest.raises(ConfigurationError, match="policy: expected none beside tasks"):
        start(PolicyNode, table(put="put"), policy=str(Path(folders, "put")))


def test_the_task_switches_the_judge(start, table, version):
    it = start(JudgeNode, table(put="put", sort="sort"))
    rewards = it.feeder.rewards
    it.more(rewards)
    it.task("sort")
    it.turn(lambda: rewards[-1].policy_version == version["sort"])
    it.task("dance")  # the supervisor refuses it; whoever spoke speaks on
    it.more(rewards)
    assert rewards[-1].policy_version == version["sort"]
    it.task("put")
    it.turn(lambda: rewards[-1].policy_version == version["put"])
    assert len({(r.policy_version, r.reward_hash) for r in rewards}) == 2
