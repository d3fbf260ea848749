"""Labels written into a real LeRobotDataset: loadable, in one step, or not at all."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lerobot.datasets.compute_stats import aggregate_stats
from lerobot.datasets.io_utils import load_episodes
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_train import H264
from typer.testing import CliRunner

from rewact_ros.cli.app import app
from rewact_ros.data.dataset import replace_folder
from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.labels.annotations import read_subtasks, subtask_shares
from rewact_ros.data.labels.write import EpisodeLabels, open_labelled, write_labels
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.reward.keypoints import LabelError
from rewact_ros.reward.labels import progress_ramp

CAMERA = "observation.images.front"
LENGTHS = (20, 30, 12)
TREE = dict[str, tuple[bytes, int]]


def write_dataset(root: Path) -> Path:
    """An unlabelled LeRobotDataset of three short episodes at 10 Hz."""
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
        CAMERA: {"dtype": "video", "shape": (40, 48, 3), "names": ["height", "width", "channels"]},
    }
    dataset = LeRobotDataset.create("local/tiny", 10, features, root=root, rgb_encoder=H264)
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            dataset.add_frame(
                {
                    "observation.state": np.array([episode, frame], np.float32),
                    "action": np.array([frame, episode], np.float32),
                    CAMERA: np.full((40, 48, 3), 8 * frame % 256, np.uint8),
                    "task": "tiny",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("original") / "tiny")


@pytest.fixture
def root(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data" / "tiny"))


def tree(folder: Path) -> TREE:
    """Every file's content and mode, and that nothing else lies beside the dataset."""
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mode)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def label(root: Path, *options: object, code: int = 0) -> str:
    """Run `rewact label` and return what it says."""
    arguments = ["label", "--dataset", root, *options]
    if "--dry-run" not in options:
        arguments += ["--plots", root.parent.parent / "plots"]
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    if code:
        assert isinstance(result.exception, ValueError), result.output
        return str(result.exception)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def rewards(root: Path) -> list[np.ndarray]:
    """Labels of every episode as LeRobot itself reads them."""
    table = LeRobotDataset("local/tiny", root=root).hf_dataset.with_format("numpy")
    values, episode = np.asarray(table["next.reward"]), np.asarray(table["episode_index"])
    return [values[episode == index] for index in range(len(LENGTHS))]


def keypoints(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    return path


def test_labels_are_read_by_lerobot_and_by_training_and_the_rest_of_the_dataset_is_the_same(
    root, tmp_path
):
    before = LeRobotDataset("local/tiny", root=root, video_backend="pyav")
    video = next(root.rglob("*.mp4"))
    inode, stats = video.stat().st_ino, before.meta.stats
    items = [before[i] for i in (0, 19, 20, 61)]
    label(root, "--keypoints", keypoints(tmp_path, "episodes: {0: ramp, 1: {failed: 0.4}}"))

    assert video.stat().st_ino == inode  # shared, not copied
    after = LeRobotDataset("local/tiny", root=root, video_backend="pyav")
    for row, item in zip((0, 19, 20, 61), items, strict=True):
        for key, value in item.items():
            assert (
                after[row][key] == value
                if isinstance(value, str)
                else ((after[row][key] == value).all())
            )
    for key, own in stats.items():
        for name, value in own.items():
            np.testing.assert_array_equal(after.meta.stats[key][name], value)
    first, second, third = rewards(root)
    np.testing.assert_allclose(first, progress_ramp(20))
    np.testing.assert_allclose(second, 0.4 * progress_ramp(30), atol=1e-6)
    assert np.isnan(third).all()
    last, success = after[19], np.flatnonzero(first >= 1)[0]
    assert bool(last["next.done"]) and bool(last["next.success"])
    assert not after[18]["next.done"] and not after[int(success) - 1]["next.success"]
    assert not after[49]["next.success"] and bool(after[49]["next.done"])
    np.testing.assert_array_equal(load_demonstrations(root).reward, np.concatenate(rewards(root)))


def test_statistics_describe_the_known_frames_and_survive_lerobots_aggregation(root, tmp_path):
    label(root, "--keypoints", keypoints(tmp_path, "episodes: {0: ramp, 1: {failed: 0.4}}"))
    known = np.concatenate(rewards(root)[:2])
    own = LeRobotDataset("local/tiny", root=root).meta.stats["next.reward"]
    assert own["count"] == [50] and own["max"] == [1] and own["min"] == [0]
    assert own["mean"] == pytest.approx(known.mean()) and own["std"] == pytest.approx(known.std())
    rows = pq.read_table(next((root / "meta" / "episodes").rglob("*.parquet"))).to_pylist()
    per_episode = [
        {"next.reward": {k.split("/")[-1]: np.array(v) for k, v in row.items() if "reward" in k}}
        for row in rows
    ]
    assert [int(row["next.reward"]["count"][0]) for row in per_episode] == [20, 30, 0]
    again = aggregate_stats(per_episode)["next.reward"]
    for name, value in again.items():
        np.testing.assert_allclose(value, own[name], err_msg=name)


def test_only_the_named_episodes_change_and_the_others_keep_theirs(root, tmp_path):
    label(root, "--ramp", "--failed", "2", "--failed-cap", "0.3")
    before = rewards(root)
    file = keypoints(tmp_path, "milestones: {done: 1.0}\nepisodes: {0: {done: 5}, 1: {done: 1.5s}}")
    label(root, "--keypoints", file, "--episodes", "1:3")
    after = rewards(root)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[2], before[2])
    assert after[1][14] < 1 and (after[1][15:] == 1).all()
    label(root, "--clear", "--episodes", "0")
    assert np.isnan(rewards(root)[0]).all() and (rewards(root)[1] == after[1]).all()


