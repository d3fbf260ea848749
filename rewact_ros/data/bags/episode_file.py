"""`episode.json` beside a recording: what was recorded, for whom, and how it was judged.

The recording itself never changes; labels do, here, by replacing the file in one step.
"""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rewact_ros import strict_yaml
from rewact_ros.files import replace_file
from rewact_ros.formats import FormatError, require_format

EPISODE_FILE = "episode.json"
FORMAT = 1
OUTCOMES = ("unlabelled", "success", "failure")  # by the numbers of rewact_ros/msg/EpisodeEvent
# What is a verdict, and what one of `history` keeps of it.
VERDICT = ("outcome", "by", "labelled_at", "termination_reason", "detail", "succeeded_s")


class EpisodeFileError(ValueError):
    """A recording's `episode.json` is missing, damaged, or must not be changed now."""


class EpisodeDamagedError(EpisodeFileError):
    """A recording's `episode.json` is no longer what was written; recovery writes it anew."""


@dataclass(frozen=True)
class EpisodeRecord:
    """Content of `episode.json`.

    Attributes:
        episode_id: also the name of the folder.
        task: in words; empty: not said.
        outcome: one of `OUTCOMES`; unlabelled is not a failure.
        termination_reason: one word, such as progress, timeout, human, stopped, interrupted,
            disk_full, disk_fault, writer_fault.
        by: who judged: supervisor or a person's name.
        labelled_at: ISO 8601, UTC; empty: nobody has judged.
        discarded: marked as not worth training on; nothing is deleted by that.
        contract: the contract as its YAML reads (`parse_contract` takes it); None: recorded
            without one.
        calibration: content of the supervisor's calibration file; None: not calibrated.
        started_ns, running_ns, ended_ns: times of recording (those of the messages' log times);
            None: never came to that. An episode without an end is being recorded, or its recorder
            was killed.
        topics: per topic its type and the counts of messages that are in the bag and are not.
        recovered: the recording was cut off and mended.
        succeeded_s: when it succeeded, from its first message on, as a person said afterwards;
            None: nobody has.
        namespace: of the robot.
        tag, note: a person's own words for it, a line each.
        history: verdicts that were replaced after the episode's end, the oldest first: `VERDICT`
            as it was, `replaced_by`, `replaced_at`, and of those that somebody went back to
            `restored_by`, `restored_at` and `taken_back`, the outcome that was given up.
    """

    episode_id: str
    task: str = ""
    outcome: str = "unlabelled"
    termination_reason: str = ""
    detail: str = ""
    by: str = ""
    operator: str = ""
    labelled_at: str = ""
    discarded: bool = False
    contract: dict[str, Any] | None = None
    contract_hash: str = ""
    policy_version: str = ""
    calibration: dict[str, Any] | None = None
    git_revision: str = ""
    started_ns: int | None = None
    running_ns: int | None = None
    ended_ns: int | None = None
    topics: dict[str, dict[str, Any]] = field(default_factory=dict)
    recovered: bool = False
    namespace: str = ""
    succeeded_s: float | None = None
    tag: str = ""
    note: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise EpisodeFileError(f"outcome: expected one of {OUTCOMES}, got {self.outcome!r:.60}")
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise EpisodeFileError(f"{name}: expected {_words(kind)}, got {value!r:.60}")
        for topic, counts in self.topics.items():
            if not isinstance(counts, dict) or not {
                type(counts.get(key)) for key in ("received", "dropped")
            } <= {int}:
                raise EpisodeFileError(
                    f"topics: {topic!r:.60}: expected counts 'received' and 'dropped', got "
                    f"{counts!r:.60}"
                )

        for entry in self.history:
            if not isinstance(entry, dict) or entry.get("outcome") not in OUTCOMES:
                raise EpisodeFileError(f"history: expected former verdicts, got {entry!r:.60}")

    def text(self) -> str:
        """The JSON document."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, default=str) + "\n"

    def labelled(self, outcome: str, by: str, reason: str, detail: str = "") -> "EpisodeRecord":
        """The same episode with another verdict, as of now."""
        judged = outcome != "unlabelled"
        return replace(
            self,
            outcome=outcome,
            by=by if judged else "",
            termination_reason=reason or self.termination_reason,
            detail=detail or self.detail,
            labelled_at=now_text() if judged else "",
        )


def now_text() -> str:
    """The time as labels carry it: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class _VersionError(EpisodeFileError):
    """Written by another version, and whole as far as we know."""


