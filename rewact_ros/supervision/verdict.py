"""How episodes end: the outcome, and why they ended, which are two different things."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

SUPERVISOR = "supervisor"  # who judged, where no person did


class Outcome(IntEnum):
    """Same numbers as `rewact_ros/msg/EpisodeEvent`; nobody's verdict is not a failure."""

    UNLABELLED = 0
    SUCCESS = 1
    FAILURE = 2


class Change(IntEnum):
    """One change in the life of an episode; same numbers as `rewact_ros/msg/EpisodeEvent`."""

    STARTED = 0
    RESETTING = 1
    RUNNING = 2
    HELP = 3
    VERDICT = 4
    WARNING = 5
    RESUMED = 6
    RELABELLED = 7


class Termination(StrEnum):
    """Why an episode ended; `ENDINGS` says when, and with which outcome."""

    PROGRESS = "progress"
    TIMEOUT = "timeout"
    ALARM = "alarm"
    HOLD = "hold"
    HUMAN = "human"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    ERROR = "error"
    INTERRUPTED = "interrupted"


# Outcome and cause per reason; docs/supervisor.md carries this table.
ENDINGS: dict[Termination, tuple[str, str]] = {
    Termination.PROGRESS: (
        "success",
        "the reward stayed above the completion threshold, no alarm stands, and the classifier "
        "agrees if required",
    ),
    Termination.TIMEOUT: (
        "failure; unlabelled without a fresh reward",
        "the policy's running time is over",
    ),
    Termination.ALARM: (
        "failure; unlabelled for staleness",
        "an alarm stood too long, nobody answered a call for help, or no call was left",
    ),
    Termination.HOLD: ("unlabelled", "hil stopped, was disarmed or is silent"),
    Termination.HUMAN: ("success or failure", "a person said so"),
    Termination.CANCELLED: ("unlabelled", "the client cancelled the goal"),
    Termination.PREEMPTED: ("unlabelled", "another goal took the robot"),
    Termination.ERROR: (
        "unlabelled",
        "the reset failed or its check did, or the calibration does not fit what runs",
    ),
    Termination.INTERRUPTED: ("unlabelled", "the supervisor died and came back"),
}

# After these a batch goes on by itself; after others a person must look first.
GOES_ON = frozenset(
    {Termination.PROGRESS, Termination.TIMEOUT, Termination.ALARM, Termination.HUMAN}
)


class GoalState(StrEnum):
    """How an action's goal ends, in the words of `action_msgs/GoalStatus`."""

    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    ABORTED = "aborted"


@dataclass(frozen=True)
class Verdict:
    """How an episode ended, with one line of detail and who said so."""

    outcome: Outcome
    termination: Termination
    detail: str
    by: str = SUPERVISOR

    @property
    def reason(self) -> str:
        """Termination and detail in one line."""
        return f"{self.termination}: {self.detail}"
