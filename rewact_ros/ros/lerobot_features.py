"""Features of a LeRobot plug-in ↔ the contract's streams: names, units, all faults at once.

LeRobot knows a joint as `shoulder_pan.pos`, in degrees, in percent (0 to 100), or from -100 to 100.
A topic carries its number of it times a scale plus an offset. The contract says what topics carry.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract import ActionPart, Camera, Contract, StatePart
from rewact_ros.contract.schema import TeleopSource
from rewact_ros.contract.state_values import POSE, TWIST, WRENCH
from rewact_ros.ros.lerobot_plugins import NUMBERS, PluginError

FloatArray = NDArray[np.float64]
# What LeRobot appends to a joint's name; a feature may also have the very name of the contract.
SUFFIXES = {"position": (".pos",), "velocity": (".vel",), "effort": (".torque", ".effort")}
DEGREES, MINUS_TO_PLUS, PERCENT = "degrees", "range_m100_100", "range_0_100"
SPANS = {MINUS_TO_PLUS: "-100 to 100", PERCENT: "0 to 100"}
_DEGREE = math.pi / 180
_MOST_NAMED = 30
# So long an action part's command counts while other parts' come, or three of its periods.
COMMAND_FRESH_S = 0.2


@dataclass(frozen=True)
class Numbers:
    """Features of one stream; number on the topic = scale · LeRobot's + offset, (n,) each."""

    features: tuple[str, ...]
    scale: FloatArray
    offset: FloatArray

    def to_topic(self, values: Mapping[str, Any]) -> FloatArray:
        """Numbers (n,) of what the plug-in read. Raises KeyError where a feature is absent."""
        raw = np.array([values[feature] for feature in self.features], dtype=np.float64)
        return raw * self.scale + self.offset

    def from_topic(self, numbers: FloatArray) -> dict[str, float]:
        """What the plug-in takes of numbers (n,)."""
        raw = (numbers - self.offset) / self.scale
        return dict(zip(self.features, raw.tolist(), strict=True))


@dataclass(frozen=True)
class RobotLinks:
    """How a robot's features fit a contract; `unused` ones it observes, and nobody asks for."""

    state: tuple[Numbers, ...]
    action: tuple[Numbers, ...]
    unused: tuple[str, ...]


def norm_modes(device: Any) -> dict[str, str]:
    """What LeRobot's numbers of each joint are, such as `degrees`, of a device with its buses.

    One that does not show them is not there: then only the contract says what its numbers are.
    """
    found = {}
    sides = {"": device, "left_": "left_arm", "right_": "right_arm"}
    for prefix, arm in sides.items():
        arm = getattr(device, arm, None) if isinstance(arm, str) else arm
        motors = getattr(getattr(arm, "bus", None), "motors", None) or {}
        for joint, motor in motors.items():
            mode = getattr(motor, "norm_mode", None)
            if mode is not None:
                found[prefix + joint] = str(getattr(mode, "value", mode))
    return found


