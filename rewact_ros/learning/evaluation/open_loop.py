"""A policy against a recording: action error, progress, and what the reward head looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray

from rewact_ros.contract import Contract, signature_of_dataset
from rewact_ros.contract.schema import STATE_KEY
from rewact_ros.data.dataset.episodes import RecordedEpisode, RecordedEpisodes
from rewact_ros.learning.imitation.demonstrations import Demonstrations
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.engine import TorchEngine
from rewact_ros.policy.modeling_rewact import ACTION_IS_PAD
from rewact_ros.reward.metrics import spearman

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class OpenLoop:
    """Figures of one episode; L1 is the mean over chunk steps and joints, in contract units.

    Attributes:
        l1, l1_hold, l1_mean: of the policy, of holding the measured joints, of a constant action.
        spearman: rank correlation of predicted progress with time.
        l1_other_image, l1_other_state: against the recording at the time of the input that stayed.
        spearman_state_time, spearman_image_time: of the progress predicted from a state and an
            image of two different times, with the time of either.
    """

    episode: int
    frames: int
    l1: float
    l1_hold: float
    l1_mean: float
    spearman: float
    l1_other_image: float
    l1_other_state: float
    spearman_state_time: float
    spearman_image_time: float
    progress: FloatArray


def evaluate_episode(
    engine: TorchEngine,
    contract: Contract,
    recorded: RecordedEpisodes,
    index: int,
    mean_action: FloatArray,
    seed: int = 0,
) -> OpenLoop:
    """Run a policy over one recorded episode, once as recorded and once with swapped images.

    Args:
        mean_action: (A,) the constant baseline.
        seed: draws which image goes with which state in the swap; every frame is used once.
    """
    episode = recorded.episode(index)
    images = list(recorded.images(index))
    n = len(episode.times)
    order = np.random.default_rng(seed + index).permutation(n)
    engine.reset()
    straight = [
        engine.infer(_observation(episode, images, i, i), episode.times[i]) for i in range(n)
    ]
    engine.reset()
    swapped = [
        engine.infer(_observation(episode, images, i, int(order[i])), episode.times[i])
        for i in range(n)
    ]
    chunk = len(straight[0].actions)
    target = [episode.action[i : i + chunk] for i in range(n)]

    def l1(predictions: Sequence[NDArray[np.floating]], times: Sequence[int]) -> float:
        errors = [
            np.abs(p[: len(target[t])] - target[t]).mean()
            for p, t in zip(predictions, times, strict=True)
        ]
        return float(np.mean(errors))

    def constant(row: FloatArray) -> FloatArray:
        return np.tile(row, (chunk, 1))

    own = list(range(n))
    actions = [p.actions for p in straight]
    progress = np.array([p.reward for p in straight], dtype=float)
    crossed = np.array([p.reward for p in swapped], dtype=float)
    hold = _held(episode, contract)
    return OpenLoop(
        episode=index,
        frames=n,
        l1=l1(actions, own),
        l1_hold=l1([constant(row) for row in hold], own),
        l1_mean=l1([constant(mean_action)] * n, own),
        spearman=spearman(own, progress),
        l1_other_image=l1([p.actions for p in swapped], own),
        l1_other_state=l1([p.actions for p in swapped], order.tolist()),
        spearman_state_time=spearman(own, crossed),
        spearman_image_time=spearman(order, crossed),
        progress=progress,
    )


def _held(episode: RecordedEpisode, contract: Contract) -> FloatArray:
    """(n, A) where the joints were: as measured; what nobody measures, as last sent."""
    names, before = contract.state_names, np.vstack([episode.action[:1], episode.action[:-1]])
    return np.column_stack(
        [
            episode.state[:, names.index(joint)] if joint in names else before[:, k]
            for k, joint in enumerate(contract.action_names)
        ]
    )


@dataclass(frozen=True)
class ActionError:
    """L1 in contract units over the steps that a demonstration teaches.

    Attributes:
        mean: over steps and joints.
        per_joint: (A,) mean over steps.
        per_step: (chunk,) mean over joints, by the distance from the observation; NaN where no
            chunk reaches so far.
    """

    mean: float
    per_joint: FloatArray
    per_step: FloatArray


def action_errors(
    loaded: LoadedPolicy, data: Demonstrations, episodes: Sequence[int], constant: FloatArray | None
) -> dict[str, ActionError]:
    """Compare predicted chunks with what was done, beside two baselines that see nothing.

    Args:
        loaded: the policy.
        data: with its frames decoded at the policy's image size.
        episodes: indices; frames that teach no action (failures, padding) do not count.
        constant: (A,) mean action of the training episodes; None: without that baseline.

    Returns:
        ``policy``, ``hold state`` (stay at the measured joints; absent where the state lacks a
        commanded joint) and ``mean action``; empty where no frame teaches an action.
    """
    rows = data.rows(list(episodes))
    rows = rows[data.teaches[rows]]
    if not len(rows):
        return {}
    chunk, steps, held = loaded.config.chunk_size, loaded.config.n_obs_steps, _held_joints(data)
    sums: dict[str, FloatArray] = {}
    valid = np.zeros(chunk)
    for part in np.array_split(rows, -(-len(rows) // 64)):  # a batch that fits any memory
        batch = data.batch(part, chunk, steps)
        truth, taught = batch[ACTION], ~batch[ACTION_IS_PAD]
        guesses = {"policy": loaded.predict({k: batch[k] for k in _inputs(batch)}).actions}
        if held is not None:
            guesses["hold state"] = torch.from_numpy(data.state[part][:, None, held])
        if constant is not None:
            guesses["mean action"] = torch.from_numpy(constant)
        for name, guess in guesses.items():
            error = ((guess - truth).abs() * taught[..., None]).sum(0).numpy()  # (chunk, A)
            sums[name] = sums.get(name, 0.0) + error
        valid += taught.sum(0).numpy()
    reached = np.where(valid > 0, valid, np.nan)
    return {
        name: ActionError(
            mean=float(total.sum() / (valid.sum() * total.shape[1])),
            per_joint=total.sum(0) / valid.sum(),
            per_step=total.mean(1) / reached,
        )
        for name, total in sums.items()
    }


def joint_names(data: Demonstrations) -> tuple[list[str], list[str]]:
    """Names of the state's and of the action's joints; empty where the dataset has none."""
    features = signature_of_dataset(data.source.meta.info)["features"]
    return features[STATE_KEY]["names"], features[ACTION]["names"]


def _held_joints(data: Demonstrations) -> list[int] | None:
    """(A,) where each commanded joint stands in the state."""
    state, action = joint_names(data)
    return [state.index(name) for name in action] if action and set(action) <= set(state) else None


def _inputs(batch: dict[str, torch.Tensor]) -> list[str]:
    return [key for key in batch if key.startswith("observation.")]


def mean_action(recorded: RecordedEpisodes, episodes: Sequence[int]) -> FloatArray:
    """(A,) mean of the recorded actions of some episodes."""
    return np.concatenate([recorded.episode(i).action for i in episodes]).mean(axis=0)


def _observation(
    episode: RecordedEpisode,
    images: list[dict[str, NDArray[np.uint8]]],
    state_at: int,
    image_at: int,
) -> dict[str, NDArray[np.generic]]:
    state = episode.state[state_at].astype(np.float32)
    return {"observation.state": state, **images[image_at]}
