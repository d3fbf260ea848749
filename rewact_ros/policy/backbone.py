"""Image backbones: a small CNN that suits a CPU, or torchvision's ResNets; no downloads."""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops.misc import FrozenBatchNorm2d

from .configuration_rewact import SMALL_CNN, RewACTConfig

# A checkpoint or a setting names one of these; no other name is looked up anywhere.
BACKBONES = (SMALL_CNN, "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SMALL_CNN_CHANNELS = (32, 64, 96, 128, 128)
SMALL_CNN_STRIDES = (2, 2, 2, 2, 1)


class SmallCNN(nn.Module):
    """Five convolutions with GroupNorm and ReLU, total stride 16 (96x96 px become 6x6 tokens).

    GroupNorm, because it treats a batch of one as a batch of many.
    """

    out_channels = SMALL_CNN_CHANNELS[-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for index, (width, stride) in enumerate(
            zip(SMALL_CNN_CHANNELS, SMALL_CNN_STRIDES, strict=True)
        ):
            kernel = 5 if index == 0 else 3
            layers += [
                nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False),
                nn.GroupNorm(8, width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map (B, 3, H, W) images to ``{"feature_map": (B, 128, H/16, W/16)}``."""
        return {"feature_map": self.layers(images)}


def build_backbone(config: RewACTConfig) -> tuple[nn.Module, int]:
    """Build the configured backbone.

    Returns:
        the module, which maps images to ``{"feature_map": (B, C, h, w)}`` (as ACT expects), and C.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: pretrained weights asked for that are not in torch's cache.
    """
    if config.vision_backbone == SMALL_CNN:
        return SmallCNN(), SmallCNN.out_channels
    if config.vision_backbone not in BACKBONES:
        raise ValueError(
            f"vision_backbone: expected one of {', '.join(BACKBONES)}, got "
            f"{config.vision_backbone!r}"
        )
    build = getattr(torchvision.models, config.vision_backbone)
    _require_cached(config.pretrained_backbone_weights)
    resnet = build(
        replace_stride_with_dilation=[
            False,
            False,
            bool(config.replace_final_stride_with_dilation),
        ],
        weights=config.pretrained_backbone_weights,
        norm_layer=FrozenBatchNorm2d,
    )
    backbone = IntermediateLayerGetter(resnet, return_layers={"layer4": "feature_map"})
    return backbone, resnet.fc.in_features


def _require_cached(weights: str | None) -> None:
    """Raise unless the named torchvision weights lie in torch's cache already."""
    if weights is None:
        return
    url = torchvision.models.get_weight(weights).url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not file.exists():
        raise FileNotFoundError(
            f"pretrained_backbone_weights {weights}: {file} is missing and nothing is downloaded "
            f"here; put the file from {url} there, or set "
            "pretrained_backbone_weights to null"
        )
