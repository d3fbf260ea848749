"""Which streams give the observation, and under which names: a data set's order where there is one.

Nothing is written here and nothing refused; `draft` writes and `conflicts` refuses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rewact_ros.contract.choices import Choices
from rewact_ros.contract.found import (
    CameraStream,
    CommandStream,
    Features,
    Found,
    JointStream,
    ValueStream,
    camera_name,
)
from rewact_ros.contract.pairing import groups, pair, single, stem, words
from rewact_ros.contract.state_values import NAMED_VALUES, SCALARS
from rewact_ros.contract.tables import CAMERA_TYPES, FLOAT64, GOAL_TYPES, JOINT_STATE


@dataclass(frozen=True)
class StateItem:
    """A part of the observation as it will be written.

    Attributes:
        kind: `position`, `velocity` or `effort` of joints, `pose`, …: the contract's `field`.
        name: of a pose and the like; else empty.
        drivers: name → the joint as the driver has it.
        guess: whether the topic is one; `names_guess`, whether the drivers' names are.
    """

    topic: str
    type: str
    names: tuple[str, ...]
    kind: str
    rate_hz: float
    source: str
    name: str = ""
    drivers: Mapping[str, str] = field(default_factory=dict)
    guess: bool = False
    names_guess: bool = False


def wanted(found: Found, key: str) -> tuple[Features | None, tuple[str, ...]]:
    """The first features with names of `state` or `action`, and these."""
    features = next((f for f in found.features if getattr(f, key)), None)
    return features, getattr(features, key) if features else ()


def drivers_of(found: Found, choices: Choices) -> tuple[dict[str, str], set[str]]:
    """Name of the data set → the driver's joint, and which of these are guesses."""
    names = [n for key in ("state", "action") for n in single(wanted(found, key)[1])]
    told = [j for stream in found.joints for j in stream.joints]
    told += [j for stream in commands_of(found, choices) for j in stream.joints]
    drivers, guesses = pair(names, told or found.model, choices.joints)
    return drivers, guesses if told else set(drivers)


def commands_of(found: Found, choices: Choices) -> list[CommandStream]:
    """What takes commands, with the joints that were given for it; what was chosen first.

    An interface of one joint that does not say which has the free joint that its words tell.
    """
    streams = [
        replace(c, joints=choices.commands[c.topic], source="given by --command")
        if choices.commands.get(c.topic)
        else c
        for c in found.commands
    ]
    taken = {j for c in streams for j in c.joints}
    free = {j for s in found.joints for j in _own(found, s) if j not in taken}
    for i, command in enumerate(streams):
        joint = told_joint(command, free) if not command.joints else ""
        if joint:
            source = f"guess: {command.source}; its words tell the joint"
            streams[i] = replace(command, joints=(joint,), source=source)
            free -= {joint}
    active = {each.name for each in found.controllers if each.active}
    return sorted(
        streams,
        key=lambda c: (c.topic not in choices.commands, c.node.rpartition("/")[2] not in active),
    )


def told_joint(command: CommandStream, joints: Iterable[str]) -> str:
    """The joint that the words of an interface of one joint tell; "" where none or several."""
    if command.type not in (FLOAT64, *GOAL_TYPES):
        return ""
    said = words(command.topic) | words(command.node)
    meant = {joint: words(stem(joint)[0]) for joint in joints}
    for fits in (
        [joint for joint, told in meant.items() if told and told <= said],
        [joint for joint, told in meant.items() if told & said],
    ):
        if len(fits) == 1:
            return fits[0]
    return ""


def _own(found: Found, stream: JointStream) -> list[str]:
    """Joints of a stream that do not only follow others."""
    return [j for j in stream.joints if j not in found.model or not found.model[j].mimic]


def plan_state(found: Found, choices: Choices) -> list[StateItem]:
    """Parts of the observation, in the order of the data set.

    Without one: the commanded joints, or those of the messages that do not only follow others.
    """
    features, names = wanted(found, "state")
    if not names:
        return _without_data(found, choices)
    drivers, guessed = drivers_of(found, choices)
    items: list[StateItem] = []
    grouped = {group.first: group for group in groups(names)}
    i = 0
    while i < len(names):
        if group := grouped.get(i):
            items.append(_named(found, choices, group.name, group.type, features))
            i += group.size
            continue
        item = _number(found, choices, names[i], drivers, guessed, features)
        if item is not None:
            _join(items, item)
        i += 1
    return items


