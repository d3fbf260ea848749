"""`rewact bag …`: recordings on disk."""

from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from rewact_ros.cli.bag_from_dataset import from_dataset

bag = typer.Typer(help="Look at recordings, judge them anew, mend and delete them.",
                  no_args_is_help=True)  # fmt: skip
bag.command()(from_dataset)
Folders = Annotated[
    list[Path], typer.Argument(help="Folders of episodes, or folders that hold them.")
]


@bag.command()
def info(folders: Folders) -> None:
    """List episodes: outcome, duration, size, messages, drops."""
    from rich.console import Console
    from rich.table import Table

    from rewact_ros.data.bag_time import step_back
    from rewact_ros.data.episode_file import read_episode

    table = Table()
    for name in ("episode", "outcome", "ended by", "judged by", "s", "MB", "messages", "dropped"):
        table.add_column(name, justify="right" if name in ("s", "MB", "messages") else "left")
    for folder in _episodes(folders):
        record = read_episode(folder)
        counts = record.topics.values()
        marks = [record.outcome]
        marks += ["discarded"] if record.discarded else []
        marks += ["recovered"] if record.recovered else []
        marks += ["time ran backwards"] if step_back(folder) else []
        dropped = {name: n["dropped"] for name, n in record.topics.items() if n["dropped"]}
        seconds = ((record.ended_ns or 0) - (record.started_ns or 0)) / 1e9
        size = sum(path.stat().st_size for path in folder.glob("*.mcap")) / 1e6
        table.add_row(
            record.episode_id,
            ", ".join(marks),
            record.termination_reason,
            record.by,
            f"{seconds:.1f}" if record.ended_ns is not None else "not ended",
            f"{size:.1f}",
            str(sum(n["received"] for n in counts)),
            ", ".join(f"{name} {n}" for name, n in dropped.items()) or "0",
        )
    Console(width=120).print(table)


@bag.command()
def label(
    folders: Folders,
    outcome: Annotated[str, typer.Option(help="success, failure or unlabelled.")] = "",
    by: Annotated[str, typer.Option(help="Who judges.")] = "operator",
    discard: Annotated[
        bool | None,
        typer.Option("--discard/--keep", help="Mark as not worth training on, or undo."),
    ] = None,
) -> None:
    """Judge recorded episodes anew; the messages stay as they are."""
    from rewact_ros.data.episode_file import label_episode

    if not outcome and discard is None:
        raise ValueError("bag label: give --outcome, --discard or --keep")
    for folder in _episodes(folders):
        record = label_episode(folder, outcome or None, by, discard)
        mark = ", discarded" if record.discarded else ""
        typer.echo(f"{record.episode_id}: {record.outcome}{mark}")


@bag.command()
def recover(folders: Folders) -> None:
    """Make recordings whole whose recorder was killed; also done when a recorder starts."""
    from rewact_ros.data.bag_recovery import RecoveryError, recover_all

    failed = 0
    for folder in folders:
        with _locked(folder):
            for found in recover_all(folder):
                if isinstance(found, RecoveryError):
                    failed += 1
                    typer.echo(f"error: {found}", err=True)
                    continue
                empty = f"; nothing was in {', '.join(found.empty)}" if found.empty else ""
                typer.echo(
                    f"{found.folder}: {found.messages} messages, {found.duration_s:.1f} s{empty}"
                )
    if failed:
        raise typer.Exit(2)


@bag.command()
def prune(
    folders: Folders,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the episodes that are marked discarded, after asking."""
    import shutil

    from rewact_ros.data.episode_file import read_episode

    records = {folder: read_episode(folder) for folder in _episodes(folders)}
    marked = [f for f, r in records.items() if r.discarded and r.ended_ns is not None]
    if not marked:
        typer.echo("nothing is marked discarded")
        return
    for folder in marked:
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        typer.echo(f"{folder}: {size:.1f} MB")
    if yes or typer.confirm(f"delete these {len(marked)} recordings for good?"):
        for folder in marked:
            shutil.rmtree(folder)


def _episodes(folders: list[Path]) -> list[Path]:
    from rewact_ros.data.episode_file import EPISODE_FILE, episode_folders

    found = []
    for folder in folders:
        inside = episode_folders(folder)
        if not inside:
            raise ValueError(f"{folder}: no {EPISODE_FILE} in it or in a folder directly below")
        found += inside
    return found


def _locked(folder: Path) -> AbstractContextManager[object]:
    """Keep a recorder away from the folder; one recording is locked by the folder around it."""
    from rewact_ros.data.bags_lock import LOCK_FILE, BagsLock

    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    for place in (folder, folder.absolute().parent):
        if (place / LOCK_FILE).is_file():
            return closing(BagsLock(place))
    return nullcontext()
