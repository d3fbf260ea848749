"""Streams meet in one observation or say why not: which is old, frozen or out of step."""

import math

import numpy as np
import pytest
from conftest import VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import (
    Frame,
    FrameAssembler,
    Sample,
    SampleError,
    Stale,
    parse_contract,
    select_joints,
)
from rewact_ros.contract.frames import COMPARE_STRIDE, KEEP_NS, DecodeError, check_image
from rewact_ros.contract.turns import turns_hint

MS = 1_000_000
FRONT, WRIST = "observation.images.front", "observation.images.wrist"
JOINTS = 7
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (96, 96, 3), dtype=np.uint8)


class Robot:
    """Feeds an assembler; times in milliseconds, on one clock unless told otherwise."""

    def __init__(self, **changes):
        data = strict_yaml.load(VX300S)
        data.update(changes)
        self.contract = parse_contract(data)
        self.assembler = FrameAssembler(self.contract)

    def joints(self, ms, pose=0.0, seen=None):
        value = np.full(JOINTS, pose, np.float64) if np.isscalar(pose) else np.asarray(pose)
        seen_s = (ms if seen is None else seen) / 1000
        self.assembler.put("observation.state[0]", Sample(ms * MS, seen_s, value))

    def picture(self, key, ms, image=None, seen=None):
        fresh = RNG.integers(0, 255, (96, 96, 3), dtype=np.uint8) if image is None else image
        seen_s = (ms if seen is None else seen) / 1000
        self.assembler.put(key, Sample(ms * MS, seen_s, fresh))

    def all(self, ms, pose=0.0, front=None, wrist=None):
        self.joints(ms, pose)
        self.picture(WRIST, ms, wrist)
        self.picture(FRONT, ms, front)

    def look(self, ms=None):
        return self.assembler.assemble(*(() if ms is None else (ms / 1000, ms * MS)))


@pytest.fixture
def robot():
    return Robot()


def test_before_the_first_message_of_a_stream_its_topic_is_named(robot):
    robot.joints(0)
    stale = robot.look(1)
    assert stale.stream == FRONT and "no message received yet on front/image_raw" in stale.reason
    assert not stale.frozen


def test_an_age_on_its_limit_is_fresh_and_beyond_it_is_not(robot):
    robot.all(0)
    assert robot.assembler.check_fresh(0.2) is None
    stale = robot.assembler.check_fresh(0.2001)
    assert stale.stream == "observation.state[0]" and "limit 0.2 s" in stale.reason
    assert robot.assembler.check_fresh() is None  # a recording has no age
    for now_ms in (250, -250):
        assert robot.assembler.check_fresh(now_ns=now_ms * MS) is None
        stale = robot.assembler.check_fresh(now_ns=now_ms * MS + np.sign(now_ms).item())
        assert stale.stream == FRONT and "compare the clocks" in stale.reason
        assert f"{now_ms / 1000:+.2f} s old" in stale.reason


def test_a_skew_on_its_limit_is_taken_and_beyond_it_is_named_with_its_size(robot):
    robot.joints(940), robot.picture(WRIST, 1000), robot.picture(FRONT, 1000)
    assert isinstance(robot.look(), Frame)
    late = Robot()
    late.joints(939), late.picture(WRIST, 1000), late.picture(FRONT, 1000)
    stale = late.look()
    assert stale.stream == "observation.state[0]"
    assert f"nearest stamp is +0.061 s before {FRONT}, allowed 0 to 0.06 s" in stale.reason
    ahead = Robot()
    ahead.joints(1000), ahead.joints(1040), ahead.picture(WRIST, 1000), ahead.picture(FRONT, 990)
    assert "nearest stamp is -0.010 s before" in ahead.look().reason
    # A bound of seconds does not become another by being counted in nanoseconds.
    exact = Robot(max_skew_s=0.0000029)
    exact.assembler.put("observation.state[0]", Sample(0, 0.0, np.zeros(JOINTS)))
    for key in (WRIST, FRONT):
        exact.assembler.put(key, Sample(2900, 0.0, PICTURE))
    assert isinstance(exact.look(), Frame)


