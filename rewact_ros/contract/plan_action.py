"""What takes the commands of an action, and which controllers and which tool belong to it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rewact_ros.contract.choices import Choices
from rewact_ros.contract.found import CommandStream, Found
from rewact_ros.contract.pairing import Group, groups, single, words
from rewact_ros.contract.plan_state import (
    StateItem,
    commands_of,
    drivers_of,
    plan_state,
    state_streams,
    told_joint,
    usable_commands,
    wanted,
)
from rewact_ros.contract.state_values import NAMED_VALUES, POSE
from rewact_ros.contract.tables import CARTESIAN_TYPES, COMMAND_TYPES, FLOAT64, GOAL_TYPES
from rewact_ros.contract.urdf import chain

_ONE_JOINT = (FLOAT64, *GOAL_TYPES)
_NAMES_JOINTS = COMMAND_TYPES[1:]
_HANDS = frozenset({"gripper", "finger", "fingers", "hand", "jaw", "claw", "knuckle"})


@dataclass(frozen=True)
class ActionItem:
    """A part of the action as it will be written.

    Attributes:
        name: of a Cartesian part; else empty.
        drivers: name → the joint as the controller has it.
        observed: whether the joints' positions are in the observation.
        guess: whether the topic is one.
    """

    topic: str
    type: str
    names: tuple[str, ...]
    command: str
    source: str
    node: str = ""
    name: str = ""
    drivers: Mapping[str, str] = field(default_factory=dict)
    observed: bool = True
    guess: bool = False
    names_guess: bool = False


@dataclass(frozen=True)
class Tool:
    """The chain of the model that moves a tool: its frame, base and joints from the base on."""

    frame: str
    base: str
    joints: tuple[str, ...]


@dataclass
class ActionPlan:
    """Parts of the action, and what does not fit in one line each."""

    items: list[ActionItem] = field(default_factory=list)
    unknown: tuple[str, ...] = ()
    conflicts: list[str] = field(default_factory=list)
    poses_by_joints: bool = False


def plan_action(found: Found, choices: Choices, state: Sequence[StateItem]) -> ActionPlan:
    """Parts of the action in the order of the data set, or of what is observed."""
    features, names = wanted(found, "action")
    plan, source = ActionPlan(), features.source if features else ""
    observed = [n for item in state if item.kind in ("position",) for n in item.names]
    drivers, guessed = drivers_of(found, choices)
    for group in groups(names):
        if item := _cartesian(found, choices, group):
            plan.items.append(item)
        else:
            plan.poses_by_joints = True
    singles = list(single(names))
    if plan.poses_by_joints:
        tool = plan_tool(found, choices, [])
        arm = tool.joints if tool else ()
        singles = [j for j in arm if any(j in s.joints for s in found.joints)] + singles
        observed += [j for j in arm if j not in observed]
    commanded = singles if names else observed
    by_driver = {drivers.get(n, n): n for n in commanded}
    left = dict.fromkeys(commanded)
    for command in _fitting(found, choices, by_driver, bool(names)):
        own = tuple(by_driver.get(j, j) for j in command.joints)
        if command.type in _NAMES_JOINTS and names:
            own = tuple(n for n in singles if n in own)
        if names and (extra := [n for n in own if n not in singles]):
            plan.conflicts.append(_too_many(command.topic, extra[0], source))
        else:
            _take(plan, command, own, observed, drivers, guessed)
        left = {n: None for n in left if n not in own}
    for command, name in _lone(found, choices, tuple(left), drivers):
        source = f"{command.source}; its words tell the joint"
        item = _item(replace(command, source=source), (name,), observed, drivers, guessed)
        plan.items.append(replace(item, guess=True))
        left.pop(name)
    _tell_others(plan, command_topics(found, choices))
    if left:
        plan.unknown = tuple(left)
        plan.items += _unknown(found, plan, tuple(left), observed, drivers, guessed)
    order = {name: i for i, name in enumerate(names or observed)}
    if names and not plan.poses_by_joints:
        plan.items.sort(key=lambda item: order.get(item.names[0], len(order)))
        _check_order(plan, names, source)
    return plan


def _tell_others(plan: ActionPlan, several: Iterable[Sequence[CommandStream]]) -> None:
    """Of several that command the same joints, one that nobody chose is a guess."""
    for same in several:
        for i, item in enumerate(plan.items):
            others = [each.topic for each in same if each.topic != item.topic]
            if len(others) < len(same):
                source = f"{item.source}; or {', '.join(others[:3])}, by --command TOPIC"
                plan.items[i] = replace(item, source=source, guess=True)


def _fitting(
    found: Found, choices: Choices, by_driver: Mapping[str, str], asked: bool
) -> list[CommandStream]:
    """Commands with known joints that the action wants, each joint once."""
    if not asked:
        return usable_commands(found, choices)
    kept: list[CommandStream] = []
    for command in commands_of(found, choices):
        joints = set(command.joints)
        twice = any(joints & set(other.joints) for other in kept)
        if joints & by_driver.keys() and not twice:
            kept.append(command)
    return kept


def _take(
    plan: ActionPlan,
    command: CommandStream,
    own: tuple[str, ...],
    observed: Sequence[str],
    drivers: Mapping[str, str],
    guessed: set[str],
) -> None:
    """Add a command whose joints are known, or say why it cannot be."""
    seen = [name for name in own if name in observed]
    blind = [name for name in own if name not in observed]
    if seen and blind:
        plan.conflicts.append(
            f"action: {command.topic} takes {', '.join(own)}; of these {blind[0]} is in no "
            "observation, and one part is observed whole or not at all; have the driver publish "
            f"{blind[0]} in its joint states"
        )
    elif blind and command.command == "velocity":
        plan.conflicts.append(
            f"action: {command.topic} takes velocities of {blind[0]}, whose position no topic "
            "tells; have the driver publish it, or give a position controller by --command TOPIC"
        )
    else:
        plan.items.append(_item(command, own, observed, drivers, guessed))


def _item(
    command: CommandStream,
    names: tuple[str, ...],
    observed: Sequence[str],
    drivers: Mapping[str, str],
    guessed: set[str],
) -> ActionItem:
    return ActionItem(
        command.topic, command.type, names, command.command, command.source, command.node,
        drivers={name: drivers.get(name, name) for name in names},
        observed=all(name in observed for name in names),
        guess=command.source.startswith("guess"),
        names_guess=any(name in guessed for name in names),
    )  # fmt: skip


def _lone(
    found: Found, choices: Choices, left: tuple[str, ...], drivers: Mapping[str, str]
) -> list[tuple[CommandStream, str]]:
    """Interfaces of one joint that do not say which, with the joint that their words tell.

    Where one joint and one interface are left, these are meant for each other.
    """
    free = [c for c in commands_of(found, choices) if c.type in _ONE_JOINT and not c.joints]
    told: list[tuple[CommandStream, str]] = []
    names = list(left)
    for command in free:
        by_driver = {drivers.get(n, n): n for n in names}
        if joint := told_joint(command, by_driver):
            told.append((command, by_driver[joint]))
            names.remove(by_driver[joint])
    rest = [c for c in free if c not in [command for command, _ in told]]
    if len(names) == 1 and len(rest) == 1:
        told.append((rest[0], names[0]))
    return told


def _unknown(
    found: Found,
    plan: ActionPlan,
    left: tuple[str, ...],
    observed: Sequence[str],
    drivers: Mapping[str, str],
    guessed: set[str],
) -> list[ActionItem]:
    """A part for joints of which nothing tells how they are commanded."""
    used = {item.topic for item in plan.items}
    known = [
        c for c in found.commands
        if not c.joints and c.type in COMMAND_TYPES and c.topic not in used
    ]  # fmt: skip
    free = "arm/commands" if "arm/commands" not in used else "arm/more_commands"
    topic, type_ = (known[0].topic, known[0].type) if known else (free, COMMAND_TYPES[0])
    source = known[0].source if known else "no command topic was found"
    command = CommandStream(topic, type_, left, "position", f"guess: {source}",
                            known[0].node if known else "")  # fmt: skip
    groups_: dict[bool, list[str]] = {}
    for name in left:
        groups_.setdefault(name in observed, []).append(name)
    items = []
    for i, names in enumerate(groups_.values()):
        each = command if i == 0 else replace(command, topic=f"{topic}_{i + 1}")
        items.append(replace(_item(each, tuple(names), observed, drivers, guessed), guess=True))
    return items


def _cartesian(found: Found, choices: Choices, group: Group) -> ActionItem | None:
    """What takes the pose of a data set's action; None: nothing does."""
    if group.type != POSE:
        return None
    streams = [c for c in commands_of(found, choices) if c.type in CARTESIAN_TYPES]
    if not streams and (found.commands or found.joints):
        return None
    names = NAMED_VALUES[POSE].names(group.name)
    if not streams:
        return ActionItem(f"{group.name}_command", POSE, names, "pose",
                          "no command topic was found", name=group.name, guess=True)  # fmt: skip
    first = sorted(streams, key=lambda c: not words(group.name) & words(c.topic))[0]
    chosen = next((c for c in streams if c.topic in choices.commands), first)
    return ActionItem(chosen.topic, chosen.type, names, CARTESIAN_TYPES[chosen.type],
                      chosen.source, chosen.node, group.name,
                      guess=len(streams) > 1 and chosen.topic not in choices.commands)  # fmt: skip


