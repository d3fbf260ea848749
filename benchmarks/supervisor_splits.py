"""Thresholds chosen on some roll-outs and counted on the others, over many random splits.

The rules are applied here to whole recordings at once, apart from the code that chooses thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from supervisor_rollouts import Collection, Recorded

from rewact_ros.sim.pick_place.truth import FAILURES
from rewact_ros.sim.timing import RATE_HZ
from rewact_ros.supervision.alarms import calibrated
from rewact_ros.supervision.calibration import CalibrationSettings
from rewact_ros.supervision.conformal import CalibrationEpisode, calibrate
from rewact_ros.supervision.signals import PLAIN, PolicySample, SignalSettings, SignalTracker

Frames = NDArray[np.float64]
NEVER = np.inf
CALIBRATION_SHARE = 2 / 3
ONE_SAMPLE = (0.9, 0.95)  # the usual fixed thresholds
MONITOR, QUANTILE = "monitor", "one_sample_quantile"


@dataclass(frozen=True)
class Episodes:
    """Roll-outs one after another: (N,) per inference, (E,) per episode, frames from its start.

    Attributes:
        sources: for the calibration.
        start: (E,) first inference of each.
        mean, held: (N,), the first unfiltered, the other as in `Signals`.
        scores: (N,) by alarm, as in `CalibrationEpisode`.
        features: (N, D).
        success, failure: (E,) frame of the first true success and, in episodes without one, of the
            first true failure; `NEVER` where there is none.
        kind: (E,) dropped | missed_grasp | off_table | stuck; "" for successes.
    """

    sources: list[CalibrationEpisode]
    start: NDArray[np.intp]
    mean: Frames
    held: Frames
    scores: dict[str, Frames]
    features: NDArray[np.float32]
    success: Frames
    failure: Frames
    kind: NDArray[np.str_]

    def chosen(self, index: NDArray[np.intp]) -> "Episodes":
        """Pick some."""
        lengths = np.diff(np.append(self.start, len(self.mean)))[index]
        start = np.cumsum(lengths) - lengths
        rows = np.repeat(self.start[index] - start, lengths) + np.arange(lengths.sum())
        return Episodes(
            [self.sources[i] for i in index],
            start,
            self.mean[rows],
            self.held[rows],
            {name: values[rows] for name, values in self.scores.items()},
            self.features[rows],
            self.success[index],
            self.failure[index],
            self.kind[index],
        )

    def first(self, above: NDArray[np.bool_]) -> Frames:
        """First frame of each episode (E,) at which `above` (N,) holds, `NEVER` without one."""
        rows = np.flatnonzero(above)
        episode = np.searchsorted(self.start, rows, "right") - 1
        found = np.full(len(self.start), NEVER)
        np.minimum.at(found, episode, rows - self.start[episode])
        return found


@dataclass(frozen=True)
class Verdicts:
    """What a rule says of episodes, (E,) each: the frame of its claim and of its first alarm."""

    complete: Frames
    alarms: dict[str, Frames]

    @property
    def alarm(self) -> Frames:
        """First alarm of any signal."""
        none = np.full(len(self.complete), NEVER)
        return np.minimum.reduce([none, *self.alarms.values()])


def episodes_of(collection: Collection) -> Episodes:
    """Make the monitor's signals of each roll-out, as the live supervisor would."""
    sources = [_source(episode, collection.signals) for episode in collection.episodes]
    lengths = np.array([len(source.held) for source in sources])
    failures = [_failure(episode) for episode in collection.episodes]
    return Episodes(
        sources,
        np.cumsum(lengths) - lengths,
        np.concatenate([episode.mean for episode in collection.episodes]).astype(float),
        np.concatenate([source.held for source in sources]),
        {
            name: np.concatenate([source.scores[name] for source in sources])
            for name in sources[0].scores
        },
        np.concatenate([episode.features for episode in collection.episodes]),
        np.array([NEVER if s.success is None else s.success for s in sources]),
        np.array([frame for frame, _ in failures]),
        np.array([kind for _, kind in failures]),
    )


def _source(episode: Recorded, settings: SignalSettings) -> CalibrationEpisode:
    tracker = SignalTracker(settings)
    signals = [
        tracker.add(PolicySample(frame / RATE_HZ, float(mean), float(q10)))
        for frame, (mean, q10) in enumerate(zip(episode.mean, episode.q10, strict=True))
    ]
    succeeded = np.flatnonzero(episode.success)
    success = int(succeeded[0]) if len(succeeded) else None
    features = episode.features if episode.features.size else None
    return CalibrationEpisode.of(f"seed {episode.seed}", signals, features, success)


def _failure(episode: Recorded) -> tuple[float, str]:
    """Frame of a failed episode's first failure, and its kind.

    Without one the arm is stuck: since the task's stage changed for the last time, at the earliest
    when the scripted expert would have closed its fingers.
    """
    if episode.success.any():
        return NEVER, ""
    failed = np.flatnonzero(episode.failure)
    if len(failed):
        return float(failed[0]), FAILURES[episode.failure[failed[0]]]
    return max(float(_last_change(episode.stage)), episode.closed_s * RATE_HZ), "stuck"


