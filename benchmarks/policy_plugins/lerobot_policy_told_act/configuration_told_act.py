"""Its configuration, under LeRobot's rule for names: configuration_x beside modeling_x."""

from dataclasses import dataclass

from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig


@PreTrainedConfig.register_subclass("told_act")
@dataclass
class ToldActConfig(ACTConfig):
    """ACT's; `words` is how many kinds of words it tells apart."""

    words: int = 32
