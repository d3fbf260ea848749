"""What a running robot tells of itself: topics, joint names, image sizes, rates, controllers."""

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float32, Float64, Float64MultiArray, String

from rewact_ros.contract.found import (
    MOST_STREAMS,
    CameraStream,
    CommandStream,
    Controller,
    Found,
    JointStream,
    ValueStream,
    merge,
    usable_joints,
    usable_topic,
)
from rewact_ros.contract.problems import ContractError
from rewact_ros.contract.state_values import ARRAY, POSE, SCALARS, TWIST, WRENCH
from rewact_ros.contract.tables import (
    CAMERA_TYPES,
    CARTESIAN_TYPES,
    COMMAND_TYPES,
    FLOAT64,
    JOINT_STATE,
)
from rewact_ros.contract.urdf import read_urdf
from rewact_ros.ros.graph_controllers import (
    gripper_actions,
    joints_of_interfaces,
    list_controllers,
)
from rewact_ros.ros.graph_spin import PARAMETER_TIMEOUT_S, Spin
from rewact_ros.ros.interfaces import SENSOR
from rewact_ros.ros.picture_size import camera_size

LATCHED_TEXT: Any = QoSProfile(
    depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
)
# Discovery takes 10 ms or 2.0 to 2.4 s, and of several nodes now this, now that.
DISCOVERY_S, UNCHANGED_S, DISCOVERY_MOST_S = 3.0, 1.5, 10.0
_MESSAGES: dict[str, type] = {
    JOINT_STATE: JointState,
    **dict(zip(CAMERA_TYPES, (Image, CompressedImage), strict=True)),
    POSE: PoseStamped,
    WRENCH: WrenchStamped,
    TWIST: TwistStamped,
    ARRAY: Float64MultiArray,
    **dict(zip(SCALARS, (Float32, Float64), strict=True)),
}


class _Ear:
    """Counts the messages of one topic and keeps the newest."""

    def __init__(self) -> None:
        self.count, self.first_s, self.last_s = 0, 0.0, 0.0
        self.newest: Any = None
        self.names: dict[str, None] = {}
        self.numbers: dict[str, float] = {}

    def hear(self, msg: Any) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.count += 1
        self.newest = msg
        if isinstance(msg, JointState) and len(self.names) < 1000:
            self.names |= dict.fromkeys(msg.name[:1000])
            self.numbers |= zip(msg.name[:1000], map(float, msg.position), strict=False)

    @property
    def rate_hz(self) -> float:
        """Messages per second; 0 where fewer than three came."""
        return 0.0 if self.count < 3 else (self.count - 1) / max(self.last_s - self.first_s, 1e-3)


def read_graph(
    node: Node, executor: SingleThreadedExecutor, seconds: float, controllers: bool = True
) -> Found:
    """Listen to a running robot for some seconds.

    Args:
        node: of its own, in the robot's namespace; not yet in an executor.
        executor: turns it.
        seconds: to listen; rates are measured over them.
        controllers: also ask the nodes behind command topics which joints they take.
    """
    executor.add_node(node)

    def spin(until: Callable[[], bool], seconds: float) -> bool:
        return _spin(executor, seconds, until)

    discover(node, spin)
    found, model = Found(), Found()
    ears: dict[tuple[str, str], _Ear] = {}
    text: list[str] = []

    def describe(msg: Any) -> None:
        text.append(msg.data)

    topics = sorted(node.get_topic_names_and_types())
    heard = [(topic, type_) for topic, types in topics for type_ in types if type_ in _MESSAGES]
    heard = [(t, ty) for t, ty in heard if node.count_publishers(t)]
    if len(heard) > MOST_STREAMS:
        found.notes.append(f"graph: {len(heard)} streams; the first {MOST_STREAMS} are listened to")
    subscriptions: list[Any] = []
    for topic, type_ in heard[:MOST_STREAMS]:
        if usable_topic(topic, "graph", found.notes):
            ear = ears[topic, type_] = _Ear()
            subscriptions.append(
                node.create_subscription(_MESSAGES[type_], topic, ear.hear, SENSOR)
            )
    subscriptions.append(
        node.create_subscription(String, "robot_description", describe, LATCHED_TEXT)
    )
    _spin(executor, seconds, lambda: False)
    for (topic, type_), ear in ears.items():
        _add_stream(found, _relative(node, topic), type_, ear)
    if controllers:
        found.manager, found.controllers = list_controllers(node, spin, found.notes)
    found.commands += _commands(node, spin, topics, found, controllers)
    if text:
        try:
            model = read_urdf(text[-1], "/robot_description")
        except ContractError as error:
            found.notes.append(str(error))
    for subscription in subscriptions:
        node.destroy_subscription(subscription)
    executor.remove_node(node)
    return merge([found, model])


def _add_stream(found: Found, topic: str, type_: str, ear: _Ear) -> None:
    source = f"graph: {topic}, {ear.rate_hz:.1f} Hz"
    if ear.newest is None:
        found.notes.append(f"graph: {topic} ({type_}) sent nothing")
    elif type_ == JOINT_STATE:
        joints = usable_joints(ear.names, source, found.notes)
        if joints and not ear.newest.position:
            found.notes.append(f"graph: {topic} carries no positions; not used")
        elif joints:
            found.joints.append(JointStream(topic, joints, ear.rate_hz, source, ear.numbers))
    elif type_ not in CAMERA_TYPES:
        header = getattr(ear.newest, "header", None)
        width = len(ear.newest.data) if type_ == ARRAY else 1
        frame = header.frame_id if header else ""
        found.values.append(ValueStream(topic, type_, ear.rate_hz, source, frame, width))
    else:
        try:
            height, width, kind, depth = camera_size(ear.newest, topic)
        except ValueError as error:
            found.notes.append(f"graph: {error}; not used")
            return
        shape = (height, width, 3)
        source = f"{source}, {kind}"
        found.cameras.append(CameraStream(topic, type_, shape, ear.rate_hz, source, depth))


