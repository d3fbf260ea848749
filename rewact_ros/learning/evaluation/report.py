"""An evaluation on recorded episodes as JSON, Markdown and plots."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rewact_ros.reward.metrics import reliability, roc_curve

from .dataset import CLOCK, JOINTS, POLICY, Evaluation, summary
from .reward import Scored

# figure -> (column head, decimals)
COLUMNS = {
    "mae": ("MAE", 3),
    "voc_success": ("VOC successes", 2),
    "voc_undisturbed": ("VOC undisturbed", 2),
    "voc_failure": ("VOC failures", 2),
    "roc_auc": ("ROC-AUC", 3),
    "pr_auc": ("PR-AUC", 3),
    "brier": ("Brier", 3),
    "ece": ("ECE", 3),
    "progress_ece": ("progress ECE", 3),
    "drops_detected": ("drops detected", 2),
    "drop_delay_s": ("drop delay s", 2),
    "false_drops": ("false drops", 2),
    "crossed": ("crossed 0.9", 2),
    "crossing_delay_s": ("crossing delay s", 2),
    "coverage": ("q10–q90 coverage", 2),
}
_COLOURS = {POLICY: "tab:blue", CLOCK: "tab:gray", JOINTS: "tab:orange"}
_SHOWN = 6  # episodes whose curves are drawn


def write_report(folder: Path, evaluation: Evaluation, header: dict[str, Any]) -> list[Path]:
    """Write ``summary.json``, ``report.md`` and the plots to a folder.

    Args:
        folder: is made if need be.
        evaluation: what was found out.
        header: policy, settings and machine, for the JSON and the top of the Markdown.

    Returns:
        the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = {**header, **summary(evaluation)}
    (folder / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
    plots = []
    if evaluation.reward:
        plots += [("progress", _progress(evaluation)), ("calibration", _calibration(evaluation))]
        if len({e.succeeds for e in evaluation.episodes}) == 2:
            plots.append(("roc", _roc(evaluation)))
    if evaluation.actions:
        plots.append(("actions", _actions(evaluation)))
    files = [folder / "summary.json", folder / "report.md"]
    for name, figure in plots:
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1], dpi=100)
        plt.close(figure)
    files[1].write_text(_markdown(evaluation, header, [name for name, _ in plots]))
    return files


