"""Inference for the robot: NumPy observation in, action chunk and reward in contract units out.

`Engine` is what every engine shares, `TorchEngine` the one whose results the others must reproduce;
`load_engine` in `engines` chooses.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray

from .checkpoint import LoadedPolicy
from .history import ObservationHistory
from .images import unit_images
from .policy import Estimate
from .processors import TASK

Observation = dict[str, NDArray[Any]]
UNTOLD = "expected a text that tells this policy what to do, got none; give the task one"


@dataclass(frozen=True)
class Prediction:
    """One inference.

    Attributes:
        actions: (chunk, A) float32 in contract units, step k belongs to stamp + k * dt; (0, C)
            of a policy that was not fitted to a robot (see ``compatibility.fitted``).
        reward: predicted progress in [0, 1] at the observation; None: not predicted.
        quantiles: its q10, q50 and q90; None unless the head is distributional.
        entropy: of its distribution, nats; None likewise.
        features: (dim_model,) float32, mean of the encoder's output tokens: where the observation
            lies among others, for the monitor's novelty. None: the engine gives none.
    """

    actions: NDArray[np.float32]
    reward: float | None
    quantiles: tuple[float, float, float] | None = None
    entropy: float | None = None
    features: NDArray[np.float32] | None = None


class Engine(ABC):
    """Checks observations, keeps the history, and reads what the network says.

    Attributes:
        instruction: what to do, in words, for a policy that is told so; others do not read it.
        fastest_s: the quickest inference of the last `warm_up`.
        delay_s: from an observation until its chunk moves the robot, as whoever runs it measured.
    """

    def __init__(self, loaded: LoadedPolicy, rate_hz: float | None = None):
        """Take the policy.

        Args:
            loaded: the policy.
            rate_hz: rate of the data it was trained on; needed by a policy with a history.

        Raises:
            ValueError: a history without a rate.
        """
        steps = loaded.config.n_obs_steps
        if steps > 1 and not rate_hz:
            raise ValueError(
                f"{loaded.path}: n_obs_steps is {steps}: expected the rate of its observations, "
                "rate_hz, got none"
            )
        self.instruction, self.fastest_s, self.delay_s = "", 0.0, 0.0
        self._loaded, self._rate_hz = loaded, rate_hz
        self._history = ObservationHistory[Observation](steps, 1 / (rate_hz or 1.0))

    @property
    @abstractmethod
    def description(self) -> str:
        """What runs: engine, precision, device."""

    @property
    def reward_hash(self) -> str:
        """As ``LoadedPolicy.reward_hash``; the first time it reads all weights."""
        return self._loaded.reward_hash

    @property
    def needs_text(self) -> bool:
        """Whether the policy is told by a text what to do (``instruction``)."""
        return self._loaded.needs_text

    @property
    def trouble(self) -> str:
        """What kept the newest chunk from the policy's poses; "": nothing."""
        return "" if self._loaded.resolver is None else self._loaded.resolver.trouble

    @property
    def guided_steps(self) -> int:
        """Steps that real-time chunking took into account for the newest chunk; 0: it did not."""
        return 0 if self._loaded.real_time is None else self._loaded.real_time.steps

    def drives(self) -> None:
        """Take note that the newest chunk moves the robot: a slow policy's next goes on from it."""
        if self._loaded.real_time is not None:
            self._loaded.real_time.drives()

    def reset(self) -> None:
        """Forget past observations: an episode begins, or somebody else moved the robot."""
        self._history.reset()
        self._loaded.policy.reset()
        if self._loaded.resolver is not None:
            self._loaded.resolver.reset()

    @property
    def memory(self) -> int:
        """So many observations before the newest, a step apart, are looked at, too."""
        return int(self._loaded.config.n_obs_steps) - 1

    def remember(self, observation: Observation, stamp_s: float) -> None:
        """Take an observation for its past that nobody infers from, because a newer one is there.

        Without it a policy slower than its rate would have no past: what lies further apart than
        its steps counts as a gap.

        Raises:
            KeyError, ValueError: as `infer`.
        """
        if self.memory:
            self._past(self._checked(observation), stamp_s)

    def _past(self, checked: Observation, stamp_s: float) -> list[Observation]:
        """Keep a copy of an observation; returns it with those before it, oldest first."""
        return self._history.add({key: value.copy() for key, value in checked.items()}, stamp_s)

    def warm_up(self, runs: int = 3) -> None:
        """Run on zeros, so that the first observation of a robot does not pay for allocations."""
        observation = {
            key: np.zeros((*ft.shape[1:], 3), np.uint8)
            if key in self._loaded.config.image_features
            else np.zeros(ft.shape, np.float32)
            for key, ft in self._loaded.config.input_features.items()
        }
        if self._loaded.resolver is not None:
            seen = np.zeros(self._loaded.resolver.state_width, np.float32)
            observation.setdefault(OBS_STATE, seen)
        instruction, self.instruction = self.instruction, self.instruction or "warm up"
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            self.infer(observation, 0.0)
            times.append(time.perf_counter() - started)
        self.instruction, self.fastest_s = instruction, min(times)
        self.reset()

    @torch.inference_mode()
    def infer(self, observation: Observation, stamp_s: float | None = None) -> Prediction:
        """Predict from one observation.

        Args:
            observation: ``observation.state`` (S,) float32 in contract units and order, and each
                ``observation.images.<name>`` (H, W, 3) uint8 RGB.
            stamp_s: its time, which orders a history; only a policy with n_obs_steps > 1 needs it.

        Raises:
            KeyError: an input of the policy is missing.
            ValueError: an input has another shape or dtype, a history lacks the time, or a policy
                that is told by text has none.
            FloatingPointError: the network's output is not finite.
        """
        if self.needs_text and not self.instruction:
            raise ValueError(f"{self._loaded.path}: {TASK}: {UNTOLD}")
        checked = self._checked(observation)
        past = [checked]
        if self.memory:
            if stamp_s is None:
                raise ValueError("stamp_s: expected the observation's time for a history, got None")
            past = self._past(checked, stamp_s)
        if self._loaded.real_time is not None and stamp_s is not None and self._rate_hz:
            self._loaded.real_time.begin(stamp_s, self.delay_s, self._rate_hz)
        prediction = self._read(self._predict(past))
        if self._loaded.representation is None:
            return prediction
        return replace(prediction, actions=self._joints(prediction, observation, stamp_s))

    def _joints(
        self, prediction: Prediction, observation: Observation, stamp_s: float | None
    ) -> NDArray[np.float32]:
        """The chunk as absolute joints (n, A); none (0, C) where only the reward is asked for."""
        if self._loaded.resolver is None:
            return prediction.actions[:0]
        return self._loaded.resolver(prediction.actions, observation[OBS_STATE], stamp_s)

    @abstractmethod
    def _predict(self, past: list[Observation]) -> Estimate:
        """Predict from n checked observations, oldest first; actions in contract units, B = 1."""

    def _read(self, estimate: Estimate) -> Prediction:
        actions, reward = estimate.actions[0].float().numpy(), estimate.reward
        value = float(reward.value[0]) if reward else None
        if not np.isfinite(actions).all() or not np.isfinite(value or 0.0):
            raise FloatingPointError(
                f"policy {self._loaded.version} gave a non-finite "
                f"{'reward' if np.isfinite(actions).all() else 'action'}; "
                "check its input and weights"
            )
        features = None if estimate.features is None else estimate.features[0].cpu().numpy()
        if reward is None or reward.quantiles is None or reward.entropy is None:
            return Prediction(actions, value, features=features)
        q10, q50, q90 = reward.quantiles[0].tolist()
        return Prediction(actions, value, (q10, q50, q90), float(reward.entropy[0]), features)

    def _checked(self, observation: Observation) -> Observation:
        """The policy's inputs alone, contiguous, of the right shapes and dtypes."""
        checked = {}
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
            checked[key] = np.ascontiguousarray(value, np.uint8 if is_image else np.float32)
        return checked


