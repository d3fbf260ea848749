"""Opening LeRobotDatasets: whole and plain, or refused by name; the Hub is never asked."""

import json
import runpy
import shlex
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED_DATA, VX300S
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_train import H264

from rewact_ros.cli import main
from rewact_ros.contract import ContractError, image_shape
from rewact_ros.data.dataset.info import DatasetError, read_info
from rewact_ros.data.dataset.reader import open_dataset, stored_pictures
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.learning.imitation.videos import decode_episodes

CAMERA = "observation.images.front"
G1_BOTTLE = SHARED_DATA / "g1_bottle"


def write_dataset(root: Path, dtype: str = "video", axes: str = "HWC") -> Path:
    """Two episodes of 5 and 7 frames; a red square of 8 rows by 20 columns in each picture."""
    sizes = {"H": 32, "W": 48, "C": 3}
    names = {"H": "height", "W": "width", "C": "channels"}
    numbers = {"dtype": "float32", "shape": (2,), "names": ["a", "b"]}
    features = {
        "observation.state": numbers,
        "action": numbers,
        CAMERA: {
            "dtype": dtype,
            "shape": tuple(sizes[axis] for axis in axes),
            "names": [names[axis] for axis in axes],
        },
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create("local/tiny", 10, features, root=root, rgb_encoder=H264)
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:8, :20, 0] = 250
    picture = picture.transpose(["HWC".index(axis) for axis in axes])
    for length in (5, 7):
        for frame in range(length):
            dataset.add_frame(
                {
                    "observation.state": np.array([frame, 0], np.float32),
                    "action": np.array([frame, 1], np.float32),
                    CAMERA: picture,
                    "next.reward": np.array([frame / length], np.float32),
                    "task": "tiny",
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("whole") / "tiny")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pictures") / "tiny", "image", "CHW")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tiny"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The Hub may be asked (nothing says offline); every name that is looked up is noted."""
    from huggingface_hub import constants

    asked: list[object] = []

    def refuse(*where: object, **_: object) -> None:
        asked.append(where)
        raise OSError("no network in this test")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def edit_info(root: Path, **changes: object) -> None:
    file = root / "meta" / "info.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps(info | changes))


def edit_feature(root: Path, key: str, **changes: object) -> None:
    features = json.loads((root / "meta" / "info.json").read_text())["features"]
    features[key] = features.get(key, {}) | changes
    edit_info(root, features=features)


def edit_table(file: Path, change) -> None:
    table = change(pq.read_table(file))
    pq.write_table(table, file)


def data_file(root: Path) -> Path:
    return root / "data" / "chunk-000" / "file-000.parquet"


def episodes_file(root: Path) -> Path:
    return root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"


def video_file(root: Path) -> Path:
    return root / "videos" / CAMERA / "chunk-000" / "file-000.mp4"


def test_a_whole_dataset_opens_as_lerobot_opens_it(whole, no_network):
    dataset = open_dataset(whole)
    own = LeRobotDataset("local/tiny", root=whole, video_backend="pyav")
    assert (len(dataset), dataset.meta.total_episodes) == (12, 2)
    assert dataset.hf_dataset.with_format(None)[:] == own.hf_dataset.with_format(None)[:]
    assert not no_network


MISSING = [
    ("data", r"data/chunk-000/file-000\.parquet is missing; copy the folder data anew"),
    ("videos", rf"videos/{CAMERA}/chunk-000/file-000\.mp4 is missing; copy the folder videos"),
    ("meta/episodes", r"meta/episodes/chunk-000/file-000\.parquet is missing; copy the folder"),
    ("meta/tasks.parquet", r"meta/tasks\.parquet is missing; copy the folder meta anew"),
    ("meta/info.json", r"no LeRobotDataset here: meta/info\.json is missing"),
]


@pytest.mark.parametrize(("part", "words"), MISSING, ids=[part for part, _ in MISSING])
def test_a_missing_part_is_named_and_the_hub_is_not_asked(root, no_network, part, words):
    path = root / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DatasetError, match=words):
        open_dataset(root)
    assert not no_network


def test_what_the_look_overlooks_is_not_asked_of_the_hub_either(root, no_network, monkeypatch):
    from rewact_ros.data.dataset import reader as module

    monkeypatch.setattr(module, "check_dataset", lambda root: None)
    for part in ("videos", "data", "meta/episodes"):
        shutil.rmtree(root / part)
        with pytest.raises(DatasetError, match="misses a part of it"):
            open_dataset(root)
    assert not no_network


def test_no_other_module_opens_a_dataset():
    """LeRobot's own doors ask the Hub; writing a new dataset does not."""
    package, found = Path(__file__).parents[1], []
    for folder in ("rewact_ros", "benchmarks", "examples"):
        for file in (package / folder).rglob("*.py"):
            text = file.read_text()
            for name in ("LeRobotDataset(", "LeRobotDatasetMetadata(", "make_dataset("):
                if name in text and file.parts[-2:] != ("dataset", "reader.py"):
                    found.append((str(file), name))
    assert not found


def other_folder(tmp_path: Path, whole: Path, kind: str) -> Path:
    folder = tmp_path / "folder"
    if kind == "file":
        folder.write_text("x")
        return folder
    if kind == "gone":
        return folder
    folder.mkdir()
    if kind == "bag":
        (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    elif kind == "bags":
        (folder / "one").mkdir()
        (folder / "one" / "one_0.mcap").touch()
    elif kind == "checkpoint":
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").touch()
    elif kind == "above":
        shutil.copytree(whole, folder / "tiny")
    elif kind == "v1":
        (folder / "meta_data").mkdir()
    return folder


OTHER = {
    "file": "it is a file",
    "gone": "no such folder; nothing is fetched from the Hub",
    "empty": "the folder is empty",
    "bag": "rewact export",
    "bags": "rewact export",
    "checkpoint": "it is a checkpoint",
    "above": "give one, e.g. .*/folder/tiny",
    "v1": "LeRobot 0.6 converts from v2.1 only",
}


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_no_dataset_is_told_what_it_is(kind, tmp_path, whole):
    folder = other_folder(tmp_path, whole, kind)
    with pytest.raises(DatasetError, match=f"no LeRobotDataset here: .*{OTHER[kind]}"):
        open_dataset(folder)
    assert kind != "gone" or not folder.exists()


def test_a_part_of_a_dataset_is_told_whose(whole):
    with pytest.raises(DatasetError, match=f"it is a part of one; give {whole}$"):
        open_dataset(whole / "data")


INFO = {
    "fps 0": ({"fps": 0}, "fps: expected frames per second above 0, got 0"),
    "fps text": ({"fps": "30"}, "fps: expected frames per second above 0, got '30'"),
    "fps nan": ({"fps": float("nan")}, "fps: expected .* got nan"),
    "fps true": ({"fps": True}, "fps: expected .* got True"),
    "episodes": ({"total_episodes": 3}, "meta/episodes: expected 3 episodes .*, got 2; copy meta"),
    "episodes text": ({"total_episodes": "2"}, "total_episodes: expected a whole number"),
    "no episodes": ({"total_episodes": 0}, "total_episodes: expected .* at least 1, got 0"),
    "frames": ({"total_frames": 13}, "data: expected 13 frames .*, got 12; copy data and meta"),
    "features": ({"features": []}, "features: expected an object of features, got list"),
    "up": ({"video_path": "../{video_key}.mp4"}, "video_path: expected a path in the dataset"),
    "absolute": ({"video_path": "/etc/{video_key}"}, "video_path: expected a path in the dataset"),
    "attribute": ({"video_path": "{video_key.__class__}"}, "video_path: expected a path"),
    "index": ({"video_path": "{video_key[0]}"}, "video_path: expected a path"),
    "conversion": ({"video_path": "{video_key!r}"}, "video_path: expected a path"),
    "nested": ({"video_path": "{file_index:{chunk_index}}"}, "video_path: expected a path"),
    "padding": ({"data_path": "{file_index:0999999999d}"}, "data_path: expected a path"),
    "position": ({"data_path": "{}/{0}"}, "data_path: expected a path"),
    "broken": ({"data_path": "{file_index"}, "data_path: expected a path"),
    "null": ({"video_path": None}, "video_path: expected a path"),
    "newer": ({"codebase_version": "v4.0"}, "codebase_version: expected v3.0, got 'v4.0'"),
    "v2.0": ({"codebase_version": "v2.0"}, "got 'v2.0'; LeRobot 0.6 converts from v2.1 only"),
    "v1.6": ({"codebase_version": "v1.6"}, "got 'v1.6'; LeRobot 0.6 converts from v2.1 only"),
    "no version": ({"codebase_version": None}, "codebase_version: expected v3.0, got None"),
}


@pytest.mark.parametrize("case", INFO)
def test_a_description_that_no_dataset_has_is_refused_by_key(root, case):
    changes, words = INFO[case]
    edit_info(root, **changes)
    with pytest.raises(DatasetError, match=words):
        open_dataset(root)


FEATURES = {
    "shape": ("action", {"shape": [0]}, r"action: shape: expected 1 to 5 sizes above 0, got \[0\]"),
    "shape text": ("action", {"shape": "2"}, "action: shape: expected .* got '2'"),
    "shape huge": ("action", {"shape": [10**6, 10**6]}, "action: shape: expected at most"),
    "shape other": ("action", {"shape": [3]}, "LeRobot cannot read it: .*types and shapes"),
    "called": ("action", {"dtype": "show_versions"}, "action: dtype: expected .*'show_versions'"),
    "dtype": ("action", {"dtype": ["x"]}, "action: dtype: expected"),
    "absent": ("more", {"dtype": "float32", "shape": [1]}, "has no column more"),
    "slash": ("../x", {"dtype": "float32", "shape": [1]}, "'../x' is no name of a feature"),
    "axes": (CAMERA, {"names": None}, f"{CAMERA}: names: expected height, width and channels"),
}


@pytest.mark.parametrize("case", FEATURES)
def test_a_feature_that_no_dataset_has_is_refused_by_name(root, case):
    key, changes, words = FEATURES[case]
    edit_feature(root, key, **changes)
    with pytest.raises(DatasetError, match=words):
        open_dataset(root)


DAMAGE = {
    "info text": ("meta/info.json", b"{", r"meta/info\.json: .*JSON"),
    "info list": ("meta/info.json", b"[]", "expected a JSON object, got list"),
    "info deep": ("meta/info.json", b"[" * 100_000, "too many levels inside one another"),
    "info binary": ("meta/info.json", b"\xff\xfe\x00", r"meta/info\.json: .*JSON"),
    "stats": ("meta/stats.json", b"{", r"meta/stats\.json: .*JSON"),
    "data": ("data/chunk-000/file-000.parquet", b"PAR1", "file-000.parquet cannot be read"),
    "lfs": (
        "data/chunk-000/file-000.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "pointer of Git LFS; run `git lfs pull`",
    ),
    "tasks": ("meta/tasks.parquet", b"", "tasks.parquet cannot be read"),
    "video empty": (f"videos/{CAMERA}/chunk-000/file-000.mp4", b"", "file-000.mp4 is empty"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_named(root, case):
    name, content, words = DAMAGE[case]
    (root / name).write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        open_dataset(root)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_video_cut_short_is_named_before_any_frame_is_needed(root, share):
    content = video_file(root).read_bytes()
    video_file(root).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"file-000\.mp4 (is cut short|has no index)"):
        open_dataset(root)


def test_a_table_cut_in_its_pages_is_named(root):
    content = bytearray(data_file(root).read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    data_file(root).write_bytes(content)
    with pytest.raises(DatasetError, match=r"data/chunk-000/file-000\.parquet|cannot read it"):
        open_dataset(root)


def test_episodes_that_do_not_follow_each_other_are_refused(root):
    def shuffle(table: pa.Table) -> pa.Table:
        return table.take([1, 0])

    edit_table(episodes_file(root), shuffle)
    with pytest.raises(DatasetError, match="meta/episodes: episode_index: .*row 0"):
        open_dataset(root)


def test_rows_of_another_episode_than_said_are_refused(root):
    edit_table(data_file(root), lambda table: table.take([*range(4), 5, 4, *range(6, 12)]))
    with pytest.raises(DatasetError, match="data: row 4: expected episode 0 .*got 1"):
        open_dataset(root)


def test_statistics_that_are_missing_or_no_numbers_do_not_matter(root):
    file = root / "meta" / "stats.json"
    stats = json.loads(file.read_text())
    stats["action"]["mean"] = [float("nan"), float("inf")]
    file.write_text(json.dumps(stats))
    data = load_demonstrations(root)
    assert all(
        v.isfinite().all() for s in data.stats(data.rows([0]), 0.01).values() for v in s.values()
    )
    file.unlink()
    assert len(load_demonstrations(root).state) == 12


TYPES = {
    "_type": {"info": {"features": {"index": {"_type": "Pdf"}}}},
    "module": {"info": {"features": {"index": {"_type": "ABCMeta", "name": "x"}}}},
    "dtype": {"info": {"features": {"index": {"_type": "Value", "dtype": "show_versions"}}}},
    "deep": {"info": {"features": {"x": {"_type": "List", "feature": {"_type": "Audio"}}}}},
}


@pytest.mark.parametrize("case", TYPES)
@pytest.mark.parametrize("file", [data_file, episodes_file], ids=["data", "episodes"])
def test_a_type_that_metadata_names_is_not_looked_up(root, case, file, capfd):
    note = {b"huggingface": json.dumps(TYPES[case]).encode()}
    edit_table(file(root), lambda table: table.replace_schema_metadata(note))
    with pytest.raises(DatasetError, match=r"parquet: (_type|dtype) .*no type of a LeRobotDataset"):
        open_dataset(root)
    assert "pyarrow version" not in capfd.readouterr().out


def test_a_pickle_in_a_tables_schema_is_refused(root):
    def plant(table: pa.Table) -> pa.Table:
        note = {b"ARROW:extension:name": b"arrow.py_extension_type"}
        note[b"ARROW:extension:metadata"] = b"cposix\nsystem\n(S'true'\ntR."
        fields = [f.with_metadata(note) if f.name == "index" else f for f in table.schema]
        return table.cast(pa.schema(fields, table.schema.metadata))

    edit_table(data_file(root), plant)
    with pytest.raises(DatasetError, match="column index: arrow.py_extension_type"):
        open_dataset(root)


@pytest.mark.parametrize("name", ["set[1]", "set*", "a?b", "zip::x"])
def test_a_folder_whose_name_is_a_pattern_is_not_searched_for(whole, tmp_path, name, no_network):
    root = shutil.copytree(whole, tmp_path / name)
    with pytest.raises(DatasetError, match="takes .* for a pattern; rename it"):
        open_dataset(root)
    link = tmp_path / "link"
    link.symlink_to(root)
    assert len(open_dataset(link)) == 12
    assert not no_network


def test_the_command_that_a_v21_dataset_is_told_converts_it(
    tmp_path, whole, monkeypatch, no_network
):
    root = as_v21(whole, tmp_path / "old set")
    with pytest.raises(DatasetError, match="expected v3.0, got 'v2.1'; convert it") as refusal:
        open_dataset(root)
    command = shlex.split(str(refusal.value).split("old set_old): ")[1])
    assert command[:2] == [sys.executable, "-m"]
    monkeypatch.setattr(sys, "argv", command[2:])
    runpy.run_module(command[2], run_name="__main__")
    assert open_dataset(root).meta.total_frames == 12
    assert (tmp_path / "old set_old" / "meta" / "info.json").exists()
    assert not no_network


def as_v21(whole: Path, root: Path) -> Path:
    """The dataset as LeRobot v2.1 wrote it: a table and a video per episode, JSON lines."""
    source = LeRobotDataset("local/tiny", root=whole, video_backend="pyav")
    info = json.loads((whole / "meta" / "info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "total_videos": 2,
        "total_chunks": 1,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    videos = root / "videos" / "chunk-000" / CAMERA
    videos.mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    table = pq.read_table(data_file(whole)).replace_schema_metadata(None)
    stats = pq.read_table(episodes_file(whole)).to_pylist()
    lines: dict[str, list[dict]] = {"episodes": [], "episodes_stats": [], "tasks": []}
    lines["tasks"].append({"task_index": 0, "task": "tiny"})
    for index, row in enumerate(stats):
        begin, end = row["dataset_from_index"], row["dataset_to_index"]
        part = table.slice(begin, end - begin)
        pq.write_table(part, root / "data" / "chunk-000" / f"episode_{index:06d}.parquet")
        shutil.copy(video_file(whole), videos / f"episode_{index:06d}.mp4")
        lines["episodes"].append({"episode_index": index, "tasks": ["tiny"], "length": end - begin})
        own: dict[str, dict] = {}
        for key, value in row.items():
            if key.startswith("stats/"):
                own.setdefault(key.split("/")[1], {})[key.split("/")[2]] = value
        lines["episodes_stats"].append({"episode_index": index, "stats": own})
    for name, rows in lines.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "meta" / f"{name}.jsonl").write_text(text)
    assert source.meta.total_episodes == len(stats)
    return root


@pytest.mark.skipif(not G1_BOTTLE.is_dir(), reason=f"no recorded data set at {G1_BOTTLE}")
def test_a_recorded_dataset_opens_and_its_damage_is_named(tmp_path, no_network):
    root = Path(shutil.copytree(G1_BOTTLE, tmp_path / "g1", ignore=shutil.ignore_patterns("*.mp4")))
    with pytest.raises(DatasetError, match=r"cam_high/chunk-000/file-000\.mp4 is missing"):
        open_dataset(root)
    shutil.rmtree(root / "videos")
    (root / "videos").symlink_to(G1_BOTTLE / "videos")
    assert open_dataset(root).meta.total_frames == 10128
    assert not no_network


@pytest.mark.parametrize("axes", ["HWC", "CHW", "WHC"])
def test_a_cameras_layout_follows_its_axes_names(axes):
    sizes = {"H": 3, "W": 1, "C": 3}  # a size does not tell the axes apart
    words = {"H": "height", "W": "width", "C": "channel"}
    feature = {"shape": [sizes[a] for a in axes], "names": [words[a] for a in axes]}
    assert image_shape(CAMERA, feature) == (3, 1, 3)


@pytest.mark.parametrize("names", [None, [], ["a", "b", "c"], ["height", "height", "width"], "hwc"])
def test_a_camera_without_named_axes_is_not_guessed(names):
    with pytest.raises(ContractError, match=f"{CAMERA}: names: expected height, width and"):
        image_shape(CAMERA, {"shape": [3, 480, 640], "names": names})


def test_pictures_stored_channel_first_are_read_and_decoded_upright(pictures, tmp_path):
    data = load_demonstrations(pictures)
    assert data.camera_shapes == {CAMERA: (3, 32, 48)}
    data.decode(None, [0, 1], tmp_path, progress=False)
    assert data.frames[CAMERA].shape == (12, 32, 48, 3)
    data_on_demand = load_demonstrations(pictures)
    data_on_demand.decode_on_demand(None)
    for frames in (data.frames[CAMERA][:3], data_on_demand.frames[CAMERA][np.arange(3)]):
        assert frames[0, 4, 10].tolist() == [250, 0, 0]
        assert frames[0, 20, 10].tolist() == [0, 0, 0]
    row, image = next(decode_episodes(data.source, CAMERA, [1]))
    assert (row, image.shape) == (5, (32, 48, 3))


def test_a_picture_that_lies_elsewhere_is_not_fetched(pictures, tmp_path, no_network):
    root = Path(shutil.copytree(pictures, tmp_path / "tiny"))
    secret = tmp_path / "secret.png"
    shutil.copy(Path(__file__).parents[1] / "docs" / "images" / "episode.png", secret)

    def point(table: pa.Table) -> pa.Table:
        places = ["https://example.org/x.png", str(secret)] * 6
        column = pa.array([{"bytes": None, "path": place} for place in places])
        index = table.column_names.index(CAMERA)
        return table.set_column(index, table.schema.field(CAMERA).with_type(column.type), column)

    edit_table(data_file(root), point)
    read = stored_pictures(open_dataset(root), CAMERA)
    for row in (0, 1):
        with pytest.raises(DatasetError, match=f"{CAMERA}: row {row}: no picture is stored"):
            read(row)
    assert not no_network


def test_a_picture_of_another_size_or_kind_is_refused(pictures, tmp_path):
    import io

    from PIL import Image

    root = Path(shutil.copytree(pictures, tmp_path / "tiny"))
    contents = []
    for kind, size in (("PNG", (48, 16)), ("EPS", (48, 32))):
        stream = io.BytesIO()
        Image.new("RGB", size).save(stream, kind)
        contents.append(stream.getvalue())

    def plant(table: pa.Table) -> pa.Table:
        column = pa.array([{"bytes": content, "path": "x.png"} for content in contents * 6])
        index = table.column_names.index(CAMERA)
        return table.set_column(index, table.schema.field(CAMERA).with_type(column.type), column)

    edit_table(data_file(root), plant)
    read = stored_pictures(open_dataset(root), CAMERA)
    with pytest.raises(DatasetError, match="row 0: expected 48x32 px"):
        read(0)
    with pytest.raises(DatasetError, match="row 1: cannot identify"):
        read(1)


CALLERS = {
    "train": ["train", "--dataset", "SET", "--out", "OUT"],
    "visualise": ["visualise", "--dataset", "SET", "--out", "OUT"],
    "label": ["label", "--dataset", "SET", "--ramp"],
    "label-frames": ["label-frames", "--dataset", "SET"],
    "train-classifier": ["train-classifier", "--dataset", "SET", "--out", "OUT"],
    "from-dataset": ["bag", "from-dataset", "SET", "--contract", str(VX300S), "--out", "OUT"],
    "some bags": [
        *["bag", "from-dataset", "SET", "--contract", str(VX300S), "--out", "OUT"],
        *["--episodes", "0"],
    ],
}


@pytest.mark.parametrize("caller", CALLERS)
def test_every_command_names_a_missing_part_in_a_line(
    caller, root, tmp_path, no_network, monkeypatch, capsys
):
    shutil.rmtree(root / "meta" / "episodes")
    words = [{"SET": str(root), "OUT": str(tmp_path / "out")}.get(w, w) for w in CALLERS[caller]]
    monkeypatch.setattr(sys, "argv", ["rewact", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err.strip()
    expected = "meta/episodes/chunk-000/file-000.parquet is missing"
    if "--contract" in words:
        expected = "does not fit the contract"
    assert said.startswith("error: ") and expected in said and "\n" not in said
    assert not no_network


def test_a_set_of_no_episodes_has_a_description_only(root):
    assert read_info(root)["total_episodes"] == 2
