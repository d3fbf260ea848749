"""The policy: ACT, with the words of the text in the place of the environment's state."""

import copy
import zlib

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.modeling_act import ACT, ACTPolicy

from .configuration_told_act import ToldActConfig

_TEXT = "observation.environment_state"


class ToldActPolicy(ACTPolicy):
    """The order of the words does not count, nor do case and full stops."""

    config_class, name = ToldActConfig, "told_act"

    def __init__(self, config, **kwargs):
        # Who reads the checkpoint is to know that it must be told.
        config.input_features["task"] = PolicyFeature(FeatureType.LANGUAGE, (1,))
        super().__init__(config)
        inner = copy.deepcopy(config)
        inner.input_features[_TEXT] = PolicyFeature(FeatureType.ENV, (config.words,))
        self.model = ACT(inner)

    def forward(self, batch):
        """As ACT's."""
        return super().forward(self._told(batch))

    def predict_action_chunk(self, batch, **kwargs):
        """(B, chunk_size, A), normalised as ACT's."""
        return super().predict_action_chunk(self._told(batch))

    def _told(self, batch):
        state = batch["observation.state"]
        words = torch.zeros(len(state), self.config.words)
        for row, text in zip(words, batch["task"], strict=True):
            for word in text.lower().replace(".", " ").split():
                row[zlib.crc32(word.encode()) % self.config.words] = 1.0
        return {**batch, _TEXT: words.to(state.device)}