def _last_change(values: NDArray) -> int:
    changes = np.flatnonzero(values[1:] != values[:-1])
    return int(changes[-1]) + 1 if len(changes) else 0


def judge_by_monitor(
    episodes: Episodes, completion: float, limits: dict[str, float], distance: Frames
) -> Verdicts:
    """Apply calibrated thresholds; `distance` (N,) is that of the features."""
    values = {**episodes.scores, **{a.name: distance for a in calibrated() if a.features}}
    return Verdicts(
        episodes.first(episodes.held > completion),
        {name: episodes.first(values[name] > limits[name]) for name in limits},
    )


def judge_by_one_sample(episodes: Episodes, threshold: float) -> Verdicts:
    """Call an episode complete at the first predicted progress above a threshold; no alarms."""
    return Verdicts(episodes.first(episodes.mean > threshold), {})


def naive_threshold(incomplete: Sequence[Frames], beta: float) -> float:
    """The progress that a share `beta` of all single samples before the success exceeds."""
    return float(np.quantile(np.concatenate(incomplete), 1 - beta))


def figures_of(episodes: Episodes, verdicts: Verdicts, verdict_s: float) -> dict[str, float]:
    """Count a rule's errors and delays on episodes; NaN where there is nothing to count.

    Args:
        episodes: what happened.
        verdicts: what the rule says.
        verdict_s: an alarm up to so long after the true success counts as false.
    """
    complete, alarm, success = verdicts.complete, verdicts.alarm, episodes.success
    succeeded = np.isfinite(success)
    failed = ~succeeded
    until = success + round(verdict_s * RATE_HZ)
    judged = succeeded & np.isfinite(complete)
    delay = (complete[judged] - success[judged]) / RATE_HZ
    figures = {
        "false_completions": _share(complete < success),
        "early_completions": _share((complete < success)[succeeded]),
        "failures_called_complete": _share(np.isfinite(complete)[failed]),
        "successes_detected": _share(np.isfinite(complete)[succeeded]),
        "success_delay_p50": _percentile(delay, 50),
        "success_delay_p95": _percentile(delay, 95),
        "failures_detected": _share((alarm < complete)[failed]),
    }
    if verdicts.alarms:
        figures["false_alarms"] = _share((alarm <= until)[succeeded])
    for name, frames in verdicts.alarms.items():
        figures[f"false_alarms_{name}"] = _share((frames <= until)[succeeded])
        figures[f"failures_detected_{name}"] = _share((frames < complete)[failed])
    for kind in np.unique(episodes.kind[failed]):
        found = (episodes.kind == kind) & (alarm < complete)
        late = (alarm[found] - episodes.failure[found]) / RATE_HZ
        figures[f"{kind}_delay_p50"] = _percentile(late, 50)
        figures[f"{kind}_delay_p95"] = _percentile(late, 95)
    return figures


def over_splits(
    collection: Collection, episodes: Episodes, settings: CalibrationSettings, splits: int
) -> dict[str, list[dict[str, float]]]:
    """Figures of every rule (name -> one dictionary per split) on the roll-outs not calibrated on.

    Raises:
        CalibrationError: too few roll-outs for the rates asked for.
    """
    rng, total = np.random.default_rng(0), len(episodes.sources)
    settings = replace(settings, completion=PLAIN)  # the other score is of the topic `calibration`
    incomplete = [
        e.mean[: s.success] for e, s in zip(collection.episodes, episodes.sources, strict=True)
    ]
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(splits):
        order = rng.permutation(total)
        chosen, rest = np.split(order, [round(CALIBRATION_SHARE * total)])
        sources = [episodes.sources[i] for i in chosen]
        calibration = calibrate(sources, collection.signals, collection.basis, settings)
        test = episodes.chosen(rest)
        limits = {name: bound.threshold for name, bound in calibration.alarms.items()}
        far = calibration.distance
        distance = np.full(len(test.mean), np.nan) if far is None else far(test.features)
        tau = calibration.completion.threshold
        judged = {MONITOR: (tau, judge_by_monitor(test, tau, limits, distance))}
        naive = naive_threshold([incomplete[i] for i in chosen], settings.beta)
        fixed = {f"one_sample_{value:g}": value for value in ONE_SAMPLE}
        for rule, value in {QUANTILE: naive, **fixed}.items():
            judged[rule] = (value, judge_by_one_sample(test, value))
        for rule, (value, verdicts) in judged.items():
            figures = figures_of(test, verdicts, settings.verdict_s)
            found.setdefault(rule, []).append({"threshold": value, **figures})
    return found


def _share(flags: Sequence | NDArray[np.bool_]) -> float:
    return float(np.mean(flags)) if len(flags) else float("nan")


def _percentile(values: Frames, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else float("nan")
