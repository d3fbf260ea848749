"""What a robot's nodes say of an episode, as lines of Rerun's log; of a recording and live."""

from typing import Any

from rewact_ros.control.modes import mode_name
from rewact_ros.data.bags.story_topics import CONTROL, EVENTS, SUPERVISOR
from rewact_ros.supervision.verdict import Change

EVENT_TOPICS = (EVENTS, CONTROL, SUPERVISOR)
_LEVELS = {Change.HELP: "WARN", Change.WARNING: "WARN"}
_CALM = "alarms: none"


class EventLines:
    """Changes of the episode, of hil's mode and of the supervisor's alarms."""

    def __init__(self) -> None:
        self._last = {SUPERVISOR: _CALM}

    def take(self, topic: str, body: Any) -> tuple[str, str] | None:
        """The next message of one of `EVENT_TOPICS` as (line, level); None: it changes nothing."""
        if topic == EVENTS:
            return _event(body)
        if topic == CONTROL:
            line = f"{mode_name(body.mode)}: {body.reason}"
            level = "WARN" if body.resume_required else "INFO"
        else:
            line = f"alarms: {', '.join(body.alarms)}" if len(body.alarms) else _CALM
            level = "WARN" if len(body.alarms) else "INFO"
        before, self._last[topic] = self._last.get(topic), line
        return None if line == before else (line, level)


def _event(body: Any) -> tuple[str, str]:
    name = Change(body.event).name.lower() if body.event in set(Change) else str(body.event)
    words = (body.termination_reason, body.detail, f"task: {body.task}")
    text = ", ".join(filter(None, (f"episode: {name}", *words)))
    return text, _LEVELS.get(body.event, "INFO")
