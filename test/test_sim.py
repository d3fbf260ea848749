"""The simulated robot: determinism, command semantics, ground truth and the scripted expert."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.mujoco_backend import SimulationUnavailableError
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.pick_place.expert import Expert
from rewact_ros.sim.pick_place.grasp_kinematics import TIP_M, tip_down
from rewact_ros.sim.pick_place.scene import asset_dir
from rewact_ros.sim.pick_place.simulation import HOME, JOINTS, draw_scene
from rewact_ros.sim.pick_place.task import PickPlace
from rewact_ros.sim.pick_place.truth import TaskJudge, TaskState
from rewact_ros.sim.timing import smooth_noise

STILL = TaskState(
    time_s=0.0,
    height_m=0.0,
    speed_m_s=0.0,
    pads=0,
    arm_contact=False,
    over_tray=False,
    in_tray=False,
    gripper=1.0,
    gripper_command=1.0,
)


@pytest.fixture(scope="module")
def sim():
    sim = PickPlace(cameras=())
    yield sim
    sim.close()


@pytest.fixture(scope="module")
def camera_sim():
    sim = PickPlace()
    yield sim
    sim.close()


def judge(*states):
    """Hold each state for 0.3 s and return the judgement."""
    task = TaskJudge(seed=7)
    time_s = 0.0
    for changes in states:
        for _ in range(30):
            time_s += 0.01
            task.step(TaskState(**{**STILL.__dict__, "time_s": time_s, **changes}))
    return task.truth()


def test_a_seed_gives_the_same_scene_and_motion(sim):
    runs = []
    for _ in range(2):
        sim.reset(41)
        sim.set_command(HOME + 0.1)
        sim.advance(0.5)
        runs.append((sim.joint_positions(), *sim.cube_pose()))
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)
    sim.reset(42)
    assert not np.allclose(sim.cube_pose()[0], runs[0][1])


def test_scenes_are_solvable_and_cube_and_tray_apart():
    for seed in range(500):
        layout, start = draw_scene(seed)
        tip_down(*layout.cube_xy, 0.01, layout.cube_yaw)
        assert layout.tray_xy[1] - layout.cube_xy[1] > 0.14
        assert start.shape == (7,) and start[6] == 1.0


def test_a_reset_never_rewinds_the_clock_and_can_leave_the_arm_alone(sim):
    sim.reset(1)
    command = HOME.copy()
    command[0] = 0.4
    sim.set_command(command)
    sim.advance(0.8)
    before_s, position = sim.time_s, sim.joint_positions()
    cube = sim.cube_pose()[0]
    sim.reset(2, keep_arm=True)
    assert sim.time_s == pytest.approx(before_s)
    np.testing.assert_allclose(sim.joint_positions(), position)
    np.testing.assert_array_equal(sim.command, command)
    assert not np.allclose(sim.cube_pose()[0], cube)
    assert sim.truth().seed == 2
    sim.reset(3)
    assert sim.time_s == pytest.approx(before_s)


def test_a_command_is_an_absolute_position_and_holds(sim):
    sim.reset(0)
    target = HOME + np.array([0.3, 0.1, -0.1, 0.2, 0.1, -0.2, -0.5])
    sim.set_command(target)
    sim.advance(1.5)
    np.testing.assert_allclose(sim.joint_positions(), target, atol=0.01)
    np.testing.assert_allclose(sim.joint_velocities(), 0, atol=0.01)


def test_short_advances_add_up(sim):
    sim.reset(0)
    start_s = sim.time_s
    for _ in range(300):
        sim.advance(0.001)
    assert sim.time_s - start_s == pytest.approx(0.3, abs=0.0026)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_command_that_is_not_finite_is_refused_by_joint_name(sim, bad):
    sim.reset(0)
    before = sim.command
    command = HOME.copy()
    command[2] = bad
    with pytest.raises(ValueError, match="elbow"):
        sim.set_command(command)
    np.testing.assert_array_equal(sim.command, before)
    with pytest.raises(ValueError, match="expected \\(7,\\)"):
        sim.set_command(np.zeros(6))


def test_bad_arguments_are_refused(sim):
    with pytest.raises(ValueError, match="unknown camera 'top'"):
        PickPlace(cameras=("top",))
    with pytest.raises(ValueError, match="px"):
        PickPlace(width=0)
    with pytest.raises(ValueError, match="seed -1"):
        sim.reset(-1)
    with pytest.raises(ValueError, match="advance"):
        sim.advance(math.nan)
    with pytest.raises(ValueError, match="camera 'front'"):
        sim.render("front")
    with pytest.raises(ValueError, match="fault 'sabotage'"):
        Expert(sim, "sabotage")
    with pytest.raises(RuntimeError, match="plan"):
        Expert(sim).command(0.0)
    with pytest.raises(ValueError, match="out of reach"):
        tip_down(0.9, 0.0, 0.0, 0.0)


def test_missing_parts_are_named_with_their_mend(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SimulationUnavailableError, match="pip install --no-deps gym-aloha"):
        asset_dir()


def test_inverse_kinematics_meets_the_model(sim):
    for x, y, z, yaw in ((0.28, -0.2, 0.01, -0.4), (0.48, 0.03, 0.12, 0.5), (0.37, 0.2, 0.04, 0.3)):
        sim.reset(0)
        sim.data.qpos[sim._arm_qpos] = tip_down(x, y, z, yaw)
        sim._mj.mj_kinematics(sim.model, sim.data)
        body = sim.data.body("vx300s_left/gripper_link")
        axes = body.xmat.reshape(3, 3)
        tip = body.xpos + axes @ [TIP_M - 0.069744, 0, 0]
        np.testing.assert_allclose(tip, (x, y, z), atol=1e-3)
        np.testing.assert_allclose(axes[:, 0], (0, 0, -1), atol=1e-3)
        np.testing.assert_allclose(axes[:2, 2], (math.cos(yaw), math.sin(yaw)), atol=1e-3)


def test_cameras_show_the_cube_and_follow_the_arm(camera_sim):
    for seed in range(4):
        camera_sim.reset(seed)
        for camera in ("front", "wrist"):
            image = camera_sim.render(camera)
            assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        red = (camera_sim.render("front").astype(int) @ [1, -1, -1]) > 60
        assert red.sum() > 15
    first = camera_sim.render("wrist").copy()
    camera_sim.set_command(HOME + 0.2)
    camera_sim.advance(0.5)
    assert (camera_sim.render("wrist") != first).mean() > 0.05


def test_rendering_after_close_is_refused():
    sim = PickPlace(cameras=("front",))
    sim.close()
    sim.close()
    with pytest.raises(RuntimeError, match="closed"):
        sim.render("front")


def test_success_needs_rest_release_and_no_touch():
    inside = {"over_tray": True, "in_tray": True}
    assert judge(inside).success
    assert judge(inside).stage == "done"
    for spoiler in ({"speed_m_s": 0.1}, {"arm_contact": True}, {"in_tray": False}):
        assert not judge({**inside, **spoiler}).success
    assert not judge(inside, {"over_tray": False}).success  # knocked out again
    assert math.isnan(judge().success_time_s)


def test_failures_are_told_apart_and_a_grasp_clears_them():
    held = {"pads": 2, "arm_contact": True, "height_m": 0.05, "gripper": 0.45, "gripper_command": 0}
    empty = {"gripper": 0.02, "gripper_command": 0.0}
    assert judge(empty).failure == "missed_grasp"
    assert judge(empty, {}, held).failure == ""
    assert judge(held).failure == "" and judge(held).stage == "lift"
    assert judge(held, {}).failure == "dropped"
    assert judge(held, {}, held).failure == ""
    assert judge({"height_m": -0.2}, held).failure == "off_table"


def test_the_expert_succeeds_with_and_without_noise(sim):
    for seed, noise in ((200_000, 0.0), (200_001, 0.035), (200_002, 0.035)):
        episode = demonstrate(sim, seed, noise_rad=noise)
        assert episode.truth.success, episode.truth
        assert episode.truth.failure == ""
        assert 3.0 < episode.truth.success_time_s < 8.0
        # the clip goes on after the success, and ends at rest
        assert len(episode.action) - episode.success_frame > 12
        np.testing.assert_allclose(episode.action[-8:] - HOME, 0, atol=1e-3)


def test_the_expert_moves_smoothly(sim):
    sim.reset(200_003)
    expert = Expert(sim)
    expert.plan()
    path = np.array([expert.command(t) for t in np.arange(0, expert.duration_s, 0.01)])
    velocity = np.diff(path, axis=0) * 100
    assert np.abs(velocity[:, :6]).max() < 1.6
    assert np.abs(np.diff(velocity, axis=0) * 100)[:, :6].max() < 15


@pytest.mark.parametrize(
    ("fault", "failure"), [("missed_grasp", "missed_grasp"), ("dropped_cube", "dropped")]
)
def test_faults_really_happen(sim, fault, failure):
    for seed in (200_010, 200_011):
        episode = demonstrate(sim, seed, fault)
        assert not episode.truth.success
        assert episode.truth.failure == failure
        assert episode.failure_frame is not None


def test_a_missed_grasp_is_tried_again(sim):
    episode = demonstrate(sim, 200_020, "missed_grasp", retry=True, noise_rad=0.02)
    assert episode.truth.success and episode.retried
    assert episode.failure_frame < episode.resume_frame < episode.success_frame
    steps = np.abs(np.diff(episode.action[:, :6], axis=0)).max()
    assert steps < 0.1  # no jump where the second plan takes over


def test_frames_follow_the_time_convention(sim, monkeypatch):
    """Frame k is observed before any later command; commands between frames are interpolated."""
    sent = []
    original = sim.set_command
    monkeypatch.setattr(sim, "set_command", lambda q: (sent.append(q.copy()), original(q)))
    episode = demonstrate(sim, 200_030)
    sent = np.array(sent)
    assert len(sent) == 5 * len(episode.action)
    np.testing.assert_allclose(sent[::5], episode.action, atol=1e-6)
    between = sent[:-5:5] + (sent[5::5] - sent[:-5:5]) * 0.4
    np.testing.assert_allclose(sent[2:-5:5], between, atol=1e-9)


def test_noise_is_smooth_and_of_the_asked_size():
    noise = smooth_noise(20_000, 0.03, np.random.default_rng(0), PickPlace.noisy)
    np.testing.assert_allclose(noise[:, :6].std(axis=0), 0.03, rtol=0.15)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.03
    assert not noise[:, 6].any()


def test_wilson_interval():
    low, high = wilson_interval(200, 200)
    assert low == pytest.approx(0.9812, abs=1e-4) and high == pytest.approx(1.0)
    with pytest.raises(ValueError):
        wilson_interval(3, 2)


def test_joint_names_are_the_contract_order():
    assert JOINTS == (
        "waist",
        "shoulder",
        "elbow",
        "forearm_roll",
        "wrist_angle",
        "wrist_rotate",
        "gripper",
    )


def test_cameras_render_where_another_package_has_imported_mujoco_before():
    """It has chosen a backend then, without us: the one that needs a screen."""
    code = (
        "import mujoco\n"
        "from rewact_ros.mujoco_backend import make_renderer\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco/>')\n"
        "renderer = make_renderer(model, 8, 8)\n"
        "renderer.update_scene(mujoco.MjData(model))\n"
        "assert renderer.render().shape == (8, 8, 3)\n"
        "renderer.close()\n"
    )
    bare = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=bare, timeout=120
    )
    assert done.returncode == 0, done.stderr
