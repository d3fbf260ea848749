"""Checkpoints of the public RewACT packages load and run unchanged."""

import json

import numpy as np
import pytest
import torch
from conftest import SHARED_DATA
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from safetensors.torch import save_file
from test_policy import ACTION, ACTION_DIM, CAMERA, STATE, STATE_DIM, make_batch, make_policy

from rewact_ros.policy.checkpoint import CheckpointError, load_policy, save_policy

UPSTREAM = SHARED_DATA / "upstream_rewact_ckpt"
needs_upstream = pytest.mark.skipif(
    not UPSTREAM.exists(), reason=f"no upstream checkpoint at {UPSTREAM}"
)


@pytest.fixture(scope="module")
def upstream():
    torch.set_num_threads(1)
    inputs = {k: torch.from_numpy(v) for k, v in np.load(UPSTREAM / "inputs.npz").items()}
    return load_policy(UPSTREAM, "cpu"), inputs, dict(np.load(UPSTREAM / "outputs.npz"))


def close(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5, rtol=0)


@needs_upstream
def test_every_output_of_the_public_package_is_reproduced(upstream):
    loaded, inputs, outputs = upstream
    normalised = loaded.preprocessor(dict(inputs))
    for key in inputs:
        close(normalised[key], outputs[f"normalized/{key}"])
    estimate = loaded.predict(normalised, normalised=True)
    close(estimate.actions, outputs["action_chunk_normalized"])
    close(estimate.reward.logits, outputs["reward_logits"])
    close(estimate.reward.distribution, outputs["reward_distribution"])
    close(estimate.reward.value, outputs["reward_expected_value"][:, 0])
    close(loaded.predict(inputs).actions, outputs["action_chunk"])


@needs_upstream
def test_the_sequence_of_actions_is_theirs_and_the_reward_is_never_zero_in_between(upstream):
    loaded, inputs, outputs = upstream
    loaded.policy.reset()
    rewards = []
    for step, expected in enumerate(outputs["select_action_seq"]):
        one = {key: value[step % 3 : step % 3 + 1] for key, value in inputs.items()}
        action, reward = loaded.policy.select_action(loaded.preprocessor(one), returns_reward=True)
        close(loaded.postprocessor(action)[0], expected)
        rewards.append(float(reward))
    forced = outputs["select_reward_forced_seq"]
    np.testing.assert_allclose(rewards[: len(forced)], forced, atol=1e-5)
    assert (outputs["select_reward_seq"] == 0).any() and min(rewards) > 0.4


@needs_upstream
def test_written_back_it_has_our_layout_and_the_same_outputs(upstream, tmp_path):
    loaded, inputs, _ = upstream
    save_policy(tmp_path / "ours", loaded.policy, loaded.preprocessor, loaded.postprocessor)
    again = load_policy(tmp_path / "ours", "cpu")
    torch.testing.assert_close(
        again.predict(inputs).actions, loaded.predict(inputs).actions, atol=0, rtol=0
    )
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["reward_head"] == "distributional" and "num_value_bins" in config
    assert "vision_encoder_type" not in config


@needs_upstream
def test_its_action_loss_differs_only_by_the_number_of_action_dimensions(upstream):
    loaded, _, outputs = upstream
    train = {k: torch.from_numpy(v) for k, v in np.load(UPSTREAM / "train_inputs.npz").items()}
    images = {k: torch.from_numpy(v) for k, v in np.load(UPSTREAM / "inputs.npz").items()}
    _, logs = loaded.policy(
        {**loaded.preprocessor(images), **train, "next.reward": train["reward"]}
    )
    # Theirs divides by the valid steps, not by valid steps times the 7 action dimensions.
    assert logs["l1_loss"] == pytest.approx(float(outputs["train/l1_loss"]) / 7, rel=1e-6)


