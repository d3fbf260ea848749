"""What a shadow predicted in recordings: matched by stamp, measured, told."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import run_command
from rclpy.serialization import deserialize_message, serialize_message
from stage import cartesian
from std_msgs.msg import Float64MultiArray
from test_bags import START_NS, contract_of
from test_export import MS, PERIOD, record, session

from rewact_ros.contract import parse_contract
from rewact_ros.data.bags.reader import BagError
from rewact_ros.data.shadow.axes import Axes
from rewact_ros.data.shadow.episode import Frames
from rewact_ros.data.shadow.figures import by_progress, completion, human, summary
from rewact_ros.data.shadow.match import Matcher, Predicted
from rewact_ros.data.shadow.progress import Judged, curve
from rewact_ros.data.shadow.report import ShadowReport, read_shadows, write_report
from rewact_ros.msg import ActionChunk, ControlStatus, Reward
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.chunk_messages import ChunkWriter
from rewact_ros.ros.convert import to_stamp
from rewact_ros.supervision.signals import SignalSettings

FRAMES, STEPS, DT_S = 60, 20, 0.05
POLICY, HUMAN = ControlStatus.POLICY, ControlStatus.HUMAN
# By frame: the first turn of the person leads where the shadow would, the second where the run did.
MODES = [HUMAN if 20 <= k < 35 or 45 <= k < 55 else POLICY for k in range(FRAMES)]
RUNNING, SHADOW = np.array([0.0, 0.0]), np.array([0.4, -0.2])  # of the joints a and b
MISSED, EARLIER_EPOCH = {5, 6, 7, 8, 30}, {10}


@pytest.fixture(scope="module")
def axes():
    return Axes.of(contract_of())


def led(k):
    """What is commanded in a frame."""
    return SHADOW if 20 <= k < 35 else RUNNING


def shadowed(start_ns=START_NS, version="new"):
    """A robot's messages beside which a shadow predicts."""
    writer = ChunkWriter(contract_of())
    for topic, ns, message in session(FRAMES, start_ns, MODES):
        if topic == "/commands":
            k = (ns - start_ns) // PERIOD
            yield topic, ns, Float64MultiArray(data=led(k).tolist())
        elif topic != "/rewact/reward":
            yield topic, ns, message
    for k in range(FRAMES):
        ns = start_ns + k * PERIOD
        yield "/rewact/reward", ns + 20 * MS, reward(min(k / 48, 1.0), ns, "old")
        yield "/rewact/action_chunk", ns + 20 * MS, chunk(writer, ns, RUNNING, 0.0, 3, "old")
        if k in MISSED:
            continue
        late_ns = ns + 45 * MS
        epoch = 2 if k in EARLIER_EPOCH else 3
        yield (f"/{names.SHADOW_REWARD}", late_ns, reward(min(k / 30, 1.0), ns, version))
        # It drifts away from the run by 0.1 over the chunk.
        given = chunk(writer, ns, SHADOW, 0.1, epoch, version)
        yield f"/{names.SHADOW_CHUNK}", late_ns, given


def reward(value, ns, version):
    message = Reward(value=value, q10=math.nan, policy_version=version)
    message.header.stamp = to_stamp(ns)
    return message


def chunk(writer, ns, first, drift, epoch, version):
    steps = np.arange(STEPS)[:, None] / (STEPS - 1)
    message = writer.write(first + drift * steps * [1.0, 0.0], to_stamp(ns))
    message.epoch, message.policy_version = epoch, version
    # The writer fills one message again and again.
    return deserialize_message(serialize_message(message), ActionChunk)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    record(folder / "one", shadowed())
    record(folder / "without", session())
    return read_shadows([folder])