def _too_many(topic: str, joint: str, source: str) -> str:
    return (
        f"action: {topic} takes {joint}, which is not in the action of {source}; a message has all "
        "joints of its controller: give the data set of this robot, or a controller of its joints "
        "by --command TOPIC"
    )


def _check_order(plan: ActionPlan, names: tuple[str, ...], source: str) -> None:
    made = tuple(n for item in plan.items for n in item.names)
    if made == names or plan.conflicts:
        return
    plan.conflicts.append(
        f"action: {source} has the order {', '.join(names)[:300]}, the controllers take "
        f"{', '.join(made)[:300]}; set their `joints` parameters to the data set's order"
    )


# Controllers and kinematics ------------------------------------------------------------------


def command_topics(found: Found, choices: Choices) -> list[list[CommandStream]]:
    """Commands that move the same joints, where there are several and none was chosen."""
    several, seen = [], set()
    for command in commands_of(found, choices):
        same = [
            other for other in commands_of(found, choices)
            if set(other.joints) & set(command.joints)
        ]  # fmt: skip
        if len(same) > 1 and command.topic not in seen:
            seen |= {other.topic for other in same}
            if not any(other.topic in choices.commands for other in same):
                several.append(same)
    return several


def switched(found: Found, items: Iterable[ActionItem]) -> tuple[list[str], list[str]]:
    """Controllers of the action, and those that would hold the same interfaces."""
    known = {each.name: each for each in found.controllers}
    ours = [n for item in items if (n := item.node.rpartition("/")[2]) in known]
    ours = list(dict.fromkeys(ours))
    needed = {i for name in ours for i in known[name].interfaces}
    theirs = [n for n, each in known.items() if n not in ours and needed & set(each.interfaces)]
    return ours, theirs


