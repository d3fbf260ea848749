"""Pictures of what a shadow did: one of an episode, and one of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure

from rewact_ros.data.shadow.episode import ShadowedEpisode
from rewact_ros.data.shadow.figures import BINS, by_progress, disagreement, human, pooled
from rewact_ros.files import replacing_file
from rewact_ros.text import printable

RUN, SHADOW, PERSON = "tab:blue", "tab:orange", "tab:green"
# A longer time without a sample is a gap, not a line.
GAP_S = 0.5


def draw_episode(episode: ShadowedEpisode, path: Path) -> Path:
    """Progress, disagreement and distance to the person over time."""
    led = bool((episode.frames.turn > 0).any())
    rows = 3 if led else 2
    figure = Figure(figsize=(10, 2.6 * rows), layout="constrained")
    plots = figure.subplots(rows, 1, sharex=True)
    span = episode.span
    reason = f" ({span.termination_reason})" if span.termination_reason else ""
    title = f"{span.episode_id}: {span.outcome}{reason}"
    plots[0].set_title(printable(title, 120), fontsize=10)
    _progress(plots[0], episode)
    _over_time(plots[1], episode)
    if led:
        _to_human(plots[2], episode)
    for plot in plots:
        _turns(plot, episode)
        plot.grid(alpha=0.3)
        plot.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    plots[-1].set_xlabel("time, s")
    return _save(figure, path)


def _progress(plot: Plot, episode: ShadowedEpisode) -> None:
    names = (f"run {_version(episode.running)}", f"shadow {_version(episode.shadow)}")
    for curve, colour, name in zip(episode.curves, (RUN, SHADOW), names, strict=True):
        _line(plot, curve.times_s, curve.values, color=colour, label=name)
        if np.isfinite(curve.done_s):
            plot.axvline(curve.done_s, color=colour, ls=":", label=f"done at {curve.done_s:.1f} s")
    plot.axhline(episode.judged.threshold, color="0.5", lw=0.8, ls="--")
    plot.set(ylabel="progress", ylim=(-0.05, 1.05))


def _over_time(plot: Plot, episode: ShadowedEpisode) -> None:
    axes, frames = episode.axes, episode.frames
    for part, colour, name in (
        (frames.end, "0.7", "last action"),
        (frames.mean, "tab:red", "whole chunk"),
        (frames.start, "black", "first action"),
    ):
        _line(plot, episode.times_s, 100 * axes.shares(part), color=colour, lw=1.2, label=name)
    plot.set(ylabel="disagreement,\n% of range")
    plot.set_ylim(bottom=0)


def _to_human(plot: Plot, episode: ShadowedEpisode) -> None:
    for k, (colour, name) in enumerate(((RUN, "run"), (SHADOW, "shadow"))):
        values = 100 * episode.frames.to_human[:, k]
        _line(plot, episode.times_s, values, color=colour, label=f"{name} to person")
    plot.set(ylabel="distance to what the\nperson did, % of range")
    plot.set_ylim(bottom=0)


def _turns(plot: Plot, episode: ShadowedEpisode) -> None:
    """Shade the turns of a person."""
    turn = episode.frames.turn
    for each in np.unique(turn[turn > 0]):
        times_s = episode.times_s[turn == each]
        plot.axvspan(times_s[0], times_s[-1], color=PERSON, alpha=0.12, lw=0)


def draw_overall(episodes: Sequence[ShadowedEpisode], path: Path) -> Path:
    """Disagreement by joint and by progress, and who was nearer to the person."""
    axes, frames = episodes[0].axes, pooled(episodes)
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    joints, progress, person = figure.subplots(1, 3, width_ratios=(1.4, 1.2, 0.8))
    figure.suptitle(
        f"shadow {_version(episodes[0].shadow)} beside {_version(episodes[0].running)}: "
        f"episodes: {len(episodes)}, observations: {len(frames.progress)}",
        fontsize=10,
    )
    found = disagreement(axes, frames)["joints"]
    places = np.arange(len(axes.names))
    # The tail is a tick above its bar.
    for shift, part, colour in ((-0.2, "start", "black"), (0.2, "chunk", "tab:red")):
        rows = [found[name] for name in axes.names]
        means = [100 * row[part]["mean"] / row["range"] for row in rows]
        tails = [100 * row[part]["p95"] / row["range"] for row in rows]
        name = "first action" if part == "start" else "whole chunk"
        joints.bar(places + shift, means, 0.36, color=colour, label=f"{name}, mean")
        joints.plot(places + shift, tails, "_", color=colour, ms=10, label="95 %")
    joints.set_xticks(places, axes.names, rotation=45, ha="right", fontsize=8)
    joints.set(ylabel="disagreement, % of range")
    joints.legend(fontsize=7)
    _bins(progress, by_progress(axes, frames)["bins"])
    _nearer(person, human(frames))
    return _save(figure, path)


def _bins(plot: Plot, bins: list[dict[str, Any]]) -> None:
    middles = [each["from"] + 0.5 / BINS for each in bins]
    for name, colour, mark in (("mean", "tab:red", "o-"), ("p95", "0.5", "_")):
        values = [np.nan if each[name] is None else 100 * each[name] for each in bins]
        plot.plot(middles, values, mark, color=colour, label=name, ms=5)
    plot.set(xlabel="progress of the run", xlim=(0, 1), ylabel="disagreement, % of range")
    plot.set_ylim(bottom=0)
    plot.legend(fontsize=7)


def _nearer(plot: Plot, found: dict[str, Any]) -> None:
    plot.set_title(f"turns of a person: {found['turns']}", fontsize=9)
    names = ("now", "ahead")
    shares = [found[name]["share_of_frames"] for name in names]
    labels = ["now", f"{found['ahead_s']:g} s ahead"]
    plot.bar(labels, [100 * (share or 0) for share in shares], color=SHADOW, width=0.6)
    plot.axhline(50, color="0.5", lw=0.8, ls="--")
    plot.set(ylabel="observations in which the shadow\nwas nearer to the person, %", ylim=(0, 100))
    if not found["turns"]:
        plot.text(0.5, 50, "nobody led", ha="center", va="bottom", color="0.4")


def _line(plot: Plot, times_s: Any, values: Any, **style: Any) -> None:
    """A curve that is broken where samples are missing."""
    breaks = np.flatnonzero(np.diff(times_s) > GAP_S) + 1
    times, known = np.insert(times_s, breaks, np.nan), np.insert(values, breaks, np.nan)
    plot.plot(times, known, **style)


def _version(versions: tuple[str, ...]) -> str:
    return printable(" → ".join(versions), 40)


def _save(figure: Figure, path: Path) -> Path:
    with replacing_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
    return path
