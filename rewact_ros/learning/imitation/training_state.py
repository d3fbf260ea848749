"""State of a run on disk: numbered checkpoints with links ``last`` and ``best``.

Moving ``last`` is what commits a checkpoint; a kill at any moment costs one interval. ``best``
follows, and is put right from the state that ``last`` points at when a run is resumed.
"""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from lerobot.optim.optimizers import load_optimizer_state, save_optimizer_state
from lerobot.optim.schedulers import load_scheduler_state, save_scheduler_state
from safetensors.torch import load_model, save_model
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rewact_ros.files import point, replace_folder
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format
from rewact_ros.policy.checkpoint_files import WEIGHTS

from .demonstrations import Demonstrations
from .settings import TrainError, TrainSettings

POLICY = "pretrained_model"  # LeRobot's names
STATE = "training_state"
STEP = "step.json"
FORMAT = 1  # of step.json

# What may differ between a run and its resumption: none of it changes the weights.
_FREE = {
    *("out", "device", "threads", "workers", "frame_cache", "wandb"),
    *("log_every", "val_every", "save_every", "test_every", "test_episodes", "test_seed"),
}


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands.

    Attributes:
        step: optimiser steps done.
        wall_s: seconds spent training, over all resumptions.
        settings: the run's settings.
        figures: last validation and test figures.
        best: step and value of the best checkpoint so far, and the figure's name.
        scaler: state of the gradient scaler of an fp16 run.
        folder: the checkpoint's folder, once it is on disk.
    """

    step: int
    wall_s: float
    settings: dict[str, Any]
    figures: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    folder: Path | None = None

    @classmethod
    def find(cls, out: Path) -> "TrainingState | None":
        """Read the state that ``out/checkpoints/last`` points at; None where there is none.

        Raises:
            TrainError: it is of another format.
        """
        folder = out / "checkpoints" / "last"
        if not folder.exists():
            return None
        saved = json.loads((folder / STATE / STEP).read_text())
        try:  # those of before the key are of format 1, too
            require_format(saved, FORMAT, "resume with the rewact_ros that began the run", absent=1)
        except FormatError as error:
            raise TrainError(f"{folder / STATE / STEP}: {error}") from None
        saved.pop(FORMAT_KEY, None)
        return cls(**{**saved, "folder": folder.resolve()})


def state_to_resume(settings: TrainSettings, resume: bool) -> TrainingState | None:
    """Find the state that a run with these settings goes on from; None for a new run.

    Raises:
        TrainError: a run exists but is not to be resumed, or was started with other settings.
    """
    out = Path(settings.out)
    state = TrainingState.find(out)
    if state is None:
        return None
    if not resume:
        raise TrainError(
            f"{out}: holds a run at step {state.step}; continue it with --resume, "
            "or give another --out"
        )
    now = json.loads(json.dumps(asdict(settings)))
    # A setting that is younger than the run had its default's effect then.
    defaults = {f.name: f.default for f in fields(TrainSettings) if f.default is not MISSING}
    defaults = json.loads(json.dumps(defaults))
    for name, value in now.items():
        then = state.settings.get(name, defaults.get(name))
        if name not in _FREE and then != value:
            raise TrainError(
                f"{out}: was started with {name}={then!r}, now {value!r}; "
                "resume with the same settings, or give another --out"
            )
    return state


def save_training_state(
    out: Path,
    state: TrainingState,
    policy: nn.Module,
    averaged: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    export: Callable[[Path], object],
) -> Path:
    """Write a checkpoint, move the links, then remove what neither of them points at.

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
        record = {FORMAT_KEY: FORMAT, **record}
        (partial / STATE / STEP).write_text(json.dumps(record, indent=2))
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    point(checkpoints / "last", folder.name)
    point_at_best(out, state)
    _prune(checkpoints)
    return folder


def point_at_best(out: Path, state: TrainingState) -> None:
    """Let ``best`` follow what the state says."""
    if state.best is not None:
        point(out / "checkpoints" / "best", f"{state.best['step']:06d}")


def _prune(checkpoints: Path) -> None:
    """Remove other checkpoints; of the best one only the policy is needed once it is not last."""
    for leftover in checkpoints.glob(".*.partial"):  # of a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    last, best = ((checkpoints / name).resolve() for name in ("last", "best"))
    for folder in checkpoints.iterdir():
        if folder.is_symlink() or not folder.name.isdigit() or folder.resolve() == last:
            continue
        doomed = folder / STATE if folder.resolve() == best else folder
        shutil.rmtree(doomed, ignore_errors=True)


def load_training_state(
    state: TrainingState,
    policy: nn.Module,
    averaged: nn.Module,
    optimizer: Optimizer,
    scheduler: LRScheduler,
) -> None:
    """Put weights, averaged weights, optimiser and scheduler back as the checkpoint has them."""
    assert state.folder is not None  # it was found on disk
    folder = state.folder / STATE
    load_model(policy, str(folder / WEIGHTS))
    load_model(averaged, str(folder / f"averaged_{WEIGHTS}"))
    load_optimizer_state(getattr(optimizer, "optimizer", optimizer), folder)
    load_scheduler_state(scheduler, folder)


def training_record(state: TrainingState, data: Demonstrations, split: dict[str, Any]) -> str:
    """What made a checkpoint, as JSON text."""
    record = {
        "command": shlex.join(["rewact", *sys.argv[1:]]),
        "settings": state.settings,
        "dataset": {
            "name": Path(state.settings["dataset"]).name,
            "fingerprint": data.fingerprint,
            "fps": data.fps,
            "frames": len(data.episode),
            **split,
        },
        "step": state.step,
        "wall_s": round(state.wall_s, 1),
        "torch_threads": torch.get_num_threads(),
        "validation": state.figures,
        "best": state.best,
        "torch": torch.__version__,
    }
    return json.dumps(record, indent=2) + "\n"
