"""Quaternions ↔ rotation vectors, against SciPy and at the places where it is easy to be wrong."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rewact_ros.rotations import NORM_TOLERANCE, quaternion, rotation_vector

HALF, QUARTER = math.sqrt(0.5), math.pi / 2


def test_both_ways_agree_with_scipy_on_random_rotations():
    rng = np.random.default_rng(0)
    for q in rng.normal(size=(2000, 4)):
        q = q / np.linalg.norm(q)
        vector = rotation_vector(tuple(q))
        np.testing.assert_allclose(vector, Rotation.from_quat(q).as_rotvec(), atol=1e-12)
        back = Rotation.from_quat(quaternion(vector))
        assert (back.inv() * Rotation.from_quat(q)).magnitude() < 1e-7


def test_a_quaternion_and_its_negative_are_one_rotation_at_every_angle():
    axis = np.array([0.6, 0.0, -0.8])
    for angle in (0.0, 1e-12, 1e-6, 1.0, math.pi - 1e-9, math.pi):
        q = np.array([*(axis * math.sin(angle / 2)), math.cos(angle / 2)])
        vector = rotation_vector(tuple(q))
        assert rotation_vector(tuple(-q)) == vector
        assert np.linalg.norm(vector) == pytest.approx(angle, abs=1e-9)


@pytest.mark.parametrize("axis", [*np.eye(3).tolist(), [0.0, HALF, -HALF], [-HALF, HALF, 0.0]])
def test_at_half_a_turn_the_first_component_is_positive(axis):
    for sign in (1.0, -1.0):
        for w in (0.0, -0.0):
            vector = rotation_vector((*(sign * a for a in axis), w))
            assert next(v for v in vector if v != 0.0) > 0.0
            assert math.hypot(*vector) == pytest.approx(math.pi)


def test_the_norm_may_be_off_by_the_tolerance_which_changes_no_angle():
    for off in (-0.99, 0.99):
        norm = 1 + off * NORM_TOLERANCE
        assert rotation_vector((0.0, 0.0, norm * HALF, norm * HALF))[2] == pytest.approx(
            math.pi / 2
        )
        tiny = rotation_vector((0.0, 0.0, norm * 1e-10, norm))[2]
        assert tiny == pytest.approx(2e-10)


@pytest.mark.parametrize(
    ("q", "words"),
    [
        ((0.0, 0.0, 0.0, 0.0), "(0, 0, 0, 0) has the norm 0, expected 1 ± 0.001"),
        ((0.0, 0.0, 0.0, 1.002), "(0, 0, 0, 1.002) has the norm 1.002, expected 1 ± 0.001"),
        ((0.0, 0.0, 0.0, 0.998), "(0, 0, 0, 0.998) has the norm 0.998, expected 1 ± 0.001"),
        ((math.nan, 0.0, 0.0, 1.0), "(nan, 0, 0, 1) has the norm nan, expected 1 ± 0.001"),
        ((math.inf, 0.0, 0.0, 1.0), "(inf, 0, 0, 1) has the norm inf, expected 1 ± 0.001"),
    ],
)
def test_what_is_no_rotation_is_refused_with_its_numbers(q, words):
    with pytest.raises(ValueError) as error:
        rotation_vector(q)
    assert str(error.value) == f"the quaternion (x, y, z, w) = {words}"
