"""Contracts without a camera: the first state part gives an observation its time and its rate."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml
from conftest import VX300S, write_policy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from test_bags import START_NS, contract_of, recording, write_bag
from test_contract_check import valid
from test_state_parts import POSE, SCALAR, Robot, turn

from rewact_ros import strict_yaml
from rewact_ros.contract import Frame, FrameAssembler, Stale, parse_contract
from rewact_ros.contract.frames import Sample, state_stream
from rewact_ros.contract.report import summary
from rewact_ros.contract.tables import json_schema
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.dataset.episodes import RecordedEpisode
from rewact_ros.data.export.steps import StepReader
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.observations import Observations
from rewact_ros.stack.replay_robot import ReplayRobot

MS = 1_000_000


def blind(data=None, *parts):
    data = data or strict_yaml.load(VX300S)
    cameras = [key for key in data if key.startswith("observation.images.")]
    data = {key: value for key, value in data.items() if key not in cameras}
    data["observation.state"] = [data["observation.state"], *parts]
    return data


def test_a_contract_without_a_camera_is_one():
    contract = parse_contract(blind())
    assert valid(blind(), json_schema())
    assert contract.reference is contract.state[0]
    assert contract.reference_stream == state_stream(0)
    assert list(contract.dataset_features()) == ["observation.state", "action"]
    assert ", 0 cameras, " in summary(contract)


def put(assembler, ms, stream=0, value=0.0):
    n = len(assembler.contract.state[stream].joints)
    sample = Sample(START_NS + round(ms * MS), ms / 1000, np.full(n, value))
    assembler.put(state_stream(stream), sample)


@pytest.mark.parametrize(
    ("hz", "expected"), [(500, 100), (50, 100), (21, 100), (20, 100), (18, 90)]
)
def test_observations_come_at_the_contracts_rate_however_fast_the_joints_are(hz, expected):
    assembler = FrameAssembler(parse_contract(blind()))
    rng, stamps = np.random.default_rng(0), []
    for k in range(5 * hz):
        put(assembler, 1000 * (k + 0.05 * rng.uniform(-1, 1)) / hz)
        made = assembler.assemble()
        if isinstance(made, Frame):
            stamps.append(made.stamp_ns)
    assert abs(len(stamps) - expected) <= 1
    if hz >= 50:
        off = np.diff(stamps) / MS - 50
        assert abs(off).max() <= 1000 / hz + 6


def test_other_parts_give_their_newest_before_the_reference(tmp_path):
    assembler = FrameAssembler(parse_contract(blind(None, POSE)))
    put(assembler, 0, 1, value=1.0)
    put(assembler, 30, 1, value=2.0)
    put(assembler, 20, 0)
    frame = assembler.assemble()
    assert frame.values["observation.state"][-1] == 1.0
    put(assembler, 70, 0)
    assert assembler.assemble().values["observation.state"][-1] == 2.0
    put(assembler, 200, 0)
    stale = assembler.assemble()
    assert isinstance(stale, Stale) and stale.stream == state_stream(1)
    assert "before observation.state[0], allowed 0 to 0.06 s" in stale.reason


def test_time_that_runs_backwards_begins_anew():
    assembler = FrameAssembler(parse_contract(blind()))
    put(assembler, 10_000)
    assert isinstance(assembler.assemble(), Frame)
    put(assembler, 5_000)
    assert isinstance(assembler.assemble(), Frame)


# Recordings ----------------------------------------------------------------------------------


def session():
    """Joints at 40 Hz, and a command 3 ms after each 20th of a second."""
    from std_msgs.msg import Float64MultiArray

    for topic, ns, message in recording(40):
        if topic == "/joint_states":
            yield topic, ns, message
        elif topic == "/front/image_raw":
            yield "/commands", ns + MS, Float64MultiArray(data=[0.25, -0.25])


def test_a_recording_becomes_frames_and_steps_at_the_contracts_rate(tmp_path):
    contract = replace(contract_of(), cameras=())
    bag_path = write_bag(tmp_path / "bag", list(session()))
    with Bag(bag_path) as bag:
        frames = BagFrames(bag, contract)
        found = list(frames.read())
        frames.close()
    assert len(found) == frames.images == 40 and not frames.incomplete
    assert set(np.diff([f.stamp_ns for f in found])) == {50 * MS}
    with Bag(bag_path) as bag:
        first_ns, last_ns = bag.span_ns
        reader = StepReader(bag, contract, first_ns - 10 * MS, last_ns, max_step=2.5)
        steps = list(reader.steps())
    assert len(steps) == 40 and not reader.report.gaps
    assert all(list(step.values) == ["observation.state"] for step in steps)
    np.testing.assert_allclose(steps[3].action, [0.25, -0.25])


def test_joints_that_fall_silent_leave_a_gap_that_names_them(tmp_path):
    contract = replace(contract_of(), cameras=())
    early, late = START_NS + 500 * MS, START_NS + 1200 * MS
    messages = [m for m in session() if m[0] != "/joint_states" or not early < m[1] < late]
    with Bag(write_bag(tmp_path / "bag", messages)) as bag:
        first_ns, last_ns = bag.span_ns
        reader = StepReader(bag, contract, first_ns - 10 * MS, last_ns, max_step=2.5)
        list(reader.steps())
    assert [gap.why for gap in reader.report.gaps] == ["observation.state[0]: no message"]


# In a graph ----------------------------------------------------------------------------------


def test_a_replay_gives_each_frame_its_own_numbers_with_and_without_a_header(graph):
    data = blind(None, {**POSE, "max_age_s": 1.0}, {**SCALAR, "max_age_s": 1.0})
    contract = replace(parse_contract(data), max_skew_s=0.5)
    rows = np.linspace(0.1, 0.9, 5 * 14).reshape(5, 14)
    episode = RecordedEpisode(0, np.arange(5) / 20, rows, np.zeros((5, 7)))
    robot, judge = ReplayRobot(contract, lambda: None), Node("judge")
    observations = Observations(judge, contract, NodeClock(judge))
    executor = SingleThreadedExecutor()
    executor.add_node(judge)
    # What has no header counts from its receipt: whoever receives it does nothing else meanwhile.
    receiver = threading.Thread(target=executor.spin)
    receiver.start()

    def seen_of(index):
        """The state that is observed of a frame, or None while it does not come."""
        robot._publish(index, episode, {})
        end_s = time.monotonic() + 2.0
        while observations._waiting is None and time.monotonic() < end_s:
            time.sleep(0.005)
        made = observations._waiting and observations.newest()
        return made and made.frame.values["observation.state"]

    try:
        while seen_of(None) is None:  # until all is discovered
            pass
        for k in range(5):
            time.sleep(contract.dt_s)
            np.testing.assert_allclose(seen_of(k), rows[k], rtol=1e-6)
    finally:
        observations.close()
        executor.shutdown()
        receiver.join(10.0)
        robot.close()
        judge.destroy_node()


def test_the_policy_drives_without_a_camera_and_says_which_joints_are_silent(graph, tmp_path):
    from rewact_ros.msg import ActionChunk, PolicyStatus, Reward
    from rewact_ros.nodes.policy import PolicyNode

    data = blind(None, {**POSE, "max_age_s": 0.3})
    path = tmp_path / "blind.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    contract = parse_contract(data)
    policy = write_policy(contract, tmp_path / "policy")
    settings = {"contract": str(path), "policy": str(policy), "policy_dir": str(tmp_path)}
    settings["engine"] = "torch"
    node = PolicyNode(
        parameter_overrides=[Parameter(key, value=value) for key, value in settings.items()]
    )
    robot, judge = Robot(contract), Node("judge")
    chunks, rewards, statuses = [], [], []
    judge.create_subscription(ActionChunk, names.ACTION_CHUNK, chunks.append, names.EVENTS)
    judge.create_subscription(Reward, names.REWARD, rewards.append, names.EVENTS)
    judge.create_subscription(PolicyStatus, names.POLICY_STATUS, statuses.append, names.EVENTS)
    executor = SingleThreadedExecutor()
    for each in (node, robot, judge):
        executor.add_node(each)
    values = {"joint_states": np.zeros(7), "tcp_pose": [0.3, -0.1, 0.2, 0.1, 0.2, 0.3]}
    try:
        turn(executor, lambda: len(chunks) > 5, lambda: robot.send(values))
        assert rewards and len(chunks[0].trajectory.points) == 20
        turn(executor, lambda: statuses[-1].ready, lambda: robot.send(values))
        turn(executor, lambda: not statuses[-1].ready)
        assert statuses[-1].stale_stream == state_stream(0)
        end_s = time.monotonic() + 0.6
        turn(executor, lambda: time.monotonic() > end_s)
        assert "last message" in statuses[-1].reason
    finally:
        executor.shutdown()
        node.close()
        for each in (node, robot, judge):
            each.destroy_node()
