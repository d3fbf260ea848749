"""Processors of the success classifier: it takes pictures as LeRobot's data sets give them."""

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    PolicyProcessorPipeline,
)

from .configuration_success_classifier import SuccessClassifierConfig


def make_success_classifier_pre_post_processors(
    config: SuccessClassifierConfig, dataset_stats: dict[str, Any] | None = None
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """To a batch on its device; the classifier normalises by itself."""
    steps = [AddBatchDimensionProcessorStep(), DeviceProcessorStep(device=config.device or "cpu")]
    return (
        PolicyProcessorPipeline(steps=steps, name="policy_preprocessor"),
        PolicyProcessorPipeline(steps=[], name="policy_postprocessor"),
    )
