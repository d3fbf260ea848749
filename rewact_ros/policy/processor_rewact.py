"""RewACT's pre- and post-processor: LeRobot's default pipelines, found by this function's name."""

from typing import Any

import torch
from lerobot.processor import (
    PolicyAction,
    PolicyProcessorPipeline,
    make_default_pre_post_processors,
)

from .configuration_rewact import RewACTConfig


def make_rewact_pre_post_processors(
    config: RewACTConfig,
    dataset_stats: dict[str, dict[str, torch.Tensor]] | None = None,
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """Build the pipelines: rename, batch, device, normalise; and unnormalise, to CPU.

    Of the keys beside observation and action, LeRobot's pipeline passes ``next.reward`` and those
    with ``_is_pad``, hence the name of ``demo_is_pad``.
    """
    return make_default_pre_post_processors(config, dataset_stats, normalizer_device=config.device)
