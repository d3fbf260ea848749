"""Episodes to review: the list, one of them, its pictures, and what a person changes of it.

Everything here may take a while and is called in a thread; nothing here knows of a web server.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewact_ros.data.bags.episode_file import EpisodeFileError
from rewact_ros.data.bags.episode_labels import (
    NOTE_LIMIT,
    TAG_LIMIT,
    annotate_episode,
    label_episode,
    restore_episode,
)
from rewact_ros.data.review.choose import SORTS, chosen
from rewact_ros.data.review.history import told_history
from rewact_ros.data.review.labeller import Labeller
from rewact_ros.data.review.listing import Listing, Place
from rewact_ros.data.review.pictures import Shown
from rewact_ros.data.review.places import Signature, bag_signature
from rewact_ros.data.review.rows import BAG, DAMAGED, RECORDING, Page, ReviewError
from rewact_ros.text import printable, reason

if TYPE_CHECKING:
    from rewact_ros.data.review.open_bags import OpenBags

MOST_PER_PAGE = 200
_LOOKS_BYTES = 64 << 20


class Library:
    """What the Review tab asks for; safe in any thread.

    Args:
        bags_dir: folder of recordings; None: none.
        datasets: folder of datasets, or one; None: none.
        begin: called first in threads of its own, such as to give way to others.
        labeller: writes the labels of datasets; None: they are written in the calling thread.
    """

    def __init__(
        self,
        bags_dir: Path | None,
        datasets: Path | None,
        begin: Callable[[], None] = lambda: None,
        labeller: Labeller | None = None,
    ) -> None:
        self._labeller = labeller
        self._listing = Listing(bags_dir, datasets, begin)
        self._opened: OpenBags | None = None
        self._pictures: Shown[tuple[str, Signature, int, int]] = Shown()
        self._looks: Shown[tuple[str, Signature]] = Shown(_LOOKS_BYTES)
        self._changing, self._opening = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """Let go of files and threads."""
        self._listing.close()
        if self._opened is not None:
            self._opened.close()
        if self._labeller is not None:
            self._labeller.close()

    # To look at ----------------------------------------------------------------------------------

    def page(
        self,
        number: int = 0,
        size: int = 50,
        sort: str = "name",
        descending: bool = True,
        where: Mapping[str, str] | None = None,
    ) -> Page:
        """Some of the episodes.

        Args:
            number: of the page, from 0 on.
            size: rows of a page, 1 to `MOST_PER_PAGE`.
            sort: one of `SORTS`; what is not known comes last.
            descending: the other way round.
            where: `source`, `outcome` and `state` as rows have them, and `text`, which stands in
                name, task, tag or note; empty: any.

        Raises:
            ReviewError: no such page or order.
        """
        if sort not in SORTS:
            raise ReviewError(f"sort: expected one of {', '.join(SORTS)}, got {sort!r:.40}")
        if number < 0 or not 1 <= size <= MOST_PER_PAGE:
            raise ReviewError(f"page: expected from 0 on, of 1 to {MOST_PER_PAGE} rows")
        rows, sources = self._listing.rows()
        rows = chosen(rows, sort, descending, where or {})
        first = number * size
        return Page(rows[first : first + size], len(rows), self._listing.pending, sources)

    def look(self, episode: str) -> bytes:
        """One episode as JSON: its row, curves, events, cameras, marks and history.

        Raises:
            ReviewError, BagError, DatasetError: it cannot be read.
            UnknownEpisodeError: none has this id.
        """
        place = self._listing.find(episode)
        row = self._listing.row(place)
        if row.state == RECORDING:
            raise ReviewError(f"{row.name}: {row.why}; it is not opened meanwhile")
        if row.state == DAMAGED:
            raise ReviewError(f"{row.name}: {row.why}")
        drawn = self._looks.get((episode, self._signature(place)), lambda: _json(self._draw(place)))
        said = _json({"row": asdict(row), **self._said(place)})
        return drawn[:-1] + b"," + said[1:]

    def picture(self, episode: str, camera: int, at_s: float) -> bytes:
        """JPEG of a camera at a time, s from the episode's start; raises as `look`."""
        place = self._listing.find(episode)
        key = (episode, self._signature(place), camera, round(at_s * 1000))
        if place.kind == BAG:
            record = self._finished(place)

            def make() -> bytes:
                from rewact_ros.data.review.bag_look import bag_picture

                return bag_picture(self._bags(), place.folder, record, camera, at_s)
        else:
            index = self._listing.index(place.folder)

            def make() -> bytes:
                from rewact_ros.data.review.dataset_look import frame_picture

                return frame_picture(index, place.index, camera, at_s)

        return self._pictures.get(key, make)

    def expect_changes(self) -> None:
        """Let begin what a change of a dataset needs and takes long to load; returns at once."""
        if self._labeller is not None and self._listing.datasets is not None:
            self._labeller.warm()

    # To change -----------------------------------------------------------------------------------

    def judge(self, episode: str, outcome: str, by: str, at_s: float | None = None) -> str:
        """Give an episode another outcome; returns what was done.

        Args:
            episode: its id.
            outcome: one of `OUTCOMES`.
            by: who says so.
            at_s: of a recording's success: when, from its first message on.

        Raises:
            ReviewError: it is being written, or cannot be judged; nothing was changed.
            UnknownEpisodeError: none has this id.
        """
        place = self._listing.find(episode)
        with self._telling(), self._changing:
            if place.kind == BAG:
                self._finished(place)
                if at_s is not None and outcome != "success":
                    raise ReviewError("at: expected a success, which it is the moment of")
                label_episode(place.folder, outcome, by, succeeded_s=at_s)
            else:
                from rewact_ros.data.review.dataset_verdict import judge_episode

                self._label(judge_episode, place.folder, place.index, outcome, by)
        return f"{self._listing.row(place).name}: {outcome}"

    def take_back(self, episode: str, by: str) -> str:
        """Go back to the verdict before; raises as `judge`."""
        place = self._listing.find(episode)
        with self._telling(), self._changing:
            if place.kind == BAG:
                self._finished(place)
                restore_episode(place.folder, by)
            else:
                from rewact_ros.data.review.dataset_verdict import take_back

                self._label(take_back, place.folder, place.index, by)
        row = self._listing.row(place)
        return f"{row.name}: {row.outcome} again"

    def annotate(self, episode: str, tag: str, note: str) -> str:
        """Write a tag and a note, a printable line each; raises as `judge`."""
        place = self._listing.find(episode)
        for name, text, limit in (("tag", tag, TAG_LIMIT), ("note", note, NOTE_LIMIT)):
            if len(text) > limit or not text.isprintable():
                raise ReviewError(f"{name}: expected a printable line of at most {limit} letters")
        with self._telling(), self._changing:
            if place.kind == BAG:
                self._finished(place)
                annotate_episode(place.folder, tag, note)
            else:
                from rewact_ros.data.review.dataset_notes import (
                    dataset_locked,
                    read_notes,
                    write_notes,
                )

                with dataset_locked(place.folder):
                    notes = read_notes(place.folder, place.index)
                    write_notes(place.folder, place.index, replace(notes, tag=tag, note=note))
        return f"{self._listing.row(place).name}: noted"

    def mark(self, episode: str, mark: Mapping[str, Any], by: str) -> str:
        """Mark a moment of a dataset's episode, see `marks.marked`; raises as `judge`."""
        from rewact_ros.data.review.marks_file import mark_episode

        self._in_marks(episode, lambda index, k: mark_episode(index, k, mark, by))
        return "marked"

    def unmark(self, episode: str) -> str:
        """Take the newest mark of a dataset's episode back; raises as `judge`."""
        from rewact_ros.data.review.marks_file import unmark_episode

        self._in_marks(episode, unmark_episode)
        return "taken back"

    def scheme(self, episode: str, milestones: object, subtasks: object) -> str:
        """Give the milestones and subtasks of an episode's dataset; raises as `judge`."""
        from rewact_ros.data.review.marks_file import set_scheme

        self._in_marks(episode, lambda index, k: set_scheme(index, milestones, subtasks))
        return "milestones and subtasks are kept"

    # Parts ---------------------------------------------------------------------------------------

    def _label[**P](self, work: Callable[P, None], *given: P.args, **named: P.kwargs) -> None:
        if self._labeller is None:
            work(*given, **named)
        else:
            self._labeller.run(work, *given, **named)

    def _in_marks(self, episode: str, change: Callable[[Any, int], None]) -> None:
        place = self._listing.find(episode)
        if place.kind == BAG:
            raise ReviewError("moments are marked in a dataset: export the recording first")
        from rewact_ros.data.review.dataset_notes import dataset_locked

        with self._telling(), self._changing, dataset_locked(place.folder):
            change(self._listing.index(place.folder), place.index)

    def _finished(self, place: Place) -> Any:
        """The record of a recording that may be opened; None: it has none."""
        try:
            record = self._listing.record(place.folder)
        except EpisodeFileError as error:
            raise ReviewError(printable(reason(error), 300)) from error
        if record is not None and record.ended_ns is None:
            raise ReviewError("it is being recorded, or its recorder was killed: nothing was done")
        return record

    def _signature(self, place: Place) -> Signature:
        if place.kind == BAG:
            return bag_signature(place.folder)
        from rewact_ros.data.review.dataset_index import dataset_signature

        return dataset_signature(place.folder)

    def _bags(self) -> "OpenBags":
        # What reads recordings is no part of the robot's side: a console starts without it.
        from rewact_ros.data.review.open_bags import OpenBags

        with self._opening:
            if self._opened is None:
                self._opened = OpenBags()
            return self._opened

    def _draw(self, place: Place) -> dict[str, Any]:
        if place.kind == BAG:
            from rewact_ros.data.review.bag_look import look_at_bag

            return look_at_bag(self._bags(), place.folder, self._finished(place))
        from rewact_ros.data.review.dataset_look import look_at_episode

        return look_at_episode(self._listing.index(place.folder), place.index)

    def _said(self, place: Place) -> dict[str, Any]:
        """What people said of an episode, which changes without its messages."""
        if place.kind == BAG:
            record = self._finished(place)
            history = [] if record is None else record.history
            moment = None if record is None else record.succeeded_s
            return {
                "history": told_history(history),
                "succeeded_s": moment,
                "marks": None,
                "fps": None,
            }
        from rewact_ros.data.review.dataset_notes import read_notes
        from rewact_ros.data.review.marks_file import read_marks

        index = self._listing.index(place.folder)
        history = read_notes(place.folder, place.index).verdicts
        try:
            marks: dict[str, Any] = asdict(read_marks(index, place.index))
        except ReviewError as error:
            marks = {"why": str(error)}
        said = {"history": told_history(history), "succeeded_s": None}
        return {**said, "marks": marks, "fps": index.fps}

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Whatever refuses a change refuses it in one way."""
        try:
            yield
        except (ReviewError, LookupError):
            raise
        except (ValueError, OSError) as error:
            raise ReviewError(printable(reason(error), 400)) from error


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
