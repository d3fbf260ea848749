"""Node `supervisor`: runs episodes, judges them by the reward, never touches the command topic."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.contract import load_contract
from rewact_ros.msg import (
    ActionChunk,
    ControlStatus,
    PolicyStatus,
    RecorderStatus,
    Reward,
    RewardFeatures,
)
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.diagnostics import OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.episode_interface import EpisodeInterface, JointFeed, SampleReader
from rewact_ros.ros.episode_settings import parts_of, rules_of
from rewact_ros.ros.graph_watch import NAMELESS, publisher_names
from rewact_ros.ros.params import SupervisorParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.stamps import NANO
from rewact_ros.supervision.batch import Batch, Plan
from rewact_ros.supervision.episodes import Control, Episode, Phase
from rewact_ros.supervision.memory import EpisodeMemory, state_file
from rewact_ros.supervision.status import phase_name
from rewact_ros.supervision.supervisor import TASK_LIMIT, RefusedError, Supervisor
from rewact_ros.supervision.verdict import SUPERVISOR, GoalState, Outcome, Termination
from rewact_ros.text import printable

STEP_HZ = 20.0
FEEDBACK_STEPS = 4  # one in so many ticks
JUDGES_STEPS = 10  # likewise the look at who publishes rewards
# Older than this, hil's status counts as silence.
STATUS_TIMEOUT_S = 1.0
# A supervisor that is told to end goes within this time, whoever has not answered.
CLOSE_S = 0.7
VERSION_LIMIT = 80  # characters
RESULT_SPINS = 5  # until the last result is out
# By then a recorder that is there has been found, and hears of an interrupted episode.
DISCOVERY_S = 3.0


@dataclass
class Job:
    """A goal, its batch, and what its client waits for."""

    goal: ServerGoalHandle
    batch: Batch
    done: Future
    executor: Executor  # whoever spins may be done with it before this node is


class SupervisorNode(Guarded, Node):
    """Feeds `Supervisor` and does what it wants: leases, reset service, events, action result."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("supervisor", **node_arguments)
        self.params = p = declare(self, SupervisorParams)
        self.contract = load_contract(p.contract, self.get_namespace())
        memory = EpisodeMemory(state_file(p.state_dir, self.get_namespace(), self.contract.robot))
        if memory.damaged:
            self.get_logger().warning(memory.damaged)
        self.supervisor = Supervisor(
            rules_of(p, self.contract), parts_of(p, self.contract), memory, p.operator
        )
        self.clock = NodeClock(self)
        self.joints = JointFeed(self, self.contract)
        self.samples = SampleReader(self.contract)
        unique = f"{self.get_fully_qualified_name()}:{os.getpid()}:{time.time_ns()}"
        self.out = EpisodeInterface(self, unique)
        self._jobs: list[Job] = []
        self._control: Control | None = None
        self._control_s = -STATUS_TIMEOUT_S
        self._reset_call: Future | None = None
        self._bag_of, self._bag = "", ""
        self._text = self._logged = ""
        self._ticks = 0
        self._started_s = time.monotonic()
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        # Of one observation, the chunk and the features should be there before the reward.
        for kind, topic, call, qos in (
            (ActionChunk, names.ACTION_CHUNK, self.samples.on_chunk, names.COMMAND),
            (RewardFeatures, names.REWARD_FEATURES, self.samples.on_features, names.EVENTS),
            (Reward, names.REWARD, self._on_reward, names.EVENTS),
            (ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED),
            (RecorderStatus, names.RECORDER_STATUS, self._on_recorder, names.LATCHED),
        ):
            self.create_subscription(kind, topic, call, qos)
        if self.params.success_model_required:
            self.create_subscription(Reward, names.SUCCESS, self._on_success, names.EVENTS)
        if self.params.tasks:
            self.create_subscription(
                PolicyStatus, names.POLICY_STATUS, self._on_policy_status, names.COMMAND
            )
        service = self.params.reset_service
        self._reset_client = self.create_client(Trigger, service) if service else None
        supervisor = self.supervisor
        for name, act in {
            "success": lambda: supervisor.judge(Outcome.SUCCESS),
            "failure": lambda: supervisor.judge(Outcome.FAILURE),
            "go_on": lambda: supervisor.go_on(self._stamp_s(), self._fresh_control()),
            "pause": supervisor.pause,
            "unpause": supervisor.unpause,
            "continue_batch": lambda: supervisor.continue_batch(self._fresh_control()),
        }.items():
            self.create_service(Trigger, f"~/{name}", partial(_answer, act))
        self._server = ActionServer(
            self,
            ExecuteTask,
            names.EXECUTE_TASK,
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )
        self.create_timer(1.0 / STEP_HZ, self._tick, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Inputs -----------------------------------------------------------------------------------

    def _on_reward(self, msg: Reward) -> None:
        stamp_ns = self.samples.stamp_ns(msg, names.REWARD, self.clock.now().ros_ns)
        self.supervisor.hear(self.samples.source(msg))
        if self.supervisor.episode is not None:
            self.supervisor.add(self.samples.sample(msg, stamp_ns))

    def _on_success(self, msg: Reward) -> None:
        stamp_ns = self.samples.stamp_ns(msg, names.SUCCESS, self.clock.now().ros_ns)
        self.supervisor.add_success(msg.value, stamp_ns / NANO)

    def _on_policy_status(self, msg: PolicyStatus) -> None:
        self.supervisor.hear_policy(printable(msg.policy_version, VERSION_LIMIT))

    def _on_control(self, msg: ControlStatus) -> None:
        heard = self._control.heard + 1 if self._control else 1
        self._control = Control(msg.mode, msg.reason, msg.resume_required, msg.active_source, heard)
        self._control_s = time.monotonic()

    def _fresh_control(self) -> Control | None:
        silent = time.monotonic() - self._control_s > STATUS_TIMEOUT_S
        return None if silent else self._control

    def _on_recorder(self, msg: RecorderStatus) -> None:
        self._bag_of, self._bag = msg.episode_id, msg.bag

    def _stamp_s(self) -> float:
        return self.clock.now().ros_ns / NANO

    # The action -------------------------------------------------------------------------------

    def _on_goal(self, goal: ExecuteTask.Goal) -> GoalResponse:
        try:
            self.supervisor.check(_plan(goal), goal.preempt, self._fresh_control())
        except RefusedError as error:
            self.get_logger().warning(f"goal refused: {error}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, goal: ServerGoalHandle) -> None:
        # In the same breath as _on_goal, so that no second goal comes in between.
        batch = self.supervisor.start(_plan(goal.request))
        assert self.executor is not None  # it calls this
        self._jobs.append(Job(goal, batch, Future(executor=self.executor), self.executor))
        goal.execute()

    async def _execute(self, goal: ServerGoalHandle) -> ExecuteTask.Result:
        job = next(job for job in self._jobs if job.goal is goal)
        await job.done
        self._jobs.remove(job)
        batch, last = job.batch, job.batch.last
        verdict, tally = batch.verdict, batch.plan.tally
        ends: dict[GoalState, Callable[[], None]] = {
            GoalState.SUCCEEDED: goal.succeed,
            GoalState.CANCELED: goal.canceled,
            GoalState.ABORTED: goal.abort,
        }
        ends[batch.state]()
        return ExecuteTask.Result(
            outcome=int(verdict.outcome if verdict else Outcome.UNLABELLED),
            reason=batch.reason,
            episode_id=batch.episode_id,
            duration=last.duration_s if last else 0.0,
            peak_reward=last.peak if last else float("nan"),
            bag=self._bag if batch.episode_id and self._bag_of == batch.episode_id else "",
            successes=tally.successes,
            failures=tally.failures,
            unlabelled=tally.unlabelled,
        )

    # The tick ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        now, control = self.clock.now(), self._fresh_control()
        stamp_s = now.ros_ns / NANO
        self._ticks += 1
        if self._ticks % JUDGES_STEPS == 0:
            known = {n for n in publisher_names(self, names.REWARD) if n != NAMELESS}
            self.supervisor.hear_judges(known)
        if time.monotonic() - self._started_s > DISCOVERY_S and self.out.heard:
            self.supervisor.close_interrupted()
        for job in self._jobs:
            if job.goal.is_cancel_requested:
                job.batch.end(Termination.CANCELLED, "by the client")
        self.supervisor.step(now.age_s, stamp_s, control)
        self._serve_reset(self.supervisor.episode)
        self._tell()  # first the event, by which a policy learns its task, then the lease
        self.out.lease(self.supervisor.want, active=self.supervisor.batch is not None)
        self._show(self.supervisor.text(stamp_s, control), stamp_s)
        for job in self._jobs:
            self._feed_back(job)
            if job.batch.released and not job.done.done():
                job.done.set_result(None)

    def _serve_reset(self, episode: Episode | None) -> None:
        if episode is None or episode.phase not in (Phase.RESETTING, Phase.SCENE):
            self.joints.listen(None)
            self._reset_call = None
            return
        self.joints.listen(episode.check.joints)
        # A service that is not there is named by the episode's reset time-out.
        client = self._reset_client
        if not episode.call_reset:
            self._reset_call = None
        elif self._reset_call is None and client is not None and client.service_is_ready():
            self._reset_call = client.call_async(Trigger.Request())

            def answered(done: Future) -> None:
                result = done.result()
                episode.scene_ready(result.success, result.message)

            self._reset_call.add_done_callback(answered)

    def _tell(self) -> None:
        happenings, self.supervisor.happenings = self.supervisor.happenings, []
        for happening in happenings:
            self.out.event(happening)
            if happening.verdict is not None:
                verdict = happening.verdict
                judged = "" if verdict.by == SUPERVISOR else f"; {self.supervisor.standing}"
                self.get_logger().info(
                    f"episode {happening.episode_id}: {verdict.outcome.name}, {verdict.reason}"
                    f"{judged}"
                )

    def _feed_back(self, job: Job) -> None:
        if not job.goal.is_active or self._ticks % FEEDBACK_STEPS:
            return
        episode = job.batch.episode
        job.goal.publish_feedback(
            ExecuteTask.Feedback(
                progress=episode.signals.progress if episode else float("nan"),
                phase=phase_name(job.batch),
                mode=self._control.mode if self._control else 0,
                episode=job.batch.plan.begun,
            )
        )

    def close(self) -> None:
        """End the running episode before the node goes; what is left of a batch is kept.

        Its client still gets a result, after hil has been told to hold, for as long as that may be.
        """
        self.supervisor.stop()
        self._tell()
        if not self._jobs or not self.context.ok():
            return
        executor, end_s = self._jobs[0].executor, time.monotonic() + CLOSE_S
        while self._jobs:
            if time.monotonic() > end_s:
                for job in self._jobs:
                    job.batch.release("whether the arm holds is not known: hil did not answer")
            executor.spin_once(timeout_sec=0.02)
        for _ in range(RESULT_SPINS):
            executor.spin_once(timeout_sec=0.01)

    # Outputs ----------------------------------------------------------------------------------

    def _show(self, text: str, stamp_s: float) -> None:
        self._text = text
        self.out.status(self.supervisor, text, stamp_s)
        # Ages in hil's reasons change all the time; only other words are news for the log.
        words = re.sub(r"\d+(\.\d+)?", "", text)
        if words != self._logged:
            self._logged = words
            self.get_logger().info(text)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        supervisor, tally = self.supervisor, self.supervisor.memory.now.tally
        helpless = supervisor.episode is not None and supervisor.episode.phase is Phase.HELP
        level = WARN if helpless or supervisor.misfit or supervisor.memory.fault else OK
        last = supervisor.memory.now.last
        verdict = last.verdict if last else None
        values: dict[str, object] = {
            "task": last.task if last and supervisor.batch is not None else "",
            "last_task": last.task if last else "",
            "last_verdict": f"{verdict.outcome.name}: {verdict.reason}" if verdict else "",
            "episode": supervisor.episode_id,
            "bound": supervisor.promise,
            "standing": supervisor.standing,
            "successes": tally.successes,
            "failures": tally.failures,
            "unlabelled": tally.unlabelled,
        }
        return level, self._text, values


def _plan(goal: ExecuteTask.Goal) -> Plan:
    task = printable(goal.task, TASK_LIMIT + 1)  # a longer one is refused
    return Plan(task, goal.timeout, max(int(goal.episodes), 1))


def _answer(
    call: Callable[[], str], request: Trigger.Request, response: Trigger.Response
) -> Trigger.Response:
    try:
        response.success, response.message = True, call()
    except RefusedError as error:
        response.success, response.message = False, str(error)
    return response


def main() -> None:
    """Entry point."""
    run_node(SupervisorNode)


if __name__ == "__main__":
    main()
