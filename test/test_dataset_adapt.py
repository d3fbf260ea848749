"""An adapted copy of a dataset: whole, said, and never in the source's place."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED_DATA
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from typer.testing import CliRunner

from rewact_ros.cli.app import app
from rewact_ros.data.dataset.adapt import NOTE, Adaptation, adapt_dataset
from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.dataset.reader import open_dataset

LENGTHS, FPS = (4, 3), 10
STATE, ACTION = "observation.state", "action"


def frames(episode: int) -> tuple[np.ndarray, np.ndarray]:
    """State (n, 2) of a and b, action (n, 3) of a, b and grip."""
    n = LENGTHS[episode]
    state = np.arange(2 * n).reshape(n, 2) + 100.0 * episode
    action = np.column_stack([state[:, 0] * 0 + 5, state[:, 1] * 0 - 5, np.arange(n) % 2])
    return state.astype(np.float32), action.astype(np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "source"
    features = {
        STATE: {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        ACTION: {"dtype": "float32", "shape": (3,), "names": ["a", "b", "grip"]},
    }
    dataset = LeRobotDataset.create("local/small", FPS, features, root=root, use_videos=False)
    for episode in range(len(LENGTHS)):
        for state, action in zip(*frames(episode), strict=True):
            dataset.add_frame({STATE: state, ACTION: action, "task": "t"})
        dataset.save_episode()
    dataset.finalize()
    (root / "meta" / "contract.json").write_text("{}")
    return root


def read(root: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    dataset = open_dataset(root)
    table = dataset.hf_dataset.with_format("numpy")
    return np.stack(table[STATE]), np.stack(table[ACTION]), dataset.meta.features


def test_velocities_become_the_positions_that_they_lead_to(source, tmp_path):
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    wanted = Adaptation(action="integrate", keep=("grip",))
    done = adapt_dataset(source, tmp_path / "out", wanted)
    state, action, _ = read(tmp_path / "out")
    assert action[:, 0] == pytest.approx(state[:, 0] + 5 / FPS)
    assert action[:, 1] == pytest.approx(state[:, 1] - 5 / FPS)
    assert list(action[:, 2]) == [0, 1, 0, 1, 0, 1, 0]
    assert "velocities became" in done[0] and "but grip" in done[0]
    assert not (tmp_path / "out" / "meta" / "contract.json").exists() and "contract" in done[1]
    assert json.loads((tmp_path / "out" / NOTE).read_text())["done"] == done
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}


def test_a_gripper_that_nobody_observes_comes_into_the_state(source, tmp_path):
    adapt_dataset(source, tmp_path / "out", Adaptation(into_state=("grip",)))
    state, _, features = read(tmp_path / "out")
    assert features[STATE]["names"] == ["a", "b", "grip"]
    assert list(state[:, 2]) == [0, 0, 1, 0, 0, 0, 1], "of its own episode's frame before"


def test_the_action_becomes_the_next_state_of_its_own_episode(source, tmp_path):
    wanted = Adaptation(into_state=("grip",), action="next_state")
    adapt_dataset(source, tmp_path / "out", wanted)
    state, action, _ = read(tmp_path / "out")
    for first, end in ((0, 4), (4, 7)):
        assert action[first : end - 1] == pytest.approx(state[first + 1 : end])
        assert action[end - 1] == pytest.approx(state[end - 1])


def test_names_change_first_and_statistics_are_made_anew(source, tmp_path):
    wanted = Adaptation(rename=(("a", "pan"), ("grip", "jaw")), into_state=("jaw",))
    adapt_dataset(source, tmp_path / "out", wanted)
    state, action, features = read(tmp_path / "out")
    assert features[ACTION]["names"] == ["pan", "b", "jaw"]
    assert features[STATE]["names"] == ["pan", "b", "jaw"]
    stats = json.loads((tmp_path / "out" / "meta" / "stats.json").read_text())
    assert stats[STATE]["mean"] == pytest.approx(state.mean(axis=0))
    assert stats[ACTION]["std"] == pytest.approx(action.std(axis=0), abs=1e-6)
    episodes = pq.read_table(next((tmp_path / "out" / "meta" / "episodes").rglob("*.parquet")))
    assert episodes[f"stats/{STATE}/max"].to_pylist()[0] == pytest.approx(state[:4].max(axis=0))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Adaptation(), "nothing else was asked for"),
        (Adaptation(action="integrate"), "grip: expected it in observation.state too.*--keep grip"),
        (Adaptation(into_state=("gripp",)), "did you mean grip"),
        (Adaptation(into_state=("a",)), "is in observation.state already"),
        (Adaptation(rename=(("a", "b"),)), "would have b twice"),
        (Adaptation(rename=(("z", "y"),)), "has no 'z'; it has a, b, grip"),
        (Adaptation(action="next_state", keep=("x",)), "has no 'x'"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(source, tmp_path, wanted, words):
    with pytest.raises(DatasetError, match=words):
        adapt_dataset(source, tmp_path / "out", wanted)
    assert not list(tmp_path.iterdir())


def test_nothing_is_ever_replaced(source, tmp_path):
    wanted = Adaptation(into_state=("grip",))
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="out exists"):
        adapt_dataset(source, tmp_path / "out", wanted)
    for inside in (source, source / "copy"):
        with pytest.raises(DatasetError, match="expected a folder outside"):
            adapt_dataset(source, inside, wanted)
    with pytest.raises(DatasetError, match="info.json is missing|the folder is empty"):
        adapt_dataset(tmp_path / "out", tmp_path / "new", wanted)


def write_v21(root: Path, version: str = "v2.1") -> Path:
    """A dataset as LeRobot 0.3 wrote them."""
    features = {
        STATE: {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        ACTION: {"dtype": "float32", "shape": [3], "names": {"motors": ["a", "b", "grip"]}},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{
            key: {"dtype": "int64", "shape": [1], "names": None}
            for key in ("frame_index", "episode_index", "index", "task_index")
        },
    }
    info = {
        "codebase_version": version, "robot_type": "x", "total_episodes": 2, "total_frames": 7,
        "total_tasks": 1, "total_videos": 0, "total_chunks": 1, "chunks_size": 1000, "fps": FPS,
        "splits": {"train": "0:2"}, "video_path": None, "features": features,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "t"}) + "\n")
    episodes, stats, index = [], [], 0
    for episode, length in enumerate(LENGTHS):
        state, action = frames(episode)
        columns = {
            STATE: list(state), ACTION: list(action),
            "timestamp": (np.arange(length) / FPS).astype(np.float32),
            "frame_index": np.arange(length), "episode_index": np.full(length, episode),
            "index": np.arange(index, index + length), "task_index": np.zeros(length, int),
        }  # fmt: skip
        index += length
        path = root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
        pq.write_table(pa.table({k: pa.array(list(v)) for k, v in columns.items()}), path)
        episodes.append({"episode_index": episode, "tasks": ["t"], "length": length})
        own = {
            key: {
                "min": np.min(v, axis=0), "max": np.max(v, axis=0), "mean": np.mean(v, axis=0),
                "std": np.std(v, axis=0), "count": length,
            }
            for key, v in columns.items()
        }  # fmt: skip
        listed = {k: {n: np.atleast_1d(x).tolist() for n, x in s.items()} for k, s in own.items()}
        stats.append({"episode_index": episode, "stats": listed})
    for name, rows in (("episodes", episodes), ("episodes_stats", stats)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "meta" / f"{name}.jsonl").write_text(text)
    return root


def test_a_dataset_of_v21_becomes_v3_by_lerobots_converter(tmp_path):
    source = write_v21(tmp_path / "old")
    wanted = Adaptation(into_state=("grip",))
    done = adapt_dataset(source, tmp_path / "new", wanted)
    assert "converted v2.1 to v3.0" in done[0]
    state, action, features = read(tmp_path / "new")
    assert state[:, :2] == pytest.approx(np.concatenate([frames(0)[0], frames(1)[0]]))
    assert action.shape == (7, 3) and features[STATE]["names"] == ["a", "b", "grip"]
    assert json.loads((source / "meta" / "info.json").read_text())["codebase_version"] == "v2.1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_older_versions_name_what_to_do(tmp_path):
    source = write_v21(tmp_path / "old", "v2.0")
    with pytest.raises(DatasetError, match="LeRobot 0.6 converts from v2.1 only"):
        adapt_dataset(source, tmp_path / "new", Adaptation(into_state=("grip",)))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_the_command_says_what_it_did(source, tmp_path):
    words = ["dataset", "adapt", str(source), "--out", str(tmp_path / "out"), "--rename", "a=pan"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "renamed a to pan" in result.output
    assert f"written: {tmp_path / 'out'}" in result.output


@pytest.mark.skipif(not (SHARED_DATA / "g1_bottle").is_dir(), reason="no real robot data here")
def test_real_data_gets_the_next_state_as_action(tmp_path):
    source = SHARED_DATA / "g1_bottle"
    adapt_dataset(source, tmp_path / "out", Adaptation(action="next_state"))
    state, action, _ = read(tmp_path / "out")
    episode = np.asarray(open_dataset(source).hf_dataset.with_format("numpy")["episode_index"])
    same = episode[1:] == episode[:-1]
    assert action[:-1][same] == pytest.approx(state[1:][same])
