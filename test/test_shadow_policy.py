"""A shadow policy on a real graph: it predicts beside the policy, and nobody acts on it."""

import os
import sys
import threading
import time

import pytest
from conftest import G1, VX300S, write_policy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from test_policy_node import Feeder

from rewact_ros.data.bags.episode_file import read_episode
from rewact_ros.data.bags.reader import Bag
from rewact_ros.msg import ActionChunk, EpisodeEvent, PolicyStatus, Reward
from rewact_ros.nodes.hil import HilNode
from rewact_ros.nodes.policy import ConfigurationError, PolicyNode
from rewact_ros.nodes.recorder import RecorderNode
from rewact_ros.nodes.shadow_policy import SHADOWS, ShadowError, ShadowPolicyNode
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.diagnostics import OK, WARN
from rewact_ros.ros.params import RecorderParams
from rewact_ros.ros.shadow_watch import SILENT_S, ShadowWatch
from rewact_ros.stack.arguments import ArgumentError, BringUp
from rewact_ros.stack.bringup import ASIDE_NICENESS, Process, processes
from rewact_ros.stack.robot_lock import BringUpError
from rewact_ros.stack.runner import Runner


@pytest.fixture(scope="module")
def candidate(vx300s, tmp_path_factory):
    """Another checkpoint than `tiny_policy`, whose chunks are longer."""
    folder = tmp_path_factory.mktemp("shadow") / "candidate"
    return write_policy(vx300s, folder, chunk_size=30, n_action_steps=30)


def node_of(kind, **given):
    values = {"contract": str(VX300S), **given}
    return kind(parameter_overrides=[Parameter(key, value=value) for key, value in values.items()])


class Listener(Feeder):
    """The feeder, which hears the shadow too."""

    def __init__(self, contract):
        super().__init__(contract)
        self.shadow_chunks, self.shadow_rewards, self.shadow_statuses = [], [], []
        for kind, topic, kept in (
            (ActionChunk, names.SHADOW_CHUNK, self.shadow_chunks),
            (Reward, names.SHADOW_REWARD, self.shadow_rewards),
            (PolicyStatus, names.SHADOW_STATUS, self.shadow_statuses),
        ):
            self.create_subscription(kind, topic, kept.append, names.EVENTS)


class Graph:
    """Nodes of this process, turned by hand; `hil` has a loop of its own."""

    def __init__(self, contract, *nodes):
        self.feeder, self.nodes = Listener(contract), list(nodes)
        self.executor = SingleThreadedExecutor()
        for node in (self.feeder, *nodes):
            self.executor.add_node(node)

    def turn(self, condition, timeout_s=30.0):
        end_s, next_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            assert time.monotonic() < end_s, "it never came to that"
            if time.monotonic() >= next_s:
                self.feeder.feed()
                next_s = time.monotonic() + 0.05
            self.executor.spin_once(timeout_sec=0.005)

    def close(self):
        for node in self.nodes:
            node.close()
        self.executor.shutdown()
        for node in (*self.nodes, self.feeder):
            node.destroy_node()


@pytest.fixture
def hil(graph, monkeypatch):
    """hil; `heard`: versions of what came in at its doors for a policy."""
    heard = []
    for name in ("_on_chunk", "_on_policy_status"):
        monkeypatch.setattr(HilNode, name, lambda self, msg: heard.append(msg.policy_version))
    node, stop = node_of(HilNode, dry_run=True), threading.Event()
    thread = threading.Thread(target=node.loop.run, args=(stop.is_set,))
    thread.start()
    node.heard = heard
    yield node
    stop.set()
    thread.join(10.0)
    node.destroy_node()


def by_stamp(chunks):
    return {to_ns(chunk.header.stamp): chunk for chunk in chunks}