def _words(kind: Any) -> str:
    """A kind of value for people."""
    words = {str: "a text", bool: "true or false", dict: "a mapping", list: "a list"}
    if float in _parts(kind):
        return "a number or nothing"
    return words.get(kind, "a whole number or nothing" if int in _parts(kind) else "a mapping")


def _parts(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__args__", (kind,))


_KINDS: dict[str, Any] = {
    **dict.fromkeys(
        ("episode_id", "task", "termination_reason", "detail", "by", "operator", "labelled_at"), str
    ),
    **dict.fromkeys(("contract_hash", "policy_version", "git_revision", "namespace"), str),
    **dict.fromkeys(("tag", "note"), str),
    "history": list,
    **dict.fromkeys(("discarded", "recovered"), bool),
    **dict.fromkeys(("contract", "calibration"), dict | None),
    **dict.fromkeys(("started_ns", "running_ns", "ended_ns"), int | None),
    "topics": dict,
    "succeeded_s": int | float | None,
}


def parse_episode(text: str) -> EpisodeRecord:
    """The episode that the text of an `episode.json` describes.

    Raises:
        EpisodeFileError: it is no such text, or of another format.
    """
    try:
        document = strict_yaml.parse_json(text)
    except ValueError as error:
        raise EpisodeFileError(str(error)) from error
    if not isinstance(document, dict):
        raise EpisodeFileError(f"expected a mapping, got {document!r:.60}")
    try:
        require_format(document, FORMAT, "read it with the rewact_ros that wrote it")
    except FormatError as error:
        raise _VersionError(str(error)) from None
    known = {f.name for f in fields(EpisodeRecord)}
    if "episode_id" not in document:
        raise EpisodeFileError("episode_id: missing")
    return EpisodeRecord(**{key: value for key, value in document.items() if key in known})


def read_episode(folder: Path) -> EpisodeRecord:
    """Read the `episode.json` of a recording's folder.

    Raises:
        EpisodeFileError: missing, damaged or of another format.
    """
    path = folder / EPISODE_FILE
    try:
        return parse_episode(strict_yaml.read_text(path, strict_yaml.MAX_JSON_BYTES))
    except FileNotFoundError:
        raise EpisodeFileError(
            f"{path}: missing; expected the folder of one recorded episode"
        ) from None
    except OSError as error:
        raise EpisodeFileError(f"{path}: not readable: {error.strerror}") from error
    except (strict_yaml.YamlError, EpisodeFileError) as error:
        if isinstance(error, _VersionError):
            raise EpisodeFileError(f"{path}: {error}") from None
        raise EpisodeDamagedError(
            f"{path}: not readable: {error}; `rewact bag recover {folder}` writes it anew from the "
            "recording"
        ) from error


def write_episode(folder: Path, record: EpisodeRecord) -> None:
    """Write `episode.json`, whole or not at all.

    Raises:
        OSError: no room, or not writable; the old file is still there.
    """
    replace_file(folder / EPISODE_FILE, record.text())


def episode_folders(bags_dir: Path) -> list[Path]:
    """Folders of recorded episodes directly in `bags_dir`, or `bags_dir` itself if it is one."""
    if (bags_dir / EPISODE_FILE).is_file():
        return [bags_dir]
    return sorted(path.parent for path in bags_dir.glob(f"*/{EPISODE_FILE}"))
