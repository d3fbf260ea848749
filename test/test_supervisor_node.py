"""The supervisor node on a real ROS graph: action, services, events, and the messages of others."""

import itertools
import math
import time

import numpy as np
import pytest
import rclpy
from action_msgs.msg import GoalStatus
from conftest import VX300S
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.msg import (
    ControlStatus,
    EpisodeEvent,
    ModeRequest,
    RecorderStatus,
    Reward,
    RewardFeatures,
    SupervisorStatus,
)
from rewact_ros.nodes.supervisor import SupervisorNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_messages import ChunkWriter
from rewact_ros.ros.convert import NANO
from rewact_ros.ros.door import MalformedError
from rewact_ros.ros.episode_interface import SampleReader
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.judging import RewardSource
from rewact_ros.supervision.verdict import Change, Outcome

Result = ExecuteTask.Result
NUMBERS = itertools.count()
RESET_STATUSES = 4  # so many say RESET, however busy the machine is


class World(Node):
    """Stands in for hil, policy, classifier and recorder, and is the client."""

    def __init__(self, contract):
        # A node that is collected late takes a namesake of its process along in the graph.
        super().__init__(f"world_{next(NUMBERS)}")
        self.contract = contract
        self.joints = list(contract.reset.pose)
        self.mode, self.reward, self.success = ControlStatus.HOLD, 0.3, None
        self.events, self.feedback, self.status, self.said = [], [], None, ""
        self._request, self._resetting, self.latched = 0, 0, False
        self.lag_s, self._asked = 0.0, []  # how long this hil takes to do what it is asked for
        part = contract.state[0]
        self._joints = self.create_publisher(JointState, part.topic, names.SENSOR_OUT)
        self._control = self.create_publisher(ControlStatus, names.CONTROL_STATUS, names.LATCHED)
        self._rewards = self.create_publisher(Reward, names.REWARD, names.EVENTS)
        self._successes = self.create_publisher(Reward, names.SUCCESS, names.EVENTS)
        self._bags = self.create_publisher(RecorderStatus, names.RECORDER_STATUS, names.LATCHED)
        self.create_subscription(ModeRequest, names.MODE_REQUEST, self._on_request, names.EVENTS)
        self.create_subscription(EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS)
        self.create_subscription(
            SupervisorStatus, names.SUPERVISOR_STATUS, self._on_status, names.LATCHED
        )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.action = ActionClient(self, ExecuteTask, names.EXECUTE_TASK)
        self.create_timer(0.05, self._publish)
        self.alive = True

    def _on_request(self, msg):
        if msg.request != self._request:
            self._request, self._resetting = msg.request, 0
            modes = {
                ModeRequest.HOLD: ControlStatus.HOLD,
                ModeRequest.POLICY: ControlStatus.POLICY,
                ModeRequest.RESET: ControlStatus.RESET,
            }
            self._asked.append((time.monotonic() + self.lag_s, modes[msg.mode]))
            self._obey()

    def _obey(self):
        while self._asked and self._asked[0][0] <= time.monotonic():
            _, mode = self._asked.pop(0)
            if self.mode not in (ControlStatus.HUMAN, ControlStatus.DISARMED):
                self.mode = mode

    def _publish(self):
        self._obey()
        if self.mode == ControlStatus.RESET:
            self._resetting += 1
            if self._resetting > RESET_STATUSES:
                self.mode = ControlStatus.HOLD
        stamp = self.get_clock().now().to_msg()
        if self.alive:
            self._control.publish(
                ControlStatus(mode=self.mode, reason="as asked", resume_required=self.latched)
            )
        joints = JointState(name=list(self.contract.state[0].joints), position=self.joints)
        joints.header.stamp = stamp
        self._joints.publish(joints)
        for publisher, value in ((self._rewards, self.reward), (self._successes, self.success)):
            if value is not None:
                msg = Reward(value=value, q10=value, policy_version="it", reward_hash="reward")
                msg.header.stamp = stamp
                publisher.publish(msg)

    def _on_event(self, msg):
        self.events.append(msg)
        if msg.event == EpisodeEvent.STARTED:
            self._bags.publish(
                RecorderStatus(episode_id=msg.episode_id, bag=f"/bags/{msg.episode_id}")
            )

    def _on_status(self, msg):
        self.status = msg

    def _on_diagnostics(self, msg):
        for status in msg.status:
            if status.name == "/supervisor":
                self.said = status.message
                self.shown = {pair.key: pair.value for pair in status.values}

    def changes(self):
        return [Change(event.event) for event in self.events]


