"""Bounds and memories of the supervisor's small parts: ladders, reset check, classifier."""

import math
from dataclasses import replace

import pytest

from rewact_ros.supervision.batch import Batch, Plan
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import Control, Episode, EpisodeSettings
from rewact_ros.supervision.escalation import Escalation, EscalationSettings, Ladder, Step
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.reset import REWARDS, ResetCheck
from rewact_ros.supervision.signals import PolicySample
from rewact_ros.supervision.status import idle_text, phase_name, running_text
from rewact_ros.supervision.verdict import Termination

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
