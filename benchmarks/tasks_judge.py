"""How well progress, or what stands in for it, tells successes of recorded roll-outs from failures.

Everybody is judged as the supervisor judges: by the level that its dwell window holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rewact_ros.learning.classifier.settings import ClassifierSettings
from rewact_ros.learning.evaluation.calibrate import Rollouts, signal_settings
from rewact_ros.learning.evaluation.reward import COMPLETE
from rewact_ros.learning.evaluation.scorers import PolicyScorer
from rewact_ros.learning.evaluation.settings import RolloutSource
from rewact_ros.learning.imitation.demonstrations import Demonstrations, load_demonstrations
from rewact_ros.learning.imitation.frames import open_frames
from rewact_ros.learning.imitation.teaching import SUCCESS
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.images import unit_images
from rewact_ros.reward.baselines import Baseline, ClockBaseline, ProprioceptionBaseline
from rewact_ros.reward.classifier_checkpoint import load_classifier
from rewact_ros.reward.judge_check import check_judge, horizon
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.supervision.alarms import calibrated
from rewact_ros.supervision.calibration import Calibration
from rewact_ros.supervision.conformal import CalibrationEpisode
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker

FloatArray = NDArray[np.float64]
_NEVER = math.inf
_BATCH = 64  # frames at once: memory against speed


@dataclass(frozen=True)
class Measured:
    """A figure over n episodes with its 95 % interval; None where there was nothing to count."""

    value: float | None
    n: int
    low: float | None
    high: float | None

    @classmethod
    def of(cls, count: int, n: int) -> "Measured":
        """The share `count` of `n`, with Wilson's interval."""
        return cls(count / n, n, *wilson_interval(count, n)) if n else cls(None, 0, None, None)


@dataclass(frozen=True)
class Judgement:
    """One judge on all roll-outs.

    Attributes:
        auc: ROC-AUC at equal horizon, and its bootstrapped 95 % interval.
        crossed: failures that hold the supervisor's default completion level.
        recognised: successes that do.
    """

    auc: Measured
    crossed: Measured
    recognised: Measured


def measure(
    loaded: LoadedPolicy, datasets: Sequence[Path], cache: Path
) -> list[CalibrationEpisode]:
    """What the monitor sees while a policy looks at recorded roll-outs again."""
    settings = signal_settings(loaded)
    return [
        episode
        for folder in datasets
        for episode in Rollouts(RolloutSource(folder, cache=cache)).measure(
            PolicyScorer(loaded), settings
        )
    ]


def judgement(held: Sequence[FloatArray], succeeds: NDArray[np.bool_]) -> Judgement:
    """Judge by the levels held, (N,) per episode."""
    limit = horizon([len(values) for values in held], succeeds)
    scores = np.array([_most(values[:limit]) for values in held])
    check = check_judge(scores, succeeds)
    crosses = np.array([_most(values) >= COMPLETE for values in held])
    auc = Measured(_known(check.auc), len(held), _known(check.low), _known(check.high))
    failures, successes = crosses[~succeeds], crosses[succeeds]
    return Judgement(
        auc,
        Measured.of(int(failures.sum()), len(failures)),
        Measured.of(int(successes.sum()), len(successes)),
    )


def succeed(episodes: Sequence[CalibrationEpisode]) -> NDArray[np.bool_]:
    """Whether each succeeded, (E,)."""
    return np.array([episode.success is not None for episode in episodes])


def baselines(demos: Path, datasets: Sequence[Path]) -> dict[str, Judgement]:
    """The clock and the joints alone, which learned progress from the demonstrations."""
    taught = load_demonstrations(demos)
    own = [taught.rows([index]) for index in range(int(taught.source.meta.total_episodes))]
    labels, states = ([table[rows] for rows in own] for table in (taught.reward, taught.state))
    known: dict[str, Baseline] = {
        "clock": ClockBaseline(labels),
        "joints": ProprioceptionBaseline(states, labels),
    }
    found: dict[str, list[FloatArray]] = {name: [] for name in known}
    succeeds: list[bool] = []
    for data, rows in episodes(datasets):
        succeeds.append(bool(data.succeeds[rows[0]]))
        for name, baseline in known.items():
            found[name].append(held_levels(baseline.predict(data.state[rows]), data.fps))
    return {name: judgement(held, np.array(succeeds)) for name, held in found.items()}


