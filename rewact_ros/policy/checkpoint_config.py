"""The configuration in a checkpoint: known fields of sane sizes, before anything is built from it.

Nothing in it names code or an address that would be followed: the type is a row of the table of
loaders, the backbone one of a list, weights and hub addresses are dropped.
"""

import dataclasses
import difflib
import importlib.metadata
import math
from collections.abc import Mapping
from typing import Any

import draccus
from lerobot.configs import FeatureType, NormalizationMode
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.rewards import RewardModelConfig
from lerobot.policies.act.configuration_act import ACTConfig

from rewact_ros.control.chunks import MOST_STEPS

from .backbone import BACKBONES
from .checkpoint_files import CheckpointError
from .configuration_rewact import SMALL_CNN

# Fields that decide the output but no tensor's shape, or that say what the network is: an absent
# one would be filled with a default that may not be what was trained.
_FEATURES = ("input_features", "output_features", "normalization_mapping")
_NEEDED = (
    *(*_FEATURES, "vision_backbone"),
    *("chunk_size", "n_action_steps", "dim_model", "n_heads", "dim_feedforward"),
    *("feedforward_activation", "pre_norm", "n_encoder_layers", "n_decoder_layers", "use_vae"),
)
_BOUNDS = {
    "n_obs_steps": (1, 16),
    # `hil` takes no longer chunks: reading one must not cost it a command period.
    "chunk_size": (1, MOST_STEPS),
    "n_action_steps": (1, MOST_STEPS),
    "dim_model": (8, 4096),
    "n_heads": (1, 128),
    "dim_feedforward": (1, 32_768),
    "n_encoder_layers": (0, 48),
    "n_decoder_layers": (1, 48),
    "n_vae_encoder_layers": (0, 48),
    "latent_dim": (1, 4096),
    "num_value_bins": (2, 10_000),
}
_CHOICES = {
    "vision_backbone": BACKBONES,
    "feedforward_activation": ("relu", "gelu", "glu"),
    "use_peft": (False,),
}
_MAX_FEATURES, _MAX_WIDTH, _MAX_SIDE_PX = 32, 1024, 4096
MAX_WORKING_BYTES = 8 * 1024**3
# Followed by LeRobot when it trains, uploads or loads by name; nothing of it is followed here.
_DROPPED = {
    "pretrained_backbone_weights": None,
    "pretrained_path": None,
    "pretrained_revision": None,
    "push_to_hub": False,
    "repo_id": None,
}


def read_config[C: ACTConfig](kind: type[C], raw: dict[str, Any], where: str, device: str) -> C:
    """Make the configuration of a network that may be built.

    Args:
        kind: of the configuration: ACT's own, or one that extends it.
        raw: content of ``config.json``, in our layout; its type is known already.
        where: names the file in errors.
        device: on which the policy shall run; the one in the file does not count.

    Raises:
        CheckpointError: fields that are unknown, missing, of the wrong kind or out of
            bounds, or a network that would take too much memory.
    """
    fields = _known(kind, raw, where, _NEEDED)
    for name, (low, high) in _BOUNDS.items():
        if name in fields:
            _require_integer(fields[name], f"{where}: {name}", low, high)
    for name, choices in _CHOICES.items():
        if name in fields and fields[name] not in choices:
            known = ", ".join(str(choice).lower() for choice in choices)
            raise CheckpointError(
                f"{where}: {name}: expected one of {known}, got {str(fields[name])[:80]!r}; "
                "take a checkpoint of this package or of a public RewACT package"
            )
    _check_features(fields, where)
    _check_modes(fields["normalization_mapping"], where)
    config = _decode(kind, {**fields, **_DROPPED, "device": device}, where)
    _check_network(config, where)
    return config


