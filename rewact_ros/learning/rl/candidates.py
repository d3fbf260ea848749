"""Chunks that the base policy might as well have chosen, for the critic to pick from."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewact_ros.policy import RewACTPolicy
from rewact_ros.policy.checkpoint import LoadedPolicy


class BaseCandidates:
    """Draws further chunks of a base policy about its plan.

    A base that was trained as a VAE, and sees one observation, is asked with latents drawn from the
    prior instead of zero: a candidate is the plan plus how its chunk differs from that of the zero
    latent. Another base gives a single chunk; its candidates drift away from the plan, linearly
    over the chunk, by normal offsets of ``noise`` standard deviations. Masked joints follow the
    plan in both.

    Args:
        loaded: the base.
        count: N, the plan among them.
        noise: spread, in standard deviations of the base's action.
        scale: (A,) those standard deviations, 0 for masked joints.
    """

    def __init__(
        self, loaded: LoadedPolicy, count: int, noise: float, scale: NDArray[np.float64]
    ) -> None:
        self._loaded, self._count, self._noise, self._scale = loaded, count, noise, scale
        self._latent: Tensor | None = None
        self._latent_dim = 0  # it has no latent
        policy, can_use = loaded.policy, loaded.config.n_obs_steps == 1 and count > 1
        if can_use and isinstance(policy, RewACTPolicy) and policy.config.use_vae:
            self._latent_dim = policy.config.latent_dim
            projection = policy.model.encoder_latent_input_proj
            projection.register_forward_pre_hook(self._inject)

    def around(
        self, plan: NDArray[np.float64], batch: dict[str, Tensor] | None, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Candidates (N, steps, A) about a plan (steps, A), the plan first; contract units.

        Args:
            plan: what the base would do.
            batch: the observation, as ``LoadedPolicy.predict`` takes it; needed by a base with a
                latent only.
            rng: of the draw.
        """
        further = self._count - 1
        if not further:
            return plan[None].astype(np.float32)
        offsets: NDArray[np.floating]
        if self._latent_dim and batch is not None:
            offsets = self._latent_offsets(batch, len(plan), rng)
        else:
            ramp = np.arange(1, len(plan) + 1)[:, None] / len(plan)
            draw = rng.standard_normal((further, 1, plan.shape[1]))
            offsets = self._noise * self._scale * draw * ramp
        moves = self._scale > 0
        return np.concatenate([plan[None], plan + offsets * moves]).astype(np.float32)

    def _latent_offsets(
        self, batch: dict[str, Tensor], steps: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """(N - 1, steps, A) differences of sampled chunks from the zero latent's."""
        latent = rng.standard_normal((self._count, self._latent_dim))
        latent[0] = 0
        self._latent = torch.from_numpy(latent).float()
        try:
            repeated = {key: value.repeat_interleave(self._count, 0) for key, value in
                        batch.items()}  # fmt: skip
            chunks = self._loaded.predict(repeated).actions[:, 1 : 1 + steps].numpy()
        finally:
            self._latent = None
        return chunks[1:] - chunks[:1]

    def _inject(self, module: torch.nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        """Put the drawn latents where the network would use zero."""
        return None if self._latent is None else (self._latent.to(args[0]),)
