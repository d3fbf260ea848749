"""Bounds and memories of the supervisor's small parts: ladders, reset check, classifier."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rewact_ros.supervision.batch import Batch, Plan
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import Control, Episode, EpisodeSettings
from rewact_ros.supervision.escalation import Escalation, EscalationSettings, Ladder, Step
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.reset import REWARDS, ResetCheck
from rewact_ros.supervision.signals import (
    FeatureDistance,
    PolicySample,
    SignalSettings,
    SignalTracker,
)
from rewact_ros.supervision.status import idle_text, phase_name, running_text
from rewact_ros.supervision.verdict import Change, Termination

# Ladders and requests for a human -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ladder"),
    [
        ("warn 0, hold 1, abort 30", Ladder(0.0, 1.0, 30.0, 3)),
        ("warn 0", Ladder(0.0, math.inf, math.inf, 3)),
        ("hold 2", Ladder(2.0, 2.0, math.inf, 3)),
        ("abort 4", Ladder(4.0, 4.0, 4.0, 3)),
        ("", Ladder(math.inf, math.inf, math.inf, 3)),
    ],
)
def test_a_rung_left_out_is_not_climbed_to_before_the_next(text, ladder):
    assert Ladder.parse(text) == ladder


@pytest.mark.parametrize("text", ["shout 1", "warn", "warn soon", "warn1", "hold 1 warn 0"])
def test_a_ladder_that_cannot_be_read_names_the_rung(text):
    with pytest.raises(ValueError, match=f"expected rungs such as .*got '{text}'"):
        Ladder.parse(text)


def test_budgets_may_be_nothing_and_not_less():
    assert Ladder.parse("hold 0", 0).holds == 0
    assert EscalationSettings(holds=0, human_silence_s=0.1).holds == 0
    with pytest.raises(ValueError, match="holds: expected 0 or more, got -1"):
        Ladder(holds=-1)
    for wrong in ({"holds": -1}, {"human_silence_s": 0.0}, {"human_silence_s": math.nan}):
        with pytest.raises(ValueError, match="holds, human_silence_s: expected"):
            EscalationSettings(**wrong)


def test_silence_counts_from_the_request_and_ends_it_only_when_it_is_over():
    escalation = Escalation(EscalationSettings(default=Ladder(0.0, 0.0), human_silence_s=2.0))
    assert escalation.step(10.0, ["stall"], False).step is Step.HOLD
    assert escalation.step(12.0, ["stall"], False).step is Step.HOLD
    assert escalation.step(12.1, ["stall"], False).step is Step.ABORT


def test_after_an_answer_an_alarm_that_stands_begins_anew():
    escalation = Escalation(EscalationSettings(default=Ladder(0.0, 1.0)))
    for now_s in (0.0, 1.0):
        decision = escalation.step(now_s, ["stall"], False)
    assert decision.step is Step.HOLD
    escalation.answered()
    assert escalation.decision.step is Step.NONE
    assert escalation.step(1.5, ["stall"], False).step is Step.WARN
    assert escalation.step(2.4, ["stall"], False).step is Step.WARN
    assert escalation.step(2.5, ["stall"], False).step is Step.HOLD


# The check of a reset -----------------------------------------------------------------------------


def test_a_joint_at_the_tolerance_is_near_enough():
    check = ResetCheck(("a", "b"), (0.0, 1.0), tolerance=0.25)
    check.joints((0.25, 0.75))
    assert check.fault() == ""
    check.joints((0.25, 0.5))
    assert check.fault() == "b: expected 1.000 within 0.25, got 0.500"


def test_every_reward_after_a_reset_must_be_low_and_those_before_do_not_count():
    check = ResetCheck(reward_below=0.5)
    for value in (0.9, *[0.1] * (REWARDS - 1)):
        check.reward(value)
    assert "got 0.90" in check.fault()  # one of them is enough
    check.restart()
    assert check.fault() == f"expected {REWARDS} rewards since the reset, got 0"
    for _ in range(REWARDS):
        check.reward(0.5)
    assert "expected below 0.5, got 0.50" in check.fault()
    for _ in range(REWARDS):
        check.reward(0.49)
    assert check.fault() == ""


# The classifier's word ----------------------------------------------------------------------------


def test_probabilities_from_0_to_1_count_and_none_twice():
    gate = ClassifierGate(0.5, 2, max_age_s=1.0)
    for value, stamp_s in ((1.0, 1.0), (1.0, 1.0), (1.5, 1.2), (-0.1, 1.3), (1.0, 0.9)):
        gate.add(value, stamp_s)
        assert gate.fault(1.3)  # one judgement
    gate.add(1.0, 2.0)  # as old as it may be
    assert gate.fault(3.0) == ""
    assert gate.fault(3.01) == "rewact/success is older than 1 s"
    gate.add(0.0, 2.5)
    assert gate.fault(2.5) == "success probability not held above 0.5"


def test_another_episode_begins_with_no_judgement():
    gate = ClassifierGate(0.5, 2, max_age_s=10.0)
    gate.add(0.9, 1.0)
    gate.reset()
    assert gate.fault(1.0) == "no rewact/success received"
    gate.add(0.9, 1.1)
    assert gate.fault(1.1) == "success probability not held above 0.5"


# The line -----------------------------------------------------------------------------------------


def batch_of(tick_ladder="warn 0, hold 9", episodes=2):
    thresholds = Thresholds(stall_s=0.5)
    escalation = EscalationSettings(default=Ladder.parse(tick_ladder))
    settings = EpisodeSettings(reset_motion=False)
    return Batch(
        Plan("tidy up", 20.0, episodes),
        lambda: Episode(settings, lambda: EpisodeMonitor(thresholds, escalation=escalation)),
        lambda: "e1",
    )


def test_the_line_of_each_phase_is_whole_and_says_what_is_to_be_done():
    hold, leads = Control(1, "armed", False), Control(2, "policy leads", False)
    assert phase_name(None) == "idle"
    batch = batch_of()
    batch.pause("by anna")
    assert phase_name(batch) == "paused"
    line = "0/2 episodes done, paused: by anna; ~/unpause goes on"
    assert running_text(batch, hold, 0.0) == line
    batch.unpause()
    batch.step(0.0, 0.0, None)
    assert running_text(batch, None, 0.0) == "0/2 episodes done, waiting for hil, which is silent"
    batch.step(0.1, 0.1, hold)
    assert phase_name(batch) == "running" and batch.waiting == ""
    assert running_text(batch, hold, 0.1) == "episode 1/2 running, hil: armed"
    assert running_text(batch, None, 0.1) == "episode 1/2 running"
    for k in range(20):
        t = 0.2 + k / 10
        if batch.episode is not None:
            batch.episode.add(PolicySample(t, 0.3, 0.3))
        batch.step(t, t, leads)
    assert running_text(batch, leads, t) == "episode 1/2 running, warning: stall"
    batch.end(Termination.CANCELLED, "by the client")
    assert phase_name(batch) == "ending" and batch.waiting == ""
    assert running_text(batch, hold, t) == "1/2 episodes done, ending: hil: armed"
    assert running_text(batch, None, t) == "1/2 episodes done, ending: hil: silent"


def test_the_idle_line_tells_what_is_left_refused_and_misfit():
    rest = Plan("tidy up", 0.0, 3, begun=2)
    assert idle_text("", "", None, "") == "idle"
    assert idle_text("success, x", "", None, "") == "idle; last episode success, x"
    left = "idle; 1 of 3 episodes of 'tidy up' left, ~/continue_batch goes on"
    assert idle_text("", "", rest, "") == left
    assert idle_text("", "", replace(rest, begun=3), "") == "idle"
    assert idle_text("success", "no", None, "") == "idle; goal refused: no"
    misfit = "idle; goals are refused: rate; last episode success"
    assert idle_text("success", "rate", None, "rate") == misfit


# Time-outs of an episode, on a clock that did not start with it -----------------------------------

START_S, TICK_S = 1024.0, 0.0625  # exact in binary
HOLD, POLICY = Control(1, "held", False), Control(2, "policy leads", False)
HUMAN, RESET = Control(3, "a person leads", False, "leader"), Control(4, "reset", False)


class Drive:
    """An episode, driven tick by tick."""

    def __init__(self, check=None, gate=None, ladder="warn 0", **settings):
        limits = {"reset_motion": False, "timeout_s": 1.0, "start_timeout_s": 1.0, **settings}
        escalation = EscalationSettings(default=Ladder.parse(ladder))
        thresholds = Thresholds(stall_s=60.0, staleness_s=30.0)
        self.it = Episode(
            EpisodeSettings(**limits),
            lambda: EpisodeMonitor(thresholds, escalation=escalation),
            check,
            gate,
        )
        self.t, self.said = START_S, []

    def run(self, seconds, control, reward=0.5):
        for _ in range(round(seconds / TICK_S)):
            if reward is not None:
                self.it.add(PolicySample(self.t, reward, reward))
            self.it.step(self.t, self.t, control)
            self.t += TICK_S
        self.said += self.it.changes
        self.it.changes = []
        return self.it.verdict

    def lasts(self, seconds, control, **more):
        """It goes on for so long and no longer."""
        assert self.run(seconds + TICK_S, control, **more) is None, self.it.verdict
        return self.run(TICK_S, control, **more)


def test_each_time_limit_is_what_it_says():
    assert Drive().lasts(1.0, HOLD).detail == "policy did not start: held"
    drive = Drive(reset_motion=True, reset_timeout_s=2.0)
    assert drive.lasts(2.0, HOLD).detail == "reset motion did not run: held"
    assert [detail for _, detail in drive.said[:2]] == ["", ""]
    drive = Drive(external_reset=True, reset_timeout_s=2.0)
    assert drive.lasts(2.0, HOLD).detail == "reset service did not answer"
    far = ResetCheck(("a",), (0.0,), 0.1)
    assert Drive(far, settle_s=0.5).lasts(0.5, HOLD).detail.startswith("reset: no joint state")


def test_the_policys_time_counts_from_its_first_tick_to_the_last():
    drive = Drive(timeout_s=1.0)
    drive.run(2 * TICK_S, POLICY)
    assert drive.it.duration_s == 0.0 and drive.said[-1] == (Change.RUNNING, "")
    assert drive.run(1.0, POLICY) is None and drive.it.duration_s == 1.0
    assert drive.run(TICK_S, POLICY).termination is Termination.TIMEOUT


def test_a_person_before_the_policy_leads_costs_no_time_and_begins_nothing():
    drive = Drive()
    drive.run(2 * TICK_S, HOLD)
    assert drive.run(5.0, HUMAN) is None and drive.it.monitor is None
    assert drive.lasts(1.0 - TICK_S, HOLD).detail == "policy did not start: held"


def test_each_hold_that_nobody_asked_for_has_its_own_time():
    drive = Drive(hold_timeout_s=0.5, timeout_s=60.0)
    drive.run(0.5, POLICY)
    for _ in range(3):
        assert drive.run(0.5, HOLD) is None
        drive.run(0.25, POLICY)
    assert drive.lasts(0.5, HOLD).detail == "held"
    assert drive.it.verdict.termination is Termination.HOLD and drive.said[-1][1] == "held"


def test_after_a_person_and_then_the_policy_a_hold_is_a_hold_again():
    drive = Drive(hold_timeout_s=0.5, human_timeout_s=3.0, timeout_s=60.0)
    drive.run(0.5, POLICY)
    drive.run(0.5, HUMAN)
    assert drive.run(2.0, HOLD) is None  # waits for the person's resume
    drive.run(0.5, POLICY)
    assert drive.lasts(0.5, HOLD).detail == "held"
    drive = Drive(hold_timeout_s=0.5, human_timeout_s=3.0, timeout_s=60.0)
    drive.run(0.5, POLICY)
    drive.run(0.5, HUMAN)
    assert drive.lasts(3.0, HOLD).detail == "held"


def test_a_reset_that_a_person_undid_needs_its_scene_again():
    drive = Drive(external_reset=True)
    drive.run(2 * TICK_S, HOLD)
    drive.it.scene_ready(True, "")
    assert not drive.it.call_reset
    drive = Drive(ResetCheck(("a",), (0.0,), 0.1), external_reset=True)
    drive.it.check.joints((0.0,))
    drive.run(2 * TICK_S, HOLD)
    drive.it.scene_ready(True, "")
    assert drive.it.check.fault() == "no joint state since the reset"
    drive.run(TICK_S, HUMAN)
    assert drive.it.call_reset


def test_nobody_was_asked_so_nobody_lets_it_go_on():
    drive = Drive()
    assert drive.it.go_on(drive.t, "anna") is False
    drive.run(0.5, POLICY)
    assert drive.it.go_on(drive.t, "anna") is False


def test_a_warning_comes_again_after_a_call_for_help_was_answered():
    drive = Drive(ladder="warn 0, hold 0.5", timeout_s=60.0)
    drive.it._make_monitor = lambda: EpisodeMonitor(
        Thresholds(stall_s=0.5, staleness_s=30.0),
        escalation=EscalationSettings(default=Ladder.parse("warn 0, hold 0.5")),
    )
    drive.run(2.0, POLICY)
    assert drive.it.go_on(drive.t, "anna") is True
    drive.run(2.0, POLICY)
    changes = [change for change, _ in drive.said]
    assert changes.count(Change.WARNING) == changes.count(Change.HELP) == 2
    drive.run(TICK_S, HUMAN)
    assert drive.said[-1] == (Change.RESUMED, "leader took over")


def test_what_was_seen_before_the_policy_led_counts_for_neither_judge():
    gate = ClassifierGate(0.5, 1, max_age_s=10.0)
    drive = Drive(gate=gate)
    drive.it.add_success(0.9, drive.t)
    drive.run(2 * TICK_S, HOLD)
    gate.add(0.9, drive.t)  # of the episode before
    since = drive.t
    drive.run(TICK_S, POLICY, reward=None)
    assert gate.fault(drive.t) == "no rewact/success received"
    drive.it.add(PolicySample(since - 0.5, 0.9, 0.9))
    drive.it.add_success(0.9, since - 0.5)
    assert math.isnan(drive.it.peak) and gate.fault(drive.t)
    drive.it.add(PolicySample(since, 0.75, 0.75))
    drive.it.add_success(0.9, since)
    assert drive.it.peak == 0.75 and gate.fault(drive.t) == ""


# Signals and the monitor --------------------------------------------------------------------------


def test_a_dwell_may_be_one_sample_or_the_whole_window():
    for dwell, window in ((1, 1), (1, 10), (10, 10)):
        tracker = SignalTracker(SignalSettings(dwell=dwell, window=window))
        for k in range(window):
            assert math.isnan(tracker.signals.held)
            tracker.add(PolicySample(float(k) / 20, 0.5, 0.25))
        assert tracker.signals.held == pytest.approx(0.25)
    for wrong in (0, 11):
        with pytest.raises(ValueError, match=r"dwell: expected 1 to window \(10\)"):
            SignalSettings(dwell=wrong, window=10)


def test_a_sample_counts_once_and_one_that_is_unknown_changes_nothing():
    tracker = SignalTracker(SignalSettings(filter_s=1e-6))
    first = tracker.add(PolicySample(1.0, 0.5, 0.25, entropy=1.5))
    assert first.entropy == 1.5
    for late in (PolicySample(1.0, 0.9, 0.9), PolicySample(2.0, None, 0.9)):
        assert tracker.add(late) is first
    assert tracker.add(PolicySample(2.0, math.inf, 0.9)) is first
    assert math.isnan(tracker.add(PolicySample(2.0, 0.5, 0.25)).entropy)


def test_a_gap_of_the_largest_size_is_none_yet():
    settings = SignalSettings(filter_s=1.0, max_gap_s=0.5)
    tracker = SignalTracker(settings)
    tracker.add(PolicySample(1.0, 0.0, 0.0))
    assert tracker.add(PolicySample(1.5, 1.0, 1.0)).progress == pytest.approx(1 - math.exp(-0.5))
    assert tracker.add(PolicySample(2.25, 1.0, 1.0)).progress == 1.0


def test_a_rise_of_the_least_size_is_a_new_maximum_and_slack_is_forgiven():
    tracker = SignalTracker(SignalSettings(filter_s=1e-9, rise=0.25, slack_per_s=0.5))
    tracker.add(PolicySample(0.0, 0.25, 0.25))
    assert tracker.add(PolicySample(0.5, 0.5, 0.5)).stall_s == 0.0
    assert tracker.add(PolicySample(1.0, 0.0, 0.0)).slope_cusum == 0.25  # of a fall of 0.5


def test_chunks_are_compared_from_where_they_overlap_and_not_backwards():
    tracker = SignalTracker()
    chunk = np.arange(4.0)[:, None]

    def add(stamp_s, actions):
        sample = PolicySample(stamp_s, 0.5, 0.5, actions=actions, step_s=0.125)
        return tracker.add(sample).disagreement

    assert math.isnan(add(0.0, chunk))
    assert add(0.375, chunk) == 3.0  # the last step against the first
    assert add(0.4375 - 1 / 64, chunk) == 0.0  # within half a step: the same steps
    assert math.isnan(add(0.875 + 1 / 64, chunk))  # four steps later none is left
    assert math.isnan(add(0.9, None)) and math.isnan(add(0.95, chunk))


def test_the_covariance_is_shrunk_as_ledoit_and_wolf_say():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)) * (1.0, 2.0, 0.5) + (3.0, 0.0, -1.0)
    centred = x - x.mean(axis=0)
    sample = centred.T @ centred / len(x)
    target = np.trace(sample) / 3 * np.eye(3)
    outer = [np.square(np.outer(row, row) - sample).sum() for row in centred]
    weight = min(1.0, np.mean(outer) / len(x) / np.square(sample - target).sum())
    inverse = np.linalg.inv((1 - weight) * sample + weight * target)
    point = np.array([1.0, 1.0, 1.0])
    far = point - x.mean(axis=0)
    expected = math.sqrt(far @ inverse @ far / 3)
    assert 0.01 < weight < 0.9
    assert float(FeatureDistance.fit(x)(point)) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="at least 2 to fit a covariance, got 1"):
        FeatureDistance.fit(x[:1])
    with pytest.raises(ValueError, match="some that vary"):
        FeatureDistance.fit(np.ones((5, 3)))
    two = FeatureDistance.fit(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert np.isfinite(two.whitening).all() and float(two(np.array([0.5, 0.5]))) == 0.0


def test_a_signal_at_its_limit_is_no_alarm_and_limits_may_be_nothing():
    monitor = EpisodeMonitor(Thresholds(stall_s=1.0, drawdown=0.0, staleness_s=30.0))
    monitor.add(PolicySample(0.0, 0.5, 0.5))
    monitor.add(PolicySample(1.0, 0.5, 0.5))
    assert monitor.step(1.0).alarms == frozenset()
    monitor.add(PolicySample(1.5, 0.5, 0.5))
    assert monitor.step(1.5).alarms == {"stall"}
    with pytest.raises(ValueError, match="stall_s: expected 0 or more, got -1"):
        Thresholds(stall_s=-1.0)
    with pytest.raises(ValueError, match="drawdown: expected 0 or more, got nan"):
        Thresholds(drawdown=math.nan)


def test_what_was_complete_before_a_persons_turn_is_so_no_more_after_it():
    monitor = EpisodeMonitor(Thresholds(completion=0.5))
    for k in range(12):
        monitor.add(PolicySample(k / 20, 0.9, 0.9))
    assert monitor.step(0.6, human=True).complete
    assert not monitor.step(0.65, human=False).complete
