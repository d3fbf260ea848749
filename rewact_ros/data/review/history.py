"""Former verdicts as the page tells them."""

from typing import Any

from rewact_ros.text import printable

_TOLD = (
    "outcome",
    "by",
    "labelled_at",
    "replaced_by",
    "replaced_at",
    "restored_by",
    "restored_at",
    "taken_back",
)


def told_history(entries: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The history of an episode, the newest first, without the labels that it keeps."""
    return [
        {key: printable(entry[key], 80) for key in _TOLD if isinstance(entry.get(key), str)}
        for entry in reversed(entries)
    ]
