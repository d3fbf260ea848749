"""Its configuration, under LeRobot's rule for names: configuration_x beside modeling_x."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode
from lerobot.configs.rewards import RewardModelConfig


@RewardModelConfig.register_subclass("glow")
@dataclass
class GlowConfig(RewardModelConfig):
    """Looks at the frame of now and at the one `back` frames before it."""

    back: int = 2
    default_task: str | None = None
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
        }
    )

    @property
    def observation_delta_indices(self):
        return [-self.back, 0]
