"""A robot of any contract on a real graph: it does what hil commands, and a policy and a
supervisor ask for what a test wants.
"""

import copy
import threading
import time
from functools import partial

import numpy as np
import pytest
import yaml
from conftest import VX300S
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from test_hil_node import HOME, World

from rewact_ros import strict_yaml
from rewact_ros.contract import load_contract
from rewact_ros.control.modes import Mode
from rewact_ros.msg import ActionChunk, ControlStatus, ModeRequest, PolicyStatus
from rewact_ros.nodes.hil import HilNode
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_messages import ChunkWriter
from rewact_ros.ros.commands import command_decoder, command_type
from rewact_ros.ros.states import state_message, state_type

ARM = ["waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate"]
POSE = [0.4, 0.0, 0.3, 0.0, 3.0, 0.0]
CARTESIAN = {
    "name": "ee",
    "topic": "servo/pose",
    "type": "geometry_msgs/msg/PoseStamped",
    "command": "pose",
    "frame_id": "base_link",
    "command_rate_hz": 50,
    "workspace": {"x": [0.2, 0.7], "y": [-0.4, 0.4], "z": [0.02, 0.6]},
    "linear": {"velocity": 0.25, "acceleration": 2.0},
    "angular": {"velocity": 0.6, "acceleration": 5.0},
    "max_start_jump": {"position": 0.03, "angle": 0.2},
}
TWIST = {
    **CARTESIAN,
    "topic": "servo/twist",
    "type": "geometry_msgs/msg/TwistStamped",
    "command": "twist",
    "controller_timeout_s": 0.1,
}
OBSERVED = {
    "name": "ee",
    "topic": "tcp_pose",
    "type": "geometry_msgs/msg/PoseStamped",
    "max_age_s": 0.5,
}


def with_gripper(**changes):
    """The simulated arm's contract with a gripper on an interface of its own."""
    data = strict_yaml.load(VX300S)
    arm = data["action"]
    gripper = {**arm, "topic": "gripper", "joints": ["gripper"], "unit": "normalized"}
    for key in ("position", "velocity", "acceleration", "max_start_jump"):
        whole = arm[key]
        gripper[key] = whole["gripper"]
        arm[key] = {name: value for name, value in whole.items() if name != "gripper"}
    arm.update(joints=ARM, unit="rad")
    data["action"] = [arm, {**gripper, **changes}]
    data.pop("teleop")
    return data


def cartesian(part=CARTESIAN, **changes):
    """A robot that takes poses or twists and a gripper's position, and no joints."""
    data = with_gripper()
    del data["kinematics"]  # of joints, which this one does not take
    gripper = {**data["action"][1], "type": "std_msgs/msg/Float64", "command_rate_hz": 25}
    joints = {**data["observation.state"], "joints": ["gripper"], "unit": "normalized"}
    data["observation.state"] = [OBSERVED, joints]
    data["action"] = [{**part, **changes}, gripper]
    data["reset"] = {"pose": [*POSE, 1.0], "duration_s": 1.0, "confirm": False}
    return data


