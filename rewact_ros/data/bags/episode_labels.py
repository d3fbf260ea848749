"""Labels of a finished recording, changed afterwards: verdict, discarded mark, tag and note.

Each change reads `episode.json`, and replaces it in one step. The verdicts before stay in it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rewact_ros.data.bags.episode_file import (
    EPISODE_FILE,
    VERDICT,
    EpisodeFileError,
    EpisodeRecord,
    now_text,
    read_episode,
    write_episode,
)
from rewact_ros.files import LockedError, locked_folder

# More than anybody judges one episode by hand.
MOST_HISTORY = 200
TAG_LIMIT, NOTE_LIMIT = 40, 500
# Whoever changes a label reads and writes one small file meanwhile.
_WAIT_S, _RETRY_S = 1.0, 0.01


def label_episode(
    folder: Path,
    outcome: str | None,
    by: str,
    discarded: bool | None = None,
    succeeded_s: float | None = None,
) -> EpisodeRecord:
    """Change the verdict of a finished recording, its discarded mark, or both; None: as it is.

    The verdict before stays in `history`, from which `restore_episode` takes it back.

    Args:
        folder: of the recording.
        outcome: one of `OUTCOMES`.
        by: who judges.
        discarded: mark or unmark.
        succeeded_s: when it succeeded, from its first message on; another verdict forgets it.

    Raises:
        EpisodeFileError: no such episode, it has not ended, or another process changes it.
    """
    with _changing(folder) as record:
        if outcome is not None:
            before = {key: getattr(record, key) for key in VERDICT}
            entry = before | {"replaced_by": by, "replaced_at": now_text()}
            record = replace(
                record.labelled(outcome, by, ""),
                succeeded_s=succeeded_s,
                history=[*record.history, entry][-MOST_HISTORY:],
            )
        if discarded is not None:
            record = replace(record, discarded=discarded)
        write_episode(folder, record)
    return record


def restore_episode(folder: Path, by: str) -> EpisodeRecord:
    """Go back to the newest verdict of a recording's history that nobody went back to yet.

    Args:
        folder: of the recording.
        by: who goes back, which its entry keeps.

    Raises:
        EpisodeFileError: as `label_episode`, or there is nothing to go back to.
    """
    with _changing(folder) as record:
        places = [i for i, entry in enumerate(record.history) if "restored_at" not in entry]
        if not places:
            raise EpisodeFileError(f"{folder / EPISODE_FILE}: no verdict before this one is known")
        history = [dict(entry) for entry in record.history]
        entry = history[places[-1]]
        verdict = {key: entry[key] for key in VERDICT if key in entry}
        entry |= {
            "restored_by": by,
            "restored_at": now_text(),
            "taken_back": record.outcome,
        }
        record = replace(record, **verdict, history=history)
        write_episode(folder, record)
    return record


def annotate_episode(folder: Path, tag: str, note: str) -> EpisodeRecord:
    """Write a tag and a note beside a finished recording's verdict.

    Args:
        folder: of the recording.
        tag: a word or few, at most `TAG_LIMIT` printable characters; empty: none.
        note: a line, at most `NOTE_LIMIT` printable characters; empty: none.

    Raises:
        EpisodeFileError: as `label_episode`, or texts that are too long or not printable.
    """
    for name, text, limit in (("tag", tag, TAG_LIMIT), ("note", note, NOTE_LIMIT)):
        if len(text) > limit or not text.isprintable():
            raise EpisodeFileError(f"{name}: expected a printable line of at most {limit}")
    with _changing(folder) as record:
        record = replace(record, tag=tag, note=note)
        write_episode(folder, record)
    return record


@contextmanager
def _changing(folder: Path) -> Iterator[EpisodeRecord]:
    """Give the record of a finished recording, which nobody else changes meanwhile.

    The recorder, a command and a page may label at once. Each reads, changes and writes: without
    the lock the later one would undo the earlier one unseen.
    """
    end_s = time.monotonic() + _WAIT_S
    while True:
        try:
            with locked_folder(folder.resolve()):
                yield _finished(folder)
            return
        except LockedError:
            if time.monotonic() > end_s:
                raise EpisodeFileError(f"{folder}: another process changes it; try again") from None
        except (FileNotFoundError, NotADirectoryError):
            read_episode(folder)  # says what is there instead
            raise
        time.sleep(_RETRY_S)


def _finished(folder: Path) -> EpisodeRecord:
    record = read_episode(folder)
    if record.ended_ns is None:
        raise EpisodeFileError(
            f"{folder / EPISODE_FILE}: the episode has no end: it is being recorded, or its "
            "recorder was killed; stop it, or run `rewact bag recover`"
        )
    return record
