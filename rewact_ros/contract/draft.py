"""A commented contract of what was found; every guess says that it is one, and from where."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rewact_ros.contract.found import CameraStream, CommandStream, Found, JointStream, camera_name
from rewact_ros.contract.tables import COMMAND_TYPES, SCHEMA_FILE

# Where nothing tells better. An arm that does not fit them is stopped by its gate, not hurt by it.
DEFAULT_RATE_HZ, DEFAULT_COMMAND_HZ = 30.0, 100.0
DEFAULT_VELOCITY = {"rad": 1.0, "m": 0.1}
RISE_S = 0.1  # acceleration: from rest to full speed in this time
START_JUMP = {"rad": 0.2, "m": 0.02}
MISSED = 3  # a stream may miss so many samples before it is stale
_TURN = 2 * math.pi


@dataclass
class Draft:
    """Text of a contract, and what of it is a guess."""

    lines: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The file."""
        return "\n".join(self.lines) + "\n"

    def say(self, key: str, value: object, why: str, indent: int = 0, guess: bool = False) -> None:
        """One `key: value  # why` line."""
        if guess:
            self.guesses.append(key)
            why = f"guess: {why}"
        self.lines.append(f"{' ' * indent}{quoted(key)}: {quoted(value)}  {_comment(why)}")


def draft(found: Found, name: str = "", rate_hz: float = 0.0) -> Draft:
    """Write a contract of what was found.

    Args:
        found: with at least one camera and one joint, of streams or of features.
        name: of the robot; empty: that of its model.
        rate_hz: of observations; 0: that of the data set, or of the slowest camera.

    Raises:
        ValueError: there is no joint or no camera in it.
    """
    made = Draft()
    made.lines += [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# Made by `rewact contract init`. Lines with `guess:` are yours to settle.",
    ]
    streams, cameras = _states(found), _cameras(found)
    if not streams or not cameras:
        what = "joint" if not streams else "camera"
        raise ValueError(
            f"nothing found tells of a {what}; start the robot's drivers and give --graph, or give "
            "--dataset or --bag"
        )
    _head(made, found, name, rate_hz, streams, cameras)
    _state(made, found, streams)
    for key, camera in cameras.items():
        _camera(made, key, camera)
    _action(made, found, streams)
    return made


def _comment(why: str) -> str:
    """A comment of one line: what is in it comes from files and messages of others."""
    return "# " + "".join(c if c.isprintable() else " " for c in why)[:400]


def quoted(value: object) -> str:
    """A value as strict YAML reads it back."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(quoted(each) for each in value)}]"
    if isinstance(value, str):
        plain = value.replace("_", "").replace("/", "").replace(".", "").isalnum()
        words = {"true", "false", "null", "yes", "no", "on", "off"}
        if plain and value.isascii() and value[0].isalpha() and value.lower() not in words:
            return value
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _states(found: Found) -> list[JointStream]:
    """The joint streams with the joints that belong into the observation, in order.

    A data set's order counts; else that of the commands; else that of the messages, without joints
    that only follow others.
    """
    wanted: tuple[str, ...] = next((f.state for f in found.features if f.state), ())
    if not wanted:
        commanded = [j for stream in _usable_commands(found) for j in stream.joints]
        wanted = tuple(dict.fromkeys(commanded))
    left, kept = dict.fromkeys(wanted), []
    for stream in found.joints:
        own = [j for j in left if j in stream.joints] if wanted else _own(found, stream)
        if own:
            kept.append(JointStream(stream.topic, tuple(own), stream.rate_hz, stream.source))
            left = {j: None for j in left if j not in own}
    if not kept and wanted:
        source = next((f.source for f in found.features if f.state), "the commands")
        kept = [JointStream("joint_states", wanted, 0.0, source)]
    return _by_topic(kept)


def _by_topic(streams: Iterable[JointStream]) -> list[JointStream]:
    """One stream a topic: two sources tell of the same."""
    seen: dict[str, JointStream] = {}
    for stream in streams:
        seen.setdefault(stream.topic, stream)
    return list(seen.values())


def _own(found: Found, stream: JointStream) -> list[str]:
    mimics = {name for name, model in found.model.items() if model.mimic}
    return [joint for joint in stream.joints if joint not in mimics]


def _cameras(found: Found) -> dict[str, CameraStream]:
    """Name → stream; a data set's names and order where it has any."""
    named: dict[str, CameraStream] = {}
    left = {stream.topic: stream for stream in sorted(found.cameras, key=lambda each: each.topic)}
    for features in found.features[:1]:
        # Those whose topic has the name first: what is then left is a guess by its size.
        by_name = {
            name: next((s for s in left.values() if s.shape == shape and _says(s, name)), None)
            for name, shape in features.cameras.items()
        }
        for stream in by_name.values():
            left.pop(stream.topic if stream else "", None)
        for name, shape in features.cameras.items():
            stream = by_name[name] or next((s for s in left.values() if s.shape == shape), None)
            stream = stream or CameraStream(
                f"{name}/image_raw", "sensor_msgs/msg/Image", shape, 0.0, features.source
            )
            left.pop(stream.topic, None)
            named[name] = stream if by_name[name] else _guessed(stream)
    if not named:
        for stream in sorted(left.values(), key=lambda each: each.topic):
            named[camera_name(stream.topic, named)] = stream
    return named


