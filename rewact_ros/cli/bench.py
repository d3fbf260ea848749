"""`rewact bench TOPIC`: every published figure, with machine, settings and counts."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.runs import machine


@dataclass(frozen=True)
class Figure:
    """One measured number; `low` and `high` bound it where an interval is known."""

    value: float | None
    unit: str
    goal: str = ""
    n: int = 1
    low: float | None = None
    high: float | None = None


@dataclass
class Bench:
    """What a topic's `run(bench)` fills in."""

    topic: str
    quick: bool
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def add(self, name: str, value: float | None, unit: str, **more: Any) -> None:
        """Record one figure and show it at once."""
        self.figures[name] = Figure(value, unit, **more)
        shown = "–" if value is None else f"{value:.4g}"
        typer.echo(f"  {name}: {shown} {unit}")


def bench(
    topic: Annotated[str, typer.Argument(help="Which figures; a file in benchmarks/.")],
    quick: Annotated[bool, typer.Option("--quick", help="A version under a minute or so.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Also write docs/results/TOPIC.json.")
    ] = False,
) -> None:
    """Measure, print a table and write runs/bench/TOPIC.json."""
    from rewact_ros.share import share_dir

    folder = Path("runs/bench")
    folder.mkdir(parents=True, exist_ok=True)
    result = Bench(topic, quick, folder)
    before = machine()
    _load(share_dir() / "benchmarks", topic)(result)
    document = {
        "topic": topic,
        "machine": before,
        "settings": {"quick": quick, **result.settings},
        "figures": {name: asdict(figure) for name, figure in result.figures.items()},
    }
    text = json.dumps(document, indent=2) + "\n"
    targets = [folder / f"{topic}.json"]
    if keep:
        targets.append(share_dir() / "docs" / "results" / f"{topic}.json")
    for path in targets:
        path.write_text(text)
    print_figures(document)
    typer.echo(f"written: {', '.join(str(path) for path in targets)}")


def print_figures(document: dict[str, Any]) -> None:
    """Print the figures of one topic as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"bench {document['topic']}")
    for name in ("figure", "value", "unit", "goal", "n", "interval"):
        table.add_column(name, justify="left" if name in ("figure", "unit", "goal") else "right")
    for name, figure in document["figures"].items():
        value = "–" if figure["value"] is None else f"{figure['value']:.4g}"
        bounds = "" if figure["low"] is None else f"{figure['low']:.3g} … {figure['high']:.3g}"
        table.add_row(name, value, figure["unit"], figure["goal"], str(figure["n"]), bounds)
    Console(width=120).print(table)


def _load(folder: Path, topic: str) -> Callable[[Bench], None]:
    path = folder / f"{topic.replace('-', '_')}.py"
    if not path.is_file():
        known = sorted(p.stem.replace("_", "-") for p in folder.glob("*.py"))
        raise ValueError(
            f"bench: no topic '{topic}'; known: {', '.join(known) or 'none outside a source tree'}"
        )
    spec = importlib.util.spec_from_file_location(f"benchmarks.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Callable[[Bench], None] = module.run
    return run