def moving(robot, until_ms, frozen=(WRIST,), speed=0.001, joint=2, start_ms=0):
    """Joint `joint` moves; pictures of `frozen` repeat themselves."""
    for ms in range(start_ms, until_ms, 20):
        pose = np.zeros(JOINTS)
        pose[joint] = speed * (ms - start_ms)
        same = {key.rpartition(".")[2]: PICTURE for key in frozen}
        robot.all(ms, pose, **same)


def test_a_camera_that_repeats_itself_while_a_joint_moves_is_frozen(robot):
    moving(robot, 600)
    stale = robot.look(581)
    assert stale.stream == WRIST and stale.frozen
    assert stale.reason == "the picture does not change although elbow moved"


@pytest.mark.parametrize(
    "motion",
    [
        {"frozen": ()},  # the pictures change
        {"speed": 0.0},  # nothing moves
        {"speed": 0.00005},  # less than trembling: 0.03 rad in all
        {"until_ms": 260},  # pictures lag by no more than max_age_s
    ],
)
def test_a_camera_is_not_called_frozen_without_need(robot, motion):
    until = motion.pop("until_ms", 600)
    moving(robot, until, **motion)
    assert isinstance(robot.look(until - 19), Frame)


def test_motion_of_exactly_what_a_joint_may_tremble_says_nothing_about_a_camera(robot):
    for ms, pose in ((0, 0.0), (20, 0.05), (290, 0.05)):
        robot.all(ms, pose, wrist=PICTURE)
    assert isinstance(robot.look(291), Frame)
    more = Robot()
    for ms, pose in ((0, 0.0), (20, 0.0501), (290, 0.0501)):
        more.all(ms, pose, wrist=PICTURE)
    assert more.look(291).frozen


def test_what_moved_long_ago_and_one_picture_that_differs_end_the_suspicion(robot):
    moving(robot, 400)
    for ms in range(400, 2000, 20):  # at rest where it came to
        robot.all(ms, 0.4, wrist=PICTURE)
    assert isinstance(robot.look(1981), Frame)
    other = Robot()
    moving(other, 400)
    other.all(400, 0.4)
    moving(other, 600, start_ms=420, speed=0.0)
    assert isinstance(other.look(581), Frame)


def test_pictures_are_compared_in_full_where_a_part_of_them_is_the_same(robot):
    for ms in range(0, 600, 20):
        image = PICTURE.copy()
        image[COMPARE_STRIDE - 1] = ms % 251  # on no row that is compared first
        robot.all(ms, ms / 1000, wrist=image)
    assert isinstance(robot.look(581), Frame)


def test_pictures_before_the_first_joints_do_not_count(robot):
    for ms in (0, 20, 40):
        robot.picture(WRIST, ms, PICTURE)
    robot.all(60, wrist=PICTURE)
    assert isinstance(robot.look(61), Frame)


def test_a_stream_that_starts_again_meets_only_what_is_new(robot):
    robot.all(1000)
    assert isinstance(robot.look(), Frame)
    robot.all(1000)  # a stamp twice is not a step back, nor another observation
    assert robot.look() is None
    robot.all(990)  # a little back: the stream alone
    assert robot.look().stamp_ns == 990 * MS


