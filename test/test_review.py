"""Recorded episodes reviewed: listed, looked at, judged and marked, by people and over HTTP."""

import asyncio
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_bag_writer import as_tuples, messages, write_bag
from test_export import START_NS, record, session
from test_labelling import LENGTHS, write_dataset

from rewact_ros.console.guard import Guard
from rewact_ros.console.review import Review
from rewact_ros.console.server import PAGE, Console
from rewact_ros.console.sessions import Sessions
from rewact_ros.control.modes import Mode
from rewact_ros.data.bags.episode_file import read_episode, write_episode
from rewact_ros.data.bags.episode_labels import annotate_episode, label_episode, restore_episode
from rewact_ros.data.bags.mcap_scan import scan
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.bags.writer import WriterSettings
from rewact_ros.data.labels.plan import keypoint_file, plan_labels
from rewact_ros.data.labels.settings import MARKS_FILE, LabelSettings
from rewact_ros.data.labels.write import open_labelled, write_labels
from rewact_ros.data.review import bag_look
from rewact_ros.data.review.library import Library
from rewact_ros.data.review.rows import DAMAGED, RECORDING, ReviewError, UnknownEpisodeError
from rewact_ros.data.review.series import MOST_POINTS, Collected, thin
from rewact_ros.msg import EpisodeEvent, SupervisorStatus
from rewact_ros.reward.label_file import read_label_file
from rewact_ros.ros.convert import to_stamp

TOKEN = "a-token-of-a-test"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[2J"
MS, PERIOD = 1_000_000, 50_000_000
MODES = [Mode.POLICY] * 8 + [Mode.HUMAN] * 6 + [Mode.POLICY] * 6 + [Mode.HUMAN] * 10


def worked_bag(folder, **fields):
    """Thirty frames at 20 Hz: two turns of a person, an alarm twice, three pictures missing."""
    told = [
        item
        for item in session(modes=MODES)
        if item[0] != "/front/image_raw" or not 9 <= (item[1] - START_NS) // PERIOD < 12
    ]
    for k, alarms in ((0, []), (5, ["stall"]), (8, ["stall"]), (10, []), (20, ["stall", "drop"])):
        ns = START_NS + k * PERIOD + 7 * MS
        told.append(("/rewact/supervisor_status", ns, SupervisorStatus(alarms=alarms)))
    verdict = EpisodeEvent(event=EpisodeEvent.VERDICT, outcome=1, detail=HOSTILE)
    verdict.header.stamp = to_stamp(START_NS)
    told.append(("/rewact/episode_event", START_NS + 29 * PERIOD, verdict))
    topics = {"/joint_states": {"type": "x", "received": 60, "dropped": 4}}
    return record(folder, told, topics=topics, **fields)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return worked_bag(tmp_path_factory.mktemp("worked") / "ep")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("original") / "tiny")


@pytest.fixture
def bags(bag, tmp_path):
    """A folder with one recording."""
    shutil.copytree(bag, tmp_path / "bags" / "ep")
    return tmp_path / "bags"


@pytest.fixture
def datasets(dataset, tmp_path):
    """A folder with one dataset of three episodes, unlabelled, at 10 Hz."""
    shutil.copytree(dataset, tmp_path / "datasets" / "tiny")
    return tmp_path / "datasets"


@pytest.fixture
def open_library():
    opened = []

    def make(bags=None, datasets=None):
        opened.append(Library(bags, datasets))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def counted(library, **question):
    """The list, once everything is counted."""
    done = threading.Event()
    for _ in range(3000):
        page = library.page(**question)
        if not page.pending:
            return page
        done.wait(0.01)
    raise AssertionError("nothing is counted")


def rows_of(library, **question):
    return {row.name: row for row in counted(library, **question).rows}


def look(library, id_):
    return json.loads(library.look(id_))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Curves -------------------------------------------------------------------------------------------


