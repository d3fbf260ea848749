"""The public Python API: a script arms the robot, runs tasks, reads the reward, hands over.

    with Commander(BringUp(sim=True)) as robot:
        robot.arm()
        result = robot.execute("put the cup on the shelf", timeout_s=30.0)
        print(result.success, result.reason, robot.reward())

After ``with`` the task has ended, the robot that the script armed is disarmed, and the processes
that it started are gone: also after an exception, Ctrl-C or `kill`.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import Trigger

from rewact_ros.action import ExecuteTask
from rewact_ros.control.modes import Mode
from rewact_ros.msg import ControlStatus, PolicyStatus, Reward, SupervisorStatus, Timing
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.door import Guarded
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import processes
from rewact_ros.stack.domain import kept_environment, own_domain
from rewact_ros.stack.interpreters import check_interpreters
from rewact_ros.stack.node_thread import NodeThread, poll
from rewact_ros.stack.robot_lock import RobotLock
from rewact_ros.stack.runner import Runner
from rewact_ros.stack.stop_request import StopRequest, killed_is_interrupted
from rewact_ros.stack.task import LEAVE_S, Task, TaskResult

STATUS_LAG_S = 0.2
# A server that this client has found may find it later, and its answer would be lost.
MUTUAL_S = 0.5
ANSWER_S = 10.0
# hil may take this long to hear its robot after this client has found both.
ARM_PATIENCE_S = 10.0
RELEASE_S = 60.0
# A busy or slow machine imports PyTorch and exports an engine for minutes; a process that dies
# meanwhile is told at once.
READY_S = 300.0
REWARD_AGE_S = 0.5
HIL_SERVICES = ("hil/arm", "hil/disarm", "hil/resume", "hil/take_over", "hil/release")


class StackError(RuntimeError):
    """The robot refused or did not answer; the message says which part, why and what to do."""


class _Client(Guarded, Node):
    """A node with a door."""


class Commander:
    """Context manager around one robot, in the manner of Nav2's `BasicNavigator`.

    A thread of its own takes the messages. Every call is made in the caller's thread and ends in
    bounded time; while it waits, the processes are looked after, and Ctrl-C and `kill` raise
    KeyboardInterrupt.

    Attributes:
        node: for further subscriptions and clients; valid inside ``with``.
        runner: of the processes that were started here; None: the robot ran already.
        control, policy, supervisor: newest status of each, None before the first.

    Args:
        bring_up: starts this robot; a simulated one in a ROS domain of its own, unless
            ROS_DOMAIN_ID is set. None: attaches to the robot that runs in this ROS domain.
        namespace: of a robot that runs already.
        look_after: called some twenty times a second while something is awaited; what it raises
            ends the wait.
        write: receives the log lines of the processes that are started here.
    """

    def __init__(
        self,
        bring_up: BringUp | None = None,
        *,
        namespace: str = "",
        look_after: Callable[[], None] = lambda: None,
        write: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.runner: Runner | None = None
        self.control: ControlStatus | None = None
        self.policy: PolicyStatus | None = None
        self.supervisor: SupervisorStatus | None = None
        self._bring_up = bring_up
        self._namespace = namespace if bring_up is None else bring_up.namespace
        self._look_after, self._write = look_after, write
        self._node: Node | None = None
        self._services: dict[str, Client] = {}
        self._rewarded: tuple[float, float] | None = None  # arrival on the steady clock, value
        self._task: Task | None = None
        self._has_policy, self._armed = True, False

    @property
    def node(self) -> Node:
        """The node. Raises StackError outside of ``with``."""
        if self._node is None:
            raise StackError(
                "the commander is not connected: expected a call inside "
                "`with Commander(…) as robot:`, got one outside; move it there"
            )
        return self._node

    # Coming and going -------------------------------------------------------------------------

    def __enter__(self) -> "Commander":
        """Connect; a robot that is started here is ready by then.

        Raises:
            BringUpError: a process cannot run, or another robot runs there.
            StackError: it is not ready in time.
        """
        with contextlib.ExitStack() as signals, contextlib.ExitStack() as stack:
            signals.enter_context(killed_is_interrupted())
            with StopRequest():  # what was begun is entered in the stack, whatever comes meanwhile
                if self._bring_up is not None:
                    self._start(self._bring_up, stack)
                self._connect(stack)
            if self._bring_up is not None:
                self.wait_until_ready()
            self._stack, self._signals = stack.pop_all(), signals.pop_all()
        return self

    def _start(self, args: BringUp, stack: contextlib.ExitStack) -> None:
        nodes = processes(args)
        stack.enter_context(kept_environment("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE"))
        # A real robot's drivers are in the domain that the user has.
        lock = own_domain(args.namespace) if args.simulated else RobotLock(args.namespace)
        stack.callback(lock.release)
        if args.ml_python:
            for line in check_interpreters(nodes):
                self._write(f"up | {line}")
        self._has_policy = any(node.name == "policy" for node in nodes)
        self.runner = stack.enter_context(Runner(nodes, self._write))

    def _connect(self, stack: contextlib.ExitStack) -> None:
        self._thread = NodeThread(
            lambda context: _Client("rewact_commander", namespace=self._namespace, context=context)
        )
        stack.callback(self._thread.close)
        node = self._thread.node
        for kind, topic, call, qos in (
            (Reward, names.REWARD, self._on_reward, names.EVENTS),
            (ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED),
            (PolicyStatus, names.POLICY_STATUS, self._on_policy, names.COMMAND),
            (SupervisorStatus, names.SUPERVISOR_STATUS, self._on_supervisor, names.LATCHED),
        ):
            node.create_subscription(kind, topic, call, qos)
        for service in HIL_SERVICES:  # found by the time that they are needed
            self._services[service] = node.create_client(Trigger, service)
        self._action = ActionClient(node, ExecuteTask, names.EXECUTE_TASK)
        self._met = False
        self._thread.start()
        self._node = node
        stack.callback(setattr, self, "_node", None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._signals, StopRequest():  # a second Ctrl-C leaves no robot armed either
            try:
                left = self._come_to_rest()
            finally:
                self._stack.close()
        if left and error is None:
            raise StackError(left)
        if left and error is not None:
            error.add_note(left)

    def _come_to_rest(self) -> str:
        """End the task and disarm; returns what could not be done, for a person to do."""
        cancelled, disarmed = self._end_task(), True
        if self._armed:
            self._armed = False
            client = self._services["hil/disarm"]
            disarmed = poll(client.service_is_ready, LEAVE_S)
            if disarmed:
                answer = client.call_async(Trigger.Request())
                disarmed = poll(answer.done, LEAVE_S) and (
                    answer.result().success or self.mode is Mode.FAULT
                )
        # What was started here is stopped next, and commands nothing any more.
        if (cancelled and disarmed) or self.runner is not None:
            return ""
        what = "may still be armed" if not disarmed else "may still run its task"
        return (
            f"the robot {what}: expected an answer within {LEAVE_S:g} s{self._state()}; use the "
            "emergency stop, or call hil/disarm"
        )

    # What it hears ----------------------------------------------------------------------------

    def _on_control(self, msg: ControlStatus) -> None:
        self.control = msg

    def _on_policy(self, msg: PolicyStatus) -> None:
        self.policy = msg

    def _on_supervisor(self, msg: SupervisorStatus) -> None:
        self.supervisor = msg

    def _on_reward(self, msg: Reward) -> None:
        self._rewarded = (time.monotonic(), float(msg.value))

    @property
    def mode(self) -> Mode | None:
        """What hil does; None: it has not been heard."""
        return Mode(self.control.mode) if self.control else None

    @property
    def resume_required(self) -> bool:
        """Whether only a person's `hil/resume` lets the arm move again, as hil last said."""
        return bool(self.control and self.control.resume_required)

    def reward(self, max_age_s: float = REWARD_AGE_S) -> float | None:
        """Newest progress in [0, 1]; None: none has come, or none for longer than `max_age_s`."""
        seen = self._rewarded
        if seen is None or time.monotonic() - seen[0] > max_age_s:
            return None
        return seen[1]

    def timings(self) -> dict[str, Timing]:
        """Newest timing figures of hil, by name; empty before its first status."""
        return {t.name: t for t in self.control.timings} if self.control else {}

    # Waiting ----------------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until a condition holds; its state is what the messages of the thread changed.

        Raises:
            StackError: it did not within `timeout_s`; the message says `what` was awaited.
            BringUpError: a process that was started here cannot go on.
            KeyboardInterrupt: Ctrl-C, a kill or a closed terminal.
        """
        _ = self.node  # raises outside of `with`
        with StopRequest() as stop:
            held = poll(lambda: stop.given or until(), timeout_s, self._look)
        if not held:
            raise StackError(f"{what}: no answer within {timeout_s:g} s{self._state()}")

    def _look(self) -> None:
        broken = self._thread.broken
        if broken is not None:
            raise StackError(f"the commander's thread ended: {broken}; open a new one") from broken
        if self.runner is not None:
            self.runner.poll()
        self._look_after()

    def pause(self, seconds: float) -> None:
        """Let time pass while the processes are looked after; raises as `wait`."""
        end_s = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end_s, seconds + ANSWER_S, "pause")

    def _state(self) -> str:
        if self.control is None:
            domain = os.environ.get("ROS_DOMAIN_ID") or "0"
            return (
                f" (no status from hil in ROS domain {domain}, namespace "
                f"'/{self._namespace.strip('/')}': start the robot with `rewact up`, or mend "
                "ROS_DOMAIN_ID or the namespace)"
            )
        parts = [f"hil: {self.control.reason}"]
        if self.control.remedy:
            parts[0] += f"; {self.control.remedy}"
        if self.policy is None and self._has_policy:
            parts.append("policy: silent")
        elif self.policy is not None and not self.policy.ready:
            parts.append(f"policy: {self.policy.reason}")
        if self.supervisor is not None:
            parts.append(f"supervisor: {self.supervisor.text}")
        return f" ({' | '.join(parts)})"

    def wait_until_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until hil answers and the policy, if there is one, is warmed up and fed."""
        self.wait(
            lambda: (
                self.control is not None
                and (not self._has_policy or (self.policy is not None and self.policy.ready))
            ),
            timeout_s,
            "bring-up",
        )

    # What a person may do ---------------------------------------------------------------------

    def trigger(self, service: str, timeout_s: float = ANSWER_S) -> str:
        """Call a std_srvs/Trigger of the robot, such as `hil/confirm_reset`; returns its message.

        Raises:
            StackError: it is not there, or it says no.
        """
        client = self._service(service)
        self.wait(client.service_is_ready, timeout_s, f"service {service}")
        future = client.call_async(Trigger.Request())
        self.wait(future.done, timeout_s, f"service {service}")
        response = future.result()
        if not response.success:
            raise StackError(f"{service}: {response.message}")
        return str(response.message)

    def _service(self, name: str) -> Client:
        # Kept: a client that is destroyed here while the thread waits for it would be missed there.
        if name not in self._services:
            self._services[name] = self.node.create_client(Trigger, name)
        return self._services[name]

    def arm(self) -> None:
        """Arm hil, and resume it where a watchdog or a human's release stopped it before.

        A person who leads keeps the arm until they let go.

        Raises:
            StackError: hil is not there, refuses, or is in FAULT.
        """
        self.wait(lambda: self.mode is not None, ANSWER_S, "status of hil")
        self.wait(lambda: self.mode is not Mode.HUMAN, RELEASE_S, "a person's release")
        self._armed = True  # first: an interrupted call may arm
        if self.mode is Mode.DISARMED:
            self._arm_when_fed()
            self.wait(lambda: self.mode in (Mode.HOLD, Mode.HUMAN), ANSWER_S, "hil armed")
        if self.resume_required:
            self.trigger("hil/resume")
        self.wait(
            lambda: self.mode is Mode.HOLD and not self.resume_required, ANSWER_S, "hil in HOLD"
        )
        # The supervisor hears of it by the same topic, a moment earlier or later than this client.
        self.pause(STATUS_LAG_S)

    def _arm_when_fed(self) -> None:
        """Arm a hil that may have been found by this client before it found its robot."""
        end_s = time.monotonic() + ARM_PATIENCE_S
        while True:
            try:
                self.trigger("hil/arm")
                return
            except StackError as error:
                late = re.search("(received|has come) yet|waiting for the policy", str(error))
                if not late or time.monotonic() > end_s:
                    raise
                self.pause(STATUS_LAG_S)

    def disarm(self) -> None:
        """Brake, then send no command any more; raises StackError if hil does not say so."""
        self.trigger("hil/disarm")
        self.wait(lambda: self.mode is Mode.DISARMED, ANSWER_S, "hil disarmed")
        self._armed = False

    def take_over(self) -> None:
        """Give the arm to a person: to the teleop source that sends.

        Raises:
            StackError: no source sends, or it cannot be followed; the policy is stopped all the
                same.
        """
        self.trigger("hil/take_over")
        self.wait(lambda: self.mode is Mode.HUMAN, ANSWER_S, "hil in HUMAN")

    def hand_back(self) -> None:
        """End the person's turn and let the policy go on, also under `on_release: hold`.

        Raises:
            StackError: hil is disarmed or in FAULT, or does not answer.
        """
        self.wait(lambda: self.mode is not None, ANSWER_S, "status of hil")
        self.trigger("hil/release")
        self.wait(lambda: self.mode is not Mode.HUMAN, ANSWER_S, "a person's release")
        if self.resume_required:
            self.trigger("hil/resume")

    # Tasks ------------------------------------------------------------------------------------

    def execute(self, task: str, timeout_s: float = 0.0) -> TaskResult:
        """Run one task to its verdict; the arm holds by then.

        Args:
            task: what to do, in words.
            timeout_s: of running, reset excluded; 0: the supervisor's default.

        Raises:
            StackError: the supervisor refused it or went silent; the task is cancelled.
        """
        with self._ended_by_an_error():
            return self.start(task, timeout_s).result()

    def start(self, task: str, timeout_s: float = 0.0) -> Task:
        """Begin a task, and go on while it runs; arguments as of `execute`.

        Raises:
            StackError: a task of this commander runs, or the supervisor refused it or is not there.
        """
        if self._task is not None and self._task.running:
            raise StackError(
                "execute_task: expected no task of this commander, got one that runs; take its "
                "result() or cancel() it first"
            )
        self.wait(self._action.server_is_ready, ANSWER_S, "action execute_task")
        if not self._met:
            self.pause(MUTUAL_S)
            self._met = True
        goal = ExecuteTask.Goal(task=task, timeout=timeout_s, episodes=1)
        with self._ended_by_an_error():
            self._task = begun = Task(self._thread, self._action, self.wait, self.reward)
            if not begun.begin(goal, ANSWER_S):
                self.pause(STATUS_LAG_S)  # the supervisor's status says why
                raise StackError(f"execute_task was refused{self._state()}")
        return begun

    @contextlib.contextmanager
    def _ended_by_an_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with StopRequest():
                self._end_task()
            raise

    def _end_task(self) -> bool:
        """Cancel the newest task if it runs; whether none does any more."""
        task, self._task = self._task, None
        return task is None or task.leave()
