"""Seeded faults of a running fake robot, for `rewact bench robots-doctor`.

Each is put into what really runs: the driver's messages, topics, controllers and model, another
node, the contract's file, a checkpoint's or a data set's files, the environment of the command. A
new fault is one row of FAULTS.
"""

import array
import io
import json
import math
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from robot_drivers import DRIVERS, MODELS
from sensor_msgs.msg import CompressedImage, Image, JointState, Joy
from std_msgs.msg import Float64MultiArray

from rewact_ros import strict_yaml
from rewact_ros.contract import Contract, load_contract
from rewact_ros.msg import ControlStatus
from rewact_ros.picture_file import encode_picture
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns, to_stamp
from rewact_ros.share import share_dir

LATCHING = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FRONT, WRIST, JOINTS = "front/image_raw", "wrist/image_raw", "joint_states"
LEADER, DEADMAN = "leader/joint_states", "leader/joy"


@dataclass
class Robot:
    """What is changed of a robot before it runs.

    Attributes:
        contract: its keys, as the file has them.
        about: of the driver, as drivers.json has it.
        changes: of messages, in order: (topic, message) → message or None.
        others: nodes that run beside it: node → None, which makes publishers and timers.
        asked: options of the doctor.
        environment: of the command.
        limits: of the shell, `ulimit` words.
    """

    name: str
    folder: Path
    contract: dict[str, Any]
    about: dict[str, Any]
    urdf: str
    pose: dict[str, float] = field(default_factory=dict)
    changes: list[Callable[[str, Any], Any]] = field(default_factory=list)
    others: list[tuple[str, Callable[[Node], None]]] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    limits: str = ""

    @classmethod
    def of(cls, name: str, folder: Path) -> "Robot":
        """A shipped robot as it is."""
        contract = strict_yaml.load(share_dir() / "config" / "robots" / f"{name}.yaml")
        about, model = deepcopy(DRIVERS.get(name, {})), MODELS / f"{name}.urdf"
        return cls(name, folder, contract, about, model.read_text() if model.is_file() else "")

    def write(self) -> Path:
        """The contract's file; JSON is YAML."""
        path = self.folder / "robot.yaml"
        path.write_text(json.dumps(self.contract))
        return path

    @property
    def state(self) -> dict[str, Any]:
        """First part of the contract's state."""
        return self.contract["observation.state"][0]

    @property
    def action(self) -> dict[str, Any]:
        """First part of the contract's action."""
        return self.contract["action"][0]

    def camera(self, name: str) -> dict[str, Any]:
        """A camera of the contract."""
        return self.contract[f"observation.images.{name}"]

    def loaded(self) -> Contract:
        """The contract."""
        return load_contract(self.write())

    def on(self, topic: str, change: Callable[[Any], Any]) -> None:
        """Change each message of a topic in place, or drop it by returning False."""

        def changed(name: str, msg: Any) -> Any:
            return None if name == topic and change(msg) is False else msg

        self.changes.append(changed)


@dataclass(frozen=True)
class Fault:
    """One fault, and what must be said of it.

    Attributes:
        check: name of the check that must tell it.
        words: regular expression that one of its findings must match.
        robot: that has it.
        command: run as the user's own command, in a process of its own.
    """

    name: str
    check: str
    words: str
    put: Callable[[Robot], None]
    robot: str = "koch"
    command: bool = False


def _set(target: dict[str, Any], **values: Any) -> None:
    target.update(values)


# Messages -----------------------------------------------------------------------------------------


def _joints(change: Callable[[JointState], None]) -> Callable[[Robot], None]:
    return lambda robot: robot.on(JOINTS, change)


def _position(index: int, value: float) -> Callable[[Robot], None]:
    def change(msg: JointState) -> None:
        msg.position[index] = value

    return _joints(change)


def _scaled(scale: float) -> Callable[[Robot], None]:
    def change(msg: JointState) -> None:
        msg.position = [scale * value for value in msg.position]

    return _joints(change)


def _drop_joint(msg: JointState) -> None:
    msg.name, msg.position = msg.name[:-1], msg.position[:-1]


