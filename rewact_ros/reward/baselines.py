"""Progress predicted without looking: from the clock alone, and from the joints alone.

A reward head that reads no more than these has not learned to see the task. Both are fitted on
training episodes and then judged exactly as the policy is.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import nn

FloatArray = NDArray[np.float64]
_VELOCITY_FRAMES = 5
_HELD_BACK = 0.1  # share of the training episodes that decides when to stop
_CHECK_EVERY, _PATIENCE = 50, 8


class Baseline(Protocol):
    """Predicts the progress of an episode."""

    def predict(self, state: NDArray[np.float32]) -> FloatArray:
        """Map the states (N, S) of an episode, from its first frame on, to progress (N,)."""
        ...


class ClockBaseline:
    """Mean training label at the time since the episode's start, made monotone.

    After the longest training episode it stays at its last value.

    Args:
        labels: per training episode (N,) progress, NaN where unknown.
    """

    def __init__(self, labels: Sequence[NDArray[np.float32]]) -> None:
        longest = max(len(label) for label in labels)
        table = np.full((len(labels), longest), np.nan)
        for row, label in zip(table, labels, strict=True):
            row[: len(label)] = label
        counts = np.isfinite(table).sum(axis=0)
        known = np.flatnonzero(counts)
        mean = np.nansum(table[:, known], axis=0) / counts[known]
        fitted = isotonic_regression(mean, weights=counts[known]).x
        self._curve = np.interp(np.arange(longest), known, fitted)

    def predict(self, state: NDArray[np.float32]) -> FloatArray:
        """Map the states (N, S) of an episode to progress (N,); only their number counts."""
        return self._curve[np.minimum(np.arange(len(state)), len(self._curve) - 1)]


class ProprioceptionBaseline:
    """Small network on joint positions and their change over the last frames.

    The mean of several networks, each stopped where it is best on held-back training episodes.

    Args:
        states: per training episode (N, S) float32.
        labels: per training episode (N,) progress, NaN where unknown.
        seeds: one network each.
        steps: gradient steps at most.
    """

    def __init__(
        self,
        states: Sequence[NDArray[np.float32]],
        labels: Sequence[NDArray[np.float32]],
        seeds: Sequence[int] = (0, 1, 2),
        steps: int = 1000,
    ) -> None:
        features = [_features(state) for state in states]
        stacked = np.concatenate(features)
        self._mean, self._std = stacked.mean(0), stacked.std(0).clip(1e-3)
        inputs = [torch.from_numpy((f - self._mean) / self._std) for f in features]
        targets = [torch.from_numpy(np.asarray(label, np.float32)) for label in labels]
        self._networks = [_fit(inputs, targets, seed, steps) for seed in seeds]

    @torch.inference_mode()
    def predict(self, state: NDArray[np.float32]) -> FloatArray:
        """Map the states (N, S) of an episode to progress (N,)."""
        inputs = torch.from_numpy((_features(state) - self._mean) / self._std)
        return np.mean([network(inputs)[:, 0].numpy() for network in self._networks], axis=0)


def _features(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 2 S): the state, and its change over the last frames (0 before the first)."""
    earlier = state[np.maximum(np.arange(len(state)) - _VELOCITY_FRAMES, 0)]
    return np.concatenate((state, state - earlier), axis=1).astype(np.float32)


def _fit(
    inputs: list[torch.Tensor], targets: list[torch.Tensor], seed: int, steps: int
) -> nn.Module:
    order = np.random.default_rng(seed).permutation(len(inputs))
    held_back = order[: max(round(_HELD_BACK * len(order)), 1)]
    rest = order[len(held_back) :] if len(order) > 1 else order

    def frames(episodes: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = (torch.cat([values[i] for i in episodes]) for values in (inputs, targets))
        return x[~y.isnan()], y[~y.isnan()]

    (x, y), (x_check, y_check) = frames(rest), frames(held_back)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        network = nn.Sequential(*layers, nn.Linear(128, 1), nn.Sigmoid())
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
        best, kept, since = float("inf"), network.state_dict(), 0
        for step in range(steps):
            rows = torch.randint(len(x), (512,))
            loss = (network(x[rows])[:, 0] - y[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % _CHECK_EVERY == _CHECK_EVERY - 1:
                with torch.no_grad():
                    error = (network(x_check)[:, 0] - y_check).abs().mean().item()
                since += 1
                if error < 0.99 * best:
                    best, since = error, 0
                    kept = {name: value.clone() for name, value in network.state_dict().items()}
                if since == _PATIENCE:
                    break
    network.load_state_dict(kept)
    return network.eval()
