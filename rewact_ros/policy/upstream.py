"""Checkpoints of the public RewACT packages and of LeRobot's ACT, renamed to our layout.

Their numbers stay.
"""

import dataclasses
import enum
import re
from typing import Any

from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from .configuration_rewact import RewACTConfig

Stats = dict[str, dict[str, Tensor]]

# Settings of the public packages that decide nothing once a policy is loaded.
_DROPPED = {
    "use_reward_head",
    "proprio_dropout",
    "vision_encoder_type",
    "freeze_vision_encoder",
    "dinov3",
    "vjepa2",
    "sam3",
}
_RENAMED = (
    (r"^model\.vision_encoder\.resnet_feature_extractor\.", "model.backbone."),
    (r"^model\.vision_encoder\.feat_proj\.", "model.encoder_img_feat_input_proj."),
    (r"^model\.action_head\.(weight|bias)$", r"model.action_head.action.\1"),
    (r"^model\.reward_head\.", "model.action_head.reward."),
)
_BUFFER = re.compile(r"^(normalize_inputs|normalize_targets|unnormalize_outputs)\.buffer_")
_DERIVED = ("bin_edges", "model.bin_values")  # we compute bins from the value range


class Layout(enum.Enum):
    """Whose names a checkpoint's tensors have."""

    OURS = "rewact_ros"
    DISTRIBUTIONAL = "lerobot_policy_rewact 0.1"
    BUFFERS = "rewact 0.1, with the normalisation inside the policy"
    ACT = "LeRobot's own ACT, which has no reward head"


def layout_of(weights: dict[str, Tensor], kind: object = None) -> Layout:
    """Tell the layout from the names of the tensors, and ACT's from the configuration's type."""
    if kind == ACTPolicy.name:
        return Layout.ACT
    if any(_BUFFER.match(name) for name in weights):
        return Layout.BUFFERS
    if any(name.startswith(("model.reward_head.", "model.vision_encoder.")) for name in weights):
        return Layout.DISTRIBUTIONAL
    return Layout.OURS


def convert(
    layout: Layout, config: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor], Stats]:
    """Rename another package's configuration and tensors to ours.

    Args:
        layout: not ``OURS``.
        config: content of its ``config.json``.
        weights: its tensors by name.

    Returns:
        our configuration, our tensors, and the normalisation statistics found among the tensors
        (with ``BUFFERS`` alone; else the processors lie beside the weights).

    Raises:
        ValueError: a vision encoder that is no ResNet, or statistics that are missing.
    """
    encoder = config.get("vision_encoder_type", "resnet")
    if encoder != "resnet":
        raise ValueError(
            f"config.json: vision_encoder_type: expected resnet, got {encoder}; policies on "
            "DINOv3, V-JEPA 2 or SAM 3 cannot be run here, train one on a ResNet"
        )
    known = {field.name for field in dataclasses.fields(RewACTConfig)} | {"type"}
    # The older package writes no type, and not what it left at ACT's defaults.
    usual = {"type": "rewact", "pre_norm": False, "feedforward_activation": "relu"}
    ours = usual | {k: v for k, v in config.items() if k in known or k not in _DROPPED}
    if layout is Layout.ACT:
        ours |= {"type": "rewact", "reward_head": "none"}
    elif layout is Layout.DISTRIBUTIONAL:
        ours["reward_head"] = "distributional"
    else:
        ours["reward_head"] = "sigmoid" if config.get("use_reward_head", True) else "none"
    ours["state_dropout"] = config.get("proprio_dropout", 0.0)
    ours["freeze_backbone"] = config.get("freeze_vision_encoder", False)
    renamed = {}
    for name, tensor in weights.items():
        if name not in _DERIVED and not _BUFFER.match(name):
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            renamed[name] = tensor
    stats = _statistics(config, weights) if layout is Layout.BUFFERS else {}
    return ours, renamed, stats


def _statistics(config: dict[str, Any], weights: dict[str, Tensor]) -> Stats:
    """Statistics per feature from buffers such as ``normalize_inputs.buffer_action.mean``."""
    modes, stats = config["normalization_mapping"], {}
    for owner, group in (
        ("normalize_inputs", "input_features"),
        ("unnormalize_outputs", "output_features"),
    ):
        for key, feature in config[group].items():
            mode = modes.get(feature["type"], "IDENTITY")
            if mode == "IDENTITY":
                continue
            prefix = f"{owner}.buffer_{key.replace('.', '_')}."
            names = ("mean", "std") if mode == "MEAN_STD" else ("min", "max")
            missing = [prefix + name for name in names if prefix + name not in weights]
            if missing:
                raise ValueError(
                    f"model.safetensors: missing {', '.join(missing)}, which {mode} needs; "
                    "copy the checkpoint again"
                )
            stats[key] = {name: weights[prefix + name] for name in names}
            if not all(tensor.isfinite().all() for tensor in stats[key].values()):
                raise ValueError(
                    f"model.safetensors: {prefix}*: statistics that are not finite, so the policy "
                    "was saved without a dataset's; save it again after training"
                )
    return stats