def older_checkpoint(folder, **config_changes):
    """A folder as the older `rewact` package writes it, and the policy whose weights it holds."""
    policy = make_policy(vision_backbone="resnet18", use_vae=True)
    generator = torch.Generator().manual_seed(3)

    def stats(*shape):
        mean, std = (torch.rand(*shape, generator=generator) for _ in range(2))
        return {"mean": mean, "std": std + 0.5}

    shapes = {STATE: (5,), CAMERA: (3, 1, 1), ACTION: (3,)}
    statistics = {key: stats(*shape) for key, shape in shapes.items()}
    tensors = {}
    for name, tensor in policy.state_dict().items():
        name = name.replace("action_head.action.", "action_head.")
        tensors[name.replace("action_head.reward.", "reward_head.")] = tensor.contiguous()
    for key, owners in (
        (STATE, ["normalize_inputs"]),
        (CAMERA, ["normalize_inputs"]),
        (ACTION, ["normalize_targets", "unnormalize_outputs"]),
    ):
        for owner in owners:
            for stat, value in statistics[key].items():
                tensors[f"{owner}.buffer_{key.replace('.', '_')}.{stat}"] = value.clone()
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    kept = ["n_obs_steps", "chunk_size", "n_action_steps", "vision_backbone", "dim_model"]
    kept += ["n_heads", "use_vae", "dim_feedforward", "n_encoder_layers", "n_decoder_layers"]
    kept += ["n_vae_encoder_layers", "latent_dim", "dropout"]
    config = {
        **{name: getattr(policy.config, name) for name in kept},
        "input_features": {
            STATE: {"type": "STATE", "shape": [5]},
            CAMERA: {"type": "VISUAL", "shape": [3, 32, 32]},
        },
        "output_features": {ACTION: {"type": "ACTION", "shape": [3]}},
        "normalization_mapping": dict.fromkeys(("VISUAL", "STATE", "ACTION"), "MEAN_STD"),
        "device": "cuda",
        "use_reward_head": True,
        "reward_loss_weight": 2.0,
        "pretrained_backbone_weights": "ResNet18_Weights.IMAGENET1K_V1",
        **config_changes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return policy, statistics


def test_the_older_layout_brings_its_normalisation_inside_the_policy(tmp_path):
    policy, statistics = older_checkpoint(tmp_path / "old")
    loaded = load_policy(tmp_path / "old", "cpu")
    assert loaded.config.reward_head == "sigmoid"
    batch = {key: value for key, value in make_batch(3).items() if key in (STATE, CAMERA)}
    policy._images_are_unit = False
    normal = {k: (v - statistics[k]["mean"]) / statistics[k]["std"] for k, v in batch.items()}
    expected = policy.predict(normal)
    got = loaded.predict(batch)
    actions = expected.actions * statistics[ACTION]["std"] + statistics[ACTION]["mean"]
    torch.testing.assert_close(got.actions, actions, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.reward.value, expected.reward.value, atol=1e-5, rtol=0)
    save_policy(tmp_path / "ours", loaded.policy, loaded.preprocessor, loaded.postprocessor)
    again = load_policy(tmp_path / "ours", "cpu").predict(batch)
    torch.testing.assert_close(again.actions, got.actions, atol=0, rtol=0)


def test_what_cannot_be_run_is_refused_by_name(tmp_path):
    older_checkpoint(tmp_path / "dino", vision_encoder_type="dinov3")
    with pytest.raises(CheckpointError, match="vision_encoder_type: expected resnet, got dinov3"):
        load_policy(tmp_path / "dino", "cpu")
    older_checkpoint(tmp_path / "range", normalization_mapping={"STATE": "MIN_MAX"})
    with pytest.raises(CheckpointError, match=r"buffer_observation_state\.min.*MIN_MAX needs"):
        load_policy(tmp_path / "range", "cpu")


@pytest.mark.parametrize("use_vae", [False, True])
def test_lerobot_s_own_act_says_the_same_here_and_predicts_no_reward(tmp_path, use_vae):
    config = ACTConfig(
        device="cpu",
        pretrained_backbone_weights=None,
        use_vae=use_vae,
        chunk_size=4,
        n_action_steps=4,
        dim_model=16,
        n_heads=2,
        dim_feedforward=32,
        latent_dim=4,
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (STATE_DIM,)),
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 48, 64)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))},
    )
    stats = {
        key: {"mean": torch.full(shape, 0.3), "std": torch.full(shape, 0.5)}
        for key, shape in ((STATE, (STATE_DIM,)), (CAMERA, (3, 1, 1)), (ACTION, (ACTION_DIM,)))
    }
    theirs = ACTPolicy(config).eval()
    processors = make_act_pre_post_processors(config, stats)
    for part in (theirs, *processors):
        part.save_pretrained(tmp_path)
    seen = {STATE: torch.rand(2, STATE_DIM), CAMERA: torch.rand(2, 3, 48, 64)}
    expected = processors[1](theirs.predict_action_chunk(processors[0](dict(seen))))
    loaded = load_policy(tmp_path, "cpu")
    found = loaded.predict(dict(seen))
    assert torch.equal(found.actions, expected)
    assert found.reward is None and loaded.config.reward_head == "none"
