"""What is peculiar to LeRobot's own reward models: their table. Those of plug-ins need no row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

CLIP = "openai/clip-vit-base-patch32"  # in lerobot.rewards.sarm.processor_sarm


@dataclass(frozen=True)
class RewardType:
    """A type of reward model.

    Attributes:
        told: reads the task's text, where its configuration has no `default_task`.
        nominal: the shapes in its configuration are placeholders; it takes pictures of any size.
        spread: sees `max_frames` pictures of the whole episode so far, evenly spread.
        weightless: its checkpoint is a configuration alone.
        hub: field of its configuration that names the model of the Hub it is built on, or that
            name itself; "": there is none.
        extra: of LeRobot, which brings its packages.
        fault: of a configuration: why it cannot judge; "": it can.
        score: (model, batch) -> (B,), progress or probability in [0, 1].
    """

    told: bool = False
    nominal: bool = False
    spread: bool = False
    weightless: bool = False
    hub: str = ""
    extra: str = ""
    fault: Callable[[Any], str] = lambda config: ""
    score: Callable[[Any, dict[str, Any]], Tensor] = lambda model, batch: model.compute_reward(
        batch
    )


def _two_classes(config: Any) -> str:
    if config.num_classes == 2:
        return ""
    return f"num_classes: expected 2, success or not, got {config.num_classes}"


def _probability(model: Any, batch: dict[str, Any]) -> Tensor:
    """Of success; `compute_reward` would say yes or no from 0.5 on."""
    cameras = [key for key in model.config.input_features if key.startswith("observation.image")]
    return model.predict([batch[key] for key in cameras]).probabilities


def _truth(model: Any, batch: dict[str, Any]) -> Tensor:
    """Probability of the answer True, whose logarithm the model gives; a vote stays one."""
    reward = model.compute_reward(batch)
    return reward if math.isfinite(model.config.success_threshold) else reward.exp()


TYPES: dict[str, RewardType] = {
    "reward_classifier": RewardType(
        hub="model_name", extra="transformers-dep", fault=_two_classes, score=_probability
    ),
    # Its window reaches into the future, of which nothing is known live: the present stands in, as
    # at the end of an episode in LeRobot's data sets.
    "sarm": RewardType(told=True, nominal=True, hub=CLIP, extra="sarm"),
    "robometer": RewardType(
        told=True, nominal=True, spread=True, hub="base_model_id", extra="robometer"
    ),
    "topreward": RewardType(
        told=True,
        nominal=True,
        spread=True,
        weightless=True,
        hub="vlm_name",
        extra="topreward",
        score=_truth,
    ),
}
PLUG_IN = RewardType()
