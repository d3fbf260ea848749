"""A learner's checkpoint: safetensors and JSON; moving the link ``last`` is what commits it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from rewact_ros.files import point, replace_folder
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format

from .settings import LearnError, RLSettings, load_settings, settings_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AGENT, OPTIMIZERS = "agent.safetensors", "optimizers.safetensors"
STATE, SETTINGS = "state.json", "settings.json"
_LAST = "last"
FORMAT = 1


def save_learner(
    out: Path,
    settings: RLSettings,
    counts: "DataclassInstance",
    agent: nn.Module,
    optimizers: Mapping[str, Optimizer],
) -> Path:
    """Write ``out/checkpoints/<updates>-<transitions>``, move ``last``, remove the one before.

    Args:
        out: folder of the run.
        settings: of the run.
        counts: a dataclass of numbers.
        agent: its weights.
        optimizers: by name.

    Returns:
        the checkpoint's folder.
    """
    numbers = asdict(counts)
    folder = out / "checkpoints" / f"{numbers['updates']:07d}-{numbers['transitions']:07d}"
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file(agent_tensors(agent), partial / AGENT)
        save_file(_optimizer_tensors(optimizers), partial / OPTIMIZERS)
        (partial / STATE).write_text(json.dumps({FORMAT_KEY: FORMAT, **numbers}) + "\n")
        (partial / SETTINGS).write_text(settings_text(settings))
        replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    point(folder.with_name(_LAST), folder.name)
    for other in folder.parent.iterdir():
        if not other.is_symlink() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def load_learner(
    out: Path, settings: RLSettings, agent: nn.Module, optimizers: Mapping[str, Optimizer]
) -> dict[str, Any] | None:
    """Put the newest checkpoint back; returns its counts, None where there is none.

    Raises:
        LearnError: it was made with other settings, is damaged, or of another format.
    """
    folder = out / "checkpoints" / _LAST
    if not folder.exists():
        return None
    counts = read_counts(folder / STATE)
    saved = load_settings(folder / SETTINGS)
    for name in (f.name for f in fields(RLSettings)):
        then, now = getattr(saved, name), getattr(settings, name)
        if then != now:
            raise LearnError(
                f"{out}: was started with {name}={then!r}, now {now!r}; resume with the same "
                "settings, or give another --out"
            )
    try:
        load_agent(agent, load_file(folder / AGENT))
        _load_optimizers(optimizers, load_file(folder / OPTIMIZERS))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LearnError(f"{folder}: damaged ({error}); begin a new run") from error
    return counts


def read_counts(file: Path) -> dict[str, Any]:
    """A learner's counts by name; raises LearnError: damaged, or of another format."""
    try:
        counts = json.loads(file.read_text())
        # Those of before the key are of format 1, too.
        require_format(counts, FORMAT, "resume with the rewact_ros that began the run", absent=1)
    except FormatError as error:
        raise LearnError(f"{file}: {error}") from None
    except (OSError, ValueError) as error:
        raise LearnError(f"{file}: damaged ({error}); begin a new run") from error
    counts.pop(FORMAT_KEY, None)
    return dict(counts)


def agent_tensors(agent: nn.Module) -> dict[str, Tensor]:
    """The agent's weights as safetensors takes them."""
    return {name: t.detach().cpu().contiguous().clone() for name, t in agent.state_dict().items()}


def load_agent(agent: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put weights in; they must fit and be finite.

    Raises:
        ValueError: they do not.
    """
    expected = agent.state_dict()
    different = sorted(expected.keys() ^ tensors.keys())
    if different:
        raise ValueError(f"{len(different)} tensors differ, the first is {different[0]}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or not torch.isfinite(tensor).all():
            raise ValueError(f"{name}: another shape, or not finite")
    agent.load_state_dict(tensors)


def _optimizer_tensors(optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    return {
        f"{name}.{index}.{key}": value.detach().cpu().contiguous().clone()
        for name, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def _load_optimizers(optimizers: Mapping[str, Optimizer], tensors: dict[str, Tensor]) -> None:
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            owner, index, part = key.split(".")
            if owner == name:
                state.setdefault(int(index), {})[part] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
