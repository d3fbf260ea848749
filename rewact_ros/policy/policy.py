"""What a policy is to whoever runs, judges or trains one, whatever its type."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from lerobot.configs import NormalizationMode, PolicyFeature
from torch import Tensor, nn

from .reward_head import RewardEstimate


@dataclass(frozen=True)
class Estimate:
    """What the network says of B observations.

    Attributes:
        actions: (B, chunk, A).
        reward: progress at the observation; None where the policy has no reward head.
        features: (B, dim_model) float32, mean of the encoder's output tokens; None where the
            policy tells none.
    """

    actions: Tensor
    reward: RewardEstimate | None
    features: Tensor | None


class PolicyConfig(Protocol):
    """Settings that every type of policy has; those of LeRobot mean what they mean there.

    Attributes:
        device: where it runs; LeRobot's configurations choose one themselves.
        n_obs_steps: observations that it sees, one step of the dataset's rate apart.
        chunk_size: actions that it predicts.
        image_size: (height, width) in pixels that it resizes cameras to; None: as they come.
        reward_head: ``sigmoid``, ``distributional`` or ``none``.
        value_min, value_max: range of the reward.
        input_features, output_features: shapes by key.
        normalization_mapping: by type of feature.
    """

    device: str
    n_obs_steps: int
    chunk_size: int
    image_size: tuple[int, int] | None
    reward_head: str
    value_min: float
    value_max: float
    input_features: dict[str, PolicyFeature]
    output_features: dict[str, PolicyFeature]
    normalization_mapping: dict[str, NormalizationMode]

    @property
    def image_features(self) -> dict[str, PolicyFeature]:
        """The cameras among the inputs."""
        ...

    @property
    def action_feature(self) -> PolicyFeature:
        """The action among the outputs."""
        ...


class Policy(Protocol):
    """A network of any type, as a torch module.

    Attributes:
        config: its settings.
    """

    config: PolicyConfig

    def predict(self, batch: dict[str, Tensor]) -> Estimate:
        """Predict from normalised observations, see ``RewACTPolicy.predict``."""
        ...

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its parts by name."""
        ...

    def get_optim_params(self) -> Any:
        """Groups of parameters, as torch's optimisers take them."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As torch has it."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """As torch has it."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> Any:
        """As torch has it."""
        ...

    def reset(self) -> None:
        """Forget what it keeps of the past."""
        ...

    def train(self, mode: bool = True) -> Self:
        """As torch has it."""
        ...

    def eval(self) -> Self:
        """As torch has it."""
        ...

    def to(self, device: str) -> Self:
        """As torch has it."""
        ...

    def save_pretrained(self, save_directory: Any) -> Any:
        """Write configuration and weights, as LeRobot has it."""
        ...
