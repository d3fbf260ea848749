"""What an episode of ordinary work tells about thresholds, by how it ended and who judged it.

docs/calibration.md derives the table. Where an end looks at the score, what the episode would still
have scored is not known, and it counts as above every threshold: to leave it out would leave out
just the episodes that score high.
"""

from dataclasses import dataclass
from enum import StrEnum

from rewact_ros.supervision.verdict import Outcome, Termination


class Use(StrEnum):
    """How much of an episode's score is known.

    EXACT: all of it. AT_MOST: it is no larger than what is taken for it. UNKNOWN: it may be
    anything, and counts as above every threshold. LEFT_OUT: nothing, for a reason that has nothing
    to do with the score.
    """

    EXACT = "exact"
    AT_MOST = "at most"
    UNKNOWN = "above every threshold"
    LEFT_OUT = "left out"


class Kind(StrEnum):
    """How an episode of ordinary work ended, as the table of `rewact calibrate --bags` says it."""

    NOBODY = "nobody judged it"
    ALARM = "an alarm called a person or ended it"
    TAKEN_OVER = "a person took over"
    SUCCESS = "success, at a known moment"
    CONFIRMED = "success, as a person said afterwards"
    FALSELY = "called complete, failure"
    UNSEEN = "called complete, nobody judged it"
    FAILURE = "failure up to the time-out"
    TIMED_OUT = "time-out, nobody judged it"
    STOPPED = "failure, stopped before the time-out"
    BROKEN_OFF = "broken off"


@dataclass(frozen=True)
class Ended:
    """How an episode ended.

    Attributes:
        termination: of its verdict, in the supervisor's or the recorder's word.
        outcome: as a person says; unlabelled: nobody has.
        pressed: a person's verdict ended it, and stands.
        taken_over: a person led before its end.
        asked: an alarm called for a person.
        whole: the policy led up to the time-out.
        told: a person told when it succeeded, which was before its end.
    """

    termination: str
    outcome: Outcome
    pressed: bool = False
    taken_over: bool = False
    asked: bool = False
    whole: bool = False
    told: bool = False


def kind_of(ended: Ended, leave_unjudged: bool = False) -> Kind:
    """Which row of the table an episode is in.

    Args:
        ended: how it did.
        leave_unjudged: which episodes people judged had nothing to do with how they went.
    """
    judged = ended.outcome is not Outcome.UNLABELLED
    if not judged and leave_unjudged:
        return Kind.NOBODY
    if ended.told:  # whatever came later
        return Kind.SUCCESS
    if ended.asked or ended.termination == Termination.ALARM:
        return Kind.ALARM
    if ended.taken_over:
        return Kind.TAKEN_OVER
    if ended.outcome is Outcome.SUCCESS:
        return Kind.SUCCESS if ended.pressed else Kind.CONFIRMED
    if ended.termination == Termination.PROGRESS:
        return Kind.FALSELY if judged else Kind.UNSEEN
    if ended.whole:
        return Kind.FAILURE if judged else Kind.TIMED_OUT
    return Kind.STOPPED if judged and ended.pressed else Kind.BROKEN_OFF


def use_of(kind: Kind, attended: bool) -> Use:
    """What an episode of a kind tells.

    Args:
        kind: of the episode.
        attended: the bound is for work in which people stop, break off and take over as recorded,
            so that an end by them is an end of the work; else it is for episodes up to the
            time-out, and what they would still have scored is not known.
    """
    if kind in (Kind.STOPPED, Kind.TAKEN_OVER):
        return Use.EXACT if attended else Use.UNKNOWN
    if kind is Kind.BROKEN_OFF:  # it may have succeeded before
        return Use.AT_MOST if attended else Use.UNKNOWN
    return _USES[kind]


_USES = {
    Kind.NOBODY: Use.LEFT_OUT,
    Kind.ALARM: Use.UNKNOWN,
    Kind.SUCCESS: Use.EXACT,
    Kind.CONFIRMED: Use.AT_MOST,
    Kind.FALSELY: Use.UNKNOWN,
    Kind.UNSEEN: Use.UNKNOWN,
    Kind.FAILURE: Use.EXACT,
    Kind.TIMED_OUT: Use.AT_MOST,
}
SUCCESSES = frozenset({Kind.SUCCESS, Kind.CONFIRMED})
