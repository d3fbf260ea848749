"""What an export took and what it left out, for people; `meta/export.json` has all of it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rewact_ros.reward.labels import LONG_STILL_S


def totals(recordings: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the recordings of a report."""
    episodes = [e for recording in recordings for e in recording["episodes"]]
    taken = [e for e in episodes if e["dataset_episodes"]]
    return {
        "recordings": len(recordings),
        "recordings_refused": sum(bool(r["refused"]) for r in recordings),
        "episodes": len(episodes),
        "episodes_refused": len(episodes) - len(taken),
        "dataset_episodes": sum(len(e["dataset_episodes"]) for e in taken),
        "frames": sum(e["frames"] for e in taken),
        "frames_left_out": sum(e["steps"] - e["frames"] for e in episodes),
        "human_frames": sum(e["human_frames"] for e in taken),
        "gaps": sum(len(e["gaps"]) for e in episodes),
        "outcomes": dict(Counter(e["outcome"] for e in taken)),
    }


def text(report: dict[str, Any]) -> str:
    """The report as lines; says nothing about what went as it should."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    sums = report["totals"]
    outcomes = ", ".join(f"{n} {name}" for name, n in sorted(sums["outcomes"].items()))
    yield (
        f"{sums['dataset_episodes']} episodes, {sums['frames']} frames from "
        f"{sums['recordings'] - sums['recordings_refused']} of {sums['recordings']} recordings"
        f" ({outcomes or 'none'}); {sums['human_frames']} frames with a human in control"
    )
    for recording in report["recordings"]:
        if recording["refused"]:
            yield f"{recording['name']}: refused: {recording['refused']}"
        for episode in recording["episodes"]:
            faults = list(_faults(episode))
            if faults:
                yield f"{episode['episode_id']}: {'; '.join(faults)}"


def _faults(episode: dict[str, Any]) -> Iterator[str]:
    if episode["refused"]:
        yield f"refused: {episode['refused']}"
    elif len(episode["dataset_episodes"]) > 1:
        yield f"cut into {len(episode['dataset_episodes'])} episodes"
    if episode["outcome"] == "success" and episode["dataset_episodes"]:
        if not episode["success_frames"]:
            yield "a success, but the frames that show it are missing: none is labelled so"
        if episode["still_s"] > LONG_STILL_S:
            yield (
                f"the arm stood still for the last {episode['still_s']:.1f} s of "
                f"{episode['seconds']:.1f} s, labelled as progress and success: judge sooner, or "
                "say when it was done (rewact label --keypoints)"
            )
    if left := episode["steps"] - episode["frames"]:
        yield f"{left} frames left out"
    for gap in episode["gaps"][:5]:
        yield f"nothing for {gap['seconds']:.2f} s at {gap['at_s']:.2f} s ({gap['why']})"
    if len(episode["gaps"]) > 5:
        yield f"{len(episode['gaps']) - 5} further gaps"
    for stream, count in episode["incomplete"].items():
        yield f"{count} images without an observation, for {stream}"
    if count := episode["without_command"]:
        yield f"{count} observations without a command"
    for topic, count in episode["refused_messages"].items():
        yield f"{count} messages of {topic} do not fit the contract"
