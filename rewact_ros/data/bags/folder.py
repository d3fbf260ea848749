"""Which files make a recording: what `metadata.yaml` lists, compared with what is there."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rewact_ros import strict_yaml

METADATA_FILE = "metadata.yaml"
# A thousand topics with their QoS are 1 MB.
MAX_METADATA_BYTES = 4 << 20
# A file under relative_file_paths; those under files have a key before them.
_LISTED = re.compile(r"(?m)^ *- (\S+\.(?:mcap|db3)(?:\.zstd)?)$")
SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


class FolderError(ValueError):
    """A folder is no whole recording.

    Attributes:
        mend: what to do about it.
    """

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(f"{why}; {mend}")
        self.mend = mend


@dataclass(frozen=True)
class Listed:
    """What a `metadata.yaml` says: names of the files in order, and storage plug-in."""

    names: tuple[str, ...]
    storage: str


def recording_files(path: Path) -> list[Path]:
    """The files of a recording, in order: one given file, or those of its folder.

    Raises:
        FolderError: nothing there, or `metadata.yaml` is missing, damaged, or lists other files
            than there are.
    """
    if not path.exists():
        raise FolderError("no such recording", "give its folder or .mcap file")
    if not path.is_dir():
        return [path]
    here = bag_names(path)
    if not (path / METADATA_FILE).is_file():
        if here:
            raise FolderError(f"no {METADATA_FILE}", recover(path))
        raise FolderError(
            f"no {METADATA_FILE} and no .mcap or .db3 file", "give the recording's own folder"
        )
    listed = read_listed(path)
    if absent := [name for name in listed.names if not (path / name).is_file()]:
        raise FolderError(
            f"{METADATA_FILE} lists {_some(absent)}, not there",
            f"put back what is missing, or go on without: {recover(path)}",
        )
    if further := [name for name in here if name not in listed.names]:
        raise FolderError(
            f"{METADATA_FILE} does not list {_some(further)}",
            f"move it away if it does not belong here, or take it in: {recover(path)}",
        )
    return [path / name for name in listed.names]


def looks_listed(folder: Path) -> bool:
    """Whether `metadata.yaml` plainly lists the files of a folder; it is not read as YAML.

    Of hundreds of recordings that would take a recorder half a minute before it starts.
    """
    try:
        with open(folder / METADATA_FILE, encoding="utf-8") as file:
            text = file.read(MAX_METADATA_BYTES)
    except (OSError, ValueError):
        return False
    names = [PurePosixPath(name).name for name in _LISTED.findall(text)]
    return text.startswith("rosbag2_bagfile_information:") and sorted(names) == bag_names(folder)


def bag_names(folder: Path) -> list[str]:
    """Names of the bag files directly in a folder."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name.endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()
    )


def read_listed(folder: Path) -> Listed:
    """Read `metadata.yaml` of a folder; only what the files do not say themselves is taken.

    Raises:
        FolderError: it is damaged.
    """
    try:
        return _listed(folder / METADATA_FILE)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise FolderError(f"{METADATA_FILE} is damaged: {text}", recover(folder)) from error


def recover(folder: Path) -> str:
    """The advice that mends a recording."""
    return f"run `rewact bag recover {folder}`"


def _listed(path: Path) -> Listed:
    document = strict_yaml.load(path, MAX_METADATA_BYTES)
    if not isinstance(document, dict) or "rosbag2_bagfile_information" not in document:
        raise ValueError("expected 'rosbag2_bagfile_information'")
    information = document["rosbag2_bagfile_information"]
    names = _value(information, "relative_file_paths", list)
    if not all(isinstance(name, str) and PurePosixPath(name).name for name in names):
        raise ValueError(f"relative_file_paths: expected names, got {names!r:.60}")
    storage = _value(information, "storage_identifier", str)
    # Up to version 3 they stood with their folder before them; nothing outside is ever opened.
    bare = [PurePosixPath(name).name for name in names]
    if len(set(bare)) < len(bare):
        raise ValueError("relative_file_paths: a file stands there twice")
    return Listed(tuple(bare), storage)


def _value(information: Any, key: str, kind: type) -> Any:
    if not isinstance(information, dict) or not isinstance(information.get(key), kind):
        raise ValueError(f"{key}: missing, or not what it should be")
    return information[key]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
