"""Settings of a RewACT policy: ACT's own, plus reward head, backbone, image size, augmentation."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig

SMALL_CNN = "small_cnn"


@PreTrainedConfig.register_subclass("rewact")
@dataclass
class RewACTConfig(ACTConfig):
    """ACT's configuration (see LeRobot's ``ACTConfig``) with these additions or other defaults.

    Args:
        reward_loss_weight: Weight of the reward term in ``l1 + weight * reward + kl_weight * KL``.
        vision_backbone: ``small_cnn`` (five convolutions, stride 16) or a torchvision ResNet.
        pretrained_backbone_weights: torchvision weights that already lie in torch's cache; nothing
            is ever downloaded. None: random initialisation.
        image_size: (height, width) in pixels that every camera is resized to inside the policy,
            None: as it comes.
        normalization_mapping: images default to IDENTITY: the model takes [0, 1] and centres them
            itself, so that resizing can round to 8 bits exactly as the training cache stores them.
        state_skip: Add a learned linear map of the state (at first the identity) to every action
            of the chunk, so that the network learns the change from the present posture. For state
            and action of the same joints, where postures vary more than motions.
        random_shift_px: Largest shift of each training image, in pixels of ``image_size``.
        brightness_jitter: Largest relative change of brightness of a training image.
        state_noise_std: Gaussian noise on the normalised state in training.
        state_dropout: Probability that a training sample's state is hidden (set to its mean), so
            that the heads cannot lean on proprioception alone.

    Raises:
        ValueError: unknown backbone, bad image size, weights outside their range; and what
            ``ACTConfig`` raises.
    """

    chunk_size: int = 20
    n_action_steps: int = 20

    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MEAN_STD,
        }
    )

    vision_backbone: str = SMALL_CNN
    pretrained_backbone_weights: str | None = None
    image_size: tuple[int, int] | None = None

    dim_model: int = 128
    n_heads: int = 4
    dim_feedforward: int = 512
    n_encoder_layers: int = 2
    n_decoder_layers: int = 2
    use_vae: bool = False

    reward_loss_weight: float = 2.0
    state_skip: bool = False

    random_shift_px: int = 0
    brightness_jitter: float = 0.0
    state_noise_std: float = 0.0
    state_dropout: float = 0.0

    optimizer_lr: float = 3e-4
    optimizer_lr_backbone: float = 3e-4

    push_to_hub: bool = False

    def __post_init__(self):
        backbone = self.vision_backbone
        if backbone == SMALL_CNN:
            self.vision_backbone = "resnet18"  # ACTConfig admits ResNets only; put back below
        super().__post_init__()
        self.vision_backbone = backbone

        if self.image_size is not None:
            self.image_size = tuple(self.image_size)
            if len(self.image_size) != 2 or min(self.image_size) < 16:
                raise ValueError(
                    f"image_size: expected (height, width) of at least 16 px, got {self.image_size}"
                )
        for name in (
            "reward_loss_weight",
            "random_shift_px",
            "brightness_jitter",
            "state_noise_std",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected >= 0, got {getattr(self, name)}")
        if not 0 <= self.state_dropout < 1:
            raise ValueError(f"state_dropout: expected 0 <= p < 1, got {self.state_dropout}")

    def validate_features(self) -> None:
        """Check the features as ACT does, and that a skip from the state has a state."""
        super().validate_features()
        if self.state_skip and self.robot_state_feature is None:
            raise ValueError(
                "state_skip: needs observation.state among the inputs; set it to false"
            )
