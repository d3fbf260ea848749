"""Closed loop in any Gymnasium environment that has cameras and joint state."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from rewact_ros.data.video.reward_chart import Reading
from rewact_ros.data.video.reward_video import RewardVideo
from rewact_ros.policy import RewACTPolicy
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.policy.images import unit_images
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.runs import machine

from .gym_env import (
    EnvError,
    NamedEnv,
    Observation,
    first_observation,
    flatten,
    make_env,
    resolve_inputs,
)


@dataclass(frozen=True)
class GymEpisode:
    """One episode.

    Attributes:
        seed: of the reset.
        success: `is_success` in any step's info; without it, ended by the environment with a
            positive reward.
        env_return: sum of the environment's rewards.
        steps: actions taken.
        stage: `stage` of the last info, "" where the environment tells none.
        outside_action_space: steps whose action lay outside the declared space; they were passed
            on as they were, what becomes of them is the environment's own rule.
        looked_again: the first observation was blank and was taken again.
        progress: predicted reward before every step, empty without a reward head.
    """

    seed: int
    success: bool
    env_return: float
    steps: int
    stage: str
    outside_action_space: int
    looked_again: bool
    progress: list[float]


def evaluate_env(
    loaded: LoadedPolicy,
    env: str,
    episodes: int,
    seed: int,
    max_steps: int | None = None,
    out: Path | None = None,
    mapping: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a policy for some episodes and report successes with a Wilson interval.

    Actions come from `select_action` between the policy's own processors, as in LeRobot's eval.

    Args:
        loaded: the policy.
        env: as for `gym_env.make_env`.
        episodes: how many; episode i is reset with seed + i.
        seed: of the first.
        max_steps: of an episode; None for the environment's own limit.
        out: folder for one video an episode, None for none.
        mapping: policy input → key of the flattened observation, where the usual names do not fit.

    Returns:
        a record that JSON can hold: policy, settings, machine, success, env_return, episodes.

    Raises:
        EnvError: the environment cannot be made, does not fit the policy or has no end.
    """
    if episodes < 1:
        raise EnvError(f"episodes: expected at least 1, got {episodes}")
    made = make_env(env)
    try:
        limit = _limit(made, max_steps)
        _check_actions(made, loaded)
        results = []
        bar = tqdm(range(seed, seed + episodes), unit="episode", mininterval=1)
        for scene in bar:
            results.append(_episode(loaded, made, scene, limit, out, mapping))
            bar.set_postfix_str(f"success {sum(r.success for r in results)}/{len(results)}")
    finally:
        made.env.close()
    successes = sum(result.success for result in results)
    low, high = wilson_interval(successes, episodes)
    returns = np.array([result.env_return for result in results])
    return {
        "policy": {"path": str(loaded.path), "version": loaded.version},
        "settings": {
            "env": env,
            "seed": seed,
            "max_steps": limit,
            "rate_hz": made.rate_hz,
            "mapping": dict(mapping or {}),
        },
        "machine": machine(),
        "success": {"value": successes / episodes, "n": episodes, "low": low, "high": high},
        "env_return": {"mean": float(returns.mean()), "std": float(returns.std()), "n": episodes},
        "episodes": [asdict(result) for result in results],
    }


def _episode(
    loaded: LoadedPolicy,
    made: NamedEnv,
    seed: int,
    limit: int,
    out: Path | None,
    mapping: Mapping[str, str] | None,
) -> GymEpisode:
    raw, looked_again = first_observation(made.env, seed)
    keys = resolve_inputs(loaded.config, raw, mapping)
    if out is None:
        return _drive(loaded, made, seed, limit, raw, keys, looked_again, None)
    title = f"{made.name}, seed {seed}, policy {loaded.path.name} {loaded.version}"
    ends = (min(0.0, loaded.config.value_min), max(1.0, loaded.config.value_max))
    path = out / f"seed-{seed}.mp4"
    with RewardVideo(path, title, made.rate_hz, value_range=ends) as video:
        result = _drive(loaded, made, seed, limit, raw, keys, looked_again, video)
        video.title += " — success" if result.success else " — failure"
    return result


