"""RewACT's loss, masks, rewards and plug-in discovery."""

import copy
import subprocess
import sys

import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

from rewact_ros.policy import RewACTConfig, RewACTPolicy
from rewact_ros.policy.images import resize_images, unit_images

STATE, ACTION, CAMERA = "observation.state", "action", "observation.images.front"
CHUNK, STATE_DIM, ACTION_DIM = 4, 5, 3


def make_config(**settings) -> RewACTConfig:
    settings = {
        "chunk_size": CHUNK,
        "n_action_steps": CHUNK,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "n_decoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
        "dropout": 0.0,
        "device": "cpu",
        **settings,
    }
    return RewACTConfig(
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (STATE_DIM,)),
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))},
        **settings,
    )


def make_policy(**settings) -> RewACTPolicy:
    torch.manual_seed(0)
    return RewACTPolicy(make_config(**settings)).eval()


def make_batch(size: int = 6, image: tuple[int, int] = (32, 32)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        STATE: torch.randn(size, STATE_DIM, generator=generator),
        CAMERA: torch.rand(size, 3, *image, generator=generator),
        ACTION: torch.randn(size, CHUNK, ACTION_DIM, generator=generator),
        "action_is_pad": torch.zeros(size, CHUNK, dtype=torch.bool),
        "next.reward": torch.rand(size, generator=generator),
    }


