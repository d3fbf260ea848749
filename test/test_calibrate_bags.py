"""Thresholds from recordings of ordinary work: what each episode tells, and what none may hide."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import ROOT, run_command
from test_bags import START_NS, contract_of, write_bag
from test_export import PERIOD, contract_file

from rewact_ros import strict_yaml
from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode
from rewact_ros.data.bags.day import only_day, read_days
from rewact_ros.data.bags.day_settings import DaySource
from rewact_ros.data.bags.day_signals import DaySignals, Score, day_basis
from rewact_ros.data.bags.episode_file import EpisodeRecord, write_episode
from rewact_ros.data.bags.episode_labels import label_episode
from rewact_ros.data.bags.worked import read_worked
from rewact_ros.learning.evaluation.scorers import open_scorer
from rewact_ros.msg import ControlStatus, EpisodeEvent, Reward
from rewact_ros.ros.convert import joint_state_message, to_stamp
from rewact_ros.ros.images import image_message
from rewact_ros.supervision.calibration import (
    CalibrationError,
    CalibrationSettings,
    load_calibration,
)
from rewact_ros.supervision.completion import completion_score
from rewact_ros.supervision.evidence import Ended, Kind, Use, kind_of, use_of
from rewact_ros.supervision.signals import SignalSettings
from rewact_ros.supervision.standing import Judged, standing
from rewact_ros.supervision.verdict import Outcome, Termination

MS = 1_000_000
FRAMES = 40  # 2 s, the time-out
TIMEOUT_S = FRAMES / 20
ADA = {"by": "ada"}
SUPERVISOR = {"by": "supervisor"}


def at(frame):
    return START_NS + round(frame * PERIOD)


def event(kind, frame, **more):
    said = EpisodeEvent(episode_id="e", event=kind, **more)
    said.header.stamp = to_stamp(at(frame))
    return "/rewact/episode_event", at(frame), said


def mode(value, frame):
    status = ControlStatus(mode=value)
    status.header.stamp = to_stamp(at(frame))
    return "/rewact/control_status", at(frame), status


def rewards(values, judge="judge"):
    for k, value in enumerate(values):
        reward = Reward(value=float(value), q10=math.nan, reward_hash=judge)
        reward.header.stamp = to_stamp(at(k))
        yield "/rewact/reward", at(k) + 20 * MS, reward


def work(
    bags, name, ending, end=FRAMES, outcome="failure", by=ADA, values=None, extra=(), said=None,
    judge="judge", **fields,
):  # fmt: skip
    """A supervised episode that ends after `end` frames; `said`: the outcome of its verdict."""
    values = np.linspace(0, 0.5, FRAMES + 20) if values is None else values
    known = ("unlabelled", "success", "failure")
    verdict = {"outcome": known.index(said or outcome), "termination_reason": ending}
    messages = [
        mode(Mode.HOLD, -10),
        event(EpisodeEvent.STARTED, -5),
        mode(Mode.POLICY, -0.5),
        event(EpisodeEvent.RUNNING, -0.4),
        *extra,
        *rewards(values, judge),
        event(EpisodeEvent.VERDICT, end, **verdict),
        mode(Mode.HOLD, end + 0.5),
    ]
    return keep(bags, name, messages, end, outcome=outcome, termination_reason=ending,
                running_ns=at(-0.4), **by, **fields)  # fmt: skip


def keep(bags, name, messages, end, **fields):
    write_bag(bags / name, messages)
    contract = strict_yaml.load(contract_file(bags / name))
    (bags / name / "contract.yaml").unlink()
    known = {
        "task": "touch",
        "contract": contract,
        "contract_hash": "c",
        "policy_version": "v1",
        "started_ns": at(-12),
        "ended_ns": at(end + 1),
    } | fields
    write_episode(bags / name, EpisodeRecord(name, **known))
    return bags / name


def kind_in(bags, timeout_s=TIMEOUT_S, **asked):
    day = only_day(DaySource(bags, timeout_s=timeout_s, **asked))
    return [day.kind(episode) for episode in day.episodes]


# What an ending tells ----------------------------------------------------------------------------

KINDS = {
    "pressed": (Kind.SUCCESS, {"ending": "human", "end": 30, "outcome": "success"}),
    "confirmed": (Kind.CONFIRMED, {"ending": "progress", "end": 30, "outcome": "success"}),
    "falsely": (Kind.FALSELY, {"ending": "progress", "end": 30, "said": "success"}),
    "unseen": (
        Kind.UNSEEN, {"ending": "progress", "end": 30, "outcome": "success", "by": SUPERVISOR}
    ),
    "failure": (Kind.FAILURE, {"ending": "timeout"}),
    "timed out": (Kind.TIMED_OUT, {"ending": "timeout", "by": SUPERVISOR}),
    "late success": (
        Kind.CONFIRMED, {"ending": "timeout", "said": "failure", "outcome": "success"}
    ),
    "stopped": (Kind.STOPPED, {"ending": "human", "end": 20}),
    "stopped late": (Kind.FAILURE, {"ending": "human", "end": 50}),
    "early time-out": (Kind.BROKEN_OFF, {"ending": "timeout", "end": 20}),
    "alarm": (Kind.ALARM, {"ending": "alarm", "end": 20}),
    "called": (
        Kind.ALARM,
        {"ending": "human", "outcome": "success", "extra": [event(EpisodeEvent.HELP, 15)]},
    ),
    "taken over": (
        Kind.TAKEN_OVER,
        {"ending": "human", "outcome": "success", "extra": [mode(Mode.HUMAN, 15)]},
    ),
    "cancelled": (
        Kind.BROKEN_OFF,
        {"ending": "cancelled", "end": 20, "outcome": "unlabelled", "by": SUPERVISOR},
    ),
    "changed mind": (
        Kind.CONFIRMED, {"ending": "human", "end": 20, "said": "failure", "outcome": "success"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_an_episode_is_used_by_how_it_ended_and_who_judged(tmp_path, name):
    kind, how = KINDS[name]
    work(tmp_path, "one", **how)
    assert kind_in(tmp_path) == [kind]


def test_an_end_that_looks_at_the_score_is_never_left_out_by_itself():
    for termination in (Termination.PROGRESS, Termination.ALARM):
        for outcome in (Outcome.FAILURE, Outcome.UNLABELLED):
            for attended in (False, True):
                kind = kind_of(Ended(termination, outcome))
                assert use_of(kind, attended) is Use.UNKNOWN
    assert use_of(kind_of(Ended("timeout", Outcome.UNLABELLED), True), False) is Use.LEFT_OUT
    assert all(use_of(kind, attended) for kind in Kind for attended in (False, True))
    # Whoever stops a failure hides what it would have scored, unless stops are part of the work.
    assert [use_of(Kind.STOPPED, attended) for attended in (False, True)] == [
        Use.UNKNOWN,
        Use.EXACT,
    ]


def test_the_documentation_has_a_row_for_every_way_to_end():
    text = (ROOT / "docs" / "calibration.md").read_text()
    assert [kind for kind in Kind if f"\n| {kind}" not in text] == []


def test_a_persons_own_recording_counts_by_its_key_until_it_is_judged_anew(tmp_path):
    ended = at(30)
    pressed = datetime.fromtimestamp(ended / NANO, UTC).isoformat(timespec="seconds")
    messages = [mode(Mode.POLICY, -2), *rewards(np.linspace(0, 1, 35))]
    keep(tmp_path, "key", messages, 29, outcome="success", termination_reason="human",
         labelled_at=pressed, **ADA)  # fmt: skip
    assert kind_in(tmp_path) == [Kind.SUCCESS]
    label_episode(tmp_path / "key", "failure", "bob")
    assert kind_in(tmp_path) == [Kind.BROKEN_OFF]


def test_a_demonstration_and_one_without_an_end_tell_nothing(tmp_path):
    led = [mode(Mode.HUMAN, -2), *rewards(np.linspace(0, 1, 35))]
    keep(tmp_path, "shown", led, 30, outcome="success", termination_reason="human", **ADA)
    assert "no policy led" in read_worked(tmp_path / "shown")
    open_ended = keep(tmp_path, "cut", [mode(Mode.POLICY, 0), *rewards([0.1])], 2, ended_ns=None)
    assert "no end" in read_worked(open_ended)
    with pytest.raises(CalibrationError, match=r"a policy led, found none \(1: "):
        read_days(DaySource(tmp_path))


def test_somebody_elses_verdict_ends_no_episode(tmp_path):
    from rewact_ros.tokens import TokenSender

    sender, other = TokenSender(), TokenSender()
    said = []
    for kind, frame, by in (
        (EpisodeEvent.STARTED, -5, sender), (EpisodeEvent.RUNNING, -0.4, sender),
        (EpisodeEvent.VERDICT, 5, other), (EpisodeEvent.VERDICT, 40, sender),
    ):  # fmt: skip
        topic, ns, message = event(kind, frame, outcome=2, termination_reason="timeout")
        message.proof, message.next = by.link()
        said.append((topic, ns, message))
    messages = [mode(Mode.POLICY, -0.5), *said, *rewards(np.zeros(60)), mode(Mode.HOLD, 41)]
    path = keep(tmp_path, "one", messages, 40, outcome="failure", running_ns=at(-0.4), **ADA)
    assert len(read_worked(path).samples) == 40


# Scores ------------------------------------------------------------------------------------------


def measured(bags, classifier, settings=None, **asked):
    day = only_day(DaySource(bags, timeout_s=TIMEOUT_S, **asked))
    score = Score(classifier, open_scorer(classifier, "cpu").reward_hash)
    contract, basis = day_basis(score, day)
    found = DaySignals(day, score, contract, settings or CalibrationSettings(), "cpu")
    return found, found.episodes(SignalSettings(level="mean", filter_s=1e-6)), basis


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A success classifier that looks at the camera of `contract_of`."""
    from rewact_ros.reward.classifier import ResNetRewardModel, RewardModelConfig
    from rewact_ros.reward.classifier_checkpoint import save_classifier

    config = RewardModelConfig(
        ("observation.images.front",), arch="small_cnn", image_size=(24, 32), hidden_dim=8
    )
    folder = tmp_path_factory.mktemp("judge") / "classifier"
    save_classifier(folder, ResNetRewardModel(config))
    return folder