def test_a_recording_tells_how_far_the_shadow_was_from_the_run(report):
    (episode,) = report.document()["episodes"]
    seen = episode["observations"]
    assert (seen["running"], seen["shadow"], seen["missed"]) == (FRAMES, FRAMES - 5, 5)
    assert seen["other_epoch"] == 1 and seen["matched"] == episode["frames"] == FRAMES - 6
    assert seen["longest_silence_s"] == pytest.approx(4 * DT_S)
    a, b = (episode["disagreement"]["joints"][joint] for joint in "ab")
    assert (a["unit"], a["range"]) == ("rad", 2.0)
    assert a["start"]["mean"] == pytest.approx(0.4) and a["end"]["mean"] == pytest.approx(0.5)
    assert a["chunk"]["mean"] == pytest.approx(0.45) and a["chunk"]["p95"] == pytest.approx(0.45)
    assert a["share_of_range"] == pytest.approx(0.225)
    assert b["chunk"]["mean"] == pytest.approx(0.2) and b["end"]["mean"] == pytest.approx(0.2)
    share = episode["disagreement"]["share_of_range"]
    assert share["start"]["mean"] == pytest.approx((0.4 + 0.2) / 2 / 2)
    assert episode["running"] == ["old"] and episode["shadow"] == ["new"]
    (why,) = report.refused.values()
    assert "topic /rewact/shadow/action_chunk was not recorded" in why


def test_it_tells_whether_the_shadow_would_have_done_what_the_person_did(report):
    (episode,) = report.document()["episodes"]
    now, ahead = episode["human"]["now"], episode["human"]["ahead"]
    assert episode["human"]["turns"] == 2
    assert now["frames"] == 14 + 10 and now["shadow_nearer"] == 14  # frame 30 was missed
    assert now["share_of_frames"] == pytest.approx(14 / 24) and now["equal"] == 0
    assert (now["turns_for_shadow"], now["turns_decided"]) == (1, 2)
    assert 0 < now["low"] < 0.5 < now["high"] < 1
    # Half a second ahead the person must still lead: ten frames at the end of a turn do not count.
    assert ahead["frames"] == 5 and ahead["shadow_nearer"] == 5
    assert now["running_distance"] == pytest.approx(14 / 24 * 0.15)
    assert now["shadow_distance"] == pytest.approx(10 / 24 * 0.15)


def test_both_curves_are_judged_alike(report):
    (episode,) = report.document()["episodes"]
    done = episode["completion"]
    assert (done["run_end"], done["shadow_end"], done["difference_at_end"]) == (1.0, 1.0, 0.0)
    assert done["shadow_is"] == "earlier" and not done["calibrated"]
    # Above the threshold of 0.9 from frame 27 and 43 on; filter and dwell take their time.
    assert 27 * DT_S < done["shadow_done_s"] < 43 * DT_S < done["run_done_s"]
    greatest = episode["by_progress"]["greatest"]
    assert episode["by_progress"]["unknown_frames"] == 0 and greatest["frames"] >= 5


def test_episodes_of_other_policies_are_not_mixed(tmp_path):
    record(tmp_path / "one", shadowed())
    record(tmp_path / "two", shadowed(version="newer"))
    record(tmp_path / "three", shadowed())
    first, other = read_shadows([tmp_path]).document()["overall"]
    assert (first["shadow"], first["episodes"], first["human"]["turns"]) == (["new"], 2, 4)
    assert (other["shadow"], other["episodes"]) == (["newer"], 1)
    assert first["frames"] == 2 * other["frames"]


def test_the_command_writes_document_and_pictures_and_says_what_it_cannot_tell(
    tmp_path, monkeypatch, capsys
):
    record(tmp_path / "bags" / "one", shadowed())
    out = tmp_path / "report"
    assert run_command(monkeypatch, "shadow", tmp_path / "bags", "--out", out) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Agreement is no success rate" in told and "missed 5 of 60 observations" in told
    assert "the shadow was nearer to what the person did in 58.3 % of 24" in told
    document = json.loads((out / "shadow.json").read_text())
    assert document["format"] == 1 and document["caveat"] and len(document["overall"]) == 1
    assert {p.name for p in out.glob("*.png")} == {"000-one.png", "overall.png"}
    with pytest.raises(BagError, match="no recording here"):
        read_shadows([out])


def test_without_any_shadow_the_report_says_so(tmp_path):
    record(tmp_path / "bags" / "one", session())
    with pytest.raises(BagError, match="none of 1 recordings has a shadow policy: .*not recorded"):
        read_shadows([tmp_path / "bags"])


