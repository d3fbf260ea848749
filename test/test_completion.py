"""Completion by the rise of the reward: heads that are near 1 too early, and ones that are not."""

from dataclasses import replace

import numpy as np
import pytest

from rewact_ros.supervision.calibration import Basis, CalibrationSettings, load_calibration
from rewact_ros.supervision.conformal import calibrate, compare, recognised
from rewact_ros.supervision.episode_signals import CalibrationEpisode
from rewact_ros.supervision.judging import Judging, RewardSource
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import (
    ENGAGED,
    PLAIN,
    PolicySample,
    SignalSettings,
    SignalTracker,
)

RATE_HZ, FRAMES = 20.0, 160
BASIS = Basis("reward", "policy", "contract", ("front",), RATE_HZ, FRAMES / RATE_HZ)
RATES = CalibrationSettings(beta=0.1, alpha=0.5)


def curve(rng, success, head):
    """(N,) predicted progress of an episode that succeeds at a frame, or stays below 0.6."""
    frames = np.arange(FRAMES if success is None else success + 30)
    top = rng.uniform(0.3, 0.6) if success is None else rng.uniform(0.93, 1.0)
    start = rng.integers(30, 45)  # until then nothing has begun
    end = FRAMES if success is None else success
    level = np.clip((frames - start) / (end - start), 0, 1) * top
    if head == "saturated":
        level[: start - 10] = rng.uniform(0.95, 1.0)
        if success is None and rng.uniform() < 0.7:
            level[:] = rng.uniform(0.95, 1.0)  # and throughout most failures
    return np.clip(level + rng.normal(0, 0.01, len(frames)), 0, 1)


def signals_of(values, settings=None):
    tracker = SignalTracker(settings or SignalSettings())
    return [tracker.add(PolicySample(i / RATE_HZ, v, v)) for i, v in enumerate(values)]


