"""What the robot executed becomes transitions, in whatever order it is heard, for one learner."""

import random
from pathlib import Path

import numpy as np
import pytest

from rewact_ros.control.modes import Mode
from rewact_ros.learning.rl.executed import Decided, ExecutedSteps, Happened
from rewact_ros.learning.rl.journal import Journal, from_record
from rewact_ros.learning.rl.outbox import SILENCE_S, WINDOW, Outbox
from rewact_ros.learning.rl.replay import Replay
from rewact_ros.learning.rl.transitions import FrameSpec, Transition, TransitionBuilder
from rewact_ros.supervision.verdict import Change, Outcome

DT_NS, JOINTS, STEPS = 50_000_000, 2, 3
SPEC = FrameSpec({"base": ((1, STEPS, JOINTS), "float32"), "progress": ((), "float32")}, JOINTS)


def observation(step: int) -> dict[str, np.ndarray]:
    plan = np.full((1, STEPS, JOINTS), step, np.float32)
    return {"base": plan, "progress": np.asarray(step / 100, np.float32)}


def command(step: float) -> np.ndarray:
    """In force at the end of a step."""
    return np.array([step, -step])


class Robot:
    """Tells what happened, on a time line of robot steps; 0 is the first observation."""

    def __init__(self, like: Transition | None = None) -> None:
        self.steps = ExecutedSteps(DT_NS / 1e9, JOINTS, like)
        self.told: list[tuple[float, object]] = []
        self.mode(-1, Mode.HOLD, 0)

    def tell(self, time: float, call) -> None:
        self.told.append((time, call))

    def mode(self, time: float, mode: Mode, epoch: int) -> None:
        self.tell(time, lambda: self.steps.control(ns(time), mode, epoch))

    def event(self, time: float, change: Change, outcome=Outcome.UNLABELLED, episode="e") -> None:
        self.tell(time, lambda: self.steps.event(Happened(ns(time), episode, change, outcome)))

    def see(self, step: int, epoch: int = 1, seen: dict | None = None, **more) -> None:
        found = observation(step) if seen is None else seen
        values = {"value": float(step), "decided": step % STEPS == 0, **more}
        decided = Decided(ns(step), epoch, "v", found, **values)
        self.tell(step, lambda: self.steps.decision(decided))

    def run(self, last: int, epoch=lambda step: 1, unseen: tuple[int, ...] = ()) -> None:
        """Observations and the commands between them, up to a step."""
        for step in range(last + 1):
            if step not in unseen:
                self.see(step, epoch(step))
            for part in (0.4, 0.9):
                sent = ns(step + part)
                self.tell(step + part, lambda sent=sent, step=step: self.steps.command(
                    sent, command(step)))  # fmt: skip

    def transitions(self, shuffle: bool = False) -> list[Transition]:
        """What becomes of it, with time enough for everything to come."""
        told = sorted(self.told, key=lambda item: item[0])
        if shuffle:
            random.Random(0).shuffle(told)
            events = sorted((t for t in told if is_event(t)), key=lambda item: item[0])
            seen = sorted((t for t in told if is_seen(t)), key=lambda item: item[0])
            rest = [t for t in told if not is_event(t) and not is_seen(t)]
            told = [*seen, *events, *rest]
        found = []
        for time, call in told:
            call()
            if not shuffle:
                found += self.steps.step(ns(time))
        return found + self.steps.step(ns(told[-1][0]) + 3_000_000_000)


def is_event(told) -> bool:
    return "Robot.event" in told[1].__qualname__


def is_seen(told) -> bool:
    return "Robot.see" in told[1].__qualname__


def ns(time: float) -> int:
    return 10_000_000_000 + round(time * DT_NS)


def built(*calls: tuple) -> list[Transition]:
    """What the fast path's builder makes: ("add", step, human), ("pause", step), ("skip",) …"""
    builder, found = TransitionBuilder(SPEC, STEPS), []
    builder.begin("e")
    for name, *arguments in calls:
        if name == "add":
            step, human = arguments
            deciding = {} if human else {"value": float(step), "decided": step % STEPS == 0}
            done = builder.add(observation(step), command(step), human, "v", **deciding)
        elif name == "skip":
            done = builder.skip()
        else:
            done = getattr(builder, name)(observation(arguments[0]), *arguments[1:])
        found += [done] if done is not None else []
    return found


def assert_same(got: list[Transition], expected: list[Transition]) -> None:
    assert [t.first for t in got] == [t.first for t in expected]
    for one, other in zip(got, expected, strict=True):
        for name in ("episode", "human", "policy_version", "terminated", "truncated"):
            assert getattr(one, name) == getattr(other, name), name
        np.testing.assert_equal(one.value, other.value)
        np.testing.assert_array_equal(one.action, other.action)
        np.testing.assert_array_equal(one.reward, other.reward)
        for name, value in other.observations.items():
            np.testing.assert_array_equal(one.observations[name], value)


