"""Signals of an episode, the judgement from them, and how alarms climb to a human."""

import math

import numpy as np
import pytest

from rewact_ros.supervision.escalation import Escalation, EscalationSettings, Ladder, Step
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import (
    FeatureDistance,
    PolicySample,
    SignalSettings,
    SignalTracker,
)

PERIOD_S = 0.05


def feed(target, means, start_s=0.0, gap=0.05, **further):
    """Feed rewards whose q10 lies `gap` below the mean; return the stamp after the last."""
    for i, mean in enumerate(means):
        target.add(PolicySample(start_s + i * PERIOD_S, mean, mean - gap, **further))
    return start_s + len(means) * PERIOD_S


def test_completion_looks_at_the_lower_quantile_and_what_most_of_a_window_holds():
    tracker = SignalTracker(SignalSettings(dwell=8, window=10, filter_s=1e-6))
    feed(tracker, [0.9] * 9)
    assert math.isnan(tracker.signals.held)  # no full window yet
    feed(tracker, [0.2, 0.2], start_s=9 * PERIOD_S)
    assert tracker.signals.held == pytest.approx(0.85)  # two of ten may be low
    feed(tracker, [0.2], start_s=11 * PERIOD_S)
    assert tracker.signals.held == pytest.approx(0.15)


def test_a_sigmoid_head_is_judged_by_its_mean():
    tracker = SignalTracker(SignalSettings(level="mean"))
    for i in range(10):
        tracker.add(PolicySample(i * PERIOD_S, 0.7))
    assert tracker.signals.held == pytest.approx(0.7)


def test_an_absent_reward_is_unknown_and_not_zero():
    tracker = SignalTracker()
    assert math.isnan(tracker.signals.progress) and tracker.signals.staleness_s(5.0) == math.inf
    feed(tracker, [0.6] * 12)
    before = tracker.signals
    for mean, q10 in ((None, None), (math.nan, 0.5), (0.6, None)):
        tracker.add(PolicySample(3.0, mean, q10))
    assert tracker.signals is before
    assert before.staleness_s(3.0) == pytest.approx(3.0 - 11 * PERIOD_S)


def test_stall_counts_from_the_last_new_maximum_and_noise_is_none():
    tracker = SignalTracker(SignalSettings(filter_s=1e-6, rise=0.01))
    t = feed(tracker, np.linspace(0.0, 0.5, 21))
    feed(tracker, [0.5 + 0.004 * (i % 2) for i in range(40)], start_s=t)
    assert tracker.signals.stall_s == pytest.approx(2.0)
    tracker.add(PolicySample(10.0, 0.52, 0.5))
    assert tracker.signals.stall_s == 0.0


def test_drawdown_and_cusum_see_a_drop():
    tracker = SignalTracker(SignalSettings(filter_s=1e-6))
    t = feed(tracker, np.linspace(0.0, 0.6, 20))
    assert tracker.signals.drawdown == 0.0 and tracker.signals.slope_cusum == 0.0
    feed(tracker, np.linspace(0.6, 0.2, 9), start_s=t)
    assert tracker.signals.drawdown == pytest.approx(0.4)
    assert tracker.signals.peak == pytest.approx(0.6)
    assert tracker.signals.slope_cusum == pytest.approx(0.4, abs=0.05)


def test_a_gap_restarts_the_dwell_window_and_keeps_the_maximum():
    tracker = SignalTracker()
    feed(tracker, [0.9] * 12)
    tracker.add(PolicySample(20.0, 0.3, 0.2))
    assert math.isnan(tracker.signals.held) and tracker.signals.progress == pytest.approx(0.3)
    assert tracker.signals.drawdown == pytest.approx(0.6)


def test_disagreement_compares_chunks_where_they_overlap():
    tracker = SignalTracker()
    plan = np.arange(20, dtype=float)[:, None]
    tracker.add(PolicySample(0.0, 0.5, 0.4, actions=plan[:10]))
    tracker.add(PolicySample(0.1, 0.5, 0.4, actions=plan[2:12]))
    assert tracker.signals.disagreement == pytest.approx(0.0)
    tracker.add(PolicySample(0.15, 0.5, 0.4, actions=plan[3:13] + 0.5))
    assert tracker.signals.disagreement == pytest.approx(0.5)
    tracker.add(PolicySample(5.0, 0.5, 0.4, actions=plan[:10]))
    assert math.isnan(tracker.signals.disagreement)


def test_feature_distance_is_the_mahalanobis_distance_per_dimension():
    rng = np.random.default_rng(0)
    scales = np.array([0.5, 1.0, 5.0])
    distance = FeatureDistance.fit(rng.normal(size=(20000, 3)) * scales + 2.0)
    typical = distance(rng.normal(size=(5000, 3)) * scales + 2.0)
    assert np.mean(typical**2) == pytest.approx(1.0, rel=0.05)
    far = distance(np.array([2.0 + 3.0, 2.0, 2.0]))
    assert far == pytest.approx(6 / math.sqrt(3), rel=0.05)


def test_fewer_features_than_dimensions_give_a_finite_distance():
    rng = np.random.default_rng(0)
    few = rng.normal(size=(10, 64))
    values = FeatureDistance.fit(few)(rng.normal(size=(50, 64)))
    assert np.isfinite(values).all() and (values > 0).all()
    with pytest.raises(ValueError, match="vary"):
        FeatureDistance.fit(np.ones((10, 4)))


