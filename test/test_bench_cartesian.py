"""The fuzzing of poses and twists that `rewact bench cartesian` stands on."""

import sys

import numpy as np
from conftest import ROOT

BENCHMARKS = ROOT / "benchmarks"


def test_a_few_poses_and_twists_are_fuzzed_and_all_stay_within(own_modules):
    sys.path.append(str(BENCHMARKS))
    import cartesian

    done, sent = cartesian.fuzz_poses(2000)
    assert done >= 2000 and len(sent) > 10
    assert not any(cartesian.unsafe_poses(sent).values())
    twists, arms = cartesian.fuzz_twists(1000)
    assert len(twists) > 10 and not any(cartesian.unsafe_twists(twists, arms).values())
    assert np.isfinite(cartesian.handover(np.random.default_rng(1))).all()
