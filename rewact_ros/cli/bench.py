"""`rewact bench`: published figures, with machine, settings and counts; compared and reported."""

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import TaskName
from rewact_ros.runs import machine
from rewact_ros.sim.task import DEFAULT_TASK


@dataclass(frozen=True)
class Figure:
    """One measured number; `low` and `high` bound it where an interval is known.

    What is measured twice in one run goes into a figure of the unit `ratio`: those are compared
    with the published ones by `rewact bench compare`.
    """

    value: float | None
    unit: str
    goal: str = ""
    n: int = 1
    low: float | None = None
    high: float | None = None


@dataclass
class Bench:
    """What a topic's `run(bench)` fills in; it may name its results by another topic.

    Attributes:
        task: simulated task; a topic whose file says `ANY_TASK = True` measures on any.
        only: of a topic that measures many tasks (`MANY_TASKS = True`), these; (): all.
        workers: of such a topic: tasks that are measured side by side.
    """

    topic: str
    quick: bool
    folder: Path
    task: str = DEFAULT_TASK
    only: tuple[str, ...] = ()
    workers: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def add(self, name: str, value: float | None, unit: str, **more: Any) -> None:
        """Record one figure and show it at once."""
        self.figures[name] = Figure(value, unit, **more)
        shown = "–" if value is None else f"{value:.4g}"
        typer.echo(f"  {name}: {shown} {unit}")


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
        str, typer.Option(help="Of `tasks`: these alone, with commas; the others' results stay.")
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
        return _report(docs)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = tuple(filter(None, only.split(",")))
    result = Bench(topic, quick, folder, task, chosen, workers)
    before = machine()
    try:
        _load(share_dir() / "benchmarks", result)(result)
    finally:  # what was measured before a failure took its time too
        document = _document(result, before)
        if result.figures:
            print_figures(document)
            _write(document, folder)
    if keep:
        publish(document, docs)


def publish(document: dict[str, Any], docs: Path) -> None:
    """Write a topic's results and table to ``docs``, and the page of all results anew."""
    table = _write(document, docs / "results").with_suffix(".md")
    table.write_text(markdown(document))
    _report(docs)


def _document(result: Bench, before: dict[str, Any]) -> dict[str, Any]:
    return {
        "topic": result.topic,
        "machine": before,
        "settings": {"quick": result.quick, **result.settings},
        "figures": {name: asdict(figure) for name, figure in result.figures.items()},
    }


def _write(document: dict[str, Any], folder: Path) -> Path:
    """Write a topic's results; returns the file."""
    path = folder / f"{document['topic']}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    typer.echo(f"written: {path}")
    return path


def _report(docs: Path) -> None:
    """Write the page of all results."""
    from rewact_ros.cli.bench_report import performance_page

    (docs / "performance.md").write_text(performance_page(docs / "results"))
    typer.echo(f"written: {docs / 'performance.md'}")


def _compare(measured: Path, published: Path, topics: list[str]) -> None:
    """Print ratios beside the published ones; exit code 1 where one is lost."""
    from rich.console import Console
    from rich.table import Table

    from rewact_ros.cli.bench_compare import KEPT_SHARE, compare_topics

    rows = compare_topics(measured, published, topics)
    table = Table(title=f"ratios: a loss is below {KEPT_SHARE:.0%} of what is published")
    for name in ("ratio", "published", "here", "bound", ""):
        table.add_column(name, justify="left" if name in ("ratio", "") else "right")
    words = {True: "kept", False: "LOST", None: "not measured"}
    for row in rows:
        here = "–" if row.measured is None else f"{row.measured:.3g}"
        cells = (row.name, f"{row.published:.3g}", here, f"{row.bound:.3g}", words[row.kept])
        table.add_row(*cells)
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
        table.add_row(name, *_cells(figure))
    Console(width=120).print(table)


def markdown(document: dict[str, Any]) -> str:
    """Text of `docs/results/TOPIC.md`, generated from the JSON beside it."""
    from rewact_ros.cli.bench_report import grid

    lines = [
        f"# Figures: {document['topic']}",
        "",
        f"Generated by `rewact bench {document['topic']} --keep`; do not edit. Shares carry Wilson "
        "95 % intervals, metrics over episodes bootstrapped 95 % ones; other intervals are the "
        "smallest and largest value.",
        "",
        *(f"- {key}: {value}" for key, value in document["machine"].items()),
        *(f"- {key}: {value}" for key, value in document["settings"].items() if key != "grid"),
        "",
        *grid(document),
        "| figure | value | unit | goal | n | interval |",
        "|---|---:|---|---|---:|---|",
    ]
    for name, figure in document["figures"].items():
        lines.append("| " + " | ".join([name, *_cells(figure)]) + " |")
    return "\n".join(lines) + "\n"


def _cells(figure: dict[str, Any]) -> list[str]:
    value = "–" if figure["value"] is None else f"{figure['value']:.4g}"
    bounds = "" if figure["low"] is None else f"{figure['low']:.3g} … {figure['high']:.3g}"
    return [value, figure["unit"], figure["goal"], str(figure["n"]), bounds]


def _load(folder: Path, asked: Bench) -> Callable[[Bench], None]:
    topic = asked.topic
    path = folder / f"{topic.replace('-', '_')}.py"
    topics = [p for p in folder.glob("*.py") if "\ndef run(bench" in p.read_text()]
    if path not in topics:
        known = sorted(p.stem.replace("_", "-") for p in topics)
        raise ValueError(
            f"bench: no topic '{topic}'; known: {', '.join(known) or 'none outside a source tree'}"
        )
    spec = importlib.util.spec_from_file_location(f"benchmarks.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # a topic's other files lie beside it
    spec.loader.exec_module(module)
    if asked.task != DEFAULT_TASK and not getattr(module, "ANY_TASK", False):
        raise ValueError(f"bench {topic}: measures on {DEFAULT_TASK} only; leave --task out")
    if (asked.only or asked.workers > 1) and not getattr(module, "MANY_TASKS", False):
        raise ValueError(f"bench {topic}: has no tasks to choose; leave --only and --workers out")
    run: Callable[[Bench], None] = module.run
    return run


if __name__ == "__main__":
    typer.run(bench)  # `python -m rewact_ros.cli.bench`, on a machine without ROS
