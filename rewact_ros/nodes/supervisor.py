"""Node `supervisor`: runs episodes, judges them by the reward, never touches the command topic."""

import os
import time
import uuid

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.msg import ControlStatus, EpisodeEvent, ModeRequest, Reward
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.convert import NANO, to_ns
from rewact_ros.ros.diagnostics import OK, publish_diagnostics
from rewact_ros.ros.params import SupervisorParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.supervision.episodes import (
    Control,
    Episode,
    EpisodeSettings,
    Outcome,
    Phase,
    Want,
)
from rewact_ros.supervision.monitor import MonitorSettings, ProgressMonitor

STEP_HZ = 20.0
LEASE_HZ = 10.0
# Older than this, hil's status counts as silence.
STATUS_TIMEOUT_S = 1.0


class SupervisorNode(Node):
    """Feeds `Episode` and does what it wants: leases, reset service, events, action result."""

    def __init__(self) -> None:
        super().__init__("supervisor")
        self.params = p = declare(self, SupervisorParams)
        self.monitor_settings = MonitorSettings(p.threshold, p.filter_s, p.dwell, p.window)
        self.episode_settings = EpisodeSettings(
            timeout_s=p.timeout_s,
            reset_motion=p.reset_motion,
            external_reset=bool(p.reset_service),
            reset_timeout_s=p.reset_timeout_s,
            hold_timeout_s=p.hold_timeout_s,
        )
        self.clock = NodeClock(self)
        self.holder = f"{self.get_fully_qualified_name()}:{os.getpid()}:{time.time_ns()}"
        self.episode: Episode | None = None
        self.episode_id = ""
        self._request = 0
        self._want = Want.HOLD
        self._phase = Phase.IDLE
        self._control: Control | None = None
        self._control_s = 0.0
        self._ended: Future | None = None
        self._goal: ServerGoalHandle | None = None
        self._reset_called = self._accepted = False
        self._lease_s = 0.0
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        self.create_subscription(Reward, names.REWARD, self._on_reward, names.EVENTS)
        self.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED
        )
        self._requests = self.create_publisher(ModeRequest, names.MODE_REQUEST, names.EVENTS)
        self._events = self.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        self._reset_client = (
            self.create_client(Trigger, self.params.reset_service)
            if self.params.reset_service
            else None
        )
        for name, outcome in (("success", Outcome.SUCCESS), ("failure", Outcome.FAILURE)):
            self.create_service(
                Trigger, f"~/{name}", lambda req, res, o=outcome: self._on_human(o, res)
            )
        self._server = ActionServer(
            self,
            ExecuteTask,
            names.EXECUTE_TASK,
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )
        self.create_timer(1.0 / STEP_HZ, self._tick, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Inputs -----------------------------------------------------------------------------------

    def _on_reward(self, msg: Reward) -> None:
        if self.episode:
            self.episode.reward(msg.value, to_ns(msg.header.stamp) / NANO)

    def _on_control(self, msg: ControlStatus) -> None:
        self._control = Control(msg.mode, msg.reason, msg.resume_required)
        self._control_s = time.monotonic()

    def _on_human(self, outcome: Outcome, response: Trigger.Response) -> Trigger.Response:
        response.success = self.episode is not None
        response.message = f"judged {outcome.name}" if self.episode else "no episode is running"
        if self.episode:
            self.episode.judge(outcome, "operator")
        return response

    # The action -------------------------------------------------------------------------------

    def _on_goal(self, goal: ExecuteTask.Goal) -> GoalResponse:
        refusal = self._refusal(goal)
        if refusal:
            self.get_logger().warning(f"task refused: {refusal}")
            return GoalResponse.REJECT
        self._accepted = True  # until _finish: two goals in one breath must not both be accepted
        return GoalResponse.ACCEPT

    def _refusal(self, goal: ExecuteTask.Goal) -> str:
        control = self._fresh_control()
        if self._accepted:
            return f"a task is running ({self.episode_id})"
        if not 0 <= goal.timeout < 86400:
            return f"timeout: expected 0 to 86400 s, got {goal.timeout}"
        if control is None:
            return "hil is silent"
        if control.mode != Control.HOLD:
            return f"hil is not in HOLD ({control.reason}); arm it first"
        if control.resume_required:
            return f"hil stopped ({control.reason}); resume it first"
        return ""

    async def _execute(self, goal: ServerGoalHandle) -> ExecuteTask.Result:
        self.episode_id = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self._goal, self._reset_called = goal, False
        self._ended = Future(executor=self.executor)
        self._publish_event(EpisodeEvent.STARTED)
        self.episode = Episode(
            self.episode_settings, ProgressMonitor(self.monitor_settings), goal.request.timeout
        )
        episode = self.episode
        await self._ended
        verdict = episode.verdict
        if goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.succeed()
        return ExecuteTask.Result(
            outcome=int(verdict.outcome),
            reason=f"{verdict.termination}: {verdict.detail}",
            episode_id=self.episode_id,
            duration=episode.duration_s,
            peak_reward=episode.monitor.peak,
        )

    # The tick ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        episode = self.episode
        want = Want.HOLD
        if episode:
            if self._goal and self._goal.is_cancel_requested:
                episode.cancel()
            episode.step(self.clock.now().age_s, self._fresh_control())
            if episode.phase is not self._phase:
                self._on_phase(episode)
            if episode.call_reset and not self._reset_called:
                self._call_reset(episode)
            want = episode.want
        self._lease(want, active=episode is not None)
        if episode:
            self._report(episode)
            if episode.verdict:
                self._finish(episode)

    def _lease(self, want: Want, active: bool) -> None:
        """Ask hil for a motion: at once when it changes, then at 10 Hz while an episode runs."""
        now_s = time.monotonic()
        changed = want is not self._want
        if not changed and (not active or now_s - self._lease_s < 0.9 / LEASE_HZ):
            return
        if changed:
            self._request += 1
        self._want, self._lease_s = want, now_s
        msg = ModeRequest(mode=int(want), holder=self.holder, request=self._request)
        msg.header.stamp = self.get_clock().now().to_msg()
        self._requests.publish(msg)

    def _call_reset(self, episode: Episode) -> None:
        assert self._reset_client is not None
        if not self._reset_client.service_is_ready():
            return  # the episode's reset time-out names it
        self._reset_called = True
        future = self._reset_client.call_async(Trigger.Request())

        def answered(done: Future) -> None:
            result = done.result()
            episode.scene_ready(result.success, result.message)

        future.add_done_callback(answered)

    def _on_phase(self, episode: Episode) -> None:
        self._phase = episode.phase
        events = {Phase.RESETTING: EpisodeEvent.RESETTING, Phase.RUNNING: EpisodeEvent.RUNNING}
        if episode.phase in events:
            self._publish_event(events[episode.phase])

    def _report(self, episode: Episode) -> None:
        if self._goal is None or not self._goal.is_active:
            return
        control = self._control
        self._goal.publish_feedback(
            ExecuteTask.Feedback(
                progress=episode.monitor.filtered,
                phase=episode.phase.value,
                mode=control.mode if control else 0,
            )
        )

    def _finish(self, episode: Episode) -> None:
        verdict = episode.verdict
        assert verdict is not None and self._ended is not None
        self.get_logger().info(
            f"episode {self.episode_id}: {verdict.outcome.name}, {verdict.termination}: "
            f"{verdict.detail}"
        )
        self._publish_event(
            EpisodeEvent.VERDICT, int(verdict.outcome), verdict.termination, "supervisor"
        )
        self.episode, self._phase, self._goal = None, Phase.IDLE, None
        self._accepted = False
        self._ended.set_result(None)

    # Outputs ----------------------------------------------------------------------------------

    def _fresh_control(self) -> Control | None:
        silent = time.monotonic() - self._control_s > STATUS_TIMEOUT_S
        return None if silent else self._control

    def _publish_event(
        self, event: int, outcome: int = EpisodeEvent.UNLABELLED, reason: str = "", by: str = ""
    ) -> None:
        msg = EpisodeEvent(
            episode_id=self.episode_id,
            event=event,
            outcome=outcome,
            termination_reason=reason,
            by=by,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._events.publish(msg)

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        episode = self.episode
        if episode is None:
            return OK, "idle", {"episode": self.episode_id}
        progress = episode.monitor.filtered
        line = f"{episode.phase.value}, progress {progress:.2f}, {episode.duration_s:.1f} s"
        return OK, line, {"episode": self.episode_id}


def main() -> None:
    """Entry point."""
    run_node(SupervisorNode)


if __name__ == "__main__":
    main()