def _says(stream: CameraStream, name: str) -> bool:
    return name in stream.topic.replace("/", "_")


def _guessed(stream: CameraStream) -> CameraStream:
    return replace(stream, source=f"guess by the size: {stream.source}")


def _usable_commands(found: Found) -> list[CommandStream]:
    """Command topics whose joints are known, without those that command the same joint again."""
    taken: set[str] = set()
    kept = []
    for stream in found.commands:
        if stream.joints and not taken & set(stream.joints):
            taken |= set(stream.joints)
            kept.append(stream)
    return kept


def _head(
    made: Draft,
    found: Found,
    name: str,
    rate_hz: float,
    streams: list[JointStream],
    cameras: dict[str, CameraStream],
) -> None:
    robot = name or found.robot.replace("/", "_")
    made.say("robot", robot or "robot", "given" if name else "name of the model", guess=not robot)
    fps = next(((f.rate_hz, f.source) for f in found.features if f.rate_hz), None)
    slowest = min((c.rate_hz for c in cameras.values() if c.rate_hz), default=0.0)
    if rate_hz:
        made.say("rate_hz", rate_hz, "given")
    elif fps:
        made.say("rate_hz", fps[0], f"fps of {fps[1]}")
        rate_hz = fps[0]
    elif slowest:
        rate_hz = float(max(1, round(slowest)))
        made.say("rate_hz", rate_hz, f"the slowest camera comes at {slowest:.1f} Hz", guess=True)
    else:
        rate_hz = DEFAULT_RATE_HZ
        made.say("rate_hz", rate_hz, "no camera's rate is known", guess=True)
    rates = [c.rate_hz for c in cameras.values()] + [s.rate_hz for s in streams]
    known = [rate for rate in rates if rate]
    skew = 1.5 / min(known) if known else 1.5 / rate_hz
    why = f"1.5 periods of the slowest stream ({min(known):.1f} Hz)" if known else "rate_hz"
    made.say("max_skew_s", round(skew, 3), why, guess=not known)
    made.lines.append("")


def _age(made: Draft, rate_hz: float, indent: int) -> None:
    if rate_hz:
        made.say("max_age_s", round(max(MISSED / rate_hz, 0.05), 3),
                 f"{MISSED} samples at the measured {rate_hz:.1f} Hz", indent)  # fmt: skip
    else:
        made.say("max_age_s", 0.2, "its rate is not known; start it and give --graph", indent, True)


def _list(made: Draft, key: str, names: Iterable[str], why: str, indent: int) -> None:
    made.lines.append(f"{' ' * indent}{key}:  {_comment(why)}")
    made.lines += [f"{' ' * (indent + 2)}- {quoted(name)}" for name in names]


def _unit(found: Found, joint: str) -> str:
    model = found.model.get(joint)
    return model.unit if model else "rad"


def _units(made: Draft, found: Found, joints: tuple[str, ...], indent: int) -> None:
    units = [_unit(found, joint) for joint in joints]
    unknown = [joint for joint in joints if joint not in found.model]
    why = "of the model" if not unknown else f"no model tells the unit of {unknown[0]}"
    if len(set(units)) == 1:
        made.say("unit", units[0], why, indent, bool(unknown))
        return
    others = ", ".join(
        f"{quoted(j)}: {u}" for j, u in zip(joints, units, strict=True) if u != "rad"
    )
    made.lines.append(f"{' ' * indent}unit: {{default: rad, {others}}}  {_comment(why)}")
    made.guesses += ["unit"] if unknown else []


