"""The keys of a contract: one table a section, for the checks and for the JSON Schema alike.

A new key is one row here and a field in `schema.py`; a new message type of a command is one word in
COMMAND_TYPES (and one row in `rewact_ros/ros/commands.py`).
"""

from dataclasses import fields
from typing import Any

from rewact_ros.contract.names import check_text_name
from rewact_ros.contract.problems import refusal
from rewact_ros.contract.schema import (
    ACTION_KEY,
    IMAGE_PREFIX,
    STATE_KEY,
    OnViolation,
)
from rewact_ros.contract.sections import (
    FLAG,
    INDEX,
    INTERVAL_PER_JOINT,
    JOINTS,
    NUMBER_PER_JOINT,
    TEXT,
    TOPIC,
    Key,
    Kind,
    above_zero,
    choice,
    index,
    nested,
    number,
    short,
    table_schema,
    text,
)

STATE_TYPES = ("sensor_msgs/msg/JointState",)
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
COMMAND_TYPES = (
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "sensor_msgs/msg/JointState",
)
JOINT_STATE = "sensor_msgs/msg/JointState"
TELEOP_TYPES = (JOINT_STATE, "trajectory_msgs/msg/JointTrajectory")
UNITS = ("rad", "m", "normalized")
# Observations and commands per second; more is no camera and no control loop of a robot's.
LOWEST_RATE, HIGHEST_RATE = 0.1, 2000.0
LARGEST_SIDE_PX = 16_384
NOT_ABSOLUTE = ("delta", "relative", "pose", "end_effector")
FEATURE_PATTERN = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"


def _robot(where: str, value: object) -> str:
    name = check_text_name(where, text(where, value))
    if "/" in name or name in (".", ".."):
        raise refusal(where, "a name that a file may have", f"'{name}'")
    return name


def _unit(where: str, value: object) -> str:
    if value not in UNITS:
        raise refusal(where, f"one of {', '.join(UNITS)}; got {short(value)}", short(value))
    return str(value)


def _shape(where: str, value: Any) -> tuple[int, int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(type(n) is int and 0 < n <= LARGEST_SIDE_PX for n in value)
        or value[2] != 3
    ):
        raise refusal(where, f"[height, width, 3] of at most {LARGEST_SIDE_PX} px", short(value))
    return value[0], value[1], value[2]


def _command(where: str, value: object) -> str:
    if value in NOT_ABSOLUTE:
        raise refusal(
            where,
            "position, velocity",
            str(value),
            "record absolute joint positions or velocities",
            f"'{value}' actions are not supported",
        )
    return str(_COMMAND.read(where, value))


