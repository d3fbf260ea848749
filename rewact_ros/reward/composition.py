"""Reward of a reinforcement-learning step from a success probability. NumPy only.

The manner of RLinf's embodied reward models; every mode is one formula, written here and in
docs/reward-model.md. At step t of an episode, with success probability p (None: not judged):

    q(t) = mean of the last `history_window` judged p
    s(t) = q(t) >= reward_threshold at the last `success_hold_steps` judged steps, t among them
    v(t) = q(t) with `use_reward_prob`, else 1
    m(t) = success_reward * v(t) if s(t), else fail_reward
    m(t) = interval_reward at a step without a judgement: p is None, fewer than `history_window`
           were judged so far, or `terminal` and not the last step

    replace:  r(t) = m(t)
    add:      r(t) = e(t) + m(t)
    weighted: r(t) = env_reward_weight * e(t) + reward_weight * m(t)
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REWARD_MODES = ("per_step", "terminal")
COMBINE_MODES = ("replace", "add", "weighted")


class CompositionError(ValueError):
    """A setting or a value that no reward can be composed from."""


@dataclass(frozen=True)
class CompositionSettings:
    """How a success probability becomes a reward.

    Attributes:
        reward_mode: `per_step` judges every step, `terminal` the last one alone.
        success_reward: of a judged success, times the probability with `use_reward_prob`.
        fail_reward: of a step that is judged and no success.
        reward_threshold: probability from which a step counts as success.
        success_hold_steps: judged steps in a row that must count before it is a success.
        interval_reward: of a step without a judgement.
        use_reward_prob: scale `success_reward` by the probability.
        history_window: judged probabilities that are averaged.
        combine_mode: `replace`, `add` or `weighted`.
        reward_weight, env_reward_weight: of the model's and the environment's reward; `weighted`.

    Raises:
        CompositionError: a setting out of its range.
    """

    reward_mode: str = "per_step"
    success_reward: float = 1.0
    fail_reward: float = 0.0
    reward_threshold: float = 0.5
    success_hold_steps: int = 1
    interval_reward: float = 0.0
    use_reward_prob: bool = False
    history_window: int = 1
    combine_mode: str = "replace"
    reward_weight: float = 1.0
    env_reward_weight: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, choices in (("reward_mode", REWARD_MODES), ("combine_mode", COMBINE_MODES)):
            if getattr(self, name) not in choices:
                raise CompositionError(
                    f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        if not 0 < self.reward_threshold <= 1:
            raise CompositionError(
                f"reward_threshold: expected 0 < x <= 1, got {self.reward_threshold}"
            )
        for name in ("success_hold_steps", "history_window"):
            if getattr(self, name) < 1:
                raise CompositionError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in (
            "success_reward",
            "fail_reward",
            "interval_reward",
            "reward_weight",
            "env_reward_weight",
        ):
            if not math.isfinite(getattr(self, name)):
                raise CompositionError(f"{name}: expected a number, got {getattr(self, name)}")

    @property
    def uses_env_reward(self) -> bool:
        """Whether the environment's reward enters at all."""
        return self.combine_mode == "add" or (
            self.combine_mode == "weighted" and self.env_reward_weight != 0
        )

    @property
    def uses_model(self) -> bool:
        """Whether the classifier enters at all: stage 1 of the two-stage use needs none."""
        return self.combine_mode != "weighted" or self.reward_weight != 0


@dataclass(frozen=True)
class ComposedReward:
    """Reward of one step.

    Attributes:
        reward: r(t), what the learner gets.
        model_reward: m(t), the classifier's part before it is combined.
        success: s(t); false also at a step without a judgement.
    """

    reward: float
    model_reward: float
    success: bool


class RewardComposition:
    """Composes the reward of an episode step by step; the formulas are the module's."""

    def __init__(self, settings: CompositionSettings) -> None:
        self.settings = settings
        self._judged: deque[float] = deque(maxlen=settings.history_window)
        self._held = 0

    def reset(self) -> None:
        """Forget the episode; call it before the first step of the next."""
        self._judged.clear()
        self._held = 0

    def step(
        self, probability: float | None, env_reward: float | None = None, last: bool = False
    ) -> ComposedReward:
        """Compose the reward of the next step.

        Args:
            probability: success probability in [0, 1]; None where nothing was judged.
            env_reward: the environment's reward; may be None where it does not enter.
            last: whether the episode ends with this step.

        Raises:
            CompositionError: a probability outside [0, 1], or no finite environment reward where
                one is needed.
        """
        settings = self.settings
        judged = self._judge(probability) and (last or settings.reward_mode == "per_step")
        success = judged and self._held >= settings.success_hold_steps
        if not judged:
            model_reward = settings.interval_reward
        elif success:
            model_reward = settings.success_reward * (
                self._mean() if settings.use_reward_prob else 1.0
            )
        else:
            model_reward = settings.fail_reward
        return ComposedReward(self._combine(model_reward, env_reward), model_reward, success)

    def _judge(self, probability: float | None) -> bool:
        """Take a probability in; false where there is none, or too few so far."""
        if probability is None:
            return False
        if not 0 <= probability <= 1:  # NaN too
            raise CompositionError(
                f"probability: expected 0 to 1, got {probability}; give None for a step that was "
                "not judged"
            )
        self._judged.append(float(probability))
        if len(self._judged) < self.settings.history_window:
            return False
        self._held = self._held + 1 if self._mean() >= self.settings.reward_threshold else 0
        return True

    def _mean(self) -> float:
        return math.fsum(self._judged) / len(self._judged)

    def _combine(self, model_reward: float, env_reward: float | None) -> float:
        settings = self.settings
        if not settings.uses_env_reward:
            weighted = settings.combine_mode == "weighted"
            return settings.reward_weight * model_reward if weighted else model_reward
        if env_reward is None or not math.isfinite(env_reward):
            raise CompositionError(
                f"env_reward: combine_mode {settings.combine_mode} needs the environment's reward, "
                f"got {env_reward}; give it, or use combine_mode replace"
            )
        if settings.combine_mode == "add":
            return env_reward + model_reward
        return settings.env_reward_weight * env_reward + settings.reward_weight * model_reward


def compose_episode(
    settings: CompositionSettings,
    probabilities: Sequence[float | None],
    env_rewards: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Rewards (N,) of a whole recorded episode, as `RewardComposition` gives them live.

    Args:
        settings: the composition.
        probabilities: N success probabilities; None or NaN where nothing was judged.
        env_rewards: N rewards of the environment; None where they do not enter.

    Raises:
        CompositionError: as `RewardComposition.step`, or lengths that differ.
    """
    n = len(probabilities)
    if env_rewards is not None and len(env_rewards) != n:
        raise CompositionError(
            f"env_rewards: expected {n} as probabilities, got {len(env_rewards)}"
        )
    composition = RewardComposition(settings)
    rewards = np.empty(n)
    for t, probability in enumerate(probabilities):
        known = None if probability is None or math.isnan(probability) else float(probability)
        env_reward = None if env_rewards is None else float(env_rewards[t])
        rewards[t] = composition.step(known, env_reward, last=t == n - 1).reward
    return rewards
