"""Actors and critics: what they begin as, what bounds them, what their losses are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_policy

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.agent import Agent
from rewact_ros.learning.rl.base import Base, open_base
from rewact_ros.learning.rl.candidates import BaseCandidates
from rewact_ros.learning.rl.driver import Driver
from rewact_ros.learning.rl.loop import new_agent
from rewact_ros.learning.rl.settings import LearnError, RLSettings, preset
from rewact_ros.learning.rl.squash import TanhGaussian, bounded_log_std
from rewact_ros.policy.checkpoint import load_policy

SMALL = {"hidden_dim": 32, "image_encoder_hidden_dim": 8, "image_size": (32, 32), "num_critics": 3}
ACT = {"act_dim_model": 32, "act_n_heads": 4, "act_dim_feedforward": 32, "batch_size": 8}
GRIPPER = 6


def make_base(folder: Path, contract: Contract, settings: RLSettings) -> Base:
    return open_base(load_policy(folder, "cpu"), contract, settings)


def make_batch(base: Base, settings: RLSettings, size: int = 6) -> dict:
    """Windows about poses near home, as the learner hands them over."""
    generator = torch.Generator().manual_seed(1)
    steps, history = settings.steps, settings.history
    home = base.action_mean

    def near(*shape: int) -> torch.Tensor:
        noise = torch.randn(*shape, len(home), generator=generator)
        return (home + 0.05 * noise).clamp(base.low + 0.01, base.high - 0.01)

    def state() -> dict[str, torch.Tensor]:
        shape = (size, history, len(base.cameras), *base.image_size, 3)
        return {
            "observation.state": near(size, history),
            "observation.images": torch.randint(
                0, 256, shape, generator=generator, dtype=torch.uint8
            ),
            "base": near(size, history, settings.candidates, steps),
            "progress": torch.rand(size, history, generator=generator),
        }

    return {
        "state": state(),
        "next_state": state(),
        "action": near(size, steps),
        "reward": torch.rand(size, generator=generator),
        "discount": torch.full((size,), 0.9),
    }


def variants() -> dict[str, RLSettings]:
    sequence = {"use_sequence_act_actor": True, "obs_history_length": 3}
    fresh = {"act_from_base": False, "action_parts": {"arm": 6, "gripper": 1}, **ACT}
    return {
        "residual": preset("residual", **SMALL),
        "residual chunks": preset("residual", enable_q_chunking=True, **SMALL, **sequence),
        "act_sac mlp": preset("act_sac", use_act_actor=False, **SMALL),
        "act_sac mlp sequence": preset("act_sac", use_act_actor=False, **SMALL, **sequence),
        "act_sac from base": preset("act_sac", **SMALL),
        "act_sac parts": preset("act_sac", **SMALL, **fresh),
        "act_sac sequence": preset("act_sac", **SMALL, **fresh, **sequence),
        "act_sac or base": preset("act_sac", base_candidate=True, **SMALL, **fresh),
        "act_sac step": preset("act_sac", enable_q_chunking=False, **SMALL),
        "q_chunking": preset("q_chunking", num_candidates=4, **SMALL),
    }


@pytest.mark.parametrize("name", variants())
def test_every_algorithm_has_a_loss_for_each_of_its_parts(
    name: str, vx300s: Contract, tiny_policy: Path
):
    settings = variants()[name]
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base).train(), make_batch(base, settings)
    parts = ("critic", "actor", "temperature") if settings.has_actor else ("critic",)
    own = {
        "critic": [*agent.encoder.parameters(), *agent.critic.parameters()],
        "actor": list(agent.actor.parameters()) if agent.actor else [],
        "temperature": [agent.log_temperature],
    }
    for part in parts:
        agent.zero_grad()
        loss = agent(batch, model=part)[f"loss_{part}"]
        loss.backward()
        assert torch.isfinite(loss) and any(
            p.grad is not None and p.grad.abs().sum() > 0 for p in own[part]
        )
    if not settings.has_actor:
        with pytest.raises(LearnError, match="has a critic only"):
            agent(batch, model="actor")
    observation = {key: value[:1] for key, value in batch["state"].items()}
    for explore in (0.0, 1.0):
        decision = agent.decide(observation, torch.Generator(), explore, base_only=False)
        assert decision.chunk.shape == (settings.steps, 7) and np.isfinite(decision.value)
        assert (decision.chunk >= base.low).all() and (decision.chunk <= base.high).all()


@pytest.mark.parametrize("name", ["residual", "act_sac mlp", "act_sac from base"])
def test_an_actor_begins_as_the_base(name: str, vx300s: Contract, tiny_policy: Path):
    settings = variants()[name]
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base).eval(), make_batch(base, settings)
    state = batch["state"]
    if settings.use_act_actor:  # it plans by itself, from the same observation
        images = state["observation.images"][:, 0].movedim(-1, -3).float() / 255
        raw = {key: images[:, i] for i, key in enumerate(base.cameras)}
        raw["observation.state"] = state["observation.state"][:, 0]
        chunk = base.loaded.predict(raw).actions[:, 1 : 1 + settings.steps]
        state["base"] = chunk[:, None, None]
    plan = state["base"][:, -1, 0]
    distribution = agent.actor(state, agent.encoder(state)).first(settings.steps)
    command = agent.action_map.command(distribution.mode, plan)
    torch.testing.assert_close(command, plan.clamp(base.low, base.high), atol=2e-4, rtol=0)


def test_a_residual_stays_within_its_bound_and_never_moves_a_masked_gripper(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("residual", residual_bound=0.03, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent = new_agent(settings, base)
    plan = base.action_mean.repeat(100, 1, 1)
    assert agent.action_map.dimensions == 6
    moved = agent.action_map.command(torch.randn(100, 1, 6).sign(), plan) - plan
    torch.testing.assert_close(moved[..., :GRIPPER].abs(), torch.full((100, 1, 6), 0.03))
    assert (moved[..., GRIPPER] == 0).all()
    bounded = make_base(tiny_policy, vx300s, replace(settings, gripper_bound=0.1))
    assert bounded.bounds(replace(settings, gripper_bound=0.1))[GRIPPER] == pytest.approx(0.1)


def test_log_probability_is_that_of_the_whole_chunk_with_the_tanhs_change_of_volume():
    torch.manual_seed(0)
    mean, log_std = torch.randn(4, 5, 3, dtype=torch.float64), torch.randn(4, 5, 3).double()
    unit, log_prob = TanhGaussian(mean, log_std).sample()
    normal = torch.distributions.Normal(mean, log_std.exp())
    reference = torch.distributions.TransformedDistribution(
        normal, torch.distributions.TanhTransform()
    )
    inside = unit.abs().amax((1, 2)) < 1 - 1e-9
    expected = reference.log_prob(unit).sum((1, 2))
    torch.testing.assert_close(log_prob[inside], expected[inside], rtol=1e-4, atol=1e-4)
    # Far out, where tanh rounds to 1, it is finite still.
    far = TanhGaussian(torch.full((1, 1, 1), 40.0), torch.zeros(1, 1, 1)).sample()[1]
    assert torch.isfinite(far).all()


def test_log_sigma_is_bounded_and_keeps_a_gradient():
    raw = torch.linspace(-3, 3, 7, requires_grad=True)
    bounded = bounded_log_std(raw, -5, 0)
    bounded.sum().backward()
    assert bounded.min() >= -5 and bounded.max() <= 0 and (raw.grad > 0).all()


@pytest.mark.parametrize(("entropy_is", "rises"), [("low", True), ("high", False)])
def test_the_temperature_moves_towards_the_target_entropy(
    entropy_is: str, rises: bool, vx300s: Contract, tiny_policy: Path
):
    settings = preset("residual", target_entropy=1e3 if entropy_is == "low" else -1e3, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base), make_batch(base, settings)
    agent(batch, model="temperature")["loss_temperature"].backward()
    assert (agent.log_temperature.grad < 0) == rises and agent.log_temperature.grad != 0


def test_the_target_entropy_scales_with_steps_and_dimensions(vx300s: Contract, tiny_policy: Path):
    goals = {}
    for name in ("residual", "act_sac mlp"):
        settings = variants()[name]
        agent = new_agent(settings, make_base(tiny_policy, vx300s, settings))
        goals[name] = agent.target_entropy
    assert goals == {"residual": -0.5 * 6, "act_sac mlp": -3.5 * 5 * 7}


def test_the_weight_of_imitation_falls_exponentially():
    settings = RLSettings()
    assert settings.bc_weight(0) == pytest.approx(0.5)
    assert settings.bc_weight(25_000) == pytest.approx((0.5 * 0.01) ** 0.5)
    assert settings.bc_weight(50_000) == settings.bc_weight(10**6) == pytest.approx(0.01)


@pytest.mark.parametrize("key", ["expert_action", "expert_action_sequences"])
def test_an_actor_imitates_the_expert_of_the_batch(key: str, vx300s: Contract, tiny_policy: Path):
    settings = preset("act_sac", use_act_actor=False, temperature_init=1e-8, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base), make_batch(base, settings)
    torch.nn.init.zeros_(agent.critic.out.weight)  # nothing but imitation
    expert = batch["state"]["base"][:, 0, 0] + 0.1
    batch[key] = expert[:, 0] if key == "expert_action" else expert
    optimizer = torch.optim.Adam(agent.actor.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        parts = agent(batch, model="actor")
        optimizer.zero_grad()
        parts["loss_actor"].backward()
        optimizer.step()
        losses.append(float(parts["bc_loss"]))
    assert losses[-1] < 0.2 * losses[0]
    batch["expert_mask"] = torch.zeros(expert.shape[0], settings.steps)
    assert agent(batch, model="actor")["bc_loss"] == 0


def test_an_actor_imitates_its_own_successes_where_the_critics_prefer_them(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("act_sac", use_act_actor=False, own_weight=1.0, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base), make_batch(base, settings)
    batch["own_mask"] = torch.ones(6, settings.steps, dtype=torch.bool)
    parts = agent(batch, model="actor")
    assert (parts["own_loss"] > 0) == (parts["own_better"] > 0)
    batch["own_mask"][:] = False
    assert agent(batch, model="actor")["own_loss"] == 0


def test_who_leads_acts_unless_another_is_better(vx300s: Contract, tiny_policy: Path):
    for actor_leads, choice in ((True, "actor"), (False, "base")):
        leads = {"actor_leads": actor_leads, "base_candidate": True}
        settings = preset("act_sac", use_act_actor=False, **leads, **SMALL)
        base = make_base(tiny_policy, vx300s, settings)
        agent, batch = new_agent(settings, base), make_batch(base, settings, size=1)
        torch.nn.init.zeros_(agent.critic.out.weight)  # all are alike
        decision = agent.decide(batch["state"], torch.Generator(), False, base_only=False)
        assert decision.choice == choice
        held = agent.decide(batch["state"], torch.Generator(), False, base_only=True)
        assert held.choice == "base"


def test_the_average_of_the_actor_acts_and_follows_it(vx300s: Contract, tiny_policy: Path):
    settings = preset("act_sac", use_act_actor=False, log_std_max=-6.0, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base), make_batch(base, settings, size=1)
    plan = batch["state"]["base"][0, -1, 0]

    def moved() -> float:
        decision = agent.decide(batch["state"], torch.Generator(), False, base_only=False)
        return float((decision.chunk - plan).abs().max())

    torch.nn.init.zeros_(agent.critic.out.weight)
    before = moved()
    with torch.no_grad():
        agent.actor.head.bias += 0.3
    assert moved() == before  # the newest weights do not act
    agent.average_actor(updates=0)
    first = moved()
    for _ in range(2000):
        agent.average_actor(updates=10_000)
    assert before < first < moved()


def test_an_unknown_part_is_refused(vx300s: Contract, tiny_policy: Path):
    settings = variants()["residual"]
    agent = new_agent(settings, make_base(tiny_policy, vx300s, settings))
    with pytest.raises(LearnError, match="expected one of critic, actor, temperature"):
        agent({}, model="discrete_critic")


def test_a_batch_with_done_and_single_observations_is_taken(vx300s: Contract, tiny_policy: Path):
    settings = variants()["residual"]
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base), make_batch(base, settings)
    for name in ("state", "next_state"):
        batch[name] = {key: value[:, 0] for key, value in batch[name].items()}
    batch["action"] = batch["action"][:, 0]
    del batch["discount"]
    done = agent(batch | {"done": torch.ones(6)}, model="critic")
    assert done["target"] == pytest.approx(float(batch["reward"].mean()))


# -- critics ---------------------------------------------------------------------------------


def trained(agent: Agent, batch: dict, steps: int, target) -> Agent:
    """Fit the critics to a target (B,) of the batch's own actions."""
    parameters = [*agent.encoder.parameters(), *agent.critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    fitted = batch | {"reward": target, "discount": torch.zeros(len(target))}
    for _ in range(steps):
        loss = agent(fitted, model="critic")["loss_critic"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return agent


def test_the_critic_sees_the_image(vx300s: Contract, tiny_policy: Path):
    settings = preset("residual", random_shift_px=2, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    batch = make_batch(base, settings, 12)
    place = torch.arange(12) % 2
    images = torch.zeros_like(batch["state"]["observation.images"])
    for index in range(12):  # a bright square left or right, everything else alike
        left = 4 if place[index] == 0 else 20
        images[index, :, :, 12:20, left : left + 8] = 255
    one = {key: value[:1].expand_as(value) for key, value in batch["state"].items()}
    batch["state"] = one | {"observation.images": images}
    batch["action"] = batch["action"][:1].expand(12, -1, -1)
    agent = trained(new_agent(settings, base), batch, 60, place.float())
    features = agent.encoder(batch["state"])[:, -1]
    seen = agent.view(batch["action"], batch["state"]["base"][:, -1, 0], torch.ones(12))
    values = agent.critic(features, seen).mean(0)
    assert values[place == 1].min() > 0.5 > values[place == 0].max()


def test_the_pessimistic_value_is_the_minimum_of_a_random_subset(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("residual", **SMALL, num_subsample_critics=2)
    agent = new_agent(settings, make_base(tiny_policy, vx300s, settings))
    values = torch.tensor([[1.0], [2.0], [3.0]])
    got = {float(agent.critic.pessimistic(values)) for _ in range(60)}
    assert got == {1.0, 2.0}


def test_the_best_candidate_acts_and_the_base_where_none_is_surely_better(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("q_chunking", num_candidates=3, speeds=(1.0,), exploration=0.0, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent, batch = new_agent(settings, base).eval(), make_batch(base, settings, 1)
    values = torch.tensor([[1.0, 1.2, 3.0], [1.0, 1.1, 3.5], [1.0, 1.3, 2.5]])
    agent._values = lambda *args: values[:, None]
    state = batch["state"]
    best = agent.decide(state, torch.Generator(), explore=1.0, base_only=False)
    assert best.choice == "sample"
    torch.testing.assert_close(best.chunk, state["base"][0, 0, 2])
    only = agent.decide(state, torch.Generator(), explore=1.0, base_only=True)
    assert only.choice == "base" and only.value == pytest.approx(1.0)
    values = torch.tensor([[1.0, 0.2, 3.0], [1.0, 0.1, -3.5], [1.0, 0.3, 0.9]])
    unsure = agent.decide(state, torch.Generator(), explore=0.0, base_only=False)
    torch.testing.assert_close(unsure.chunk, state["base"][0, 0, 0])


def test_the_base_is_a_candidate_in_the_target(vx300s: Contract, tiny_policy: Path):
    base_only, actor_only = (
        preset("residual", base_candidate=flag, **SMALL) for flag in (True, False)
    )
    base = make_base(tiny_policy, vx300s, base_only)
    batch = make_batch(base, base_only)
    targets = []
    for settings in (base_only, actor_only):
        agent = new_agent(settings, base)
        agent._values = lambda critic, features, chunks, plan: torch.stack(
            [torch.tensor([[5.0, 1.0]]).expand(6, -1)[:, -chunks.shape[1] :]] * 3
        )
        targets.append(float(agent(batch, model="critic")["target"]))
    earned = float(batch["reward"].mean())
    assert targets == pytest.approx([earned + 0.9 * 5, earned + 0.9 * 1])


@pytest.mark.parametrize("speed", [1, 2])
def test_the_actors_overlapping_chunks_are_ensembled_on_the_clock_of_the_task(
    speed: int, vx300s: Contract, tiny_policy: Path
):
    settings = preset("act_sac", speeds=(1.0, 2.0), **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent = new_agent(settings, base)
    driver, rng, chunks = Driver(settings, base, agent), np.random.default_rng(0), []
    propose = agent.propose

    def kept(observation):
        whole = propose(observation)
        noise = 0.05 * torch.randn(whole.mean.shape, generator=torch.Generator().manual_seed(0))
        whole = TanhGaussian(whole.mean + len(chunks) * noise, whole.log_std)  # no two alike
        chunks.append(agent.action_map.command(whole.mode, whole.mode)[0].numpy())
        return whole

    agent.propose = kept
    likes = torch.tensor([0.0, 0.0, 2.0 - speed, speed - 1.0])  # base and actor, slow and fast
    agent._values = lambda *args: likes.expand(3, 1, 4)
    for step in range(settings.steps + 1):
        raw = {key: rng.integers(0, 255, (*base.image_size, 3), np.uint8) for key in base.cameras}
        raw["observation.state"] = base.state_mean.numpy()
        driver.observe(raw, step * vx300s.dt_s)
        act = driver.act(explore=0.0, base_only=False)
        assert act.decided == (step in (0, settings.steps))
        assert act.choice == "actor" and act.speed == speed
    # A step ago the task was `speed` rows back, and the next step ends `speed` rows ahead; of
    # chunks that are due the oldest weighs most.
    rows = [chunk[speed * (settings.steps - j) + speed - 1] for j, chunk in enumerate(chunks)]
    weights = np.exp(-0.01 * np.arange(len(rows)))
    np.testing.assert_allclose(act.target, np.average(rows, 0, weights), atol=2e-5)
    assert np.abs(act.target - chunks[-1][0]).max() > 1e-3


def test_the_base_too_can_be_faster_and_a_draw_tries_any(vx300s: Contract, tiny_policy: Path):
    settings = preset("q_chunking", num_candidates=2, speeds=(1.0, 2.0), exploration=1.0, **SMALL)
    base = make_base(tiny_policy, vx300s, settings)
    agent = new_agent(settings, base)
    driver, rng = Driver(settings, base, agent), np.random.default_rng(0)
    raw = {key: rng.integers(0, 255, (96, 96, 3), np.uint8) for key in base.cameras}
    raw["observation.state"] = base.state_mean.numpy()
    seen = driver.observe(raw, 0.0)
    chunks = seen.observation["base"]
    assert chunks.shape == (3, settings.steps, 7)
    actions = seen.prediction.actions
    np.testing.assert_allclose(chunks[0], actions[1 : settings.steps + 1], atol=1e-5)
    np.testing.assert_allclose(chunks[1], actions[2 : 2 * settings.steps + 1 : 2], atol=1e-5)
    agent._values = lambda *args: torch.tensor([1.0, 0.0, 0.0]).expand(3, 1, 3)  # the base leads
    observation = driver._tensors()
    drawn = [agent.decide(observation, driver._generator, 1.0, base_only=False) for _ in range(40)]
    assert {(d.choice, d.speed) for d in drawn} == {("base", 2.0), ("sample", 1.0)}
    calm = [agent.decide(observation, driver._generator, 0.0, base_only=False) for _ in range(40)]
    assert {(d.choice, d.speed) for d in calm} == {("base", 1.0)}


# -- base ------------------------------------------------------------------------------------


def test_candidates_follow_the_latent_of_a_base_that_has_one(vx300s: Contract, tmp_path: Path):
    folder = write_policy(vx300s, tmp_path / "vae", use_vae=True, latent_dim=4)
    settings = preset("q_chunking", num_candidates=5, speeds=(1.0,), **SMALL)
    base = make_base(folder, vx300s, settings)
    driver = Driver(settings, base, None)
    raw = {"observation.state": base.action_mean.numpy()}
    raw |= {key: np.zeros((96, 96, 3), np.uint8) for key in base.cameras}
    chunks = driver.observe(raw, 0.0).observation["base"]
    assert chunks.shape == (5, 5, 7)
    spread = np.ptp(chunks, axis=0)
    assert (spread[:, :GRIPPER] > 0).all() and (spread[:, GRIPPER] == 0).all()
    driver.begin(0)  # the same episode draws the same candidates; the plan is the zero latent's
    np.testing.assert_array_equal(driver.observe(raw, 0.0).observation["base"], chunks)
    plain = base.loaded.predict(
        {
            key: torch.from_numpy(value)[None].float()
            if key == "observation.state"
            else torch.zeros(1, 3, 96, 96)
            for key, value in raw.items()
        }
    ).actions[0, 1:6]
    np.testing.assert_allclose(chunks[0], plain.numpy(), atol=1e-5)


def test_candidates_of_a_base_without_a_latent_drift_away_from_its_plan(
    vx300s: Contract, tiny_policy: Path
):
    scale = np.array([0.1] * 6 + [0.0])
    candidates = BaseCandidates(load_policy(tiny_policy, "cpu"), 200, 0.5, scale)
    plan = np.zeros((4, 7))
    offsets = candidates.around(plan, None, np.random.default_rng(0))
    assert (offsets[0] == 0).all() and (offsets[..., GRIPPER] == 0).all()
    np.testing.assert_allclose(offsets[1:, -1, 0].std(), 0.05, rtol=0.2)
    np.testing.assert_allclose(offsets[:, 1], offsets[:, 3] / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"reward_head": "none"}, {}, "reward_head is none"),
        ({"chunk_size": 5, "n_action_steps": 5}, {"enable_q_chunking": True}, "chunk_size 5"),
        ({}, {"use_sequence_act_actor": True}, "n_obs_steps 1: expected the 3"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    config: dict, settings: dict, message: str, vx300s: Contract, tmp_path: Path
):
    folder = write_policy(vx300s, tmp_path / "policy", **config)
    with pytest.raises(LearnError, match=message):
        make_base(folder, vx300s, preset("act_sac", **{**SMALL, **settings}))
