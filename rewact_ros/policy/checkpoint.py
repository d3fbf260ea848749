"""Checkpoints: LeRobot's folder layout plus ``contract.json``; verified on load, atomic on save.

``LOADERS`` is the table of the types of policy that ``load_policy`` opens in their own way; all
others of LeRobot and its plug-ins go by ``open_lerobot``.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.processor import PolicyProcessorPipeline

from rewact_ros.contract.signature import require_record_format
from rewact_ros.files import replacing_folder
from rewact_ros.formats import FormatError

from .checkpoint_files import (
    CALIBRATION,
    CONFIG,
    CONTRACT,
    CheckpointError,
    CheckpointFiles,
    weights_version,
)
from .modeling_rewact import RewACTPolicy
from .open_lerobot import known_types, open_lerobot
from .open_rewact import open_rewact
from .policy import Estimate, Policy, PolicyConfig
from .real_time import RealTimeChunks
from .representations import Representation
from .resolved import Resolver
from .reward_hash import reward_hash

Loader = Callable[
    [CheckpointFiles, str], tuple[Policy, PolicyProcessorPipeline, PolicyProcessorPipeline]
]
# By the `type` in config.json: what opens such a checkpoint on a device, checking all of it.
LOADERS: dict[str, Loader] = {
    RewACTPolicy.name: open_rewact,
    ACTPolicy.name: open_rewact,  # LeRobot's own: the same network without a reward head
}


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
        sha256: of that whole folder, as in ``CheckpointFiles``; empty for a policy in memory.
        resolver: turns its chunks into the robot's joints (see ``compatibility.fitted``); None:
            they are that, or nothing may move by them.
    """

    policy: Policy
    preprocessor: PolicyProcessorPipeline
    postprocessor: PolicyProcessorPipeline
    config: PolicyConfig
    contract: dict[str, Any] | None
    version: str
    path: Path
    sha256: str = ""
    resolver: Resolver | None = None

    def predict(self, batch: dict[str, Any], normalised: bool = False) -> Estimate:
        """Predict from a batch of observations.

        Args:
            batch: ``observation.state`` (B, S) and cameras (B, 3, H, W) float in [0, 1], as
                LeRobot's datasets and environments give them; with a history see
                ``RewACTPolicy.predict``. ``task``: B texts, for a policy that needs them.
            normalised: the batch has been through the preprocessor already.

        Returns:
            actions (B, chunk, A), or (B, chunk, C) of a representation, in contract units on the
            CPU for a raw batch, else normalised.
        """
        estimate = self.policy.predict(batch if normalised else self.preprocessor(batch))
        if normalised:
            return estimate
        return replace(estimate, actions=self.postprocessor(estimate.actions))

    @property
    def representation(self) -> Representation | None:
        """What its action's numbers are; None: the robot's own action, as of types that lack it."""
        return getattr(self.config, "action_representation", None)

    @property
    def needs_text(self) -> bool:
        """Whether it is told by a text what to do."""
        return getattr(self.config, "needs_text", False)

    @property
    def real_time(self) -> RealTimeChunks | None:
        """What lets its next chunk go on from the last one; None: it cannot.

        Not of relative actions: what is left of a chunk would have to be told from another pose.
        """
        return None if self.representation else getattr(self.policy, "real_time", None)

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


def load_policy(source: str | Path | CheckpointFiles, device: str = "auto") -> LoadedPolicy:
    """Open a checkpoint folder, checking files, shapes and values before anything runs on it.

    Args:
        source: folder written by ``save_policy``, by LeRobot's ``save_pretrained`` (its own ACT
            too), or by the public packages ``lerobot_policy_rewact`` or ``rewact`` 0.1; or its
            files, already read.
        device: ``auto`` (a GPU if there is one), or a torch device; the one saved in the
            checkpoint is ignored.

    Raises:
        CheckpointError: files missing, truncated or of another policy type; settings out of
            bounds; processors that are not LeRobot's own; tensors or statistics missing,
            unexpected, of other dimensions or not finite.
    """
    files = CheckpointFiles.of(source)
    policy, preprocessor, postprocessor = _loader(files)(files, device)
    return LoadedPolicy(
        policy,
        preprocessor,
        postprocessor,
        config=policy.config,
        contract=_contract(files),
        version=files.version,
        sha256=files.sha256,
        path=files.path,
    )


def _loader(files: CheckpointFiles) -> Loader:
    """The row of the table for a checkpoint, which checks everything else about it."""
    raw = files.json(CONFIG) if CONFIG in files else {}
    # The oldest RewACT package wrote no type.
    kind = raw.get("type", RewACTPolicy.name)
    if isinstance(kind, str) and kind in LOADERS:
        return LOADERS[kind]
    others = known_types()
    if kind not in others:
        names = ", ".join(dict.fromkeys([*LOADERS, *others]))
        raise CheckpointError(
            f"{files.path / CONFIG}: type: expected one of {names}, got {str(kind)[:80]}; give a "
            "checkpoint of such a policy, or install the plug-in that has it (lerobot_policy_…)"
        )
    return open_lerobot


def save_policy(
    path: str | Path,
    policy: Policy,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
    contract: dict[str, Any] | None = None,
    extra_files: dict[str, str] | None = None,
) -> str:
    """Write a checkpoint folder whole or not at all.

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
    with replacing_folder(path) as partial:
        policy.save_pretrained(partial)
        preprocessor.save_pretrained(partial)
        postprocessor.save_pretrained(partial)
        if contract is not None:
            (partial / CONTRACT).write_text(json.dumps(contract, indent=2) + "\n")
        for name, text in (extra_files or {}).items():
            (partial / name).write_text(text)
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
    return weights_version(path)


def _contract(files: CheckpointFiles) -> dict[str, Any] | None:
    """The contract that the policy was trained under; None where the folder does not say."""
    if CONTRACT not in files:
        return None
    contract = files.json(CONTRACT)
    try:
        require_record_format(contract)
    except FormatError as error:
        raise CheckpointError(f"{files.path / CONTRACT}: {error}") from None
    if not isinstance(contract.get("hash"), str) or not isinstance(contract.get("signature"), dict):
        raise CheckpointError(
            f"{files.path / CONTRACT}: expected hash and signature of a robot's contract; copy the "
            "file again from the run that wrote it"
        )
    return contract


def export_policy(source: Path, destination: Path) -> None:
    """Copy a finished checkpoint folder to ``destination``, whole or not at all.

    Files at the destination that are no part of a checkpoint (a README, say) stay.
    """
    with replacing_folder(destination) as partial:
        if destination.is_dir():
            shutil.copytree(destination, partial, dirs_exist_ok=True)
        shutil.copytree(source, partial, dirs_exist_ok=True)
