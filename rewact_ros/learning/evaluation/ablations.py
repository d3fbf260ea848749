"""A policy on recorded episodes as they are, and with one of its inputs spoiled.

What the predicted progress loses when an input is spoiled says how much it rested on that input.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from rewact_ros.learning.imitation.demonstrations import Demonstrations
from rewact_ros.policy.checkpoint import LoadedPolicy

from .reward import Curve

Rows = NDArray[np.integer]
Choose = Callable[[Rows, np.random.Generator], Rows]
Change = Callable[[Tensor], Tensor]
_BATCH = 64  # frames at once: memory against speed, the figures are the same
_SHIFT = 0.04  # of the image's width: a camera that was nudged, not one that looks elsewhere


def _other_time(rows: Rows, rng: np.random.Generator) -> Rows:
    return rng.permutation(rows)


def _first(rows: Rows, rng: np.random.Generator) -> Rows:
    return np.full_like(rows, rows[0])


def _same(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows


def _keep(images: Tensor) -> Tensor:
    return images


def _shift(images: Tensor) -> Tensor:
    """Move the picture to the right, as a camera turned to the left; the edge is repeated."""
    pixels = max(round(_SHIFT * images.shape[-1]), 1)
    columns = (torch.arange(images.shape[-1]) - pixels).clamp_min(0)
    return images[..., columns]


# name -> (which frame gives the image, which gives the state, what becomes of the image)
ABLATIONS: dict[str, tuple[Choose, Choose, Change]] = {
    "image of another time": (_other_time, _same, _keep),
    "state of another time": (_same, _other_time, _keep),
    "first image throughout": (_first, _same, _keep),
    "brightness x 0.6": (_same, _same, lambda images: images * 0.6),
    "brightness x 1.4": (_same, _same, lambda images: (images * 1.4).clamp(max=1.0)),
    "camera shifted by 4 %": (_same, _same, _shift),
}


def predict_curves(
    loaded: LoadedPolicy,
    data: Demonstrations,
    episodes: Sequence[int],
    ablation: str | None = None,
    seed: int = 0,
) -> list[Curve]:
    """Predict the progress of every frame of some episodes.

    Args:
        loaded: a policy with a reward head.
        data: with its frames decoded at the policy's image size.
        episodes: indices.
        ablation: a name in ``ABLATIONS``; None: the episodes as they are.
        seed: draws which frame goes with which where an input is of another time; each is used
            once.

    Raises:
        ValueError: the policy has no reward head.
    """
    if loaded.config.reward_head == "none":
        raise ValueError(f"{loaded.path}: reward_head is none: it predicts no progress to judge")
    curves = []
    bar = tqdm(episodes, desc=ablation or "as recorded", unit="episode", mininterval=1, leave=False)
    for index in bar:
        values, quantiles = [], []
        for batch in _batches(loaded, data, index, ablation, seed):
            reward = loaded.predict(batch).reward
            assert reward is not None  # there is a head
            values.append(reward.value.cpu().numpy())
            if reward.quantiles is not None:
                quantiles.append(reward.quantiles.cpu().numpy())
        curves.append(
            Curve(
                np.concatenate(values).astype(float),
                np.concatenate(quantiles).astype(float) if quantiles else None,
            )
        )
    return curves


def _batches(
    loaded: LoadedPolicy, data: Demonstrations, index: int, ablation: str | None, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Raw batches of an episode in order of time."""
    rng = np.random.default_rng((seed, index))
    rows = data.rows([index])
    image_rows: Rows = rows
    state_rows: Rows = rows
    change: Change = _keep
    if ablation is not None:
        choose_image, choose_state, change = ABLATIONS[ablation]
        image_rows, state_rows = choose_image(rows, rng), choose_state(rows, rng)
    steps, postures = loaded.config.n_obs_steps, replace(data, frames={})
    for first in range(0, len(rows), _BATCH):
        part = slice(first, first + _BATCH)
        batch = data.batch(image_rows[part], 1, steps)
        if state_rows is not image_rows:
            batch[OBS_STATE] = postures.batch(state_rows[part], 1, steps)[OBS_STATE]
        for camera in data.camera_shapes:
            batch[camera] = change(batch[camera])
        yield {key: batch[key] for key in (OBS_STATE, *data.camera_shapes) if key in batch}
