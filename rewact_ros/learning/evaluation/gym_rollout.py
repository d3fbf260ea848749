"""Closed loop in any Gymnasium environment that shows pictures and joint state."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
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
from rewact_ros.policy.compatibility import require_rewact
from rewact_ros.policy.images import unit_images
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.runs import machine

from .env_server import EnvError, flatten
from .gym_env import (
    NamedEnv,
    Observation,
    add_render,
    first_observation,
    make_env,
    resolve_inputs,
    seen_at,
)
from .gym_record import EnvFrame, recording
from .settings import EnvSettings, numbers

# What environments call success in their info.
SUCCESS_KEYS = ("is_success", "success", "succeed")
Keep = Callable[[list[EnvFrame], bool | None], None]


@dataclass(frozen=True)
class GymEpisode:
    """One episode.

    Attributes:
        seed: of the reset.
        success: what the environment said in any step's info; None: it never said.
        env_return: sum of the environment's rewards.
        steps: of the environment.
        stage: `stage` of the last info, "" where the environment tells none.
        outside_action_space: steps whose action lay outside the declared space; they were passed
            on as they were, what becomes of them is the environment's own rule.
        looked_again: the first observation was blank and was taken again.
        progress: predicted reward before every action, empty without a reward head.
    """

    seed: int
    success: bool | None
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
    settings: EnvSettings | None = None,
    out: Path | None = None,
    record: Path | None = None,
) -> dict[str, Any]:
    """Run a policy for some episodes and report successes with a Wilson interval.

    Actions come from `select_action` between the policy's own processors, as in LeRobot's eval.

    Args:
        loaded: the policy.
        env: as for `gym_env.make_env`.
        episodes: how many; episode i is reset with seed + i.
        seed: of the first.
        settings: how they meet.
        out: folder for one video an episode, None for none.
        record: a new LeRobotDataset of the episodes, None for none.

    Returns:
        a record that JSON can hold: policy, settings, machine, success, env_return, episodes.
        `success` is of the episodes in which the environment said; its value is None where it
        never did. `seeded`: the same seed gave the same first observation twice.

    Raises:
        EnvError: the environment cannot be made, does not fit the policy, has no end, or never
            says what was asked for.
    """
    if episodes < 1:
        raise EnvError(f"episodes: expected at least 1, got {episodes}")
    settings = settings or EnvSettings()
    made = make_env(env)
    with ExitStack() as stack:
        stack.callback(made.env.close)
        run = _Run(loaded, made, settings)
        keep: Keep | None = None
        if record is not None:
            keep = stack.enter_context(recording(loaded, record, run.action_hz, settings.text))
        results: list[GymEpisode] = []
        bar = tqdm(range(seed, seed + episodes), unit="episode", mininterval=1)
        for scene in bar:
            result, frames = run.episode(scene, out)
            if keep is not None:
                keep(frames, result.success)
            results.append(result)
            bar.set_postfix_str(_so_far(results))
        seeded = run.is_seeded(seed)
    returns = np.array([result.env_return for result in results])
    return {
        "policy": {"path": str(loaded.path), "version": loaded.version},
        "settings": {"env": env, "seed": seed}
        | asdict(settings)
        | {"max_steps": run.limit, "rate_hz": run.action_hz},
        "machine": machine(),
        "seeded": seeded,
        "success": _rate([result.success for result in results]),
        "env_return": {"mean": float(returns.mean()), "std": float(returns.std()), "n": episodes},
        "episodes": [asdict(result) for result in results],
    }


def _rate(said: list[bool | None]) -> dict[str, Any]:
    """Share of successes among the episodes in which the environment said."""
    known = [success for success in said if success is not None]
    if not known:
        return {"value": None, "n": 0, "low": 0.0, "high": 1.0, "unknown": len(said)}
    low, high = wilson_interval(sum(known), len(known))
    unknown = len(said) - len(known)
    value = sum(known) / len(known)
    return {"value": value, "n": len(known), "low": low, "high": high, "unknown": unknown}


def _so_far(results: list[GymEpisode]) -> str:
    said = [result.success for result in results if result.success is not None]
    return f"success {sum(said)}/{len(said)}" if said else "success unknown"


class _Run:
    """A policy in an environment.

    Attributes:
        limit: steps of the environment in an episode.
        action_hz: how often an action is chosen.
    """

    def __init__(self, loaded: LoadedPolicy, made: NamedEnv, settings: EnvSettings) -> None:
        self._loaded, self._made, self._settings = loaded, made, settings
        self.limit = _limit(made, settings.max_steps or None)
        size = _check_actions(made, loaded)
        self._scale = _per_component("action_scale", settings.action_scale, size)
        self._offset = _per_component("action_offset", settings.action_offset, size)
        self._repeat = _steps_an_action(made, settings.control_hz)
        self.action_hz = made.rate_hz / self._repeat

    def is_seeded(self, seed: int) -> bool:
        """Whether a seed means one scene: vectors alike after two resets."""
        first, second = (self._reset(seed)[0] for _ in range(2))
        vectors = [key for key, value in first.items() if value.ndim < 3]
        keys = vectors or list(first)
        return all(np.array_equal(first[key], second[key]) for key in keys)

    def episode(self, seed: int, out: Path | None) -> tuple[GymEpisode, list[EnvFrame]]:
        """Drive one episode, and film it into a folder."""
        raw, looked_again = self._reset(seed)
        keys = resolve_inputs(self._loaded.config, raw, self._settings.mapping)
        if out is None:
            return self._drive(seed, raw, keys, looked_again, None)
        config = self._loaded.config
        title = f"{self._made.name}, seed {seed}, policy {self._loaded.path.name}"
        title = f"{title} {self._loaded.version}"
        ends = (min(0.0, config.value_min), max(1.0, config.value_max))
        path = out / f"seed-{seed}.mp4"
        with RewardVideo(path, title, self.action_hz, value_range=ends) as video:
            result, frames = self._drive(seed, raw, keys, looked_again, video)
            word = {True: "success", False: "failure", None: "outcome unknown"}[result.success]
            video.title += f" — {word}"
        return result, frames

    def _reset(self, seed: int) -> tuple[Observation, bool]:
        # Some environments draw from here, whatever seed they are given.
        np.random.seed(seed % 2**32)
        raw, looked_again = first_observation(self._made.env, seed)
        return self._with_render(raw), looked_again

    def _with_render(self, raw: Observation) -> Observation:
        return add_render(self._made.env, raw, self._settings.mapping.values())

    def _drive(
        self,
        seed: int,
        raw: Observation,
        keys: Mapping[str, str],
        looked_again: bool,
        video: RewardVideo | None,
    ) -> tuple[GymEpisode, list[EnvFrame]]:
        policy = require_rewact(self._loaded, "--env")
        policy.reset()
        space, steps, ended = self._made.env.action_space, 0, False
        frames: list[EnvFrame] = []
        total, outside = 0.0, 0
        said: bool | None = None
        info: Mapping[str, Any] = {}
        while steps < self.limit and not ended:
            inputs = {feature: seen_at(raw, key) for feature, key in keys.items()}
            chosen, reward = _act(self._loaded, policy, inputs, steps, self._settings.text)
            if video is not None:
                _show(video, self._loaded, inputs, steps / self._made.rate_hz, reward)
            frames.append(EnvFrame(inputs, chosen, reward, bool(said)))
            action = (chosen * self._scale + self._offset).reshape(space.shape).astype(space.dtype)
            for _ in range(min(self._repeat, self.limit - steps)):
                outside += not space.contains(action)
                observation, gained, terminated, truncated, info = self._made.env.step(action)
                steps, total = steps + 1, total + float(gained)
                told = self._told(info)
                said = said if told is None else bool(said) or told
                ended = bool(terminated or truncated)
                if ended:
                    break
            raw = self._with_render(flatten(observation))
        if said is None and self._settings.success_key:
            raise EnvError(
                f"environment {self._made.name}: success_key: it never said "
                f"'{self._settings.success_key}'; its info holds "
                f"{', '.join(flatten(info)) or 'nothing'}"
            )
        episode = GymEpisode(
            seed=seed,
            success=said,
            env_return=total,
            steps=steps,
            stage=str(info.get("stage", "")),
            outside_action_space=outside,
            looked_again=looked_again,
            progress=[frame.reward for frame in frames if frame.reward is not None],
        )
        return episode, frames

    def _told(self, info: Mapping[str, Any]) -> bool | None:
        """What the environment says of success; None: nothing."""
        key = self._settings.success_key
        flat = flatten(info) if key else info
        word = next((name for name in ((key,) if key else SUCCESS_KEYS) if name in flat), None)
        if word is None or flat[word] is None:
            return None
        value = np.asarray(flat[word])
        if value.size != 1 or value.dtype.kind not in "biuf" or np.isnan(float(value.item())):
            raise EnvError(
                f"environment {self._made.name}: success: expected one true or false as "
                f"info['{word}'], got {flat[word]!r}; name another key by --success-key"
            )
        return bool(value.item())


def _show(
    video: RewardVideo,
    loaded: LoadedPolicy,
    inputs: Observation,
    time_s: float,
    reward: float | None,
) -> None:
    images = {key: np.asarray(inputs[key], np.uint8) for key in loaded.config.image_features}
    video.add(time_s, images, None if reward is None else Reading(reward))


def _act(
    loaded: LoadedPolicy, policy: RewACTPolicy, inputs: Observation, step: int, text: str
) -> tuple[NDArray[np.float32], float | None]:
    """(A,) action in the policy's units, and the predicted reward."""
    batch: dict[str, Any] = {"task": [text]}
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


def _per_component(name: str, text: str, size: int) -> NDArray[np.float32]:
    values = numbers(name, text)
    if len(values) not in (1, size):
        raise EnvError(f"{name}: expected 1 number or {size}, as many as actions, got '{text}'")
    return np.broadcast_to(np.array(values, np.float32), (size,))


def _steps_an_action(made: NamedEnv, control_hz: float) -> int:
    steps = made.rate_hz / control_hz if control_hz else 1.0
    if steps < 1 or abs(steps - round(steps)) > 1e-6:
        raise EnvError(
            f"environment {made.name}: control_hz: expected its {made.rate_hz:g} Hz divided by a "
            f"whole number, got {control_hz:g}"
        )
    return round(steps)


def _check_actions(made: NamedEnv, loaded: LoadedPolicy) -> int:
    """Number of components; raises EnvError where the environment takes others."""
    feature = loaded.config.action_feature
    assert feature is not None  # a loader refuses a policy without
    space, size = made.env.action_space, feature.shape[0]
    if not isinstance(space, gymnasium.spaces.Box) or math.prod(space.shape) != size:
        raise EnvError(
            f"environment {made.name}: action: expected a Box of {size} numbers as the policy "
            f"gives, got {space}; take a policy of this environment"
        )
    return int(size)
