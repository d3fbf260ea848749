"""All episodes that there are to review, and where each lies; read anew where files changed."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewact_ros.data.bags.episode_file import (
    EPISODE_FILE,
    EpisodeFileError,
    EpisodeRecord,
    read_episode,
)
from rewact_ros.data.review.dataset_rows import DatasetRows
from rewact_ros.data.review.places import (
    Signature,
    bag_folders,
    bag_signature,
    dataset_folders,
    episode_id,
    require_inside,
    signature,
)
from rewact_ros.data.review.rows import (
    BAG,
    DAMAGED,
    DATASET,
    RECORDING,
    Counts,
    ReviewError,
    Row,
    UnknownEpisodeError,
)
from rewact_ros.text import printable, reason

if TYPE_CHECKING:  # pyarrow, which a robot's side may lack
    from rewact_ros.data.review.dataset_index import DatasetIndex

NANO = 1_000_000_000
_TEXT = 200


@dataclass(frozen=True)
class Place:
    """Where an episode lies; `index` is its number in a dataset, and 0 of a recording."""

    kind: str
    folder: Path
    index: int = 0


class Listing:
    """Finds and describes episodes; safe in any thread.

    Recordings are counted by a thread of its own, one after another, when somebody has listed
    them: the list comes at once.

    Args:
        bags_dir: folder of recordings; None: none.
        datasets: folder of datasets, or one; None: none.
        begin: called first in the counting thread.
    """

    def __init__(
        self,
        bags_dir: Path | None,
        datasets: Path | None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.bags_dir = bags_dir.resolve() if bags_dir else None
        self.datasets = datasets.resolve() if datasets else None
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._counts: dict[Path, tuple[Signature, Counts]] = {}
        self._waiting: set[Path] = set()
        self._records: dict[Path, tuple[Signature, EpisodeRecord]] = {}
        self._datasets = DatasetRows(self.datasets) if self.datasets else None
        self._jobs: queue.SimpleQueue[tuple[Path, EpisodeRecord | None] | None]
        self._jobs = queue.SimpleQueue()
        self._counter = threading.Thread(
            target=self._count_all, args=(begin,), name="review counts", daemon=True
        )
        self._counter.start()

    @property
    def pending(self) -> int:
        """Recordings that wait to be counted."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop counting."""
        self._jobs.put(None)

    def rows(self) -> tuple[list[Row], list[dict[str, Any]]]:
        """Every episode, and every place in which some were looked for."""
        rows, sources = list[Row](), list[dict[str, Any]]()
        places: dict[str, Place] = {}
        if self.bags_dir is not None:
            why = "" if self.bags_dir.is_dir() else "no such folder yet"
            folders = bag_folders(self.bags_dir) if not why else []
            sources.append({"name": self.bags_dir.name, "kind": BAG, "why": why, "n": len(folders)})
            for folder in folders:
                row = self._bag_row(folder)
                rows.append(row)
                places[row.id] = Place(BAG, folder)
        if self._datasets is not None and self.datasets is not None:
            for root in dataset_folders(self.datasets):
                own = self._datasets.rows(root)
                why = own[0].why if own[0].state == DAMAGED else ""
                n = 0 if why else len(own)
                name = self._datasets.name(root)
                sources.append({"name": name, "kind": DATASET, "why": why, "n": n})
                rows += own
                places |= {row.id: Place(DATASET, root, k) for k, row in enumerate(own) if not why}
        with self._lock:
            self._places = places
        return rows, sources

    def find(self, episode: str) -> Place:
        """Where the episode with an id lies.

        Raises:
            UnknownEpisodeError: none has it.
        """
        found = self._places.get(episode)
        if found is None:
            self.rows()
            found = self._places.get(episode)
        if found is None or not found.folder.is_dir():
            raise UnknownEpisodeError("no such episode; it may have been moved: list them again")
        root = self.bags_dir if found.kind == BAG else self.datasets
        assert root is not None
        require_inside(found.folder, root)
        return found

    def record(self, folder: Path) -> EpisodeRecord | None:
        """The `episode.json` of a recording; None: another recorder's; raises EpisodeFileError."""
        path = folder / EPISODE_FILE
        now = signature([path])
        if not now:
            return None
        known = self._records.get(folder)
        if known is None or known[0] != now:
            known = self._records[folder] = (now, read_episode(folder))
        return known[1]

    def index(self, root: Path) -> "DatasetIndex":
        """What a dataset holds; raises ReviewError where it cannot be read."""
        assert self._datasets is not None
        return self._datasets.index(root)

    def row(self, place: Place) -> Row:
        """One episode, as it is now."""
        if place.kind == BAG:
            return self._bag_row(place.folder)
        assert self._datasets is not None
        own = self._datasets.rows(place.folder)
        return own[place.index] if place.index < len(own) else own[0]

    # Recordings --------------------------------------------------------------------------------

    def _bag_row(self, folder: Path) -> Row:
        assert self.bags_dir is not None
        name = folder.name
        row = Row(episode_id(BAG, name), BAG, printable(self.bags_dir.name, _TEXT),
                  printable(name, _TEXT))  # fmt: skip
        try:
            require_inside(folder, self.bags_dir)
            record = self.record(folder)
        except (ReviewError, EpisodeFileError, OSError) as error:
            return replace(row, state=DAMAGED, why=_why(error), editable=False)
        if record is not None:
            row = _told(row, record)
            if record.ended_ns is None:
                why = "is being recorded, or its recorder was killed (rewact bag recover)"
                return replace(row, state=RECORDING, why=why, editable=False)
        else:
            row = replace(row, editable=False, why="no episode.json: of another recorder")
        counts = self._counted(folder, record)
        if counts is None:
            return replace(row, counted=False)
        if counts.why:
            return replace(row, state=DAMAGED, why=counts.why)
        seconds = row.duration_s if row.duration_s is not None else counts.duration_s
        return replace(row, alarms=counts.alarms, missing=counts.missing, duration_s=seconds,
                       interventions=counts.interventions)  # fmt: skip

    def _counted(self, folder: Path, record: EpisodeRecord | None) -> Counts | None:
        """What was counted of the files as they are now; None: later."""
        now = bag_signature(folder)
        known = self._counts.get(folder)
        if known is not None and known[0] == now:
            return known[1]
        with self._lock:
            if folder not in self._waiting:
                self._waiting.add(folder)
                self._jobs.put((folder, record))
        return None

    def _count_all(self, begin: Callable[[], None]) -> None:
        begin()
        # Imports hold every thread up for a moment: better now than when somebody jogs.
        if self.bags_dir is not None:
            with suppress(ImportError):
                import rewact_ros.data.review.bag_look
        if self.datasets is not None:
            with suppress(ImportError):
                import rewact_ros.data.review.marks_file  # noqa: F401
        while (job := self._jobs.get()) is not None:
            folder, record = job
            now = bag_signature(folder)
            try:
                from rewact_ros.data.review.bag_look import count_bag

                counts = count_bag(folder, record)
            except Exception as error:  # the thread goes on with the others, whatever one holds
                counts = Counts(why=_why(error))
            with self._lock:
                self._counts[folder] = (now, counts)
                self._waiting.discard(folder)


def _told(row: Row, record: EpisodeRecord) -> Row:
    ended, started = record.ended_ns, record.started_ns
    seconds = (ended - started) / NANO if ended is not None and started is not None else None
    return replace(
        row,
        task=printable(record.task, _TEXT),
        outcome=record.outcome,
        by=printable(record.by, 60),
        labelled_at=printable(record.labelled_at, 40),
        tag=printable(record.tag, _TEXT),
        note=printable(record.note, 600),
        discarded=record.discarded,
        started_s=started / NANO if started is not None else None,
        duration_s=round(seconds, 3) if seconds is not None else None,
        lost=sum(int(counts["dropped"]) for counts in record.topics.values()),
    )


def _why(error: Exception) -> str:
    return printable(reason(error), 300)
