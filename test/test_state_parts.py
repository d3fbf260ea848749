"""State parts that are no joints: what a contract says of them, and their messages."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import VX300S
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32, Float64MultiArray
from test_bags import START_NS, contract_of, recording, write_bag
from test_contract_check import valid

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, SampleError, Stale, parse_contract
from rewact_ros.contract.frames import NANO, Sample, state_stream
from rewact_ros.contract.measured import measured_action
from rewact_ros.contract.report import summary
from rewact_ros.contract.state_values import NAMED_VALUES
from rewact_ros.contract.tables import STATE_TYPES, json_schema
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.observations import Observations
from rewact_ros.ros.states import STATES, is_stamped, state_message, state_sample, state_type

POSE = {
    "name": "ee",
    "topic": "tcp_pose",
    "type": "geometry_msgs/msg/PoseStamped",
    "max_age_s": 0.1,
}
POSE_NAMES = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz")
HALF = math.sqrt(0.5)


WRENCH = {**POSE, "name": "wrist", "topic": "ft", "type": "geometry_msgs/msg/WrenchStamped"}
TWIST = {**POSE, "name": "tool", "topic": "tcp_speed", "type": "geometry_msgs/msg/TwistStamped"}
ARRAY = {
    "names": ["left", "right"],
    "topic": "fingers",
    "type": "std_msgs/msg/Float64MultiArray",
    "unit": {"default": "N", "right": "normalized"},
    "max_age_s": 0.1,
}
SCALAR = {
    "name": "suction",
    "topic": "pressure",
    "type": "std_msgs/msg/Float32",
    "unit": "normalized",
    "max_age_s": 0.1,
}


def with_parts(*parts, path=VX300S):
    """The simulated arm, which observes more than its joints."""
    data = strict_yaml.load(path)
    data["observation.state"] = [data["observation.state"], *copy.deepcopy(parts)]
    return data


def pose_message(x=0.3, q=(0.0, 0.0, HALF, HALF), stamp_ns=START_NS):
    at, turned = Point(x=x, y=-0.1, z=0.2), Quaternion(x=q[0], y=q[1], z=q[2], w=q[3])
    msg = PoseStamped(pose=Pose(position=at, orientation=turned))
    msg.header.stamp = to_stamp(stamp_ns)
    return msg


# Contract ------------------------------------------------------------------------------------


def test_the_tables_of_types_agree():
    assert tuple(STATES) == STATE_TYPES
    assert all(len(values.names("ee")) == len(values.units) for values in NAMED_VALUES.values())


def test_a_pose_gives_six_named_values_behind_the_joints(vx300s):
    contract = parse_contract(with_parts(POSE))
    part = contract.state[1]
    assert (part.name, part.joints, part.field) == ("ee", POSE_NAMES, "pose")
    assert part.units == ("m", "m", "m", "rad", "rad", "rad")
    assert contract.state_names == (*vx300s.state_names, *POSE_NAMES)
    feature = contract.signature()["features"]["observation.state"]
    assert feature["field"][-6:] == ["pose"] * 6 and feature["shape"] == [13]
    assert contract.dataset_features()["observation.state"]["shape"] == (13,)
    assert contract.hash != vx300s.hash
    assert summary(contract).startswith("vx300s: 13 observed values and 7 commanded joints, ")


def test_contracts_of_joints_alone_keep_their_hash(vx300s, g1):
    assert vx300s.hash == "5d24ff427013374d29410ff08c694a90712415be162d863b27fe36dc3b57710d"
    assert g1.hash == "2c8ee9d451723fe8eb92ea867777aa6c14a1a1e086e71ec98cd40fb1b01977bc"


def test_the_schema_takes_parts_of_both_kinds_and_no_mixture():
    assert valid(with_parts(POSE), json_schema())
    assert not valid(with_parts({**POSE, "joints": ["a"]}), json_schema())
    assert not valid(with_parts({k: v for k, v in POSE.items() if k != "name"}), json_schema())


@pytest.mark.parametrize(
    ("part", "values", "field"),
    [
        (WRENCH, "wrist.fx N wrist.fy N wrist.fz N wrist.tx Nm wrist.ty Nm wrist.tz Nm", "wrench"),
        (
            TWIST,
            "tool.vx m/s tool.vy m/s tool.vz m/s tool.wx rad/s tool.wy rad/s tool.wz rad/s",
            "twist",
        ),
        (ARRAY, "left N right normalized", "value"),
        (SCALAR, "suction normalized", "value"),
        ({**SCALAR, "type": "std_msgs/msg/Float64", "unit": "mm"}, "suction m", "value"),
        ({**SCALAR, "field": "position", "unit": "rad"}, "suction rad", "position"),
    ],
)
def test_every_other_type_has_names_units_and_a_field(part, values, field):
    contract = parse_contract(with_parts(part))
    assert valid(with_parts(part), json_schema())
    made = contract.state[1]
    assert " ".join(f"{n} {u}" for n, u in zip(made.joints, made.units, strict=True)) == values
    assert made.field == field and not made.of_joints
    assert contract.measuring == (0,)


def test_a_position_from_a_number_is_that_of_a_joint_and_lets_it_be_commanded():
    """A gripper's width is often a Float32 of its own."""
    data = with_parts({**SCALAR, "name": "gripper", "field": "position"})
    data["observation.state"][0]["joints"].remove("gripper")
    data["observation.state"][0]["unit"] = "rad"
    contract = parse_contract(data)
    assert contract.measuring == (0, 1)
    assert measured_action(contract, {0: np.zeros(6)}) is None
    assert measured_action(contract, {0: np.zeros(6), 1: np.ones(1)}).tolist() == [0.0] * 6 + [1.0]
    data["observation.state"][1]["field"] = "value"
    with pytest.raises(ContractError, match="gripper is commanded but its position is not in"):
        parse_contract(data)


