"""The supervisor without ROS: goals, calibrations, people's verdicts, and what a restart keeps."""

import json
import math
from dataclasses import replace

import pytest
from conftest import ROOT

from rewact_ros.policy.task_table import ByTask
from rewact_ros.stack.bringup import BringUp, processes
from rewact_ros.supervision.batch import Plan, Tally
from rewact_ros.supervision.calibration import (
    Basis,
    Bound,
    Calibration,
    CalibrationError,
    CalibrationSettings,
    Groups,
)
from rewact_ros.supervision.classifier_gate import ClassifierGate
from rewact_ros.supervision.episodes import Control, EpisodeSettings, Phase, Want
from rewact_ros.supervision.escalation import EscalationSettings, Ladder
from rewact_ros.supervision.judging import Judging, RewardSource, find_calibration
from rewact_ros.supervision.memory import FORMAT, EpisodeMemory, EpisodeMemoryError, state_file
from rewact_ros.supervision.monitor import Thresholds
from rewact_ros.supervision.reset import ResetCheck
from rewact_ros.supervision.signals import PolicySample, SignalSettings
from rewact_ros.supervision.supervisor import (
    LONGEST_S,
    MOST_EPISODES,
    RELEASE_S,
    TASK_LIMIT,
    EpisodeParts,
    RefusedError,
    Supervisor,
)
from rewact_ros.supervision.task_rule import TaskRule
from rewact_ros.supervision.verdict import ENDINGS, Change, GoalState, Outcome, Termination

TICK_S = 0.05
HOLD, POLICY, HUMAN, RESET = (Control(mode, "", False, "leader") for mode in (1, 2, 3, 4))
BY_WANT = {Want.HOLD: HOLD, Want.POLICY: POLICY, Want.RESET: RESET}
SOURCE = RewardSource("reward", "policy", True)
JUDGING = Judging("contract", ("front", "wrist"), 20.0)
CALIBRATION = Calibration(
    completion=Bound(0.05, 100, 96, 0.835),
    alarms={"stall": Bound(1 / 60, 59, 59, 2.5), "drawdown": Bound(1 / 60, 59, 59, 0.3)},
    distance=None,
    signals=SignalSettings(),
    basis=Basis("reward", "policy", "contract", ("front", "wrist"), 20.0, 20.0),
    settings=CalibrationSettings(),
    episodes=100,
    successes=59,
)
CALIBRATED = replace(JUDGING, calibration=CALIBRATION)


def rules(judging):
    """The same thresholds for every task, or a table of rules."""
    return judging if isinstance(judging, ByTask) else ByTask.one(TaskRule(judging))


class Bench:
    """A supervisor with a fake clock, an obedient hil and a constant reward."""

    def __init__(self, folder, judging=JUDGING, gate=None, source=SOURCE):
        numbers = iter(range(1, 100))
        parts = EpisodeParts(
            EpisodeSettings(reset_motion=False),
            ResetCheck,
            lambda: gate,
            lambda: f"e{next(numbers)}",
        )
        memory = EpisodeMemory(state_file(str(folder), "/", "arm"))
        self.it = Supervisor(rules(judging), parts, memory, "anna")
        if source is not None:
            self.it.hear(source)
        self.t, self.reward, self.control, self.heard = 100.0, 0.3, None, 0
        self.happenings = []

    def run(self, seconds):
        for _ in range(round(seconds / TICK_S)):
            self.t += TICK_S
            self.it.add(PolicySample(self.t, self.reward, self.reward))
            self.heard += 1
            control = replace(self.control or BY_WANT[self.it.want], heard=self.heard)
            self.it.step(self.t, self.t, control)
        self.happenings += self.it.happenings
        self.it.happenings = []
        return self.it

    def goal(self, episodes=1, timeout_s=0.0, preempt=False, control=HOLD, task="tidy up"):
        plan = Plan(task, timeout_s, episodes)
        self.it.check(plan, preempt, control)
        return self.it.start(plan)

    @property
    def text(self):
        return self.it.text(self.t, self.control or BY_WANT[self.it.want])

    def changes(self):
        return [(h.episode_id, h.change) for h in self.happenings]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# Goals --------------------------------------------------------------------------------------------


