"""Figures with their uncertainty, against published or independent values."""

import numpy as np
import pytest
from scipy import stats

from rewact_ros.reward.metrics import spearman, wilson_interval


def test_the_wilson_interval_matches_scipy():
    for successes, trials in ((46, 50), (0, 10), (10, 10), (1, 3)):
        reference = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson_interval(successes, trials) == pytest.approx(
            (reference.low, reference.high), abs=1e-4
        )


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(0, 0)


def test_spearman_matches_scipy_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert np.isnan(spearman(a, np.ones(60)))
