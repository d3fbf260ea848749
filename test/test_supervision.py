"""Episodes are judged by the whole signal; a missing reward is never a zero."""

import math

import pytest

from rewact_ros.supervision.episodes import Control, Episode, EpisodeSettings, Outcome, Phase, Want
from rewact_ros.supervision.monitor import MonitorSettings, ProgressMonitor

HOLD, POLICY, HUMAN, RESET = (Control(mode, "", False) for mode in (1, 2, 3, 4))


def feed(monitor, values, start_s=0.0, period_s=0.05):
    for i, value in enumerate(values):
        monitor.add(value, start_s + i * period_s)
    return monitor


def test_one_high_sample_does_not_decide():
    monitor = feed(ProgressMonitor(MonitorSettings()), [0.3] * 20 + [1.0] + [0.3] * 20)
    assert not monitor.complete
    assert monitor.peak < 0.9


def test_a_lasting_high_reward_completes():
    monitor = feed(ProgressMonitor(MonitorSettings()), [0.5] * 10 + [0.97] * 30)
    assert monitor.complete


def test_a_gap_forgets_the_dwell_but_not_the_peak():
    monitor = feed(ProgressMonitor(MonitorSettings()), [0.97] * 9)
    monitor.add(0.97, 10.0)
    assert not monitor.complete and monitor.peak == pytest.approx(0.97)


def test_missing_and_repeated_rewards_are_not_zeros():
    monitor = feed(ProgressMonitor(MonitorSettings()), [0.8] * 5)
    monitor.add(math.nan, 1.0)
    monitor.add(0.0, 0.1)
    assert monitor.filtered == pytest.approx(0.8)


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"dwell": 11}, {"dwell": 0}])
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MonitorSettings(**wrong)


class Run:
    """An episode with a fake clock and a hil that does as it is asked."""

    def __init__(self, **settings):
        self.episode = Episode(EpisodeSettings(**settings), ProgressMonitor(MonitorSettings()))
        self.t = 0.0
        self.control = HOLD
        self.obedient = True
        self.reward = 0.3

    def run(self, seconds):
        for _ in range(round(seconds / 0.05)):
            self.t += 0.05
            if self.obedient:
                self.control = {Want.HOLD: HOLD, Want.POLICY: POLICY, Want.RESET: RESET}[
                    self.episode.want
                ]
            if self.reward is not None:
                self.episode.reward(self.reward, self.t)
            self.episode.step(self.t, self.control)
        return self.episode

    def reset_done(self):
        self.run(0.5)
        self.obedient, self.control = False, HOLD
        self.run(0.1)
        self.obedient = True


def test_phases_run_in_order_to_a_success():
    r = Run(external_reset=True)
    assert r.run(0.2).phase is Phase.RESETTING
    r.reset_done()
    assert r.episode.phase is Phase.SCENE and r.episode.call_reset
    r.episode.scene_ready(True, "")
    assert r.run(1.0).phase is Phase.RUNNING
    r.reward = 0.98
    episode = r.run(2.0)
    assert episode.verdict.outcome is Outcome.SUCCESS
    assert episode.verdict.termination == "progress"
    assert 1.0 < episode.duration_s < 3.0


def test_a_timeout_is_a_failure_and_reports_the_peak():
    r = Run(reset_motion=False, timeout_s=3.0)
    episode = r.run(4.0)
    assert episode.verdict.outcome is Outcome.FAILURE
    assert episode.verdict.termination == "timeout" and "0.30" in episode.verdict.detail


def test_rewards_from_before_the_start_do_not_count():
    r = Run(reset_motion=False)
    r.obedient, r.control, r.reward = False, HOLD, 0.99
    r.run(1.0)
    assert math.isnan(r.episode.monitor.filtered)


def test_without_any_reward_nothing_is_claimed():
    r = Run(reset_motion=False, timeout_s=1.0)
    r.reward = None
    episode = r.run(2.0)
    assert episode.verdict.outcome is Outcome.FAILURE and math.isnan(episode.monitor.peak)


def test_a_hold_in_mid_task_is_unlabelled_not_a_failure():
    r = Run(reset_motion=False, hold_timeout_s=1.0)
    r.run(1.0)
    r.obedient, r.control = False, Control(1, "policy heartbeat is 0.2 s old", True)
    episode = r.run(2.0)
    assert episode.verdict.outcome is Outcome.UNLABELLED
    assert episode.verdict.termination == "hold" and "heartbeat" in episode.verdict.detail


@pytest.mark.parametrize("control", [None, Control(0, "disarmed by the operator", False)])
def test_losing_hil_ends_the_episode_unlabelled(control):
    r = Run(reset_motion=False)
    r.run(1.0)
    r.obedient, r.control = False, control
    assert r.run(0.1).verdict.outcome is Outcome.UNLABELLED


def test_a_failed_scene_reset_says_why():
    r = Run(external_reset=True, reset_motion=False)
    r.run(0.2)
    r.episode.scene_ready(False, "tray missing")
    assert "tray missing" in r.episode.verdict.detail


def test_a_persons_verdict_overrides():
    r = Run(reset_motion=False)
    r.run(1.0)
    r.episode.judge(Outcome.SUCCESS, "anna")
    assert r.episode.verdict.outcome is Outcome.SUCCESS and "anna" in r.episode.verdict.detail
    assert r.episode.want is Want.HOLD


def test_a_persons_turn_neither_ends_the_episode_nor_costs_it_time():
    r = Run(reset_motion=False, timeout_s=3.0, hold_timeout_s=1.0)
    r.run(1.0)
    r.obedient, r.control = False, HUMAN
    r.run(10.0)
    assert r.episode.verdict is None and r.episode.duration_s < 1.1
    r.reward = 0.99
    r.run(1.0)
    assert r.episode.verdict.outcome is Outcome.SUCCESS


def test_a_reset_motion_that_a_person_interrupts_is_not_over():
    r = Run()
    r.run(0.5)
    r.obedient, r.control = False, HUMAN
    r.run(1.0)
    r.control = HOLD
    assert r.run(0.2).phase is Phase.RESETTING
    r.obedient = True
    assert r.run(0.5).phase is Phase.RESETTING
    r.reset_done()
    assert r.episode.phase is not Phase.RESETTING
