"""The network: LeRobot's ACT whose first decoder token also predicts the reward (task progress)."""

import copy

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.modeling_act import ACT, ACTSinusoidalPositionEmbedding2d
from lerobot.utils.constants import OBS_STATE
from torch import Tensor, nn

from .backbone import build_backbone
from .configuration_rewact import RewACTConfig

POSTURE = "posture"  # the newest state as it is, where dropout may hide it from the encoder


class PartHeads(nn.Module):
    """A linear head of its own for each named slice of the action."""

    def __init__(self, dim: int, parts: dict[str, int]):
        super().__init__()
        self.parts = nn.ModuleDict({name: nn.Linear(dim, size) for name, size in parts.items()})

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, chunk, dim) to (B, chunk, A), the parts in their order."""
        return torch.cat([head(tokens) for head in self.parts.values()], dim=-1)


class Heads(nn.Module):
    """Reads actions off every decoder token and the reward off the first one.

    The last token is no decoder token but the features that ``pool_features`` put there.
    """

    def __init__(self, config: RewACTConfig, reward_outputs: int):
        super().__init__()
        dim, width = config.dim_model, config.action_feature.shape[0]
        parts = config.action_parts
        self.action = PartHeads(dim, parts) if parts else nn.Linear(dim, width)
        if reward_outputs:
            self.reward = nn.Sequential(
                nn.Linear(dim, dim // 2),
                nn.ReLU(),
                nn.Linear(dim // 2, dim // 4),
                nn.ReLU(),
                nn.Linear(dim // 4, reward_outputs),
            )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Map (B, chunk + 1, dim) to actions (B, chunk, A), raw reward (B, K), features (B, dim).

        Always in float32: the outputs of a mixed-precision run must not be rounded to 8 bits.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            reward = self.reward(tokens[:, 0]) if hasattr(self, "reward") else None
            return self.action(tokens[:, :-1]), reward, tokens[:, -1]


def pool_features(decoder: nn.Module, args: tuple[Tensor, Tensor], decoder_out: Tensor) -> Tensor:
    """Forward hook of ACT's decoder: append the mean of the encoder's tokens to its output.

    ACT hands nothing but the decoder's output (chunk, B, dim) to the heads; this way the features
    come along without any state, so that the network can be traced and used by several threads.
    """
    return torch.cat([decoder_out, args[1].mean(dim=0, keepdim=True)])


class HistoryBackbone(nn.Module):
    """One backbone over the n images of a camera's history, their features stacked by channel.

    The projection after it then sees what moved at each place, and the number of tokens stays
    that of one image.
    """

    def __init__(self, backbone: nn.Module, steps: int):
        super().__init__()
        self.backbone, self.steps = backbone, steps

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, n * 3, H, W), oldest first, to ``{"feature_map": (B, n * C, h, w)}``."""
        features = self.backbone(images.flatten(0, 1).unflatten(0, (-1, 3)))["feature_map"]
        return {"feature_map": features.unflatten(0, (-1, self.steps)).flatten(1, 2)}


class RewACT(ACT):
    """ACT's network with our backbones and heads."""

    def __init__(self, config: RewACTConfig, reward_outputs: int):
        # ACT builds torchvision ResNets only, so let it build everything but the cameras; and its
        # state is one vector, so a history of states is that many joints.
        steps = config.n_obs_steps
        blind = copy.copy(config)
        blind.input_features = {
            key: PolicyFeature(ft.type, (steps * ft.shape[0],)) if key == OBS_STATE else ft
            for key, ft in config.input_features.items()
            if ft.type is not FeatureType.VISUAL
        }
        super().__init__(blind)
        self.config = config
        if config.image_features:
            backbone, channels = build_backbone(config)
            self.backbone = HistoryBackbone(backbone, steps) if steps > 1 else backbone
            self.backbone.requires_grad_(not config.freeze_backbone)
            self.encoder_img_feat_input_proj = nn.Conv2d(
                steps * channels, config.dim_model, kernel_size=1
            )
            self.encoder_cam_feat_pos_embed = ACTSinusoidalPositionEmbedding2d(
                config.dim_model // 2
            )
        self.action_head = Heads(config, reward_outputs)
        self.decoder.register_forward_hook(pool_features)
        if config.state_skip:
            self.state_skip = nn.Linear(
                config.robot_state_feature.shape[0], config.action_feature.shape[0], bias=False
            )
            nn.init.eye_(self.state_skip.weight)

    def forward(
        self, batch: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, Tensor | None, Tensor], tuple[Tensor | None, Tensor | None]]:
        """Run ACT's forward; returns ``((actions, raw reward, features), (mu, log_sigma_x2))``."""
        (actions, reward, features), latent = super().forward(batch)
        if self.config.state_skip:
            with torch.autocast(actions.device.type, enabled=False):
                actions = actions + self.state_skip(batch[POSTURE].float()).unsqueeze(1)
        return (actions, reward, features), latent
