"""Episodes: every way they end, with a fake clock; a missing reward is never a zero."""

import math

import numpy as np
import pytest

from rewact_ros.supervision.batch import Batch, Plan
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import Control, Episode, EpisodeSettings, Phase, Want
from rewact_ros.supervision.escalation import EscalationSettings, Ladder
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.reset import ResetCheck
from rewact_ros.supervision.signals import PolicySample
from rewact_ros.supervision.verdict import Change, Outcome, Termination

TICK_S = 0.05
HOLD, POLICY, HUMAN, RESET = (Control(mode, "", False, "leader") for mode in (1, 2, 3, 4))
STOPPED = Control(1, "policy heartbeat is 0.2 s old", True)
BY_WANT = {Want.HOLD: HOLD, Want.POLICY: POLICY, Want.RESET: RESET}


class Run:
    """An episode with a fake clock and a hil that does as it is asked."""

    def __init__(self, check=None, gate=None, escalation=None, thresholds=None, **settings):
        self.episode = Episode(
            EpisodeSettings(**settings),
            lambda: EpisodeMonitor(thresholds or Thresholds(), escalation=escalation),
            check,
            gate,
        )
        self.t = 0.0
        self.control = HOLD
        self.obedient = True
        self.reward, self.success = 0.3, None
        self.changes = []

    def run(self, seconds, control=None, obedient=None):
        """Let time pass; a control that is given is what hil says from now on."""
        if control is not None:
            self.obedient, self.control = False, control
        self.obedient = self.obedient if obedient is None else obedient
        for _ in range(round(seconds / TICK_S)):
            self.t += TICK_S
            if self.obedient:
                self.control = BY_WANT[self.episode.want]
            if self.reward is not None:
                self.episode.add(PolicySample(self.t, self.reward, self.reward))
            if self.success is not None:
                self.episode.add_success(self.success, self.t)
            self.episode.step(self.t, self.t, self.control)
        self.changes += [change for change, _ in self.episode.changes]
        self.episode.changes = []
        return self.episode

    def reset_done(self):
        self.run(0.5)
        self.run(0.1, HOLD)
        self.obedient = True


def ended(episode, termination, outcome, *words):
    verdict = episode.verdict
    assert verdict is not None, f"still {episode.phase}"
    assert (verdict.termination, verdict.outcome) == (termination, outcome)
    assert all(word in verdict.detail for word in words), verdict.detail
    return True


def climbing(hold_s=0.5, **more):
    """A ladder that asks for a human soon."""
    return EscalationSettings(default=Ladder(hold_s=hold_s), **more)


# Endings ------------------------------------------------------------------------------------------


def test_phases_run_in_order_to_a_success():
    r = Run(external_reset=True)
    assert r.run(0.2).phase is Phase.RESETTING
    r.reset_done()
    assert r.episode.phase is Phase.SCENE and r.episode.call_reset
    r.episode.scene_ready(True, "")
    assert r.run(1.0).phase is Phase.RUNNING
    r.reward = 0.98
    episode = r.run(2.0)
    assert ended(episode, Termination.PROGRESS, Outcome.SUCCESS, "q10")
    assert 1.0 < episode.duration_s < 3.0 and episode.peak > 0.9
    assert r.changes == [Change.STARTED, Change.RESETTING, Change.RUNNING, Change.VERDICT]


def test_one_high_reward_does_not_end_an_episode():
    r = Run(reset_motion=False)
    r.run(1.0)
    r.reward = 1.0
    r.run(TICK_S)
    r.reward = 0.3
    assert r.run(1.0).verdict is None


def test_a_timeout_is_a_failure_and_reports_the_peak():
    r = Run(reset_motion=False, timeout_s=3.0)
    assert ended(r.run(4.0), Termination.TIMEOUT, Outcome.FAILURE, "0.30")


def test_rewards_from_before_the_start_do_not_count():
    r = Run(reset_motion=False)
    r.reward = 0.99
    r.run(1.0, HOLD)
    assert math.isnan(r.episode.peak) and r.episode.verdict is None


