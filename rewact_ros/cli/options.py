"""Command options from settings: name, type, default, bounds and help follow from the field."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Annotated, Any, get_type_hints

import typer

from rewact_ros.settings import meaning

# Of every command that simulates; a task brings its contract, its policy and what it asks for.
TaskName = Annotated[
    str, typer.Option("--task", help="Simulated task, ours or of an installed package.")
]


@dataclass(frozen=True)
class OptionsOf:
    """Marks a parameter of a command: it stands for options, and gets their values by field.

    Attributes:
        settings: dataclass whose fields are made by `setting`; those that the command declares by
            hand are left to it.
        only: names of the fields that the command offers; empty: all.
        but: names of fields that it does not offer.
        defaults: name of a field -> default of this command.
    """

    settings: type
    only: Collection[str] = ()
    but: Collection[str] = ()
    defaults: Mapping[str, object] = field(default_factory=dict)

    def parameters(self, by_hand: Collection[str]) -> Iterator[tuple[str, inspect.Parameter]]:
        """Name of the field, and the option as a parameter of the command."""
        types = get_type_hints(self.settings)
        for f in fields(self.settings):
            name = f.metadata.get("option") or f.name
            offered = f.name in self.only if self.only else f.name not in self.but
            if not f.metadata or not offered or name in by_hand:
                continue
            default = self.defaults.get(f.name, f.default)
            yield (
                f.name,
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=Annotated[types[f.name], _option(f, name, default)],
                ),
            )


def with_options[C: Callable[..., Any]](command: C) -> C:
    """Put options in the place of a command's `OptionsOf` parameters; they are keywords."""
    shown = list(inspect.signature(command, eval_str=True).parameters.values())
    by_hand = {parameter.name for parameter in shown}
    groups: dict[str, dict[str, str]] = {}
    parameters = []
    for parameter in shown:
        marks = getattr(parameter.annotation, "__metadata__", ())
        source = next((mark for mark in marks if isinstance(mark, OptionsOf)), None)
        if source is None:
            parameters.append(parameter)
            continue
        groups[parameter.name] = {}
        for name, option in source.parameters(by_hand):
            groups[parameter.name][name] = option.name
            parameters.append(option)

    signature = inspect.Signature(parameters)

    @functools.wraps(command)
    def run(*positional: Any, **named: Any) -> Any:
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        given = dict(bound.arguments)
        for group, names in groups.items():
            given[group] = {name: given.pop(option) for name, option in names.items()}
        return command(**given)

    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run  # type: ignore[return-value]


def _option(f: Field[Any], name: str, default: object) -> Any:
    about = f.metadata
    # A switch that is off needs no other to switch it off.
    names = (f"--{name.replace('_', '-')}",) if default is False else ()
    low, high = about["low"], about["high"]
    if about["above"] is not None or about["below"] is not None:
        low = high = None  # typer knows no open bounds; the settings refuse what lies outside
    high = None if high == math.inf else high
    return typer.Option(*names, help=meaning(about), min=low, max=high)