def read_lerobot_config[C: PreTrainedConfig](
    kind: type[C], raw: dict[str, Any], where: str, device: str
) -> C:
    """Make the configuration of any policy of LeRobot's register; arguments as `read_config`.

    Raises:
        CheckpointError: fields that are unknown or of the wrong kind; features, normalisation or a
            history that cannot be.
    """
    fields = _known(kind, raw, where, _FEATURES)
    if "n_obs_steps" in fields:
        _require_integer(fields["n_obs_steps"], f"{where}: n_obs_steps", *_BOUNDS["n_obs_steps"])
    _check_features(fields, where)
    _check_modes(fields["normalization_mapping"], where)
    dropped = {name: value for name, value in _DROPPED.items() if name in _names(kind)}
    return _decode(kind, {**fields, **dropped, "device": device}, where)


def read_reward_config[C: RewardModelConfig](
    kind: type[C], raw: dict[str, Any], where: str, fixed: Mapping[str, Any]
) -> C:
    """Make the configuration of a reward model of LeRobot's register.

    Args:
        kind, raw, where: as `read_config`.
        fixed: fields that count instead of the file's.

    Raises:
        CheckpointError: fields that are unknown or of the wrong kind; features or normalisation
            that cannot be; code that would be loaded because the file names it.
    """
    fields = _known(kind, raw, where, ("input_features",))
    if _names_code(fields):
        raise CheckpointError(
            f"{where}: auto_map: code would be loaded from where it says, and nothing is loaded "
            "because a file names it; take a checkpoint without it"
        )
    _check_group(fields, "input_features", where)
    modes = fields.get("normalization_mapping", {})
    _check_modes(modes, where, tuple(modes) if isinstance(modes, dict) else ())
    dropped = {name: value for name, value in _DROPPED.items() if name in _names(kind)}
    return _decode(kind, {**fields, **dropped, **fixed}, where)


def _names_code(value: Any) -> bool:
    """Whether transformers would take code from somewhere for this description of a network."""
    if isinstance(value, dict):
        return "auto_map" in value or any(map(_names_code, value.values()))
    return isinstance(value, list) and any(map(_names_code, value))


def _decode[C](kind: type[C], fields: dict[str, Any], where: str) -> C:
    try:
        config: C = draccus.decode(kind, fields)
    except Exception as error:  # draccus raises its own families of errors
        # "Couldn't instantiate class …" hides what the configuration itself refused.
        reason: BaseException = error
        while "instantiate class" in str(reason) and reason.__cause__ is not None:
            reason = reason.__cause__
        raise CheckpointError(
            f"{where}: {' '.join(str(reason).split())[:300]}; use weights and configuration of "
            "one run"
        ) from error
    return config


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _known(
    kind: type[PreTrainedConfig | RewardModelConfig],
    raw: dict[str, Any],
    where: str,
    needed: tuple[str, ...],
) -> dict[str, Any]:
    known = _names(kind)
    # A field of a newer version that is switched off decides nothing.
    unknown = sorted(
        name for name, value in raw.items() if name not in known | {"type"} and value not in _OFF
    )
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {near[0]}? Else" if near else "there is no such field here:"
        raise CheckpointError(
            f"{where}: {unknown[0][:80]}: {hint} it was written by another version of LeRobot "
            f"(here {importlib.metadata.version('lerobot')}) or of this package; load it with that "
            "version, or take the field out if the policy was trained without its effect"
        )
    missing = [name for name in needed if name not in raw]
    if missing:
        raise CheckpointError(
            f"{where}: missing {', '.join(missing)}: what the network does depends on it, and a "
            "default would be a guess; copy the whole file from the run that wrote it"
        )
    return {name: value for name, value in raw.items() if name in known}


_OFF: tuple[Any, ...] = (None, False, "", [], {})


