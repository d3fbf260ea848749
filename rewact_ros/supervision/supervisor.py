"""The whole supervisor without ROS: goals, episodes, people's verdicts, memory, one status line."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from rewact_ros.policy.task_table import ByTask, UnknownTaskError
from rewact_ros.supervision.batch import Batch, Happening, Plan
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import Control, Episode, EpisodeSettings, Want
from rewact_ros.supervision.judging import RewardSource
from rewact_ros.supervision.memory import EpisodeMemory
from rewact_ros.supervision.reset import ResetCheck
from rewact_ros.supervision.signals import PolicySample
from rewact_ros.supervision.status import NEVER_CLAIMED, claimed, idle_text, running_text
from rewact_ros.supervision.task_rule import TaskRule
from rewact_ros.supervision.verdict import Change, Outcome, Termination, Verdict

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
        bound: what the thresholds promise for what runs.
        misfit: why no episode can be judged, or an empty string.
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
        self.bound = self.misfit = self.refused = ""
        self.happenings: list[Happening] = []
        self._rules, self._parts, self._operator = rules, parts, operator
        self._rule = rules.usual  # of the batch that runs, or ran last
        self._policy: str | None = None
        self._next: Batch | None = None
        self._source: RewardSource | None = None
        self._judges: list[str] = []
        self._interrupted = memory.open_episode
        self._asked = Want.HOLD  # in the last tick
        self._over: tuple[float, int] | None = None  # since when, and the statuses heard by then
        self._compare()

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

    def hear(self, source: RewardSource) -> None:
        """Take note of whose rewards these are."""
        if source != self._source:
            self._source = source
            self._compare()

    def hear_judges(self, names: Iterable[str]) -> None:
        """Take note of the nodes that publish rewards: of two, nobody knows whose curve it is."""
        judges = sorted(set(names))
        if judges != self._judges:
            self._judges = judges
            self._compare()

    def hear_policy(self, version: str) -> None:
        """Take note of which policy runs, by its heartbeat."""
        self._policy = version

    def add(self, sample: PolicySample) -> None:
        """Take one inference of whoever was heard last."""
        if self.episode is not None and self._rule.counts(self._source):
            self.episode.add(sample)

    def add_success(self, probability: float, stamp_s: float) -> None:
        """Take one judgement of the classifier."""
        if self.episode is not None:
            self.episode.add_success(probability, stamp_s)

    def _compare(self) -> None:
        """Whether the calibration fits what runs, and what it then promises."""
        plan = self.batch.plan if self.batch else Plan("")
        task = plan.task if self.batch else None
        if len(self._judges) > 1:
            self.bound, self.misfit = NEVER_CLAIMED, self._too_many
            return
        try:
            timeout_s = self._timeout_s(plan, self._rule)
            self.bound, self.misfit = self._bound(self._rule, timeout_s, task), ""
        except CalibrationError as error:
            self.bound, self.misfit = NEVER_CLAIMED, str(error)

    def _bound(self, rule: TaskRule, timeout_s: float, task: str | None) -> str:
        return rule.judging.bound(rule.heard(self._source), timeout_s, task)

    @property
    def _too_many(self) -> str:
        return (
            f"rewact/reward: expected one judge, got {', '.join(self._judges)}; stop all but one, "
            "or start the policy beside a judge with actions_only"
        )

    def _timeout_s(self, plan: Plan, rule: TaskRule) -> float:
        return plan.timeout_s or rule.timeout_s or self._parts.settings.timeout_s

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
        if len(self._judges) > 1:
            return self._too_many
        try:
            rule = self._rules.of(plan.task)
            self._bound(rule, self._timeout_s(plan, rule), plan.task)
        except (UnknownTaskError, CalibrationError) as error:
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
        rule = self._rules.of(plan.task)
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
            lambda: rule.judging.monitor(rule.heard(self._source), plan.task),
            self._parts.check(),
            self._parts.gate(),
            self._timeout_s(plan, rule),
        )
        episode.unready = rule.unready(self._policy)
        return episode

    def _begin(self, batch: Batch | None) -> None:
        self.close_interrupted()
        self.batch, self.refused = batch, ""
        if batch is not None:
            self._rule = self._rules.of(batch.plan.task)
        self._compare()

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
            batch.episode.unready = self._rule.unready(self._policy)
        batch.step(now_s, stamp_s, control)
        if self.misfit and batch.episode is not None:
            batch.episode.end(Termination.ERROR, self.misfit)
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
                last, source = batch.last, self._source
                of = f"{source.reward_hash} {source.policy_version}" if source else ""
                helped, asked = (last.helped, last.asked) if last else (False, False)
                self.memory.judge(happening.verdict, helped, asked, of)
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
    def promise(self) -> str:
        """What the thresholds promise in this episode."""
        return claimed(self.bound, self.episode.helped if self.episode else False)

    @property
    def standing(self) -> str:
        """Which rates the episodes that people judged so far support."""
        calibration = self._rule.judging.calibration
        settings = calibration.settings if calibration is not None else None
        return self.memory.now.judged.standing(settings)

    def text(self, stamp_s: float, control: Control | None) -> str:
        """State and reason in one line."""
        if self.batch is not None:
            text = running_text(self.batch, control, stamp_s)
        else:
            last = self.memory.now.last
            verdict = last.verdict if last else None
            ended = f"{verdict.outcome.name.lower()}, {verdict.reason}" if verdict else ""
            text = idle_text(ended, self.refused, self.memory.now.batch, self.misfit)
        fault = f"; not remembered: {self.memory.fault}" if self.memory.fault else ""
        return f"{text}; {self.promise}{fault}"
