"""Node `learner`: pulls what the robot executed, learns from it, announces new versions.

It never talks to the robot: what it says reaches the policy as a checkpoint, which the policy node
judges and takes at an episode boundary. When it is gone, the last version runs on.
"""

import json
import os
import socket
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from rclpy.node import Node

from rewact_ros.files import replace_file
from rewact_ros.learning.rl.feed import Feed, check_transition
from rewact_ros.learning.rl.run import LearningRun
from rewact_ros.learning.rl.run_settings import RunSettings
from rewact_ros.learning.rl.settings import LearnError, load_settings, preset
from rewact_ros.msg import (
    LearnerStatus,
    PolicyStatus,
    PolicyUpdate,
    Transition,
    TransitionRequest,
)
from rewact_ros.policy.updates import Update
from rewact_ros.priority import give_way
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import steady_clock
from rewact_ros.ros.diagnostics import ERROR, OK, WARN, publish_diagnostics
from rewact_ros.ros.door import Guarded
from rewact_ros.ros.params import LearnerParams, declare
from rewact_ros.ros.process import run_node
from rewact_ros.ros.swap_client import to_message

ASK_HZ = 5.0
IDLE_S = 0.2
STOP_S = 20.0  # a broken-off update ends within it
_FOLLOWED = "robot.json"


