"""What critic and small actor see, and the ensemble of critics over executed chunks."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rewact_ros.policy.images import random_shift, unit_images

from .settings import RLSettings
from .transitions import CANDIDATES, IMAGES, STATE

_CHANNELS = (16, 32, 32)
Observed = dict[str, Tensor]  # observations of the replay, each (B, history, ...)


def base_plan(observation: Observed) -> Tensor:
    """The base's own plan (B, steps, A) at the newest observation."""
    return observation[CANDIDATES][:, -1, 0]


class ObservationEncoder(nn.Module):
    """A small image encoder of its own per camera, beside the normalised state.

    Three convolutions of stride 2 keep places apart, then a linear layer with LayerNorm and tanh
    reads them (as DrQ's encoder does, arXiv:2004.13649): nothing is pooled away that would tell
    where an object lies.

    Args:
        settings: sizes and augmentation.
        cameras: how many.
        state_mean, state_std: (S,) normalisation of the state.
    """

    state_mean: Tensor
    state_std: Tensor

    def __init__(
        self, settings: RLSettings, cameras: int, state_mean: Tensor, state_std: Tensor
    ) -> None:
        super().__init__()
        self._size, self._shift = settings.image_size, settings.random_shift_px
        self.register_buffer("state_mean", state_mean.float())
        self.register_buffer("state_std", state_std.float())
        width = settings.image_encoder_hidden_dim
        places = 1
        for size in self._size:
            places *= -(-size // 8)
        self.cameras = nn.ModuleList(
            nn.Sequential(
                *_convolutions(),
                nn.Flatten(),
                nn.Linear(_CHANNELS[-1] * places, width),
                nn.LayerNorm(width),
                nn.Tanh(),
            )
            for _ in range(cameras)
        )
        self.dim = cameras * width + len(state_mean)

    def forward(self, observation: dict[str, Tensor], augment: bool = False) -> Tensor:
        """Encode observations.

        Args:
            observation: ``observation.state`` (B, H, S) contract units, and where there are
                cameras ``observation.images`` (B, H, cameras, h, w, 3) uint8.
            augment: shift each image at random.

        Returns:
            (B, H, dim).
        """
        state = (observation[STATE] - self.state_mean) / self.state_std
        parts = [state]
        for index, encoder in enumerate(self.cameras):
            images = observation[IMAGES][:, :, index].flatten(0, 1)
            images = self._prepare(images, augment)
            parts.append(encoder(images).unflatten(0, state.shape[:2]))
        return torch.cat(parts, -1)

    def _prepare(self, images: Tensor, augment: bool) -> Tensor:
        images = unit_images(images) - 0.5
        if tuple(images.shape[-2:]) != self._size:
            images = F.interpolate(images, size=self._size, mode="area")
        return random_shift(images, self._shift) if augment and self._shift else images


class ActionView(nn.Module):
    """How critic and actor see a chunk: relative to the base's plan, and that plan itself.

    What matters is small beside a joint's range, so the difference is taken in tenths of the base's
    standard deviations, and compressed as sign(x) log(1 + |x|) because a human differs by much.

    Args:
        mean, std: (A,) of the base's actions, contract units.
        steps: of a chunk.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, steps: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.plan_dim = steps * len(mean)
        self.dim = 2 * self.plan_dim + 1

    def plan(self, base: Tensor) -> Tensor:
        """The base's plan (..., steps, A) as numbers (..., plan_dim)."""
        return ((base - self.mean) / self.std).flatten(-2)

    def forward(self, action: Tensor, base: Tensor, length: Tensor) -> Tensor:
        """Chunks and plans (..., steps, A), and the executed share (...) of them: (..., dim)."""
        difference = ((action - base) / (0.1 * self.std)).flatten(-2)
        difference = difference.sign() * difference.abs().log1p()
        return torch.cat([difference, self.plan(base), length.unsqueeze(-1)], -1)


class CriticEnsemble(nn.Module):
    """M critics side by side, two hidden layers each with LayerNorm (RLPD, arXiv:2302.02948).

    Args:
        inputs: width of observation and action features together.
        settings: size of the ensemble.
    """

    def __init__(self, inputs: int, settings: RLSettings) -> None:
        super().__init__()
        count, hidden = settings.num_critics, settings.hidden_dim
        self._subset = settings.num_subsample_critics
        self.layers = nn.ModuleList(
            [_Parallel(count, inputs, hidden), _Parallel(count, hidden, hidden)]
        )
        self.norms = nn.ModuleList([_ParallelNorm(count, hidden), _ParallelNorm(count, hidden)])
        self.out = _Parallel(count, hidden, 1)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Values (M, ...) of features (..., F) and seen actions (..., G)."""
        x = torch.cat([features, action], -1)
        shape = x.shape[:-1]
        x = x.reshape(1, -1, x.shape[-1]).expand(len(self.out.weight), -1, -1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.out(x).reshape(-1, *shape)

    def pessimistic(self, values: Tensor) -> Tensor:
        """Minimum (...) over a random subset of the ensemble's values (M, ...)."""
        chosen = torch.randperm(len(values), device=values.device)[: self._subset]
        return values[chosen].min(0).values


class _Parallel(nn.Module):
    """M linear layers as one product."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        limit = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(count, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, N, inputs) to (M, N, outputs)."""
        return torch.baddbmm(self.bias, x, self.weight)


class _ParallelNorm(nn.Module):
    """M LayerNorms over the last axis."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count, 1, width))
        self.bias = nn.Parameter(torch.zeros(count, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, N, width) to the same shape."""
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


def _convolutions() -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in zip((3, *_CHANNELS), _CHANNELS, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return layers