def test_clear_removes_every_trace_of_labels(root):
    columns = pq.read_table(next((root / "data").rglob("*.parquet"))).to_pylist()
    info = json.loads((root / "meta" / "info.json").read_text())
    stats = json.loads((root / "meta" / "stats.json").read_text())
    episodes = load_episodes(root).features
    label(root, "--ramp")
    assert rewards(root)
    label(root, "--clear")
    assert pq.read_table(next((root / "data").rglob("*.parquet"))).to_pylist() == columns
    assert json.loads((root / "meta" / "info.json").read_text()) == info
    assert json.loads((root / "meta" / "stats.json").read_text()) == stats
    assert load_episodes(root).features == episodes
    table = pq.read_schema(next((root / "meta" / "episodes").rglob("*.parquet")))
    assert not any("next." in name for name in table.names)
    LeRobotDataset("local/tiny", root=root, video_backend="pyav")[0]


def test_a_dry_run_prints_every_episode_and_writes_nothing(root, tmp_path):
    before = tree(root)
    said = label(root, "--ramp", "--failed", "1", "--dry-run")
    assert "3 of 3 episodes change; nothing written" in said and "ends 0.50" in said
    assert tree(root) == before and not (tmp_path / "plots").exists()


def test_the_datasets_own_public_keypoints_are_used_and_named(root):
    folder = root / "rewact_extensions"
    folder.mkdir()
    content = {"1": {"keypoints": [{"frame_index": 10, "timestamp": 1.0, "reward": 0.5}]}}
    (folder / "reward_keypoints.json").write_text(json.dumps(content))
    assert "rewact_extensions/reward_keypoints.json" in label(root)
    assert rewards(root)[1][10] == 0.5 and np.isnan(rewards(root)[0]).all()


def test_every_curve_is_drawn(root, tmp_path):
    label(root, "--ramp")
    picture = (tmp_path / "plots" / "labels-000.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keypoints", "FILE"], "no such episode"),
        ([], "nothing to label.*--ramp"),
        (["--ramp", "--episodes", "0:9"], "the dataset has 0:3"),
        (["--ramp", "--failed", "7"], "the dataset has 0:3"),
        (["--ramp", "--failed", "1", "--failed-cap", "1.5"], "failed_cap: expected 0 to below 1"),
        (["--ramp", "--ramp-start", "0.9", "--ramp-end", "0.2"], "start < end"),
        (["--ramp", "--clear"], "--clear goes alone"),
        (["--subtasks", "sparse"], "has no sparse subtask annotation; it has none"),
        (["--subtasks", "dens"], "expected sparse, dense, language, got 'dens'"),
    ],
)
def test_a_refused_command_leaves_the_dataset_byte_for_byte(root, tmp_path, options, message):
    file = keypoints(tmp_path, "milestones: {done: 1.0}\nepisodes: {3: {done: 5}}")
    before = tree(root)
    said = label(root, *(file if o == "FILE" else o for o in options), code=2)
    assert re.search(message, said), said
    assert tree(root) == before


