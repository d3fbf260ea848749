"""`rewact visualise --rerun`: what an episode holds is in the file, or the package is named."""

import sys
from collections import defaultdict

import numpy as np
import pytest
from conftest import run_command, write_policy
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from std_msgs.msg import Float64MultiArray
from test_bags import START_NS, contract_of, recording, write_bag
from test_visualise import FRAMES, write_dataset

from rewact_ros.data.bags.episode_file import EpisodeRecord, write_episode
from rewact_ros.data.bags.reader import Bag
from rewact_ros.data.video.rerun_file import RerunFile
from rewact_ros.learning.evaluation.rerun_views import view_bag, view_dataset
from rewact_ros.msg import ControlStatus, EpisodeEvent, SupervisorStatus
from rewact_ros.policy.checkpoint import load_policy


@pytest.fixture
def reader():
    """Rerun's own reader: rows by entity, as (time in s or None, {component: value})."""
    experimental = pytest.importorskip("rerun.experimental")

    def read(path):
        rows = defaultdict(list)
        file = experimental.RrdReader(str(path))
        assert len(file.recordings()) == 1 and len(file.blueprints()) == 1
        for chunk in file.stream():
            table = chunk.to_record_batch().to_pydict()
            times = table.pop("episode", None)
            for i in range(chunk.num_rows):
                time_s = None if times is None else times[i].total_seconds()
                values = {
                    name.rpartition(":")[2]: value[i]
                    for name, value in table.items()
                    if value[i] is not None
                }
                rows[str(chunk.entity_path)].append((time_s, values))
        return {path: sorted(found, key=lambda row: row[0] or 0.0) for path, found in rows.items()}

    return read


def scalars(rows):
    return [(time_s, values["scalars"]) for time_s, values in rows]


def lines(rows):
    return [values["text"][0] for _, values in rows if "text" in values]


def test_without_the_package_the_extra_is_named_before_anything_is_read(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(sys.modules, "rerun", None)
    target = tmp_path / "a.rrd"
    words = ("visualise", "--dataset", tmp_path / "none", "--rerun", target)
    assert run_command(monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert "pip install 'rewact_ros[rerun]'" in said and said.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize("more", [("--sim", "--policy", "x"), ("--bag", "x", "--out", "y.mp4")])
def test_what_rerun_does_not_go_with_is_told(more, monkeypatch, tmp_path, capsys):
    assert run_command(monkeypatch, "visualise", "--rerun", tmp_path / "a.rrd", *more) == 2
    assert "--rerun: expected --dataset, --bag or --live, and no --out" in capsys.readouterr().err


@pytest.fixture(scope="module")
def dataset(vx300s, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "noise", vx300s)


def test_a_dataset_is_written_and_read_back(reader, dataset, vx300s, tmp_path, monkeypatch, capsys):
    words = ("visualise", "--dataset", dataset.root, "--episodes", "0:2", "--rerun", tmp_path)
    assert run_command(monkeypatch, *words) == 0
    assert "episode-000001.rrd (14 frames)\n" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "episode-000000.rrd", "episode-000001.rrd",
    ]  # fmt: skip
    rows = reader(tmp_path / "episode-000001.rrd")
    for camera in ("front", "wrist"):
        found = rows[f"/cameras/{camera}"]
        assert [time_s for time_s, _ in found] == pytest.approx([k / 20 for k in range(FRAMES)])
        assert bytes(found[0][1]["blob"][0])[:3] == b"\xff\xd8\xff"  # JPEG
    table = dataset.hf_dataset.with_format("numpy")[FRAMES : 2 * FRAMES]
    joints = [values for _, values in scalars(r for r in rows["/joints"] if "scalars" in r[1])]
    np.testing.assert_allclose(joints, table["observation.state"], rtol=1e-6)
    names = next(values["names"] for _, values in rows["/joints"] if "names" in values)
    assert tuple(names) == vx300s.state_names
    commands = [values for _, values in rows["/commands"] if "scalars" in values]
    assert len(commands) == FRAMES and len(commands[0]["scalars"]) == len(vx300s.action_names)
    labels = scalars(rows["/progress/label"])
    assert len(labels) == FRAMES - 1  # one is unknown, and absent
    assert labels[-1][1] == [1.0] and "/progress/q10" not in rows
    assert lines(rows["/events"]) == ["task: none"]
    (outcome,) = [values["text"][0] for _, values in rows["/outcome"]]
    assert outcome.startswith("unknown: the dataset has no next.success")


def test_a_distributional_policy_adds_its_quantiles(reader, dataset, vx300s, tmp_path):
    head = {"reward_head": "distributional", "num_value_bins": 21}
    loaded = load_policy(write_policy(vx300s, tmp_path / "policy", **head), "cpu")
    view_dataset(dataset, 0, loaded, tmp_path / "a.rrd")
    rows = reader(tmp_path / "a.rrd")
    value, low, high = (
        [each for _, (each,) in scalars(rows[f"/progress/{name}"])]
        for name in ("predicted", "q10", "q90")
    )
    assert len(value) == FRAMES
    assert all(a <= b <= c for a, b, c in zip(low, value, high, strict=True))


def test_a_dataset_without_cameras_and_with_outcomes_is_shown(reader, tmp_path):
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "intervention": {"dtype": "bool", "shape": (1,), "names": None},
        "control_mode": {"dtype": "int64", "shape": (1,), "names": None},
    }
    made = LeRobotDataset.create("local/bare", 10, features, root=tmp_path / "set")
    for k in range(6):
        made.add_frame(
            {
                "observation.state": np.array([k, -k], np.float32),
                "next.success": np.array([k == 5]),
                "intervention": np.array([2 <= k < 4]),
                "control_mode": np.array([3 if 2 <= k < 4 else 2], np.int64),
                "task": "tidy up",
            }
        )
    made.save_episode()
    made.finalize()
    view_dataset(LeRobotDataset("local/bare", root=tmp_path / "set"), 0, None, tmp_path / "a.rrd")
    rows = reader(tmp_path / "a.rrd")
    assert "/commands" not in rows and len(rows["/joints"]) == 7  # and the names
    events = [(time_s, values["text"][0]) for time_s, values in rows["/events"]]
    assert (0.2, "a person leads: yes") in [(round(t, 3), said) for t, said in events]
    said = [said for _, said in events]
    assert {"task: tidy up", "a person leads: no", "HUMAN", "POLICY"} <= set(said)
    assert [values["text"][0] for _, values in rows["/outcome"]] == ["success"]


