"""What a policy's numbers mean, and that the robot gets absolute joints of them."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT

from rewact_ros import strict_yaml
from rewact_ros.contract import ContractError, load_contract
from rewact_ros.contract.load import parse_contract
from rewact_ros.contract.schema import JogTool
from rewact_ros.episodes.demonstration import demonstrate
from rewact_ros.kinematics import ArmModel, follow, pose_error
from rewact_ros.learning.imitation.represented import RepresentedActions, represent
from rewact_ros.learning.imitation.settings import TrainError, TrainSettings
from rewact_ros.policy.representations import (
    JOINT_KINDS,
    KINDS,
    POSE_KINDS,
    POSE_NAMES,
    Columns,
    Gripper,
    Poses,
    Representation,
    RepresentationError,
    decode_joints,
    decode_poses,
    encode_joints,
    encode_poses,
)
from rewact_ros.policy.resolved import (
    Resolver,
    Switch,
    representation_of,
    require_representation,
)
from rewact_ros.rotations import rotation_vectors, rotations
from rewact_ros.sim.task import find_task

VX300S = ROOT / "config" / "robots" / "vx300s.yaml"
CHUNK = 20


@pytest.fixture(scope="module")
def contract():
    return load_contract(VX300S)


@pytest.fixture(scope="module")
def arm(contract):
    pytest.importorskip("gym_aloha")
    return ArmModel(contract.kinematics, find_task("pick_place").robot_model)


@pytest.fixture(scope="module")
def blind():
    """The simulated arm, without cameras."""
    pytest.importorskip("gym_aloha")
    return find_task("pick_place")(96, 96, ())


@pytest.fixture(scope="module")
def episodes(blind):
    return [demonstrate(blind, seed) for seed in range(6)]


def test_rotation_vectors_and_rotations_are_inverses_up_to_half_a_turn():
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(500, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([[0.0, 1e-12, 1e-6, np.pi - 1e-7], rng.uniform(0, np.pi, 496)])
    vectors = axes * angles[:, None]
    assert np.abs(rotation_vectors(rotations(vectors)) - vectors).max() < 1e-7
    half = rotation_vectors(rotations(np.array([[0.0, np.pi, 0.0]])))
    assert np.abs(half[0]) == pytest.approx([0, np.pi, 0])


@pytest.mark.parametrize("kind", JOINT_KINDS)
def test_joints_come_back_from_every_representation(kind):
    rng = np.random.default_rng(1)
    goals, seen = rng.normal(size=(CHUNK, 3)), rng.normal(size=3)
    chunk = encode_joints(kind, goals, seen, 0.05)
    assert decode_joints(kind, chunk, seen, 0.05) == pytest.approx(goals)
    batch = encode_joints(kind, goals[None], seen[None], 0.05)
    assert batch[0] == pytest.approx(chunk)


@pytest.mark.parametrize("kind", POSE_KINDS)
def test_poses_come_back_from_every_representation(kind):
    rng = np.random.default_rng(2)
    goals = Poses(rng.normal(size=(CHUNK, 3)), rotations(rng.normal(size=(CHUNK, 3))))
    seen = Poses(rng.normal(size=3), rotations(rng.normal(size=3)))
    chunk = encode_poses(kind, goals, seen, 0.05)
    back = decode_poses(kind, chunk, seen, 0.05)
    assert back.place == pytest.approx(goals.place)
    assert back.turn == pytest.approx(goals.turn)


def test_a_twist_is_what_twist_messages_mean():
    seen = Poses(np.zeros(3), rotations(np.array([0.4, -0.2, 1.0])))
    chunk = np.tile([0.1, 0, 0, 0, 0, 0.5], (10, 1))
    found = decode_poses("ee_twist", chunk, seen, 0.1)
    assert found.place[-1] == pytest.approx([0.1, 0, 0])
    assert found.turn[-1] == pytest.approx(rotations(np.array([0, 0, 0.5])) @ seen.turn)


def test_a_relative_pose_is_lerobots():
    kinematic = pytest.importorskip("lerobot.robots.so_follower.robot_kinematic_processor")
    from lerobot.lerobot_types import TransitionKey

    start = np.eye(4)
    start[:3, :3], start[:3, 3] = rotations(np.array([0.3, -0.5, 0.2])), (0.2, 0.1, 0.3)

    class Still:
        def forward_kinematics(self, q):
            return start

    step = kinematic.EEReferenceAndDelta(Still(), dict.fromkeys("xyz", 1.0), ["a"])
    wanted = np.array([0.01, 0.02, -0.03, 0.1, 0.2, -0.3])
    names = ("target_x", "target_y", "target_z", "target_wx", "target_wy", "target_wz")
    action = {"enabled": 1.0, "gripper_vel": 0.0, **dict(zip(names, wanted, strict=True))}
    step._current_transition = {TransitionKey.OBSERVATION: {"a.pos": 0.0}}
    theirs = step.action(action)
    seen = Poses(start[:3, 3], start[:3, :3])
    ours = decode_poses("ee_relative", wanted[None], seen, 0.05)
    assert ours.place[0] == pytest.approx([theirs[name] for name in POSE_NAMES[:3]])
    turn = rotation_vectors(ours.turn)[0]
    assert turn == pytest.approx([theirs[name] for name in POSE_NAMES[3:]])


def prepared(kind, contract, arm, episode) -> tuple[RepresentedActions, Resolver]:
    representation = representation_of(contract, kind, absolute=("gripper",))
    own = represent(
        representation, contract, arm, episode.action, episode.state, contract.action_names
    )
    return own, Resolver(representation, contract, arm)


@pytest.mark.parametrize("kind", KINDS)
def test_the_experts_joints_come_back_through_the_representation(kind, contract, arm, episodes):
    for episode in episodes:
        own, resolver = prepared(kind, contract, arm, episode)
        last = len(episode.action) - 1
        for row in range(0, last, 25):
            steps = np.minimum(np.arange(row, row + CHUNK), last)
            chunk = own.chunks(np.array([row]), steps[None])[0]
            joints = resolver(chunk, episode.state[row], row * contract.dt_s)
            assert joints == pytest.approx(episode.action[steps], abs=1e-3)
            assert not resolver.trouble
            for one, other in zip(joints[::5], episode.action[steps][::5], strict=True):
                poses = (arm.pose(q[:6].astype(float)) for q in (one, other))
                assert np.linalg.norm(pose_error(*poses)[:3]) < 1e-3


@pytest.mark.parametrize("kind", ["ee", "ee_delta"])
def test_the_experts_episodes_succeed_as_often_when_they_are_driven_through_it(
    kind, contract, arm, blind, episodes
):
    succeeded = 0
    ticks = blind.command_hz // blind.rate_hz
    for episode in episodes:
        _, resolver = prepared(kind, contract, arm, episode)
        blind.reset(episode.seed)
        last = len(episode.action) - 1
        for row in range(last + 1):
            state = blind.observe()["observation.state"]
            # What a perfect policy would say of what is there now.
            steps = np.minimum([row, row + 1], last)
            goals = replace(episode, action=episode.action[steps], state=np.stack([state] * 2))
            own, _ = prepared(kind, contract, arm, goals)
            chunk = own.chunks(np.array([0]), np.array([[0, 1]]))[0]
            here, there = resolver(chunk, state, row * contract.dt_s).astype(float)
            for tick in range(ticks):
                blind.set_command(here + (there - here) * tick / ticks)
                blind.advance(1 / blind.command_hz)
        succeeded += blind.truth().success
    assert succeeded == sum(episode.truth.success for episode in episodes) == len(episodes)


def test_beyond_reach_the_joints_stay_in_limits_and_steps_and_it_is_said(contract, arm):
    representation = representation_of(contract, "ee")
    resolver = Resolver(representation, contract, arm)
    state = np.array([*contract.reset.pose], np.float32)
    place, turn = arm.pose(state[:6].astype(float))
    far = np.concatenate([place + np.array([5.0, 0, 0]), rotation_vectors(turn), [1.0]])
    joints = resolver(np.tile(far, (CHUNK, 1)), state, 0.0)
    limits = contract.limits
    assert (joints >= limits.low - 1e-6).all() and (joints <= limits.high + 1e-6).all()
    assert np.isfinite(joints).all() and "out of reach" in resolver.trouble
    longest = np.maximum(limits.velocity * contract.dt_s, limits.start_jump)
    steps = np.abs(np.diff(np.vstack([state, joints]), axis=0))
    assert (steps[0] <= longest + 1e-6).all()
    assert (steps[1:] <= limits.velocity * contract.dt_s + 1e-6).all()


def test_at_a_singularity_the_joints_do_not_race(contract, arm):
    """Stretched out, the elbow would have to move infinitely fast for the tool to come back."""
    representation = representation_of(contract, "ee_delta")
    resolver = Resolver(representation, contract, arm)
    state = np.zeros(7, np.float32)
    state[:3] = 0.0, 0.0, np.arctan2(0.05955, 0.3) - np.pi / 2 + np.pi / 2
    chunk = np.zeros((CHUNK, 7))
    chunk[:, 0], chunk[:, 6] = -0.005, 1.0  # 5 mm a step, back along the arm
    joints = resolver(chunk, state, 0.0)[:, :6]
    fastest = np.abs(np.diff(joints, axis=0)).max()
    assert fastest <= contract.limits.velocity[:6].max() * contract.dt_s + 1e-6
    assert np.isfinite(joints).all()


FOLDING = """<mujoco><compiler angle="radian"/><worldbody>
<geom name="floor" type="plane" size="1 1 .1"/>
<body name="upper" pos="0 0 .5"><joint name="a" axis="0 1 0" range="-3 3"/>
 <geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
 <body name="fore" pos=".3 0 0"><joint name="b" axis="0 1 0" range="-3.1 3.1"/>
  <geom type="capsule" fromto=".06 0 0 .24 0 0" size=".02"/>
  <body name="hand" pos=".3 0 0"><joint name="c" axis="0 1 0" range="-3 3"/>
   <geom type="sphere" pos="0 0 0" size=".03"/></body></body></body>
