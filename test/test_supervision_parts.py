"""Bounds and memories of the supervisor's small parts: ladders, reset check, classifier."""

import math

import pytest

from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.escalation import Escalation, EscalationSettings, Ladder, Step
from rewact_ros.supervision.reset import REWARDS, ResetCheck

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
