"""Tensors of a checkpoint, from bytes that were read once."""

from collections.abc import Mapping

import torch
from safetensors.torch import load
from torch import Tensor

from .checkpoint_files import CONFIG, CheckpointError, CheckpointFiles


def load_tensors(files: CheckpointFiles, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: missing, or no whole safetensors file.
    """
    content = files.read(name)
    try:
        return load(content)
    except Exception as error:  # of safetensors, and KeyError for a type that torch lacks
        raise CheckpointError(
            f"{files.path / name}: not a whole safetensors file ({error}; {len(content)} bytes); "
            "copy the checkpoint again"
        ) from error


def check_weights(what: str, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Raise on the first difference in names or shapes, or on a value that is not finite.

    Args:
        what: names the file in errors.
        expected: of the network that the configuration describes; may be on torch's meta device.
        got: what the file holds.

    Raises:
        CheckpointError: names the tensor, with both shapes.
    """
    missing, unexpected = sorted(expected.keys() - got.keys()), sorted(got.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{what}: tensors do not fit {CONFIG}: {len(missing)} missing {missing[:2]}, "
            f"{len(unexpected)} unexpected {unexpected[:2]}; "
            "use weights and configuration of one run"
        )
    for name, tensor in got.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{what}: {name}: expected shape {tuple(expected[name].shape)} as in {CONFIG}, "
                f"got {tuple(tensor.shape)}; use weights and configuration of one run"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{what}: {name}: NaN or infinite weights; take an earlier checkpoint"
            )
