"""The whole supervisor without ROS: goals, episodes, people's verdicts, memory, one status line."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rewact_ros.policy.task_table import ByTask, UnknownTaskError
from rewact_ros.supervision.batch import Batch, Happening, Plan
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import Control, Episode, EpisodeSettings, Want
from rewact_ros.supervision.memory import EpisodeMemory
from rewact_ros.supervision.promise import Promise
from rewact_ros.supervision.reset import ResetCheck
from rewact_ros.supervision.signals import PolicySample
from rewact_ros.supervision.status import claimed, idle_text, running_text
from rewact_ros.supervision.task_rule import TaskRule
from rewact_ros.supervision.verdict import Change, Outcome, Termination, Verdict
from rewact_ros.supervision.withdrawal import WITHDRAWN

LONGEST_S, MOST_EPISODES = 86_400.0, 100_000
TASK_LIMIT = 1000  # characters: a sentence, which goes into every event, status and label
# hil, which answers within a tick, gets this long to hold the arm before a goal ends without that.
RELEASE_S = 1.0


class RefusedError(ValueError):
    """What was asked for cannot be done now; the message says why."""


@dataclass(frozen=True)
class EpisodeParts:
    """What every episode is made of: time limits, and makers of the parts that it owns."""

    settings: EpisodeSettings
    check: Callable[[], ResetCheck]
    gate: Callable[[], ClassifierGate | None]
    new_id: Callable[[], str]


class Supervisor:
    """Feed it, call `step` at a fixed rate, do what `want` says and tell what has happened.

    Attributes:
        batch: that runs; None while idle.
        promise: what the thresholds promise for what runs; it is told who acts and judges.
        refused: why the last goal was refused, or an empty string.
        happenings: since they were last taken away.

    Args:
        rules: of the episodes of each task.
        parts: of the episodes.
        memory: what is remembered over a restart.
        operator: who judges and lets go on.
    """

    def __init__(
        self,
        rules: ByTask[TaskRule],
        parts: EpisodeParts,
        memory: EpisodeMemory,
        operator: str,
    ) -> None:
        self.memory = memory
        self.batch: Batch | None = None
        self.refused = ""
        self.happenings: list[Happening] = []
        self._parts, self._operator = parts, operator
        self.promise = Promise(rules, memory, parts.settings.timeout_s)
        self._next: Batch | None = None
        self._interrupted = memory.open_episode
        self._asked = Want.HOLD  # in the last tick
        self._over: tuple[float, int] | None = None  # since when, and the statuses heard by then

    @property
    def episode(self) -> Episode | None:
        """The one that runs."""
        return self.batch.episode if self.batch else None

    @property
    def episode_id(self) -> str:
        """Of the newest episode, or an empty string."""
        last = self.memory.now.last
        return last.episode_id if last else ""

    @property
    def want(self) -> Want:
        """Lease to ask for now."""
        return self.batch.want if self.batch else Want.HOLD

    # Inputs -----------------------------------------------------------------------------------

    def add(self, sample: PolicySample) -> None:
        """Take one inference of whoever was heard last."""
        if self.episode is not None and self.promise.counts:
            self.episode.add(sample)

    def add_success(self, probability: float, stamp_s: float) -> None:
        """Take one judgement of the classifier."""
        if self.episode is not None:
            self.episode.add_success(probability, stamp_s)

    # Goals ------------------------------------------------------------------------------------

    def check(self, plan: Plan, preempt: bool, control: Control | None) -> None:
        """Whether a goal may begin.

        Raises:
            RefusedError: it may not.
        """
        self.refused = self._refusal(plan, preempt, control)
        if self.refused:
            raise RefusedError(self.refused)

    def _refusal(self, plan: Plan, preempt: bool, control: Control | None) -> str:
        if len(plan.task) > TASK_LIMIT:
            return f"task: expected at most {TASK_LIMIT} characters, got more"
        if not 0 <= plan.timeout_s < LONGEST_S:
            return f"timeout: expected 0 to {LONGEST_S:g} s, got {plan.timeout_s:g}"
        if not 1 <= plan.episodes <= MOST_EPISODES:
            return f"episodes: expected 1 to {MOST_EPISODES}, got {plan.episodes}"
        try:
            if fault := self.promise.refusal(plan):
                return fault
        except UnknownTaskError as error:
            return str(error)
        if self.batch is not None:
            if not preempt:
                return f"a task is running ({self.episode_id}); cancel it, or preempt it"
            return "another goal waits already" if self._next is not None else ""
        if control is None:
            return "hil is silent"
        if control.mode != Control.HOLD:
            return f"hil is not in HOLD ({control.reason}); arm it first"
        if control.resume_required:
            return f"hil stopped ({control.reason}); resume it first"
        return ""

    def start(self, plan: Plan) -> Batch:
        """Begin a batch that `check` allows; one that runs is preempted."""
        rule = self.promise.rule_of(plan)
        batch = Batch(plan, lambda: self._new_episode(plan, rule), self._parts.new_id)
        if self.batch is not None:
            self.batch.end(Termination.PREEMPTED, f"by the task '{plan.task}'")
            self._next = batch
        else:
            self._begin(batch)
        return batch

    def _new_episode(self, plan: Plan, rule: TaskRule) -> Episode:
        episode = Episode(
            self._parts.settings,
            lambda: self.promise.monitor(plan, rule),
            self._parts.check(),
            self._parts.gate(),
            self.promise.timeout_s(plan, rule),
            self.promise.watch_of(rule),
        )
        episode.unready = rule.unready(self.promise.policy)
        return episode

    def _begin(self, batch: Batch | None) -> None:
        self.close_interrupted()
        self.batch, self.refused = batch, ""
        self.promise.begin(batch.plan if batch is not None else None)

    # People -----------------------------------------------------------------------------------

    def judge(self, outcome: Outcome) -> str:
        """A person's verdict on the running episode, else on the newest one.

        Raises:
            RefusedError: there is none.
        """
        by, last = self._operator, self.memory.now.last
        if self.episode is not None:
            self.episode.judge(outcome, by)
        elif last is None or last.verdict is None:
            raise RefusedError("no episode has run yet")
        else:
            before = last.verdict
            detail = f"judged by {by}, before: {before.outcome.name.lower()}, {before.reason}"
            verdict = Verdict(outcome, Termination.HUMAN, detail, by)
            self.memory.judge(verdict)
            if self.batch is not None and self.batch.last is not None:
                self.batch.relabel(before.outcome, outcome)
            self.happenings.append(
                Happening(last.episode_id, last.task, Change.RELABELLED, detail, verdict)
            )
        return f"{outcome.name} by {by}"

    def go_on(self, stamp_s: float, control: Control | None) -> str:
        """The policy goes on after a call for help, without a takeover.

        Raises:
            RefusedError: nobody asked, or hil has stopped for a reason of its own.
        """
        if control is not None and control.resume_required:
            raise RefusedError(f"hil stopped ({control.reason}); call its ~/resume first")
        if self.episode is None or not self.episode.go_on(stamp_s, self._operator):
            raise RefusedError("no episode asks for help")
        return "the policy goes on"

    def pause(self) -> str:
        """Begin no further episode. Raises RefusedError where no batch runs."""
        self._running().pause(f"by {self._operator}")
        return "no further episode begins before ~/unpause; the one that runs goes on"

    def unpause(self) -> str:
        """Let the next episode begin. Raises RefusedError where no batch runs."""
        self._running().unpause()
        return "the batch goes on"

    def renew_bound(self) -> str:
        """A person has mended why the bound was withdrawn. Raises RefusedError where it was not."""
        reason = self.promise.renew()
        if not reason:
            raise RefusedError("no bound is withdrawn")
        return f"claimed again by {self._operator}, was withdrawn: {reason}"

    def _running(self) -> Batch:
        if self.batch is None:
            raise RefusedError("no batch runs")
        return self.batch

    def continue_batch(self, control: Control | None) -> str:
        """Begin what a restart has left of a batch. Raises RefusedError as `check`."""
        plan = self.memory.now.batch
        if plan is None or plan.left <= 0:
            raise RefusedError("no batch was interrupted")
        self.check(plan, False, control)
        self.close_interrupted()
        plan = self.memory.now.batch or plan  # now with the interrupted episode in its tally
        self.start(plan)
        return f"{plan.left} of {plan.episodes} episodes begin"

    # The tick ---------------------------------------------------------------------------------

    def step(self, now_s: float, stamp_s: float, control: Control | None) -> None:
        """Advance by one tick; arguments as of ``Episode.step``."""
        batch = self.batch
        if batch is None:
            return
        if batch.episode is not None:
            batch.episode.unready = self.promise.unready
        batch.step(now_s, stamp_s, control)
        promise = self.promise
        if promise.withdrawn and not promise.bound.startswith(WITHDRAWN):
            promise.compare()
        if promise.misfit and batch.episode is not None:
            batch.episode.end(Termination.ERROR, promise.misfit)
            batch.collect()
        self._gather(batch)
        if batch.over and self._release(batch, now_s, control):
            self._begin(self._next)
            self._next = None
        self._asked = self.want

    def _release(self, batch: Batch, now_s: float, control: Control | None) -> bool:
        """Whether a batch that is over lets go: not before hil has stopped what it asked for."""
        moved = control is not None and control.driven
        if self._over is None and (moved or self._asked is not Want.HOLD):
            self._over = (now_s, control.heard if control else 0)
        if self._over is not None and control is not None:
            since_s, heard = self._over
            if (moved or control.heard <= heard) and now_s - since_s <= RELEASE_S:
                return False
        doubt = "whether the arm holds is not known: hil is silent" if control is None else ""
        if control is not None and moved:
            doubt = f"hil has not held within {RELEASE_S:g} s: {control.reason}"
        batch.release(doubt)
        self._over = None
        return True

    def _gather(self, batch: Batch) -> None:
        """Remember what happened to a batch, and keep it for the world."""
        happenings, batch.happenings = batch.happenings, []
        for happening in happenings:
            if happening.change is Change.STARTED:
                self.memory.begin(happening.episode_id, happening.task)
            if happening.verdict is not None:
                last = batch.last
                helped, asked = (last.helped, last.asked) if last else (False, False)
                self.memory.judge(happening.verdict, helped, asked, self.promise.pair)
        if happenings or batch.over:
            # A restart leaves the rest of a batch; a client that ends it leaves nothing.
            stopped = batch.ended is None or batch.ended.termination is Termination.INTERRUPTED
            rest = batch.plan.left > 0 and stopped
            self.memory.keep(batch.plan if rest else None)
        self.happenings += happenings

    def close_interrupted(self) -> None:
        """Give the episode in which an earlier supervisor died its verdict: nobody judged it."""
        episode, self._interrupted = self._interrupted, None
        if episode is None:
            return
        detail = "the supervisor was restarted"
        verdict = Verdict(Outcome.UNLABELLED, Termination.INTERRUPTED, detail)
        self.memory.judge(verdict)
        rest = self.memory.now.batch
        if rest is not None:
            self.memory.keep(replace(rest, tally=rest.tally.add(verdict.outcome)))
        self.happenings.append(
            Happening(episode.episode_id, episode.task, Change.VERDICT, detail, verdict)
        )

    def stop(self) -> None:
        """End the running episode, since this process ends; what is left of its batch is kept."""
        for batch in filter(None, (self.batch, self._next)):
            batch.end(Termination.INTERRUPTED, "the supervisor was stopped")
        if self.batch is not None:
            self._gather(self.batch)

    # Status -----------------------------------------------------------------------------------

    @property
    def claim(self) -> str:
        """What the thresholds promise in this episode."""
        return claimed(self.promise.bound, self.episode.helped if self.episode else False)

    @property
    def standing(self) -> str:
        """Which rates the episodes that people judged so far support."""
        calibration = self.promise.rule.judging.calibration
        settings = calibration.settings if calibration is not None else None
        last = self.memory.now.last
        return self.memory.now.judged_of(last.of if last else "").standing(settings)

    def text(self, stamp_s: float, control: Control | None) -> str:
        """State and reason in one line."""
        if self.batch is not None:
            text = running_text(self.batch, control, stamp_s)
        else:
            last = self.memory.now.last
            verdict = last.verdict if last else None
            ended = f"{verdict.outcome.name.lower()}, {verdict.reason}" if verdict else ""
            text = idle_text(ended, self.refused, self.memory.now.batch, self.promise.misfit)
        fault = f"; not remembered: {self.memory.fault}" if self.memory.fault else ""
        return f"{text}; {self.claim}{fault}"