def reward_table(evaluation: Evaluation) -> list[str]:
    """Lines of a Markdown table: a row per predictor, with 95 % intervals."""
    found = [key for key in COLUMNS if key in next(iter(evaluation.reward.values())).figures]
    lines = [
        "| | " + " | ".join(COLUMNS[key][0] for key in found) + " |",
        "|---|" + "---:|" * len(found),
    ]
    for name, judged in evaluation.reward.items():
        cells = [
            _cell(judged.figures[k], COLUMNS[k][1]) if k in judged.figures else "–" for k in found
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(figure: Scored, decimals: int) -> str:
    if math.isnan(figure.value):
        return "–"
    text = f"{figure.value:.{decimals}f}"
    if math.isnan(figure.low):
        return text
    return f"{text} ({figure.low:.{decimals}f} to {figure.high:.{decimals}f})"


def _markdown(evaluation: Evaluation, header: dict[str, Any], plots: list[str]) -> str:
    successes = sum(e.succeeds for e in evaluation.episodes)
    lines = ["# Evaluation on recorded episodes", ""]
    for part, content in header.items():
        lines.append(f"- {part}: " + ", ".join(f"{k} {v}" for k, v in content.items()))
    lines += [f"- episodes: {len(evaluation.episodes)}, {successes} of them successes", ""]
    if evaluation.check is not None:
        lines += ["## Judge", "", evaluation.check.line, ""]
    if evaluation.reward:
        lines += ["## Reward", "", *reward_table(evaluation), ""]
        lines += [
            "Brackets: 95 % intervals over episodes (bootstrap; of shares Wilson); of delays the "
            "quartiles. What each figure means: docs/evaluation.md.",
            "",
        ]
    if evaluation.actions:
        names = evaluation.action_names or [str(i) for i in range(len(_first(evaluation)))]
        lines += ["## Actions, L1 in contract units", "", "| | all | " + " | ".join(names) + " |"]
        lines.append("|---|---:|" + "---:|" * len(names))
        for name, error in evaluation.actions.items():
            cells = " | ".join(f"{value:.4f}" for value in error.per_joint)
            lines.append(f"| {name} | {error.mean:.4f} | {cells} |")
        lines.append("")
    lines += [f"![{name}]({name}.png)" for name in plots]
    return "\n".join(lines) + "\n"


def _first(evaluation: Evaluation) -> NDArray[Any]:
    return next(iter(evaluation.actions.values())).per_joint


def _progress(evaluation: Evaluation) -> Figure:
    """Predicted progress against the label, successes and failures in turn."""
    kinds = [
        [i for i, e in enumerate(evaluation.episodes) if e.succeeds == wanted]
        for wanted in (True, False)
    ]
    half = _SHOWN // 2
    few = [kind[: max(half, _SHOWN - len(other))] for kind, other in (kinds, kinds[::-1])]
    chosen = few[0] + few[1]
    columns = min(len(chosen), 3)
    rows = -(-len(chosen) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(4 * columns, 2.6 * rows),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axes in grid.flat[len(chosen) :]:
        axes.set_visible(False)
    for axes, index in zip(grid.flat, chosen, strict=False):
        _draw_episode(axes, evaluation, index)
    grid[0, 0].legend(fontsize=8, loc="upper left")
    return figure


def _draw_episode(axes: Axes, evaluation: Evaluation, index: int) -> None:
    episode = evaluation.episodes[index]
    axes.plot(episode.times_s, episode.labels, "k--", label="label")
    for name, colour in _COLOURS.items():
        if name not in evaluation.reward:
            continue
        curve = evaluation.reward[name].curves[index]
        axes.plot(episode.times_s, curve.progress, color=colour, label=name, lw=1.3)
        if curve.quantiles is not None:
            low, high = curve.quantiles[:, 0], curve.quantiles[:, 2]
            axes.fill_between(episode.times_s, low, high, color=colour, alpha=0.2, lw=0)
    outcome = "success" if episode.succeeds else "failure"
    axes.set_title(f"episode {episode.index}: {outcome}", fontsize=9)
    axes.set(xlabel="s", ylim=(-0.04, 1.04))
    axes.grid(alpha=0.3)


def _roc(evaluation: Evaluation) -> Figure:
    succeeds = [episode.succeeds for episode in evaluation.episodes]
    figure, axes = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
    for name, colour in _COLOURS.items():
        if name in evaluation.reward:
            judged = evaluation.reward[name]
            false, true = roc_curve(judged.scores, succeeds)
            area = judged.figures["roc_auc"].value
            axes.plot(false, true, color=colour, label=f"{name}: {area:.3f}", clip_on=False)
    axes.plot([0, 1], [0, 1], "k:", lw=0.8)
    axes.set(xlabel="failures taken for successes", ylabel="successes found", title="dwell score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _calibration(evaluation: Evaluation) -> Figure:
    """Left: every frame's progress against its label; right: the last frame's against the end."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    labels = np.concatenate([episode.labels for episode in evaluation.episodes])
    known = np.isfinite(labels)
    succeeds = np.array([episode.succeeds for episode in evaluation.episodes])
    for name, colour in _COLOURS.items():
        if name not in evaluation.reward:
            continue
        judged = evaluation.reward[name]
        progress = np.concatenate([curve.progress for curve in judged.curves])
        for axes, predicted, truth in (
            (left, progress[known], labels[known]),
            (right, judged.final, succeeds),
        ):
            mean, outcome, count = reliability(predicted, truth)
            axes.plot(mean, outcome, color=colour, lw=0.8, label=name)
            axes.scatter(mean, outcome, 15 + 150 * count / count.sum(), color=colour, alpha=0.7)
    left.set(xlabel="predicted progress", ylabel="mean label", title="all frames")
    right.set(xlabel="predicted at the last frame", ylabel="share of successes", title="episodes")
    for axes in (left, right):
        axes.plot([0, 1], [0, 1], "k:", lw=0.8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")
    return figure


def _actions(evaluation: Evaluation) -> Figure:
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    for name, error in evaluation.actions.items():
        axes.plot(np.arange(len(error.per_step)), error.per_step, label=f"{name}: {error.mean:.4f}")
    axes.set(
        xlabel="steps after the observation", ylabel="action L1, contract units", ylim=(0, None)
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
