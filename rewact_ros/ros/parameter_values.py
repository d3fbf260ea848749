"""What a parameter may be: its type, bounds and choices, and how ROS is told of them."""

import sys
from dataclasses import Field
from typing import TYPE_CHECKING, Any

from rewact_ros.contract.names import check_topic
from rewact_ros.contract.schema import ContractError
from rewact_ros.contract.sections import short
from rewact_ros.settings import allowed, bounds

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor

LARGEST_INTEGER = 2**63 - 1


class ParameterError(ValueError):
    """A parameter is missing or out of bounds; the message names node and parameter."""


def check_value(node: str, field: "Field[Any]", value: object) -> Any:
    """Return a parameter's value in its own type; a whole number is taken for a number.

    Raises:
        ParameterError: another type, out of bounds, or no choice; it names node, parameter, what
            was expected, what came, and how it is written.
    """
    expected = _expected(field)
    where = f"{node}: parameter {field.name}"
    if field.type is float and type(value) is int:
        value = float(value)
    if type(value) is not field.type:
        raise ParameterError(
            f"{where}: expected {expected}, got {short(value)}{_mend(field.type, value)}"
        )
    if not allowed(field.metadata, value):
        raise ParameterError(f"{where}: expected {expected}, got {short(value)}")
    if field.metadata["topic"] and value:
        try:
            check_topic(where, str(value))
        except ContractError as error:
            raise ParameterError(str(error)) from None
    return value


def describe(field: "Field[Any]") -> "ParameterDescriptor":
    """What `ros2 param describe` shows: meaning, unit, bounds and choices."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    low, high, choices = (field.metadata[key] for key in ("low", "high", "choices"))
    unit = f" [{field.metadata['unit']}]" if field.metadata["unit"] else ""
    made = ParameterDescriptor(
        description=field.metadata["doc"] + unit,
        read_only=True,
        additional_constraints=f"one of {', '.join(choices)}" if choices else "",
    )
    if (low, high) != (None, None):
        largest = LARGEST_INTEGER if field.type is int else sys.float_info.max
        bounds = (-largest if low is None else low, largest if high is None else high)
        if field.type is int:
            made.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=1)]
        else:
            first, last = (float(bound) for bound in bounds)
            made.floating_point_range = [FloatingPointRange(from_value=first, to_value=last)]
    return made


def _expected(field: "Field[Any]") -> str:
    limits = bounds(field.metadata)
    if field.metadata["choices"]:
        return limits
    unit = f" {field.metadata['unit']}" if field.metadata["unit"] else ""
    kind = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}
    within = f" of {limits}" if limits else ""
    return f"{kind[field.type]}{within}{unit}"  # type: ignore[index]


def _mend(wanted: object, value: object) -> str:
    if wanted is str:
        return "; quote text that looks like a number or a boolean"
    if isinstance(value, str):
        return "; write it without quotes"
    if wanted is int and isinstance(value, float) and value.is_integer():
        return f"; write {value:.0f}"
    return ""