def test_two_judges_are_refused_by_name_and_end_an_episode(bench):
    bench.it.hear_judges(["/judge"])
    bench.goal()
    bench.run(1.0)
    assert bench.it.episode is not None
    bench.it.hear_judges(["/policy", "/judge"])
    bench.run(1.0)
    assert bench.it.episode is None
    assert "one judge, got /judge, /policy" in bench.it.memory.now.last.verdict.reason
    with pytest.raises(RefusedError, match="/judge, /policy"):
        bench.goal()
    bench.it.hear_judges(["/judge"])
    bench.goal()


@pytest.mark.parametrize(
    ("control", "words"),
    [
        (None, "silent"),
        (Control(0, "started", False), "not in HOLD"),
        (Control(1, "lease expired", True), "lease expired"),
    ],
)
def test_a_goal_needs_an_armed_robot_and_the_status_says_what_is_missing(bench, control, words):
    with pytest.raises(RefusedError, match=words):
        bench.goal(control=control)
    assert f"goal refused: hil {words}".split(":")[0] in bench.text and words in bench.text


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": -1.0}, {"timeout_s": math.nan}, {"episodes": 10**6}]
)
def test_impossible_goals_are_refused_by_name(bench, wrong):
    with pytest.raises(RefusedError, match=next(iter(wrong)).removesuffix("_s")):
        bench.goal(**wrong)


def test_a_second_goal_is_refused_unless_it_preempts(bench):
    first = bench.goal()
    bench.run(1.0)
    with pytest.raises(RefusedError, match="preempt"):
        bench.goal(task="sweep")
    second = bench.goal(preempt=True, task="sweep")
    with pytest.raises(RefusedError, match="waits already"):
        bench.goal(preempt=True)
    bench.run(0.5)
    assert first.over and first.verdict.termination is Termination.PREEMPTED
    assert "sweep" in first.verdict.detail
    assert bench.it.batch is second and second.episode.phase is Phase.RUNNING


def test_an_interrupted_robot_is_waited_for_by_the_goal_that_preempts(bench):
    bench.goal()
    bench.run(0.5)
    second = bench.goal(preempt=True)
    bench.control = POLICY  # hil brakes
    bench.run(0.2)
    assert second.episode is None
    bench.control = None
    bench.run(0.2)
    assert second.episode is not None


# The end of a goal --------------------------------------------------------------------------------


def test_a_goal_that_runs_or_waits_is_not_released(bench):
    batch = bench.goal()
    assert not batch.released and batch.doubt == "" and batch.waiting == ""
    bench.run(0.5)
    assert not batch.released and batch.waiting == "" and bench.it.want is Want.POLICY


@pytest.mark.parametrize("driven", [POLICY, RESET])
def test_a_goal_is_released_once_hil_drives_no_more(bench, driven):
    batch = bench.goal()
    bench.run(0.5)
    bench.it.judge(Outcome.SUCCESS)
    bench.control = driven
    bench.run(0.5)
    assert batch.over and not batch.released and bench.it.want is Want.HOLD
    assert bench.text.startswith("1/1 episodes done, ending: hil: ")
    with pytest.raises(RefusedError, match="a task is running"):
        bench.goal()
    bench.control = HOLD
    bench.run(TICK_S)
    assert batch.released and batch.doubt == "" and bench.it.batch is None
    assert batch.reason == "human: judged by anna" and batch.state is GoalState.SUCCEEDED
    bench.goal()


def test_a_status_from_before_the_end_does_not_release(bench):
    batch = bench.goal()
    bench.run(0.5)
    old = replace(HOLD, heard=bench.heard)
    bench.it.judge(Outcome.FAILURE)
    for _ in range(3):
        bench.t += TICK_S
        bench.it.step(bench.t, bench.t, old)
        assert batch.over and not batch.released
    bench.it.step(bench.t, bench.t, replace(old, heard=old.heard + 1))
    assert batch.released and batch.state is GoalState.SUCCEEDED