class Bench:
    """The world and a supervisor, driven in this thread."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(world)
        self.node = None
        self.clients = {}

    def start(self, **parameters):
        given = {
            "contract": str(VX300S),
            "state_dir": str(self.folder),
            "timeout_s": 2.0,
            **parameters,
        }
        overrides = [rclpy.parameter.Parameter(key, value=value) for key, value in given.items()]
        self.node = SupervisorNode(parameter_overrides=overrides)
        self.executor.add_node(self.node)
        world = self.world
        self.wait(world.action.server_is_ready, "action")
        self.wait(lambda: world.status is not None and world.events is not None, "status")
        self.wait(lambda: self.node.out.heard, "events")
        self.wait(lambda: self.node._fresh_control() is not None, "control")

    def kill(self):
        """What SIGKILL leaves: nothing said, nothing closed."""
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        self.node = None

    def wait(self, condition, what, timeout_s=20.0):
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            status = self.world.status
            assert time.monotonic() < deadline_s, f"{what}: {status and status.text}"
            self.executor.spin_once(timeout_sec=0.02)

    def goal(self, **goal):
        sent = self.world.action.send_goal_async(
            ExecuteTask.Goal(**{"task": "tidy up", **goal}),
            feedback_callback=lambda msg: self.world.feedback.append(msg.feedback),
        )
        self.wait(sent.done, "goal")
        return sent.result()

    def result(self, handle):
        done = handle.get_result_async()
        self.wait(done.done, "result")
        return done.result()

    def call(self, name):
        client = self.clients.setdefault(
            name, self.world.create_client(Trigger, f"supervisor/{name}")
        )
        self.wait(client.service_is_ready, name)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, name)
        return future.result()

    def wait_for(self, phase):
        self.wait(lambda: self.world.status.phase == phase, phase)


@pytest.fixture
def bench(graph, vx300s, tmp_path):
    world = World(vx300s)
    bench = Bench(world, tmp_path)
    yield bench
    if bench.node is not None:
        bench.node.close()
        bench.node.destroy_node()
    bench.executor.shutdown()
    world.destroy_node()


def test_features_belong_to_the_reward_of_their_stamp_and_hash(vx300s):
    reader = SampleReader(vx300s)
    reward = Reward(value=0.5, q10=0.4, reward_hash="it")
    reward.header.stamp.sec = 7
    assert reader.sample(reward, 7 * NANO).features is None
    seen = RewardFeatures(features=[1.0, 2.0], reward_hash="it")
    for sec, reward_hash, taken in ((7, "it", True), (6, "it", False), (7, "another", False)):
        seen.header.stamp.sec, seen.reward_hash = sec, reward_hash
        reader.on_features(seen)
        features = reader.sample(reward, 7 * NANO).features
        assert (features is not None and features.tolist() == [1.0, 2.0]) is taken
    for wrong in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(MalformedError, match="features"):
            reader.on_features(RewardFeatures(features=wrong))


def test_a_bound_is_of_whose_chunks_move_the_robot_not_of_who_judges(vx300s):
    reader = SampleReader(vx300s)
    reward = Reward(value=0.5, q10=0.4, reward_hash="it", policy_version="judge")
    assert reader.source(reward).policy_version == ""  # a person's or a controller's motion
    chunk = ChunkWriter(vx300s).write(np.zeros((3, len(vx300s.action_names))), reward.header.stamp)
    chunk.policy_version = "actor"
    reader.on_chunk(chunk)
    assert reader.source(reward) == RewardSource("it", "actor", True, "judge")


def test_a_second_judge_on_the_topic_is_named_and_no_task_begins(bench):
    bench.start()
    second = Node("second_judge")
    publisher = second.create_publisher(Reward, names.REWARD, names.EVENTS)
    try:
        bench.wait(lambda: "second_judge" in bench.world.status.text, "its name")
        assert not bench.goal().accepted
        second.destroy_publisher(publisher)
        bench.wait(lambda: not bench.node.supervisor.misfit, "it is gone")
        assert bench.goal().accepted
    finally:
        second.destroy_node()


# Endings ------------------------------------------------------------------------------------------


def cancels(bench, handle):
    bench.wait(handle.cancel_goal_async().done, "cancel")


def preempts(bench, handle):
    bench.other = bench.goal(task="sweep", preempt=True)
    assert bench.other.accepted


def is_held(bench, handle):
    bench.world.mode, bench.world.latched = ControlStatus.HOLD, True


def is_disarmed(bench, handle):
    bench.world.mode = ControlStatus.DISARMED


def finds_a_second_judge(bench, handle):
    bench.second = Node("another_judge")
    bench.second.create_publisher(Reward, names.REWARD, names.EVENTS)


def succeeds(bench, handle):
    bench.world.reward = 0.99


NOTHING = lambda bench, handle: None  # noqa: E731
ENDINGS = {
    "progress": ({}, succeeds, GoalStatus.STATUS_SUCCEEDED),
    "timeout": ({"timeout_s": 0.5}, NOTHING, GoalStatus.STATUS_SUCCEEDED),
    "alarm": (
        {"stall_s": 0.2, "ladder_stall": "abort 0", "timeout_s": 30.0},
        NOTHING,
        GoalStatus.STATUS_SUCCEEDED,
    ),
    "human": ({}, lambda bench, handle: bench.call("failure"), GoalStatus.STATUS_SUCCEEDED),
    "cancelled": ({}, cancels, GoalStatus.STATUS_CANCELED),
    "preempted": ({}, preempts, GoalStatus.STATUS_ABORTED),
    "hold": ({"hold_timeout_s": 0.1}, is_held, GoalStatus.STATUS_ABORTED),
    "hold: robot": ({}, is_disarmed, GoalStatus.STATUS_ABORTED),
    "error": ({}, finds_a_second_judge, GoalStatus.STATUS_ABORTED),
}


@pytest.mark.parametrize("reason", ENDINGS)
def test_a_result_comes_once_the_policy_drives_no_more_and_the_next_goal_is_taken(bench, reason):
    parameters, end, state = ENDINGS[reason]
    bench.start(**{"timeout_s": 20.0, **parameters})
    world = bench.world
    handle = bench.goal()
    bench.wait(lambda: Change.RUNNING in world.changes(), "running")
    world.lag_s = 0.3
    end(bench, handle)
    done = bench.result(handle)
    assert world.mode in (ControlStatus.HOLD, ControlStatus.DISARMED)
    assert done.result.reason.startswith(reason) and done.status == state, done.result.reason
    if reason == "error":
        bench.second.destroy_node()
        bench.wait(lambda: not bench.node.supervisor.misfit, "one judge")
    world.latched = False
    if world.mode == ControlStatus.DISARMED:
        world.mode = ControlStatus.HOLD  # armed again
        bench.wait(lambda: bench.node._fresh_control().mode == ControlStatus.HOLD, "armed")
    if reason == "preempted":
        bench.wait(bench.other.cancel_goal_async().done, "cancel")
        assert bench.result(bench.other).status == GoalStatus.STATUS_CANCELED
    bench.wait(lambda: not bench.node._fresh_control().resume_required, "resumed")
    assert bench.goal().accepted, world.status.text


def test_a_person_who_leads_at_the_end_keeps_the_arm_and_the_result_does_not_wait(bench):
    bench.start(timeout_s=30.0)
    handle = bench.goal()
    bench.wait(lambda: Change.RUNNING in bench.world.changes(), "running")
    bench.world.mode = ControlStatus.HUMAN
    bench.wait(lambda: bench.node._fresh_control().mode == ControlStatus.HUMAN, "human")
    bench.world.reward = 0.99
    done = bench.result(handle)
    assert done.status == GoalStatus.STATUS_SUCCEEDED and bench.world.mode == ControlStatus.HUMAN


def test_a_hil_that_does_not_hold_is_not_waited_for_without_end_and_is_named(bench):
    bench.start(timeout_s=30.0)
    handle = bench.goal()
    bench.wait_for("running")
    bench.world.lag_s = math.inf
    bench.call("success")
    done = bench.result(handle)
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    assert "hil has not held within 1 s: as asked" in done.result.reason


def test_a_goal_that_never_began_has_not_succeeded(bench):
    bench.start()
    first = bench.goal()
    bench.wait_for("running")
    bench.world.lag_s = 0.3
    waiting = bench.goal(task="sweep", preempt=True)
    bench.wait(waiting.cancel_goal_async().done, "cancel")
    assert bench.result(first).status == GoalStatus.STATUS_ABORTED
    done = bench.result(waiting)
    assert done.status == GoalStatus.STATUS_CANCELED and done.result.episode_id == ""
    assert done.result.reason == "cancelled: by the client"


@pytest.mark.parametrize("lag_s", [0.1, math.inf])
def test_a_supervisor_that_is_stopped_holds_the_arm_and_answers_its_client(bench, lag_s):
    bench.start(timeout_s=30.0)
    handle = bench.goal(episodes=3)
    bench.wait_for("running")
    bench.world.lag_s = lag_s
    answer = handle.get_result_async()
    bench.wait(lambda: bench.node._jobs, "job")
    for _ in range(20):  # so that the server knows who waits
        bench.executor.spin_once(timeout_sec=0.01)
    bench.node.close()
    bench.wait(answer.done, "result")
    done = answer.result()
    assert done.status == GoalStatus.STATUS_ABORTED
    assert done.result.reason.startswith("interrupted: the supervisor was stopped")
    assert ("did not answer" in done.result.reason) == (lag_s == math.inf)
    assert bench.world.mode == (ControlStatus.HOLD if lag_s < 1 else ControlStatus.POLICY)
    bench.kill()
    bench.world.status = None
    bench.world.lag_s, bench.world.mode = 0.0, ControlStatus.HOLD
    bench.start()
    assert "2 of 3 episodes of 'tidy up' left" in bench.world.status.text


def test_the_numbers_are_those_of_the_messages():
    for change in Change:
        assert getattr(EpisodeEvent, change.name) == change
    for outcome in Outcome:
        assert getattr(EpisodeEvent, outcome.name) == outcome == getattr(Result, outcome.name)


def test_a_task_runs_from_reset_to_success_and_the_result_names_the_bag(bench):
    world = bench.world
    bench.start()
    handle = bench.goal()
    assert handle.accepted
    bench.wait_for("running")
    world.reward = 0.98
    done = bench.result(handle)
    result = done.result
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    assert result.outcome == Result.SUCCESS and result.reason.startswith("progress: reward 0.98")
    assert result.bag == f"/bags/{result.episode_id}" and result.peak_reward > 0.9
    assert (result.successes, result.failures, result.unlabelled) == (1, 0, 0)
    bench.wait(lambda: Change.VERDICT in world.changes(), "verdict")
    assert world.changes() == [Change.STARTED, Change.RESETTING, Change.RUNNING, Change.VERDICT]
    assert {event.task for event in world.events} == {"tidy up"}
    assert world.events[-1].by == "supervisor" and world.events[-1].detail
    assert any(f.phase == "running" and f.episode == 1 for f in world.feedback)
    bench.wait(lambda: world.status.phase == "idle" and world.said == world.status.text, "line")
    assert "last episode success, progress" in world.said and "uncalibrated" in world.said


def test_without_the_robot_at_its_reset_pose_nothing_runs(bench):
    bench.world.joints[1] += 0.5
    bench.start()
    done = bench.result(bench.goal())
    assert done.result.outcome == Result.UNLABELLED
    assert done.result.reason.startswith("error: reset: shoulder: expected -0.229")
    assert Change.RUNNING not in bench.world.changes()


def test_cancelling_holds_the_robot(bench):
    bench.start()
    handle = bench.goal(episodes=3)
    bench.wait_for("running")
    cancelled = handle.cancel_goal_async()
    bench.wait(cancelled.done, "cancel")
    done = bench.result(handle)
    assert done.status == GoalStatus.STATUS_CANCELED
    assert done.result.outcome == Result.UNLABELLED and "cancelled" in done.result.reason
    bench.wait(lambda: bench.world.mode == ControlStatus.HOLD, "HOLD")


def test_a_goal_may_preempt_the_one_that_runs(bench):
    bench.start()
    first = bench.goal()
    bench.wait_for("running")
    assert not bench.goal(task="sweep").accepted
    bench.wait_for("running")
    second = bench.goal(task="sweep", preempt=True, timeout=1.0)
    assert second.accepted
    done = bench.result(first)
    assert done.status == GoalStatus.STATUS_ABORTED and "preempted: by the task 'sweep'" in (
        done.result.reason
    )
    assert bench.result(second).result.outcome == Result.FAILURE


def test_a_batch_pauses_between_episodes_and_a_late_verdict_counts(bench):
    world = bench.world
    bench.start()
    assert not bench.call("pause").success
    handle = bench.goal(episodes=2, timeout=1.0)
    bench.wait_for("resetting")
    assert bench.call("pause").success
    bench.wait_for("paused")
    assert "~/unpause" in world.status.text
    assert bench.call("success").success
    bench.wait(lambda: Change.RELABELLED in world.changes(), "relabelled")
    assert world.events[-1].by == "operator"
    bench.wait(lambda: world.shown["standing"].startswith("n = 1: β ≤ 0.5 now"), "standing")
    assert bench.call("unpause").success
    result = bench.result(handle).result
    assert (result.successes, result.failures) == (1, 1)
    verdicts = {e.episode_id for e in world.events if e.event == EpisodeEvent.VERDICT}
    assert len(verdicts) == 2


def test_an_alarm_asks_for_help_and_a_person_lets_it_go_on(bench):
    world = bench.world
    bench.start(stall_s=0.3, ladder_stall="warn 0, hold 0.2", timeout_s=30.0)
    handle = bench.goal()
    bench.wait_for("help")
    bench.wait(lambda: world.mode == ControlStatus.HOLD, "HOLD")
    assert "stall alarm" in world.status.text and list(world.status.alarms) == ["stall"]
    assert bench.call("go_on").success
    bench.wait(lambda: world.changes().count(Change.HELP) == 2, "help again")
    assert Change.RESUMED in world.changes()
    world.mode = ControlStatus.HUMAN
    bench.wait(lambda: world.changes().count(Change.RESUMED) == 2, "taken over")
    world.reward = 0.99
    assert bench.result(handle).result.outcome == Result.SUCCESS


def test_completion_waits_for_the_classifiers_word(bench):
    world = bench.world
    bench.start(success_model_required=True, timeout_s=30.0)
    handle = bench.goal()
    world.reward = 0.99
    bench.wait(lambda: "no rewact/success received" in world.status.text, "status")
    world.success = 0.9
    assert bench.result(handle).result.outcome == Result.SUCCESS


def test_after_a_kill_nothing_moves_and_the_open_episode_is_unlabelled(bench):
    world = bench.world
    bench.start()
    bench.goal(episodes=3)
    bench.wait_for("running")
    killed = world.events[0].episode_id
    bench.kill()
    world.events.clear()
    world.status = None
    world.mode = ControlStatus.HOLD
    bench.start()
    bench.wait(lambda: bool(world.events), "verdict")
    event = world.events[0]
    assert (event.episode_id, event.event) == (killed, EpisodeEvent.VERDICT)
    assert (event.outcome, event.termination_reason) == (EpisodeEvent.UNLABELLED, "interrupted")
    assert world.mode == ControlStatus.HOLD and world.status.phase == "idle"
    assert "2 of 3 episodes of 'tidy up' left" in world.status.text
    assert bench.call("continue_batch").success
    bench.wait(lambda: Change.RUNNING in world.changes(), "running")


def test_silence_of_hil_ends_the_episode(bench):
    bench.start(timeout_s=30.0)
    handle = bench.goal()
    bench.wait_for("running")
    bench.world.alive = False
    result = bench.result(handle).result
    assert result.outcome == Result.UNLABELLED and "hil is silent" in result.reason
    assert not bench.goal().accepted


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"ladder_stall": "warn 1, hold 0"}, "ladder_stall.*warn_s, hold_s, abort_s"),
        ({"ladder_novelty": "shout 1"}, "ladder_novelty.*expected rungs"),
        ({"calibration": "nowhere.json"}, "nowhere.json"),
        ({"state_dir": "/proc/nowhere"}, "state_dir"),
    ],
)
def test_wrong_parameters_are_refused_by_name(graph, parameters, words):
    given = {"contract": str(VX300S), **parameters}
    overrides = [rclpy.parameter.Parameter(key, value=value) for key, value in given.items()]
    with pytest.raises((ValueError, CalibrationError), match=words):
        SupervisorNode(parameter_overrides=overrides)
