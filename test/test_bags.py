"""Recordings read back: the same observations as live, and clear errors."""

from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from rewact_ros.contract import (
    Contract,
    Frame,
    FrameAssembler,
    SampleError,
    parse_contract,
    select_joints,
)
from rewact_ros.contract.frames import NANO, state_stream
from rewact_ros.data.bags.frames import BagFrames
from rewact_ros.data.bags.reader import Bag, BagError, RecordedReward, typestore
from rewact_ros.msg import Reward
from rewact_ros.ros.commands import command_decoder
from rewact_ros.ros.convert import joint_state_message, to_stamp
from rewact_ros.ros.images import camera_sample, image_message
from rewact_ros.ros.states import state_sample
from rewact_ros.share import share_dir

IMAGE, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
RATE_HZ = 20
START_NS = 1_700_000_000 * NANO


def contract_of(camera_type: str = IMAGE) -> Contract:
    return parse_contract(
        {
            "robot": "two_joints",
            "rate_hz": RATE_HZ,
            "max_skew_s": 0.06,
            "observation.state": {
                "topic": "joint_states",
                "type": JOINTS,
                "joints": ["a", "b"],
                "field": "position",
                "unit": "rad",
                "max_age_s": 0.1,
            },
            "observation.images.front": {
                "topic": "front/image_raw",
                "type": camera_type,
                "shape": [24, 32, 3],
                "max_age_s": 0.15,
            },
            "action": {
                "topic": "commands",
                "type": "std_msgs/msg/Float64MultiArray",
                "joints": ["a", "b"],
                "command": "position",
                "unit": "rad",
                "command_rate_hz": 100,
                "position": {"default": [-1, 1]},
                "velocity": 1,
                "acceleration": 5,
                "max_start_jump": 0.1,
                "on_stale": "hold",
            },
        }
    )


@pytest.fixture
def contract():
    return contract_of()


def recording(frames: int = 12):
    """(topic, time of recording in ns, live message) of a robot with two joints and one camera."""
    rng = np.random.default_rng(0)
    for k in range(frames):
        ns = START_NS + k * NANO // RATE_HZ
        image = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        yield "/front/image_raw", ns + 2_000_000, image_message(image, to_stamp(ns), "camera")
        reward = Reward(value=k / frames, q10=0.0, q50=k / frames, q90=1.0, entropy=0.5)
        reward.header.stamp = to_stamp(ns)
        yield "/rewact/reward", ns + 8_000_000, reward
        for ahead_ms in (0, 25):  # twice as fast as the camera, other joint order, a third joint
            at = ns + ahead_ms * 1_000_000
            values = np.array([9.0, 0.1 * k, -0.1 * k + ahead_ms / 1000])
            message = joint_state_message(("c", "b", "a"), "position", values, to_stamp(at))
            yield "/joint_states", at + 1_000_000, message


def write_bag(folder, messages, plugin=StoragePlugin.MCAP):
    """Write live messages, serialised by ROS itself, as a rosbag2 recording."""
    store, connections = typestore(), {}
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        for topic, ns, message in sorted(messages, key=lambda item: item[1]):
            if topic not in connections:
                package, module, name = [*type(message).__module__.split(".")[:2], ""]
                name = type(message).__name__
                connections[topic] = writer.add_connection(
                    topic, f"{package}/{module}/{name}", typestore=store
                )
            writer.write(connections[topic], ns, serialize_message(message))
    return folder


def live_frames(contract, messages) -> list[Frame]:
    """What the policy node makes of the same messages in the same order."""
    assembler, frames = FrameAssembler(contract), []
    camera, part = contract.cameras[0], contract.state[0]
    for topic, ns, message in sorted(messages, key=lambda item: item[1]):
        if topic == "/joint_states":
            assembler.put(state_stream(0), state_sample(part, message, ns / NANO))
        elif topic == "/front/image_raw":
            assembler.put(camera.key, camera_sample(camera, message, ns / NANO))
        made = assembler.assemble()
        if isinstance(made, Frame):
            frames.append(made)
    return frames


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_gives_the_observations_of_the_live_node(tmp_path, contract, plugin):
    path = write_bag(tmp_path / "bag", recording(), plugin)
    with Bag(path) as bag:
        frames = BagFrames(bag, contract)
        recorded = list(frames.read())
        assert frames.images == frames.frames
        assert bag.duration_s == pytest.approx(11 / RATE_HZ + 0.025, abs=0.01)
    live = live_frames(contract, recording())
    assert [f.stamp_ns for f in recorded] == [f.stamp_ns for f in live]
    assert len(recorded) == 12
    for ours, theirs in zip(recorded, live, strict=True):
        assert ours.values.keys() == theirs.values.keys()
        for key, value in ours.values.items():
            np.testing.assert_array_equal(value, theirs.values[key])
            assert value.dtype == theirs.values[key].dtype


