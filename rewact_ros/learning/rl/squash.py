"""A tanh-squashed Gaussian over a chunk, and how its unit actions become commands."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_EDGE = 0.999  # unit actions beyond it have no finite counterpart before the tanh
_MARGIN = 1.25  # a gripper lives at its limits, where an unwidened tanh has no gradient left


@dataclass(frozen=True)
class TanhGaussian:
    """Independent normals before the tanh: mean and log_std (B, steps, D)."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw unit actions (B, steps, D), and their log-probability (B,).

        The log-probability is that of the whole chunk: summed over steps and dimensions, with the
        tanh's change of volume (Haarnoja et al. 2018, appendix C). Gradients flow through both.

        Args:
            noise: (B, steps, D) standard normal; None: drawn here.
        """
        noise = torch.randn_like(self.mean) if noise is None else noise
        before = self.mean + self.log_std.exp() * noise
        normal = -0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)^2) in a form that does not round to log(0).
        volume = 2 * (math.log(2) - before - F.softplus(-2 * before))
        return before.tanh(), (normal - volume).sum((-2, -1))

    @property
    def mode(self) -> Tensor:
        """The squashed mean (B, steps, D)."""
        return self.mean.tanh()

    def first(self, steps: int) -> "TanhGaussian":
        """Of the first steps alone."""
        return TanhGaussian(self.mean[:, :steps], self.log_std[:, :steps])


def bounded_log_std(raw: Tensor, low: float, high: float) -> Tensor:
    """Any number to [low, high], smoothly, so that a gradient always leads back."""
    return low + 0.5 * (high - low) * (raw.tanh() + 1)


class ActionMap(nn.Module):
    """Unit actions u in [-1, 1] <-> commands in contract units.

    Corrections: command = base + bound * u for the joints with a bound above 0; the others keep
    the base's command. Absolute: the contract's position range and a quarter more, whatever the
    base says. Commands are clamped to the range.

    Args:
        low, high: (A,) the contract's position limits.
        bound: (A,) of a correction; None: absolute.
    """

    low: Tensor
    high: Tensor
    bound: Tensor
    active: Tensor

    def __init__(self, low: Tensor, high: Tensor, bound: Tensor | None = None) -> None:
        super().__init__()
        self.corrects = bound is not None
        scale = _MARGIN * (high - low) / 2 if bound is None else bound
        self.register_buffer("low", low.float())
        self.register_buffer("high", high.float())
        self.register_buffer("bound", scale.float())
        self.register_buffer("active", (scale > 0).nonzero().squeeze(-1))

    @property
    def dimensions(self) -> int:
        """D: how many joints an action moves."""
        return len(self.active)

    def command(self, unit: Tensor, base: Tensor) -> Tensor:
        """Commands (..., A) of unit actions (..., D) where the base commands (..., A).

        An absolute map asks of the base nothing, not even as many steps.
        """
        full = unit.new_zeros((*unit.shape[:-1], len(self.bound)))
        full[..., self.active] = unit
        centre = base if self.corrects else (self.low + self.high) / 2
        return (centre + self.bound * full).clamp(self.low, self.high)

    def unit(self, command: Tensor, base: Tensor) -> Tensor:
        """The unit actions (..., D) that come nearest to commands (..., A)."""
        centre = base if self.corrects else (self.low + self.high) / 2
        moved = (command - centre)[..., self.active] / self.bound[self.active]
        return moved.clamp(-_EDGE, _EDGE)

    def before_tanh(self, command: Tensor, base: Tensor) -> Tensor:
        """What the tanh makes that unit action of, (..., D)."""
        return torch.atanh(self.unit(command, base))