def test_a_shadow_predicts_from_the_same_observations_is_recorded_and_hil_hears_none_of_it(
    graph, hil, vx300s, tiny_policy, candidate, tmp_path
):
    ours, theirs = (load_policy(folder, "cpu").version for folder in (tiny_policy, candidate))
    shadow = node_of(ShadowPolicyNode, policy=str(candidate), engine="torch")
    recorder = node_of(RecorderNode, bags_dir=str(tmp_path), min_free_gb=0.0, shadow=True)
    alone = Graph(vx300s, shadow, recorder)
    feeder = alone.feeder
    try:
        # Alone, so that whatever came would be its own.
        alone.turn(lambda: len(feeder.shadow_chunks) > 5 and len(feeder.shadow_statuses) > 5)
        assert not feeder.chunks and not feeder.rewards and feeder.status is None and not hil.heard
        policy = node_of(PolicyNode, policy=str(tiny_policy), engine="torch")
        alone.nodes.append(policy)
        alone.executor.add_node(policy)
        alone.turn(lambda: ours in hil.heard)
        hil.path.epoch += 1
        kept = (feeder.chunks, feeder.shadow_chunks)
        alone.turn(lambda: all(c and c[-1].epoch == hil.path.epoch for c in kept))
        # Shadow, policy and recorder, which looks for topics twice a second.
        alone.turn(lambda: feeder.events.get_subscription_count() >= 3)
        feeder.events.publish(EpisodeEvent(episode_id="e1", event=EpisodeEvent.STARTED))
        alone.turn(lambda: recorder.session.owner)
        feeder.events.publish(EpisodeEvent(episode_id="e1", event=EpisodeEvent.RUNNING))
        counts = recorder.recording.received
        alone.turn(lambda: counts["/rewact/shadow/action_chunk"] > 20)
        feeder.events.publish(EpisodeEvent(episode_id="e1", event=EpisodeEvent.VERDICT))
        alone.turn(lambda: not recorder.session.owner)
        assert set(hil.heard) == {ours}
        assert {c.policy_version for c in feeder.chunks} == {ours}
        assert {c.policy_version for c in feeder.shadow_chunks} == {theirs}
        assert {r.policy_version for r in feeder.rewards} == {ours}
        assert {r.policy_version for r in feeder.shadow_rewards} == {theirs}
        acting, beside = by_stamp(feeder.chunks), by_stamp(feeder.shadow_chunks)
        assert len(acting.keys() & beside.keys()) > 10
        for topic in SHADOWS:
            assert feeder.count_publishers(topic) == 1  # a second judge would end every task
        assert recorder._diagnose()[0] == OK
    finally:
        alone.close()
    record = read_episode(tmp_path / "e1")
    assert (record.policy_version, record.contract_hash) == (ours, vx300s.hash)
    with Bag(tmp_path / "e1") as bag:
        assert {"/" + topic for topic in SHADOWS.values()} <= bag.topics.keys()
        assert not [t for t in bag.topics if "decision" in t or "shadow/reward_" in t]
        bodies = [m.body for m in bag.messages(["/rewact/shadow/action_chunk"])]
    assert {body.policy_version for body in bodies} == {theirs}


@pytest.mark.parametrize("topic", SHADOWS.values())
def test_no_remapping_gives_a_shadow_the_voice_of_a_policy(graph, topic):
    for other in (*SHADOWS, "elsewhere"):
        with pytest.raises(ShadowError, match=f"expected its topic as /{topic}, got /{other}"):
            ShadowPolicyNode(cli_args=["--ros-args", "-r", f"{topic}:={other}"])


def test_a_shadow_that_is_started_as_a_policy_is_still_one(graph, vx300s, tiny_policy):
    words = ["-r", "__node:=policy", "-r", "rewact/shadow:=rewact"]
    words += ["-p", "explore:=true", "-p", f"policy_dir:={tiny_policy.parent}"]
    given = {"contract": str(VX300S), "policy": str(tiny_policy), "engine": "torch"}
    node = ShadowPolicyNode(
        cli_args=["--ros-args", *words],
        parameter_overrides=[Parameter(key, value=value) for key, value in given.items()],
    )
    stage = Graph(vx300s, node)
    try:
        assert node.get_name() == "policy" and not node.has_parameter("explore")
        stage.turn(lambda: stage.feeder.shadow_chunks)
        assert not stage.feeder.chunks and stage.feeder.status is None
        for topic in (*SHADOWS, names.DECISION, names.REWARD_VALUE, names.REWARD_FEATURES):
            assert stage.feeder.count_publishers(topic) == 0
        assert node.count_subscribers(names.POLICY_UPDATE) == 0
    finally:
        stage.close()


def test_a_slow_shadow_is_no_misfit_and_says_what_it_skips(graph, vx300s, candidate, monkeypatch):
    warm_up = TorchEngine.warm_up
    monkeypatch.setattr(
        TorchEngine, "warm_up", lambda self: (warm_up(self), setattr(self, "fastest_s", 60.0))
    )
    with pytest.raises(ConfigurationError, match="takes 60.00 s for a chunk here"):
        node_of(PolicyNode, policy=str(candidate), engine="torch")
    shadow = node_of(ShadowPolicyNode, policy=str(candidate), engine="torch")
    stage = Graph(vx300s, shadow)
    engine = shadow._residents.running.engine
    infer = engine.infer
    engine.infer = lambda *given: (time.sleep(0.3), infer(*given))[1]
    try:
        stage.turn(lambda: shadow._observations.skipped > 3)
        level, text, _ = shadow._diagnose()
        assert level == WARN and "slower than the observations: skipped" in text
        assert shadow._diagnose()[0] == OK  # of the time since it was asked
    finally:
        stage.close()


