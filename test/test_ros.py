"""Messages, parameters and bring-up: the glue between ROS and the rest."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from sensor_msgs.msg import CompressedImage, Image
from trajectory_msgs.msg import JointTrajectory

from rewact_ros.contract import SampleError
from rewact_ros.ros.commands import command_encoder
from rewact_ros.ros.convert import to_ns, to_stamp
from rewact_ros.ros.images import camera_sample, decode_image, image_message
from rewact_ros.ros.params import params_yaml
from rewact_ros.stack.bringup import BringUp, command_transport_environment, processes

PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def raw(encoding, data, step):
    msg = Image(height=5, width=7, encoding=encoding, step=step)
    msg.data.frombytes(np.ascontiguousarray(data).tobytes())
    return msg


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("rgb8", PICTURE),
        ("bgr8", PICTURE[..., ::-1]),
        ("rgba8", np.dstack([PICTURE, np.full((5, 7), 9, np.uint8)])),
        ("bgra8", np.dstack([PICTURE[..., ::-1], np.full((5, 7), 9, np.uint8)])),
    ],
)
@pytest.mark.parametrize("padding", [0, 3])
def test_colour_encodings_become_rgb_whatever_the_row_padding(encoding, data, padding):
    rows = data.reshape(5, -1)
    padded = np.hstack([rows, np.full((5, padding), 77, np.uint8)])
    image = decode_image(raw(encoding, padded, padded.shape[1]), "front")
    assert (image == PICTURE).all()


def test_grey_becomes_three_equal_channels():
    image = decode_image(raw("mono8", PICTURE[..., 0], 7), "front")
    assert (image == PICTURE[..., :1]).all() and image.shape == (5, 7, 3)


def test_an_image_survives_the_message_round_trip():
    assert (decode_image(image_message(PICTURE, to_stamp(5), "front"), "front") == PICTURE).all()


@pytest.mark.parametrize(
    ("msg", "words"),
    [
        (raw("32FC1", np.zeros((5, 7), np.float32), 28), "32FC1"),
        (raw("rgb8", PICTURE[:4], 21), "84 bytes"),
        (raw("rgb8", PICTURE, 20), "step 20"),
    ],
)
def test_an_unusable_image_is_refused_with_its_topic(msg, words):
    with pytest.raises(SampleError, match=words) as error:
        decode_image(msg, "front/image_raw")
    assert "front/image_raw" in str(error.value)


def test_a_jpeg_decodes_and_a_corrupt_one_is_refused(vx300s):
    camera = replace(vx300s.cameras[0], type="sensor_msgs/msg/CompressedImage", shape=(16, 16, 3))
    smooth = np.full((16, 16, 3), (200, 40, 10), np.uint8)
    data = cv2.imencode(".jpg", cv2.cvtColor(smooth, cv2.COLOR_RGB2BGR))[1].tobytes()
    image = camera_sample(camera, CompressedImage(format="jpeg", data=data), 0.0).value
    assert np.abs(image.astype(int) - smooth).max() < 8
    with pytest.raises(SampleError, match="does not decode"):
        camera_sample(camera, CompressedImage(format="jpeg", data=data[:20]), 0.0)


def test_stamps_keep_nanoseconds():
    assert to_ns(to_stamp(1_700_000_000_123_456_789)) == 1_700_000_000_123_456_789


def test_commands_carry_joint_names_where_the_type_has_them(vx300s):
    part = replace(vx300s.action[0], type="trajectory_msgs/msg/JointTrajectory")
    msg = command_encoder(part)(np.arange(7.0), to_stamp(0))
    assert isinstance(msg, JointTrajectory)
    assert msg.joint_names == list(part.joints)
    assert list(msg.points[0].positions) == list(range(7))


# Parameters -------------------------------------------------------------------------------------


def test_the_parameter_file_is_the_one_that_the_declarations_give():
    assert (ROOT / "config" / "params.yaml").read_text() == params_yaml()


# Bring-up ---------------------------------------------------------------------------------------


def test_one_argument_list_serves_launch_file_and_command_line():
    import inspect

    from rewact_ros.cli.up import up

    assert set(inspect.signature(up).parameters) == {f.name for f in fields(BringUp)}


def test_the_policy_runs_on_the_interpreter_that_was_asked_for(tmp_path):
    (tmp_path / "model.safetensors").touch()
    nodes = {
        p.name: p for p in processes(BringUp(policy=str(tmp_path), sim=True, ml_python="/x/python"))
    }
    assert list(nodes) == ["sim", "hil", "supervisor", "policy"]
    assert nodes["policy"].command()[0] == "/x/python"
    assert nodes["policy"].environment["PYTHONPATH"] == ""
    assert nodes["sim"].command()[0] == "/x/python"
    assert nodes["hil"].command()[0] == sys.executable


def test_without_a_contract_the_simulated_arm_comes_with_its_policy():
    assert [p.name for p in processes(BringUp())] == ["sim", "hil", "supervisor", "policy"]
    contract = str(ROOT / "config" / "robots" / "g1.yaml")
    assert [p.name for p in processes(BringUp(contract=contract))] == ["hil", "supervisor"]


def test_a_learning_run_brings_its_newest_version_and_who_keeps_what_is_executed(tmp_path):
    with pytest.raises(ValueError, match="start `rewact learn` there first"):
        BringUp(learn=str(tmp_path))
    versions = tmp_path / "policies"
    (versions / "newest").mkdir(parents=True)
    with pytest.raises(ValueError, match="leave policy out"):
        BringUp(learn=str(tmp_path), policy="none")
    nodes = {p.name: p.parameters for p in processes(BringUp(learn=str(tmp_path)))}
    assert list(nodes) == ["sim", "hil", "supervisor", "policy", "transitions"]
    assert nodes["policy"]["policy"] == str(versions / "newest")
    assert nodes["policy"]["policy_dir"] == str(versions) and nodes["policy"]["explore"] is True
    assert nodes["policy"]["engine"] == "torch"  # as on the fast path; no export per version
    assert nodes["hil"]["combine"] == "replace"
    assert nodes["transitions"]["journal"] == str(tmp_path / "robot")
    # The same version afterwards, as a policy like any other: it decides for the arm, and is done
    # with exploring.
    (versions / "newest" / "learned.json").touch()
    (versions / "newest" / "model.safetensors").touch()
    alone = {p.name: p.parameters for p in processes(BringUp(policy=str(versions / "newest")))}
    assert list(alone) == ["sim", "hil", "supervisor", "policy"]
    assert alone["hil"]["combine"] == "replace" and alone["policy"]["engine"] == "torch"
    assert "explore" not in alone["policy"]


def test_a_namespace_reaches_every_node(tmp_path):
    (tmp_path / "model.safetensors").touch()
    for process in processes(BringUp(policy=str(tmp_path), sim=True, namespace="left")):
        assert "__ns:=/left" in process.command()


@pytest.mark.parametrize(
    "wrong", [{"contract": "nowhere.yaml"}, {"policy": "nowhere"}, {"real_time_factor": 2.0}]
)
def test_impossible_arguments_are_refused_before_anything_starts(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BringUp(**wrong)


def test_only_fast_dds_gets_its_profile_and_another_range(monkeypatch):
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    given = command_transport_environment()
    assert given["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"
    profile = Path(given["FASTRTPS_DEFAULT_PROFILES_FILE"]).read_text()
    assert "<address>127.0.0.1</address>" in profile  # so nothing leaves the machine after all
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert command_transport_environment() == {}
    monkeypatch.delenv("RMW_IMPLEMENTATION")
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "mine.xml")
    assert command_transport_environment() == {}
