"""By which thresholds episodes are judged, and what these promise for what runs."""

from collections.abc import Iterable

from rewact_ros.policy.task_table import ByTask
from rewact_ros.supervision.batch import Plan
from rewact_ros.supervision.calibration import CalibrationError
from rewact_ros.supervision.camera_check import View
from rewact_ros.supervision.judging import RewardSource
from rewact_ros.supervision.memory import EpisodeMemory
from rewact_ros.supervision.monitor import EpisodeMonitor
from rewact_ros.supervision.status import NEVER_CLAIMED
from rewact_ros.supervision.task_rule import TaskRule
from rewact_ros.supervision.withdrawal import WITHDRAWN, BoundWatch, OnWithdrawal


class Promise:
    """Hears who acts and who judges, and compares them with the calibration of the task's rule.

    Attributes:
        rule: of the batch that runs, or ran last.
        bound: what the thresholds promise for what runs.
        misfit: why no episode can be judged, or an empty string.
        source: whose rewards were heard last; None: nobody's.
        policy: version that runs, by its heartbeat; None: none was heard.

    Args:
        rules: of the episodes of each task.
        memory: keeps what is known of each bound.
        timeout_s: of an episode whose goal and rule give none.
    """

    def __init__(self, rules: ByTask[TaskRule], memory: EpisodeMemory, timeout_s: float) -> None:
        self.rule = rules.usual
        self.bound = self.misfit = ""
        self.source: RewardSource | None = None
        self.policy: str | None = None
        self._rules, self._timeout_s = rules, timeout_s
        self._plan: Plan | None = None
        self._judges: list[str] = []
        # Rows with the same calibration share what is known of its bound.
        self._watches: dict[str, BoundWatch] = {}
        for judging in {rule.judging.key: rule.judging for _, rule in rules.rows}.values():
            if (watch := judging.watch(memory)) is not None:
                self._watches[judging.key] = watch
        self.compare()

    # Inputs -----------------------------------------------------------------------------------

    def begin(self, plan: Plan | None) -> None:
        """A batch begins; None: none runs. Raises UnknownTaskError."""
        self._plan = plan
        if plan is not None:
            self.rule = self._rules.of(plan.task)
        self.compare()

    def hear(self, source: RewardSource) -> None:
        """Take note of whose rewards these are."""
        if source != self.source:
            self.source = source
            self.compare()

    def hear_judges(self, names: Iterable[str]) -> None:
        """Take note of the nodes that publish rewards: of two, nobody knows whose curve it is."""
        judges = sorted(set(names))
        if judges != self._judges:
            self._judges = judges
            self.compare()

    def look(self, camera: str, view: View) -> None:
        """Take the small picture (h, w) of what a camera shows."""
        for watch in self._watches.values():
            watch.look(camera, view)

    # What it comes to -------------------------------------------------------------------------

    def compare(self) -> None:
        """Whether the calibration fits what runs, and what it then promises."""
        self.bound, self.misfit = self._claim()
        watch = self.watch
        if watch is None:
            return
        # What something else than the calibrated policy does says nothing of the calibration.
        watch.claimed = not self.bound.startswith(NEVER_CLAIMED)
        if watch.reason and not self.misfit:
            self.bound = f"{WITHDRAWN}: {watch.reason}"
            self.misfit = self._refusing(self.rule)

    def _claim(self) -> tuple[str, str]:
        if len(self._judges) > 1:
            return NEVER_CLAIMED, self._too_many
        plan = self._plan or Plan("")
        task = plan.task if self._plan is not None else None
        try:
            return self._of_rule(self.rule, self.timeout_s(plan, self.rule), task), ""
        except CalibrationError as error:
            return NEVER_CLAIMED, str(error)

    def _of_rule(self, rule: TaskRule, timeout_s: float, task: str | None) -> str:
        return rule.judging.bound(rule.heard(self.source), timeout_s, task)

    def refusal(self, plan: Plan) -> str:
        """Why a goal cannot be judged, or an empty string. Raises UnknownTaskError."""
        if len(self._judges) > 1:
            return self._too_many
        rule = self._rules.of(plan.task)
        try:
            self._of_rule(rule, self.timeout_s(plan, rule), plan.task)
        except CalibrationError as error:
            return str(error)
        return self._refusing(rule)

    @property
    def _too_many(self) -> str:
        return (
            f"rewact/reward: expected one judge, got {', '.join(self._judges)}; stop all but one, "
            "or start the policy beside a judge with actions_only"
        )

    def _refusing(self, rule: TaskRule) -> str:
        """Why no episode of a rule may begin after a withdrawal, or an empty string."""
        watch = self.watch_of(rule)
        if watch is None or not watch.reason:
            return ""
        if rule.judging.on_withdrawal is not OnWithdrawal.REFUSE:
            return ""
        return (
            f"{WITHDRAWN}: {watch.reason}; calibrate anew (rewact calibrate), or mend the cause "
            "and call ~/renew_bound"
        )

    def timeout_s(self, plan: Plan, rule: TaskRule) -> float:
        """Of a goal's episodes."""
        return plan.timeout_s or rule.timeout_s or self._timeout_s

    def rule_of(self, plan: Plan) -> TaskRule:
        """Of a goal's episodes. Raises UnknownTaskError."""
        return self._rules.of(plan.task)

    def monitor(self, plan: Plan, rule: TaskRule) -> EpisodeMonitor:
        """Of an episode that begins."""
        watch = self.watch_of(rule)
        withdrawn = watch is not None and bool(watch.reason)
        return rule.judging.monitor(rule.heard(self.source), plan.task, withdrawn)

    @property
    def counts(self) -> bool:
        """Whether what is heard is to be judged."""
        return self.rule.counts(self.source)

    @property
    def unready(self) -> str:
        """Why the policy must not lead yet, or an empty string."""
        return self.rule.unready(self.policy)

    @property
    def pair(self) -> str:
        """Judge and policy that run, in one word for each; "": not known."""
        source = self.source
        return f"{source.reward_hash} {source.policy_version}" if source else ""

    # Withdrawal -------------------------------------------------------------------------------

    @property
    def watch(self) -> BoundWatch | None:
        """Who watches the bound in force; None: nobody."""
        return self.watch_of(self.rule)

    def watch_of(self, rule: TaskRule) -> BoundWatch | None:
        """Who watches the bound of a rule; None: nobody."""
        return self._watches.get(rule.judging.key)

    @property
    def withdrawn(self) -> str:
        """Why the bound in force is withdrawn, or an empty string."""
        return self.watch.reason if self.watch is not None else ""

    def renew(self) -> str:
        """A person has mended the cause: claim the bound again; returns why it was withdrawn."""
        reason = self.withdrawn
        if self.watch is not None and reason:
            self.watch.renew()
            self.compare()
        return reason
