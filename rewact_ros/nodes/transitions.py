"""Node `transitions`: what the robot executed, on disk first, then to the learner that asks."""

import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from rewact_ros.contract import ContractError, SampleError, load_contract
from rewact_ros.control.modes import Mode
from rewact_ros.learning.rl.executed import Decided, ExecutedSteps, Happened
from rewact_ros.learning.rl.journal import Journal, JournalError
from rewact_ros.learning.rl.outbox import Outbox
from rewact_ros.learning.rl.transitions import Transition as Executed
from rewact_ros.learning.rl.transitions import TransitionError, unpack_observation
from rewact_ros.msg import ControlStatus, Decision, EpisodeEvent, Transition, TransitionRequest
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock, steady_clock
from rewact_ros.ros.commands import Decode, command_decoder, command_type
from rewact_ros.ros.convert import to_ns, to_stamp
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded, MalformedError
from rewact_ros.ros.params import TransitionsParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.stamps import Stamps, stamp_fault
from rewact_ros.supervision.verdict import Change, Outcome
from rewact_ros.text import printable
from rewact_ros.tokens import EpisodeOwners

STEP_HZ = 20.0
SILENCE_S = 2.0  # a policy that decides is heard more often
LOG_S = 10.0


class TransitionsNode(Guarded, Node):
    """Callbacks only store; the tick makes transitions, and a request is answered at once."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("transitions", **node_arguments)
        self.params = p = declare(self, TransitionsParams)
        if not p.journal:
            raise ContractError("transitions: journal: expected a folder, got none")
        self.contract = load_contract(p.contract, self.get_namespace())
        self.clock = NodeClock(self)
        self.journal = Journal(Path(p.journal))
        first = next(self.journal.read(), None)
        self.steps = ExecutedSteps(self.contract.dt_s, len(self.contract.action_names), first)
        self.outbox = Outbox(self.journal)
        self.fault = ""  # why transitions are not kept
        self._parts: list[NDArray[np.float64] | None] = [None] * len(self.contract.action)
        self._stamps: dict[type, Stamps] = defaultdict(Stamps)
        self._owners = EpisodeOwners()
        self._decided_s = float("-inf")
        self._refusals = 0  # told so far
        self._make_interfaces()
        self.get_logger().info(
            f"journal {self.journal.run} in {p.journal}: {len(self.journal)} transitions"
        )

    def _make_interfaces(self) -> None:
        for index, part in enumerate(self.contract.action):
            on_command = partial(self._on_command, index, command_decoder(part))
            self.create_subscription(command_type(part), part.topic, on_command, names.EVENTS)
        for kind, topic, call, qos in (
            (ControlStatus, names.CONTROL_STATUS, self._on_control, names.LATCHED),
            (EpisodeEvent, names.EPISODE_EVENT, self._on_event, names.EVENTS),
            (Decision, names.DECISION, self._on_decision, names.EVENTS),
            (TransitionRequest, names.TRANSITION_REQUEST, self._on_request, names.EVENTS),
        ):
            self.create_subscription(kind, topic, call, qos)
        self._publisher = self.create_publisher(Transition, names.TRANSITIONS, names.EVENTS)
        self.create_timer(1.0 / STEP_HZ, self._tick, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Inputs -----------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        return self.clock.now().ros_ns

    def _on_command(self, index: int, decode: Decode, msg: Any, info: dict[str, int]) -> None:
        try:
            self._parts[index] = decode(msg)
        except SampleError as error:
            self.steps.refuse(str(error))
            return
        parts = [part for part in self._parts if part is not None]
        if len(parts) == len(self._parts):
            # On the clock of the stamps, and where possible from the moment it was sent.
            now_ns = self._now_ns()
            sent_ns = now_ns if self.clock.uses_sim_time else info["source_timestamp"]
            if fault := stamp_fault(sent_ns, now_ns):
                raise MalformedError(f"time of sending: {fault}")
            self.steps.command(sent_ns, np.concatenate(parts))

    def _stamp_ns(self, msg: ControlStatus | EpisodeEvent | Decision) -> int:
        """Stamp of a message; one that cannot be would hide all right ones after it."""
        stamp_ns = to_ns(msg.header.stamp)
        if fault := self._stamps[type(msg)].fault(stamp_ns, self._now_ns()):
            raise MalformedError(fault)
        return stamp_ns

    def _on_control(self, msg: ControlStatus) -> None:
        mode = Mode(msg.mode)
        self.steps.control(self._stamp_ns(msg), mode, msg.epoch)

    def _on_event(self, msg: EpisodeEvent) -> None:
        change, outcome = Change(msg.event), Outcome(msg.outcome)
        begins = change in (Change.STARTED, Change.RESETTING, Change.RUNNING)
        if not self._owners.take(msg.episode_id, begins, msg.proof, msg.next):
            name = printable(msg.episode_id, 128)
            self.get_logger().warning(
                f"episode {name}: event ignored, it is not from the supervisor that began it",
                throttle_duration_sec=LOG_S,
            )
            return
        self.steps.event(Happened(self._stamp_ns(msg), msg.episode_id, change, outcome))

    def _on_decision(self, msg: Decision) -> None:
        stamp_ns = self._stamp_ns(msg)
        self._decided_s = time.monotonic()
        try:
            observation = unpack_observation(msg.observation.tobytes())
        except TransitionError as error:
            self.steps.refuse(str(error))
            return
        self.steps.decision(
            Decided(stamp_ns, msg.epoch, msg.policy_version, observation, msg.value, msg.decided)
        )

    # Outputs ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._keep(self.steps.step(self._now_ns()))
        if self.steps.left_out["refused"] > self._refusals:
            reason = f"left out: {self.steps.refused}"
            self.get_logger().warning(reason, throttle_duration_sec=LOG_S)

    def _keep(self, transitions: list[Executed]) -> None:
        """To disk. What cannot be kept is lost to learning; the robot does not wait for it."""
        for transition in transitions:
            try:
                self.outbox.append(transition)
                if transition.ended:
                    self.journal.sync()
            except (JournalError, OSError) as error:
                self.fault = str(error)
                self.get_logger().error(f"NOT kept: {self.fault}", throttle_duration_sec=LOG_S)
            else:
                self.fault = ""

    def _on_request(self, msg: TransitionRequest) -> None:
        try:
            found = self.outbox.answer(msg.learner, msg.run, msg.next, time.monotonic())
        except (JournalError, OSError) as error:
            self.outbox.refused = str(error)
            found = []
        if self.outbox.refused:
            self.get_logger().warning(self.outbox.refused, throttle_duration_sec=LOG_S)
        stamp = to_stamp(self._now_ns())
        for number, record in found:
            out = Transition(
                run=self.journal.run,
                robot=self.contract.hash,
                number=number,
                count=len(self.journal),
            )
            out.header.stamp = stamp
            out.record.frombytes(record)
            self._publisher.publish(out)

    def _line(self) -> tuple[bytes, str]:
        """How it goes, and whether anybody must do something."""
        now_s, steps = time.monotonic(), self.steps
        if self.fault:
            return ERROR, f"NOT kept: {self.fault}"
        if self.count_publishers(names.EPISODE_EVENT) == 0:
            return WARN, "no supervisor: nothing judges the episodes, so there is no reward"
        if now_s - self._decided_s > SILENCE_S:
            why = "no decisions: the policy node is silent, or its policy is no learned version"
            return WARN, f"{why}; start it with one that `rewact learn` has written"
        refusals, self._refusals = self._refusals, steps.left_out["refused"]
        if self._refusals > refusals:
            return WARN, f"left out: {steps.refused}"
        if self.outbox.refused:
            return WARN, self.outbox.refused
        return OK, f"episode {steps.episode}" if steps.episode else "waits for an episode"

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        level, line = self._line()
        learner = "" if self.outbox.silent(time.monotonic()) else self.outbox.learner
        values: dict[str, object] = {
            "run": self.journal.run,
            "transitions": len(self.journal),
            "journal_mb": f"{self.journal.bytes / 1e6:.1f}",
            "steps": self.steps.recorded,
            "learner": learner,
            **{f"left_out {reason}": n for reason, n in self.steps.left_out.items()},
        }
        return level, line, values

    def close(self) -> None:
        """Keep what there is of the running turn, and leave the journal to another process."""
        self._keep(self.steps.stop())
        self.journal.close()


def main() -> None:
    """Entry point."""
    run_node(TransitionsNode, (ValueError, JournalError, OSError))


if __name__ == "__main__":
    main()
