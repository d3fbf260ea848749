"""Jogging goes where stick and keys say and stops when let go; the scripted human helps."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import parse_contract
from rewact_ros.control.jog import (
    JogInput,
    JogIntegrator,
    JogSource,
    JoyError,
    is_pressed,
    joy_rates,
)
from rewact_ros.control.keyboard import KeyboardJog, split_keys
from rewact_ros.kinematics import ArmModel, ArmModelError, pose_error, rotation_by, rotation_vector
from rewact_ros.sim.human import Phase, ScriptedHuman, Traits
from rewact_ros.sim.pick_place.expert import Expert
from rewact_ros.sim.pick_place.grasp_kinematics import tip_down
from rewact_ros.sim.pick_place.scene import build_xml
from rewact_ros.sim.pick_place.task import PickPlace

DT_S = 0.02
HOME = np.append(tip_down(0.29, 0.0, 0.21, 0.0), 1.0)
SINGULAR = {
    "stretched up": [0, 0, -np.pi / 2, 0, 0, 0, 1],
    "wrist in line": [0, -0.2, 0.2, 0, 0, 0, 1],
    "wrist near line": [0.3, -0.2, 0.2, 0, 1e-4, 0, 1],
    "reaching far": [*tip_down(0.512, 0.0, 0.02, 0.0), 1.0],
}


@pytest.fixture(scope="module")
def arm(vx300s):
    return ArmModel(vx300s.teleop_source("gamepad").jog.tool, build_xml)


@pytest.fixture
def cartesian(vx300s, arm):
    return JogIntegrator(vx300s, vx300s.teleop_source("gamepad").jog, arm)


@pytest.fixture
def joint_contract():
    """The arm with a gamepad that jogs joints."""
    data = strict_yaml.load(VX300S)
    data["teleop"]["gamepad"]["jog"] = {
        "mode": "joint",
        "axes": {"waist": 0, "shoulder": 1},
        "buttons": {"gripper": [0, 1]},
        "speed": {"default": 0.5, "shoulder": -0.4, "gripper": 2.0},
    }
    return parse_contract(data)


def move(integrator, start, direction, rate, seconds, settle_s=0.3):
    """Push one direction, let go; returns targets (T, 7)."""
    rates = np.zeros(7)
    rates[direction] = rate
    targets = [integrator.start(np.array(start, dtype=float))]
    for i in range(round((seconds + settle_s) / DT_S)):
        pushed = rates if i < round(seconds / DT_S) else np.zeros(7)
        targets.append(integrator.step(pushed, DT_S))
    return np.array(targets)


@pytest.mark.parametrize("direction", range(6))
@pytest.mark.parametrize("rate", [1.0, -0.5])
@pytest.mark.parametrize("start", [HOME, [*tip_down(0.36, -0.12, 0.05, 0.3), 0.4]])
def test_the_tool_goes_exactly_as_far_as_the_stick_says_and_nowhere_else(
    vx300s, arm, cartesian, direction, rate, start
):
    jog = vx300s.teleop_source("gamepad").jog
    targets = move(cartesian, start, direction, rate, 0.5)
    error = pose_error(arm.pose(targets[0, :6]), arm.pose(targets[-1, :6]))
    error[direction] -= rate * jog.speed[direction] * 0.5
    assert np.linalg.norm(error[:3]) < 1e-4  # m
    assert np.linalg.norm(error[3:]) < np.radians(0.05)
    assert (targets[:, 6] == start[6]).all()


def test_the_orientation_is_kept_all_the_way_of_a_translation(arm, cartesian):
    rates = np.array([0.5, 1.0, -0.3, 0, 0, 0, 0])
    cartesian.start(HOME)
    begin = arm.pose(HOME[:6])
    for _ in range(60):
        error = pose_error(begin, arm.pose(cartesian.step(rates, DT_S)[:6]))
        assert np.linalg.norm(error[3:]) < np.radians(0.05)


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("direction", range(6))
@pytest.mark.parametrize("rate", [1.0, -1.0])
def test_singular_poses_stay_finite_slow_and_within_limits(
    vx300s, arm, cartesian, name, direction, rate
):
    targets = move(cartesian, SINGULAR[name], direction, rate, 2.0)
    assert np.isfinite(targets).all()
    limits = vx300s.limits
    assert (targets >= limits.low).all() and (targets <= limits.high).all()
    speed = np.abs(np.diff(targets, axis=0)) / DT_S
    assert (speed <= 0.5 * limits.velocity + 1e-9).all()
    error = pose_error(arm.pose(targets[0, :6]), arm.pose(targets[-1, :6]))
    error[direction] = 0.0
    # What the stick did not ask for stays where it was.
    assert np.linalg.norm(error[:3]) < 0.015 and np.linalg.norm(error[3:]) < np.radians(6)


def test_a_wrist_in_line_lets_the_arm_through(arm, cartesian):
    targets = move(cartesian, SINGULAR["wrist in line"], 1, 1.0, 3.0)
    error = pose_error(arm.pose(targets[0, :6]), arm.pose(targets[-1, :6]))
    assert error[1] > 0.1 and np.linalg.norm(error[3:]) < np.radians(1)


def test_at_the_edge_of_its_reach_the_tool_waits_and_turns_back_at_once(arm, cartesian):
    cartesian.start(HOME)
    outward = np.array([1.0, 0, 0, 0, 0, 0, 0])
    for _ in range(400):
        edge = cartesian.step(outward, DT_S)
    still = cartesian.step(outward, DT_S)
    assert np.abs(still - edge).max() < 1e-4
    back = edge
    for _ in range(10):
        back = cartesian.step(-outward, DT_S)
    assert arm.pose(back[:6])[0][0] < arm.pose(edge[:6])[0][0] - 0.005


def test_joints_jog_at_their_speed_and_stop_at_their_limits(joint_contract):
    jog = joint_contract.teleop_source("gamepad").jog
    integrator = JogIntegrator(joint_contract, jog)
    integrator.start(HOME)
    rates = joy_rates(jog, [1.0, 0.5], [0, 1, 0])
    for _ in range(50):
        target = integrator.step(rates, DT_S)
    assert target[0] == pytest.approx(HOME[0] + 0.5)
    assert target[1] == pytest.approx(HOME[1] - 0.2)
    assert target[6] == 0.0
    assert (target[2:6] == HOME[2:6]).all()


def test_a_stall_of_the_process_is_no_jump(joint_contract):
    integrator = JogIntegrator(joint_contract, joint_contract.teleop_source("gamepad").jog)
    integrator.start(HOME)
    assert integrator.step(np.ones(7), 30.0)[0] <= HOME[0] + 0.5 * 0.05


def test_a_joy_message_without_the_axis_or_button_is_refused(vx300s):
    jog = vx300s.teleop_source("gamepad").jog
    with pytest.raises(JoyError, match="axis 4 for 'z'.*2 axes"):
        joy_rates(jog, [0.0, 0.0], [0, 0])
    with pytest.raises(JoyError, match="axis 1 for 'x'.*nan"):
        joy_rates(jog, [float("nan")] * 5, [0, 0])
    with pytest.raises(JoyError, match="button 5, got 2"):
        is_pressed([0, 0], 5)


def test_sticks_and_buttons_of_one_direction_add_up_to_full_deflection_at_most(vx300s):
    jog = replace(
        vx300s.teleop_source("gamepad").jog,
        axes=(("x", 0),),
        buttons=(("x", 0, 1), ("gripper", 2, 1)),
    )
    for axis, buttons, x, gripper in (
        (-0.5, [1, 0, 0], 0.5, 0.0),
        (0.5, [0, 1, 0], -0.5, -1.0),
        (0.5, [1, 0, 1], 1.0, 1.0),
        (-0.5, [0, 1, 1], -1.0, 0.0),
    ):
        rates = joy_rates(jog, [axis], buttons)
        assert (rates[0], rates[6]) == (x, gripper) and not rates[1:6].any()
    with pytest.raises(JoyError, match="axis 0 for 'x'.*0 axes"):
        joy_rates(jog, [], [0, 0, 0])
    with pytest.raises(JoyError, match="button 2, got 2"):
        joy_rates(jog, [0.0], [0, 0])


def test_a_jog_keeps_to_limits_and_to_half_the_arms_speed(joint_contract):
    jog = replace(joint_contract.teleop_source("gamepad").jog, speed=(100.0,) * 7)
    integrator = JogIntegrator(joint_contract, jog)
    outside = HOME + np.array([9.0, -9.0, 0, 0, 0, 0, 9.0])
    limits = joint_contract.limits
    held = integrator.start(outside)
    assert held[[0, 1, 6]].tolist() == [limits.high[0], limits.low[1], limits.high[6]]
    integrator.start(HOME)
    for sign in (1, -1):
        moved = integrator.step(sign * np.eye(7)[0], DT_S) - integrator.start(HOME)
        assert moved[0] == pytest.approx(sign * 0.5 * 2.5 * DT_S)


def test_kinematics_and_tool_come_together(vx300s, joint_contract, arm):
    with pytest.raises(ValueError, match="iff the jog has a tool"):
        JogIntegrator(vx300s, vx300s.teleop_source("gamepad").jog)
    with pytest.raises(ValueError, match="iff the jog has a tool"):
        JogIntegrator(joint_contract, joint_contract.teleop_source("gamepad").jog, arm)


def test_input_counts_up_to_its_age_and_none_at_first(joint_contract):
    integrator = JogIntegrator(joint_contract, joint_contract.teleop_source("gamepad").jog)
    source = JogSource(integrator, 0.25)
    assert source.reason == "no input yet"
    assert source.step(1.0, None, HOME, True) is None and source.reason == "no input yet"
    given = JogInput(True, np.zeros(7), 1.0)
    assert source.step(1.25, given, HOME, True) is not None
    assert source.step(1.26, given, HOME, True) is None


class Tries:
    """A `JogSource` on a hand-wound clock, whose stick was seen at rest unless told otherwise."""

    def __init__(self, contract, rested=True):
        source = contract.teleop_source("gamepad")
        self.source = JogSource(JogIntegrator(contract, source.jog), source.max_age_s)
        self.now_s = 100.0
        if rested:
            self.step(pressed=False, rate=0.0)

    def step(self, pressed=True, age_s=0.0, joints=HOME, in_control=True, rate=1.0):
        self.now_s += DT_S
        rates = np.broadcast_to(rate, 7).astype(float)
        given = JogInput(pressed, rates, self.now_s - age_s)
        return self.source.step(self.now_s, given, joints, in_control)


def test_targets_stand_at_the_robot_until_the_human_is_in_control(joint_contract):
    tries = Tries(joint_contract)
    moved = HOME + 0.05
    moved[6] = 0.9
    assert (tries.step(in_control=False) == HOME).all()
    assert tries.source.reason == "not in control"
    assert (tries.step(pressed=False, joints=moved) == moved).all()
    assert tries.source.reason == "deadman is not pressed"
    assert (tries.step(joints=HOME) == HOME).all()
    assert tries.step(joints=moved)[0] == pytest.approx(HOME[0] + 0.5 * DT_S)
    assert tries.source.reason == ""


@pytest.mark.parametrize("rate", [1.0, -1.0, 0.06])
def test_a_direction_counts_only_after_it_was_seen_at_rest(joint_contract, rate):
    """A stick that lies on its side, a trigger that rests at 1, a button that hangs."""
    tries = Tries(joint_contract, rested=False)
    stuck = np.eye(7)[0] * rate
    for pressed, in_control in ((False, False), (True, False), (True, True)):
        for _ in range(20):
            target = tries.step(pressed, in_control=in_control, rate=stuck)
            assert (target == HOME).all()
    assert tries.source.reason.startswith("waist: not seen at rest yet")
    other = stuck + np.eye(7)[6] * -1.0  # the others jog meanwhile
    moved = [tries.step(rate=other) for _ in range(5)][-1]
    assert moved[0] == HOME[0] and moved[6] < HOME[6]
    tries.step(rate=0.0)
    moved = [tries.step(rate=stuck) for _ in range(5)][-1]
    assert (moved[0] - HOME[0]) * rate > 0 and tries.source.reason == ""


@pytest.mark.parametrize("lost", [{"age_s": 0.3}, None])
def test_after_a_silence_a_direction_must_be_seen_at_rest_again(joint_contract, lost):
    tries = Tries(joint_contract)
    assert (tries.step(rate=0.0), tries.step())[1][0] > HOME[0]
    if lost is None:
        assert tries.source.step(tries.now_s, None, HOME, True) is None
    else:
        assert tries.step(**lost) is None
    assert (np.array([tries.step() for _ in range(20)]) == HOME).all()


def test_without_joints_for_a_moment_the_stick_is_still_known(joint_contract):
    tries = Tries(joint_contract)
    assert tries.step(joints=None) is None
    tries.step()
    assert tries.step()[0] > HOME[0]


def test_a_deflection_within_the_dead_zone_is_rest(joint_contract):
    tries = Tries(joint_contract, rested=False)
    assert (np.array([tries.step(rate=0.05) for _ in range(5)]) == HOME).all()
    assert tries.step(rate=0.06)[0] > HOME[0]


def test_letting_the_deadman_go_stops_at_once_and_a_new_press_begins_from_the_robot(joint_contract):
    tries = Tries(joint_contract)
    for _ in range(20):
        far = tries.step()
    assert far[0] > HOME[0] + 0.1
    elsewhere = np.append(HOME[:6] - 0.1, 0.5)
    for pressed in (False, True):
        assert (tries.step(pressed=pressed, joints=elsewhere) == elsewhere).all()
    assert tries.step(joints=elsewhere)[0] == pytest.approx(elsewhere[0] + 0.5 * DT_S)


@pytest.mark.parametrize(
    ("lost", "reason"), [({"age_s": 0.3}, "0.30 s old"), ({"joints": None}, "joint positions")]
)
def test_silence_of_the_input_or_of_the_joints_ends_the_targets(joint_contract, lost, reason):
    tries = Tries(joint_contract)
    for _ in range(20):
        tries.step()
    assert tries.step(**lost) is None
    assert reason in tries.source.reason
    assert (tries.step() == HOME).all()


def test_rotation_vectors_and_matrices_are_inverse():
    rng = np.random.default_rng(1)
    for length in (0.0, 1e-9, 0.3, 2.5, 3.1):
        axis = rng.standard_normal(3)
        vector = length * axis / np.linalg.norm(axis)
        rotation = rotation_by(vector)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(rotation_vector(rotation), vector, atol=1e-9)


URDF = """<robot name="two_links">
  <link name="base"/><link name="upper"><visual><geometry><mesh filename="package://x/y.stl"/>
  </geometry></visual></link><link name="tool"/>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 0.5"/><axis xyz="0 0 1"/><limit lower="-1" upper="1" effort="1" velocity="1"/>
  </joint>
  <joint name="flange" type="fixed"><parent link="upper"/><child link="tool"/>
    <origin xyz="1 0 0"/></joint>
