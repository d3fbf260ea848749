"""Simulated labs judge as they are told to, and what they keep is counted against the truth."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from calibration import BASIS, RATES, _saturated, signals_of
from calibration_labs import Condition, Lab, Pool, made_up, pool_of, realised

from rewact_ros.supervision.calibration import CalibrationSettings
from rewact_ros.supervision.episode_signals import Cut

LOOSE = replace(RATES, beta=0.2, alpha=0.9)


@pytest.fixture(scope="module")
def pool():
    return Pool.of([signals_of(made_up(seed)) for seed in range(60)], RATES.verdict_s)


def judged(episode, **condition):
    return Lab(Condition(**condition), LOOSE)._judged(episode, np.random.default_rng(0))


def test_people_judge_as_the_condition_says(pool):
    for episode in pool.episodes[:8]:
        assert judged(episode).success == episode.success
        wrong = judged(episode, wrong=1.0)
        assert (wrong.success is None) is (episode.success is not None)
        assert wrong.cut is Cut.WORK
        late = judged(episode, reaction_s=0.5).success
        if episode.success is not None:
            assert late != episode.success and abs(late - episode.success) <= 10
            assert judged(episode, early_s=0.5).success == episode.success - 10
            assert judged(episode, lenient=1.0).success == episode.success
        else:
            assert judged(episode, lenient=1.0).success is not None


def test_rates_are_counted_against_the_truth(pool):
    made = Lab(Condition(), LOOSE).calibrate(pool.episodes, BASIS, np.random.default_rng(0))
    index = np.arange(60)
    everything = realised(pool, index, replace_threshold(made, -1.0))
    assert everything["false_completions"] == everything["found"] == 1.0
    nothing = realised(pool, index, replace_threshold(made, 2.0))
    assert nothing["false_completions"] == nothing["found"] == 0.0
    assert realised(pool, index, made)["false_completions"] <= 0.25


def replace_threshold(made, value):
    return replace(made, completion=replace(made.completion, threshold=value))


def test_a_second_look_finds_the_successes_that_were_called_failures(pool):
    wrong = [
        replace(e, success=None, cut=Cut.WORK) if i == 1 else replace(e, cut=Cut.WORK)
        for i, e in enumerate(pool.episodes)
    ]

    class Once(Lab):
        def _judged(self, episode, rng):
            return wrong[int(episode.name.split()[1])]

    condition = Condition()
    plain = CalibrationSettings(0.02, 0.9, completion="plain")
    rng = np.random.default_rng(0)
    before = Once(condition, plain).calibrate(pool.episodes, BASIS, rng)
    after = Once(replace(condition, second_look=True), plain).calibrate(pool.episodes, BASIS, rng)
    assert after.completion.threshold < before.completion.threshold
    assert after.successes == before.successes + 1


def test_a_spoilt_head_is_near_one_first_and_a_pool_is_like_what_was_recorded():
    recorded, rng = [made_up(seed) for seed in range(20)], np.random.default_rng(0)
    for before, after in zip(recorded, _saturated(recorded, rng), strict=True):
        more = len(after.mean) - len(before.mean)
        assert 20 <= more <= 40 and after.mean[:more].min() > 0.9
        assert np.array_equal(after.success[more:], before.success)
    made = pool_of(recorded, 40, 0.5, rng, signals_of)
    assert 10 <= made.succeeds.sum() <= 30
    assert len({e.name for e in made.episodes}) == 40
