"""Its configuration, under LeRobot's rule for names: configuration_x beside modeling_x."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode
from lerobot.configs.policies import PreTrainedConfig


@PreTrainedConfig.register_subclass("late")
@dataclass
class LateConfig(PreTrainedConfig):
    """`base` is the checkpoint that decides; `inference_s` is how long an inference takes."""

    base: str = ""
    inference_s: float = 0.0
    chunk_size: int = 20
    normalization_mapping: dict = field(
        default_factory=lambda: dict.fromkeys(
            ("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY
        )
    )
    observation_delta_indices = action_delta_indices = reward_delta_indices = None

    def get_optimizer_preset(self):
        """It does not learn."""
        raise NotImplementedError

    def get_scheduler_preset(self):
        """It does not learn."""

    def validate_features(self):
        """They are those of `base`."""
