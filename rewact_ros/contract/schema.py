"""Frozen dataclasses of a robot contract; every field is validated by `contract.load`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rewact_ros.contract.problems import ContractError as ContractError
from rewact_ros.formats import FORMAT_KEY

if TYPE_CHECKING:  # half of the time of a check would be NumPy's import
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

STATE_KEY = "observation.state"
IMAGE_PREFIX = "observation.images."
ACTION_KEY = "action"
RECORD_FORMAT = 1  # of `Contract.record`
# Of one part and of one joint state: more are no robot's.
MOST_JOINTS = 1000


@dataclass(frozen=True)
class StatePart:
    """Values that arrive on one topic; `joints[i]` has unit `units[i]`.

    Attributes:
        joints: names of joints, or those of the values of a part with a `name`, such as `ee.x`.
        field: what they are: position, velocity or effort of joints, `pose`, ….
        name: of a part of values that its message type names; else empty.
        drivers: names of the joints in the messages; empty: the same.
        scale, offset: value = scale · number of the message + offset; empty: they are the same.
    """

    topic: str
    type: str
    joints: tuple[str, ...]
    field: str
    units: tuple[str, ...]
    max_age_s: float
    name: str = ""
    drivers: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()

    @property
    def of_joints(self) -> bool:
        """Whether it is of joints that the messages name."""
        return self.type == "sensor_msgs/msg/JointState"


@dataclass(frozen=True)
class Camera:
    """One stream of pictures; `shape` is (height, width, 3) in pixels.

    Attributes:
        depth: (near, far) in m of a depth camera, whose pictures are three times the distance in
            that range (`rewact_ros/ros/depth.py`); None: colour.
    """

    name: str
    topic: str
    type: str
    shape: tuple[int, int, int]
    max_age_s: float
    depth: tuple[float, float] | None = None

    @property
    def key(self) -> str:
        """Feature name in LeRobot's vocabulary, such as `observation.images.front`."""
        return IMAGE_PREFIX + self.name


@dataclass(frozen=True)
class OnViolation:
    """What the safety gate does about a command beyond a limit: clip, hold or fault.

    A command that is not finite has no nearest allowed one, so there is no clip for it.
    """

    position: str = "clip"
    velocity: str = "clip"
    acceleration: str = "clip"
    non_finite: str = "hold"


@dataclass(frozen=True)
class Binary:
    """A gripper or a suction cup that only opens and closes.

    It opens where the command passes `threshold` by half of `hysteresis` on the side of `open`, and
    closes on the other side; the two changes lie at least `min_interval_s` apart. All but the time
    are in the joint's unit.
    """

    open: float
    closed: float
    threshold: float
    hysteresis: float
    min_interval_s: float


@dataclass(frozen=True)
class Drive:
    """What the robot takes of a part where that is no stream of absolute commands."""

    topic: str
    type: str
    max_effort: float = 0.0


