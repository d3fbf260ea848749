"""Where episodes lie: folders of recordings and datasets, found without following a link.

A page names an episode by an id that stands in the list. No text of a page becomes a path.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from rewact_ros.data.bags.episode_file import EPISODE_FILE
from rewact_ros.data.bags.folder import METADATA_FILE, bag_names
from rewact_ros.data.review.rows import ReviewError

MOST_BAGS, MOST_DATASETS, MOST_FILES = 20_000, 500, 100_000
_DEEPEST = 3
_INFO = Path("meta") / "info.json"

Signature = tuple[tuple[str, int, int], ...]


def episode_id(kind: str, place: str, index: int = 0) -> str:
    """The id of an episode at a place below a folder that the console was given."""
    text = f"{kind}\0{place}\0{index}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]


def bag_folders(bags_dir: Path) -> list[Path]:
    """Folders of recordings directly in a folder, or itself where it is one; links are left out."""
    if _is_recording(bags_dir):
        return [bags_dir]
    return sorted(folder for folder in _folders(bags_dir) if _is_recording(folder))[:MOST_BAGS]


def dataset_folders(root: Path) -> list[Path]:
    """LeRobotDatasets below a folder, or itself where it is one; links are left out."""
    if (root / _INFO).is_file():
        return [root]
    found, level = list[Path](), [root]
    for _ in range(_DEEPEST):
        inside = [folder for parent in level for folder in _folders(parent)]
        found += [folder for folder in inside if (folder / _INFO).is_file()]
        level = [folder for folder in inside if not (folder / _INFO).is_file()][:MOST_DATASETS]
    return sorted(found)[:MOST_DATASETS]


def require_inside(folder: Path, root: Path) -> None:
    """Refuse a folder in which a link leads out of `root`: it may point at anything.

    Raises:
        ReviewError: there is such a link, or there are too many files to look at.
    """
    real, n = root.resolve(), 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            n += 1
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(real):
                raise ReviewError(f"{name}: a link that leads out of {root.name}; copy what it is")
        if n > MOST_FILES:
            raise ReviewError(f"holds more than {MOST_FILES} files")


def signature(paths: list[Path]) -> Signature:
    """What changes when one of the files does: name, time of change in ns, size."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)


def bag_signature(folder: Path) -> Signature:
    """Of a recording's messages; its label may change without it."""
    files = [folder / name for name in bag_names(folder)]
    return signature([*files, folder / METADATA_FILE])


def _is_recording(folder: Path) -> bool:
    try:
        return (
            (folder / EPISODE_FILE).is_file()
            or (folder / METADATA_FILE).is_file()
            or (bool(bag_names(folder)))
        )
    except OSError:
        return False


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    yield Path(entry.path)
    except OSError:
        return