class Stage(World):
    """Robot, policy and supervisor of a contract, beside hil.

    Attributes:
        goal: (A,) what the policy asks for, in all steps of its chunks.
        measured: (S,) of the state vector; follows the commands, unless `stuck`.
        sent: by part, (n,) of each command.
    """

    def __init__(self, data, folder, before=lambda node: None):
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("rewact_ros.control.path.OVERRUN_STOP_S", 5.0)
        data = copy.deepcopy(data)
        # A busy machine is not what these tests are about.
        data.update(heartbeat_timeout_s=1.0, max_chunk_age_s=1.0)
        states = data["observation.state"]
        for part in states if isinstance(states, list) else [states]:
            part["max_age_s"] = 1.0
        file = folder / "contract.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        self.contract = contract = load_contract(file)
        home = dict(zip((*ARM, "gripper"), HOME, strict=True))
        home |= dict(zip((f"ee.{v}" for v in ("x", "y", "z", "wx", "wy", "wz")), POSE, strict=True))
        self.measured = np.array([home[name] for name in contract.state_names])
        self.goal = self.measured[contract.action_in_state].copy()
        self.frame = "base_link"
        self.stuck, self.leased, self.mode = False, True, ModeRequest.POLICY
        self.sent = [[] for _ in contract.action]
        self.statuses, self.lines = [], []
        self.node = Node("robot")
        before(self.node)
        self._states = [
            self.node.create_publisher(state_type(part), part.topic, names.SENSOR_OUT)
            for part in contract.state
        ]
        first = 0
        for i, part in enumerate(contract.action):
            read, at = command_decoder(part), slice(first, first + len(part.joints))
            self.node.create_subscription(
                command_type(part), part.topic, partial(self._on_command, i, read, at), 10
            )
            first = at.stop
        self._chunks = self.node.create_publisher(ActionChunk, names.ACTION_CHUNK, names.COMMAND)
        self._beats = self.node.create_publisher(PolicyStatus, names.POLICY_STATUS, names.COMMAND)
        self._lease = self.node.create_publisher(ModeRequest, names.MODE_REQUEST, names.EVENTS)
        self.node.create_subscription(
            ControlStatus, names.CONTROL_STATUS, self.statuses.append, names.LATCHED
        )
        self._writer = ChunkWriter(contract)
        self.every(0.04, self._publish_state)
        self.every(0.1, self._publish_wishes)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        parameters = {"contract": str(file), "lease_timeout_s": 1.0}
        self.hil = HilNode(
            parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()]
        )
        self.stop = False
        self.thread = threading.Thread(target=self.hil.loop.run, args=(lambda: self.stop,))
        self.thread.start()

    def press(self, down):
        """Press a deadman, as a person does, when hil has seen it up; `down` takes 0 and 1."""
        self.wait(lambda: not self._unseen(), "the deadman, up")
        down(1)
        # Up again, should a busy machine have kept it silent meanwhile.
        self.wait(lambda: self._led(down), "takeover")

    def _devices(self):
        return self.hil.path.human.inputs.values()

    def _unseen(self):
        now_s = time.monotonic()
        return [d for d in self._devices() if d.pressed or d.deadman_silence(now_s)]

    def _led(self, down):
        down(int(not any(device.pressed and not device.held for device in self._devices())))
        return self.hil.path.mode is Mode.HUMAN

    def _on_command(self, index, read, at, message):
        values = read(message)
        self.sent[index].append(values)
        if not self.stuck:
            self.measured[self.contract.action_in_state[at]] = values

    def _publish_state(self):
        stamp, first = self.node.get_clock().now().to_msg(), 0
        for part, publisher in zip(self.contract.state, self._states, strict=True):
            values = self.measured[first : first + len(part.joints)]
            message = state_message(part, values, stamp)
            if part.name:
                message.header.frame_id = self.frame
            publisher.publish(message)
            first += len(part.joints)

    def _publish_wishes(self):
        self._beats.publish(PolicyStatus(ready=True))
        if self.leased:
            self._lease.publish(ModeRequest(mode=self.mode, holder="stage", request=1))
        stamp = self.node.get_clock().now().to_msg()
        message = self._writer.write(np.tile(self.goal, (20, 1)), stamp)
        message.epoch = self.hil.path.epoch
        self._chunks.publish(message)

    def close(self):
        """As of every world."""
        super().close()
        self._patch.undo()

    def lead(self):
        """Under the policy; returns hil's command path."""
        path = self.arm()
        used = path.policy.observation_to_command
        self.wait(lambda: used.summary().n > 0, "a command of the policy")
        assert path.mode == ControlStatus.POLICY
        return path

    def reached(self, part, value, atol=1e-3):
        sent = self.sent[part]
        return bool(sent) and np.allclose(sent[-1], value, atol=atol)
