"""Thresholds from recorded roll-outs, with error rates that hold for new episodes.

Split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates, arXiv:2107.07511): of n + 1
exchangeable episodes the last one's score exceeds the k-th smallest of the others with a
probability of at most 1 - k / (n + 1), whatever the scores' distribution.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from rewact_ros.supervision.alarms import calibrated, rate, smallest_rate
from rewact_ros.supervision.calibration import (
    Basis,
    Bound,
    Calibration,
    CalibrationError,
    CalibrationSettings,
    Groups,
)
from rewact_ros.supervision.completion import (
    Cost,
    choose,
    completion_score,
    costs,
    largest,
    recognises,
    tolerated,
)
from rewact_ros.supervision.episode_signals import CalibrationEpisode, Cut
from rewact_ros.supervision.signals import FeatureDistance, SignalSettings

__all__ = ["CalibrationEpisode", "calibrate", "completion_score", "conformal_bound"]


def conformal_bound(scores: Sequence[float], rate: Fraction) -> Bound:
    """Return the smallest threshold that a new episode's score exceeds no more often than ``rate``.

    The rank is ceil((n + 1)(1 - rate)), in exact arithmetic: 59 scores support 1/60, and a float's
    rounding of it may be a different question. Infinite scores are those that are not known.

    Raises:
        CalibrationError: n scores do not support this rate.
    """
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - rate))
    if rank > n:
        raise CalibrationError(
            f"rate {float(rate):g}: expected at least {math.ceil(1 / rate) - 1} scores, got {n}, "
            f"which support {supported(1, n)}"
        )
    threshold = float(np.sort(scores)[rank - 1])
    if math.isinf(threshold):
        unknown = int(np.isinf(scores).sum())
        raise CalibrationError(
            f"rate {float(rate):g}: {unknown} of {n} scores are not known and count as above every "
            f"threshold, so that these episodes support {supported(unknown + 1, n)}"
        )
    return Bound(float(rate), n, rank, threshold)


def calibrate(
    episodes: Sequence[CalibrationEpisode],
    signals: SignalSettings,
    basis: Basis,
    settings: CalibrationSettings,
) -> Calibration:
    """Choose thresholds that keep beta and alpha in episodes of up to ``basis.timeout_s``.

    Raises:
        CalibrationError: too few episodes for the rates (says which they support), or an episode
            that ended before the time-out without success, or too soon after it.
    """
    limit, after = _frames(basis, settings)
    _check_lengths(episodes, limit, after, basis.rate_hz)
    # What an alarm ended might have succeeded, and with any score.
    successful = [e for e in episodes if e.censored or e.success_before(limit) is not None]
    features = all(e.features is not None for e in successful)
    check_counts(len(episodes), len(successful), settings, features)
    choice = choose(episodes, settings, limit, after)
    signals = replace(signals, completion=choice.rule)
    rest = [episodes[i] for i in choice.rest]
    found = [completion_score(e, limit, choice.rule) for e in rest]
    completion = conformal_bound(found, tolerated(settings))
    distance, scores = _alarm_scores(successful, settings, limit, after, features)
    alpha = Fraction(str(settings.alpha))
    alarms = {a.name: conformal_bound(scores[a.name], rate(a, alpha)) for a in calibrated(features)}
    return Calibration(
        completion,
        alarms,
        distance,
        signals,
        basis,
        settings,
        len(episodes),
        sum(not e.censored for e in successful),
        groups=_groups(rest, found, settings),
    )


def _alarm_scores(
    successful: Sequence[CalibrationEpisode],
    settings: CalibrationSettings,
    limit: int,
    after: int,
    features: bool,
) -> tuple[FeatureDistance | None, dict[str, list[float]]]:
    """Each alarm's largest scores of the successes, and the distance of the novelty."""
    order = np.random.default_rng(settings.seed).permutation(len(successful))
    fitted = _fitted(len(successful), settings)
    fit, rest = order[:fitted], order[fitted:]
    ends = [min((e.success_before(limit) or 0) + after + 1, limit) for e in successful]
    scores = {
        a.name: [
            math.inf if e.censored else largest(e.scores[a.name][:n])
            for e, n in zip(successful, ends, strict=True)
        ]
        for a in calibrated(features=False)
    }
    if not features:
        return None, scores
    seen = [
        None if e.censored or e.features is None else e.features[:n]
        for e, n in zip(successful, ends, strict=True)
    ]
    known = [part for i in fit if (part := seen[i]) is not None]
    distance = FeatureDistance.fit(np.concatenate(known) if known else np.zeros((0, 1), np.float32))
    far = [math.inf if (part := seen[i]) is None else largest(distance(part)) for i in rest]
    return distance, scores | {a.name: far for a in calibrated() if a.features}


