"""How well a predicted progress tells how far a task has come, on recorded episodes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rewact_ros.learning.imitation.demonstrations import Demonstrations
from rewact_ros.reward import metrics
from rewact_ros.supervision.signals import LowPass, SignalSettings

FloatArray = NDArray[np.float64]
COMPLETE = 0.9  # filtered progress that the supervisor calls complete by default
DROP = 0.2  # a smaller fall of a label is none: less counts noise, more misses a step undone
# A predicted fall may lead and lag the labelled one by these: less would miss what the low-pass
# filter delays, more would credit another fall.
EARLY_S, LATE_S = 1.0, 2.0


@dataclass(frozen=True)
class Scored:
    """A figure over episodes with its 95 % interval; NaN: not to be had from these episodes."""

    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class LabelledEpisode:
    """The truth of one episode of N frames.

    Attributes:
        index: in its dataset.
        times_s: (N,) from the episode's start.
        labels: (N,) progress, NaN where unknown.
        succeeds: whether the episode ends well.
        state: (N, S) float32, contract units.
    """

    index: int
    times_s: FloatArray
    labels: FloatArray
    succeeds: bool
    state: NDArray[np.float32]


@dataclass(frozen=True)
class Curve:
    """Predicted progress (N,) of one episode, and q10, q50, q90 (N, 3) where a head gives them."""

    progress: FloatArray
    quantiles: FloatArray | None = None


@dataclass(frozen=True)
class Judged:
    """One predictor on all episodes: its figures, and per episode what they were made of.

    Attributes:
        figures: as ``judge`` names them.
        curves: of each episode.
        scores, final: (E,) dwell score, and filtered progress at the last frame.
    """

    figures: dict[str, Scored]
    curves: list[Curve] = field(repr=False)
    scores: FloatArray = field(repr=False)
    final: FloatArray = field(repr=False)


def labelled_episodes(data: Demonstrations, episodes: Sequence[int]) -> list[LabelledEpisode]:
    """Read the truth of some episodes."""
    found = []
    for index in episodes:
        rows = data.rows([index])
        found.append(
            LabelledEpisode(
                index=index,
                times_s=np.arange(len(rows)) / data.fps,
                labels=data.reward[rows].astype(float),
                succeeds=bool(data.succeeds[rows[0]]),
                state=data.state[rows],
            )
        )
    return found


def filtered(times_s: FloatArray, progress: FloatArray) -> FloatArray:
    """Progress (N,) as the supervisor sees it, after its low-pass filter."""
    low_pass = LowPass(SignalSettings().filter_s)
    values, last_s = [], -math.inf
    for stamp_s, value in zip(times_s, progress, strict=True):
        if math.isfinite(value):
            low_pass.add(float(value), float(stamp_s) - last_s)
            last_s = float(stamp_s)
        values.append(low_pass.value)
    return np.array(values)


def judge(episodes: Sequence[LabelledEpisode], curves: Sequence[Curve]) -> Judged:
    """Score one predictor.

    Figures (intervals by bootstrap over episodes, of shares by Wilson):

    - ``mae``: mean over episodes of the mean absolute error over labelled frames;
    - ``voc_success``, ``voc_failure``: value-order correlation (GVL, arXiv:2411.04549), Spearman of
      progress with time, mean over episodes. Of a success only the frames up to the first that is
      labelled 1 count, as after it there is no order to be found. ``voc_undisturbed``: of the
      successes whose label never falls, since a second attempt rightly breaks the order;
    - ``roc_auc``, ``pr_auc``: of the episode's score against its outcome. The score is the largest
      value that filtered progress stays above for the supervisor's dwell window, so the highest
      threshold at which it would have been called complete;
    - ``brier``, ``ece``: of filtered progress at the last frame, read as the probability that the
      episode has succeeded, against its outcome (10 bins). Earlier progress is no probability of
      being complete *now*: half-way through a perfect episode it is rightly 0.5;
    - ``progress_ece``: calibration of every frame's progress, |mean label - mean prediction| over
      10 bins by prediction;
    - ``drops_detected``, ``drop_delay_s``: labelled falls of at least ``DROP`` that filtered
      progress follows by half their size, from ``EARLY_S`` before to ``LATE_S`` after; median delay
      and quartiles;
    - ``false_drops``: share of the episodes without a labelled fall in which filtered progress
      falls by ``DROP`` or more below its peak;
    - ``crossing_delay_s``: from the frame first labelled 1 of a success to the first at which
      filtered progress reaches ``COMPLETE``; median and quartiles; ``crossed``: the share that
      does;
    - ``coverage``: share of labelled frames within q10 to q90, nominally 0.8.

    Args:
        episodes: the truth.
        curves: the prediction for each.

    Raises:
        ValueError: no episode, or a curve of another length than its episode.
    """
    if not episodes:
        raise ValueError("reward evaluation: no episodes to judge on; choose at least one")
    for episode, curve in zip(episodes, curves, strict=True):
        if len(curve.progress) != len(episode.labels):
            raise ValueError(
                f"episode {episode.index}: expected {len(episode.labels)} predictions, "
                f"got {len(curve.progress)}"
            )
    smooth = [filtered(e.times_s, c.progress) for e, c in zip(episodes, curves, strict=True)]
    scores = np.array([metrics.dwell_score(s, SignalSettings().window) for s in smooth])
    final = np.array([s[-1] for s in smooth])
    figures = {
        **_errors(episodes, curves),
        **_order(episodes, curves),
        **_outcomes(episodes, scores, final),
        **_drops(episodes, smooth),
        **_crossing(episodes, smooth),
    }
    return Judged(figures, list(curves), scores, final)


def _errors(episodes: Sequence[LabelledEpisode], curves: Sequence[Curve]) -> dict[str, Scored]:
    known = [np.isfinite(e.labels) for e in episodes]
    pairs = [(c.progress[k], e.labels[k]) for e, c, k in zip(episodes, curves, known, strict=True)]
    errors = [float(np.abs(p - t).mean()) for p, t in pairs if len(t)]

    def calibration(drawn: NDArray[np.intp]) -> float:
        predicted, truth = (np.concatenate([pairs[i][side] for i in drawn]) for side in (0, 1))
        return metrics.calibration_error(predicted, truth) if len(truth) else math.nan

    figures = {
        "mae": Scored(*_mean(errors)),
        "progress_ece": _bootstrapped(calibration, len(episodes)),
    }
    bands = [curve.quantiles for curve in curves if curve.quantiles is not None]
    if len(bands) == len(curves):
        inside = [
            ((q[k, 0] <= e.labels[k]) & (e.labels[k] <= q[k, 2])).mean()
            for e, q, k in zip(episodes, bands, known, strict=True)
            if k.any()
        ]
        figures["coverage"] = Scored(*_mean(inside))
    return figures


def _order(episodes: Sequence[LabelledEpisode], curves: Sequence[Curve]) -> dict[str, Scored]:
    found: dict[str, list[float]] = {"voc_success": [], "voc_undisturbed": [], "voc_failure": []}
    for episode, curve in zip(episodes, curves, strict=True):
        done = done_frame(episode) if episode.succeeds else None
        upto = slice(None if done is None else done + 1)
        name = "voc_success" if episode.succeeds else "voc_failure"
        order = metrics.spearman(episode.times_s[upto], curve.progress[upto])
        found[name].append(order)
        if episode.succeeds and not metrics.falls(episode.labels, DROP):
            found["voc_undisturbed"].append(order)
    return {name: Scored(*_mean(values)) for name, values in found.items()}


def _outcomes(
    episodes: Sequence[LabelledEpisode], scores: FloatArray, final: FloatArray
) -> dict[str, Scored]:
    succeeds = np.array([episode.succeeds for episode in episodes])
    of = {
        "roc_auc": (metrics.roc_auc, scores),
        "pr_auc": (metrics.average_precision, scores),
        "brier": (metrics.brier_score, final),
        "ece": (metrics.calibration_error, final),
    }

    def scored(
        figure: Callable[[FloatArray, NDArray[np.bool_]], float], values: FloatArray
    ) -> Scored:
        return _bootstrapped(lambda i: figure(values[i], succeeds[i]), len(values))

    return {name: scored(figure, values) for name, (figure, values) in of.items()}


def _drops(episodes: Sequence[LabelledEpisode], smooth: Sequence[FloatArray]) -> dict[str, Scored]:
    delays: list[float | None] = []
    false, calm = 0, 0
    for episode, progress in zip(episodes, smooth, strict=True):
        if len(episode.times_s) < 2:
            continue
        rate_hz = 1 / (episode.times_s[1] - episode.times_s[0])
        before, after = round(EARLY_S * rate_hz), round(LATE_S * rate_hz)
        found = metrics.falls(episode.labels, DROP)
        for frame, size in found:
            delay = metrics.fall_delay_frames(progress, frame, size, before, after)
            delays.append(None if delay is None else delay / rate_hz)
        if not found:
            calm += 1
            false += metrics.drawdown(progress) >= DROP
    detected = [delay for delay in delays if delay is not None]
    return {
        "drops_detected": _share(len(detected), len(delays)),
        "drop_delay_s": _quartiles(detected),
        "false_drops": _share(false, calm),
    }


def _crossing(
    episodes: Sequence[LabelledEpisode], smooth: Sequence[FloatArray]
) -> dict[str, Scored]:
    delays, successes = [], 0
    for episode, progress in zip(episodes, smooth, strict=True):
        done = done_frame(episode) if episode.succeeds else None
        if done is None:
            continue
        successes += 1
        above = progress >= COMPLETE
        if above.any():
            delays.append(float(episode.times_s[above.argmax()] - episode.times_s[done]))
    return {"crossed": _share(len(delays), successes), "crossing_delay_s": _quartiles(delays)}


def done_frame(episode: LabelledEpisode) -> int | None:
    """First frame that is labelled 1, None where none is."""
    done = episode.labels >= 1 - 1e-6  # labels are float32
    return int(done.argmax()) if done.any() else None


def _mean(values: Sequence[float]) -> tuple[float, int, float, float]:
    mean, low, high = metrics.mean_over(values)
    return mean, int(np.isfinite(values).sum()), low, high


def _bootstrapped(statistic: Callable[[NDArray[np.intp]], float], n: int) -> Scored:
    value = statistic(np.arange(n))
    # More draws would steady the interval's ends, and take longer.
    return Scored(value, n, *metrics.bootstrap_interval(statistic, n, draws=300))


def _share(count: int, n: int) -> Scored:
    if not n:
        return Scored(math.nan, 0, math.nan, math.nan)
    return Scored(count / n, n, *metrics.wilson_interval(count, n))


def _quartiles(values: Sequence[float]) -> Scored:
    if not values:
        return Scored(math.nan, 0, math.nan, math.nan)
    low, middle, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    return Scored(middle, len(values), low, high)
