"""Every mode of the reward composition against its formula, worked out by hand."""

import numpy as np
import pytest

from rewact_ros.reward.composition import (
    CompositionError,
    CompositionSettings,
    RewardComposition,
    compose_episode,
)

P = [0.1, 0.6, 0.4, 0.9, 0.8]
ENV = [0.5, -1.0, 0.0, 0.25, 2.0]


def rewards(probabilities=P, env_rewards=ENV, **settings):
    return compose_episode(CompositionSettings(**settings), probabilities, env_rewards).tolist()


def test_per_step_gives_success_or_fail_reward_at_every_step():
    given = rewards(success_reward=2.0, fail_reward=-0.1, reward_threshold=0.6)
    assert given == [-0.1, 2.0, -0.1, 2.0, 2.0]


def test_terminal_judges_the_last_step_alone():
    settings = {"reward_mode": "terminal", "success_reward": 3.0, "fail_reward": -1.0}
    assert rewards(**settings) == [0, 0, 0, 0, 3.0]
    assert rewards([*P[:-1], 0.2], **settings) == [0, 0, 0, 0, -1.0]
    assert rewards(interval_reward=-0.01, **settings) == [-0.01] * 4 + [3.0]


def test_success_needs_the_threshold_to_be_held():
    assert rewards(success_hold_steps=2) == [0, 0, 0, 0, 1]
    assert rewards(success_hold_steps=3) == [0, 0, 0, 0, 0]
    held = {"reward_mode": "terminal", "fail_reward": -1.0}
    assert rewards(success_hold_steps=2, **held)[-1] == 1
    assert rewards(success_hold_steps=3, **held)[-1] == -1


def test_a_probability_scales_the_success_reward_and_never_the_fail_reward():
    given = rewards(use_reward_prob=True, success_reward=2.0, fail_reward=-0.5)
    assert given == pytest.approx([-0.5, 1.2, -0.5, 1.8, 1.6])


def test_the_history_window_averages_and_says_nothing_before_it_is_full():
    given = rewards(history_window=3, use_reward_prob=True, interval_reward=-9.0)
    assert given == pytest.approx([-9, -9, 0, (0.6 + 0.4 + 0.9) / 3, (0.4 + 0.9 + 0.8) / 3])


def test_a_step_that_was_not_judged_gets_the_interval_reward_and_breaks_no_hold():
    probabilities = [0.9, None, float("nan"), 0.9, 0.9]
    given = rewards(probabilities, success_hold_steps=2, interval_reward=0.2, fail_reward=-1)
    assert given == [-1, 0.2, 0.2, 1, 1]
    terminal = rewards([0.9, None], [0, 0], reward_mode="terminal", interval_reward=0.2)
    assert terminal == [0.2, 0.2]


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"combine_mode": "replace"}, lambda env, model: model),
        ({"combine_mode": "add"}, lambda env, model: env + model),
        (
            {"combine_mode": "weighted", "reward_weight": 0.7, "env_reward_weight": 0.3},
            lambda env, model: 0.3 * env + 0.7 * model,
        ),
    ],
    ids=["replace", "add", "weighted"],
)
def test_the_environments_reward_enters_by_the_combine_modes_formula(settings, formula):
    settings = CompositionSettings(use_reward_prob=True, fail_reward=-0.5, **settings)
    composition = RewardComposition(settings)
    for probability, env in zip(P, ENV, strict=True):
        step = composition.step(probability, env)
        assert step.reward == pytest.approx(formula(env, step.model_reward))
        assert step.success == (probability >= 0.5)


def test_weight_zero_leaves_exactly_the_environments_reward():
    settings = CompositionSettings(
        combine_mode="weighted", reward_weight=0.0, env_reward_weight=1.0, fail_reward=-5.0
    )
    assert not settings.uses_model and settings.uses_env_reward
    np.testing.assert_array_equal(compose_episode(settings, [None] * 5, ENV), ENV)


def test_a_new_episode_starts_without_the_last_ones_history():
    composition = RewardComposition(CompositionSettings(success_hold_steps=2, history_window=2))
    first = [composition.step(p).reward for p in (0.9, 0.9, 0.9)]
    composition.reset()
    assert [composition.step(p).reward for p in (0.9, 0.9, 0.9)] == first == [0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reward_mode": "dense"}, "reward_mode.*per_step, terminal.*dense"),
        ({"combine_mode": "mean"}, "combine_mode.*replace, add, weighted.*mean"),
        ({"reward_threshold": 0.0}, "reward_threshold.*0 < x <= 1"),
        ({"success_hold_steps": 0}, "success_hold_steps.*at least 1"),
        ({"history_window": 0}, "history_window.*at least 1"),
        ({"fail_reward": float("nan")}, "fail_reward.*nan"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, words):
    with pytest.raises(CompositionError, match=words):
        CompositionSettings(**settings)


def test_nothing_is_made_up_for_a_missing_or_impossible_value():
    with pytest.raises(CompositionError, match="env_reward.*add.*None"):
        RewardComposition(CompositionSettings(combine_mode="add")).step(0.5)
    for bad in (1.2, -0.1, float("nan")):
        with pytest.raises(CompositionError, match="probability"):
            RewardComposition(CompositionSettings()).step(bad)
    with pytest.raises(CompositionError, match="env_rewards: expected 5.*got 2"):
        rewards(env_rewards=[0, 0])
