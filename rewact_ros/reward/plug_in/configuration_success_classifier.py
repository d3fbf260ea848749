"""`success_classifier` in LeRobot's register of reward models."""

from dataclasses import dataclass, field

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.rewards import RewardModelConfig


@RewardModelConfig.register_subclass("success_classifier")
@dataclass
class SuccessClassifierConfig(RewardModelConfig):
    """The settings of a checkpoint that `rewact train-classifier` wrote."""

    cameras: list[str] = field(default_factory=list)
    arch: str = "resnet18"
    image_size: tuple[int, int] = (128, 128)
    hidden_dim: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for camera in self.cameras:
            shape = (3, *self.image_size)
            self.input_features.setdefault(camera, PolicyFeature(FeatureType.VISUAL, shape))
