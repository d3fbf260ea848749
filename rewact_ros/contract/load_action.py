"""What an action part has beyond joints and limits: goals, open or closed, poses and twists."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rewact_ros.contract.problems import Problems
from rewact_ros.contract.schema import ACTION_KEY, STATE_KEY, Binary, Drive
from rewact_ros.contract.sections import Key, Section, parts
from rewact_ros.contract.state_values import NAMED_VALUES, POSE
from rewact_ros.contract.tables import (
    ACTION_TABLES,
    ANGULAR,
    BINARY,
    CARTESIAN_TYPES,
    COMMAND_TYPES,
    FLOAT64,
    GOAL_TYPES,
    LINEAR,
    START_JUMP,
    WORKSPACE,
)

# Rates whose quotient is whole but for this are meant so: 33.3 of 100 is no third.
_WHOLE = 1e-6
# hil says here what it commands where the robot takes something else.
SAID = "commanded"
_TWIST = "geometry_msgs/msg/TwistStamped"


def action_sections(data: Mapping[str, Any], problems: Problems) -> list[Section]:
    """The parts under `action`, each read by the table of its message type.

    `joints` and what is per joint are set for every part, as far as they are known.
    """
    found = parts(ACTION_KEY, data, ACTION_TABLES, COMMAND_TYPES[0], problems)
    for section in found:
        if section.get("type") in CARTESIAN_TYPES:
            _fill_pose(section)
        else:
            section.read_per_joint(section.get("joints"))
    return found


def _fill_pose(section: Section) -> None:
    """The six values of a Cartesian part and their limits, as joints have them."""
    type_, command = section.get("type"), section.get("command")
    if command and command != CARTESIAN_TYPES[type_]:
        section.problems.add(
            section.path("command"), f"{CARTESIAN_TYPES[type_]}, for {type_}", command
        )
    parts = {
        key: _inner(section, key, table)
        for key, table in (
            ("workspace", WORKSPACE),
            ("linear", LINEAR),
            ("angular", ANGULAR),
            ("max_start_jump", START_JUMP),
        )
    }
    pose = NAMED_VALUES[POSE]
    section.values["unit"] = section.per_joint["unit"] = pose.units
    if section.get("name") is not None:
        section.values["joints"] = pose.names(section.get("name"))
    box = parts.pop("workspace")
    if box is not None:
        turn = ((-math.pi, math.pi),) * 3
        section.values["position"] = (box["x"], box["y"], box["z"], *turn)
        section.per_joint["position"] = section.values["position"]
    jump = parts.pop("max_start_jump")
    if jump is not None:
        section.values["max_start_jump"] = (jump["position"],) * 3 + (jump["angle"],) * 3
    linear, angular = parts.values()
    if linear is not None and angular is not None:
        for key in ("velocity", "acceleration"):
            section.values[key] = (linear[key],) * 3 + (angular[key],) * 3


def _inner(section: Section, key: str, table: Sequence[Key]) -> dict[str, Any] | None:
    """Values of a mapping inside; None where it is wrong or missing."""
    if key not in section:
        return None
    inner = Section(section.path(key), section.data[key], table, section.problems)
    return inner.values if inner.whole else None


def check_poses_observed(
    states: Sequence[Section], actions: Sequence[Section], problems: Problems
) -> None:
    """Note poses that are commanded and not observed, as far as the parts are known."""
    poses = {part.get("name") for part in states if part.get("type") == POSE}
    for part in actions:
        name = part.get("name")
        if part.get("type") in CARTESIAN_TYPES and name and name not in poses:
            problems.add(
                part.path("name"),
                fault=f"{name} is commanded but its pose is not in {STATE_KEY}",
                mend=f"the gate needs it; add {{name: {name}, topic: …, type: {POSE}, "
                "max_age_s: …}} there".replace("}}", "}"),
            )


def check_single(section: Section) -> None:
    """Note a message or goal of one joint that has several, or that is commanded by velocity."""
    type_, joints = section.get("type"), section.get("joints")
    if joints and type_ in (FLOAT64, *GOAL_TYPES) and len(joints) != 1:
        mend = "give each joint a part of its own"
        section.problems.add(
            section.path("joints"), f"one joint, for {type_}", str(len(joints)), mend
        )
    if type_ in GOAL_TYPES and section.get("command") == "velocity":
        section.problems.add(section.path("command"), "position, for goals", "velocity")


def drive(section: Section) -> Drive | None:
    """What the robot takes of a part that has goals or twists; None: the part's own messages."""
    if section.get("type") not in (*GOAL_TYPES, _TWIST):
        return None
    return Drive(section.values["topic"], section.values["type"], section.get("max_effort") or 0.0)