def classifier(settings: ClassifierSettings, datasets: Sequence[Path], cache: Path) -> Judgement:
    """The success classifier, trained on the same demonstrations and verdicts."""
    from rewact_ros.learning.classifier.train import train_classifier

    if not Path(settings.out).exists():
        train_classifier(settings, cache, progress=False)
    loaded = load_classifier(settings.out, "cpu")
    cameras, size = list(loaded.config.cameras), loaded.config.image_size
    held, succeeds = [], []
    for folder in datasets:
        data = load_demonstrations(folder, labels_needed=False)
        every = list(range(int(data.source.meta.total_episodes)))
        images = open_frames(data.source, cameras, size, every, cache, progress=False)
        for index in every:
            rows = data.rows([index])
            pictures = torch.from_numpy(np.stack([images[key][rows] for key in cameras], 1))
            with torch.inference_mode():
                said = [loaded.model.predict(unit_images(b)) for b in pictures.split(_BATCH)]
            held.append(held_levels(torch.cat(said).double().numpy(), data.fps))
            succeeds.append(bool(data.succeeds[rows[0]]))
    return judgement(held, np.array(succeeds))


@dataclass(frozen=True)
class Rates:
    """What calibrated thresholds do on episodes that they were not chosen on.

    Attributes:
        false_completions: called complete before it is, of all episodes.
        detected: successes that are called complete while they are recorded.
        alarmed: failures with an alarm and no completion before it.
        false_alarms: successes with an alarm up to `verdict_s` after the success.
    """

    false_completions: Measured
    detected: Measured
    alarmed: Measured
    false_alarms: Measured


def rates(episodes: Sequence[CalibrationEpisode], calibration: Calibration) -> Rates:
    """Count the monitor's errors."""
    rule, limit = calibration.signals.completion, calibration.completion.threshold
    complete = np.array([_first(e.known(rule) > limit) for e in episodes])
    alarm = np.array([_alarm(e, calibration) for e in episodes])
    success = np.array([_NEVER if e.success is None else e.success for e in episodes])
    good = np.isfinite(success)
    until = success + round(calibration.settings.verdict_s * calibration.basis.rate_hz)

    def share(flags: NDArray[np.bool_]) -> Measured:
        return Measured.of(int(flags.sum()), len(flags))

    return Rates(
        share(complete < success),
        share(np.isfinite(complete)[good]),
        share((alarm < complete)[~good]),
        share((alarm <= until)[good]),
    )


def _alarm(episode: CalibrationEpisode, calibration: Calibration) -> float:
    """Frame of the first alarm."""
    values = dict(episode.scores)
    if calibration.distance is not None and episode.features is not None:
        distance = calibration.distance(episode.features)
        values |= {alarm.name: distance for alarm in calibrated() if alarm.features}
    return min(
        _first(np.asarray(values[name]) > bound.threshold)
        for name, bound in calibration.alarms.items()
    )


def _first(above: NDArray[np.bool_]) -> float:
    return float(above.argmax()) if above.any() else _NEVER


def episodes(datasets: Sequence[Path]) -> list[tuple[Demonstrations, NDArray[np.intp]]]:
    """Every episode's dataset and rows."""
    found = []
    for folder in datasets:
        data = load_demonstrations(folder, labels_needed=False)
        assert SUCCESS in data.source.meta.features  # these are roll-outs
        found += [(data, data.rows([i])) for i in range(int(data.source.meta.total_episodes))]
    return found


def features_of(episode: CalibrationEpisode) -> NDArray[np.float32]:
    """(N, D) pooled features of the policy, which every RewACT has."""
    assert episode.features is not None
    return episode.features


def held_levels(progress: FloatArray, rate_hz: float) -> FloatArray:
    """(N,) level that progress (N,) holds, as the supervisor's signals have it."""
    tracker = SignalTracker(SignalSettings(level="mean"))  # there is no quantile to go by
    samples = (PolicySample(k / rate_hz, float(value)) for k, value in enumerate(progress))
    return np.array([tracker.add(sample).held for sample in samples])


def _most(held: FloatArray) -> float:
    return float(np.nan_to_num(held).max())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
