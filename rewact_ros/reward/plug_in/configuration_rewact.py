"""`rewact` in LeRobot's register of reward models: the settings of a RewACT policy's checkpoint."""

from dataclasses import dataclass

from lerobot.configs.rewards import RewardModelConfig

from rewact_ros.policy.configuration_rewact import RewACTConfig


@RewardModelConfig.register_subclass("rewact")
@dataclass
class RewACTHeadConfig(RewardModelConfig, RewACTConfig):
    """All of ``RewACTConfig``, so that one folder is a policy and a reward model."""

    def __post_init__(self) -> None:
        """As the policy's: LeRobot's for reward models chooses a device, and so does this."""
        RewACTConfig.__post_init__(self)

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """As the policy's."""
        return RewACTConfig.observation_delta_indices.__get__(self)

    @property
    def action_delta_indices(self) -> None:
        """A reward model looks at no actions."""

    def get_optimizer_preset(self) -> None:
        """It is trained as a policy is (`rewact train`, `lerobot-train --policy.type=rewact`)."""

    def get_scheduler_preset(self) -> None:
        """Likewise."""
