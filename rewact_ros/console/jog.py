"""A browser's jog: what a page holds down becomes targets of a teleop source, which hil arbitrates.

It is a node of its own that is there only while a page has switched it on: listening to the robot's
joints costs more than the rest of the console. Held means a message every few hundredths of a
second; what comes late, or does not come, is let go.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from rclpy.context import Context
from rclpy.node import Node
from rclpy.timer import Timer

from rewact_ros.console.robot import RefusedError
from rewact_ros.console.sessions import Session
from rewact_ros.contract import Contract
from rewact_ros.contract.schema import TeleopSource
from rewact_ros.control.jog import JogInput, JogSource, make_integrator
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.teleop import RobotState, TargetPublisher
from rewact_ros.sim.task import find_task

PERIOD_S = 0.02
# A hand that was not heard of for so long has let go; so has one whose word came so late. Beside
# what hil needs to notice, the arm brakes within a quarter of a second.
LAPSE_S = 0.15
# The last word, that nobody holds it, needs a moment to be read before its node goes.
FAREWELL_S = 0.3
# hil follows a deadman only once it has seen it up: some messages of it.
SEEN_UP_S = 0.2
LOOK_S = 0.1
NO_NODE = {"leads": False, "waits": "", "others": 0}


class HeldKeys:
    """What a page holds down now. Safe in any thread.

    Args:
        directions: of the jog, in order.
    """

    def __init__(self, directions: tuple[str, ...]) -> None:
        self._directions = directions
        self._lock = threading.Lock()
        self._rates = np.zeros(len(directions))
        self._held_s = -math.inf
        self._fastest_s = math.inf  # smallest difference of the clocks: a word without delay
        self._number = -1

    def take(self, message: dict[str, Any], now_s: float) -> None:
        """One message: `n`, `t` (ms of the page's own clock), `pressed`, `rates` by direction.

        One that is malformed lets go; one that is older than the newest, or late, changes nothing.
        """
        try:
            number, sent_s = int(message["n"]), float(message["t"]) / 1000.0
            pressed, rates = message["pressed"] is True, self._read(message.get("rates", {}))
        except (KeyError, TypeError, ValueError, OverflowError):
            self.let_go()
            return
        with self._lock:
            if number <= self._number or not math.isfinite(sent_s):
                return
            self._number = number
            self._fastest_s = min(self._fastest_s, now_s - sent_s)
            if not pressed:
                self._held_s = -math.inf
            elif now_s - sent_s - self._fastest_s <= LAPSE_S:
                self._rates, self._held_s = rates, now_s

    def _read(self, given: Any) -> Any:
        rates = np.zeros(len(self._directions))
        for direction, rate in dict(given).items():
            value = float(rate)
            if not math.isfinite(value):
                raise ValueError(direction)
            rates[self._directions.index(direction)] = min(max(value, -1.0), 1.0)
        return rates

    def let_go(self) -> None:
        """Nobody holds anything."""
        with self._lock:
            self._held_s = -math.inf

    def begin(self) -> None:
        """Another page, with a clock and numbers of its own."""
        with self._lock:
            self._held_s, self._fastest_s, self._number = -math.inf, math.inf, -1

    def nothing(self, now_s: float) -> JogInput:
        """The input of a moment in which nobody holds anything."""
        return JogInput(False, np.zeros(len(self._directions)), now_s)

    def given(self, now_s: float) -> JogInput:
        """The input of this moment."""
        with self._lock:
            if now_s - self._held_s <= LAPSE_S:
                return JogInput(True, self._rates.copy(), now_s)
        return self.nothing(now_s)


class JogNode(Guarded, Node):
    """Publishes targets and the deadman of one source while it is there.

    Attributes:
        state: whether hil follows it, why a hand would ask in vain, other speakers of its source;
            made in the executor, for another thread to read.
    """

    def __init__(
        self,
        contract: Contract,
        source: TeleopSource,
        task: str,
        keys: HeldKeys,
        namespace: str,
        context: Context,
    ) -> None:
        super().__init__("console_jog", namespace=namespace, context=context)
        self._source, self._keys = source, keys
        self.robot = RobotState(self, contract)
        self._targets = TargetPublisher(self, source, source.deadman)
        self._jog = JogSource(
            make_integrator(contract, source, find_task(task).robot_model), source.max_age_s
        )
        self._heard_s = time.monotonic()  # until then nobody listened
        self.state: dict[str, Any] = dict(NO_NODE)
        self.create_timer(PERIOD_S, self._tick, clock=steady_clock())
        self.create_timer(LOOK_S, self._look, clock=steady_clock())

    @property
    def waits(self) -> str:
        """Why a hand would ask in vain yet; "": it would not."""
        if time.monotonic() - self._heard_s < SEEN_UP_S:
            return "hil has not seen yet that nobody holds it"
        return self.robot.unready

    @property
    def leads(self) -> bool:
        """Whether hil follows it."""
        return self.robot.led_by(self._source.name)

    def _look(self) -> None:
        # Publishers of its source's targets beside itself, such as `rewact teleop`.
        others = max(self.count_publishers(self._source.topic) - 1, 0)
        self.state = {"leads": self.leads, "waits": self.waits, "others": others}

    def _tick(self) -> None:
        now_s = time.monotonic()
        if not self._targets.is_heard:
            self._heard_s = now_s
        # A press that comes too soon counts from here on, as if it came now.
        given = self._keys.given(now_s) if not self.waits else self._keys.nothing(now_s)
        target = self._jog.step(now_s, given, self.robot.joints(), self.leads)
        self._targets.publish(target, given.pressed)


class BrowserJog:
    """The door of the web server to the jog of one source.

    Args:
        node: the console's, in whose executor the jog's node runs.
        later: runs something in that executor.
        contract: of the robot.
        source: of the contract, with a `jog` and a `deadman`.
        task: simulated one whose robot a tool without a model is of.

    Raises:
        ContractError: the source has no such things, or its tool does not load.
    """

    def __init__(
        self,
        node: Node,
        later: Callable[[Callable[[], object]], None],
        contract: Contract,
        source: TeleopSource,
        task: str,
    ) -> None:
        # Once at the start, so that a contract that cannot jog is told then.
        make_integrator(contract, source, find_task(task).robot_model)
        assert source.jog is not None
        self._owner, self._later = node, later
        self._contract, self._source, self._task = contract, source, task
        self._directions = tuple(source.jog.directions)
        self._keys = HeldKeys(self._directions)
        self._node: JogNode | None = None
        self._farewell: Timer | None = None
        self._session: Session | None = None

    def switch(self, session: Session, on: bool) -> "Future[str]":
        """Bring the jog's node up, or down; the future says so, or raises RefusedError."""
        answer: Future[str] = Future()

        def act() -> None:
            try:
                answer.set_result(self._bring_up(session) if on else self._bring_down())
            except RefusedError as error:
                answer.set_exception(error)

        self._later(act)
        return answer

    def _bring_up(self, session: Session) -> str:
        self._keys.begin()
        if self._farewell is not None:
            self._owner.destroy_timer(self._farewell)
            self._farewell = None
        if self._node is None:
            owner = self._owner
            if owner.count_publishers(self._source.topic) > 0:
                raise RefusedError(
                    f"another process speaks as '{self._source.name}' already: end it, such as "
                    "`rewact teleop`, or give this console another jog_source"
                )
            self._node = JogNode(
                self._contract,
                self._source,
                self._task,
                self._keys,
                owner.get_namespace(),
                owner.context,
            )
            assert owner.executor is not None
            owner.executor.add_node(self._node)
        self._session = session
        return "jog is on: hold a key or a pad to lead the arm"

    def _bring_down(self) -> str:
        """First nobody holds it, then it goes."""
        self._keys.let_go()
        self._session = None
        if self._node is not None and self._farewell is None:
            self._farewell = self._owner.create_timer(
                FAREWELL_S, self._destroy, clock=steady_clock()
            )
        return "jog is off"

    def _destroy(self) -> None:
        node, self._node = self._node, None
        if self._farewell is not None:
            self._owner.destroy_timer(self._farewell)
            self._farewell = None
        if node is not None:
            assert self._owner.executor is not None
            self._owner.executor.remove_node(node)
            node.destroy_node()  # type: ignore[no-untyped-call]  # Guarded has none

    def take(self, session: Session, message: dict[str, Any]) -> None:
        """One message of the page that leads."""
        if session is self._session:
            self._keys.take(message, time.monotonic())

    def let_go(self, session: Session) -> None:
        """The page is gone, or leads no more."""
        if session is self._session:
            self._keys.let_go()

    def leave(self, session: Session) -> None:
        """As `let_go`, and the jog is switched off."""
        if session is self._session:
            self._keys.let_go()  # at once: the executor may be busy
            self._later(self._bring_down)

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        node = self._node
        return {
            "source": self._source.name,
            "directions": list(self._directions),
            "on": self._session is not None,
            **(node.state if node else NO_NODE),
        }

    def close(self) -> None:
        """Let go and free the node; the executor runs no more."""
        self._keys.let_go()
        if self._node is not None:
            self._node.destroy_node()  # type: ignore[no-untyped-call]
            self._node = None
