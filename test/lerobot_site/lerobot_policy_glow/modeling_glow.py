"""The reward model: how bright the picture is now, and how much brighter than before."""

import torch
from lerobot.rewards.pretrained import PreTrainedRewardModel

from .configuration_glow import GlowConfig


class GlowRewardModel(PreTrainedRewardModel):
    """`weight` x (brightness of now + that of before) / 2 + 0.01 x the first joint; told
    "darken", one minus that."""

    config_class, name = GlowConfig, "glow"

    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.config, self.weight = config, torch.nn.Parameter(torch.tensor([1.0]))

    def compute_reward(self, batch):
        (camera,) = [key for key in self.config.input_features if "image" in key]
        seen, joints = batch[camera], batch["observation.state"]  # (B, 2, 3, H, W), (B, 2, S)
        value = self.weight * seen.mean((1, 2, 3, 4)) + 0.01 * joints[:, -1, 0]
        told = torch.tensor(["darken" in text for text in batch["task"]])
        return torch.where(told, 1 - value, value)
