"""A dataset becomes recordings that replay as a robot, and comes back the same."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_export import CAMERA, columns, contract_file, run
from typer.testing import CliRunner

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, load_contract
from rewact_ros.data.bags.episode_file import read_episode
from rewact_ros.data.bags.from_dataset import write_bags
from rewact_ros.data.bags.from_dataset_settings import BagsError, BagsSettings
from rewact_ros.data.bags.reader import Bag

FRAMES = (25, 14)


def write_dataset(folder: Path, contract_path: Path, **further) -> LeRobotDataset:
    """A dataset of two episodes with images that lose nothing.

    `further`: columns of float32 or bool, by function of (episode, frame).
    """
    contract = load_contract(contract_path)
    features = contract.dataset_features(use_videos=False)
    for key, value in further.items():
        kind = np.asarray(value(0, 0)).dtype.name
        features[key] = {"dtype": kind, "shape": (1,), "names": None}
    dataset = LeRobotDataset.create(
        "local/source", round(contract.rate_hz), features, root=folder, use_videos=False
    )
    rng = np.random.default_rng(0)
    for episode, frames in enumerate(FRAMES):
        for k in range(frames):
            frame = {
                "observation.state": rng.uniform(-1, 1, len(contract.state_names)),
                "action": rng.normal(size=len(contract.action_names)),
            }
            frame = {key: value.astype(np.float32) for key, value in frame.items()}
            for camera in contract.cameras:
                frame[camera.key] = rng.integers(0, 255, camera.shape, dtype=np.uint8)
            for key, value in further.items():
                frame[key] = np.asarray(value(episode, k)).reshape(1)
            dataset.add_frame({**frame, "task": f"task {episode}"})
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset("local/source", root=folder)


def assert_same(source: LeRobotDataset, back: LeRobotDataset, cameras: list[str]) -> None:
    ours, theirs = columns(back), columns(source)
    for key in ("observation.state", "action", "episode_index", "frame_index"):
        np.testing.assert_array_equal(ours[key], theirs[key])
    for k in (0, 7, 24, 30, len(source) - 1):
        for key in cameras:
            np.testing.assert_array_equal(back[k][key].numpy(), source[k][key].numpy())
        assert back[k]["task"] == source[k]["task"]


def test_dataset_to_bags_to_dataset_is_exact(tmp_path):
    path = contract_file(tmp_path)
    source = write_dataset(tmp_path / "source", path)
    bags = write_bags(BagsSettings(tmp_path / "source", path, tmp_path / "bags"), progress=False)
    assert [bag.name for bag in bags] == ["source-000000", "source-000001"]
    record = read_episode(bags[0])
    assert record.outcome == "unlabelled" and record.task == "task 0"
    assert record.topics["/front/image_raw"]["received"] == FRAMES[0]
    report, back = run(tmp_path / "bags", tmp_path / "back")
    assert_same(source, back, [CAMERA])
    assert report["totals"]["gaps"] == 0


@pytest.mark.parametrize("cameras", [(CAMERA,), ()], ids=["camera", "no camera"])
def test_every_kind_of_state_comes_back_with_its_own_frame(tmp_path, cameras):
    """Poses, forces, numbers without a header, a driver's units and names; all in step."""
    stamped = {"max_age_s": 0.1, "topic": "tcp_pose", "type": "geometry_msgs/msg/PoseStamped"}
    numbers = {"max_age_s": 0.1, "topic": "width", "type": "std_msgs/msg/Float32", "unit": "mm"}
    joints = {"topic": "joint_states", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.1}
    path = contract_file(
        tmp_path,
        **{
            "observation.state": [
                {**joints, "joints": {"a": "joint_1", "b": "joint_2"}, "unit": "deg"},
                {"name": "width", **numbers},
                {"name": "ee", **stamped},
                {**joints, "joints": {"a.vel": "joint_1"}, "field": "velocity", "unit": "rad"},
                {**stamped, "name": "ft", "topic": "ft", "type": "geometry_msgs/msg/WrenchStamped"},
            ]
        },
    )
    if not cameras:
        data = strict_yaml.load(path)
        del data[CAMERA]
        path.write_text(yaml.safe_dump(data))
    source = write_dataset(tmp_path / "source", path)
    write_bags(BagsSettings(tmp_path / "source", path, tmp_path / "bags"), progress=False)
    report, back = run(tmp_path / "bags", tmp_path / "back")
    assert report["totals"]["gaps"] == 0 and len(back) == sum(FRAMES)
    ours, theirs = columns(back), columns(source)
    for key in ("observation.state", "action"):
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-6)
    assert set(back.meta.camera_keys) == set(cameras)
    assert back.meta.features["observation.state"]["names"][-7:-5] == ["a.vel", "ft.fx"]


