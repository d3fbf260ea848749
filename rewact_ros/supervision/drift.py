"""Whether new episodes still look like those of a calibration, told by numbers that need no truth.

A conformal test martingale (Vovk, Gammerman and Shafer 2022, ch. 8). Each episode's score is
ranked among the calibration's and all episodes since. While they are exchangeable the ranks are
uniform and independent, and a capital that is bet against that is a martingale: it ever reaches
1/δ with a probability of at most δ (Ville), however long one looks. Scores share δ evenly.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.supervision.signals import Signals

FloatArray = NDArray[np.float64]

WINDOW_S = 2.0  # from the policy's first reward: nearly every episode lasts so long
SCORES = ("novelty", "progress", "entropy")
FALSE_WITHDRAWAL = 0.05  # probability that the bound is ever withdrawn although nothing changed
FEWEST = 19  # episodes of a calibration: fewer tell hardly any rank
# Then the test begins anew, so that what is remembered stays small.
LONGEST = 2000
# Bets on small and on large ranks, and none: ε p^(ε - 1), whose mean is 1.
_EXPONENTS = (0.15, 0.4, 0.7)
_BETS = 2 * len(_EXPONENTS) + 1
_SWITCH = 0.01  # share of the capital that is spread anew in each episode: change comes at any time


@dataclass(frozen=True)
class DriftReference:
    """Scores of a calibration's episodes: n each, sorted, by name.

    Raises:
        ValueError: fewer than ``FEWEST``, not sorted, not finite, or an unknown name.
    """

    scores: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        for name, values in self.scores.items():
            if name not in SCORES:
                raise ValueError(f"drift: expected scores {', '.join(SCORES)}, got {name!r:.40}")
            if (
                len(values) < FEWEST
                or not np.isfinite(values).all()
                or list(values) != sorted(values)
            ):
                raise ValueError(f"drift: {name}: expected {FEWEST} sorted numbers or more")


def drift_reference(episodes: Sequence[Mapping[str, float]]) -> DriftReference | None:
    """Make it of each episode's scores; one that an episode lacks is left out; None: too few."""
    names = [name for name in SCORES if all(name in scores for scores in episodes)]
    if len(episodes) < FEWEST or not names:
        return None
    return DriftReference({n: tuple(sorted(float(e[n]) for e in episodes)) for n in names})


def window_scores(
    stamps_s: Sequence[float], curves: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Mean of each curve over an episode's first `WINDOW_S`; empty: it ended before.

    Args:
        stamps_s: (N,) of the rewards, the first one's first.
        curves: (N,) each by name; one with an unknown value (NaN) has no score.
    """
    if not len(stamps_s) or stamps_s[-1] - stamps_s[0] < WINDOW_S - 1e-6:
        return {}
    inside = np.asarray(stamps_s) - stamps_s[0] <= WINDOW_S + 1e-6
    means = {name: float(np.mean(np.asarray(curve)[inside])) for name, curve in curves.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


class Beginning:
    """The first seconds of an episode, of which its scores are made."""

    def __init__(self) -> None:
        self._stamps_s: list[float] = []
        self._curves: dict[str, list[float]] = {name: [] for name in SCORES}
        self._over = False

    def add(self, signals: Signals) -> dict[str, float]:
        """Take the signals after a reward; returns the scores once, at the window's end."""
        last_s = self._stamps_s[-1] if self._stamps_s else -math.inf
        if self._over or not signals.stamp_s > last_s:
            return {}
        self._stamps_s.append(signals.stamp_s)
        for name, curve in self._curves.items():
            curve.append(getattr(signals, name))
        scores = window_scores(self._stamps_s, self._curves)
        self._over = bool(scores)
        return scores

    def spoil(self) -> None:
        """Somebody else led, or nobody did: what follows is not what was calibrated."""
        self._over = True


@dataclass(frozen=True)
class Betting:
    """The capital that is bet on one score.

    Attributes:
        seen: of the episodes since the calibration, in their order.
        capitals: (bets,) of each way of betting; they begin with 1 in all.
        least, least_at: smallest capital so far, and after how many episodes that was.
    """

    seen: tuple[float, ...] = ()
    capitals: tuple[float, ...] = (1 / _BETS,) * _BETS
    least: float = 1.0
    least_at: int = 0

    @property
    def capital(self) -> float:
        """Of all ways together."""
        return sum(self.capitals)

    def bet(self, score: float, reference: Sequence[float], chance: float) -> "Betting":
        """Take the next episode's score; ``chance`` in [0, 1) decides between equal ones."""
        pool = sorted((*reference, *self.seen))
        below, upto = bisect_left(pool, score), bisect_right(pool, score)
        rank = (below + chance * (upto - below + 1)) / (len(pool) + 1)
        rank = min(max(rank, 1e-12), 1 - 1e-12)
        held = np.array(self.capitals)
        held = (1 - _SWITCH) * held + _SWITCH * held.sum() / _BETS
        capitals = held * _payments(rank)
        capital, episodes = float(capitals.sum()), len(self.seen) + 1
        least, at = (capital, episodes) if capital <= self.least else (self.least, self.least_at)
        return Betting((*self.seen, score), tuple(capitals.tolist()), least, at)


def _payments(rank: float) -> FloatArray:
    """What each way of betting gets for 1."""
    sides = [e * side ** (e - 1) for side in (rank, 1 - rank) for e in _EXPONENTS]
    return np.array([1.0, *sides])


@dataclass(frozen=True)
class Drift:
    """The test so far; a new one with every episode.

    Attributes:
        bettings: by score.
    """

    bettings: Mapping[str, Betting] = field(default_factory=dict)

    @property
    def episodes(self) -> int:
        """How many episodes were scored."""
        return max((len(b.seen) for b in self.bettings.values()), default=0)

    def add(
        self, scores: Mapping[str, float], reference: DriftReference, rng: np.random.Generator
    ) -> "Drift":
        """Take an episode's scores."""
        before = {} if self.episodes >= LONGEST else self.bettings
        after = {
            name: before.get(name, Betting()).bet(scores[name], values, rng.random())
            for name, values in reference.scores.items()
            if name in scores
        }
        return Drift({**before, **after})

    def found(self, reference: DriftReference) -> str:
        """Which score has drifted and since when, or an empty string."""
        needed = len(reference.scores) / FALSE_WITHDRAWAL
        for name, betting in self.bettings.items():
            if betting.capital >= needed:
                return f"scores have drifted ({name}, since about episode {betting.least_at + 1})"
        return ""


def read_drift(raw: Mapping[str, Any]) -> Drift:
    """The test as ``asdict`` has written it.

    Raises:
        ValueError, TypeError, KeyError: it is something else.
    """
    bettings = {}
    for name, one in raw["bettings"].items():
        seen, capitals = (tuple(float(v) for v in one[key]) for key in ("seen", "capitals"))
        betting = Betting(seen, capitals, float(one["least"]), int(one["least_at"]))
        numbers = (*seen, *capitals, betting.least)
        if name not in SCORES or len(capitals) != _BETS or not all(map(math.isfinite, numbers)):
            raise ValueError(f"drift: expected {_BETS} finite capitals of {', '.join(SCORES)}")
        bettings[name] = betting
    return Drift(bettings)
