"""Checkpoints: LeRobot's folder layout plus ``contract.json``; verified on load, atomic on save.

``load_policy`` also opens the layouts of the public RewACT packages (see ``upstream``).
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import draccus
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file

from .configuration_rewact import RewACTConfig
from .modeling_rewact import Estimate, RewACTPolicy
from .processor_rewact import make_rewact_pre_post_processors
from .reward_hash import reward_hash
from .upstream import Layout, convert, layout_of

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PREPROCESSOR = "policy_preprocessor.json"
POSTPROCESSOR = "policy_postprocessor.json"
CONTRACT = "contract.json"
CALIBRATION = "calibration.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what, where, expected, got, mend."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready to run.

    Attributes:
        policy: in eval mode on its device.
        preprocessor: raw batch -> normalised batch on the device.
        postprocessor: normalised actions (B, A) or (B, chunk, A) -> contract units on the CPU.
        config: the policy's configuration.
        contract: ``{"hash", "signature"}`` it was trained under, None where it is not known.
        version: first 12 hexadecimal digits of the SHA-256 of the weights file.
        path: the checkpoint's folder.
    """

    policy: RewACTPolicy
    preprocessor: PolicyProcessorPipeline
    postprocessor: PolicyProcessorPipeline
    config: RewACTConfig
    contract: dict[str, Any] | None
    version: str
    path: Path

    def predict(self, batch: dict[str, Any], normalised: bool = False) -> Estimate:
        """Predict from a batch of observations.

        Args:
            batch: ``observation.state`` (B, S) and cameras (B, 3, H, W) float in [0, 1], as
                LeRobot's datasets and environments give them; with a history see
                ``RewACTPolicy.predict``.
            normalised: the batch has been through the preprocessor already.

        Returns:
            actions (B, chunk, A), in contract units on the CPU for a raw batch, else normalised.
        """
        estimate = self.policy.predict(batch if normalised else self.preprocessor(batch))
        if normalised:
            return estimate
        return replace(estimate, actions=self.postprocessor(estimate.actions))

    @cached_property
    def reward_hash(self) -> str:
        """Identifies all that the predicted reward depends on (see ``reward_hash``)."""
        inputs = [step.state_dict() for step in self.preprocessor.steps]
        return reward_hash(self.config, self.policy.state_dict(), inputs)

    @property
    def calibration(self) -> Path | None:
        """The monitor's thresholds beside the checkpoint (see `rewact calibrate`), if any."""
        file = self.path / CALIBRATION
        return file if file.is_file() else None


def load_policy(path: str | Path, device: str = "auto") -> LoadedPolicy:
    """Open a checkpoint folder, checking files, shapes and values before anything runs on it.

    Args:
        path: folder written by ``save_policy``, by LeRobot's ``save_pretrained``, or by the public
            packages ``lerobot_policy_rewact`` or ``rewact`` 0.1.
        device: ``auto`` (a GPU if there is one), or a torch device; the one saved in the
            checkpoint is ignored.

    Raises:
        CheckpointError: files missing, truncated or of another policy type; tensors missing,
            unexpected, of other dimensions or not finite.
    """
    path = Path(path)
    weights = _load_weights(path)
    layout = layout_of(weights)
    _require_files(path, layout)
    device = _resolve_device(device)
    raw = _load_json(path / CONFIG)
    if layout is not Layout.OURS:
        try:
            raw, weights, stats = convert(layout, raw, weights)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from error
    config = _load_config(path / CONFIG, raw, device)
    try:
        policy = RewACTPolicy(config)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path / CONFIG}: no policy can be built from it: {error}"
        ) from error
    _check_weights(path / WEIGHTS, policy.state_dict(), weights)
    policy.load_state_dict(weights)
    policy.to(device).eval()
    if layout is Layout.BUFFERS:
        preprocessor, postprocessor = make_rewact_pre_post_processors(config, stats)
    else:
        preprocessor, postprocessor = _load_processors(path, config, device)
    return LoadedPolicy(
        policy=policy,
        preprocessor=preprocessor,
        postprocessor=postprocessor,
        config=config,
        contract=_load_json(path / CONTRACT) if (path / CONTRACT).exists() else None,
        version=weights_version(path / WEIGHTS),
        path=path,
    )


