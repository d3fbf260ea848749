"""ROS parameter files, checked before anything starts: `rcl` takes the last of two equal keys."""

import difflib
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.ros.parameter_values import ParameterError, check_value
from rewact_ros.ros.params import NODE_PARAMS

PARAMETERS = "ros__parameters"
# What every ROS node has of its own.
_EVERY_NODES = ("use_sim_time", "start_type_description_service")
_EVERY_NODES_GROUPS = ("qos_overrides.",)
# Plain words that `rcl` reads as booleans, and YAML 1.2 as text.
_BOOLEANS = {
    word: truth
    for truth, words in ((True, ("y", "yes", "on", "true")), (False, ("n", "no", "off", "false")))
    for word in words
}


def check_params_file(path: str | Path) -> None:
    """Refuse a parameter file of which one of our nodes would read something else, or nothing.

    Other nodes' parameters are theirs.

    Raises:
        ParameterError: it cannot be read, has a key twice, names no node of ours but nearly so, or
            gives one of ours a parameter that it does not have or take.
    """
    try:
        data = strict_yaml.load(path)
    except OSError as error:
        raise ParameterError(f"params_file {path}: {error.strerror}") from None
    except strict_yaml.YamlError as error:
        raise ParameterError(f"params_file {error}") from None
    given: set[tuple[str, str]] = set()
    try:
        for where, name, value in _parameters(data):
            _check(where, name, value)
            if (where, name) in given:  # `hil` and `/hil`, or `a.b: 1` and `a: {b: 2}`
                raise ParameterError(
                    f"{where}: parameter {name}: given twice, its name written in two ways; keep "
                    "one: ROS takes the last"
                )
            given.add((where, name))
    except ParameterError as error:
        raise ParameterError(f"params_file {path}: {error}") from None


def _parameters(data: object, where: str = "") -> Iterator[tuple[str, str, object]]:
    """(node's name or pattern, parameter, value) of everything in the file."""
    if data is None and not where:
        return
    if not isinstance(data, dict):
        raise ParameterError(f"{where or 'top level'}: expected NODE: {{{PARAMETERS}: …}}")
    for key, value in data.items():
        if key == PARAMETERS:
            if not where:
                raise ParameterError(
                    f"{PARAMETERS}: expected it below a node's name, hil: {{{PARAMETERS}: …}}"
                )
            for name, inner in _flat(value, where):
                yield where, name, inner
        else:
            yield from _parameters(value, f"{where}/{key.strip('/')}")


def _flat(data: object, where: str, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Parameters by name; a mapping inside is a group, `group.name`."""
    if not isinstance(data, dict):
        raise ParameterError(f"{where}.{PARAMETERS}: expected NAME: VALUE, got {data!r:.60}")
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, where, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check(where: str, name: str, value: object) -> None:
    node = where.rpartition("/")[2]
    everywhere = node in ("*", "**")
    if not everywhere and node not in NODE_PARAMS:
        near = difflib.get_close_matches(node, NODE_PARAMS, 1, 0.75)
        if near:
            raise ParameterError(f"{where}: no such node; did you mean {near[0]}?")
        return
    if name in _EVERY_NODES or name.startswith(_EVERY_NODES_GROUPS):
        return
    known: dict[str, Field[Any]] = {}
    for kind in NODE_PARAMS.values() if everywhere else (NODE_PARAMS[node],):
        known |= {field.name: field for field in fields(kind)}
    if name in known:
        field = known[name]
        if field.type is bool and isinstance(value, str):
            value = _BOOLEANS.get(value.lower(), value)
        check_value(where, field, value)
    elif not everywhere:  # one for all may be meant for another's node
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `rewact params` lists them all"
        raise ParameterError(f"{where}: parameter {name}: {node} has none of that name{hint}")