def test_what_is_no_dataset_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no LeRobotDataset here: the folder is empty"):
        open_labelled(tmp_path)


@pytest.mark.parametrize("place", [".", "..", "meta/episodes/chunk-000"])
def test_a_read_only_dataset_is_left_alone_even_by_root(root, place):
    before, folder = tree(root), (root / place).resolve()
    folder.chmod(0o555)
    try:
        with pytest.raises(LabelError, match="is not writable; .* was not changed"):
            write_labels(open_labelled(root), ramps())
    finally:
        folder.chmod(0o755)
    assert tree(root) == before


@pytest.mark.parametrize("limit", [0, 3000, 20_000])
def test_a_write_that_fails_midway_leaves_the_dataset_byte_for_byte(root, limit):
    """The file-size limit stops a write as a full disk does."""
    before, (soft, hard) = tree(root), resource.getrlimit(resource.RLIMIT_FSIZE)
    dataset = open_labelled(root)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(LabelError, match="too large.*was not changed"):
            write_labels(dataset, ramps())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tree(root) == before


def ramps() -> dict[int, EpisodeLabels]:
    return {0: EpisodeLabels(progress_ramp(20), progress_ramp(20) >= 1)}


def test_two_writers_do_not_mix(root):
    before, dataset = tree(root), open_labelled(root)
    with replace_folder.replacing(root), pytest.raises(LabelError, match="another process"):
        write_labels(dataset, ramps())
    assert tree(root) == before


