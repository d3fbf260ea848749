"""Checkpoints of the success classifier: verified on load, atomic on save."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rewact_ros.policy.checkpoint import CONFIG, WEIGHTS, replace_folder, weights_version

from .classifier import ClassifierError, LoadedClassifier, ResNetRewardModel, RewardModelConfig

TYPE = "success_classifier"
RECORD = "training.json"


def save_classifier(
    path: str | Path, model: ResNetRewardModel, record: dict[str, Any] | None = None
) -> str:
    """Write a checkpoint folder whole or not at all (temporary folder, fsync, rename).

    Args:
        path: destination; an older checkpoint there is replaced.
        model: weights and configuration.
        record: how it was trained, written as training.json.

    Returns:
        the version, as in `LoadedClassifier`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"type": TYPE, **asdict(model.config)}
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # The copy in the weights file tells when somebody edits the other.
        weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        save_file(weights, partial / WEIGHTS, metadata={"config": json.dumps(config)})
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        if record is not None:
            (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        partial.chmod(0o755)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
        replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return weights_version(path / WEIGHTS)


def load_classifier(
    path: str | Path, device: str = "auto", expected: Mapping[str, Any] | None = None
) -> LoadedClassifier:
    """Open a checkpoint folder, checking everything before anything runs on it.

    Args:
        path: folder written by `save_classifier`.
        device: `auto` (a GPU if there is one), or a torch device.
        expected: settings that the user states, such as `{"hidden_dim": 256}`; a checkpoint of
            another value is refused.

    Raises:
        ClassifierError: files missing, truncated or of another kind; a setting that is not the one
            expected or not the one of the weights; weights missing, of another shape, not finite.
    """
    path = Path(path)
    config = _read_config(path)
    for name, value in (expected or {}).items():
        if getattr(config, name) != value:
            raise ClassifierError(
                f"{path / CONFIG}: {name}: expected {value}, got {getattr(config, name)}; give the "
                f"checkpoint's own {name}, or train one with {name} {value}"
            )
    weights = _read_weights(path / WEIGHTS, config)
    model = ResNetRewardModel(config)
    _check_weights(path / WEIGHTS, model.state_dict(), weights)
    model.load_state_dict(weights)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ClassifierError(f"device {device}: no CUDA device is available here; use auto or cpu")
    return LoadedClassifier(model.to(device).eval(), weights_version(path / WEIGHTS), path)


def _read_config(path: Path) -> RewardModelConfig:
    file = path / CONFIG
    missing = [name for name in (CONFIG, WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise ClassifierError(
            f"{path}: missing {', '.join(missing)}; give a folder written by "
            "`rewact train-classifier`"
        )
    try:
        raw = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ClassifierError(f"{file}: not valid JSON ({error}); copy it again") from error
    kind = raw.pop("type", None) if isinstance(raw, dict) else None
    if kind != TYPE:
        raise ClassifierError(
            f"{file}: type: expected {TYPE}, got {kind}; give a folder written by "
            "`rewact train-classifier`"
        )
    try:
        return RewardModelConfig(**raw)
    except (TypeError, ClassifierError) as error:
        raise ClassifierError(f"{file}: {error}") from error


def _read_weights(file: Path, config: RewardModelConfig) -> dict[str, Tensor]:
    try:
        with safe_open(file, "pt") as handle:
            metadata = handle.metadata() or {}
        written = json.loads(metadata.get("config", "{}"))
        weights = load_file(file)
    except (SafetensorError, ValueError) as error:
        raise ClassifierError(
            f"{file}: not a whole safetensors file ({error}); copy the checkpoint again"
        ) from error
    for name, value in json.loads(json.dumps(asdict(config))).items():
        if name in written and written[name] != value:
            raise ClassifierError(
                f"{file.parent / CONFIG}: {name}: expected {written[name]}, which {WEIGHTS} was "
                f"trained with, got {value}; use weights and configuration of one run"
            )
    return weights


def _check_weights(file: Path, expected: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    differing = sorted(expected.keys() ^ got.keys())
    if differing:
        raise ClassifierError(
            f"{file}: {differing[0]} is missing or unexpected for {CONFIG}; use weights and "
            "configuration of one run"
        )
    for name, tensor in got.items():
        if tensor.shape != expected[name].shape:
            raise ClassifierError(
                f"{file}: {name}: expected shape {tuple(expected[name].shape)} as in {CONFIG}, got "
                f"{tuple(tensor.shape)}; use weights and configuration of one run"
            )
        if not torch.isfinite(tensor).all():
            raise ClassifierError(f"{file}: {name}: NaN or infinite; take another checkpoint")