def test_a_thinned_curve_keeps_every_peak_and_few_points():
    rng = np.random.default_rng(0)
    times, values = np.sort(rng.random(300_000)) * 60, rng.normal(size=300_000)
    values[123_456], values[234_567] = 50.0, -50.0
    t, v = thin(times, values, (0.0, 60.0))
    assert len(t) <= MOST_POINTS and (np.diff(t) >= 0).all()
    assert {50.0, -50.0} <= set(v.tolist())
    for slice_s in np.arange(0, 60, 60 / (MOST_POINTS // 2)):  # each slice's own peaks, too
        inside = (times >= slice_s) & (times < slice_s + 60 / (MOST_POINTS // 2))
        kept = (t >= slice_s) & (t < slice_s + 60 / (MOST_POINTS // 2))
        assert v[kept].max(initial=-99) == values[inside].max(initial=-99)
    short = thin(times[:2000], values[:2000], (0.0, 60.0))
    np.testing.assert_array_equal(short[1], values[:2000])


def test_rows_made_few_as_they_come_are_as_if_made_few_at_once():
    rng = np.random.default_rng(1)
    times, values = np.arange(70_000) / 1000, rng.normal(size=(70_000, 2))
    collected = Collected(("a", "b"), (0.0, 70.0))
    for t, row in zip(times, values, strict=True):
        collected.add(t, row)
    for k, series in enumerate(collected.series()):
        at_once = thin(times, values[:, k], (0.0, 70.0))
        np.testing.assert_allclose(series["t"], at_once[0], atol=1e-3)
        np.testing.assert_allclose(series["v"], at_once[1], rtol=1e-5)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_few_messages_read_by_the_index_are_those_of_the_whole_file(tmp_path, compression):
    given = list(messages(300, image_bytes=60_000))
    folder = write_bag(tmp_path / "ep", given, WriterSettings(compression=compression))
    wanted = {"/joint_states", "/rewact/reward"}
    expected = [m for m in as_tuples(given) if m[0] in wanted]
    with Bag(folder, sparse=True) as sparse, Bag(folder) as whole:
        found = [(m.topic, m.logged_ns) for m in sparse.messages(wanted)]
        assert found == [m[:2] for m in expected]
        late = given[150].log_ns
        parts = [
            [repr(m.body) for m in bag.messages(wanted, late, late + 10**9)]
            for bag in (sparse, whole)
        ]
        assert parts[0] == parts[1] and parts[0]
        times = sparse.times("/joint_states")
        assert times.tolist() == [m[1] for m in expected if m[0] == "/joint_states"]
        assert len(sparse.times("/none")) == 0


def test_an_index_that_names_another_place_is_told_and_nothing_is_made_of_it(tmp_path):
    folder = write_bag(tmp_path / "ep", list(messages(30)))
    path = folder / "ep_0.mcap"
    chunk = next(c for c in scan(path).chunks if c.offsets)
    entry = min(chunk.offsets.values()) + 15 + 8  # behind opcode, length, channel, size and time
    data = bytearray(path.read_bytes())
    data[entry : entry + 8] = (5).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(BagError, match="index"), Bag(folder, sparse=True) as bag:
        list(bag.messages(bag.topics))


# The list -----------------------------------------------------------------------------------------


def test_the_list_tells_outcome_duration_alarms_gaps_and_interventions(bags, open_library):
    row = rows_of(open_library(bags))["ep"]
    assert (row.outcome, row.task, row.state) == ("success", "touch", "ok")
    assert row.duration_s == pytest.approx(29 * 0.05 + 0.043, abs=0.02)
    assert (row.alarms, row.lost, row.missing, row.interventions) == (3, 4, 3, 2)


def test_the_list_of_a_dataset_counts_by_its_columns(datasets, open_library):
    rows = rows_of(open_library(datasets=datasets))
    assert [*rows] == ["episode 2", "episode 1", "episode 0"]
    assert {row.outcome for row in rows.values()} == {"unlabelled"}
    assert rows["episode 1"].duration_s == LENGTHS[1] / 10
    assert rows["episode 1"].missing == 0 and rows["episode 1"].alarms is None


def test_the_list_comes_in_the_order_and_the_part_that_was_asked_for(bags, datasets, open_library):
    library = open_library(bags, datasets)
    counted(library)
    lasts = [row.duration_s for row in library.page(sort="duration_s", descending=False).rows]
    assert lasts == sorted(lasts) and len(lasts) == 4
    assert [row.name for row in library.page(1, 3, "duration_s").rows] == ["episode 2"]
    assert library.page(where={"outcome": "success"}).total == 1
    assert library.page(where={"source": "tiny"}).total == 3
    assert library.page(where={"text": "TOUCH"}).total == 1
    # What is not known comes last, whichever way round.
    for down in (True, False):
        assert library.page(sort="alarms", descending=down).rows[0].name == "ep"
    for wrong in ({"sort": "id"}, {"number": -1}, {"size": 100_000}):
        with pytest.raises(ReviewError):
            library.page(**wrong)


def test_a_dataset_itself_is_listed_and_one_deeper_below_is_found(datasets, open_library):
    assert counted(open_library(datasets=datasets / "tiny")).total == 3
    shutil.move(datasets / "tiny", datasets / "robots" / "tiny")
    (source,) = counted(open_library(datasets=datasets)).sources
    assert (source["name"], source["n"]) == ("robots/tiny", 3)


def test_a_recording_that_is_being_written_is_listed_and_never_opened(
    bags, open_library, monkeypatch
):
    write_episode(bags / "ep", replace(read_episode(bags / "ep"), ended_ns=None))

    def refuse(*given, **named):
        raise AssertionError("opened")

    monkeypatch.setattr(bag_look, "Bag", refuse)
    monkeypatch.setattr("rewact_ros.data.review.open_bags.Bag", refuse)
    library = open_library(bags)
    row = rows_of(library)["ep"]
    assert row.state == RECORDING and "being recorded" in row.why and not row.editable
    before = tree(bags)
    for act in (
        lambda: library.look(row.id),
        lambda: library.picture(row.id, 0, 0.0),
        lambda: library.judge(row.id, "failure", "Ann"),
        lambda: library.take_back(row.id, "Ann"),
        lambda: library.annotate(row.id, "tag", ""),
    ):
        with pytest.raises(ReviewError, match="recorded"):
            act()
    assert tree(bags) == before


def test_what_is_damaged_is_named_and_the_rest_is_listed(bags, open_library):
    for name in ("cut", "label", "empty", "metadata"):
        shutil.copytree(bags / "ep", bags / name)
    mcap = next((bags / "cut").glob("*.mcap"))
    mcap.write_bytes(mcap.read_bytes()[: mcap.stat().st_size // 2])
    (bags / "label" / "episode.json").write_text("{")
    next((bags / "empty").glob("*.mcap")).write_bytes(b"")
    (bags / "metadata" / "metadata.yaml").write_text("a: [")
    library = open_library(bags)
    rows = rows_of(library)
    assert rows["ep"].state == "ok"
    for name, why in (
        ("cut", "cut off"),
        ("label", "JSON"),
        ("empty", "mcap"),
        ("metadata", "damaged"),
    ):
        assert rows[name].state == DAMAGED and re.search(why, rows[name].why), rows[name]
        with pytest.raises(ReviewError):
            library.look(rows[name].id)


def test_a_damaged_dataset_is_named_and_the_others_are_listed(datasets, open_library):
    shutil.copytree(datasets / "tiny", datasets / "torn")
    next((datasets / "torn" / "data").rglob("*.parquet")).write_bytes(b"PAR1")
    page = counted(open_library(datasets=datasets))
    torn = next(row for row in page.rows if row.source == "torn")
    assert torn.state == DAMAGED and "parquet" in torn.why
    assert sum(row.source == "tiny" for row in page.rows) == 3


def test_a_link_out_of_the_folder_is_not_followed(bags, datasets, tmp_path, open_library):
    library = open_library(bags, datasets)
    rows = rows_of(library)
    shutil.move(bags / "ep", tmp_path / "elsewhere")
    (bags / "linked").symlink_to(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", bags / "inside")
    mcap = next((bags / "inside").glob("*.mcap"))
    mcap.unlink()
    mcap.symlink_to(next((tmp_path / "elsewhere").glob("*.mcap")))
    data = next((datasets / "tiny" / "data").rglob("*.parquet"))
    shutil.move(data, tmp_path / "table")
    data.symlink_to(tmp_path / "table")
    (datasets / "away").symlink_to(tmp_path)
    found = rows_of(library)
    assert "linked" not in found and "ep" not in found
    assert found["inside"].state == DAMAGED and "link" in found["inside"].why
    for row in (found["inside"], rows["ep"], rows["episode 0"]):
        for act in (library.look, lambda id_: library.judge(id_, "failure", "Ann")):
            with pytest.raises((ReviewError, UnknownEpisodeError)):
                act(row.id)


def test_hostile_texts_arrive_printable(bags, open_library):
    record_ = replace(read_episode(bags / "ep"), task=HOSTILE, by=HOSTILE, tag="x")
    write_episode(bags / "ep", record_)
    library = open_library(bags)
    row = rows_of(library)["ep"]
    told = look(library, row.id)
    texts = [row.task, row.by, *(each["text"] for each in told["happenings"])]
    assert any("onerror" in text for text in texts[2:])
    assert all(text.isprintable() for text in texts)


# One episode --------------------------------------------------------------------------------------


def test_a_recording_shows_its_joints_commands_progress_events_and_turns(bags, open_library):
    library = open_library(bags)
    told = look(library, rows_of(library)["ep"].id)
    groups = {group["name"]: group for group in told["groups"]}
    assert [*groups] == ["progress", "joints", "commands"] and told["cameras"] == ["front"]
    value, q10, _ = groups["progress"]["series"]
    np.testing.assert_allclose(value["v"], np.arange(30) / 100, atol=1e-6)
    assert q10["v"] == [0.0] * 30
    a = groups["joints"]["series"][0]
    assert (a["name"], len(a["v"]), a["v"][2]) == ("a", 60, pytest.approx(0.01))
    assert groups["joints"]["title"] == "position [rad]"
    assert groups["commands"]["series"][0]["v"][:6] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 1])
    assert len(told["frames_ms"]) == 27 and told["span_s"] == pytest.approx(1.493, abs=0.02)
    kinds = [each["kind"] for each in told["happenings"]]
    assert kinds.count("alarm") == 3 and kinds.count("mode") == 4 and "episode" in kinds
    (first, second) = told["human_s"]
    assert first == [pytest.approx(0.4, abs=0.01), pytest.approx(0.7, abs=0.01)]
    assert second[1] == pytest.approx(told["span_s"], abs=1e-3)


def picture(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


def test_a_picture_is_the_newest_at_its_time(bags, open_library):
    library = open_library(bags)
    id_ = rows_of(library)["ep"].id
    told = look(library, id_)
    sent = [np.asarray(m.data).reshape(24, 32, 3) for t, _, m in session() if "image" in t]
    sent = [image for k, image in enumerate(sent) if not 9 <= k < 12]
    for place in (0, 5, 26):
        shown = picture(library.picture(id_, 0, told["frames_ms"][place] / 1000 + 1e-3))
        apart = [np.abs(shown - other).mean() for other in sent]
        assert int(np.argmin(apart)) == place
    assert library.picture(id_, 0, 0.0) == library.picture(id_, 0, 0.001)
    with pytest.raises(ReviewError, match="camera 1"):
        library.picture(id_, 1, 0.0)


def test_a_frame_of_a_video_is_the_one_of_its_time(datasets, open_library):
    library = open_library(datasets=datasets)
    id_ = rows_of(library)["episode 1"].id
    assert look(library, id_)["cameras"] == ["front"]
    for frame in (0, 7, 29):
        shown = picture(library.picture(id_, 0, frame / 10))
        assert abs(shown.mean() - 8 * frame % 256) < 4


def test_a_dataset_whose_videos_are_gone_shows_its_curves(datasets, open_library):
    shutil.rmtree(datasets / "tiny" / "videos")
    library = open_library(datasets=datasets)
    told = look(library, rows_of(library)["episode 1"].id)
    assert told["cameras"] == [] and "no pictures" in told["faults"][0]
    state = next(group for group in told["groups"] if group["name"] == "joints")
    assert [series["name"] for series in state["series"]] == ["a", "b"]
    assert state["series"][1]["v"] == list(range(30))


def test_a_dataset_without_any_camera_shows_its_curves(tmp_path, open_library):
    features = {
        key: {"dtype": "float32", "shape": (1,), "names": ["a"]}
        for key in ("observation.state", "action")
    }
    root = tmp_path / "datasets" / "blind"
    made = LeRobotDataset.create("local/blind", 10, features, root=root)
    for k in range(5):
        row = {key: np.array([k], np.float32) for key in features}
        made.add_frame({**row, "task": "blind"})
    made.save_episode()
    made.finalize()
    library = open_library(datasets=root.parent)
    told = look(library, rows_of(library)["episode 0"].id)
    assert told["cameras"] == [] and len(told["groups"]) == 2


def test_a_recording_without_a_contract_shows_what_its_types_tell(bags, open_library):
    write_episode(bags / "ep", replace(read_episode(bags / "ep"), contract=None))
    library = open_library(bags)
    id_ = rows_of(library)["ep"].id
    told = look(library, id_)
    assert {group["name"] for group in told["groups"]} == {"progress", "joints"}
    assert told["cameras"] == ["front/image_raw"] and library.picture(id_, 0, 0.5)


def test_a_large_recording_is_looked_at_without_its_pictures(tmp_path, open_library, monkeypatch):
    """Curves and counts touch no chunk: what is read is a small part of the file."""
    folder = tmp_path / "bags" / "big"
    folder.parent.mkdir()
    write_bag(folder, list(messages(600, image_bytes=200_000)))
    monkeypatch.setattr(
        "rewact_ros.data.bags.storage.content", lambda *given: pytest.fail("a whole chunk was read")
    )
    library = open_library(folder.parent)
    row = rows_of(library)["big"]
    assert row.state == "ok", row.why
    told = look(library, row.id)
    assert len(told["groups"]) == 2 and len(told["frames_ms"]) > 1


# Verdicts -----------------------------------------------------------------------------------------


def test_a_recordings_verdicts_can_be_gone_back_through_with_who_and_when(bags, open_library):
    library = open_library(bags)
    id_ = rows_of(library)["ep"].id
    first = read_episode(bags / "ep")
    library.judge(id_, "failure", "Ann")
    library.judge(id_, "success", "Bo", at_s=1.25)
    now = read_episode(bags / "ep")
    assert (now.outcome, now.by, now.succeeded_s) == ("success", "Bo", 1.25)
    library.take_back(id_, "Cy")
    now = read_episode(bags / "ep")
    assert (now.outcome, now.by, now.succeeded_s) == ("failure", "Ann", None)
    library.take_back(id_, "Cy")
    now = read_episode(bags / "ep")
    assert replace(now, history=[]) == first
    for entry, (replaced, taken) in zip(
        now.history, (("Ann", "failure"), ("Bo", "success")), strict=True
    ):
        assert (entry["replaced_by"], entry["taken_back"]) == (replaced, taken)
        assert entry["restored_by"] == "Cy"
        assert re.match(r"\d{4}-\d\d-\d\dT", entry["replaced_at"])
    with pytest.raises(ReviewError, match="no verdict before"):
        library.take_back(id_, "Cy")
    library.judge(id_, "failure", "Di")
    shown = look(library, id_)
    assert shown["row"]["outcome"] == "failure" and len(shown["history"]) == 3


def test_a_moment_is_that_of_a_success_only(bags, open_library):
    library = open_library(bags)
    id_ = rows_of(library)["ep"].id
    for outcome, at_s in (("failure", 1.0), ("maybe", None)):
        with pytest.raises(ReviewError):
            library.judge(id_, outcome, "Ann", at_s)


def test_changes_of_a_recording_at_once_are_all_there_afterwards(bags):
    """Three who label, each through a file of its own reading; none undoes another's."""
    folder, n = bags / "ep", 12

    def work(k):
        for _ in range(n):
            if k:
                label_episode(folder, ("success", "failure")[k - 1], f"person {k}")
            else:
                annotate_episode(folder, "tag", "note")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    found = read_episode(folder)
    assert len(found.history) == 2 * n and (found.tag, found.note) == ("tag", "note")
    for _ in range(2 * n):
        restore_episode(folder, "x")
    assert read_episode(folder).outcome == "success"


def test_tag_and_note_are_kept_and_shown_and_must_be_a_line(bags, datasets, open_library):
    library = open_library(bags, datasets)
    for name in ("ep", "episode 2"):
        id_ = rows_of(library)[name].id
        library.annotate(id_, "gripper", "slipped at the edge")
        row = rows_of(library, where={"text": "edge"})[name]
        assert (row.tag, row.note) == ("gripper", "slipped at the edge")
        for tag, note in (("x" * 41, ""), ("", "x" * 501), ("", "a\nb"), (HOSTILE, "")):
            with pytest.raises(ReviewError, match="printable line"):
                library.annotate(id_, tag, note)
        library.judge(id_, "failure", "Ann")  # leaves them as they are
        assert rows_of(library)[name].note == "slipped at the edge"


def success_of(root, episode):
    table = LeRobotDataset("local/tiny", root=root).hf_dataset.with_format("numpy")
    own = np.asarray(table["episode_index"]) == episode
    return [np.asarray(table[key])[own] for key in ("next.reward", "next.success")]


def test_a_datasets_verdict_is_written_as_labels_and_taken_back_label_by_label(
    datasets, open_library
):
    root, library = datasets / "tiny", open_library(datasets=datasets)
    id_ = rows_of(library)["episode 1"].id
    assert library.judge(id_, "success", "Ann") == "episode 1: success"
    reward, success = success_of(root, 1)
    assert success.any() and reward[-1] == 1
    assert np.isnan(success_of(root, 0)[0]).all()
    row = rows_of(library)["episode 1"]
    assert (row.outcome, row.by) == ("success", "Ann") and row.labelled_at
    # Labels that no verdict makes come back as they were.
    odd = open_labelled(root)
    own = replace(odd.labels_of(1), reward=np.linspace(0, 0.3, 30).astype(np.float32) ** 2)
    write_labels(odd, {1: replace(own, success=np.zeros(30, bool))})
    library.judge(id_, "success", "Bo")
    assert success_of(root, 1)[1].any()
    library.take_back(id_, "Cy")
    np.testing.assert_array_equal(success_of(root, 1)[0], own.reward)
    assert rows_of(library)["episode 1"].outcome == "failure"
    library.take_back(id_, "Cy")
    assert np.isnan(success_of(root, 1)[0]).all()
    history = look(library, id_)["history"]
    assert [each["taken_back"] for each in history] == ["success", "failure"]
    assert rows_of(library)["episode 1"].outcome == "unlabelled"
    with pytest.raises(ReviewError, match="no verdict before"):
        library.take_back(id_, "Cy")


def test_a_datasets_verdicts_at_once_are_all_there_afterwards(datasets, open_library):
    library = open_library(datasets=datasets)
    rows = rows_of(library)
    given = {"episode 0": "success", "episode 1": "failure", "episode 2": "success"}
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: library.judge(rows[n].id, given[n], n), given))
    assert {name: row.outcome for name, row in rows_of(library).items()} == given
    assert {row.by for row in rows_of(library).values()} == set(given)


def test_a_verdict_that_cannot_be_written_changes_nothing(datasets, open_library, monkeypatch):
    library = open_library(datasets=datasets)
    id_ = rows_of(library)["episode 1"].id
    before = tree(datasets)

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rewact_ros.data.labels.write.rewrite_table", full)
    with pytest.raises(ReviewError, match="No space left"):
        library.judge(id_, "success", "Ann")
    assert tree(datasets) == before
    # The tables were written, the notes were not: still the old dataset.
    monkeypatch.undo()
    monkeypatch.setattr("rewact_ros.data.review.dataset_verdict.write_notes", full)
    with pytest.raises(ReviewError, match="No space left"):
        library.judge(id_, "success", "Ann")
    assert tree(datasets) == before


# Marks --------------------------------------------------------------------------------------------

BY_HAND = """
milestones: {pick: 0.5, place: 1.0}
subtasks: {reach: 0.25, carry: 0.75}
episodes:
  0: {keypoints: [{frame_index: 5, reward: 0.3}, {frame_index: 9, reward: 0.0}, {frame_index: 18, reward: 1.0}]}
  1: {start: 0.2s, pick: [6, 1.5s], failure: 10, place: 25}
  2: {subtasks: {reach: [0, 4], carry: [5, 11]}}
"""  # noqa: E501
CLICKS = {
    0: [
        {"kind": "keypoint", "frame": 5, "reward": 0.8},
        {"kind": "keypoint", "frame": 18, "reward": 1},
        {"kind": "fall", "frame": 9},
        {"kind": "keypoint", "frame": 5, "reward": 0.3},
    ],
    1: [
        {"kind": "milestone", "name": "pick", "frame": 7},
        {"kind": "fall", "frame": 10},
        {"kind": "milestone", "name": "pick", "frame": 15},
        {"kind": "milestone", "name": "pick", "frame": 6},  # moves that of the first attempt
        {"kind": "milestone", "name": "place", "frame": 25},
        {"kind": "start", "frame": 2},
    ],
    2: [
        {"kind": "subtask", "name": "reach", "first": 0, "end": 4},
        {"kind": "subtask", "name": "carry", "first": 5, "end": 11},
    ],
}
SCHEME = {
    "milestones": {"pick": 0.5, "place": 1.0},
    "subtasks": {"reach": 0.25, "carry": 0.75},
}


def test_what_is_clicked_is_what_a_hand_writes_for_the_parser_and_for_rewact_label(
    datasets, tmp_path
):
    """Through the HTTP API, as the page does it."""
    root = datasets / "tiny"

    async def act(page):
        ids = await page.ids()
        for k, clicks in CLICKS.items():
            if k == 1:
                assert (await page.post("scheme", ids["episode 1"], SCHEME))[0] == 200
            for click in clicks:
                status, said = await page.post("mark", ids[f"episode {k}"], click)
                assert status == 200, said

    over_http(None, datasets, act)
    hand = tmp_path / "hand.yaml"
    hand.write_text(BY_HAND)
    source = open_labelled(root)
    clicked = keypoint_file(root)
    assert clicked == root / MARKS_FILE  # `rewact label` finds it without --keypoints
    files = [read_label_file(path, source.fps, source.lengths) for path in (clicked, hand)]
    assert files[0] == files[1]
    plans = [
        plan_labels(source, [0, 1, 2], LabelSettings(keypoints=given)) for given in (None, hand)
    ]
    for k in range(3):
        clicked_plan, hand_plan = (plan[k] for plan in plans)
        assert clicked_plan.keypoints == hand_plan.keypoints
        assert clicked_plan.labels.same_as(hand_plan.labels)
        assert np.isfinite(clicked_plan.labels.reward).all()


def test_marks_are_taken_back_one_by_one_also_after_a_restart(datasets, open_library):
    library = open_library(datasets=datasets)
    id_ = rows_of(library)["episode 0"].id
    for k, reward in ((4, 0.2), (8, 0.6), (12, 1.0)):
        library.mark(id_, {"kind": "keypoint", "frame": k, "reward": reward}, "Ann")
    library.mark(id_, {"kind": "remove", "frame": 8}, "Ann")
    library.mark(id_, {"kind": "clear"}, "Ann")
    expected = [[4, 12], [4, 8, 12], [4, 8], [4], []]
    again = open_library(datasets=datasets)
    for frames in expected:
        again.unmark(rows_of(again)["episode 0"].id)
        assert [point[0] for point in look(again, id_)["marks"]["points"]] == frames
    with pytest.raises(ReviewError, match="nothing was marked"):
        again.unmark(id_)


@pytest.mark.parametrize(
    "mark",
    [
        {"kind": "keypoint", "frame": 20, "reward": 0.5},  # the episode has 20 frames
        {"kind": "keypoint", "frame": -1, "reward": 0.5},
        {"kind": "keypoint", "frame": True, "reward": 0.5},
        {"kind": "keypoint", "frame": 3, "reward": 1.5},
        {"kind": "keypoint", "frame": 3, "reward": float("nan")},
        {"kind": "keypoint", "frame": 3},
        {"kind": "milestone", "name": "place", "frame": 3},
        {"kind": "subtask", "name": "../x", "first": 0, "end": 3},
        {"kind": "subtask", "name": "reach", "first": 0, "end": 3},  # no shares
        {"kind": "failed", "cap": 2},
        {"kind": "other"},
        {},
    ],
)
def test_a_mark_that_rewact_label_would_refuse_is_not_written(datasets, open_library, mark):
    library = open_library(datasets=datasets)
    id_ = rows_of(library)["episode 0"].id
    library.mark(id_, {"kind": "keypoint", "frame": 5, "reward": 0.5}, "Ann")
    before = tree(datasets)
    with pytest.raises(ReviewError):
        library.mark(id_, mark, "Ann")
    assert tree(datasets) == before


def test_a_milestone_before_the_one_below_it_is_refused_with_the_readers_words(
    datasets, open_library
):
    library = open_library(datasets=datasets)
    id_ = rows_of(library)["episode 0"].id
    library.scheme(id_, SCHEME["milestones"], {})
    library.mark(id_, {"kind": "milestone", "name": "place", "frame": 5}, "Ann")
    with pytest.raises(ReviewError, match="cannot follow"):
        library.mark(id_, {"kind": "milestone", "name": "pick", "frame": 9}, "Ann")
    with pytest.raises(ReviewError, match="unknown key"):  # a mark has the name
        library.scheme(id_, {}, {})
    with pytest.raises(ReviewError, match="free keypoint"):
        library.mark(id_, {"kind": "keypoint", "frame": 9, "reward": 0.5}, "Ann")


def test_rewacts_own_keypoints_are_taken_over_by_the_first_mark(datasets, open_library):
    root = datasets / "tiny"
    theirs = root / "rewact_extensions" / "reward_keypoints.json"
    theirs.parent.mkdir()
    theirs.write_text('{"1": {"keypoints": [{"frame_index": 9, "reward": 1.0}]}}')
    library = open_library(datasets=datasets)
    id_ = rows_of(library)["episode 0"].id
    library.mark(id_, {"kind": "keypoint", "frame": 5, "reward": 1.0}, "Ann")
    source = open_labelled(root)
    found = read_label_file(keypoint_file(root), source.fps, source.lengths)
    assert {k: plan.keypoints[0].frame for k, plan in found.episodes.items()} == {0: 5, 1: 9}


def test_a_success_gets_the_marked_curve_and_a_failure_one_that_never_ends_well(
    datasets, open_library
):
    root, library = datasets / "tiny", open_library(datasets=datasets)
    id_ = rows_of(library)["episode 0"].id
    library.mark(id_, {"kind": "keypoint", "frame": 10, "reward": 1.0}, "Ann")
    library.judge(id_, "success", "Ann")
    reward, _ = success_of(root, 0)
    np.testing.assert_allclose(reward[:11], np.arange(11) / 10, atol=1e-6)
    library.judge(id_, "failure", "Ann")  # the marks speak of a success
    reward, success = success_of(root, 0)
    assert not success.any() and reward.max() == pytest.approx(0.5)


def test_a_recording_has_no_marks(bags, open_library):
    library = open_library(bags)
    with pytest.raises(ReviewError, match="export"):
        library.mark(rows_of(library)["ep"].id, {"kind": "fall", "frame": 3}, "Ann")


# Over HTTP ----------------------------------------------------------------------------------------


class Page:
    """A browser's side, without a browser."""

    def __init__(self, client):
        self.client, self.secret = client, ""

    async def get(self, path):
        async with self.client.get(path) as answer:
            kind = answer.content_type
            return answer.status, await (answer.json() if "json" in kind else answer.read())

    async def post(self, what, id_, given=None, **headers):
        if self.secret:
            headers["Authorization"] = f"Bearer {self.secret}"
        path = f"/api/review/{what}/{id_}"
        async with self.client.post(path, json=given or {}, headers=headers) as answer:
            return answer.status, await answer.json()

    async def call(self, path, given):
        headers = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
        async with self.client.post(path, json=given, headers=headers) as answer:
            return answer.status, await answer.json()

    async def lead(self, name="Ann"):
        given = {"token": TOKEN, "name": name}
        self.secret = (await self.call("/api/login", given))[1]["session"]
        assert (await self.call("/api/control", {"take": True, "force": True}))[0] == 200
        return self

    async def ids(self):
        while True:
            _, page = await self.get("/api/review/episodes")
            if not page["pending"]:
                return {row["name"]: row["id"] for row in page["rows"]}
            await asyncio.sleep(0.01)


def over_http(bags, datasets, act, lead=True, review=None):
    """Run `act(page)` against a console on a port of its own."""

    async def run():
        no_robot = SimpleNamespace(cameras=())
        console = Console(no_robot, no_robot, None, Sessions(TOKEN), Guard("127.0.0.1"))
        app = console.app((review or Review(bags, datasets)).add)
        async with TestClient(TestServer(app)) as client:
            page = Page(client)
            if lead:
                await page.lead()
            return await act(page)

    return asyncio.run(run())


def edits(id_):
    """Every route that changes something, with what it takes."""
    return {
        "judge": {"outcome": "failure"},
        "take_back": {},
        "annotate": {"tag": "x", "note": "y"},
        "mark": {"kind": "keypoint", "frame": 3, "reward": 0.5},
        "unmark": {},
        "scheme": SCHEME,
    }


@pytest.mark.parametrize("who", ["nobody", "made up", "the token", "who does not lead"])
def test_nothing_is_changed_without_the_lead_by_any_route(bags, datasets, who):
    before = tree(bags) | tree(datasets)

    async def act(page):
        ids = await page.ids()
        if who == "made up":
            page.secret = "x" * 32
        elif who == "the token":
            page.secret = TOKEN
        elif who == "who does not lead":
            given = {"token": TOKEN, "name": "Bo"}
            page.secret = (await page.call("/api/login", given))[1]["session"]
        for name in ("ep", "episode 0"):
            for what, given in edits(ids[name]).items():
                status, said = await page.post(what, ids[name], given)
                assert status == 403 and said["error"], what

    over_http(bags, datasets, act, lead=False)
    assert tree(bags) | tree(datasets) == before


def test_every_route_that_changes_something_is_among_those_that_were_tried():
    routes = set()
    console = Console(None, None, None, Sessions(TOKEN), Guard("127.0.0.1"))
    app = console.app(Review(None, None).add)
    for route in app.router.routes():
        path = route.resource.canonical if route.resource else ""
        if path.startswith("/api/review/") and route.method not in ("GET", "HEAD"):
            routes.add(path.split("/")[3])
    assert routes == set(edits(""))


def test_another_page_may_not_ask_for_a_change(bags):
    async def act(page):
        (id_,) = (await page.ids()).values()
        status, _ = await page.post("judge", id_, edits(id_)["judge"], Origin="http://evil.example")
        assert status == 403

    over_http(bags, None, act)
    assert read_episode(bags / "ep").outcome == "success"


def test_a_session_over_http_looks_judges_notes_and_goes_back(bags, datasets):
    async def act(page):
        ids = await page.ids()
        status, told = await page.get(f"/api/review/episode/{ids['ep']}")
        assert status == 200 and told["row"]["name"] == "ep"
        status, jpeg = await page.get(f"/api/review/picture/{ids['ep']}/0?at=0.5")
        assert status == 200 and jpeg[:2] == b"\xff\xd8"
        for name in ("ep", "episode 1"):
            for what, given in (
                ("judge", {"outcome": "failure"}),
                ("annotate", {"tag": "t", "note": "n"}),
                ("take_back", {}),
            ):
                status, said = await page.post(what, ids[name], given)
                assert status == 200 and said["message"], said
            _, told = await page.get(f"/api/review/episode/{ids[name]}")
            assert told["history"][0]["replaced_by"] == "Ann" and told["row"]["tag"] == "t"
        status, said = await page.post("judge", ids["ep"], {"outcome": "success", "at": 0.5})
        assert status == 200 and read_episode(bags / "ep").succeeded_s == 0.5

    over_http(bags, datasets, act)


def test_names_are_never_paths_and_what_is_wrong_is_told(bags, datasets):
    async def act(page):
        ids = await page.ids()
        for path in (
            "episode/..%2f..%2fetc%2fpasswd",
            "episode/../../etc/passwd",
            "episode/ep",
            f"episode/{'0' * 16}",
            f"picture/{'0' * 16}/0?at=1",
            f"picture/{ids['ep']}/..%2f0",
            f"picture/{ids['ep']}/7?at=1",
            f"picture/{ids['ep']}/0?at=nan",
            f"picture/{ids['ep']}/0?at=-1",
            f"picture/{ids['ep']}/0?at=1e300",
            "episodes?page=-1",
            "episodes?page=1e9",
            "episodes?size=0",
            "episodes?size=999999",
            "episodes?sort=__class__",
        ):
            status, _ = await page.get(f"/api/review/{path}")
            assert status in (400, 404, 409), path
        for what, given in (
            ("judge", {"outcome": ["success"]}),
            ("judge", {"outcome": "success", "at": "1"}),
            ("judge", {"outcome": "success", "at": -1}),
            ("annotate", {"tag": 3}),
            ("annotate", {"tag": "a\u202eb"}),
            ("scheme", {"milestones": [1]}),
            ("scheme", {"milestones": {"start": 0.5}}),
            ("scheme", {"milestones": {HOSTILE: 0.5}}),
        ):
            name = "episode 0" if what == "scheme" else "ep"
            status, said = await page.post(what, ids[name], given)
            assert status in (400, 409) and said["error"].isprintable(), given

    before = tree(bags) | tree(datasets)
    over_http(bags, datasets, act)
    assert tree(bags) | tree(datasets) == before


def test_a_slow_disk_keeps_no_other_page_waiting(bags, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    review = Review(bags, None)

    def slow(id_):
        begun.set()
        assert go_on.wait(30)
        return b"{}"

    monkeypatch.setattr(review._library, "look", slow)

    async def act(page):
        waits = asyncio.create_task(page.get(f"/api/review/episode/{'0' * 16}"))
        await asyncio.to_thread(begun.wait, 30)
        status, _ = await page.get("/")
        assert status == 200 and not waits.done()
        go_on.set()
        assert (await waits)[0] == 200

    over_http(bags, None, act, review=review)


def test_the_page_sets_no_text_as_html_and_its_files_are_served():
    names = sorted(path.name for path in PAGE.glob("review*.js"))
    assert len(names) >= 4
    for name in names:
        text = (PAGE / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text)

    async def act(page):
        for name in names:
            assert (await page.get(f"/page/{name}"))[0] == 200
        assert (await page.get("/api/review/episodes"))[1]["sources"] == []

    over_http(None, None, act, lead=False)
