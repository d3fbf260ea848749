"""YAML to `Contract`: strict, and every refusal names the key, what was expected and what came."""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rewact_ros.contract.schema import (
    ACTION_KEY,
    IMAGE_PREFIX,
    STATE_KEY,
    ActionPart,
    Camera,
    Contract,
    ContractError,
    Deadman,
    Reset,
    StatePart,
    TeleopSource,
)

STATE_TYPES = ("sensor_msgs/msg/JointState",)
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
COMMAND_TYPES = (
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "sensor_msgs/msg/JointState",
)
TELEOP_TYPES = (
    "sensor_msgs/msg/JointState",
    "sensor_msgs/msg/Joy",
    "trajectory_msgs/msg/JointTrajectory",
)
UNITS = ("rad", "m", "normalized")


def load_contract(path: str | Path) -> Contract:
    """Read a contract file.

    Raises:
        ContractError: the file is missing, not YAML, or any key is unknown, missing or wrong.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ContractError(
            f"contract {path}: {error.strerror}; give a file like config/robots/vx300s.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise ContractError(
            f"contract {path}: not valid YAML: {' '.join(str(error).split())}"
        ) from None
    try:
        return parse_contract(data)
    except ContractError as error:
        raise ContractError(f"contract {path}: {error}") from None


def parse_contract(data: object) -> Contract:
    """Build a contract from what `yaml.safe_load` returned; see `load_contract` for the errors."""
    top = _Section("", data)
    cameras = tuple(
        _camera(key, top.section(key)) for key in top.data if str(key).startswith(IMAGE_PREFIX)
    )
    if not cameras:
        raise ContractError("no camera: expected at least one key 'observation.images.NAME'")
    state = tuple(_state_part(part) for part in top.parts(STATE_KEY))
    action = tuple(_action_part(part) for part in top.parts(ACTION_KEY))
    rate_hz = top.positive("rate_hz")
    teleop_section = top.section("teleop", {})
    teleop = tuple(
        _teleop(name, teleop_section.section(name)) for name in list(teleop_section.data)
    )
    contract = Contract(
        robot=top.text("robot"),
        rate_hz=rate_hz,
        max_skew_s=top.positive("max_skew_s"),
        state=state,
        cameras=cameras,
        action=action,
        teleop=teleop,
        reset=_reset(top.section("reset"), action) if "reset" in top.data else None,
        replan_hz=top.positive("replan_hz", rate_hz),
        max_chunk_age_s=top.positive("max_chunk_age_s", 0.5),
        heartbeat_timeout_s=top.positive("heartbeat_timeout_s", 0.15),
        handover_s=top.positive("handover_s", 0.5),
    )
    top.finish()
    _check_whole(contract)
    return contract


class _Section:
    """A mapping that remembers which keys were read, so that the rest can be refused."""

    def __init__(self, where: str, data: object) -> None:
        if not isinstance(data, Mapping):
            raise ContractError(f"{where or 'top level'}: expected a mapping, got {_short(data)}")
        self.where, self.data = where, dict(data)
        self._known: set[str] = set()

    def path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def get(self, key: str, default: Any = ...) -> Any:
        self._known.add(key)
        if key in self.data:
            return self.data[key]
        if default is ...:
            near = difflib.get_close_matches(key, map(str, self.data), 1, 0.75)
            hint = (
                f"; did you mean it by '{near[0]}'?" if near and near[0] not in self._known else ""
            )
            raise ContractError(f"{self.path(key)}: missing{hint}")
        return default

    def finish(self) -> None:
        for key in self.data:
            if key not in self._known:
                near = difflib.get_close_matches(str(key), sorted(self._known), 1)
                hint = (
                    f"; the nearest known key is '{near[0]}'"
                    if near
                    else f"; known: {sorted(self._known)}"
                )
                raise ContractError(f"{self.path(str(key))}: unknown key{hint}")

    def section(self, key: str, default: Any = ...) -> "_Section":
        return _Section(self.path(key), self.get(key, default))

    def parts(self, key: str) -> list["_Section"]:
        """One mapping, or a list of mappings (arms and hands of a humanoid)."""
        value = self.get(key)
        if not isinstance(value, list):
            return [_Section(self.path(key), value)]
        if not value:
            raise ContractError(f"{self.path(key)}: expected at least one part, got an empty list")
        return [_Section(f"{self.path(key)}[{i}]", part) for i, part in enumerate(value)]

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise ContractError(f"{self.path(key)}: expected text, got {_short(value)}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = ...) -> str:
        value = self.get(key, default)
        if value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ContractError(
                f"{self.path(key)}: expected one of {', '.join(allowed)}; got {_short(value)}{hint}"
            )
        return str(value)

    def positive(self, key: str, default: Any = ...) -> float:
        return _positive(self.path(key), self.get(key, default))

    def joints(self) -> tuple[str, ...]:
        value = self.get("joints")
        where = self.path("joints")
        if not isinstance(value, list) or not value or not all(isinstance(j, str) for j in value):
            raise ContractError(f"{where}: expected a list of joint names, got {_short(value)}")
        repeated = sorted({name for name in value if value.count(name) > 1})
        if repeated:
            raise ContractError(f"{where}: expected each joint once, got {repeated[0]} twice")
        return tuple(value)

    def per_joint(
        self, key: str, joints: tuple[str, ...], default: Any = ...
    ) -> list[tuple[str, Any]]:
        """One value for all joints, or a mapping by joint with a `default` for the rest."""
        value = self.get(key, default)
        if not isinstance(value, Mapping):
            return [(self.path(key), value) for _ in joints]
        for name in value:
            if name != "default" and name not in joints:
                near = difflib.get_close_matches(str(name), joints, 1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ContractError(f"{self.path(key)}.{name}: no such joint{hint}")
        for joint in joints:
            if joint not in value and "default" not in value:
                raise ContractError(f"{self.path(key)}.{joint}: missing; give it, or a 'default'")
        return [(f"{self.path(key)}.{j}", value.get(j, value.get("default"))) for j in joints]


def _short(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ContractError(f"{where}: expected a finite number, got {_short(value)}")
    return float(value)


def _positive(where: str, value: object) -> float:
    number = _number(where, value)
    if number <= 0:
        raise ContractError(f"{where}: expected a number above 0, got {number}")
    return number


def _range(where: str, value: object) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ContractError(f"{where}: expected [low, high], got {_short(value)}")
    low, high = (_number(where, v) for v in value)
    if low >= high:
        raise ContractError(f"{where}: expected low < high, got [{low}, {high}]")
    return low, high


def _units(section: _Section, joints: tuple[str, ...]) -> tuple[str, ...]:
    pairs = section.per_joint("unit", joints)
    for where, unit in pairs:
        if unit not in UNITS:
            raise ContractError(f"{where}: expected one of {', '.join(UNITS)}; got {_short(unit)}")
    return tuple(unit for _, unit in pairs)


def _state_part(section: _Section) -> StatePart:
    joints = section.joints()
    part = StatePart(
        topic=section.text("topic"),
        type=section.choice("type", STATE_TYPES),
        joints=joints,
        field=section.choice("field", ("position", "velocity", "effort"), "position"),
        units=_units(section, joints),
        max_age_s=section.positive("max_age_s"),
    )
    section.finish()
    return part


def _camera(key: str, section: _Section) -> Camera:
    shape = section.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(isinstance(n, int) and n > 0 for n in shape)
        or shape[2] != 3
    ):
        raise ContractError(f"{key}.shape: expected [height, width, 3], got {_short(shape)}")
    camera = Camera(
        name=key.removeprefix(IMAGE_PREFIX),
        topic=section.text("topic"),
        type=section.choice("type", CAMERA_TYPES),
        shape=(shape[0], shape[1], shape[2]),
        max_age_s=section.positive("max_age_s"),
    )
    section.finish()
    return camera


def _action_part(section: _Section) -> ActionPart:
    joints = section.joints()
    command = section.get("command")
    if command in ("delta", "relative", "pose", "end_effector"):
        raise ContractError(
            f"{section.path('command')}: '{command}' actions are not supported; record absolute "
            "joint positions or velocities"
        )

    def values(key: str) -> tuple[float, ...]:
        return tuple(_positive(where, value) for where, value in section.per_joint(key, joints))

    part = ActionPart(
        topic=section.text("topic"),
        type=section.choice("type", COMMAND_TYPES),
        joints=joints,
        command=section.choice("command", ("position", "velocity")),
        units=_units(section, joints),
        command_rate_hz=section.positive("command_rate_hz"),
        position=tuple(_range(where, v) for where, v in section.per_joint("position", joints)),
        velocity=values("velocity"),
        acceleration=values("acceleration"),
        max_start_jump=values("max_start_jump"),
        on_stale=section.choice("on_stale", ("hold",), "hold"),
        controller_timeout_s=(
            section.positive("controller_timeout_s")
            if "controller_timeout_s" in section.data
            else None
        ),
    )
    if part.command == "velocity" and part.controller_timeout_s is None:
        raise ContractError(
            f"{section.path('controller_timeout_s')}: missing; a velocity interface keeps moving "
            "when commands stop, so give the time after which the robot's own controller stops"
        )
    section.finish()
    return part


def _teleop(name: str, section: _Section) -> TeleopSource:
    deadman = None
    if "deadman" in section.data:
        inner = section.section("deadman")
        button = inner.get("button")
        if not isinstance(button, int) or isinstance(button, bool) or button < 0:
            raise ContractError(
                f"{inner.path('button')}: expected a button index, got {_short(button)}"
            )
        deadman = Deadman(topic=inner.text("topic"), button=button)
        inner.finish()
    source = TeleopSource(
        name=name,
        topic=section.text("topic"),
        type=section.choice("type", TELEOP_TYPES),
        deadman=deadman,
    )
    section.finish()
    return source


def _reset(section: _Section, action: tuple[ActionPart, ...]) -> Reset:
    joints = [joint for part in action for joint in part.joints]
    pose = section.get("pose")
    if not isinstance(pose, list) or len(pose) != len(joints):
        got = len(pose) if isinstance(pose, list) else _short(pose)
        raise ContractError(
            f"reset.pose: expected {len(joints)} numbers in action order, got {got}"
        )
    limits = [limit for part in action for limit in part.position]
    numbers = tuple(_number(f"reset.pose[{i}]", v) for i, v in enumerate(pose))
    for joint, number, (low, high) in zip(joints, numbers, limits, strict=True):
        if not low <= number <= high:
            raise ContractError(
                f"reset.pose: {joint}: expected within [{low}, {high}], got {number}"
            )
    reset = Reset(pose=numbers, duration_s=section.positive("duration_s"))
    section.finish()
    return reset


def _check_whole(contract: Contract) -> None:
    """Rules that span sections."""
    for key, names in ((STATE_KEY, contract.state_names), (ACTION_KEY, contract.action_names)):
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ContractError(f"{key}.joints: expected each joint once, got {repeated[0]} twice")
    measured = {j for part in contract.state for j in part.joints if part.field == "position"}
    for joint in contract.action_names:
        if joint not in measured:
            raise ContractError(
                f"{ACTION_KEY}.joints: {joint} is commanded but its position is not in "
                f"{STATE_KEY}; the start-jump guard needs it"
            )
    rates = {part.command_rate_hz for part in contract.action}
    if len(rates) > 1:
        raise ContractError(
            f"{ACTION_KEY}.command_rate_hz: expected one rate for all parts, got {sorted(rates)}"
        )
    if contract.command_rate_hz < contract.rate_hz:
        raise ContractError(
            f"{ACTION_KEY}.command_rate_hz: expected at least rate_hz ({contract.rate_hz}), "
            f"got {contract.command_rate_hz}"
        )
    if contract.replan_hz > contract.rate_hz:
        raise ContractError(
            f"replan_hz: expected at most rate_hz ({contract.rate_hz}), got {contract.replan_hz}"
        )
