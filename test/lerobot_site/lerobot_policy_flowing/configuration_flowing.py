"""Its configuration, under LeRobot's rule for names: configuration_x beside modeling_x."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig


@PreTrainedConfig.register_subclass("flowing")
@dataclass
class FlowingConfig(PreTrainedConfig):
    """`chunk_size` actions, in `denoising_steps` steps."""

    chunk_size: int = 20
    denoising_steps: int = 10
    rtc_config: RTCConfig | None = None
    normalization_mapping: dict = field(
        default_factory=lambda: dict.fromkeys(
            ("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY
        )
    )
    observation_delta_indices = action_delta_indices = reward_delta_indices = None

    def get_optimizer_preset(self):
        raise NotImplementedError

    def get_scheduler_preset(self):
        return None

    def validate_features(self):
        pass
