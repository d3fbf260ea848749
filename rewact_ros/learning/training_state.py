"""State of a run on disk: numbered checkpoints and a ``last`` link; a kill costs one interval."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lerobot.optim.optimizers import load_optimizer_state, save_optimizer_state
from lerobot.optim.schedulers import load_scheduler_state, save_scheduler_state
from safetensors.torch import load_model, save_model
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rewact_ros.policy.checkpoint import WEIGHTS, replace_folder

POLICY = "pretrained_model"  # LeRobot's names
STATE = "training_state"
STEP = "step.json"


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        wall_s: seconds spent training, over all resumptions.
        settings: the run's settings.
        figures: last validation figures.
        folder: the checkpoint's folder, once it is on disk.
    """

    step: int
    wall_s: float
    settings: dict
    figures: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def find(cls, out: Path) -> "TrainingState | None":
        """Read the state that ``out/checkpoints/last`` points at; None where there is none."""
        folder = out / "checkpoints" / "last"
        if not folder.exists():
            return None
        saved = json.loads((folder / STATE / STEP).read_text())
        return cls(**{**saved, "folder": folder.resolve()})


def save_training_state(
    out: Path,
    state: TrainingState,
    policy: nn.Module,
    averaged: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    export: Callable[[Path], object],
) -> Path:
    """Write a checkpoint, point ``last`` at it, then remove the one before.

    Args:
        out: folder of the run.
        state: what to record.
        policy: raw weights, to go on from.
        averaged: averaged weights, to go on from.
        optimizer: saved as LeRobot does (safetensors and JSON).
        scheduler: saved as LeRobot does.
        export: writes the policy that users load to the folder it is given.

    Returns:
        the checkpoint's folder.
    """
    checkpoints = out / "checkpoints"
    folder, partial = checkpoints / f"{state.step:06d}", checkpoints / f".{state.step:06d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / STATE).mkdir(parents=True)
    try:
        export(partial / POLICY)
        save_model(policy, str(partial / STATE / WEIGHTS))
        save_model(averaged, str(partial / STATE / f"averaged_{WEIGHTS}"))
        save_optimizer_state(getattr(optimizer, "optimizer", optimizer), partial / STATE)
        save_scheduler_state(scheduler, partial / STATE)
        record = {k: v for k, v in asdict(state).items() if k != "folder"}
        (partial / STATE / STEP).write_text(json.dumps(record, indent=2))
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    link = checkpoints / ".last"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    os.replace(link, checkpoints / "last")
    for old in checkpoints.iterdir():
        if old.is_dir() and not old.is_symlink() and old.name.isdigit() and old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def load_training_state(
    state: TrainingState,
    policy: nn.Module,
    averaged: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
) -> None:
    """Put weights, averaged weights, optimiser and scheduler back as the checkpoint has them."""
    folder = state.folder / STATE
    load_model(policy, str(folder / WEIGHTS))
    load_model(averaged, str(folder / f"averaged_{WEIGHTS}"))
    load_optimizer_state(getattr(optimizer, "optimizer", optimizer), folder)
    load_scheduler_state(scheduler, folder)
