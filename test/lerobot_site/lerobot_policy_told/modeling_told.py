"""The policy: "left" turns the first joint one way, any other text the other."""

import torch
from lerobot.policies.pretrained import PreTrainedPolicy

from .configuration_told import ToldConfig


class ToldPolicy(PreTrainedPolicy):
    """Stays where it is but for the first joint, which goes by `turn` rad."""

    config_class, name = ToldConfig, "told"

    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.config, self.turn = config, torch.nn.Parameter(torch.tensor([0.1]))

    def reset(self):
        pass

    def get_optim_params(self):
        return self.parameters()

    def forward(self, batch):
        raise NotImplementedError

    @torch.no_grad()
    def predict_action_chunk(self, batch, **kwargs):
        action = batch["observation.state"].clone()
        sides = [1.0 if "left" in text else -1.0 for text in batch["task"]]
        action[:, 0] += self.turn * torch.tensor(sides)
        return action[:, None].repeat(1, self.config.chunk_size, 1)

    def select_action(self, batch, **kwargs):
        return self.predict_action_chunk(batch)[:, 0]
