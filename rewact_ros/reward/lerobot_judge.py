"""A reward model of LeRobot as a judge: what it sees of an episode, and its score in [0, 1]."""

import math
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_STATE

from rewact_ros.contract import Contract, ContractError
from rewact_ros.policy.engine import UNTOLD, Observation, Prediction
from rewact_ros.policy.history import ObservationHistory
from rewact_ros.policy.images import unit_images
from rewact_ros.policy.processors import TASK

from .lerobot_model import LoadedRewardModel

_MOST_FRAMES = 256  # kept of an episode, of which a model sees a few, evenly spread
_SPREAD_S = 0.5


class Window:
    """Past observations at a configuration's offsets, in steps of the data's rate.

    What lies in the future is the present.
    """

    def __init__(self, deltas: list[int], rate_hz: float) -> None:
        past = [min(0, delta) for delta in deltas]
        step = math.gcd(*past) or 1
        self._chosen = [delta // step - 1 for delta in past]  # from the end: the newest is -1
        steps = 1 - min(past) // step
        self.memory = -min(past)  # observations of the data's rate
        self._history = ObservationHistory[Observation](steps, step / rate_hz)

    def reset(self) -> None:
        """Forget the past."""
        self._history.reset()

    def add(self, observation: Observation, stamp_s: float) -> list[Observation]:
        """Take an observation; those that the model sees now, in its order."""
        past = self._history.add(observation, stamp_s)
        return [past[index] for index in self._chosen]


class Spread:
    """Observations spread evenly from the episode's first to now, as LeRobot's tools sample them.

    Those kept are at least so far apart that a long episode fits.
    """

    memory = 0  # of an episode enough is judged to choose from

    def __init__(self, count: int) -> None:
        self._count = count
        self.reset()

    def reset(self) -> None:
        """The episode begins with the next observation."""
        self._kept: list[tuple[float, Observation]] = []
        self._apart_s = _SPREAD_S

    def add(self, observation: Observation, stamp_s: float) -> list[Observation]:
        """Take an observation; `count` of the episode's, oldest first, this one last."""
        if self._kept and stamp_s <= self._kept[-1][0]:
            self.reset()  # time ran back: another episode
        past = [*self._kept, (stamp_s, observation)]
        if not self._kept or stamp_s - self._kept[-1][0] >= self._apart_s:
            self._kept = past
        if len(self._kept) >= _MOST_FRAMES:
            self._kept, self._apart_s = self._kept[::2], 2 * self._apart_s
        times = np.linspace(past[0][0], stamp_s, self._count)
        return [min(past, key=lambda kept: abs(kept[0] - time))[1] for time in times]


class RewardModelJudge:
    """Looks at observations with a reward model of LeRobot; no quantiles, no features.

    Attributes:
        instruction: what to do, in words, for a model that is told so; others do not read it.
        reward_hash, description: as of every judge.

    Args:
        loaded: the model.
        contract: of the robot; None: each observation is checked instead.
        rate_hz: of the observations; a model that looks back needs it.

    Raises:
        ContractError: the robot lacks a camera or a state that it looks at, or has other sizes.
    """

    def __init__(
        self, loaded: LoadedRewardModel, contract: Contract | None, rate_hz: float
    ) -> None:
        if contract is not None:
            require_inputs(loaded, contract)
        self._loaded, self._contract = loaded, contract
        self.instruction, self.reward_hash = "", loaded.reward_hash
        deltas = loaded.config.observation_delta_indices
        count = getattr(loaded.config, "max_frames", None) or 16
        self._past: Window | Spread | None = None
        if loaded.kind.spread:
            self._past = Spread(count)
        elif deltas:
            if loaded.config.type == "sarm":  # its last steps stand in for training's rewinding
                deltas = deltas[: 1 + loaded.config.n_obs_steps]
            self._past = Window(list(deltas), rate_hz)
        self.description = f"reward model {loaded.config.type} on {loaded.config.device}"

    @property
    def needs_text(self) -> bool:
        """Whether it must be told the task in words (``instruction``)."""
        return self._loaded.needs_text

    def reset(self) -> None:
        """Forget the past: an episode begins, or somebody else moved the robot."""
        self._loaded.model.reset()
        if self._past is not None:
            self._past.reset()

    @property
    def memory(self) -> int:
        """So many observations before the newest are looked at, too."""
        return self._past.memory if self._past is not None else 0

    def remember(self, observation: Observation, stamp_s: float) -> None:
        """Take one that nobody scores; see ``Engine``."""
        if self.memory and self._past is not None:
            self._past.add(_copied(self._checked(observation)), stamp_s)

    def warm_up(self) -> None:
        """Run on zeros; a model that takes any size waits for the robot's own pictures."""
        if self._contract is None and self._loaded.kind.nominal:
            return
        shapes = {camera.key: camera.shape for camera in getattr(self._contract, "cameras", ())}
        black: Observation = {
            key: np.zeros(shapes.get(key) or _picture(self._loaded, key), np.uint8)
            for key in self._loaded.cameras
        }
        if self._loaded.state_width:
            black[OBS_STATE] = np.zeros(self._loaded.state_width, np.float32)
        self._loaded.run(self._batch(black, 0.0))
        self.reset()

    def infer(self, observation: Observation, stamp_s: float | None = None) -> Prediction:
        """Score an observation; see ``Engine.infer``.

        Raises:
            KeyError: an input is missing.
            ValueError: an input has another shape, a text or the time is missing, or the score
                lies outside [0, 1].
            FloatingPointError: the score is not finite.
        """
        if self.needs_text and not self.instruction:
            raise ValueError(f"{self._loaded.path}: {TASK}: {UNTOLD}")
        score = self._loaded.score(self._batch(observation, stamp_s))
        return Prediction(np.zeros((0, 0), np.float32), score)

    def _batch(self, observation: Observation, stamp_s: float | None) -> dict[str, Any]:
        """A raw batch of one, as LeRobot's data sets give it."""
        seen = [self._checked(observation)]
        if self._past is not None:
            if stamp_s is None:
                raise ValueError("stamp_s: expected the observation's time for a history, got None")
            seen = self._past.add(_copied(seen[0]), stamp_s)
        batch = {key: self._tensor(key, seen) for key in seen[0]}
        place = {"index": torch.zeros(1), "episode_index": torch.zeros(1)}
        return {**batch, **place, TASK: [self.instruction]}

    def _tensor(self, key: str, seen: list[Observation]) -> torch.Tensor:
        """(1, …), of a model that looks back (1, n, …); pictures as floats, channels first."""
        values = torch.from_numpy(np.stack([observation[key] for observation in seen]))
        values = unit_images(values) if key in self._loaded.cameras else values
        return values if self._past is None else values[None]

    def _checked(self, observation: Observation) -> Observation:
        """The model's inputs alone."""
        width = self._loaded.state_width
        keys = [*self._loaded.cameras, *([OBS_STATE] if width else [])]
        for key in keys:
            if key not in observation:
                raise KeyError(f"observation lacks {key}; it has {sorted(observation)}")
            value = observation[key]
            expected: tuple[int, ...] = (width,)
            if key != OBS_STATE:
                nominal = self._loaded.kind.nominal
                expected = (*value.shape[:2], 3) if nominal else _picture(self._loaded, key)
                if value.dtype != np.uint8:
                    raise ValueError(f"{key}: expected uint8, got {value.dtype}")
            if value.shape != expected:
                raise ValueError(f"{key}: expected shape {expected}, got {value.shape}")
        return {
            key: np.ascontiguousarray(observation[key], np.float32 if key == OBS_STATE else None)
            for key in keys
        }


def _copied(observation: Observation) -> Observation:
    """What may be kept: the caller's arrays may be written to again."""
    return {key: value.copy() for key, value in observation.items()}


def _picture(loaded: LoadedRewardModel, key: str) -> tuple[int, int, int]:
    """(H, W, 3) of a camera as its configuration has it."""
    channels, height, width = loaded.config.input_features[key].shape
    return height, width, channels


def require_inputs(loaded: LoadedRewardModel, contract: Contract) -> None:
    """Refuse a reward model that looks at what the robot does not have.

    Raises:
        ContractError: names the input, and what the contract has.
    """
    have = {camera.key: camera.shape for camera in contract.cameras}
    what = f"{contract.robot}: the reward model {loaded.path}"
    for key in loaded.cameras:
        if key not in have:
            raise ContractError(
                f"{what} needs {key}, the contract has {', '.join(have) or 'no camera'}; give a "
                "camera that name, or the model's image_key that of a camera"
            )
        if not loaded.kind.nominal and have[key] != _picture(loaded, key):
            raise ContractError(
                f"{what}: {key}: expected {_picture(loaded, key)}, the contract has {have[key]}"
            )
    width = len(contract.state_names)
    if loaded.state_width not in (0, width):
        raise ContractError(
            f"{what}: {OBS_STATE}: expected {loaded.state_width} numbers, the contract has {width}"
        )