def test_without_any_reward_nothing_is_claimed():
    ladders = {"staleness": Ladder(hold_s=math.inf)}
    r = Run(reset_motion=False, timeout_s=1.0, escalation=EscalationSettings(ladders=ladders))
    r.reward = None
    episode = r.run(2.0)
    assert ended(episode, Termination.TIMEOUT, Outcome.UNLABELLED, "no fresh reward")
    assert math.isnan(episode.peak)


def test_a_hold_in_mid_task_is_unlabelled_not_a_failure():
    r = Run(reset_motion=False, hold_timeout_s=1.0)
    r.run(1.0)
    assert ended(r.run(2.0, STOPPED), Termination.HOLD, Outcome.UNLABELLED, "heartbeat")


@pytest.mark.parametrize("control", [None, Control(0, "disarmed by the operator", False)])
def test_losing_hil_ends_the_episode_unlabelled(control):
    r = Run(reset_motion=False)
    r.run(1.0)
    r.obedient, r.control = False, control
    assert ended(r.run(0.1), Termination.HOLD, Outcome.UNLABELLED, "not under control")


def test_a_policy_that_does_not_start_ends_the_episode_unlabelled():
    r = Run(reset_motion=False, start_timeout_s=1.0)
    control = Control(1, "waiting to start: no heartbeat", False)
    assert ended(r.run(2.0, control), Termination.HOLD, Outcome.UNLABELLED, "no heartbeat")


def test_a_persons_verdict_overrides_and_names_the_person():
    r = Run(reset_motion=False)
    r.run(1.0)
    r.episode.judge(Outcome.SUCCESS, "anna")
    assert ended(r.episode, Termination.HUMAN, Outcome.SUCCESS, "anna")
    assert r.episode.verdict.by == "anna" and r.episode.want is Want.HOLD
    r.episode.end(Termination.CANCELLED, "too late")
    assert r.episode.verdict.termination is Termination.HUMAN


@pytest.mark.parametrize("termination", [Termination.CANCELLED, Termination.PREEMPTED])
def test_ending_from_outside_is_unlabelled(termination):
    r = Run(reset_motion=False)
    r.run(1.0)
    r.episode.end(termination, "by the client")
    assert ended(r.episode, termination, Outcome.UNLABELLED, "by the client")


# The reset ----------------------------------------------------------------------------------------


def test_a_failed_scene_reset_says_why():
    r = Run(external_reset=True, reset_motion=False)
    r.run(0.2)
    r.episode.scene_ready(False, "tray missing")
    assert ended(r.episode, Termination.ERROR, Outcome.UNLABELLED, "tray missing")


def test_a_reset_service_that_is_silent_ends_the_episode():
    r = Run(external_reset=True, reset_motion=False, reset_timeout_s=1.0)
    assert ended(r.run(2.0), Termination.ERROR, Outcome.UNLABELLED, "did not answer")


def test_a_reset_motion_that_never_runs_ends_the_episode():
    r = Run(reset_timeout_s=1.0)
    control = Control(1, "waiting to reset: a reset motion needs a confirmation", False)
    assert ended(r.run(2.0, control), Termination.HOLD, Outcome.UNLABELLED, "confirmation")


def test_a_reset_motion_that_a_person_interrupts_is_not_over():
    r = Run()
    r.run(0.5)
    r.run(20.0, HUMAN)
    assert r.run(0.2, HOLD).phase is Phase.RESETTING
    assert r.run(0.5, obedient=True).phase is Phase.RESETTING
    r.reset_done()
    assert r.run(0.1).phase is Phase.RUNNING


def test_after_a_persons_turn_in_the_scene_phase_the_reset_motion_runs_again():
    r = Run(external_reset=True)
    r.reset_done()
    r.run(0.2, HUMAN)
    assert r.episode.phase is Phase.RESETTING
    r.obedient = True
    r.reset_done()
    assert r.episode.call_reset


