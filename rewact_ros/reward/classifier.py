"""Success classifier: camera images → probability that the task is done.

The second reward model beside RewACT's progress, in the manner of RLinf's embodied reward models
and HIL-SERL's reward classifier: one frame at a time, no policy behind it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from rewact_ros.policy.backbone import SmallCNN
from rewact_ros.policy.images import resize_images, unit_images

MAX_CAMERAS, MAX_PX, MAX_HIDDEN_DIM = 16, 4096, 16_384
ARCHITECTURES = ("small_cnn", "resnet18", "resnet34")


class ClassifierError(ValueError):
    """A classifier that cannot be built, saved, opened or used; the message says why."""


@dataclass(frozen=True)
class RewardModelConfig:
    """What a `ResNetRewardModel` is built from; saved as config.json and in the weights file.

    Attributes:
        cameras: keys such as `observation.images.front`; their features are put side by side.
        arch: `small_cnn` (five convolutions, for a CPU), `resnet18` or `resnet34`.
        image_size: (height, width) px that every image is resized to.
        hidden_dim: width of the layer between features and logit.
        dropout: before the logit, in training.

    Raises:
        ClassifierError: a setting out of its range.
    """

    cameras: tuple[str, ...]
    arch: str = "resnet18"
    image_size: tuple[int, int] = (128, 128)
    hidden_dim: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges; lists, as JSON has them, become tuples."""
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "image_size", tuple(self.image_size))
        named = all(isinstance(camera, str) for camera in self.cameras)
        if not named or not 1 <= len(set(self.cameras)) == len(self.cameras) <= MAX_CAMERAS:
            raise ClassifierError(
                f"cameras: expected 1 to {MAX_CAMERAS} names, each once, got "
                f"{str(list(self.cameras))[:120]}"
            )
        if self.arch not in ARCHITECTURES:
            raise ClassifierError(
                f"arch: expected one of {', '.join(ARCHITECTURES)}, got {self.arch!r}"
            )
        sides = [side for side in self.image_size if type(side) is int and 16 <= side <= MAX_PX]
        if len(self.image_size) != 2 or len(sides) != 2:
            raise ClassifierError(
                f"image_size: expected (height, width) of 16 to {MAX_PX} px, got "
                f"{str(self.image_size)[:80]}"
            )
        if type(self.hidden_dim) is not int or not 1 <= self.hidden_dim <= MAX_HIDDEN_DIM:
            raise ClassifierError(
                f"hidden_dim: expected 1 to {MAX_HIDDEN_DIM}, got {str(self.hidden_dim)[:40]}"
            )
        if not 0 <= self.dropout < 1:
            raise ClassifierError(f"dropout: expected 0 <= x < 1, got {self.dropout}")


class ResNetRewardModel(nn.Module):
    """One backbone for all cameras, mean over the picture, one hidden layer, one logit.

    GroupNorm instead of BatchNorm: it treats a batch of one as a batch of many, and several
    processes need not share running statistics. Weights start at random; nothing is downloaded.
    """

    temperature: Tensor
    offset: Tensor

    def __init__(self, config: RewardModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone, channels = _build_backbone(config.arch)
        self.head = nn.Sequential(
            nn.Linear(channels * len(config.cameras), config.hidden_dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden_dim, 1),
        )
        # Fitted on held-out frames after training (Platt 1999; Guo et al. 2017).
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """Map images to uncalibrated logits.

        Args:
            images: (B, cameras, 3, H, W) in [0, 1], of the configured size and camera order.

        Returns:
            (B,).

        Raises:
            ClassifierError: another number of cameras or another size.
        """
        config = self.config
        expected = (len(config.cameras), 3, *config.image_size)
        if tuple(images.shape[1:]) != expected:
            raise ClassifierError(
                f"images: expected (B, {', '.join(map(str, expected))}) as cameras and image_size "
                f"say, got {tuple(images.shape)}"
            )
        flat = (images.flatten(0, 1) - 0.5) / 0.25
        features = self.backbone(flat)
        if isinstance(features, dict):
            features = features["feature_map"].mean((-2, -1))
        return self.head(features.unflatten(0, images.shape[:2]).flatten(1))[:, 0]

    def calibrated(self, logits: Tensor) -> Tensor:
        """Map logits (B,) to probabilities (B,) by the fitted temperature and offset."""
        return torch.sigmoid(logits / self.temperature + self.offset)

    def predict(self, images: Tensor) -> Tensor:
        """Map images, as for `forward`, to calibrated success probabilities (B,)."""
        return self.calibrated(self(images))


def _build_backbone(arch: str) -> tuple[nn.Module, int]:
    if arch == "small_cnn":
        return SmallCNN(), SmallCNN.out_channels
    build = getattr(torchvision.models, arch)
    resnet = build(weights=None, norm_layer=lambda channels: nn.GroupNorm(32, channels))
    channels = resnet.fc.in_features
    resnet.fc = nn.Identity()
    return resnet, channels


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier ready to run.

    Attributes:
        model: in eval mode on its device.
        version: first 12 hexadecimal digits of the SHA-256 of the weights file.
        path: the checkpoint's folder.
    """

    model: ResNetRewardModel
    version: str
    path: Path

    @property
    def config(self) -> RewardModelConfig:
        """What it was built from."""
        return self.model.config

    @torch.inference_mode()
    def probability(self, images: Mapping[str, NDArray[Any]]) -> float:
        """Success probability of one observation.

        Args:
            images: camera key → (H, W, 3) uint8 RGB of any size; further entries are ignored.

        Raises:
            ClassifierError: a camera is missing, or the result is not a number.
        """
        missing = [camera for camera in self.config.cameras if camera not in images]
        if missing:
            raise ClassifierError(
                f"images: {missing[0]} is missing; the classifier was trained on "
                f"{', '.join(self.config.cameras)}"
            )
        device = self.model.temperature.device
        pictures = [
            resize_images(
                unit_images(torch.from_numpy(np.ascontiguousarray(images[camera])).to(device))[
                    None
                ],
                self.config.image_size,
                round_to_8_bits=True,
            )
            for camera in self.config.cameras
        ]
        value = float(self.model.predict(torch.stack(pictures, 1)))
        if not math.isfinite(value):
            raise ClassifierError(f"{self.path}: the classifier answers {value}; train it again")
        return value
