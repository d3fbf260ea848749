"""The `teleop` section: sources of a human's position targets, and how a gamepad or keys jog."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewact_ros.contract.names import Stream
from rewact_ros.contract.problems import Problems
from rewact_ros.contract.schema import Deadman, Jog, JogDevice, JogTool, TeleopSource
from rewact_ros.contract.sections import Kind, Section, index, nearest, short, text
from rewact_ros.contract.state_values import POSE
from rewact_ros.contract.tables import (
    CARTESIAN_TYPES,
    DEADMAN,
    DEVICE,
    JOG,
    JOINT_STATE,
    TELEOP,
    TOOL,
    button_pair,
)

CARTESIAN = ("x", "y", "z", "roll", "pitch", "yaw")
Joints = tuple[str, ...] | None  # None: some action part's are not known


def teleop_source(
    name: str,
    data: object,
    joints: Joints,
    folder: Path,
    problems: Problems,
    streams: list[Stream],
    actions: Sequence[Section] = (),
) -> TeleopSource | None:
    """One source; None where something is wrong with it, which `problems` then has.

    Args:
        name: of the source.
        data: what the file has of it.
        joints: the robot's, in action order.
        folder: holds the robot's model.
        problems: takes what is wrong.
        streams: takes its topics.
        actions: the parts of `action`, of which some may be Cartesian.
    """
    section = Section(f"teleop.{name}", data, TELEOP, problems)
    if not section.is_mapping:
        return None
    pose = section.get("type") in CARTESIAN_TYPES
    if pose:
        robot_joints = source_joints = _pose_of(section, actions)
    else:
        joints = _joints_only(joints, actions)
        robot_joints, source_joints = _joint_map(section, joints)
    section.read_per_joint(robot_joints)
    deadman = _deadman(section) if "deadman" in section else None
    jog = _jog(section, joints, folder) if "jog" in section else None
    if "jog" in section:
        _check_jog_source(section, jog, deadman)
    if topic := section.get("topic"):
        streams.append(Stream(section.path("topic"), topic))
    if feedback := section.get("feedback_topic"):
        streams.append(Stream(section.path("feedback_topic"), feedback))
        scale = section.values.get("scale", ())
        if 0.0 in scale and robot_joints:
            joint = robot_joints[scale.index(0.0)]
            problems.add(section.path("scale"), "other than 0 beside feedback_topic", f"{joint}: 0")
    if jog is not None and jog.device is not None:
        streams.append(Stream(section.path("jog.device.topic"), jog.device.topic))
    if deadman is not None:
        streams.append(Stream(section.path("deadman.topic"), deadman.topic, "deadman"))
    if not section.whole or robot_joints is None or source_joints is None:
        return None
    section.values.pop("part", None)
    made = {"joints": robot_joints, "source_joints": source_joints, "deadman": deadman, "jog": jog}
    return TeleopSource(name=name, **{**section.values, **made})


def _joints_only(joints: Joints, actions: Sequence[Section]) -> Joints:
    """The robot's joints without the values of poses, of which no device sends one by one."""
    poses = {j for part in actions if part.get("name") for j in part.get("joints") or ()}
    return joints if joints is None else tuple(joint for joint in joints if joint not in poses)


def _pose_of(section: Section, actions: Sequence[Section]) -> Joints:
    """Values of the Cartesian part that a source of poses or twists moves."""
    add, type_ = section.problems.add, section.get("type")
    if "deadman" not in section:
        mend = "the robot follows while it is held down; letting go is the clutch"
        add(section.path("deadman"), fault="missing", mend=mend)
    none = (
        "joints",
        "takeover_motion",
        "jog",
        "offset",
        "feedback_topic",
        *(("scale",) if type_ == POSE else ()),
    )
    for key in none:
        if key in section:
            add(section.path(key), f"none beside {type_}", "one")
    if section.get("align") == "ramp":
        add(section.path("align"), f"offset, for {type_}", "ramp")
    parts = {part.get("name"): part.get("joints") for part in actions if part.get("name")}
    name = section.get("part") or next(iter(parts), "")
    if name not in parts or (section.get("part") is None and len(parts) > 1):
        known = ", ".join(parts) or "none: such a source moves a pose, not joints"
        add(section.path("part"), f"a Cartesian part of action ({known})", name or "none")
        return None
    return parts[name]


def _mapping(section: Section, key: str, what: str) -> Mapping[str, Any]:
    """The mapping under a key; empty where it is absent or none."""
    value = section.data.get(key, {})
    if not isinstance(value, Mapping):
        mend = "fill it in, or remove the key" if value is None else ""
        section.problems.add(section.path(key), "a mapping", short(value), mend)
        return {}
    if what and key in section and not value:
        section.problems.add(section.path(key), f"at least one {what}", "none")
    return value


