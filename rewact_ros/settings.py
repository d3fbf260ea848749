"""Settings, each declared once: a dataclass's field with default, meaning, unit and bounds.

Checks, command options with their help, ROS parameters and their descriptors follow from the field.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from typing import Any

About = Mapping[str, Any]


def setting(
    default: Any,
    doc: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    *,
    above: float | None = None,
    below: float | None = None,
    option: str = "",
    topic: bool = False,
    path: bool = False,
) -> Any:
    """Field of a settings dataclass.

    Args:
        default: where nothing is given.
        doc: what it means, for people: help of the option, description of the parameter.
        unit: such as ``s``.
        low, high: smallest and largest value; infinity is refused unless ``high`` is infinite.
        choices: the only values, of a text.
        above, below: bounds that are outside themselves.
        option: name of the command's option where it is not the field's.
        topic: a ROS name, of a parameter.
        path: a file or folder.
    """
    about = {
        "doc": doc,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "above": above,
        "below": below,
        "option": option,
        "topic": topic,
        "path": path,
    }
    return field(default=default, metadata=about)


def same(settings: type, name: str, **changes: Any) -> Any:
    """The field of another dataclass, here too: its home stays there.

    Args:
        settings: where it is declared.
        name: of the field.
        changes: arguments of ``setting`` that differ here; the reason belongs beside them.
    """
    return varied(setting_of(settings, name), **changes)


def varied(home: "Field[Any]", **changes: Any) -> Any:
    """A setting as another has it, but for what ``changes`` says."""
    return setting(**{"default": home.default, **home.metadata, **changes})


def setting_of(settings: type, name: str) -> "Field[Any]":
    """The field of a settings dataclass."""
    return next(f for f in fields(settings) if f.name == name)


def check(settings: Any, error: Callable[[str], Exception] = ValueError) -> None:
    """Compare every setting of a dataclass with its bounds and choices; None is let through.

    Raises:
        error: the first that is refused: its name, what was expected and what it is.
    """
    for f in fields(settings):
        value = getattr(settings, f.name)
        if not f.metadata or value is None or allowed(f.metadata, value):
            continue
        unit = f.metadata["unit"]
        # A name with its unit says it already.
        unit = f" {unit}" if unit and not f.name.endswith(f"_{unit}") else ""
        got = repr(value) if isinstance(value, str) else value
        raise error(f"{f.name}: expected {bounds(f.metadata) or 'a number'}{unit}, got {got}")


def allowed(about: About, value: Any) -> bool:
    """Whether a value is within bounds, or one of the choices."""
    if about["choices"]:
        return value in about["choices"]
    low, high, above, below = _limits(about)
    if isinstance(value, float) and not math.isfinite(value) and high != math.inf:
        return False
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def bounds(about: About) -> str:
    """What may be, in words; "" where everything may."""
    if about["choices"]:
        named = [choice for choice in about["choices"] if choice]
        return " or ".join(named) if len(named) == 2 else f"one of {', '.join(named)}"
    low, high, above, below = _limits(about)
    least = _number(low) if low is not None else f"above {_number(above)}"
    most = _number(high) if high is not None else f"below {_number(below)}"
    has_most = below is not None or high not in (None, math.inf)
    if low is None and above is None:
        return "" if not has_most else most if high is None else f"at most {most}"
    if has_most:
        return f"{least} to {most}"
    return f"{least} or more" if low is not None else f"more than {_number(above)}"


def meaning(about: About) -> str:
    """One sentence for the help: unit and choices stand before the first semicolon of the doc."""
    what, more, further = about["doc"].partition(";")
    unit = f" [{about['unit']}]" if about["unit"] else ""
    named = [choice for choice in about["choices"] if choice]
    choices = f": {', '.join(named[:-1])} or {named[-1]}" if named else ""
    return f"{what[:1].upper()}{what[1:]}{unit}{choices}{more}{further}."


def _limits(about: About) -> tuple[float | None, ...]:
    return tuple(about[key] for key in ("low", "high", "above", "below"))


def _number(value: float | None) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
