"""Pixels on their way into the model: floats, one resize for robot and cache, augmentation."""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor


def unit_images(images: Tensor) -> Tensor:
    """(..., H, W, C) uint8 as (..., C, H, W) float32 in [0, 1], as LeRobot's policies take them."""
    return images.movedim(-1, -3).to(torch.float32, copy=True).div_(255)


def resize_images(images: Tensor, size: tuple[int, int] | None, round_to_8_bits: bool) -> Tensor:
    """Resize by antialiased bilinear interpolation; the same function fills the frame cache.

    Args:
        images: (B, C, H, W) float, in [0, 1] where ``round_to_8_bits`` is set.
        size: (height, width) in pixels, None for as is.
        round_to_8_bits: round to multiples of 1/255, so that a frame resized on the robot equals
            the uint8 frame that the training cache holds.

    Returns:
        (B, C, height, width) float.
    """
    if size is None or tuple(images.shape[-2:]) == tuple(size):
        return images
    resized = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
    return (resized * 255).round() / 255 if round_to_8_bits else resized


def resize_frames(images: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Resize (B, H, W, 3) uint8 exactly as the policy resizes them; as is where they fit."""
    if size is None or images.shape[1:3] == tuple(size):
        return images
    unit = unit_images(torch.from_numpy(images))
    resized = resize_images(unit, size, round_to_8_bits=True)
    return (resized * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def random_shift(images: Tensor, max_px: int) -> Tensor:
    """Shift each image by up to ``max_px`` pixels, repeating the border (DrQ, arXiv:2004.13649).

    Args:
        images: (B, C, H, W).
        max_px: largest shift along each axis, pixels.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (max_px,) * 4, mode="replicate")
    offsets = torch.randint(0, 2 * max_px + 1, (len(images), 2)).tolist()
    return torch.stack(
        [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, offsets, strict=True)]
    )


def jitter_brightness(images: Tensor, amount: float) -> Tensor:
    """Scale each image (B, C, H, W) by one random factor in [1 - amount, 1 + amount]."""
    factor = 1 + amount * (2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1)
    return images * factor
