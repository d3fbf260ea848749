"""What a stream of rewards and chunks says about an episode, one sample at a time.

Every signal depends on the samples and their stamps alone, never on when they arrive, so that a
calibration on recorded episodes speaks of the same numbers as the live supervisor.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.settings import check, setting

FloatArray = NDArray[np.float64]
LEVELS = ("q10", "mean")
PLAIN, ENGAGED = COMPLETIONS = ("plain", "engaged")


@dataclass(frozen=True)
class SignalSettings:
    """How signals are made of samples; a calibration holds for these settings only."""

    level: str = setting(
        "q10",
        "what completion is judged by; q10 is of a distributional reward head",
        choices=LEVELS,
    )
    filter_s: float = setting(
        0.1, "time constant of the reward's filter", "s", above=0, high=math.inf
    )
    dwell: int = setting(8, "samples above the threshold, of those that completion looks back on")
    window: int = setting(10, "samples that completion looks back on")
    max_gap_s: float = setting(
        0.5,
        "after a longer gap between samples filter and window start anew",
        "s",
        above=0,
        high=math.inf,
    )
    rise: float = setting(
        0.01,
        "only a maximum that exceeds the last one by this counts as new",
        above=0,
        high=math.inf,
    )
    slack_per_s: float = setting(0.05, "fall of the mean per second that the CUSUM forgives")
    completion: str = setting(
        PLAIN,
        "score of completion: plain, the level that is held, or engaged, its rise above the lowest "
        "level held before in the episode",
        choices=COMPLETIONS,
    )

    def __post_init__(self) -> None:
        check(self)
        if not 1 <= self.dwell <= self.window:
            raise ValueError(f"dwell: expected 1 to window ({self.window}), got {self.dwell}")


@dataclass(frozen=True)
class PolicySample:
    """One inference of the policy; what is None or NaN is unknown, never 0.

    Attributes:
        stamp_s: observation time.
        mean, q10, entropy: of the predicted progress; the latter two of a distributional head.
        features: (D,) pooled policy features.
        actions: (chunk, A) in contract units, step k for ``stamp_s`` + k * ``step_s``.
        step_s: of the chunk.
    """

    stamp_s: float
    mean: float | None
    q10: float | None = None
    entropy: float | None = None
    features: NDArray[np.floating] | None = None
    actions: NDArray[np.floating] | None = None
    step_s: float = 0.05


@dataclass(frozen=True)
class Signals:
    """The state of an episode after its last sample; NaN: unknown.

    Attributes:
        stamp_s: of the last known reward.
        progress: filtered mean.
        level: filtered q10 or mean, as the settings say.
        held: highest value that ``dwell`` of the last ``window`` levels reach: the plain score of
            completion.
        engaged: ``held`` above the lowest value that as many levels kept below in the episode, at
            least 0: the engaged-first score. A reward that is near 1 from the start has none.
        entropy: nats.
        peak: largest ``progress`` of the episode.
        drawdown: ``peak`` minus ``progress``.
        stall_s: time since the last new maximum.
        novelty: distance of the features from those of calibration.
        slope_cusum: how far progress has been falling (for study, no alarm).
        disagreement: mean absolute difference of this chunk and the last one where they overlap,
            contract units (for study, no alarm).
    """

    stamp_s: float = math.nan
    progress: float = math.nan
    level: float = math.nan
    held: float = math.nan
    engaged: float = math.nan
    entropy: float = math.nan
    peak: float = math.nan
    drawdown: float = math.nan
    stall_s: float = math.nan
    novelty: float = math.nan
    slope_cusum: float = math.nan
    disagreement: float = math.nan

    def completion(self, rule: str) -> float:
        """What a threshold of completion is on; ``rule`` is one of ``COMPLETIONS``."""
        return self.engaged if rule == ENGAGED else self.held

    def staleness_s(self, now_s: float) -> float:
        """Age of the last known reward; infinite before the first."""
        return now_s - self.stamp_s if math.isfinite(self.stamp_s) else math.inf


class LowPass:
    """First-order low-pass filter over samples at any spacing."""

    def __init__(self, time_constant_s: float) -> None:
        self.time_constant_s = time_constant_s
        self.value = math.nan

    def add(self, value: float, gap_s: float) -> float:
        """Take a value ``gap_s`` after the last one; after an infinite gap it starts anew."""
        if math.isnan(self.value) or math.isinf(gap_s):
            self.value = value
        else:
            self.value += (1 - math.exp(-gap_s / self.time_constant_s)) * (value - self.value)
        return self.value


class Dwell:
    """The highest value that m of the last k samples reach, and the lowest that m keep below."""

    def __init__(self, dwell: int, window: int) -> None:
        self._dwell = dwell
        self._values: deque[float] = deque(maxlen=window)

    def clear(self) -> None:
        """Forget the window."""
        self._values.clear()

    def add(self, value: float) -> None:
        """Take the next sample."""
        self._values.append(value)

    @property
    def held(self) -> float:
        """The m-th largest of a full window, NaN before it is full."""
        return sorted(self._values, reverse=True)[self._dwell - 1] if self._full else math.nan

    @property
    def low(self) -> float:
        """The m-th smallest of a full window, NaN before it is full."""
        return sorted(self._values)[self._dwell - 1] if self._full else math.nan

    @property
    def _full(self) -> bool:
        return len(self._values) == self._values.maxlen


@dataclass(frozen=True)
class FeatureDistance:
    """Mahalanobis distance from a set of features, divided by the square root of D.

    Attributes:
        mean: (D,) float32.
        whitening: (D, D) float32, W with W @ W.T the inverse of the shrunk covariance.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]

    @classmethod
    def fit(cls, features: NDArray[np.floating]) -> "FeatureDistance":
        """Fit mean and covariance of (N, D) features, shrunk as by Ledoit and Wolf (2004).

        Frames of an episode resemble each other, so the shrinkage is somewhat too weak; the bound
        does not depend on it, since the threshold comes from other episodes.

        Raises:
            ValueError: fewer than two features, or they do not vary.
        """
        x = np.asarray(features, dtype=np.float64)
        if len(x) < 2:
            raise ValueError(f"features: expected at least 2 to fit a covariance, got {len(x)}")
        n, size = x.shape
        mean = x.mean(axis=0)
        x = x - mean
        sample = x.T @ x / n
        scale = float(np.trace(sample) / size)
        if not scale > 0:
            raise ValueError(f"features: expected some that vary, got {n} equal ones")
        spread = np.square(sample).sum() - size * scale**2  # squared distance to the target
        noise = (np.square(np.square(x).sum(axis=1)).mean() - np.square(sample).sum()) / n
        # Never without any shrinkage: fewer features than dimensions must stay invertible.
        weight = float(np.clip(noise / spread, 1e-4, 1.0)) if spread > 0 else 1.0
        covariance = (1 - weight) * sample + weight * scale * np.eye(size)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
        return cls(mean.astype(np.float32), whitening.astype(np.float32))

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map features (..., D) to distances (...)."""
        x = (features.astype(np.float32) - self.mean) @ self.whitening
        return np.sqrt(np.square(x).mean(axis=-1))


class SignalTracker:
    """Turns the samples of one episode into ``Signals``."""

    def __init__(
        self, settings: SignalSettings | None = None, distance: FeatureDistance | None = None
    ) -> None:
        self.settings = settings or SignalSettings()
        self._distance = distance
        self.reset()

    def reset(self) -> None:
        """Forget the episode."""
        self._low = math.nan
        self.resume()

    def resume(self) -> None:
        """Begin anew within an episode, when a human hands back and the past says little.

        How low the reward has been stays known: what a human achieved is a rise, and a policy that
        goes on with a task nearly done could show none otherwise.
        """
        settings = self.settings
        self.signals = Signals()
        self._mean, self._level = LowPass(settings.filter_s), LowPass(settings.filter_s)
        self._dwell = Dwell(settings.dwell, settings.window)
        self._last_maximum = self._risen_s = math.nan
        self._cusum = 0.0
        self._chunk: PolicySample | None = None

    def add(self, sample: PolicySample) -> Signals:
        """Take the next sample; late ones and ones without a known reward change nothing."""
        level = sample.q10 if self.settings.level == "q10" else sample.mean
        mean, last_s = sample.mean, self.signals.stamp_s
        if mean is None or level is None or sample.stamp_s <= last_s:
            return self.signals
        if not (math.isfinite(mean) and math.isfinite(level)):
            return self.signals
        gap_s = sample.stamp_s - last_s if math.isfinite(last_s) else math.inf
        if gap_s > self.settings.max_gap_s:
            gap_s = math.inf
            self._dwell.clear()
        before = self._mean.value
        progress = self._mean.add(mean, gap_s)
        self._dwell.add(self._level.add(level, gap_s))
        held = self._dwell.held
        self._low = float(np.fmin(self._low, self._dwell.low))
        peak = progress if math.isnan(self.signals.peak) else max(self.signals.peak, progress)
        if not progress < self._last_maximum + self.settings.rise:
            self._last_maximum, self._risen_s = progress, sample.stamp_s
        if math.isfinite(gap_s):
            fall = before - progress - self.settings.slack_per_s * gap_s
            self._cusum = max(0.0, self._cusum + fall)
        self.signals = Signals(
            stamp_s=sample.stamp_s,
            progress=progress,
            level=self._level.value,
            held=held,
            engaged=max(held - self._low, 0.0) if math.isfinite(held) else math.nan,
            entropy=math.nan if sample.entropy is None else sample.entropy,
            peak=peak,
            drawdown=peak - progress,
            stall_s=sample.stamp_s - self._risen_s,
            novelty=self._novelty(sample),
            slope_cusum=self._cusum,
            disagreement=self._disagreement(sample),
        )
        return self.signals

    def _novelty(self, sample: PolicySample) -> float:
        if self._distance is None or sample.features is None:
            return math.nan
        return float(self._distance(sample.features))

    def _disagreement(self, sample: PolicySample) -> float:
        last, self._chunk = self._chunk, sample if sample.actions is not None else None
        if last is None or last.actions is None or sample.actions is None:
            return math.nan
        shift = round((sample.stamp_s - last.stamp_s) / sample.step_s)
        overlap = min(len(last.actions) - shift, len(sample.actions))
        if shift < 0 or overlap <= 0:
            return math.nan
        return float(
            np.abs(last.actions[shift : shift + overlap] - sample.actions[:overlap]).mean()
        )
