"""Which score completion is judged by: the level that is held, or its rise in the episode.

A reward that is near 1 before the task has begun makes the plain score useless, and costs the
engaged-first one nothing. A reward that starts high in earnest is the other way round. So both are
tried on roll-outs that are set aside for that: on the ones that give the threshold, the better of
two would be better by luck, too, and the bound would hold for neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rewact_ros.supervision.calibration import CalibrationSettings
from rewact_ros.supervision.episode_signals import CalibrationEpisode
from rewact_ros.supervision.signals import COMPLETIONS, PLAIN

AUTO = "auto"


@dataclass(frozen=True)
class Cost:
    """What a score of completion would cost.

    Attributes:
        rule: of ``COMPLETIONS``.
        threshold: at the rate asked for, or at the least one that so few episodes support.
        found, of: successes that it recognises in time, and all.
    """

    rule: str
    threshold: float
    found: int
    of: int


@dataclass(frozen=True)
class Choice:
    """Which score, on how many episodes that was chosen, and which are left for its threshold."""

    rule: str
    aside: int
    rest: list[int]


def tolerated(settings: CalibrationSettings) -> Fraction:
    """Rate at which the recorded scores may exceed a threshold: beta but for wrong verdicts."""
    return Fraction(str(settings.beta)) - Fraction(str(settings.verdict_error))


def choose(
    episodes: Sequence[CalibrationEpisode], settings: CalibrationSettings, limit: int, after: int
) -> Choice:
    """Choose the score on a part of the episodes, drawn by seed, where enough are left.

    Args:
        episodes: all of them.
        settings: a rule asked for is taken, and all episodes give its threshold.
        limit: frames up to the time-out.
        after: frames after the success in which it should have been recognised.
    """
    everything = list(range(len(episodes)))
    if settings.completion != AUTO:
        return Choice(settings.completion, 0, everything)
    aside = math.ceil(settings.fit_fraction * len(episodes))
    if len(episodes) - aside < math.ceil(1 / tolerated(settings)) - 1:
        return Choice(PLAIN, 0, everything)
    order = np.random.default_rng(settings.seed).permutation(len(episodes)).tolist()
    found = costs([episodes[i] for i in order[:aside]], settings, limit, after)
    if len(found) < len(COMPLETIONS):
        return Choice(PLAIN, 0, everything)  # recorded without the other
    # The first of equals is the plain one, which asks less of the reward.
    return Choice(max(found, key=lambda cost: cost.found).rule, aside, sorted(order[aside:]))


def costs(
    episodes: Sequence[CalibrationEpisode], settings: CalibrationSettings, limit: int, after: int
) -> list[Cost]:
    """What each score that is known of all episodes costs at the same rate."""
    n = len(episodes)
    rank = min(math.ceil((n + 1) * (1 - tolerated(settings))), n)
    found = []
    for rule in COMPLETIONS:
        if any(episode.completion(rule) is None for episode in episodes):
            continue
        scores = sorted(completion_score(episode, limit, rule) for episode in episodes)
        threshold = scores[rank - 1]
        hits = [recognises(e, rule, threshold, limit, after) for e in episodes]
        known = [hit for hit in hits if hit is not None]
        found.append(Cost(rule, threshold, sum(known), len(known)))
    return found


def completion_score(episode: CalibrationEpisode, limit: int, rule: str = PLAIN) -> float:
    """Largest score while the episode is incomplete: what a threshold must reach.

    Infinite where it is not known and may have been anything.
    """
    if episode.censored:
        return math.inf
    end = episode.success_before(limit)
    return largest(episode.known(rule)[: limit if end is None else end])


def recognises(
    episode: CalibrationEpisode, rule: str, threshold: float, limit: int, after: int
) -> bool | None:
    """Whether a threshold finds this success in time; None: it is none."""
    success = episode.success_before(limit)
    if success is None or episode.censored:
        return None
    return largest(episode.known(rule)[: success + after + 1]) > threshold


def largest(values: NDArray[np.floating]) -> float:
    """Largest known value; 0, the least of every signal, where none is known."""
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0
