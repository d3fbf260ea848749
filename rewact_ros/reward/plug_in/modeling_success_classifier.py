"""The success classifier as a reward model of LeRobot."""

from pathlib import Path
from typing import Any, Self

import torch
from lerobot.configs.rewards import RewardModelConfig
from lerobot.rewards.pretrained import PreTrainedRewardModel
from torch import Tensor

from rewact_ros.policy.checkpoint import export_policy
from rewact_ros.policy.images import resize_images
from rewact_ros.reward.classifier import LoadedClassifier
from rewact_ros.reward.classifier_checkpoint import load_classifier

from .configuration_success_classifier import SuccessClassifierConfig
from .modeling_rewact import folder_of


class SuccessClassifierRewardModel(PreTrainedRewardModel):
    """Calibrated probability of success, from pictures of any size.

    Args:
        config: of the checkpoint.
        loaded: that checkpoint; `rewact train-classifier` makes one.
    """

    name, config_class = "success_classifier", SuccessClassifierConfig

    def __init__(
        self,
        config: SuccessClassifierConfig,
        loaded: LoadedClassifier | None = None,
        **ignored: Any,
    ) -> None:
        super().__init__(config)
        if loaded is None:
            raise ValueError(
                "success_classifier: expected a checkpoint (pretrained_path), got none; train one "
                "by `rewact train-classifier`"
            )
        self._path, self.model = loaded.path, loaded.model

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: SuccessClassifierConfig | None = None,
        **named: Any,
    ) -> Self:
        """Open a checkpoint, checked as ``load_classifier`` does.

        Args:
            pretrained_name_or_path: folder, or repository of the Hub.
            config: says the device; None: that which LeRobot chooses.
            named: as LeRobot's; ``revision`` of a repository.

        Raises:
            CheckpointError, ClassifierError: it is none, or is damaged.
        """
        folder = folder_of(pretrained_name_or_path, named)
        if config is None:
            config = RewardModelConfig.from_pretrained(folder)
        return cls(config, load_classifier(folder, config.device or "auto")).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the checkpoint that it is of."""
        export_policy(self._path, save_directory)

    @torch.no_grad()
    def compute_reward(self, batch: dict[str, Tensor]) -> Tensor:
        """Probability (B,) of success; each camera (B, 3, H, W) in [0, 1]."""
        size = self.model.config.image_size
        pictures = [
            resize_images(batch[camera], size, round_to_8_bits=True)
            for camera in self.model.config.cameras
        ]
        return self.model.predict(torch.stack(pictures, dim=1))
