"""What the benches of robots stand on: contracts that load, modules that are found."""

import sys

import numpy as np
import pytest
from conftest import ROOT

from rewact_ros.bench.figures import Bench
from rewact_ros.bench.topics import load_topic

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def own_modules():
    """What a topic imports from beside itself is gone afterwards, as before a command."""
    before = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before[0]:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]
    sys.path[:] = before[1]


@pytest.mark.parametrize(
    "topic",
    [
        "cartesian",
        "robots",
        "robots-doctor",
        "robots-newcomer",
        "robots-representations",
        "policies",
        "tasks",
    ],
)
def test_a_topic_finds_what_it_imports(topic, tmp_path, own_modules):
    assert callable(load_topic(BENCHMARKS, Bench(topic, True, tmp_path)))


def test_a_few_poses_and_twists_are_fuzzed_and_all_stay_within(own_modules):
    sys.path.append(str(BENCHMARKS))
    import cartesian

    done, sent = cartesian.fuzz_poses(2000)
    assert done >= 2000 and len(sent) > 10
    assert not any(cartesian.unsafe_poses(sent).values())
    twists, arms = cartesian.fuzz_twists(1000)
    assert len(twists) > 10 and not any(cartesian.unsafe_twists(twists, arms).values())
    assert np.isfinite(cartesian.handover(np.random.default_rng(1))).all()