class _Linker:
    """Finds features, and collects what is wrong."""

    def __init__(self, modes: Mapping[str, str], given: Mapping[str, tuple[float, float]]) -> None:
        self.faults: list[str] = []
        self.unused_numbers = set(given)
        self._modes, self._given = modes, given

    def find(self, where: str, name: str, field: str, features: Mapping[str, Any]) -> str:
        """The feature of a name in the messages; empty: there is none."""
        tried = [*(name + suffix for suffix in SUFFIXES.get(field, ())), name]
        feature = next((f for f in tried if f in features), "")
        if not feature:
            self.faults.append(
                f"{where}: the plug-in has no {' or '.join(tried)}; it has: {listed(features)}. "
                "joints: {ours: LeRobot's} in the contract maps other names"
            )
        return feature

    def conversion(
        self, where: str, feature: str, unit: str, scale: float, offset: float, leader: bool = False
    ) -> tuple[float, float]:
        """(scale, offset) from LeRobot's number to the topic's, where the contract's follow."""
        joint = feature.removesuffix(".pos")
        if joint in self._given:
            self.unused_numbers.discard(joint)
            return self._given[joint]
        mode = self._modes.get(joint) if feature.endswith(".pos") else None
        in_degrees = unit == "rad" and math.isclose(abs(scale), _DEGREE, rel_tol=1e-3)
        if mode == DEGREES:
            if in_degrees:
                return 1.0, 0.0
            if leader or (unit == "rad" and abs(scale) == 1.0):
                return _DEGREE, 0.0
            self.faults.append(
                f"{where}: LeRobot gives degrees, which are no {unit} with scale {scale:g}; write "
                f"unit: deg, or {NUMBERS}.{joint} into the plug-in's file"
            )
        unscaled = (scale, offset) == (1.0, 0.0) or (in_degrees and not offset)
        if mode in SPANS and unscaled:
            self.faults.append(
                f"{where}: LeRobot gives {SPANS[mode]}, which the contract takes for "
                f"{'degrees' if in_degrees else unit}; write {NUMBERS}.{joint}: "
                "{scale: …, offset: …} into the plug-in's file, or unit, scale and offset into "
                f"the contract{_DEGREES_HINT if mode == MINUS_TO_PLUS else ''}"
            )
        return 1.0, 0.0

    def end(self, joints: Mapping[str, Any]) -> None:
        """Raise PluginError with all that was wrong."""
        for joint in sorted(self.unused_numbers):
            self.faults.append(
                f"{NUMBERS}.{joint}: expected a joint of the contract as LeRobot calls it: "
                f"{listed(joints)}"
            )
        if self.faults:
            raise PluginError("\n".join(self.faults))


_DEGREES_HINT = "; arms of LeRobot that have use_degrees: true then give degrees"


def link_robot(
    contract: Contract,
    observed: Mapping[str, Any],
    taken: Mapping[str, Any],
    modes: Mapping[str, str],
    given: Mapping[str, tuple[float, float]],
) -> RobotLinks:
    """Fit a robot's features to a contract.

    Args:
        contract: of the robot.
        observed, taken: its `observation_features` and `action_features`.
        modes: see `norm_modes`.
        given: of the plug-in's file, see `DeviceFile`.

    Raises:
        PluginError: something that the contract has is not the robot's, or the other way round.
    """
    linker = _Linker(modes, given)
    state = [_state(linker, i, part, observed) for i, part in enumerate(contract.state)]
    action = [_action(linker, i, part, taken) for i, part in enumerate(contract.action)]
    for camera in contract.cameras:
        _camera(linker, camera, observed)
    used = {feature for numbers in action for feature in numbers.features}
    for feature in taken:
        if feature not in used:
            linker.faults.append(_uncommanded(feature))
    linker.end({f.removesuffix(".pos"): None for f in used})
    used |= {feature for numbers in state for feature in numbers.features}
    used |= {camera.name for camera in contract.cameras}
    return RobotLinks(tuple(state), tuple(action), tuple(f for f in observed if f not in used))


def _uncommanded(feature: str) -> str:
    fault = f"action: the robot takes {feature}, which the contract does not command"
    if feature.endswith(".vel"):
        return f"{fault}; robots that take velocities, such as mobile bases, are not supported"
    return f"{fault}; add {feature.removesuffix('.pos')} to joints of a part of action"


def _state(linker: _Linker, index: int, part: StatePart, features: Mapping[str, Any]) -> Numbers:
    where = f"observation.state[{index}] ({part.topic})"
    if part.type in (POSE, WRENCH, TWIST):
        linker.faults.append(
            f"{where}: a plug-in has single numbers, no {part.type}; leave the part out, or let "
            "another node publish it"
        )
        return _numbers(linker, where, part, "", {}, skip=True)
    return _numbers(linker, where, part, part.field, features)


def _action(linker: _Linker, index: int, part: ActionPart, features: Mapping[str, Any]) -> Numbers:
    where = f"action[{index}] ({part.topic})"
    wrong = ""
    if part.name:
        wrong = "a plug-in takes joints, no poses"
    elif part.drive:
        wrong = f"a plug-in takes numbers, no {part.drive.type}; write std_msgs/msg/Float64"
    elif part.command != "position":
        wrong = f"a plug-in's joints take positions here, got command: {part.command}"
    if wrong:
        linker.faults.append(f"{where}: {wrong}")
    return _numbers(linker, where, part, part.command, features, skip=bool(wrong))


