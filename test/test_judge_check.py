"""A reward that cannot tell success from failure is said to be no judge, and a good one is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, VX300S
from safetensors.torch import load_file, save_file

from rewact_ros.learning.evaluation.judging import check_progress, check_rewards
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.reward.judge_check import LEAST, check_judge
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import processes
from rewact_ros.stack.judge_warning import judge_warnings
from rewact_ros.supervision.calibration import load_calibration

RATE_HZ = 20.0
OUTCOMES = np.repeat([True, False], 20)


def ramp(frames: int, top: float = 1.0) -> np.ndarray:
    return np.linspace(0, top, frames)


# -- the rule ------------------------------------------------------------------------------


def test_scores_without_meaning_are_no_judge_and_separated_ones_are_one():
    rng = np.random.default_rng(0)
    blind = [check_judge(rng.random(40), OUTCOMES).fault != "" for _ in range(40)]
    assert np.mean(blind) >= 0.95
    seeing = check_judge(np.where(OUTCOMES, 0.95, 0.3) + 0.05 * rng.random(40), OUTCOMES)
    assert seeing.told and seeing.fault == "" and seeing.low == 1.0
    assert seeing.line.startswith("judge: tells success from failure (AUC 1.000")


def test_a_judge_that_is_better_than_chance_and_worse_than_three_in_four_is_none():
    rng = np.random.default_rng(0)
    found = check_judge(
        rng.normal(size=400) + 0.5 * np.repeat([1, 0], 200), np.repeat(OUTCOMES, 10)
    )
    assert 0.55 < found.low < found.auc < 0.75
    assert found.line.startswith("NO JUDGE: its failures score like successes")


def test_a_head_that_the_joints_equal_is_none_unless_it_is_sure():
    rng = np.random.default_rng(1)
    middling = np.repeat(OUTCOMES, 5) * 1.7 + rng.normal(size=200)
    outcomes = np.repeat(OUTCOMES, 5)
    same = check_judge(middling, outcomes, joints=middling)
    assert 0.75 <= same.low < 0.9 and "joints alone" in same.fault
    assert check_judge(middling, outcomes, joints=rng.random(200)).fault == ""
    sure = outcomes.astype(float)
    assert check_judge(sure, outcomes, joints=sure).fault == ""


def test_too_few_episodes_are_not_told_of():
    few = np.repeat([True, False], LEAST - 1)
    found = check_judge(few.astype(float), few)
    assert not found.told and found.fault == "" and "not known" in found.line
    none = check_judge(np.ones(3), np.ones(3, bool))
    assert not none.told and "not known" in none.line


# -- on curves -----------------------------------------------------------------------------


def test_a_clock_is_no_judge_although_its_failures_ran_longer():
    rng = np.random.default_rng(0)
    lengths = np.where(OUTCOMES, rng.integers(80, 120, 40), 400)
    clock = [np.minimum(np.arange(n) / 100, 1.0) for n in lengths]
    assert check_progress(clock, OUTCOMES, RATE_HZ).fault
    seeing = [c if s else 0.3 * c for c, s in zip(clock, OUTCOMES, strict=True)]
    assert not check_progress(seeing, OUTCOMES, RATE_HZ).fault


def test_joints_that_move_alike_in_success_and_failure_tell_nothing():
    outcomes = OUTCOMES[10:30]
    rng = np.random.default_rng(0)
    states = [np.c_[ramp(100), rng.normal(0, 0.02, 100)].astype(np.float32) for _ in range(20)]
    done = [95 if success else None for success in outcomes]
    curves = [ramp(100, 1.0 if success else 0.3) for success in outcomes]
    found = check_progress(curves, outcomes, RATE_HZ, states, done)
    assert found.joints is not None and 0.2 < found.joints < 0.8 and not found.fault
    stuck = [s if success else 0.2 * s for s, success in zip(states, outcomes, strict=True)]
    assert check_progress(curves, outcomes, RATE_HZ, stuck, done).joints == pytest.approx(1.0)


def test_a_policy_without_predictions_is_not_judged():
    assert check_rewards([[None, None], [0.1]], [True, False], RATE_HZ) is None


# -- on policies ---------------------------------------------------------------------------

SHIPPED = ROOT / "models" / "vx300s_pick_place"


def with_constant_reward(policy: Path, folder: Path) -> Path:
    """A checkpoint whose reward says the same of every frame."""
    shutil.copytree(policy, folder)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.startswith("model.action_head.reward.4."):
            weights[name] = torch.zeros_like(weights[name])
    save_file(weights, folder / "model.safetensors")
    return folder


def test_the_shipped_policy_is_a_judge_and_one_with_a_dead_reward_is_none(tmp_path):
    from rewact_ros.episodes.demos import DemoSettings, write_demos

    scripted, every = tmp_path / "set", 4  # a quarter of the frames tells it as well, and sooner
    write_demos(
        DemoSettings(scripted, VX300S, LEAST, LEAST, 0, seed=190_000, workers=1), progress=False
    )
    data = load_demonstrations(scripted)
    episodes = list(range(2 * LEAST))
    data.decode(None, episodes, tmp_path / "cache", progress=False)
    outcomes = [bool(data.succeeds[data.rows([e])[0]]) for e in episodes]
    batches = [data.batch(data.rows([e])[::every], 1) for e in episodes]
    keys = ("observation.state", *data.camera_shapes)
    checks = []
    for policy in (SHIPPED, with_constant_reward(SHIPPED, tmp_path / "dead")):
        loaded = load_policy(policy, "cpu")
        seen = [loaded.predict({key: batch[key] for key in keys}).reward for batch in batches]
        curves = [reward.value.numpy().astype(float) for reward in seen]
        checks.append(check_progress(curves, outcomes, data.fps / every))
    assert checks[0].told and checks[0].fault == "", checks[0].line
    assert checks[1].fault == "its failures score like successes" and checks[1].auc == 0.5


@pytest.fixture(scope="module")
def rollouts(vx300s, tmp_path_factory) -> Path:
    """Roll-outs of a second, 16 successes and 8 failures, that look all alike."""
    from rewact_ros.episodes.dataset import add_episode, new_dataset

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "rollouts"
    with new_dataset(vx300s, folder) as dataset:
        for index in range(24):
            labels = {
                "next.reward": np.full(20, np.nan, np.float32),
                "next.done": np.arange(20) == 19,
                "next.success": np.arange(20) >= (8 if index % 3 else 20),
                "demo_is_pad": np.ones(20, bool),
            }
            images = {
                c.name: rng.integers(0, 256, (20, *c.shape), np.uint8) for c in vx300s.cameras
            }
            state = rng.normal(size=(20, 7)).astype(np.float32)
            add_episode(dataset, vx300s, "task", state, np.zeros_like(state), images, labels)
    return folder


def test_a_calibration_says_no_judge_with_its_detection_and_bring_up_warns(
    rollouts, tiny_policy, tmp_path, monkeypatch, capsys
):
    from rewact_ros.cli.calibrate import calibrate

    monkeypatch.setattr("rewact_ros.learning.imitation.frames.DEFAULT_CACHE", tmp_path / "cache")
    policy = with_constant_reward(tiny_policy, tmp_path / "policy")
    loaded = load_policy(policy, "cpu")
    calibrate(policy, rollouts, beta=0.1, alpha=0.5, timeout=1.0, driver=loaded.version)
    said = capsys.readouterr().out
    assert "NO JUDGE: its failures score like successes (AUC 0.500" in said
    assert "successes 0/16 are recognised" in said and "(0.00 to 0.19, Wilson 95 %)" in said
    assert f"rewact eval --policy {policy}" in said
    assert f"rewact train-reward --policy {policy}" in said
    found = load_calibration(loaded.calibration)
    assert found.recognised == 0 and found.judge.failures == 8 and found.fault
    claim = found.claim(found.basis)
    assert claim.startswith("bound: false completions") and "finds 0/16 successes" in claim
    assert claim.endswith("NO JUDGE: its failures score like successes")
    (warning, *commands) = judge_warnings(processes(BringUp(policy=str(policy))))
    assert warning.startswith(f"warning: {policy}: NO JUDGE") and len(commands) == 2
    assert judge_warnings(processes(BringUp(policy=str(tiny_policy)))) == []


def test_a_calibration_from_before_the_finding_is_read_and_warns_of_nothing(tmp_path, rollouts):
    from rewact_ros.supervision.calibration import Basis, CalibrationSettings
    from rewact_ros.supervision.conformal import CalibrationEpisode, calibrate
    from rewact_ros.supervision.signals import SignalSettings

    rng = np.random.default_rng(0)
    scores = {name: rng.random(20) for name in ("stall", "drawdown")}
    episodes = [CalibrationEpisode("made up", rng.random(20), scores, None, 5) for _ in range(40)]
    basis = Basis("reward", "policy", "contract", ("front",), RATE_HZ, 1.0)
    made = calibrate(episodes, SignalSettings(), basis, CalibrationSettings(0.1, 0.5))
    file = tmp_path / "calibration.json"
    made.save(file)
    document = json.loads(file.read_text())
    del document["judge"], document["recognised"]
    file.write_text(json.dumps(document))
    found = load_calibration(file)
    assert found.judge is None and found.recognised is None and found.fault == ""
    assert "NO JUDGE" not in found.claim(basis) and "finds" not in found.claim(basis)
