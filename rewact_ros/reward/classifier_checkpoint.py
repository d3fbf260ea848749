"""Checkpoints of the success classifier: verified on load, atomic on save."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rewact_ros.files import replacing_folder
from rewact_ros.policy.checkpoint_files import (
    CONFIG,
    MAX_JSON_BYTES,
    WEIGHTS,
    CheckpointError,
    CheckpointFiles,
    json_object,
    weights_version,
)
from rewact_ros.policy.weights import check_weights, load_tensors, resolve_device

from .classifier import ClassifierError, LoadedClassifier, ResNetRewardModel, RewardModelConfig

TYPE = "success_classifier"
RECORD = "training.json"


def save_classifier(
    path: str | Path,
    model: ResNetRewardModel,
    record: dict[str, Any] | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """Write a checkpoint folder whole or not at all.

    Args:
        path: destination; an older checkpoint there is replaced.
        model: weights and configuration.
        record: how it was trained, written as training.json.
        more: further files, name → text.

    Returns:
        the version, as in `LoadedClassifier`.
    """
    path = Path(path)
    config = {"type": TYPE, **asdict(model.config)}
    with replacing_folder(path) as partial:
        # The copy in the weights file tells when somebody edits the other.
        weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        save_file(weights, partial / WEIGHTS, metadata={"config": json.dumps(config)})
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if record is not None:
            (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        for name, text in (more or {}).items():
            (partial / name).write_text(text)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
    return weights_version(path)


def load_classifier(
    path: str | Path | CheckpointFiles,
    device: str = "auto",
    expected: Mapping[str, Any] | None = None,
) -> LoadedClassifier:
    """Open a checkpoint folder, checking everything before anything runs on it.

    Args:
        path: folder written by `save_classifier`, or its files, already read.
        device: `auto` (a GPU if there is one), or a torch device.
        expected: settings that the user states, such as `{"hidden_dim": 256}`; a checkpoint of
            another value is refused.

    Raises:
        ClassifierError: files missing, truncated or of another kind; a setting that is not the one
            expected or not the one of the weights; weights missing, of another shape, not finite.
    """
    try:
        files = CheckpointFiles.of(path)
        config = _read_config(files)
        for name, value in (expected or {}).items():
            if getattr(config, name) != value:
                raise ClassifierError(
                    f"{files.path / CONFIG}: {name}: expected {value}, got {getattr(config, name)};"
                    f" give the checkpoint's own {name}, or train one with {name} {value}"
                )
        _check_copy(files, config)
        weights = load_tensors(files, WEIGHTS)
        with torch.device("meta"):  # without memory, to see that the weights fit
            shapes = ResNetRewardModel(config).state_dict()
        check_weights(str(files.path / WEIGHTS), shapes, weights)
        device = resolve_device(device)
    except CheckpointError as error:
        raise ClassifierError(str(error)) from error
    model = ResNetRewardModel(config)
    model.load_state_dict(weights)
    return LoadedClassifier(model.to(device).eval(), files.version, files.path)


def _read_config(files: CheckpointFiles) -> RewardModelConfig:
    where = files.path / CONFIG
    if CONFIG not in files:
        raise ClassifierError(
            f"{files.path}: missing {CONFIG}; give a folder written by `rewact train-classifier`"
        )
    raw = files.json(CONFIG)
    kind = raw.pop("type", None)
    if kind != TYPE:
        raise ClassifierError(
            f"{where}: type: expected {TYPE}, got {str(kind)[:80]}; give a folder written by "
            "`rewact train-classifier`"
        )
    try:
        return RewardModelConfig(**raw)
    except (TypeError, ClassifierError) as error:
        raise ClassifierError(
            f"{where}: {error}; take the file of the run that trained it"
        ) from error


def _check_copy(files: CheckpointFiles, config: RewardModelConfig) -> None:
    """Compare with the configuration that the weights file itself carries."""
    text = files.metadata(WEIGHTS).get("config", "{}")
    what = f"{files.path / WEIGHTS}: config"
    written = json_object(str(text).encode(errors="replace"), what, MAX_JSON_BYTES)
    for name, value in json.loads(json.dumps(asdict(config))).items():
        if name in written and written[name] != value:
            raise ClassifierError(
                f"{files.path / CONFIG}: {name}: expected {str(written[name])[:80]}, which "
                f"{WEIGHTS} was trained with, got {value}; use weights and configuration of one run"
            )
