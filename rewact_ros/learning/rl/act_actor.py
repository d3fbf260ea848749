"""The ACT actor: a RewACT network whose decoder tokens give means and standard deviations."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor, nn

from rewact_ros.policy import RewACTConfig, RewACTPolicy
from rewact_ros.policy.compatibility import require_rewact
from rewact_ros.policy.images import unit_images
from rewact_ros.policy.network import Heads, PartHeads
from rewact_ros.policy.weights import precision_on

from .base import Base
from .settings import RLSettings
from .squash import ActionMap, TanhGaussian, bounded_log_std
from .transitions import IMAGES, STATE

_FIRST_LOG_STD = -0.8  # of the raw output: near the lower end, so that it begins with care


class ActActor(nn.Module):
    """A trainable RewACT network with Gaussian heads, one pair per action part where it has parts.

    Made from the base, its mean is at first the base's own chunk (step k + 1 of it is the command
    at the end of step k), clamped to the contract's range.

    Args:
        settings: sizes, bounds, and whether it begins with the base's weights.
        base: the policy that it begins with, or whose scales it takes.
        action_map: absolute.
    """

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor

    def __init__(self, settings: RLSettings, base: Base, action_map: ActionMap) -> None:
        super().__init__()
        for name in ("state_mean", "state_std", "action_mean", "action_std"):
            self.register_buffer(name, getattr(base, name).clone())
        self._map = (action_map,)  # in a tuple: it is the agent's
        self._limits = settings.log_std_min, settings.log_std_max
        self._cameras = base.cameras
        device = base.loaded.config.device
        assert device is not None  # `load_policy` chooses one
        self._device = torch.device(device).type
        self._bf16 = precision_on(self._device, settings.mixed_precision) == "bf16"
        if settings.act_from_base:
            policy = copy.deepcopy(require_rewact(base.loaded, "act_from_base"))
        else:
            policy = RewACTPolicy(_config(settings, base))
        self.policy = policy
        self._steps = min(settings.horizon, self.policy.config.chunk_size - 1)
        self.policy.requires_grad_(True)
        model, joints = self.policy.model, len(base.action_mean)
        heads = GaussianHeads(model.action_head, self.policy.config, joints)
        model.action_head = heads  # type: ignore[assignment]  # called alike
        if self.policy.config.state_skip:
            skip = _PaddedSkip(model.state_skip)
            model.state_skip = skip  # type: ignore[assignment]  # called alike

    def forward(self, observation: dict[str, Tensor], features: Tensor | None) -> TanhGaussian:
        """Distribution of unit actions (B, horizon, A); ``features`` are not used."""
        batch = {OBS_STATE: (observation[STATE] - self.state_mean) / self.state_std}
        for index, camera in enumerate(self._cameras):
            batch[camera] = unit_images(observation[IMAGES][:, :, index])
        if self.policy.config.n_obs_steps == 1:
            batch = {key: value[:, -1] for key, value in batch.items()}
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16 and self.training):
            raw = self.policy.model(self.policy._model_inputs(batch))[0][0]
        mean, log_std = raw[:, 1 : 1 + self._steps].float().chunk(2, dim=-1)
        command = mean * self.action_std + self.action_mean
        return TanhGaussian(
            self._map[0].before_tanh(command, command), bounded_log_std(log_std, *self._limits)
        )


class GaussianHeads(nn.Module):
    """The heads of a RewACT network, and one more beside its action head for log sigma.

    Args:
        heads: of the network.
        config: of the policy, for width and parts.
        joints: A.
    """

    def __init__(self, heads: Heads, config: RewACTConfig, joints: int) -> None:
        super().__init__()
        self.heads = heads
        dim, parts = config.dim_model, config.action_parts
        self.log_std = PartHeads(dim, parts) if parts else nn.Linear(dim, joints)
        for layer in self.log_std.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.weight)
                nn.init.constant_(layer.bias, _FIRST_LOG_STD)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """As ``Heads``, the actions (B, chunk, 2 A) being means and raw log sigmas."""
        actions, reward, features = self.heads(tokens)
        return torch.cat([actions, self.log_std(tokens[:, :-1].float())], -1), reward, features


class _PaddedSkip(nn.Module):
    """The network's skip from the state, which adds nothing to log sigma."""

    def __init__(self, skip: nn.Linear) -> None:
        super().__init__()
        self.skip = skip

    def forward(self, state: Tensor) -> Tensor:
        """Map (B, S) to (B, 2 A)."""
        means = self.skip(state)
        return F.pad(means, (0, means.shape[-1]))


def _config(settings: RLSettings, base: Base) -> RewACTConfig:
    """A fresh network of the settings' sizes for the replay's frames."""
    inputs = {OBS_STATE: PolicyFeature(FeatureType.STATE, tuple(base.state_mean.shape))}
    for camera in base.cameras:
        inputs[camera] = PolicyFeature(FeatureType.VISUAL, (3, *base.image_size))
    return RewACTConfig(
        input_features=inputs,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, tuple(base.action_mean.shape))},
        n_obs_steps=settings.history,
        chunk_size=settings.horizon + 1,
        n_action_steps=settings.horizon + 1,
        dim_model=settings.act_dim_model,
        n_heads=settings.act_n_heads,
        dim_feedforward=settings.act_dim_feedforward,
        n_encoder_layers=settings.act_n_encoder_layers,
        n_decoder_layers=settings.act_n_decoder_layers,
        dropout=0.0,
        reward_head="none",
        action_parts=settings.action_parts,
        random_shift_px=settings.random_shift_px,
        device=str(base.loaded.config.device),
    )
