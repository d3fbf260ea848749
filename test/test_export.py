"""Recordings become datasets: what is in them, what is left out, and how they go on when killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from rosbags.rosbag2 import StoragePlugin
from std_msgs.msg import Float64MultiArray
from test_bags import RATE_HZ, START_NS, contract_of, live_frames, write_bag

from rewact_ros import strict_yaml
from rewact_ros.contract.frames import NANO
from rewact_ros.control.modes import Mode
from rewact_ros.data.bags.episode_file import EpisodeRecord, write_episode
from rewact_ros.data.bags.reader import Bag, BagError
from rewact_ros.data.export.labels import label_steps
from rewact_ros.data.export.report import text
from rewact_ros.data.export.run import export, why_nothing
from rewact_ros.data.export.settings import VIDEO_KINDS, ExportError, ExportSettings
from rewact_ros.data.export.sources import RecordedBag, episodes_of
from rewact_ros.data.export.steps import Pacer, Step, StepReader
from rewact_ros.data.export.video import VideoWriter, video_settings
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.msg import ControlStatus, EpisodeEvent, Reward
from rewact_ros.reward.labels import progress_ramp
from rewact_ros.ros.convert import joint_state_message, to_stamp
from rewact_ros.ros.images import image_message

MS = 1_000_000
PERIOD = NANO // RATE_HZ
FRAMES = 30
CAMERA = "observation.images.front"


@pytest.fixture
def contract():
    return contract_of()


def session(frames=FRAMES, start_ns=START_NS, modes=None, seed=0):
    """(topic, time of recording in ns, message) of a robot under hil: 100 Hz commands, rewards.

    `modes`: control mode by frame; None: nobody publishes it. Command j of frame k is k + j / 10.
    """
    rng = np.random.default_rng(seed)
    for k in range(frames):
        ns = start_ns + k * PERIOD
        image = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        yield "/front/image_raw", ns + 2 * MS, image_message(image, to_stamp(ns), "camera")
        for ahead_ms in (0, 25):
            at = ns + ahead_ms * MS
            values = np.array([0.01 * k, -0.02 * k + ahead_ms / 1000])
            joints = joint_state_message(("a", "b"), "position", values, to_stamp(at))
            yield "/joint_states", at + 1 * MS, joints
        for j in range(5):
            command = Float64MultiArray(data=[k + j / 10, -k - j / 10])
            yield "/commands", ns + (j * 10 + 3) * MS, command
        if modes is not None:
            status = ControlStatus(mode=int(modes[k]))
            status.header.stamp = to_stamp(ns + 3 * MS)
            # hil tells a new mode right after the first command in it
            yield "/rewact/control_status", ns + 3 * MS + 100_000, status
        reward = Reward(value=k / 100, policy_version="abc")
        reward.header.stamp = to_stamp(ns)
        yield "/rewact/reward", ns + 40 * MS, reward


def contract_file(folder: Path, **changes: object) -> Path:
    """The contract of `contract_of` as a file."""
    data = {
        "robot": "two_joints",
        "rate_hz": RATE_HZ,
        "max_skew_s": 0.06,
        "observation.state": {
            "topic": "joint_states",
            "type": "sensor_msgs/msg/JointState",
            "joints": ["a", "b"],
            "unit": "rad",
            "max_age_s": 0.1,
        },
        CAMERA: {
            "topic": "front/image_raw",
            "type": "sensor_msgs/msg/Image",
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
        },
    } | changes
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def record(folder, messages=None, plugin=StoragePlugin.MCAP, **fields):
    """A recording as our recorder leaves it."""
    messages = list(session() if messages is None else messages)
    write_bag(folder, messages, plugin)
    times = [ns for _, ns, _ in messages]
    known = {
        "task": "touch",
        "outcome": "success",
        "contract": strict_yaml.load(contract_file(folder)),
        "started_ns": min(times),
        "running_ns": START_NS,
        "ended_ns": max(times),
    } | fields
    (folder / "contract.yaml").unlink()
    write_episode(folder, EpisodeRecord(folder.name, **known))
    return folder


def settings_of(bags, out, **changes):
    bags = tuple(bags) if isinstance(bags, list) else (bags,)
    return ExportSettings(**{"bags": bags, "out": out, "video": "lossless", "workers": 1} | changes)


def run(bags, out, **changes):
    report = export(settings_of(bags, out, **changes), progress=False)
    return report, LeRobotDataset("local/x", root=out, video_backend="pyav")


def columns(dataset):
    table = dataset.hf_dataset.with_format("numpy")
    return {key: np.asarray(table[key]) for key in table.column_names}


def read_steps(path, contract, max_step=1.75):
    recording = RecordedBag(path, path.name, contract, "", None)
    with Bag(path) as bag:
        (span,) = episodes_of(recording, bag)
        reader = StepReader(bag, contract, span.start_ns, span.end_ns, max_step)
        return list(reader.steps()), reader.report


def jittered(seed=1, frames=200):
    """The same robot with late and lost messages on every stream."""
    rng = np.random.default_rng(seed)
    for topic, ns, message in session(frames):
        if rng.random() < (0.2 if topic == "/joint_states" else 0.03):
            continue
        yield topic, ns + int(rng.exponential(4 * MS)), message


def test_steps_are_the_frames_of_the_live_node_under_jitter_and_drops(tmp_path, contract):
    messages = sorted(jittered(), key=lambda item: item[1])
    steps, report = read_steps(write_bag(tmp_path / "bag", messages), contract)
    live = {frame.stamp_ns: frame for frame in live_frames(contract, messages)}
    assert len(steps) > 150 and report.gaps and report.incomplete
    for step in steps:
        for key, value in live[step.stamp_ns].values.items():
            np.testing.assert_array_equal(step.values[key], value)
    assert report.surplus + report.without_command + len(steps) <= len(live)


def test_the_action_is_the_first_command_sent_at_or_after_the_observation(tmp_path, contract):
    messages = [m for m in session() if m[0] != "/commands"]
    for k in range(FRAMES):
        ns = START_NS + k * PERIOD
        for at, value in ((ns - 1, -1.0), (ns, float(k)), (ns + 1, 99.0)):
            messages.append(("/commands", at, Float64MultiArray(data=[value, value])))
    steps, _ = read_steps(write_bag(tmp_path / "bag", messages), contract)
    assert [step.action.tolist() for step in steps] == [[k, k] for k in range(FRAMES)]


def test_a_frame_without_a_command_is_left_out_and_never_gets_an_old_one(tmp_path, contract):
    silent = [
        m
        for m in session()
        if m[0] != "/commands" or not 10 * PERIOD <= m[1] - START_NS < 14 * PERIOD
    ]
    steps, report = read_steps(write_bag(tmp_path / "bag", silent), contract)
    taken = [(step.stamp_ns - START_NS) // PERIOD for step in steps]
    assert report.without_command == 3  # the fourth frame's next command comes in time
    assert taken == [*range(10), *range(13, FRAMES)]
    assert any("no command on /commands" in gap.why for gap in report.gaps)


def test_intervention_begins_with_the_first_command_of_the_human(tmp_path, contract):
    modes = [Mode.POLICY] * 10 + [Mode.HUMAN] * 8 + [Mode.HOLD] * 4 + [Mode.POLICY] * 8
    record(tmp_path / "bag", session(modes=modes))
    _, dataset = run(tmp_path / "bag", tmp_path / "out")
    got = columns(dataset)
    assert got["control_mode"].tolist() == [int(mode) for mode in modes]
    assert got["intervention"].tolist() == [mode == Mode.HUMAN for mode in modes]
    # The policy had to be rescued: what it did before teaches nothing.
    assert got["demo_is_pad"].tolist() == [True] * 10 + [False] * 8 + [True] * 4 + [False] * 8


def test_a_dataset_has_what_was_recorded_and_training_takes_it(tmp_path, contract):
    record(tmp_path / "bag")
    report, dataset = run(tmp_path / "bag", tmp_path / "out")
    got = columns(dataset)
    assert len(dataset) == FRAMES == report["totals"]["frames"] and dataset.fps == RATE_HZ
    assert got["action"][:, 0].tolist() == [float(k) for k in range(FRAMES)]
    np.testing.assert_array_equal(got["observation.state"][3], np.float32([0.03, -0.06]))
    np.testing.assert_allclose(got["predicted_reward"], np.arange(FRAMES) / 100, rtol=1e-6)
    assert set(got["policy_version"]) == {"abc"} and set(got["control_mode"]) == {-1}
    assert got["next.done"].tolist() == [False] * (FRAMES - 1) + [True]
    images = [m.data for topic, _, m in session() if topic == "/front/image_raw"]
    for k in (0, 17, FRAMES - 1):  # bit for bit
        shown = (dataset[k][CAMERA].permute(1, 2, 0) * 255).round().byte().numpy()
        np.testing.assert_array_equal(shown.reshape(-1), np.asarray(images[k]))
        assert dataset[k]["task"] == "touch"
    recorded = json.loads((tmp_path / "out" / "meta" / "contract.json").read_text())
    assert recorded == {"format": 1, "hash": contract.hash, "signature": contract.signature()}
    data = load_demonstrations(tmp_path / "out")
    assert data.teaches.all() and data.succeeds.all() and np.isfinite(data.reward).all()
    stats = json.loads((tmp_path / "out" / "meta" / "stats.json").read_text())
    assert stats["action"]["max"] == [FRAMES - 1, 0] and len(stats[CAMERA]["mean"]) == 3
    assert 0.4 < stats[CAMERA]["mean"][0][0][0] < 0.6
    assert text(report) == (tmp_path / "out" / "meta" / "export.txt").read_text()


@pytest.mark.parametrize("video", ["lerobot", "fine"])
def test_lossy_videos_show_the_same_pictures(tmp_path, video):
    smooth = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)

    def smoothed(topic, ns, message):
        if topic != "/front/image_raw":
            return topic, ns, message
        shift = (ns - START_NS) // PERIOD
        return topic, ns, image_message(np.roll(smooth, shift, 1), message.header.stamp, "camera")

    larger = {"topic": "front/image_raw", "type": "sensor_msgs/msg/Image", "max_age_s": 0.15}
    path = contract_file(tmp_path, **{CAMERA: {**larger, "shape": [64, 96, 3]}})
    write_bag(tmp_path / "bag", [smoothed(*item) for item in session(12)])
    _, dataset = run(tmp_path / "bag", tmp_path / "out", contract=path, video=video)
    shown = (dataset[5][CAMERA].permute(1, 2, 0) * 255).numpy()
    assert np.abs(shown - np.roll(smooth, 5, 1)).mean() < 4


def test_no_encoder_makes_the_process_realtime(tmp_path):
    """SVT-AV1 does as root; as another user it may not, and there is nothing to see."""
    with VideoWriter(tmp_path / "x.mp4", 20, video_settings("lerobot"), 1) as writer:
        for _ in range(3):
            writer.add(np.zeros((64, 96, 3), np.uint8))
        threads = list(map(int, os.listdir("/proc/self/task")))
        assert len(threads) > 4
        policies = {os.sched_getscheduler(thread) for thread in threads}
    assert not policies & {os.SCHED_FIFO, os.SCHED_RR}


def test_labels_follow_the_outcome():
    stamps_s, modes = np.arange(101) / 20, np.full(101, int(Mode.POLICY))
    success = label_steps("success", stamps_s, 5.0, modes, 20, 0.5)
    np.testing.assert_allclose(success.reward, progress_ramp(101), atol=1e-6)
    assert success.success.tolist() == (success.reward >= 1).tolist() and not success.pad.any()
    failure = label_steps("failure", stamps_s, 5.0, modes, 20, 0.5)
    assert failure.reward.max() == 0.5 and not failure.success.any() and failure.pad.all()
    modes[40:60] = Mode.HUMAN
    unjudged = label_steps("unlabelled", stamps_s, 5.0, modes, 20, 0.5)
    assert np.isnan(unjudged.reward).all() and not unjudged.success.any()
    assert (~unjudged.pad).nonzero()[0].tolist() == list(range(40, 60))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_the_last_frame_of_a_success_shows_the_success(count):
    stamps_s, modes = np.arange(count) / 20, np.full(count, int(Mode.POLICY))
    labels = label_steps("success", stamps_s, count / 20, modes, 20, 0.5)
    assert labels.reward[-1] == 1 and labels.success[-1]
    cut = label_steps("success", stamps_s, count / 20 + 5, modes, 20, 0.5)  # 5 s are missing
    assert not cut.success.any() and cut.reward[-1] < 1
    failure = label_steps("failure", stamps_s, count / 20, modes, 20, 0.5)
    assert not failure.success.any() and failure.reward.max() <= 0.5


def test_a_verdict_long_after_the_arm_stood_still_is_reported(tmp_path):
    def waits(frames: int):
        for topic, ns, message in session(frames=80):
            k = (ns - START_NS) // PERIOD
            if topic == "/joint_states":
                place = min(k, 80 - frames) / 20
                message.position = [place] * len(message.position)
            yield topic, ns, message

    report, dataset = run(record(tmp_path / "late", waits(60)), tmp_path / "late_set")
    (episode,) = report["recordings"][0]["episodes"]
    assert episode["still_s"] == pytest.approx(60 / RATE_HZ, abs=0.2)
    assert "the arm stood still for the last" in text(report) and "judge sooner" in text(report)
    assert columns(dataset)["next.success"].any()
    report, _ = run(record(tmp_path / "soon", waits(10)), tmp_path / "soon_set")
    assert "stood still" not in text(report)


def test_progress_stands_still_while_the_episode_is_on_hold():
    stamps_s, modes = np.arange(101) / 20, np.full(101, int(Mode.POLICY))
    modes[30:70] = Mode.HOLD
    labels = label_steps("success", stamps_s, 5.0, modes, 20, 0.5)
    assert len(set(labels.reward[29:70])) == 1 and labels.pad[30:70].all()
    np.testing.assert_allclose(labels.reward[70:], progress_ramp(61)[30:], atol=1e-6)
    assert labels.reward[-1] == 1.0


def test_what_a_policy_did_before_it_was_rescued_is_no_way_to_the_goal():
    stamps_s, modes = np.arange(101) / 20, np.full(101, int(Mode.POLICY))
    modes[40:50], modes[50:90] = Mode.HOLD, Mode.HUMAN
    labels = label_steps("success", stamps_s, 5.0, modes, 20, 0.5, attempt_s=4.0)
    assert np.isnan(labels.reward[:50]).all() and labels.pad[:50].all()
    assert not labels.pad[50:].any() and (np.diff(labels.reward[50:]) >= 0).all()
    done_s = 0.95 * 2.5  # of the 2.5 s from the takeover to the end
    assert labels.reward[50] == pytest.approx(1 - done_s / 4.0, abs=0.02)
    assert labels.reward[-1] == 1.0 and labels.success[-1]
    unknown = label_steps("success", stamps_s, 5.0, modes, 20, 0.5)
    assert np.isnan(unknown.reward[:90]).all() and unknown.reward[-1] == 1.0


def test_a_demonstration_in_which_a_human_leads_from_the_start_climbs_as_any():
    stamps_s, modes = np.arange(101) / 20, np.full(101, int(Mode.HUMAN))
    labels = label_steps("success", stamps_s, 5.0, modes, 20, 0.5)
    np.testing.assert_allclose(labels.reward, progress_ramp(101), atol=1e-6)


def test_a_label_changed_after_the_recording_counts(tmp_path):
    folder = record(tmp_path / "bag", outcome="unlabelled")
    _, before = run(folder, tmp_path / "before")
    assert np.isnan(columns(before)["next.reward"]).all()
    stats = (tmp_path / "before" / "meta" / "stats.json").read_text()
    assert "NaN" not in stats and "next.reward" not in json.loads(stats)
    record_now = json.loads((folder / "episode.json").read_text()) | {"outcome": "failure"}
    (folder / "episode.json").write_text(json.dumps(record_now))
    _, after = run(folder, tmp_path / "after")
    assert columns(after)["next.reward"].max() == 0.5 and columns(after)["demo_is_pad"].all()


def without_images(first, last):
    """The session with no picture from one frame to another."""
    for topic, ns, message in session():
        k = (ns - START_NS) // PERIOD
        if topic != "/front/image_raw" or not first <= k < last:
            yield topic, ns, message


def test_a_gap_splits_trims_or_refuses_an_episode_and_is_never_filled(tmp_path):
    folder = record(tmp_path / "bag", without_images(12, 16))
    report, split = run(folder, tmp_path / "split")
    assert [e["length"] for e in split.meta.episodes] == [12, FRAMES - 16]
    (episode,) = report["recordings"][0]["episodes"]
    assert episode["dataset_episodes"] == [0, 1] and len(episode["gaps"]) == 1
    assert episode["gaps"][0]["at_s"] == pytest.approx(11 / RATE_HZ)
    assert episode["gaps"][0]["seconds"] == pytest.approx(5 / RATE_HZ)
    assert CAMERA in episode["gaps"][0]["why"] and "cut into 2" in text(report)
    reward = columns(split)["next.reward"]  # one climb over both, the gap's time included
    whole = progress_ramp(FRAMES + 1)  # the recording ends a period after the last frame
    np.testing.assert_allclose(reward[:12], whole[:12], atol=0.01)
    np.testing.assert_allclose(reward[12:], whole[16:FRAMES], atol=0.01)
    _, trimmed = run(folder, tmp_path / "trim", gaps="trim")
    assert [e["length"] for e in trimmed.meta.episodes] == [FRAMES - 16]
    assert columns(trimmed)["action"][0, 0] == 16.0
    with pytest.raises(ExportError, match="no frame can be exported.*it has gaps"):
        run(folder, tmp_path / "refuse", gaps="refuse")


def test_a_frozen_camera_and_foreign_clocks_are_cut_as_live(tmp_path, contract):
    still = None
    messages = []
    for topic, ns, message in session(60):
        if topic == "/front/image_raw" and ns - START_NS > 20 * PERIOD:
            still = still or message
            frozen = image_message(
                np.asarray(still.data).reshape(24, 32, 3), message.header.stamp, "camera"
            )
            message = frozen
        messages.append((topic, ns, message))
    steps, report = read_steps(write_bag(tmp_path / "frozen", messages), contract)
    assert len(steps) < 40 and any("does not change" in gap.why for gap in report.gaps)
    elsewhere = [(topic, ns + 2 * NANO, message) for topic, ns, message in session()]
    steps, report = read_steps(write_bag(tmp_path / "clock", elsewhere), contract)
    assert not steps and "compare the clocks" in report.gaps[0].why
    elsewhere = [(topic, ns + 60 * NANO, message) for topic, ns, message in session()]
    with pytest.raises(BagError, match=r"header stamp is (59|60)\.\d+ s old.*compare"):
        read_steps(write_bag(tmp_path / "other", elsewhere), contract)


def test_a_camera_at_another_rate_is_thinned_or_refused(tmp_path):
    path = contract_file(tmp_path, rate_hz=10)
    write_bag(tmp_path / "bag", session())
    report, dataset = run(tmp_path / "bag", tmp_path / "half", contract=path)
    assert columns(dataset)["action"][:, 0].tolist() == [float(k) for k in range(0, FRAMES, 2)]
    assert report["recordings"][0]["episodes"][0]["surplus"] == FRAMES // 2
    path = contract_file(tmp_path, rate_hz=40)
    with pytest.raises(ExportError, match=r"observations at 20.0 Hz, the contract says 40 Hz"):
        run(tmp_path / "bag", tmp_path / "double", contract=path)


@pytest.mark.parametrize(
    ("camera_hz", "jitter_ms", "kept_hz"),
    [(30, 0, 30), (30, 8, 30), (60, 3, 30), (31, 1, 31), (29, 1, 29), (90, 1, 30)],
)
def test_pacing_keeps_the_observations_nearest_to_the_contracts_grid(camera_hz, jitter_ms, kept_hz):
    rng = np.random.default_rng(0)
    pacer, kept = Pacer(NANO // 30, round(1.75 * NANO / 30)), []
    for k in range(600):
        ns = k * NANO // camera_hz + int(rng.uniform(-1, 1) * jitter_ms * MS)
        for step in pacer.put(Step(ns, {}, np.zeros(1, np.float32), 0, 0.0, "")):
            kept.append(step.stamp_ns)
    steps_s = np.diff(kept) / NANO
    assert 1 / steps_s.mean() == pytest.approx(kept_hz, rel=0.02)
    assert steps_s.max() < 1.75 / 30


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_stock_bag_is_one_episode(tmp_path, plugin):
    stock = [m for m in session() if not m[0].startswith("/rewact")]
    write_bag(tmp_path / "bag", stock, plugin)
    with pytest.raises(ExportError, match="recorded without a contract; give --contract"):
        run(tmp_path / "bag", tmp_path / "out")
    path = contract_file(tmp_path)
    _, dataset = run(tmp_path / "bag", tmp_path / "out", contract=path, outcome="success", task="t")
    got = columns(dataset)
    assert len(dataset) == FRAMES and got["next.success"].any() and not got["intervention"].any()
    assert np.isnan(got["predicted_reward"]).all() and set(got["policy_version"]) == {""}
    assert dataset[0]["task"] == "t"


def test_a_stock_bag_of_a_session_is_split_by_its_episode_events(tmp_path):
    messages = list(session(80))

    def tell(k, name, event, outcome=0):
        said = EpisodeEvent(episode_id=name, task="touch", event=event, outcome=outcome)
        messages.append(("/rewact/episode_event", START_NS + k * PERIOD - 1 * MS, said))

    tell(5, "one", EpisodeEvent.RUNNING)
    tell(25, "one", EpisodeEvent.VERDICT, EpisodeEvent.SUCCESS)
    tell(40, "two", EpisodeEvent.RUNNING)
    tell(60, "two", EpisodeEvent.VERDICT, EpisodeEvent.SUCCESS)
    tell(62, "two", EpisodeEvent.RELABELLED, EpisodeEvent.FAILURE)
    write_bag(tmp_path / "bag", messages)
    report, dataset = run(tmp_path / "bag", tmp_path / "out", contract=contract_file(tmp_path))
    assert [e["length"] for e in dataset.meta.episodes] == [20, 20]
    assert columns(dataset)["action"][[0, 20], 0].tolist() == [5.0, 40.0]
    outcomes = [e["outcome"] for e in report["recordings"][0]["episodes"]]
    assert outcomes == ["success", "failure"]


def test_what_cannot_be_exported_is_named_and_the_rest_goes_on(tmp_path):
    record(tmp_path / "bags" / "a_good")
    record(tmp_path / "bags" / "b_discarded", discarded=True)
    record(tmp_path / "bags" / "c_open", ended_ns=None)
    blind = [m for m in session() if m[0] != "/front/image_raw"]
    record(tmp_path / "bags" / "d_blind", blind)
    record(tmp_path / "bags" / "e_other", contract={"robot": "x"})
    report, dataset = run(tmp_path / "bags", tmp_path / "out")
    refused = {r["name"]: r["refused"] for r in report["recordings"]}
    assert refused["a_good"] == "" and "discarded" in refused["b_discarded"]
    assert "rewact bag recover" in refused["c_open"]
    assert "/front/image_raw was not recorded" in refused["d_blind"]
    assert "contract: rate_hz" in refused["e_other"] and "action: missing" in refused["e_other"]
    assert dataset.meta.total_episodes == 1 and "d_blind: refused" in text(report)


def test_an_episode_in_which_nobody_drove_the_arm_is_refused(tmp_path):
    record(tmp_path / "bags" / "held", session(modes=[Mode.HOLD] * FRAMES), outcome="unlabelled")
    record(tmp_path / "bags" / "moved", session(modes=[Mode.HUMAN] * FRAMES))
    report, dataset = run(tmp_path / "bags", tmp_path / "out")
    assert len(dataset) == FRAMES and report["totals"]["episodes_refused"] == 1
    assert "held: refused: neither policy nor human" in text(report)
    assert text(report).count("\n") == 2  # nothing to say of the other


def test_recordings_of_different_contracts_are_not_mixed(tmp_path):
    record(tmp_path / "bags" / "one")
    other = strict_yaml.load(contract_file(tmp_path, rate_hz=10))
    record(tmp_path / "bags" / "two", contract=other)
    with pytest.raises(ExportError, match="under another contract than .*export them apart"):
        run(tmp_path / "bags", tmp_path / "out")
    with pytest.raises(ExportError, match="under another contract: expected hash"):
        run(tmp_path / "bags" / "two", tmp_path / "out", contract=contract_file(tmp_path))
    with pytest.raises(BagError, match="no recording here"):
        run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_is_replaced_only_when_asked_and_in_one_step(tmp_path):
    record(tmp_path / "bag")
    run(tmp_path / "bag", tmp_path / "out")
    (tmp_path / "out" / "old").write_text("x")
    with pytest.raises(ExportError, match="exists: choose another folder, or give --replace"):
        run(tmp_path / "bag", tmp_path / "out")
    with pytest.raises(ExportError, match="is no dataset, and --replace would delete"):
        run(tmp_path / "bag", tmp_path / "bag", replace=True)
    _, dataset = run(tmp_path / "bag", tmp_path / "out", replace=True, gaps="trim")
    assert len(dataset) == FRAMES and not (tmp_path / "out" / "old").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_several_processes_make_the_same_dataset(tmp_path):
    for seed in range(3):
        record(tmp_path / "bags" / f"e{seed}", session(seed=seed))
    one, single = run(tmp_path / "bags", tmp_path / "one")
    two, parallel = run(tmp_path / "bags", tmp_path / "two", workers=2)
    first, second = columns(single), columns(parallel)
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key])
    np.testing.assert_array_equal(single[70][CAMERA], parallel[70][CAMERA])
    assert one["totals"] == two["totals"] and one["totals"]["dataset_episodes"] == 3


@pytest.mark.timeout(400)
def test_a_killed_export_goes_on_where_it_was(tmp_path):
    for k in range(3):
        record(tmp_path / "bags" / f"e{k}", session(200, seed=k))
    out, work = tmp_path / "out", tmp_path / ".out.export"
    command = [Path(sys.executable).parent / "rewact", "export", tmp_path / "bags", "--out", out]
    whole = "[!.]*/recording.json"  # hidden until it is whole
    process = subprocess.Popen([*map(str, command), "--workers", "1", "--video", "lossless"])
    deadline = time.monotonic() + 240
    while not list(work.glob(whole)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path.parent.name.rsplit("-", 1)[0] for path in work.glob(whole)}
    assert done and not out.exists()
    bag = next((tmp_path / "bags" / sorted(done)[0]).glob("*.mcap"))
    before = bag.stat()  # what was done is not read again
    bag.write_bytes(bytes(before.st_size))
    os.utime(bag, ns=(before.st_atime_ns, before.st_mtime_ns))
    report, dataset = run(tmp_path / "bags", out)
    assert report["totals"]["recordings_refused"] == 0 and len(dataset) == 600
    assert not work.exists()


def test_settings_out_of_range_are_refused(tmp_path):
    good = settings_of(tmp_path, tmp_path)
    for change, message in (
        ({"gaps": "fill"}, "gaps: expected one of split, trim, refuse"),
        ({"video": "mjpeg"}, "video: expected one of lerobot"),
        ({"max_step": 0.5}, "max_step"),
        ({"failed_cap": 1.0}, "failed_cap"),
        ({"outcome": "good"}, "outcome"),
        ({"min_frames": 0}, "min_frames"),
        ({"workers": -1}, "workers"),
    ):
        with pytest.raises(ExportError, match=message):
            replace(good, **change)


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_an_encoder_adds_nothing_to_what_we_say(tmp_path, capfd, kind):
    with VideoWriter(tmp_path / "video.mp4", RATE_HZ, video_settings(kind), threads=1) as video:
        for value in (0, 100, 200):
            video.add(np.full((64, 64, 3), value, np.uint8))
    assert (tmp_path / "video.mp4").stat().st_size
    assert capfd.readouterr() == ("", "")


def test_an_export_does_not_work_in_a_folder_that_was_planted_for_it(tmp_path):
    record(tmp_path / "bags" / "ep")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".out.export").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="ours alone"):
        export(ExportSettings((tmp_path / "bags",), tmp_path / "out"), progress=False)
    assert not [*(tmp_path / "elsewhere").iterdir()]


@pytest.mark.parametrize(
    ("refused", "episodes", "said"),
    [
        ("damaged", [], "damaged"),
        ("", [], "it holds no episode"),
        ("", ["", "it has gaps"], "it has gaps"),
    ],
)
def test_a_recording_that_gives_nothing_says_why(refused, episodes, said):
    entry = {"name": "bag", "refused": refused, "episodes": [{"refused": why} for why in episodes]}
    assert why_nothing(entry) == f"bag: {said}"
