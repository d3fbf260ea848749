"""YAML to `Contract`: strict, and every refusal names the key, what was expected and what came."""

from dataclasses import fields
from pathlib import Path

from rewact_ros import strict_yaml
from rewact_ros.contract.load_teleop import check_sources, teleop_source
from rewact_ros.contract.names import check_feature, check_text_name, check_topics
from rewact_ros.contract.schema import (
    ACTION_KEY,
    IMAGE_PREFIX,
    STATE_KEY,
    ActionPart,
    Camera,
    Contract,
    ContractError,
    OnViolation,
    Reset,
    StatePart,
)
from rewact_ros.contract.sections import Section, interval, number, positive, short
from rewact_ros.contract.turns import turns_hint

STATE_TYPES = ("sensor_msgs/msg/JointState",)
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
COMMAND_TYPES = (
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "sensor_msgs/msg/JointState",
)
UNITS = ("rad", "m", "normalized")
# Observations and commands per second; more is no camera and no control loop of a robot's.
LOWEST_RATE, HIGHEST_RATE = 0.1, 2000.0
LARGEST_SIDE_PX = 16_384


def load_contract(path: str | Path, namespace: str = "/") -> Contract:
    """Read a contract file, for a robot in a namespace as ROS writes it, such as `/left`.

    Raises:
        ContractError: the file is missing, not strict YAML, any key is unknown, missing or wrong,
            or two streams have one topic, in that namespace or in none.
    """
    path = Path(path)
    try:
        data = strict_yaml.load(path)
    except OSError as error:
        raise ContractError(
            f"contract {path}: {error.strerror}; give a file like config/robots/vx300s.yaml"
        ) from None
    except strict_yaml.YamlError as error:
        raise ContractError(f"contract {error}") from None
    if data is None:
        raise ContractError(f"contract {path}: the file is empty")
    try:
        contract = parse_contract(data, path.parent)
        check_topics(contract, namespace)
        return contract
    except ContractError as error:
        raise ContractError(f"contract {path}: {error}") from None


def parse_contract(data: object, folder: Path | None = None) -> Contract:
    """Build a contract from what `strict_yaml.load` returned; see `load_contract` for the errors.

    `folder` is what the paths of robot models in it are relative to (default: where we are).
    """
    top = Section("", data)
    cameras = tuple(
        _camera(key, top.section(key)) for key in top.data if str(key).startswith(IMAGE_PREFIX)
    )
    if not cameras:
        raise ContractError("no camera: expected at least one key 'observation.images.NAME'")
    state = tuple(_state_part(part) for part in top.parts(STATE_KEY))
    action = tuple(_action_part(part) for part in top.parts(ACTION_KEY))
    rate_hz = top.positive("rate_hz", ..., LOWEST_RATE, HIGHEST_RATE)
    sources = top.section("teleop", {})
    joints = tuple(joint for part in action for joint in part.joints)
    teleop = tuple(
        teleop_source(
            check_feature("teleop", str(name)), sources.section(name), joints, folder or Path()
        )
        for name in list(sources.data)
    )
    contract = Contract(
        robot=_robot(top),
        rate_hz=rate_hz,
        max_skew_s=top.positive("max_skew_s"),
        state=state,
        cameras=cameras,
        action=action,
        teleop=teleop,
        reset=_reset(top.section("reset"), action) if "reset" in top.data else None,
        replan_hz=top.positive("replan_hz", rate_hz, LOWEST_RATE, HIGHEST_RATE),
        max_chunk_age_s=top.positive("max_chunk_age_s", 0.5),
        heartbeat_timeout_s=top.positive("heartbeat_timeout_s", 0.15),
        handover_s=top.positive("handover_s", 0.5),
        on_release=top.choice("on_release", ("hold", "policy"), "hold"),
    )
    top.finish()
    _check_whole(contract)
    return contract


def _robot(top: Section) -> str:
    name = check_text_name("robot", top.text("robot"))
    if "/" in name or name in (".", ".."):
        raise ContractError(f"robot: expected a name that a file may have, got '{name}'")
    return name


def _units(section: Section, joints: tuple[str, ...]) -> tuple[str, ...]:
    pairs = section.per_joint("unit", joints)
    for where, unit in pairs:
        if unit not in UNITS:
            raise ContractError(f"{where}: expected one of {', '.join(UNITS)}; got {short(unit)}")
    return tuple(unit for _, unit in pairs)


