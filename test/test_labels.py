"""Progress labels: exact values and refusals; label files."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewact_ros.reward.keypoints import Keypoint, LabelError, keypoint_curve
from rewact_ros.reward.label_file import read_label_file
from rewact_ros.reward.labels import FALL_FRAMES, progress_ramp, still_frames, task_progress


def test_ramp_is_zero_then_linear_then_one():
    labels = progress_ramp(101)
    assert labels.dtype == np.float32 and labels.shape == (101,)
    assert (labels[:6] == 0).all() and (labels[95:] == 1).all()
    assert labels[50] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diff(labels[5:96]), 1 / 90, atol=1e-6)


def test_the_only_frame_of_a_success_shows_the_success():
    assert progress_ramp(1).tolist() == [1.0]
    assert task_progress(1, nominal_frames=10, success_frame=0).tolist() == [1.0]
    assert task_progress(3, nominal_frames=10, success_frame=0).tolist() == [1.0] * 3


def arm(moving: int, still: int, noise: float = 0.0) -> np.ndarray:
    """(n, 3) joints: one moves, one moves little, one never."""
    way = np.concatenate([np.linspace(0, 1, moving), np.ones(still)])
    state = np.stack([way, 0.02 * way, np.full(len(way), 0.3)], 1)
    return state + np.random.default_rng(0).normal(0, noise, state.shape)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize(("moving", "still"), [(40, 0), (40, 10), (40, 200), (200, 30)])
def test_frames_in_which_the_arm_stands_still_are_counted(moving, still, noise):
    found = still_frames(arm(moving, still, noise))
    # The last 5 % of the way count as arrived, or five usual steps.
    assert still <= found <= still + max(0.07 * moving, 5) + 1


def test_an_arm_that_never_moves_stands_still_and_a_few_frames_tell_nothing():
    assert still_frames(np.zeros((50, 2))) == 50
    assert still_frames(arm(0, 50, noise=1e-4)) == 50
    assert still_frames(np.zeros((5, 2))) == 0


def test_success_reaches_one_exactly_at_the_success_and_stays():
    labels = task_progress(140, 100, success_frame=95)
    assert labels[94] < 1 and (labels[95:] == 1).all()
    np.testing.assert_allclose(labels[:101], progress_ramp(101), atol=1e-6)


def test_failure_climbs_like_a_success_then_falls_to_zero():
    labels = task_progress(120, 95, failure_frame=50)
    np.testing.assert_allclose(labels[:51], progress_ramp(101)[:51], atol=1e-6)
    assert (np.diff(labels[50 : 51 + FALL_FRAMES]) < 0).all()
    assert (labels[50 + FALL_FRAMES :] == 0).all()


def test_failure_at_the_last_frames_is_cut_off():
    assert task_progress(52, 95, failure_frame=50).shape == (52,)
    assert task_progress(51, 95, failure_frame=50)[50] == pytest.approx(0.5)


def test_a_retry_climbs_again_from_the_renewed_approach():
    labels = task_progress(200, 95, success_frame=175, failure_frame=40, resume_frame=80)
    assert (labels[40 + FALL_FRAMES : 81] == 0).all()
    assert (np.diff(labels[90:175]) > 0).all()
    assert labels[174] < 1 and (labels[175:] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_frames": 0}, "n_frames"),
        ({"n_frames": 2.5}, "n_frames"),
        ({"n_frames": 10, "start": 0.9, "end": 0.5}, "start < end"),
        ({"n_frames": 10, "end": float("nan")}, "start < end"),
    ],
)
def test_ramp_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        progress_ramp(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither"),
        ({"success_frame": 100}, "before 100"),
        ({"success_frame": 40, "failure_frame": 50, "resume_frame": 60}, "success_frame"),
        ({"success_frame": 80, "failure_frame": 50}, "resume_frame"),
        ({"failure_frame": -1}, "failure_frame"),
    ],
)
def test_task_progress_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        task_progress(100, 80, **arguments)


def curve(n_frames, *points, interpolation="pchip"):
    return keypoint_curve(n_frames, [Keypoint(*point) for point in points], interpolation)


@pytest.mark.parametrize("interpolation", ["pchip", "linear"])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_between_keypoints_the_curve_stays_between_them_and_falls_only_where_they_fall(
    interpolation, data
):
    n = data.draw(st.integers(2, 300))
    frames = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=8)))
    values = data.draw(st.lists(st.floats(0, 1), min_size=len(frames), max_size=len(frames)))
    labels = curve(n, *zip(frames, values, strict=True), interpolation=interpolation)
    np.testing.assert_array_equal(labels[frames], values)
    frames, values = [0, *frames, n - 1], [labels[0], *values, values[-1]]
    for (start, low), (end, high) in pairwise(zip(frames, values, strict=True)):
        piece = labels[start : end + 1]
        if high >= low:
            assert (np.diff(piece) >= 0).all() and piece.min() >= low and piece.max() <= high
        else:  # held, then one step at the keypoint's own frame
            assert (piece[:-1] == low).all() and piece[-1] == high


def test_a_drop_is_a_step_and_nothing_rises_after_it_by_itself():
    labels = curve(200, (60, 0.5), (80, 0.0))
    assert (labels[60:80] == 0.5).all() and (labels[80:] == 0.0).all()


def test_the_climb_after_a_drop_starts_where_the_keypoints_say():
    labels = curve(200, (60, 0.5), (80, 0.0), (120, 0.0), (160, 1.0))
    assert (labels[80:121] == 0.0).all() and (np.diff(labels[120:161]) > 0).all()
    assert (labels[160:] == 1.0).all() and labels[159] < 1.0


def test_three_keypoints_are_smooth_by_pchip_and_straight_by_linear():
    points = ((20, 0.0), (60, 0.5), (100, 1.0))
    straight, smooth = (curve(101, *points, interpolation=how) for how in ("linear", "pchip"))
    assert straight[40] == pytest.approx(0.25)
    assert 0 < smooth[40] < 0.25  # it leaves the plateau without a kink


LENGTHS = {0: 100, 1: 200, 2: 50}


def read(tmp_path, content, name="labels.yaml"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_label_file(path, 20, LENGTHS)


def points_of(file, episode):
    return [(point.frame, point.value) for point in file.episodes[episode].keypoints]


@pytest.mark.parametrize(
    "content",
    [
        {"1": {"keypoints": [{"frame_index": 10, "reward": 0.5}, {"timestamp": 4.5, "reward": 1}]}},
        {
            "1": {
                "keypoints": [
                    {"frame_index": 10, "timestamp": 0.5, "reward": 0.5},
                    {"frame_index": 90, "timestamp": 4.5, "reward": 1.0},
                ],
                "fps": 20,
            }
        },
        {"1": {"10": 0.5, "90": 1.0}},
        {"1": {"90": 1.0, "10": 0.5}},
    ],
    ids=["list", "as written", "older form", "older form, any order"],
)
def test_the_public_layouts_give_the_same_keypoints(tmp_path, content):
    for name in ("reward_keypoints.json", "reward_keypoints.yaml"):
        assert points_of(read(tmp_path, content, name), 1) == [(10, 0.5), (90, 1.0)]


def test_milestones_by_frame_and_by_time_with_failures_and_retries(tmp_path):
    file = read(
        tmp_path,
        """
        interpolation: linear
        milestones: {pick: 0.5, place: 1.0}
        episodes:
          0: {pick: 30, place: 4.25s}
          1: {start: [5, 4s], pick: [1s, 100], failure: 60, place: 8 s}
          2: {pick: 10, failed: 0.7, failure: 40}
        """,
    )
    assert file.interpolation == "linear"
    assert points_of(file, 0) == [(30, 0.5), (85, 1.0)]
    assert points_of(file, 1) == [(5, 0), (20, 0.5), (60, 0), (80, 0), (100, 0.5), (160, 1.0)]
    assert points_of(file, 2) == [(10, 0.5), (39, 0.7), (40, 0.0)]


def test_a_failed_episode_is_a_ramp_to_its_cap_and_a_success_may_be_a_plain_ramp(tmp_path):
    file = read(tmp_path, "episodes: {0: {failed: 0.4}, 1: ramp}")
    assert [file.episodes[i].ramp_to for i in (0, 1)] == [0.4, 1.0]


def test_subtasks_add_their_shares_and_pauses_between_them_hold(tmp_path):
    file = read(
        tmp_path,
        """
        subtasks: {reach: 0.2, lift: 0.3, place: 0.5}
        episodes:
          0: {subtasks: {reach: [0, 20], lift: [20, 2s], place: [60, 90]}}
          1: {subtasks: {reach: [10, 50]}, failure: 70}
        """,
    )
    assert points_of(file, 0) == [(0, 0), (20, 0.2), (40, 0.5), (60, 0.5), (90, 1.0)]
    assert points_of(file, 1) == [(10, 0), (50, 0.2), (70, 0)]


MILESTONES = "milestones: {pick: 0.5, place: 1.0}\nepisodes: "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"7": {"10": 0.5}}, "7: no such episode; the dataset has 3"),
        ({"-1": {"10": 0.5}}, "no such episode"),
        ({"0": {"100": 0.5}}, "expected a frame of 0 to 99.*got 100"),
        ({"0": {"10": 1.5}}, "frame 10: expected a reward of 0 to 1, got 1.5"),
        ({"0": {"10": True}}, "expected a finite number"),
        ('{"0": {"10": 0.5, "10": 0.6}}', "10: given twice"),
        ('{"0": {"10": 0.5}, "00": {"10": 0.5}}', "the episode is given twice"),
        ({"0": {"keypoints": []}}, "at least one keypoint"),
        ({"0": {"keypoints": [{"frame_index": 3}]}}, r"keypoints\[0\].reward: missing"),
        ({"0": {"keypoints": [{"reward": 1}]}}, "frame_index or timestamp, got neither"),
        ({"0": {"keypoints": [{"frame_index": 2.5, "reward": 1}]}}, "whole number"),
        ({"0": {"keypoints": [{"timestamp": 5.0, "reward": 1}]}}, "0 to 4.95 s, got 5.0 s"),
        ({"0": {"keypoints": [{"timestamp": -1, "reward": 1}]}}, "got -1.0 s"),
        (
            {"0": {"keypoints": [{"frame_index": 3, "timestamp": 1.0, "reward": 1}]}},
            r"frame_index 3 and timestamp 1.0 s \(frame 20\) differ",
        ),
        (
            {"0": {"keypoints": [{"frame_index": f, "reward": 0.5} for f in (9, 9)]}},
            "both at frame 9",
        ),
        (
            {"0": {"keypoints": [{"frame_index": f, "reward": 0.5} for f in (9, 3)]}},
            "expected frames that increase",
        ),
        ({"0": {"keypoint": []}}, "did you mean keypoints"),
        ({"0": {"keypoints": [{"frame_index": 3, "rewrad": 1}]}}, "did you mean reward"),
        ({"0": {"keypoints": [], "fps": 30}}, "fps: expected the dataset's 20, got 30"),
        ("[1, 2]", "expected a mapping"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "too many levels"),
        ('{"0": {"10": NaN}}', "NaN is no number"),
    ],
)
def test_public_files_that_make_no_curve_are_refused(tmp_path, content, message):
    with pytest.raises(LabelError, match=f"reward_keypoints.json.*{message}"):
        read(tmp_path, content, "reward_keypoints.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("milestone: {pick: 0.5}", "milestone: unknown key; did you mean milestones"),
        (MILESTONES + "{0: {pikc: 3}}", r"episodes\.0\.pikc: unknown key; did you mean pick"),
        (MILESTONES + "{0: {pick: 3.2}}", "frame index like 64 or seconds like 3.2s, got 3.2"),
        (MILESTONES + "{0: {pick: 100}}", "expected a frame of 0 to 99, got 100"),
        (MILESTONES + "{0: {pick: 5s}}", "expected 0 to 4.95 s, got 5.0 s"),
        (MILESTONES + "{0: {pick: 9, pick: 10}}", r"line 2: episodes\.0\.pick: given twice"),
        (MILESTONES + "{0: {pick: 9, place: 9}}", "both at frame 9"),
        (MILESTONES + "{0: {pick: 9, place: 5}}", r"pick \(0.5\) at frame 9 cannot follow place"),
        (MILESTONES + "{0: {pick: [9, 20]}}", "pick .* cannot follow pick"),
        (MILESTONES + "{0: {pick: 9, start: 20}}", "start .* cannot follow pick"),
        (MILESTONES + "{0: {start: 9}}", "a start alone"),
        (MILESTONES + "{0: {failed: 1.0}}", "cap of 0 to below 1"),
        (MILESTONES + "{0: {pick: 9, keypoints: []}}", "keypoints go alone, without pick"),
        (MILESTONES + "{0: {failed: 0.3, pick: 9}}", r"failed \(0.3\).*cannot follow pick"),
        (MILESTONES + "{0: 5}", "expected moments by milestone"),
        (MILESTONES + "{9: {pick: 3}}", "no such episode"),
        (MILESTONES + "{0: {subtasks: {a: [0, 3]}}}", "the file gives no shares"),
        ("milestones: {pick: 1.5}", "above 0 and at most 1"),
        ("milestones: {failure: 0.5}", "a meaning of its own"),
        ("milestones: {a: 0.5, b: 0.5}", "different rewards"),
        ("subtasks: {a: 0.5, b: 0.3}", "sum to 1"),
        ("interpolation: cubic", "pchip or linear"),
        ("episodes: [", "not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "the tag '!!python/object/apply:os.getcwd'"),
        (MILESTONES + "{0: {pick: 010}}", r"line 2: episodes\.0\.pick: 010 is octal"),
        ("", "expected a mapping"),
        ("subtasks: {a: 0.5, b: 0.5}\nepisodes: {0: {subtasks: {b: [0, 9]}}}", "expected a as"),
        ("subtasks: {a: 1.0}\nepisodes: {0: {subtasks: {b: [0, 9]}}}", "no such subtask"),
        (
            "subtasks: {a: 0.5, b: 0.5}\nepisodes: {0: {subtasks: {a: [0, 9], b: [5, 20]}}}",
            "before a ends",
        ),
        ("subtasks: {a: 1.0}\nepisodes: {0: {subtasks: {a: [9, 9]}}}", "an end after frame 9"),
    ],
)
def test_our_files_are_strict_and_name_file_and_key(tmp_path, content, message):
    with pytest.raises(LabelError, match=f"labels.yaml.*{message}"):
        read(tmp_path, content)


def test_a_label_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabelError, match="gone.yaml: No such file"):
        read_label_file(tmp_path / "gone.yaml", 20, LENGTHS)
