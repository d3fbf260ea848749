"""Where the calibration from ordinary work stands: which rates n judged episodes support."""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

from rewact_ros.supervision.alarms import smallest_rate
from rewact_ros.supervision.calibration import CalibrationSettings
from rewact_ros.supervision.completion import tolerated
from rewact_ros.supervision.evidence import SUCCESSES, Kind, Use, use_of


@dataclass(frozen=True)
class Judged:
    """Episodes that people judged, of one judge beside one policy.

    Attributes:
        of: whose they are; those of another pair begin anew.
        kinds: how many of each kind, by its words.
    """

    of: str = ""
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, kind: Kind, count: int = 1) -> "Judged":
        """One more episode of a kind; -1 takes it back."""
        return replace(self, kinds={**self.kinds, kind: self.kinds.get(kind, 0) + count})

    def standing(self, settings: CalibrationSettings | None = None) -> str:
        """Where they stand; see ``standing``."""
        settings = settings or CalibrationSettings()
        counts = {Kind(name): count for name, count in self.kinds.items()}
        uses = {kind: use_of(kind, settings.attended) for kind in counts}
        return standing(
            sum(count for kind, count in counts.items() if uses[kind] is not Use.LEFT_OUT),
            sum(count for kind, count in counts.items() if kind in SUCCESSES),
            settings,
            sum(count for kind, count in counts.items() if uses[kind] is Use.UNKNOWN),
        )


def standing(
    n: int, successes: int, settings: CalibrationSettings | None = None, unknown: int = 0
) -> str:
    """Say which rates are supported now, and how many episodes more support those asked for.

    Args:
        n: judged episodes.
        successes: among them.
        settings: beta, alpha and what is set aside for the novelty.
        unknown: episodes whose score is not known and counts as above every threshold; each takes
            the place of one that may exceed it.
    """
    settings = settings or CalibrationSettings()
    beta, alpha = tolerated(settings), Fraction(str(settings.alpha))
    wrong, parts = Fraction(str(settings.verdict_error)), alpha / smallest_rate(alpha)
    needed = math.ceil((unknown + 1) / beta) - 1
    completions = _rate("β", settings.beta, Fraction(unknown + 1, n + 1) + wrong, needed - n, "")
    # What an alarm ended might have succeeded; the novelty is fitted on a part of the successes.
    possible = successes + unknown
    judged = possible - math.ceil(settings.fit_fraction * possible)
    needed = math.ceil((unknown + 1) * parts / alpha) - 1
    while needed - math.ceil(settings.fit_fraction * needed) < (unknown + 1) * parts / alpha - 1:
        needed += 1
    now = parts * Fraction(unknown + 1, judged + 1)
    alarms = _rate("α", settings.alpha, now, needed - possible, " successes")
    return f"n = {n}: {completions}; {alarms}"


def _rate(name: str, asked: float, now: Fraction, more: int, what: str) -> str:
    """The rate that holds now, and what the one asked for still takes."""
    if more <= 0:
        return f"{name} ≤ {asked:g} now"
    least = f"no {name} yet" if now >= 1 else f"{name} ≤ {math.ceil(now * 1000) / 1000:g} now"
    return f"{least}, {asked:g} after {more} more{what}"
