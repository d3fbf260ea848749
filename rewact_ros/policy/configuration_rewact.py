"""Settings of a RewACT policy: ACT's own, plus reward head, backbone, image size, augmentation."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig

from .representations import Representation

SMALL_CNN = "small_cnn"


@PreTrainedConfig.register_subclass("rewact")
@dataclass
class RewACTConfig(ACTConfig):
    """ACT's configuration (see LeRobot's ``ACTConfig``) with these additions or other defaults.

    Args:
        reward_head: ``sigmoid`` (squared error), ``distributional`` (bins over
            [value_min, value_max], cross-entropy; gives quantiles and entropy) or ``none`` (ACT).
        reward_reads: ``token`` (ACT's first decoder token, as in RewACT) or ``images`` (small
            networks of its own on the cameras alone, see ``reward_eyes``).
        reward_loss_weight: Weight of the reward term in ``l1 + weight * reward + kl_weight * KL``;
            None: 2.0 for the squared error, 0.1 for the cross-entropy.
        num_value_bins: Bins of the distribution; the first and last centre are the range's ends.
        value_min, value_max: Range of labels and predictions.
        reward_target: ``two_hot`` or ``gaussian``: how a label becomes a distribution.
        reward_target_std_bins: Standard deviation of the Gaussian target, in bins.
        action_parts: Named slices of the action in its order, such as ``{arm: 14, hand: 12}``, each
            with its own linear head and loss line; None: one head.
        action_part_weights: Weight of a part's dimensions in the action loss, 1.0 where not named.
        action_representation: What the action's numbers are; None: the robot's own action.
        n_obs_steps: Observations the policy sees, one step of the dataset's rate apart.
        freeze_backbone: Keep the image backbone as it is in training.
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

    ``n_encoder_layers`` may be 0: the decoder then reads the input tokens themselves.

    Raises:
        ValueError: unknown backbone or head, bad image size, weights outside their range, parts
            that do not add up; and what ``ACTConfig`` raises.
    """

    n_obs_steps: int = 1
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

    reward_head: str = "sigmoid"
    reward_reads: str = "token"
    reward_loss_weight: float | None = None
    num_value_bins: int = 100
    value_min: float = 0.0
    value_max: float = 1.0
    reward_target: str = "two_hot"
    reward_target_std_bins: float = 0.75

    action_parts: dict[str, int] | None = None
    action_part_weights: dict[str, float] | None = None

    action_representation: Representation | None = None

    freeze_backbone: bool = False
    state_skip: bool = False

    random_shift_px: int = 0
    brightness_jitter: float = 0.0
    state_noise_std: float = 0.0
    state_dropout: float = 0.0

    optimizer_lr: float = 3e-4
    optimizer_lr_backbone: float = 3e-4

    push_to_hub: bool = False

    def __post_init__(self) -> None:
        backbone, steps = self.vision_backbone, self.n_obs_steps
        if backbone == SMALL_CNN:
            self.vision_backbone = "resnet18"  # ACTConfig admits ResNets only; put back below
        self.n_obs_steps = 1  # likewise
        super().__post_init__()
        self.vision_backbone, self.n_obs_steps = backbone, steps

        if self.image_size is not None:
            size: tuple[int, ...] = tuple(self.image_size)  # JSON has a list, of any length
            if len(size) != 2 or min(size) < 16:
                raise ValueError(
                    f"image_size: expected (height, width) of at least 16 px, got {size}"
                )
            self.image_size = size[0], size[1]
        for name, choices in (
            ("reward_head", ("sigmoid", "distributional", "none")),
            ("reward_reads", ("token", "images")),
            ("reward_target", ("two_hot", "gaussian")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        if self.reward_loss_weight is None:
            self.reward_loss_weight = 0.1 if self.reward_head == "distributional" else 2.0
        for name in (
            "reward_loss_weight",
            "random_shift_px",
            "brightness_jitter",
            "state_noise_std",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected >= 0, got {getattr(self, name)}")
        for name, least in (("num_value_bins", 2), ("n_obs_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.value_min < self.value_max:
            raise ValueError(
                f"value_min, value_max: expected min < max, got {self.value_min}, {self.value_max}"
            )
        if not self.reward_target_std_bins > 0:
            raise ValueError(
                f"reward_target_std_bins: expected more than 0, got {self.reward_target_std_bins}"
            )
        if not 0 <= self.state_dropout < 1:
            raise ValueError(f"state_dropout: expected 0 <= p < 1, got {self.state_dropout}")
        self._check_parts()

    def _check_parts(self) -> None:
        parts, weights = self.action_parts or {}, self.action_part_weights or {}
        if any(size < 1 for size in parts.values()):
            raise ValueError(f"action_parts: expected sizes of at least 1, got {parts}")
        unknown = sorted(weights.keys() - parts.keys())
        if unknown:
            raise ValueError(
                f"action_part_weights: {unknown} are no action_parts; those are {sorted(parts)}"
            )
        if any(weight < 0 for weight in weights.values()) or (
            parts and not any(weights.get(name, 1.0) > 0 for name in parts)
        ):
            raise ValueError(
                f"action_part_weights: expected >= 0 and one part above 0, got {weights}"
            )

    def validate_features(self) -> None:
        """Check the features as ACT does, that skip and history have a state, and the parts.

        Unlike ACT, the state alone will do: some robots have no camera.
        """
        if self.robot_state_feature is None:
            super().validate_features()
        if self.state_skip and self.robot_state_feature is None:
            raise ValueError(
                "state_skip: needs observation.state among the inputs; set it to false"
            )
        if self.state_skip and self.action_representation is not None:
            raise ValueError(
                f"state_skip: adds joints to joints, and the action is {self.action_representation}"
                "; set it to false"
            )
        if self.reward_reads == "images" and self.reward_head != "none" and not self.image_features:
            raise ValueError(
                "reward_reads: images needs a camera among the inputs; set it to token"
            )
        if self.n_obs_steps > 1 and self.env_state_feature is not None:
            raise ValueError(
                "n_obs_steps: a history of observation.environment_state is not supported; "
                "use observation.state, or 1"
            )
        width, named = self.action_feature.shape[0], self.action_representation
        if named is not None and len(named.names) != width:
            raise ValueError(
                f"action_representation.names: expected the action's {width}, got {named.names}"
            )
        if self.action_parts and sum(self.action_parts.values()) != width:
            raise ValueError(
                f"action_parts: expected sizes that add up to the action's {width}, "
                f"got {self.action_parts}"
            )

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """Frames of an observation relative to the present one, for LeRobot's datasets."""
        return list(range(1 - self.n_obs_steps, 1)) if self.n_obs_steps > 1 else None
