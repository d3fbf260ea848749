"""`metadata.yaml` of a recording, as rosbag2 of ROS 2 Jazzy writes and expects it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rewact_ros.data.bags.folder import METADATA_FILE
from rewact_ros.data.bags.message_types import MessageType
from rewact_ros.files import replace_file

VERSION = 9
DISTRO = "jazzy"


@dataclass(frozen=True)
class BagTopic:
    """One recorded topic, by full name.

    `qos` is what its publishers offer, one mapping each, with rosbag2's keys and words.
    """

    name: str
    type: MessageType
    qos: tuple[dict[str, Any], ...] = ()

    @property
    def qos_text(self) -> str:
        """`qos` as YAML, as it stands in the channels of an MCAP file."""
        return yaml.safe_dump(list(self.qos), sort_keys=False).strip() if self.qos else ""


@dataclass(frozen=True)
class FileSummary:
    """What one .mcap file holds: first and last log time in ns, and messages per topic."""

    path: str
    start_ns: int = 0
    end_ns: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def bag_information(
    topics: Iterable[BagTopic], files: Iterable[FileSummary], storage: str = "mcap"
) -> dict[str, Any]:
    """Content of `rosbag2_bagfile_information`; `storage` is mcap or sqlite3."""
    files = list(files)
    total: Counter[str] = Counter()
    for file in files:
        total.update(file.counts)
    filled = [file for file in files if file.counts]
    start_ns = min((file.start_ns for file in filled), default=0)
    end_ns = max((file.end_ns for file in filled), default=0)
    return {
        "version": VERSION,
        "storage_identifier": storage,
        "duration": {"nanoseconds": end_ns - start_ns},
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "message_count": total.total(),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.type.name,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": list(topic.qos),
                    "type_description_hash": topic.type.type_hash,
                },
                "message_count": total[topic.name],
            }
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [file.path for file in files],
        "files": [
            {
                "path": file.path,
                "starting_time": {"nanoseconds_since_epoch": file.start_ns},
                "duration": {"nanoseconds": file.end_ns - file.start_ns},
                "message_count": file.counts.total(),
            }
            for file in files
        ],
        "custom_data": None,
        "ros_distro": DISTRO,
    }


def write_metadata(
    folder: Path,
    topics: Iterable[BagTopic],
    files: Iterable[FileSummary],
    storage: str = "mcap",
) -> None:
    """Write `metadata.yaml`, whole or not at all.

    Raises:
        OSError: no room, or not writable.
    """
    document = {"rosbag2_bagfile_information": bag_information(topics, files, storage)}
    replace_file(folder / METADATA_FILE, _dump(document))


def file_metadata(topics: Iterable[BagTopic], file: FileSummary) -> str:
    """What rosbag2 stores in an MCAP file's own metadata record `rosbag2`."""
    return _dump(bag_information(topics, [file]))


class _Dumper(yaml.SafeDumper):
    """Without anchors: rosbag2's reader would take them, people would not."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)