def test_rewards_come_by_stamp_and_nan_means_not_given(tmp_path):
    plain = Reward(value=0.25, q10=np.nan, q50=np.nan, q90=np.nan, entropy=np.nan)
    plain.header.stamp = to_stamp(START_NS - NANO)
    messages = [*recording(2), ("/rewact/reward", START_NS + NANO, plain)]
    with Bag(write_bag(tmp_path / "bag", messages)) as bag:
        rewards = bag.rewards()
    assert rewards[0] == RecordedReward(START_NS - NANO, 0.25, None, None)
    assert [r.stamp_ns for r in rewards[1:]] == [START_NS, START_NS + NANO // RATE_HZ]
    assert rewards[2].quantiles == pytest.approx((0.0, 0.5, 1.0)) and rewards[2].entropy == 0.5


def test_a_bag_of_another_namespace_is_read_by_naming_it(tmp_path, contract):
    messages = [(f"/left{topic}", ns, message) for topic, ns, message in recording()]
    path = write_bag(tmp_path / "bag", messages)
    with Bag(path, namespace="left") as bag:
        assert len(list(BagFrames(bag, contract).read())) == 12
        assert len(bag.rewards()) == 12
    with Bag(path) as bag, pytest.raises(BagError, match=r"/joint_states was not recorded.*/left/"):
        list(BagFrames(bag, contract).read())


def test_one_file_of_a_recording_can_be_read_alone(tmp_path, contract):
    path = write_bag(tmp_path / "bag", recording())
    (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"no metadata\.yaml"):
        Bag(path)
    with Bag(next(path.glob("*.mcap"))) as bag:
        assert len(list(BagFrames(bag, contract).read())) == 12


def test_a_compressed_picture_is_decoded(tmp_path):
    import cv2
    from sensor_msgs.msg import CompressedImage

    compressed = contract_of("sensor_msgs/msg/CompressedImage")
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 255
    png = cv2.imencode(".png", red[..., ::-1])[1].tobytes()

    def with_png(topic, ns, message):
        if topic != "/front/image_raw":
            return topic, ns, message
        picture = CompressedImage(header=message.header, format="png", data=png)
        return topic, ns, picture

    path = write_bag(tmp_path / "bag", [with_png(*item) for item in recording()])
    with Bag(path) as bag:
        frame = next(BagFrames(bag, compressed).read())
    np.testing.assert_array_equal(frame.values["observation.images.front"], red)


def test_a_message_that_does_not_fit_is_left_out_as_live(tmp_path, contract):
    # a gripper's driver publishes on the same topic as the arm's
    gripper = joint_state_message(("grip",), "position", np.zeros(1), to_stamp(START_NS))
    messages = [*recording(), ("/joint_states", START_NS + 1, gripper)]
    with Bag(write_bag(tmp_path / "bag", messages)) as bag:
        frames = BagFrames(bag, contract)
        assert len(list(frames.read())) == 12
        assert frames.refused == {"/joint_states": 1}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e39, -1e308, np.inf, np.nan])
def test_a_value_that_is_infinite_in_float32_is_none(contract, value):
    """A data set would hold it as infinite, and a policy would answer with NaN."""
    select_joints(["a"], [3.4e38], ["a"], "joint_states")
    with pytest.raises(SampleError, match="joint_states: joint a is "):
        select_joints(["a"], [value], ["a"], "joint_states")
    read = command_decoder(contract.action[0])
    width = len(contract.action[0].joints)
    read(SimpleNamespace(data=[0.5] * width))
    with pytest.raises(SampleError, match=f"expected {width} finite values"):
        read(SimpleNamespace(data=[value, *[0.5] * (width - 1)]))