def test_a_hil_that_goes_on_is_waited_for_one_second_and_named(bench):
    batch = bench.goal()
    bench.run(0.5)
    bench.it.judge(Outcome.SUCCESS)
    bench.control = replace(POLICY, reason="policy leads")
    bench.run(RELEASE_S)
    assert not batch.released
    bench.run(3 * TICK_S)
    assert batch.released
    assert batch.reason.endswith("; hil has not held within 1 s: policy leads")


def test_a_hil_that_falls_silent_at_the_end_is_named(bench):
    batch = bench.goal()
    bench.run(0.5)
    bench.it.judge(Outcome.SUCCESS)
    bench.it.step(bench.t + TICK_S, bench.t, None)
    assert batch.released
    assert batch.reason.endswith("; whether the arm holds is not known: hil is silent")


@pytest.mark.parametrize(
    "control", [HUMAN, Control(0, "disarmed", False), Control(5, "fault", False)]
)
def test_a_person_or_a_stopped_hil_is_not_waited_for(bench, control):
    batch = bench.goal()
    bench.run(0.5)
    bench.control = control
    bench.run(TICK_S)
    bench.it.judge(Outcome.SUCCESS) if batch.episode else None
    bench.run(2 * TICK_S)
    assert batch.released and batch.doubt == ""


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (Termination.CANCELLED, GoalState.CANCELED),
        (Termination.PREEMPTED, GoalState.ABORTED),
        (Termination.INTERRUPTED, GoalState.ABORTED),
    ],
)
def test_a_goal_that_was_broken_off_says_so_whatever_its_last_episode_was(bench, end, state):
    batch = bench.goal(episodes=2)
    bench.run(0.5)
    bench.it.judge(Outcome.SUCCESS)
    batch.pause("by anna")
    bench.run(0.5)
    assert batch.waiting == "paused: by anna" and not batch.released
    batch.end(end, "for a test")
    bench.run(2 * TICK_S)
    assert batch.released and batch.state is state and batch.reason == f"{end}: for a test"
    assert batch.verdict.outcome is Outcome.SUCCESS


def test_a_goal_whose_last_episode_nobody_judged_has_not_succeeded(bench):
    batch = bench.goal()
    bench.run(0.5)
    bench.control = Control(0, "disarmed by the operator", False)
    bench.run(3 * TICK_S)
    assert batch.released and batch.state is GoalState.ABORTED
    assert batch.reason == "hold: robot is not under control: disarmed by the operator"


def test_a_stop_ends_the_goal_that_waits_as_well(bench):
    first = bench.goal(episodes=2)
    bench.run(0.5)
    second = bench.goal(preempt=True, task="sweep")
    bench.it.stop()
    bench.run(0.5)
    assert first.released and second.released and second.episode_id == ""
    assert (first.state, second.state) == (GoalState.ABORTED, GoalState.ABORTED)
    assert second.reason == "interrupted: the supervisor was stopped"


def test_each_goal_is_waited_for_anew(bench):
    for _ in range(2):
        batch = bench.goal()
        bench.run(0.5)
        bench.it.judge(Outcome.SUCCESS)
        bench.control = POLICY
        bench.run(0.5)
        assert not batch.released
        bench.control = None
        bench.run(2.0)
        assert batch.released and batch.doubt == ""


def test_between_goals_another_may_preempt_again(bench):
    bench.goal()
    bench.run(0.5)
    bench.goal(preempt=True, task="sweep")
    bench.run(0.5)
    third = bench.goal(preempt=True, task="wipe")
    bench.run(0.5)
    assert bench.it.batch is third and third.episode is not None
    bench.it.judge(Outcome.SUCCESS)
    bench.run(0.5)
    assert bench.it.batch is None and bench.it.episode_id == third.episode_id != ""


