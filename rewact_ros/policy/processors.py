"""A checkpoint's processors: checked step by step before LeRobot sees them, then built from memory.

LeRobot's loader imports the class that a step names and asks the Hub for files that are missing.
Here a step is one of a list, its settings are of known kinds, its state is a file of the folder,
and nothing is opened after the check.
"""

import importlib
import re
from collections.abc import Mapping
from typing import Any

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import (
    batch_to_transition,
    policy_action_to_transition,
    transition_to_batch,
    transition_to_policy_action,
)
from torch import Tensor

from .checkpoint_files import CONFIG, CheckpointError, CheckpointFiles
from .policy import PolicyConfig
from .representations import Representation, RepresentationError
from .weights import dtype_name, load_tensors

PREPROCESSOR = "policy_preprocessor.json"
POSTPROCESSOR = "policy_postprocessor.json"
TASK = "task"  # key of the text that says what to do, in LeRobot's batches
TOKENIZER = "tokenizer_processor"
RELATIVE, ABSOLUTE = "relative_actions_processor", "absolute_actions_processor"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"

# Steps that a checkpoint may have, with their settings. Each was read: it computes on tensors and
# opens nothing. The settings are checked by `_check_setting`.
_NORMALIZATION = frozenset({"eps", "features", "norm_map", "normalize_observation_keys"})
STEPS: dict[str, frozenset[str]] = {
    "rename_observations_processor": frozenset({"rename_map"}),
    "to_batch_processor": frozenset(),
    "to_batch_processor_action": frozenset(),
    "to_batch_processor_observation": frozenset(),
    "to_batch_processor_complementary_data": frozenset(),
    "device_processor": frozenset({"device", "float_dtype"}),
    NORMALIZER: _NORMALIZATION,
    UNNORMALIZER: _NORMALIZATION,
    # Read by `relative_actions`, and not run: what they do is the policy's representation.
    RELATIVE: frozenset({"enabled", "exclude_joints", "action_names"}),
    ABSOLUTE: frozenset({"enabled"}),
}
# What a policy is told by text goes through these, of a preprocessor alone; the tokenizer's files
# are looked up here.
_TEXT_STEPS: dict[str, frozenset[str]] = {
    TOKENIZER: frozenset(
        {"tokenizer_name", "max_length", "task_key", "padding_side", "padding", "truncation"}
    ),
    "smolvla_new_line_processor": frozenset(),
    "pi0_new_line_processor": frozenset(),
    "pi05_prepare_state_tokenizer_processor_step": frozenset(),
    "pi0_fast_prepare_state_tokenizer_processor_step": frozenset(),
}
# LeRobot registers these steps when their module is imported.
_MODULES = {
    "pi0_new_line_processor": "lerobot.policies.pi0.processor_pi0",
    "pi05_prepare_state_tokenizer_processor_step": "lerobot.policies.pi05.processor_pi05",
    "pi0_fast_prepare_state_tokenizer_processor_step": (
        "lerobot.policies.pi0_fast.processor_pi0_fast"
    ),
}
# A repository of the Hub: no folder, and no way out of one.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_MOST_TOKENS = 4096
_MAX_STEPS = 32
_MAX_EPS = 1e-3
# Less than this, in the input's own unit, is the rounding of a number that never changed.
_STILL = 1e-6
# What a mode divides by or multiplies with, as (name, name); the first is added or subtracted.
STATISTICS = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