def save_policy(
    path: str | Path,
    policy: RewACTPolicy,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
    contract: dict[str, Any] | None = None,
    extra_files: dict[str, str] | None = None,
) -> str:
    """Write a checkpoint folder whole or not at all (temporary folder, fsync, rename).

    Args:
        path: destination; an older checkpoint there is replaced.
        policy: weights and configuration to write.
        preprocessor: written beside it.
        postprocessor: written beside it.
        contract: ``{"hash", "signature"}`` of the robot contract, None where it is not known.
        extra_files: further text files, name -> content.

    Returns:
        the version, as in ``LoadedPolicy``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        policy.save_pretrained(partial)
        preprocessor.save_pretrained(partial)
        postprocessor.save_pretrained(partial)
        if contract is not None:
            (partial / CONTRACT).write_text(json.dumps(contract, indent=2) + "\n")
        for name, text in (extra_files or {}).items():
            (partial / name).write_text(text)
        partial.chmod(0o755)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
        replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return weights_version(path / WEIGHTS)


def replace_folder(partial: Path, path: Path) -> None:
    """Flush ``partial`` to disk and rename it to ``path``, setting an older folder aside first."""
    for file in partial.rglob("*"):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    aside = path.with_name(f".{path.name}.old-{os.getpid()}")
    if path.exists():
        os.replace(path, aside)
    os.replace(partial, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    shutil.rmtree(aside, ignore_errors=True)


def weights_version(file: Path) -> str:
    """First 12 hexadecimal digits of the SHA-256 of ``file``."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:12]


def _require_files(path: Path, layout: Layout) -> None:
    names = [CONFIG] if layout is Layout.BUFFERS else [CONFIG, PREPROCESSOR, POSTPROCESSOR]
    missing = [name for name in names if not (path / name).exists()]
    if missing:
        raise CheckpointError(
            f"{path}: missing {', '.join(missing)}; expected a folder written by `rewact train` or "
            "LeRobot's save_pretrained (with both processors)"
        )


def _resolve_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device {device}: no CUDA device is available here; use auto or cpu")
    return device


def _load_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{file}: not valid JSON ({error}); copy the checkpoint again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(content).__name__}")
    return content


def _load_config(file: Path, raw: dict[str, Any], device: str) -> RewACTConfig:
    kind = raw.get("type")
    if kind != RewACTConfig.get_choice_name(RewACTConfig):
        raise CheckpointError(
            f"{file}: type: expected rewact, got {kind}; give a RewACT checkpoint"
        )
    try:
        # Not PreTrainedConfig.from_pretrained: it leaves a temporary file behind at every load.
        config = draccus.decode(PreTrainedConfig, {**raw, "device": device})
    except Exception as error:  # draccus raises its own families of errors
        raise CheckpointError(f"{file}: {' '.join(str(error).split())}") from error
    config.pretrained_backbone_weights = None
    return config


def _load_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_dir():
        raise CheckpointError(
            f"{path}: no such checkpoint folder; give the folder that holds {WEIGHTS}"
        )
    file = path / WEIGHTS
    if not file.exists():
        raise CheckpointError(
            f"{path}: missing {WEIGHTS}; expected a folder written by `rewact train` or LeRobot's "
            "save_pretrained (with both processors)"
        )
    try:
        return load_file(file)
    except SafetensorError as error:
        size = file.stat().st_size
        raise CheckpointError(
            f"{file}: not a whole safetensors file ({error}; {size} bytes); "
            "copy the checkpoint again"
        ) from error


def _check_weights(
    file: Path, expected: dict[str, torch.Tensor], got: dict[str, torch.Tensor]
) -> None:
    """Raise on the first difference in names or shapes, or on a value that is not finite."""
    missing, unexpected = sorted(expected.keys() - got.keys()), sorted(got.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{file}: tensors do not fit {CONFIG}: {len(missing)} missing {missing[:2]}, "
            f"{len(unexpected)} unexpected {unexpected[:2]}; "
            "use weights and configuration of one run"
        )
    for name, tensor in got.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{file}: {name}: expected shape {tuple(expected[name].shape)} as in {CONFIG}, "
                f"got {tuple(tensor.shape)}; use weights and configuration of one run"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{file}: {name}: NaN or infinite weights; take an earlier checkpoint"
            )


def _load_processors(path: Path, config: RewACTConfig, device: str):
    moved = {"device_processor": {"device": device}, "normalizer_processor": {"device": device}}
    try:
        return make_pre_post_processors(
            config, pretrained_path=str(path), preprocessor_overrides=moved
        )
    except Exception as error:  # LeRobot raises several families here
        raise CheckpointError(
            f"{path}: its processors do not load: {' '.join(str(error).split())[:300]}"
        ) from error


def export_policy(source: Path, destination: Path) -> None:
    """Copy a finished checkpoint folder to ``destination``, whole or not at all.

    Files at the destination that are no part of a checkpoint (a README, say) stay.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        if destination.is_dir():
            shutil.copytree(destination, partial, dirs_exist_ok=True)
        shutil.copytree(source, partial, dirs_exist_ok=True)
        partial.chmod(0o755)
        replace_folder(partial, destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