def _double_joint(msg: JointState) -> None:
    msg.name, msg.position = [*msg.name, msg.name[0]], [*msg.position, msg.position[0]]


def _rename_joint(msg: JointState) -> None:
    msg.name = [name.replace("elbow_flex", "elbow-flex") for name in msg.name]


def _no_positions(msg: JointState) -> None:
    msg.velocity, msg.position = [0.0] * len(msg.name), []


def _stamp(topic: str, change: Callable[[int], int]) -> Callable[[Robot], None]:
    def stamp(msg: Any) -> None:
        msg.header.stamp = to_stamp(change(to_ns(msg.header.stamp)))

    return lambda robot: robot.on(topic, stamp)


def _lag(robot: Robot) -> None:
    robot.camera("wrist")["max_age_s"] = 0.3
    _stamp(WRIST, lambda ns: ns - 150_000_000)(robot)


def _constant_stamp(robot: Robot) -> None:
    first: list[int] = []

    def stamp(msg: Any) -> None:
        first.append(to_ns(msg.header.stamp)) if not first else None
        msg.header.stamp = to_stamp(first[0])

    robot.on(FRONT, stamp)


def _pixels(topic: str, change: Callable[["np.ndarray"], "np.ndarray"]) -> Callable[[Robot], None]:
    """Change the pixels (H, W) of a grey picture."""

    def put(msg: Image) -> None:
        grey = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width)
        msg.data = array.array("B", change(grey).astype(np.uint8).tobytes())

    return lambda robot: robot.on(topic, put)


def _frozen(robot: Robot) -> None:
    kept: list[Any] = []

    def put(msg: Image) -> None:
        kept.append(msg.data) if not kept else None
        msg.data = kept[0]

    robot.on(FRONT, put)


def _bursts(robot: Robot) -> None:
    """Joint states come for a tenth of a second, then not for as long, and so on."""
    started_s = time.monotonic()
    robot.about["joint_rate_hz"] = 100
    robot.on(JOINTS, lambda msg: (time.monotonic() - started_s) % 0.2 < 0.1)


def _small(robot: Robot) -> None:
    robot.about["cameras"]["front"]["shape"] = [240, 320, 3]


def _encoding(robot: Robot) -> None:
    robot.on(FRONT, lambda msg: setattr(msg, "encoding", "yuv422"))


