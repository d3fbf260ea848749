"""Thresholds from recorded roll-outs, with error rates that hold for new episodes.

Split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates, arXiv:2107.07511): of n + 1
exchangeable episodes the last one's score exceeds the k-th smallest of the others with a
probability of at most 1 - k / (n + 1), whatever the scores' distribution.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rewact_ros.supervision.alarms import Moment, calibrated, rate, smallest_rate
from rewact_ros.supervision.calibration import (
    Basis,
    Bound,
    Calibration,
    CalibrationError,
    CalibrationSettings,
)
from rewact_ros.supervision.signals import FeatureDistance, FloatArray, Signals, SignalSettings


@dataclass(frozen=True)
class CalibrationEpisode:
    """Signals of one roll-out of N frames that ran on to the time-out, or past its success.

    Attributes:
        name: for messages.
        held: (N,) as in ``Signals``, NaN where unknown.
        scores: (N,) by alarm, of those with a part of alpha that need no features; likewise.
        features: (N, D) float32 pooled policy features; None: not known.
        success: first frame of true success; None: there was none.
    """

    name: str
    held: FloatArray
    scores: Mapping[str, FloatArray]
    features: NDArray[np.float32] | None
    success: int | None

    @classmethod
    def of(
        cls,
        name: str,
        signals: Sequence[Signals],
        features: NDArray[np.float32] | None,
        success: int | None,
    ) -> "CalibrationEpisode":
        """From the signals after each sample (N)."""
        scores = {
            alarm.name: np.array([alarm.score(Moment(s, s.stamp_s)) for s in signals])
            for alarm in calibrated(features=False)
        }
        return cls(name, np.array([s.held for s in signals]), scores, features, success)


def conformal_bound(scores: Sequence[float], rate: Fraction) -> Bound:
    """Return the smallest threshold that a new episode's score exceeds no more often than ``rate``.

    The rank is ceil((n + 1)(1 - rate)), in exact arithmetic: 59 scores support 1/60, and a float's
    rounding of it may be a different question.

    Raises:
        CalibrationError: n scores do not support this rate.
    """
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - rate))
    if rank > n:
        raise CalibrationError(
            f"rate {float(rate):g}: expected at least {math.ceil(1 / rate) - 1} scores, got {n}, "
            f"which support {_supported(1, n)}"
        )
    return Bound(float(rate), n, rank, float(np.sort(scores)[rank - 1]))


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
    limit = round(basis.timeout_s * basis.rate_hz)
    after = round(settings.verdict_s * basis.rate_hz)
    _check_lengths(episodes, limit, after, basis.rate_hz)
    successful = [e for e in episodes if _success(e, limit) is not None]
    features = all(e.features is not None for e in successful)
    check_counts(len(episodes), len(successful), settings, features)
    beta, alpha = Fraction(str(settings.beta)), Fraction(str(settings.alpha))
    completion = conformal_bound([completion_score(e, limit) for e in episodes], beta)
    fit, rest = _split(len(successful), settings)
    ends = [min((_success(e, limit) or 0) + after + 1, limit) for e in successful]
    scores = {
        a.name: [_maximum(e.scores[a.name][:n]) for e, n in zip(successful, ends, strict=True)]
        for a in calibrated(features=False)
    }
    distance = None
    if features:
        known = np.concatenate([successful[i].features[: ends[i]] for i in fit])
        distance = FeatureDistance.fit(known)
        far = [_maximum(distance(successful[i].features[: ends[i]])) for i in rest]
        scores |= {a.name: far for a in calibrated() if a.features}
    alarms = {a.name: conformal_bound(scores[a.name], rate(a, alpha)) for a in calibrated(features)}
    return Calibration(
        completion, alarms, distance, signals, basis, settings, len(episodes), len(successful)
    )


def completion_score(episode: CalibrationEpisode, limit: int) -> float:
    """Largest ``held`` while the episode is incomplete: what a threshold must reach."""
    end = _success(episode, limit)
    return _maximum(episode.held[: limit if end is None else end])


def recognised(episodes: Sequence[CalibrationEpisode], calibration: Calibration) -> tuple[int, int]:
    """How many of how many successes the completion threshold finds within ``verdict_s``.

    Counted on the episodes that it was chosen on, so it describes them and promises nothing.
    """
    limit = round(calibration.basis.timeout_s * calibration.basis.rate_hz)
    after = round(calibration.settings.verdict_s * calibration.basis.rate_hz)
    found = [
        _maximum(e.held[: success + after + 1]) > calibration.completion.threshold
        for e in episodes
        if (success := _success(e, limit)) is not None
    ]
    return sum(found), len(found)


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
    beta, alpha = Fraction(str(settings.beta)), Fraction(str(settings.alpha))
    faults = []
    needed = math.ceil(1 / beta) - 1
    if episodes < needed:
        faults.append(
            f"beta {settings.beta:g}: expected {needed} roll-outs, got {episodes}, which support "
            f"{_supported(1, episodes)}"
        )
    needed = math.ceil(1 / smallest_rate(alpha)) - 1
    judged = successes - (_fitted(successes, settings) if features else 0)
    if judged < needed:
        faults.append(
            f"alpha {settings.alpha:g}: expected {needed} successful ones"
            + (" besides those that fit the novelty" if features else "")
            + f", got {judged} (of {successes}), which support "
            f"{_supported(alpha / smallest_rate(alpha), judged)}"
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
        success, frames = _success(episode, limit), len(episode.held)
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


def _split(
    successes: int, settings: CalibrationSettings
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Which successes fit the novelty, and the others."""
    order = np.random.default_rng(settings.seed).permutation(successes)
    fitted = _fitted(successes, settings)
    return order[:fitted], order[fitted:]


def fits_novelty(
    episodes: Sequence[CalibrationEpisode], calibration: Calibration
) -> NDArray[np.bool_]:
    """Which episodes (N,) the novelty was fitted on: their own distances are too small."""
    found = np.zeros(len(episodes), bool)
    if calibration.distance is not None:
        limit = round(calibration.basis.timeout_s * calibration.basis.rate_hz)
        successes = [i for i, e in enumerate(episodes) if _success(e, limit) is not None]
        fit, _ = _split(len(successes), calibration.settings)
        found[np.array(successes)[fit]] = True
    return found


def _supported(parts: Fraction | int, n: int) -> str:
    """The smallest rate of which n episodes support 1/parts, rounded up to three decimals."""
    smallest = Fraction(parts, n + 1)
    return "none" if smallest >= 1 else f"{math.ceil(smallest * 1000) / 1000:g}"


def _success(episode: CalibrationEpisode, limit: int) -> int | None:
    """Frame of the true success, if it came before the time-out."""
    return episode.success if episode.success is not None and episode.success < limit else None


def _maximum(values: NDArray[np.floating]) -> float:
    """Largest known value; 0, the least of every signal, where none is known."""
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0
