"""`rewact visualise`: videos that play, show what they should and leave nothing half done."""

from pathlib import Path

import av
import numpy as np
import pytest
from conftest import write_policy
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_bags import contract_of, recording, write_bag

from rewact_ros.cli.visualise import visualise
from rewact_ros.data.video.reward_chart import BLUE, LIGHT, Reading
from rewact_ros.data.video.reward_video import RewardVideo, VideoError
from rewact_ros.learning.evaluation.film import FilmError, film_bag, film_dataset, film_simulation
from rewact_ros.policy.checkpoint import load_policy

FRAMES = 14


def write_dataset(root: Path, contract, labelled: bool = True) -> LeRobotDataset:
    """Two episodes of noise; the label climbs, and is unknown in the middle."""
    label = {"next.reward": {"dtype": "float32", "shape": (1,), "names": None}} if labelled else {}
    dataset = LeRobotDataset.create(
        repo_id="local/noise",
        fps=round(contract.rate_hz),
        features={**contract.dataset_features(use_videos=False), **label},
        root=root,
    )
    rng = np.random.default_rng(0)
    for _ in range(2):
        for k in range(FRAMES):
            frame = {
                "observation.state": rng.normal(size=len(contract.state_names)).astype(np.float32),
                "action": np.zeros(len(contract.action_names), np.float32),
                "task": "none",
            }
            for camera in contract.cameras:
                frame[camera.key] = rng.integers(0, 255, camera.shape, dtype=np.uint8)
            if labelled:
                value = np.nan if k == 7 else k / (FRAMES - 1)
                frame["next.reward"] = np.array([value], np.float32)
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset("local/noise", root=root, video_backend="pyav")


@pytest.fixture(scope="module")
def dataset(vx300s, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "noise", vx300s)


