"""Calibrated thresholds keep the rates they state, and are refused where they mean nothing."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from rewact_ros.supervision.calibration import (
    Basis,
    CalibrationError,
    CalibrationSettings,
    load_calibration,
)
from rewact_ros.supervision.conformal import (
    CalibrationEpisode,
    calibrate,
    completion_score,
    conformal_bound,
)
from rewact_ros.supervision.monitor import EpisodeMonitor
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker

RATE_HZ, FRAMES = 20.0, 100
BASIS = Basis("reward", "policy", "contract", ("front", "wrist"), RATE_HZ, FRAMES / RATE_HZ)
SIGNALS = SignalSettings()


def episode(rng, success=None, frames=FRAMES):
    """An episode with scores drawn from continuous distributions."""
    return CalibrationEpisode(
        name="made up",
        held=rng.beta(2, 5) * rng.uniform(0, 1, frames),
        scores={
            "stall": rng.gamma(2.0) * rng.uniform(0, 1, frames),
            "drawdown": rng.beta(1, 6) * rng.uniform(0, 1, frames),
        },
        features=(rng.normal(size=3) + 0.5 * rng.normal(size=(frames, 3))).astype(np.float32),
        success=success,
    )


def pool(count, seed=0):
    """Two of three succeed."""
    rng = np.random.default_rng(seed)
    return [episode(rng, int(rng.integers(20, 80)) if i % 3 else None) for i in range(count)]


def false_alarm(calibration, e):
    """Whether any signal exceeds its threshold before `verdict_s` after the success."""
    end = e.success + round(calibration.settings.verdict_s * RATE_HZ) + 1
    novelty = calibration.distance(e.features[:end])
    scores = {name: values[:end] for name, values in e.scores.items()} | {"novelty": novelty}
    return any(scores[n].max() > bound.threshold for n, bound in calibration.alarms.items())


# The statistics ---------------------------------------------------------------------------------


def test_ranks_are_exact_at_the_smallest_number_that_supports_a_rate():
    assert conformal_bound(range(59), Fraction(1, 60)).threshold == 58
    assert conformal_bound(range(19), Fraction(1, 20)).threshold == 18
    assert conformal_bound(range(100), Fraction(1, 20)).rank == 96
    assert conformal_bound(range(100), Fraction(1, 20)).quantile == pytest.approx(96 / 101)
    with pytest.raises(CalibrationError, match=r"at least 59 scores, got 58, which support 0\.017"):
        conformal_bound(range(58), Fraction(1, 60))


def test_false_completions_and_false_alarms_stay_within_their_rates_on_random_splits():
    episodes, settings = pool(240), CalibrationSettings(beta=0.1, alpha=0.15)
    rng, completions, alarms = np.random.default_rng(1), [], []
    for _ in range(300):
        order = rng.permutation(len(episodes))
        chosen = [episodes[i] for i in order[:120]]
        fresh = [episodes[i] for i in order[120:]]
        found = calibrate(chosen, SIGNALS, BASIS, settings)
        limit = found.completion.threshold
        completions.append(np.mean([completion_score(e, FRAMES) > limit for e in fresh]))
        alarms.append(np.mean([false_alarm(found, e) for e in fresh if e.success is not None]))
    error = 3 * np.std(completions) / np.sqrt(len(completions))
    assert np.mean(completions) <= 0.1 + error
    # Scores without ties: the rate is the one that the rank says, no smaller.
    assert np.mean(completions) == pytest.approx(1 - found.completion.quantile, abs=error)
    assert np.mean(alarms) <= 0.15 + 3 * np.std(alarms) / np.sqrt(len(alarms))


def test_completion_counts_every_episode_up_to_its_success_or_the_time_out():
    rng = np.random.default_rng(0)
    rising = replace(episode(rng, 50), held=np.linspace(0, 1, FRAMES))
    assert completion_score(rising, FRAMES) == rising.held[49]
    late = replace(rising, success=95)  # after a time-out of 90 frames it is a failure
    assert completion_score(late, 90) == rising.held[89]
    unknown = replace(rising, held=np.full(FRAMES, np.nan))
    assert completion_score(unknown, FRAMES) == 0.0


def test_the_live_monitor_completes_exactly_where_the_recorded_score_exceeds():
    rng, settings = np.random.default_rng(0), CalibrationSettings(beta=0.2, alpha=0.9)
    streams = [np.clip(np.cumsum(rng.normal(0.01, 0.05, FRAMES)), 0, 1) for _ in range(40)]
    recorded = []
    for means in streams:
        tracker = SignalTracker(SIGNALS)
        signals = [tracker.add(PolicySample(i / RATE_HZ, m, m)) for i, m in enumerate(means)]
        recorded.append(CalibrationEpisode.of("recorded", signals, None, None))
    # Some must succeed for alarms; with success in the last frame nearly all of it counts.
    recorded = [replace(e, success=FRAMES - 1) if i % 2 else e for i, e in enumerate(recorded)]
    found = calibrate(recorded, SIGNALS, BASIS, settings)
    assert set(found.alarms) == {"stall", "drawdown"}
    for means, e in zip(streams, recorded, strict=True):
        monitor, completed, alarmed = EpisodeMonitor.calibrated(found), False, set()
        for i, m in enumerate(means):
            monitor.add(PolicySample(i / RATE_HZ, m, m))
            judgement = monitor.step(i / RATE_HZ)
            if e.success is None or i < e.success:
                completed |= judgement.complete
            alarmed |= judgement.alarms
        assert completed == (completion_score(e, FRAMES) > found.completion.threshold)
        for name in ("stall", "drawdown"):
            assert (name in alarmed) == (e.scores[name].max() > found.alarms[name].threshold)


# Refusals ---------------------------------------------------------------------------------------


def test_too_few_episodes_say_which_rates_they_support():
    settings = CalibrationSettings(beta=0.01, alpha=0.05)
    with pytest.raises(CalibrationError) as error:
        calibrate(pool(60), SIGNALS, BASIS, settings)
    assert "beta 0.01: expected 99 roll-outs, got 60, which support 0.017" in str(error.value)
    assert "alpha 0.05: expected 59 successful ones" in str(error.value)
    assert "got 30 (of 40), which support 0.097" in str(error.value)
    supported = CalibrationSettings(beta=0.017, alpha=0.097)
    assert calibrate(pool(60), SIGNALS, BASIS, supported).completion.n == 60


def test_roll_outs_cut_short_are_refused():
    rng, settings = np.random.default_rng(0), CalibrationSettings(beta=0.2, alpha=0.9)
    with pytest.raises(CalibrationError, match=r"to run to the time-out, 5 s, got 3 s"):
        calibrate([*pool(30), episode(rng, None, 60)], SIGNALS, BASIS, settings)
    with pytest.raises(CalibrationError, match=r"0\.5 s after the true success.*got 0\.2 s"):
        calibrate([*pool(30), episode(rng, 55, 60)], SIGNALS, BASIS, settings)


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"alpha": 1.0}, {"fit_fraction": 1.5}])
def test_impossible_rates_are_refused_by_name(wrong):
    with pytest.raises(CalibrationError, match=next(iter(wrong))):
        CalibrationSettings(**wrong)


@pytest.fixture(scope="module")
def made():
    return calibrate(pool(120), SIGNALS, BASIS, CalibrationSettings(0.05, 0.06))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reward_hash", "other"),
        ("contract_hash", "other"),
        ("cameras", ("front",)),
        ("rate_hz", 10.0),
        ("timeout_s", 6.0),
    ],
)
def test_a_calibration_is_refused_where_it_means_nothing(made, name, value):
    with pytest.raises(CalibrationError, match=name):
        made.claim(replace(BASIS, **{name: value}))


def test_a_bound_is_claimed_for_the_policy_that_drove_and_for_no_other(made):
    shorter = replace(BASIS, timeout_s=2.0, cameras=("wrist", "front"))
    assert made.claim(shorter).startswith("bound: false completions <= 0.05 (n 120)")
    assert made.claim(replace(BASIS, policy_version="tuned")).startswith("bound: not claimed")
    unknown = replace(made, basis=replace(BASIS, policy_version=""))
    assert unknown.claim(replace(BASIS, policy_version="")).startswith("bound: not claimed")


# The file ---------------------------------------------------------------------------------------


def test_the_file_brings_back_the_same_calibration(made, tmp_path):
    file = tmp_path / "calibration.json"
    made.save(file)
    found = load_calibration(file)
    features = np.random.default_rng(0).normal(size=(5, 3))
    assert np.array_equal(found.distance(features), made.distance(features))
    assert replace(found, distance=None) == replace(made, distance=None)
    stored = json.loads(file.read_text())
    assert stored["completion"]["quantile"] == made.completion.quantile
    assert stored["basis"]["reward_hash"] == "reward" and stored["signals"]["filter_s"] == 0.1


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("format",), 2, "format"),
        (("completion", "threshold"), float("nan"), "NaN is no number in JSON"),
        (("completion", "rank"), 0, "bound out of range"),
        (("alarms",), {}, "alarms"),
        (("distance", "mean"), "AAAA", "distance"),
        (("signals", "dwell"), 99, "dwell"),
        (("basis",), None, "basis|mapping|NoneType"),
    ],
)
def test_a_damaged_file_is_refused(made, tmp_path, path, value, named):
    file = tmp_path / "calibration.json"
    made.save(file)
    content = json.loads(file.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(CalibrationError, match=f"calibration.json: .*({named})"):
        load_calibration(file)
    for text in ("{", "[]", "[" * 100_000, json.dumps(content)[:-1] + ', "format": 1}'):
        file.write_text(text)
        with pytest.raises(CalibrationError, match=r"calibration\.json: .*; make it anew"):
            load_calibration(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(CalibrationError, match=r"calibration\.json: Is a directory; .*make it"):
        load_calibration(file)


# What it is keyed to, and the command -----------------------------------------------------------


def test_the_reward_hash_ignores_action_weights_and_nothing_else(tiny_policy):
    from rewact_ros.policy.checkpoint import load_policy

    def hash_after(name=None):
        loaded = load_policy(tiny_policy, "cpu")
        if name is not None:
            with torch.no_grad():
                dict(loaded.policy.named_parameters())[name].add_(1.0)
        return loaded.reward_hash

    own = hash_after()
    assert hash_after() == own and hash_after("model.action_head.action.bias") == own
    for name in ("action_head.reward.4.bias", "encoder.layers.0.linear1.bias", "decoder.norm.bias"):
        assert hash_after(f"model.{name}") != own
    stats = load_policy(tiny_policy, "cpu")
    normalizer = next(s for s in stats.preprocessor.steps if s.state_dict())
    tensors = normalizer.state_dict()
    tensors["observation.state.mean"] += 1.0
    normalizer.load_state_dict(tensors)
    assert stats.reward_hash != own


def test_features_are_the_mean_of_the_encoders_tokens(tiny_policy):
    from rewact_ros.policy.checkpoint import load_policy
    from rewact_ros.policy.engine import TorchEngine

    loaded, tokens = load_policy(tiny_policy, "cpu"), []
    loaded.policy.model.encoder.register_forward_hook(lambda m, args, out: tokens.append(out))
    rng = np.random.default_rng(0)
    observation = {
        key: rng.integers(0, 256, (*ft.shape[1:], 3), dtype=np.uint8)
        if key in loaded.config.image_features
        else np.zeros(ft.shape, np.float32)
        for key, ft in loaded.config.input_features.items()
    }
    features = TorchEngine(loaded).infer(observation).features
    assert features.dtype == np.float32 and features.shape == (loaded.config.dim_model,)
    np.testing.assert_allclose(features, tokens[0][:, 0].mean(0).numpy(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def rollouts(vx300s, tmp_path_factory):
    """Twelve roll-outs of a second, eight of which succeed."""
    from rewact_ros.episodes.dataset import add_episode, new_dataset

    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "rollouts"
    with new_dataset(vx300s, folder) as dataset:
        for index in range(12):
            success = np.arange(20) >= (8 if index % 3 else 20)
            add_episode(
                dataset,
                vx300s,
                "task",
                rng.normal(size=(20, 7)).astype(np.float32),
                np.zeros((20, 7), np.float32),
                {c.name: rng.integers(0, 256, (20, *c.shape), np.uint8) for c in vx300s.cameras},
                {
                    "next.reward": np.full(20, np.nan, np.float32),
                    "next.done": np.arange(20) == 19,
                    "next.success": success,
                    "demo_is_pad": np.ones(20, bool),
                },
            )
    return folder


def test_the_command_writes_a_calibration_beside_the_checkpoint(
    rollouts, tiny_policy, tmp_path, monkeypatch, capsys
):
    import shutil

    from rewact_ros.cli.calibrate import calibrate as command
    from rewact_ros.policy.checkpoint import load_policy

    monkeypatch.setattr("rewact_ros.learning.imitation.frames.DEFAULT_CACHE", tmp_path / "cache")
    policy = shutil.copytree(tiny_policy, tmp_path / "policy")
    loaded = load_policy(policy, "cpu")
    assert loaded.calibration is None
    with pytest.raises(CalibrationError, match="give --timeout"):
        command(policy, rollouts)
    with pytest.raises(CalibrationError, match=r"beta 0\.05.* which support 0\.077"):
        command(policy, rollouts, timeout=1.0)
    with pytest.raises(CalibrationError, match=r"expected task or a column.*'scene'; they have "):
        command(policy, rollouts, beta=0.1, alpha=0.5, timeout=1.0, groups="scene")
    asked = {"beta": 0.1, "alpha": 0.5, "timeout": 1.0, "driver": loaded.version}
    command(policy, rollouts, **asked, groups="task")
    found = load_calibration(loaded.calibration)
    assert found.groups.counts == {"task": 9} and found.groups.bounds["task"] == found.completion
    command(policy, rollouts, **asked, groups="next.done")
    assert load_calibration(loaded.calibration).groups.counts == {"False": 9}
    assert (found.episodes, found.successes) == (12, 8)
    assert found.alarms["novelty"].n == 6 and found.alarms["stall"].n == 8
    assert found.distance.mean.shape == (loaded.config.dim_model,)
    running = replace(found.basis, reward_hash=loaded.reward_hash, policy_version=loaded.version)
    assert found.claim(running).startswith("bound: false completions <= 0.1")
    assert "8 succeeded" in capsys.readouterr().out


def test_a_success_classifier_is_calibrated_by_the_same_command(
    rollouts, vx300s, tmp_path, monkeypatch, capsys
):
    from rewact_ros.cli.calibrate import calibrate as command
    from rewact_ros.learning.evaluation.scorers import open_scorer
    from rewact_ros.learning.imitation.demonstrations import load_demonstrations
    from rewact_ros.learning.imitation.origin import ORIGIN, identities, origin_text
    from rewact_ros.reward.classifier import ResNetRewardModel, RewardModelConfig
    from rewact_ros.reward.classifier_checkpoint import load_classifier, save_classifier

    monkeypatch.setattr("rewact_ros.learning.imitation.frames.DEFAULT_CACHE", tmp_path / "cache")
    config = RewardModelConfig(
        ("observation.images.wrist",), arch="small_cnn", image_size=(32, 32), hidden_dim=8
    )
    folder = tmp_path / "classifier"
    save_classifier(folder, ResNetRewardModel(config))
    command(folder, rollouts, beta=0.1, alpha=0.5, timeout=1.0, driver="actor")
    found = load_calibration(folder / "calibration.json")
    assert (found.episodes, found.successes, found.distance) == (12, 8, None)
    assert set(found.alarms) == {"stall", "drawdown"} and found.signals.level == "mean"
    version = load_classifier(folder, "cpu").version
    basis = found.basis
    assert (basis.reward_hash, basis.policy_version) == (version, "actor")
    assert basis.contract_hash == vx300s.hash
    assert set(basis.cameras) == {camera.key for camera in vx300s.cameras}
    assert "where that policy drives beside this judge" in capsys.readouterr().out

    # What the signals stand on is what the node would say of the same pictures.
    data = load_demonstrations(rollouts, labels_needed=False)
    scorer = open_scorer(folder, "cpu")
    data.decode((32, 32), [0], tmp_path / "cache")
    said = [sample.mean for sample in scorer.samples(data, data.rows([0]))]
    assert len(said) == 20 and all(0 <= value <= 1 for value in said) and len(set(said)) > 1

    taught = {ORIGIN: origin_text(identities(data, [3]))}
    save_classifier(folder, ResNetRewardModel(config), more=taught)
    with pytest.raises(CalibrationError, match="1 of 12 roll-outs taught this reward"):
        command(folder, rollouts, beta=0.1, alpha=0.5, timeout=1.0)


def test_a_reward_model_of_lerobot_is_calibrated_by_what_it_would_say_live(
    rollouts, vx300s, tmp_path, monkeypatch, capsys
):
    from test_lerobot_rewards import write_glow

    from rewact_ros.cli.calibrate import calibrate as command
    from rewact_ros.learning.evaluation.scorers import open_scorer
    from rewact_ros.learning.imitation.demonstrations import load_demonstrations
    from rewact_ros.reward.judges import JudgeSettings, open_judge

    monkeypatch.setattr("rewact_ros.learning.imitation.frames.DEFAULT_CACHE", tmp_path / "cache")
    folder = write_glow(tmp_path / "glow", vx300s)
    scorer = open_scorer(folder, "cpu")
    command(folder, rollouts, beta=0.1, alpha=0.5, timeout=1.0, driver="actor")
    found = load_calibration(folder / "calibration.json")
    assert (found.episodes, found.successes, found.distance) == (12, 8, None)
    assert found.basis.reward_hash == scorer.reward_hash != scorer.version
    assert set(found.alarms) == {"stall", "drawdown"} and found.signals.level == "mean"

    data = load_demonstrations(rollouts, labels_needed=False)
    data.decode(None, [3], tmp_path / "cache")
    rows = data.rows([3])
    judge, _ = open_judge(folder, vx300s, JudgeSettings("cpu"), pytest.fail)
    judge.instruction = "task"  # the data set's text
    camera = "observation.images.front"
    live = [
        judge.infer({"observation.state": data.state[r], camera: data.frames[camera][r]}, k / 20)
        for k, r in enumerate(rows)
    ]
    said = [sample.mean for sample in scorer.samples(data, rows)]
    assert said == [prediction.reward for prediction in live] and len(set(said)) > 1
