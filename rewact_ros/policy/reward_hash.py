"""What a calibration of the predicted reward is keyed to."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from torch import Tensor

from .policy import PolicyConfig

_ACTION_ONLY = ("model.action_head.action.", "model.state_skip.", "model.vae_encoder")
_SETTINGS = (  # of the forward pass, beside what the shapes of the weights tell
    "n_obs_steps",
    "chunk_size",
    "vision_backbone",
    "replace_final_stride_with_dilation",
    "pre_norm",
    "n_heads",
    "feedforward_activation",
    "image_size",
    "reward_head",
    "num_value_bins",
    "value_min",
    "value_max",
    "normalization_mapping",
)


def reward_hash(
    config: PolicyConfig, weights: Mapping[str, Tensor], inputs: Iterable[Mapping[str, Tensor]]
) -> str:
    """First 12 hexadecimal digits of a SHA-256 of all that the predicted reward depends on.

    That is the weights but those that only actions pass through (their head, ``state_skip``) and
    the VAE encoder, which only trains; the settings of the forward pass; and how the inputs are
    normalised. The pooled features depend on no more than this.

    Args:
        config: of the policy; its type may lack some of the settings.
        weights: its state dictionary.
        inputs: state dictionaries of the preprocessor's steps.
    """
    settings = {key: getattr(config, key, None) for key in _SETTINGS}
    shapes = {key: feature.shape for key, feature in config.input_features.items()}
    digest = hashlib.sha256(json.dumps([settings, shapes], default=str).encode())
    tensors = {k: t for k, t in weights.items() if not k.startswith(_ACTION_ONLY)}
    for step in inputs:
        tensors |= {f"input {k}": t for k, t in step.items() if not k.startswith("action")}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().float().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:12]