def test_a_bag_is_written_and_read_back(reader, tmp_path, monkeypatch):
    ns, messages = START_NS, [*recording()]
    for k in range(20):
        messages.append(("/commands", ns + k * 10**7, Float64MultiArray(data=[0.1 * k, -0.1])))
    messages.append(("/commands", ns + 10**6, Float64MultiArray(data=[1.0])))  # fits nothing
    for k, alarms in enumerate(([], ["stalled"], ["stalled"], [])):
        status = SupervisorStatus(alarms=alarms)
        messages.append(("/rewact/supervisor_status", ns + k * 10**8, status))
    control = ControlStatus(mode=1, reason="cameras are old\x1b[2J", resume_required=True)
    messages += [("/rewact/control_status", ns + k * 10**8, control) for k in range(3)]
    verdict = EpisodeEvent(event=4, outcome=1, task="wipe", termination_reason="progress")
    messages.append(("/rewact/episode_event", ns + 4 * 10**8, verdict))
    folder = write_bag(tmp_path / "bag", messages)
    record = EpisodeRecord("bag", outcome="success", termination_reason="progress", by="ada")
    write_episode(folder, record)
    with Bag(folder) as bag:
        film = view_bag(bag, contract_of(), None, tmp_path / "a.rrd")
    assert film.frames == 12
    rows = reader(tmp_path / "a.rrd")
    assert len(rows["/cameras/front"]) == 12
    assert len([1 for _, values in rows["/joints"] if "scalars" in values]) == 12
    commands = [values["scalars"] for _, values in rows["/commands"] if "scalars" in values]
    assert len(commands) == 20 and commands[3] == pytest.approx([0.3, -0.1])
    recorded = scalars(rows["/progress/recorded"])
    assert [round(time_s * 20) for time_s, _ in recorded] == list(range(12))
    assert recorded[6][1] == [0.5]
    assert {tuple(v) for _, v in scalars(rows["/progress/q90"])} == {(1.0,)}
    assert lines(rows["/events"]) == [
        "HOLD: cameras are old\\x1b[2J", "alarms: stalled", "alarms: none",
        "episode: verdict, progress, task: wipe",
    ]  # fmt: skip
    levels = [values["level"][0] for _, values in rows["/events"]]
    assert levels == ["WARN", "WARN", "INFO", "INFO"]
    (outcome,) = [values["text"][0] for _, values in rows["/outcome"]]
    assert outcome == "success (progress), judged by ada"


def test_an_interrupted_recording_leaves_no_file(reader, tmp_path):
    with pytest.raises(KeyboardInterrupt), RerunFile(tmp_path / "a.rrd", "a", []) as out:
        out.event(0.0, "begun")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with RerunFile(tmp_path / "b.rrd", "b", ["a/b c"]) as out:
        out.pictures(0.5, {"a/b c": np.zeros((4, 4, 3), np.uint8)})
    (entity,) = [path for path in reader(tmp_path / "b.rrd") if path.startswith("/cameras")]
    assert entity == "/cameras/a\\/b\\ c"  # a slash in a name makes no tree
