"""Judging a predicted progress: labels of roll-outs, baselines, figures, reports."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from rewact_ros.episodes.rollout_dataset import record_rollouts
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.learning.evaluation.ablations import ABLATIONS, predict_curves
from rewact_ros.learning.evaluation.dataset import (
    CLOCK,
    JOINTS,
    POLICY,
    EvaluationError,
    EvaluationSettings,
    evaluate_dataset,
)
from rewact_ros.learning.evaluation.report import write_report
from rewact_ros.learning.evaluation.reward import Curve, LabelledEpisode, judge
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.reward.baselines import ClockBaseline, ProprioceptionBaseline
from rewact_ros.reward.labels import task_progress
from rewact_ros.sim.pick_place.labels import Events, Pace, attempts_progress

PACE = Pace(closed=37, over_tray=64, released=78)


def events(n: int, **frames: tuple[int, int]) -> Events:
    """An arm that never leaves the cube, its gripper open; spans set a flag or close it."""
    flags = {key: np.zeros(n, bool) for key in ("success", "failed", "held", "placing")}
    gripper = np.ones(n)
    for name, (first, last) in frames.items():
        if name.startswith("closed"):
            gripper[first:last] = 0.05
        else:
            flags[name.split("_")[0]][first:last] = True
    gripper[flags["held"]] = 0.45
    return Events(**flags, gripper=gripper, distance_m=np.full(n, 0.1))


# -- labels of roll-outs -------------------------------------------------------------------


def test_an_undisturbed_rollout_is_labelled_as_a_demonstration_is():
    truth = events(100, held=(40, 70), placing=(70, 82), success=(84, 100))
    np.testing.assert_allclose(
        attempts_progress(truth, PACE), task_progress(100, PACE.done, success_frame=84)
    )


def test_a_miss_falls_to_zero_and_a_second_attempt_climbs_from_its_approach():
    truth = events(
        200, closed=(38, 60), failed=(42, 140), held=(120, 150), placing=(150, 165),
        success=(170, 200),
    )  # fmt: skip
    truth.distance_m[60:80] = np.r_[np.linspace(0.1, 0.3, 10), np.linspace(0.3, 0.1, 10)]
    labels = attempts_progress(truth, PACE)
    assert 0.3 < labels[42] <= labels[:43].max() and labels[48] == 0
    assert (labels[48:70] == 0).all()  # until the fingers are farthest from the cube
    assert labels[100] > 0 and (np.diff(labels[70:]) >= 0).all()
    assert labels[169] < 1 and (labels[170:] == 1).all()


def test_a_second_miss_falls_although_the_truth_tells_no_new_failure():
    labels = attempts_progress(
        events(160, closed=(38, 60), failed=(42, 160), closed_2=(110, 130)), PACE
    )
    assert labels[105] > 0.2 and labels[120] == 0 and labels[-1] == 0


def test_fingers_that_half_close_on_nothing_and_open_again_have_missed():
    truth = events(120)
    truth.gripper[40:50] = 0.5
    labels = attempts_progress(truth, PACE)
    assert labels[49] > 0.3 and labels[60] == 0


def test_hovering_is_no_progress():
    labels = attempts_progress(events(400), PACE)
    nominal = task_progress(400, PACE.done, failure_frame=399)
    assert labels[-1] == nominal[PACE.closed] < 0.5


def test_a_cube_knocked_out_of_the_tray_is_a_failure():
    labels = attempts_progress(
        events(140, held=(40, 70), placing=(70, 82), success=(84, 110), failed=(120, 140)), PACE
    )
    assert labels[109] == 1 and labels[116] == 0 and labels[-1] == 0


# -- baselines -----------------------------------------------------------------------------


def test_the_clock_follows_the_mean_label_and_stays_at_its_end():
    ramp = np.linspace(0, 1, 50, dtype=np.float32)
    clock = ClockBaseline([ramp, ramp, np.full(20, np.nan, np.float32)])
    predicted = clock.predict(np.zeros((80, 3), np.float32))
    np.testing.assert_allclose(predicted[:50], ramp, atol=1e-6)
    assert (predicted[50:] == predicted[49]).all()


def test_the_clock_never_runs_backwards():
    fails = np.r_[np.linspace(0, 0.5, 30), np.zeros(30)].astype(np.float32)
    assert (np.diff(ClockBaseline([fails]).predict(np.zeros((60, 1)))) >= 0).all()


def test_the_joints_tell_progress_where_it_lies_in_them_and_nothing_where_it_does_not():
    rng = np.random.default_rng(0)
    label = np.linspace(0, 1, 60, dtype=np.float32)
    telling = [np.c_[label, rng.normal(size=60)].astype(np.float32) for _ in range(8)]
    blind = [rng.normal(size=(60, 2)).astype(np.float32) for _ in range(8)]
    for states, low, high in ((telling, 0.0, 0.06), (blind, 0.15, 0.4)):
        baseline = ProprioceptionBaseline(states[:7], [label] * 7, seeds=(0,), steps=300)
        assert low < np.abs(baseline.predict(states[7]) - label).mean() < high


# -- figures -------------------------------------------------------------------------------


def episode(index: int, labels: np.ndarray, succeeds: bool) -> LabelledEpisode:
    times_s = np.arange(len(labels)) / 20
    return LabelledEpisode(index, times_s, labels, succeeds, np.zeros((len(labels), 1), np.float32))


@pytest.fixture
def truth() -> list[LabelledEpisode]:
    good = task_progress(120, 84, success_frame=84).astype(float)
    bad = task_progress(120, 84, failure_frame=45).astype(float)
    return [episode(i, good if i % 2 else bad, bool(i % 2)) for i in range(8)]


def test_a_perfect_predictor_gets_perfect_figures(truth):
    figures = judge(truth, [Curve(e.labels) for e in truth]).figures
    for name, value in {
        "mae": 0, "roc_auc": 1, "pr_auc": 1, "ece": 0, "progress_ece": 0, "drops_detected": 1,
        "false_drops": 0, "crossed": 1,
    }.items():  # fmt: skip
        assert figures[name].value == pytest.approx(value, abs=0.02), name
    assert figures["voc_success"].value > 0.99 and figures["voc_failure"].value < 0.5
    assert -0.5 < figures["crossing_delay_s"].value < 0.1
    assert 0 <= figures["drop_delay_s"].value < 0.3
    assert figures["mae"].n == 8 and figures["drops_detected"].n == 4
    assert "coverage" not in figures


def test_a_second_attempt_does_not_count_as_undisturbed(truth):
    labels = task_progress(200, 84, success_frame=170, failure_frame=45, resume_frame=80)
    retried = episode(9, labels.astype(float), True)
    figures = judge([*truth, retried], [Curve(e.labels) for e in [*truth, retried]]).figures
    assert figures["voc_success"].n == 5 and figures["voc_undisturbed"].n == 4
    assert figures["voc_undisturbed"].value > 0.99 > figures["voc_success"].value


def test_a_clock_orders_time_perfectly_and_tells_no_success_from_failure(truth):
    ramp = np.linspace(0, 1, 120)
    figures = judge(truth, [Curve(ramp) for _ in truth]).figures
    assert figures["voc_success"].value == figures["voc_failure"].value == pytest.approx(1)
    assert figures["roc_auc"].value == 0.5 and figures["drops_detected"].value == 0
    assert figures["mae"].value > 0.2


def test_one_high_sample_makes_no_failure_a_success(truth):
    spiked = [e.labels.copy() for e in truth]
    for labels, e in zip(spiked, truth, strict=True):
        if not e.succeeds:
            labels[80] = 1.0
    assert judge(truth, [Curve(labels) for labels in spiked]).figures["roc_auc"].value == 1


def test_unknown_labels_are_left_out_and_missing_kinds_give_no_figure(truth):
    only_good = [e for e in truth if e.succeeds]
    only_good[0].labels[10:20] = np.nan
    figures = judge(only_good, [Curve(np.nan_to_num(e.labels)) for e in only_good]).figures
    assert figures["mae"].value == 0
    assert math.isnan(figures["roc_auc"].value) and math.isnan(figures["voc_failure"].value)


def test_the_coverage_of_quantiles_counts_labels_within_them(truth):
    wide = [Curve(e.labels, np.stack([e.labels - 0.1, e.labels, e.labels + 0.1], 1)) for e in truth]
    off = [Curve(c.progress, c.quantiles + 0.2) for c in wide]
    assert judge(truth, wide).figures["coverage"].value == 1
    assert judge(truth, off).figures["coverage"].value == 0


def test_a_curve_of_another_length_is_refused(truth):
    with pytest.raises(ValueError, match="episode 0: expected 120 predictions, got 5"):
        judge(truth, [Curve(np.zeros(5))] * len(truth))


# -- on a dataset --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory, tiny_policy, vx300s) -> Path:
    """Two short roll-outs of an untrained policy."""
    out = tmp_path_factory.mktemp("rollouts") / "set"
    settings = RolloutSettings(limit_s=1.5, action_noise_rad=0.05, push_n=2.0)
    done = list(
        record_rollouts(load_policy(tiny_policy, "cpu"), vx300s, [140_000, 140_001], settings, out)
    )
    assert [rollout.success for rollout in done] == [False, False]
    return out


def test_recorded_rollouts_carry_labels_and_the_policys_own_prediction(rollouts, tiny_policy):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/set", root=rollouts, video_backend="pyav")
    table = dataset.hf_dataset.with_format("numpy")[:]
    assert dataset.meta.total_episodes == 2 and len(table["action"]) == 60
    assert table["demo_is_pad"].all() and not table["next.success"].any()
    assert np.flatnonzero(table["next.done"]).tolist() == [29, 59]
    assert (np.diff(table["next.reward"][:30]) >= 0).all() and table["next.reward"][29] > 0
    assert not np.array_equal(table["action"][0], table["action"][1])
    report = json.loads((rollouts / "meta" / "rollouts.json").read_text())
    assert report["settings"]["push_n"] == 2.0 and len(report["episodes"]) == 2
    # Replayed from the video, the policy says what it said live.
    data = load_demonstrations(rollouts)
    data.decode(None, [0], rollouts.parent / "cache", progress=False)
    replayed = predict_curves(load_policy(tiny_policy, "cpu"), data, [0])[0].progress
    np.testing.assert_allclose(replayed, table["predicted_reward"][:30], atol=0.02)


def test_an_existing_dataset_is_not_overwritten(rollouts, tiny_policy, vx300s):
    with pytest.raises(ValueError, match="exists"):
        next(
            record_rollouts(
                load_policy(tiny_policy, "cpu"), vx300s, [0], RolloutSettings(), rollouts
            )
        )


def test_an_evaluation_reports_policy_baselines_and_ablations(rollouts, tiny_policy, tmp_path):
    settings = EvaluationSettings(rollouts, "0", train_episodes="1", cache=tmp_path / "cache")
    evaluation = evaluate_dataset(load_policy(tiny_policy, "cpu"), settings)
    assert set(evaluation.reward) == {POLICY, CLOCK, JOINTS, *ABLATIONS}
    assert evaluation.actions == {}  # roll-outs are no demonstrations
    assert evaluation.reward[CLOCK].figures["mae"].value < 0.1
    seen = evaluation.reward[POLICY].curves[0].progress
    for name in ABLATIONS:
        assert not np.array_equal(evaluation.reward[name].curves[0].progress, seen), name
    files = write_report(tmp_path, evaluation, {"policy": {"path": "tiny"}})
    assert {file.name for file in files} == {
        "summary.json", "report.md", "progress.png", "calibration.png",
    }  # fmt: skip
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["episodes"] == {"n": 1, "successes": 0, "frames": 30}
    assert document["reward"][POLICY]["roc_auc"]["value"] is None  # one kind of episode only
    assert document["judge"]["told"] is False and document["judge"]["auc"] is None
    assert "judge: not known (0 successes, 1 failures" in (tmp_path / "report.md").read_text()
    assert "| clock only |" in (tmp_path / "report.md").read_text()


def test_baselines_are_not_judged_on_episodes_that_they_were_fitted_on(rollouts, tiny_policy):
    settings = EvaluationSettings(rollouts, "0:2", train_episodes="1")
    with pytest.raises(EvaluationError, match=r"\[1\] in both"):
        evaluate_dataset(load_policy(tiny_policy, "cpu"), settings)


def test_a_dataset_of_another_robot_is_refused(rollouts, g1, tmp_path):
    from conftest import write_policy

    loaded = load_policy(write_policy(g1, tmp_path / "g1", image_size=(32, 32)), "cpu")
    with pytest.raises(EvaluationError, match="expected shape"):
        evaluate_dataset(loaded, EvaluationSettings(rollouts))


@pytest.mark.parametrize(
    ("change", "name"),
    [({"replan_steps": 0}, "replan_steps"), ({"action_noise_rad": 3.0}, "action_noise_rad")],
)
def test_rollout_settings_out_of_range_are_refused(change, name):
    with pytest.raises(ValueError, match=name):
        RolloutSettings(**change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": "24:30"}, "how many"),
        ({"dataset": Path("d"), "env": "m:f"}, "not both"),
        ({"dataset": Path("d"), "record": Path("r")}, "recorded already"),
    ],
)
def test_options_of_eval_that_exclude_each_other_are_refused(tiny_policy, options, message):
    from rewact_ros.cli.evaluate import evaluate

    with pytest.raises(ValueError, match=message):
        evaluate(tiny_policy, **options)