# What is asked for -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "fits"),
    [
        ({"timeout_s": 0.0}, True),
        ({"timeout_s": LONGEST_S - 1.0}, True),
        ({"timeout_s": LONGEST_S}, False),
        ({"timeout_s": math.inf}, False),
        ({"episodes": MOST_EPISODES}, True),
        ({"episodes": MOST_EPISODES + 1}, False),
        ({"episodes": 0}, False),
        ({"task": "x" * TASK_LIMIT}, True),
        ({"task": "x" * (TASK_LIMIT + 1)}, False),
    ],
    ids=str,
)
def test_the_bounds_of_a_goal_are_within_it(bench, goal, fits):
    if fits:
        assert bench.goal(**goal) is bench.it.batch
        assert bench.it.refused == ""
    else:
        with pytest.raises(RefusedError, match=f"{next(iter(goal)).removesuffix('_s')}: expected"):
            bench.goal(**goal)


def test_a_refusal_is_shown_until_a_goal_begins(bench):
    with pytest.raises(RefusedError):
        bench.goal(control=None)
    assert "goal refused: hil is silent" in bench.text
    bench.goal(timeout_s=0.5)
    assert bench.it.refused == ""
    bench.run(2.0)
    assert "last episode failure, timeout" in bench.text and "refused" not in bench.text


def test_what_people_ask_for_is_answered_in_words(bench):
    it = bench.it
    for call in (it.pause, it.unpause):
        with pytest.raises(RefusedError, match="no batch runs"):
            call()
    batch = bench.goal(episodes=2, timeout_s=1.0)
    bench.run(0.3)
    assert it.pause().startswith("no further episode begins before ~/unpause")
    assert batch.paused == "by anna"
    assert it.judge(Outcome.FAILURE) == "FAILURE by anna"
    bench.run(0.5)
    assert batch.last.verdict.by == "anna" and batch.episode is None
    assert it.judge(Outcome.SUCCESS) == "SUCCESS by anna"  # once more, of the last one
    assert it.unpause() == "the batch goes on" and batch.paused == ""
    bench.run(0.3)
    assert batch.episode is not None and it.episode_id == "e2" == it.memory.now.last.episode_id
    assert it.memory.open_episode is not None


def test_the_rest_of_a_batch_waits_while_another_task_runs(tmp_path):
    died = Bench(tmp_path)
    died.goal(episodes=3, timeout_s=1.0)
    died.run(0.5)
    born = Bench(tmp_path)
    assert born.it.continue_batch(HOLD) == "2 of 3 episodes begin"
    born.run(0.3)
    with pytest.raises(RefusedError, match="a task is running"):
        born.it.continue_batch(HOLD)


def test_a_goal_after_a_restart_tells_of_the_interrupted_episode_first(tmp_path):
    died = Bench(tmp_path)
    died.goal()
    died.run(0.5)
    born = Bench(tmp_path)
    assert born.it.episode_id == "e1"
    born.goal()
    assert born.it.happenings[0].verdict.termination is Termination.INTERRUPTED
    born.run(0.5)
    assert born.happenings[0].change is Change.VERDICT


def test_the_classifiers_word_reaches_the_episode(tmp_path):
    bench = Bench(tmp_path, gate=ClassifierGate(hold=2))
    bench.it.add_success(0.9, bench.t)  # nobody listens yet
    batch = bench.goal()
    bench.run(0.5)
    bench.reward = 0.99
    for _ in range(60):
        bench.it.add_success(0.9, bench.t)
        bench.run(TICK_S)
    assert batch.over and batch.verdict.outcome is Outcome.SUCCESS


def test_a_calibration_that_does_not_fit_is_said_from_the_start(tmp_path):
    bench = Bench(tmp_path, replace(CALIBRATED, cameras=("front",)), source=None)
    assert "cameras" in bench.it.misfit and bench.it.promise == "bound: not claimed"
    assert Bench(tmp_path / "b", CALIBRATED, source=None).it.promise.startswith("bound: ")


def test_a_verdict_on_an_earlier_episode_leaves_a_new_batch_alone(bench):
    bench.goal(timeout_s=0.5)
    bench.run(2.0)
    batch = bench.goal(episodes=2)
    assert batch.last is None
    bench.it.judge(Outcome.SUCCESS)  # of the episode before
    assert batch.plan.tally == Tally()


# Calibration --------------------------------------------------------------------------------------


