"""Messages of the robot's nodes as JSON takes them."""

import math
import time
from typing import Any

from rewact_ros.msg import ControlStatus, EpisodeEvent, SupervisorStatus

EVENT_NAMES = {
    getattr(EpisodeEvent, name): name.lower()
    for name in (
        "STARTED",
        "RESETTING",
        "RUNNING",
        "HELP",
        "VERDICT",
        "WARNING",
        "RESUMED",
        "RELABELLED",
    )
}
OUTCOMES = {EpisodeEvent.SUCCESS: "success", EpisodeEvent.FAILURE: "failure"}


def event_record(msg: EpisodeEvent) -> dict[str, Any]:
    """A change in the life of an episode, with the time at which it was heard."""
    return {
        "t": time.time(),
        "event": EVENT_NAMES.get(msg.event, f"event {msg.event}"),
        "episode": msg.episode_id,
        "task": msg.task,
        "outcome": OUTCOMES.get(msg.outcome, ""),
        "detail": msg.detail,
        "by": msg.by,
    }


def number(value: float) -> float | None:
    """JSON has no NaN."""
    return round(float(value), 4) if math.isfinite(value) else None


def episode_record(heard: tuple[SupervisorStatus, float] | None) -> dict[str, Any] | None:
    """The supervisor's newest status, with its age; None: none was heard."""
    if heard is None:
        return None
    msg, at_s = heard
    return {
        "id": msg.episode_id,
        "phase": msg.phase,
        "text": msg.text,
        "progress": number(msg.progress),
        "level": number(msg.level),
        "stall": number(msg.stall),
        "drawdown": number(msg.drawdown),
        "novelty": number(msg.novelty),
        "staleness": number(msg.staleness),
        "alarms": list(msg.alarms),
        "bound": msg.bound,
        "episode": int(msg.episode),
        "episodes": int(msg.episodes),
        "age": round(time.monotonic() - at_s, 2),
    }


def command_record(heard: tuple[ControlStatus, float] | None) -> dict[str, Any] | None:
    """How hil's commands go, with the age of what it said; None: nothing was heard."""
    if heard is None:
        return None
    msg, at_s = heard
    return {
        "commands": int(msg.commands),
        "clipped": int(msg.clipped),
        "rejected": int(msg.rejected),
        "late_ticks": int(msg.late_ticks),
        "violation": msg.violation,
        "age": round(time.monotonic() - at_s, 2),
        "timings": [
            {"name": t.name, "n": int(t.n), "p50": number(t.p50_ms), "p99": number(t.p99_ms)}
            for t in msg.timings
        ],
    }