class TorchEngine(Engine):
    """Runs a loaded policy with PyTorch, eagerly, through LeRobot's processors: the reference.

    In true float32: on a GPU it turns TF32 convolutions off for the whole process.
    """

    def __init__(self, loaded: LoadedPolicy, threads: int | None = 1, rate_hz: float | None = None):
        """Take the policy.

        Args:
            loaded: the policy.
            threads: torch's threads in this process (None: leave them).
            rate_hz: see ``Engine``.

        Raises:
            ValueError: a history without a rate.
        """
        super().__init__(loaded, rate_hz)
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device(loaded.config.device)
        if self._device.type == "cuda":
            # Else cuDNN rounds what convolutions read to 10 bits: more than fp32's tolerance.
            torch.backends.cudnn.allow_tf32 = False

    @property
    def description(self) -> str:
        """What runs."""
        return f"torch fp32 on {self._device}"

    def _predict(self, past: list[Observation]) -> Estimate:
        batches = [self._to_batch(observation) for observation in past]
        batch = batches[0]
        if self._loaded.config.n_obs_steps > 1:
            batch = {key: torch.stack([b[key] for b in batches], dim=1) for key in batch}
        if self.needs_text:
            return self._loaded.predict({**batch, TASK: [self.instruction]})
        return self._loaded.predict(batch)

    def _to_batch(self, observation: Observation) -> dict[str, torch.Tensor]:
        batch = {}
        for key, value in observation.items():
            tensor = torch.from_numpy(value).to(self._device)
            if key in self._loaded.config.image_features:
                tensor = unit_images(tensor)
            batch[key] = tensor.unsqueeze(0)
        return batch
