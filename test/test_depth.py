"""Depth cameras: distances as pictures of a stated range, from every message, and what is none."""

import copy
import math
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import VX300S
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from test_bags import START_NS, contract_of, recording, write_bag
from test_contract_check import valid
from test_state_parts import Robot, turn
from test_tables import recorded

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, SampleError, check_signature, parse_contract
from rewact_ros.contract.tables import CAMERA_TYPES, json_schema
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag
from rewact_ros.ros.clock import NodeClock
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.depth import to_metres, to_picture
from rewact_ros.ros.images import DEPTHS, camera_message, camera_sample
from rewact_ros.ros.observations import Observations

KEY = "observation.images.front"
RANGE = (0.2, 2.0)
DEPTH = {"kind": "depth", "range": list(RANGE)}
METRES = np.linspace(0.1, 2.1, 24 * 32, dtype=np.float32).reshape(24, 32)


def with_depth(**changes):
    data = copy.deepcopy(strict_yaml.load(VX300S))
    made = {**data[KEY], **DEPTH, **changes}
    data[KEY] = {key: value for key, value in made.items() if value is not None}
    return data


@pytest.fixture(scope="module")
def camera():
    return replace(parse_contract(with_depth()).cameras[0], shape=(24, 32, 3))


def raw(encoding, numbers, pad=0, big=False):
    """A raw depth image whose rows have some bytes more than pixels."""
    height, width = numbers.shape
    kind = np.dtype({"16UC1": "u2", "32FC1": "f4"}[encoding]).newbyteorder(">" if big else "<")
    rows = numbers.astype(kind).view(np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, pad), 255, np.uint8)])
    msg = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    msg.is_bigendian = int(big)
    msg.data.frombytes(np.ascontiguousarray(rows).tobytes())
    msg.header.stamp = to_stamp(START_NS)
    return msg


def png(numbers, stated="16UC1; compressedDepth png", header=bytes(12)):
    data = header + cv2.imencode(".png", numbers)[1].tobytes()
    return CompressedImage(format=stated, data=data)


# Contract ------------------------------------------------------------------------------------


def test_the_range_of_a_depth_camera_is_part_of_what_a_vector_means(vx300s):
    contract = parse_contract(with_depth())
    assert valid(with_depth(), json_schema())
    assert contract.cameras[0].depth == RANGE and contract.cameras[1].depth is None
    assert contract.dataset_features()[KEY] == vx300s.dataset_features()[KEY]
    other = parse_contract(with_depth(range=[0.2, 3.0]))
    assert len({contract.hash, other.hash, vx300s.hash}) == 3
    for one, two in ((contract, other), (contract, vx300s), (vx300s, contract)):
        with pytest.raises(ContractError, match=r"observation\.images\.front\.depth_m"):
            check_signature(one, two.signature(), "checkpoint x")
    explicit = parse_contract(with_depth(kind="colour", range=None))
    assert explicit.hash == vx300s.hash and explicit.cameras == vx300s.cameras


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"range": None},
            f"{KEY}.range: missing beside kind: depth; give [near, far] in m, such as [0.2, 2.0]: "
            "what lies beyond looks like its end",
        ),
        ({"kind": None}, f"{KEY}.range: expected kind: depth beside it, got colour"),
        ({"range": [2, 0.2]}, f"{KEY}.range: expected low < high, got [2.0, 0.2]"),
        ({"range": [0, 2]}, f"{KEY}.range: expected within 0.001 to 65 m, got [0, 2]"),
        ({"range": [-1, 2]}, f"{KEY}.range: expected within 0.001 to 65 m, got [-1, 2]"),
        ({"range": [200, 2000]}, f"{KEY}.range: expected within 0.001 to 65 m, got [200, 2000]"),
        (
            {"kind": "deep"},
            f"{KEY}.kind: expected one of colour, depth, got 'deep' (str)",
        ),
    ],
)
def test_what_is_wrong_in_a_depth_camera_is_named(changes, words):
    with pytest.raises(ContractError) as error:
        parse_contract(with_depth(**changes))
    assert str(error.value).split("; did")[0] == words


