"""The trainer: in step with the robot, resumable to the bit, its weights on their way."""

import os
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_rl_agent import SMALL, make_base

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.base import Base
from rewact_ros.learning.rl.journal import Journal
from rewact_ros.learning.rl.learner import Learner
from rewact_ros.learning.rl.learner_state import agent_tensors
from rewact_ros.learning.rl.loop import new_agent
from rewact_ros.learning.rl.settings import (
    ALGORITHMS,
    LearnError,
    RLSettings,
    load_settings,
    parse_changes,
    preset,
    settings_text,
)
from rewact_ros.learning.rl.transitions import Transition, TransitionBuilder
from rewact_ros.learning.rl.updates import open_update, write_update
from rewact_ros.policy.updates import Candidate, PolicyUpdates, UpdateRefused

QUICK = {
    **SMALL,
    "batch_size": 8,
    "online_step_before_learning": 10,
    "critic_warmup_updates": 4,
    "utd_ratio": 1.0,
    "utd_ratio_uncalibrated": 0.5,
    "calibration_episodes": 2,
    "calibrated_gap": 100.0,
    "online_buffer_capacity": 200,
    "offline_buffer_capacity": 200,
}


def episode(
    base: Base, settings: RLSettings, number: int, sources: str, value: float = 0.5
) -> list[Transition]:
    """An executed episode about the home pose that succeeds; a source per step, p or h."""
    rng, spec = np.random.default_rng(number), base.spec(settings)
    home = base.action_mean.numpy()
    builder, found = TransitionBuilder(spec, settings.steps), []
    builder.begin(f"{number:06d}")

    def seen(step: int) -> dict[str, np.ndarray]:
        made = {}
        for name, (shape, dtype) in spec.arrays.items():
            made[name] = rng.integers(0, 255, shape).astype(dtype)
        made["observation.state"] = (home + 0.01 * rng.standard_normal(7)).astype(np.float32)
        made["base"] = np.broadcast_to(home, spec.arrays["base"][0]).astype(np.float32)
        made["progress"] = np.asarray(step / len(sources), np.float32)
        return made

    for step, source in enumerate(sources):
        action = home + 0.01 * rng.standard_normal(7)
        found.append(builder.add(seen(step), action, source == "h", "v", value))
    found.append(builder.end(seen(len(sources)), True, 1.0))
    return [transition for transition in found if transition is not None]


def stream(base: Base, settings: RLSettings, episodes: int = 5) -> list[Transition]:
    return [
        t for n in range(episodes) for t in episode(base, settings, n, "ppppphhhppphhhh"[: 9 + n])
    ]


def make_learner(base: Base, settings: RLSettings) -> Learner:
    return Learner(settings, new_agent(settings, base), base.spec(settings))


def learn(learner: Learner, transition: Transition) -> None:
    learner.add(transition)
    for _ in range(learner.due):
        learner.update()


def same_weights(one: Learner, other: Learner) -> bool:
    mine, theirs = agent_tensors(one.agent), agent_tensors(other.agent)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    ("online", "interventions", "expected"),
    [(0.5, None, (4, 4)), (0.25, 0.5, (5, 3)), (0.0, 0.5, (4, 4)), (0.0, 1.0, (8, 0))],
)
def test_an_actors_batch_has_interventions_as_often_as_is_wanted(
    online: float, interventions: float | None, expected: tuple, vx300s: Contract, tiny_policy: Path
):
    shares = {"actor_online_share": online, "intervention_share": interventions}
    settings = preset("act_sac", **QUICK, **shares)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    learner.restore(episode(base, settings, 90, "h" * 12), ())
    demos = learner.demos._action[:12].copy()
    for transition in episode(base, settings, 0, "ppphhh"):
        learner.add(transition)
    # Only what the robot itself saw can be told from the demonstrations; the buffer has both.
    batch = learner._actor_batch(np.random.default_rng(0))
    action = batch["action"][:, 0].numpy()
    shown = np.array([(demos == row).all(1).any() for row in action])
    assert shown.sum() <= expected[1] and (~shown).sum() >= expected[0]
    assert batch["action"].shape == (8, settings.horizon, 7)
    if not online:
        assert batch["expert_mask"][:, 0].all()