@pytest.fixture(scope="module")
def own(classifier):
    """The classifier's reward hash."""
    return open_scorer(classifier, "cpu").reward_hash


def test_a_key_press_counts_less_the_reaction_and_a_confirmation_up_to_the_call(
    tmp_path, classifier, own
):
    rising = np.linspace(0, 1, 60)
    work(tmp_path, "a-key", "human", 35, "success", values=rising, judge=own)
    work(tmp_path, "b-called", "progress", 30, "success", values=rising, judge=own)
    work(tmp_path, "c-falsely", "progress", 30, values=rising, judge=own, said="success")
    work(tmp_path, "d-failure", "timeout", 40, values=0.3 * rising, judge=own)
    work(tmp_path, "e-stopped", "human", 25, values=rising, judge=own)
    for attended in (False, True):
        asked = CalibrationSettings(attended=attended)
        found, episodes, _ = measured(tmp_path, classifier, asked, reaction_s=0.25)
        assert found.again == 0  # the recorded rewards are this judge's own
        scores = [completion_score(e, FRAMES) for e in episodes]
        # Eight of ten hold what was reached seven samples before.
        expected = [rising[29 - 7], rising[28 - 7], math.inf, 0.3 * rising[39 - 7]]
        expected += [rising[24 - 7] if attended else math.inf]
        assert scores == pytest.approx(expected, abs=1e-6)
    assert [e.success for e in episodes] == [30, 29, None, None, None]