def _state(made: Draft, found: Found, streams: list[JointStream]) -> None:
    made.lines.append("observation.state:")
    for stream in streams:
        made.lines.append(f"  - topic: {quoted(stream.topic)}  {_comment(stream.source)}")
        made.guesses += [] if stream.rate_hz or "graph" in stream.source else ["topic"]
        made.lines.append("    type: sensor_msgs/msg/JointState")
        _list(made, "joints", stream.joints, "the data set's order is that of these", 4)
        made.lines.append("    field: position")
        _units(made, found, stream.joints, 4)
        _age(made, stream.rate_hz, 4)
    made.lines.append("")


def _camera(made: Draft, name: str, camera: CameraStream) -> None:
    made.lines.append(f"observation.images.{name}:  # the first is the time reference")
    by_size = camera.source.startswith("guess")
    made.say("topic", camera.topic, camera.source.removeprefix("guess "), 2, by_size)
    made.say("type", camera.type, camera.source, 2, not camera.rate_hz)
    made.say("shape", list(camera.shape), camera.source, 2)
    _age(made, camera.rate_hz, 2)
    made.lines.append("")


def _action(made: Draft, found: Found, streams: list[JointStream]) -> None:
    wanted = next((f.action for f in found.features if f.action), ())
    observed = [joint for stream in streams for joint in stream.joints]
    commands = [
        CommandStream(c.topic, c.type, tuple(j for j in c.joints), c.command, c.source)
        for c in _usable_commands(found)
        if set(c.joints) <= set(observed)
    ]
    rest = [j for j in wanted or observed if not any(j in c.joints for c in commands)]
    if rest:
        known = [c for c in found.commands if not c.joints]
        why = f"guess: nothing tells how {', '.join(rest)[:200]} are commanded."
        made.lines.append(_comment(why))
        topic, type_ = (
            (known[0].topic, known[0].type) if known else ("arm/commands", COMMAND_TYPES[0])
        )
        source = known[0].source if known else "no command topic was found"
        commands.append(CommandStream(topic, type_, tuple(rest), "position", f"guess: {source}"))
        made.guesses.append("action.topic")
    rate = min((s.rate_hz for s in streams if s.rate_hz), default=DEFAULT_COMMAND_HZ)
    made.lines.append("action:")
    for command in commands:
        made.lines.append(f"  - topic: {quoted(command.topic)}  {_comment(command.source)}")
        made.lines.append(f"    type: {command.type}")
        _list(made, "joints", command.joints, command.source, 4)
        made.lines.append(f"    command: {command.command}")
        _units(made, found, command.joints, 4)
        measured = any(s.rate_hz for s in streams)
        why = f"joint states come at {rate:.1f} Hz" if measured else "usual for an arm"
        made.say("command_rate_hz", _command_rate(rate), why, 4, True)
        _limits(made, found, command.joints)
        if command.command == "velocity":
            made.say("controller_timeout_s", 0.1, "ask the controller's manual", 4, True)


def _command_rate(rate_hz: float) -> float:
    return float(max(10, min(500, 10 * round(rate_hz / 10))))


def _limits(made: Draft, found: Found, joints: tuple[str, ...]) -> None:
    models = [found.model.get(joint) for joint in joints]
    made.lines.append("    position:")
    for joint, model in zip(joints, models, strict=True):
        low, high = (model.low, model.high) if model else (None, None)
        if model and low is not None and high is not None:
            made.say(joint, [low, high], model.source, 6)
        else:
            made.say(joint, [-_TURN, _TURN], "the model has no limits; measure them", 6, True)
    for key, why in (
        ("velocity", "limit of the model; begin with less"),
        ("acceleration", f"full speed in {RISE_S} s"),
        ("max_start_jump", "small for an arm; a gripper that holds something may need more"),
    ):
        made.lines.append(f"    {key}:")
        for joint, model in zip(joints, models, strict=True):
            unit = _unit(found, joint)
            known = model.velocity if model and model.velocity else None
            speed = known or DEFAULT_VELOCITY[unit]
            values = {"velocity": speed, "acceleration": speed / RISE_S}
            value = values.get(key, START_JUMP[unit])
            guess = key != "velocity" or known is None
            made.say(joint, value, why if known or guess else "no model", 6, guess)
