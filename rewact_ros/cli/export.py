"""`rewact export`: recordings as a LeRobotDataset that `rewact train` takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.data.export.settings import ExportSettings


@with_options
def export(
    bags: Annotated[list[Path], typer.Argument(help="Recordings, or folders of recordings.")],
    out: Annotated[Path, typer.Option(help="Folder of the new dataset.")],
    *,
    given: Annotated[dict[str, Any], OptionsOf(ExportSettings)],
) -> None:
    """Turn recordings into a LeRobotDataset; a killed export goes on when started again."""
    from rewact_ros.data.export.report import text
    from rewact_ros.data.export.run import export as run
    from rewact_ros.text import reason

    begin_s = time.monotonic()
    settings = ExportSettings(bags=tuple(bags), out=out, **given)
    try:
        report = run(settings)
    except KeyboardInterrupt:
        typer.echo("export: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from None
    except OSError as error:
        typer.echo(f"export: {reason(error)}; the same command goes on from here", err=True)
        raise typer.Exit(2) from error
    typer.echo(text(report), nl=False)
    frames, seconds = report["totals"]["frames"], time.monotonic() - begin_s
    typer.echo(f"{out}: written in {seconds:.0f} s ({frames / seconds:.0f} frames/s)")