def _numbers(
    linker: _Linker,
    where: str,
    part: StatePart | ActionPart,
    field: str,
    features: Mapping[str, Any],
    skip: bool = False,
) -> Numbers:
    found, pairs = [], []
    count = len(part.joints)
    scales, offsets = part.scale or (1.0,) * count, part.offset or (0.0,) * count
    columns = zip(part.drivers or part.joints, part.units, scales, offsets, strict=True)
    for name, unit, scale, offset in () if skip else columns:
        at = f"{where}: {name}"
        if feature := linker.find(at, name, field, features):
            found.append(feature)
            pairs.append(linker.conversion(at, feature, unit, scale, offset))
    scale_, offset_ = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Numbers(tuple(found), scale_, offset_)


def _camera(linker: _Linker, camera: Camera, features: Mapping[str, Any]) -> None:
    where = f"{camera.key}: "
    if camera.depth is not None:
        linker.faults.append(f"{where}depth of a plug-in is not published; use the camera's driver")
        return
    shape = features.get(camera.name)
    cameras = {name: s for name, s in features.items() if isinstance(s, tuple)}
    if not isinstance(shape, tuple):
        linker.faults.append(
            f"{where}the plug-in has no camera {camera.name}; it has: {listed(cameras)}"
        )
    elif tuple(shape) != camera.shape:
        linker.faults.append(
            f"{where}shape: expected {list(camera.shape)}, got {list(shape)} of the plug-in; set "
            "height and width of its camera, or shape"
        )


def link_leader(
    contract: Contract,
    source: TeleopSource,
    features: Mapping[str, Any],
    modes: Mapping[str, str],
    given: Mapping[str, tuple[float, float]],
) -> Numbers:
    """Fit what a teleoperator gives to a source of a contract, in its order of joints.

    Raises:
        PluginError: as `link_robot`.
    """
    linker = _Linker(modes, given)
    units = dict(zip(contract.action_names, contract.action_units, strict=True))
    columns = zip(source.joints, source.source_joints, source.scale, source.offset, strict=True)
    found, pairs = [], []
    for joint, name, scale, offset in columns:
        at = f"teleop.{source.name}: {name}"
        if feature := linker.find(at, name, "position", features):
            found.append(feature)
            pairs.append(linker.conversion(at, feature, units[joint], scale, offset, leader=True))
    linker.end({f.removesuffix(".pos"): None for f in found})
    scale_, offset_ = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return Numbers(tuple(found), scale_, offset_)


def listed(names: Mapping[str, Any]) -> str:
    """Some names, for people."""
    shown = list(names)[:_MOST_NAMED]
    return ", ".join(shown) + (", …" if len(names) > _MOST_NAMED else "") or "none"


class Gathered:
    """Newest command of each action part; a plug-in takes those of all parts as one action."""

    def __init__(self, parts: tuple[ActionPart, ...], links: tuple[Numbers, ...]) -> None:
        self._links = links
        fastest = max(part.command_rate_hz for part in parts)
        self._fast = {i for i, part in enumerate(parts) if part.command_rate_hz == fastest}
        self._fresh_s = [max(COMMAND_FRESH_S, 3.0 / part.command_rate_hz) for part in parts]
        self._newest: dict[int, tuple[float, dict[str, float]]] = {}
        self._new: set[int] = set()

    def add(self, index: int, numbers: FloatArray, now_s: float) -> dict[str, float] | None:
        """Take a part's numbers (n,); an action once all of the fastest parts are new.

        A part that has fallen silent keeps the others from moving the robot: what it last said may
        be of another day.
        """
        self._newest[index] = now_s, self._links[index].from_topic(numbers)
        self._new.add(index)
        if not self._fast <= self._new or len(self._newest) < len(self._links):
            return None
        if any(now_s - at_s > self._fresh_s[i] for i, (at_s, _) in self._newest.items()):
            return None
        self._new.clear()
        return {f: v for _, part in sorted(self._newest.items()) for f, v in part[1].items()}


def clipped(asked: Mapping[str, float], sent: object) -> str:
    """What a plug-in sent otherwise than it was asked; empty: nothing, or it does not say."""
    if not isinstance(sent, Mapping):
        return ""
    return ", ".join(
        f"{feature} {value:.4g} → {sent[feature]:.4g}"
        for feature, value in asked.items()
        if feature in sent and abs(sent[feature] - value) > 1e-4 * max(1.0, abs(value))
    )
