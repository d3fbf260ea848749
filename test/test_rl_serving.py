"""A learned policy on the robot: opened from a version, it decides as the fast path does."""

from pathlib import Path

import numpy as np
import pytest
from test_rl_agent import make_base
from test_rl_learner import QUICK

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.evaluation import evaluate_version
from rewact_ros.learning.rl.loop import new_agent
from rewact_ros.learning.rl.serving import LearnedEngine, open_learned
from rewact_ros.learning.rl.settings import LearnError, RLSettings, preset
from rewact_ros.learning.rl.transitions import (
    TransitionError,
    pack_observation,
    unpack_observation,
)
from rewact_ros.learning.rl.updates import write_update
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.runs import is_version
from rewact_ros.sim.pick_place.task import PickPlace

UPDATES = 7  # more than the critic's warm-up
SETTINGS = {
    "residual": preset("residual", exploration=0.5, **QUICK),
    "chunks": preset("q_chunking", num_candidates=3, exploration=0.5, **QUICK),
    "speeds": preset("act_sac", exploration=0.5, exploration_half_life=10, **QUICK),
    "history": preset(
        "act_sac", use_act_actor=False, use_sequence_act_actor=True, obs_history_length=3, **QUICK
    ),
}


@pytest.fixture(scope="module")
def observations() -> list[dict[str, np.ndarray]]:
    """What the cameras and joints of a simulated arm show while it moves."""
    sim = PickPlace()
    sim.reset(1000)
    seen = []
    for step in range(14):
        seen.append(sim.observe())
        sim.set_command(sim.command + 0.01 * np.sin(step + np.arange(7)))
        sim.advance(0.05)
    sim.close()
    return seen


def written(folder: Path, policy: Path, contract: Contract, settings: RLSettings, updates: int):
    base = make_base(policy, contract, settings)
    agent = new_agent(settings, base).eval()
    update = write_update(folder, agent, base, updates)
    return base, agent, folder / update.path


def opened(folder: Path, contract: Contract, explore: bool = True) -> tuple[object, LearnedEngine]:
    def torch_engine(loaded):
        return TorchEngine(loaded, threads=None, rate_hz=contract.rate_hz)

    return open_learned(folder, contract, "cpu", explore, torch_engine)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_robot_takes_the_decisions_of_the_fast_path(
    name: str, observations: list, tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    settings = SETTINGS[name]
    base, agent, folder = written(tmp_path, tiny_policy, vx300s, settings, UPDATES)
    loaded, engine = opened(folder, vx300s)
    assert is_version(folder) and not is_version(tiny_policy)
    assert loaded.version == folder.name and loaded.path == folder
    engine.warm_up()
    driver = Driver(settings, base, agent)
    driver.begin(UPDATES)
    before, speeds = None, set()
    for step, raw in enumerate(observations):
        if step == 9:  # somebody else has moved the robot
            engine.reset()
            driver.release()
            before = None
        seen = driver.observe(raw, step / 20)
        act = driver.act(settings.exploring(UPDATES), base_only=False)
        got = engine.infer(raw, step / 20)
        assert (got.decision.decided, got.decision.choice) == (act.decided, act.choice)
        np.testing.assert_equal(got.decision.value, act.value)
        for key, value in seen.observation.items():
            np.testing.assert_array_equal(got.observation[key], value)
        assert got.actions.shape == seen.prediction.actions.shape and got.reward is not None
        np.testing.assert_array_equal(got.actions[1], act.target.astype(np.float32))
        decided = len(act.targets)
        np.testing.assert_array_equal(got.actions[1 : 1 + decided], act.targets.astype("f4"))
        plan = driver.plan(decided + 2, act.speed)[decided:]
        np.testing.assert_array_equal(got.actions[1 + decided :][:2], plan.astype("f4"))
        if before is None:  # nothing was decided: where the base begins
            before = seen.prediction.actions[0]
        np.testing.assert_array_equal(got.actions[0], before.astype("f4"))
        before = act.target
        speeds.add(act.speed)
    assert max(speeds) > 1 or settings.speeds == (1.0,)


def test_a_missed_observation_does_not_delay_what_was_decided(
    observations: list, tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    settings = SETTINGS["chunks"]
    engine = opened(written(tmp_path, tiny_policy, vx300s, settings, UPDATES)[2], vx300s)[1]
    first, after = (engine.infer(observations[k], k / 20) for k in (0, 3))
    assert first.decision.decided and not after.decision.decided
    np.testing.assert_array_equal(after.actions[:3], first.actions[3:6])
    assert engine.infer(observations[6], 6 / 20).decision.decided


def test_before_the_critic_is_warm_the_base_acts(
    observations: list, tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    settings = SETTINGS["residual"]
    base, _, folder = written(tmp_path, tiny_policy, vx300s, settings, 0)
    engine = opened(folder, vx300s)[1]
    plain = TorchEngine(base.loaded, threads=None)
    got, expected = engine.infer(observations[0], 0.0), plain.infer(observations[0])
    assert got.decision.choice == "base" and got.decision.decided
    assert np.isfinite(got.decision.value)
    np.testing.assert_allclose(got.actions, expected.actions, atol=1e-6)
    assert got.reward == expected.reward and engine.reward_hash == plain.reward_hash
    assert "base after 0 updates" in engine.description
    with pytest.raises(ValueError, match="stamp_s"):
        engine.infer(observations[0])


def test_a_version_that_does_not_say_what_it_learned_is_refused(
    tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    folder = written(tmp_path, tiny_policy, vx300s, SETTINGS["residual"], 0)[2]
    about = (folder / "learned.json").read_text()
    (folder / "learned.json").write_text(about.replace("updates", "others"))
    with pytest.raises(LearnError, match="damaged"):
        opened(folder, vx300s)


def test_a_version_on_disk_opens_for_evaluation(
    tiny_policy: Path, vx300s: Contract, tmp_path: Path
):
    folder = written(tmp_path, tiny_policy, vx300s, SETTINGS["residual"], UPDATES)[2]
    assert list(evaluate_version(folder, str(PickPlace.contract_file()), seeds=[])) == []


def test_an_observation_travels_whole_or_is_refused():
    rng = np.random.default_rng(0)
    observation = {
        "progress": np.asarray(0.3, np.float32),
        "base": rng.standard_normal((2, 5, 7)).astype(np.float32)[:, ::2],
        "observation.images": rng.integers(0, 255, (2, 8, 8, 3)).astype(np.uint8),
    }
    document = pack_observation(observation)
    for key, value in unpack_observation(document).items():
        assert value.shape == observation[key].shape and value.dtype == observation[key].dtype
        np.testing.assert_array_equal(value, observation[key])
    with pytest.raises(TransitionError, match="damaged"):
        unpack_observation(document[:-3])