class LearnerNode(Guarded, Node):
    """Callbacks store; one thread learns."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("learner", **node_arguments)
        self.params = p = declare(self, LearnerParams)
        give_way(p.nice)
        self.run = LearningRun(_run_settings(p), resume=True)
        # Sorts by start: where two meet, the later one yields.
        self.name = f"{time.time_ns():020d}-{socket.gethostname()}-{os.getpid()}"
        followed = _followed(self.run)
        self.feed = Feed(followed, len(self.run.journal), self.run.base.contract.hash)
        self.stopped = ""  # why it learns no more
        self._figures = self.run.figures()
        self._doing = "prepares"
        self._rival = ""
        self._update: Update | None = None
        self._heard = True  # the policy knows of the last version
        self._published_updates = self.run.learner.counts.updates
        self._closing = threading.Event()
        self._make_interfaces()
        self._worker = threading.Thread(target=self._work, name="learning", daemon=True)
        self._worker.start()

    def _make_interfaces(self) -> None:
        self._requests = self.create_publisher(
            TransitionRequest, names.TRANSITION_REQUEST, names.EVENTS
        )
        self._updates = self.create_publisher(PolicyUpdate, names.POLICY_UPDATE, names.LATCHED)
        self._statuses = self.create_publisher(LearnerStatus, names.LEARNER_STATUS, names.EVENTS)
        for kind, topic, call, qos in (
            (Transition, names.TRANSITIONS, self._on_transition, names.EVENTS),
            (PolicyStatus, names.POLICY_STATUS, self._on_policy, names.COMMAND),
            (LearnerStatus, names.LEARNER_STATUS, self._on_learner, names.EVENTS),
        ):
            self.create_subscription(kind, topic, call, qos)
        self.create_timer(1.0 / ASK_HZ, self._ask, clock=steady_clock())
        self.create_timer(1.0, self._report, clock=steady_clock())
        publish_diagnostics(self, self._diagnose)

    # Topics -----------------------------------------------------------------------------------

    def _ask(self) -> None:
        wish = None if self.stopped else self.feed.wish(time.monotonic())
        if wish is not None:
            msg = TransitionRequest(learner=self.name, run=wish.run, next=wish.first)
            msg.header.stamp = self.get_clock().now().to_msg()
            self._requests.publish(msg)

    def _on_transition(self, msg: Transition) -> None:
        self.feed.offer(msg.run, msg.robot, msg.number, msg.count, msg.record.tobytes())

    def _on_policy(self, msg: PolicyStatus) -> None:
        update = self._update
        if update is None or self._heard:
            return
        if msg.policy_version == update.version or f"{update.label}:" in msg.reason:
            self._heard = True
            if ": refused: " in msg.reason:
                self.get_logger().warning(f"the policy refuses it: {msg.reason}")

    def _on_learner(self, msg: LearnerStatus) -> None:
        if msg.learner < self.name and not msg.text.startswith("stopped"):
            self._rival = msg.learner

    def _report(self) -> None:
        if self._update is not None and not self._heard and not self.stopped:
            self._updates.publish(to_message(self._update))  # until the policy knows
        figures = {**self._figures, "behind": float(self.feed.behind)}
        msg = LearnerStatus(
            learner=self.name,
            run=self.feed.run,
            learning=not self.stopped,
            text=self.text,
            names=list(figures),
            values=list(figures.values()),
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._statuses.publish(msg)

    @property
    def text(self) -> str:
        """Status and reason in one line."""
        if self.stopped:
            return f"stopped: {self.stopped}"
        behind = self.feed.behind
        late = f", {behind} transitions behind" if behind else ""
        why = f"; refused: {self.feed.refused}" if self.feed.refused else ""
        return f"{self._doing}{late}{why}"

    def _diagnose(self) -> tuple[bytes, str, dict[str, object]]:
        level = ERROR if self.stopped else WARN if self.feed.refused else OK
        values = {
            "learner": self.name,
            "run": self.feed.run,
            "behind": self.feed.behind,
            "version": self._update.version if self._update else "",
            "replay_mb": f"{self.run.learner.bytes / 1e6:.0f}",
        }
        return level, self.text, values | self._figures

    # Learning ---------------------------------------------------------------------------------

    def _work(self) -> None:
        """Worker thread: learn in the order in which things happened, until closed."""
        try:
            self._prepare()
            while not self._closing.is_set() and not self._rival:
                self._learn_next()
            if self._rival:
                self.stopped = (
                    f"learner {self._rival} serves this robot, which has one at a time: stop that "
                    "one first"
                )
            self.run.save()
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            self.stopped = str(error) or type(error).__name__
        if self.stopped:
            self.get_logger().error(f"error: {self.stopped}; the policy runs on as it is")

    def _prepare(self) -> None:
        """Make the first version, fill the buffers, catch up with what is on disk."""
        self._doing = "prepares: the first version"
        version = self.run.publish().version
        self.get_logger().info(
            f"version {version} is in {self.run.out}/policies: start the policy with it"
        )
        self._doing = "prepares: demonstrations and journal"
        self.run.restore(self.params.completion)
        for transition in self.run.behind():
            if self._closing.is_set():
                return
            self._doing = "catches up with its journal"
            self._after(self.run.learn(transition))

    def _learn_next(self) -> None:
        transition = self.feed.take(IDLE_S)
        if transition is None:
            self._doing = "waits for what the robot does"
        else:
            self._doing = "learns"
            check_transition(transition, self.run.spec)
            _follow(self.run, self.feed.run)
            self._after(self.run.take(transition))
        self.run.save_if_due()

    def _after(self, episode_over: bool) -> None:
        """Show, log and publish what a transition brought."""
        self._figures = self.run.figures()
        if not episode_over:
            return
        self.run.log(self._figures)
        learner = self.run.learner
        new = learner.counts.updates > self._published_updates and learner.warmed_up
        if new and self.run.episodes % self.params.publish_every == 0:
            self._published_updates = learner.counts.updates
            self._update = self.run.publish()
            self._heard = False

    def close(self) -> None:
        """End learning with a checkpoint, and leave the folder to another process."""
        self._closing.set()
        self._worker.join(timeout=STOP_S)
        self.run.close()


def _run_settings(params: LearnerParams) -> RunSettings:
    for name in ("contract", "policy", "out"):
        if not getattr(params, name):
            raise LearnError(f"learner: parameter {name} is not set")
    rl = load_settings(Path(params.settings)) if params.settings else preset(params.algorithm)
    shared = {f.name for f in fields(RunSettings)} & {f.name for f in fields(LearnerParams)}
    values = {name: getattr(params, name) for name in shared}
    return RunSettings(**{**values, "rl": rl, "wandb": params.wandb or None})


def _followed(run: LearningRun) -> str:
    """Journal that the run was fed from so far; empty: none.

    Raises:
        LearnError: the run has transitions of its own making.
    """
    file = run.out / _FOLLOWED
    if file.is_file():
        return str(json.loads(file.read_text())["run"])
    if len(run.journal):
        raise LearnError(f"{run.out}: holds a run of the fast path; give another out")
    return ""


def _follow(run: LearningRun, name: str) -> None:
    """Note whose transitions these are, before the first is kept."""
    file = run.out / _FOLLOWED
    if not file.is_file():
        replace_file(file, json.dumps({"run": name}) + "\n")


def main() -> None:
    """Entry point."""
    run_node(LearnerNode, (ValueError, RuntimeError))


if __name__ == "__main__":
    main()
