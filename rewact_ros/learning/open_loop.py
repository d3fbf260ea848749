"""A policy against a recording: action error, progress, and what the reward head looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import Contract
from rewact_ros.data.recorded import RecordedEpisode, RecordedEpisodes
from rewact_ros.policy.engine import TorchEngine
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
    straight = [engine.infer(_observation(episode, images, i, i)) for i in range(n)]
    swapped = [engine.infer(_observation(episode, images, i, int(order[i]))) for i in range(n)]
    chunk = len(straight[0].actions)
    target = [episode.action[i : i + chunk] for i in range(n)]

    def l1(predictions: Sequence[NDArray[np.generic]], times: Sequence[int]) -> float:
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
    hold = episode.state[:, contract.action_in_state]
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
