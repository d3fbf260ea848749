"""Gymnasium environments by name, and their observations as a policy's inputs."""

import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from lerobot.utils.constants import OBS_ENV_STATE, OBS_IMAGE, OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray

from rewact_ros.policy.policy import PolicyConfig

from .env_server import EnvError, arguments, flatten, open_env
from .served_env import ServedEnv

LEROBOT = "lerobot:"
SERVED = "served:"
RENDER = "render"  # in a mapping: the picture that the environment renders
_RENDER_HINT = f" ({RENDER}: the picture that it renders)"
_PLUGINS = "lerobot_env_"
Observation = dict[str, NDArray[np.generic]]
# Of an environment that names no `render_fps`: it gives ages and videos a clock.
_DEFAULT_RATE_HZ = 30.0
# What environments call these inputs, in order of preference.
_USUAL_NAMES = {
    OBS_STATE: ("agent_pos", "state"),
    OBS_ENV_STATE: ("environment_state",),
    OBS_IMAGE: ("pixels", "image"),
}
# Where environments keep the function that looks again without a step.
_LOOK_AGAIN = ("get_obs", "_get_obs", "get_observation", "_get_observation", "_compute_observation")


@dataclass(frozen=True)
class NamedEnv:
    """An environment with its rate (for videos) and its own limit of steps, None without one."""

    name: str
    env: gymnasium.Env
    rate_hz: float
    max_steps: int | None


def make_env(spec: str) -> NamedEnv:
    """Make an environment.

    Args:
        spec: `lerobot:NAME`, an environment configuration of LeRobot such as `lerobot:pusht`, or
            of an installed plug-in of its (`lerobot_env_…`);
            `module:factory`, a callable that returns a `gymnasium.Env`; or a registered id such as
            `gym_pusht/PushT-v0`, whose package is imported; where the package is called otherwise,
            it stands before: `package:Suite/Thing-v0`. `?key=value&…` passes arguments on, the
            values as JSON or plain text. `served:PATH` or `served:127.0.0.1:PORT` is what
            `env_server.py` serves there.

    Raises:
        EnvError: unknown, not installed, or refusing its arguments.
    """
    # No window and no sound: these are read when the environment's packages are imported.
    for variable in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(variable, "dummy")
    os.environ.setdefault("MUJOCO_GL", "egl")
    name, given = arguments(spec)
    try:
        if name.startswith(SERVED):
            served = ServedEnv(name.removeprefix(SERVED), **given)
            return NamedEnv(name, served, served.rate_hz or _DEFAULT_RATE_HZ, served.max_steps)
        if name.startswith(LEROBOT):
            return _from_lerobot(name, given)
        return _named(name, open_env(name, given))
    except (ImportError, AttributeError, TypeError, gymnasium.error.Error) as error:
        raise EnvError(
            f"environment {spec}: {' '.join(str(error).split())}; install its package, or check "
            "name and arguments (lerobot:NAME, module:factory, a Gymnasium id, package:ID where "
            "the package is called otherwise, or served:PATH; ?key=value)"
        ) from error