CRASH = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from rewact_ros.data.dataset import replace_folder
calls, die_at = 0, int(sys.argv[2])
def dying(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == die_at:
            os._exit(9)
        return real(*args, **kwargs)
    setattr(os, name, call)
for name in ("link", "fsync", "rename", "replace", "unlink", "rmdir"):
    dying(name)
if sys.argv[4] == "two steps":
    replace_folder.exchange = lambda one, other: False
with replace_folder.replacing(Path(sys.argv[1])) as copy:
    for name in ("a", "b/c"):
        path = copy / (name + ".partial")
        path.write_text("new")
        path.replace(copy / name)
"""


@pytest.mark.parametrize("way", ["one step", "two steps"])
def test_killed_at_any_moment_the_folder_is_the_old_or_the_new_one_and_the_next_start_tidies(
    tmp_path, way
):
    folder, seen = tmp_path / "data" / "tiny", []
    for die_at in range(1, 60):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        (folder / "b").mkdir(parents=True)
        for name in ("a", "b/c", "b/d"):
            (folder / name).write_text("old")
        source = str(Path(replace_folder.__file__).parents[3])
        arguments = [str(folder), str(die_at), source, way]
        done = subprocess.run([sys.executable, "-c", CRASH, *arguments], check=False)
        if way == "two steps":
            replace_folder.recover_folder(folder)
        content = {name: (folder / name).read_text() for name in ("a", "b/c", "b/d")}
        new = content["a"] == "new"
        assert content == dict.fromkeys(("a", "b/c"), "new" if new else "old") | {"b/d": "old"}
        seen.append(new)
        if done.returncode == 0:
            break
        assert done.returncode == 9
        with replace_folder.replacing(folder):
            pass
        assert os.listdir(folder.parent) == ["tiny"] and (folder / "b/d").stat().st_nlink == 1
    else:
        pytest.fail("never ran to its end")
    assert seen == sorted(seen) and set(seen) == {False, True}


SUBTASKS = {
    0: (["reach", "place"], [0, 10], [10, 20]),
    1: (["reach", "place"], [0, 6], [6, 30]),
}


def annotate_as_sarm(root: Path, kind: str, prefix: str, episodes=SUBTASKS) -> None:
    """Columns as lerobot.data_processing.sarm_annotations writes them."""
    path = next((root / "meta" / "episodes").rglob("*.parquet"))
    frame = pq.read_table(path).to_pandas()
    for place, part in enumerate(("names", "start_frames", "end_frames")):
        column = [episodes[i][place] if i in episodes else None for i in frame["episode_index"]]
        frame[f"{prefix}subtask_{part}"] = column
    frame.to_parquet(path, engine="pyarrow", compression="snappy")


@pytest.mark.parametrize(
    ("kind", "prefix"), [("sparse", "sparse_"), ("sparse", ""), ("dense", "dense_")]
)
def test_lerobots_sarm_annotations_become_labels(root, kind, prefix):
    annotate_as_sarm(root, kind, prefix)
    (root / "meta" / f"temporal_proportions_{kind}.json").write_text('{"reach": 0.4, "place": 0.6}')
    label(root, "--subtasks", kind, "--interpolation", "linear")
    first, second, third = rewards(root)
    assert first[5] == pytest.approx(0.2) and first[10] == pytest.approx(0.4) and first[19] == 1
    assert second[6] == pytest.approx(0.4) and second[29] == 1 and np.isnan(third).all()


def test_a_wrong_interpolation_is_refused_though_no_keypoint_asks_for_it(root):
    said = label(root, "--ramp", "--interpolation", "spline", "--dry-run", code=1)
    assert said == "interpolation: expected pchip or linear, got 'spline'"


def test_a_folder_of_plots_that_cannot_be_made_is_told_before_anything_is_written(root):
    before = open_labelled(root).labels
    (root.parent / "file").touch()
    arguments = ["label", "--dataset", root, "--ramp", "--plots", root.parent / "file"]
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert isinstance(result.exception, FileExistsError)
    assert before is None and open_labelled(root).labels is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "too many levels"),
        ('{"reach": 0.4, "reach": 0.6}', "reach: given twice"),
        ('{"reach": NaN}', "NaN is no number"),
        ("[1]", r"expected \{NAME: SHARE"),
    ],
)
def test_stored_proportions_that_are_none_are_refused_by_name(root, text, words):
    annotate_as_sarm(root, "sparse", "sparse_")
    (root / "meta" / "temporal_proportions_sparse.json").write_text(text)
    with pytest.raises(LabelError, match=rf"temporal_proportions_sparse\.json: .*{words}"):
        subtask_shares(root, "sparse", {})


def test_without_stored_proportions_the_shares_are_the_mean_shares_of_time(root):
    annotate_as_sarm(root, "sparse", "sparse_")
    spans = read_subtasks(root, "sparse", 10, dict(enumerate(LENGTHS)))
    assert spans[0] == [("reach", 0, 10), ("place", 10, 19)]
    reach = (10 / 19 + 6 / 29) / 2
    assert subtask_shares(root, "sparse", spans) == pytest.approx(
        {"reach": reach, "place": 1 - reach}
    )


def test_lerobots_language_annotations_become_labels_each_until_the_next(root, tmp_path):
    path = next((root / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    row = {"role": "assistant", "style": "subtask", "camera": None, "tool_calls": None}
    mine = [
        {**row, "content": "reach", "timestamp": 0.0},
        {**row, "content": "place", "timestamp": 0.8},
        {**row, "content": "todo", "style": "plan", "timestamp": 0.0},
    ]
    rows = [mine if index == 0 else [] for index in table["episode_index"].to_pylist()]
    pq.write_table(table.append_column("language_persistent", pa.array(rows)), path)
    file = keypoints(tmp_path, "subtasks: {reach: 0.3, place: 0.7}\ninterpolation: linear")
    label(root, "--subtasks", "language", "--keypoints", file, "--dry-run")
    spans = read_subtasks(root, "language", 10, dict(enumerate(LENGTHS)))
    assert spans == {0: [("reach", 0, 8), ("place", 8, 19)]}


def test_annotations_that_do_not_fit_the_episode_are_refused(root):
    annotate_as_sarm(root, "sparse", "sparse_", {0: (["reach"], [0], [21])})
    with pytest.raises(LabelError, match="'reach' of episode 0: expected frames of 0 to 19"):
        read_subtasks(root, "sparse", 10, dict(enumerate(LENGTHS)))
