"""What a GPU must do as a CPU does it: training, and learning by reinforcement."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from test_rl_agent import make_base, make_batch, variants
from test_rl_learner import QUICK, learn, make_learner, stream
from test_train import cache, dataset, settings  # noqa: F401

from rewact_ros.contract import Contract
from rewact_ros.learning.imitation.train import train
from rewact_ros.learning.rl.base import open_base
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.run import new_agent
from rewact_ros.learning.rl.settings import preset
from rewact_ros.learning.rl.updates import open_update, write_update
from rewact_ros.policy.checkpoint import load_policy


@pytest.fixture(autouse=True)
def another_precision():
    """accelerate keeps one precision per process, where each test here has its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LEARNT = {
    "residual": preset("residual", **QUICK),
    "act_sac": preset("act_sac", **QUICK),
    "act_sac small": preset("act_sac", use_act_actor=False, **QUICK),
    "q_chunking": preset("q_chunking", num_candidates=4, **QUICK),
}


def observation(contract: Contract, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    seen = {"observation.state": np.asarray(contract.reset.pose, np.float32)}
    for camera in contract.cameras:
        seen[camera.key] = rng.integers(0, 256, camera.shape, dtype=np.uint8)
    return seen


@pytest.mark.parametrize("name", variants())
def test_nothing_that_an_agent_acts_by_stays_behind_when_it_moves(
    name: str, vx300s: Contract, tiny_policy: Path, monkeypatch
):
    # torch's meta device stands for the other one: what stayed behind does not go with it.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no meta
    rl = variants()[name]
    base = make_base(tiny_policy, vx300s, rl)
    agent = new_agent(rl, base).to("meta")
    seen = {key: value.to("meta") for key, value in make_batch(base, rl)["state"].items()}
    for actor in filter(None, (agent.actor, agent.averaged_actor)):
        features = agent.encoder(seen)
        proposal = actor(seen, features)
        assert proposal.mean.is_meta and proposal.log_std.is_meta


@needs_a_gpu
@pytest.mark.parametrize(
    ("mixed_precision", "workers"), [("no", 0), ("no", 2), ("bf16", 0), ("fp16", 0)]
)
def test_a_policy_that_a_gpu_trained_predicts_the_same_on_a_cpu(
    mixed_precision,
    workers,
    dataset,  # noqa: F811
    cache,  # noqa: F811
    tmp_path,
):
    out = tmp_path / "run"
    asked = {"device": "cuda", "mixed_precision": mixed_precision, "workers": workers}
    figures = train(settings(dataset, out, **asked), cache, show_progress=False)
    assert all(np.isfinite(value) for value in figures.values())
    folder = out / "checkpoints" / "last" / "pretrained_model"
    estimates = []
    for device in ("cuda", "cpu"):
        torch.backends.cudnn.allow_tf32 = False
        loaded = load_policy(folder, device)
        generator = torch.Generator().manual_seed(0)
        batch = {
            key: torch.rand(1, *feature.shape, generator=generator)
            for key, feature in loaded.config.input_features.items()
        }
        estimates.append(loaded.predict(batch))
    torch.testing.assert_close(estimates[0].actions, estimates[1].actions, atol=1e-3, rtol=1e-3)
    values = [estimate.reward.value.cpu() for estimate in estimates]
    torch.testing.assert_close(*values, atol=1e-3, rtol=1e-3)


@needs_a_gpu
def test_a_training_on_a_gpu_goes_on_where_it_ended(dataset, cache, tmp_path):  # noqa: F811
    asked = settings(dataset, tmp_path / "run", device="cuda")
    train(asked, cache, show_progress=False)
    longer = settings(dataset, tmp_path / "run", device="cuda", log_every=2)
    assert all(np.isfinite(v) for v in train(longer, cache, True, False).values())


@needs_a_gpu
@pytest.mark.parametrize("name", LEARNT)
def test_what_a_gpu_learned_acts_there_and_on_a_cpu(
    name: str, vx300s: Contract, tiny_policy: Path, tmp_path: Path
):
    rl = LEARNT[name]
    base = open_base(load_policy(tiny_policy, "cuda"), vx300s, rl)
    learner = make_learner(base, rl)
    for transition in stream(base, rl):
        learn(learner, transition)
    assert learner.counts.updates > rl.critic_warmup_updates
    for tensor in learner.agent.state_dict().values():
        assert tensor.device.type == "cuda" and tensor.isfinite().all()
    learner.save(tmp_path / "run")
    again = make_learner(base, rl)
    assert again.load(tmp_path / "run")
    update = write_update(tmp_path / "versions", learner.agent, base, learner.counts.updates)
    targets = {}
    for device in ("cuda", "cpu"):
        moved, agent = open_update(tmp_path / "versions" / update.path, vx300s, device)
        driver = Driver(rl, moved, agent)
        driver.observe(observation(vx300s), 0.0)
        targets[device] = driver.act(explore=0.0, base_only=False).targets
        driver.observe(observation(vx300s), 0.05)
        assert np.isfinite(driver.act(explore=1.0, base_only=False).targets).all()
    np.testing.assert_allclose(targets["cuda"], targets["cpu"], atol=1e-2)


@needs_a_gpu
def test_bf16_updates_of_an_act_actor_are_finite(vx300s: Contract, tiny_policy: Path):
    rl = preset("act_sac", mixed_precision="bf16", **QUICK)
    base = open_base(load_policy(tiny_policy, "cuda"), vx300s, rl)
    learner = make_learner(base, rl)
    for transition in stream(base, rl, episodes=3):
        learn(learner, transition)
    assert all(tensor.isfinite().all() for tensor in learner.agent.state_dict().values())
