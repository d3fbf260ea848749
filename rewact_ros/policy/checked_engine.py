"""A fast engine that has to prove itself against torch before it is believed."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch

from .checkpoint import LoadedPolicy
from .engine import Engine, Observation, TorchEngine
from .export import discard
from .policy import Estimate
from .runtimes import ServingEngine, brief
from .scaling import action_line, input_scalings

REAL_OBSERVATIONS = 5  # the first ones of the robot, on which both run
_SYNTHETIC_OBSERVATIONS = 3


@dataclass(frozen=True)
class Difference:
    """Largest difference between two predictions, or the largest that is allowed.

    Attributes:
        actions: of any step and joint, in units of the scale that actions are normalised by
            (mostly their standard deviation in training).
        reward: in units of the value range.
        features: in units of their root mean square.
    """

    actions: float
    reward: float
    features: float

    def within(self, allowed: "Difference") -> bool:
        """Whether no part is larger than allowed; NaN is."""
        return all(getattr(self, f.name) <= getattr(allowed, f.name) for f in fields(self))

    def joined(self, other: "Difference") -> "Difference":
        """The larger of each part."""
        return Difference(*(max(getattr(d, f.name) for d in (self, other)) for f in fields(self)))

    def __str__(self) -> str:
        return (
            f"actions {self.actions:.2g} sd, reward {self.reward:.2g}, features {self.features:.2g}"
        )


TOLERANCES = {
    "fp32": Difference(actions=2e-3, reward=1e-3, features=2e-3),
    "fp16": Difference(actions=2e-2, reward=5e-3, features=2e-2),
    "bf16": Difference(actions=1e-1, reward=2e-2, features=1e-1),
}


class EngineComparison:
    """Measures how far one engine's estimate is from another's, for one policy."""

    def __init__(self, loaded: LoadedPolicy):
        self._scale = action_line(loaded)[1].abs().clamp_min(1e-9)
        self._range = loaded.config.value_max - loaded.config.value_min

    def __call__(self, expected: Estimate, got: Estimate) -> Difference:
        """Compare; B = 1."""
        actions = (expected.actions - got.actions).abs().double() / self._scale
        reward = 0.0
        if expected.reward is not None and got.reward is not None:
            apart = expected.reward.value.cpu() - got.reward.value.cpu()
            reward = float(apart.abs()) / self._range
        assert expected.features is not None and got.features is not None
        features = expected.features.cpu() - got.features.cpu()
        size = expected.features.cpu().square().mean().sqrt()
        return Difference(float(actions.max()), reward, float(features.abs().max() / size))


class CheckedEngine(Engine):
    """Runs a fast engine, and torch beside it until the fast one has agreed often enough.

    Both run on synthetic observations in ``warm_up`` and on the first real ones, whose predictions
    are torch's. Where the fast one fails, disagrees or, later, gives a number that is not finite,
    torch serves from then on, that observation included.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        fast: ServingEngine,
        precision: str,
        reference: TorchEngine,
        rate_hz: float | None,
        report: Callable[[str], object],
    ):
        """Take the fast engine.

        Args:
            loaded: the policy.
            fast: the engine to check.
            precision: chooses the tolerance.
            reference: the engine to check it against.
            rate_hz: see ``Engine``.
            report: told when torch takes over, and why.
        """
        super().__init__(loaded, rate_hz)
        self._reference = reference
        self._fast: ServingEngine | None = fast
        self._allowed = TOLERANCES[precision]
        self._compare = EngineComparison(loaded)
        self._scalings = input_scalings(loaded)
        self._report = report
        self._left, self._worst = REAL_OBSERVATIONS, Difference(0.0, 0.0, 0.0)

    @property
    def fell_back(self) -> bool:
        """Whether torch serves because the fast engine failed."""
        return self._fast is None

    @property
    def worst(self) -> Difference:
        """Largest difference from torch in all comparisons so far."""
        return self._worst

    @property
    def description(self) -> str:
        """What runs, and how it compared with torch."""
        if self._fast is None:
            return f"{self._reference.description} ({self._why})"
        if self._left:
            return f"{self._fast.description} (beside torch for {self._left} more observations)"
        return f"{self._fast.description} (within {self._worst} of torch)"

    def warm_up(self, runs: int = 3) -> None:
        """Warm both up, and compare them on noise around the training data."""
        self._reference.warm_up(runs)
        self.fastest_s = self._reference.fastest_s
        try:
            if self._fast is not None:
                self._fast.warm_up(runs)
                self.fastest_s = self._fast.fastest_s
        except Exception as error:  # each runtime has its own families
            self._fall_back(error)
        rng = np.random.default_rng(0)
        with torch.inference_mode():
            for _ in range(_SYNTHETIC_OBSERVATIONS):
                past = [self._synthetic(rng) for _ in range(self._loaded.config.n_obs_steps)]
                if self._fast is not None:
                    self._predict_both(self._fast, past)

    def _predict(self, past: list[Observation]) -> Estimate:
        if self._fast is None:
            return self._reference._predict(past)
        if self._left:
            expected = self._predict_both(self._fast, past)
            self._left -= 1
            return expected
        try:
            estimate = self._fast._predict(past)
            assert estimate.features is not None  # of a policy that an engine was made for
            finite = estimate.actions.isfinite().all() and estimate.features.isfinite().all()
            if finite and (estimate.reward is None or estimate.reward.value.isfinite().all()):
                return estimate
            raise FloatingPointError("an output is not finite")
        except Exception as error:  # each runtime has its own families
            self._fall_back(error)
            return self._reference._predict(past)

    def _predict_both(self, fast: ServingEngine, past: list[Observation]) -> Estimate:
        expected = self._reference._predict(past)
        try:
            difference = self._compare(expected, fast._predict(past))
            if not difference.within(self._allowed):
                raise ValueError(f"differs from torch by {difference}; allowed are {self._allowed}")
        except Exception as error:  # each runtime has its own families
            self._fall_back(error)
            return expected
        self._worst = self._worst.joined(difference)
        return expected

    def _fall_back(self, error: Exception) -> None:
        assert self._fast is not None
        self._why = f"instead of {self._fast.description}: {brief(error)}"
        self._fast = None
        discard(self._loaded)
        self._report(self.description)

    def _synthetic(self, rng: np.random.Generator) -> Observation:
        """States spread as in training, and images of blurred noise."""
        observation = {}
        for key, scaling in self._scalings.items():
            if key in self._loaded.config.image_features:
                channels, height, width = self._loaded.config.input_features[key].shape
                coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, channels))
                blocks = coarse.repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
                noise = rng.normal(scale=8.0, size=blocks.shape)
                observation[key] = np.clip(blocks + noise, 0, 255).astype(np.uint8)
            else:
                spread = rng.normal(size=scaling.centre.shape)
                value = scaling.centre.numpy() + spread / scaling.factor.numpy()
                observation[key] = value.astype(np.float32)
        return observation