def test_a_success_at_a_moment_that_was_told_afterwards_counts_up_to_it(
    tmp_path, classifier, own, monkeypatch
):
    rising = np.linspace(0, 1, 60)
    folder = work(tmp_path, "one", "timeout", values=rising, judge=own)
    label = ("bag", "label", folder, "--by", "bob")
    since = 10 / 20  # the first message came ten frames before the policy led
    moment = ("--outcome", "success", "--at", since + 24.5 / 20)
    assert run_command(monkeypatch, *label, *moment) == 0
    assert kind_in(tmp_path) == [Kind.SUCCESS]
    _, (episode,), _ = measured(tmp_path, classifier)
    assert episode.success == 25
    assert completion_score(episode, FRAMES) == pytest.approx(rising[24 - 7], abs=1e-6)
    assert run_command(monkeypatch, *label, "--outcome", "success") == 0
    assert kind_in(tmp_path) == [Kind.CONFIRMED]  # at a moment that nobody tells
    label_episode(folder, "success", "bob", succeeded_s=60.0)
    assert kind_in(tmp_path) == [Kind.CONFIRMED]  # after its end
    assert run_command(monkeypatch, *label, "--outcome", "failure", "--at", 1.0) == 2


def test_a_hold_begins_the_signals_anew_as_it_does_live(tmp_path, classifier, own):
    high = [0.9] * 15 + [0.5] * 45
    held = [mode(Mode.HOLD, 14.9), mode(Mode.POLICY, 15)]
    work(tmp_path, "held", "timeout", 45, values=high, judge=own, extra=held)
    _, (episode,), _ = measured(tmp_path, classifier)
    assert np.isnan(episode.held[15:24]).all() and episode.held[24] == pytest.approx(0.5)
    assert episode.scores["drawdown"][20] == pytest.approx(0)


