"""From the real policy node's decisions to the journal and to a learner, on a real ROS graph."""

import resource
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from conftest import VX300S
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from test_executed_steps import assert_same, built, policy
from test_rl_agent import make_base
from test_rl_learner import QUICK

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.journal import JournalError, from_record
from rewact_ros.learning.rl.loop import new_agent
from rewact_ros.learning.rl.settings import preset
from rewact_ros.learning.rl.transitions import TransitionBuilder
from rewact_ros.learning.rl.updates import write_update
from rewact_ros.msg import (
    ActionChunk,
    ControlStatus,
    Decision,
    EpisodeEvent,
    PolicyStatus,
    PolicyUpdate,
    Transition,
    TransitionRequest,
)
from rewact_ros.nodes.policy import PolicyNode
from rewact_ros.nodes.transitions import TransitionsNode
from rewact_ros.policy.updates import Update
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns, to_stamp
from rewact_ros.ros.images import image_message
from rewact_ros.ros.swap_client import to_message

DT_NS = 50_000_000
SETTINGS = preset("q_chunking", num_candidates=3, act_chunk_size=4, exploration=0.5, **QUICK)
UPDATES = 9  # the critic is warm
POLICY, HUMAN, HOLD = ControlStatus.POLICY, ControlStatus.HUMAN, ControlStatus.HOLD


