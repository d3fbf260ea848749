"""The learner's end of the pull: order, doubles, damage, other robots, room."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_rl_agent import make_base
from test_rl_learner import QUICK, stream

from rewact_ros.contract import Contract
from rewact_ros.learning.rl.base import Base
from rewact_ros.learning.rl.feed import Feed, Wish, check_transition
from rewact_ros.learning.rl.journal import Journal, JournalError, from_record, to_record
from rewact_ros.learning.rl.outbox import Outbox
from rewact_ros.learning.rl.settings import preset
from rewact_ros.learning.rl.transitions import Transition, TransitionError

RL = preset("residual", **QUICK)


@pytest.fixture(scope="module")
def base(tiny_policy: Path, vx300s: Contract) -> Base:
    return make_base(tiny_policy, vx300s, RL)


@pytest.fixture(scope="module")
def transitions(base: Base) -> list[Transition]:
    return stream(base, RL, 3)


def offer(feed: Feed, transitions: list[Transition], *numbers: int, run: str = "r") -> None:
    for number in numbers:
        feed.offer(run, "robot", number, len(transitions), to_record(transitions[number]))


def test_what_comes_twice_or_early_is_left_and_asked_for_again(transitions: list[Transition]):
    feed = Feed("", 0, "robot")
    assert feed.wish(0.0) == Wish("", 0)
    offer(feed, transitions, 1, 0, 0, 2, 1)
    assert feed.wish(0.0) == Wish("r", 2)
    assert feed.behind == len(transitions)
    assert [feed.take(0.0).first, feed.take(0.0).first] == [t.first for t in transitions[:2]]
    assert feed.take(0.0) is None and feed.behind == len(transitions) - 2


def test_a_restarted_learner_asks_from_what_it_has_on_disk(transitions: list[Transition]):
    feed = Feed("r", 3, "robot")
    offer(feed, transitions, 0, 1, 2, 3)
    assert feed.take(0.0).first == transitions[3].first and feed.wish(0.0) == Wish("r", 4)


def test_a_damaged_record_is_asked_for_again(transitions: list[Transition]):
    feed = Feed("", 0, "robot")
    record = bytearray(to_record(transitions[0]))
    record[len(record) // 2] ^= 1
    feed.offer("r", "robot", 0, 1, bytes(record))
    assert "damaged" in feed.refused and feed.wish(0.0) == Wish("", 0)
    offer(feed, transitions, 0)
    assert feed.take(0.0) is not None and not feed.refused


def test_another_robots_or_journals_transitions_are_refused(transitions: list[Transition]):
    feed = Feed("r", 0, "robot")
    feed.offer("r", "other", 0, 1, to_record(transitions[0]))
    assert "robot other: expected contract robot" in feed.refused
    offer(feed, transitions, 0, run="s")
    assert "journal s: expected r" in feed.refused
    assert feed.take(0.0) is None


def test_a_slow_learner_leaves_the_rest_at_the_robot(transitions: list[Transition]):
    feed, record = Feed("", 0, "robot"), to_record(transitions[0])
    for number in range(200):
        feed.offer("r", "robot", number, 200, record)
    assert feed.wish(0.0) == Wish("r", 64)  # a sign of life
    assert feed.wish(0.5) is None
    for _ in range(40):
        feed.take(0.0)
    assert feed.wish(0.6) == Wish("r", 64) and feed.behind == 160


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.action.__setitem__((0, 0), np.nan), "step 0: action: expected"),
        (lambda t: t.reward.__setitem__(0, np.inf), "reward: expected"),
        (lambda t: t.observations["progress"].__setitem__(1, np.nan), "progress: holds a value"),
        (lambda t: t.observations.pop("progress"), "observation: expected"),
    ],
)
def test_a_number_that_is_not_finite_is_named(
    change, words: str, base: Base, transitions: list[Transition]
):
    spoilt = from_record(to_record(transitions[0]))  # a copy
    check_transition(spoilt, base.spec(RL))
    for name, values in spoilt.observations.items():
        spoilt.observations[name] = values.copy()
    object.__setattr__(spoilt, "action", spoilt.action.copy())
    object.__setattr__(spoilt, "reward", spoilt.reward.copy())
    change(spoilt)
    with pytest.raises(TransitionError, match=words):
        check_transition(spoilt, base.spec(RL))


def test_a_journal_keeps_its_name_and_takes_records_as_they_came(
    transitions: list[Transition], tmp_path: Path
):
    journal, other = Journal(tmp_path / "one"), Journal(tmp_path / "two")
    for transition in transitions:
        journal.append(transition)
        other.append_record(to_record(transition))
    assert journal.run != other.run
    journal.close()
    again = Journal(tmp_path / "one")
    assert again.run and [t.first for t in again.read()] == [t.first for t in other.read()]
    again.close()
    other.close()
    with pytest.raises(JournalError, match="damaged"):
        from_record(to_record(transitions[0])[:-1])


def test_a_record_reaches_the_learners_journal_as_the_robots_holds_it(
    transitions: list[Transition], tmp_path: Path
):
    robot, learner = Journal(tmp_path / "robot"), Journal(tmp_path / "learner")
    outbox, feed = Outbox(robot), Feed("", 0, "robot")
    for transition in transitions:
        outbox.append(transition)
    for number, record in outbox.answer("learner", "", 0, 0.0):
        feed.offer(robot.run, "robot", number, len(robot), record)
        learner.append(feed.take(0.0))
    assert len(learner) == len(transitions)
    assert list(learner.records()) == list(robot.records()) == list(map(to_record, robot.read()))
    robot.close()
    learner.close()


def test_a_changed_copy_does_not_travel_in_the_record_of_what_it_was_made_from(
    transitions: list[Transition],
):
    found = from_record(to_record(transitions[0]))
    changed = replace(found, success=not found.success)
    assert to_record(found) == to_record(transitions[0]) != to_record(changed)
    assert from_record(to_record(changed)).success == changed.success
