"""What a checkpoint's processors do to each number, found by asking them."""

import copy
from dataclasses import dataclass

import torch
from lerobot.utils.constants import ACTION
from torch import Tensor

from .checkpoint import LoadedPolicy

_PROBES = (0.0, 1.0, -0.75)


@dataclass(frozen=True)
class Scaling:
    """out = (raw - centre) * factor of a feature, element by element; float64 on the CPU."""

    centre: Tensor
    factor: Tensor


def input_scalings(loaded: LoadedPolicy) -> dict[str, Scaling]:
    """What the preprocessor does to each input.

    Returns:
        per key tensors of the feature's shape, images (C, H, W) in [0, 1] before it.

    Raises:
        ValueError: it does more than scale each number, renames, or drops an input.
    """
    pipeline = copy.deepcopy(loaded.preprocessor)
    shapes = {key: feature.shape for key, feature in loaded.config.input_features.items()}
    results = []
    for probe in _PROBES:
        batch = {k: torch.full((1, *s), probe, dtype=torch.float64) for k, s in shapes.items()}
        results.append(pipeline(batch))
    missing = [key for key in shapes if key not in results[0]]
    if missing:
        raise ValueError(f"{loaded.path}: preprocessor: renames or drops {', '.join(missing)}")
    scalings = {}
    for key in shapes:
        what = f"{loaded.path}: preprocessor: {key}"
        offset, factor = _line(what, [result[key][0] for result in results])
        if (factor == 0).any():
            raise ValueError(f"{what}: expected a scaling of each number, got a factor of 0")
        scalings[key] = Scaling(-offset / factor, factor)
    return scalings


def action_line(loaded: LoadedPolicy) -> tuple[Tensor, Tensor]:
    """Offset and factor (A,), float64, of what the postprocessor does to an action.

    Raises:
        ValueError: it does more than scale each number.
    """
    pipeline = copy.deepcopy(loaded.postprocessor)
    width = loaded.config.action_feature.shape[0]
    results = [pipeline(torch.full((1, width), p, dtype=torch.float64))[0] for p in _PROBES]
    return _line(f"{loaded.path}: postprocessor: {ACTION}", results)


def _line(what: str, results: list[Tensor]) -> tuple[Tensor, Tensor]:
    zero, one, other = (result.detach().cpu().double() for result in results)
    if not torch.allclose(other, zero + _PROBES[2] * (one - zero), rtol=1e-5):
        raise ValueError(f"{what}: expected a scaling of each number, got something else")
    return zero, one - zero
