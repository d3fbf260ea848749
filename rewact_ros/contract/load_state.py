"""State parts: joints, and what other message types observe under a name."""

from collections.abc import Mapping, Sequence
from typing import Any

from rewact_ros.contract.edge import convert
from rewact_ros.contract.problems import Problems
from rewact_ros.contract.schema import STATE_KEY, StatePart
from rewact_ros.contract.sections import Section, parts
from rewact_ros.contract.state_values import ARRAY, NAMED_VALUES, SCALARS
from rewact_ros.contract.tables import JOINT_STATE, STATE_TABLES


def state_sections(data: Mapping[str, Any], problems: Problems) -> list[Section]:
    """The parts under `observation.state`, each read by the table of its message type.

    `joints`, `field` and `unit` are set for every part whose names are known.
    """
    found = parts(STATE_KEY, data, STATE_TABLES, JOINT_STATE, problems)
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


def _fill(section: Section) -> None:
    """Give each part the same keys: those of joints."""
    type_, values = section.get("type"), section.values
    if named := NAMED_VALUES.get(type_ or ""):
        values |= {"field": named.field, "unit": named.units}
        if (name := section.get("name")) is not None:
            values["joints"] = named.names(name)
        return
    if type_ == ARRAY and "names" in values:
        values["joints"] = values.pop("names")
    if type_ in SCALARS and "name" in values:
        values["joints"] = (values.pop("name"),)
    section.read_per_joint(section.get("joints"))
    convert(section)


def _check_shared_topics(sections: Sequence[Section], problems: Problems) -> None:
    """Parts may share a topic of joints, whose messages name them; any other is one part's."""
    types: dict[str, str] = {}
    for section in sections:
        topic, type_ = section.get("topic"), section.get("type")
        if not topic or not type_:
            continue
        if topic in types and types[topic] != type_:
            problems.add(
                section.path("type"),
                f"{types[topic]}, as the other part of the topic '{topic}' has",
                type_,
                "a topic has one type",
            )
        elif topic in types and type_ != JOINT_STATE:
            fault = f"'{topic}' is already the topic of another part"
            problems.add(
                section.path("topic"), fault=fault, mend=f"{type_} names no joints to pick"
            )
        types.setdefault(topic, type_)