def test_the_joints_must_have_reached_the_reset_pose():
    r = Run(ResetCheck(("waist", "elbow"), [0.0, 1.0], 0.1))
    r.reset_done()
    r.episode.check.joints([0.05, 0.7])
    assert ended(
        r.run(3.0), Termination.ERROR, Outcome.UNLABELLED, "elbow", "expected 1.000", "got 0.700"
    )
    r = Run(ResetCheck(("waist", "elbow"), [0.0, 1.0], 0.1))
    r.reset_done()
    r.run(0.5)
    r.episode.check.joints([0.05, 0.95])  # it took a moment
    assert r.run(0.1).phase is Phase.RUNNING


def test_joint_states_from_before_the_reset_prove_nothing():
    r = Run(ResetCheck(("waist",), [0.0], 0.1))
    r.episode.check.joints([0.0])
    r.reset_done()
    assert ended(r.run(3.0), Termination.ERROR, Outcome.UNLABELLED, "no joint state")


def test_the_reward_must_be_low_after_a_reset_if_so_configured():
    r = Run(ResetCheck(reward_below=0.2), reset_motion=False)
    assert ended(r.run(3.0), Termination.ERROR, Outcome.UNLABELLED, "below 0.2", "0.30")
    r = Run(ResetCheck(reward_below=0.2), reset_motion=False)
    r.reward = 0.1
    assert r.run(0.5).phase is Phase.RUNNING


# Calls for help -----------------------------------------------------------------------------------


def test_a_standing_alarm_warns_once_then_holds_and_asks_for_a_human():
    r = Run(reset_motion=False, escalation=climbing(1.0), thresholds=Thresholds(stall_s=1.0))
    r.run(2.5)
    assert r.episode.phase is Phase.HELP and r.episode.want is Want.HOLD
    assert r.changes == [Change.STARTED, Change.RUNNING, Change.WARNING, Change.HELP]
    assert "stall alarm" in r.episode.decision.reason


def test_nobody_answering_is_a_failure():
    escalation = climbing(human_silence_s=5.0)
    r = Run(reset_motion=False, escalation=escalation, thresholds=Thresholds(stall_s=1.0))
    assert r.run(6.0).phase is Phase.HELP
    assert ended(r.run(2.0), Termination.ALARM, Outcome.FAILURE, "stall", "nobody answered")
    assert r.episode.duration_s < 2.0  # waiting for a person costs the policy no time


def test_a_person_takes_over_and_gives_back_and_the_episode_goes_on_afresh():
    thresholds = Thresholds(stall_s=2.0)
    r = Run(reset_motion=False, escalation=climbing(), thresholds=thresholds, hold_timeout_s=1.0)
    r.run(3.0)
    assert r.episode.phase is Phase.HELP
    r.run(0.5, HUMAN)
    assert r.changes[-1] is Change.RESUMED and r.episode.phase is Phase.RUNNING
    r.run(10.0, HUMAN)
    r.run(5.0, Control(1, "released by the operator", True))  # longer than another hold may be
    assert r.episode.verdict is None and r.episode.helped
    r.run(1.0, obedient=True)
    assert not r.episode.judgement.alarms
    r.reward = 0.99
    assert ended(r.run(1.0), Termination.PROGRESS, Outcome.SUCCESS)


def test_a_person_may_let_the_policy_go_on_without_taking_over():
    r = Run(reset_motion=False, escalation=climbing(), thresholds=Thresholds(stall_s=1.0))
    assert not r.episode.go_on(0.0, "anna")
    r.run(2.0)
    assert r.episode.phase is Phase.HELP
    assert r.episode.go_on(r.t, "anna") and r.episode.phase is Phase.RUNNING
    r.run(0.1, HOLD)  # hil has not answered yet
    r.run(0.5, obedient=True)
    assert r.episode.phase is Phase.RUNNING and not r.episode.judgement.alarms
    assert not r.episode.helped and r.changes[-1] is Change.RESUMED
    assert r.run(1.5).phase is Phase.HELP  # it stalls again


def test_no_call_left_is_a_failure():
    escalation = climbing(holds=1)
    r = Run(reset_motion=False, escalation=escalation, thresholds=Thresholds(stall_s=1.0))
    r.run(2.0)
    r.episode.go_on(r.t, "anna")
    assert ended(r.run(3.0), Termination.ALARM, Outcome.FAILURE, "no request")