def _joint_map(section: Section, joints: Joints) -> tuple[Joints, Joints]:
    """`{robot joint: source joint}` in action order; absent: all joints, by their own names."""
    if "joints" not in section:
        return joints, joints
    names = _mapping(section, "joints", "'robot joint: source joint'")
    where, read = section.path("joints"), {}
    for joint, source in names.items():
        if joints is not None and joint not in joints:
            section.problems.add(
                f"{where}.{joint}", fault=f"no such action joint{nearest(str(joint), joints)}"
            )
            continue
        with section.problems.noted():
            read[joint] = text(f"{where}.{joint}", source)
    if joints is None:
        return None, None
    robot = tuple(joint for joint in joints if joint in read)
    return robot, tuple(read[joint] for joint in robot)


def _deadman(section: Section) -> Deadman | None:
    deadman = Section(section.path("deadman"), section.data["deadman"], DEADMAN, section.problems)
    return Deadman(**deadman.values) if deadman.whole else None


def _jog(source: Section, joints: Joints, folder: Path) -> Jog | None:
    section = Section(source.path("jog"), source.data["jog"], JOG, source.problems)
    mode, tool, directions = section.get("mode"), None, joints if section.get("mode") else None
    if mode == "cartesian":
        tool = _tool(section, joints, folder)
        if tool is None or joints is None:
            directions = None
        else:
            moved = {joint for joint, _ in tool.joints}
            directions = (*CARTESIAN, *(joint for joint in joints if joint not in moved))
    section.read_per_joint(directions)
    axes = _by_direction(section, "axes", directions, Kind(index, {}))
    buttons = _by_direction(section, "buttons", directions, Kind(button_pair, {}))
    device = _device(section, {**axes, **buttons}) if "device" in section else None
    if not section.whole or directions is None:
        return None
    return Jog(
        mode=section.values["mode"],
        directions=directions,
        speed=section.values["speed"],
        axes=tuple(axes.items()),
        buttons=tuple((direction, *pair) for direction, pair in buttons.items()),
        tool=tool,
        device=device,
    )


def _device(jog: Section, taken: Iterable[str]) -> JogDevice | None:
    """The device of a jog; `taken` are the directions of axes and buttons."""
    section = Section(jog.path("device"), jog.data["device"], DEVICE, jog.problems)
    if jog.get("mode") == "joint":
        jog.problems.add(jog.path("device"), "none beside mode: joint", "one")
    for direction in (name for name in taken if name in CARTESIAN):
        jog.problems.add(
            jog.path("device"), f"no axis or button for {direction} beside a device", direction
        )
    if section.get("type") == POSE and isinstance(section.data, Mapping) and "scale" in section:
        jog.problems.add(section.path("scale"), f"none beside {POSE}", "one")
    return JogDevice(**section.values) if section.whole else None


def _by_direction(section: Section, key: str, directions: Joints, kind: Kind) -> dict[str, Any]:
    """Direction → value of a mapping by direction; absent: none."""
    read = {}
    for name, value in _mapping(section, key, "").items():
        where = f"{section.path(key)}.{name}"
        if directions is not None and name not in directions:
            section.problems.add(
                where,
                fault=f"no such direction{nearest(str(name), directions)}; expected "
                f"{', '.join(directions)}",
            )
            continue
        with section.problems.noted():
            read[name] = kind.read(where, value)
    return read


def _tool(jog: Section, joints: Joints, folder: Path) -> JogTool | None:
    if "tool" not in jog:
        jog.problems.add(jog.path("tool"), fault="missing")
        return None
    return read_tool(jog.path("tool"), jog.data["tool"], joints, folder, jog.problems)


def read_tool(
    where: str, data: object, joints: Joints, folder: Path, problems: Problems
) -> JogTool | None:
    """A tool and the joints that move it; None where something is wrong, which `problems` has."""
    section = Section(where, data, TOOL, problems)
    if not section.is_mapping:
        return None
    robot, model_joints = _joint_map(section, joints)
    model = section.get("model")
    if not section.whole or robot is None or model_joints is None:
        return None
    return JogTool(
        model=None if model is None else str(folder / model),
        frame=section.values["frame"],
        tip_m=section.values["tip"],
        joints=tuple(zip(robot, model_joints, strict=True)),
    )


def _check_jog_source(section: Section, jog: Jog | None, deadman: Deadman | None) -> None:
    add = section.problems.add
    if "deadman" not in section:
        add(
            section.path("deadman"),
            fault="missing",
            mend="a source with 'jog' reads its axes and buttons from the Joy message that carries "
            "the deadman",
        )
    if (type_ := section.get("type")) not in (JOINT_STATE, None):
        add(section.path("type"), JOINT_STATE, f"{type_}: that is what 'jog' makes")
    for direction, *pair in jog.buttons if jog and deadman else ():
        if deadman and deadman.button in pair:
            add(
                f"{section.path('jog')}.buttons.{direction}",
                f"other buttons than the deadman's, {deadman.button}",
                str(pair),
                fault=f"expected other buttons than the deadman's, {deadman.button}: holding it "
                "down would move the robot",
            )
    for key in ("joints", "scale", "offset"):
        if key in section:
            add(
                section.path(key),
                "none beside 'jog'",
                "one",
                fault="expected none beside 'jog', which makes targets of the robot's own joints",
            )
