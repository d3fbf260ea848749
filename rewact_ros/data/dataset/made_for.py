"""Which episodes a file inside a dataset was made for, to find it stale once they are others.

LeRobot's tools (`lerobot-edit-dataset`: delete, split, merge) number the episodes anew in a folder
of their own, and leave there what they do not know. A file that somebody carries over to it would
speak of other episodes. It therefore keeps under `dataset` what its episodes were.
"""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rewact_ros.contract.schema import ACTION_KEY

from .files import tables
from .info import DatasetError

DATASET_KEY = "dataset"
_LENGTH, _ACTIONS = "length", f"stats/{ACTION_KEY}/mean"


def made_for(root: Path) -> dict[str, Any]:
    """What a file that is written now keeps: `episodes`, their number, and `hash`.

    Raises:
        DatasetError: no dataset, or a damaged one.
    """
    hashes = _hashes(root)
    return {"episodes": len(hashes), "hash": hashes[-1]}


def require_made_for(root: Path, kept: object) -> None:
    """Refuse what a file keeps unless the dataset begins with those episodes.

    Episodes recorded since then change nothing, nor do other labels or words for the task.

    Args:
        root: the dataset's folder.
        kept: the file's value under `dataset`; None: it keeps none, as one written by hand.

    Raises:
        DatasetError: made for other episodes; says how to mend it, without the file's name.
    """
    if kept is None:
        return
    hashes = _hashes(root)
    count = kept.get("episodes") if isinstance(kept, dict) else None
    if not isinstance(kept, dict) or type(count) is not int or count < 1:
        raise DatasetError(f"{DATASET_KEY}: expected episodes and hash, got {kept!r:.60}")
    if count <= len(hashes) and kept.get("hash") == hashes[count - 1]:
        return
    now = "others now" if count == len(hashes) else f"{len(hashes)} now, and not those"
    if count < len(hashes):
        now = f"{len(hashes)} now, which begin with others"
    raise DatasetError(
        f"{DATASET_KEY}: stale: made for {count} episodes, the dataset has {now} (deleted, split "
        f"or merged?); move the file away and make it anew, or remove its key '{DATASET_KEY}' if "
        "its episodes are right"
    )


def _hashes(root: Path) -> tuple[str, ...]:
    """Of the first episode, the first two, and so on: what they are, whatever their labels."""
    files = tables(root, "meta/episodes")
    states = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    return _read(root, tuple(states))


@lru_cache(maxsize=8)
def _read(root: Path, states: tuple[tuple[str, int, int], ...]) -> tuple[str, ...]:
    found, digest = [], hashlib.sha256()
    try:
        for path, _, _ in states:
            # Episodes of one length are told apart by their actions.
            columns = [c for c in (_LENGTH, _ACTIONS) if c in pq.read_schema(path).names]
            table = pq.read_table(path, columns=columns).to_pydict()
            actions = table.get(_ACTIONS, [[]] * len(table[_LENGTH]))
            for length, mean in zip(table[_LENGTH], actions, strict=True):
                digest.update(f"{length} ".encode())
                # The tools write the same numbers as float32 or float64.
                digest.update(np.array(mean or [], "<f4").tobytes())
                found.append(digest.copy().hexdigest()[:16])
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(f"{root}: meta/episodes cannot be read: {error}") from error
    if not found:
        raise DatasetError(f"{root}: meta/episodes has no episode; copy the dataset anew")
    return tuple(found)
