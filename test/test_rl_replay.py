"""Executed steps on their way to the learner: transitions, journal, replay, shaped reward."""

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from rewact_ros.learning.rl.journal import Journal, JournalError
from rewact_ros.learning.rl.replay import Replay, ReplayError
from rewact_ros.learning.rl.shaping import shaped_reward
from rewact_ros.learning.rl.transitions import (
    FrameSpec,
    Transition,
    TransitionBuilder,
    TransitionError,
)

SPEC = FrameSpec({"state": ((2,), "float32"), "image": ((4, 4, 3), "uint8")}, action_dim=1)
GAMMA = 0.9


def seen(episode: int, step: int) -> dict[str, np.ndarray]:
    """An observation that says where it comes from."""
    image = np.full((4, 4, 3), step % 256, np.uint8)
    return {"state": np.array([episode, step], np.float32), "image": image}


def episode(
    number: int, sources: str, steps: int, terminated: bool = True, reward: float = 1.0
) -> list[Transition]:
    """An episode of a step per letter: p the policy's, h the human's; actions number the steps."""
    builder, found = TransitionBuilder(SPEC, steps), []
    builder.begin(str(number))
    for step, source in enumerate(sources):
        action = np.array([step], np.float32)
        found.append(builder.add(seen(number, step), action, source == "h", "v1", 0.5))
    found.append(builder.end(seen(number, len(sources)), terminated, reward))
    return [transition for transition in found if transition is not None]


def test_a_takeover_ends_the_policys_chunk_and_starts_a_humans():
    found = episode(7, "pppppphhhhpp", steps=5)
    assert [(t.first, len(t), t.human) for t in found] == [
        (0, 5, False),
        (5, 1, False),
        (6, 4, True),
        (10, 2, False),
    ]
    assert [t.policy_version for t in found] == ["v1", "v1", "", "v1"]
    assert [t.terminated for t in found] == [False, False, False, True]
    np.testing.assert_array_equal(found[1].observations["state"][:, 1], [5, 6])
    np.testing.assert_array_equal(found[-1].observations["state"][:, 1], [10, 11, 12])
    np.testing.assert_array_equal(found[-1].reward, [0, 1])


def test_a_new_decision_starts_a_new_transition():
    builder = TransitionBuilder(SPEC, 5)
    builder.begin("0")
    assert builder.add(seen(0, 0), np.zeros(1), decided=True) is None
    first = builder.add(seen(0, 1), np.zeros(1), decided=True)
    assert first is not None and len(first) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float):
    builder = TransitionBuilder(SPEC, 5)
    builder.begin("0")
    with pytest.raises(TransitionError, match="action"):
        builder.add(seen(0, 0), np.array([value]))
    bad = seen(0, 0) | {"state": np.array([0, value], np.float32)}
    with pytest.raises(TransitionError, match="state: holds a value that is not finite"):
        builder.add(bad, np.zeros(1))
    with pytest.raises(TransitionError, match="reward"):
        builder.end(seen(0, 1), True, value)


def test_observations_of_another_shape_are_refused():
    with pytest.raises(TransitionError, match=r"image: expected shape \(4, 4, 3\) uint8"):
        SPEC.check(seen(0, 0) | {"image": np.zeros((4, 5, 3), np.uint8)})
    with pytest.raises(TransitionError, match="expected"):
        SPEC.check({"state": np.zeros(2, np.float32)})


def filled(capacity: int = 500, folder: Path | None = None) -> Replay:
    """Twelve episodes of mixed sources and ends."""
    replay, rng = Replay(SPEC, capacity, folder), np.random.default_rng(0)
    for number in range(12):
        sources = "".join(rng.choice(["pppp", "p", "hh", "hhhhh"], 6))
        for transition in episode(number, sources, 3, terminated=number % 2 == 0):
            replay.add(transition)
    return replay