def _require_integer(value: Any, what: str, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise CheckpointError(
            f"{what}: expected an integer from {low} to {high}, got {str(value)[:40]}; "
            "use weights and configuration of one run"
        )


def _check_features(fields: dict[str, Any], where: str) -> None:
    for group in ("input_features", "output_features"):
        for what, feature in _check_group(fields, group, where):
            _check_shape(feature, what)
    if fields["output_features"].get("action", {}).get("type") != FeatureType.ACTION.value:
        raise CheckpointError(f"{where}: output_features: expected action of type ACTION")


def _check_group(
    fields: dict[str, Any], group: str, where: str
) -> list[tuple[str, dict[str, Any]]]:
    """Features of a group as a file has them, each with its name for messages."""
    types, features = {kind.value for kind in FeatureType}, fields[group]
    if not isinstance(features, dict) or not 1 <= len(features) <= _MAX_FEATURES:
        raise CheckpointError(f"{where}: {group}: expected 1 to {_MAX_FEATURES} features by name")
    named = [(f"{where}: {group}: {key[:80]}", feature) for key, feature in features.items()]
    for what, feature in named:
        if not isinstance(feature, dict) or feature.keys() != {"type", "shape"}:
            raise CheckpointError(f"{what}: expected type and shape, got {str(feature)[:80]}")
        if not isinstance(feature["type"], str) or feature["type"] not in types:
            raise CheckpointError(
                f"{what}: type: expected one of {', '.join(sorted(types))}, got "
                f"{str(feature['type'])[:40]!r}"
            )
    return named


def _check_shape(feature: dict[str, Any], what: str) -> None:
    shape = feature["shape"]
    is_image = feature["type"] == FeatureType.VISUAL.value
    expected = "[3, height, width]" if is_image else "[width]"
    if not isinstance(shape, list) or len(shape) != (3 if is_image else 1):
        raise CheckpointError(f"{what}: shape: expected {expected}, got {str(shape)[:80]}")
    highest = _MAX_SIDE_PX if is_image else _MAX_WIDTH
    for size in shape:
        _require_integer(size, f"{what}: shape", 1, highest)
    if is_image and shape[0] != 3:
        raise CheckpointError(
            f"{what}: shape: expected {expected}, got {shape}; channels come first"
        )


def _check_modes(
    modes: Any, where: str, needed: tuple[str, ...] = ("VISUAL", "STATE", "ACTION")
) -> None:
    known = {mode.value for mode in NormalizationMode}
    given = [*modes.values(), *map(modes.get, needed)] if isinstance(modes, dict) else [None]
    if not all(isinstance(mode, str) and mode in known for mode in given):
        raise CheckpointError(
            f"{where}: normalization_mapping: expected one of {', '.join(sorted(known))} for each "
            f"of {', '.join(needed)}, got {str(modes)[:120]}; use weights and configuration of one "
            "run"
        )


def _check_network(config: Any, where: str) -> None:
    if config.dim_model % config.n_heads or config.dim_model % 4:
        raise CheckpointError(
            f"{where}: dim_model: expected a multiple of n_heads ({config.n_heads}) and of 4, got "
            f"{config.dim_model}; use weights and configuration of one run"
        )
    if config.image_size is not None and max(config.image_size) > _MAX_SIDE_PX:
        raise CheckpointError(
            f"{where}: image_size: expected at most {_MAX_SIDE_PX} px, got {config.image_size}"
        )
    numbers = [config.value_min, config.value_max, config.dropout, config.kl_weight]
    if not all(math.isfinite(number) for number in numbers) or not 0 <= config.dropout < 1:
        raise CheckpointError(
            f"{where}: value_min, value_max, dropout, kl_weight: expected finite numbers and "
            f"0 <= dropout < 1, got {numbers}"
        )
    needed = working_bytes(config)
    if needed > MAX_WORKING_BYTES:
        raise CheckpointError(
            f"{where}: image_size, input_features, n_heads: an inference would take about "
            f"{needed / 1e9:.0f} GB, expected at most {MAX_WORKING_BYTES / 1e9:.1f} GB; train with "
            "smaller images"
        )


def working_bytes(config: Any) -> int:
    """About what one inference takes beside the weights, from above: pictures and attention."""
    stride = 16 if config.vision_backbone == SMALL_CNN or _dilated(config) else 32
    tokens, pixels = 3, 0
    for feature in config.image_features.values():
        height, width = config.image_size or feature.shape[1:]
        tokens += math.ceil(height / stride) * math.ceil(width / stride)
        pixels += height * width * config.n_obs_steps
    attention = 2 * config.n_heads * tokens * tokens
    layers = tokens * (config.dim_feedforward + 8 * config.dim_model)
    return 4 * (64 * pixels + attention + layers)


def _dilated(config: Any) -> bool:
    return bool(config.replace_final_stride_with_dilation)