# Numbers -------------------------------------------------------------------------------------


def test_a_picture_has_0_for_nothing_and_255_levels_for_the_range():
    metres = np.array([[0, math.nan, math.inf, -1, 0.1, 0.2, 1.1, 2.0, 9.0]], np.float32)
    picture = to_picture(metres, RANGE)
    assert picture.shape == (1, 9, 3) and picture.dtype == np.uint8
    assert picture[0, :, 0].tolist() == [0, 0, 0, 0, 1, 1, 128, 255, 255]
    assert (picture == picture[..., :1]).all()
    back = to_metres(picture, RANGE)
    np.testing.assert_allclose(back[0], [0, 0, 0, 0, 0.2, 0.2, 1.1, 2.0, 2.0], atol=0.004)


def test_every_level_survives_its_way_back():
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    for limits in (RANGE, (0.001, 65.0), (0.05, 0.35)):
        np.testing.assert_array_equal(to_picture(to_metres(levels, limits), limits)[levels > 0],
                                      levels[levels > 0])  # fmt: skip


# Messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_raw_depth_is_read_in_its_unit_order_and_padding(camera, encoding, pad, big):
    millimetres = np.rint(METRES * 1000)
    message = raw(encoding, millimetres if encoding == "16UC1" else METRES, pad, big)
    for msg in (message, recorded(message, "sensor_msgs/msg/Image")):
        sample = camera_sample(camera, msg, 2.0)
        assert (sample.stamp_ns, sample.received_s) == (START_NS, 2.0)
        difference = sample.value.astype(int) - to_picture(METRES, RANGE)
        assert abs(difference).max() <= (encoding == "16UC1")


def test_compressed_depth_is_read_with_and_without_its_header(camera):
    camera = replace(camera, type="sensor_msgs/msg/CompressedImage")
    millimetres = np.rint(METRES * 1000).astype(np.uint16)
    expected = to_picture(millimetres * np.float32(1e-3), RANGE)
    plain = png(millimetres, "16UC1; png compressed ", b"")
    for message in (png(millimetres), plain):
        for msg in (message, recorded(message, camera.type)):
            np.testing.assert_array_equal(camera_sample(camera, msg, 0.0).value, expected)


def test_inverse_depth_of_floats_is_read_by_its_parameters(camera):
    """compressed_depth_image_transport: number = A / m + B, and 0 where nothing was measured."""
    camera = replace(camera, type="sensor_msgs/msg/CompressedImage")
    a, b = 5000.0, -400.0
    numbers = np.rint(a / METRES + b).astype(np.uint16)
    numbers[0, 0] = 0
    message = png(numbers, "32FC1; compressedDepth png", struct.pack("<iff", 1, a, b))
    value = camera_sample(camera, message, 0.0).value
    assert value[0, 0].tolist() == [0, 0, 0]
    difference = value.astype(int) - to_picture(METRES, RANGE)
    difference[0, 0] = 0
    assert abs(difference).max() <= 1


@pytest.mark.parametrize("type_", CAMERA_TYPES)
def test_a_picture_of_depth_survives_replays_and_bags(camera, type_):
    camera = replace(camera, type=type_)
    picture = to_picture(METRES, RANGE)
    picture[3, 4] = 0
    message = camera_message(camera, picture, to_stamp(START_NS), "front")
    assert type(message) is DEPTHS[type_].message and message.header.frame_id == "front"
    np.testing.assert_array_equal(camera_sample(camera, message, 0.0).value, picture)