def episodes_of(count, head, seed):
    """Two of three succeed."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        success = int(rng.integers(90, 120)) if i % 3 else None
        signals = signals_of(curve(rng, success, head))
        found.append(CalibrationEpisode.of(f"{head} {i}", signals, None, success))
    return found


@pytest.fixture(scope="module")
def recorded():
    return {head: episodes_of(90, head, 0) for head in ("normal", "saturated")}


def test_a_reward_that_is_high_before_anything_has_begun_has_not_risen():
    high, rising = [0.97] * 40, [*np.linspace(0, 0.95, 60), *[0.95] * 20]
    always = signals_of([0.97] * 160)
    assert always[-1].held > 0.96 and max(s.engaged for s in always[9:]) < 0.01
    later = signals_of(high + [0.02] * 20 + rising)
    assert max(s.engaged for s in later[9:40]) < 0.01 and later[-1].engaged > 0.9
    assert np.isnan(later[8].engaged)  # one sample never decides
    dip = signals_of([*high, 0.0, *high])
    assert max(s.engaged for s in dip[9:]) < 0.3  # nor does one make a low


def test_a_saturated_head_is_judged_by_its_rise_and_a_normal_one_as_ever(recorded):
    found = {head: calibrate(episodes, SignalSettings(), BASIS, RATES)
             for head, episodes in recorded.items()}  # fmt: skip
    assert {head: c.signals.completion for head, c in found.items()} == {
        "normal": PLAIN,
        "saturated": ENGAGED,
    }
    fresh = episodes_of(200, "saturated", 1)
    hits, of = recognised(fresh, found["saturated"])
    assert hits > 0.95 * of
    plain = calibrate(
        recorded["saturated"],
        SignalSettings(),
        BASIS,
        CalibrationSettings(0.1, 0.5, completion=PLAIN),
    )
    assert recognised(fresh, plain)[0] < 0.3 * of
    assert "engaged-first" in found["saturated"].claim(BASIS)
    assert "engaged-first" not in found["normal"].claim(BASIS)


def test_the_threshold_comes_from_episodes_that_did_not_choose_the_score(recorded):
    found = calibrate(recorded["saturated"], SignalSettings(), BASIS, RATES)
    aside, costs = compare(recorded["saturated"], found)
    assert (aside, found.completion.n) == (23, 67)  # a quarter of 90
    assert [cost.rule for cost in costs] == [PLAIN, ENGAGED]
    assert costs[1].threshold == found.completion.threshold
    assert costs[1].found > costs[0].found
    few = calibrate(recorded["saturated"][:11], SignalSettings(), BASIS, RATES)
    assert few.signals.completion == PLAIN and few.completion.n == 11  # none left for a choice


def test_a_choice_among_two_scores_keeps_the_rate():
    rates, rng = CalibrationSettings(0.1, 0.9), np.random.default_rng(0)
    pool = episodes_of(240, "saturated", 2)
    shares = []
    for _ in range(60):
        order = rng.permutation(len(pool))
        made = calibrate([pool[i] for i in order[:40]], SignalSettings(), BASIS, rates)
        rule, limit = made.signals.completion, made.completion.threshold
        fresh = [pool[i] for i in order[40:]]
        early = [np.nanmax(np.append(e.known(rule)[: e.success], 0)) > limit for e in fresh]
        shares.append(np.mean(early))
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(len(shares))


# A person in between -----------------------------------------------------------------------------


def engaged_monitor():
    return EpisodeMonitor(Thresholds(completion=0.6), SignalSettings(completion=ENGAGED))


def run(monitor, first, values, human=False):
    for i, value in enumerate(values, first):
        monitor.add(PolicySample(i / RATE_HZ, value, value))
        judged = monitor.step(i / RATE_HZ, human)
    return judged, first + len(values)


def test_what_a_person_finished_completes_though_the_policy_goes_on_at_the_top():
    monitor = engaged_monitor()
    _, at = run(monitor, 0, [0.97] * 15 + [0.05] * 15)
    judged, at = run(monitor, at, np.linspace(0.05, 0.95, 40), human=True)
    judged, at = run(monitor, at, [0.95] * 9)
    assert not judged.complete  # begins anew
    judged, at = run(monitor, at, [0.95] * 6)
    assert judged.complete


def test_a_resume_with_the_task_nearly_done_can_still_complete():
    monitor = engaged_monitor()
    _, at = run(monitor, 0, [0.05] * 20 + [0.7] * 5)
    monitor.resume(at / RATE_HZ)
    judged, at = run(monitor, at, [0.9] * 20)
    assert judged.complete


def test_a_low_that_only_the_person_saw_counts_and_another_episodes_does_not():
    monitor = engaged_monitor()
    _, at = run(monitor, 0, [0.97] * 20)
    _, at = run(monitor, at, [0.1] * 20, human=True)
    judged, at = run(monitor, at, [0.95] * 20)
    assert judged.complete
    monitor.tracker.reset()
    judged, at = run(monitor, at, [0.95] * 20)
    assert not judged.complete


# Groups ------------------------------------------------------------------------------------------


def grouped(count, name, shift):
    made = episodes_of(count, "normal", count)
    return [replace(e, group=name, held=e.held * shift, engaged=None) for e in made]


def test_a_group_with_enough_episodes_has_a_bound_of_its_own_and_another_claims_none(tmp_path):
    asked = CalibrationSettings(0.1, 0.5, groups="task")
    episodes = grouped(60, "pour", 1.0) + grouped(60, "stack", 0.5) + grouped(5, "fold", 1.0)
    made = calibrate(episodes, SignalSettings(), BASIS, asked)
    made.save(tmp_path / "calibration.json")
    found = load_calibration(tmp_path / "calibration.json")
    assert found.groups == made.groups and set(found.groups.bounds) == {"pour", "stack"}
    assert found.groups.counts == {"fold": 5, "pour": 60, "stack": 60}
    judging = Judging("contract", ("front",), RATE_HZ, calibration=found)
    source = RewardSource("reward", "policy", True)
    limits = {
        t: judging.monitor(source, t).thresholds.completion for t in ("pour", "stack", "fold")
    }
    assert limits["stack"] < 0.55 < limits["pour"]
    assert limits["fold"] == found.completion.threshold
    assert "(n 60, of task 'stack')" in judging.bound(source, 5.0, "stack")
    assert judging.bound(source, 5.0, "fold").startswith(
        "bound: not claimed (5 episodes of task 'fold' are too few)"
    )
    assert "0 episodes of task 'dance'" in judging.bound(source, 5.0, "dance")
    assert judging.bound(source, 5.0).startswith("bound: false completions <= 0.1 (n 125)")
