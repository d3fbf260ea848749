"""Whether a new version may take the place of an old one: a test that can fail it.

The question is not whether the new one did at least as well in some scenes, which chance answers
half. A new version is kept once it is shown to be less than ``margin`` worse than the old one
(non-inferiority), on the same scenes, one after the other. So a version that is worse by the margin
passes with a chance of at most ``alpha``, however early the test ends. It ends, and refuses, where
an equally good version would hardly pass any more, or where there are no more scenes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rewact_ros.settings import check, setting

from .betting import Aim, Bets, FloatArray
from .sequential import TrialError

KEPT, REFUSED, OPEN = "kept", "refused", ""
_STUDIES = 400
_FUTILITY = 0.1  # of the chance that an equally good version had at the beginning


@dataclass(frozen=True)
class ReplacementSettings:
    """What the test of a new version promises.

    Raises:
        TrialError: a setting out of its range.
    """

    margin: float = setting(
        0.1, "a new version that is worse by so much must not be kept", above=0, below=1
    )
    alpha: float = setting(
        0.05, "chance that such a one is kept, at most", above=0, below=1, option="worse_kept"
    )
    power: float = setting(
        0.8,
        "chance that an equally good version is kept, as far as the scenes suffice",
        above=0,
        below=1,
        option="equal_kept",
    )

    def __post_init__(self) -> None:
        check(self, TrialError)


@dataclass(frozen=True)
class ReplacementRates:
    """How often the test errs.

    Attributes:
        worse_kept: of versions that are worse by the margin.
        equal_refused: of equally good versions.
        scenes: mean number that an equally good one takes.
    """

    worse_kept: float
    equal_refused: float
    scenes: float


@dataclass(frozen=True)
class Replacement:
    """A new version tried beside an old one.

    Attributes:
        old, new: score of each in every scene that was driven.
        verdict: "kept" or "refused"; "": open.
        settings: of the test.
        most_scenes: there were.
    """

    old: tuple[float, ...]
    new: tuple[float, ...]
    verdict: str
    settings: ReplacementSettings
    most_scenes: int

    @property
    def kept(self) -> bool:
        """Whether the new version takes the place of the old one."""
        return self.verdict == KEPT

    @property
    def rates(self) -> ReplacementRates:
        """How often such a test errs, simulated for versions that differ in as many scenes."""
        differ = sum(a != b for a, b in zip(self.old, self.new, strict=True))
        # Neither no scene nor every one: a few say little.
        share = (differ + 3.0) / (len(self.old) + 10.0)
        return replacement_rates(self.settings, self.most_scenes, round(share, 1))

    @property
    def line(self) -> str:
        """The decision and how often such a test errs, for the terminal."""
        n, margin, rates = len(self.old), 100 * self.settings.margin, self.rates
        what = {
            KEPT: f"kept, as it is less than {margin:g} points worse, if at all",
            REFUSED: f"refused, as nothing shows that it is less than {margin:g} points worse",
            OPEN: "not decided yet",
        }[self.verdict]
        return (
            f"success {sum(self.old):g}/{n} -> {sum(self.new):g}/{n} on the same scenes: {what}. "
            f"This test keeps a version that is {margin:g} points worse in at most "
            f"{self.settings.alpha:.0%}, and refuses an equally good one in about "
            f"{rates.equal_refused:.0%}, of {self.most_scenes} scenes at most"
        )


class ReplacementTest:
    """The test, fed scene by scene.

    Args:
        settings: what it promises.
        most_scenes: there are.
    """

    def __init__(self, settings: ReplacementSettings, most_scenes: int) -> None:
        self.settings, self.most_scenes = settings, most_scenes
        self._bets = _bets(settings, most_scenes, 1)
        self._hopeless = _FUTILITY * self._bets.chance()[0]
        self._old: list[float] = []
        self._new: list[float] = []
        self._verdict = OPEN

    def add(self, old: float, new: float) -> Replacement:
        """Take both versions' scores in one scene, from 0 to 1; returns ``state``.

        A verdict stays, whatever comes after it.

        Raises:
            TrialError: a score that is none; the scene is not taken.
        """
        for name, score in (("old", old), ("new", new)):
            if not 0 <= score <= 1:
                raise TrialError(
                    f"scene {len(self._old) + 1}: {name}: expected a score from 0 to 1, "
                    f"got {score!r}"
                )
        self._old.append(float(old))
        self._new.append(float(new))
        if self._verdict == OPEN:
            _take(self._bets, np.array([float(new) - float(old)]), self.settings.margin)
            if self._bets.reached[0]:
                self._verdict = KEPT
            elif len(self._old) >= self.most_scenes or self._bets.chance()[0] < self._hopeless:
                self._verdict = REFUSED
        return self.state

    @property
    def state(self) -> Replacement:
        """Where it stands."""
        return Replacement(
            tuple(self._old), tuple(self._new), self._verdict, self.settings, self.most_scenes
        )


def try_replacement(
    scores: Iterable[tuple[float, float]], settings: ReplacementSettings, most_scenes: int
) -> Replacement:
    """Try old and new, scene by scene, until there is a verdict.

    Args:
        scores: of old and new in each scene; no more are asked for than it takes.
        settings, most_scenes: of the test.

    Raises:
        TrialError: a score that is none.
    """
    test = ReplacementTest(settings, most_scenes)
    for old, new in scores:
        if test.add(old, new).verdict != OPEN:
            break
    return test.state


def replacements(
    differences: FloatArray, settings: ReplacementSettings
) -> tuple[FloatArray, FloatArray]:
    """Many tests at once, on (K, N) differences new - old; returns (K,) kept, and scenes driven."""
    studies, most = differences.shape
    bets = _bets(settings, most, studies)
    hopeless = _FUTILITY * bets.chance()[0]
    kept, scenes, alive = np.zeros(studies), np.full(studies, float(most)), np.arange(studies)
    for n in range(most):
        _take(bets, differences[alive, n], settings.margin)
        kept[alive[bets.reached]] = 1.0
        over = bets.reached | (bets.chance() < hopeless)
        scenes[alive[over]] = n + 1
        alive = alive[~over]
        bets.keep(~over)
        if not len(alive):
            break
    return kept, scenes


@lru_cache(maxsize=64)
def replacement_rates(
    settings: ReplacementSettings, most_scenes: int, differ: float
) -> ReplacementRates:
    """Simulate the test.

    Args:
        settings, most_scenes: of the test.
        differ: share of scenes in which one version succeeds and the other does not; at least the
            margin.
    """
    rng, differ = np.random.default_rng(0), max(differ, settings.margin)
    x = rng.random((_STUDIES, most_scenes))

    def drawn(gap: float) -> FloatArray:
        better = (differ + gap) / 2
        return np.where(x < better, 1.0, np.where(x < differ, -1.0, 0.0))

    worse, _ = replacements(drawn(-settings.margin), settings)
    equal, scenes = replacements(drawn(0.0), settings)
    return ReplacementRates(float(worse.mean()), 1 - float(equal.mean()), float(scenes.mean()))


def _bets(settings: ReplacementSettings, most_scenes: int, studies: int) -> Bets:
    aim = Aim(settings.alpha, settings.margin, settings.power, most_scenes)
    return Bets(aim, (studies,), 1 + settings.margin)


def _take(bets: Bets, differences: FloatArray, margin: float) -> None:
    bets.take((differences + margin) / (1 + margin))