def test_what_is_kept_without_pictures_is_a_second_and_the_sample_before_it(robot):
    robot.picture(WRIST, 0), robot.picture(FRONT, 0)
    kept = robot.assembler._streams["observation.state[0]"].samples
    for ms in range(0, 1200, 100):
        robot.joints(ms, ms)
    assert [s.stamp_ns // MS for s in kept] == list(range(0, 1200, 100))
    robot.joints(1300)
    assert kept[0].stamp_ns == 1300 * MS - KEEP_NS - 100 * MS
    robot.picture(WRIST, 1300), robot.picture(FRONT, 1300)
    assert isinstance(robot.look(), Frame)


def test_a_camera_that_is_too_slow_for_its_limit_is_named_with_its_rate():
    """Of eight samples; fewer tell no rate."""
    for n, told in ((8, True), (7, False)):
        robot = Robot()
        for k in range(n):
            robot.picture(WRIST, 250 * k)
            robot.joints(250 * k)
        robot.picture(FRONT, 250 * n - 100)
        skew, age = robot.look(), robot.assembler.check_fresh(250 * n / 1000 + 0.2)
        assert age.stream == FRONT and "Hz" not in age.reason
        assert skew.stream == WRIST
        assert skew.reason.endswith(
            "wrist/image_raw comes at 4.0 Hz: raise its rate, or max_skew_s"
            if told
            else "to 0.06 s"
        )
    # Exactly as quick as the limit asks is not too slow.
    robot = Robot()
    for k in range(8):
        robot.all(60 * k)
    robot.picture(FRONT, 60 * 7 + 61)
    assert "Hz" not in robot.look().reason
    silent = Robot()
    for k in range(9):
        silent.all(300 * k)
    assert (
        "front/image_raw comes at 3.3 Hz: raise its rate, or max_age_s" in silent.look(2700).reason
    )


def test_time_that_runs_back_keeps_the_samples_of_two_passes_apart(robot):
    def put(stream, ms, now_ms):
        value = np.zeros(JOINTS) if stream.endswith("]") else PICTURE
        robot.assembler.put(stream, Sample(ms * MS, now_ms / 1000, value), now_ms * MS)

    for stream in ("observation.state[0]", WRIST, FRONT):
        put(stream, 5000, 5001)
    assert robot.look().stamp_ns == 5000 * MS
    with pytest.raises(SampleError, match=r"^joint_states: header stamp is zero"):
        put("observation.state[0]", 0, 5002)
    put(FRONT, 4000, 4001)  # the clock jumped: nothing of before is left
    assert robot.look().stream == "observation.images.wrist"
    for stream in ("observation.state[0]", WRIST):
        put(stream, 4000, 4002)
    assert robot.look().stamp_ns == 4000 * MS
    # Without a clock the stamps tell: a step back of one stream ends the pass for all.
    robot.joints(3000)
    assert robot.look().stream == FRONT
    robot.all(3000)
    assert robot.look().stamp_ns == 3000 * MS
    robot.joints(2980)  # no clock is that exact
    assert robot.assembler._streams[WRIST].samples


def test_an_observation_that_was_used_is_made_anew_after_a_step_back(robot):
    robot.all(1000)
    assert isinstance(robot.look(), Frame)
    robot.picture(FRONT, 990)
    robot.picture(FRONT, 1000)
    assert robot.look().stamp_ns == 1000 * MS


def test_a_joint_state_of_a_thousand_joints_is_the_largest():
    names = [f"j{i}" for i in range(1000)]
    assert select_joints(names, range(1000), ["j999"], "joint_states") == [999]
    with pytest.raises(SampleError, match="at most 1000 joints, got 1001"):
        select_joints([*names, "k"], range(1001), ["k"], "joint_states")
    for n, ends in ((30, "j28, j29$"), (31, "j28, j29, …$")):
        with pytest.raises(SampleError, match=f"joint k is missing; got j0, .*{ends}"):
            select_joints(names[:n], range(n), ["k"], "joint_states")


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (2 * math.pi + 0.5, -1.0, 1.0, "; 2π less is 0.500, which fits"),
        (0.5 - 2 * math.pi, -1.0, 1.0, "; 2π more is 0.500, which fits"),
        (0.5 + 4 * math.pi, -1.0, 1.0, "; 2 · 2π less is 0.500"),
        (0.5 - 6 * math.pi, -1.0, 1.0, "; 3 · 2π more is 0.500"),
        (2 * math.pi + 5.0, 4.5, 5.5, "; 2π less is 5.000"),
        (2 * math.pi + 1.0, 0.0, 1.0, "; 2π less is 1.000"),
        (2 * math.pi, 0.0, 1.0, "; 2π less is 0.000"),
        (2 * math.pi + 1.5, -1.0, 1.0, ""),  # outside on any turn
        (1.5, -1.0, 1.0, ""),
        (float("inf"), -1.0, 1.0, ""),
    ],
)
def test_a_joint_whole_turns_off_is_told_how_many(value, low, high, words):
    hint = turns_hint("rad", value, low, high)
    assert hint.startswith(words) and bool(hint) == bool(words)
    assert turns_hint("m", value, low, high) == ""