@pytest.mark.parametrize("capacity", [500, 61])
def test_no_window_leaves_its_episode_or_its_source(capacity: int, tmp_path: Path):
    replay = filled(capacity, tmp_path)
    windows = replay.sample(np.random.default_rng(1), 2000, 4, 6, GAMMA, history=3)
    now, after = windows.observation["state"][:, -1], windows.next_observation["state"][:, -1]
    np.testing.assert_array_equal(now[:, 0], after[:, 0])
    taken = (after - now)[:, 1]
    assert taken.min() >= 1 and taken.max() == 6
    first = windows.action[:, 0, 0]
    np.testing.assert_array_equal(first, now[:, 1])  # actions are numbered
    held = np.minimum(first[:, None] + np.arange(4), after[:, 1:2] - 1)
    np.testing.assert_array_equal(windows.action[..., 0], np.where(held < first[:, None], 0, held))
    past = windows.observation["state"]
    assert (past[:, :, 0] == now[:, None, 0]).all()
    assert (np.diff(past[:, :, 1], axis=1) >= 0).all() and (np.diff(past[..., 1]) <= 1).all()
    alone = windows.human_steps.any(1)
    np.testing.assert_array_equal(alone, windows.human)


def test_truncation_bootstraps_and_termination_does_not():
    for terminated in (True, False):
        replay = Replay(SPEC, 100)
        for transition in episode(0, "p" * 10, 5, terminated=terminated):
            replay.add(transition)
        windows = replay.windows(np.arange(10), 5, 5, GAMMA)
        left = np.minimum(5, 10 - np.arange(10))
        ends = np.arange(10) + left == 10
        np.testing.assert_allclose(
            windows.discount, np.where(ends & terminated, 0, GAMMA**left), rtol=1e-6
        )
        earned = np.where(ends, GAMMA ** (left - 1.0), 0)
        np.testing.assert_allclose(windows.reward, earned, rtol=1e-6)
        # The true last observation, not the first of the next episode.
        assert windows.next_observation["state"][-1, 0].tolist() == [0, 10]
        np.testing.assert_array_equal(windows.length, np.ones(10))  # the end holds the command


def test_a_window_that_a_takeover_cut_says_how_much_was_executed():
    replay = Replay(SPEC, 100)
    for transition in episode(0, "ppphhhhh", 5):
        replay.add(transition)
    windows = replay.windows(np.array([0, 1, 3]), 5, 5, GAMMA)
    np.testing.assert_allclose(windows.length, [0.6, 0.4, 1])
    np.testing.assert_allclose(windows.discount, [GAMMA**3, GAMMA**2, 0], rtol=1e-6)
    assert windows.human.tolist() == [False, False, True]


def test_what_is_imitated_may_reach_beyond_a_decision_and_stays_in_its_turn():
    replay = Replay(SPEC, 100)
    for transition in episode(0, "ppphhhhh", 2):
        replay.add(transition)
    windows = replay.windows(np.array([0, 3, 5]), 2, 2, GAMMA, horizon=4)
    np.testing.assert_array_equal(
        windows.action[..., 0], [[0, 1, 2, 2], [3, 4, 5, 6], [5, 6, 7, 7]]
    )
    assert windows.human_steps.tolist() == [[False] * 4, [True] * 4, [True] * 3 + [False]]
    np.testing.assert_array_equal(windows.length, [1, 1, 1])  # of the decision, not of the horizon


def test_windows_of_a_human_alone_are_drawn_from_a_humans_steps():
    replay = Replay(SPEC, 100)
    for transition in episode(0, "ppphhhpp", 2):
        replay.add(transition)
    assert replay.human_steps == 3
    drawn = replay.sample(np.random.default_rng(0), 200, 2, 2, GAMMA, human=True)
    assert drawn.human.all() and set(drawn.action[:, 0, 0]) == {3.0, 4.0, 5.0}
    nobody = Replay(SPEC, 100)
    for transition in episode(0, "pppp", 2):
        nobody.add(transition)
    with pytest.raises(ReplayError, match="empty"):
        nobody.sample(np.random.default_rng(0), 2, 2, 2, GAMMA, human=True)


