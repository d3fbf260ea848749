"""Datasets in the list of episodes; one is read anew where its files changed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewact_ros.data.review.places import Signature, episode_id, require_inside, signature
from rewact_ros.data.review.rows import DAMAGED, DATASET, ReviewError, Row
from rewact_ros.text import printable, reason

if TYPE_CHECKING:  # pyarrow, which a robot's side may lack
    from rewact_ros.data.review.dataset_index import DatasetIndex
    from rewact_ros.data.review.dataset_notes import Notes

_TEXT = 200


@dataclass(frozen=True)
class _Read:
    """A dataset as it was last read: its `index`, or `why` there is none."""

    signature: Signature
    index: "DatasetIndex | None"
    why: str = ""


class DatasetRows:
    """Describes the episodes of datasets below one folder.

    Args:
        datasets: the folder, or one dataset.
    """

    def __init__(self, datasets: Path) -> None:
        self._datasets = datasets
        self._read: dict[Path, _Read] = {}
        self._notes: dict[Path, tuple[tuple[Signature, str], Notes]] = {}

    def name(self, root: Path) -> str:
        """What a dataset is called on the page."""
        inside = root.relative_to(self._datasets)
        return printable(inside if inside.parts else root.name, _TEXT)

    def index(self, root: Path) -> "DatasetIndex":
        """What a dataset holds.

        Raises:
            ReviewError: it cannot be read.
        """
        read = self._reading(root)
        if read.index is None:
            raise ReviewError(read.why)
        return read.index

    def rows(self, root: Path) -> list[Row]:
        """A row per episode; one of a dataset that cannot be read."""
        place, name = str(root.relative_to(self._datasets)), self.name(root)
        read = self._reading(root)
        if read.index is None:
            id_ = episode_id(DATASET, place)
            return [Row(id_, DATASET, name, "–", DAMAGED, read.why, editable=False)]
        noted = self._noted(root)
        return [
            _row(episode_id(DATASET, place, k), name, read.index, k, noted.get(k))
            for k in range(len(read.index.lengths))
        ]

    def _reading(self, root: Path) -> _Read:
        try:
            from rewact_ros.data.dataset.info import DatasetError
            from rewact_ros.data.review.dataset_index import dataset_signature, read_index
        except ImportError as error:
            return _Read((), None, f"datasets need the package's learning side: {error}")
        now = dataset_signature(root)
        found = self._read.get(root)
        if found is None or found.signature != now:
            try:
                require_inside(root, self._datasets)
                found = _Read(now, read_index(root))
            except (DatasetError, ReviewError, OSError) as error:
                found = _Read(now, None, printable(reason(error), 300))
            self._read[root] = found
        return found

    def _noted(self, root: Path) -> "dict[int, Notes]":
        from rewact_ros.data.dataset.made_for import made_for
        from rewact_ros.data.review.dataset_notes import noted, notes_file, read_notes

        found: dict[int, Notes] = {}
        if not (numbers := noted(root)):
            return found
        episodes = made_for(root)["hash"]
        for k in numbers:
            path = notes_file(root, k)
            now = (signature([path]), episodes)
            known = self._notes.get(path)
            if known is None or known[0] != now:
                try:
                    known = (now, read_notes(root, k))
                except ReviewError:
                    continue  # whoever opens the episode reads what is wrong
                self._notes[path] = known
            found[k] = known[1]
        return found


def _row(id_: str, source: str, index: "DatasetIndex", k: int, notes: "Notes | None") -> Row:
    return Row(
        id_,
        DATASET,
        source,
        f"episode {k}",
        task=printable(index.tasks[k], _TEXT),
        outcome=index.outcomes[k],
        by=printable(notes.by, 60) if notes else "",
        labelled_at=printable(notes.labelled_at, 40) if notes else "",
        tag=printable(notes.tag, _TEXT) if notes else "",
        note=printable(notes.note, 600) if notes else "",
        duration_s=round(int(index.lengths[k]) / index.fps, 3),
        missing=index.missing[k] if index.missing else None,
        interventions=index.interventions[k] if index.interventions else None,
    )