def resolve_inputs(
    config: PolicyConfig, observation: Observation, mapping: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Policy input → key of the flattened observation, by `mapping`, else by the usual names.

    A lone camera (or a lone vector beside it) is taken whatever it is called.

    Raises:
        EnvError: an input is not found, or has another shape or dtype; names both sides.
    """
    given = dict(mapping or {})
    unknown = sorted(given.keys() - config.input_features.keys())
    if unknown:
        raise EnvError(
            f"mapping: {unknown[0]} is no input of the policy; expected some of "
            f"{', '.join(config.input_features)}"
        )
    images = [key for key, value in observation.items() if value.ndim == 3]
    vectors = [key for key, value in observation.items() if value.ndim == 1]
    chosen = {}
    for feature, description in config.input_features.items():
        is_image = feature in config.image_features
        alike = images if is_image else vectors
        lone = len(alike) == 1 and (not is_image or len(config.image_features) == 1)
        names = [given[feature]] if feature in given else _names(feature)
        key = next((name for name in names if _holds(observation, name)), None)
        if key is None and lone and feature not in given:
            key = alike[0]
        if key is None:
            held = ", ".join(f"{k} {v.shape}" for k, v in observation.items())
            raise EnvError(
                f"{feature}: the environment has no {' or '.join(names)}; it gives {held}; name "
                f"one by --map {feature}=KEY{_RENDER_HINT if is_image else ''}"
            )
        shape = tuple(description.shape)
        expected = (*shape[1:], shape[0]) if is_image else shape
        got = seen_at(observation, key)
        if got.shape != expected or (is_image and got.dtype != np.uint8):
            raise EnvError(
                f"{feature}: expected shape {expected}{' uint8' if is_image else ''} as the policy "
                f"was trained, the environment's {key} is {got.shape} {got.dtype}; set the "
                "environment's arguments (?key=value), name a part of a vector or several "
                f"(--map {feature}=KEY[0:4]+OTHER), or take another policy"
            )
        chosen[feature] = key
    return chosen


def seen_at(observation: Observation, key: str) -> NDArray[np.generic]:
    """What a key of the mapping stands for: `pixels/top`, `observation[0:4]`, or `arm+gripper`."""
    parts = [_part(one) for one in key.split("+")]
    found = [observation[name] if part is None else observation[name][part] for name, part in parts]
    return found[0] if len(found) == 1 else np.concatenate([np.ravel(one) for one in found])


def _holds(observation: Observation, key: str) -> bool:
    return all(_part(one)[0] in observation for one in key.split("+"))


def add_render(env: gymnasium.Env, observation: Observation, wanted: Iterable[str]) -> Observation:
    """The observation with the rendered picture as `render`, where a mapping wants it.

    Raises:
        EnvError: the environment renders none.
    """
    if RENDER not in wanted or RENDER in observation:
        return observation
    picture = env.render() if env.render_mode == "rgb_array" else None
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise EnvError(
            f"{RENDER}: expected one picture, the environment gives {type(picture).__name__} "
            f"(render_mode {env.render_mode}); add render_mode=rgb_array to its arguments "
            "(?key=value), or take a camera of its observation"
        )
    return observation | {RENDER: np.ascontiguousarray(picture)}


def _part(key: str) -> tuple[str, slice | None]:
    match = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", key)
    return (match[1], slice(int(match[2]), int(match[3]))) if match else (key, None)


def first_observation(
    env: gymnasium.Env, seed: int, image_keys: list[str] | None = None
) -> tuple[Observation, bool]:
    """Reset, and look again where a camera's first picture is blank (one colour all over).

    Some environments render before their first physics step. No step is taken: the environment's
    own observation function is called if it gives the same keys and shapes, else it is reset again
    with the same seed.

    Args:
        env: the environment.
        seed: of the scene.
        image_keys: cameras that matter, None for all.

    Returns:
        the flattened observation, and whether it was looked at again.

    Raises:
        EnvError: a camera stays blank.
    """
    observation = flatten(env.reset(seed=seed)[0])
    if not blank_images(observation, image_keys):
        return observation, False
    look = next(
        (f for f in (getattr(env.unwrapped, n, None) for n in _LOOK_AGAIN) if callable(f)), None
    )
    again = _try(look)
    same = again is not None and _layout(again) == _layout(observation)
    if again is None or not same or blank_images(again, image_keys):
        again = flatten(env.reset(seed=seed)[0])
    still = blank_images(again, image_keys)
    if still:
        raise EnvError(
            f"seed {seed}: {still[0]} is blank after the reset and after looking again; check the "
            "environment's rendering (MUJOCO_GL, its render arguments)"
        )
    return again, True


def blank_images(observation: Observation, image_keys: list[str] | None = None) -> list[str]:
    """Cameras whose picture is of one colour."""
    keys = observation if image_keys is None else image_keys
    pictures = {key: observation[key] for key in keys if observation[key].ndim == 3}
    return [key for key, p in pictures.items() if p.size and (p == p[:1, :1]).all()]


def _layout(observation: Observation) -> dict[str, tuple[int, ...]]:
    return {key: value.shape for key, value in observation.items()}


def _try(look: Any) -> Observation | None:
    """An observation function that wants arguments is none of ours."""
    try:
        return None if look is None else flatten(look())
    except TypeError:
        return None


def _names(feature: str) -> list[str]:
    if feature.startswith(f"{OBS_IMAGES}."):
        camera = feature.removeprefix(f"{OBS_IMAGES}.")
        return [f"pixels/{camera}", feature, f"images/{camera}", camera]
    return [feature, *_USUAL_NAMES.get(feature, ())]


def _from_lerobot(name: str, arguments: dict[str, Any]) -> NamedEnv:
    from lerobot.envs.configs import EnvConfig, HubEnvConfig
    from lerobot.envs.factory import make_env_config

    kind = name.removeprefix(LEROBOT)
    failed = {} if kind in EnvConfig.get_known_choices() else _import_plugins()
    known = sorted(EnvConfig.get_known_choices())
    if kind not in known:
        broken = "".join(f"; {plugin} cannot be imported ({why})" for plugin, why in failed.items())
        raise EnvError(
            f"environment {name}: expected one of {', '.join(known)} after {LEROBOT}{broken}; "
            f"install the package that brings it ({_PLUGINS}…)"
        )
    config = make_env_config(kind, **arguments)
    if isinstance(config, HubEnvConfig):
        raise EnvError(
            f"environment {name}: LeRobot fetches its program from the Hub, which is not run here; "
            "install it as a package and name its Gymnasium id"
        )
    if any(pipeline.steps for pipeline in config.get_env_processors()):
        raise EnvError(
            f"environment {name}: LeRobot converts its observations itself; use lerobot-eval"
        )
    if type(config).create_envs is EnvConfig.create_envs:
        importlib.import_module(config.package_name)  # LeRobot would print that it does
    suites = config.create_envs(n_envs=1, use_async_envs=False)
    if len(suites) != 1:
        raise EnvError(
            f"environment {name}: expected one suite, got {', '.join(suites) or 'none'}; choose "
            "one by its arguments (?task=…)"
        )
    env = next(iter(next(iter(suites.values())).values())).envs[0]
    return NamedEnv(name, env, float(config.fps), _max_steps(env))


def _import_plugins() -> dict[str, str]:
    """Import what is installed as an environment for LeRobot, as LeRobot's own commands do.

    Returns:
        plug-in → why it could not be imported.
    """
    failed = {}
    for distribution in importlib.metadata.distributions():
        module = (distribution.metadata["Name"] or "").replace("-", "_").lower()
        if module.startswith(_PLUGINS):
            try:
                importlib.import_module(module)
            except Exception as error:  # a plug-in may raise anything, and is not the one asked for
                failed[module] = " ".join(f"{type(error).__name__}: {error}".split())
    return failed


def _named(name: str, env: gymnasium.Env) -> NamedEnv:
    rate_hz = float(env.metadata.get("render_fps") or _DEFAULT_RATE_HZ)
    return NamedEnv(name, env, rate_hz, _max_steps(env))


def _max_steps(env: gymnasium.Env) -> int | None:
    return env.spec.max_episode_steps if env.spec else None