class World(Node):
    """Stands in for clock, robot, hil, supervisor and learner; time goes when the test says so."""

    def __init__(self, contract: Contract) -> None:
        super().__init__("world")
        self.contract = contract
        self.now_ns = 100_000_000_000
        self.decisions: list[Decision] = []
        self.chunks: list[ActionChunk] = []
        self.records: dict[int, Transition] = {}
        self.said = ""
        self.clock = self.create_publisher(Clock, "/clock", 10)
        self.joints = self.create_publisher(JointState, contract.state[0].topic, names.SENSOR_OUT)
        self.cameras = [
            self.create_publisher(Image, c.topic, names.SENSOR_OUT) for c in contract.cameras
        ]
        self.commands = self.create_publisher(
            Float64MultiArray, contract.action[0].topic, names.COMMAND
        )
        self.control = self.create_publisher(ControlStatus, names.CONTROL_STATUS, names.LATCHED)
        self.events = self.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        self.requests = self.create_publisher(
            TransitionRequest, names.TRANSITION_REQUEST, names.EVENTS
        )
        self.create_subscription(Decision, names.DECISION, self.decisions.append, names.EVENTS)
        self.create_subscription(ActionChunk, names.ACTION_CHUNK, self.chunks.append, names.EVENTS)
        self.create_subscription(Transition, names.TRANSITIONS, self._on_record, names.EVENTS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.reasons: list[str] = []
        self.create_subscription(
            PolicyStatus,
            names.POLICY_STATUS,
            lambda msg: self.reasons.append(msg.reason),
            names.EVENTS,
        )
        self.updates = self.create_publisher(PolicyUpdate, names.POLICY_UPDATE, names.EVENTS)

    def _on_record(self, msg: Transition) -> None:
        self.records[msg.number] = msg

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name == "/transitions":
                self.said = status.message

    def stamp(self) -> Time:
        return to_stamp(self.now_ns)

    def show(self, raw: dict[str, np.ndarray]) -> None:
        """Publish an observation, the reference camera last."""
        part = self.contract.state[0]
        joints = JointState(name=list(part.joints), position=raw["observation.state"].tolist())
        joints.header.stamp = self.stamp()
        self.joints.publish(joints)
        pairs = list(zip(self.cameras, self.contract.cameras, strict=True))
        for publisher, camera in reversed(pairs):
            publisher.publish(image_message(raw[camera.key], self.stamp(), camera.name))

    def tell_mode(self, mode: int, epoch: int) -> None:
        msg = ControlStatus(mode=mode, epoch=epoch)
        msg.header.stamp = self.stamp()
        self.control.publish(msg)

    def tell_event(self, event: int, outcome: int = EpisodeEvent.UNLABELLED) -> None:
        msg = EpisodeEvent(episode_id="episode-1", event=event, outcome=outcome)
        msg.header.stamp = self.stamp()
        self.events.publish(msg)


class Bench:
    """The nodes in this thread."""

    def __init__(self, contract: Contract) -> None:
        self.world = World(contract)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.world)
        self.nodes: list[Node] = []
        self.transitions: TransitionsNode | None = None

    def start(self, kind: type, **parameters: object) -> Node:
        given = {"contract": str(VX300S), "use_sim_time": True, **parameters}
        node = kind(
            parameter_overrides=[rclpy.parameter.Parameter(k, value=v) for k, v in given.items()]
        )
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def stop(self, node: Node) -> None:
        self.executor.remove_node(node)
        self.nodes.remove(node)
        node.close()
        node.destroy_node()

    def close(self) -> None:
        for node in list(self.nodes):
            self.stop(node)
        self.executor.shutdown()
        self.world.destroy_node()

    def wait(self, condition, what: str, repeat=lambda: None, timeout_s: float = 30.0) -> None:
        deadline_s, again_s = time.monotonic() + timeout_s, 0.0
        while not condition():
            assert time.monotonic() < deadline_s, f"{what}; it says: {self.world.said}"
            if time.monotonic() > again_s:
                repeat()
                again_s = time.monotonic() + 0.1
            self.executor.spin_once(timeout_sec=0.01)

    def pass_time(self, ns: int) -> None:
        """Let the clock of every node reach a later time."""
        self.world.now_ns += ns
        now_ns = self.world.now_ns
        self.wait(
            lambda: all(n.get_clock().now().nanoseconds == now_ns for n in self.nodes),
            "clock",
            lambda: self.world.clock.publish(Clock(clock=to_stamp(now_ns))),
        )

    def send_command(self, values: np.ndarray) -> None:
        """As hil would at this time; it has arrived when this returns."""
        self.world.commands.publish(Float64MultiArray(data=values.tolist()))
        now_ns, steps = self.world.now_ns, self.transitions.steps
        self.wait(lambda: steps._commands.heard_ns == now_ns, "command")

    def lead(self, mode: int, epoch: int) -> None:
        """Let hil say who leads; all have heard it when this returns."""
        self.world.tell_mode(mode, epoch)
        now_ns, steps = self.world.now_ns, self.transitions.steps
        policy = next(n for n in self.nodes if isinstance(n, PolicyNode))
        self.wait(
            lambda: steps._control.heard_ns == now_ns and policy._observations.epoch == epoch,
            "control status",
        )

    def event(self, event: int, outcome: int = EpisodeEvent.UNLABELLED) -> None:
        heard = len(self.transitions.steps._events)
        self.world.tell_event(event, outcome)
        self.wait(lambda: len(self.transitions.steps._events) != heard, "event")

    def observe(self, raw: dict[str, np.ndarray]) -> Decision:
        """Show an observation; returns what the policy node decided."""
        self.world.show(raw)
        stamp = self.world.stamp()
        self.wait(lambda: any(d.header.stamp == stamp for d in self.world.decisions), "decision")
        return self.world.decisions[-1]

    def pull(self, learner: str, run: str = "") -> list[Transition]:
        """All transitions, as a learner asks for them."""
        got: list[Transition] = []
        count = len(self.transitions.journal)
        while len(got) < count:
            first, self.world.records = len(got), {}
            self.wait(
                lambda first=first: first in self.world.records,
                f"transition {first}",
                lambda first=first: self.world.requests.publish(
                    TransitionRequest(learner=learner, run=run, next=first)
                ),
            )
            while len(got) in self.world.records:
                got.append(self.world.records[len(got)])
        return got


@pytest.fixture
def bench(graph, vx300s: Contract):
    found = Bench(vx300s)
    yield found
    found.close()


