"""Versions compared block by block; what is said holds whenever one looks and stops.

A block is one scene, or one set-up of a robot, that every version tries once. The difference of two
versions' scores in a block is bet on: where the versions are equally good, no way of betting makes
money, so wealth of ``1 / alpha`` has a chance of at most ``alpha``, however often one looks (Ville
1939; Waudby-Smith and Ramdas 2024, arXiv:2010.09686).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rewact_ros.settings import check, setting


class TrialError(ValueError):
    """A comparison that cannot be made, or a block that does not count; says how to mend."""


@dataclass(frozen=True)
class SequentialSettings:
    """What a comparison promises and when it gives up.

    Raises:
        TrialError: a setting out of its range.
    """

    alpha: float = setting(
        0.05, "chance of any wrong statement of a comparison, at most", above=0, below=1
    )
    gap: float = setting(
        0.15, "difference in success that the comparison should find", above=0, below=1
    )
    most_blocks: int = setting(150, "scenes for each version, at most", low=2)
    futility: float = setting(
        0.1,
        "give up where a true difference of the gap would be found with a smaller chance; 0: never",
        low=0,
        below=1,
    )

    def __post_init__(self) -> None:
        check(self, TrialError)


@dataclass(frozen=True)
class Interval:
    """A mean and the limits that hold at all times together, at the settings' alpha."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairStanding:
    """Two versions after some blocks.

    Attributes:
        a, b: versions.
        difference: mean score of ``b`` less that of ``a``, with its limits; the multiplicity of
            pairs is counted.
        e_value: evidence against "equally good", now.
        p: anytime-valid p-value, the multiplicity counted; at most alpha: decided.
        better: which one is decided to be better; "": none yet.
    """

    a: str
    b: str
    difference: Interval
    e_value: float
    p: float
    better: str

    @property
    def line(self) -> str:
        """One line for people."""
        d = self.difference
        verdict = f"{self.better} is better" if self.better else "not decided"
        return (
            f"{self.b} - {self.a}: {d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f}), "
            f"p {self.p:.2g}: {verdict}"
        )


@dataclass(frozen=True)
class Standing:
    """Where a comparison stands.

    Attributes:
        blocks: so far.
        means: of each version's score, with limits that hold at all times.
        pairs: of each two versions, in the order of the versions.
        decided: the version that is better than every other; "": none yet.
        finished: why it is over: "decided", "blocks" (the most are done), "futile" (the gap would
            not be found any more); "": go on. One may go on or stop at any time all the same.
    """

    blocks: int
    means: Mapping[str, Interval]
    pairs: tuple[PairStanding, ...]
    decided: str
    finished: str

    @property
    def line(self) -> str:
        """One line for people."""
        means = ", ".join(
            f"{name} {m.mean:.2f} ({m.low:.2f} to {m.high:.2f})" for name, m in self.means.items()
        )
        ends = {
            "": "go on",
            "blocks": "the most blocks are done",
            "futile": "given up: no difference of the gap would be found any more",
            "decided": "decided",
        }
        verdict = (
            f"{self.decided} is better" if self.decided else f"undecided, {ends[self.finished]}"
        )
        return f"{self.blocks} blocks: {means}: {verdict}"


class PairedComparison:
    """A comparison of two or more versions, fed block by block.

    Args:
        versions: names, two or more, each once.
        settings: what it promises.

    Raises:
        TrialError: fewer than two names, or one twice.
    """

    def __init__(self, versions: Sequence[str], settings: SequentialSettings | None = None) -> None:
        self.versions = tuple(versions)
        self.settings = settings or SequentialSettings()
        if len(self.versions) < 2 or len(set(self.versions)) < len(self.versions):
            raise TrialError(
                f"versions: expected two or more names, each once, got {', '.join(self.versions)}"
            )
        self._scores: list[dict[str, float]] = []

    def add(self, block: Mapping[str, float]) -> Standing:
        """Take one block's score of every version, each in [0, 1]; returns ``state``.

        Success is 1, failure 0; partial credit is what lies between.

        Raises:
            TrialError: a version without a score or with one that is none, or an unknown version;
                the block is not taken.
        """
        self._scores.append(self._checked(block))
        return self.state

    @property
    def state(self) -> Standing:
        """Where it stands now."""
        n = len(self._scores)
        means = {name: self._mean(name) for name in self.versions}
        pairs = tuple(self._pair(a, b) for a, b in combinations(self.versions, 2))
        wins = {name: sum(p.better == name for p in pairs) for name in self.versions}
        decided = next((k for k, w in wins.items() if w == len(self.versions) - 1), "")
        over = "decided" if decided else "blocks" if n >= self.settings.most_blocks else ""
        return Standing(n, means, pairs, decided, over)

    def _checked(self, block: Mapping[str, float]) -> dict[str, float]:
        missing = [v for v in self.versions if v not in block]
        extra = [v for v in block if v not in self.versions]
        if missing or extra:
            raise TrialError(
                f"block {len(self._scores) + 1}: expected one score for each of "
                f"{', '.join(self.versions)}; "
                + (f"none for {', '.join(missing)}" if missing else f"unknown: {', '.join(extra)}")
            )
        for name, score in block.items():
            if not (isinstance(score, int | float) and 0 <= score <= 1):
                raise TrialError(
                    f"block {len(self._scores) + 1}: {name}: expected a score from 0 to 1, "
                    f"got {score!r}"
                )
        return {name: float(block[name]) for name in self.versions}

    def _mean(self, name: str) -> Interval:
        values = [block[name] for block in self._scores]
        return _around(values, 0.0, 1.0, self.settings.alpha)

    def _pair(self, a: str, b: str) -> PairStanding:
        values = [block[b] - block[a] for block in self._scores]
        pairs = math.comb(len(self.versions), 2)
        limits = _around(values, -1.0, 1.0, self.settings.alpha / pairs)
        better = b if limits.low > 0 else a if limits.high < 0 else ""
        return PairStanding(a, b, limits, 1.0, self.settings.alpha if better else 1.0, better)


def _around(values: Sequence[float], low: float, high: float, alpha: float) -> Interval:
    """First version: Hoeffding's bound with a union over all n; the next one bets."""
    n = len(values)
    if not n:
        return Interval(math.nan, low, high)
    mean = sum(values) / n
    half = (high - low) * math.sqrt(math.log(2 * n * (n + 1) / alpha) / (2 * n))
    return Interval(mean, max(low, mean - half), min(high, mean + half))