def test_positions_speeds_and_efforts_of_the_same_joints_have_names_of_their_own():
    joints = strict_yaml.load(VX300S)["observation.state"]
    speeds = {**joints, "field": "velocity", "joints": {"elbow.vel": "elbow"}, "unit": "rad/s"}
    efforts = {**joints, "field": "effort", "joints": {"elbow.torque": "elbow"}, "unit": "Nm"}
    contract = parse_contract(with_parts(speeds, efforts))
    assert valid(with_parts(speeds, efforts), json_schema())
    assert contract.state_names[-2:] == ("elbow.vel", "elbow.torque")
    message = JointState(
        name=["waist", "elbow"], position=[1.0, 2.0], velocity=[3.0, 4.0], effort=[5.0, 6.0]
    )
    assert [state_sample(p, message, 0.0).value.tolist() for p in contract.state[1:]] == [[4], [6]]
    with pytest.raises(SampleError) as error:
        state_sample(contract.state[2], JointState(name=["elbow"], position=[2.0]), 0.0)
    assert str(error.value) == "joint_states: expected 1 values for as many names, got 0"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            {**ARRAY, "unit": "bar"},
            "observation.state[1].unit: expected one of rad, m, normalized, deg, mm, percent, "
            "ticks, m/s, rad/s, N, Nm; got 'bar' (str), got 'bar' (str)",
        ),
        (
            {**SCALAR, "field": "position", "unit": "Nm"},
            "observation.state[1].unit: expected rad, m or normalized, or what the driver has for "
            "them, for the position of suction, got Nm",
        ),
        (
            {**ARRAY, "names": []},
            "observation.state[1].names: expected a list of joint names, got [] (list)",
        ),
        (
            {**ARRAY, "name": "fingers"},
            "observation.state[1].name: unknown key; the nearest known key is 'names'",
        ),
        (
            {**SCALAR, "field": "velocity"},
            "observation.state[1].field: expected one of value, position, got 'velocity' (str)",
        ),
        (
            {**SCALAR, "name": "default"},
            "observation.state[1].name: 'default' stands for all other joints; rename",
        ),
    ],
)
def test_what_is_wrong_in_a_part_of_numbers_is_the_one_thing_told(part, words):
    with pytest.raises(ContractError) as error:
        parse_contract(with_parts(part))
    assert str(error.value) == words


