"""Figures of what a shadow did, of one episode or of several together."""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.data.shadow.axes import Axes
from rewact_ros.data.shadow.episode import Frames, ShadowedEpisode
from rewact_ros.data.shadow.match import AHEAD_S, MatchCounts
from rewact_ros.reward.metrics import wilson_interval

FloatArray = NDArray[np.float64]
BINS = 10
# A bin with fewer frames is shown, and never called the greatest.
FEWEST = 10
# Distances that differ by less, as a share of the range, are equal: rounding of the wire.
EQUAL = 1e-6


def summary(episodes: Sequence[ShadowedEpisode]) -> dict[str, Any]:
    """The figures of episodes with the same two policies and robot; NaN is None.

    Frames of one episode resemble each other: intervals are over a person's turns and over
    episodes, never over frames.
    """
    axes, frames = episodes[0].axes, pooled(episodes)
    return {
        "episodes": len(episodes),
        "frames": len(frames.progress),
        "observations": _counts([episode.counts for episode in episodes]),
        "refused_messages": sum(episode.refused for episode in episodes),
        "disagreement": disagreement(axes, frames),
        "by_progress": by_progress(axes, frames),
        "human": human(frames),
        "completion": completion(episodes),
    }


def pooled(episodes: Sequence[ShadowedEpisode]) -> Frames:
    """The frames of all episodes one after the other; turns go on counting."""
    parts: list[dict[str, Any]] = []
    turns = 0
    for episode in episodes:
        part = dict(vars(episode.frames))
        for name in ("turn", "turn_ahead"):
            part[name] = np.where(part[name] > 0, part[name] + turns, 0)
        turns = max(turns, int(part["turn"].max(initial=0)))
        parts.append(part)
    return Frames(**{f.name: np.concatenate([p[f.name] for p in parts]) for f in fields(Frames)})


def disagreement(axes: Axes, frames: Frames) -> dict[str, Any]:
    """Distance between the chunks of the same observations: of all joints, and of each.

    `chunk` is over the steps that both chunks have, `start` of the first action, `end` of the last
    of these steps.
    """
    parts = {"chunk": frames.mean, "start": frames.start, "end": frames.end}
    return {
        "share_of_range": {name: _spread(axes.shares(part)) for name, part in parts.items()},
        "joints": {
            joint: {
                "unit": axes.units[j],
                "range": float(axes.ranges[j]),
                "share_of_range": float(frames.mean[:, j].mean() / axes.ranges[j]),
                **{name: _spread(part[:, j]) for name, part in parts.items()},
            }
            for j, joint in enumerate(axes.names)
        },
    }


def by_progress(axes: Axes, frames: Frames) -> dict[str, Any]:
    """Where in the task they disagree: shares of the ranges, by the progress of the run."""
    shares = axes.shares(frames.mean)
    bins: list[dict[str, Any]] = []
    known = np.isfinite(frames.progress)
    index = np.clip((np.where(known, frames.progress, 0) * BINS).astype(int), 0, BINS - 1)
    for k in range(BINS):
        inside = shares[known & (index == k)]
        edges = {"from": k / BINS, "to": (k + 1) / BINS}
        bins.append({**edges, "frames": len(inside), **_spread(inside)})
    enough = [each for each in bins if each["frames"] >= FEWEST]
    greatest = max(enough, key=lambda each: float(each["mean"]), default=None)
    return {"bins": bins, "greatest": greatest, "unknown_frames": int((~known).sum())}


def human(frames: Frames) -> dict[str, Any]:
    """Whose actions lay nearer to what a person did in their place.

    `now` compares first actions with the command of that moment, `ahead` the actions of half a
    second later with the command of then, where the person still led.
    """
    return {
        "turns": len(np.unique(frames.turn[frames.turn > 0])),
        "ahead_s": AHEAD_S,
        "now": _nearer(frames.turn, frames.to_human),
        "ahead": _nearer(frames.turn_ahead, frames.to_human_ahead),
    }


def _nearer(turn: NDArray[np.intp], distance: FloatArray) -> dict[str, Any]:
    led = turn > 0
    running, shadow = distance[led, 0], distance[led, 1]
    gain = np.where(np.abs(running - shadow) <= EQUAL, 0.0, running - shadow)
    won = [float(np.sign(gain[turn[led] == each]).sum()) for each in np.unique(turn[led])]
    for_shadow, decided = sum(each > 0 for each in won), sum(each != 0 for each in won)
    low, high = wilson_interval(for_shadow, decided) if decided else (math.nan, math.nan)
    return {
        "frames": int(led.sum()),
        "shadow_nearer": int((gain > 0).sum()),
        "equal": int((gain == 0).sum()),
        "share_of_frames": _number((gain > 0).mean() if len(gain) else math.nan),
        "running_distance": _number(running.mean() if len(gain) else math.nan),
        "shadow_distance": _number(shadow.mean() if len(gain) else math.nan),
        "turns_for_shadow": for_shadow,
        "turns_decided": decided,
        "low": _number(low),
        "high": _number(high),
    }


def completion(episodes: Sequence[ShadowedEpisode]) -> dict[str, Any]:
    """Whether the shadow's head would have called the task done sooner than the run's."""
    rows = [_completion(episode) for episode in episodes]
    words = ("earlier", "later", "same time", "shadow only", "run only", "neither")
    differences = [row["difference_at_end"] for row in rows if row["difference_at_end"] is not None]
    return {
        "threshold": episodes[0].judged.threshold,
        "calibrated": all(episode.judged.calibrated for episode in episodes),
        "counts": {word: sum(row["shadow_is"] == word for row in rows) for word in words},
        "difference_at_end": _number(np.mean(differences) if differences else math.nan),
        **(rows[0] if len(rows) == 1 else {}),
    }


def _completion(episode: ShadowedEpisode) -> dict[str, Any]:
    running, shadow = episode.curves
    ours, theirs = running.done_s, shadow.done_s
    if math.isnan(ours) or math.isnan(theirs):
        both = math.isnan(ours) and math.isnan(theirs)
        word = "neither" if both else "run only" if math.isnan(theirs) else "shadow only"
    else:
        word = "earlier" if theirs < ours else "later" if theirs > ours else "same time"
    return {
        "run_end": _number(running.end),
        "shadow_end": _number(shadow.end),
        "difference_at_end": _number(shadow.end - running.end),
        "run_done_s": _number(ours),
        "shadow_done_s": _number(theirs),
        "shadow_is": word,
    }


def _counts(counts: Sequence[MatchCounts]) -> dict[str, Any]:
    rows = [asdict(each) for each in counts]
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    total["longest_silence_s"] = max(row["longest_silence_s"] for row in rows)
    return total | {"missed_share": total["missed"] / max(total["running"], 1)}


def _spread(values: FloatArray) -> dict[str, float | None]:
    """Mean and 95 % quantile over time."""
    if not len(values):
        return {"mean": None, "p95": None}
    return {"mean": float(values.mean()), "p95": float(np.quantile(values, 0.95))}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