def _join(items: list[StateItem], item: StateItem) -> None:
    """Add a joint to the part before, where it is of the same messages."""
    last = items[-1] if items else None
    if (
        last is None
        or last.type != JOINT_STATE
        or (last.topic, last.kind) != (item.topic, item.kind)
    ):
        items.append(item)
        return
    items[-1] = replace(
        last,
        names=last.names + item.names,
        drivers={**last.drivers, **item.drivers},
        names_guess=last.names_guess or item.names_guess,
    )


def state_streams(found: Found, choices: Choices, joint: str) -> list[JointStream]:
    """Streams that have a joint: what was chosen first, then those with the most joints."""
    streams = [s for s in by_topic(found.joints) if joint in s.joints]
    return sorted(streams, key=lambda s: s.topic not in choices.states)


def value_streams(
    found: Found, choices: Choices, name: str, types: Iterable[str]
) -> list[ValueStream]:
    """Streams of some types for a name: the chosen alone, else the best by their words first."""
    streams = [s for s in found.values if s.type in set(types)]
    if chosen := [s for s in streams if s.topic == choices.values.get(name)]:
        return chosen
    told = words(stem(name)[0])
    return sorted(streams, key=lambda s: (not told & words(s.topic), s.topic))


def by_topic(streams: Iterable[JointStream]) -> list[JointStream]:
    """One stream a topic: two sources tell of the same."""
    seen: dict[str, JointStream] = {}
    for stream in streams:
        seen.setdefault(stream.topic, stream)
    return list(seen.values())


def _without_data(found: Found, choices: Choices) -> list[StateItem]:
    commanded = dict.fromkeys(j for c in usable_commands(found, choices) for j in c.joints)
    streams = by_topic(found.joints)
    left = commanded or dict.fromkeys(j for stream in streams for j in _own(found, stream))
    items = []
    for stream in sorted(streams, key=lambda s: s.topic not in choices.states):
        if own := [j for j in left if j in stream.joints]:
            items.append(_joint_item(stream, own, state_streams(found, choices, own[0]), choices))
            left = {j: None for j in left if j not in own}
    if not streams and commanded:
        items.append(
            StateItem("joint_states", JOINT_STATE, tuple(commanded), "position", 0.0,
                      "the commands", guess=True)
        )  # fmt: skip
    for name, topic in choices.values.items():
        told = [each for each in found.values if each.topic == topic]
        items += [_value_item(each, name, "given by --value") for each in told]
    return items


def usable_commands(found: Found, choices: Choices) -> list[CommandStream]:
    """Commands whose joints are known, without those that command the same joint again."""
    taken: set[str] = set()
    kept = []
    for stream in commands_of(found, choices):
        if stream.joints and not taken & set(stream.joints):
            taken |= set(stream.joints)
            kept.append(stream)
    return sorted(kept, key=lambda stream: found.commands.index(_found_as(found, stream)))


def _found_as(found: Found, stream: CommandStream) -> CommandStream:
    return next(c for c in found.commands if c.topic == stream.topic)


def _joint_item(
    stream: JointStream, names: list[str], streams: Sequence[JointStream], choices: Choices
) -> StateItem:
    guess, source = not stream.rate_hz and "graph" not in stream.source, stream.source
    if len(streams) > 1 and stream.topic not in choices.states:
        others = ", ".join(each.topic for each in streams[1:4])
        guess, source = True, f"{source}; or {others}, by --state TOPIC"
    return StateItem(
        stream.topic, JOINT_STATE, tuple(names), "position", stream.rate_hz, source, guess=guess
    )


def _value_item(stream: ValueStream, name: str, why: str, guess: bool = False) -> StateItem:
    source = f"{stream.source}; {why}" if why else stream.source
    if named := NAMED_VALUES.get(stream.type):
        return StateItem(stream.topic, stream.type, named.names(name), named.field,
                         stream.rate_hz, source, name, guess=guess)  # fmt: skip
    return StateItem(
        stream.topic, stream.type, (name,), "value", stream.rate_hz, source, guess=guess
    )


def _named(
    found: Found, choices: Choices, name: str, type_: str, features: Features | None
) -> StateItem:
    """A pose, a wrench or a twist of the data set."""
    streams = value_streams(found, choices, name, [type_])
    if not streams:
        source = features.source if features else ""
        field_ = NAMED_VALUES[type_].field
        stream = ValueStream(f"{name}_{field_}", type_, 0.0, f"no topic of this type; {source}")
        return _value_item(stream, name, "", guess=True)
    sure = len(streams) == 1 or name in choices.values
    why = "" if sure else f"or {', '.join(s.topic for s in streams[1:4])}, see --value {name}=TOPIC"
    return _value_item(streams[0], name, why, guess=not sure)