def test_by_another_judge_the_frames_are_scored_anew_and_as_live(tmp_path, classifier):
    rng, pictures = np.random.default_rng(0), []
    seen = []
    for k in range(FRAMES):
        picture = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        pictures.append(picture)
        seen.append(("/front/image_raw", at(k) + 2 * MS,
                     image_message(picture, to_stamp(at(k)), "camera")))  # fmt: skip
        joints = joint_state_message(("a", "b"), "position", np.zeros(2), to_stamp(at(k)))
        seen.append(("/joint_states", at(k) + MS, joints))
    work(tmp_path, "one", "timeout", judge="another", extra=seen)
    found, (episode,), basis = measured(tmp_path, classifier)
    assert found.again == 1 and basis.policy_version == "v1"
    scorer = open_scorer(classifier, "cpu")
    from rewact_ros.reward.judges import JudgeSettings, open_judge

    judge = open_judge(classifier, contract_of(), JudgeSettings("cpu"), print)[0]
    last = [judge.infer({scorer.cameras[0]: p}).reward for p in pictures[-10:]]
    assert len(episode.held) in (FRAMES - 1, FRAMES)  # the first picture met no joints yet
    assert episode.held[-1] == pytest.approx(sorted(last)[2], abs=1e-4)
    work(tmp_path / "blind", "one", "timeout", judge="another")
    with pytest.raises(CalibrationError, match="another judge spoke in this recording"):
        measured(tmp_path / "blind", classifier)


def test_episodes_of_two_policies_are_never_mixed(tmp_path):
    work(tmp_path, "a", "timeout")
    work(tmp_path, "b", "timeout", policy_version="v2")
    with pytest.raises(CalibrationError, match=r"of v1 \(1\), v2 \(1\); choose one with --driver"):
        only_day(DaySource(tmp_path))
    day = only_day(DaySource(tmp_path, driver="v2"))
    assert day.driver == "v2" and day.table(False)[-1] == ("another policy led", 1, "left out")
    assert day.timeout_s == 2.0  # as those lasted that ended by it
    work(tmp_path / "other", "c", "human", 30, "success")
    assert read_days(DaySource(tmp_path / "other"))[0].standing.standing().startswith("n = 1: ")
    with pytest.raises(CalibrationError, match="time-out is not known"):
        only_day(DaySource(tmp_path / "other"))


