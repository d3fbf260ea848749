"""Learned weights on their way to the robot: one folder per version, whole or not at all.

``policy.updates.PolicyUpdates`` judges such a folder as it judges any checkpoint: it lies below the
configured directory, its files have the announced SHA-256, its ``contract.json`` is the robot's.
The base policy lies in it too, since the agent is nothing without it.
"""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from rewact_ros.contract import Contract
from rewact_ros.files import replace_folder
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format
from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.checkpoint_files import (
    CALIBRATION,
    CONTRACT,
    WEIGHTS,
    CheckpointFiles,
    open_folder,
)
from rewact_ros.policy.updates import Update
from rewact_ros.policy.weights import load_tensors
from rewact_ros.runs import LEARNED

from .agent import Agent
from .base import Base, open_base
from .learner_state import agent_tensors, load_agent
from .settings import LearnError, settings_from, settings_text

BASE, SETTINGS = "base", "settings.json"
FORMAT = 1  # of learned.json


def write_update(directory: Path, agent: Agent, base: Base, updates: int) -> Update:
    """Write ``directory/<version>`` and return the request that announces it.

    Args:
        directory: from which the robot takes updates.
        agent: its weights are written.
        base: copied beside them.
        updates: that the agent has seen.
    """
    directory.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".update.", dir=directory))
    try:
        save_file(agent_tensors(agent), partial / WEIGHTS)
        about = {FORMAT_KEY: FORMAT, "base": base.loaded.version, "updates": updates}
        (partial / CONTRACT).write_text(json.dumps(base.contract.record(), indent=2) + "\n")
        (partial / SETTINGS).write_text(settings_text(agent.settings))
        (partial / LEARNED).write_text(json.dumps(about) + "\n")
        shutil.copytree(base.loaded.path, partial / BASE)
        if (partial / BASE / CALIBRATION).is_file():  # the reward head is the base's, and frozen
            shutil.copy(partial / BASE / CALIBRATION, partial / CALIBRATION)
        partial.chmod(0o755)  # of mkdtemp's nobody but the owner could read it
        (partial / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
        files = open_folder(partial)
        replace_folder(partial, directory / files.version)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Update(
        stamp_ns=time.time_ns(),
        path=files.version,
        sha256=files.sha256,
        version=files.version,
        robot=base.contract.hash,
    )


def open_update(
    source: Path | CheckpointFiles, contract: Contract, device: str = "auto"
) -> tuple[Base, Agent]:
    """Open what ``write_update`` wrote.

    Args:
        source: folder of a version, or its files, already read.
        contract: of the robot.
        device: as for ``load_policy``.

    Raises:
        LearnError: files are missing or damaged.
        CheckpointError, ContractError: the base is damaged, or another robot's.
    """
    files = CheckpointFiles.of(source)
    settings = settings_from(files.json(SETTINGS), str(files.path / SETTINGS))
    loaded = load_policy(files.below(BASE), device)
    base = open_base(loaded, contract, settings)
    try:
        tensors = load_tensors(files, WEIGHTS)
    except ValueError as error:
        raise LearnError(f"{files.path}: damaged ({error}); copy the update again") from error
    held = sum(tensor.numel() for tensor in tensors.values())
    if settings.least_parameters > held:
        raise LearnError(
            f"{files.path / SETTINGS}: describes a network of more than "
            f"{settings.least_parameters:.2g} parameters, {WEIGHTS} holds {held:.2g}; copy the "
            "update again"
        )
    agent = Agent(settings, base)
    try:
        about = _learned(files)
        if about["base"] != loaded.version:
            raise ValueError(f"base: expected {about['base']}, got {loaded.version}")
        load_agent(agent, tensors)
    except (ValueError, KeyError) as error:
        raise LearnError(f"{files.path}: damaged ({error}); copy the update again") from error
    return base, agent.to(loaded.config.device).eval()


def _learned(files: CheckpointFiles) -> dict[str, Any]:
    learned = files.json(LEARNED)
    try:  # those of before the key are of format 1, too
        require_format(learned, FORMAT, "go on with the rewact_ros that wrote it", absent=1)
    except FormatError as error:
        raise LearnError(f"{files.path / LEARNED}: {error}") from None
    return learned


def updates_seen(files: CheckpointFiles) -> int:
    """Updates that the agent of a version has seen.

    Raises:
        LearnError: the folder does not say, or is of another format.
    """
    seen = _learned(files).get("updates")
    if type(seen) is not int or seen < 0:
        raise LearnError(
            f"{files.path / LEARNED}: damaged (updates: expected a count, got {str(seen)[:40]}); "
            "copy the update again"
        )
    return seen
