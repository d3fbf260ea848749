"""RewACT as a LeRobot policy: prediction, history, losses and masks."""

import copy
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy, ACTTemporalEnsembler
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE, REWARD
from torch import Tensor, nn

from .configuration_rewact import RewACTConfig
from .history import ObservationHistory
from .images import jitter_brightness, random_shift, resize_images
from .network import POSTURE, RewACT
from .policy import Estimate
from .reward_eyes import RewardEyes
from .reward_head import build_reward

ACTION_IS_PAD = "action_is_pad"
DEMO_IS_PAD = "demo_is_pad"
LABEL_SLACK = 1e-4  # of rounding, beyond the range of labels


class RewACTPolicy(ACTPolicy):
    """LeRobot policy of type ``rewact``. Batches are normalised by the pre-processor, except that
    images stay in [0, 1] (see ``RewACTConfig.normalization_mapping``)."""

    config_class = RewACTConfig
    name = "rewact"

    def __init__(self, config: RewACTConfig, **kwargs: Any) -> None:
        super(ACTPolicy, self).__init__(config)  # past ACTPolicy, which would build plain ACT
        config.validate_features()
        self.config = config
        self.reward = build_reward(config)
        outputs = self.reward.outputs if self.reward else 0
        own_eyes = outputs and config.reward_reads == "images"
        self.eyes = RewardEyes(config, outputs) if own_eyes else None
        self.model = RewACT(config, 0 if self.eyes else outputs)
        self._images_are_unit = config.normalization_mapping["VISUAL"] is NormalizationMode.IDENTITY
        if config.temporal_ensemble_coeff is not None:
            self.temporal_ensembler = ACTTemporalEnsembler(
                config.temporal_ensemble_coeff, config.chunk_size
            )
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: RewACTConfig | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load as LeRobot does, never fetching backbone weights that the checkpoint replaces."""
        if config is None:
            config = PreTrainedConfig.from_pretrained(pretrained_name_or_path)
        config = copy.copy(config)
        config.pretrained_backbone_weights = None
        return super().from_pretrained(pretrained_name_or_path, config=config, **kwargs)

    def reset(self) -> None:
        """Forget queued actions and past observations: a new episode begins."""
        super().reset()
        self._history = ObservationHistory[dict[str, Tensor]](self.config.n_obs_steps, step_s=1.0)
        self._steps = 0

    # -- inference ---------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, batch: dict[str, Tensor]) -> Estimate:
        """Predict from the observation in ``batch``.

        Args:
            batch: normalised; ``observation.state`` (B, S), each camera (B, 3, H, W) float; with
                n_obs_steps = n > 1 (B, n, S) and (B, n, 3, H, W), oldest first.

        Returns:
            normalised actions, and the reward in its own units.
        """
        self.eval()
        inputs = self._model_inputs(batch)
        actions, raw, features = self.model(inputs)[0]
        if self.eyes is not None:
            raw = self.eyes(inputs[OBS_IMAGES])
        return Estimate(actions, self.reward.estimate(raw) if self.reward else None, features)

    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        """Predict normalised actions (B, chunk, A), as LeRobot's tools expect."""
        return self.predict(self._with_history(batch)).actions

    @torch.no_grad()
    def select_action(
        self, batch: dict[str, Tensor], returns_reward: bool = False, **kwargs: Any
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """Return the next action (B, A), from the queue or the temporal ensemble as ACT does.

        With ``returns_reward`` the network runs on *this* observation in every call, also while
        actions are queued, and the result is ``(action, reward (B,))``; a reward is never carried
        over from an earlier observation. A history is gathered from call to call.
        """
        batch = self._with_history(batch)
        queue_serves = self.config.temporal_ensemble_coeff is None and len(self._action_queue) > 0
        if queue_serves and not returns_reward:
            return self._action_queue.popleft()
        estimate = self.predict(batch)
        if self.config.temporal_ensemble_coeff is not None:
            action = self.temporal_ensembler.update(estimate.actions)
        else:
            if not queue_serves:
                chunk = estimate.actions[:, : self.config.n_action_steps]
                self._action_queue.extend(chunk.transpose(0, 1))
            action = self._action_queue.popleft()
        reward = estimate.reward.value if estimate.reward else None
        return (action, reward) if returns_reward else action

    def _with_history(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Join a single observation with those of earlier calls; other batches pass."""
        keys = [key for key in self.config.input_features if key in batch]
        single = all(
            batch[key].dim() == len(self.config.input_features[key].shape) + 1 for key in keys
        )
        if self.config.n_obs_steps == 1 or not single:
            return batch
        self._steps += 1
        past = self._history.add({key: batch[key] for key in keys}, float(self._steps))
        return {**batch, **{key: torch.stack([p[key] for p in past], dim=1) for key in keys}}

    @property
    def reward_layers(self) -> nn.Module:
        """The last layers of the reward: all that reads what a frame shows of the progress.

        Raises:
            ValueError: the policy has no reward head.
        """
        if self.reward is None:
            raise ValueError("the policy has no reward head")
        layers: nn.Module = self.eyes.head if self.eyes else self.model.action_head.reward
        return layers

    # -- training ----------------------------------------------------------------------------

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Compute ``l1 + reward_loss_weight * reward + kl_weight * KL``.

        Args:
            batch: as for ``predict``, plus ``action`` (B, chunk, A) normalised, ``next.reward``
                (B,) or (B, 1) in the value range with NaN for unknown, and where they apply
                ``action_is_pad`` (B, chunk) bool (absent: no step is padding) and
                ``demo_is_pad`` (B,) or (B, 1) bool (absent: every frame teaches actions).

        Returns:
            the loss, and its parts by name; ``l1_loss`` is unweighted, ``l1_<part>`` that of an
            action part.

        Raises:
            KeyError: no reward label in the batch.
            ValueError: a label outside the value range.
        """
        is_pad = _action_is_pad(batch)
        label = self._label(batch) if self.reward else None
        inputs = {**self._model_inputs(batch), ACTION_IS_PAD: is_pad}
        target, looked = batch[ACTION], None
        if self.eyes is not None:
            looked = self.eyes(inputs[OBS_IMAGES])
            # What teaches no action needs no transformer: the reward has eyes of its own.
            teaching = _teaching(is_pad)
            inputs = {key: _rows(value, teaching) for key, value in inputs.items()}
            target, is_pad = target[teaching], is_pad[teaching]
        (actions, raw, _), (mu, log_sigma_x2) = self.model(inputs)
        raw = raw if looked is None else looked

        loss, logs = self._action_loss(actions, target, ~is_pad)
        if self.reward is not None and label is not None:
            known = ~label.isnan()
            errors = self.reward.loss(raw, label.nan_to_num(self.config.value_min)) * known
            reward_loss = errors.sum() / known.sum().clamp_min(1)
            weight = self.config.reward_loss_weight
            assert weight is not None  # the configuration chose one
            loss = loss + weight * reward_loss
            logs["reward_loss"] = reward_loss.item()
        if mu is not None:
            # KL to a standard normal: sum over the latent, mean over the batch (arXiv:1312.6114 B).
            kl = (-0.5 * (1 + log_sigma_x2 - mu.square() - log_sigma_x2.exp())).sum(-1).mean()
            loss = loss + self.config.kl_weight * kl
            logs["kld_loss"] = kl.item()
        return loss, logs

    def _action_loss(
        self, actions: Tensor, target: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """L1 as a mean over valid steps (B, chunk) and, weighted, over action dimensions."""
        error = F.l1_loss(target, actions, reduction="none") * valid.unsqueeze(-1)
        per_dim = error.sum((0, 1)) / valid.sum().clamp_min(1)  # (A,)
        logs = {"l1_loss": per_dim.mean().item()}
        parts, weights = self.config.action_parts, self.config.action_part_weights or {}
        if not parts:
            return per_dim.mean(), logs
        slices = dict(zip(parts, per_dim.split(list(parts.values())), strict=True))
        logs |= {f"l1_{name}": dims.mean().item() for name, dims in slices.items()}
        scale = {name: weights.get(name, 1.0) for name in parts}
        total = sum(scale[name] * dims.sum() for name, dims in slices.items())
        return total / sum(scale[name] * size for name, size in parts.items()), logs

    def _model_inputs(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        """Add the camera list that ACT's forward takes, resized, and in training augmented."""
        config = self.config
        inputs: dict[str, Any] = dict(batch)
        if config.image_features:
            inputs[OBS_IMAGES] = [
                self._prepare(self._stacked(batch, key)) for key in config.image_features
            ]
        if config.robot_state_feature is None and config.image_features:
            # ACT asks this tensor for its device even where no state is an input.
            inputs[OBS_STATE] = inputs[OBS_IMAGES][0].new_zeros(0)
        elif config.robot_state_feature is not None:
            state = self._stacked(batch, OBS_STATE)
            inputs[POSTURE] = state[:, -config.robot_state_feature.shape[0] :]
            inputs[OBS_STATE] = self._augment_state(state) if self.training else state
            if not config.image_features and config.env_state_feature is None:
                # ACT asks one of the two for the size of the batch, and for nothing else.
                inputs[OBS_ENV_STATE] = inputs[OBS_STATE]
        return inputs

    def _stacked(self, batch: dict[str, Tensor], key: str) -> Tensor:
        """The observation with its history side by side: (B, n * S) or (B, n * 3, H, W)."""
        value, shape = batch[key], self.config.input_features[key].shape
        if self.config.n_obs_steps == 1:
            return value
        if value.dim() != len(shape) + 2 or value.shape[1] != self.config.n_obs_steps:
            raise ValueError(
                f"{key}: expected a history of {self.config.n_obs_steps} observations, shape "
                f"(B, {self.config.n_obs_steps}, ...), got {tuple(value.shape)}; "
                "use select_action, or stack the observations oldest first"
            )
        return value.flatten(1, 2)

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

    def _label(self, batch: dict[str, Tensor]) -> Tensor:
        """Labels (B,); LeRobot's processors put a plain 0.0 where a dataset has no such column."""
        label, size = batch.get(REWARD), len(batch[ACTION])
        if not isinstance(label, Tensor) or label.numel() != size:
            got = tuple(label.shape) if isinstance(label, Tensor) else label
            raise KeyError(
                f"{REWARD}: expected a label per frame, shape ({size},) or ({size}, 1), got {got}; "
                "label the dataset with `rewact label`, or train with reward_head=none"
            )
        label = label.reshape(size).float()
        low, high = self.config.value_min, self.config.value_max
        outside = (label < low - LABEL_SLACK) | (label > high + LABEL_SLACK)
        if outside.any():
            raise ValueError(
                f"{REWARD}: expected labels from {low} to {high} (value_min, value_max) or NaN, "
                f"got {label[outside][0].item()}; label the dataset anew, or set the range"
            )
        return label.clamp(low, high)


def _action_is_pad(batch: dict[str, Tensor]) -> Tensor:
    """Mask (B, chunk) of action steps that teach nothing: padding, and frames that are no demo."""
    is_pad = batch.get(ACTION_IS_PAD)
    if is_pad is None:
        is_pad = torch.zeros(batch[ACTION].shape[:2], dtype=torch.bool, device=batch[ACTION].device)
    no_demo = batch.get(DEMO_IS_PAD)
    return is_pad if no_demo is None else is_pad | no_demo.reshape(-1, 1).bool()


def _teaching(is_pad: Tensor) -> Tensor:
    """(B,) bool, samples of which an action teaches; the first, if there is none."""
    teaching = ~is_pad.all(dim=1)
    teaching[0] |= ~teaching.any()
    return teaching


def _rows(value: Any, chosen: Tensor) -> Any:
    """The chosen samples of what a batch holds."""
    if isinstance(value, list):
        return [_rows(one, chosen) for one in value]
    has_rows = isinstance(value, Tensor) and value.dim() and len(value) == len(chosen)
    return value[chosen] if has_rows else value
