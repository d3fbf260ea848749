"""`rewact label-frames`: mark success and failure frames for the success classifier."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.classifier.settings import ClassifierSettings


@with_options
def label_frames(
    dataset: Annotated[Path, typer.Option(help="Folder of a LeRobotDataset v3.")],
    keys: Annotated[
        bool, typer.Option("--keys", help="Mark frame by frame in this terminal.")
    ] = False,
    camera: Annotated[
        str | None, typer.Option(help="Feature key shown by --keys (default: the first camera).")
    ] = None,
    episodes: Annotated[
        str | None, typer.Option(help="Only these, e.g. 0:24 or 0,3,5:9; others keep theirs.")
    ] = None,
    *,
    given: Annotated[dict[str, Any], OptionsOf(ClassifierSettings, only=("margin",))],
    clear: Annotated[bool, typer.Option("--clear", help="Make the frames unused again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written, write nothing.")
    ] = False,
) -> None:
    """Mark success and failure frames from the episodes' outcomes or, with --keys, by hand."""
    import numpy as np

    from rewact_ros.data.dataset.info import parse_episodes
    from rewact_ros.data.labels.frames import (
        FAIL,
        SUCCESS,
        UNUSED,
        frame_labels_file,
        label_by_outcomes,
        read_frame_labels,
        write_frame_labels,
    )
    from rewact_ros.data.labels.write import open_labelled

    margin = given["margin"]
    if keys and (clear or dry_run):
        raise ValueError("--keys: goes without --clear and --dry-run")
    lengths = open_labelled(dataset).lengths
    chosen = parse_episodes(episodes, len(lengths)) if episodes else sorted(lengths)
    frames = {index: np.full(length, UNUSED, np.int8) for index, length in lengths.items()}
    if frame_labels_file(dataset).exists():
        frames = read_frame_labels(dataset, margin)
    if keys:
        from rewact_ros.learning.classifier.marking import mark_by_keys

        return mark_by_keys(dataset, camera, frames, chosen)
    fresh = {} if clear else label_by_outcomes(dataset, margin)
    for index in chosen:
        frames[index] = fresh.get(index, np.full(lengths[index], UNUSED, np.int8))
    counts = {
        value: sum(int((own == value).sum()) for own in frames.values())
        for value in (SUCCESS, FAIL, UNUSED)
    }
    text = f"{counts[SUCCESS]} success, {counts[FAIL]} failure, {counts[UNUSED]} unused frames"
    if dry_run:
        typer.echo(f"{dataset}: {text}; nothing written (--dry-run)")
    else:
        typer.echo(f"{write_frame_labels(dataset, frames)}: {text}")
