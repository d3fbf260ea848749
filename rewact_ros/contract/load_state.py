"""State parts: joints, and what other message types observe under a name."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from rewact_ros.contract.problems import Problems
from rewact_ros.contract.schema import STATE_KEY, StatePart
from rewact_ros.contract.sections import Key, Section
from rewact_ros.contract.state_values import NAMED_VALUES
from rewact_ros.contract.tables import JOINT_STATE, STATE_TABLES


def state_sections(data: Mapping[str, Any], problems: Problems) -> list[Section]:
    """The parts under `observation.state`, each read by the table of its message type.

    `joints`, `field` and `unit` are set for every part whose names are known.
    """
    if STATE_KEY not in data:
        return []
    value = data[STATE_KEY]
    if isinstance(value, list):
        if not value:
            problems.add(STATE_KEY, "at least one part", "an empty list")
        found = [
            Section(f"{STATE_KEY}[{i}]", part, _table(part), problems)
            for i, part in enumerate(value)
        ]
    else:
        found = [Section(STATE_KEY, value, _table(value), problems)]
    for section in found:
        _fill(section)
    _check_shared_topics(found, problems)
    return found


def state_part(section: Section) -> StatePart | None:
    """The part; None where something in it is wrong."""
    if not section.whole:
        return None
    values = {{"unit": "units"}.get(key, key): value for key, value in section.values.items()}
    return StatePart(**values)


def _table(part: object) -> Sequence[Key]:
    """Keys of a part; where its type is misspelt, those of the nearest."""
    type_ = str(part.get("type")) if isinstance(part, Mapping) else ""
    near = difflib.get_close_matches(type_, STATE_TABLES, 1)
    return STATE_TABLES[near[0] if near else JOINT_STATE]


def _fill(section: Section) -> None:
    values = NAMED_VALUES.get(section.get("type") or "")
    if values is None:
        section.read_per_joint(section.get("joints"))
        return
    name = section.get("name")
    section.values |= {"field": values.field, "unit": values.units}
    if name is not None:
        section.values["joints"] = values.names(name)


def _check_shared_topics(sections: Sequence[Section], problems: Problems) -> None:
    """Parts may share a topic where they read the same messages."""
    types: dict[str, str] = {}
    for section in sections:
        topic, type_ = section.get("topic"), section.get("type")
        if topic and type_ and types.setdefault(topic, type_) != type_:
            problems.add(
                section.path("type"),
                f"{types[topic]}, as the other part of the topic '{topic}' has",
                type_,
                "a topic has one type",
            )