def said_type(section: Section) -> str:
    """Message type by which hil says what it commands of a part that has a `drive`."""
    return POSE if section.get("type") == _TWIST else FLOAT64


def binary(section: Section) -> Binary | None:
    """The two commands of a part; None: it has none, or `problems` has what is wrong."""
    if "binary" not in section:
        return None
    joints, problems = section.get("joints"), section.problems
    if joints and len(joints) != 1:
        problems.add(section.path("binary"), "one joint", f"{len(joints)}: {', '.join(joints)}")
    if section.get("command") == "velocity":
        problems.add(section.path("binary"), "command: position beside it", "velocity")
    inner = Section(section.path("binary"), section.data["binary"], BINARY, problems)
    if not inner.whole:
        return None
    made: dict[str, Any] = dict(inner.values)
    way = abs(made["open"] - made["closed"])
    if way == 0:
        problems.add(inner.path("closed"), "another than open", f"{made['closed']:g}")
        return None
    if made["threshold"] is None:
        made["threshold"] = (made["open"] + made["closed"]) / 2
    if made["hysteresis"] is None:
        made["hysteresis"] = way / 10
    low, high = sorted((made["open"], made["closed"]))
    half = made["hysteresis"] / 2
    if not low <= made["threshold"] - half <= made["threshold"] + half <= high:
        problems.add(
            inner.path("hysteresis"),
            f"threshold ± half of it within [{low:g}, {high:g}]",
            f"{made['threshold']:g} ± {half:g}",
            "one of the two would never be reached",
        )
    _check_within(section, inner, made)
    return Binary(**made)


def _check_within(section: Section, inner: Section, made: dict[str, Any]) -> None:
    limits = (section.per_joint.get("position") or (None,))[0]
    for key in ("open", "closed"):
        if limits and not limits[0] <= made[key] <= limits[1]:
            section.problems.add(
                inner.path(key),
                f"within position, [{limits[0]:g}, {limits[1]:g}]",
                f"{made[key]:g}",
            )


def check_rates(actions: Sequence[Section], rate_hz: float | None, problems: Problems) -> None:
    """Note rates that one control loop cannot give, or that lose steps of a chunk."""
    rates = [(part, rate) for part in actions if (rate := part.get("command_rate_hz"))]
    fastest = max((rate for _, rate in rates), default=0.0)
    for part, rate in rates:
        where = (
            f"{ACTION_KEY}.command_rate_hz" if len(actions) == 1 else part.path("command_rate_hz")
        )
        ratio = fastest / rate
        if abs(ratio - round(ratio)) > _WHOLE * ratio:
            near = " or ".join(f"{fastest / k:g}" for k in (int(ratio), int(ratio) + 1))
            problems.add(
                where,
                f"a whole fraction of the fastest part's {fastest:g}",
                f"{rate:g}",
                f"the nearest are {near} Hz",
            )
        if rate < fastest and part.get("command") in ("velocity", "twist"):
            problems.add(
                where, f"{fastest:g}, the fastest: velocities go out each tick", f"{rate:g}"
            )
        # Goals are sent when they change; every step of a stream must reach the robot.
        if rate_hz and rate < rate_hz and part.get("type") not in GOAL_TYPES:
            problems.add(where, f"at least rate_hz ({rate_hz})", str(rate))
    if (
        rate_hz
        and rates
        and fastest < rate_hz
        and all(p.get("type") in GOAL_TYPES for p, _ in rates)
    ):
        problems.add(f"{ACTION_KEY}.command_rate_hz", f"at least rate_hz ({rate_hz})", str(fastest))
