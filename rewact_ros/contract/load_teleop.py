"""The `teleop` section: sources of a human's position targets, and how a gamepad or keys jog."""

from pathlib import Path

from rewact_ros.contract.schema import (
    Contract,
    ContractError,
    Deadman,
    Jog,
    JogTool,
    TeleopSource,
)
from rewact_ros.contract.sections import Section, index, nearest, number, short

JOINT_STATE = "sensor_msgs/msg/JointState"
TELEOP_TYPES = (JOINT_STATE, "trajectory_msgs/msg/JointTrajectory")
CARTESIAN = ("x", "y", "z", "roll", "pitch", "yaw")


def teleop_source(
    name: str, section: Section, joints: tuple[str, ...], folder: Path
) -> TeleopSource:
    """One source; `joints` are the robot's, in action order, and `folder` holds its model.

    Raises:
        ContractError: a key is unknown, missing or wrong.
    """
    robot_joints, source_joints = _joint_map(section, joints)

    def values(key: str, default: float) -> tuple[float, ...]:
        return tuple(number(*pair) for pair in section.per_joint(key, robot_joints, default))

    source = TeleopSource(
        name=name,
        topic=section.topic(),
        type=section.choice("type", TELEOP_TYPES, JOINT_STATE),
        max_age_s=section.positive("max_age_s", 0.2),
        joints=robot_joints,
        source_joints=source_joints,
        scale=values("scale", 1.0),
        offset=values("offset", 0.0),
        deadman=_deadman(section.section("deadman")) if "deadman" in section.data else None,
        takeover_motion=_takeover_motion(section),
        align=section.choice("align", ("offset", "ramp"), "offset"),
        jog=_jog(section.section("jog"), joints, folder) if "jog" in section.data else None,
    )
    section.finish()
    if source.jog is not None:
        _check_jog_source(source, section, joints)
    return source


def mixes_kinds(contract: Contract) -> str:
    """Why the sources' position targets fit no action of this robot, or an empty string."""
    for part in contract.action:
        if part.command != "position":
            return (
                f"sends position targets, but '{part.topic}' is commanded by {part.command}, so "
                "that 1.5 rad would become 1.5 rad/s"
            )
    return ""


def check_sources(contract: Contract) -> None:
    """Refuse sources that speak another language than the robot.

    Raises:
        ContractError: some action is not commanded by position.
    """
    mixed = mixes_kinds(contract)
    if contract.teleop and mixed:
        raise ContractError(
            f"teleop.{contract.teleop[0].name}: {mixed}; remove 'teleop', or give the robot a "
            "position interface"
        )


def _joint_map(
    section: Section, joints: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`{robot joint: source joint}` in action order; absent: all joints, by their own names."""
    if "joints" not in section.data:
        return joints, joints
    names = section.section("joints")
    if not names.data:
        raise ContractError(f"{names.where}: expected at least one 'robot joint: source joint'")
    robot = tuple(joint for joint in joints if joint in names.data)
    source = tuple(names.text(joint) for joint in robot)
    for joint in names.data:
        if joint not in joints:
            raise ContractError(
                f"{names.path(str(joint))}: no such action joint{nearest(str(joint), joints)}"
            )
    return robot, source


def _deadman(section: Section) -> Deadman:
    deadman = Deadman(
        topic=section.topic(),
        button=section.index("button"),
        max_age_s=section.positive("max_age_s", 0.2),
    )
    section.finish()
    return deadman


def _takeover_motion(section: Section) -> float | None:
    if section.get("takeover_motion", None) is None:
        return None
    return section.positive("takeover_motion")


def _jog(section: Section, joints: tuple[str, ...], folder: Path) -> Jog:
    mode = section.choice("mode", ("joint", "cartesian"))
    tool, directions = None, joints
    if mode == "cartesian":
        tool = _tool(section.section("tool"), joints, folder)
        moved = {joint for joint, _ in tool.joints}
        directions = (*CARTESIAN, *(joint for joint in joints if joint not in moved))
    jog = Jog(
        mode=mode,
        directions=directions,
        speed=tuple(_speed(*pair) for pair in section.per_joint("speed", directions)),
        axes=tuple(
            (direction, index(where, value))
            for direction, where, value in _by_direction(section, "axes", directions)
        ),
        buttons=tuple(
            (direction, *_button_pair(where, value))
            for direction, where, value in _by_direction(section, "buttons", directions)
        ),
        tool=tool,
    )
    section.finish()
    return jog


def _by_direction(
    section: Section, key: str, directions: tuple[str, ...]
) -> list[tuple[str, str, object]]:
    """(direction, where, value) of a mapping by direction; absent: none."""
    inner = section.section(key, {})
    for name in inner.data:
        if name not in directions:
            raise ContractError(
                f"{inner.path(str(name))}: no such direction{nearest(str(name), directions)}; "
                f"expected {', '.join(directions)}"
            )
    return [(name, inner.path(name), value) for name, value in inner.data.items()]


def _speed(where: str, value: object) -> float:
    speed = number(where, value)
    if speed == 0:
        raise ContractError(f"{where}: expected a speed other than 0 (negative turns it round)")
    return speed


def _button_pair(where: str, value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ContractError(f"{where}: expected [button up, button down], got {short(value)}")
    up, down = (index(where, button) for button in value)
    if up == down:
        raise ContractError(f"{where}: expected two different buttons, got {up} twice")
    return up, down


def _tool(section: Section, joints: tuple[str, ...], folder: Path) -> JogTool:
    model = None if section.get("model", None) is None else section.text("model")
    tip = section.get("tip", [0.0, 0.0, 0.0])
    if not isinstance(tip, list) or len(tip) != 3:
        raise ContractError(f"{section.path('tip')}: expected [x, y, z] in m, got {short(tip)}")
    x, y, z = (number(f"{section.path('tip')}[{i}]", value) for i, value in enumerate(tip))
    tool = JogTool(
        model=None if model is None else str(folder / model),
        frame=section.text("frame"),
        tip_m=(x, y, z),
        joints=tuple(zip(*_joint_map(section, joints), strict=True)),
    )
    section.finish()
    return tool


def _check_jog_source(source: TeleopSource, section: Section, joints: tuple[str, ...]) -> None:
    if source.deadman is None:
        raise ContractError(
            f"{section.path('deadman')}: missing; a source with 'jog' reads its axes and buttons "
            "from the Joy message that carries the deadman"
        )
    if source.type != JOINT_STATE:
        raise ContractError(
            f"{section.path('type')}: expected {JOINT_STATE}, got {source.type}: that is what "
            "'jog' makes"
        )
    for direction, *pair in source.jog.buttons if source.jog else ():
        if source.deadman.button in pair:
            raise ContractError(
                f"{section.path('jog')}.buttons.{direction}: expected other buttons than the "
                f"deadman's, {source.deadman.button}: holding it down would move the robot"
            )
    for key in ("joints", "scale", "offset"):
        if key in section.data:
            raise ContractError(
                f"{section.path(key)}: expected none beside 'jog', which makes targets of the "
                "robot's own joints"
            )
