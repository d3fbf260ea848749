"""`rewact bench`: published figures, with machine, settings and counts; compared and reported."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.bench.compare import KEPT_SHARE, compare_topics
from rewact_ros.bench.figures import ENDED_EARLY, Bench
from rewact_ros.bench.results import cells, publish, write_page, write_results
from rewact_ros.bench.topics import load_topic
from rewact_ros.cli.options import TaskName
from rewact_ros.runs import machine
from rewact_ros.sim.task import DEFAULT_TASK


def bench(
    topic: Annotated[
        str,
        typer.Argument(
            help="Which figures; a file in benchmarks/. Or `compare`: are ratios measured here as "
            "good as those published? Or `report`: write docs/performance.md anew."
        ),
    ],
    topics: Annotated[
        list[str] | None, typer.Argument(help="With compare: which topics; none: all measured.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A version under a minute or so.")] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Also write docs/results/TOPIC.json and .md, and docs/performance.md."
        ),
    ] = False,
    task: TaskName = DEFAULT_TASK,
    only: Annotated[
        str, typer.Option(help="Of `tasks` and `policies`: these alone, with commas.")
    ] = "",
    workers: Annotated[int, typer.Option(help="Of `tasks`: so many side by side.", min=1)] = 1,
) -> None:
    """Measure, print a table and write runs/bench/TOPIC.json."""
    from rewact_ros.share import share_dir

    docs, folder = share_dir() / "docs", Path("runs/bench")
    if topic == "compare":
        return _compare(folder, docs / "results", topics or [])
    if topics:
        raise ValueError(f"bench {topic}: expected one topic, got {' '.join([topic, *topics])}")
    if topic == "report":
        return _echo(write_page(docs))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = tuple(filter(None, only.split(",")))
    result = Bench(topic, quick, folder, task, chosen, workers)
    before = machine()
    try:
        load_topic(share_dir() / "benchmarks", result)(result)
    except BaseException as error:  # a kill, too: nobody must take a part for the whole
        result.settings[ENDED_EARLY] = type(error).__name__
        raise
    finally:  # what was measured before a failure took its time too
        document = result.document(before)
        if result.figures:
            print_figures(document)
            _echo(write_results(document, folder))
    if keep:
        _echo(*publish(document, docs))


def _echo(*files: Path) -> None:
    for file in files:
        typer.echo(f"written: {file}")


def _compare(measured: Path, published: Path, topics: list[str]) -> None:
    """Print ratios beside the published ones; exit code 1 where one is lost."""
    from rich.console import Console
    from rich.table import Table

    rows = compare_topics(measured, published, topics)
    table = Table(title=f"ratios: a loss is below {KEPT_SHARE:.0%} of what is published")
    for name in ("ratio", "published", "here", "bound", ""):
        table.add_column(name, justify="left" if name in ("ratio", "") else "right")
    words = {True: "kept", False: "LOST", None: "not measured"}
    for row in rows:
        here = "–" if row.measured is None else f"{row.measured:.3g}"
        shown = (row.name, f"{row.published:.3g}", here, f"{row.bound:.3g}", words[row.kept])
        table.add_row(*shown)
    Console(width=120).print(table)
    lost = [row.name for row in rows if row.kept is False]
    if lost:
        typer.echo(f"{len(lost)} of {len(rows)} ratios lost: {', '.join(lost)}")
        raise typer.Exit(1)
    typer.echo(f"none of {len(rows)} ratios lost")


def print_figures(document: dict[str, Any]) -> None:
    """Print the figures of one topic as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"bench {document['topic']}")
    for name in ("figure", "value", "unit", "goal", "n", "interval"):
        table.add_column(name, justify="left" if name in ("figure", "unit", "goal") else "right")
    for name, figure in document["figures"].items():
        table.add_row(name, *cells(figure))
    Console(width=120).print(table)
