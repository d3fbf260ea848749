"""Tensors of a checkpoint, from bytes that were read once."""

import warnings
from collections.abc import Mapping

import torch
from safetensors.torch import load
from torch import Tensor

from .checkpoint_files import CONFIG, CheckpointError, CheckpointFiles

# Weights may be stored in another of these than they are used in; a quantised one has a scale too.
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def resolve_device(device: str) -> str:
    """The device that is meant by `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:1`.

    Raises:
        CheckpointError: another one, or one that this machine does not have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError:  # a list of all that torch was ever built for
        asked = torch.device("meta")
    if asked.type not in ("cpu", "cuda"):
        raise CheckpointError(f"device: expected auto, cpu or cuda, got {device[:80]!r}")
    if asked.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"device {device}: no CUDA device is available here; use auto or cpu")
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise CheckpointError(
            f"device {device}: this machine has {torch.cuda.device_count()}, counted from cuda:0"
        )
    return device


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
    """Raise on the first difference in names, shapes or types, or on a value that is not finite.

    Args:
        what: names the file in errors.
        expected: of the network that the configuration describes; may be on torch's meta device.
        got: what the file holds.

    Raises:
        CheckpointError: names the tensor, with both shapes or types.
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
        wanted = expected[name].dtype
        if tensor.dtype != wanted and not (wanted in _FLOATS and tensor.dtype in _FLOATS):
            raise CheckpointError(
                f"{what}: {name}: expected numbers of type {dtype_name(wanted)}, got "
                f"{dtype_name(tensor.dtype)}; save the policy in {dtype_name(wanted)}"
            )
        # As they will be used: 1e300 in float64 becomes infinite.
        if not torch.isfinite(tensor.to(wanted)).all():
            raise CheckpointError(
                f"{what}: {name}: NaN or infinite weights; take an earlier checkpoint"
            )


def dtype_name(dtype: torch.dtype) -> str:
    """A type of numbers as people write it, such as `float32`."""
    return str(dtype).removeprefix("torch.")


def slow_in(precision: str, device: str) -> str | None:
    """Why a half precision is slower than float32 on a device; None where it is not.

    Without AVX-512 torch's oneDNN has no bfloat16 kernels and computes them in software: a
    convolution took 40 times as long as in float32 on such a CPU.
    """
    if not device.startswith("cpu") or precision not in ("bf16", "fp16"):
        return None
    capability = torch.backends.cpu.get_cpu_capability()
    if "AVX512" in capability or not capability.startswith(("AVX", "DEFAULT")):
        return None
    return f"{precision}: this CPU ({capability}) computes it in software, far slower than float32"


def precision_on(device: str, mixed_precision: str) -> str:
    """The precision to train in: ``no``, with a warning, where half precision would be slower."""
    reason = slow_in(mixed_precision, device)
    if reason is None:
        return mixed_precision
    warnings.warn(f"mixed_precision {reason}; trains in float32", stacklevel=2)
    return "no"
