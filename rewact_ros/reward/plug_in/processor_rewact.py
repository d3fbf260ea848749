"""Processors of a RewACT reward model: those of its checkpoint."""

from typing import Any

from lerobot.processor import PolicyProcessorPipeline

from rewact_ros.policy.checkpoint import load_policy
from rewact_ros.policy.processor_rewact import make_rewact_pre_post_processors as make

from .configuration_rewact import RewACTHeadConfig


def make_rewact_pre_post_processors(
    config: RewACTHeadConfig, dataset_stats: dict[str, Any] | None = None
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """The checkpoint's own preprocessor, and a postprocessor that leaves a reward as it is.

    Args:
        config: its ``pretrained_path`` names the checkpoint, whose statistics go before others.
        dataset_stats: for a configuration without one.
    """
    path = config.pretrained_path
    if path:
        return load_policy(path, config.device or "auto").preprocessor, _as_it_is()
    return make(config, dataset_stats)[0], _as_it_is()


def _as_it_is() -> PolicyProcessorPipeline:
    return PolicyProcessorPipeline(steps=[], name="policy_postprocessor")