@pytest.mark.parametrize("part", [POSE, ARRAY, SCALAR])
def test_a_topic_whose_messages_name_no_joints_is_one_parts(part):
    other = {**part, **({"names": ["c"]} if "names" in part else {"name": "other"})}
    other["unit"] = "N"
    if part is POSE:
        del other["unit"]
    with pytest.raises(ContractError) as error:
        parse_contract(with_parts(part, other))
    assert str(error.value) == (
        f"observation.state[2].topic: '{part['topic']}' is already the topic of another part; "
        f"{part['type']} names no joints to pick"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "observation.state[1].name: expected text, got None (NoneType)"),
        (
            {"name": "left arm"},
            "observation.state[1].name: expected a name of at most 100 letters, digits and _ "
            "(. and - inside), such as front_left, got 'left arm'",
        ),
        (
            {"joints": ["a"]},
            "observation.state[1].joints: unknown key; known: ['max_age_s', 'name', 'topic', "
            "'type']",
        ),
        (
            {"unit": "mm"},
            "observation.state[1].unit: unknown key; known: ['max_age_s', 'name', 'topic', 'type']",
        ),
        (
            {"type": "geometry_msgs/msg/Pose"},
            "observation.state[1].type: expected one of " + ", ".join(STATE_TYPES) + ", got "
            "'geometry_msgs/msg/Pose' (str); did you mean 'geometry_msgs/msg/PoseStamped'?",
        ),
        (
            {"topic": "joint_states"},
            "observation.state[1].type: expected sensor_msgs/msg/JointState, as the other part of "
            "the topic 'joint_states' has, got geometry_msgs/msg/PoseStamped; a topic has one type",
        ),
    ],
)
def test_what_is_wrong_in_a_pose_part_is_the_one_thing_told(change, words):
    with pytest.raises(ContractError) as error:
        parse_contract(with_parts({**POSE, **change}))
    assert str(error.value) == words


def test_a_name_twice_is_refused():
    with pytest.raises(ContractError, match=r"observation\.state\.joints: .*ee\.x twice"):
        parse_contract(with_parts(POSE, {**POSE, "topic": "other_pose"}))


def test_a_pose_alone_observes_no_joint():
    data = with_parts(POSE)
    data["observation.state"] = POSE
    with pytest.raises(ContractError) as error:
        parse_contract(data)
    joints = data["action"]["joints"]
    assert str(error.value).splitlines() == [
        f"action.joints: {joint} is commanded but its position is not in observation.state; "
        "the start-jump guard needs it"
        for joint in joints
    ]


# Messages ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pose():
    return parse_contract(with_parts(POSE)).state[1]


def test_a_pose_message_becomes_six_numbers_and_back(pose):
    sample = state_sample(pose, pose_message(), 2.0)
    np.testing.assert_allclose(sample.value, [0.3, -0.1, 0.2, 0.0, 0.0, math.pi / 2], atol=1e-12)
    assert (sample.stamp_ns, sample.received_s) == (START_NS, 2.0)
    again = state_message(pose, sample.value, to_stamp(5))
    assert type(again) is state_type(pose)
    np.testing.assert_allclose(state_sample(pose, again, 0.0).value, sample.value, atol=1e-12)
    negative = state_sample(pose, pose_message(q=(-0.0, -0.0, -HALF, -HALF)), 2.0)
    np.testing.assert_array_equal(negative.value, sample.value)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            pose_message(q=(0.0, 0.0, 0.0, 0.0)),
            "tcp_pose: ee: the quaternion (x, y, z, w) = (0, 0, 0, 0) has the norm 0, expected "
            "1 ± 0.001; its driver must send unit quaternions",
        ),
        (
            pose_message(q=(0.0, math.nan, 0.0, 1.0)),
            "tcp_pose: ee: the quaternion (x, y, z, w) = (0, nan, 0, 1) has the norm nan, expected "
            "1 ± 0.001; its driver must send unit quaternions",
        ),
        (pose_message(x=math.nan), "tcp_pose: ee.x is nan"),
        (pose_message(x=1e300), "tcp_pose: ee.x is 1e+300"),
    ],
)
def test_a_pose_that_is_none_is_refused_by_name(pose, message, words):
    with pytest.raises(SampleError) as error:
        state_sample(pose, message, 0.0)
    assert str(error.value) == words


