"""A picture of what labelling changes: every planned curve over the present one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .plan import PlannedLabels
from .write import LabelledDataset

ROWS, COLUMNS = 6, 5  # curves in one picture


def plot_labels(
    folder: Path, dataset: LabelledDataset, planned: Mapping[int, PlannedLabels]
) -> list[Path]:
    """Draw every planned curve over the present one into PNGs of 30 curves; return their paths."""
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


def _draw(axes: Axes, dataset: LabelledDataset, index: int, plan: PlannedLabels) -> None:
    before, fps = dataset.labels_of(index), dataset.fps
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