def _drive(
    loaded: LoadedPolicy,
    made: NamedEnv,
    seed: int,
    limit: int,
    raw: Observation,
    keys: dict[str, str],
    looked_again: bool,
    video: RewardVideo | None,
) -> GymEpisode:
    policy = loaded.policy
    assert isinstance(policy, RewACTPolicy)  # no other type has a loader
    policy.reset()
    space = made.env.action_space
    progress: list[float] = []
    total, outside, succeeded = 0.0, 0, False
    for step in range(limit):  # at least one
        inputs = {feature: raw[key] for feature, key in keys.items()}
        action, reward = _act(loaded, policy, inputs, step)
        if reward is not None:
            progress.append(reward)
        if video is not None:
            images = {
                key: np.asarray(inputs[key], np.uint8) for key in loaded.config.image_features
            }
            reading = None if reward is None else Reading(reward)
            video.add(step / made.rate_hz, images, reading)
        action = action.reshape(space.shape).astype(space.dtype)
        outside += not space.contains(action)
        observation, gained, terminated, truncated, info = made.env.step(action)
        raw = flatten(observation)
        gain = float(gained)
        total += gain
        reached = info.get("is_success")
        succeeded |= bool(terminated and gain > 0) if reached is None else bool(reached)
        if terminated or truncated:
            break
    return GymEpisode(
        seed=seed,
        success=succeeded,
        env_return=total,
        steps=step + 1,
        stage=str(info.get("stage", "")),
        outside_action_space=outside,
        looked_again=looked_again,
        progress=progress,
    )


def _act(
    loaded: LoadedPolicy, policy: RewACTPolicy, inputs: Observation, step: int
) -> tuple[NDArray[np.float32], float | None]:
    """(A,) action in the environment's units, and the predicted reward."""
    batch: dict[str, Any] = {"task": [""]}
    for key, seen in inputs.items():
        tensor = torch.from_numpy(np.ascontiguousarray(seen)).unsqueeze(0)
        is_image = key in loaded.config.image_features
        batch[key] = unit_images(tensor) if is_image else tensor.float()
        if not torch.isfinite(batch[key]).all():
            raise EnvError(f"step {step}: {key} of the environment is not finite; mend it there")
    has_reward = loaded.config.reward_head != "none"
    with torch.inference_mode():
        chosen = policy.select_action(loaded.preprocessor(batch), returns_reward=has_reward)
        action, reward = chosen if has_reward else (chosen, None)
        action = loaded.postprocessor(action)[0].float().cpu().numpy()
    value = None if reward is None else float(reward[0])
    if not np.isfinite(action).all() or not math.isfinite(value or 0.0):
        raise EnvError(
            f"step {step}: policy {loaded.version} gave a non-finite "
            f"{'reward' if np.isfinite(action).all() else 'action'}; check its weights"
        )
    return action, value


def _limit(made: NamedEnv, max_steps: int | None) -> int:
    limit = made.max_steps if max_steps is None else max_steps
    if limit is None or limit < 1:
        raise EnvError(
            f"environment {made.name}: max_steps: expected at least 1, got {limit}"
            f"{' (it has no limit of its own)' if max_steps is None else ''}; give --max-steps"
        )
    return limit


def _check_actions(made: NamedEnv, loaded: LoadedPolicy) -> None:
    feature = loaded.config.action_feature
    assert feature is not None  # a loader refuses a policy without
    space, size = made.env.action_space, feature.shape[0]
    if not isinstance(space, gymnasium.spaces.Box) or math.prod(space.shape) != size:
        raise EnvError(
            f"environment {made.name}: action: expected a Box of {size} numbers as the policy "
            f"gives, got {space}; take a policy of this environment"
        )
