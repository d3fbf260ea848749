"""A robot that answers as hil and supervisor do, without an arm."""

import time

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.msg import ControlStatus, PolicyStatus, Reward
from rewact_ros.ros import interfaces as names
from rewact_ros.supervision.verdict import Outcome

RUN_S = 0.2


class FakeRobot(Node):
    """Answers as hil and supervisor do; a task runs until `verdict`, or until it is cancelled."""

    def __init__(self, context):
        super().__init__("robot", context=context, use_global_arguments=False)
        self.mode, self.resume_required, self.serves = ControlStatus.DISARMED, False, True
        self.accepts, self.rewards, self.verdict = True, True, Outcome.SUCCESS
        self.calls, self.cancelled, self._goal = [], 0, None
        self.on_task = lambda: None
        self.version = self.said = ""  # of the policy
        self._control = self.create_publisher(ControlStatus, names.CONTROL_STATUS, names.LATCHED)
        self._policy = self.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
        self._reward = self.create_publisher(Reward, names.REWARD, names.EVENTS)
        for name in ("arm", "disarm", "resume", "take_over", "release"):
            self.create_service(
                Trigger, f"hil/{name}", lambda _, response, name=name: self._serve(name, response)
            )
        self.create_timer(0.02, self._publish)
        self._server = ActionServer(
            self,
            ExecuteTask,
            names.EXECUTE_TASK,
            self._execute,
            goal_callback=lambda _: GoalResponse(1 + self.accepts),
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    def _publish(self):
        self._control.publish(
            ControlStatus(
                mode=self.mode,
                resume_required=self.resume_required,
                reason="as told",
                remedy="mend",
            )
        )
        self._policy.publish(
            PolicyStatus(ready=True, policy_version=self.version, reason=self.said)
        )
        if self.rewards:
            self._reward.publish(Reward(value=0.75))
        if self._goal is not None:
            self._end()

    def _serve(self, name, response):
        self.calls.append(name)
        if name == "release":
            self.resume_required = True
        if name == "resume":
            self.resume_required = False
        modes = {
            "arm": ControlStatus.HOLD,
            "disarm": ControlStatus.DISARMED,
            "take_over": ControlStatus.HUMAN,
            "release": ControlStatus.HOLD,
        }
        if self.serves:
            self.mode = modes.get(name, self.mode)
            self._publish()
        response.success, response.message = self.serves, "as asked" if self.serves else "broken"
        return response

    async def _execute(self, goal):
        goal.publish_feedback(ExecuteTask.Feedback(progress=0.5, phase="running"))
        self._goal, self._due_s, self._over = goal, time.monotonic() + RUN_S, Future()
        self.on_task()
        await self._over
        if goal.is_cancel_requested:
            self.cancelled += 1
            goal.canceled()
            return ExecuteTask.Result(outcome=0, reason="cancelled")
        goal.succeed()
        return ExecuteTask.Result(
            outcome=int(self.verdict), reason="progress", duration=1.5, peak_reward=float("nan")
        )

    def _end(self):
        over = self.verdict is not None and time.monotonic() > self._due_s
        if over or self._goal.is_cancel_requested:
            self._goal = None
            self._over.set_result(True)
