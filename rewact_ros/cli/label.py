"""`rewact label`: write progress labels into a LeRobotDataset."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.data.labels.settings import LabelSettings


@with_options
def label(
    dataset: Annotated[Path, typer.Option(help="Folder of a LeRobotDataset v3.")],
    failed: Annotated[
        str | None, typer.Option(help="Failed episodes, e.g. 3,7:9: by time, up to --failed-cap.")
    ] = None,
    *,
    given: Annotated[dict[str, Any], OptionsOf(LabelSettings)],
    episodes: Annotated[
        str | None, typer.Option(help="Only these, e.g. 0:24 or 0,3,5:9; others keep theirs.")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove the labels; with --episodes: make them unknown.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, write nothing.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(help="Folder of the plots (default: runs/<time>-label).")
    ] = None,
) -> None:
    """Write next.reward, next.success and next.done of a LeRobotDataset in one step."""
    from rewact_ros.cli.label_report import print_changes, print_still
    from rewact_ros.data.dataset.info import parse_episodes
    from rewact_ros.data.labels.plan import PlannedLabels, keypoint_file, plan_labels
    from rewact_ros.data.labels.plot import plot_labels
    from rewact_ros.data.labels.write import (
        EpisodeLabels,
        open_labelled,
        remove_labels,
        write_labels,
    )
    from rewact_ros.runs import new_run

    source = open_labelled(dataset)
    total = len(source.lengths)
    chosen = list(source.lengths) if episodes is None else parse_episodes(episodes, total)
    if clear:
        chosen_by = ("keypoints", "subtasks", "ramp", "interpolation")
        if failed or any(given[name] for name in chosen_by):
            raise ValueError("--clear goes alone, or with --episodes, --dry-run and --plots")
        planned = {
            index: PlannedLabels(EpisodeLabels.unknown(source.lengths[index]), "clear")
            for index in chosen
        }
    else:
        of_failed = () if failed is None else tuple(parse_episodes(failed, total))
        settings = LabelSettings(failed=of_failed, **given)
        found = keypoint_file(dataset)
        if settings.keypoints is None and found is not None:
            typer.echo(f"keypoints: {found}")
        planned = plan_labels(source, chosen, settings)
    changed = {
        index: plan.labels
        for index, plan in planned.items()
        if not plan.labels.same_as(source.labels_of(index))
    }
    print_changes(source, planned)
    print_still(source, planned)
    summary = f"{len(changed)} of {total} episodes change"
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)  # what refuses it refuses it before anything else
    removes = clear and episodes is None and source.labels is not None
    if dry_run:
        typer.echo(f"{dataset}: {summary}; nothing written (--dry-run)")
    elif removes:
        remove_labels(source)
        typer.echo(f"{dataset}: labels removed")
    elif changed:
        write_labels(source, changed)
        typer.echo(f"{dataset}: {summary}; written")
    else:
        typer.echo(f"{dataset}: no label changes; nothing written")
    if not dry_run or plots is not None:
        for path in plot_labels(plots or new_run("label"), source, planned):
            typer.echo(f"plot: {path}")
