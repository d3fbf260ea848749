"""Listens to everything that a contract names, for `rewact doctor`: messages in, facts out.

Nothing is published here, and nothing is judged.
"""

import time
import zlib
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Joy
from std_msgs.msg import String

from rewact_ros.checks.facts import CameraHeard, Facts, Graph, Heard, JointsHeard, Model
from rewact_ros.checks.graph import observed, second_hil, taken_by, topics_of
from rewact_ros.contract import Camera, Contract, ContractError, SampleError
from rewact_ros.contract.frames import Sample
from rewact_ros.contract.measured import measured_action
from rewact_ros.contract.names import resolve
from rewact_ros.contract.schema import MOST_JOINTS
from rewact_ros.contract.urdf import read_urdf
from rewact_ros.control.human import TeleopInput
from rewact_ros.control.path import CommandPath
from rewact_ros.control.watch import Now
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.commands import COMMANDS
from rewact_ros.ros.convert import publication_sequence, to_ns
from rewact_ros.ros.depth import png_size
from rewact_ros.ros.graph_facts import LATCHED_TEXT, controller_joints, discover
from rewact_ros.ros.graph_look import look
from rewact_ros.ros.graph_spin import Spin
from rewact_ros.ros.images import camera_sample, camera_type
from rewact_ros.ros.pictures import picture_size
from rewact_ros.ros.states import is_stamped, state_sample, state_type

Info = dict[str, int | None]
# As the nodes listen, but deeper: a stall of this process must not look like a loss.
HEARING = QoSProfile(depth=50, reliability=names.SENSOR.reliability)


