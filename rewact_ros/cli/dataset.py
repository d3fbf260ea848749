"""`rewact dataset`: a LeRobotDataset made to fit."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make a LeRobotDataset fit.")


@app.callback()
def root() -> None:
    """Make a LeRobotDataset fit."""


@app.command()
def adapt(
    source: Annotated[Path, typer.Argument(help="Folder of a LeRobotDataset v3 or v2.1.")],
    out: Annotated[Path, typer.Option(help="Folder of the adapted copy; must not exist.")],
    rename: Annotated[
        list[str] | None,
        typer.Option(help="OLD=NEW: another name in state and action; may repeat."),
    ] = None,
    into_state: Annotated[
        list[str] | None,
        typer.Option(
            help="A number of the action that nothing observes, such as a gripper: the "
            "state gets its last command; may repeat."
        ),
    ] = None,
    action: Annotated[
        str,
        typer.Option(
            help="keep; integrate: velocities become positions a frame later; "
            "next_state: the action becomes the state of the next frame."
        ),
    ] = "keep",
    keep: Annotated[
        list[str] | None,
        typer.Option(help="A number of the action that --action leaves as it is; may repeat."),
    ] = None,
) -> None:
    """Write an adapted copy of a dataset, and say what was done; the source is only read."""
    from rewact_ros.data.dataset.adapt import Adaptation, adapt_dataset
    from rewact_ros.runs import require_writable

    wanted = Adaptation(
        rename=tuple(_pair(text) for text in rename or []),
        into_state=tuple(into_state or []),
        action=action,
        keep=tuple(keep or []),
    )
    require_writable(out)
    for line in adapt_dataset(source, out, wanted):
        typer.echo(f"  {line}")
    typer.echo(f"written: {out}")


def _pair(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (separator and old and new):
        raise ValueError(f"--rename {text}: expected OLD=NEW, e.g. shoulder_pan.pos=shoulder_pan")
    return old, new