@pytest.mark.parametrize("wrong", [{"level": "q50"}, {"dwell": 11}, {"filter_s": 0.0}])
def test_impossible_signal_settings_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SignalSettings(**wrong)


def test_complete_has_hysteresis_and_exactly_the_threshold_is_not_above_it():
    monitor = EpisodeMonitor(
        Thresholds(completion=0.8, hysteresis=0.1), SignalSettings(level="mean", filter_s=1e-6)
    )
    t = feed(monitor, [0.8] * 10)
    assert not monitor.step(t).complete
    t = feed(monitor, [0.85] * 10, start_s=t)
    assert monitor.step(t).complete
    t = feed(monitor, [0.75] * 10, start_s=t)
    assert monitor.step(t).complete
    t = feed(monitor, [0.65] * 10, start_s=t)
    assert not monitor.step(t).complete


def test_each_signal_above_its_threshold_is_an_alarm_by_name():
    thresholds = Thresholds(stall_s=2.0, drawdown=0.3, novelty=3.0, staleness_s=0.5)
    distance = FeatureDistance(np.zeros(2, np.float32), np.eye(2, dtype=np.float32))
    monitor = EpisodeMonitor(thresholds, distance=distance)
    t = feed(monitor, [0.6] * 20, features=np.zeros(2))
    assert monitor.step(t).alarms == frozenset()
    t = feed(monitor, [0.2] * 40, start_s=t, features=np.full(2, 5.0))
    assert monitor.step(t).alarms == {"stall", "drawdown", "novelty"}
    assert "staleness" in monitor.step(t + 1.0).alarms


def test_a_policy_that_never_speaks_becomes_stale():
    monitor = EpisodeMonitor()
    assert not monitor.step(100.0).alarms
    assert monitor.step(101.0).alarms == {"staleness"}


def test_a_humans_turn_raises_no_alarm_and_the_past_is_forgotten_after_it():
    monitor = EpisodeMonitor(Thresholds(drawdown=0.3))
    t = feed(monitor, [0.6] * 20)
    t = feed(monitor, [0.1] * 20, start_s=t)
    assert "drawdown" in monitor.step(t).alarms
    assert not monitor.step(t, human=True).alarms
    assert not monitor.step(t + 5.0).alarms
    t = feed(monitor, [0.1] * 5, start_s=t + 5.0)
    assert not monitor.step(t).alarms


def test_an_alarm_climbs_from_warning_to_hold_and_clears_when_it_falls_silent():
    ladder = Escalation(EscalationSettings(default=Ladder(warn_s=0.5, hold_s=1.0)))
    assert ladder.step(0.0, {"stall"}, False).step is Step.NONE
    assert ladder.step(0.6, {"stall"}, False).step is Step.WARN
    assert ladder.step(0.7, set(), False).step is Step.NONE
    assert ladder.step(0.8, {"stall"}, False).step is Step.NONE  # the clock began anew
    decision = ladder.step(1.8, {"stall"}, False)
    assert decision.step is Step.HOLD and decision.signal == "stall"
    assert "stall alarm for 1.0 s" in decision.reason


def test_a_hold_waits_for_a_human_even_if_the_alarm_ends():
    ladder = Escalation(EscalationSettings(default=Ladder(hold_s=0.0)))
    assert ladder.step(0.0, {"drawdown"}, False).step is Step.HOLD
    assert ladder.step(1.0, set(), False).step is Step.HOLD
    assert ladder.step(2.0, set(), True).step is Step.NONE
    assert ladder.step(3.0, set(), False).step is Step.NONE


def test_nobody_answering_aborts_and_abort_stays():
    settings = EscalationSettings(default=Ladder(hold_s=0.0), human_silence_s=10.0)
    ladder = Escalation(settings)
    ladder.step(0.0, {"novelty"}, False)
    assert ladder.step(9.9, set(), False).step is Step.HOLD
    decision = ladder.step(10.1, set(), False)
    assert decision.step is Step.ABORT and "nobody answered for 10 s" in decision.reason
    assert ladder.step(11.0, set(), True).step is Step.ABORT


@pytest.mark.parametrize(
    "settings",
    [
        EscalationSettings(default=Ladder(hold_s=0.0, holds=2), holds=9),
        EscalationSettings(default=Ladder(hold_s=0.0, holds=9), holds=2),
    ],
    ids=["of the signal", "of the episode"],
)
def test_a_spent_budget_of_requests_aborts(settings):
    ladder = Escalation(settings)
    for t in (0.0, 10.0):
        assert ladder.step(t, {"stall"}, False).step is Step.HOLD
        assert ladder.step(t + 1, {"stall"}, True).step is Step.NONE
    decision = ladder.step(20.0, {"stall"}, False)
    assert decision.step is Step.ABORT and "no request for a human left" in decision.reason


def test_signals_have_ladders_of_their_own_and_the_highest_rung_leads():
    ladders = {"novelty": Ladder(hold_s=math.inf), "stall": Ladder(hold_s=1.0, abort_s=2.0)}
    ladder = Escalation(EscalationSettings(ladders=ladders))
    assert ladder.step(0.0, {"novelty"}, False).step is Step.WARN
    assert ladder.step(60.0, {"novelty", "stall"}, False).signal == "novelty"
    decision = ladder.step(61.0, {"novelty", "stall"}, False)
    assert (decision.step, decision.signal) == (Step.HOLD, "stall")


def test_ladders_out_of_order_are_refused():
    with pytest.raises(ValueError, match="warn_s, hold_s, abort_s"):
        Ladder(warn_s=2.0, hold_s=1.0)