def _short(robot: Robot) -> None:
    robot.on(FRONT, lambda msg: setattr(msg, "data", msg.data[: len(msg.data) // 2]))


def _same_view(robot: Robot) -> None:
    seen: list[Any] = []

    def keep(topic: str, msg: Any) -> Any:
        if topic == FRONT:
            seen[:] = [msg.data]
        elif topic == WRIST and seen:
            msg.data = seen[0]
        return msg

    robot.changes.append(keep)


def _compressed(robot: Robot, both: bool) -> None:
    kind = "sensor_msgs/msg/CompressedImage"
    robot.about["cameras"]["front"]["type"] = kind
    if both:
        robot.camera("front")["type"] = kind


def _cut_jpeg(robot: Robot) -> None:
    _compressed(robot, both=True)

    def cut(msg: CompressedImage) -> None:
        msg.data = msg.data[: len(msg.data) // 2]

    robot.on(FRONT, cut)


def _slow(hz: float) -> Callable[[Robot], None]:
    """A camera of so many Hz where the contract has 15."""

    def put(robot: Robot) -> None:
        robot.contract |= {"rate_hz": 15, "max_skew_s": 0.1}
        for camera in ("front", "wrist"):
            robot.camera(camera)["max_age_s"] = 0.3
            robot.about["cameras"][camera]["rate_hz"] = 15
        robot.about["cameras"]["wrist"]["rate_hz"] = hz

    return put


# Nodes --------------------------------------------------------------------------------------------


def _rogue(node: Node) -> None:
    publisher = node.create_publisher(Float64MultiArray, "arm/commands", 1)
    node.create_timer(0.1, lambda: publisher.publish(Float64MultiArray(data=[0.0] * 6)))


def _hil(node: Node) -> None:
    publisher = node.create_publisher(ControlStatus, names.CONTROL_STATUS, names.LATCHED)
    node.create_timer(0.1, lambda: publisher.publish(ControlStatus()))


def _two_hils(robot: Robot) -> None:
    robot.others += [("hil", _hil), ("hil", _hil)]


def _second_camera(node: Node) -> None:
    node.create_publisher(Image, FRONT, names.SENSOR_OUT)


def _second_joints(robot: Robot) -> None:
    joints = robot.about["joint_states"][JOINTS]

    def publish(node: Node) -> None:
        publisher = node.create_publisher(JointState, JOINTS, names.SENSOR_OUT)

        def send() -> None:
            msg = JointState(name=joints, position=[-0.5] * len(joints))
            msg.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(msg)

        node.create_timer(0.02, send)

    robot.others.append(("replayed_bag", publish))


def _with_leader(
    robot: Robot, button: int = 0, held: bool = False, moves: bool = False, joy: bool = True
) -> None:
    """A leader arm beside the robot, with a deadman of one button unless it moves by itself."""
    joints = robot.action["joints"]
    source: dict[str, Any] = {"topic": LEADER}
    source |= {"takeover_motion": 0.2} if moves else {}
    source |= {} if moves else {"deadman": {"topic": DEADMAN, "button": button}}
    robot.contract["teleop"] = {"leader": source}

    def lead(node: Node) -> None:
        publisher = node.create_publisher(JointState, LEADER, names.SENSOR_OUT)
        buttons = node.create_publisher(Joy, DEADMAN, names.SENSOR_OUT) if joy else None

        def send() -> None:
            swing = 0.3 * math.sin(2 * time.monotonic()) if moves else 0.0
            msg = JointState(name=joints, position=[swing - 0.2] * len(joints))
            msg.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(msg)
            if buttons:
                buttons.publish(Joy(buttons=[int(held)]))

        node.create_timer(0.02, send)

    robot.others.append(("leader", lead))


def _misspelt_leader(robot: Robot) -> None:
    _with_leader(robot)
    robot.contract["teleop"]["leader"]["topic"] = "leader/joint_state"


def _without_controllers(robot: Robot) -> None:
    robot.about["controllers"] = []


def _without_camera(robot: Robot) -> None:
    del robot.about["cameras"]["front"]


def _controller(**values: Any) -> Callable[[Robot], None]:
    return lambda robot: robot.about["controllers"][0].update(values)


def _reversed_joints(robot: Robot) -> None:
    controller = robot.about["controllers"][0]
    controller["joints"] = controller["joints"][::-1]


# Contract and model -------------------------------------------------------------------------------


def _wide_limits(robot: Robot) -> None:
    robot.action["position"]["wrist_flex"] = [-3.0, 3.0]


def _foreign_model(robot: Robot) -> None:
    robot.urdf = robot.urdf.replace('"wrist_roll"', '"wrist_roll_joint"')
    robot.pose["wrist_roll"] = 0.0


def _sliding_model(robot: Robot) -> None:
    robot.urdf = robot.urdf.replace('type="revolute"', 'type="prismatic"')


# Files --------------------------------------------------------------------------------------------


def checkpoint(robot: Robot, **statistics: list[float]) -> Path:
    """A checkpoint for the robot, of the shipped one's weights; statistics of its state."""
    from safetensors.numpy import save_file

    folder, contract = robot.folder / "policy", robot.loaded()
    shutil.copytree(share_dir() / "models" / "vx300s_pick_place", folder)
    config = json.loads((folder / "config.json").read_text())
    joints = len(contract.state_names)
    config["input_features"] = {"observation.state": {"type": "STATE", "shape": [joints]}} | {
        camera.key: {"type": "VISUAL", "shape": [3, *camera.shape[:2]]}
        for camera in contract.cameras
    }
    config["output_features"] = {
        "action": {"type": "ACTION", "shape": [len(contract.action_names)]}
    }
    (folder / "config.json").write_text(json.dumps(config))
    record = {"hash": contract.hash, "signature": contract.signature()}
    (folder / "contract.json").write_text(json.dumps(record))
    known = {"mean": [0.0] * joints, "std": [1.0] * joints} | statistics
    for path in folder.glob("*normalizer_processor.safetensors"):
        save_file(
            {f"observation.state.{k}": np.array(v, np.float32) for k, v in known.items()}, path
        )
    robot.asked["policy"] = folder
    return folder


def _no_weights(robot: Robot) -> None:
    (checkpoint(robot) / "model.safetensors").unlink()


def _pointer(robot: Robot) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (checkpoint(robot) / "model.safetensors").write_text(text)


def _other_rate(robot: Robot) -> None:
    file = checkpoint(robot) / "contract.json"
    record = json.loads(file.read_text())
    record["hash"], record["signature"]["rate_hz"] = "0", 50.0
    file.write_text(json.dumps(record))


def _other_robot(robot: Robot) -> None:
    robot.asked["policy"] = share_dir() / "models" / "g1_bottle"


def _narrow_data(robot: Robot) -> None:
    checkpoint(robot, min=[1.0] * 6, max=[1.2] * 6)


def _damaged_calibration(robot: Robot) -> None:
    file = robot.folder / "calibration.json"
    file.write_text('{"format": 1, "completion": {')
    robot.asked["calibration"] = file


def _no_gpu(robot: Robot) -> None:
    checkpoint(robot)
    robot.asked["device"] = "cuda"


def dataset(robot: Robot, swap: bool = False, rate_hz: float = 30.0) -> Path:
    """Training data of the robot: what its cameras show, in tables; `swap`: the wrong way round."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from robot_drivers import _pictures

    root, contract = robot.folder / "data", robot.loaded()
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [len(joints)], "names": list(joints)}
        for key, joints in (
            ("observation.state", contract.state_names),
            ("action", contract.action_names),
        )
    }
    topics = [camera.topic for camera in contract.cameras]
    columns = {}
    for camera, topic in zip(contract.cameras, topics[::-1] if swap else topics, strict=True):
        features[camera.key] = {
            "dtype": "image",
            "shape": list(camera.shape),
            "names": ["height", "width", "channels"],
        }
        height, width, _ = camera.shape
        grey = np.frombuffer(_pictures(topic, height, width)[0], np.uint8).reshape(height, width)
        png = encode_picture(np.repeat(grey[..., None], 3, axis=2), 0)
        columns[camera.key] = [{"bytes": io.BytesIO(png).getvalue(), "path": None}]
    info = {
        "codebase_version": "v3.0", "fps": rate_hz, "total_episodes": 1, "total_frames": 1,
        "total_tasks": 1, "features": features,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    pq.write_table(pa.table(columns), root / "data" / "chunk-000" / "file-000.parquet")
    robot.asked["dataset"] = root
    return root


ONE_GREY = 128
FAULTS = (
    # Topics, types, QoS, nodes.
    Fault("camera misspelt in the contract", "topics", "nearest that exists is /front/image_raw",
          lambda r: _set(r.camera("front"), topic="frnt/image_raw")),
    Fault("joint states misspelt in the contract", "topics", "nearest that exists is /joint_states",
          lambda r: _set(r.state, topic="joint_state")),
    Fault("camera not started", "topics", "front/image_raw: nobody publishes it", _without_camera),
    Fault("contract has Image as CompressedImage", "types", "published as sensor_msgs/msg/Image",
          lambda r: _set(r.camera("front"), type="sensor_msgs/msg/CompressedImage")),
    Fault("driver sends CompressedImage for Image", "types",
          "published as sensor_msgs/msg/CompressedImage", lambda r: _compressed(r, both=False)),
    Fault("another namespace", "topics", "nobody publishes it",
          lambda r: r.asked.update(namespace="left")),
    Fault("another domain", "discovery", "no other node",
          lambda r: r.environment.update(ROS_DOMAIN_ID="100")),
    Fault("command topic misspelt", "controllers", "nearest that exists is /arm/commands",
          lambda r: _set(r.action, topic="arm/comands")),
    Fault("controller of another type", "controllers", "takes trajectory_msgs/msg/JointTrajectory",
          _controller(type="trajectory_msgs/msg/JointTrajectory")),
    Fault("controller not started", "controllers", "nobody listens", _without_controllers),
    Fault("controller asks for latched commands", "qos", "QoS of /arm does not meet ours",
          _controller(qos=LATCHING)),
    Fault("controller has another order", "controllers", r"joints: expected shoulder_pan.* in /arm",
          _reversed_joints),
    Fault("controller takes other joints", "controllers", "/arm takes other joints .* gripper",
          _controller(joints=["shoulder_pan", "shoulder_lift", "elbow_flex"])),
    Fault("controller takes velocities", "controllers", "command: expected position, got velocity",
          _controller(interface="velocity")),
    Fault("second publisher of commands", "commands", "/rogue also publishes robot commands",
          lambda r: r.others.append(("rogue", _rogue))),
    Fault("second hil", "one hil", "another hil runs here", _two_hils),
    Fault("second publisher of a camera", "publishers", "expected one publisher, got 2.*/clone",
          lambda r: r.others.append(("clone", _second_camera))),
    Fault("joint states replayed beside the driver", "joint states", "publishers disagree",
          _second_joints),
    # Rates and stamps.
    Fault("camera at 5 Hz for 15", "rates", r"wrist.*expected 15 Hz.* got [45]\.\d Hz", _slow(5)),
    Fault("camera at 12 Hz for 15", "rates", r"wrist.*expected 15 Hz.* got 1[12]\.\d Hz",
          _slow(12)),
    Fault("joint states at 8 Hz", "rates", r"joint_states: expected 30 Hz.* got [78]\.\d Hz",
          lambda r: r.about.update(joint_rate_hz=8)),
    Fault("joint states in bursts", "jitter", "joint_states: expected gaps of at most", _bursts),
    Fault("camera publishes nothing", "silence", "/driver publishes it, but sends nothing",
          lambda r: r.on(FRONT, lambda msg: False)),
    Fault("camera without stamps", "stamps", "front.*stamp is zero", _stamp(FRONT, lambda ns: 0)),
    Fault("joints without stamps", "stamps", "joint_states: header stamp is zero",
          _stamp(JOINTS, lambda ns: 0)),
    Fault("camera two seconds ahead", "stamps", r"front.*is (1\.9|2\.0)\d s ahead",
          _stamp(FRONT, lambda ns: ns + 2_000_000_000)),
    Fault("camera stamped by its uptime", "stamps", "front.* s old.*compare the clocks",
          _stamp(FRONT, lambda ns: time.monotonic_ns())),
    Fault("joints an hour behind", "stamps", r"joint_states: .*3600\.\d+ s old",
          _stamp(JOINTS, lambda ns: ns - 3_600_000_000_000)),
    Fault("the same stamp for ever", "stamps", "front.*expected stamps that rise, got the same",
          _constant_stamp),
    Fault("wrist camera lags 150 ms", "skew", "wrist.*expected a stamp within max_skew_s", _lag),
    # Pictures.
    Fault("encoding that is none of ours", "encodings", "'yuv422' is not supported", _encoding),
    Fault("half a picture", "encodings", "expected 480 rows", _short),
    Fault("JPEG cut off", "encodings", "JPEG picture does not decode", _cut_jpeg),
    Fault("camera of another size", "sizes", r"expected a \(480, 640, 3\).*got \(240, 320, 3\)",
          _small),
    Fault("lens cap", "black", "front.*got black", _pixels(FRONT, lambda grey: grey // 100)),
    Fault("over-exposed", "black", "front.*got white",
          _pixels(FRONT, lambda grey: grey // 50 + 251)),
    Fault("one grey", "black", "front.*of one colour",
          _pixels(FRONT, lambda grey: np.full_like(grey, ONE_GREY) + grey % 3)),
    Fault("camera frozen", "frozen", r"front.*got \d+ times the same", _frozen),
    Fault("two topics of one camera", "swapped", "wrist.*the same as observation.images.front",
          _same_view),
    Fault("cameras swapped", "swapped", "each shows what the other had",
          lambda r: dataset(r, swap=True) and None),
    # Joints.
    Fault("joint missing", "joint names", "joint wrist_roll is missing", _joints(_drop_joint)),
    Fault("joint listed twice", "joint names", "is listed twice", _joints(_double_joint)),
    Fault("joint misspelt", "joint names", "joint elbow_flex is missing.*nearest is elbow-flex",
          _joints(_rename_joint)),
    Fault("joint not a number", "joint values", "joint elbow_flex is nan",
          _position(0, math.nan)),
    Fault("velocities without positions", "joint values", "'position' of each joint",
          _joints(_no_positions)),
    Fault("degrees for rad", "units", "as degrees it is", _scaled(180 / math.pi)),
    Fault("millimetres for m", "units", "as millimetres it is", _scaled(1000.0),
          "open_manipulator_x"),
    Fault("a joint one turn off", "units", "2π less is", _position(3, 2 * math.pi + 0.4)),
    Fault("arm outside its limits", "pose", "elbow_flex is at 2.300, outside", _position(0, 2.3)),
    Fault("limits wider than the model's", "limits", r"wrist_flex: expected within \[-2, 2\]",
          _wide_limits),
    Fault("model of another robot", "limits", "wrist_roll, which it lacks", _foreign_model),
    Fault("rad in the contract, m in the model", "limits", "unit: expected m as in",
          _sliding_model),
    # Teleop.
    Fault("deadman held down", "deadman", "the deadman is down",
          lambda r: _with_leader(r, held=True)),
    Fault("no such deadman button", "deadman", "button: expected a button of the 1",
          lambda r: _with_leader(r, button=4)),
    Fault("deadman's device is off", "deadman", "leader/joy: nobody publishes it",
          lambda r: _with_leader(r, joy=False)),
    Fault("leader moves by itself", "rest", "expected a leader at rest",
          lambda r: _with_leader(r, moves=True)),
    Fault("leader misspelt", "teleop", "nearest that exists is /leader/joint_states",
          _misspelt_leader),
    # Policy, data, thresholds.
    Fault("checkpoint without weights", "checkpoint", "missing model.safetensors", _no_weights),
    Fault("weights are a Git LFS pointer", "checkpoint", "Git LFS pointer", _pointer),
    Fault("checkpoint of another robot", "fits", "does not fit the contract", _other_robot),
    Fault("checkpoint of another rate", "fits", "rate_hz: expected 30.*got 50", _other_rate),
    Fault("statistics not finite", "statistics", r"observation.state.std\[0\]: expected a finite",
          lambda r: checkpoint(r, std=[math.nan] * 6) and None),
    Fault("arm where no demonstration was", "quantiles", "the range of the training data",
          _narrow_data),
    Fault("data of another rate", "dataset", "rate_hz: expected 30.*got 10",
          lambda r: dataset(r, rate_hz=10.0) and None),
    Fault("calibration damaged", "calibration", "calibration.json", _damaged_calibration),
    Fault("no GPU for device cuda", "engine", "expected an NVIDIA GPU", _no_gpu),
    # Environment: each in a process of its own.
    Fault("domain is no number", "domain", "ROS_DOMAIN_ID: expected a number",
          lambda r: r.environment.update(ROS_DOMAIN_ID="robot"), command=True),
    Fault("middleware not installed", "rmw", "RMW_IMPLEMENTATION: expected rmw_other_cpp",
          lambda r: r.environment.update(RMW_IMPLEMENTATION="rmw_other_cpp"), command=True),
    Fault("discovery switched off", "domain", "no node finds another",
          lambda r: r.environment.update(ROS_AUTOMATIC_DISCOVERY_RANGE="OFF"), command=True),
    Fault("profile is not there", "ros", "expected a file, got /nowhere.xml",
          lambda r: r.environment.update(FASTRTPS_DEFAULT_PROFILES_FILE="/nowhere.xml"),
          command=True),
    Fault("few open files", "open files", "expected at least 1024, got 300",
          lambda r: setattr(r, "limits", "ulimit -n 300"), command=True),
)  # fmt: skip