def test_without_a_calibration_the_status_says_so_and_any_level_serves(bench):
    assert bench.text.endswith("uncalibrated")
    assert JUDGING.monitor(SOURCE).tracker.settings.level == "q10"
    sigmoid = replace(SOURCE, quantiles=False)
    assert JUDGING.monitor(sigmoid).tracker.settings.level == "mean"
    assert replace(JUDGING, level="mean").monitor(SOURCE).tracker.settings.level == "mean"


def test_calibrated_thresholds_go_before_the_parameters_and_claim_their_rates(tmp_path):
    bench = Bench(tmp_path, CALIBRATED)
    assert CALIBRATED.monitor(SOURCE).thresholds == Thresholds.calibrated(CALIBRATION)
    bench.goal()
    bench.run(1.0)
    assert "false completions <= 0.05 (n 100)" in bench.text
    bench.reward = 0.87
    bench.run(1.0)
    assert bench.it.memory.now.last.verdict.outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    ("judging", "source", "goal", "word"),
    [
        (CALIBRATED, replace(SOURCE, reward_hash="another"), {}, "reward_hash"),
        (replace(CALIBRATED, contract_hash="another"), SOURCE, {}, "contract_hash"),
        (replace(CALIBRATED, cameras=("front",)), None, {}, "cameras"),
        (replace(CALIBRATED, rate_hz=30.0), SOURCE, {}, "rate_hz"),
        (CALIBRATED, SOURCE, {"timeout_s": 30.0}, "timeout_s"),
    ],
)
def test_a_calibration_for_something_else_refuses_the_goal_by_name(
    tmp_path, judging, source, goal, word
):
    bench = Bench(tmp_path, judging, source=source)
    with pytest.raises(RefusedError, match=f"{word}: expected"):
        bench.goal(**goal)
    assert f"{word}: expected" in bench.text


def test_other_action_weights_are_judged_without_a_claim(tmp_path):
    bench = Bench(tmp_path, CALIBRATED, source=replace(SOURCE, policy_version="tuned"))
    bench.goal()
    bench.run(0.5)
    assert "bound: not claimed (calibrated on policy, running tuned)" in bench.text


def test_another_reward_in_mid_episode_ends_it_and_nothing_moves_any_more(tmp_path):
    bench = Bench(tmp_path, CALIBRATED)
    batch = bench.goal(episodes=2)
    bench.run(0.5)
    bench.it.hear(replace(SOURCE, reward_hash="another"))
    bench.run(1.0)
    assert batch.last.verdict.termination is Termination.ERROR
    assert "reward_hash" in batch.paused and bench.it.want is Want.HOLD


def test_no_bound_is_claimed_once_a_person_has_led(tmp_path):
    bench = Bench(tmp_path, CALIBRATED)
    bench.goal()
    bench.run(0.5)
    bench.control = HUMAN
    bench.run(0.5)
    assert bench.it.promise == "bound: not claimed (a person helped)"


def test_a_calibration_is_found_beside_the_policy_and_a_named_one_must_exist(tmp_path):
    assert find_calibration("", str(tmp_path)) is None and find_calibration("", "") is None
    CALIBRATION.save(tmp_path / "calibration.json")
    assert find_calibration("", str(tmp_path)) == CALIBRATION
    with pytest.raises(CalibrationError, match="nowhere"):
        find_calibration(str(tmp_path / "nowhere.json"), str(tmp_path))


# People -------------------------------------------------------------------------------------------


def test_a_verdict_after_the_episode_relabels_it_and_its_batch(bench):
    with pytest.raises(RefusedError, match="no episode"):
        bench.it.judge(Outcome.SUCCESS)
    batch = bench.goal(episodes=2, timeout_s=1.0)
    bench.run(0.5)
    batch.pause("by anna")
    bench.run(1.5)
    assert batch.plan.tally.failures == 1
    bench.it.judge(Outcome.SUCCESS)
    bench.run(TICK_S)
    assert (batch.plan.tally.successes, batch.plan.tally.failures) == (1, 0)
    told = bench.happenings[-1]
    assert (told.episode_id, told.change) == ("e1", Change.RELABELLED)
    assert told.verdict.by == "anna" and "before: failure, timeout" in told.detail
    last = bench.it.memory.now.last
    assert last.verdict.outcome is Outcome.SUCCESS and last.judged_at.endswith("Z")
    assert bench.it.memory.now.tally.successes == 1


