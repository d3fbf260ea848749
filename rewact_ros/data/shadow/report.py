"""Recordings with a shadow → one document of figures, and a picture of each episode."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewact_ros.contract import ContractError, load_contract
from rewact_ros.data.bags.episode_file import EpisodeFileError
from rewact_ros.data.bags.reader import BagError
from rewact_ros.data.export.sources import open_recording, recording_folders
from rewact_ros.data.shadow.episode import ShadowedEpisode, read_episodes
from rewact_ros.data.shadow.figures import summary
from rewact_ros.files import replace_file
from rewact_ros.text import printable

FORMAT = 1
CAVEAT = (
    "Agreement is no success rate. The shadow saw only what the running policy's actions led to: "
    "where it would have gone itself, and whether its own errors would have added up there, these "
    "figures do not tell. A candidate that disagrees may be better, and one that agrees may fail. "
    "Only letting it act, in simulation or under supervision, tells."
)


@dataclass
class ShadowReport:
    """What was found in some recordings.

    Attributes:
        episodes: in the order of the recordings.
        refused: recording → why it gives nothing.
    """

    episodes: list[ShadowedEpisode] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)

    def groups(self) -> list[list[ShadowedEpisode]]:
        """Episodes of the same robot and the same two policies: figures of others do not mix."""
        found: dict[object, list[ShadowedEpisode]] = {}
        for each in self.episodes:
            robot = each.contract_hash, each.axes.names, tuple(each.axes.ranges)
            found.setdefault((robot, each.running, each.shadow), []).append(each)
        return list(found.values())

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "format": FORMAT,
            "caveat": CAVEAT,
            "episodes": [_entry(episode) for episode in self.episodes],
            "overall": [_group(group) for group in self.groups()],
            "refused": {str(path): why for path, why in self.refused.items()},
        }


def read_shadows(
    bags: Sequence[Path], contract: Path | None = None, namespace: str | None = None
) -> ShadowReport:
    """Read recordings; what cannot be read is named and keeps nothing else back.

    Raises:
        BagError: no recording there, or none with a shadow.
        ContractError: the given contract cannot be read.
    """
    given = load_contract(contract) if contract is not None else None
    report = ShadowReport()
    for path in recording_folders(bags):
        try:
            report.episodes += read_episodes(open_recording(path, given, namespace))
        except (BagError, ContractError, EpisodeFileError) as error:
            report.refused[path] = str(error)
    if not report.episodes:
        path, why = next(iter(report.refused.items()))
        raise BagError(f"none of {len(report.refused)} recordings has a shadow policy: {why}")
    return report


def write_report(report: ShadowReport, out: Path) -> Iterator[Path]:
    """Write `shadow.json`, a picture of each episode and one of each pair of policies.

    Yields:
        each file once it is there.
    """
    from rewact_ros.data.shadow.plot import draw_episode, draw_overall

    out.mkdir(parents=True, exist_ok=True)
    file = out / "shadow.json"
    replace_file(file, json.dumps(report.document(), indent=1, allow_nan=False) + "\n")
    yield file
    for k, episode in enumerate(report.episodes):
        # A foreign bag names its episodes itself, and two may have one name.
        name = printable(os.path.basename(episode.span.episode_id), 100)
        yield draw_episode(episode, out / f"{k:03d}-{name}.png")
    for k, group in enumerate(report.groups()):
        yield draw_overall(group, out / f"overall{f'-{k + 1}' if k else ''}.png")


def _entry(episode: ShadowedEpisode) -> dict[str, Any]:
    span = episode.span
    return {
        "episode_id": span.episode_id,
        "task": span.task,
        "outcome": span.outcome,
        "termination_reason": span.termination_reason,
        **_group([episode]),
    }


def _group(group: Sequence[ShadowedEpisode]) -> dict[str, Any]:
    first = group[0]
    return {
        "running": list(first.running),
        "shadow": list(first.shadow),
        "contract_hash": first.contract_hash,
        **summary(group),
    }
