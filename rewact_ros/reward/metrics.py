"""Figures with their uncertainty. NumPy only."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), 95 % by default.

    Raises:
        ValueError: no trials, or successes outside 0 to trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials: expected 0 <= s <= n, n >= 1")
    rate, square = successes / trials, z * z / trials
    centre = (rate + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.intp]], float], n: int, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval (Efron 1979) of a statistic over n independent units.

    Args:
        statistic: maps (n,) indices, drawn with replacement, to the figure; a NaN (a draw without
            failures, say) is left out.
        n: units, which are whole episodes here: frames of one episode are not independent.
        draws, seed: of the resampling.

    Returns:
        low and high; NaN where every draw was NaN.
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(draws)])
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two (N,) series; ties share a mean rank; NaN if constant."""
    ranks_a, ranks_b = _ranks(np.asarray(a, dtype=float)), _ranks(np.asarray(b, dtype=float))
    if ranks_a.std() == 0 or ranks_b.std() == 0:
        return math.nan
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: how often a positive outscores a negative, ties counting half.

    Args:
        scores: (N,) higher means more positive.
        positive: (N,) bool.

    Returns:
        0 to 1; NaN where one of the classes is absent.
    """
    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return math.nan
    rank_sum = _ranks(np.asarray(scores, dtype=float))[positive].sum()
    return float((rank_sum - n_positive * (n_positive - 1) / 2) / (n_positive * n_negative))


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates, (M,) each, from the strictest threshold to the laxest."""
    hits, misses = _counts(scores, positive)
    return (
        np.append(0.0, misses / max(misses[-1], 1)),
        np.append(0.0, hits / max(hits[-1], 1)),
    )


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the precision-recall curve as sum of precision times gain in recall.

    Equal scores are one threshold. NaN where one of the classes is absent.
    """
    hits, misses = _counts(scores, positive)
    if not hits[-1] or not misses[-1]:
        return math.nan
    gain = np.diff(np.append(0, hits)) / hits[-1]
    return float((gain * hits / (hits + misses)).sum())


def brier_score(predicted: ArrayLike, outcome: ArrayLike) -> float:
    """Mean squared difference of predicted probabilities and outcomes, (N,) each (Brier 1950)."""
    difference = np.asarray(predicted, dtype=float) - np.asarray(outcome, dtype=float)
    return float(np.square(difference).mean())


def reliability(
    predicted: ArrayLike, outcome: ArrayLike, bins: int = 10
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Mean prediction, mean outcome and count of each of the equal bins of [0, 1] in use.

    Args:
        predicted: (N,) in [0, 1].
        outcome: (N,) bool, or values in [0, 1].
        bins: number of bins.

    Returns:
        three (M,) arrays, M at most `bins`.
    """
    predicted = np.asarray(predicted, dtype=float)
    outcome = np.asarray(outcome, dtype=float)
    place = np.clip((predicted * bins).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(place, values, bins)[used] / counts[used]

    return mean(predicted), mean(outcome), counts[used]


def calibration_error(predicted: ArrayLike, outcome: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean over bins, by count, of |mean prediction - mean outcome|.

    Naeini et al. 2015; arguments as for `reliability`.
    """
    mean_predicted, mean_outcome, counts = reliability(predicted, outcome, bins)
    return float((np.abs(mean_predicted - mean_outcome) * counts).sum() / counts.sum())


def dwell_score(progress: ArrayLike, window: int = 10) -> float:
    """Largest value that progress (N,) stays at or above for `window` samples in a row.

    It is the highest threshold at which a judge who demands a full dwell window would have called
    the episode complete. A shorter episode is taken as one window.
    """
    progress = np.asarray(progress, dtype=float)
    window = min(window, len(progress))
    return float(np.lib.stride_tricks.sliding_window_view(progress, window).min(axis=1).max())


def falls(labels: ArrayLike, least: float = 0.2) -> list[tuple[int, float]]:
    """Where a label curve (N,) falls by at least `least`: last frame before the fall, and its size.

    A fall is a run of decreasing values; NaN ends it.
    """
    labels = np.asarray(labels, dtype=float)
    found, frame = [], 0
    while frame < len(labels) - 1:
        first = frame
        while frame < len(labels) - 1 and labels[frame + 1] < labels[frame]:
            frame += 1
        if labels[first] - labels[frame] >= least:
            found.append((first, float(labels[first] - labels[frame])))
        frame = max(frame, first + 1)
    return found


def drawdown(progress: ArrayLike) -> float:
    """Largest fall of progress (N,) below an earlier peak."""
    progress = np.asarray(progress, dtype=float)
    return float((np.maximum.accumulate(progress) - progress).max())


def fall_delay_frames(
    progress: ArrayLike, frame: int, size: float, before: int, after: int
) -> int | None:
    """Frames from a labelled fall to the moment when predicted progress has fallen by half of it.

    Args:
        progress: (N,) predicted.
        frame, size: the labelled fall, as from `falls`.
        before: how many frames earlier the prediction may start to fall: what counts is the fall
            below its peak within `frame - before` to `frame`.
        after: how many frames later it must have fallen.

    Returns:
        the delay, negative where the prediction fell first; None: it did not fall in time.
    """
    progress = np.asarray(progress, dtype=float)
    first = max(frame - before, 0)
    peak = first + int(progress[first : frame + 1].argmax())
    low = progress[peak : frame + after + 1] <= progress[peak] - size / 2
    return peak + int(low.argmax()) - frame if low.any() else None


def mean_over(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of one value per episode with its bootstrap interval; NaN entries are left out."""
    kept = np.array([value for value in values if math.isfinite(value)])
    if not len(kept):
        return math.nan, math.nan, math.nan
    low, high = bootstrap_interval(lambda drawn: float(kept[drawn].mean()), len(kept))
    return float(kept.mean()), low, high


def _counts(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """True and false positives at each distinct threshold, from the highest down, (M,) each."""
    thresholds, inverse = np.unique(-np.asarray(scores, dtype=float), return_inverse=True)
    positive = np.asarray(positive, dtype=bool)
    hits = np.bincount(inverse[positive], minlength=len(thresholds)).cumsum()
    misses = np.bincount(inverse[~positive], minlength=len(thresholds)).cumsum()
    return hits, misses


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 0; ties share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse] - 1, dtype=float)