def test_a_shadow_that_is_dead_stuck_or_not_ready_is_told_by_the_recorder():
    watch = ShadowWatch()
    assert watch.trouble(0.0) == "shadow policy: not heard yet"
    watch.heard(serialize_message(PolicyStatus(ready=True)), 1.0)
    assert watch.trouble(1.1) == ""
    assert watch.trouble(1.1 + SILENT_S) == "shadow policy: silent for 2 s: dead or stuck"
    watch.heard(serialize_message(PolicyStatus(reason="front: no image")), 9.0)
    assert watch.trouble(9.0) == "shadow policy: not ready: front: no image"
    watch.heard(b"\0\1\0\0\xff", 9.0)
    assert "does not decode" in watch.trouble(9.0)
    assert RecorderParams().shadow is False  # of a robot without one nothing is missed


# Bring-up -----------------------------------------------------------------------------------------


def test_a_bring_up_starts_the_shadow_aside_and_goes_on_without_it(candidate, tmp_path):
    given = {"shadow": str(candidate), "bags_dir": str(tmp_path)}
    nodes = {node.name: node for node in processes(BringUp.from_texts(given))}
    shadow = nodes["shadow_policy"]
    assert shadow.module == "rewact_ros.nodes.shadow_policy" and shadow.heavy
    assert shadow.parameters["policy"] == str(candidate) != nodes["policy"].parameters["policy"]
    assert (shadow.essential, shadow.niceness) == (False, ASIDE_NICENESS)
    assert nodes["recorder"].parameters["shadow"] is True
    assert str(candidate) not in map(str, nodes["supervisor"].parameters.values())
    others = [node for name, node in nodes.items() if name != "shadow_policy"]
    assert all(node.essential and not node.niceness for node in others)
    assert "shadow_policy" not in {n.name for n in processes(BringUp(bags_dir=str(tmp_path)))}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bags_dir": ""}, "shadow: expected bags_dir too, got none"),
        ({"policy": "none"}, "shadow: expected a policy that it predicts beside, got none"),
        (
            {"contract": str(G1), "policy": "p"},
            "shadow: checkpoint .*candidate does not fit.*rate_hz",
        ),
        ({"shadow": "nowhere"}, "shadow: no such checkpoint folder: nowhere"),
        ({"remap": "rewact/action_chunk:=rewact/shadow/action_chunk"}, "remap: expected no topic"),
        ({"remap": "hil:rewact/shadow/action_chunk:=x"}, "remap: expected no topic of the shadow"),
    ],
)
def test_a_shadow_that_fits_nothing_is_refused_by_name(candidate, tmp_path, changes, words):
    (tmp_path / "model.safetensors").touch()
    given = {"shadow": str(candidate), "bags_dir": str(tmp_path), **changes}
    if given.get("policy") == "p":
        given["policy"] = str(tmp_path)
    with pytest.raises(ArgumentError, match=words):
        processes(BringUp.from_texts(given))


def test_a_damaged_shadow_is_refused_by_name(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ArgumentError, match=r"shadow: .*config.json"):
        processes(BringUp(shadow=str(tmp_path), bags_dir=str(tmp_path)))


def process(module, folder, **more):
    environment = {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return Process(module, module, {}, sys.executable, True, environment=environment, **more)


def test_what_is_not_essential_ends_alone_and_runs_aside(tmp_path):
    refusal = "import sys\nprint('error: another robot', flush=True)\nsys.exit(2)\n"
    (tmp_path / "misfit.py").write_text(refusal)
    (tmp_path / "lives.py").write_text("import time\ntime.sleep(60)\n")
    lines = []
    aside = [process("misfit", tmp_path, essential=False), process("lives", tmp_path, niceness=7)]
    with Runner(aside, lines.append) as runner:
        end_s = time.monotonic() + 20
        while not any("goes on without it" in line for line in lines):
            assert time.monotonic() < end_s, lines
            runner.poll()
            time.sleep(0.01)
        assert "misfit | misfit: another robot; all else goes on without it" in lines
        assert os.getpriority(os.PRIO_PROCESS, runner.pid("lives")) == 7
        group = f"/proc/{runner.pid('lives')}/autogroup"
        if os.path.exists(group):
            with open(group) as file:
                assert file.read().split()[-1] == "7"
        runner.poll()
    with (
        pytest.raises(BringUpError, match="misfit: another robot"),
        Runner([process("misfit", tmp_path)], lines.append) as runner,
    ):
        while time.monotonic() < end_s:
            runner.poll()
            time.sleep(0.01)
