"""Reward heads, action parts, observation history and the other settings of the network."""

import math

import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from test_policy import ACTION, CAMERA, STATE, make_batch, make_config, make_policy, predict

from rewact_ros.policy.history import ObservationHistory
from rewact_ros.policy.reward_head import build_reward


@pytest.mark.parametrize("target", ["two_hot", "gaussian"])
def test_bins_targets_and_mean_are_consistent_over_the_whole_value_range(target):
    head = build_reward(
        make_config(reward_head="distributional", reward_target=target, num_value_bins=21)
    )
    label = torch.tensor([0.0, 0.004, 0.31, 0.5, 0.983, 1.0])
    goal = head.target(label)
    torch.testing.assert_close(goal.sum(-1), torch.ones(6))
    assert (goal >= 0).all()
    mean = (goal * head.centres).sum(-1)
    # A Gaussian that is cut at an end of the range leans inwards by less than a bin.
    torch.testing.assert_close(mean, label, atol=1e-5 if target == "two_hot" else 0.05, rtol=0)
    torch.testing.assert_close(head.edges.diff(), torch.full((21,), 0.05))
    torch.testing.assert_close((head.edges[1:] + head.edges[:-1]) / 2, head.centres)


def test_the_cross_entropy_is_least_at_the_target_and_the_ends_can_be_predicted():
    head = build_reward(make_config(reward_head="distributional", num_value_bins=11))
    label = torch.tensor([0.0, 1.0, 0.25])
    exact = head.target(label).clamp_min(1e-9).log()
    estimate = head.estimate(exact)
    torch.testing.assert_close(estimate.value, label, atol=1e-5, rtol=0)
    other = head.loss(exact + torch.randn(3, 11, generator=torch.Generator().manual_seed(0)), label)
    assert (head.loss(exact, label) <= other).all()


def test_quantiles_are_ordered_within_the_range_and_entropy_grows_with_doubt():
    head = build_reward(make_config(reward_head="distributional", value_min=-1.0, value_max=0.5))
    sure, unsure = torch.full((2, 100), -30.0), torch.zeros(1, 100)
    sure[0, 0], sure[1, 99] = 30.0, 30.0
    estimate = head.estimate(torch.cat([sure, unsure]))
    q10, q50, q90 = estimate.quantiles.unbind(-1)
    assert (q10 <= q50).all() and (q50 <= q90).all()
    assert estimate.quantiles.min() >= -1.0 and estimate.quantiles.max() <= 0.5
    expected = torch.tensor([-0.85, -0.25, 0.35])
    torch.testing.assert_close(estimate.quantiles[2], expected, atol=0.02, rtol=0)
    assert estimate.entropy[0] < 1e-3
    assert estimate.entropy[2].item() == pytest.approx(math.log(100), rel=1e-4)


def test_a_distributional_head_gives_rewards_for_the_whole_batch_and_learns():
    policy, batch = make_policy(reward_head="distributional"), make_batch()
    batch["next.reward"][0] = float("nan")
    loss, logs = policy(batch)
    assert logs["reward_loss"] == pytest.approx(math.log(100), rel=0.1)
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in policy.model.action_head.reward.parameters())
    reward = policy.predict(batch).reward
    assert reward.value.shape == (6,) and reward.distribution.shape == (6, 100)


@pytest.mark.parametrize("head", ["sigmoid", "distributional"])
def test_a_label_outside_the_value_range_is_an_error(head):
    policy, batch = make_policy(reward_head=head), make_batch()
    batch["next.reward"][3] = 1.2
    with pytest.raises(ValueError, match=r"next\.reward.*0\.0 to 1\.0.*1\.2"):
        policy(batch)
    low = make_policy(reward_head=head, value_min=-1.0, value_max=0.0)
    batch["next.reward"][:] = -0.5
    low(batch)
    value = low.predict(batch).reward.value
    assert (value >= -1).all() and (value <= 0).all()


def test_without_a_reward_head_the_policy_is_plain_act():
    policy, batch = make_policy(reward_head="none"), make_batch()
    del batch["next.reward"]
    loss, logs = policy(batch)
    assert logs.keys() == {"l1_loss"} and loss.item() == pytest.approx(logs["l1_loss"])
    assert policy.predict(batch).reward is None
    assert policy.select_action(make_batch(1), returns_reward=True)[1] is None


def test_action_parts_have_their_own_heads_weights_and_log_lines():
    settings = {"reward_loss_weight": 0.0, "action_parts": {"arm": 2, "hand": 1}}
    policy, batch = make_policy(**settings, action_part_weights={"hand": 4.0}), make_batch()
    batch["action_is_pad"][:, 2:] = True
    error = (policy.predict(batch).actions - batch[ACTION])[:, :2].abs()
    loss, logs = policy(batch)
    arm, hand = error[..., :2].mean().item(), error[..., 2].mean().item()
    assert logs["l1_arm"] == pytest.approx(arm, rel=1e-5)
    assert logs["l1_hand"] == pytest.approx(hand, rel=1e-5)
    assert logs["l1_loss"] == pytest.approx((2 * arm + hand) / 3, rel=1e-5)
    assert loss.item() == pytest.approx((2 * arm + 4 * hand) / 6, rel=1e-5)
    names = {name for name, _ in policy.model.action_head.action.named_parameters()}
    assert names == {f"parts.{p}.{w}" for p in ("arm", "hand") for w in ("weight", "bias")}
    with pytest.raises(ValueError, match=r"action_parts.*add up to the action's 3"):
        make_policy(action_parts={"arm": 7})
    with pytest.raises(ValueError, match=r"action_part_weights.*leg"):
        make_policy(action_parts={"arm": 3}, action_part_weights={"leg": 1.0})