@pytest.mark.parametrize("part", [WRENCH, TWIST, ARRAY, SCALAR], ids=lambda part: part["topic"])
def test_every_message_keeps_its_numbers_both_ways_live_and_recorded(part, tmp_path):
    made = parse_contract(with_parts(part)).state[1]
    values = np.arange(1.0, 1.0 + len(made.joints)) / 8
    message = state_message(made, values, to_stamp(START_NS))
    with Bag(write_bag(tmp_path / "bag", [("/x", START_NS, message)])) as bag:
        recorded = next(bag.messages(["/x"])).body
    for msg in (message, recorded):
        sample = state_sample(made, msg, 1.0, received_ns=77)
        np.testing.assert_array_equal(sample.value, values)
        assert sample.stamp_ns == (START_NS if is_stamped(made) else 77)
    values[-1] = math.nan
    with pytest.raises(SampleError) as error:
        state_sample(made, state_message(made, values, to_stamp(START_NS)), 0.0)
    assert str(error.value) == f"{made.topic}: {made.joints[-1]} is nan"


def test_an_array_of_another_length_is_refused_with_its_names():
    made = parse_contract(with_parts(ARRAY)).state[1]
    with pytest.raises(SampleError) as error:
        state_sample(made, Float64MultiArray(data=[1.0]), 0.0)
    assert str(error.value) == "fingers: expected 2 numbers (left, right), got 1"


# Where the robot is --------------------------------------------------------------------------


def test_only_parts_of_joints_and_of_what_is_commanded_say_where_the_robot_is():
    contract = parse_contract(with_parts(POSE))
    assert contract.measuring == (0,)
    assert measured_action(contract, {1: np.zeros(6)}) is None
    joints = np.arange(7.0)
    order = [contract.state_names.index(name) for name in contract.action_names]
    np.testing.assert_array_equal(measured_action(contract, {0: joints}), joints[order])


def test_a_rotation_vector_that_turns_over_is_no_motion_that_a_camera_should_have_seen(vx300s):
    from rewact_ros.contract import FrameAssembler

    contract = parse_contract(with_parts(POSE))
    still = np.zeros((96, 96, 3), np.uint8)

    def run(pose_at):
        assembler = FrameAssembler(contract)
        for k in range(20):
            ns, s = START_NS + k * NANO // 20, k / 20
            assembler.put(state_stream(0), Sample(ns, s, np.zeros(7)))
            assembler.put(state_stream(1), Sample(ns, s, pose_at(k)))
            for camera in reversed(contract.cameras):
                assembler.put(camera.key, Sample(ns, s, still))
        return assembler.assemble(19 / 20)

    def turning(k):
        return np.array([0, 0, 0, math.pi * (-1) ** k, 0, 0])

    assert not isinstance(run(turning), Stale)
    moved = run(lambda k: np.array([0, 0, 0.01 * k, 0, 0, 0]))
    assert isinstance(moved, Stale) and "does not change although ee.z moved" in moved.reason


# Recordings ----------------------------------------------------------------------------------


def test_a_recording_gives_the_pose_of_each_frame(tmp_path):
    joints = contract_of()
    part = parse_contract(with_parts(POSE)).state[1]
    contract = replace(joints, state=(*joints.state, part))

    def messages():
        for topic, ns, message in recording():
            yield topic, ns, message
            if topic == "/front/image_raw":
                stamp_ns = ns - 2_000_000
                k = round((stamp_ns - START_NS) / NANO * 20)
                yield "/tcp_pose", ns - 1_000_000, pose_message(0.01 * k, stamp_ns=stamp_ns)

    with Bag(write_bag(tmp_path / "bag", list(messages()))) as bag:
        frames = list(BagFrames(bag, contract).read())
    assert len(frames) > 8
    for frame in frames:
        k = round((frame.stamp_ns - START_NS) / NANO * 20)
        expected = [0.01 * k, -0.1, 0.2, 0, 0, math.pi / 2]
        np.testing.assert_allclose(frame.values["observation.state"][2:], expected, atol=1e-6)


