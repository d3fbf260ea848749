"""One task that a supervisor was given, and how it ended."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.task import Future

from rewact_ros.action import ExecuteTask
from rewact_ros.stack.node_thread import NodeThread, poll
from rewact_ros.supervision.verdict import Outcome

# Beside the running time: the reset, a person's help, the end.
PATIENCE_S = 120.0
# At the end of `with`, for the task and for hil each; nobody waits for a robot that is gone.
LEAVE_S = 5.0


@dataclass(frozen=True)
class TaskResult:
    """How a task ended.

    Attributes:
        outcome: what the supervisor or a person judged; UNLABELLED is nobody's verdict, no failure.
        reason: why it ended, one line.
        reward: newest progress in [0, 1] at the end; None: there was no current one.
        peak_reward: largest filtered progress; None: no reward came.
        duration_s: of running, reset excluded.
        episode_id: of the recording and the events.
        bag: path of the recording; empty: none.
        state: of the goal, of `action_msgs/GoalStatus`; SUCCEEDED where somebody judged.
    """

    outcome: Outcome
    reason: str
    reward: float | None
    peak_reward: float | None
    duration_s: float
    episode_id: str
    bag: str
    state: int

    @property
    def success(self) -> bool:
        """Whether it was judged a success."""
        return self.outcome is Outcome.SUCCESS


class Task:
    """A task that runs; `Commander.start` makes it.

    Attributes:
        feedback: newest of the supervisor; None before the first.

    Args:
        thread: of the node.
        action: whose server is there.
        wait: `Commander.wait`.
        reward: `Commander.reward`.
    """

    def __init__(
        self,
        thread: NodeThread,
        action: ActionClient,
        wait: Callable[[Callable[[], bool], float, str], None],
        reward: Callable[[], float | None],
    ) -> None:
        self.feedback: ExecuteTask.Feedback | None = None
        self._thread, self._action = thread, action
        self._wait, self._reward = wait, reward
        self._limit_s = PATIENCE_S
        self._goal: ClientGoalHandle | None = None
        self._done: Future | None = None
        self._sent = self._answered = False

    def begin(self, goal: ExecuteTask.Goal, timeout_s: float) -> bool:
        """Whether the supervisor takes it; raises StackError where it does not say so in time."""
        self._limit_s = goal.timeout + PATIENCE_S
        self._sent = True  # first: what an interrupted call sends is cancelled too
        self._thread.call(lambda: self._send(goal))
        self._wait(lambda: self._answered, timeout_s, "action execute_task")
        return self._goal is not None

    def _send(self, goal: ExecuteTask.Goal) -> None:
        sent: Future = self._action.send_goal_async(goal, feedback_callback=self._on_feedback)
        sent.add_done_callback(self._on_answer)

    def _on_answer(self, sent: Future) -> None:
        goal = sent.result()
        if goal.accepted:
            self._goal, self._done = goal, goal.get_result_async()
        self._answered = True

    def _on_feedback(self, msg: ExecuteTask.Impl.FeedbackMessage) -> None:
        self.feedback = msg.feedback

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._done is not None and not self._done.done()

    def result(self, timeout_s: float = 0.0) -> TaskResult:
        """Wait for the end; the arm holds by then.

        Args:
            timeout_s: longest wait; 0: the task's running time and two minutes.

        Raises:
            StackError: it did not end in time; it may still run.
        """
        assert self._done is not None
        self._wait(self._done.done, timeout_s or self._limit_s, "verdict")
        end = self._done.result()
        peak = float(end.result.peak_reward)
        return TaskResult(
            outcome=Outcome(end.result.outcome),
            reason=end.result.reason,
            reward=self._reward(),
            peak_reward=None if math.isnan(peak) else peak,
            duration_s=float(end.result.duration),
            episode_id=end.result.episode_id,
            bag=end.result.bag,
            state=end.status,
        )

    def cancel(self) -> TaskResult:
        """End it; the arm holds by then. Raises as `result`."""
        assert self._goal is not None
        self._thread.call(self._goal.cancel_goal_async)
        return self.result()

    def leave(self) -> bool:
        """Cancel it if it may run, without a word of its end; whether it is over."""
        if not self._sent:
            return True
        if not poll(lambda: self._answered, LEAVE_S):
            return False
        if self._goal is None or self._done is None or self._done.done():
            return True
        try:
            self._thread.call(self._goal.cancel_goal_async)
        except TimeoutError:
            return False
        return poll(self._done.done, LEAVE_S)