def test_one_message_of_each_kind_is_checked_against_its_part(vx300s):
    part, camera = vx300s.state[0], vx300s.cameras[0]
    picked = select_joints(part.joints[::-1], range(JOINTS), part.joints, part.topic)
    assert picked.tolist() == [6, 5, 4, 3, 2, 1, 0]
    check_image(camera, (96, 96))
    with pytest.raises(
        SampleError, match=r"front/image_raw: expected a \(96, 96, 3\) uint8 .*\(96, 95, 3\)"
    ):
        check_image(camera, (96, 95))
    with pytest.raises(SampleError, match="joint b is listed twice"):
        select_joints(["a", "b", "b"], [1.0, 2.0, 3.0], ["a"], "joint_states")
    assert isinstance(robot_without_messages(vx300s), Stale)


def robot_without_messages(contract):
    return FrameAssembler(contract).assemble()


# What does not decode, and time that runs back ---------------------------------------------------


def test_a_picture_that_does_not_decode_is_named_by_its_stream(robot):
    def decode(raw):
        raise SampleError("wrist/image_raw: cut off")

    robot.joints(0), robot.picture(FRONT, 0)
    robot.assembler.put(WRIST, Sample(0, 0.0, PICTURE, decode))
    with pytest.raises(DecodeError, match="^wrist/image_raw: cut off$") as refused:
        robot.look()
    assert refused.value.stream == WRIST


def test_of_another_stream_the_sample_before_a_discarded_one_serves_the_same_image(robot):
    robot.all(0), robot.all(50)
    selection = robot.assembler.select()
    robot.assembler.discard(WRIST, selection)
    again = robot.assembler.select()
    assert again.stamp_ns == 50 * MS and again.samples[WRIST].stamp_ns == 0
    assert robot.assembler.select() is None


def test_of_the_first_camera_an_image_before_a_discarded_one_is_not_used_twice(robot):
    robot.all(0)
    assert robot.assembler.select().stamp_ns == 0
    robot.all(50)
    robot.assembler.discard(FRONT, robot.assembler.select())
    assert robot.assembler.select() is None
    robot.all(100)
    assert robot.assembler.select().stamp_ns == 100 * MS


def test_the_only_image_once_discarded_never_came(robot):
    robot.all(0)
    robot.assembler.discard(FRONT, robot.assembler.select())
    assert "no message received yet on front/image_raw" in robot.look().reason
    robot.picture(FRONT, 0)
    assert robot.assembler.select().stamp_ns == 0


def test_what_is_discarded_late_leaves_what_was_selected_since(robot):
    robot.all(0)
    first = robot.assembler.select()
    robot.all(50)
    assert robot.assembler.select().stamp_ns == 50 * MS
    robot.assembler.discard(WRIST, first)
    assert robot.assembler.select() is None


def test_a_clock_that_runs_back_ends_every_stream_and_a_slewed_one_none(robot):
    for stream in ("observation.state[0]", WRIST, FRONT):
        value = np.zeros(JOINTS) if stream.endswith("]") else PICTURE
        robot.assembler.put(stream, Sample(10_000 * MS, 10.0, value), 10_000 * MS)
    assert robot.assembler.check_fresh() is None
    robot.assembler.put("observation.state[0]", Sample(10_000 * MS, 10.0, np.ones(7)), 9_960 * MS)
    assert robot.assembler.check_fresh() is None
    robot.assembler.put("observation.state[0]", Sample(5_000 * MS, 10.1, np.ones(7)), 5_000 * MS)
    assert "no message received yet on front/image_raw" in robot.assembler.check_fresh().reason