# The command -------------------------------------------------------------------------------------


def test_the_command_calibrates_a_day_and_says_where_it_stands(
    tmp_path, classifier, own, monkeypatch, capsys
):
    rng = np.random.default_rng(0)
    for i in range(9):
        rising = np.clip(np.linspace(0, 1, 60) + rng.normal(0, 0.01, 60), 0, 1)
        good = {"ending": "human", "end": 35, "outcome": "success"}
        bad = {"ending": "timeout", "end": 40}
        scale = 1 if i % 3 else 0.3
        how = {"values": scale * rising, "judge": own, **(good if i % 3 else bad)}
        work(tmp_path / "day", f"e{i}", **how)
    wrong = rising  # judged a failure by mistake
    work(tmp_path / "day", "f", "timeout", 40, values=wrong, judge=own)
    options = ("--bags", tmp_path / "day", "--beta", 0.2, "--alpha", 0.9)
    assert run_command(monkeypatch, "calibrate", *options, "--standing") == 0
    shown = capsys.readouterr().out
    assert "led by v1:" in shown and "4  failure up to the time-out" in shown
    assert "n = 10: β ≤ 0.2 now" in shown
    out = tmp_path / "made.json"
    rest = ("--policy", classifier, "--out", out, "--groups", "task", "--device", "cpu")
    assert run_command(monkeypatch, "calibrate", *options, *rest) == 0
    shown = capsys.readouterr().out
    assert "look again at f: judged a failure" in shown
    made = load_calibration(out)
    assert (made.episodes, made.successes, made.basis.policy_version) == (10, 6, "v1")
    assert set(made.groups.counts) == {"touch"}
    assert run_command(monkeypatch, "calibrate", "--policy", classifier) == 2
    assert "either --dataset or --bags" in capsys.readouterr().err


# Where it stands ---------------------------------------------------------------------------------


def test_the_standing_says_what_n_supports_and_what_is_missing():
    assert standing(12, 9).startswith("n = 12: β ≤ 0.077 now, 0.05 after 7 more; ")
    assert standing(19, 19).startswith("n = 19: β ≤ 0.05 now; α ")
    assert standing(0, 0) == (
        "n = 0: no β yet, 0.05 after 19 more; no α yet, 0.05 after 79 more successes"
    )
    assert standing(120, 79).endswith("α ≤ 0.05 now")
    assert standing(120, 78).endswith("0.05 after 1 more successes")
    # Each episode whose score is not known takes the place of one that may exceed.
    assert standing(19, 19, unknown=1).startswith("n = 19: β ≤ 0.1 now, 0.05 after 20 more")
    loose = CalibrationSettings(beta=0.1, verdict_error=0.05)
    assert standing(18, 9, loose).startswith("n = 18: β ≤ 0.103 now, 0.1 after 1 more")


def test_the_standing_agrees_with_what_calibration_accepts():
    from fractions import Fraction

    from rewact_ros.supervision.conformal import conformal_bound

    for n in (18, 19, 38, 39, 60):
        for unknown in (0, 1, 2):
            scores = [*range(n - unknown), *[math.inf] * unknown]
            try:
                conformal_bound(scores, Fraction(1, 20))
                supported = True
            except CalibrationError:
                supported = False
            said = standing(n, 0, unknown=unknown)
            assert said.startswith(f"n = {n}: β ≤ 0.05 now") == supported


def test_judged_episodes_are_counted_by_kind():
    day = Judged("one").add(Kind.SUCCESS).add(Kind.FALSELY).add(Kind.STOPPED)
    assert day.standing().startswith("n = 3: β ≤ 0.75 now")
    attended = CalibrationSettings(attended=True)
    assert day.standing(attended).startswith("n = 3: β ≤ 0.5 now")
    assert day.add(Kind.FALSELY, -1).standing(attended).startswith("n = 2: β ≤ 0.334 now")
