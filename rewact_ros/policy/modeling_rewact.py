"""RewACT: LeRobot's ACT whose first decoder token also predicts the reward (task progress)."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.configs.types import FeatureType
from lerobot.policies.act.modeling_act import (
    ACT,
    ACTPolicy,
    ACTSinusoidalPositionEmbedding2d,
    ACTTemporalEnsembler,
)
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE, REWARD
from torch import Tensor, nn

from .backbone import build_backbone
from .configuration_rewact import RewACTConfig
from .images import jitter_brightness, random_shift, resize_images

ACTION_IS_PAD = "action_is_pad"
TEACHES_ACTION = "teaches_action"
_POSTURE = "posture"  # the state as it is, where dropout may hide it from the encoder


class Heads(nn.Module):
    """Reads actions off every decoder token and the reward off the first one."""

    def __init__(self, dim: int, action_dim: int):
        super().__init__()
        self.action = nn.Linear(dim, action_dim)
        self.reward = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.ReLU(),
            nn.Linear(dim // 2, dim // 4),
            nn.ReLU(),
            nn.Linear(dim // 4, 1),
        )

    def forward(self, decoder_out: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, chunk, dim) tokens to actions (B, chunk, A) and reward (B,) in [0, 1].

        Always in float32: the outputs of a mixed-precision run must not be rounded to 8 bits.
        """
        with torch.autocast(decoder_out.device.type, enabled=False):
            decoder_out = decoder_out.float()
            reward = torch.sigmoid(self.reward(decoder_out[:, 0]))
            return self.action(decoder_out), reward.squeeze(-1)


class RewACT(ACT):
    """ACT's network with our backbones and heads."""

    def __init__(self, config: RewACTConfig):
        # ACT builds torchvision ResNets only, so let it build everything but the cameras.
        blind = copy.copy(config)
        blind.input_features = {
            key: ft
            for key, ft in config.input_features.items()
            if ft.type is not FeatureType.VISUAL
        }
        super().__init__(blind)
        self.config = config
        if config.image_features:
            self.backbone, channels = build_backbone(config)
            self.encoder_img_feat_input_proj = nn.Conv2d(channels, config.dim_model, kernel_size=1)
            self.encoder_cam_feat_pos_embed = ACTSinusoidalPositionEmbedding2d(
                config.dim_model // 2
            )
        self.action_head = Heads(config.dim_model, config.action_feature.shape[0])
        if config.state_skip:
            self.state_skip = nn.Linear(
                config.robot_state_feature.shape[0], config.action_feature.shape[0], bias=False
            )
            nn.init.eye_(self.state_skip.weight)

    def forward(self, batch: dict[str, Tensor]):
        """Run ACT's forward; returns ``((actions, reward), (mu, log_sigma_x2))``."""
        (actions, reward), latent = super().forward(batch)
        if self.config.state_skip:
            with torch.autocast(actions.device.type, enabled=False):
                actions = actions + self.state_skip(batch[_POSTURE].float()).unsqueeze(1)
        return (actions, reward), latent


