"""Figures with their uncertainty, against published or independent values."""

import numpy as np
import pytest
from scipy import stats

from rewact_ros.reward.metrics import (
    average_precision,
    bootstrap_interval,
    brier_score,
    calibration_error,
    drawdown,
    dwell_score,
    fall_delay_frames,
    falls,
    mean_over,
    reliability,
    roc_auc,
    roc_curve,
    spearman,
    wilson_interval,
)


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


def test_roc_auc_counts_the_pairs_that_are_in_order():
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 6, 80) / 5, rng.random(80) < 0.4
    pairs = scores[positive][:, None] - scores[~positive]
    assert roc_auc(scores, positive) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert np.isnan(roc_auc(scores, np.ones(80, bool)))
    rates = roc_curve(scores, positive)
    assert np.trapezoid(rates[1], rates[0]) == pytest.approx(roc_auc(scores, positive))


def test_average_precision_of_a_known_ranking():
    # Precision 1, 2/3 and 3/5 at the three positives.
    assert average_precision([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 0, 1]) == pytest.approx(
        (1 + 2 / 3 + 3 / 5) / 3
    )
    assert average_precision([0.5] * 4, [1, 0, 0, 1]) == pytest.approx(0.5)  # ties: no ranking


def test_calibration_is_perfect_where_frequencies_match_and_bad_where_not():
    predicted = np.repeat([0.25, 0.75], 8)
    outcome = np.r_[[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]]
    assert calibration_error(predicted, outcome) == pytest.approx(0)
    assert brier_score(predicted, outcome) == pytest.approx(0.1875)
    assert calibration_error(1 - predicted, outcome) == pytest.approx(0.5)
    mean_predicted, mean_outcome, counts = reliability(predicted, outcome)
    assert counts.tolist() == [8, 8]
    np.testing.assert_allclose(mean_predicted, mean_outcome)


def test_a_single_sample_decides_no_episode():
    progress = np.full(30, 0.4)
    progress[12] = 1.0
    assert dwell_score(progress) == 0.4
    progress[10:20] = 0.9
    assert dwell_score(progress) == 0.9
    assert dwell_score([0.3, 0.2]) == 0.2


def test_falls_are_found_with_their_start_and_size():
    climb = np.linspace(0, 0.6, 13)
    labels = np.r_[climb, 0.4, 0.2, 0, 0, climb, 0.55, np.linspace(0.6, 1, 5)]
    assert [(frame, round(size, 6)) for frame, size in falls(labels)] == [(12, 0.6)]
    assert falls(np.full(5, np.nan)) == []
    assert falls([1.0]) == []


def test_the_delay_of_a_predicted_fall_may_be_negative_or_missing():
    progress = np.r_[np.linspace(0, 0.6, 20), np.zeros(20)]  # falls at frame 20
    assert fall_delay_frames(progress, 17, 0.6, 5, 10) == 3
    assert fall_delay_frames(progress, 23, 0.6, 5, 10) == -3
    assert fall_delay_frames(progress, 10, 0.6, 5, 5) is None
    assert drawdown(progress) == pytest.approx(0.6)


def test_a_bootstrap_interval_covers_the_mean_it_is_of():
    values = np.random.default_rng(2).normal(3.0, 1.0, 200)
    mean, low, high = mean_over([*values, np.nan])
    assert low < mean < high and mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.2)
    assert all(np.isnan(mean_over([np.nan])))
    assert all(np.isnan(bootstrap_interval(lambda drawn: np.nan, 5, draws=3)))