def policy(*steps: int) -> list[tuple]:
    return [("add", step, False) for step in steps]


def human(*steps: int) -> list[tuple]:
    return [("add", step, True) for step in steps]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_policys_episode_ends_with_the_first_observation_after_the_verdict(shuffle: bool):
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(0.5, Change.RUNNING)
    robot.event(6.6, Change.VERDICT, Outcome.SUCCESS)
    robot.mode(6.7, Mode.HOLD, 1)
    robot.run(9)
    assert_same(robot.transitions(shuffle), built(*policy(*range(7)), ("end", 7, True, 1.0)))
    assert robot.steps.recorded == 7 and robot.steps.episode == ""


@pytest.mark.parametrize("outcome", [Outcome.FAILURE, Outcome.UNLABELLED])
def test_another_verdict_than_success_cuts_the_episode_off(outcome: Outcome):
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(4.5, Change.VERDICT, outcome)
    robot.run(6)
    assert_same(robot.transitions(), built(*policy(*range(5)), ("end", 5, False, 0.0)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_takeover_in_mid_chunk_ends_the_policys_transition_and_begins_the_humans(shuffle: bool):
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(0.5, Change.RUNNING)
    robot.mode(4.5, Mode.HUMAN, 2)  # its command is in force at the end of step 4
    robot.event(9.5, Change.VERDICT, Outcome.SUCCESS)
    robot.run(11, epoch=lambda step: 1 if step < 5 else 2)
    found = robot.transitions(shuffle)
    assert_same(found, built(*policy(*range(4)), *human(*range(4, 10)), ("end", 10, True, 1.0)))
    assert [len(t) for t in found] == [3, 1, 3, 3]


def test_a_call_for_help_ends_the_policys_turn_and_the_wait_belongs_to_nobody():
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(0.5, Change.RUNNING)
    robot.event(3.5, Change.HELP)
    robot.mode(5.2, Mode.HOLD, 1)  # until then the policy's commands still come
    robot.mode(7.5, Mode.HUMAN, 2)
    robot.event(8.5, Change.RESUMED)
    robot.event(10.5, Change.VERDICT, Outcome.SUCCESS)
    robot.run(12, epoch=lambda step: 1 if step < 8 else 2)
    assert_same(
        robot.transitions(),
        built(
            *policy(*range(4)),
            ("cut", 4),
            *[("skip",)] * 3,
            *human(*range(7, 11)),
            ("end", 11, True, 1.0),
        ),
    )
    assert robot.steps.left_out["nobody led"] >= 3


def test_a_verdict_while_nobody_leads_is_that_of_the_last_turn():
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.HUMAN, 1)
    robot.event(-1, Change.RUNNING)
    robot.mode(4.2, Mode.HOLD, 2)
    robot.event(8.5, Change.VERDICT, Outcome.SUCCESS)
    robot.run(12)
    (first, last) = robot.transitions()
    assert (len(first), len(last)) == (3, 1) and last.human
    assert last.terminated and not last.truncated and last.reward.tolist() == [1.0]
    np.testing.assert_array_equal(last.observations["progress"], np.float32([0.03, 0.04]))


def test_what_the_policy_does_after_a_release_counts_once_its_chunks_are_of_that_epoch():
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.event(-1, Change.RUNNING)
    robot.mode(0, Mode.HUMAN, 1)
    robot.mode(2.5, Mode.POLICY, 2)
    robot.event(8.5, Change.VERDICT, Outcome.FAILURE)
    robot.run(12, epoch=lambda step: 1 if step < 5 else 2)
    expected = built(
        *human(0, 1), ("pause", 2), *[("skip",)] * 3, *policy(5, 6, 7, 8), ("end", 9, False)
    )
    assert_same(robot.transitions(), expected)


NAN = {**observation(4), "progress": np.asarray(np.nan, np.float32)}
SMALL = {"base": np.zeros((1, 1, JOINTS), np.float32), "progress": np.zeros((), np.float32)}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (None, ""),
        (NAN, "progress: holds a value that is not finite"),
        (SMALL, "base: expected shape (1, 3, 2)"),
        ({"progress": np.zeros((), np.float32)}, "observation: expected"),
    ],
)
def test_no_transition_spans_an_observation_that_is_missing_or_refused(seen: dict, words: str):
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(8.5, Change.VERDICT, Outcome.SUCCESS)
    robot.run(10, unseen=(4,))
    if seen is not None:
        robot.see(4, seen=seen)
    found = robot.transitions()
    expected = built(
        *policy(0, 1, 2), ("pause", 3), ("skip",), *policy(5, 6, 7, 8), ("end", 9, True, 1.0)
    )
    assert words in robot.steps.refused and bool(words) == bool(robot.steps.left_out["refused"])
    assert robot.steps.left_out["observation missing"] == 1
    assert_same(found, expected)
    replay = Replay(SPEC, 100)
    for transition in found:
        replay.add(transition)
    windows = replay.windows(np.array([2]), STEPS, 3, 0.5)  # the step before the gap
    assert windows.discount == 0.5 and windows.reward == 0
    assert windows.next_observation["progress"] == np.float32(0.03)