def history_batch(size: int = 3, steps: int = 3) -> dict[str, torch.Tensor]:
    parts = [make_batch(size) for _ in range(steps)]
    for k, part in enumerate(parts):
        part[STATE], part[CAMERA] = part[STATE] + k, part[CAMERA] * (k + 1) / steps
    stacked = {key: torch.stack([p[key] for p in parts], 1) for key in (STATE, CAMERA)}
    return {**parts[-1], **stacked}


def test_a_history_reaches_the_network_and_its_order_matters():
    policy = make_policy(n_obs_steps=3, random_shift_px=2, state_dropout=0.2)
    batch = history_batch()
    estimate = policy.predict(batch)
    for key in (STATE, CAMERA):
        other = policy.predict({**batch, key: batch[key].flip(1)})
        assert (other.actions - estimate.actions).abs().max() > 1e-6
    policy.train()
    loss, _ = policy(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert policy.config.observation_delta_indices == [-2, -1, 0]
    with pytest.raises(ValueError, match="history of 3 observations"):
        policy.predict(make_batch())


def test_select_action_gathers_the_history_itself():
    policy, batch = make_policy(n_obs_steps=3), history_batch(1)
    steps = [{key: batch[key][:, k] for key in (STATE, CAMERA)} for k in range(3)]
    rewards = [policy.select_action(step, returns_reward=True)[1] for step in steps]
    torch.testing.assert_close(rewards[2], predict(policy, batch)[1])
    policy.reset()
    again = policy.select_action(steps[0], returns_reward=True)[1]
    torch.testing.assert_close(again, rewards[0])


def test_a_history_is_thinned_to_the_rate_and_forgets_across_gaps():
    history = ObservationHistory[float](3, step_s=0.1)
    assert history.add(0.0, 0.0) == [0.0, 0.0, 0.0]
    for k in range(1, 13):  # a camera at 30 Hz
        kept = history.add(k / 30, k / 30)
    assert kept == pytest.approx([6 / 30, 9 / 30, 12 / 30], abs=1e-9)
    assert history.add(5.0, 5.0) == [5.0, 5.0, 5.0]
    assert history.add(4.0, 4.0) == [4.0, 4.0, 4.0]  # time went back: another episode


def test_without_encoder_layers_the_decoder_reads_the_inputs():
    policy, batch = make_policy(n_encoder_layers=0), make_batch()
    assert not list(policy.model.encoder.parameters())
    loss, _ = policy(batch)
    loss.backward()
    assert policy.model.encoder_robot_state_input_proj.weight.grad.abs().sum() > 0


def test_a_frozen_backbone_stays_and_is_left_out_of_the_optimiser():
    policy = make_policy(freeze_backbone=True)
    policy(make_batch())[0].backward()
    assert all(p.grad is None for p in policy.model.backbone.parameters())
    groups = policy.get_optim_params()
    assert not groups[1]["params"] and groups[1]["lr"] == policy.config.optimizer_lr_backbone


@pytest.mark.parametrize("settings", [{"reward_head": "distributional"}, {"use_vae": True}])
def test_hidden_states_are_seen_by_neither_head(settings):
    policy = make_policy(state_dropout=0.999999, **settings).train()
    batch, other = make_batch(), make_batch()
    other[STATE] = other[STATE] + 5
    losses = []
    for each in (batch, other):
        torch.manual_seed(0)
        losses.append(policy(each)[0])
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_reward_with_eyes_of_its_own_reads_the_cameras_alone(steps):
    policy = make_policy(reward_reads="images", n_obs_steps=steps)
    batch = history_batch(steps=steps) if steps > 1 else make_batch()
    moved, seen = dict(batch), dict(batch)
    moved[STATE] = batch[STATE] + 5
    seen[CAMERA] = 1 - batch[CAMERA]
    before, after, other = (policy.predict(x).reward.value for x in (batch, moved, seen))
    assert torch.equal(before, after)
    assert not torch.allclose(before, other, atol=1e-5)


def test_eyes_of_the_reward_teach_no_action_and_learn_from_no_action():
    policy, batch = make_policy(reward_reads="images").train(), make_batch()
    policy(batch)[0].backward()
    with_reward = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    assert any(name.startswith("eyes.") for name in with_reward)
    policy.zero_grad()
    policy(batch | {"next.reward": torch.full_like(batch["next.reward"], torch.nan)})[0].backward()
    for name, parameter in policy.named_parameters():
        if name.startswith("eyes."):
            assert parameter.grad is None or not parameter.grad.any()
        else:
            torch.testing.assert_close(parameter.grad, with_reward[name])


def test_what_teaches_no_action_goes_past_the_transformer_and_still_teaches_the_eyes():
    policy, batch = make_policy(reward_reads="images").train(), make_batch()
    batch["action_is_pad"][2:] = True
    seen = []
    policy.model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    logs = policy(batch)[1]
    first = {key: value[:2] for key, value in batch.items()}
    reward = predict(policy, batch)[1]
    expected = (reward - batch["next.reward"]).square().mean().item()
    assert logs["reward_loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["l1_loss"] == pytest.approx(policy.train()(first)[1]["l1_loss"], rel=1e-5)
    batch["action_is_pad"][:] = True
    assert policy(batch)[1]["l1_loss"] == 0 and seen[0] == 2 and seen[-1] == 1


def test_eyes_of_the_reward_need_a_camera():
    config = make_config(reward_reads="images")
    poses = PolicyFeature(FeatureType.ENV, (3,))
    config.input_features = {"observation.environment_state": poses}
    with pytest.raises(ValueError, match="reward_reads: images needs a camera"):
        config.validate_features()