def load_processors(
    files: CheckpointFiles, config: PolicyConfig, device: str
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """Build the preprocessor and the postprocessor of a checkpoint.

    Args:
        files: of the checkpoint.
        config: whose inputs and outputs they normalise.
        device: where the network runs; what the files say does not count.

    Raises:
        CheckpointError: a step, a setting or a file that is not on the list; normalisation that is
            missing or differs from the configuration's; statistics that cannot be used.
    """
    pre, pre_state = _read(files, PREPROCESSOR)
    post, post_state = _read(files, POSTPROCESSOR)
    for raw in (pre, post):
        raw["steps"] = [s for s in raw["steps"] if s["registry_name"] not in (RELATIVE, ABSOLUTE)]
    _check_normalization(files, PREPROCESSOR, NORMALIZER, pre, pre_state, config)
    _check_normalization(files, POSTPROCESSOR, UNNORMALIZER, post, post_state, config)
    moved: dict[str, Any] = {"device_processor": {"device": device}, NORMALIZER: {"device": device}}
    for step in pre["steps"]:
        if step["registry_name"] in _MODULES:
            importlib.import_module(_MODULES[step["registry_name"]])
        if step["registry_name"] == TOKENIZER:
            where = f"{files.path / PREPROCESSOR}: {TOKENIZER}"
            moved[TOKENIZER] = {"tokenizer": _tokenizer(where, step.get("config", {}))}
    back = {"device_processor": {"device": "cpu"}}
    try:
        return (
            PolicyProcessorPipeline.from_config(
                pre,
                state_dict=pre_state,
                overrides=_present(moved, pre),
                to_transition=batch_to_transition,
                to_output=transition_to_batch,
            ),
            PolicyProcessorPipeline.from_config(
                post,
                state_dict=post_state,
                overrides=_present(back, post),
                to_transition=policy_action_to_transition,
                to_output=transition_to_policy_action,
            ),
        )
    except Exception as error:  # LeRobot raises several families here
        raise CheckpointError(
            f"{files.path}: its processors do not load: {' '.join(str(error).split())[:300]}"
        ) from error


def read_statistics(files: CheckpointFiles) -> dict[str, dict[str, Tensor]]:
    """The statistics that a preprocessor's normalising steps were saved with, by feature and name.

    Nothing else of its file is believed: a reward model's steps come from its configuration.

    Raises:
        CheckpointError: more than one preprocessor, or a file that is not what it should be.
    """
    found = [name for name in files.names if name.endswith("preprocessor.json")]
    if len(found) > 1:
        raise CheckpointError(
            f"{files.path}: expected one preprocessor, got {', '.join(found)[:200]}; give the "
            "folder of one checkpoint"
        )
    stats: dict[str, dict[str, Tensor]] = {}
    for name in found:
        steps = files.json(name).get("steps")
        for index, step in enumerate(steps if isinstance(steps, list) else ()):
            if isinstance(step, dict) and step.get("registry_name") == NORMALIZER:
                where, file = f"{files.path / name}: steps[{index}]", step.get("state_file")
                if file is not None:
                    _state_key(where, file, files)
                    stats |= _nested(load_tensors(files, file))
    return stats


def is_told_by_text(files: CheckpointFiles) -> bool:
    """Whether a checkpoint's preprocessor makes tokens of a task's text."""
    steps = _read(files, PREPROCESSOR)[0]["steps"]
    return any(step["registry_name"] == TOKENIZER for step in steps)


def _tokenizer(where: str, settings: Mapping[str, Any]) -> Any:
    """The tokenizer that a step names, from the Hub's files on this machine alone.

    Raises:
        CheckpointError: it is not there, or transformers are not installed.
    """
    name = settings.get("tokenizer_name")
    if not isinstance(name, str):
        raise CheckpointError(
            f"{where}: tokenizer_name: expected the tokenizer's name on the Hub, got none; save "
            "the policy with it"
        )
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise CheckpointError(
            f"{where}: a policy that is told by text needs transformers; pip install "
            "'lerobot[transformers-dep]'"
        ) from None
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # its own families, and those of huggingface_hub and tokenizers
        raise CheckpointError(
            f"{where}: tokenizer {name} is not on this machine, and nothing is downloaded here: "
            f"hf download {name} ({' '.join(str(error).split())[:200]})"
        ) from error


def relative_actions(files: CheckpointFiles, width: int) -> Representation | None:
    """What LeRobot's relative-action steps make of the action; None: nothing.

    Args:
        files: of the checkpoint.
        width: of the action.

    Raises:
        CheckpointError: one step without the other, or names that do not tell which joints.
    """
    found = {}
    for name, step in ((PREPROCESSOR, RELATIVE), (POSTPROCESSOR, ABSOLUTE)):
        raw = _read(files, name)[0] if name in files else {"steps": []}
        configs = [s.get("config", {}) for s in raw["steps"] if s["registry_name"] == step]
        found[step] = next((config for config in configs if config.get("enabled")), None)
    relative, absolute = found[RELATIVE], found[ABSOLUTE]
    if relative is None and absolute is None:
        return None
    where = f"{files.path}: {RELATIVE}, {ABSOLUTE}"
    if relative is None or absolute is None:
        raise CheckpointError(
            f"{where}: expected both enabled or neither, got one; use processors of one run"
        )
    names = relative.get("action_names") or []
    if len(names) != width:
        raise CheckpointError(
            f"{where}: action_names: expected {width} names, got {len(names)}; save the policy "
            "with the names of its data set's action"
        )
    words = [word.lower() for word in relative.get("exclude_joints") or [] if word]
    moved = [name for name in names if not any(word in name.lower() for word in words)]
    try:
        return Representation("joints_relative", tuple(names), tuple(moved), by_index=True)
    except RepresentationError as error:
        raise CheckpointError(f"{where}: {error}") from error


def prepare_statistics(
    what: str,
    features: Mapping[str, PolicyFeature],
    modes: Mapping[str, NormalizationMode],
    stats: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Refuse statistics that no data set has; give an input that never moved a spread of 1.

    Such an input is divided by LeRobot's `eps`, 1e-8: in training it was 0 always, on a robot the
    noise of a sensor becomes thousands. With a spread of 1 it stays next to that 0 (scikit-learn's
    StandardScaler does the same). An action that never moved is its mean, which is right.

    Args:
        what: names the file in errors.
        features: that are normalised, by key.
        modes: ``normalization_mapping`` of the policy.
        stats: statistics by feature and name; of a vector (W,), of an image (3, 1, 1) or (3,).
            Spreads of inputs that never moved are replaced in place.

    Raises:
        CheckpointError: statistics are absent, not finite, or have a spread below zero, of images
            none; names feature, statistic, element and value.
    """
    for key, feature in features.items():
        names = STATISTICS.get(modes.get(feature.type.value, NormalizationMode.IDENTITY))
        if names is None:
            continue
        found = stats.get(key, {})
        missing = [name for name in names if name not in found]
        if missing:
            raise CheckpointError(
                f"{what}: {key}: missing {', '.join(missing)}, without which its numbers would "
                "pass as they are; copy the whole checkpoint from the run that wrote it"
            )
        image = feature.type is FeatureType.VISUAL
        for name in names:
            _check_numbers(f"{what}: {key}.{name}", found[name], feature.shape[0], image)
        low, high = (found[name].detach().cpu().double().flatten() for name in names)
        base, least = (torch.zeros_like(low), "0") if names == ("mean", "std") else (low, names[0])
        wide = high > base if image else high >= base
        expected = f"{'more than' if image else 'at least'} {least}"
        _require(wide, high, f"{what}: {key}.{names[1]}", expected)
        if feature.type is not FeatureType.ACTION:
            still = (high - base < _STILL).reshape(found[names[1]].shape)
            found[names[1]][still] = (base.reshape(still.shape)[still] + 1).to(found[names[1]])


def _check_numbers(what: str, value: Tensor, size: int, image: bool) -> None:
    """Refuse statistics that a batch would be spread over otherwise than one by one."""
    shapes = ((size,), (size, 1, 1), (1, size, 1, 1)) if image else ((size,), (1, size))
    if tuple(value.shape) not in shapes or value.is_complex() or value.dtype is torch.bool:
        raise CheckpointError(
            f"{what}: expected {size} numbers, got {value.numel()} as {dtype_name(value.dtype)} "
            f"{tuple(value.shape)}; use processors and configuration of one run"
        )
    flat = value.detach().cpu().double().flatten()
    _require(flat.float().isfinite(), flat, what, "a finite number of float32")


def _require(right: Tensor, value: Tensor, what: str, expected: str) -> None:
    if not bool(right.all()):
        index = int((~right).nonzero()[0])
        raise CheckpointError(
            f"{what}[{index}]: expected {expected}, got {float(value[index]):g}; the data set's "
            "statistics are at fault: compute them again and train again"
        )


def _read(files: CheckpointFiles, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pipeline's checked description, and the tensors of its steps by LeRobot's keys."""
    where, raw = str(files.path / name), files.json(name)
    strange = sorted(raw.keys() - {"name", "steps"})
    steps = raw.get("steps")
    if strange or not isinstance(steps, list) or not 1 <= len(steps) <= _MAX_STEPS:
        raise CheckpointError(
            f"{where}: expected name and 1 to {_MAX_STEPS} steps"
            + (f", got {strange[0][:80]}" if strange else "")
            + "; take the file that LeRobot's save_pretrained wrote"
        )
    if not isinstance(raw.get("name", ""), str):
        raise CheckpointError(f"{where}: name: expected a text")
    state, known = {}, STEPS | (_TEXT_STEPS if name == PREPROCESSOR else {})
    for index, step in enumerate(steps):
        _check_step(f"{where}: steps[{index}]", step, known)
        if "state_file" in step:
            file = step["state_file"]
            key = _state_key(f"{where}: steps[{index}]", file, files)
            state[key] = load_tensors(files, file)
    return raw, state


def _check_step(where: str, step: Any, known: Mapping[str, frozenset[str]]) -> None:
    if not isinstance(step, dict):
        raise CheckpointError(f"{where}: expected a step with registry_name, got {str(step)[:80]}")
    if "class" in step:
        raise CheckpointError(
            f"{where}: class: {str(step['class'])[:80]!r} would be imported, and nothing is "
            "because a file names it; take a checkpoint whose steps have a registry_name alone"
        )
    strange = sorted(step.keys() - {"registry_name", "config", "state_file"})
    if strange:
        raise CheckpointError(
            f"{where}: {strange[0][:80]}: expected registry_name, config and state_file alone"
        )
    name, config = step.get("registry_name"), step.get("config", {})
    if not isinstance(name, str) or name not in known:
        raise CheckpointError(
            f"{where}: registry_name: expected one of {', '.join(known)}, got {str(name)[:80]!r}; "
            "other steps are not run here: train with `rewact train`, or save the policy without it"
        )
    if not isinstance(config, dict):
        raise CheckpointError(f"{where} ({name}): config: expected an object")
    for key, value in config.items():
        if key not in known[name] or not _is_sane(key, value):
            names = ", ".join(sorted(known[name])) or "none"
            raise CheckpointError(
                f"{where} ({name}): config: {key[:80]} = {str(value)[:80]}: expected settings as "
                f"LeRobot writes them ({names}); take the file that save_pretrained wrote"
            )
    if "state_file" in step and name not in (NORMALIZER, UNNORMALIZER):
        raise CheckpointError(f"{where} ({name}): state_file: this step has no state")


def _is_sane(key: str, value: Any) -> bool:
    """Whether a setting is of the kind that LeRobot writes."""
    if key == "rename_map":
        return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if key == "device":
        return value is None or isinstance(value, str)
    if key in ("enabled", "truncation"):
        return isinstance(value, bool)
    if key == "tokenizer_name":
        return isinstance(value, str) and HUB_NAME.fullmatch(value) is not None
    if key == "max_length":
        return type(value) is int and 1 <= value <= _MOST_TOKENS
    if key == "task_key":
        return value == TASK
    if key == "padding_side":
        return value in ("left", "right")
    if key == "padding":
        return value in ("max_length", "longest", "do_not_pad", True, False)
    if key in ("exclude_joints", "action_names"):
        return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    if key == "float_dtype":
        return value in (None, "float32", "float")
    if key == "eps":
        return type(value) in (int, float) and 0 <= value <= _MAX_EPS
    if key == "normalize_observation_keys":
        return value is None or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    if key == "norm_map":
        kinds, modes = {k.value for k in FeatureType}, {m.value for m in NormalizationMode}
        return isinstance(value, dict) and all(
            k in kinds and isinstance(v, str) and v in modes for k, v in value.items()
        )
    return isinstance(value, dict) and all(map(_is_feature, value.values()))  # features


def _is_feature(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"type", "shape"}
        and value["type"] in [kind.value for kind in FeatureType]
        and isinstance(value["shape"], list)
        and all(type(size) is int for size in value["shape"])
    )


def _state_key(where: str, file: Any, files: CheckpointFiles) -> str:
    """LeRobot's key of a state file, which must lie in the folder itself."""
    plain = isinstance(file, str) and "/" not in file and file.endswith(".safetensors")
    if not plain or file not in files:
        raise CheckpointError(
            f"{where}: state_file: expected the name of a .safetensors file in {files.path}, got "
            f"{str(file)[:120]!r}; copy the whole checkpoint again"
        )
    return file.removesuffix(".safetensors")


def _check_normalization(
    files: CheckpointFiles,
    file: str,
    name: str,
    raw: dict[str, Any],
    state: dict[str, dict[str, Tensor]],
    config: PolicyConfig,
) -> None:
    """Refuse a pipeline that scales otherwise than the configuration says the policy was trained.

    LeRobot passes on, unscaled, what has no statistics or is not among a step's features.
    """
    where = f"{files.path / file}"
    features = config.input_features if name == NORMALIZER else config.output_features
    modes = config.normalization_mapping
    if not any(modes.get(f.type.value) in STATISTICS for f in features.values()):
        return
    steps = [step for step in raw["steps"] if step["registry_name"] == name]
    if len(steps) != 1:
        raise CheckpointError(
            f"{where}: expected one {name}, got {len(steps)}; use processors and configuration of "
            "one run"
        )
    settings = steps[0].get("config", {})
    for key, feature in features.items():
        kind, mode = feature.type.value, modes.get(feature.type.value)
        if mode is None:
            raise CheckpointError(
                f"{files.path / CONFIG}: normalization_mapping: missing {kind}, the type of {key}; "
                "copy the whole file from the run that wrote it"
            )
        if settings.get("norm_map", {}).get(kind) != mode.value:
            raise CheckpointError(
                f"{where}: norm_map: {kind}: expected {mode.value} as in config.json, got "
                f"{settings.get('norm_map', {}).get(kind)}; use files of one run"
            )
        held = settings.get("features", {}).get(key)
        if held != {"type": kind, "shape": list(feature.shape)}:
            raise CheckpointError(
                f"{where}: features: {key}: expected {kind} of {list(feature.shape)} as in "
                f"config.json, got {str(held)[:80]}; use files of one run"
            )
    only = settings.get("normalize_observation_keys")
    if name == NORMALIZER and only is not None and set(only) < set(features):
        raise CheckpointError(
            f"{where}: normalize_observation_keys: expected all inputs or none, got {only}"
        )
    state_file = steps[0].get("state_file", "")
    tensors = state.get(state_file.removesuffix(".safetensors"), {})
    prepare_statistics(str(files.path / (state_file or file)), features, modes, _nested(tensors))


def _nested(flat: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    stats: dict[str, dict[str, Tensor]] = {}
    for name, value in flat.items():
        key, _, statistic = name.rpartition(".")
        stats.setdefault(key, {})[statistic] = value
    return stats


def _present(overrides: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Overrides of steps that there are; LeRobot refuses others."""
    names = {step["registry_name"] for step in raw["steps"]}
    return {name: values for name, values in overrides.items() if name in names}
