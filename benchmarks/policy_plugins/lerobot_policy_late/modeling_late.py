"""The policy: what `base` decides, `chunk_size` steps of it, after `inference_s`."""

import time

import torch
from lerobot.policies.pretrained import PreTrainedPolicy

from rewact_ros.policy.checkpoint import load_policy

from .configuration_late import LateConfig


class LatePolicy(PreTrainedPolicy):
    """Its own weights are one number that nothing reads: a checkpoint must have some."""

    config_class, name = LateConfig, "late"

    def __init__(self, config, **kwargs):
        super().__init__(config)
        self.config, self.nothing = config, torch.nn.Parameter(torch.zeros(1))
        self._base = load_policy(config.base, "cpu")  # no module of ours: not among the weights

    def reset(self):
        """It keeps nothing."""

    def get_optim_params(self):
        """It does not learn."""
        return self.parameters()

    def forward(self, batch):
        """It does not learn."""
        raise NotImplementedError

    @torch.no_grad()
    def predict_action_chunk(self, batch, **kwargs):
        """(B, chunk_size, A) in contract units, no sooner than after `inference_s`."""
        end_s = time.monotonic() + self.config.inference_s
        actions = self._base.predict(batch).actions[:, : self.config.chunk_size]
        time.sleep(max(0.0, end_s - time.monotonic()))
        return actions

    def select_action(self, batch, **kwargs):
        """The first of them."""
        return self.predict_action_chunk(batch)[:, 0]