def _pose(where: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise refusal(where, "numbers in action order", short(value))
    return tuple(number(f"{where}[{i}]", each) for i, each in enumerate(value))


def _speed(where: str, value: object) -> float:
    speed = number(where, value)
    if speed == 0:
        raise refusal(where, "a speed other than 0 (negative turns it round)", "0")
    return speed


def _tip(where: str, value: object) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3:
        raise refusal(where, "[x, y, z] in m", short(value))
    x, y, z = (number(f"{where}[{i}]", each) for i, each in enumerate(value))
    return x, y, z


def _model(where: str, value: object) -> str | None:
    return None if value is None else text(where, value)


def button_pair(where: str, value: object) -> tuple[int, int]:
    """`[button up, button down]`."""
    if not isinstance(value, list) or len(value) != 2:
        raise refusal(where, "[button up, button down]", short(value))
    up, down = (index(where, button) for button in value)
    if up == down:
        raise refusal(where, "two different buttons", f"{up} twice")
    return up, down


_COMMAND = choice(("position", "velocity"))
_SIDE = {"type": "integer", "minimum": 1, "maximum": LARGEST_SIDE_PX}
_SHAPE = Kind(
    _shape, {"type": "array", "prefixItems": [_SIDE, _SIDE, {"const": 3}],
             "minItems": 3, "maxItems": 3},
)  # fmt: skip
_NAME = {"type": "string", "minLength": 1, "maxLength": 100}
_COORDINATES = {"type": "array", "items": {"type": "number"}}
_BY_NAME = {"type": "object", "additionalProperties": _NAME, "minProperties": 1}
RATE = above_zero(LOWEST_RATE, HIGHEST_RATE)
LIMIT = above_zero(per_joint=True)
UNIT = Kind(_unit, {"enum": list(UNITS)}, per_joint=True)

STATE = (
    Key("topic", TOPIC, "topic of the joint states, relative to the robot's namespace"),
    Key("type", choice(STATE_TYPES), "message type"),
    Key("joints", JOINTS, "names as the driver publishes them; their order is the data set's"),
    Key("field", choice(("position", "velocity", "effort")), "what of the message is observed",
        "position"),
    Key("unit", UNIT, "rad, m or normalized; one for all, or by joint with a default"),
    Key("max_age_s", above_zero(), "older is stale, s"),
)  # fmt: skip
CAMERA = (
    Key("topic", TOPIC, "topic of the images, relative to the robot's namespace"),
    Key("type", choice(CAMERA_TYPES), "message type; CompressedImage: JPEG or PNG"),
    Key("shape", _SHAPE, "[height, width, 3], px"),
    Key("max_age_s", above_zero(), "older is stale, s"),
)
ON_VIOLATION = tuple(
    Key(
        field.name,
        choice(("hold", "fault") if field.name == "non_finite" else ("clip", "hold", "fault")),
        f"what the safety gate does about a command beyond its {field.name} limit"
        if field.name != "non_finite"
        else "what the safety gate does about a command that is no number",
        field.default,
    )
    for field in fields(OnViolation)
)
ACTION = (
    Key("topic", TOPIC, "topic of the commands, relative to the robot's namespace"),
    Key("type", choice(COMMAND_TYPES), "message type that the controller takes"),
    Key("joints", JOINTS, "names in the order that the controller takes; the data set's order"),
    Key("command", Kind(_command, _COMMAND.schema), "absolute position or velocity"),
    Key("unit", UNIT, "rad, m or normalized; one for all, or by joint with a default"),
    Key("command_rate_hz", RATE, "rate of the command stream, equal in all parts, Hz"),
    Key("position", INTERVAL_PER_JOINT, "[low, high] by joint, in its unit"),
    Key("velocity", LIMIT, "largest speed by joint, unit/s"),
    Key("acceleration", LIMIT, "largest acceleration by joint, unit/s²"),
    Key("max_start_jump", LIMIT, "largest distance of a first command from the measured joint"),
    Key("on_stale", choice(("hold",)), "what stale joint states lead to", "hold"),
    Key("on_violation", nested(table_schema(ON_VIOLATION)),
        "what the safety gate does about a command beyond a limit", OnViolation()),
    Key("controller_timeout_s", above_zero(),
        "velocity interfaces: time after which the robot's own controller stops, s", None),
)  # fmt: skip
RESET = (
    Key("pose", Kind(_pose, _COORDINATES), "joint positions in action order and units"),
    Key("duration_s", above_zero(), "duration of the motion, s"),
    Key("confirm", FLAG, "whether a person must agree to each reset motion", True),
)
DEADMAN = (
    Key("topic", TOPIC, "topic of a sensor_msgs/msg/Joy"),
    Key("button", INDEX, "index of the button that a person holds down"),
    Key("max_age_s", above_zero(), "silence after which the button counts as released, s", 0.2),
)
TOOL = (
    Key("model", Kind(_model, {"type": ["string", "null"]}),
        "MJCF or URDF, relative to the contract; null: the simulated arm's own", None),
    Key("frame", TEXT, "body (MJCF) or link (URDF) that carries the point"),
    Key("tip", Kind(_tip, {**_COORDINATES, "minItems": 3, "maxItems": 3}),
        "[x, y, z] of the point in that frame, m", (0.0, 0.0, 0.0)),
    Key("joints", nested(_BY_NAME), "{robot joint: model joint}", None),
)  # fmt: skip
JOG = (
    Key("mode", choice(("joint", "cartesian")), "what the sticks move"),
    Key("axes", nested({"type": "object", "additionalProperties": INDEX.schema}),
        "{direction: axis index} of the deadman's Joy message", None),
    Key("buttons", nested({"type": "object", "additionalProperties":
        {"type": "array", "items": INDEX.schema, "minItems": 2, "maxItems": 2}}),
        "{direction: [button up, button down]} of the same message", None),
    Key("speed", Kind(_speed, {"type": "number"}, per_joint=True),
        "per direction: unit/s, m/s or rad/s; negative turns it round"),
    Key("tool", nested(table_schema(TOOL)), "Cartesian only: the point that moves", None),
)  # fmt: skip
TELEOP = (
    Key("topic", TOPIC, "topic of the targets"),
    Key("type", choice(TELEOP_TYPES), "message type of the targets", JOINT_STATE),
    Key("max_age_s", above_zero(), "silence after which the source is lost, s", 0.2),
    Key("joints", nested(_BY_NAME), "{robot joint: source joint}; absent: all, by name", None),
    Key("scale", NUMBER_PER_JOINT, "robot target = scale · source + offset", 1.0),
    Key("offset", NUMBER_PER_JOINT, "robot target = scale · source + offset", 0.0),
    Key("deadman", nested(table_schema(DEADMAN)), "button that must be held down", None),
    Key("takeover_motion", Kind(lambda where, value: value if value is None else
        above_zero().read(where, value), {"type": ["number", "null"]}),
        "distance of a joint from its rest by which moving the source takes over", None),
    Key("align", choice(("offset", "ramp")),
        "offset keeps the difference at the takeover, ramp lets it fade", "offset"),
    Key("jog", nested(table_schema(JOG)), "how a gamepad or keys make the targets", None),
)  # fmt: skip


def _parts_schema(keys: tuple[Key, ...]) -> dict[str, Any]:
    one = table_schema(keys)
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


TOP = (
    Key("robot", Kind(_robot, _NAME), "name of the robot"),
    Key("rate_hz", RATE, "rate of observations, data sets and chunk steps, Hz"),
    Key("max_skew_s", above_zero(), "how far the streams of one observation may lie apart, s"),
    Key("replan_hz", RATE, "largest rate of new chunks, Hz; absent: rate_hz", None),
    Key("max_chunk_age_s", above_zero(),
        "a chunk whose observation is older no longer drives the arm, s", 0.5),
    Key("heartbeat_timeout_s", above_zero(), "silence of the policy that stops the arm, s", 0.15),
    Key("handover_s", above_zero(), "blend from one command source to the next, s", 0.5),
    Key("on_release", choice(("hold", "policy")), "where a human's release leads", "hold"),
    Key(STATE_KEY, nested(_parts_schema(STATE)), "joints that are observed; one part or a list"),
    Key(ACTION_KEY, nested(_parts_schema(ACTION)), "joints that are commanded; one part or a list"),
    Key("reset", nested(table_schema(RESET)), "pose before each episode", None),
    Key("kinematics", nested(table_schema(TOOL)),
        "the tool whose poses a policy may give, and the joints that move it", None),
    Key("teleop", nested({"type": "object", "propertyNames": {"pattern": FEATURE_PATTERN},
        "additionalProperties": table_schema(TELEOP)}), "a human's sources of targets", None),
)  # fmt: skip
SCHEMA_FILE = "contract.schema.json"


def json_schema() -> dict[str, Any]:
    """JSON Schema of a contract, as editors take it."""
    camera = {
        **table_schema(CAMERA),
        "description": "an RGB stream; the first is the time reference",
    }
    name = FEATURE_PATTERN.removeprefix("^")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Robot contract of rewact_ros",
        **table_schema(TOP),
        "patternProperties": {f"^{IMAGE_PREFIX.replace('.', '[.]')}{name}": camera},
    }
