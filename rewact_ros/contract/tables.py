"""The keys of a contract: one table a section, for the checks and for the JSON Schema alike.

A new key is one row here and a field in `schema.py`; a new message type of a command is one word in
COMMAND_TYPES (and one row in `rewact_ros/ros/commands.py`).
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from rewact_ros.contract.edge import DRIVER_UNITS
from rewact_ros.contract.names import check_feature, check_text_name
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
    JOINTS_BY_NAME,
    LARGEST,
    NUMBER_PER_JOINT,
    OFFSET,
    SCALE,
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
from rewact_ros.contract.state_values import ARRAY, NAMED_VALUES, POSE, SCALARS, SENSOR_UNITS, TWIST
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format

STATE_TYPES = ("sensor_msgs/msg/JointState", *NAMED_VALUES, ARRAY, *SCALARS)
CAMERA_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
COMMAND_TYPES = (
    "std_msgs/msg/Float64MultiArray",
    "trajectory_msgs/msg/JointTrajectory",
    "sensor_msgs/msg/JointState",
)
# One joint a message, and a gripper's actions: hil is a client of those.
FLOAT64 = "std_msgs/msg/Float64"
GOAL_TYPES = (
    "control_msgs/action/GripperCommand",
    "control_msgs/action/ParallelGripperCommand",
)
# Poses of a tool: which command each type carries.
CARTESIAN_TYPES = {POSE: "pose", "geometry_msgs/msg/TwistStamped": "twist"}
ACTION_TYPES = (*COMMAND_TYPES, FLOAT64, *GOAL_TYPES, *CARTESIAN_TYPES)
JOINT_STATE = "sensor_msgs/msg/JointState"
TELEOP_TYPES = (JOINT_STATE, "trajectory_msgs/msg/JointTrajectory", *CARTESIAN_TYPES)
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


def _unit(allowed: tuple[str, ...]) -> Kind:
    def read(where: str, value: object) -> str:
        if value not in allowed:
            raise refusal(where, f"one of {', '.join(allowed)}; got {short(value)}", short(value))
        return str(value)

    return Kind(read, {"enum": list(allowed)}, per_joint=True)


def _value_name(where: str, value: object) -> str:
    if (name := check_text_name(where, text(where, value))) == "default":
        raise refusal(where, fault="'default' stands for all other joints", mend="rename")
    return name


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


def _names(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise refusal(where, "a list of names", short(value))
    return tuple(text(f"{where}[{i}]", each) for i, each in enumerate(value))


_COMMAND = choice(("position", "velocity"))
_SIDE = {"type": "integer", "minimum": 1, "maximum": LARGEST_SIDE_PX}
_SHAPE = Kind(
    _shape, {"type": "array", "prefixItems": [_SIDE, _SIDE, {"const": 3}],
             "minItems": 3, "maxItems": 3},
)  # fmt: skip
_NAME = {"type": "string", "minLength": 1, "maxLength": 100}
TEXT_NAME = Kind(_value_name, _NAME)
_NAMES = Kind(_names, {"type": "array", "items": _NAME})
_COORDINATES = {"type": "array", "items": {"type": "number"}}
_BY_NAME = {"type": "object", "additionalProperties": _NAME, "minProperties": 1}
NUMBER = Kind(number, {"type": "number", "minimum": -LARGEST, "maximum": LARGEST})
RATE = above_zero(LOWEST_RATE, HIGHEST_RATE)
LIMIT = above_zero(per_joint=True)
UNIT = _unit((*UNITS, *DRIVER_UNITS))
STATE_UNIT = _unit((*UNITS, *DRIVER_UNITS, *SENSOR_UNITS))
_UNIT_WORDS = (
    "rad, m or normalized, or the driver's deg, mm, percent or ticks; one for all, or by joint"
)
_SCALE_WORDS = "value = scale · number of the driver + offset; one for all, or by joint"
EDGE = (
    Key("scale", SCALE, _SCALE_WORDS, None),
    Key("offset", OFFSET, _SCALE_WORDS, None),
)


def _state_type(types: Iterable[str]) -> Key:
    """Any type of a state part is read, so that a refusal lists all; one table has some of them."""
    kind = Kind(choice(STATE_TYPES).read, {"enum": list(types)})
    return Key("type", kind, "message type")


STATE = (
    Key("topic", TOPIC, "topic of the joint states, relative to the robot's namespace"),
    _state_type([JOINT_STATE]),
    Key("joints", JOINTS_BY_NAME, "names as the driver publishes them, or {name in the data set: "
        "the driver's}; their order is the data set's"),
    Key("field", choice(("position", "velocity", "effort")), "what of the message is observed",
        "position"),
    Key("unit", STATE_UNIT, f"{_UNIT_WORDS}; of speeds and efforts also {', '.join(SENSOR_UNITS)}"),
    *EDGE,
    Key("max_age_s", above_zero(), "older is stale, s"),
)  # fmt: skip
_NUMBERS = (
    Key("topic", TOPIC, "topic of the numbers, relative to the robot's namespace"),
    Key("field", choice(("value", "position")),
        "position: that of joints, by which these may be commanded", "value"),
    Key("unit", STATE_UNIT, f"{_UNIT_WORDS}; or {', '.join(SENSOR_UNITS)}"),
    *EDGE,
    Key("max_age_s", above_zero(), "older is stale, s"),
)  # fmt: skip
ARRAY_STATE = (
    Key("names", JOINTS, "names of the numbers in their order"),
    _state_type([ARRAY]),
    *_NUMBERS,
)
SCALAR_STATE = (
    Key("name", TEXT_NAME, "name of the number"),
    _state_type(SCALARS),
    *_NUMBERS,
)
NAMED_STATE = (
    Key("name", Kind(lambda where, value: check_feature(where, text(where, value)),
        {"type": "string", "pattern": FEATURE_PATTERN}),
        "first part of the names of the values, such as ee for ee.x"),
    Key("topic", TOPIC, "topic of the messages, relative to the robot's namespace"),
    _state_type(NAMED_VALUES),
    Key("max_age_s", above_zero(), "older is stale, s"),
)  # fmt: skip
STATE_TABLES = {
    JOINT_STATE: STATE,
    **dict.fromkeys(NAMED_VALUES, NAMED_STATE),
    ARRAY: ARRAY_STATE,
    **dict.fromkeys(SCALARS, SCALAR_STATE),
}
CAMERA = (
    Key("topic", TOPIC, "topic of the images, relative to the robot's namespace"),
    Key("type", choice(CAMERA_TYPES), "message type; CompressedImage: JPEG or PNG"),
    Key("kind", choice(("colour", "depth")), "depth: 16UC1 in mm or 32FC1 in m, raw or as "
        "compressedDepth PNG", "colour"),
    Key("range", nested(INTERVAL_PER_JOINT.schema), "depth: [near, far] in m that the picture's "
        "255 levels share", None),
    Key("shape", _SHAPE, "[height, width, 3], px"),
    Key("max_age_s", above_zero(), "older is stale, s"),
)  # fmt: skip
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


def _action_type(types: Iterable[str]) -> Key:
    """Any type of an action part is read, so that a refusal lists all; one table has some."""
    kind = Kind(choice(ACTION_TYPES).read, {"enum": list(types)})
    return Key("type", kind, "message type, or a gripper's action, that the robot takes")


BINARY = (
    Key("open", NUMBER, "command that opens, in the joint's unit"),
    Key("closed", NUMBER, "command that closes, in the joint's unit"),
    Key("threshold", NUMBER, "between opening and closing; absent: half-way", None),
    Key("hysteresis", above_zero(), "how far a command goes back and forth around the threshold "
        "without effect; absent: a tenth of the way", None),
    Key("min_interval_s", above_zero(), "between two changes, s", 0.3),
)  # fmt: skip
ACTION = (
    Key("topic", TOPIC, "topic of the commands (a gripper's action: its name), relative to the "
        "robot's namespace"),
    _action_type((*COMMAND_TYPES, FLOAT64, *GOAL_TYPES)),
    Key("joints", JOINTS_BY_NAME, "names in the order that the controller takes, or {name in the "
        "data set: the controller's}; the data set's order"),
    Key("command", Kind(_command, _COMMAND.schema), "absolute position or velocity"),
    Key("unit", UNIT, _UNIT_WORDS),
    *EDGE,
    Key("command_rate_hz", RATE, "rate of the command stream or of a gripper's goals, Hz; the "
        "fastest part's is a whole multiple"),
    Key("position", INTERVAL_PER_JOINT, "[low, high] by joint, in rad, m or normalized"),
    Key("velocity", LIMIT, "largest speed by joint, unit/s"),
    Key("acceleration", LIMIT, "largest acceleration by joint, unit/s²"),
    Key("max_start_jump", LIMIT, "largest distance of a first command from the measured joint"),
    Key("max_following_error", LIMIT, "largest distance of commands from the measured joint for "
        "more than 0.3 s; absent: not watched", None),
    Key("observed", FLAG, "false: nobody measures these joints; they are where they were last sent",
        True),
    Key("rest", NUMBER_PER_JOINT, "observed: false: where they are before anything was sent; "
        "arming sends it", None),
    Key("on_stale", choice(("hold",)), "what stale joint states lead to", "hold"),
    Key("on_violation", nested(table_schema(ON_VIOLATION)),
        "what the safety gate does about a command beyond a limit", OnViolation()),
    Key("controller_timeout_s", above_zero(),
        "velocity interfaces: time after which the robot's own controller stops, s", None),
    Key("binary", nested(table_schema(BINARY)), "a gripper that only opens and closes", None),
    Key("max_effort", Kind(number, {"type": "number", "minimum": 0}),
        "of a gripper action's goals, N or Nm; 0: the controller's own", 0.0),
)  # fmt: skip
_INTERVAL = Kind(INTERVAL_PER_JOINT.read, INTERVAL_PER_JOINT.schema)
WORKSPACE = tuple(Key(axis, _INTERVAL, "[low, high] of the tool, m") for axis in "xyz")
LINEAR = (
    Key("velocity", above_zero(), "largest speed of the tool, m/s"),
    Key("acceleration", above_zero(), "largest acceleration of the tool, m/s²"),
)
ANGULAR = (
    Key("velocity", above_zero(), "largest speed of the turn, rad/s"),
    Key("acceleration", above_zero(), "largest acceleration of the turn, rad/s²"),
)
START_JUMP = (
    Key("position", above_zero(), "distance, m"),
    Key("angle", above_zero(), "angle of the shortest turn, rad"),
)
CARTESIAN = (
    Key("name", Kind(lambda where, value: check_feature(where, text(where, value)),
        {"type": "string", "pattern": FEATURE_PATTERN}),
        "of the pose, as the observed one is called; its values are NAME.x, … NAME.wz"),
    Key("topic", TOPIC, "topic of the commands, relative to the robot's namespace"),
    _action_type(CARTESIAN_TYPES),
    Key("command", choice(tuple(CARTESIAN_TYPES.values())),
        "pose: absolute poses go to the robot; twist: the velocity that follows them"),
    Key("frame_id", TEXT, "frame of the poses and twists, such as base_link"),
    Key("command_rate_hz", RATE, "rate of the command stream, Hz; the fastest part's is a whole "
        "multiple"),
    Key("workspace", nested(table_schema(WORKSPACE)), "box that the tool stays in"),
    Key("linear", nested(table_schema(LINEAR)), "limits of the tool's position"),
    Key("angular", nested(table_schema(ANGULAR)), "limits of the tool's rotation"),
    Key("max_start_jump", nested(table_schema(START_JUMP)),
        "largest distance of a first command from the measured pose"),
    Key("on_stale", choice(("hold",)), "what a stale pose leads to", "hold"),
    Key("on_violation", nested(table_schema(ON_VIOLATION)),
        "what the safety gate does about a command beyond a limit", OnViolation()),
    Key("controller_timeout_s", above_zero(),
        "twists: time after which the robot's own controller stops, s", None),
)  # fmt: skip
ACTION_TABLES = {
    **dict.fromkeys((*COMMAND_TYPES, FLOAT64, *GOAL_TYPES), ACTION),
    **dict.fromkeys(CARTESIAN_TYPES, CARTESIAN),
}
RESET = (
    Key("pose", Kind(_pose, _COORDINATES), "joint positions in action order and units"),
    Key("duration_s", above_zero(), "duration of the motion, s"),
    Key("confirm", FLAG, "whether a person must agree to each reset motion", True),
)
CONTROLLERS = (
    Key("manager", TOPIC, "node of the controller manager", "controller_manager"),
    Key("activate", _NAMES, "controllers that take our commands"),
    Key("deactivate", _NAMES, "controllers that hold the same interfaces otherwise", ()),
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
DEVICE_TYPES = (TWIST, "geometry_msgs/msg/Twist", POSE)
DEVICE = (
    Key("topic", TOPIC, "topic of the device's twists or poses"),
    Key("type", choice(DEVICE_TYPES), "their message type"),
    Key("max_age_s", above_zero(), "silence after which the device is lost, s", 0.2),
    Key("scale", above_zero(), "of twists: m/s and rad/s of a 1 in the message", 1.0),
)
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
    Key("device", nested(table_schema(DEVICE)), "Cartesian only: a device of twists or poses that "
        "moves the tool instead of axes", None),
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
    Key("feedback_topic", TOPIC, "where hil tells an actuated leader the robot's joints, in the "
        "leader's names and units, until it takes over", None),
    Key("part", TEXT, "poses and twists: name of the Cartesian part that it moves; absent: the "
        "only one", None),
    Key("jog", nested(table_schema(JOG)), "how a gamepad or keys make the targets", None),
)  # fmt: skip


def _parts_schema(*tables: tuple[Key, ...]) -> dict[str, Any]:
    schemas = [table_schema(keys) for keys in tables]
    one = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


FORMAT = 1


def contract_format(where: str, value: object) -> int:
    """The format that a contract says it is written in; raises ContractError for another."""
    try:
        return require_format({FORMAT_KEY: value}, FORMAT, f"write {FORMAT}, or remove the key")
    except FormatError as error:
        raise refusal(where, fault=str(error).removeprefix(f"{where}: ")) from None


TOP = (
    Key(FORMAT_KEY, Kind(contract_format, {"const": FORMAT}),
        "of the file; a newer one is for a newer rewact_ros", FORMAT),
    Key("robot", Kind(_robot, _NAME), "name of the robot"),
    Key("rate_hz", RATE, "rate of observations, data sets and chunk steps, Hz"),
    Key("max_skew_s", above_zero(), "how far the streams of one observation may lie apart, s"),
    Key("replan_hz", RATE, "largest rate of new chunks, Hz; absent: rate_hz", None),
    Key("max_chunk_age_s", above_zero(),
        "a chunk whose observation is older no longer drives the arm, s", 0.5),
    Key("heartbeat_timeout_s", above_zero(), "silence of the policy that stops the arm, s", 0.15),
    Key("handover_s", above_zero(), "blend from one command source to the next, s", 0.5),
    Key("on_release", choice(("hold", "policy")), "where a human's release leads", "hold"),
    Key(STATE_KEY, nested(_parts_schema(*dict.fromkeys(STATE_TABLES.values()))),
        "joints, poses and the like that are observed; one part or a list"),
    Key(ACTION_KEY, nested(_parts_schema(ACTION, CARTESIAN)),
        "joints and poses that are commanded; one part or a list"),
    Key("reset", nested(table_schema(RESET)), "pose before each episode", None),
    Key("controllers", nested(table_schema(CONTROLLERS)),
        "what controller_manager switches on arm and disarm", None),
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
