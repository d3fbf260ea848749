"""Progress labels: exact values and refusals."""

import numpy as np
import pytest

from rewact_ros.reward.labels import FALL_FRAMES, progress_ramp, task_progress


def test_ramp_is_zero_then_linear_then_one():
    labels = progress_ramp(101)
    assert labels.dtype == np.float32 and labels.shape == (101,)
    assert (labels[:6] == 0).all() and (labels[95:] == 1).all()
    assert labels[50] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diff(labels[5:96]), 1 / 90, atol=1e-6)


def test_ramp_of_a_single_frame_is_zero():
    assert progress_ramp(1).tolist() == [0.0]


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
