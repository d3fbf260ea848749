"""What is in the tables of commands and pictures works for every process, live and recorded."""

from dataclasses import replace

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from rewact_ros.contract import SampleError
from rewact_ros.contract.tables import CAMERA_TYPES, COMMAND_TYPES, TELEOP_TYPES
from rewact_ros.data.bags.messages import decoder_of
from rewact_ros.data.bags.storage import StoredTopic
from rewact_ros.picture_file import LOSSLESS, encode_picture
from rewact_ros.ros.commands import COMMANDS, command_decoder, command_encoder, command_type
from rewact_ros.ros.convert import to_stamp
from rewact_ros.ros.images import (
    CAMERAS,
    ENCODINGS,
    camera_message,
    camera_sample,
    camera_type,
    decode_image,
)

STAMP_NS = 1_700_000_000_123_456_789
VALUES = np.array([0.125, -0.25, 0.375, -0.5, 0.625, -0.75, 0.875])  # exact in float32 too
PICTURE = np.full((24, 32, 3), (200, 40, 10), np.uint8)


def recorded(message, kind):
    """A message as a recording gives it back."""
    return decoder_of(StoredTopic("topic", kind, "", "", 1))(serialize_message(message))


def test_the_contract_allows_what_the_tables_hold():
    assert COMMANDS.keys() == set(COMMAND_TYPES) and CAMERAS.keys() == set(CAMERA_TYPES)
    for name, interface in {**COMMANDS, **CAMERAS}.items():
        package, _, kind = name.split("/")
        assert interface.message.__name__ == kind
        assert interface.message.__module__.split(".")[0] == package


def test_a_human_may_send_the_commands_that_name_their_joints(vx300s):
    for name, interface in COMMANDS.items():
        part = replace(vx300s.action[0], type=name)
        message = interface.encode(part)(VALUES, to_stamp(STAMP_NS))
        names, values = interface.read(message, "position", "leader")
        assert (names is not None) == (name in TELEOP_TYPES)
        assert names is None or tuple(names) == part.joints
        np.testing.assert_array_equal(values, VALUES)


@pytest.mark.parametrize("command", ["position", "velocity"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_survives_its_message_live_and_in_a_recording(vx300s, name, command):
    part = replace(vx300s.action[0], type=name, command=command)
    message, decode = command_encoder(part)(VALUES, to_stamp(STAMP_NS)), command_decoder(part)
    assert type(message) is command_type(part)
    for each in (message, recorded(message, name)):
        found = decode(each)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_no_whole_command_is_refused_with_its_topic(vx300s, name):
    part = replace(vx300s.action[0], type=name)
    few = replace(part, joints=part.joints[:3])
    wrong = [
        command_encoder(few)(VALUES[:3], to_stamp(0)),
        command_encoder(part)(np.where(VALUES > 0.8, np.nan, VALUES), to_stamp(0)),
        command_type(part)(),
    ]
    for message in wrong:
        with pytest.raises(SampleError, match="^arm/commands: "):
            command_decoder(part)(message)


def test_of_a_trajectory_of_several_points_nobody_can_tell_what_is_meant(vx300s):
    part = replace(vx300s.action[0], type="trajectory_msgs/msg/JointTrajectory")
    message = command_encoder(part)(VALUES, to_stamp(0))
    message.points = [*message.points] * 2
    with pytest.raises(SampleError, match="arm/commands: expected a stream of single points"):
        command_decoder(part)(message)


@pytest.mark.parametrize("quality", [LOSSLESS, 90])
@pytest.mark.parametrize("name", CAMERAS)
def test_a_picture_survives_its_message_live_and_in_a_recording(vx300s, name, quality):
    camera = replace(vx300s.cameras[0], type=name, shape=PICTURE.shape)
    message = camera_message(camera, PICTURE, to_stamp(STAMP_NS), "front", quality)
    assert type(message) is camera_type(camera) and message.header.frame_id == "front"
    for each in (message, recorded(message, name)):
        sample = camera_sample(camera, each, 2.0)
        assert (sample.stamp_ns, sample.received_s) == (STAMP_NS, 2.0)
        assert sample.value.shape == PICTURE.shape and sample.value.dtype == np.uint8
        assert np.abs(sample.value.astype(int) - PICTURE).max() <= (8 if quality else 0)
    with pytest.raises(SampleError, match=r"expected a \(24, 31, 3\) uint8 image, got \(24, 32, 3"):
        camera_sample(replace(camera, shape=(24, 31, 3)), message, 0.0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_becomes_three_colours_of_8_bits(encoding):
    depth, _ = ENCODINGS[encoding]
    message = Image(height=24, width=32, encoding=encoding, step=32 * depth)
    message.data.frombytes(bytes(24 * 32 * depth))
    image = decode_image(message, "front")
    assert image.shape == PICTURE.shape and image.dtype == np.uint8


def test_a_size_that_an_encoding_cannot_have_is_refused(monkeypatch):
    monkeypatch.setitem(ENCODINGS, "yuv422_yuy2", (2, "COLOR_YUV2RGB_YUY2"))
    message = Image(height=4, width=5, encoding="yuv422_yuy2", step=10)
    message.data.frombytes(bytes(40))
    with pytest.raises(SampleError, match="front: yuv422_yuy2 of 5 × 4 pixels"):
        decode_image(message, "front")


def test_a_picture_without_pixels_does_not_encode():
    with pytest.raises(ValueError, match="does not encode as jpeg"):
        encode_picture(np.zeros((0, 4, 3), np.uint8))
