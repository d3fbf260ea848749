"""A supervisor of several tasks: each has thresholds, time-out, policy and judge of its own."""

from dataclasses import replace

import pytest
from test_supervisor import CALIBRATED, CALIBRATION, HOLD, TICK_S, Bench

from rewact_ros.policy.task_table import ByTask
from rewact_ros.supervision.batch import Plan
from rewact_ros.supervision.episodes import Phase, Want
from rewact_ros.supervision.judging import RewardSource
from rewact_ros.supervision.supervisor import RefusedError
from rewact_ros.supervision.task_rule import TaskRule
from rewact_ros.supervision.verdict import Outcome, Termination


def judging(reward_hash, policy, completion):
    """Calibrated on rewards of this hash, with this threshold of completion."""
    basis = replace(CALIBRATION.basis, reward_hash=reward_hash, policy_version=policy)
    bound = replace(CALIBRATION.completion, threshold=completion)
    return replace(CALIBRATED, calibration=replace(CALIBRATION, basis=basis, completion=bound))


def rule(name, completion, timeout_s):
    return TaskRule(judging(f"of {name}", name, completion), timeout_s, name, f"/{name}", name)


PUT, SORT = (RewardSource(f"of {name}", name, True, name) for name in ("put", "sort"))


@pytest.fixture
def bench(tmp_path):
    rules = ByTask([("put*", rule("put", 0.5, 3.0)), ("sort*", rule("sort", 0.9, 1.0))], "t.yaml")
    bench = Bench(tmp_path, rules, source=None)
    bench.it.hear_policy("put")
    bench.it.hear(PUT)
    return bench


def verdict(bench):
    return bench.it.memory.now.last.verdict


def test_each_task_is_judged_by_its_own_thresholds_for_its_own_time(bench):
    bench.reward = 0.7
    bench.goal(task="put it there")
    bench.run(1.5)
    assert verdict(bench).outcome is Outcome.SUCCESS
    batch = bench.goal(task="SORT them")
    bench.run(0.3)
    bench.it.hear_policy("sort")
    bench.it.hear(SORT)
    bench.run(0.2)
    assert "false completions" in bench.it.promise and not bench.it.misfit
    bench.run(1.2)
    assert batch.over and verdict(bench).termination is Termination.TIMEOUT
    assert "1 s" in verdict(bench).detail
    batch = bench.goal(task="sort", timeout_s=2.0)
    bench.run(1.5)
    assert not batch.over, "a goal's own time-out goes before the row's"


def test_the_policy_does_not_lead_before_its_heartbeat_has_the_tasks_version(bench):
    bench.goal(task="sort")
    for _ in range(20):
        bench.run(TICK_S)
        assert bench.it.want is Want.HOLD, "another task's policy would move the arm"
    assert bench.it.episode.phase is Phase.RUNNING
    assert "waits for policy: expected sort of /sort, got put" in bench.text
    bench.it.hear_policy("sort")
    bench.run(TICK_S)
    assert bench.it.want is Want.POLICY


def test_the_same_policy_leads_at_once(bench):
    bench.goal(task="put")
    bench.run(TICK_S)
    assert bench.it.want is Want.POLICY


def test_a_policy_that_does_not_come_ends_the_episode_with_both_versions_and_the_time(bench):
    bench.goal(task="sort")
    bench.run(5.5)
    words = "policy did not start: policy: expected sort of /sort, got put for 5 s"
    assert verdict(bench).detail == words and verdict(bench).termination is Termination.HOLD
    bench.it.hear_policy("")  # such as before it has loaded
    bench.goal(task="sort")
    bench.run(5.5)
    assert "got none" in verdict(bench).detail


def test_a_policy_that_changes_within_an_episode_stops_leading_at_the_next_tick(bench):
    bench.it.hear_policy("sort")
    bench.it.hear(SORT)
    batch = bench.goal(task="sort", timeout_s=20.0)
    bench.run(1.0)
    assert bench.it.want is Want.POLICY
    bench.it.hear_policy("put")  # it was restarted, and knows of no task
    bench.run(TICK_S)
    assert bench.it.want is Want.HOLD
    bench.run(5.5)
    assert batch.over and "expected sort of /sort, got put" in verdict(bench).detail


def test_rewards_of_another_tasks_judge_neither_count_nor_end_the_episode(bench):
    bench.it.hear_policy("sort")
    bench.goal(task="sort")  # while put's judge still speaks
    assert "no reward received yet" in bench.it.bound
    bench.reward = 0.99
    bench.run(0.9)
    assert bench.it.episode is not None and bench.it.episode.peak != bench.it.episode.peak
    bench.run(1.0)
    assert verdict(bench).termination is Termination.TIMEOUT
    assert verdict(bench).outcome is Outcome.UNLABELLED


def test_the_right_judge_with_another_reward_is_a_misfit_as_ever(bench):
    bench.it.hear_policy("sort")
    bench.goal(task="sort")
    bench.it.hear(replace(SORT, reward_hash="another"))
    bench.run(TICK_S)
    assert "reward_hash: expected of sort, got another" in verdict(bench).detail


def test_a_goal_that_no_row_matches_is_refused_with_the_patterns(bench):
    with pytest.raises(RefusedError, match=r"t\.yaml matches \('put\*', 'sort\*'\), got 'dance'"):
        bench.goal(task="dance")
    assert "goal refused: task: expected one that a pattern" in bench.text
    assert bench.it.batch is None


def test_a_goal_is_compared_with_its_own_rows_time_out(bench):
    with pytest.raises(RefusedError, match="timeout_s: expected 20.0, got 30.0"):
        bench.goal(task="sort", timeout_s=30.0)


def test_a_preempting_task_brings_its_own_rule(bench):
    bench.goal(task="put", timeout_s=20.0)
    bench.run(0.5)
    assert bench.it.want is Want.POLICY
    bench.goal(task="sort", preempt=True)
    bench.run(0.5)
    assert bench.it.memory.now.last.task == "sort" and bench.it.want is Want.HOLD
    bench.it.hear_policy("sort")
    bench.run(TICK_S)
    assert bench.it.want is Want.POLICY


def test_what_a_restart_left_of_a_batch_goes_on_under_its_tasks_rule(bench):
    bench.it.memory.keep(Plan("sort", 0.0, 2))
    bench.it.continue_batch(HOLD)
    bench.run(TICK_S)
    assert bench.it.want is Want.HOLD and "expected sort" in bench.text
