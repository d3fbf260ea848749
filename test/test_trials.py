"""Comparisons of versions: what they promise, whenever one looks, and what they refuse."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from rewact_ros.supervision.calibration import Basis, Bound, Calibration, CalibrationSettings
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.trials.betting import Aim, Bets
from rewact_ros.trials.fixed import binomial_limit, paired_blocks, unpaired_blocks
from rewact_ros.trials.interval import Interval
from rewact_ros.trials.judged import JudgeErrors
from rewact_ros.trials.plan import plan
from rewact_ros.trials.replacement import (
    ReplacementSettings,
    ReplacementTest,
    replacements,
    try_replacement,
)
from rewact_ros.trials.sequential import PairedComparison, SequentialSettings, TrialError
from rewact_ros.trials.simulated import PairedRates, run_studies

EVER = SequentialSettings(futility=0.0)  # looks after every block, and never gives up


def differences(rates: PairedRates, studies: int, blocks: int = 200, seed: int = 1) -> np.ndarray:
    a, b = rates.draw(studies, blocks, np.random.default_rng(seed))
    return b * 1.0 - a


def share(hits: np.ndarray) -> float:
    return float(np.mean(hits))


def test_wealth_neither_grows_nor_shrinks_over_all_courses_of_equal_versions():
    courses = np.array(list(itertools.product((-1.0, 1.0), repeat=12)))
    bets = Bets(Aim(0.05, 0.3, 0.8, 12), (len(courses),))
    for block in courses.T:
        bets.take(block)
    assert np.exp(bets.log_wealth).mean() == pytest.approx(1.0)
    # What is bet is spent: nearly all of the level, and never more.
    assert 0.03 < share(bets.reached) <= 0.05


@pytest.mark.parametrize("rates", [PairedRates(0.75, 0.75), PairedRates(0.9, 0.9, 0.5)])
def test_equal_versions_are_told_apart_in_few_studies_however_often_one_looks(rates):
    values = differences(rates, 2000)
    assert share(run_studies(values, EVER).better != 0) <= 0.065  # three standard errors
    squares = np.maximum(np.square(values).cumsum(axis=1), 1)
    looked = np.abs(values.cumsum(axis=1))[:, 10:] > 1.96 * np.sqrt(squares)[:, 10:]
    assert share(looked.any(axis=1)) > 0.2  # what a fixed test does to whoever looks


def test_partial_credit_of_equal_means_and_unequal_spread_decides_nothing():
    values = (np.random.default_rng(2).random((2000, 200)) < 0.8) - 0.8
    for sign in (1, -1):
        assert share(run_studies(sign * values, EVER).better != 0) <= 0.065


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_a_gap_is_found_in_fewer_blocks_than_a_fixed_test_of_that_power_takes(correlation):
    found = plan(0.15, base=0.8, correlation=correlation, studies=800)
    assert found.found > 0.8 and found.wrong < 0.01
    assert found.fixed_paired is not None and found.mean < 0.72 * found.fixed_paired
    assert f"have to be {found.fixed_paired}" in found.line


def test_a_comparison_decides_as_simulated_studies_do_and_as_its_limits_say():
    settings, rates = SequentialSettings(), PairedRates(0.5, 0.8)
    a, b = rates.draw(6, 200, np.random.default_rng(4))
    ended = run_studies(b * 1.0 - a, settings)
    for study in range(len(a)):
        comparison = PairedComparison(["a", "b"], settings)
        state = comparison.state
        for x, y in zip(a[study], b[study], strict=True):
            state = comparison.add({"a": float(x), "b": float(y)})
            if state.finished:
                break
        assert state.blocks == ended.blocks[study]
        assert (state.decided == "b") == (ended.better[study] == 1)
        (pair,) = state.pairs
        assert (pair.difference.low >= 0) == (state.decided == "b") == (pair.p <= 0.05 + 1e-9)
        assert pair.difference.low <= 0.3 <= pair.difference.high
        assert state.means["a"].low <= 0.5 <= state.means["a"].high


def test_versions_that_are_much_the_same_are_given_up_before_the_most_blocks():
    comparison = PairedComparison(["a", "b"], SequentialSettings(most_blocks=150))
    state = comparison.state
    for i in range(150):
        state = comparison.add({"a": float(i % 5 > 0), "b": float(i % 5 < 4)})
        if state.finished:
            break
    assert state.finished == "futile" and state.blocks < 150 and not state.decided
    assert "given up" in state.line


def test_with_three_versions_each_pair_has_a_third_of_alpha():
    comparison = PairedComparison(["a", "b", "c"])
    state = comparison.state
    for i in range(60):
        state = comparison.add({"a": 0.0, "b": float(i % 2), "c": 1.0})
        if state.finished:
            break
    assert state.decided == "c" and state.finished == "decided" and "c is better" in state.line
    settings = SequentialSettings(alpha=0.05 / 3)
    alone = run_studies(np.ones((1, 60)), settings).blocks[0]
    assert run_studies(np.ones((1, 60)), SequentialSettings()).blocks[0] < alone <= state.blocks


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"a": 1.0}, "none for b"),
        ({"a": 1.0, "b": 0.0, "c": 1.0}, "unknown: c"),
        ({"a": 1.0, "b": math.nan}, "b: expected a score from 0 to 1, got nan"),
        ({"a": 1.2, "b": 1.0}, "a: expected a score from 0 to 1, got 1.2"),
        ({"a": None, "b": 1.0}, "a: expected a score"),
    ],
)
def test_a_block_that_does_not_count_is_refused_by_name_and_not_taken(block, told):
    comparison = PairedComparison(["a", "b"])
    with pytest.raises(TrialError, match=f"block 1: .*{told}"):
        comparison.add(block)
    assert comparison.state.blocks == 0


def test_names_and_settings_that_make_no_comparison_are_refused():
    for versions in (["a"], ["a", "a"]):
        with pytest.raises(TrialError, match="two or more names, each once"):
            PairedComparison(versions)
    with pytest.raises(TrialError, match="alpha"):
        SequentialSettings(alpha=0)
    with pytest.raises(TrialError, match="risk below alpha"):
        PairedComparison(["a", "b"], judge=JudgeErrors(0.02, 0.9, risk=0.05))
    with pytest.raises(TrialError, match="correlation"):
        PairedRates(0.1, 0.9, 0.5)


def test_fixed_tests_take_what_tables_say():
    # Clopper and Pearson's 95 % limits of 9 in 10; McNemar and Fisher by scipy.
    assert binomial_limit(9, 10, 0.025) == pytest.approx(0.5550, abs=1e-4)
    assert paired_blocks(0.255, 0.105, 0.05, 0.8) == 132
    assert unpaired_blocks(0.8, 0.95, 0.05, 0.8) == 82


def test_the_worst_that_a_judge_may_do_is_what_the_formula_says():
    errors, n = JudgeErrors(0.06, 0.9), 400
    for delta in (-0.4, 0.0, 0.25, 0.9):
        worst = -math.inf
        for p in np.linspace(max(0, -delta), min(1, 1 - delta), n):
            false = min(errors.false_completions, 1 - p - delta)
            worst = max(worst, (p + delta) + false - errors.detection * p)
        assert errors.most(delta) == pytest.approx(worst, abs=2 / n)
    widened = errors.difference(Interval(0.2, 0.2, 0.3))
    assert errors.most(widened.low) <= 0.2 < errors.most(widened.low + 0.011)
    assert widened.low < 0.2 and widened.high > 0.3


def test_a_calibration_vouches_for_less_than_it_was_asked_for():
    bound, signals = Bound(0.05, 99, 95, 0.9), SignalSettings()
    basis = Basis("reward", "policy", "contract", ("front",), 10.0, 20.0)
    calibration = Calibration(
        bound, {}, None, signals, basis, CalibrationSettings(), 99, 60, recognised=57
    )
    errors = JudgeErrors.of(calibration, risk=0.01)
    assert 0.05 < errors.false_completions < 0.15 and 0.8 < errors.detection < 0.95
    assert errors.risk == 0.01
    with pytest.raises(ValueError, match="recognised successes"):
        JudgeErrors.of(replace(calibration, recognised=None))


def test_a_judge_that_favours_one_of_two_equal_versions_decides_nothing():
    errors, rng = JudgeErrors(0.05, 0.9), np.random.default_rng(6)
    a, _ = PairedRates(0.95, 0.95).draw(1000, 200, rng)
    # All of b is called complete, and a tenth of a's successes is not.
    judged = 1.0 - (a & (rng.random(a.shape) < 0.9))
    assert share(run_studies(judged, EVER, errors.most(0.0)).better != 0) <= 0.07
    assert share(run_studies(judged, EVER).better == 1) > 0.9  # if the judge were believed
    comparison = PairedComparison(["a", "b"], judge=errors)
    for value in judged[0]:
        state = comparison.add({"a": 1.0 - value, "b": 1.0})
    assert not state.decided and state.pairs[0].difference.low < 0 < state.pairs[0].difference.mean


def test_a_version_ten_points_worse_is_rarely_kept_and_a_better_one_nearly_always():
    settings = ReplacementSettings()
    for base in (0.7, 0.85):
        worse = differences(PairedRates(base, base - 0.1), 2000)
        assert share(replacements(worse, settings)[0]) <= 0.065
        assert share(worse[:, :30].sum(axis=1) >= 0) > 0.18  # kept by "as many of 30 scenes"
        kept, scenes = replacements(differences(PairedRates(base, base + 0.1), 500), settings)
        assert share(kept) > 0.95 and scenes.mean() < 90


def test_a_test_of_a_version_asks_for_no_more_scenes_than_it_takes_and_says_how_it_errs():
    asked = []

    def scores(old: float, new: float):
        for scene in range(200):
            asked.append(scene)
            yield old, new

    better = try_replacement(scores(0.0, 1.0), ReplacementSettings(), 200)
    assert better.kept and len(asked) == len(better.new) < 30
    assert "10 points worse in at most 5%" in better.line and "refuses an equally" in better.line
    asked.clear()
    worse = try_replacement(scores(1.0, 0.0), ReplacementSettings(), 200)
    assert worse.verdict == "refused" and len(asked) < 40 and "refused" in worse.line
    few = try_replacement(scores(1.0, 1.0), ReplacementSettings(), 3)
    assert few.verdict == "refused" and len(few.old) == 3
    with pytest.raises(TrialError, match="scene 1: new: expected a score from 0 to 1"):
        ReplacementTest(ReplacementSettings(), 3).add(1.0, math.nan)


def test_limits_that_are_shown_are_narrow_at_every_time_and_leave_out_0_where_that_is_decided():
    a, b = PairedRates(0.5, 0.95).draw(1, 60, np.random.default_rng(6))
    comparison, widths = PairedComparison(["a", "b"]), {}
    for x, y in zip(a[0], b[0], strict=True):
        state = comparison.add({"a": float(x), "b": float(y)})
        (pair,) = state.pairs
        assert (pair.difference.low >= 0) == (pair.better == "b")
        widths[state.blocks] = state.means["b"].high - state.means["b"].low
    assert widths[20] < 0.6 and widths[60] < 0.35  # of a fixed number: 0.25 and 0.14
    assert pair.better == "b" and pair.difference.high < 0.9
