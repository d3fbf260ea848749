"""Frozen dataclasses of a robot contract; every field is validated by `contract.load`."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STATE_KEY = "observation.state"
IMAGE_PREFIX = "observation.images."
ACTION_KEY = "action"


class ContractError(ValueError):
    """A contract, or what must agree with it, is wrong; the message says where and how to mend."""


@dataclass(frozen=True)
class StatePart:
    """Joints that arrive on one topic; `joints[i]` has unit `units[i]`."""

    topic: str
    type: str
    joints: tuple[str, ...]
    field: str
    units: tuple[str, ...]
    max_age_s: float


@dataclass(frozen=True)
class Camera:
    """One RGB stream; `shape` is (height, width, 3) in pixels."""

    name: str
    topic: str
    type: str
    shape: tuple[int, int, int]
    max_age_s: float

    @property
    def key(self) -> str:
        """Feature name in LeRobot's vocabulary, such as `observation.images.front`."""
        return IMAGE_PREFIX + self.name


@dataclass(frozen=True)
class ActionPart:
    """Joints that are commanded on one topic, with the limits of the safety gate.

    Limits are per joint, in the joint's unit, unit/s and unit/s². `max_start_jump` bounds the
    distance between the first command of a motion and the measured joints.
    """

    topic: str
    type: str
    joints: tuple[str, ...]
    command: str
    units: tuple[str, ...]
    command_rate_hz: float
    position: tuple[tuple[float, float], ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    max_start_jump: tuple[float, ...]
    on_stale: str
    controller_timeout_s: float | None


@dataclass(frozen=True)
class Reset:
    """Joint pose (action order and units) that a reset motion reaches in `duration_s`."""

    pose: tuple[float, ...]
    duration_s: float


@dataclass(frozen=True)
class Deadman:
    """Button that a teleoperator must hold down."""

    topic: str
    button: int


@dataclass(frozen=True)
class TeleopSource:
    """A device that a human moves the robot with."""

    name: str
    topic: str
    type: str
    deadman: Deadman | None


@dataclass(frozen=True)
class Limits:
    """Safety limits of the whole action vector, (A,) float64 each, in action order and units."""

    low: FloatArray
    high: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    start_jump: FloatArray


@dataclass(frozen=True)
class Contract:
    """One robot as the policy, the recorder, the data set and the command path see it.

    The first camera is the time reference of an observation. State and action vectors are the
    concatenation of their parts in order. `hash` covers features, order, units, rate and shapes,
    not topics, limits or ages: two robots of one kind share a data set.
    """

    robot: str
    rate_hz: float
    max_skew_s: float
    state: tuple[StatePart, ...]
    cameras: tuple[Camera, ...]
    action: tuple[ActionPart, ...]
    teleop: tuple[TeleopSource, ...]
    reset: Reset | None
    replan_hz: float
    max_chunk_age_s: float
    heartbeat_timeout_s: float
    handover_s: float

    @property
    def dt_s(self) -> float:
        """Time between two steps of a chunk, in seconds."""
        return 1.0 / self.rate_hz

    @property
    def command_rate_hz(self) -> float:
        """Rate of the command stream, equal for every action part."""
        return self.action[0].command_rate_hz

    @property
    def state_names(self) -> tuple[str, ...]:
        """Joint names of `observation.state`, in order."""
        return tuple(joint for part in self.state for joint in part.joints)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Joint names of `action`, in order."""
        return tuple(joint for part in self.action for joint in part.joints)

    @cached_property
    def action_in_state(self) -> NDArray[np.intp]:
        """(A,) indices of the commanded joints in the state vector."""
        names = self.state_names
        return np.array([names.index(joint) for joint in self.action_names], dtype=np.intp)

    @cached_property
    def limits(self) -> Limits:
        """Limits of all action parts, concatenated."""

        def column(field: str) -> FloatArray:
            return np.array([v for part in self.action for v in getattr(part, field)], dtype=float)

        position = column("position").reshape(-1, 2)
        return Limits(
            low=position[:, 0],
            high=position[:, 1],
            velocity=column("velocity"),
            acceleration=column("acceleration"),
            start_jump=column("max_start_jump"),
        )

    def signature(self) -> dict[str, Any]:
        """What data and checkpoints must agree with: features, order, units, rate, shapes."""
        features: dict[str, Any] = {
            STATE_KEY: {
                "shape": [len(self.state_names)],
                "names": list(self.state_names),
                "units": [unit for part in self.state for unit in part.units],
                "field": [part.field for part in self.state for _ in part.joints],
            },
            ACTION_KEY: {
                "shape": [len(self.action_names)],
                "names": list(self.action_names),
                "units": [unit for part in self.action for unit in part.units],
                "command": [part.command for part in self.action for _ in part.joints],
            },
        }
        for camera in self.cameras:
            features[camera.key] = {"shape": list(camera.shape)}
        return {"rate_hz": self.rate_hz, "features": features}

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON of `signature()`."""
        text = json.dumps(self.signature(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def dataset_features(self, use_videos: bool = True) -> dict[str, dict[str, Any]]:
        """Observation and action features as `LeRobotDataset.create` takes them."""
        names = {STATE_KEY: self.state_names, ACTION_KEY: self.action_names}
        features: dict[str, dict[str, Any]] = {
            key: {"dtype": "float32", "shape": (len(joints),), "names": list(joints)}
            for key, joints in names.items()
        }
        for camera in self.cameras:
            features[camera.key] = {
                "dtype": "video" if use_videos else "image",
                "shape": camera.shape,
                "names": ["height", "width", "channel"],
            }
        return features
