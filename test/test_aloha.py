"""The ACT paper's two tasks behind the seam: scenes and rewards of the suite, an expert of ours."""

import numpy as np
import pytest

from rewact_ros.contract import load_contract
from rewact_ros.episodes.dataset import check_contract
from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.sim.task import TaskError, find_task

NAMES = ("aloha/transfer-cube", "aloha/insertion")


@pytest.fixture(scope="module", params=NAMES)
def task(request):
    return find_task(request.param)()


def test_the_expert_succeeds_under_noise(task):
    episodes = [demonstrate(task, seed, noise_rad=0.035) for seed in range(200_000, 200_003)]
    good = [episode for episode in episodes if episode.truth.success]
    assert len(good) >= 2  # noise spoils an insertion now and then
    assert all(episode.success_frame > 4 * task.rate_hz for episode in good)


@pytest.mark.parametrize("fault", ["missed", "let_go", "stopped"])
def test_a_fault_is_a_real_failure(task, fault):
    episode = demonstrate(task, 200_000, fault)
    assert episode.success_frame is None and episode.truth.failure


def test_scenes_are_the_suite_s(task):
    from gym_aloha.utils import sample_box_pose, sample_insertion_pose

    for seed in (0, 7):
        task.reset(seed)
        transfer = task.name.endswith("cube")
        poses = sample_box_pose(seed) if transfer else np.hstack(sample_insertion_pose(seed))
        np.testing.assert_allclose(task.objects()[16:], poses)


def test_the_contract_is_of_fourteen_joints(task):
    contract = load_contract(task.contract_file())
    check_contract(contract, type(task))
    assert len(contract.action_names) == 14
    task.reset(0)
    np.testing.assert_allclose(task.command, contract.reset.pose, atol=1e-6)


def test_closed_grippers_at_the_start_have_missed_nothing(task):
    task.reset(0)
    task.advance(1.0)
    assert task.truth().failure == "" and task.truth().stage == "reach"


def test_another_name_is_refused():
    with pytest.raises(TaskError, match="aloha/fold: expected one of transfer-cube, insertion"):
        find_task("aloha/fold")
