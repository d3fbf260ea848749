"""What a checkpoint's processors do to each number, found by asking them."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from rewact_ros.contract import Contract

from .checkpoint import LoadedPolicy
from .checkpoint_files import CheckpointError

_PROBES = (0.0, 1.0, -0.75)
# How far the numbers of two policies of one robot may be apart; see `check_alike`.
MAX_RATIO = 5.0
_LEAST_SPREAD = 1e-3  # contract units; less than that a joint does not move


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


def check_alike(new: LoadedPolicy, running: LoadedPolicy, contract: Contract) -> None:
    """Refuse a policy whose actions or state are scaled far otherwise than the running one's.

    What a normalised 1 means (a standard deviation, half a range) may differ by MAX_RATIO, what 0
    means by MAX_RATIO of the larger of the two. More is another unit, robot or a damaged file, and
    the arm would follow it.

    Raises:
        CheckpointError: names the joint and both numbers.
    """
    spoken = [x.representation for x in (new, running)]
    if spoken[0] != spoken[1]:
        raise CheckpointError(
            f"{new.path}: action_representation: expected {spoken[1] or 'joints'} as of the "
            f"running policy, got {spoken[0] or 'joints'}; start the policy anew with it"
        )
    names = contract.action_names if spoken[0] is None else spoken[0].names
    lines = [(ACTION, names, *(action_line(x) for x in (new, running)))]
    if all(OBS_STATE in x.config.input_features for x in (new, running)):
        lines.append((OBS_STATE, contract.state_names, *(_state_line(x) for x in (new, running))))
    for key, joints, got, expected in lines:
        _check_lines(f"{new.path}: {key}", joints, got, expected)


def _check_lines(
    what: str, joints: Sequence[str], got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]
) -> None:
    spreads = [factor.abs().clamp_min(_LEAST_SPREAD) for _, factor in (got, expected)]
    far = ~(torch.maximum(spreads[0] / spreads[1], spreads[1] / spreads[0]) <= MAX_RATIO)
    shift = (got[0] - expected[0]).abs()
    off = ~(shift <= MAX_RATIO * torch.maximum(*spreads))
    for name, wrong, index in (("spread", far, 1), ("centre", off, 0)):
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            raise CheckpointError(
                f"{what}: {name} of {joints[i]}: {float(got[index][i]):.4g}, the running policy's "
                f"is {float(expected[index][i]):.4g}: expected within a factor of {MAX_RATIO:g} "
                "(centres: that many spreads); check the units and statistics that it was trained "
                "with, or start the policy anew with it if that is meant"
            )


def _state_line(loaded: LoadedPolicy) -> tuple[Tensor, Tensor]:
    """Centre and spread (S,), float64, of what a normalised state means."""
    pipeline = copy.deepcopy(loaded.preprocessor)
    shapes = {key: feature.shape for key, feature in loaded.config.input_features.items()}
    results = []
    for probe in _PROBES:
        batch = {k: torch.zeros((1, *s), dtype=torch.float64) for k, s in shapes.items()}
        batch[OBS_STATE] += probe
        results.append(pipeline(batch)[OBS_STATE][0])
    offset, factor = _line(f"{loaded.path}: preprocessor: {OBS_STATE}", results)
    return -offset / factor, 1 / factor


def _line(what: str, results: list[Tensor]) -> tuple[Tensor, Tensor]:
    zero, one, other = (result.detach().cpu().double() for result in results)
    if not torch.allclose(other, zero + _PROBES[2] * (one - zero), rtol=1e-5):
        raise ValueError(f"{what}: expected a scaling of each number, got something else")
    return zero, one - zero
