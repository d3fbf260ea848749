"""What tasks on MuJoCo share: plans by trial, contacts, the truth of an attempt, its labels."""

from pathlib import Path

import numpy as np
import pytest
from conftest import help_out

from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.sim.attempts import AttemptJudge, Look
from rewact_ros.sim.human import ScriptedHuman, Traits
from rewact_ros.sim.mujoco_task import MujocoTask
from rewact_ros.sim.task import Course, Truth
from rewact_ros.sim.tried_plan import TriedPlan

XML = """
<mujoco>
  <option timestep="0.005" gravity="0 0 0"/>
  <worldbody>
    <camera name="above" pos="0.3 0 1.2"/>
    <light pos="0 0 2"/>
    <body name="pusher" pos="0 0 0.05">
      <joint name="x" type="slide" axis="1 0 0" damping="10"/>
      <joint name="y" type="slide" axis="0 1 0" damping="10"/>
      <geom name="tip" size="0.03" mass="1"/>
    </body>
    <body name="block" pos="0.3 0 0.05">
      <joint name="block_x" type="slide" axis="1 0 0" damping="20"/>
      <joint name="block_y" type="slide" axis="0 1 0" damping="20"/>
      <geom name="block" type="box" size="0.04 0.08 0.04" mass="0.3" rgba="1 0 0 1"/>
    </body>
  </worldbody>
  <actuator>
    <position joint="x" kp="300" dampratio="1"/>
    <position joint="y" kp="300" dampratio="1"/>
  </actuator>
</mujoco>
"""
GOAL_M = 0.5


class Push(MujocoTask):
    """A ball pushes a block beyond a line."""

    name, text = "push", "Push the block."
    joints, noisy = ("x", "y"), (0.2, 0.2)
    views, cameras = {"top": "above"}, ("top",)
    robots, fingers = ("pusher",), {}

    @classmethod
    def contract_file(cls):
        return Path("none.yaml")

    def _make(self):
        model = self._mj.MjModel.from_xml_string(XML)
        return model, self._mj.MjData(model)

    def _place(self, seed):
        self._mj.mj_resetData(self.model, self.data)
        self.data.qpos[2:4] = np.random.default_rng(seed).uniform((0.0, -0.1), (0.05, 0.1))
        return np.zeros(2)

    def _apply(self, command):
        self.data.ctrl[:] = command

    def joint_positions(self):
        return self.data.qpos[:2].copy()

    def _success(self):
        return bool(self.data.body("block").xpos[0] > GOAL_M)

    def _tools(self):
        return self.data.body("pusher").xpos.copy()

    def _script(self, fault, rng, breaks_off):
        aside, frame = 0.2 if fault == "missed" else 0.0, 0

        def step():
            nonlocal frame
            frame += 1
            x, y = self.command
            block_y = self.data.body("block").xpos[1] + aside
            if breaks_off and frame >= breaks_off:
                return np.array([max(x - 0.02, 0.0), y]) if fault == "let_go" else self.command
            if abs(y - block_y) > 0.02:
                return np.array([x, y + np.clip(block_y - y, -0.02, 0.02)])
            return np.array([min(x + 0.02, 0.6), y])

        return step

    def _withdrawn(self, command):
        return np.array([0.0, command[1]])


@pytest.fixture(scope="module")
def task():
    return Push()


def test_a_plan_was_tried_and_is_repeated_to_the_last_bit(task):
    for seed in range(5):
        task.reset(seed)
        before = task.data.qpos.copy(), task.data.qvel.copy(), task.command, task.truth().stage
        plan = task.expert()
        after = task.data.qpos.copy(), task.data.qvel.copy(), task.command, task.truth().stage
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
        assert plan.truth.success and 0 < plan.touch_s < plan.nominal_s < plan.duration_s
        episode = demonstrate(task, seed)
        assert episode.truth == plan.truth and episode.failure_frame is None
        assert episode.success_frame == round(plan.nominal_s * task.rate_hz)


@pytest.mark.parametrize(
    ("fault", "failure"), [("missed", "missed"), ("let_go", "lost"), ("stopped", "stuck")]
)
def test_a_fault_that_is_asked_for_is_a_real_failure(task, fault, failure):
    for seed in range(3):
        episode = demonstrate(task, seed, fault)
        assert episode.success_frame is None and episode.truth.failure == failure


def test_a_miss_that_is_noticed_is_made_good(task):
    episode = demonstrate(task, 1, "missed", retry=True)
    assert episode.failure_frame < episode.resume_frame < episode.success_frame


def test_noise_is_little_near_a_contact_and_what_it_moves_is_made_good(task):
    task.reset(0)
    plan = task.expert()
    assert plan.noise_scale(plan.touch_s) < 0.2 < plan.noise_scale(0.0)
    good = [demonstrate(task, seed, noise_rad=0.03).truth.success for seed in range(5)]
    assert all(good)


def test_the_same_seed_is_the_same_scene_and_an_arm_that_is_kept_stays(task):
    task.reset(3)
    first = task.data.qpos.copy()
    task.set_command(np.array([0.1, 0.05]))
    task.advance(0.5)
    arm = task.joint_positions()
    task.reset(3, keep_arm=True)
    np.testing.assert_array_equal(task.data.qpos[2:], first[2:])
    np.testing.assert_array_equal(task.joint_positions(), arm)
    task.reset(3)
    np.testing.assert_array_equal(task.data.qpos, first)
    with pytest.raises(ValueError, match="seed -1"):
        task.reset(-1)


def test_a_person_helps_from_where_everything_is(task):
    task.reset(2)
    plan = task.expert(np.random.default_rng(0), "stopped")
    for frame in range(len(plan.targets)):
        task.set_command(plan.targets[frame])
        task.advance(0.05)
    assert task.truth().failure == "stuck"
    human = ScriptedHuman(Push, Traits(reaction_s=0.1), seed=0)
    help_out(task, human, limit_s=20.0)
    assert human.reason == "done" and task.truth().success