@pytest.mark.parametrize(("sources", "taught"), [("pppppppppppp", False), ("pppppppphhhh", True)])
def test_an_actor_that_nothing_teaches_stays_as_it_was(
    sources: str, taught: bool, vx300s: Contract, tiny_policy: Path
):
    settings = preset("act_sac", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    before = {name: value.clone() for name, value in agent_tensors(learner.agent).items()}
    for number in range(2):
        for transition in episode(base, settings, number, sources):
            learn(learner, transition)
    assert learner.counts.updates > settings.critic_warmup_updates
    now = agent_tensors(learner.agent)
    changed = {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}
    assert "critic" in changed and ("actor" in changed) == taught


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(
    "settings",
    [
        preset("residual", **QUICK),
        preset("act_sac", **QUICK, act_from_base=False, act_dim_model=16, act_dim_feedforward=16),
        preset("q_chunking", num_candidates=3, **QUICK),
    ],
    ids=lambda settings: settings.algorithm,
)
def test_a_resume_after_kill_9_equals_the_uninterrupted_run_bit_for_bit(
    settings: RLSettings, vx300s: Contract, tiny_policy: Path, tmp_path: Path
):
    base = make_base(tiny_policy, vx300s, settings)
    demos, own = episode(base, settings, 90, "h" * 12), stream(base, settings)
    whole = make_learner(base, settings)
    whole.restore(demos, ())
    for transition in own:
        learn(whole, transition)
    assert whole.counts.updates > settings.critic_warmup_updates + 4

    child = os.fork()
    if not child:  # a process that is killed after its last checkpoint
        signal.alarm(100)  # and that must not outlive the test if it hangs
        learner, journal = make_learner(base, settings), Journal(tmp_path / "journal")
        learner.restore(demos, ())
        for number, transition in enumerate(own[: 3 * len(own) // 4]):
            journal.append(transition)
            learn(learner, transition)
            if number == len(own) // 2:
                learner.save(tmp_path)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    journal = Journal(tmp_path / "journal")
    assert len(journal) == 3 * len(own) // 4  # no transition is lost
    resumed = make_learner(base, settings)
    assert resumed.load(tmp_path)
    done = resumed.counts.transitions
    assert 0 < done < len(journal) and not same_weights(resumed, whole)
    resumed.restore(demos, journal.read())
    for transition in [*journal.read(done), *own[len(journal) :]]:
        learn(resumed, transition)
    assert resumed.counts == whole.counts and same_weights(resumed, whole)
    assert resumed.calibration.gap == whole.calibration.gap


def test_updates_are_tied_to_robot_steps_and_few_until_the_critic_is_calibrated(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("residual", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    for transition in episode(base, settings, 0, "p" * 10):
        learner.add(transition)
    assert learner.due == 0  # collecting
    for transition in episode(base, settings, 1, "p" * 10):
        assert not learner.calibration.calibrated
        learner.add(transition)
    assert learner.calibration.calibrated and 4 <= learner.due <= 6
    due = learner.due
    for transition in episode(base, settings, 2, "p" * 10):
        learner.add(transition)
    assert learner.due == due + 10
    while learner.due:
        learner.update()
    assert learner.counts.updates == due + 10 and learner.counts.robot_steps == 30


def test_the_critic_warms_up_before_the_actor_moves(vx300s: Contract, tiny_policy: Path):
    settings = preset("residual", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    for transition in stream(base, settings, 2):
        learner.add(transition)
    before = [p.clone() for p in learner.agent.actor.parameters()]
    for _ in range(settings.critic_warmup_updates):
        assert not learner.warmed_up
        assert "loss_actor" not in learner.update()
    assert all(
        torch.equal(a, b) for a, b in zip(before, learner.agent.actor.parameters(), strict=True)
    )
    assert learner.warmed_up and "loss_actor" in learner.update()


def test_half_of_a_batch_comes_from_demonstrations_and_interventions(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("residual", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    for transition in episode(base, settings, 0, "p" * 12):
        learner.add(transition)
    assert len(learner.demos) == 0
    batch = learner._batch(np.random.default_rng(0))
    assert not batch["expert_mask"].any() and len(batch["reward"]) == 8
    for transition in episode(base, settings, 1, "pppphhhhpp"):
        learner.add(transition)
    assert (len(learner.online), len(learner.demos)) == (22, 4)
    batch = learner._batch(np.random.default_rng(0))
    assert batch["expert_mask"][4:].all() and len(batch["reward"]) == 8


def test_calibration_compares_values_with_what_came(vx300s: Contract, tiny_policy: Path):
    settings = preset("residual", **{**QUICK, "calibrated_gap": 0.3, "shaping_weight": 0.0})
    base = make_base(tiny_policy, vx300s, settings)
    for value, calibrated in ((0.9, True), (2.0, False)):
        learner = make_learner(base, settings)
        for number in range(2):
            for transition in episode(base, settings, number, "p" * 10, value):
                learner.add(transition)
        assert learner.calibration.calibrated is calibrated
        assert learner.calibration.gap == pytest.approx(value - settings.discount**9)


def test_a_loss_that_is_not_finite_stops_the_run_before_anything_changes(
    vx300s: Contract, tiny_policy: Path
):
    settings = preset("residual", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    for transition in stream(base, settings, 2):
        learner.add(transition)
    learner.agent.encoder.state_mean[0] = float("nan")
    before = learner.agent.critic.out.weight.clone()
    with pytest.raises(LearnError, match="loss_critic is nan"):
        learner.update()
    assert torch.equal(before, learner.agent.critic.out.weight)


def test_other_settings_and_a_short_journal_are_refused_on_resume(
    vx300s: Contract, tiny_policy: Path, tmp_path: Path
):
    settings = preset("residual", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    assert not learner.load(tmp_path)
    own = stream(base, settings, 2)
    for transition in own:
        learn(learner, transition)
    learner.save(tmp_path)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2  # one, and the link to it
    other = replace(settings, residual_bound=0.01)
    with pytest.raises(LearnError, match="residual_bound=0.05, now 0.01"):
        make_learner(base, other).load(tmp_path)
    resumed = make_learner(base, settings)
    resumed.load(tmp_path)
    with pytest.raises(LearnError, match=f"expected the checkpoint's {len(own)} transitions"):
        resumed.restore((), own[:-1])
    weights = tmp_path / "checkpoints" / "last" / "agent.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(LearnError, match="damaged"):
        make_learner(base, settings).load(tmp_path)


def test_weights_reach_the_robot_whole_or_not_at_all(
    vx300s: Contract, tiny_policy: Path, tmp_path: Path
):
    settings = preset("residual", **QUICK)
    base = make_base(tiny_policy, vx300s, settings)
    learner = make_learner(base, settings)
    update = write_update(tmp_path, learner.agent, base, 7)
    robot = PolicyUpdates(str(tmp_path), vx300s.hash, Candidate(tmp_path / "old", "0" * 12, ""))
    taken = robot.judge(update)
    assert taken == Candidate(tmp_path / update.version, update.version, update.sha256)
    opened, agent = open_update(taken.folder, vx300s, "cpu")
    assert opened.loaded.version == base.loaded.version
    mine, theirs = agent_tensors(learner.agent), agent_tensors(agent)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    weights = taken.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UpdateRefused, match="sha256"):
        robot.judge(replace(update, stamp_ns=update.stamp_ns + 1))
    weights.write_bytes(b"nothing")
    with pytest.raises(LearnError, match="damaged"):
        open_update(taken.folder, vx300s, "cpu")


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "ppo"}, "algorithm: expected one of residual, act_sac, q_chunking"),
        ({"discount": float("nan")}, "discount: expected 0 to 0.9999"),
        ({"n_step": 2, "enable_q_chunking": True}, "n_step: expected at least the 5 steps"),
        ({"algorithm": "q_chunking"}, "enable_q_chunking: q_chunking judges whole chunks"),
        ({"use_act_actor": True}, "only act_sac has an ACT actor"),
        ({"num_critics": 1}, "num_subsample_critics: expected at most num_critics"),
        ({"residual_bound": 0.0}, "both are 0"),
        ({"image_size": (8, 8)}, "image_size"),
        ({"speeds": (2.0, 1.0)}, "speeds: expected 1 and then others"),
        ({"speeds": (1.0, 3.0)}, "an actor at 3 needs 3 steps of its chunk, it has 1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(changes: dict, message: str):
    with pytest.raises(LearnError, match=message):
        RLSettings(**changes)


def test_settings_come_from_a_file_and_an_unknown_one_is_named(tmp_path: Path):
    settings = preset("act_sac", residual_bound=0.02, action_parts={"arm": 6, "gripper": 1})
    file = tmp_path / "settings.json"
    file.write_text(settings_text(settings))
    assert load_settings(file) == settings
    file.write_text('{"algorithm": "act_sac"}')
    assert load_settings(file, {"speeds": [1.0]}).speeds == (1.0,)
    assert load_settings(file) == preset("act_sac")
    changes = parse_changes(["use_act_actor=false", "image_size=[64, 64]"])
    assert preset("act_sac", **changes).image_size == (64, 64)
    with pytest.raises(LearnError, match="own_weight: what was executed at another speed"):
        preset("act_sac", own_weight=0.5)
    assert preset("act_sac", exploration_half_life=100).exploring(200) == 0.25
    with pytest.raises(LearnError, match="did you mean act_chunk_size"):
        preset("residual", act_chunk_sise=3)
    with pytest.raises(LearnError, match="expected NAME=VALUE"):
        parse_changes(["discount"])
    file.write_text("[]")
    with pytest.raises(LearnError, match="settings.json"):
        load_settings(file)


def test_the_example_configurations_load_and_the_docs_name_every_setting():
    root = Path(__file__).parents[1]
    files = sorted((root / "config" / "learn").glob("*.json"))
    assert {load_settings(file).algorithm for file in files} == set(ALGORITHMS)
    text = (root / "docs" / "rl.md").read_text()
    missing = [f.name for f in fields(RLSettings) if f"`{f.name}`" not in text]
    assert not missing
