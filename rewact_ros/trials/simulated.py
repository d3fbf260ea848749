"""Simulated studies: many comparisons at once, by the very bets of a real one."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .betting import Aim, Bets, FloatArray
from .sequential import SequentialSettings, TrialError


@dataclass(frozen=True)
class PairedRates:
    """True success rates of two versions on the same scenes.

    Attributes:
        a, b: rates.
        correlation: of the two outcomes in a scene.

    Raises:
        TrialError: a rate outside 0 to 1, or a correlation that such rates cannot have.
    """

    a: float
    b: float
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.a <= 1 and 0 <= self.b <= 1):
            raise TrialError(f"rates: expected 0 to 1, got {self.a:g} and {self.b:g}")
        if min(self.only_a, self.only_b, self.both, 1 - self.a - self.only_b) < -1e-12:
            raise TrialError(
                f"correlation: {self.correlation:g} is none that rates of {self.a:g} and "
                f"{self.b:g} can have; expected one nearer to 0"
            )

    @property
    def both(self) -> float:
        """Share of scenes in which both succeed."""
        spread = math.sqrt(self.a * (1 - self.a) * self.b * (1 - self.b))
        return self.a * self.b + self.correlation * spread

    @property
    def only_a(self) -> float:
        """Share of scenes in which the first succeeds alone."""
        return self.a - self.both

    @property
    def only_b(self) -> float:
        """Share of scenes in which the second succeeds alone."""
        return self.b - self.both

    def draw(
        self, studies: int, blocks: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Outcomes of both, (studies, blocks) each."""
        x = rng.random((studies, blocks))
        both, only_a = x < self.both, (x >= self.both) & (x < self.a)
        return both | only_a, both | ((x >= self.a) & (x < self.a + self.only_b))


@dataclass(frozen=True)
class Studies:
    """How simulated studies ended.

    Attributes:
        better: (K,) 1 where b was decided to be better, -1 where a was, else 0.
        blocks: (K,) at the end.
    """

    better: NDArray[np.int_]
    blocks: NDArray[np.int_]


def run_studies(
    differences: FloatArray, settings: SequentialSettings, null: float = 0.0, risk: float = 0.0
) -> Studies:
    """Run comparisons of two versions until each is finished.

    Args:
        differences: (K, N) score of b less that of a.
        settings: of each; no more than N blocks.
        null: largest judged difference of equally good versions (``JudgeErrors.most``).
        risk: of the judge's rates.
    """
    s = settings
    most = min(s.most_blocks, differences.shape[1])
    level = (s.alpha - risk) / 2
    bets = Bets(Aim(level, s.gap, s.power, s.most_blocks), (2, len(differences)), 1 + null)
    better, blocks = np.zeros(len(differences), int), np.full(len(differences), most)
    alive = np.arange(len(differences))
    for n in range(most):
        values = differences[alive, n]
        bets.take((np.stack([values, -values]) - null) / (1 + null))
        up, down = bets.reached
        better[alive[up]], better[alive[down]] = 1, -1
        over = up | down | (bets.chance().max(axis=0) < s.futility)
        blocks[alive[over]] = n + 1
        alive = alive[~over]
        bets.keep(~over)
        if not len(alive):
            break
    return Studies(better, blocks)
