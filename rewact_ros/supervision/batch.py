"""Episodes in a row: when the next one may begin, what came of them, when it is over."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from rewact_ros.supervision.episodes import Control, Episode, Want
from rewact_ros.supervision.verdict import (
    GOES_ON,
    Change,
    GoalState,
    Outcome,
    Termination,
    Verdict,
)


@dataclass(frozen=True)
class Tally:
    """How many episodes ended how."""

    successes: int = 0
    failures: int = 0
    unlabelled: int = 0

    def add(self, outcome: Outcome, count: int = 1) -> "Tally":
        """One more of an outcome; -1 takes it back."""
        key = {Outcome.SUCCESS: "successes", Outcome.FAILURE: "failures"}.get(outcome, "unlabelled")
        return replace(self, **{key: getattr(self, key) + count})

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in asdict(self).items() if count)


@dataclass(frozen=True)
class Plan:
    """What a batch is to do, and how far it has come.

    Attributes:
        task: text of the task.
        timeout_s: of each episode; 0: the supervisor's default.
        episodes: how many.
        begun: how many of them have begun.
        tally: of those that are over.
    """

    task: str
    timeout_s: float = 0.0
    episodes: int = 1
    begun: int = 0
    tally: Tally = Tally()

    @property
    def left(self) -> int:
        """Episodes that have not begun."""
        return self.episodes - self.begun


@dataclass(frozen=True)
class Happening:
    """One change in the life of an episode, as the world should hear of it."""

    episode_id: str
    task: str
    change: Change
    detail: str
    verdict: Verdict | None = None


class Batch:
    """Pure state machine over episodes; `step` it at a fixed rate.

    Between two episodes it waits for a robot that holds and may be moved. A robot that was
    disarmed, and an episode that ended for no reason of the task, pause it: a person must look.

    Attributes:
        plan: with what has been done of it.
        episode: the one that runs; None between two.
        episode_id, last: of the newest one, and that one itself.
        paused: why the next one does not begin; "" while it may.
        ended: why the batch is over before its last episode.
        released: its goal may end: hil holds the arm again, or `doubt` says why that is not known.
        happenings: since they were last taken away.

    Args:
        plan: what to do.
        make_episode: a new episode, whenever one begins.
        new_id: its name.
    """

    def __init__(
        self, plan: Plan, make_episode: Callable[[], Episode], new_id: Callable[[], str]
    ) -> None:
        self.plan = plan
        self.episode: Episode | None = None
        self.last: Episode | None = None
        self.episode_id = ""
        self.paused = ""
        self.ended: Verdict | None = None
        self.released, self.doubt = False, ""
        self.happenings: list[Happening] = []
        self._make_episode, self._new_id = make_episode, new_id
        self._waiting = ""

    @property
    def want(self) -> Want:
        """Lease to ask for now."""
        return self.episode.want if self.episode else Want.HOLD

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.episode is None and (self.ended is not None or self.plan.left <= 0)

    @property
    def verdict(self) -> Verdict | None:
        """Of the last episode; what ended the batch where none has run."""
        return self.last.verdict if self.last else self.ended

    @property
    def state(self) -> GoalState:
        """How its goal ends: what nobody judged, or what was broken off, has not succeeded."""
        if self.ended is not None:
            cancelled = self.ended.termination is Termination.CANCELLED
            return GoalState.CANCELED if cancelled else GoalState.ABORTED
        verdict = self.verdict
        judged = verdict is not None and verdict.outcome is not Outcome.UNLABELLED
        return GoalState.SUCCEEDED if judged else GoalState.ABORTED

    @property
    def reason(self) -> str:
        """Why it is over, in one line."""
        verdict = self.ended or self.verdict
        text = verdict.reason if verdict else ""
        return f"{text}; {self.doubt}" if self.doubt else text

    @property
    def waiting(self) -> str:
        """Why no episode runs just now, or an empty string."""
        if self.episode is not None or self.over:
            return ""
        return f"paused: {self.paused}" if self.paused else self._waiting

    def step(self, now_s: float, stamp_s: float, control: Control | None) -> None:
        """Advance by one tick; arguments as of ``Episode.step``."""
        if self.over:
            return
        if self.episode is None:
            self._begin_if_ready(control)
        if self.episode is not None:
            self.episode.step(now_s, stamp_s, control)
            self.collect()

    def collect(self) -> None:
        """Take what the episode says, and its verdict if it has one."""
        episode = self.episode
        if episode is None:
            return
        changes, episode.changes = episode.changes, []
        for change, detail in changes:
            verdict = episode.verdict if change is Change.VERDICT else None
            self.happenings.append(
                Happening(self.episode_id, self.plan.task, change, detail, verdict)
            )
        if episode.verdict is not None:
            self._take(episode.verdict)
            self.episode = None

    def end(self, termination: Termination, detail: str) -> None:
        """End the episode that runs, if any, and begin no other."""
        if not self.over:
            self.ended = Verdict(Outcome.UNLABELLED, termination, detail)
            if self.episode is not None:
                self.episode.end(termination, detail)
                self.collect()

    def release(self, doubt: str = "") -> None:
        """Let its goal end. `doubt`: why nobody knows whether the arm holds."""
        self.released, self.doubt = True, doubt

    def pause(self, why: str) -> None:
        """Begin no further episode until `unpause`; the one that runs goes on."""
        self.paused = why

    def unpause(self) -> None:
        """Let the next episode begin."""
        self.paused = ""

    def relabel(self, before: Outcome, after: Outcome) -> None:
        """Count an episode otherwise, after a person has judged it."""
        tally = self.plan.tally.add(before, -1).add(after)
        self.plan = replace(self.plan, tally=tally)

    def _begin_if_ready(self, control: Control | None) -> None:
        self._waiting = ""
        if self.paused:
            return
        if control is None:
            self._waiting = "waiting for hil, which is silent"  # started again it is disarmed
            return
        if not control.in_control:
            self._lose(control)
            return
        if control.mode != Control.HOLD or control.resume_required:
            self._waiting = f"waiting for hil: {control.reason}"
            return
        self.plan = replace(self.plan, begun=self.plan.begun + 1)
        self.episode_id, self.episode = self._new_id(), self._make_episode()
        self.last = self.episode

    def _lose(self, control: Control) -> None:
        """The robot was disarmed: a person must look, unless nothing has begun yet."""
        if self.plan.begun == 0:
            self.end(Termination.HOLD, f"robot is not under control: {control.reason}")
        else:
            self.pause(f"hil: {control.reason}")

    def _take(self, verdict: Verdict) -> None:
        self.plan = replace(self.plan, tally=self.plan.tally.add(verdict.outcome))
        if self.plan.left > 0 and self.ended is None and verdict.termination not in GOES_ON:
            self.pause(f"after {verdict.reason}")