def test_going_on_is_refused_where_nobody_asked_or_hil_has_stopped(tmp_path):
    ladders = EscalationSettings(default=Ladder(hold_s=0.2))
    judging = replace(JUDGING, escalation=ladders, thresholds=Thresholds(stall_s=0.5))
    bench = Bench(tmp_path, judging)
    bench.goal()
    bench.run(0.3)
    with pytest.raises(RefusedError, match="asks for help"):
        bench.it.go_on(bench.t, HOLD)
    bench.run(1.0)
    assert "stall alarm" in bench.text and "~/go_on" in bench.text
    with pytest.raises(RefusedError, match="resume"):
        bench.it.go_on(bench.t, Control(1, "takeover: no source", True))
    bench.it.go_on(bench.t, HOLD)
    assert bench.it.want is Want.POLICY


def test_the_status_names_the_classifier_that_is_waited_for(tmp_path):
    bench = Bench(tmp_path, gate=ClassifierGate())
    bench.goal()
    bench.reward = 0.99
    bench.run(2.0)
    assert "complete by reward but no rewact/success received" in bench.text


# A restart ----------------------------------------------------------------------------------------


def test_a_supervisor_that_died_in_an_episode_gives_it_no_label_and_moves_nothing(tmp_path):
    died = Bench(tmp_path)
    died.goal(episodes=5)
    died.run(0.5)
    born = Bench(tmp_path)
    born.run(1.0)
    assert born.it.want is Want.HOLD and born.it.batch is None
    assert "4 of 5 episodes of 'tidy up' left" in born.text
    born.it.close_interrupted()
    born.run(TICK_S)
    assert born.changes() == [("e1", Change.VERDICT)]
    verdict = born.happenings[0].verdict
    assert (verdict.outcome, verdict.termination) == (
        Outcome.UNLABELLED,
        Termination.INTERRUPTED,
    )
    again = Bench(tmp_path)
    again.it.close_interrupted()
    assert not again.it.happenings  # told once


def test_the_rest_of_a_batch_is_run_when_a_person_says_so(tmp_path):
    died = Bench(tmp_path)
    died.goal(episodes=3, timeout_s=1.0)
    died.run(1.6)
    born = Bench(tmp_path)
    with pytest.raises(RefusedError, match="silent"):
        born.it.continue_batch(None)
    born.it.continue_batch(HOLD)
    batch = born.it.batch
    assert (batch.plan.begun, batch.plan.tally.failures, batch.plan.tally.unlabelled) == (2, 1, 1)
    born.run(5.0)
    assert batch.over and batch.plan.tally.failures == 2
    with pytest.raises(RefusedError, match="no batch"):
        born.it.continue_batch(HOLD)


def test_a_cancelled_batch_leaves_nothing_to_continue(bench):
    batch = bench.goal(episodes=3)
    bench.run(0.5)
    batch.end(Termination.CANCELLED, "by the client")
    bench.run(0.5)
    assert bench.it.memory.now.batch is None and bench.it.batch is None


def test_an_ordered_stop_ends_the_episode_and_keeps_the_rest_of_the_batch(bench, tmp_path):
    bench.goal(episodes=3)
    bench.run(0.5)
    bench.it.stop()
    assert bench.it.happenings[-1].verdict.termination is Termination.INTERRUPTED
    assert Bench(tmp_path).it.memory.now.batch.left == 2
    assert Bench(tmp_path).it.memory.open_episode is None


