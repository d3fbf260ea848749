"""Open-loop figures of a policy on recorded episodes."""

import math

import numpy as np
import torch
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import ACTION, REWARD
from numpy.typing import NDArray

from rewact_ros.policy.modeling_rewact import ACTION_IS_PAD
from rewact_ros.policy.policy import Policy

from .demonstrations import Demonstrations

REWARD_WEIGHT = 2.0  # one for both reward heads, so that their losses compare


@torch.inference_mode()
def evaluate(
    policy: Policy,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
    data: Demonstrations,
    rows: NDArray[np.integer],
    max_frames: int = 1024,  # more costs training time at every validation
) -> dict[str, float]:
    """Score the policy on at most ``max_frames`` evenly spaced rows.

    Returns:
        ``action_l1``: mean over valid steps and joints, contract units; ``action_l1_normalised``;
        ``reward_mae`` over labelled frames (absent where nothing is labelled); ``loss``, the
        normalised L1 plus ``REWARD_WEIGHT`` times the reward's error.
    """
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), max_frames)).astype(int)]
    sums = dict.fromkeys(("raw", "normalised", "valid", "reward", "known"), 0.0)
    for part in np.array_split(rows, math.ceil(len(rows) / 64)):  # a batch that fits any memory
        raw = data.batch(part, policy.config.chunk_size, policy.config.n_obs_steps)
        batch = preprocessor(raw)
        estimate = policy.predict(batch)
        actions = estimate.actions
        valid = ~raw[ACTION_IS_PAD].unsqueeze(-1)
        sums["raw"] += ((postprocessor(actions) - raw[ACTION]).abs() * valid).sum().item()
        normalised_error = (actions - batch[ACTION]).abs() * valid.to(actions.device)
        sums["normalised"] += normalised_error.sum().item()
        sums["valid"] += valid.sum().item() * actions.shape[-1]
        if estimate.reward is not None:
            known = ~raw[REWARD].isnan()
            errors = (estimate.reward.value.cpu() - raw[REWARD])[known].abs()
            sums["reward"] += errors.sum().item()
            sums["known"] += known.sum().item()
    figures = {
        "action_l1": sums["raw"] / max(sums["valid"], 1),
        "action_l1_normalised": sums["normalised"] / max(sums["valid"], 1),
    }
    if sums["known"]:
        figures["reward_mae"] = sums["reward"] / sums["known"]
    loss = figures["action_l1_normalised"] + REWARD_WEIGHT * figures.get("reward_mae", 0.0)
    return {"loss": loss, **figures}
