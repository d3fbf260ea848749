"""What people said of a dataset's episodes beside its labels: a file per episode, in the dataset.

    rewact_extensions/review/episode-000003.json

It holds who judged, tag and note, the verdicts that were replaced with their labels, and the marks
that were replaced. `rewact label` and training do not read it.
"""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from rewact_ros import strict_yaml
from rewact_ros.data.bags.episode_file import OUTCOMES
from rewact_ros.data.dataset.info import DatasetError
from rewact_ros.data.dataset.made_for import DATASET_KEY, made_for, require_made_for
from rewact_ros.data.labels.write import EpisodeLabels
from rewact_ros.data.review.rows import ReviewError
from rewact_ros.files import LockedError, locked_folder, replace_file
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format

FOLDER = Path("rewact_extensions") / "review"
# Labels of a minute are 10 kB; more steps back than these nobody goes.
MOST_VERDICTS, MOST_MARKS = 20, 100
_WAIT_S, _RETRY_S = 2.0, 0.02
_FORMAT = 1
_AWAY = "move it away"
_NAME = re.compile(r"episode-(\d{6,9})\.json")


@dataclass(frozen=True)
class Notes:
    """Content of an episode's file.

    Attributes:
        by, labelled_at: who gave the present verdict, and when (ISO 8601, UTC); empty: not here.
        tag, note: a person's own words, a line each.
        verdicts: those that were replaced, the oldest first: `outcome`, `by`, `labelled_at`,
            `labels` as `pack` makes them, `replaced_by`, `replaced_at`; of those that somebody
            went back to also `restored_by`, `restored_at` and `taken_back`.
        marks: what stood in the label file before each change: `before` (null: nothing), `by`,
            `at`.
    """

    by: str = ""
    labelled_at: str = ""
    tag: str = ""
    note: str = ""
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("by", "labelled_at", "tag", "note"):
            if not isinstance(getattr(self, name), str):
                raise ReviewError(f"{name}: expected a text, got {getattr(self, name)!r:.60}")
        for name in ("verdicts", "marks"):
            entries = getattr(self, name)
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise ReviewError(f"{name}: expected a list of mappings, got {entries!r:.60}")
        if any(entry.get("outcome") not in OUTCOMES for entry in self.verdicts):
            raise ReviewError(f"verdicts: expected an outcome of {OUTCOMES} in each")


def notes_file(root: Path, index: int) -> Path:
    """Where the notes of an episode are kept."""
    return root / FOLDER / f"episode-{index:06d}.json"


def noted(root: Path) -> list[int]:
    """Episodes of which something is kept, by their files' names."""
    folder = root / FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def read_notes(root: Path, index: int) -> Notes:
    """Read what is kept of an episode; empty where nothing is.

    Raises:
        ReviewError: the file is damaged, of another format, or made for other episodes.
    """
    path = notes_file(root, index)
    try:
        content = strict_yaml.load_json(path)
    except FileNotFoundError:
        return Notes()
    except (OSError, ValueError) as error:
        raise ReviewError(f"{path.name}: cannot be read: {error}; {_AWAY}") from error
    try:
        require_format(content, _FORMAT, _AWAY)
        require_made_for(root, content.get(DATASET_KEY))
    except (FormatError, DatasetError) as error:
        raise ReviewError(f"{path.name}: {error}") from None
    known = {f.name for f in fields(Notes)}
    try:
        return Notes(**{key: value for key, value in content.items() if key in known})
    except ReviewError as error:
        raise ReviewError(f"{path.name}: {error}; {_AWAY}") from None


def write_notes(root: Path, index: int, notes: Notes) -> None:
    """Write what is kept of an episode, whole or not at all; raises OSError and DatasetError."""
    path = notes_file(root, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {FORMAT_KEY: _FORMAT, DATASET_KEY: made_for(root), **asdict(notes)}
    replace_file(path, json.dumps(document) + "\n")


@contextmanager
def dataset_locked(root: Path) -> Iterator[None]:
    """Nobody else changes a dataset meanwhile; raises ReviewError where another does too long."""
    end_s = time.monotonic() + _WAIT_S
    while True:
        try:
            with locked_folder(root):
                yield
            return
        except LockedError:
            if time.monotonic() > end_s:
                raise ReviewError(f"{root.name}: is being changed; try again") from None
        time.sleep(_RETRY_S)


def pack(labels: EpisodeLabels) -> dict[str, list[Any]]:
    """Labels as JSON keeps them: `reward` (n), null where unknown, and `success` as 0 and 1."""
    reward = [value if np.isfinite(value) else None for value in labels.reward.tolist()]
    return {"reward": reward, "success": labels.success.astype(int).tolist()}


def unpack(packed: Any, n_frames: int) -> EpisodeLabels:
    """What `pack` made; raises ReviewError where it is not of n_frames."""
    try:
        reward = [np.nan if value is None else float(value) for value in packed["reward"]]
        success = np.array(packed["success"], bool)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ReviewError("the labels that were kept cannot be read") from error
    if len(reward) != n_frames or success.shape != (n_frames,):
        raise ReviewError(f"kept labels of {len(reward)} frames, the episode has {n_frames}")
    return EpisodeLabels(np.array(reward, np.float32), success)
