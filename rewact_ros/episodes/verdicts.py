"""`meta/rollouts.json` of a data set that is judged while it is recorded."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewact_ros.data.dataset.info import DatasetError, read_json
from rewact_ros.files import replace_file
from rewact_ros.formats import FORMAT_KEY, FormatError, require_format
from rewact_ros.supervision.verdict import Verdict

ROLLOUTS = Path("meta") / "rollouts.json"
FORMAT = 1


def read_rollouts(dataset: Path) -> dict[str, Any]:
    """Read what a dataset says of its roll-outs; raises DatasetError, also for another format."""
    document = read_json(dataset / ROLLOUTS, dataset)
    try:  # those of before the key are of format 1, too
        require_format(document, FORMAT, "record the roll-outs anew", absent=1)
    except FormatError as error:
        raise DatasetError(f"{dataset / ROLLOUTS}: {error}") from None
    return document


@dataclass
class VerdictFile:
    """Verdicts by episode, and what they rest on; `rewact calibrate` reads time-out and policy.

    They are the judge's opinion, which labels nothing: `next.success` is for whoever saw it.

    Args:
        dataset: its folder.
        about: `policy`, `judge` and `settings` of the recording, as JSON has them.

    Raises:
        DatasetError: a file that is there already cannot be read, or is of another format.
        ValueError: it is of another policy, whose episodes these would mix with.
    """

    dataset: Path
    about: dict[str, Any]
    episodes: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self._file.is_file():
            return
        before = read_rollouts(self.dataset)
        driver = (before.get("policy") or {}).get("version")
        if driver != self.about["policy"]["version"]:
            raise ValueError(
                f"{self._file}: policy: expected {driver}, which drove the episodes that are "
                f"there, got {self.about['policy']['version']}; record into another data set"
            )
        for episode in before.get("episodes", []):
            if isinstance(episode, dict) and isinstance(episode.get("episode"), int):
                self.episodes[episode["episode"]] = episode

    @property
    def _file(self) -> Path:
        return self.dataset / ROLLOUTS

    def keep(self, episode: int, verdict: Verdict, duration_s: float) -> None:
        """Take the verdict of an episode; that of one that is recorded again replaces it."""
        self.episodes[episode] = {
            "episode": episode,
            "outcome": verdict.outcome.name.lower(),
            "termination": str(verdict.termination),
            "detail": verdict.detail,
            "by": verdict.by,
            "duration_s": round(duration_s, 3),
        }
        self._write()

    def only(self, count: int) -> None:
        """Drop the verdicts of episodes that the data set did not keep."""
        if any(episode >= count for episode in self.episodes):
            self.episodes = {k: v for k, v in self.episodes.items() if k < count}
            self._write()

    def _write(self) -> None:
        document = {
            FORMAT_KEY: FORMAT,
            **self.about,
            "episodes": [self.episodes[k] for k in sorted(self.episodes)],
        }
        replace_file(self._file, json.dumps(document, indent=1) + "\n")