def plan_tool(found: Found, choices: Choices, commanded: Sequence[str]) -> Tool | None:
    """The chain to the tool of the model; None where the model has no links.

    Without `--tip` the tool is the last link before a hand: behind it are joints that slide at the
    end, and those whose names say so.
    """
    if not found.links:
        return None
    way = chain(found.links, choices.tip or found.tool)
    if not choices.tip:
        moving = [i for i, (_, joint) in enumerate(way) if joint]
        arm = [i for i in moving if not _of_hand(found, way[i])]
        hand = [i for i in moving if arm and i < arm[0]]
        way = way[hand[-1] + 1 :] if hand else way
    joints = tuple(joint for _, joint in reversed(way) if joint)
    kept = tuple(j for j in joints if not commanded or j in commanded)
    return Tool(way[0][0], way[-1][0], kept)


def _of_hand(found: Found, place: tuple[str, str]) -> bool:
    link, joint = place
    model = found.model.get(joint)
    slides = model is not None and model.unit == "m"
    return slides or bool((words(joint) | words(link)) & _HANDS)


def joints_of_tool(found: Found, choices: Choices, tool: Tool) -> tuple[str, ...]:
    """The tool's joints that the robot publishes."""
    return tuple(j for j in tool.joints if state_streams(found, choices, j))


def plans(found: Found, choices: Choices) -> tuple[list[StateItem], ActionPlan]:
    """Observation and action together."""
    state = plan_state(found, choices)
    plan = plan_action(found, choices, state)
    if plan.poses_by_joints and (tool := plan_tool(found, choices, [])):
        have = {n for item in state for n in item.names}
        missing = [j for j in joints_of_tool(found, choices, tool) if j not in have]
        for joint in missing:
            stream = state_streams(found, choices, joint)[0]
            last = state[-1] if state else None
            source = f"{stream.source}; the arm's joints, which poses need"
            if last is not None and last.topic == stream.topic and last.source == source:
                state[-1] = replace(last, names=(*last.names, joint))
                continue
            state.append(
                StateItem(stream.topic, "sensor_msgs/msg/JointState", (joint,), "position",
                          stream.rate_hz, source)
            )  # fmt: skip
    return state, plan