def predict(policy: RewACTPolicy, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions and reward values."""
    estimate = policy.predict(batch)
    return estimate.actions, estimate.reward.value


def test_loss_is_l1_plus_weighted_reward_error_without_the_vae():
    policy, batch = make_policy(reward_loss_weight=3.0), make_batch()
    actions, reward = predict(policy, batch)
    loss, logs = policy(batch)
    l1 = (actions - batch[ACTION]).abs().mean()
    mse = (reward - batch["next.reward"]).square().mean()
    torch.testing.assert_close(loss, l1 + 3.0 * mse)
    assert logs.keys() == {"l1_loss", "reward_loss"}


def test_reward_is_in_the_unit_interval_and_trains_without_the_vae():
    policy, batch = make_policy(), make_batch()
    policy.train()
    policy(batch)[0].backward()
    assert all(
        p.grad.abs().sum() > 0 for p in policy.model.action_head.reward.parameters() if p.dim() > 1
    )
    reward = predict(policy, batch)[1]
    assert reward.shape == (6,) and (reward >= 0).all() and (reward <= 1).all()


def test_masked_l1_is_a_mean_over_valid_steps_and_action_dims():
    policy, batch = make_policy(reward_loss_weight=0.0), make_batch()
    batch["action_is_pad"][:, 1:] = True
    actions, _ = predict(policy, batch)
    expected = (actions - batch[ACTION])[:, :1].abs().mean()
    torch.testing.assert_close(policy(batch)[0], expected)
    batch["action_is_pad"][:] = True
    assert policy(batch)[0] == 0


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_frames_that_do_not_teach_actions_still_teach_the_reward(shape):
    policy, batch = make_policy(), make_batch()
    batch["demo_is_pad"] = torch.tensor([0, 0, 1, 1, 1, 1]).bool().reshape(shape)
    _, logs = policy(batch)
    actions, reward = predict(policy, batch)
    assert logs["l1_loss"] == pytest.approx(
        (actions - batch[ACTION])[:2].abs().mean().item(), rel=1e-5
    )
    assert logs["reward_loss"] == pytest.approx(
        (reward - batch["next.reward"]).square().mean().item(), rel=1e-5
    )


def test_unknown_rewards_are_masked_per_frame():
    policy, batch = make_policy(), make_batch()
    batch["next.reward"][2:] = float("nan")
    loss, logs = policy(batch)
    _, reward = predict(policy, batch)
    expected = (reward - batch["next.reward"])[:2].square().mean().item()
    assert torch.isfinite(loss) and logs["reward_loss"] == pytest.approx(expected, rel=1e-5)
    batch["next.reward"][:] = float("nan")
    assert policy(batch)[1]["reward_loss"] == 0


def test_reward_labels_of_both_shapes_agree():
    policy, batch = make_policy(), make_batch()
    column = {**batch, "next.reward": batch["next.reward"].unsqueeze(1)}
    torch.testing.assert_close(policy(batch)[0], policy(column)[0])


@pytest.mark.parametrize("label", [None, 0.0])
def test_an_absent_reward_column_is_an_error_that_names_it(label):
    policy, batch = make_policy(), make_batch()
    del batch["next.reward"]
    if label is not None:  # what LeRobot's processors put in its place
        batch["next.reward"] = label
    with pytest.raises(KeyError, match="next.reward"):
        policy(batch)


def test_vae_adds_its_term_in_training_and_eval_mode_forward_still_works():
    policy, batch = make_policy(use_vae=True, kl_weight=10.0), make_batch()
    loss, logs = policy(batch)
    assert logs.keys() == {"l1_loss", "reward_loss"} and torch.isfinite(loss)
    policy.train()
    loss, logs = policy(batch)
    expected = logs["l1_loss"] + 2.0 * logs["reward_loss"] + 10.0 * logs["kld_loss"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_batch_of_one_equals_batch_of_many():
    policy, batch = make_policy(), make_batch()
    actions, reward = predict(policy, batch)
    for i in range(len(reward)):
        one = {key: value[i : i + 1] for key, value in batch.items()}
        action_i, reward_i = predict(policy, one)
        torch.testing.assert_close(action_i, actions[i : i + 1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(reward_i, reward[i : i + 1], atol=1e-5, rtol=1e-5)


def test_select_action_walks_the_chunk_and_its_reward_is_of_the_current_observation():
    policy = make_policy()
    observations = [make_batch(1)] * 2
    observations[1] = {
        **observations[0],
        STATE: observations[0][STATE] + 1,
        CAMERA: observations[0][CAMERA] * 0.2,
    }
    chunk = policy.predict(observations[0]).actions
    for step in range(CHUNK):
        observation = observations[step % 2]
        action, reward = policy.select_action(observation, returns_reward=True)
        torch.testing.assert_close(action, chunk[:, step])
        torch.testing.assert_close(reward, predict(policy, observation)[1])
    plain = copy.deepcopy(policy)
    plain.reset()
    torch.testing.assert_close(plain.select_action(observations[0]), chunk[:, 0])
    assert isinstance(plain.predict_action_chunk(observations[0]), torch.Tensor)


def test_temporal_ensembling_still_works():
    policy = make_policy(n_action_steps=1, temporal_ensemble_coeff=0.01)
    batch = make_batch(1)
    first = policy.select_action(batch)
    second, reward = policy.select_action(batch, returns_reward=True)
    assert first.shape == second.shape == (1, ACTION_DIM) and reward.shape == (1,)


def test_pixels_become_floats_with_the_colours_first_and_stay_what_they_are():
    pixels = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).reshape(2, 4, 5, 3)
    for given in (pixels, pixels.float()):
        before = given.clone()
        assert torch.equal(unit_images(given), pixels.permute(0, 3, 1, 2).float() / 255)
        assert torch.equal(given, before)


def test_the_policy_resizes_as_the_frame_cache_does():
    policy = make_policy(image_size=(32, 32))
    batch = make_batch(image=(64, 96))
    batch[CAMERA] = (batch[CAMERA] * 255).round() / 255
    small = resize_images(batch[CAMERA], (32, 32), round_to_8_bits=True)
    torch.testing.assert_close(small * 255, (small * 255).round(), atol=1e-4, rtol=0)
    expected = policy.predict({**batch, CAMERA: small}).actions
    torch.testing.assert_close(policy.predict(batch).actions, expected, atol=0, rtol=0)


def test_augmentation_acts_in_training_only():
    policy = make_policy(
        random_shift_px=3, brightness_jitter=0.2, state_noise_std=0.1, state_dropout=0.5
    )
    batch = make_batch()
    torch.testing.assert_close(predict(policy, batch), predict(policy, batch), atol=0, rtol=0)
    policy.train()
    assert policy(batch)[0] != policy(batch)[0]


def test_no_width_is_fixed():
    config = make_config()
    config.input_features[STATE] = PolicyFeature(FeatureType.STATE, (26,))
    config.output_features[ACTION] = PolicyFeature(FeatureType.ACTION, (11,))
    batch = {**make_batch(2), STATE: torch.zeros(2, 26)}
    assert RewACTPolicy(config).predict(batch).actions.shape == (2, CHUNK, 11)


def test_cameras_alone_suffice():
    config = make_config()
    del config.input_features[STATE]
    assert predict(RewACTPolicy(config), {CAMERA: torch.rand(2, 3, 32, 32)})[1].shape == (2,)


def test_a_state_skip_begins_at_the_present_posture():
    policy, batch = make_policy(state_skip=True), make_batch()
    torch.nn.init.zeros_(policy.model.action_head.action.weight)
    torch.nn.init.zeros_(policy.model.action_head.action.bias)
    torch.testing.assert_close(policy.predict(batch).actions[:, -1], batch[STATE][:, :ACTION_DIM])


def test_a_resnet_serves_as_backbone_and_pretrained_weights_are_never_downloaded(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert make_policy(vision_backbone="resnet18").predict(make_batch(1)).actions.shape == (
        1,
        CHUNK,
        ACTION_DIM,
    )
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        make_policy(
            vision_backbone="resnet18", pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1"
        )


@pytest.mark.parametrize(
    "setting", [{"image_size": (4, 4)}, {"state_dropout": 1.5}, {"vision_backbone": "vgg"}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        make_config(**setting)


def test_lerobot_finds_policy_and_processors_by_name():
    assert get_policy_class("rewact") is RewACTPolicy
    config = make_policy_config("rewact", device="cpu")
    config.input_features, config.output_features = (
        make_config().input_features,
        make_config().output_features,
    )
    stats = {
        key: {"mean": torch.zeros(n), "std": torch.ones(n)}
        for key, n in ((STATE, STATE_DIM), (ACTION, ACTION_DIM))
    }
    preprocessor, _ = make_pre_post_processors(config, dataset_stats=stats)
    batch = preprocessor(make_batch(2))
    assert batch["next.reward"].shape == (2,) and batch["action_is_pad"].shape == (2, CHUNK)


def test_lerobot_discovers_the_package_in_a_fresh_interpreter_without_ros():
    code = (
        "import sys; from lerobot.configs.parser import load_plugin; "
        "load_plugin('rewact_ros.policy'); "
        "from lerobot.configs import PreTrainedConfig; "
        "assert 'rewact' in PreTrainedConfig.get_known_choices(); assert 'rclpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
