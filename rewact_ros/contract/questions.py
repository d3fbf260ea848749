"""What the sources leave open, as questions with the candidates that were found."""

from rewact_ros.contract.choices import Choices, Question
from rewact_ros.contract.draft import DEFAULT_ROBOT, guess_rate
from rewact_ros.contract.found import Found
from rewact_ros.contract.pairing import groups, single
from rewact_ros.contract.plan_action import command_topics
from rewact_ros.contract.plan_state import (
    by_topic,
    camera_candidates,
    drivers_of,
    plan_cameras,
    value_streams,
    wanted,
)


def open_questions(found: Found, choices: Choices) -> list[Question]:
    """Everything that is a choice and no fact, each with the option that settles it."""
    asked = []
    if not choices.robot and not found.robot:
        asked.append(Question("--robot", "Name of the robot", (), DEFAULT_ROBOT))
    if not choices.rate_hz and not any(f.rate_hz for f in found.features):
        rate, why = guess_rate(plan_cameras(found, choices))
        text = f"Observations per second ({why})"
        asked.append(Question("--rate-hz", text, (), f"{rate:g}"))
    return [
        *asked,
        *_joint_names(found, choices),
        *_states(found, choices),
        *_values(found, choices),
        *_cameras(found, choices),
        *_commands(found, choices),
    ]


def _joint_names(found: Found, choices: Choices) -> list[Question]:
    """Names of the data set that are like no joint, or like one by their words only."""
    published = sorted({j for stream in found.joints for j in stream.joints})
    if not published:
        return []
    drivers, guessed = drivers_of(found, choices)
    free = tuple(j for j in published if j not in drivers.values())
    names = single(wanted(found, "state")[1])
    return [
        Question(
            f"--joint {name}",
            f"Joint of the driver that the data set calls {name}",
            (drivers[name], *free),
            drivers[name],
        )
        for name in names
        if name in guessed and name not in choices.joints and len(free)
    ]


def _states(found: Found, choices: Choices) -> list[Question]:
    """Joints that several topics publish."""
    streams = by_topic(found.joints)
    for one in streams:
        same = [other.topic for other in streams if set(other.joints) & set(one.joints)]
        if len(same) > 1 and not set(same) & set(choices.states):
            text = f"Topic of the joint states ({', '.join(one.joints)[:60]})"
            return [Question("--state", text, tuple(same), same[0])]
    return []


def _values(found: Found, choices: Choices) -> list[Question]:
    """Poses and the like for which several topics have the type."""
    asked = []
    for group in groups(wanted(found, "state")[1]):
        topics = tuple(s.topic for s in value_streams(found, choices, group.name, [group.type]))
        if len(topics) > 1 and group.name not in choices.values:
            text = f"Topic of {group.name} ({group.type})"
            asked.append(Question(f"--value {group.name}", text, topics, topics[0]))
    return asked


def _cameras(found: Found, choices: Choices) -> list[Question]:
    return [
        Question(f"--camera {name}", f"Topic of the camera {name}", tuple(topics), topics[0])
        for name, topics in camera_candidates(found, choices).items()
        if len(topics) > 1
    ]


def _commands(found: Found, choices: Choices) -> list[Question]:
    return [
        Question(
            "--command",
            f"What commands {', '.join(same[0].joints)[:60]}",
            tuple(each.topic for each in same),
            same[0].topic,
        )
        for same in command_topics(found, choices)
    ]
