"""Pictures of the supervisor's figures."""

import math
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from supervisor_faults import HEALTHY, Seen
from supervisor_splits import MONITOR, QUANTILE

from rewact_ros.msg import EpisodeEvent
from rewact_ros.supervision.alarms import Moment, calibrated
from rewact_ros.supervision.calibration import Calibration

# Colours that stay apart for the colour-blind (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
RULES = {
    MONITOR: (BLUE, "calibrated monitor"),
    QUANTILE: (ORANGE, "one sample, naive quantile"),
    "one_sample_0.9": (RED, "one sample > 0.9"),
    "one_sample_0.95": (PURPLE, "one sample > 0.95"),
}
_TITLES = {
    HEALTHY: "no fault",
    "cover_camera": "cameras covered",
    "remove_object": "cube removed",
    "block_arm": "arm blocked",
}
_DPI = 100


def draw_splits(
    path: Path, splits: dict[str, list[dict[str, float]]], beta: float, alpha: float
) -> None:
    """How often each rule errs, over the splits, beside what was asked for."""
    columns = {
        "false_completions": ("called complete too early or never true", beta, "β"),
        "false_alarms": ("successes with an alarm", alpha, "α"),
        "successes_detected": ("successes found", None, ""),
        "success_delay_p50": ("true success to verdict, median, s", 0.5, "goal"),
    }
    figure, axes = plt.subplots(1, len(columns), figsize=(13, 3.2), layout="constrained")
    for axis, (name, (title, limit, word)) in zip(axes, columns.items(), strict=True):
        for position, (rule, (colour, _)) in enumerate(RULES.items()):
            if name not in splits[rule][0]:
                axis.text(
                    0.75,
                    position,
                    "raises none",
                    color="grey",
                    fontsize=8,
                    ha="center",
                    transform=axis.get_yaxis_transform(),
                )
                continue
            values = np.array([split[name] for split in splits[rule]])
            jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(values))
            axis.scatter(values, position + jitter, s=7, alpha=0.4, color=colour, lw=0)
            axis.plot([values.mean()] * 2, [position - 0.4, position + 0.4], color="black", lw=2)
        if limit is not None:
            axis.axvline(limit, color="black", ls=":", lw=1)
            title += f"\n(dotted: {word} {limit:g})"
        axis.set(title=title, ylim=(-0.6, len(RULES) - 0.4), yticks=range(len(RULES)))
        axis.set_yticklabels([label for _, label in RULES.values()] if axis is axes[0] else [])
        axis.title.set_fontsize(9)
        axis.tick_params(labelsize=8)
        axis.invert_yaxis()
        axis.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def draw_faults(path: Path, episodes: list[Seen], calibration: Calibration) -> None:
    """The first episode of each fault: progress, signals and what the supervisor did."""
    firsts = [next(seen for seen in episodes if seen.fault == fault) for fault in _TITLES]
    figure, axes = plt.subplots(
        2, len(firsts), figsize=(13, 5), sharex="col", sharey="row", layout="constrained"
    )
    for column, seen in enumerate(firsts):
        _draw_fault(axes[0, column], axes[1, column], seen, calibration)
    axes[0, 0].set_ylabel("progress")
    axes[1, 0].set_ylabel("signal / its threshold")
    for row in (0, 1):
        handles, labels = axes[row, 0].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, loc="outside right " + ("upper", "lower")[row])
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)


def _draw_fault(top: Axes, bottom: Axes, seen: Seen, calibration: Calibration) -> None:
    signals, begun_s = seen.signals(calibration), seen.time_of(EpisodeEvent.RUNNING)
    time_s = np.array([s.stamp_s for s in signals]) - begun_s
    top.plot(time_s, [s.progress for s in signals], color=BLUE, label="mean, filtered")
    held = [s.completion(calibration.signals.completion) for s in signals]
    top.plot(time_s, held, color=GREEN, label="level held by 8 of 10")
    top.axhline(calibration.completion.threshold, color=GREEN, ls=":", lw=1, label="complete above")
    for alarm, colour in zip(calibrated(), cycle((ORANGE, PURPLE, BLUE, GREEN)), strict=False):
        values = np.array([alarm.score(Moment(s, s.stamp_s)) for s in signals])
        limit = calibration.alarms[alarm.name].threshold
        bottom.plot(time_s, values / limit, color=colour, label=alarm.name)
    bottom.axhline(1.0, color="black", ls=":", lw=1)
    bottom.set(xlabel="s since the start", ylim=(0, 3))
    for name, at_s, colour, style in (
        ("fault", seen.fault_s, RED, "-"),
        ("alarm", seen.alarm_s, "black", ":"),
        ("hold, asks for a human", seen.time_of(EpisodeEvent.HELP), "black", "--"),
        ("verdict", seen.time_of(EpisodeEvent.VERDICT), "grey", "-"),
    ):
        for axis in (top, bottom):
            label = name if axis is bottom else None
            axis.axvline(at_s - begun_s, color=colour, ls=style, lw=1.4, label=label)
    top.set(title=f"{_TITLES[seen.fault]}: {_outcome(seen)}", ylim=(-0.03, 1.03))
    top.title.set_fontsize(9)
    for axis in (top, bottom):
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)


def _outcome(seen: Seen) -> str:
    if not math.isnan(seen.time_of(EpisodeEvent.HELP)):
        return "asks for a human"
    return {0: "unlabelled", 1: "success", 2: "failure"}[seen.verdict.outcome]