def test_a_reward_that_falls_silent_calls_for_help_and_is_no_failure():
    r = Run(reset_motion=False, escalation=climbing(human_silence_s=2.0))
    r.run(1.0)
    r.reward = None
    assert r.run(1.5).phase is Phase.HELP
    assert ended(r.run(3.0), Termination.ALARM, Outcome.UNLABELLED, "staleness")


def test_what_happens_while_a_human_is_awaited_completes_the_task_too():
    r = Run(reset_motion=False, escalation=climbing(), thresholds=Thresholds(stall_s=1.0))
    assert r.run(2.0).phase is Phase.HELP
    r.reward = 0.99
    assert ended(r.run(1.0), Termination.PROGRESS, Outcome.SUCCESS)


def test_nothing_is_complete_while_an_alarm_stands():
    r = Run(reset_motion=False, thresholds=Thresholds(drawdown=0.02), escalation=climbing())
    r.run(0.5)
    r.reward = 1.0
    r.run(0.35)
    r.reward = 0.92
    episode = r.run(0.4)
    assert episode.monitor.complete and episode.verdict is None
    assert episode.waiting_for(r.t) == "alarm: drawdown"
    r.reward = 1.0
    ended(r.run(0.4), Termination.PROGRESS, Outcome.SUCCESS)


def test_a_persons_turn_neither_ends_the_episode_nor_costs_it_time():
    r = Run(reset_motion=False, timeout_s=3.0, hold_timeout_s=1.0)
    r.run(1.0)
    r.run(10.0, HUMAN)
    assert r.episode.verdict is None and r.episode.duration_s < 1.1
    r.reward = 0.99
    r.run(1.0)
    assert ended(r.episode, Termination.PROGRESS, Outcome.SUCCESS)


def test_a_hold_by_a_watchdog_is_no_stall_of_the_policy():
    r = Run(reset_motion=False, thresholds=Thresholds(stall_s=1.0), hold_timeout_s=9.0)
    r.run(0.8)
    r.run(5.0, STOPPED)
    r.run(0.5, obedient=True)
    assert not r.episode.judgement.alarms and r.episode.duration_s < 1.5


# The classifier -----------------------------------------------------------------------------------


def test_completion_waits_for_the_classifier_and_says_what_is_missing():
    r = Run(gate=ClassifierGate(0.5, 3), reset_motion=False)
    r.reward = 0.99
    r.run(2.0)
    assert r.episode.verdict is None and "no rewact/success" in r.episode.waiting_for(r.t)
    r.success = 0.2
    r.run(1.0)
    assert r.episode.verdict is None and "above 0.5" in r.episode.waiting_for(r.t)
    r.success = None
    r.run(1.0)
    assert "older" in r.episode.waiting_for(r.t)
    r.success = 0.9
    assert r.run(0.1).verdict is None  # two in a row are not three
    assert ended(r.run(0.1), Termination.PROGRESS, Outcome.SUCCESS)


def test_a_classifier_alone_completes_nothing():
    r = Run(gate=ClassifierGate(0.5, 3), reset_motion=False)
    r.success = 1.0
    assert r.run(3.0).verdict is None


def test_a_gap_or_an_impossible_probability_ends_the_row_of_successes():
    gate = ClassifierGate(0.5, 2, max_age_s=0.5)
    gate.add(0.9, 1.0)
    gate.add(math.nan, 1.1)
    gate.add(0.9, 2.0)
    assert gate.fault(2.0)
    gate.add(0.9, 2.1)
    assert not gate.fault(2.1)


# Batches ------------------------------------------------------------------------------------------


class Batches:
    """A batch with a fake clock and an obedient hil."""

    def __init__(self, episodes, **settings):
        settings = {"reset_motion": False, "timeout_s": 1.0, **settings}
        numbers = iter(range(1, 100))
        self.batch = Batch(
            Plan("tidy up", episodes=episodes),
            lambda: Episode(EpisodeSettings(**settings), EpisodeMonitor),
            lambda: f"e{next(numbers)}",
        )
        self.t, self.reward, self.control = 0.0, 0.3, None

    def run(self, seconds):
        for _ in range(round(seconds / TICK_S)):
            self.t += TICK_S
            if self.batch.episode is not None:
                self.batch.episode.add(PolicySample(self.t, self.reward, self.reward))
            self.batch.step(self.t, self.t, self.control or BY_WANT[self.batch.want])
        return self.batch

    def said(self):
        return [(h.episode_id, h.change) for h in self.batch.happenings]