def test_numbers_without_a_header_count_from_when_they_were_recorded(tmp_path):
    """20 ms after an image's stamp is too late for that image, and in time for the next."""
    joints = contract_of()
    part = parse_contract(with_parts(SCALAR)).state[1]
    contract = replace(joints, state=(*joints.state, part))

    def messages():
        for topic, ns, message in recording():
            yield topic, ns, message
            if topic == "/front/image_raw":
                k = round((ns - 2_000_000 - START_NS) / NANO * 20)
                yield "/pressure", ns + 18_000_000, Float32(data=float(k))

    with Bag(write_bag(tmp_path / "bag", list(messages()))) as bag:
        frames = list(BagFrames(bag, contract).read())
    assert len(frames) > 8
    for frame in frames:
        k = round((frame.stamp_ns - START_NS) / NANO * 20)
        assert frame.values["observation.state"][2] == k - 1


# In a graph ----------------------------------------------------------------------------------


class Robot(Node):
    """Publishes what a contract observes, on request."""

    def __init__(self, contract):
        super().__init__("robot")
        from rewact_ros.ros.images import camera_type

        self.contract = contract
        self.states = {
            part.topic: self.create_publisher(state_type(part), part.topic, names.SENSOR_OUT)
            for part in contract.state
        }
        self.cameras = [
            (c, self.create_publisher(camera_type(c), c.topic, names.SENSOR_OUT))
            for c in reversed(contract.cameras)
        ]
        self.k = 0

    def send(self, values, spoil=None):
        """One message of every stream, all with one stamp; `spoil` changes those of named parts."""
        from rewact_ros.ros.images import camera_message

        stamp, self.k = self.get_clock().now().to_msg(), self.k + 1
        for part in self.contract.state:
            message = state_message(part, np.asarray(values[part.topic], float), stamp)
            if spoil:
                spoil(message)
            self.states[part.topic].publish(message)
        for camera, publisher in self.cameras:
            picture = np.full(camera.shape, self.k % 256, np.uint8)
            publisher.publish(camera_message(camera, picture, stamp, camera.name))


def turn(executor, condition, act=lambda: None, timeout_s=20.0):
    import time

    deadline_s, next_s = time.monotonic() + timeout_s, 0.0
    while not condition():
        assert time.monotonic() < deadline_s, "not within the time"
        if time.monotonic() >= next_s:
            act()
            next_s = time.monotonic() + 0.05
        executor.spin_once(timeout_sec=0.01)


VALUES = {
    "joint_states": np.linspace(0.01, 0.07, 7),
    "tcp_pose": [0.3, -0.1, 0.2, 0.1, 0.2, 0.3],
    "ft": [1.0, 2.0, 3.0, 0.1, 0.2, 0.3],
    "tcp_speed": [0.01, 0.02, 0.03, 0.1, 0.2, 0.3],
    "fingers": [4.0, 5.0],
    "pressure": [0.5],
}


def test_all_kinds_of_state_are_observed_and_a_pose_that_is_none_is_named(graph):
    parts = [{**part, "max_age_s": 1.0} for part in (POSE, WRENCH, TWIST, ARRAY, SCALAR)]
    contract = replace(parse_contract(with_parts(*parts)), max_skew_s=0.5)
    robot, judge = Robot(contract), Node("judge")
    observations = Observations(judge, contract, NodeClock(judge))
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    executor.add_node(judge)
    try:
        # What has no header is there with the second image: it was received before that one.
        turn(executor, lambda: observations._waiting is not None, lambda: robot.send(VALUES))
        state = observations.newest().frame.values["observation.state"]
        np.testing.assert_allclose(state, np.concatenate(list(VALUES.values())), rtol=1e-6)

        def zeros(message):
            if isinstance(message, PoseStamped):
                message.pose.orientation = Quaternion(w=0.0)

        turn(
            executor,
            lambda: observations.fault()[0] == state_stream(1),
            lambda: robot.send(VALUES, zeros),
        )
        assert "tcp_pose: ee: the quaternion" in observations.fault()[1]
        turn(executor, lambda: observations.fault() == ("", ""), lambda: robot.send(VALUES))
    finally:
        observations.close()
        executor.shutdown()
        robot.destroy_node()
        judge.destroy_node()