def test_a_damaged_memory_is_set_aside_and_named(tmp_path):
    file = state_file(str(tmp_path), "/left", "arm")
    assert file.name == "supervisor-left-arm.json"
    for damage in ("{", json.dumps({"format": 99}), json.dumps([1])):
        file.write_text(damage)
        memory = EpisodeMemory(file)
        assert "set aside" in memory.damaged and memory.now.last is None
        assert file.with_suffix(".damaged").read_text() == damage


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EpisodeMemoryError, match="state_dir"):
        EpisodeMemory(tmp_path / "file" / "state.json")


def test_a_disk_that_fails_later_is_told_and_ends_nothing(bench, tmp_path):
    bench.goal(timeout_s=1.0)
    bench.run(0.5)
    for file in tmp_path.iterdir():
        file.unlink()
    tmp_path.rmdir()
    bench.run(1.0)
    assert bench.it.batch is None and "not remembered" in bench.text
    tmp_path.mkdir()


# Bring-up -----------------------------------------------------------------------------------------


def test_bring_up_hands_the_supervisor_what_it_judges_by_and_starts_the_helpers(tmp_path):
    (tmp_path / "model.safetensors").touch()
    nodes = {
        p.name: p
        for p in processes(
            BringUp(
                policy=str(tmp_path),
                success_model=str(tmp_path),
                teleop="scripted_human",
                bags_dir="bags",
                sim=True,
            )
        )
    }
    assert list(nodes)[-3:] == ["reward_model", "scripted_human", "recorder"]
    assert nodes["recorder"].parameters["bags_dir"] == "bags"
    given = nodes["supervisor"].parameters
    assert given["policy"] == str(tmp_path) and given["success_model_required"] is True
    assert given["contract"] == nodes["hil"].parameters["contract"]
    assert nodes["reward_model"].parameters["model"] == str(tmp_path)
    gamepad = processes(BringUp(policy="none", teleop="gamepad", sim=True))[-1]
    assert (gamepad.name, gamepad.parameters["source"]) == ("teleop", "gamepad")
    with pytest.raises(ValueError, match="rewact teleop"):
        BringUp(teleop="keyboard")
    with pytest.raises(ValueError, match="success_model"):
        BringUp(success_model="nowhere")


# Documentation ------------------------------------------------------------------------------------


def test_the_documentation_lists_every_phase_and_every_ending():
    text = (ROOT / "docs" / "supervisor.md").read_text()
    for termination, (outcome, cause) in ENDINGS.items():
        assert f"| `{termination}` | {outcome} | {cause} |" in text
    for phase in ("idle", "paused", *(p.value for p in Phase if p is not Phase.DONE)):
        assert f"| `{phase}` |" in text
    assert set(ENDINGS) == set(Termination)


# What is remembered -------------------------------------------------------------------------------


def test_an_episode_is_remembered_from_its_first_tick_and_once(bench):
    bench.goal()
    bench.run(TICK_S)
    record = bench.it.memory.open_episode
    assert record is not None and record.episode_id == "e1"
    bench.it.judge(Outcome.SUCCESS)
    bench.run(TICK_S)
    verdict = bench.it.memory.now.last.verdict
    assert verdict.outcome is Outcome.SUCCESS and bench.it.memory.open_episode is None


def test_a_relabelled_episode_is_counted_once(tmp_path, bench):
    bench.goal(timeout_s=0.5)
    bench.run(2.0)
    assert bench.it.memory.now.tally == Tally(failures=1)
    for outcome, tally in (
        (Outcome.SUCCESS, Tally(successes=1)),
        (Outcome.SUCCESS, Tally(successes=1)),
        (Outcome.FAILURE, Tally(failures=1)),
    ):
        bench.it.judge(outcome)
        assert bench.it.memory.now.tally == tally
    assert Bench(tmp_path).it.memory.now.tally == Tally(failures=1)


