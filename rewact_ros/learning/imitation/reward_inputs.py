"""What a policy's reward head sees of each frame: the output of all that stays as it is."""

import math

import numpy as np
import torch
from lerobot.processor import PolicyProcessorPipeline
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from rewact_ros.policy.modeling_rewact import RewACTPolicy

from .demonstrations import Demonstrations

_BATCH = 64  # frames at once: memory against speed


@torch.no_grad()
def reward_inputs(
    policy: RewACTPolicy,
    preprocessor: PolicyProcessorPipeline,
    data: Demonstrations,
    rows: NDArray[np.integer],
    progress: bool = True,
) -> Tensor:
    """Return (M, dim) float32, the reward head's input at each of M rows.

    Args:
        policy: in eval mode; nothing of it is changed.
        preprocessor: raw batch -> normalised batch.
        data: with its frames at hand.
        rows: (M,).
        progress: show a progress bar.
    """
    seen: list[Tensor] = []
    hook = policy.reward_layers.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].cpu().clone())
    )
    try:
        parts = np.array_split(rows, math.ceil(len(rows) / _BATCH))
        for part in tqdm(parts, desc="frames", mininterval=1, disable=not progress):
            policy.predict(preprocessor(data.batch(part, 1, policy.config.n_obs_steps)))
    finally:
        hook.remove()
    return torch.cat(seen)