def observation(contract: Contract, step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    pose = np.array(contract.reset.pose) + 0.01 * np.sin(step + np.arange(7))
    raw = {"observation.state": pose.astype(np.float32)}
    for camera in contract.cameras:
        raw[camera.key] = rng.integers(0, 255, camera.shape).astype(np.uint8)
    return raw


def test_transitions_over_the_nodes_equal_those_of_the_fast_path(
    bench: Bench, tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    base = make_base(tiny_policy, vx300s, SETTINGS)
    agent = new_agent(SETTINGS, base).eval()
    version = write_update(tmp_path / "versions", agent, base, UPDATES).path
    mover = bench.start(
        PolicyNode,
        policy=str(tmp_path / "versions" / version),
        explore=True,
        heartbeat_hz=20.0,
        engine="torch",  # as on the fast path, to the last bit
    )
    bench.transitions = node = bench.start(TransitionsNode, journal=str(tmp_path / "journal"))
    world = bench.world
    bench.wait(lambda: world.events.get_subscription_count() > 1, "discovery of events")
    bench.wait(lambda: world.commands.get_subscription_count() > 0, "discovery of commands")
    bench.wait(lambda: world.joints.get_subscription_count() > 0, "discovery of joints")
    bench.wait(lambda: node._publisher.get_subscription_count() > 0, "discovery of records")
    bench.wait(lambda: mover._decisions.get_subscription_count() > 1, "discovery of decisions")

    # The same episode on the fast path, with what each step's end had in force.
    driver = Driver(SETTINGS, base, agent)
    driver.begin(UPDATES)
    builder, expected = TransitionBuilder(base.spec(SETTINGS), SETTINGS.steps), []
    builder.begin("episode-1")

    def keep(done) -> None:
        if done is not None:
            expected.append(done)

    modes = [POLICY] * 6 + [HOLD] * 3 + [HUMAN] * 4  # who leads in each step
    bench.pass_time(DT_NS)
    bench.event(EpisodeEvent.STARTED)
    epoch = 0
    for step in range(len(modes) + 1):
        over = step == len(modes)
        if not over and (step == 0 or (modes[step] != modes[step - 1] and modes[step] != HOLD)):
            epoch += 1
            driver.release()
        if not over:
            bench.lead(modes[step], epoch)
        raw = observation(vx300s, step)
        seen, act = driver.observe(raw, world.now_ns / 1e9), None
        got = bench.observe(raw)
        act = driver.act(explore=1.0, base_only=False)
        assert (got.decided, got.choice, got.epoch) == (act.decided, act.choice, epoch)
        assert got.policy_version == version and to_ns(got.header.stamp) == world.now_ns
        if over:
            keep(builder.end(seen.observation, True, 1.0))
            break
        if step == 0:
            bench.event(EpisodeEvent.RUNNING)
        if step == 6:
            keep(builder.cut(seen.observation))
        executed = act.target + 0.001 * step  # not quite what was decided
        if modes[step] == HOLD:
            builder.skip()
        elif modes[step] == HUMAN:
            keep(builder.add(seen.observation, executed, True))
        else:
            own = {"value": act.value, "decided": act.decided}
            keep(builder.add(seen.observation, executed, False, version, **own))
        bench.pass_time(DT_NS // 2)
        bench.send_command(executed)
        if step == 5:
            bench.event(EpisodeEvent.HELP)
        if step == len(modes) - 1:
            bench.event(EpisodeEvent.VERDICT, EpisodeEvent.SUCCESS)
        bench.pass_time(DT_NS // 2)
    # What comes later shows that nothing before is still on its way.
    bench.pass_time(DT_NS)
    bench.lead(HOLD, epoch)
    bench.send_command(executed)
    bench.wait(lambda: len(node.journal) == len(expected), "journal")

    kept = list(node.journal.read())
    assert [t.human for t in kept] == [False, False, True]
    assert [t.terminated for t in kept] == [False, True, True]
    assert [len(t) for t in kept] == [4, 2, 4]
    close_to = [t.__class__(**{**vars(t), "value": np.float32(t.value)}) for t in expected]
    assert_same(kept, close_to)

    pulled = bench.pull("learner")
    assert_same([from_record(m.record.tobytes()) for m in pulled], kept)
    assert {(m.run, m.robot, m.count) for m in pulled} == {(node.journal.run, vx300s.hash, 3)}
    assert world.chunks[-1].header.stamp == world.decisions[-1].header.stamp

    # After a restart the journal goes on, under its name.
    run = node.journal.run
    bench.stop(node)
    bench.transitions = again = bench.start(TransitionsNode, journal=str(tmp_path / "journal"))
    assert again.journal.run == run and len(bench.pull("learner", run)) == 3


def test_a_running_policy_takes_a_learned_version_and_goes_back(
    bench: Bench, tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    base, folder = make_base(tiny_policy, vx300s, SETTINGS), tmp_path / "versions"
    agent = new_agent(SETTINGS, base).eval()
    first = write_update(folder, agent, base, 0)
    agent.critic.requires_grad_(False)
    for weights in agent.critic.parameters():
        weights += 0.01
    second = write_update(folder, agent, base, UPDATES)
    bench.start(
        PolicyNode, policy=str(folder / first.path), policy_dir=str(folder), use_sim_time=False
    )
    world, raw = bench.world, observation(vx300s, 0)

    def until(condition, update: Update) -> None:
        """Show observations and repeat a request, as a learner does."""

        def go_on() -> None:
            world.now_ns = time.time_ns()
            world.show(raw)
            world.updates.publish(to_message(update))

        bench.wait(condition, "update", go_on)

    def runs(version: str) -> bool:
        return bool(world.decisions) and world.decisions[-1].policy_version == version

    until(lambda: runs(second.version), second)
    assert {d.policy_version for d in world.decisions} <= {first.version, second.version}
    damaged = folder / first.path / "learned.json"
    text = damaged.read_text()
    damaged.write_text("{}")
    until(
        lambda: any("its files were" in reason for reason in world.reasons),
        Update(time.time_ns(), rollback=True),
    )
    assert runs(second.version)
    damaged.write_text(text)
    until(lambda: runs(first.version), Update(time.time_ns(), rollback=True))


def test_a_second_learner_a_missing_supervisor_and_a_silent_policy_are_named(
    bench: Bench, tmp_path: Path
):
    node = bench.transitions = bench.start(
        TransitionsNode, journal=str(tmp_path), use_sim_time=False
    )
    world = bench.world
    bench.wait(lambda: world.said.startswith("no decisions"), "silent policy")
    assert "rewact learn" in world.said
    world.destroy_publisher(world.events)
    bench.wait(lambda: world.said.startswith("no supervisor"), "no supervisor")
    for learner in ("one", "two"):
        bench.wait(
            lambda learner=learner: (
                node.outbox.learner == "one"
                and (learner == "one" or "one learner at a time" in node.outbox.refused)
            ),
            learner,
            lambda learner=learner: world.requests.publish(TransitionRequest(learner=learner)),
        )
    with pytest.raises(JournalError, match="another"):
        bench.start(TransitionsNode, journal=str(tmp_path))


def test_a_full_disk_is_told_and_what_comes_after_it_is_kept(bench: Bench, tmp_path: Path):
    node = bench.transitions = bench.start(
        TransitionsNode, journal=str(tmp_path), use_sim_time=False
    )
    first, second = built(*policy(*range(4)), ("end", 4, True, 1.0))
    node._keep([first])
    size, (soft, hard) = node.journal.bytes, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        node._keep([second])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    bench.wait(lambda: "NOT kept" in bench.world.said and "free the disk" in bench.world.said, "")
    node._keep([second])
    assert_same(list(node.journal.read()), [first, second])
    bench.wait(lambda: "NOT kept" not in bench.world.said, "mended")


def test_without_a_journal_folder_nothing_starts(bench: Bench):
    with pytest.raises(ValueError, match="journal: expected a folder"):
        bench.start(TransitionsNode)