</worldbody></mujoco>"""


@pytest.fixture
def folding(tmp_path):
    pytest.importorskip("mujoco")
    (tmp_path / "arm.xml").write_text(FOLDING)
    joints = tuple((name, name) for name in "abc")
    tool = JogTool(str(tmp_path / "arm.xml"), "hand", (0.0, 0.0, 0.0), joints)
    return ArmModel(tool, str)


def test_a_path_into_the_arm_itself_is_refused_before_it(folding):
    begin, end = np.array([0.0, 1.5, 0.0]), np.array([0.0, 3.1, 0.0])
    between = [begin + (end - begin) * k / 40 for k in range(41)]
    assert folding.touching(end) == {"hand and upper"} and not folding.touching(begin)
    limits = np.full(3, -3.2), np.full(3, 3.2)
    path = [folding.pose(q) for q in between]
    found = follow(folding, begin, path, *limits, np.full((41, 3), 0.2))
    assert found.collision == "hand and upper"
    free = [not folding.touching(q) for q in found.joints]
    assert all(free)
    assert found.joints[-1] == pytest.approx(found.joints[-2])
    assert found.joints[-1][1] > 2.5, "it goes as far as it can"


def test_what_overlaps_already_is_no_collision_of_the_path(folding):
    begin = np.array([0.0, 3.1, 0.0])
    path = [folding.pose(begin - np.array([0, 0.02 * k, 0])) for k in range(10)]
    limits = np.full(3, -3.2), np.full(3, 3.2)
    found = follow(folding, begin, path, *limits, np.full((10, 3), 0.2))
    assert not found.collision and found.joints[-1][1] == pytest.approx(3.1 - 0.18, abs=1e-3)


def test_a_binary_gripper_does_not_chatter_and_keeps_its_interval():
    gripper = Gripper("g", "binary", closed=0.0, open=0.8, hysteresis=0.1, min_interval_s=0.3)
    switch = Switch(gripper, 0.05)
    near = np.tile([0.45, 0.55], 10)
    assert (switch(near, 0.8, None) == 0.8).all()
    switch.reset()
    assert (switch(near, 0.0, None) == 0.0).all()
    switch.reset()
    wild = np.tile([0.0, 1.0], 10)
    opened = switch(wild, 0.8, None) > 0.4
    changes = np.flatnonzero(np.diff(opened.astype(int)))
    assert (np.diff(changes) >= 6).all() and len(changes) >= 2


def test_a_binary_gripper_remembers_what_earlier_chunks_decided():
    gripper = Gripper("g", "binary", min_interval_s=1.0)
    switch = Switch(gripper, 0.05)
    assert switch(np.zeros(4), 1.0, 10.0)[0] == 0.0, "closes at once"
    assert switch(np.ones(4), 1.0, 10.05)[0] == 0.0, "too soon to open again"
    assert switch(np.ones(30), 1.0, 10.1)[-1] == 1.0, "later in the chunk it may"
    assert switch(np.ones(4), 0.0, 11.0)[0] == 1.0
    switch.reset()
    assert switch(np.full(4, 0.5), 0.0, 11.05)[0] == 0.0, "begins from the observed gripper"


def test_a_width_is_metres_between_the_fingers(contract):
    wide = representation_of(contract, "joints", "width", ("gripper",), width_m=0.1)
    resolver = Resolver(wide, contract, None)
    state = np.array(contract.reset.pose, np.float32)
    chunk = np.tile(state, (2, 1))
    chunk[:, 6] = 0.05, 0.3
    assert resolver(chunk, state, 0.0)[:, 6] == pytest.approx([0.5, 1.0])


def test_lerobots_names_are_understood():
    joints = ("a", "b", "gripper")
    names = ("gripper.pos", *POSE_NAMES)
    columns = Columns(Representation("ee", names, ("a", "b")), joints)
    assert columns.pose == [1, 2, 3, 4, 5, 6] and columns.kept_columns == [0]
    assert list(columns.kept) == [2] and list(columns.moved) == [0, 1]
    relative = Representation("joints_relative", ("a.pos", "b.pos", "gripper.pos"), ("b.pos",))
    columns = Columns(relative, joints)
    assert list(columns.moved) == [1] and list(columns.kept) == [0, 2]


def test_recorded_poses_are_taken_as_they_are(contract, arm, episodes):
    episode = episodes[0]
    absolute, _ = prepared("ee", contract, arm, episode)
    steps = np.arange(len(episode.action))
    poses = absolute.chunks(np.array([0]), steps[None])[0]
    names = (*POSE_NAMES, "gripper.pos")
    delta = representation_of(contract, "ee_delta")
    own = represent(delta, contract, arm, poses, episode.state, names)
    expected, _ = prepared("ee_delta", contract, arm, episode)
    rows, near = np.array([5, 50]), np.array([[5, 6, 7], [50, 51, 52]])
    assert own.recorded
    assert own.chunks(rows, near) == pytest.approx(expected.chunks(rows, near), abs=1e-5)
    with pytest.raises(TrainError, match="expected joints in the dataset, got poses"):
        plain = representation_of(contract, "joints_delta", absolute=("gripper",))
        represent(plain, contract, arm, poses, episode.state, names)


def test_absolute_poses_near_half_a_turn_are_refused(contract, arm, episodes):
    episode = episodes[0]
    poses = np.zeros((len(episode.action), 7), np.float32)
    poses[:, 3] = np.pi - 0.01
    names = (*POSE_NAMES, "gripper")
    with pytest.raises(TrainError, match="half a turn.*ee_relative or ee_delta"):
        representation = representation_of(contract, "ee")
        represent(representation, contract, arm, poses, episode.state, names)


def test_statistics_are_those_of_the_representation(contract, arm, episodes):
    own, _ = prepared("ee_delta", contract, arm, episodes[0])
    n = len(episodes[0].action)
    rows, end = np.arange(n), np.full(n, n)
    values = own.values(rows, end, CHUNK)
    assert len(values) == sum(min(CHUNK, n - row) for row in rows), "padding does not count"
    assert np.abs(values[:, :3]).max() < 0.1, "steps, not places"
    assert own.floors[:6] == pytest.approx(np.full(6, contract.dt_s)) and own.floors[6] == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kinematics": None}, "expected a section 'kinematics' in the contract of vx300s"),
        ({"frame": "elsewhere"}, "kinematics.frame: expected vx300s_left/gripper_link as in"),
        (
            {"command": "velocity"},
            "expected commands of positions or poses in the contract of",
        ),
    ],
)
def test_a_robot_that_cannot_take_it_refuses_by_name(contract, changed, words):
    representation = representation_of(contract, "ee_delta")
    if "kinematics" in changed:
        other = replace(contract, kinematics=None)
    elif "frame" in changed:
        other = replace(contract, kinematics=replace(contract.kinematics, frame="elsewhere"))
    else:
        other = replace(contract, action=(replace(contract.action[0], command="velocity"),))
    with pytest.raises(RepresentationError, match=words):
        require_representation(representation, other)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "b", "b"), "each name once"),
        (("a", "b", "z"), "expected each joint of a, b, c once, got 'z'"),
        (("a", "b"), "expected c once, got none"),
    ],
)
def test_names_that_do_not_cover_the_robot_are_refused(names, words):
    with pytest.raises(RepresentationError, match=words):
        Columns(Representation("joints_delta", names, ("a",)), ("a", "b", "c"))


def test_settings_refuse_what_a_policy_was_not_trained_for():
    with pytest.raises(TrainError, match="speaks as it was trained"):
        TrainSettings("d", "o", representation="ee_delta", start="policy", contract="c")
    with pytest.raises(TrainError, match="give --contract"):
        TrainSettings("d", "o", representation="ee")
    with pytest.raises(TrainError, match="representation: expected one of"):
        TrainSettings("d", "o", representation="pose")


def test_kinematics_do_not_change_what_a_contract_is_compared_by(contract):
    data = strict_yaml.load(VX300S)
    del data["kinematics"]
    without = parse_contract(data, VX300S.parent)
    assert without.kinematics is None and contract.kinematics is not None
    assert without.hash == contract.hash
    assert without.hash == "5d24ff427013374d29410ff08c694a90712415be162d863b27fe36dc3b57710d"


def test_wrong_kinematics_are_named_with_all_else():
    data = strict_yaml.load(VX300S)
    data["kinematics"] = {"model": 3, "tip": [0, 0], "joints": {"wrong": "x"}, "speed": 1}
    with pytest.raises(ContractError) as error:
        parse_contract(data, VX300S.parent)
    keys = {problem.key for problem in error.value.problems}
    assert {"kinematics.model", "kinematics.tip", "kinematics.frame"} <= keys
    assert "kinematics.joints.wrong" in keys and "kinematics.speed" in keys


def test_the_page_has_every_representation():
    page = (ROOT / "docs" / "representations.md").read_text()
    assert [kind for kind in KINDS if f"| `{kind}`" not in page] == []