@dataclass(frozen=True)
class ActionPart:
    """Joints that are commanded on one topic, with the limits of the safety gate.

    Limits are per joint, in the joint's unit, unit/s and unit/s². `max_start_jump` bounds the
    distance between the first command of a motion and the measured joints, `max_following_error`
    that of all commands (empty: not watched). `drivers`, `scale` and
    `offset` are as in `StatePart`; all else here is in our units. Joints that are not `observed`
    are, before anything was sent to them, at `rest`.

    A Cartesian part has a `name`, and the values of its pose for joints: NAME.x, y and z in m, then
    the rotation vector NAME.wx, wy and wz in rad. Its limits are a workspace box in `position[:3]`,
    and lengths of vectors: linear in the first three columns, angular in the last.

    With a `drive` the robot takes something else than absolute commands, such as an action's goals;
    on `topic`, hil then only says what it commands, so that it can be recorded as any other part.
    """

    topic: str
    type: str
    joints: tuple[str, ...]
    command: str
    units: tuple[str, ...]
    command_rate_hz: float
    position: tuple[tuple[float, float], ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    max_start_jump: tuple[float, ...]
    on_stale: str
    on_violation: OnViolation
    controller_timeout_s: float | None
    drivers: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    observed: bool = True
    rest: tuple[float, ...] = ()
    max_following_error: tuple[float, ...] = ()
    binary: Binary | None = None
    drive: Drive | None = None
    name: str = ""
    frame_id: str = ""


@dataclass(frozen=True)
class Reset:
    """Joint pose (action order and units) that a reset motion reaches in `duration_s`.

    `confirm`: a person must confirm each reset motion before it begins.
    """

    pose: tuple[float, ...]
    duration_s: float
    confirm: bool


@dataclass(frozen=True)
class Deadman:
    """Button of a `sensor_msgs/Joy` that a teleoperator must hold down."""

    topic: str
    button: int
    max_age_s: float


@dataclass(frozen=True)
class JogTool:
    """A point of the arm, of a Cartesian jog or of the policy's poses, and joints that move it.

    Attributes:
        model: MJCF or URDF file; None is the simulated arm's own.
        frame: body (MJCF) or link (URDF) that carries the point.
        tip_m: (3,) the point in that frame.
        joints: (robot joint, joint of the model) pairs, from the base on.
    """

    model: str | None
    frame: str
    tip_m: tuple[float, float, float]
    joints: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class JogDevice:
    """A SpaceMouse, a phone, a VR controller: twists or poses that jog a tool.

    Attributes:
        type: `geometry_msgs/msg/TwistStamped`, `Twist` or `PoseStamped`.
        max_age_s: silence after which it counts as lost.
        scale: of twists: m/s and rad/s of a 1 in the message.
    """

    topic: str
    type: str
    max_age_s: float
    scale: float


@dataclass(frozen=True)
class Jog:
    """How the sticks and buttons of a gamepad, or keys, move the robot.

    Attributes:
        mode: `joint` or `cartesian`.
        directions: what can be jogged: every joint; Cartesian: x, y, z, roll, pitch and yaw in the
            robot's base frame, and the joints that `tool` does not move.
        speed: per direction, at full deflection: unit/s, m/s or rad/s; negative turns it round.
        axes: (direction, index in `Joy.axes`).
        buttons: (direction, button that raises it, button that lowers it).
        tool: Cartesian only.
        device: what moves the tool instead of axes.
    """

    mode: str
    directions: tuple[str, ...]
    speed: tuple[float, ...]
    axes: tuple[tuple[str, int], ...]
    buttons: tuple[tuple[str, int, int], ...]
    tool: JogTool | None
    device: JogDevice | None = None


@dataclass(frozen=True)
class TeleopSource:
    """A stream of position targets by which a human moves the robot.

    `joints[i]` of the robot gets `scale[i] * value + offset[i]` of `source_joints[i]`; a joint that
    is not listed is held where it is.

    Attributes:
        max_age_s: silence after which the source counts as lost.
        deadman: without one, only a service call or motion takes over.
        takeover_motion: distance of a source joint from its rest that takes over, in joint units
            after scaling; None: motion does not take over.
        align: `offset` keeps the difference between robot and source at the takeover, `ramp` lets
            it fade.
        jog: what `teleop` and `rewact teleop` need to produce the targets; hil does not use it.
        feedback_topic: where hil tells an actuated leader, until it takes over, where it would be
            if it led: the robot's joints, in the leader's names and units.
    """

    name: str
    topic: str
    type: str
    max_age_s: float
    joints: tuple[str, ...]
    source_joints: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    deadman: Deadman | None
    takeover_motion: float | None
    align: str
    jog: Jog | None
    feedback_topic: str | None = None


@dataclass(frozen=True)
class Controllers:
    """What controller_manager makes active when the robot is armed, and what not; back after."""

    manager: str
    activate: tuple[str, ...]
    deactivate: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """Safety limits of the whole action vector, (A,) float64 each, in action order and units."""

    low: FloatArray
    high: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    start_jump: FloatArray


@dataclass(frozen=True)
class Contract:
    """One robot as the policy, the recorder, the data set and the command path see it.

    The first camera is the time reference of an observation, or the first state part where there is
    no camera. State and action vectors are the
    concatenation of their parts in order. `hash` covers features, order, units, rate and shapes,
    not topics, limits or ages: two robots of one kind share a data set.
    """

    robot: str
    rate_hz: float
    max_skew_s: float
    state: tuple[StatePart, ...]
    cameras: tuple[Camera, ...]
    action: tuple[ActionPart, ...]
    teleop: tuple[TeleopSource, ...]
    reset: Reset | None
    replan_hz: float
    max_chunk_age_s: float
    heartbeat_timeout_s: float
    handover_s: float
    on_release: str
    controllers: Controllers | None = None
    kinematics: JogTool | None = None

    @property
    def dt_s(self) -> float:
        """Time between two steps of a chunk, in seconds."""
        return 1.0 / self.rate_hz

    @property
    def reference(self) -> Camera | StatePart:
        """Stream whose stamps are those of the observations."""
        return self.cameras[0] if self.cameras else self.state[0]

    @property
    def reference_stream(self) -> str:
        """Its name among the streams of an observation."""
        return self.cameras[0].key if self.cameras else f"{STATE_KEY}[0]"

    @property
    def command_rate_hz(self) -> float:
        """Rate of the control loop: that of the fastest action part."""
        return max(part.command_rate_hz for part in self.action)

    @property
    def on_violation(self) -> OnViolation:
        """What the safety gate does about violations, equal for every action part."""
        return self.action[0].on_violation

    def teleop_source(self, name: str) -> TeleopSource:
        """Source of that name.

        Raises:
            ContractError: there is none; the message lists those that there are.
        """
        for source in self.teleop:
            if source.name == name:
                return source
        known = ", ".join(source.name for source in self.teleop) or "none"
        raise ContractError(f"teleop.{name}: no such source in the contract; it has: {known}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Joint names of `observation.state`, in order."""
        return tuple(joint for part in self.state for joint in part.joints)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Joint names of `action`, in order."""
        return tuple(joint for part in self.action for joint in part.joints)

    @property
    def action_units(self) -> tuple[str, ...]:
        """Units of `action`, in order."""
        return tuple(unit for part in self.action for unit in part.units)

    @cached_property
    def action_in_state(self) -> NDArray[np.intp]:
        """(A,) indices of the commanded joints in the state vector.

        Raises:
            ContractError: one is not observed; `measured_action` says where those are.
        """
        import numpy as np

        names = self.state_names
        for joint in (j for part in self.action if not part.observed for j in part.joints):
            raise ContractError(
                f"{ACTION_KEY}: {joint} has observed: false, and what is asked here needs its "
                "position in the state; observe it, or choose absolute actions"
            )
        return np.array([names.index(joint) for joint in self.action_names], dtype=np.intp)

    @cached_property
    def measuring(self) -> tuple[int, ...]:
        """Indices of the state parts that say where the robot is: joints, and what is commanded.

        Nothing else need be there to move it: a force sensor that falls silent ends what the policy
        does, but a person can still lead the arm away.
        """
        commanded = set(self.action_names)
        return tuple(
            i
            for i, part in enumerate(self.state)
            if part.of_joints or commanded.intersection(part.joints)
        )

    @cached_property
    def poses(self) -> tuple[int, ...]:
        """First column of each Cartesian part in the action vector."""
        first, found = 0, []
        for part in self.action:
            if part.name:
                found.append(first)
            first += len(part.joints)
        return tuple(found)

    @cached_property
    def joint_columns(self) -> NDArray[np.intp]:
        """Columns of the action vector that are joints."""
        import numpy as np

        named = [bool(part.name) for part in self.action for _ in part.joints]
        return np.flatnonzero(~np.array(named))

    @cached_property
    def limits(self) -> Limits:
        """Limits of all action parts, concatenated."""
        import numpy as np

        def column(field: str) -> FloatArray:
            return np.array([v for part in self.action for v in getattr(part, field)], dtype=float)

        position = column("position").reshape(-1, 2)
        return Limits(
            low=position[:, 0],
            high=position[:, 1],
            velocity=column("velocity"),
            acceleration=column("acceleration"),
            start_jump=column("max_start_jump"),
        )

    @cached_property
    def following(self) -> FloatArray:
        """`max_following_error` of the whole action vector (A,); infinite: not watched."""
        import numpy as np

        free = float("inf")
        return np.concatenate(
            [part.max_following_error or (free,) * len(part.joints) for part in self.action]
        )

    def signature(self) -> dict[str, Any]:
        """What data and checkpoints must agree with: features, order, units, rate, shapes."""
        features: dict[str, Any] = {
            STATE_KEY: {
                "shape": [len(self.state_names)],
                "names": list(self.state_names),
                "units": [unit for part in self.state for unit in part.units],
                "field": [part.field for part in self.state for _ in part.joints],
            },
            ACTION_KEY: {
                "shape": [len(self.action_names)],
                "names": list(self.action_names),
                "units": list(self.action_units),
                # A twist follows an absolute pose, and that is what data and policies hold.
                "command": [
                    "pose" if part.name else part.command
                    for part in self.action
                    for _ in part.joints
                ],
            },
        }
        for camera in self.cameras:
            features[camera.key] = {"shape": list(camera.shape)}
            if camera.depth is not None:
                features[camera.key]["depth_m"] = list(camera.depth)
        return {"rate_hz": self.rate_hz, "features": features}

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON of `signature()`."""
        text = json.dumps(self.signature(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What datasets and checkpoints keep of it, as `contract.json`."""
        return {FORMAT_KEY: RECORD_FORMAT, "hash": self.hash, "signature": self.signature()}

    def dataset_features(self, use_videos: bool = True) -> dict[str, dict[str, Any]]:
        """Observation and action features as `LeRobotDataset.create` takes them."""
        names = {STATE_KEY: self.state_names, ACTION_KEY: self.action_names}
        features: dict[str, dict[str, Any]] = {
            key: {"dtype": "float32", "shape": (len(joints),), "names": list(joints)}
            for key, joints in names.items()
        }
        for camera in self.cameras:
            features[camera.key] = {
                "dtype": "video" if use_videos else "image",
                "shape": camera.shape,
                "names": ["height", "width", "channel"],
            }
        return features