def test_a_batch_runs_its_episodes_one_after_another_and_counts_them():
    b = Batches(3)
    b.reward = 0.99
    b.run(0.8)
    b.reward = 0.3
    b.run(5.0)
    assert b.batch.over and b.batch.episode_id == "e3"
    assert str(b.batch.plan.tally) == "1 successes, 2 failures"
    assert [i for i, change in b.said() if change is Change.VERDICT] == ["e1", "e2", "e3"]
    assert b.batch.verdict.outcome is Outcome.FAILURE


def test_pause_lets_the_episode_end_and_begins_no_other():
    b = Batches(2)
    b.run(0.5)
    b.batch.pause("by anna")
    b.run(5.0)
    assert b.batch.plan.begun == 1 and "by anna" in b.batch.waiting
    b.batch.unpause()
    assert b.run(3.0).over


def test_between_episodes_a_batch_waits_for_a_hil_that_may_be_moved():
    b = Batches(2)
    b.run(0.5)
    b.control = Control(3, "leader in control", False)
    b.batch.episode.judge(Outcome.SUCCESS, "anna")
    b.run(1.0)
    assert b.batch.plan.begun == 1 and "leader in control" in b.batch.waiting
    b.control = Control(1, "released by the operator", True)
    b.run(1.0)
    assert b.batch.plan.begun == 1
    b.control = None
    assert b.run(0.2).plan.begun == 2


def test_a_robot_that_was_disarmed_between_episodes_needs_unpause():
    b = Batches(2)
    b.run(0.5)
    b.batch.episode.judge(Outcome.SUCCESS, "anna")
    b.control = Control(0, "disarmed by the operator", False)
    b.run(0.5)
    b.control = None
    b.run(1.0)
    assert b.batch.plan.begun == 1 and "disarmed" in b.batch.paused
    b.batch.unpause()
    assert b.run(0.2).plan.begun == 2


def test_a_robot_that_was_disarmed_before_the_first_episode_ends_the_batch():
    b = Batches(2)
    b.control = Control(0, "disarmed by the operator", False)
    b.run(0.2)
    assert b.batch.over and b.batch.verdict.termination is Termination.HOLD
    assert "disarmed" in b.batch.verdict.detail


def test_a_hil_that_is_silent_between_episodes_is_waited_for():
    b = Batches(2)
    b.batch.step(0.0, 0.0, None)
    assert "silent" in b.batch.waiting and not b.batch.paused
    assert b.run(0.2).plan.begun == 1


def test_an_episode_that_ended_for_no_reason_of_the_task_pauses_the_batch():
    b = Batches(2, hold_timeout_s=0.5)
    b.run(0.5)
    b.control = STOPPED
    b.run(1.0)
    b.control = None
    b.run(1.0)
    assert "after hold" in b.batch.paused and b.batch.plan.begun == 1


def test_cancelling_ends_the_episode_and_the_batch():
    b = Batches(5)
    b.run(0.5)
    b.batch.end(Termination.CANCELLED, "by the client")
    assert b.batch.over and b.batch.verdict.termination is Termination.CANCELLED
    assert b.said()[-1] == ("e1", Change.VERDICT)
    b = Batches(5)
    b.batch.end(Termination.CANCELLED, "by the client")
    assert b.batch.over and b.batch.verdict.termination is Termination.CANCELLED


def test_a_reset_check_names_the_joint_that_is_farthest_away():
    check = ResetCheck(("a", "b", "c"), np.zeros(3), 0.1)
    check.joints([0.2, -0.5, math.nan])
    assert check.fault()  # an unknown joint is no joint at rest
    check.joints([0.2, -0.5, 0.0])
    assert check.fault().startswith("b: expected 0.000 within 0.1, got -0.500")