def _groups(
    episodes: Sequence[CalibrationEpisode], scores: Sequence[float], settings: CalibrationSettings
) -> Groups | None:
    """A bound for each group that has enough episodes of its own (Mondrian conformal)."""
    if not settings.groups:
        return None
    bounds: dict[str, Bound] = {}
    counts = Counter(episode.group for episode in episodes)
    for group in sorted(counts):
        own = [s for e, s in zip(episodes, scores, strict=True) if e.group == group]
        try:
            bounds[group] = conformal_bound(own, tolerated(settings))
        except CalibrationError:
            continue  # the pooled threshold serves it, and is not claimed for it
    return Groups(settings.groups, dict(sorted(counts.items())), bounds)


def compare(
    episodes: Sequence[CalibrationEpisode], calibration: Calibration
) -> tuple[int, list[Cost]]:
    """How many episodes chose the score, and what each score costs on those that did not."""
    limit, after = _frames(calibration.basis, calibration.settings)
    choice = choose(episodes, calibration.settings, limit, after)
    rest = [episodes[i] for i in choice.rest]
    return choice.aside, costs(rest, calibration.settings, limit, after)


def suspects(episodes: Sequence[CalibrationEpisode], calibration: Calibration) -> list[str]:
    """Names of episodes without a success that reach the threshold: people may have erred there."""
    limit, _ = _frames(calibration.basis, calibration.settings)
    rule = calibration.signals.completion
    return [
        e.name
        for e in episodes
        if not e.censored
        and e.success_before(limit) is None
        and completion_score(e, limit, rule) >= calibration.bound_of(e.group).threshold
    ]


def recognised(episodes: Sequence[CalibrationEpisode], calibration: Calibration) -> tuple[int, int]:
    """How many of how many successes the completion threshold finds within ``verdict_s``.

    Counted on the episodes that it was chosen on, so it describes them and promises nothing.
    """
    limit, after = _frames(calibration.basis, calibration.settings)
    rule = calibration.signals.completion
    found = [
        recognises(e, rule, calibration.bound_of(e.group).threshold, limit, after) for e in episodes
    ]
    known = [hit for hit in found if hit is not None]
    return sum(known), len(known)


def _frames(basis: Basis, settings: CalibrationSettings) -> tuple[int, int]:
    """Frames up to the time-out, and after the success in which it should be recognised."""
    return round(basis.timeout_s * basis.rate_hz), round(settings.verdict_s * basis.rate_hz)


def check_counts(
    episodes: int, successes: int, settings: CalibrationSettings, features: bool = True
) -> None:
    """Refuse too few roll-outs for the rates asked for, and say which rates they support.

    Args:
        episodes: of all.
        successes: among them, before the time-out.
        settings: beta, alpha and what the novelty takes for fitting.
        features: whether there is a novelty to calibrate.

    Raises:
        CalibrationError: there are too few.
    """
    beta, alpha = tolerated(settings), Fraction(str(settings.alpha))
    faults = []
    needed = math.ceil(1 / beta) - 1
    less = f" less {settings.verdict_error:g} for wrong verdicts" if settings.verdict_error else ""
    if episodes < needed:
        faults.append(
            f"beta {settings.beta:g}{less}: expected {needed} roll-outs, got {episodes}, which "
            f"support {supported(1, episodes)}"
        )
    needed = math.ceil(1 / smallest_rate(alpha)) - 1
    judged = successes - (_fitted(successes, settings) if features else 0)
    if judged < needed:
        faults.append(
            f"alpha {settings.alpha:g}: expected {needed} successful ones"
            + (" besides those that fit the novelty" if features else "")
            + f", got {judged} (of {successes}), which support "
            f"{supported(alpha / smallest_rate(alpha), judged)}"
        )
    if faults:
        raise CalibrationError(
            f"too few roll-outs: {'; '.join(faults)}; record more, or ask for these rates"
        )


def _check_lengths(
    episodes: Sequence[CalibrationEpisode], limit: int, after: int, rate_hz: float
) -> None:
    """Refuse episodes that were cut short: what they would still have shown is not known."""
    for episode in episodes:
        if episode.cut is not Cut.NOT:
            continue
        success, frames = episode.success_before(limit), len(episode.held)
        if success is None and frames < limit:
            raise CalibrationError(
                f"{episode.name}: expected a roll-out without success to run to the time-out, "
                f"{limit / rate_hz:g} s, got {frames / rate_hz:g} s; record with judging off, or "
                "calibrate for a shorter time-out"
            )
        if success is not None and frames < min(success + after + 1, limit):
            raise CalibrationError(
                f"{episode.name}: expected {after / rate_hz:g} s after the true success "
                f"(verdict_s), got {(frames - 1 - success) / rate_hz:g} s; record on past the "
                "success, or set a shorter verdict_s"
            )


def _fitted(successes: int, settings: CalibrationSettings) -> int:
    """How many successes the novelty is fitted on."""
    return math.ceil(settings.fit_fraction * successes)


def supported(parts: Fraction | int, n: int) -> str:
    """The smallest rate of which n episodes support 1/parts, rounded up to three decimals."""
    smallest = Fraction(parts, n + 1)
    return "none" if smallest >= 1 else f"{math.ceil(smallest * 1000) / 1000:g}"
