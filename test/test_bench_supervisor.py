"""The supervisor's figures count what they say they count; roll-outs are made and kept whole."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from shared_engine import SharedEngine
from supervisor_rollouts import SETTINGS, Collection, Recorded, read_one, write_one
from supervisor_splits import (
    MONITOR,
    NEVER,
    Verdicts,
    episodes_of,
    figures_of,
    judge_by_one_sample,
    over_splits,
)

from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.engine import Prediction, TorchEngine
from rewact_ros.sim.pick_place.truth import FAILURES, STAGES
from rewact_ros.stack.bringup import default_policy
from rewact_ros.supervision.calibration import Basis, CalibrationSettings
from rewact_ros.supervision.signals import SignalSettings

RATE_HZ, FRAMES = 20.0, 400
BASIS = Basis("reward", "policy", "contract", ("front",), RATE_HZ, SETTINGS.limit_s)


def recorded(seed: int, success: int | None, failure: int | None = None) -> Recorded:
    """A roll-out that succeeds at a frame, or whose failure stays from a frame on."""
    rng = np.random.default_rng(seed)
    frame = np.arange(FRAMES if success is None else success + 60)
    mean = np.clip(frame / (success or 2 * FRAMES), 0, 1) + rng.uniform(-0.02, 0.02)
    failed = np.zeros(len(frame), np.int8)
    if failure is not None:
        failed[failure:] = FAILURES.index("dropped")
    return Recorded(
        seed=seed,
        mean=mean.astype(np.float32),
        q10=mean.astype(np.float32),
        entropy=np.zeros(len(frame), np.float32),
        features=rng.standard_normal((len(frame), 3)).astype(np.float32),
        disagreement=np.zeros(len(frame), np.float32),
        success=frame >= (NEVER if success is None else success),
        stage=np.full(len(frame), STAGES.index("reach"), np.int8),
        failure=failed,
        closed_s=2.0,
    )


def collection(*episodes: Recorded) -> Collection:
    return Collection(BASIS, SignalSettings(), list(episodes))


def test_a_claim_before_the_fact_and_one_that_never_comes_true_are_counted_apart() -> None:
    episodes = episodes_of(collection(recorded(0, 100), recorded(1, 100), recorded(2, None, 60)))
    verdicts = Verdicts(
        complete=np.array([99.0, 104.0, NEVER]),
        alarms={"stall": np.array([NEVER, 111.0, 70.0])},
    )
    figures = figures_of(episodes, verdicts, verdict_s=0.5)
    assert figures["false_completions"] == pytest.approx(1 / 3)
    assert figures["early_completions"] == 0.5
    assert figures["failures_called_complete"] == 0
    assert figures["success_delay_p50"] == pytest.approx((-0.05 + 0.2) / 2)
    assert figures["false_alarms"] == 0  # 111 is later than half a second after the fact
    assert figures["failures_detected"] == 1
    assert figures["dropped_delay_p50"] == pytest.approx(0.5)


def test_an_episode_fails_at_its_first_failure_and_without_one_the_arm_is_stuck() -> None:
    again = recorded(0, None, 60)
    again.failure[100:150] = 0
    episodes = episodes_of(collection(again, recorded(1, None), recorded(2, 50, 20)))
    assert episodes.kind.tolist() == ["dropped", "stuck", ""]
    assert episodes.failure.tolist() == [60.0, 40.0, NEVER]


def test_a_rule_looks_at_each_episode_alone() -> None:
    episodes = episodes_of(collection(recorded(0, 100), recorded(1, None), recorded(2, 50)))
    chosen = episodes.chosen(np.array([2, 1]))
    first = judge_by_one_sample(chosen, 0.5).complete
    expected = [np.flatnonzero(e.mean > 0.5) for e in (recorded(2, 50), recorded(1, None))]
    assert first.tolist() == [e[0] if len(e) else NEVER for e in expected]
    assert chosen.success.tolist() == [50.0, NEVER]


def test_the_monitor_keeps_its_rates_on_roll_outs_it_was_not_calibrated_on() -> None:
    own = [recorded(i, 60 + i % 40 if i % 2 else None, None if i % 2 else 30) for i in range(80)]
    source = collection(*own)
    rates = CalibrationSettings(beta=0.1, alpha=0.3)
    splits = over_splits(source, episodes_of(source), rates, splits=5)[MONITOR]
    assert np.mean([split["false_completions"] for split in splits]) <= 0.2
    assert np.mean([split["false_alarms"] for split in splits]) <= 0.5


def test_a_written_roll_out_reads_back_whole(tmp_path: Path) -> None:
    one = recorded(7, 100)
    arrays = {name: np.asarray(value) for name, value in vars(one).items() if name != "seed"}
    write_one(tmp_path / "7.npz", arrays)
    read = read_one(tmp_path / "7.npz", 7)
    assert read.seed == 7 and read.closed_s == one.closed_s
    assert np.array_equal(read.features, one.features)
    assert [file.name for file in tmp_path.iterdir()] == ["7.npz"]  # nothing half-written


def test_roll_outs_that_share_a_policy_get_what_it_would_tell_each_alone() -> None:
    loaded = load_policy(default_policy(), "cpu")
    alone, shared = TorchEngine(loaded), SharedEngine(loaded)
    rng = np.random.default_rng(0)
    observations = [
        {
            key: rng.integers(0, 256, (*feature.shape[1:], 3), dtype=np.uint8)
            if key in loaded.config.image_features
            else rng.standard_normal(feature.shape).astype(np.float32)
            for key, feature in loaded.config.input_features.items()
        }
        for _ in range(5)
    ]
    for _ in range(2):
        shared.join()

    def roll_out(own: list[dict[str, np.ndarray]]) -> list[Prediction]:
        try:
            return [shared.infer(observation) for observation in own]
        finally:
            shared.leave()  # the longer one goes on by itself

    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(roll_out, (observations[:2], observations[2:]))
        answers = [answer for part in parts for answer in part]
    for observation, answer in zip(observations, answers, strict=True):
        expected = alone.infer(observation)
        assert answer.actions == pytest.approx(expected.actions, abs=1e-4)
        assert answer.reward == pytest.approx(expected.reward, abs=1e-4)
        assert answer.quantiles == pytest.approx(expected.quantiles, abs=1e-4)
        assert answer.features == pytest.approx(expected.features, abs=1e-4)
