"""What the reward output means: a sigmoid, or a distribution over bins of the value range."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from .configuration_rewact import RewACTConfig

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class RewardEstimate:
    """Predicted progress of B observations; all but ``value`` are None for a sigmoid head.

    Attributes:
        value: (B,) in [value_min, value_max]; of a distribution its mean.
        quantiles: (B, 3) q10, q50 and q90.
        entropy: (B,) nats; log(K) knows nothing, 0 is certain of one bin.
        distribution: (B, K) probabilities of the bins.
        logits: (B, K).
    """

    value: Tensor
    quantiles: Tensor | None = None
    entropy: Tensor | None = None
    distribution: Tensor | None = None
    logits: Tensor | None = None


class SigmoidReward(nn.Module):
    """One output, squashed into the value range, trained by the squared error."""

    outputs = 1

    def __init__(self, config: RewACTConfig):
        super().__init__()
        self.low, self.high = config.value_min, config.value_max

    def estimate(self, raw: Tensor) -> RewardEstimate:
        """Read raw outputs (B, 1)."""
        return RewardEstimate(self.low + (self.high - self.low) * torch.sigmoid(raw.squeeze(-1)))

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        """Squared errors (B,) of raw outputs (B, 1) against labels (B,)."""
        return (self.estimate(raw).value - label).square()


class DistributionalReward(nn.Module):
    """K bins whose centres span the value range, trained by cross-entropy (arXiv:2403.03950).

    The centres include both ends of the range, so that 0 and 1 can be predicted; the edges lie
    half-way between centres, so that targets, mean and quantiles speak of the same bins.
    """

    centres: Tensor
    edges: Tensor

    def __init__(self, config: RewACTConfig):
        super().__init__()
        self.outputs = config.num_value_bins
        self.low, self.high = config.value_min, config.value_max
        self.width = (self.high - self.low) / (self.outputs - 1)
        centres = torch.linspace(self.low, self.high, self.outputs)
        steps = torch.arange(self.outputs + 1)
        edges = self.low - self.width / 2 + self.width * steps
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("edges", edges, persistent=False)
        self._gaussian = config.reward_target == "gaussian"
        self._std = config.reward_target_std_bins * self.width

    def estimate(self, raw: Tensor) -> RewardEstimate:
        """Read logits (B, K)."""
        logs = F.log_softmax(raw, dim=-1)
        distribution = logs.exp()
        return RewardEstimate(
            value=(distribution * self.centres).sum(-1).clamp(self.low, self.high),
            quantiles=self._quantiles(distribution),
            entropy=-(distribution * logs).sum(-1),
            distribution=distribution,
            logits=raw,
        )

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        """Cross-entropies (B,) of logits (B, K) against labels (B,)."""
        return -(self.target(label) * F.log_softmax(raw, dim=-1)).sum(-1)

    def target(self, label: Tensor) -> Tensor:
        """Probabilities (B, K) that stand for labels (B,); the mean of two-hot ones is the label.

        ``two_hot`` divides each label between the two nearest centres; ``gaussian`` integrates a
        normal distribution about it over the bins, cut to the range.
        """
        if self._gaussian:
            cdf = torch.special.ndtr((self.edges - label.unsqueeze(-1)) / self._std)
            return cdf.diff() / (cdf[:, -1:] - cdf[:, :1])
        place = ((label - self.low) / self.width).clamp(0, self.outputs - 1)
        low = place.floor().clamp_max(self.outputs - 2)
        share = (place - low).unsqueeze(-1)
        low = low.long().unsqueeze(-1)
        target = label.new_zeros(len(label), self.outputs)
        return target.scatter(-1, low, 1 - share).scatter(-1, low + 1, share)

    def _quantiles(self, distribution: Tensor) -> Tensor:
        """(B, 3) quantiles, linear within a bin."""
        cdf = distribution.cumsum(-1)
        levels = cdf.new_tensor(QUANTILES).expand(len(cdf), -1).contiguous() * cdf[:, -1:]
        index = torch.searchsorted(cdf, levels).clamp_max(self.outputs - 1)
        mass = distribution.gather(-1, index)
        above = cdf.gather(-1, index) - levels
        value = self.edges[index + 1] - self.width * above / mass.clamp_min(1e-12)
        return value.clamp(self.low, self.high)


def build_reward(config: RewACTConfig) -> SigmoidReward | DistributionalReward | None:
    """The configured reading of the reward output; None for a policy without one."""
    kinds: dict[str, type[SigmoidReward | DistributionalReward]] = {
        "sigmoid": SigmoidReward,
        "distributional": DistributionalReward,
    }
    return kinds[config.reward_head](config) if config.reward_head != "none" else None
