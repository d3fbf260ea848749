"""The progress that a policy predicted over an episode, and when it would have counted as done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.data.bags.episode_file import EpisodeRecord
from rewact_ros.data.bags.reader import BagError
from rewact_ros.stamps import NANO
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import PolicySample, SignalSettings

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """By what an episode was judged: the completion threshold, and how the signal is made."""

    threshold: float
    signals: SignalSettings
    calibrated: bool


def judged_by(record: EpisodeRecord | None) -> Judged:
    """What the recording says of it, else the supervisor's own defaults.

    Raises:
        BagError: the recorded calibration is damaged.
    """
    raw: Mapping[str, Any] | None = record.calibration if record is not None else None
    if raw is None:
        return Judged(Thresholds().completion, SignalSettings(), False)
    try:
        threshold = float(raw["completion"]["threshold"])
        return Judged(threshold, SignalSettings(**raw["signals"]), True)
    except (KeyError, TypeError, ValueError) as error:
        raise BagError(f"episode.json: calibration: not readable: {error!r:.80}") from error


@dataclass(frozen=True)
class Curve:
    """Progress over an episode.

    Attributes:
        times_s, values: (N,) of the observations, from the episode's start.
        done_s: when it would have been judged as complete; NaN: never.
    """

    times_s: FloatArray
    values: FloatArray
    done_s: float

    @property
    def end(self) -> float:
        """Its last value; NaN: there is none."""
        return float(self.values[-1]) if len(self.values) else float("nan")


def curve(rewards: Sequence[tuple[int, float, float]], start_ns: int, judged: Judged) -> Curve:
    """The curve of the rewards of one policy.

    Args:
        rewards: (stamp in ns, mean, q10 or NaN) of each, in any order.
        start_ns: of the episode.
        judged: threshold and filter; a head without quantiles is judged by its mean.
    """
    rows = sorted(rewards)
    quantiles = bool(rows) and bool(np.isfinite([q10 for _, _, q10 in rows]).all())
    level = judged.signals.level if quantiles else "mean"
    monitor = EpisodeMonitor(Thresholds(judged.threshold), replace(judged.signals, level=level))
    done_s = float("nan")
    for stamp_ns, mean, q10 in rows:
        monitor.add(PolicySample(stamp_ns / NANO, mean, q10 if quantiles else None))
        if monitor.complete and np.isnan(done_s):
            done_s = (stamp_ns - start_ns) / NANO
    times_s = np.array([(stamp_ns - start_ns) / NANO for stamp_ns, _, _ in rows])
    return Curve(times_s, np.array([mean for _, mean, _ in rows]), done_s)