class RobotEars:
    """Subscribes to what a contract observes; `listen` writes down what came.

    The command path gets the joint states and the teleop input as hil's does, so that it says what
    `hil/arm` would. Stamps are compared apart from it: this process stalls as hil does not.

    Args:
        node: in the robot's namespace.
        contract: of the robot.
        use_sim_time: its nodes follow `/clock`. That somebody publishes it does not say so.
    """

    def __init__(self, node: Node, contract: Contract, use_sim_time: bool = False) -> None:
        self._follows_clock = use_sim_time
        self._node, self._contract, self._space = node, contract, node.get_namespace()
        self._sim_ns, self._urdf = 0, ""
        self._samples: dict[str, Sample] = {}
        self._begin()
        for i, part in enumerate(contract.state):
            node.create_subscription(
                state_type(part), part.topic, partial(self._on_state, i), HEARING
            )
        for i, camera in enumerate(contract.cameras):
            node.create_subscription(
                camera_type(camera), camera.topic, partial(self._on_picture, i), HEARING
            )
        for name in self.path.human.inputs:
            self._listen_to(name)
        # Not through the node's door, which cuts long texts: `read_urdf` has its own bounds.
        Node.create_subscription(node, String, "robot_description", self._on_model, LATCHED_TEXT)
        node.create_subscription(Clock, "/clock", self._on_clock, HEARING)

    def _begin(self) -> None:
        """Forget what came: before all is discovered, rates say nothing."""
        contract = self._contract
        keys = [(key, resolve(topic, self._space)) for key, topic, _ in observed(contract)]
        states = zip(keys, contract.state, strict=False)
        cameras = zip(keys[len(contract.state) :], contract.cameras, strict=True)
        self.joints = [JointsHeard(key, topic, p.type, p.max_age_s) for (key, topic), p in states]
        self.cameras = [
            CameraHeard(key, topic, c.type, c.max_age_s, name=c.name) for (key, topic), c in cameras
        ]
        self.path = CommandPath(contract)
        self.buttons: dict[str, int | None] = {}
        self._positions: dict[int, tuple[NDArray[np.float64], float]] = {}
        self._span: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self._samples.clear()

    def listen(self, spin: Spin, seconds: float, facts: Facts) -> None:
        """Find the robot, listen for some seconds, and write down what came."""
        discover(self._node, spin)
        facts.graph = self._look(spin)
        self._begin()
        spin(lambda: False, seconds)
        facts.now = self._now()
        for i, camera in enumerate(self._contract.cameras):
            self._decode(self.cameras[i], camera)
        for i, (low, high) in self._span.items():
            self.joints[i].travel = float((high - low).max(initial=0.0))
        self._take_graph(facts.graph)
        facts.namespace, facts.path, facts.clock = self._space, self.path, bool(self._sim_ns)
        facts.joints, facts.cameras = self.joints, self.cameras
        facts.teleop_buttons, facts.model = self.buttons, self._model()

    # The graph ----------------------------------------------------------------------------------

    def _look(self, spin: Spin) -> Graph:
        """The graph, with the joints that the controllers say they take."""
        topics = topics_of(self._contract, self._space)
        status = self._node.resolve_topic_name(names.CONTROL_STATUS)
        graph = look(self._node, [*topics, status])
        taken = [topic for part in self._contract.action for topic, _ in taken_by(part)]
        commands = [resolve(topic, self._space) for topic in taken]
        takers = [(each.node, topic) for topic in commands for each in graph.listeners[topic]]
        told = controller_joints(self._node, spin, {node for node, _ in takers}, [])
        controllers = {(node, topic): told[node] for node, topic in takers if node in told}
        return Graph(graph.nodes, graph.types, graph.publishers, graph.listeners, controllers)

    def _take_graph(self, graph: Graph) -> None:
        """What hil sees of others, seen from outside."""
        status = self._node.resolve_topic_name(names.CONTROL_STATUS)
        hils = sorted(endpoint.node for endpoint in graph.publishers[status])
        self.path.twin = second_hil(hils) if len(hils) > 1 else ""
        own = f"{self._space.rstrip('/')}/hil"
        senders = {
            endpoint.node
            for topic in {topic for part in self._contract.action for topic, _ in taken_by(part)}
            for endpoint in graph.publishers[resolve(topic, self._space)]
        }
        self.path.rogue = ", ".join(sorted(senders - {own}))

    # Messages -----------------------------------------------------------------------------------

    def _now(self) -> Now:
        now_s = time.monotonic()
        sim_ns = self._sim_ns if self._follows_clock else 0
        return Now(now_s, now_s, sim_ns or time.time_ns())

    def _on_clock(self, msg: Clock) -> None:
        self._sim_ns = to_ns(msg.clock)

    def _on_model(self, msg: String) -> None:
        self._urdf = msg.data

    def _on_state(self, i: int, msg: Any, info: Info) -> None:
        part, stream, source = self._contract.state[i], self.joints[i], self.path.sources[i]
        now, sequence = self._note(stream, msg, info, is_stamped(part))
        if part.of_joints:
            stream.names = tuple(msg.name[:MOST_JOINTS])
            stream.values = tuple(getattr(msg, part.field)[:MOST_JOINTS])
        try:
            sample = state_sample(part, msg, now.age_s, now.ros_ns)
        except SampleError as error:
            stream.refused = str(error)
            return
        values = np.asarray(sample.value, np.float64)
        low, high = self._span.get(i, (values, values))
        self._span[i] = np.minimum(low, values), np.maximum(high, values)
        stream.state = tuple(values.tolist())
        if i not in self._contract.measuring:
            return
        source.take(values, now.ros_ns, sequence, now)
        self._positions[i] = values, now.age_s
        measured = measured_action(self._contract, {k: v for k, (v, _) in self._positions.items()})
        if measured is not None:
            self.path.joints.take(measured, min(at_s for _, at_s in self._positions.values()))

    def _on_picture(self, i: int, msg: Any, info: Info) -> None:
        camera, stream = self._contract.cameras[i], self.cameras[i]
        now, _ = self._note(stream, msg, info)
        stream.checksums.append(zlib.crc32(memoryview(msg.data)))
        try:
            stream.size = _size(msg, camera)
            self._samples[camera.key] = camera_sample(camera, msg, now.age_s)
        except SampleError as error:
            stream.refused = str(error)

    def _note(
        self, stream: Heard, msg: Any, info: Info, stamped: bool = True
    ) -> tuple[Now, int | None]:
        now, sequence = self._now(), publication_sequence(info)
        stream.arrivals_s.append(now.steady_s)
        stream.stamps_ns.append(to_ns(msg.header.stamp) if stamped else now.ros_ns)
        stream.ros_ns.append(now.ros_ns)
        stream.sequences.append(sequence)
        return now, sequence

    def _listen_to(self, name: str) -> None:
        source = self.path.human.inputs[name].source
        interface = COMMANDS[source.type]

        def device() -> TeleopInput:  # each time of listening has its own
            return self.path.human.inputs[name]

        def on_targets(msg: Any) -> None:
            try:
                joints, values = interface.read(msg, "position", source.topic)
            except SampleError as error:
                device().refuse(str(error))
            else:
                assert joints is not None  # a contract's teleop types name their joints
                device().on_values(joints, values, time.monotonic())

        def on_buttons(msg: Joy) -> None:
            self.buttons[name] = len(msg.buttons)
            device().on_buttons(msg.buttons, time.monotonic())

        self._node.create_subscription(interface.message, source.topic, on_targets, HEARING)
        if source.deadman:
            self._node.create_subscription(Joy, source.deadman.topic, on_buttons, HEARING)

    # Facts --------------------------------------------------------------------------------------

    def _decode(self, stream: CameraHeard, camera: Camera) -> None:
        if sample := self._samples.get(camera.key):
            try:
                stream.picture = np.asarray(sample.value, np.uint8)
            except SampleError as error:
                stream.refused = str(error)

    def _model(self) -> Model | None:
        if not self._urdf:
            return None
        try:
            return Model(read_urdf(self._urdf, "/robot_description").model)
        except ContractError as error:
            return Model({}, str(error))


def _size(msg: Any, camera: Camera) -> tuple[int, int]:
    if isinstance(msg, CompressedImage):
        data = bytes(memoryview(msg.data))
        if camera.depth is not None:
            return png_size(data, msg.format, camera.topic)
        return picture_size(data, camera.topic)
    return int(msg.height), int(msg.width)
