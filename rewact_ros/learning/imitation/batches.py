"""Which frames make up each step's batch; every draw derives from (seed, step) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lerobot.utils.constants import ACTION, REWARD
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rewact_ros.policy.images import unit_images
from rewact_ros.policy.modeling_rewact import ACTION_IS_PAD

from .demonstrations import Demonstrations
from .settings import TrainSettings
from .splices import Splices
from .videos import FramesError

# Rows and raw batch of a step, or why there is none.
Item = tuple[NDArray[np.integer], dict[str, Tensor]] | FramesError


def batch_rows(
    rows: NDArray[np.integer], batch_size: int, seed: int, step: int
) -> NDArray[np.integer]:
    """Rows of a step: each epoch shuffles all rows anew; its last, short batch is dropped."""
    per_epoch = max(len(rows) // batch_size, 1)
    epoch, index = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    return rows[order[index * batch_size : (index + 1) * batch_size]]


@dataclass(frozen=True)
class Pool:
    """Rows (M,) of which every batch gets ``size``; each is shuffled by itself."""

    rows: NDArray[np.integer]
    size: int


class TrainingBatches(Dataset[Item]):
    """Item ``step`` is ``(rows, raw batch)``: one process's share of that step's batch.

    All processes draw the same batch and take every ``processes``-th of its frames, so that a step
    sees the same frames however many processes share it.

    Args:
        data: with its frames at hand.
        rows: (M,) training rows.
        settings: batch size, seed, rewind.
        chunk: actions per frame.
        observations: as ``Demonstrations.batch``.
        process, processes: whose share.
        pools: they fill their places of each batch, ``rows`` the rest.
        splices: pictures of failures, which join every batch; None: none do.
    """

    def __init__(
        self,
        data: Demonstrations,
        rows: NDArray[np.integer],
        settings: TrainSettings,
        chunk: int,
        observations: int,
        process: int = 0,
        processes: int = 1,
        pools: Sequence[Pool] = (),
        splices: Splices | None = None,
    ) -> None:
        self._data, self._settings, self._splices = data, settings, splices
        self._spliced = settings.spliced if splices else 0
        rest = settings.batch_size - sum(pool.size for pool in pools)
        self._pools = (Pool(rows, rest), *pools)
        self._chunk, self._observations = chunk, observations
        self._share = slice(process, None, processes)

    def __getitem__(self, step: int) -> Item:
        """Assemble a step's batch; a fault is returned, since a worker's raise loses its words."""
        settings = self._settings
        rows = np.concatenate(
            [
                batch_rows(pool.rows, pool.size, settings.seed + index, step)
                for index, pool in enumerate(self._pools)
            ]
        )
        backwards = None
        if settings.rewind:
            draws = np.random.default_rng([settings.seed, step, 1]).random(len(rows))
            backwards = ((draws < settings.rewind) & self._data.succeeds[rows])[self._share]
        rows = rows[self._share]
        try:
            batch = self._data.batch(rows, self._chunk, self._observations, backwards)
            if self._splices is not None and self._spliced:
                self._add_splices(self._splices, batch, step)
            return rows, batch
        except FramesError as error:
            return error

    def _add_splices(self, splices: Splices, batch: dict[str, Tensor], step: int) -> None:
        """Append this process's share of the step's splices, which teach the reward alone."""
        rng = np.random.default_rng([self._settings.seed, step, 2])
        drawn = splices.draw(self._spliced, self._observations, rng)
        added = {key: torch.from_numpy(value[self._share]) for key, value in drawn.items()}
        for camera in self._data.frames:
            added[camera] = unit_images(added[camera])
        count = len(added[REWARD])
        added[ACTION] = batch[ACTION].new_zeros(count, *batch[ACTION].shape[1:])
        added[ACTION_IS_PAD] = torch.ones(count, self._chunk, dtype=torch.bool)
        for key, value in added.items():
            batch[key] = torch.cat([batch[key], value])

    def loader(self, first_step: int, pin_memory: bool) -> DataLoader[Item]:
        """Items from ``first_step`` to the end, assembled ahead by ``settings.workers``."""
        return DataLoader(
            self,
            batch_size=None,
            sampler=range(first_step, self._settings.steps),
            num_workers=self._settings.workers,
            collate_fn=_as_is,
            pin_memory=pin_memory,
        )


def _as_is(item: object) -> object:
    return item
