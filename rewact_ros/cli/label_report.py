"""What `rewact label` prints: a line per episode, and a warning."""

import sys
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

from rewact_ros.data.labels.plan import PlannedLabels
from rewact_ros.data.labels.write import EpisodeLabels, LabelledDataset, still_at_end_s
from rewact_ros.reward.labels import LONG_STILL_S


def print_changes(dataset: LabelledDataset, planned: Mapping[int, PlannedLabels]) -> None:
    """Print a line per episode: from what it is labelled, its labels now and after."""
    # A log file or pipe has no width of its own; 80 columns would cut the words.
    console = Console(width=None if sys.stdout.isatty() else 110)
    table = Table("episode", "frames", "by", "keypoints", "now", "new", "success at", box=None)
    for index, plan in planned.items():
        before = dataset.labels_of(index)
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
