"""What labelling changes: a table of the episodes and a picture of every curve."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from rewact_ros.data.labels.plan import PlannedLabels
from rewact_ros.data.labels.write import EpisodeLabels, LabelledDataset, still_at_end_s
from rewact_ros.reward.labels import LONG_STILL_S

ROWS, COLUMNS = 6, 5  # curves in one picture


def print_changes(dataset: LabelledDataset, planned: Mapping[int, PlannedLabels]) -> None:
    """Print a line per episode: from what it is labelled, its labels now and after."""
    # A log file or pipe has no width of its own; 80 columns would cut the words.
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table("episode", "frames", "by", "keypoints", "now", "new", "success at", box=None)
    for index, plan in planned.items():
        before = present_labels(dataset, index)
        moments = " ".join(f"{p.frame}:{p.value:g}" for p in plan.keypoints)
        new = "unchanged" if plan.labels.same_as(before) else describe(plan.labels)
        first = np.flatnonzero(plan.labels.success)
        when = f"{first[0] / dataset.fps:.2f} s" if len(first) else "–"
        frames = str(dataset.lengths[index])
        table.add_row(str(index), frames, plan.source, moments, describe(before), new, when)
    console.print(table)


def print_still(dataset: LabelledDataset, planned: Mapping[int, PlannedLabels]) -> None:
    """Warn of successes labelled by time whose arm had arrived long before they end."""
    timed = [index for index, plan in planned.items() if plan.source == "ramp"]
    still_s = still_at_end_s(dataset) if timed else {}
    late = {i: still_s[i] for i in timed if still_s.get(i, 0.0) > LONG_STILL_S}
    if late:
        longest = max(late, key=late.__getitem__)
        print(
            f"warning: {len(late)} episodes end with the arm standing still, the longest is "
            f"{longest} with {late[longest]:.1f} s: --ramp labels that as progress and success; "
            "say when they were done by --keypoints"
        )


def describe(labels: EpisodeLabels) -> str:
    """The labels in a few words: where they end and how often they fall."""
    reward = labels.reward
    if not np.isfinite(reward).any():
        return "unknown"
    text = f"ends {reward[-1]:.2f}"
    steps = np.diff(reward)
    falls = int(((steps < 0) & ~np.append(False, steps[:-1] < 0)).sum())
    if np.nanmax(reward) > reward[-1]:
        text += f", peak {np.nanmax(reward):.2f}"
    return text + (f", {falls} fall{'s' if falls > 1 else ''}" if falls else "")


def present_labels(dataset: LabelledDataset, index: int) -> EpisodeLabels:
    """Labels that an episode has now."""
    return (dataset.labels or {}).get(index, EpisodeLabels.unknown(dataset.lengths[index]))


def plot_labels(
    folder: Path, dataset: LabelledDataset, planned: Mapping[int, PlannedLabels]
) -> list[Path]:
    """Draw every planned curve over the present one into PNGs of 30 curves; return their paths."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    items = list(planned.items())
    for page, start in enumerate(range(0, len(items), ROWS * COLUMNS)):
        here = items[start : start + ROWS * COLUMNS]
        rows = -(-len(here) // COLUMNS)
        columns = min(len(here), COLUMNS)
        figure = Figure(figsize=(3.4 * columns + 0.6, 2.1 * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, (index, plan) in zip(grid.flat, here, strict=False):
            _draw(axes, dataset, index, plan)
        for axes in grid.flat[len(here) :]:
            axes.set_visible(False)
        handles = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
        named = [name for name in ("new", "before", "keypoint", "success") if name in handles]
        figure.legend([handles[n] for n in named], named, loc="outside upper center", ncols=4)
        figure.supxlabel("time in the episode [s]", fontsize=9)
        figure.supylabel("progress label", fontsize=9)
        paths.append(folder / f"labels-{page:03d}.png")
        figure.savefig(paths[-1], dpi=100)
    return paths


def _draw(axes, dataset: LabelledDataset, index: int, plan: PlannedLabels) -> None:
    before, fps = present_labels(dataset, index), dataset.fps
    times = np.arange(len(plan.labels.reward)) / fps
    if np.isfinite(before.reward).any():
        axes.plot(times, before.reward, color="0.6", lw=2.5, label="before")
    axes.plot(times, plan.labels.reward, color="tab:blue", lw=1.3, label="new")
    done = np.flatnonzero(plan.labels.success)
    if len(done):
        axes.axvline(done[0] / fps, color="tab:green", lw=1, ls="--", label="success")
    if plan.keypoints:
        axes.plot(
            [point.frame / fps for point in plan.keypoints],
            [point.value for point in plan.keypoints],
            "o",
            color="tab:orange",
            ms=4,
            label="keypoint",
        )
    for point in plan.keypoints:
        if point.name.startswith("keypoint"):
            continue
        # Above a low point and below a high one, towards the middle: inside the frame.
        late, high = point.frame > 0.6 * len(times), point.value > 0.6
        axes.annotate(
            point.name,
            (point.frame / fps, point.value),
            xytext=(-4 if late else 4, -9 if high else 4),
            textcoords="offset points",
            ha="right" if late else "left",
            fontsize=7,
        )
    if not np.isfinite(plan.labels.reward).any():
        axes.text(0.5, 0.5, "unknown", transform=axes.transAxes, ha="center", fontsize=8)
    axes.set_title(f"episode {index} ({plan.source})", fontsize=8)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlim(0, times[-1] if len(times) > 1 else 1)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