def test_a_dry_run_is_compared_and_tells_nothing_of_a_person(tmp_path):
    record(tmp_path / "one", [m for m in shadowed() if m[0] != "/commands"])
    (episode,) = read_shadows([tmp_path]).document()["episodes"]
    assert episode["frames"] == FRAMES - 6 and episode["human"]["now"]["frames"] == 0


def test_chunks_that_hil_would_refuse_are_counted_and_not_compared(tmp_path):
    messages = list(shadowed())
    chunks = [m for topic, _, m in messages if topic == f"/{names.SHADOW_CHUNK}"]
    chunks[0].trajectory.points[3].positions[0] = math.nan
    chunks[1].trajectory.joint_names = ["b", "a"]
    record(tmp_path / "one", messages)
    (episode,) = read_shadows([tmp_path]).document()["episodes"]
    assert episode["refused_messages"] == 2 and episode["frames"] == FRAMES - 8
    assert json.dumps(episode, allow_nan=False)


# On arrays ----------------------------------------------------------------------------------------


def pair(matcher, stamp_ns, ours, theirs, epochs=(1, 1), shadow_first=False):
    chunks = [
        (Predicted(stamp_ns, epoch, np.asarray(actions, float)), of_shadow)
        for actions, epoch, of_shadow in zip((ours, theirs), epochs, (False, True), strict=True)
    ]
    first, second = reversed(chunks) if shadow_first else chunks
    assert matcher.put(*first) is None
    return matcher.put(*second)


@pytest.mark.parametrize("shadow_first", [False, True])
def test_chunks_of_one_stamp_are_compared_where_they_overlap(axes, shadow_first):
    matcher = Matcher(axes, DT_S)
    ours = np.zeros((30, 2))
    theirs = np.linspace(0, 1, 12)[:, None] * [1.0, -0.5]
    match = pair(matcher, 7, ours, theirs, shadow_first=shadow_first)
    np.testing.assert_allclose(match.start, 0)
    np.testing.assert_allclose(match.end, [1.0, 0.5])
    np.testing.assert_allclose(match.mean, [0.5, 0.25])
    np.testing.assert_allclose(match.ahead, [[0, 0], theirs[10]])
    assert match.ahead_ns == 7 + 500 * MS
    short = pair(matcher, 8, ours[:1], theirs)  # one action: ahead is now
    assert short.ahead_ns == 8 and (short.ahead == short.now).all()


def test_what_the_shadow_skips_and_what_is_told_twice_is_counted_once(axes):
    matcher, still = Matcher(axes, DT_S), np.zeros((2, 2))
    for k in range(10):
        assert matcher.put(Predicted(k * PERIOD, 1, still), False) is None
    for k in (0, 1, 5, 9, 9):
        matcher.put(Predicted(k * PERIOD, 1, still), True)
    matcher.put(Predicted(99 * PERIOD, 1, still), True)  # of an observation the run skipped
    matcher.close()
    counts = matcher.counts
    assert (counts.running, counts.shadow, counts.matched, counts.missed) == (10, 5, 4, 6)
    assert counts.longest_silence_s == pytest.approx(3 * DT_S)


def test_a_shadow_that_dies_early_is_silent_to_the_end(axes):
    matcher, still = Matcher(axes, DT_S), np.zeros((2, 2))
    for k in range(100):
        matcher.put(Predicted(k * PERIOD, 1, still), False)
        if k < 40:
            matcher.put(Predicted(k * PERIOD, 1, still), True)
    matcher.close()
    assert matcher.counts.longest_silence_s == pytest.approx(60 * DT_S)


def test_a_pose_is_compared_by_place_and_turn_and_never_by_its_rotation_vector():
    axes = Axes.of(parse_contract(cartesian()))
    assert axes.names == ("ee", "ee turn", "gripper") and axes.units == ("m", "rad", "normalized")
    np.testing.assert_allclose(axes.ranges, [math.hypot(0.5, 0.8, 0.58), math.pi, 1.0])
    near_half = np.array([0.3, 0.0, 0.3, math.pi - 0.05, 0.0, 0.0, 0.2])
    beyond = np.array([0.6, 0.4, 0.3, -(math.pi - 0.05), 0.0, 0.0, 0.5])  # 0.1 further, not 6.18
    np.testing.assert_allclose(axes.distances(near_half[None], beyond[None]), [[0.5, 0.1, 0.3]])