def _number(
    found: Found,
    choices: Choices,
    name: str,
    drivers: Mapping[str, str],
    guessed: set[str],
    features: Features | None,
) -> StateItem | None:
    """A joint, or a number on a topic of its own."""
    joint, field_ = drivers.get(name, name), stem(name)[1]
    if choices.values.get(name) is None and (streams := state_streams(found, choices, joint)):
        item = _joint_item(streams[0], [name], streams, choices)
        return replace(item, kind=field_, drivers={name: joint}, names_guess=name in guessed)
    scalars = value_streams(found, choices, name, SCALARS)
    if scalars and (name in choices.values or words(stem(name)[0]) & words(scalars[0].topic)):
        given = name in choices.values
        item = _value_item(scalars[0], name, "given by --value" if given else "its name", not given)
        position = name.rpartition(".")[2] in ("pos", "position") or name in _actions(found)
        return replace(item, kind="position" if position else "value")
    if found.joints:
        return None  # `conflicts` names it
    return StateItem(
        "joint_states", JOINT_STATE, (name,), field_, 0.0,
        features.source if features else "", drivers={name: joint}, guess=True,
        names_guess=joint != name,
    )  # fmt: skip


def _actions(found: Found) -> tuple[str, ...]:
    return wanted(found, "action")[1]


# Cameras -------------------------------------------------------------------------------------


def plan_cameras(found: Found, choices: Choices) -> dict[str, CameraStream]:
    """Name → stream; a data set's names and order where it has any."""
    named: dict[str, CameraStream] = {}
    left = {stream.topic: stream for stream in sorted(found.cameras, key=lambda each: each.topic)}
    given = {name: left[topic] for name, topic in choices.cameras.items() if topic in left}
    for stream in given.values():
        left.pop(stream.topic, None)
    for features in found.features[:1]:
        # Those whose topic has the name first: what is then left is a guess by its size.
        by_name: dict[str, CameraStream | None] = {}
        for name, shape in features.cameras.items():
            same = [s for s in left.values() if s.shape == shape and _says(s, name)]
            by_name[name] = given.get(name) or next(iter(same), None)
        for chosen in by_name.values():
            left.pop(chosen.topic if chosen else "", None)
        for name, shape in features.cameras.items():
            fits = [s for s in left.values() if s.shape == shape and s.depth == ("depth" in name)]
            fits += [s for s in left.values() if s.shape == shape and s not in fits]
            stream = by_name[name] or next(
                iter(fits),
                CameraStream(f"{name}/image_raw", CAMERA_TYPES[0], shape, 0.0, features.source),
            )
            left.pop(stream.topic, None)
            named[name] = stream if by_name[name] else _guessed(stream)
    if not named and not (found.features and any(f.state for f in found.features)):
        named = dict(given)
        streams = [] if given else sorted(left.values(), key=lambda each: (each.depth, each.topic))
        for stream in _each_once(streams):
            named[camera_name(stream.topic, named)] = stream
    return named


def camera_candidates(found: Found, choices: Choices) -> dict[str, list[str]]:
    """Name in the data set → topics of its size, where no topic has the name."""
    planned = plan_cameras(found, choices)
    open_: dict[str, list[str]] = {}
    for features in found.features[:1]:
        taken = {s.topic for n, s in planned.items() if not s.source.startswith("guess")}
        for name, shape in features.cameras.items():
            if name in choices.cameras or not planned[name].source.startswith("guess"):
                continue
            fits = [s.topic for s in found.cameras if s.shape == shape and s.topic not in taken]
            if fits:
                open_[name] = sorted(fits, key=lambda topic: topic != planned[name].topic)
    return open_


def _each_once(streams: Iterable[CameraStream]) -> list[CameraStream]:
    """Without the compressed twins of image_transport: one camera is one stream."""
    kept: dict[str, CameraStream] = {}
    for stream in streams:
        base = stream.topic.removesuffix("/compressed").removesuffix("/compressedDepth")
        kept.setdefault(base, stream)
    return list(kept.values())


def _says(stream: CameraStream, name: str) -> bool:
    return name in stream.topic.replace("/", "_")


def _guessed(stream: CameraStream) -> CameraStream:
    return replace(stream, source=f"guess by the size: {stream.source}")
