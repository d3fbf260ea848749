"""`rewact shadow`: what a shadow policy predicted in recordings, beside the one that ran."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120


def shadow(
    bags: Annotated[list[Path], typer.Argument(help="Recordings, or folders of recordings.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report (default: runs/<time>-shadow).")
    ] = None,
    contract: Annotated[
        Path | None, typer.Option(help="Of recordings that were made without one.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Of the robot, where a recording does not say.")
    ] = None,
) -> None:
    """Report disagreement, both progress curves, and who was nearer to the person who helped."""
    from rich.console import Console

    from rewact_ros.data.shadow.report import read_shadows, write_report
    from rewact_ros.runs import new_run, require_writable

    require_writable(out)
    report = read_shadows(bags, contract, namespace)
    document = report.document()
    console = Console(width=WIDTH)
    _show_episodes(console, document["episodes"])
    for overall in document["overall"]:
        _show_overall(console, overall)
    console.print(document["caveat"], markup=False, highlight=False)
    for path, why in document["refused"].items():
        typer.echo(f"left out: {path}: {why}", err=True)
    for file in write_report(report, out or new_run("shadow")):
        typer.echo(f"written: {file}")


def _show_episodes(console: "Console", episodes: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from rewact_ros.text import printable

    table = Table(box=None, pad_edge=False)
    for name in ("episode", "outcome", "frames", "missed", "apart %", "p95 %", "most at",
                 "run end", "shadow", "done", "person", "nearer %"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("episode", "outcome") else "right")
    for each in episodes:
        share, done = each["disagreement"]["share_of_range"]["chunk"], each["completion"]
        person, greatest = each["human"]["now"], each["by_progress"]["greatest"]
        cells = (
            each["episode_id"],
            each["outcome"],
            str(each["frames"]),
            str(each["observations"]["missed"]),
            _percent(share["mean"]),
            _percent(share["p95"]),
            f"{greatest['from']:.1f}–{greatest['to']:.1f}" if greatest else "–",
            _figure(done["run_end"], 2),
            _figure(done["shadow_end"], 2),
            _done(done),
            str(person["frames"]),
            _percent(person["share_of_frames"]),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(table, "", sep="\n")


def _show_overall(console: "Console", overall: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("joint", "unit", "chunk", "p95", "first action", "p95", "last action", "p95",
                 "% of range"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("joint", "unit") else "right")
    for joint, row in overall["disagreement"]["joints"].items():
        spreads = [row[part][of] for part in ("chunk", "start", "end") for of in ("mean", "p95")]
        cells = (joint, row["unit"], *map(_figure, spreads), _percent(row["share_of_range"]))
        table.add_row(*cells)
    console.print(table, "", sep="\n")
    for line in _lines(overall):
        console.print(line, markup=False, highlight=False)


def _lines(overall: dict[str, Any]) -> list[str]:
    seen, done = overall["observations"], overall["completion"]
    counts = ", ".join(f"{n} {word}" for word, n in done["counts"].items() if n)
    by = "calibrated for the run" if done["calibrated"] else "not calibrated"
    return [
        f"shadow {', '.join(overall['shadow'])} beside {', '.join(overall['running'])}: "
        f"{overall['episodes']} episodes, {overall['frames']} observations of both.",
        f"It missed {seen['missed']} of {seen['running']} observations "
        f"({100 * seen['missed_share']:.1f} %), for {seen['longest_silence_s']:.2f} s at the "
        f"longest; {seen['other_epoch']} pairs of two control epochs are left out.",
        f"Its head would have called the task done: {counts} (threshold "
        f"{done['threshold']:.2f}, {by}).",
        *(_person(overall["human"], name) for name in ("now", "ahead")),
    ]


def _person(found: dict[str, Any], name: str) -> str:
    row = found[name]
    when = "now" if name == "now" else f"{found['ahead_s']:g} s ahead"
    if not row["frames"]:
        return f"Person, {when}: nobody led while both predicted."
    text = (
        f"Person, {when}: the shadow was nearer to what the person did in "
        f"{_percent(row['share_of_frames'])} % of {row['frames']} observations "
        f"({_percent(row['shadow_distance'])} % of range from it, the run "
        f"{_percent(row['running_distance'])} %)"
    )
    if not row["turns_decided"]:
        return f"{text}, and never nearer or farther for a whole turn."
    return (
        f"{text}, and for most of {row['turns_for_shadow']} of {row['turns_decided']} turns "
        f"({row['low']:.2f} to {row['high']:.2f}, Wilson 95 %)."
    )


def _done(found: dict[str, Any]) -> str:
    ours, theirs = found["run_done_s"], found["shadow_done_s"]
    if ours is None or theirs is None:
        return str(found["shadow_is"])
    return f"{theirs - ours:+.1f} s"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
