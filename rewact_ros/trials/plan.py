"""How many blocks a comparison will take, by simulating that very comparison."""

from dataclasses import dataclass

import numpy as np

from .fixed import paired_blocks, unpaired_blocks
from .sequential import SequentialSettings
from .simulated import PairedRates, run_studies


@dataclass(frozen=True)
class Plan:
    """What to expect of a comparison of two versions.

    Attributes:
        rates: true ones that are assumed.
        found: share of studies that decide for the better version; for equal ones, for any.
        wrong: share that decides for the worse one, or for any of two equal ones.
        mean, median, most_of_ten: blocks until the end; nine of ten studies end by the last.
        fixed_paired, fixed_unpaired: blocks of exact tests of fixed size with the power ``found``
            (McNemar's on the same scenes, Fisher's on others); None for equal versions.
        studies: simulated.
    """

    rates: PairedRates
    found: float
    wrong: float
    mean: float
    median: float
    most_of_ten: float
    fixed_paired: int | None
    fixed_unpaired: int | None
    studies: int

    @property
    def line(self) -> str:
        """One line for people."""
        text = (
            f"{self.rates.a:.2f} against {self.rates.b:.2f}: over after {self.median:.0f} blocks "
            f"(median), {self.most_of_ten:.0f} in nine of ten studies; finds the better one in "
            f"{self.found:.0%}"
        )
        if self.fixed_paired is None:
            return f"{text}, a wrong one in {self.wrong:.1%}"
        return f"{text}; a fixed number of blocks would have to be {self.fixed_paired}"


def plan(
    gap: float,
    settings: SequentialSettings | None = None,
    base: float = 0.7,
    correlation: float = 0.0,
    studies: int = 1000,
    seed: int = 0,
) -> Plan:
    """Simulate studies of two versions that truly differ by ``gap``.

    Args:
        gap: true difference in success; 0: equally good.
        settings: of the comparison.
        base: success of the worse one.
        correlation: of the outcomes in a scene; scenes that are hard for both make it positive.
        studies, seed: of the simulation.

    Raises:
        TrialError: rates that there cannot be.
    """
    settings = settings or SequentialSettings()
    rates = PairedRates(base, base + gap, correlation)
    rng = np.random.default_rng(seed)
    a, b = rates.draw(studies, settings.most_blocks, rng)
    ended = run_studies(b.astype(float) - a.astype(float), settings)
    found = float((ended.better == 1).mean())
    paired = unpaired = None
    if gap and 0 < found < 1:
        paired = paired_blocks(rates.only_a, rates.only_b, settings.alpha, found)
        unpaired = unpaired_blocks(rates.a, rates.b, settings.alpha, found)
    wrong = float((ended.better == -1).mean()) if gap else float((ended.better != 0).mean())
    median, late = np.quantile(ended.blocks, (0.5, 0.9))
    mean = float(ended.blocks.mean())
    return Plan(rates, found, wrong, mean, median, late, paired, unpaired, studies)