def test_a_push_moves_the_thing(task):
    task.reset(0)
    before = task.data.body("block").xpos[1]
    task.push(np.array([0.0, 5.0, 0.0]))
    task.advance(0.3)
    task.push(np.zeros(3))
    assert task.data.body("block").xpos[1] > before + 0.01


@pytest.mark.parametrize("duration_s", [-0.01, 0.004, float("nan")])
def test_time_passes_in_whole_ticks(task, duration_s):
    with pytest.raises(ValueError, match=r"expected a multiple of 1/100 s|cannot convert"):
        task.advance(duration_s)


def test_a_command_or_camera_that_is_none_is_named(task):
    with pytest.raises(ValueError, match=r"shape \(3,\): expected \(2,\) for x, y"):
        task.set_command(np.zeros(3))
    with pytest.raises(ValueError, match="joint 'y' is not finite"):
        task.set_command(np.array([0, np.nan]))
    with pytest.raises(ValueError, match="camera 'side': expected some of top"):
        Push(32, 32, ("side",))
    with pytest.raises(ValueError, match="fault 'odd': expected one of missed, let_go, stopped"):
        task.expert(fault="odd")


def test_cameras_see_the_scene():
    task = Push(48, 32, ("top",))
    task.reset(0)
    picture = task.observe()["observation.images.top"]
    assert picture.shape == (32, 48, 3) and picture.dtype == np.uint8 and picture.std() > 5
    task.close()


# the truth ----------------------------------------------------------------------------------


def judge(*moments):
    """Truths of moments, each (seconds, what is true of it, where the tool is)."""
    judge, now_s, truths = AttemptJudge(7), 0.0, []
    for seconds, what, place in moments:
        for _ in range(round(seconds * 20)):
            now_s += 0.05
            words = what.split()
            judge.step(
                Look(
                    time_s=now_s,
                    success="success" in words,
                    stage=next((word for word in words if word in ("touch", "hold")), "reach"),
                    touching="touch" in words or "hold" in words,
                    empty="empty" in words,
                    out_of_reach="gone" in words,
                    tools=np.array([place + 0.02 * now_s if "moves" in words else place]),
                )
            )
            truths.append(judge.truth())
    return truths


def test_success_is_what_the_environment_says_and_lasts_no_longer():
    truths = judge((1, "hold", 0), (0.5, "hold success", 0), (0.2, "hold", 0))
    assert [truth.stage for truth in truths[::10]] == ["hold", "hold", "done", "hold"]
    assert truths[25].success and truths[25].success_time_s == pytest.approx(1.05)
    assert not truths[-1].success and np.isnan(truths[-1].success_time_s)


@pytest.mark.parametrize(
    ("moments", "failure"),
    [
        ([(1, "moves", 0), (0.3, "empty moves", 0)], "missed"),
        ([(1, "moves", 0), (0.1, "empty moves", 0), (0.5, "moves", 0)], ""),  # a bounce
        ([(1, "moves", 0), (2.5, "", 0.3)], "missed"),  # at rest, and never touched
        ([(3, "", 0)], ""),  # it may wait at first
        ([(5, "", 0)], "missed"),
        ([(1, "touch moves", 0), (1.0, "moves", 0)], ""),
        ([(1, "touch moves", 0), (2.0, "moves", 0)], "lost"),
        ([(1, "touch moves", 0), (2.0, "moves", 0), (0.2, "touch moves", 1)], ""),  # made good
        ([(1, "hold moves", 0), (2.5, "hold", 0.3)], "stuck"),
        ([(1, "hold moves", 0), (2.5, "hold", 0.3), (1, "hold moves", 1)], ""),
        ([(1, "moves", 0), (0.1, "gone moves", 0)], "out_of_reach"),
        ([(1, "hold moves", 0), (3, "hold success", 0.3)], ""),
    ],
)
def test_what_went_wrong_is_told_until_it_is_made_good(moments, failure):
    assert judge(*moments)[-1].failure == failure


def labels(*stages):
    """Progress of an episode: (frames, stage, failure) each; the expert touches at 1 s of 2."""
    truths = [
        Truth(0, stage, stage == "done", float("nan"), failure)
        for frames, stage, failure in stages
        for _ in range(frames)
    ]
    touched = np.arange(45) >= 20
    plan = TriedPlan(np.zeros((45, 2)), 20, touched, 2.0, truths[-1])
    state = np.zeros((len(truths), 2), np.float32)
    return Push.progress(Course(plan, state, truths, [0.0] * len(truths)))


def test_labels_of_attempts_climb_as_far_as_was_got_and_fall_at_a_failure():
    good = labels((30, "reach", ""), (30, "touch", ""), (20, "done", ""))
    assert good[0] == 0 and good[60] == 1 == good[-1] and (np.diff(good) >= 0).all()
    hovers = labels((200, "reach", ""))
    assert 0.4 < hovers[-1] < 0.55  # no further than the first contact
    holds = labels((20, "reach", ""), (200, "touch", ""))
    assert 0.6 < holds[-1] < 0.9
    fails = labels((30, "reach", ""), (30, "reach", "missed"))
    assert fails[29] > 0.4 and fails[40] == 0 == fails[-1]
    again = labels((30, "touch", ""), (20, "reach", "lost"), (30, "touch", ""), (9, "done", ""))
    assert again[45] == 0 and again[-1] == 1
    undone = labels((40, "touch", ""), (10, "done", ""), (60, "reach", ""))
    assert undone[45] == 1 and undone[-1] < 0.55