def test_an_image_without_joints_in_time_is_counted(tmp_path, contract):
    quiet = [m for m in recording() if m[0] != "/joint_states" or m[1] < START_NS + NANO // 4]
    with Bag(write_bag(tmp_path / "bag", quiet)) as bag:
        frames = BagFrames(bag, contract)
        seen = list(frames.read())
    assert 0 < len(seen) < 12 and frames.images == 12 and frames.frames == len(seen)


def test_what_is_missing_or_of_another_kind_is_named(tmp_path, contract):
    with pytest.raises(BagError, match="no such recording"):
        Bag(tmp_path / "absent")
    blind = [m for m in recording() if m[0] != "/front/image_raw"]
    with (
        Bag(write_bag(tmp_path / "blind", blind)) as bag,
        pytest.raises(BagError, match="topic /front/image_raw was not recorded"),
    ):
        list(BagFrames(bag, contract).read())
    other = contract_of("sensor_msgs/msg/CompressedImage")
    with (
        Bag(write_bag(tmp_path / "raw", recording())) as bag,
        pytest.raises(BagError, match="expected sensor_msgs/msg/CompressedImage, got .*/Image"),
    ):
        list(BagFrames(bag, other).read())
    small = image_message(np.zeros((8, 8, 3), np.uint8), Time(sec=1), "camera")
    messages = [m if m[0] != "/front/image_raw" else (*m[:2], small) for m in recording()]
    with (
        Bag(write_bag(tmp_path / "small", messages)) as bag,
        pytest.raises(BagError, match=r"no message of observation.images.front fits.*\(8, 8, 3\)"),
    ):
        list(BagFrames(bag, contract).read())


def test_streams_that_never_meet_are_an_error_with_the_reason(tmp_path, contract):
    apart = []
    for topic, ns, message in recording():
        if topic == "/joint_states":
            message.header.stamp = to_stamp(ns + 5 * NANO)
        apart.append((topic, ns, message))
    with (
        Bag(write_bag(tmp_path / "bag", apart)) as bag,
        pytest.raises(BagError, match="no complete observation: observation.state"),
    ):
        list(BagFrames(bag, contract).read())


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_an_empty_or_truncated_bag_is_an_error(tmp_path, contract, plugin):
    with (
        pytest.raises(BagError, match="holds no message"),
        Bag(write_bag(tmp_path / "empty", [], plugin)),
    ):
        pass
    path = write_bag(tmp_path / "bag", recording(60), plugin)
    file = next(p for p in path.iterdir() if p.suffix in {".mcap", ".db3"})
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError, match=r"cannot be read: .*copy it again"), Bag(path) as bag:
        list(BagFrames(bag, contract).read())


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_reward_of_a_version_that_kept_its_features_inside_is_read(tmp_path, plugin):
    kind = "rewact_ros/msg/Reward"
    text = (share_dir() / "msg" / "Reward.msg").read_text()
    older = get_typestore(Stores.ROS2_JAZZY)
    older.register(
        get_types_from_msg(
            text.replace("string policy_version", "float32[] features\nstring policy_version"), kind
        )
    )
    numbers = {"value": 0.5, "q10": 0.4, "q50": 0.5, "q90": 0.6, "entropy": 1.0}
    stamp = older.types["builtin_interfaces/msg/Time"](1700, 0)
    header = older.types["std_msgs/msg/Header"](stamp, "")
    reward = older.types[kind](
        header, *numbers.values(), np.arange(128, dtype=np.float32), "version", "hash"
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/rewact/reward", kind, typestore=older)
        writer.write(connection, 1, older.serialize_cdr(reward, kind))
    with Bag(tmp_path / "bag") as bag:
        (read,) = bag.rewards()
    assert (read.stamp_ns, read.value) == (1700 * NANO, 0.5)
    assert read.quantiles == pytest.approx((0.4, 0.5, 0.6)) and read.entropy == 1.0