def decoded(path: Path) -> list[np.ndarray]:
    """All frames, after checking that a browser can play the file from its beginning."""
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == 0 and stream.height % 2 == 0
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def close_to(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> int:
    """Pixels of about that colour in the axes: not among the numbers, not in the cameras."""
    axes = picture[-200:-45, 60:-140].astype(int)
    return int((np.abs(axes - colour).max(axis=-1) < tolerance).sum())


def test_a_dataset_with_a_policy_gives_a_video_per_episode(dataset, tiny_policy, tmp_path):
    visualise(policy=tiny_policy, dataset=dataset.root, episodes="0:2", out=tmp_path, device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "episode-000000.mp4",
        "episode-000000.png",
        "episode-000001.mp4",
        "episode-000001.png",
    ]
    frames = decoded(tmp_path / "episode-000001.mp4")
    assert len(frames) == FRAMES
    with av.open(str(tmp_path / "episode-000001.mp4")) as container:
        assert container.streams.video[0].average_rate == 20
    drawn = [close_to(frame, BLUE) for frame in frames]
    assert drawn[0] < drawn[FRAMES // 2] < drawn[-1]  # the curve grows


def test_without_a_policy_the_labels_are_the_curve(dataset, tmp_path):
    visualise(dataset=dataset.root, episodes="1", out=tmp_path / "labels.mp4")
    frames = decoded(tmp_path / "labels.mp4")
    assert close_to(frames[-1], BLUE) > close_to(frames[3], BLUE) > 0
    assert (tmp_path / "labels.png").exists()


def test_a_distributional_head_shows_its_band(dataset, vx300s, tmp_path):
    plain = load_policy(write_policy(vx300s, tmp_path / "plain"), "cpu")
    settings = {"reward_head": "distributional", "num_value_bins": 21}
    banded = load_policy(write_policy(vx300s, tmp_path / "banded", **settings), "cpu")
    band = []
    for name, loaded in (("plain", plain), ("banded", banded)):
        film = film_dataset(dataset, 0, loaded, tmp_path / f"{name}.mp4")
        picture = decoded(film.path)[-1]
        shade = tuple(round(0.6 * c + 0.4 * 255) for c in LIGHT)
        band.append(close_to(picture, shade, tolerance=12))
    assert band[0] < 200 and band[1] > 5000  # an untrained head is unsure


def test_the_simulation_is_filmed_as_the_policy_saw_it(vx300s, tiny_policy, tmp_path):
    from rewact_ros.episodes.settings import RolloutSettings
    from rewact_ros.sim.pick_place.task import PickPlace

    sim = PickPlace(96, 96)
    try:
        loaded = load_policy(tiny_policy, "cpu")
        film, rollout = film_simulation(
            loaded, sim, 100_000, tmp_path / "sim.mp4", RolloutSettings(limit_s=1.0)
        )
    finally:
        sim.close()
    assert not rollout.success
    assert len(decoded(film.path)) == film.frames == len(rollout.rewards) == 20


def test_a_bag_shows_the_reward_that_was_published(tmp_path):
    from rewact_ros.data.bags.reader import Bag

    with Bag(write_bag(tmp_path / "bag", recording())) as bag:
        film = film_bag(bag, contract_of(), None, tmp_path / "bag.mp4")
    frames = decoded(film.path)
    assert len(frames) == film.frames == 12
    shade = tuple(round(0.6 * c + 0.4 * 255) for c in LIGHT)
    assert close_to(frames[-1], shade, tolerance=12) > 5000  # recorded with q10 = 0 and q90 = 1
    assert close_to(frames[0], BLUE) < close_to(frames[-1], BLUE)


def test_a_policy_judges_a_bag_anew(tmp_path):
    from rewact_ros.data.bags.reader import Bag

    contract = contract_of()
    loaded = load_policy(write_policy(contract, tmp_path / "policy"), "cpu")
    with Bag(write_bag(tmp_path / "bag", recording())) as bag:
        film = film_bag(bag, contract, loaded, tmp_path / "bag.mp4")
    assert len(decoded(film.path)) == 12


def test_where_there_is_nothing_to_draw_nothing_is_written(vx300s, tmp_path, tiny_policy):
    from rewact_ros.data.bags.reader import Bag

    bare = write_dataset(tmp_path / "bare", vx300s, labelled=False)
    with pytest.raises(FilmError, match=r"has no next\.reward; give --policy"):
        film_dataset(bare, 0, None, tmp_path / "out" / "a.mp4")
    silent = [message for message in recording() if message[0] != "/rewact/reward"]
    with (
        Bag(write_bag(tmp_path / "bag", silent)) as bag,
        pytest.raises(FilmError, match="no reward was recorded; give --policy"),
    ):
        film_bag(bag, contract_of(), None, tmp_path / "out" / "b.mp4")
    headless = load_policy(write_policy(vx300s, tmp_path / "act", reward_head="none"), "cpu")
    with pytest.raises(FilmError, match="has no reward head"):
        film_dataset(bare, 0, headless, tmp_path / "out" / "c.mp4")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="give one of --dataset, --bag, --sim and --live"):
        visualise(policy=tiny_policy)
    with pytest.raises(ValueError, match="2 episodes need a folder"):
        visualise(dataset=bare.root, episodes="0:2", out=tmp_path / "two.mp4")


def test_a_policy_of_another_robot_is_refused(dataset, tmp_path):
    loaded = load_policy(write_policy(contract_of(), tmp_path / "policy"), "cpu")
    with pytest.raises(FilmError, match="expected joints a, b .* got waist"):
        film_dataset(dataset, 0, loaded, tmp_path / "a.mp4")


def test_an_interrupted_video_leaves_no_file(tmp_path):
    image = {"observation.images.front": np.zeros((24, 32, 3), np.uint8)}
    for frames in (0, 3):
        with pytest.raises(KeyboardInterrupt), RewardVideo(tmp_path / "a.mp4", "a", 20) as video:
            for k in range(frames):
                video.add(k / 20, image, Reading(0.5))
            raise KeyboardInterrupt
    with pytest.raises(VideoError, match="stamps run backwards"):  # noqa: SIM117
        with RewardVideo(tmp_path / "a.mp4", "a", 20) as video:
            video.add(1.0, image, None)
            video.add(0.5, image, None)
    with (
        pytest.raises(VideoError, match="no frame to show"),
        RewardVideo(tmp_path / "a.mp4", "a", 20),
    ):
        pass
    with pytest.raises(VideoError, match="cannot be written"):
        (tmp_path / "file").touch()
        RewardVideo(tmp_path / "file" / "a.mp4", "a", 20)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_episode_of_unknown_length_stays_on_the_axis(tmp_path):
    image = {"observation.images.front": np.zeros((24, 32, 3), np.uint8)}
    with RewardVideo(tmp_path / "a.mp4", "a", 2) as video:
        for k in range(40):  # 20 s
            video.add(k / 2, image, Reading(k / 40))
    frames = decoded(tmp_path / "a.mp4")
    assert len(frames) == 40
    assert all(close_to(frame, BLUE) > 0 for frame in frames[1:])
