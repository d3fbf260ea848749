"""A blinded comparison as it is planned: which versions, in which order, under which codes.

All of it follows from the study's file, which is written once. So a comparison that was killed goes
on with the order that it began with, and nothing that is printed or written meanwhile names a
version.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewact_ros.files import replace_file
from rewact_ros.formats import FormatError, require_format
from rewact_ros.strict_yaml import YamlError, parse_json, read_text
from rewact_ros.text import printable, reason

STUDY = "study.json"
_FORMAT = 1
_ITS_OWN = "go on with the rewact_ros that began it, or give another --name"
_CODE_DIGITS = 6
_PLAIN = (str, int, float, bool)


class StudyError(ValueError):
    """A study that cannot begin or go on; the message says what, where and how to mend it."""


@dataclass(frozen=True)
class Version:
    """A policy that is compared.

    Attributes:
        name: in the report, and only there.
        path: its checkpoint folder, absolute.
        sha256: of all files in it.
    """

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Trial:
    """One episode that is to be driven.

    Attributes:
        block: from 0; each block has each version once.
        slot: place in the block, from 0.
        code: what a person may see of it; of this trial alone.
        version: of the study's versions; not for a person's eyes.
    """

    block: int
    slot: int
    code: str
    version: int


@dataclass(frozen=True)
class Study:
    """What was decided before the first trial.

    Attributes:
        versions: two or more.
        seed: of orders and codes.
        settings: name -> plain value, of whatever the trials are driven and judged by.
    """

    versions: tuple[Version, ...]
    seed: int
    settings: Mapping[str, Any]

    def order(self, block: int) -> tuple[int, ...]:
        """Versions of a block in the order in which they are driven.

        By hash, for a random generator's order may change from one version of NumPy to the next.
        """
        return tuple(
            sorted(
                range(len(self.versions)),
                key=lambda k: self._draw(f"order {block} {self.versions[k].sha256}"),
            )
        )

    def block(self, block: int) -> list[Trial]:
        """The trials of a block in their order."""
        return [
            Trial(block, slot, self._draw(f"code {block} {slot}")[:_CODE_DIGITS], version)
            for slot, version in enumerate(self.order(block))
        ]

    def _draw(self, what: str) -> str:
        return hashlib.sha256(f"{self.seed} {what}".encode()).hexdigest()


def named_versions(found: Sequence[tuple[Path, str]]) -> tuple[Version, ...]:
    """Give each checkpoint a name: its folder's, with as many folders above as tell them apart.

    Args:
        found: checkpoint folder and SHA-256 of its files, of each.

    Raises:
        StudyError: fewer than two, or one of them twice.
    """
    if len(found) < 2:
        raise StudyError(
            f"compare: expected two or more checkpoints, got {len(found)}: "
            "rewact compare CHECKPOINT CHECKPOINT"
        )
    first: dict[str, Path] = {}
    for path, sha256 in found:
        if sha256 in first:
            raise StudyError(
                f"{path}: the same files as {first[sha256]}; a policy is not compared with itself"
            )
        first[sha256] = path
    paths = [path.absolute() for path, _ in found]
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return tuple(
        Version(printable("/".join(path.parts[-depth:]), 80), str(path), sha256)
        for path, (_, sha256) in zip(paths, found, strict=True)
    )


def begin_study(folder: Path, study: Study) -> None:
    """Write a study's file into its folder, which has none yet.

    Raises:
        StudyError: the folder holds something else.
        OSError: it cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(f"{folder}: expected an empty folder, or a study; give another --name")
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "format": _FORMAT,
        "seed": study.seed,
        "versions": [asdict(version) for version in study.versions],
        "settings": dict(study.settings),
    }
    replace_file(folder / STUDY, json.dumps(document, indent=1) + "\n")


def has_study(folder: Path) -> bool:
    """Whether a study was begun in a folder."""
    return (folder / STUDY).exists()


def read_study(folder: Path) -> Study:
    """Read a study's file.

    Raises:
        StudyError: none there, a damaged one, or one of another format.
    """
    file = folder / STUDY
    if not file.exists():
        raise StudyError(
            f"{folder}: no study; begin one: rewact compare CHECKPOINT CHECKPOINT --name "
            f"{folder.name}"
        )
    try:
        return _study(parse_json(read_text(file)))
    except FormatError as error:
        raise StudyError(f"{file}: {error}") from None
    except (OSError, YamlError, StudyError) as error:
        raise StudyError(
            f"{file}: {reason(error, file)}; it is written once and never by hand: give another "
            "--name"
        ) from error


def _study(found: Any) -> Study:
    require_format(found, _FORMAT, _ITS_OWN)
    seed, settings = found.get("seed"), found.get("settings")
    versions = found.get("versions")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise StudyError(f"seed: expected an integer, got {printable(seed, 80)}")
    if not isinstance(settings, dict) or not all(isinstance(v, _PLAIN) for v in settings.values()):
        raise StudyError("settings: expected names with plain values")
    if not isinstance(versions, list) or len(versions) < 2:
        raise StudyError("versions: expected two or more")
    return Study(tuple(map(_version, versions)), seed, settings)


def _version(found: object) -> Version:
    keys = ("name", "path", "sha256")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in keys):
        raise StudyError("versions: expected name, path and sha256 of each")
    return Version(*(found[key] for key in keys))


def require_same(folder: Path, study: Study, given: Mapping[str, Any]) -> None:
    """Refuse to go on with a study under other settings than it began with.

    Args:
        folder: of the study.
        study: as it was begun.
        given: name -> value of what is asked for now.

    Raises:
        StudyError: names the first that differs.
    """
    for name, value in given.items():
        began = study.settings.get(name)
        if value != began:
            raise StudyError(
                f"{folder}: {name}: expected {began!r} as the study began, got {value!r}; leave it "
                "out, or give another --name"
            )


def require_versions(folder: Path, study: Study, found: Mapping[str, str]) -> None:
    """Refuse to go on with other checkpoints than the study began with.

    Args:
        folder: of the study.
        study: as it was begun.
        found: path -> SHA-256 of what lies there now, of all that are to be compared.

    Raises:
        StudyError: names the checkpoint that changed, or the one that is of another study.
    """
    began = {version.path: version for version in study.versions}
    for path, sha256 in found.items():
        if path not in began:
            raise StudyError(
                f"{folder}: holds a study without {path}, of "
                f"{', '.join(sorted(began))}; give another --name"
            )
        if sha256 != began[path].sha256:
            raise StudyError(
                f"{path}: its files were {began[path].sha256[:12]} when the study began, now they "
                f"are {sha256[:12]}; put them back, or begin another study by another --name"
            )
    for path in began:
        if path not in found:
            raise StudyError(
                f"{folder}: {path} is compared here too; give all of the study's checkpoints, or "
                "none to go on with them"
            )