def test_the_standing_counts_what_people_judged_and_takes_back_what_they_judge_anew(tmp_path):
    bench = Bench(tmp_path)
    assert bench.it.standing.startswith("n = 0: no β yet, 0.05 after 19 more")
    bench.goal()
    bench.run(1.0)
    bench.it.judge(Outcome.SUCCESS)
    bench.run(1.0)
    assert bench.it.standing.startswith("n = 1: β ≤ 0.5 now, 0.05 after 18 more; ")
    bench.goal()
    bench.reward = 1.0  # completes by itself, which nobody has judged yet
    bench.run(2.0)
    assert bench.it.memory.now.last.verdict.termination is Termination.PROGRESS
    assert bench.it.standing.startswith("n = 1: ")
    bench.it.judge(Outcome.FAILURE)  # a false completion: what it would have scored is not known
    assert bench.it.standing.startswith("n = 2: β ≤ 0.667 now, 0.05 after 37 more; ")
    bench.it.judge(Outcome.SUCCESS)
    assert bench.it.standing.startswith("n = 2: β ≤ 0.334 now, 0.05 after 17 more; ")
    again = Bench(tmp_path)
    assert again.it.standing == bench.it.standing
    again.it.hear(replace(SOURCE, policy_version="tuned"))
    again.goal()
    again.run(1.0)
    again.it.judge(Outcome.SUCCESS)
    again.run(1.0)
    assert again.it.standing.startswith("n = 1: ")  # of another policy


def test_a_memory_of_an_earlier_version_is_read_and_counts_from_now_on(tmp_path, bench):
    bench.goal()
    bench.run(1.0)
    bench.it.judge(Outcome.SUCCESS)
    bench.run(1.0)
    file = state_file(str(tmp_path), "/", "arm")
    content = json.loads(file.read_text())
    del content["judged"]
    for key in ("ended", "taken_over", "asked", "of"):
        del content["last"][key]
    file.write_text(json.dumps(content))
    memory = EpisodeMemory(file)
    assert not memory.damaged and memory.now.tally.successes == 1
    assert Supervisor(rules(JUDGING), bench.it._parts, memory, "anna").standing.startswith(
        "n = 0: "
    )


def test_an_episode_is_judged_by_its_own_tasks_threshold(tmp_path):
    groups = Groups("task", {"tidy up": 40, "rare": 3}, {"tidy up": Bound(0.05, 40, 39, 0.7)})
    judging = replace(JUDGING, calibration=replace(CALIBRATION, groups=groups))
    bench = Bench(tmp_path, judging)
    assert "(n 100)" in bench.it.bound
    bench.goal()
    bench.run(1.0)
    assert bench.it.episode.monitor.thresholds.completion == 0.7
    assert "(n 40, of task 'tidy up')" in bench.text
    bench.goal(task="rare", preempt=True)
    bench.run(1.0)
    assert bench.it.episode.monitor.thresholds.completion == 0.835
    assert "bound: not claimed (3 episodes of task 'rare' are too few)" in bench.text


def test_a_goal_judges_by_its_own_timeout_and_the_next_by_the_usual_one(tmp_path):
    bench = Bench(tmp_path, CALIBRATED)
    bench.goal(timeout_s=20.0)
    assert not bench.it.misfit
    with pytest.raises(RefusedError, match="timeout_s"):
        bench.goal(timeout_s=30.0)


def test_a_disk_that_works_again_is_no_fault_any_more(tmp_path):
    folder = tmp_path / "deep" / "state"
    memory = EpisodeMemory(state_file(str(folder), "/", "arm"))
    (file,) = folder.iterdir()  # written at once, so that a folder that cannot be is known now
    assert json.loads(file.read_text())["format"] == FORMAT
    file.unlink()
    folder.rmdir()
    memory.keep(Plan("tidy up", 0.0, 2))
    assert memory.fault
    folder.mkdir()
    memory.keep(Plan("tidy up", 0.0, 3))
    assert memory.fault == "" and EpisodeMemory(file).now.batch.episodes == 3


def test_memory_lies_where_xdg_says_and_an_unknown_format_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    expected = tmp_path / "state" / "rewact_ros" / "supervisor-arm.json"
    assert state_file("", "/", "arm") == expected
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".local" / "state" / "rewact_ros" / "supervisor-arm.json"
    assert state_file("", "/", "arm") == expected
    file = tmp_path / "supervisor-arm.json"
    file.write_text(json.dumps({"format": 99}))
    assert f"format: expected {FORMAT}, got 99" in EpisodeMemory(file).damaged