def test_labels_modes_and_predicted_rewards_survive_the_round_trip(tmp_path):
    path = contract_file(tmp_path)
    source = write_dataset(
        tmp_path / "source",
        path,
        **{
            "next.success": lambda episode, k: bool(episode == 0 and k > 20),
            "intervention": lambda episode, k: bool(k % 10 > 6),
            "predicted_reward": lambda episode, k: np.float32(k / 50 if k != 3 else np.nan),
        },
    )
    bags = write_bags(BagsSettings(tmp_path / "source", path, tmp_path / "bags"), progress=False)
    assert [read_episode(bag).outcome for bag in bags] == ["success", "failure"]
    _, back = run(tmp_path / "bags", tmp_path / "back")
    ours, theirs = columns(back), columns(source)
    for key in ("intervention", "predicted_reward"):
        np.testing.assert_array_equal(ours[key], theirs[key])
    assert ours["next.success"][: FRAMES[0]].any() and not ours["next.success"][FRAMES[0] :].any()


@pytest.mark.parametrize("jpeg", [0, 90])
def test_the_bag_has_the_topics_and_types_that_the_contract_says(tmp_path, jpeg):
    """Compressed images, two cameras, arms and hands on one topic, trajectories as commands."""
    image = {"type": "sensor_msgs/msg/CompressedImage", "shape": [24, 32, 3], "max_age_s": 0.15}
    joints = {"type": "sensor_msgs/msg/JointState", "topic": "joints", "max_age_s": 0.1}
    path = contract_file(tmp_path)
    data = strict_yaml.load(path)
    action = data["action"]
    data["observation.state"] = [
        {**joints, "joints": ["a", "b"], "unit": "rad"},
        {**joints, "joints": ["c"], "unit": "normalized"},
        {**joints, "joints": ["d"], "field": "effort", "unit": "normalized"},
    ]
    data[CAMERA] = {**image, "topic": "front/compressed"}
    data["observation.images.wrist"] = {**image, "topic": "/wrist/compressed"}
    data["action"] = [
        {**action, "type": "trajectory_msgs/msg/JointTrajectory"},
        {**action, "type": "sensor_msgs/msg/JointState", "topic": "hand", "joints": ["c"]},
    ]
    path.write_text(yaml.safe_dump(data))
    source = write_dataset(tmp_path / "source", path)
    settings = BagsSettings(
        tmp_path / "source", path, tmp_path / "bags", (0, 1), "success", jpeg, True, "left"
    )
    bags = write_bags(settings, progress=False)
    with Bag(bags[0], "left") as bag:
        assert bag.topics == {
            "/left/joints": "sensor_msgs/msg/JointState",
            "/left/front/compressed": "sensor_msgs/msg/CompressedImage",
            "/wrist/compressed": "sensor_msgs/msg/CompressedImage",
            "/left/commands": "trajectory_msgs/msg/JointTrajectory",
            "/left/hand": "sensor_msgs/msg/JointState",
            "/left/rewact/episode_event": "rewact_ros/msg/EpisodeEvent",
        }
    _, back = run(tmp_path / "bags", tmp_path / "back")
    assert read_episode(bags[1]).outcome == "success"
    assert_same(source, back, [] if jpeg else [CAMERA, "observation.images.wrist"])


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    path = contract_file(tmp_path)
    write_dataset(tmp_path / "source", path)
    out = tmp_path / "bags"
    with pytest.raises(BagsError, match="expected 0 to 1, got 2"):
        write_bags(BagsSettings(tmp_path / "source", path, out, (2,)), progress=False)
    other = contract_file(tmp_path, rate_hz=10)
    with pytest.raises(ContractError, match="rate_hz"):
        write_bags(BagsSettings(tmp_path / "source", other, out), progress=False)
    assert not out.exists()
    path = contract_file(tmp_path)
    write_bags(BagsSettings(tmp_path / "source", path, out, (1,)), progress=False)
    with pytest.raises(BagsError, match="exists"):
        write_bags(BagsSettings(tmp_path / "source", path, out, (1,)), progress=False)
    assert [p.name for p in out.iterdir()] == ["source-000001"]


def test_a_dataset_is_written_as_bags_from_the_command_line(tmp_path):
    import typer

    from rewact_ros.cli.bag_from_dataset import from_dataset

    app = typer.Typer()
    app.command()(from_dataset)
    path = contract_file(tmp_path)
    write_dataset(tmp_path / "source", path)
    arguments = [str(tmp_path / "source"), "--contract", str(path), "--episodes", "1"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "bags")])
    assert done.exit_code == 0, done.output
    assert "1 bags" in done.output and (tmp_path / "bags" / "source-000001").is_dir()
