"""Meta-World behind the seam: every name is a task; the suite's own words where it is not there."""

import multiprocessing
import sys

import numpy as np
import pytest
from conftest import ROOT

from rewact_ros.contract import load_contract
from rewact_ros.episodes.dataset import check_contract
from rewact_ros.sim.metaworld.names import GRASPS, PASSING, TEXTS
from rewact_ros.sim.task import TaskError, find_task, task_names

SHOWN = ("drawer-open-v3", "door-open-v3", "push-v3", "pick-place-v3", "peg-insert-side-v3")


def test_a_suite_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    monkeypatch.setitem(sys.modules, "metaworld.policies", None)
    words = r"metaworld==3.0.0 does not import .*Mend: make suites.*'rewact_ros\[suites\]'"
    with pytest.raises(TaskError, match=words):
        find_task("metaworld/push-v3")


def test_names_are_the_suite_s_and_a_wrong_one_is_refused_without_it():
    assert len(TEXTS) == 50 and TEXTS.keys() >= GRASPS and TEXTS.keys() >= PASSING
    assert "metaworld" in task_names()
    with pytest.raises(TaskError, match="task metaworld: expected metaworld/ and one of assembly"):
        find_task("metaworld")
    with pytest.raises(TaskError, match="task metaworld/push-v9: expected one of assembly-v3, "):
        find_task("metaworld/push-v9")
    with pytest.raises(TaskError, match="'pick_place', which has no parts, got 'pick_place/x'"):
        find_task("pick_place/x")


def test_the_contract_is_of_named_axes():
    contract = load_contract(ROOT / "config" / "robots" / "metaworld.yaml")
    assert contract.action_names == ("hand_x", "hand_y", "hand_z", "gripper")
    assert contract.action_units == ("m", "m", "m", "normalized")


@pytest.fixture
def suite():
    return pytest.importorskip("metaworld", reason="task suites are not installed: make suites")


def test_every_name_is_a_task_of_the_suite(suite):
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert TEXTS.keys() == ALL_V3_ENVIRONMENTS.keys()
    for name in TEXTS:
        task = find_task(f"metaworld/{name}")
        assert task.name == f"metaworld/{name}" and task.text == TEXTS[name]
        check_contract(load_contract(task.contract_file()), task)


@pytest.mark.parametrize("name", SHOWN)
def test_experts_succeed_and_fail_when_asked_to(suite, name):
    from rewact_ros.episodes.demonstration import demonstrate

    task = find_task(f"metaworld/{name}")()
    good = [demonstrate(task, seed, noise_rad=0.02) for seed in range(200_000, 200_004)]
    assert sum(one.truth.success for one in good) >= 3
    for fault in task.faults:
        bad = [demonstrate(task, seed, fault) for seed in range(200_000, 200_003)]
        assert any(not one.truth.success and one.truth.failure for one in bad)


def test_unseen_seeds_are_unseen_scenes_and_a_seed_is_one_scene(suite):
    task = find_task("metaworld/pick-place-v3")()
    places = []
    for seed in (0, 1, 2, 0):
        task.reset(seed)
        places.append(task.objects()[9:12])
    np.testing.assert_array_equal(places[0], places[3])
    assert min(np.linalg.norm(places[0] - places[k]) for k in (1, 2)) > 0.005


def test_a_name_travels_to_a_worker(suite, tmp_path):
    from rewact_ros.episodes.demo_jobs import DemoJob, Simulator

    assert multiprocessing.current_process().name == "MainProcess"
    with Simulator(find_task("metaworld/reach-v3"), 2, (32, 32)) as simulator:
        ((_, episode),) = simulator.run([DemoJob(0, None, False, 0.0)])
    assert episode.truth.success and episode.images["front"].shape[1:] == (32, 32, 3)
