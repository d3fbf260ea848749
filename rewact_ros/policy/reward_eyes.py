"""Eyes of the reward's own, for which the transformer's tokens are no substitute.

The decoder's token follows the arm, which fills the picture and tells the time in every
demonstration; an object of a few pixels hardly moves it. These networks read the cameras alone and
keep of each channel its strongest response anywhere, so that a small object counts as much as a
large one. The reward then depends on nothing that acts: actions can be trained on without it.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from .configuration_rewact import RewACTConfig

# Width and stride of the convolutions: a fifth of the work of ``SmallCNN`` and its token's size.
_LAYERS = ((16, 2), (32, 2), (32, 1), (64, 2), (64, 2), (64, 1))
_GROUPS, _HIDDEN = 8, (128, 64)


class _Eye(nn.Module):
    """One camera's pictures (B, n * 3, H, W) to what is in them anywhere (B, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, (width, stride) in enumerate(_LAYERS):
            kernel = 5 if index == 0 else 3
            layers += [
                nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False),
                nn.GroupNorm(_GROUPS, width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        seen: Tensor = self.layers(images)
        return seen.amax(dim=(-2, -1))


class RewardEyes(nn.Module):
    """Raw reward from the cameras alone; no state and no token of the policy's.

    Args:
        config: of the policy, for its cameras and observations.
        outputs: K, raw outputs of the reward.
    """

    def __init__(self, config: RewACTConfig, outputs: int) -> None:
        super().__init__()
        cameras = config.image_features
        self.eyes = nn.ModuleList(
            _Eye(config.n_obs_steps * feature.shape[0]) for feature in cameras.values()
        )
        widths = (len(cameras) * _LAYERS[-1][0], *_HIDDEN)
        head: list[nn.Module] = []
        for inputs, width in pairwise(widths):
            head += [nn.Linear(inputs, width), nn.ReLU()]
        self.head = nn.Sequential(*head, nn.Linear(widths[-1], outputs))

    def forward(self, images: list[Tensor]) -> Tensor:
        """Map the cameras' pictures, (B, n * 3, H, W) each as the backbone takes them, to (B, K).

        Always in float32, as the other heads.
        """
        with torch.autocast(images[0].device.type, enabled=False):
            seen = [eye(image.float()) for eye, image in zip(self.eyes, images, strict=True)]
            raw: Tensor = self.head(torch.cat(seen, dim=-1))
        return raw