def test_a_command_that_is_not_finite_or_does_not_come_is_no_step():
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    for step in range(6):
        robot.see(step)
    robot.tell(0.5, lambda: robot.steps.command(ns(0.5), command(0)))
    robot.tell(1.5, lambda: robot.steps.command(ns(1.5), np.full(JOINTS, np.nan)))
    assert not robot.transitions()
    (only,) = robot.steps.stop()
    assert len(only) == 1 and not only.ended and robot.steps.left_out["no command"] >= 2
    assert "action: expected 2 finite numbers" in robot.steps.refused


def test_without_an_observation_after_the_verdict_the_last_one_before_it_ends_the_episode():
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(4.5, Change.VERDICT, Outcome.SUCCESS)
    robot.run(4)
    assert_same(robot.transitions(), built(*policy(*range(4)), ("end", 4, True, 1.0)))
    late = Robot()  # the policy was changed meanwhile, and the scene reset
    late.event(-3, Change.STARTED)
    late.mode(0, Mode.POLICY, 1)
    late.event(4.5, Change.VERDICT, Outcome.SUCCESS)
    late.event(4.6, Change.STARTED, episode="f")
    late.run(40, unseen=tuple(range(5, 30)))
    assert_same(late.transitions()[:2], built(*policy(*range(4)), ("end", 4, True, 1.0)))


def test_an_episode_without_a_verdict_is_cut_off_by_the_next_one():
    robot = Robot()
    robot.event(-3, Change.STARTED)
    robot.mode(0, Mode.POLICY, 1)
    robot.event(5.5, Change.STARTED, episode="f")
    robot.event(5.6, Change.VERDICT, Outcome.SUCCESS)  # of an episode that is over
    robot.run(9)
    found = robot.transitions() + robot.steps.stop()
    assert_same(found[:2], built(*policy(*range(6)), ("end", 6, False, 0.0)))
    assert {t.episode for t in found[2:]} == {"f"} and not any(t.terminated for t in found)


def test_after_a_restart_transitions_must_be_like_those_in_the_journal():
    first = built(*policy(0, 1, 2, 3), ("end", 4, True))[0]
    robot = Robot(like=first)
    robot.see(0, seen=SMALL)
    robot.transitions()
    assert "base: expected shape (1, 3, 2)" in robot.steps.refused


# -- who gets them ---------------------------------------------------------------------------


@pytest.fixture
def outbox(tmp_path: Path):
    journal = Journal(tmp_path / "journal", rotate_bytes=4000)
    found = Outbox(journal)
    for step in range(3 * WINDOW):
        found.append(built(("add", step, False), ("end", step + 1, True))[0])
    yield found
    journal.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_learner_pulls_every_transition_in_windows(outbox: Outbox, restarted: bool):
    served = Outbox(outbox._journal) if restarted else outbox
    run, got = outbox._journal.run, []
    while found := served.answer("learner", run if got else "", len(got), 0.0):
        assert len(found) <= WINDOW and [n for n, _ in found] == [
            len(got) + k for k in range(len(found))
        ]
        assert served.answer("learner", run, len(got), 0.0) == found  # as often as it is asked
        got += [from_record(record) for _, record in found]
    assert_same(got, list(outbox._journal.read()))


def test_a_second_learner_is_refused_until_the_first_is_silent(outbox: Outbox):
    run = outbox._journal.run
    assert outbox.answer("one", run, 0, 0.0) and not outbox.refused
    assert not outbox.answer("two", run, 0, 1.0) and "one learner at a time" in outbox.refused
    assert outbox.answer("one", run, 0, 2.0) and not outbox.refused
    assert outbox.answer("two", run, 0, 2.1 + SILENCE_S) and outbox.learner == "two"


def test_who_follows_another_journal_or_more_than_there_is_is_refused(outbox: Outbox):
    assert not outbox.answer("one", "another", 0, 0.0) and "follows journal" in outbox.refused
    assert not outbox.answer("one", "", 1000, 0.0) and "holds 96" in outbox.refused
    assert outbox.learner == ""
