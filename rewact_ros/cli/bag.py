"""`rewact bag …`: recordings on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rewact_ros.cli.bag_from_dataset import from_dataset

if TYPE_CHECKING:
    from rewact_ros.data.bags.episode_file import EpisodeRecord
    from rewact_ros.data.bags.recovery import Recovered, RecoveryError

bag = typer.Typer(help="Look at recordings, judge them anew, mend and delete them.",
                  no_args_is_help=True, rich_markup_mode=None)  # fmt: skip
bag.command()(from_dataset)
Folders = Annotated[
    list[Path], typer.Argument(help="Folders of episodes, or folders that hold them.")
]


@bag.command()
def info(folders: Folders) -> None:
    """List episodes: outcome, duration, size, messages, drops."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from rewact_ros.data.bags.time_order import step_back
    from rewact_ros.text import printable

    table = Table()
    for name in ("episode", "outcome", "ended by", "judged by", "s", "MB", "messages", "dropped"):
        table.add_column(name, justify="right" if name in ("s", "MB", "messages") else "left")
    episodes = _Episodes(folders)
    for folder, record in episodes:
        counts = record.topics.values()
        marks = [record.outcome]
        marks += ["discarded"] if record.discarded else []
        marks += ["recovered"] if record.recovered else []
        marks += ["time ran backwards"] if step_back(folder) else []
        dropped = {name: n["dropped"] for name, n in record.topics.items() if n["dropped"]}
        seconds = ((record.ended_ns or 0) - (record.started_ns or 0)) / 1e9
        size = sum(path.stat().st_size for path in folder.glob("*.mcap")) / 1e6
        row = (
            record.episode_id,
            ", ".join(marks),
            record.termination_reason,
            record.by,
            f"{seconds:.1f}" if record.ended_ns is not None else "not ended",
            f"{size:.1f}",
            str(sum(n["received"] for n in counts)),
            ", ".join(f"{name} {n}" for name, n in dropped.items()) or "0",
        )
        table.add_row(*(Text(printable(cell)) for cell in row))  # no markup, no escapes
    Console(width=120).print(table)
    episodes.end()


@bag.command()
def label(
    folders: Folders,
    outcome: Annotated[str, typer.Option(help="success, failure or unlabelled.")] = "",
    by: Annotated[str, typer.Option(help="Who judges.")] = "operator",
    at: Annotated[
        float | None,
        typer.Option(help="When it succeeded, in s from its first message on.", min=0),
    ] = None,
    discard: Annotated[
        bool | None,
        typer.Option("--discard/--keep", help="Mark as not worth training on, or undo."),
    ] = None,
) -> None:
    """Judge recorded episodes anew; the messages stay as they are."""
    from rewact_ros.data.bags.episode_labels import label_episode
    from rewact_ros.text import printable

    if not outcome and discard is None:
        raise ValueError("bag label: give --outcome, --discard or --keep")
    if at is not None and outcome != "success":
        raise ValueError("bag label --at: expected --outcome success, which it is the moment of")
    episodes = _Episodes(folders)
    for folder, _ in episodes:
        with episodes.next_even_if_refused():
            record = label_episode(folder, outcome or None, by, discard, at)
            mark = ", discarded" if record.discarded else ""
            typer.echo(f"{printable(record.episode_id)}: {record.outcome}{mark}")
    episodes.end()


@bag.command()
def recover(folders: Folders) -> None:
    """Make recordings whole that were cut off or damaged; also done when a recorder starts.

    A folder or .mcap file that is a recording itself is read to its end; of the recordings in a
    folder, those that do not look whole are mended.
    """
    from rewact_ros.data.bags.folder import bag_names
    from rewact_ros.data.bags.lock import lock_around
    from rewact_ros.data.bags.recovery import RecoveryError, recover_all, recover_file, subfolders

    failed = 0
    for folder in folders:
        with lock_around(folder):
            if folder.is_file():
                results: list[Recovered | RecoveryError] = [recover_file(folder)]
            else:
                results = recover_all(folder, thorough=True)
            for found in results:
                if isinstance(found, RecoveryError):
                    failed += 1
                    typer.echo(f"error: {found}", err=True)
                else:
                    typer.echo(_recovered(found))
            if results:
                continue
            if not any(bag_names(inside) for inside in (folder, *subfolders(folder))):
                failed += 1
                typer.echo(f"error: {folder}: no recording in it or directly below", err=True)
            else:
                typer.echo(f"{folder}: every recording is whole")
    if failed:
        raise typer.Exit(2)


def _recovered(found: Recovered) -> str:
    text = f"{found.folder}: {found.messages} messages, {found.duration_s:.1f} s"
    text += f"; nothing was in {', '.join(found.empty)}" if found.empty else ""
    text += f"; went on without {', '.join(found.absent)}" if found.absent else ""
    return "\n  taken out: ".join([text, *found.lost])


@bag.command()
def prune(
    folders: Folders,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the episodes that are marked discarded, after asking."""
    import shutil

    episodes = _Episodes(folders)
    marked = [f for f, record in episodes if record.discarded and record.ended_ns is not None]
    if not marked:
        typer.echo("nothing is marked discarded")
    for folder in marked:
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        typer.echo(f"{folder}: {size:.1f} MB")
    if marked and (yes or typer.confirm(f"delete these {len(marked)} recordings for good?")):
        for folder in marked:
            shutil.rmtree(folder)
    episodes.end()


class _Episodes:
    """The episodes in some folders; what cannot be read is told and keeps nothing else back."""

    def __init__(self, folders: list[Path]) -> None:
        from rewact_ros.data.bags.episode_file import EPISODE_FILE, episode_folders

        self._failed = False
        self._found: list[Path] = []
        for folder in folders:
            inside = episode_folders(folder)
            if not inside:
                raise ValueError(f"{folder}: no {EPISODE_FILE} in it or in a folder directly below")
            self._found += inside

    def __iter__(self) -> Iterator[tuple[Path, EpisodeRecord]]:
        from rewact_ros.data.bags.episode_file import read_episode

        for folder in self._found:
            with self.next_even_if_refused():
                yield folder, read_episode(folder)

    @contextmanager
    def next_even_if_refused(self) -> Iterator[None]:
        """Tell what cannot be read or written, and go on."""
        from rewact_ros.data.bags.episode_file import EpisodeFileError
        from rewact_ros.text import reason

        try:
            yield
        except (EpisodeFileError, OSError) as error:
            self._failed = True
            typer.echo(f"error: {reason(error)}", err=True)

    def end(self) -> None:
        """End the command with an error if anything was told."""
        if self._failed:
            raise typer.Exit(2)
