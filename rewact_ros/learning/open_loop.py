"""What a policy predicts on recorded episodes, against baselines, and what its reward looks at."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from scipy.stats import spearmanr

from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.modeling_rewact import ACTION_IS_PAD

from .demonstrations import Demonstrations


@dataclass(frozen=True)
class OpenLoop:
    """Figures over episodes; action errors are means over valid chunk steps and joints.

    Attributes:
        action_l1: policy, contract units.
        hold_l1: baseline that holds the current state (NaN where state and action differ in width).
        mean_l1: baseline that always gives the training actions' mean.
        reward_mae: against the labels (NaN where none is known).
        spearman: per episode, predicted reward with time.
        swapped_image: mean Spearman over episodes whose images come from random other times, with
            the time of the state and with the time of the image: {"state": ..., "image": ...}.
        rewards: per episode, predicted reward of every frame.
    """

    action_l1: float
    hold_l1: float
    mean_l1: float
    reward_mae: float
    spearman: dict[int, float]
    swapped_image: dict[str, float]
    rewards: dict[int, list[float]]


def evaluate_open_loop(
    loaded: LoadedPolicy, data: Demonstrations, episodes: list[int], train_rows: np.ndarray
) -> OpenLoop:
    """Evaluate on ``episodes`` of ``data``.

    Args:
        loaded: the policy.
        data: decoded at the policy's image size.
        episodes: to evaluate on; the policy must not have seen them.
        train_rows: rows whose actions make the mean baseline.
    """
    errors: dict[str, list[np.ndarray]] = {"policy": [], "hold": [], "mean": []}
    mean = data.action[train_rows].mean(0)
    rewards, spearman, reward_errors = {}, {}, []
    swapped: dict[str, list[float]] = {"state": [], "image": []}
    rng = np.random.default_rng(0)
    for episode in episodes:
        rows = data.rows([episode])
        raw, actions, reward = _predict(loaded, data, rows, rows)
        target, valid = raw[ACTION].numpy(), ~raw[ACTION_IS_PAD].numpy()
        errors["policy"].append(np.abs(actions - target)[valid])
        errors["mean"].append(np.abs(mean - target)[valid])
        if data.state.shape == data.action.shape:
            errors["hold"].append(np.abs(data.state[rows][:, None] - target)[valid])
        reward_errors.append(np.abs(reward - data.reward[rows]))
        rewards[episode] = reward.tolist()
        spearman[episode] = float(spearmanr(reward, rows).statistic)
        other = rng.permutation(rows)
        _, _, mixed = _predict(loaded, data, rows, other)
        swapped["state"].append(spearmanr(mixed, rows).statistic)
        swapped["image"].append(spearmanr(mixed, other).statistic)

    def mean_of(parts: list[np.ndarray]) -> float:
        return float(np.concatenate(parts).mean()) if parts else float("nan")

    known = np.concatenate(reward_errors)
    known = known[~np.isnan(known)]
    return OpenLoop(
        action_l1=mean_of(errors["policy"]),
        hold_l1=mean_of(errors["hold"]),
        mean_l1=mean_of(errors["mean"]),
        reward_mae=float(known.mean()) if len(known) else float("nan"),
        spearman=spearman,
        swapped_image={key: float(np.mean(values)) for key, values in swapped.items()},
        rewards=rewards,
    )


@torch.inference_mode()
def _predict(loaded: LoadedPolicy, data: Demonstrations, rows: np.ndarray, image_rows: np.ndarray):
    """Raw batch of ``rows``, actions (M, chunk, A) and rewards (M,); images from ``image_rows``."""
    chunk, actions, rewards = loaded.config.chunk_size, [], []
    for part, image_part in zip(
        np.array_split(rows, len(rows) // 64 + 1),
        np.array_split(image_rows, len(rows) // 64 + 1),
        strict=True,
    ):
        batch = data.batch(image_part, chunk)
        batch[OBS_STATE] = torch.from_numpy(data.state[part])
        action, reward = loaded.policy.predict(loaded.preprocessor(batch))
        actions.append(loaded.postprocessor(action).numpy())
        rewards.append(reward.cpu().numpy())
    steps = replace(data, frames={}).batch(rows, chunk)
    return steps, np.concatenate(actions), np.concatenate(rewards)