def _commands(
    node: Node,
    spin: Spin,
    topics: list[tuple[str, list[str]]],
    found: Found,
    controllers: bool,
) -> list[CommandStream]:
    """What a node listens to for commands, and grippers' actions, with the joints they take."""
    listeners: dict[str, tuple[str, str]] = {}
    for topic, types in topics:
        wanted = [type_ for type_ in types if type_ in _COMMANDS]
        known = node.get_subscriptions_info_by_topic(topic) if wanted else []
        others = [each for each in known if each.node_name != node.get_name()]
        if not others or (wanted[0] in _MEASURED and node.count_publishers(topic)):
            continue  # what somebody publishes is a measurement
        if usable_topic(topic, "graph", found.notes):
            name = f"{others[0].node_namespace.rstrip('/')}/{others[0].node_name}"
            listeners[topic] = wanted[0], name
    for action, type_, name in gripper_actions(node, found.notes):
        listeners[action] = type_, name
    answers = {}
    if controllers:
        of_joints = {name for type_, name in listeners.values() if type_ not in CARTESIAN_TYPES}
        answers = controller_joints(node, spin, of_joints, found.notes, found.controllers)
    streams = []
    for topic, (type_, name) in listeners.items():
        joints, command = answers.get(name, ((), "position"))
        joints = () if type_ in CARTESIAN_TYPES else joints
        command = CARTESIAN_TYPES.get(type_, command)
        does = "serves" if "/action/" in type_ else "listens"
        source = f"graph: {name} {does}" + (", and says so of its joints" if joints else "")
        streams.append(CommandStream(_relative(node, topic), type_, joints, command, source, name))
    return streams


_COMMANDS = (*COMMAND_TYPES, FLOAT64, *CARTESIAN_TYPES)
# Types that a driver publishes as well: with a publisher they are no commands.
_MEASURED = (JOINT_STATE, FLOAT64, *CARTESIAN_TYPES)


def controller_joints(
    node: Node,
    spin: Spin,
    names: Collection[str],
    notes: list[str],
    listed: Sequence[Controller] = (),
) -> dict[str, tuple[tuple[str, ...], str]]:
    """Joints and kind of command of each controller of ros2_control: they are its parameters.

    All are asked at once. Who does not answer has those of the interfaces that the controller
    manager lists for it, or none.
    """
    keys = ["joints", "joint", "interface_name", "command_interfaces"]
    interfaces = {each.name: joints_of_interfaces(each) for each in listed}
    clients = {
        name: node.create_client(GetParameters, f"{name}/get_parameters") for name in sorted(names)
    }
    # One by one: a node that lacks one of several answers none of them.
    asked: dict[tuple[str, str], Any] = {}

    def all_answered() -> bool:
        for name, client in clients.items():
            if (name, keys[0]) not in asked and client.service_is_ready():
                for key in keys:
                    asked[name, key] = client.call_async(GetParameters.Request(names=[key]))
        whole = len(asked) == len(clients) * len(keys)
        return whole and all(future.done() for future in asked.values())

    spin(all_answered, PARAMETER_TIMEOUT_S)

    def value(name: str, key: str) -> Any:
        future = asked.get((name, key))
        values = future.result().values if future is not None and future.done() else []
        return values[0] if values else ParameterValue()

    found = {}
    for name in clients:
        told = list(value(name, "joints").string_array_value)
        told += filter(None, [value(name, "joint").string_value])
        joints = usable_joints(told, name, notes)
        if not joints and (own := interfaces.get(name.rpartition("/")[2])):
            found[name] = usable_joints(own[0], name, notes), own[1]
            continue
        if not joints:
            notes.append(f"graph: {name} did not say which joints it takes")
            continue
        several = value(name, "command_interfaces").string_array_value
        words = {value(name, "interface_name").string_value, *several}
        velocity = "velocity" in words and "position" not in words
        found[name] = joints, "velocity" if velocity else "position"
    for client in clients.values():
        node.destroy_client(client)
    return found


def _relative(node: Node, topic: str) -> str:
    """The topic as a contract for this namespace names it."""
    inside = node.get_namespace().rstrip("/") + "/"
    return topic.removeprefix(inside) if topic.startswith(inside) else topic


def discover(node: Node, spin: Spin) -> None:
    """Wait until the graph has not changed for a while."""
    start_s = changed_s = time.monotonic()
    seen: object = None

    def settled() -> bool:
        nonlocal seen, changed_s
        now_s = time.monotonic()
        if (graph := (node.get_topic_names_and_types(), node.get_node_names())) != seen:
            seen, changed_s = graph, now_s
        return now_s > max(start_s + DISCOVERY_S, changed_s + UNCHANGED_S)

    spin(settled, DISCOVERY_MOST_S)


def _spin(executor: SingleThreadedExecutor, seconds: float, until: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if until():
            return True
        executor.spin_once(timeout_sec=0.02)
    return until()


def open_graph(namespace: str, seconds: float, controllers: bool) -> Found:
    """Join the robot's ROS domain for a look at it, and leave it again."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        make = partial(Node, "rewact_contract_init", namespace=namespace, context=context)
        node = make(use_global_arguments=False, start_parameter_services=False)
        executor = SingleThreadedExecutor(context=context)
        try:
            return read_graph(node, executor, seconds, controllers)
        finally:
            executor.shutdown()
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
