"""Inference for the robot: NumPy observation in, action chunk and reward in contract units out."""

from dataclasses import dataclass

import numpy as np
import torch

from .checkpoint import LoadedPolicy


@dataclass(frozen=True)
class Prediction:
    """One inference.

    Attributes:
        actions: (chunk, A) float32 in contract units, step k belongs to stamp + k * dt.
        reward: predicted progress in [0, 1] at the observation; None: not predicted.
    """

    actions: np.ndarray
    reward: float | None


class TorchEngine:
    """Runs a loaded policy with PyTorch, eagerly."""

    def __init__(self, loaded: LoadedPolicy, threads: int | None = 1):
        """Take the policy; ``threads`` sets torch's threads of this process (None: leave them)."""
        if threads is not None:
            torch.set_num_threads(threads)
        self._loaded = loaded
        self._device = torch.device(loaded.config.device)

    def warm_up(self, runs: int = 3) -> None:
        """Run on zeros, so that the first observation of a robot does not pay for allocations."""
        observation = {
            key: np.zeros((*ft.shape[1:], 3), np.uint8)
            if key in self._loaded.config.image_features
            else np.zeros(ft.shape, np.float32)
            for key, ft in self._loaded.config.input_features.items()
        }
        for _ in range(runs):
            self.infer(observation)

    @torch.inference_mode()
    def infer(self, observation: dict[str, np.ndarray]) -> Prediction:
        """Predict from one observation.

        Args:
            observation: ``observation.state`` (S,) float32 in contract units and order, and each
                ``observation.images.<name>`` (H, W, 3) uint8 RGB.

        Raises:
            KeyError: an input of the policy is missing.
            ValueError: an input has another shape or dtype.
            FloatingPointError: the network's output is not finite.
        """
        batch = self._loaded.preprocessor(self._to_batch(observation))
        actions, reward = self._loaded.policy.predict(batch)
        actions = self._loaded.postprocessor(actions)[0].float().numpy()
        value = float(reward[0])
        if not (np.isfinite(actions).all() and np.isfinite(value)):
            raise FloatingPointError(
                f"policy {self._loaded.version} gave a non-finite "
                f"{'reward' if np.isfinite(actions).all() else 'action'}; "
                "check its input and weights"
            )
        return Prediction(actions=actions, reward=value)

    def _to_batch(self, observation: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        batch = {}
        for key, feature in self._loaded.config.input_features.items():
            if key not in observation:
                raise KeyError(f"observation lacks {key}; it has {sorted(observation)}")
            value, is_image = observation[key], key in self._loaded.config.image_features
            shape = (*feature.shape[1:], feature.shape[0]) if is_image else feature.shape
            if value.shape != tuple(shape) or (is_image and value.dtype != np.uint8):
                raise ValueError(
                    f"{key}: expected shape {tuple(shape)}{' uint8' if is_image else ''}, "
                    f"got {value.shape} {value.dtype}"
                )
            tensor = torch.from_numpy(np.ascontiguousarray(value)).to(self._device)
            tensor = tensor.permute(2, 0, 1).float() / 255 if is_image else tensor.float()
            batch[key] = tensor.unsqueeze(0)
        return batch