def test_only_turns_that_the_policy_ended_by_success_count_as_its_own():
    replay = Replay(SPEC, 100)
    for number, (sources, reward) in enumerate((("pppp", 1.0), ("pppp", 0.0), ("pphh", 1.0))):
        for transition in episode(number, sources, 2, terminated=True, reward=reward):
            replay.add(transition)
    rows = np.array([0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13])
    own = replay.windows(rows, 2, 2, GAMMA).own_steps
    assert own[:, 0].tolist() == [True] * 4 + [False] * 8
    assert own[3].tolist() == [True, False]  # the second was not executed any more


def test_a_call_for_help_ends_the_turn_and_what_follows_begins_another():
    builder, replay = TransitionBuilder(SPEC, 3), Replay(SPEC, 100)
    builder.begin("0")
    assert builder.cut(seen(0, 0)) is None  # nothing was done yet
    builder.add(seen(0, 0), np.zeros(1))
    asked = builder.cut(seen(0, 1))
    builder.skip()
    builder.skip()
    builder.add(seen(0, 3), np.ones(1), human=True)
    rescued = builder.end(seen(0, 4), terminated=True, reward=1.0)
    assert asked.terminated and not asked.reward.any()
    assert (asked.first, len(asked), rescued.first, rescued.human) == (0, 1, 3, True)
    for transition in (asked, rescued):
        replay.add(transition)
    windows = replay.windows(np.array([0, 2]), 1, 3, GAMMA)
    assert windows.discount.tolist() == [0, 0] and windows.reward.tolist() == [0, 1]
    assert not windows.own_steps.any() and windows.human_steps.ravel().tolist() == [False, True]


def test_interventions_alone_keep_their_own_ends():
    replay = Replay(SPEC, 100)
    for number in range(3):
        for transition in episode(number, "pphhppphhhp", 4):
            if transition.human:
                replay.add(transition)
    assert len(replay) == 3 * 5
    windows = replay.sample(np.random.default_rng(0), 500, 1, 4, GAMMA, history=2)
    gone = (windows.next_observation["state"] - windows.observation["state"])[:, -1, 1]
    assert set(gone.tolist()) == {1, 2, 3} and windows.human.all()


def test_the_oldest_steps_leave_a_full_buffer():
    replay = filled(61)
    assert len(replay) < 61
    windows = replay.sample(np.random.default_rng(1), 500, 1, 1, GAMMA)
    assert windows.observation["state"][..., 0].min() > 0
    assert windows.observation["state"][..., 0].max() == 11


def test_the_size_in_bytes_is_stated_and_an_empty_buffer_named(tmp_path: Path):
    replay = Replay(SPEC, 100, tmp_path)
    files = sum(f.stat().st_size for f in tmp_path.glob("*.npy"))
    assert abs(files - 100 * SPEC.bytes_per_frame) < 1000
    row = 4 * SPEC.action_dim + 4 + 4 + 16  # action, reward, four flags, segment and run
    assert replay.bytes == 100 * (SPEC.bytes_per_frame + row)
    with pytest.raises(ReplayError, match="empty"):
        replay.sample(np.random.default_rng(0), 1, 1, 1, GAMMA)


# -- journal ---------------------------------------------------------------------------------


def same(one: Transition, other: Transition) -> bool:
    arrays = [(one.action, other.action), (one.reward, other.reward)]
    arrays += [(one.observations[k], other.observations[k]) for k in SPEC.arrays]
    fields = ("episode", "first", "human", "policy_version", "terminated", "truncated", "success")
    return all(np.array_equal(a, b) for a, b in arrays) and all(
        getattr(one, name) == getattr(other, name) for name in fields
    )


def test_what_was_journalled_comes_back_over_several_files(tmp_path: Path):
    written = [t for number in range(5) for t in episode(number, "pppphhhp", 3)]
    journal = Journal(tmp_path, rotate_bytes=3000)
    for number, transition in enumerate(written):
        assert journal.append(transition) == number
    assert len(list(tmp_path.glob("journal-*.bin"))) > 1
    journal.close()
    again = Journal(tmp_path, rotate_bytes=3000)
    assert len(again) == len(written)
    assert all(same(a, b) for a, b in zip(again.read(), written, strict=True))
    assert all(same(a, b) for a, b in zip(again.read(7), written[7:], strict=True))
    again.append(written[0])
    assert same(list(again.read())[-1], written[0])