def _state_part(section: Section) -> StatePart:
    joints = section.joints()
    part = StatePart(
        topic=section.topic(),
        type=section.choice("type", STATE_TYPES),
        joints=joints,
        field=section.choice("field", ("position", "velocity", "effort"), "position"),
        units=_units(section, joints),
        max_age_s=section.positive("max_age_s"),
    )
    section.finish()
    return part


def _camera(key: str, section: Section) -> Camera:
    shape = section.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(n) is int and 0 < n <= LARGEST_SIDE_PX for n in shape)
        or shape[2] != 3
    ):
        raise ContractError(
            f"{key}.shape: expected [height, width, 3] of at most {LARGEST_SIDE_PX} px, "
            f"got {short(shape)}"
        )
    camera = Camera(
        name=check_feature(key, key.removeprefix(IMAGE_PREFIX)),
        topic=section.topic(),
        type=section.choice("type", CAMERA_TYPES),
        shape=(shape[0], shape[1], shape[2]),
        max_age_s=section.positive("max_age_s"),
    )
    section.finish()
    return camera


def _action_part(section: Section) -> ActionPart:
    joints = section.joints()
    command = section.get("command")
    if command in ("delta", "relative", "pose", "end_effector"):
        raise ContractError(
            f"{section.path('command')}: '{command}' actions are not supported; record absolute "
            "joint positions or velocities"
        )

    def values(key: str) -> tuple[float, ...]:
        return tuple(positive(where, value) for where, value in section.per_joint(key, joints))

    part = ActionPart(
        topic=section.topic(),
        type=section.choice("type", COMMAND_TYPES),
        joints=joints,
        command=section.choice("command", ("position", "velocity")),
        units=_units(section, joints),
        command_rate_hz=section.positive("command_rate_hz", ..., LOWEST_RATE, HIGHEST_RATE),
        position=tuple(interval(where, v) for where, v in section.per_joint("position", joints)),
        velocity=values("velocity"),
        acceleration=values("acceleration"),
        max_start_jump=values("max_start_jump"),
        on_stale=section.choice("on_stale", ("hold",), "hold"),
        on_violation=_on_violation(section.section("on_violation", {})),
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


def _on_violation(section: Section) -> OnViolation:
    """`clip` keeps the nearest allowed command; a command that is not finite has none."""
    chosen = {
        f.name: section.choice(
            f.name,
            ("hold", "fault") if f.name == "non_finite" else ("clip", "hold", "fault"),
            f.default,
        )
        for f in fields(OnViolation)
    }
    section.finish()
    return OnViolation(**chosen)


def _reset(section: Section, action: tuple[ActionPart, ...]) -> Reset:
    joints = [joint for part in action for joint in part.joints]
    pose = section.get("pose")
    if not isinstance(pose, list) or len(pose) != len(joints):
        got = len(pose) if isinstance(pose, list) else short(pose)
        raise ContractError(
            f"reset.pose: expected {len(joints)} numbers in action order, got {got}"
        )
    limits = [limit for part in action for limit in part.position]
    numbers = tuple(number(f"reset.pose[{i}]", v) for i, v in enumerate(pose))
    units = [unit for part in action for unit in part.units]
    for joint, unit, value, (low, high) in zip(joints, units, numbers, limits, strict=True):
        if not low <= value <= high:
            raise ContractError(
                f"reset.pose: {joint}: expected within [{low}, {high}], got {value}"
                f"{turns_hint(unit, value, low, high)}"
            )
    reset = Reset(
        pose=numbers,
        duration_s=section.positive("duration_s"),
        confirm=section.flag("confirm", True),
    )
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
    if len({part.on_violation for part in contract.action}) > 1:
        raise ContractError(
            f"{ACTION_KEY}.on_violation: expected the same for all parts: one gate guards them all"
        )
    check_sources(contract)
    check_topics(contract)
    if contract.command_rate_hz < contract.rate_hz:
        raise ContractError(
            f"{ACTION_KEY}.command_rate_hz: expected at least rate_hz ({contract.rate_hz}), "
            f"got {contract.command_rate_hz}"
        )
    if contract.replan_hz > contract.rate_hz:
        raise ContractError(
            f"replan_hz: expected at most rate_hz ({contract.rate_hz}), got {contract.replan_hz}"
        )
