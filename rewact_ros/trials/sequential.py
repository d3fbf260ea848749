"""Versions compared block by block; what is said holds whenever one looks and stops.

A block is one scene, or one set-up of a robot, that every version tries once. The difference of two
versions' scores in a block is bet on: where the versions are equally good, no way of betting makes
money, so wealth of ``1 / alpha`` has a chance of at most ``alpha``, however often one looks (Ville
1939; Waudby-Smith and Ramdas 2024, arXiv:2010.09686).

With k versions there are k (k - 1) / 2 pairs, and each is tested at that part of alpha (Bonferroni
on the e-values). So all statements about pairs are true together with a chance of ``1 - alpha``.
e-BH would decide sooner, but only bounds the share of wrong ones among those made.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rewact_ros.settings import check, setting

from .betting import Aim
from .interval import STEP, Interval, MeanBand, MeanLimits
from .judged import JudgeErrors


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
    power: float = setting(
        0.8,
        "chance that it finds such a difference, as far as the blocks suffice",
        above=0,
        below=1,
    )
    most_blocks: int = setting(200, "scenes for each version, at most", low=1)
    futility: float = setting(
        0.15,
        "give up where a true difference of the gap would be found with a smaller chance; 0: never",
        low=0,
        below=1,
    )

    def __post_init__(self) -> None:
        check(self, TrialError)


@dataclass(frozen=True)
class PairStanding:
    """Two versions after some blocks.

    Attributes:
        a, b: versions.
        difference: mean score of ``b`` less that of ``a``, with its limits; the multiplicity of
            pairs is counted.
        e_value: evidence against "equally good", now: the mean of both directions' wealth. Bets end
            where alpha is reached, so that it does not grow any more then.
        p: anytime-valid p-value, the multiplicity counted; at most alpha: decided. Not below alpha,
            for the same reason.
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
        judge: within which rates the outcomes may be wrong; None: a person or the simulation's
            truth judged.

    Raises:
        TrialError: fewer than two names, or one twice; a judge whose own risk leaves no alpha.
    """

    def __init__(
        self,
        versions: Sequence[str],
        settings: SequentialSettings | None = None,
        judge: JudgeErrors | None = None,
    ) -> None:
        self.versions = tuple(versions)
        self.settings = settings or SequentialSettings()
        self._judge, s = judge, self.settings
        if len(self.versions) < 2 or len(set(self.versions)) < len(self.versions):
            raise TrialError(
                f"versions: expected two or more names, each once, got {', '.join(self.versions)}"
            )
        risk = judge.risk if judge else 0.0
        if risk >= s.alpha:
            raise TrialError(f"judge: expected a risk below alpha {s.alpha:g}, got {risk:g}")
        alpha = s.alpha - risk
        self._pair_level = alpha / math.comb(len(self.versions), 2)
        self._blocks = 0
        self._means = {name: MeanBand(alpha, 0.0, 1.0) for name in self.versions}
        aim = Aim(self._pair_level, s.gap, s.power, s.most_blocks)
        self._pairs = {pair: MeanLimits(aim, -1.0, 1.0) for pair in combinations(self.versions, 2)}
        self._bands = {pair: MeanBand(self._pair_level, -1.0, 1.0) for pair in self._pairs}

    def add(self, block: Mapping[str, float]) -> Standing:
        """Take one block's score of every version, each in [0, 1]; returns ``state``.

        Success is 1, failure 0; partial credit is what lies between.

        Raises:
            TrialError: a version without a score or with one that is none, or an unknown version;
                the block is not taken.
        """
        scores = self._checked(block)
        for name, band in self._means.items():
            band.take(scores[name])
        for (a, b), limits in self._pairs.items():
            limits.take(scores[b] - scores[a])
            self._bands[a, b].take(scores[b] - scores[a])
        self._blocks += 1
        return self.state

    @property
    def state(self) -> Standing:
        """Where it stands now."""
        means = {name: band.interval for name, band in self._means.items()}
        if self._judge:
            means = {name: self._judge.rate(m) for name, m in means.items()}
        pairs = tuple(self._pair(a, b) for a, b in self._pairs)
        wins = {name: sum(p.better == name for p in pairs) for name in self.versions}
        decided = next((k for k, w in wins.items() if w == len(self.versions) - 1), "")
        return Standing(self._blocks, means, pairs, decided, self._finished(decided, pairs))

    @property
    def _null(self) -> float:
        """The judged difference that equally good versions can have, at most."""
        return self._judge.most(0.0) if self._judge else 0.0

    def _finished(self, decided: str, pairs: Sequence[PairStanding]) -> str:
        if decided:
            return "decided"
        if self._blocks >= self.settings.most_blocks:
            return "blocks"
        chances = [self._pairs[p.a, p.b].chance(self._null) for p in pairs if not p.better]
        return "futile" if max(chances, default=0.0) < self.settings.futility else ""

    def _pair(self, a: str, b: str) -> PairStanding:
        limits = self._pairs[a, b]
        shown, left = self._bands[a, b].interval, limits.interval
        if self._judge:
            shown, left = self._judge.difference(shown), self._judge.difference(left)
        now, most = limits.wealth(self._null)
        p = min(1.0, self.settings.alpha / self._pair_level * 2 / float(most.max()))
        reached = bool(most.max() >= (1 - 1e-9) * 2 / self._pair_level)
        up, down = reached and left.low >= 0, reached and left.high <= 0
        better = b if up else a if down else ""
        return PairStanding(a, b, _agreeing(shown, up, down), float(now.mean()), p, better)

    def _checked(self, block: Mapping[str, float]) -> dict[str, float]:
        missing = [v for v in self.versions if v not in block]
        extra = [v for v in block if v not in self.versions]
        if missing or extra:
            raise TrialError(
                f"block {self._blocks + 1}: expected one score for each of "
                f"{', '.join(self.versions)}; "
                + (f"none for {', '.join(missing)}" if missing else f"unknown: {', '.join(extra)}")
            )
        for name, score in block.items():
            if not (isinstance(score, int | float) and 0 <= score <= 1):
                raise TrialError(
                    f"block {self._blocks + 1}: {name}: expected a score from 0 to 1, got {score!r}"
                )
        return {name: float(block[name]) for name in self.versions}


def _agreeing(band: Interval, up: bool, down: bool) -> Interval:
    """A difference's band that begins or ends at 0 where that is decided, and else goes beyond it.

    Making it wider is always right. Leaving one side of 0 out is wrong where the decision is.
    """
    if up:
        return Interval(band.mean, max(band.low, 0.0), max(band.high, 0.0))
    if down:
        return Interval(band.mean, min(band.low, 0.0), min(band.high, 0.0))
    return Interval(band.mean, min(band.low, -STEP), max(band.high, STEP))
