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


def test_the_same_motion_has_the_same_joints_in_every_scene(task):
    """What is half a turn apart in two demonstrations, a policy learns the middle of."""
    episodes = [demonstrate(task, seed, noise_rad=0.035) for seed in range(200_010, 200_014)]
    actions = np.concatenate([episode.action for episode in episodes])
    turns = [k for k, joint in enumerate(task.joints) if joint.endswith(("roll", "rotate"))]
    assert np.abs(actions[:, turns]).max() < 1.7, "a wrist goes through its singularity"
    assert max(np.abs(np.diff(e.action, axis=0)).max() for e in episodes) < 0.3


def test_the_expert_takes_over_a_forearm_that_is_rolled(task):
    task.reset(200_000)
    rolled = task.command.copy()
    rolled[[3, 10]] = 0.4, -0.4
    task.set_command(rolled)
    task.advance(0.5)
    plan = task.expert()
    begins, ends = (np.abs(plan.command(t_s)[[3, 10]]) for t_s in (0.0, plan.duration_s))
    assert begins.min() > 0.3 and ends.max() < 1e-6


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
