"""A commented contract of what was found; every guess says that it is one, and from where."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rewact_ros.contract.choices import Choices
from rewact_ros.contract.found import CameraStream, Found
from rewact_ros.contract.lines import Draft, comment, quoted
from rewact_ros.contract.plan_action import (
    ActionItem,
    ActionPlan,
    joints_of_tool,
    plan_tool,
    plans,
    switched,
)
from rewact_ros.contract.plan_state import StateItem, plan_cameras
from rewact_ros.contract.state_values import NAMED_VALUES
from rewact_ros.contract.tables import GOAL_TYPES, JOINT_STATE, SCHEMA_FILE
from rewact_ros.contract.unit_guess import guess_units

# Where nothing tells better. An arm that does not fit them is stopped by its gate, not hurt by it.
DEFAULT_RATE_HZ, DEFAULT_COMMAND_HZ, GOALS_HZ = 30.0, 100.0, 10.0
DEFAULT_VELOCITY = {"rad": 1.0, "m": 0.1}
RISE_S = 0.1  # acceleration: from rest to full speed in this time
START_JUMP = {"rad": 0.2, "m": 0.02}
DEFAULT_ROBOT = "my_robot"
DEPTH_M = [0.2, 2.0]
# Of a tool: a box that it surely leaves, and the speed of a cautious hand, m, m/s, rad/s.
REACH_M, TOOL_M_S, TOOL_RAD_S = 1.0, 0.25, 0.6
MISSED = 3  # a stream may miss so many samples before it is stale
_TURN = 2 * math.pi
_TICK = 2 * math.pi / 4096


def draft(found: Found, choices: Choices | None = None, model: Path | None = None) -> Draft:
    """Write a contract of what was found.

    Args:
        found: with something that is observed, of streams or of features.
        choices: what a person settled.
        model: URDF of the robot as the contract shall name it; None: it names none.

    Raises:
        ValueError: nothing tells of a joint or a pose, or one thing cannot be part of a contract.
    """
    made, choices = Draft(), choices or Choices()
    made.lines += [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# Made by `rewact contract init`. Lines with `guess:` are yours to settle.",
    ]
    state, action = plans(found, choices)
    cameras = plan_cameras(found, choices)
    if not state:
        raise ValueError(
            "nothing found tells of a joint; start the robot's drivers and give --graph, or give "
            "--dataset or --bag"
        )
    if action.conflicts:
        raise ValueError("\n  ".join(action.conflicts))
    rate_hz = _head(made, found, choices, state, cameras)
    units = _guessed_units(found)
    _state(made, found, state, units)
    for key, camera in cameras.items():
        _camera(made, key, camera, first=key == next(iter(cameras)))
    _action(made, found, choices, state, action, units, rate_hz)
    _controllers(made, found, action.items)
    _kinematics(made, found, choices, action, model)
    return made


def _head(
    made: Draft,
    found: Found,
    choices: Choices,
    state: Sequence[StateItem],
    cameras: dict[str, CameraStream],
) -> float:
    """What is before the parts; returns the rate of observations, Hz."""
    robot = choices.robot or found.robot.replace("/", "_")
    why = "given" if choices.robot else "name of the model" if robot else "no model has a name"
    made.say("robot", robot or DEFAULT_ROBOT, why, guess=not robot)
    fps = next(((f.rate_hz, f.source) for f in found.features if f.rate_hz), None)
    rate_hz = choices.rate_hz
    if rate_hz:
        made.say("rate_hz", rate_hz, "given")
    elif fps:
        made.say("rate_hz", fps[0], f"fps of {fps[1]}")
        rate_hz = fps[0]
    else:
        rate_hz, why = guess_rate(cameras)
        made.say("rate_hz", rate_hz, why, guess=True)
    rates = [c.rate_hz for c in cameras.values()] + [s.rate_hz for s in state]
    known = [rate for rate in rates if rate]
    skew = 1.5 / min(known) if known else 1.5 / rate_hz
    why = f"1.5 periods of the slowest stream ({min(known):.1f} Hz)" if known else "rate_hz"
    made.say("max_skew_s", round(skew, 3), why, guess=not known)
    made.lines.append("")
    return rate_hz


def guess_rate(cameras: Mapping[str, CameraStream]) -> tuple[float, str]:
    """Rate of observations where nothing tells it, Hz, and why."""
    slowest = min((c.rate_hz for c in cameras.values() if c.rate_hz), default=0.0)
    if slowest:
        return float(max(1, round(slowest))), f"the slowest camera comes at {slowest:.1f} Hz"
    return DEFAULT_RATE_HZ, "no camera's rate is known"


def _age(made: Draft, rate_hz: float, indent: int) -> None:
    if rate_hz:
        made.say("max_age_s", round(max(MISSED / rate_hz, 0.05), 3),
                 f"{MISSED} samples at the measured {rate_hz:.1f} Hz", indent)  # fmt: skip
    else:
        made.say("max_age_s", 0.2, "its rate is not known; start it and give --graph", indent, True)


# Units ---------------------------------------------------------------------------------------


def _guessed_units(found: Found) -> dict[str, tuple[str, str]]:
    units: dict[str, tuple[str, str]] = {}
    for stream in found.joints:
        units |= guess_units(stream, found.model)
    return units


def _unit(found: Found, joint: str) -> str:
    """What the contract has inside, by the model."""
    model = found.model.get(joint)
    return model.unit if model else "rad"


def _units(
    made: Draft,
    found: Found,
    names: Mapping[str, str],
    guessed: Mapping[str, tuple[str, str]],
    indent: int,
    suffix: str = "",
) -> None:
    """`unit:` of joints (name → driver's), with the scale and offset of servo ticks."""
    words = {n: guessed[j][0] if j in guessed else _unit(found, j) for n, j in names.items()}
    words = {n: f"{word}{suffix}" for n, word in words.items()}
    unknown = [joint for joint in names.values() if joint not in found.model]
    why = "of the model" if not unknown else f"no model tells the unit of {unknown[0]}"
    reasons = [guessed[j][1] for j in names.values() if j in guessed]
    why = reasons[0] if reasons else why
    guess = bool(unknown or reasons)
    if len(set(words.values())) == 1:
        made.say("unit", next(iter(words.values())), why, indent, guess)
    else:
        others = ", ".join(f"{quoted(n)}: {u}" for n, u in words.items() if u != f"rad{suffix}")
        said = comment(f"guess: {why}" if reasons else why)
        made.lines.append(f"{' ' * indent}unit: {{default: rad{suffix}, {others}}}  {said}")
        made.guesses += ["unit"] if guess else []
    if ticks := [n for n, word in words.items() if word == "ticks"]:
        for key, value in (("scale", _TICK), ("offset", -math.pi)):
            given = {n: value for n in ticks}
            why = "4096 ticks a turn, 2048 in the middle; the servo's manual and calibration know"
            made.say(key, value if len(ticks) == len(words) else given, why, indent, True)


# Observation ---------------------------------------------------------------------------------


def _state(
    made: Draft,
    found: Found,
    state: Sequence[StateItem],
    guessed: Mapping[str, tuple[str, str]],
) -> None:
    made.lines.append("observation.state:")
    for item in state:
        source = f"guess: {item.source}" if item.guess and item.rate_hz else item.source
        made.lines.append(f"  - topic: {quoted(item.topic)}  {comment(source)}")
        made.guesses += ["topic"] if item.guess else []
        made.lines.append(f"    type: {item.type}")
        if item.type in NAMED_VALUES:
            made.lines.append(f"    name: {quoted(item.name)}")
        elif item.type == JOINT_STATE:
            why = "the data set's order is that of these"
            if item.names_guess:
                why = "names that are like the driver's"
            made.list_names(item.names, item.drivers, why, 4, item.names_guess)
            made.lines.append(f"    field: {item.kind}")
            if item.kind == "effort":
                made.say("unit", "Nm", "efforts of joints that turn", 4, True)
            else:
                joints = {n: item.drivers.get(n, n) for n in item.names}
                moving = item.kind == "velocity"
                _units(made, found, joints, {} if moving else guessed, 4, "/s" if moving else "")
        else:
            made.lines.append(f"    name: {quoted(item.names[0])}")
            made.lines.append(f"    field: {item.kind}")
            made.say("unit", "normalized", "a bare number does not tell its unit", 4, True)
        _age(made, item.rate_hz, 4)
    made.lines.append("")


def _camera(made: Draft, name: str, camera: CameraStream, first: bool) -> None:
    note = "  # the first is the time reference" if first else ""
    made.lines.append(f"observation.images.{name}:{note}")
    by_size = camera.source.startswith("guess")
    made.say("topic", camera.topic, camera.source.removeprefix("guess "), 2, by_size)
    made.say("type", camera.type, camera.source, 2, not camera.rate_hz)
    if camera.depth:
        made.lines.append("  kind: depth")
        made.say("range", DEPTH_M, "what the task needs to tell apart, in m", 2, True)
    made.say("shape", list(camera.shape), camera.source, 2)
    _age(made, camera.rate_hz, 2)
    made.lines.append("")


# Action --------------------------------------------------------------------------------------


def _action(
    made: Draft,
    found: Found,
    choices: Choices,
    state: Sequence[StateItem],
    plan: ActionPlan,
    guessed: Mapping[str, tuple[str, str]],
    rate_hz: float,
) -> None:
    if plan.unknown:
        names = ", ".join(plan.unknown)[:200]
        made.lines.append(comment(f"guess: nothing tells how {names} are commanded."))
        made.guesses.append("action.topic")
    rates = [s.rate_hz for s in state if s.rate_hz and s.type == JOINT_STATE]
    rate = _command_rate(min(rates, default=DEFAULT_COMMAND_HZ), rate_hz)
    why = f"joint states come at {min(rates):.1f} Hz" if rates else "usual for an arm"
    frames = {s.topic: s.frame_id for s in found.values}
    made.lines.append("action:")
    for item in plan.items:
        says = not item.guess or item.source.startswith("guess")
        source = item.source if says else f"guess: {item.source}"
        made.lines.append(f"  - topic: {quoted(item.topic)}  {comment(source)}")
        made.guesses += ["topic"] if item.guess and not plan.unknown else []
        made.lines.append(f"    type: {item.type}")
        if item.name:
            frame = next((frames.get(s.topic, "") for s in state if s.name == item.name), "")
            _cartesian(made, found, choices, item, frame, rate, why)
            continue
        why_names = "names that are like the controller's" if item.names_guess else item.source
        made.list_names(item.names, item.drivers, why_names, 4, item.names_guess)
        made.lines.append(f"    command: {item.command}")
        joints = {n: item.drivers.get(n, n) for n in item.names}
        _units(made, found, joints, guessed, 4)
        if item.type in GOAL_TYPES and len(plan.items) > 1:
            slow = rate / max(1, round(rate / GOALS_HZ))
            made.say("command_rate_hz", slow, "goals that change, at most so often", 4, True)
        else:
            made.say("command_rate_hz", rate, why, 4, True)
        _limits(made, found, joints)
        if not item.observed:
            _unobserved(made, found, joints)
        if item.command == "velocity":
            made.say("controller_timeout_s", 0.1, "ask the controller's manual", 4, True)


def _command_rate(measured_hz: float, rate_hz: float) -> float:
    """That of the joint states in tens of Hz; no step of a chunk may be lost."""
    return float(max(10, min(500, 10 * round(measured_hz / 10)), 10 * math.ceil(rate_hz / 10)))


def _limits(made: Draft, found: Found, joints: Mapping[str, str]) -> None:
    made.lines.append("    position:")
    for name, joint in joints.items():
        model = found.model.get(joint)
        low, high = (model.low, model.high) if model else (None, None)
        if model and low is not None and high is not None:
            made.say(name, [low, high], model.source, 6)
        else:
            made.say(name, [-_TURN, _TURN], "the model has no limits; measure them", 6, True)
    for key, why in (
        ("velocity", "limit of the model; begin with less"),
        ("acceleration", f"full speed in {RISE_S} s"),
        ("max_start_jump", "small for an arm; a gripper that holds something may need more"),
    ):
        made.lines.append(f"    {key}:")
        for name, joint in joints.items():
            unit, model = _unit(found, joint), found.model.get(joint)
            known = model.velocity if model and model.velocity else None
            speed = known or DEFAULT_VELOCITY[unit]
            values = {"velocity": speed, "acceleration": speed / RISE_S}
            value = values.get(key, START_JUMP[unit])
            guess = key != "velocity" or known is None
            made.say(name, value, why if known or guess else "no model", 6, guess)


def _unobserved(made: Draft, found: Found, joints: Mapping[str, str]) -> None:
    made.lines.append("    observed: false  # commanded, but in no observation")
    made.lines.append("    rest:")
    for name, joint in joints.items():
        model, rest = found.model.get(joint), 0.0
        if model and model.low is not None and model.high is not None:
            rest = min(max(0.0, model.low), model.high)
        made.say(name, rest, "it is sent on arming; choose what may be sent at any time", 6, True)


def _cartesian(
    made: Draft,
    found: Found,
    choices: Choices,
    item: ActionItem,
    frame: str,
    rate_hz: float,
    why: str,
) -> None:
    made.lines.append(f"    name: {quoted(item.name)}")
    made.lines.append(f"    command: {item.command}")
    tool = plan_tool(found, choices, [])
    base = frame or (tool.base if tool else "") or "base_link"
    said = "the observed pose's" if frame else "the model's first link" if tool else "usual"
    made.say("frame_id", base, said, 4, not frame)
    made.say("command_rate_hz", rate_hz, why, 4, True)
    made.lines.append("    workspace:")
    for axis, low in (("x", -REACH_M), ("y", -REACH_M), ("z", 0.0)):
        made.say(axis, [low, REACH_M], "a box of 1 m; measure yours, the table too", 6, True)
    speeds = (("linear", TOOL_M_S), ("angular", TOOL_RAD_S))
    for key, speed in speeds:
        values = {"velocity": speed, "acceleration": speed / RISE_S}
        made.say(key, values, f"slow; full speed in {RISE_S} s", 4, True)
    jump = {"position": START_JUMP["m"], "angle": START_JUMP["rad"]}
    made.say("max_start_jump", jump, "small for an arm", 4, True)
    if item.command == "twist":
        made.say("controller_timeout_s", 0.1, "ask the controller's manual", 4, True)


# Controllers and kinematics ------------------------------------------------------------------


def _controllers(made: Draft, found: Found, items: Sequence[ActionItem]) -> None:
    ours, theirs = switched(found, items)
    if not ours:
        return
    made.lines += ["", "controllers:"]
    if found.manager != "controller_manager":
        made.say("manager", found.manager, "it answers", 2)
    made.say("activate", ours, f"{found.manager}: they take the commands above", 2)
    if theirs:
        made.say("deactivate", theirs, f"{found.manager}: they need the same interfaces", 2)


def _kinematics(
    made: Draft, found: Found, choices: Choices, plan: ActionPlan, model: Path | None
) -> None:
    """Where a policy gives poses and the robot takes joints."""
    tool = plan_tool(found, choices, [])
    if model is None or tool is None or not (plan.poses_by_joints or choices.tip):
        return
    named = {joint: name for item in plan.items for name, joint in item.drivers.items()}
    joints = {named[j]: j for j in joints_of_tool(found, choices, tool) if j in named}
    if not joints:
        return
    why = "given by --tip" if choices.tip else "the last link before a hand; see --tip"
    made.lines += ["", "kinematics:"]
    made.say("model", str(model), "the robot's own", 2)
    made.say("frame", tool.frame, why, 2, not choices.tip)
    made.say("joints", joints, f"the chain from {tool.base} to {tool.frame}", 2)