def test_a_velocity_counts_by_its_own_limit():
    contract = contract_of()
    part = replace(contract.action[0], command="velocity", velocity=(0.5, 2.0))
    np.testing.assert_allclose(Axes.of(replace(contract, action=(part,))).ranges, [1.0, 4.0])


def frames_of(axes, **changes):
    n = 40
    far = np.tile([0.1, 0.2], (n, 1))
    far[20:30] *= 4  # frames in which the run is between 0.5 and 0.75 of the task
    nothing, nobody = np.full((n, 2), np.nan), np.zeros(n, np.intp)
    usual = Frames(far, far, far, np.arange(n) / n, nobody, nobody, nothing, nothing)
    return replace(usual, **changes)


def test_the_disagreement_is_placed_in_the_task_by_the_progress_of_the_run(axes):
    found = by_progress(axes, frames_of(axes, progress=np.repeat([0.05, 0.25, 0.55, 1.0], 10)))
    assert found["greatest"]["from"] == 0.5
    assert found["greatest"]["mean"] == pytest.approx((0.4 + 0.8) / 2 / 2)
    assert [b["frames"] for b in found["bins"] if b["frames"]] == [10, 10, 10, 10]
    assert found["bins"][9]["frames"] == 10  # 1.0 belongs to the last
    unknown = by_progress(axes, frames_of(axes, progress=np.full(40, np.nan)))
    assert unknown["greatest"] is None and unknown["unknown_frames"] == 40


def test_a_shadow_that_equals_the_run_is_never_nearer(axes):
    turn = np.repeat([0, 1, 2, 0], 10)
    same = np.full((40, 2), 0.3)
    found = human(frames_of(axes, turn=turn, to_human=same))["now"]
    assert (found["frames"], found["equal"], found["share_of_frames"]) == (20, 20, 0.0)
    assert found["turns_decided"] == 0 and found["low"] is None
    nobody = human(frames_of(axes))
    assert nobody["turns"] == 0 and nobody["now"]["share_of_frames"] is None


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [(1.0, 2.0, "earlier"), (2.0, 1.0, "later"), (1.0, 1.0, "same time"),
     (0.5, 2.0, "shadow only"), (2.0, 0.5, "run only"), (0.5, 0.5, "neither")],
)  # fmt: skip
def test_who_calls_the_task_done_first(report, ours, theirs, word):
    judged = Judged(0.9, SignalSettings(), False)
    curves = tuple(
        curve([(START_NS + k * PERIOD, min(k / 60 * slope, 1.0), math.nan) for k in range(80)],
              START_NS, judged)
        for slope in (ours, theirs)
    )  # fmt: skip
    found = completion([replace(report.episodes[0], curves=curves)])
    assert found["shadow_is"] == word and found["counts"][word] == 1


def test_a_head_with_quantiles_is_judged_by_its_lower_one_as_live():
    judged = Judged(0.9, SignalSettings(level="q10"), True)
    rows = [(START_NS + k * PERIOD, 1.0, 0.5) for k in range(40)]
    assert math.isnan(curve(rows, START_NS, judged).done_s)
    assert curve([(ns, mean, math.nan) for ns, mean, _ in rows], START_NS, judged).done_s > 0
    assert math.isnan(curve([], START_NS, judged).end)


def test_a_person_who_never_led_and_a_shadow_without_a_head_leave_no_number(report, tmp_path):
    (episode,) = report.episodes
    still = replace(episode.curves[1], times_s=np.array([]), values=np.array([]), done_s=math.nan)
    nobody = np.zeros_like(episode.frames.turn)
    frames = replace(episode.frames, turn=nobody, turn_ahead=nobody)
    silent = replace(episode, curves=(episode.curves[0], still), frames=frames)
    figures = json.dumps(summary([silent]), allow_nan=False)
    assert json.loads(figures)["completion"]["shadow_end"] is None
    assert [f.name for f in write_report(ShadowReport([silent]), tmp_path)][1:] == [
        "000-one.png", "overall.png",
    ]  # fmt: skip
