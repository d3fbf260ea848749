"""One line of the list of episodes, and what goes wrong with one."""

from dataclasses import dataclass
from typing import Any

BAG, DATASET = "bag", "dataset"
OK, RECORDING, DAMAGED = "ok", "recording", "damaged"


class ReviewError(ValueError):
    """What was asked of an episode cannot be done; the message says why."""


class UnknownEpisodeError(LookupError):
    """No episode has this id, or none any more."""


@dataclass(frozen=True)
class Row:
    """One episode as the list shows it; None: not known.

    Attributes:
        id: sixteen hexadecimal digits that stay the same while the episode stays in its place.
        kind: `BAG` or `DATASET`.
        source: the folder of recordings, or the dataset.
        name: of the recording, or the number in the dataset.
        state: `OK`, `RECORDING` (being written, not opened) or `DAMAGED`; `why` says more.
        outcome: one of `OUTCOMES` of an `episode.json`.
        alarms: how often one began.
        lost: messages that never came to the recorder, by its own count.
        missing: pictures, or frames, that the others' distance leaves room for.
        interventions: how often a person took over.
        counted: whether the last four are known yet; those of a recording take a look into it.
        editable: whether its outcome can be changed here.
    """

    id: str
    kind: str
    source: str
    name: str
    state: str = OK
    why: str = ""
    task: str = ""
    outcome: str = "unlabelled"
    by: str = ""
    labelled_at: str = ""
    tag: str = ""
    note: str = ""
    discarded: bool = False
    started_s: float | None = None
    duration_s: float | None = None
    alarms: int | None = None
    lost: int | None = None
    missing: int | None = None
    interventions: int | None = None
    counted: bool = True
    editable: bool = True


@dataclass(frozen=True)
class Counts:
    """What a look into a recording counts; `why`: why it cannot be looked into."""

    alarms: int | None = None
    missing: int | None = None
    interventions: int | None = None
    duration_s: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Page:
    """Some of the rows that were asked for.

    Attributes:
        rows: of this page.
        total: rows that fit the question.
        pending: recordings that are still being counted.
        sources: names of the places where episodes were looked for, and what is wrong with one.
    """

    rows: list[Row]
    total: int
    pending: int
    sources: list[dict[str, Any]]