GREY8 = np.full((24, 32), 7, np.uint8)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            Image(encoding="rgb8", height=24, width=32),
            "front/image_raw: encoding 'rgb8' is no depth; expected one of 16UC1, 32FC1: name the "
            "driver's depth topic, or leave out kind: depth",
        ),
        (
            Image(encoding="16UC1", height=24, width=32, step=64),
            "front/image_raw: expected 24 rows of at least 64 bytes, got step 64 and 0 bytes",
        ),
        (
            raw("16UC1", METRES[:12]),
            "front/image_raw: expected a (24, 32, 3) uint8 image, got (12, 32, 3); set the camera "
            "to that size or correct 'shape' in the contract",
        ),
        (
            png(GREY8),
            "front/image_raw: expected a depth image as PNG of 16 bits grey, got 8 bits of colour "
            "type 0; name the driver's compressedDepth topic, or leave out kind: depth",
        ),
        (
            CompressedImage(format="jpeg", data=b"\xff\xd8\xff"),
            "front/image_raw: format 'jpeg' is no depth; expected that of one of 16UC1, 32FC1, "
            "such as '16UC1; compressedDepth png'",
        ),
        (
            CompressedImage(format="16UC1; compressedDepth rvl", data=bytes(40)),
            "front/image_raw: expected a depth image as PNG, got format '16UC1; compressedDepth "
            "rvl' and bytes 00000000; set the driver's compressedDepth format to png, not rvl",
        ),
        (
            CompressedImage(format="16UC1; compressedDepth png"),
            "front/image_raw: expected a depth image as PNG, got format '16UC1; compressedDepth "
            "png' and bytes none; set the driver's compressedDepth format to png, not rvl",
        ),
    ],
)
def test_what_is_no_depth_image_is_refused_before_it_is_decoded(camera, message, words):
    name = f"sensor_msgs/msg/{type(message).__name__}"
    with pytest.raises(SampleError) as error:
        camera_sample(replace(camera, type=name), message, 0.0)
    assert str(error.value) == words


def test_a_png_that_is_cut_off_is_named_when_it_is_decoded(camera):
    camera = replace(camera, type="sensor_msgs/msg/CompressedImage")
    whole = bytes(png(np.rint(METRES * 1000).astype(np.uint16)).data)
    for end in (60, 46):
        message = CompressedImage(format="16UC1; compressedDepth png", data=whole[:end])
        with pytest.raises(SampleError) as error:
            _ = camera_sample(camera, message, 0.0).value
        assert str(error.value) == "front/image_raw: a depth PNG does not decode; it is damaged"


# Recordings and the graph --------------------------------------------------------------------


def test_a_recording_of_depth_gives_its_frames(tmp_path):
    colour = contract_of()
    camera = replace(colour.cameras[0], depth=RANGE)
    messages = []
    for topic, ns, message in recording():
        if topic == "/front/image_raw":
            message = raw("16UC1", np.rint(METRES * 1000))
            message.header.stamp = to_stamp(ns - 2_000_000)
        messages.append((topic, ns, message))
    with Bag(write_bag(tmp_path / "bag", messages)) as bag:
        frames = list(BagFrames(bag, replace(colour, cameras=(camera,))).read())
    assert len(frames) > 8
    expected = to_picture(np.rint(METRES * 1000).astype(np.float32) * np.float32(1e-3), RANGE)
    np.testing.assert_array_equal(frames[0].values[KEY], expected)


@pytest.mark.parametrize("type_", CAMERA_TYPES)
def test_depth_and_colour_are_observed_together_and_colour_on_its_topic_is_named(graph, type_):
    contract = parse_contract(with_depth(type=type_, max_age_s=1.0))
    state = tuple(replace(part, max_age_s=1.0) for part in contract.state)
    contract = replace(contract, state=state, max_skew_s=0.5)
    robot, judge = Robot(contract), Node("judge")
    observations = Observations(judge, contract, NodeClock(judge))
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    executor.add_node(judge)
    values = {"joint_states": np.zeros(7)}
    try:
        turn(executor, lambda: observations._waiting is not None, lambda: robot.send(values))
        seen = observations.newest().frame.values
        assert seen[KEY].shape == (96, 96, 3) and len(np.unique(seen[KEY])) == 1
        assert seen[KEY].max() == seen["observation.images.wrist"].max() > 0
        robot.contract = replace(contract, cameras=())
        robot.cameras = [(replace(camera, depth=None), made) for camera, made in robot.cameras]
        turn(
            executor,
            lambda: observations.fault()[0] == KEY and "is no depth" in observations.fault()[1],
            lambda: robot.send(values),
        )
    finally:
        observations.close()
        executor.shutdown()
        robot.destroy_node()
        judge.destroy_node()
