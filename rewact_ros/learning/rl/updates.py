"""Learned weights on their way to the robot: one folder per version, whole or not at all.

``policy.updates.PolicyUpdates`` judges such a folder as it judges any checkpoint: it lies below the
configured directory, its ``model.safetensors`` has the announced SHA-256, its ``contract.json`` is
the robot's. The base policy lies in it too, since the agent is nothing without it.
"""

import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path

from safetensors.torch import save_file

from rewact_ros.contract import Contract
from rewact_ros.policy.checkpoint import CALIBRATION, CONTRACT, load_policy, replace_folder
from rewact_ros.policy.updates import WEIGHTS, Update
from rewact_ros.runs import LEARNED

from .agent import Agent
from .base import Base, open_base
from .learner_state import agent_tensors, load_agent
from .settings import LearnError, load_settings, settings_text

BASE, SETTINGS = "base", "settings.json"


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
        with (partial / WEIGHTS).open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        robot = {"hash": base.contract.hash, "signature": base.contract.signature()}
        about = {"base": base.loaded.version, "updates": updates}
        (partial / CONTRACT).write_text(json.dumps(robot, indent=2) + "\n")
        (partial / SETTINGS).write_text(settings_text(agent.settings))
        (partial / LEARNED).write_text(json.dumps(about) + "\n")
        shutil.copytree(base.loaded.path, partial / BASE)
        if (partial / BASE / CALIBRATION).is_file():  # the reward head is the base's, and frozen
            shutil.copy(partial / BASE / CALIBRATION, partial / CALIBRATION)
        partial.chmod(0o755)
        (partial / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
        replace_folder(partial, directory / digest[:12])
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Update(
        stamp_ns=time.time_ns(),
        path=digest[:12],
        sha256=digest,
        version=digest[:12],
        robot=base.contract.hash,
    )


def open_update(folder: Path, contract: Contract, device: str = "auto") -> tuple[Base, Agent]:
    """Open what ``write_update`` wrote.

    Args:
        folder: of a version.
        contract: of the robot.
        device: as for ``load_policy``.

    Raises:
        LearnError: files are missing or damaged.
        CheckpointError, ContractError: the base is damaged, or another robot's.
    """
    settings = load_settings(folder / SETTINGS)
    loaded = load_policy(folder / BASE, device)
    base = open_base(loaded, contract, settings)
    agent = Agent(settings, base)
    try:
        about = json.loads((folder / LEARNED).read_text())
        if about["base"] != loaded.version:
            raise ValueError(f"base: expected {about['base']}, got {loaded.version}")
        load_agent(agent, folder / WEIGHTS)
    except (OSError, ValueError, KeyError) as error:
        raise LearnError(f"{folder}: damaged ({error}); copy the update again") from error
    return base, agent.to(loaded.config.device).eval()


def updates_seen(folder: Path) -> int:
    """Updates that the agent of a version has seen.

    Raises:
        LearnError: the folder does not say.
    """
    file = folder / LEARNED
    try:
        return int(json.loads(file.read_text())["updates"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LearnError(f"{file}: damaged ({error}); copy the update again") from error