def test_kill_9_while_writing_loses_nothing_that_was_appended(tmp_path: Path):
    written = [t for number in range(4) for t in episode(number, "pppphhhp", 3)]
    child = os.fork()
    if not child:
        signal.alarm(100)  # a child that hangs must not outlive the test
        journal = Journal(tmp_path)
        for transition in written:
            journal.append(transition)
        file = next(tmp_path.glob("journal-*.bin"))
        with file.open("ab") as handle:  # the first half of one more record
            handle.write(file.read_bytes()[:500])
            handle.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    journal = Journal(tmp_path)
    assert all(same(a, b) for a, b in zip(journal.read(), written, strict=True))
    journal.append(written[0])
    assert len(list(journal.read())) == len(written) + 1


def test_a_full_disk_is_named_and_what_was_there_stays_whole(tmp_path: Path):
    written = episode(0, "pppphhhp", 3)
    child = os.fork()
    if not child:
        signal.alarm(100)  # a child that hangs must not outlive the test
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = Journal(tmp_path)
        journal.append(written[0])
        size = journal.bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
        try:
            journal.append(written[1])
        except JournalError as error:
            os._exit(0 if "free the disk" in str(error) and journal.bytes == size else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert [same(t, written[0]) for t in Journal(tmp_path).read()] == [True]


def test_damage_in_an_older_file_is_refused(tmp_path: Path):
    journal = Journal(tmp_path, rotate_bytes=500)
    for transition in episode(0, "pppphhhp", 3):
        journal.append(transition)
    journal.close()
    file = min(tmp_path.glob("journal-*.bin"))
    content = bytearray(file.read_bytes())
    content[200] ^= 255
    file.write_bytes(content)
    with pytest.raises(JournalError, match="damaged after 0 records"):
        Journal(tmp_path)


def test_two_learners_for_one_robot_are_refused(tmp_path: Path):
    journal = Journal(tmp_path)
    with pytest.raises(JournalError, match="another learner holds this journal"):
        Journal(tmp_path)
    journal.close()
    Journal(tmp_path).close()


# -- shaping ---------------------------------------------------------------------------------


def shaped_return(progress: list[float], success: bool, kappa: float, steps: int = 1) -> float:
    """Return of an episode whose potential is `progress`, in windows of `steps`, until it ends."""
    total, power = 0.0, 1.0
    for begin in range(0, len(progress) - 1, steps):
        end = min(begin + steps, len(progress) - 1)
        last = end == len(progress) - 1
        reward = GAMMA ** (end - begin - 1) if last and success else 0.0
        discount = 0.0 if last else GAMMA ** (end - begin)
        window = [np.array(v) for v in (reward, discount, progress[begin], progress[end])]
        total += power * float(shaped_reward(*window, kappa))
        power *= GAMMA ** (end - begin)
    return total


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0, 5.0])
def test_stalling_at_high_progress_never_beats_finishing(kappa: float):
    rise = [0.0, 0.3, 0.6, 0.95]
    finished = shaped_return([*rise, 1.0], True, kappa)
    for stalled_for in (1, 5, 50, 500):
        stalled = [*rise, *[0.95] * stalled_for]
        late = shaped_return([*stalled, 1.0], True, kappa)
        assert finished > late > shaped_return(stalled, False, kappa)
    # Nor does going back and forth pay.
    swing = [*rise, *[0.2, 0.95] * 20]
    assert finished > shaped_return(swing, False, kappa)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_shaping_a_window_is_the_sum_of_shaping_its_steps(steps: int):
    rng = np.random.default_rng(0)
    progress = rng.uniform(0, 1, 15).tolist()
    expected = shaped_return(progress, True, 0.7)
    assert shaped_return(progress, True, 0.7, steps) == pytest.approx(expected)
    # It changes the return by the potential of the first state alone.
    assert expected == pytest.approx(GAMMA**13 - 0.7 * progress[0])