</robot>"""


def tool_of(vx300s, **changes):
    return replace(vx300s.teleop_source("gamepad").jog.tool, **changes)


def test_a_urdf_gives_the_same_kinematics_without_its_meshes(tmp_path, vx300s):
    path = tmp_path / "robot.urdf"
    path.write_text(URDF)
    tool = tool_of(
        vx300s,
        model=str(path),
        frame="tool",
        tip_m=(0.2, 0.0, 0.0),
        joints=(("waist", "shoulder"),),
    )
    model = ArmModel(tool, build_xml)
    position, _ = model.pose(np.array([np.pi / 2]))
    np.testing.assert_allclose(position, [0, 1.2, 0.5], atol=1e-9)
    jacobian = model.jacobian(np.array([0.0]))
    np.testing.assert_allclose(jacobian[:, 0], [0, 1.2, 0, 0, 0, 1], atol=1e-9)


def test_a_model_that_does_not_fit_is_refused_with_the_name(tmp_path, vx300s):
    with pytest.raises(ArmModelError, match="no body 'gripper'"):
        ArmModel(tool_of(vx300s, frame="gripper"), build_xml)
    with pytest.raises(ArmModelError, match="no joint 'vx300s_left/wast'.*waist"):
        ArmModel(tool_of(vx300s, joints=(("waist", "vx300s_left/wast"),)), build_xml)
    with pytest.raises(ArmModelError, match="no joint 'cubes'.*cube"):
        ArmModel(tool_of(vx300s, joints=(("waist", "cubes"),)), build_xml)
    with pytest.raises(ArmModelError, match="'cube'.*hinge or a slide"):
        ArmModel(tool_of(vx300s, joints=(("waist", "cube"),)), build_xml)
    with pytest.raises(ArmModelError, match=r"absent\.urdf: No such file"):
        ArmModel(tool_of(vx300s, model=str(tmp_path / "absent.urdf")), build_xml)
    broken = tmp_path / "broken.xml"
    broken.write_text("<mujoco><worldbody><bod/></worldbody></mujoco>")
    with pytest.raises(ArmModelError, match=r"broken\.xml: expected MJCF or URDF"):
        ArmModel(tool_of(vx300s, model=str(broken)), build_xml)


def test_a_key_moves_for_a_moment_and_the_deadman_lets_go_by_itself(vx300s):
    keys = KeyboardJog(vx300s.teleop_source("keyboard").jog)
    assert not keys.given(10.0).pressed
    for key in split_keys("u\x1b[C\x1b[B"):  # z up; choose y; y down
        assert keys.press(key, 10.0) is None
    given = keys.given(10.1)
    assert given.pressed and given.rates.tolist() == [0, -1, 1, 0, 0, 0, 0]
    assert keys.given(10.2).pressed and not keys.given(10.2).rates.any()
    assert not keys.given(10.51).pressed


@pytest.mark.parametrize("key", [" ", "\x1b", "r", "d", "q", "\x03"])
def test_a_key_that_ends_motion_lets_go_at_once(vx300s, key):
    keys = KeyboardJog(vx300s.teleop_source("keyboard").jog)
    keys.press("i", 10.0)
    assert keys.press(key, 10.01) is not None
    assert not keys.given(10.02).pressed and not keys.given(10.02).rates.any()


def test_unknown_keys_and_directions_do_nothing(joint_contract):
    keys = KeyboardJog(joint_contract.teleop_source("gamepad").jog)
    for key in split_keys("iz\x1b[Z%é"):  # a joint jog has no x
        keys.press(key, 10.0)
    assert not keys.given(10.0).rates.any()
    keys.press("c", 11.0)
    assert keys.given(11.0).rates.tolist() == [0] * 6 + [-1]


@pytest.fixture(scope="module")
def sim():
    sim = PickPlace(cameras=())
    yield sim
    sim.close()


class Helped:
    """A scripted human on a simulated arm at 50 Hz, without ROS."""

    def __init__(self, sim, seed, traits=None):
        self.sim, self.now_s = sim, 0.0
        self.human = ScriptedHuman(PickPlace, traits or Traits(), seed)
        self.targets = []

    def run(self, until, limit_s=60.0, takes_control=True):
        end_s = self.now_s + limit_s
        while not until() and self.now_s < end_s:
            control = takes_control and self.human.pressed
            target = self.human.step(self.now_s, self.sim.command, self.sim.scene(), control)
            if control and target is not None:
                self.sim.set_command(target)
                self.targets.append(target)
            self.sim.advance(DT_S)
            self.now_s += DT_S
        assert until(), (self.human.phase, self.human.reason)


@pytest.mark.parametrize(
    ("seed", "share", "fault"),
    [
        (100_000, 0.0, None),
        (100_001, 0.3, None),  # on the way down
        (100_002, 0.5, None),  # the cube in the air
        (100_003, 0.6, "dropped_cube"),
        (100_004, 1.0, "missed_grasp"),
    ],
)
def test_the_scripted_human_takes_over_wherever_the_arm_and_the_cube_are(sim, seed, share, fault):
    sim.reset(seed)
    expert = Expert(sim, fault, np.random.default_rng(seed))
    expert.plan()
    for tick in range(int(share * expert.duration_s / DT_S)):
        sim.set_command(expert.command(tick * DT_S))
        sim.advance(DT_S)
    helped = Helped(sim, seed)
    helped.human.ask(0.0)
    helped.run(lambda: helped.human.reason == "done")
    assert sim.truth().success and not helped.human.pressed
    steps = np.abs(np.diff(helped.targets, axis=0))[:, :6]
    assert steps.max() < 2.5 * DT_S  # no jump: the contract's velocity


def test_a_person_takes_time_to_react_and_is_a_little_unsteady(sim):
    starts, paths = [], []
    for seed in range(8):
        sim.reset(100_005)
        helped = Helped(sim, seed, Traits(reaction_s=0.5, noise_rad=0.01))
        helped.human.ask(0.0)
        helped.run(lambda helped=helped: helped.human.pressed)
        starts.append(helped.now_s)
        begin = sim.command
        helped.run(lambda helped=helped: len(helped.targets) > 50)
        np.testing.assert_allclose(helped.targets[0], begin, atol=1e-9)
        paths.append(helped.targets[50])
    assert 0.2 < min(starts) < max(starts) < 1.5 and np.ptp(starts) > 0.05
    assert 1e-3 < np.std(paths, axis=0)[:6].max() < 0.05


def test_the_scripted_human_lets_go_when_control_is_taken_away_or_it_is_sent_away(sim):
    sim.reset(100_006)
    helped = Helped(sim, 0)
    helped.human.ask(0.0)
    helped.run(lambda: helped.human.phase is Phase.HELPING)
    helped.run(lambda: not helped.human.pressed, takes_control=False)
    assert "taken away" in helped.human.reason
    helped.human.ask(helped.now_s)
    helped.run(lambda: helped.human.pressed)
    helped.human.leave("sent away")
    assert not helped.human.pressed


def test_a_cube_out_of_reach_is_said_and_not_reached_for(sim):
    human = ScriptedHuman(PickPlace, Traits(reaction_s=0.0), 0)
    sim.reset(100_007)
    scene = replace(sim.scene(), objects=np.array([0.9, 0.0, 0.02, 0.0]))
    human.ask(0.0)
    human.step(0.1, HOME, scene, False)
    assert human.pressed
    human.step(0.2, HOME, scene, True)
    assert not human.pressed and "out of reach" in human.reason
