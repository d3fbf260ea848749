"""What a task brings along: by which thresholds, for how long, and whose weights act and judge."""

from dataclasses import dataclass

from rewact_ros.supervision.judging import Judging, RewardSource


@dataclass(frozen=True)
class TaskRule:
    """Rules of the episodes of a task.

    Attributes:
        judging: makes their monitors.
        timeout_s: where a goal gives none; 0: as of every task.
        policy_version: of the only weights that may lead; "": whichever run.
        policy: whose weights these are, for messages.
        judge_version: of the only weights whose rewards count; "": any.
    """

    judging: Judging
    timeout_s: float = 0.0
    policy_version: str = ""
    policy: str = ""
    judge_version: str = ""

    def heard(self, source: RewardSource | None) -> RewardSource | None:
        """Who speaks on `rewact/reward`, if these rewards count: another task's judge is nobody."""
        if self.judge_version and source is not None and source.version != self.judge_version:
            return None
        return source

    def counts(self, source: RewardSource | None) -> bool:
        """Whether a sample of this source is to be judged."""
        return not self.judge_version or self.heard(source) is not None

    def unready(self, running: str | None) -> str:
        """Why the policy must not lead yet, or an empty string.

        Args:
            running: version of the policy that runs, by its heartbeat; None: none was heard.
        """
        if not self.policy_version or running == self.policy_version:
            return ""
        got = "no heartbeat" if running is None else running or "none"
        return f"policy: expected {self.policy_version} of {self.policy}, got {got}"
