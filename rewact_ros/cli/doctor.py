"""`rewact doctor`: what is wrong of a robot and its machine, before anything moves."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.stack.doctor_settings import DoctorSettings

if TYPE_CHECKING:
    from rewact_ros.checks.finding import Result

_MARKS = {"ok": "ok   ", "warn": "warn ", "error": "ERROR", "not_asked": "-    "}


@with_options
def doctor(
    *,
    asked: Annotated[dict[str, Any], OptionsOf(DoctorSettings)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Check a robot and its machine; nothing moves. Exit code 1: something must be mended."""
    from rewact_ros.stack.doctor import diagnose, exit_code

    results = diagnose(DoctorSettings(**asked))
    typer.echo(_json(results) if as_json else "\n".join(lines(results)))
    if code := exit_code(results):
        raise typer.Exit(code)


def lines(results: "Sequence[Result]") -> list[str]:
    """A line for each check, and one that counts."""
    width = max(len(result.name) for result in results)
    shown = []
    for result in results:
        mark = _MARKS[result.severity.name.lower()]
        shown.append(f"{mark} {result.name:<{width}}  {result.text}")
    return [*shown, _summary(results)]


def _summary(results: "Sequence[Result]") -> str:
    counts = {mark: 0 for mark in _MARKS}
    for result in results:
        counts[result.severity.name.lower()] += 1
    return (
        f"{len(results)} checks: {counts['ok']} well, {counts['warn']} to look at, "
        f"{counts['error']} to mend, {counts['not_asked']} not asked"
    )


def _json(results: "Sequence[Result]") -> str:
    return json.dumps([result.record() for result in results], indent=2)