class RewACTPolicy(ACTPolicy):
    """LeRobot policy of type ``rewact``. Batches are normalised by the pre-processor, except that
    images stay in [0, 1] (see ``RewACTConfig.normalization_mapping``)."""

    config_class = RewACTConfig
    name = "rewact"

    def __init__(self, config: RewACTConfig, **kwargs):
        super(ACTPolicy, self).__init__(config)  # past ACTPolicy, which would build plain ACT
        config.validate_features()
        self.config = config
        self.model = RewACT(config)
        self._images_are_unit = config.normalization_mapping["VISUAL"] is NormalizationMode.IDENTITY
        if config.temporal_ensemble_coeff is not None:
            self.temporal_ensembler = ACTTemporalEnsembler(
                config.temporal_ensemble_coeff, config.chunk_size
            )
        self.reset()

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path, *, config: RewACTConfig | None = None, **kwargs
    ):
        """Load as LeRobot does, never fetching backbone weights that the checkpoint replaces."""
        if config is None:
            config = PreTrainedConfig.from_pretrained(pretrained_name_or_path)
        config = copy.copy(config)
        config.pretrained_backbone_weights = None
        return super().from_pretrained(pretrained_name_or_path, config=config, **kwargs)

    # -- inference ---------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Predict from the observation in ``batch``.

        Args:
            batch: normalised; ``observation.state`` (B, S), each camera (B, 3, H, W) float.

        Returns:
            normalised actions (B, chunk, A) and reward (B,) in [0, 1].
        """
        self.eval()
        return self.model(self._model_inputs(batch))[0]

    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs) -> Tensor:
        """Predict normalised actions (B, chunk, A), as LeRobot's tools expect."""
        return self.predict(batch)[0]

    @torch.no_grad()
    def select_action(
        self, batch: dict[str, Tensor], returns_reward: bool = False, **kwargs
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the next action (B, A), from the queue or the temporal ensemble as ACT does.

        With ``returns_reward`` the network runs on *this* observation in every call, also while
        actions are queued, and the result is ``(action, reward (B,))``; a reward is never carried
        over from an earlier observation.
        """
        queue_serves = self.config.temporal_ensemble_coeff is None and len(self._action_queue) > 0
        if queue_serves and not returns_reward:
            return self._action_queue.popleft()
        actions, reward = self.predict(batch)
        if self.config.temporal_ensemble_coeff is not None:
            action = self.temporal_ensembler.update(actions)
        else:
            if not queue_serves:
                self._action_queue.extend(actions[:, : self.config.n_action_steps].transpose(0, 1))
            action = self._action_queue.popleft()
        return (action, reward) if returns_reward else action

    # -- training ----------------------------------------------------------------------------

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Compute ``l1 + reward_loss_weight * reward_mse + kl_weight * KL``.

        Args:
            batch: as for ``predict``, plus ``action`` (B, chunk, A) normalised, ``next.reward``
                (B,) or (B, 1) in [0, 1] with NaN for unknown, and where they apply
                ``action_is_pad`` (B, chunk) bool (absent: no step is padding) and
                ``teaches_action`` (B,) or (B, 1) bool (absent: every frame teaches).

        Raises:
            KeyError: no reward label in the batch.
        """
        is_pad = _action_is_pad(batch)
        label = _reward_label(batch)
        inputs = {**self._model_inputs(batch), ACTION_IS_PAD: is_pad}
        (actions, reward), (mu, log_sigma_x2) = self.model(inputs)

        valid = ~is_pad.unsqueeze(-1)
        error = F.l1_loss(batch[ACTION], actions, reduction="none") * valid
        l1 = error.sum() / (valid.sum() * error.shape[-1]).clamp_min(1)

        known = ~label.isnan()
        squared = (reward - label.nan_to_num()).square() * known
        reward_loss = squared.sum() / known.sum().clamp_min(1)

        loss = l1 + self.config.reward_loss_weight * reward_loss
        logs = {"l1_loss": l1.item(), "reward_loss": reward_loss.item()}
        if mu is not None:
            # KL to a standard normal: sum over the latent, mean over the batch (arXiv:1312.6114 B).
            kl = (-0.5 * (1 + log_sigma_x2 - mu.square() - log_sigma_x2.exp())).sum(-1).mean()
            loss = loss + self.config.kl_weight * kl
            logs["kld_loss"] = kl.item()
        return loss, logs

    def _model_inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the camera list that ACT's forward takes, resized, and in training augmented."""
        config = self.config
        inputs = dict(batch)
        if config.image_features:
            inputs[OBS_IMAGES] = [self._prepare(batch[key]) for key in config.image_features]
        if config.robot_state_feature is None and config.image_features:
            # ACT asks this tensor for its device even where no state is an input.
            inputs[OBS_STATE] = inputs[OBS_IMAGES][0].new_zeros(0)
        elif config.robot_state_feature is not None:
            inputs[_POSTURE] = batch[OBS_STATE]
        if self.training and config.robot_state_feature is not None:
            inputs[OBS_STATE] = self._augment_state(batch[OBS_STATE])
        return inputs

    def _prepare(self, images: Tensor) -> Tensor:
        config = self.config
        images = resize_images(images, config.image_size, round_to_8_bits=self._images_are_unit)
        if self.training and config.random_shift_px:
            images = random_shift(images, config.random_shift_px)
        if self.training and config.brightness_jitter:
            images = jitter_brightness(images, config.brightness_jitter)
        return (images - 0.5) / 0.25 if self._images_are_unit else images

    def _augment_state(self, state: Tensor) -> Tensor:
        config = self.config
        if config.state_noise_std:
            state = state + config.state_noise_std * torch.randn_like(state)
        if config.state_dropout:
            state = state * (torch.rand(len(state), 1, device=state.device) >= config.state_dropout)
        return state


def _action_is_pad(batch: dict[str, Tensor]) -> Tensor:
    """Mask (B, chunk) of action steps that teach nothing: padding and frames of failed episodes."""
    is_pad = batch.get(ACTION_IS_PAD)
    if is_pad is None:
        is_pad = torch.zeros(batch[ACTION].shape[:2], dtype=torch.bool, device=batch[ACTION].device)
    teaches = batch.get(TEACHES_ACTION)
    return is_pad if teaches is None else is_pad | ~teaches.reshape(-1, 1).bool()


def _reward_label(batch: dict[str, Tensor]) -> Tensor:
    """Labels (B,); LeRobot's processors put a plain 0.0 where a dataset has no such column."""
    label, size = batch.get(REWARD), len(batch[ACTION])
    if not isinstance(label, Tensor) or label.numel() != size:
        got = tuple(label.shape) if isinstance(label, Tensor) else label
        raise KeyError(
            f"{REWARD}: expected a label per frame, shape ({size},) or ({size}, 1), got {got}; "
            "label the dataset (column next.reward, NaN for unknown), or train with --progress-ramp"
        )
    return label.reshape(size).float()
