"""`rewact export`: recordings as a LeRobotDataset that `rewact train` takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def export(
    bags: Annotated[list[Path], typer.Argument(help="Recordings, or folders of recordings.")],
    out: Annotated[Path, typer.Option(help="Folder of the new dataset.")],
    contract: Annotated[
        Path | None, typer.Option(help="Robot contract; default: the one recorded in the bag.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Of the robot; default: as recorded.")
    ] = None,
    outcome: Annotated[
        str, typer.Option(help="Of foreign bags: success or failure; default: unlabelled.")
    ] = "",
    task: Annotated[str, typer.Option(help="Of episodes without one, in words.")] = "",
    gaps: Annotated[
        str, typer.Option(help="An episode with a gap: split it, trim it or refuse it.")
    ] = "split",
    max_step: Annotated[
        float, typer.Option(help="Longest time between two frames, in periods; more is a gap.")
    ] = 1.75,
    min_frames: Annotated[int, typer.Option(help="Leave shorter parts out.")] = 10,
    failed_cap: Annotated[float, typer.Option(help="Highest progress label of a failure.")] = 0.5,
    attempt_s: Annotated[
        float,
        typer.Option(help="Duration of an undisturbed attempt, to label rescues by; 0: unknown."),
    ] = 0.0,
    video: Annotated[
        str, typer.Option(help="lerobot (AV1), fine (H.264, full colour) or lossless.")
    ] = "lerobot",
    discarded: Annotated[
        bool, typer.Option("--discarded", help="Also what was marked as discarded.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a dataset at --out.")
    ] = False,
    workers: Annotated[
        int, typer.Option(help="Recordings encoded at a time; 0: one per processor.")
    ] = 0,
) -> None:
    """Turn recordings into a LeRobotDataset; a killed export goes on when started again."""
    from rewact_ros.data.export.report import text
    from rewact_ros.data.export.run import export as run
    from rewact_ros.data.export.settings import ExportSettings
    from rewact_ros.text import reason

    begin_s = time.monotonic()
    settings = ExportSettings(
        bags=tuple(bags),
        out=out,
        contract=contract,
        namespace=namespace,
        outcome=outcome,
        task=task,
        gaps=gaps,
        max_step=max_step,
        min_frames=min_frames,
        failed_cap=failed_cap,
        attempt_s=attempt_s,
        video=video,
        discarded=discarded,
        replace=replace,
        workers=workers,
    )
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
