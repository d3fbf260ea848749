"""The doctor's results as `/diagnostics`, and as one picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.node import Node

from rewact_ros.checks.facts import Facts
from rewact_ros.checks.finding import Result, Severity
from rewact_ros.files import replace_file
from rewact_ros.picture_file import LOSSLESS, encode_picture
from rewact_ros.ros.interfaces import DIAGNOSTICS, LATCHED
from rewact_ros.text import printable

_LEVELS = {
    Severity.OK: DiagnosticStatus.OK,
    Severity.WARN: DiagnosticStatus.WARN,
    Severity.ERROR: DiagnosticStatus.ERROR,
    Severity.NOT_ASKED: DiagnosticStatus.STALE,
}
Pixels = NDArray[np.uint8]
# Of a tile, px; the line of text above it.
WIDTH, HEIGHT, TEXT = 320, 240, 24


class Told:
    """Publishes results once, as one message; made early, so that listeners have found it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, DIAGNOSTICS, LATCHED)

    def publish(self, results: Iterable[Result]) -> None:
        """Publish them, one status for each check."""
        name = self._node.get_fully_qualified_name()
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        for result in results:
            values = [
                KeyValue(key=str(i), value=finding.text)
                for i, finding in enumerate(result.findings)
            ]
            array.status.append(
                DiagnosticStatus(
                    level=_LEVELS[result.severity],
                    name=f"{name}: {result.name}",
                    message=printable(result.text),
                    hardware_id="rewact_ros",
                    values=values,
                )
            )
        self._publisher.publish(array)


def write_pictures(file: Path, facts: Facts) -> None:
    """Write what each camera sees beside its training data as one PNG; a row for each camera.

    The data set's first picture stands on the right. Where only a checkpoint is given, that is the
    mean colour of its training pictures, for it keeps no more of them.
    """
    assert facts.contract is not None and facts.cameras is not None
    by_name = {stream.name: stream.picture for stream in facts.cameras}
    rows = []
    for camera in facts.contract.cameras:
        live = _tile(by_name.get(camera.name), f"{camera.name}: now")
        training, what = _training(facts, camera.key)
        rows.append(np.concatenate([live, _tile(training, f"{camera.name}: {what}")], axis=1))
    replace_file(file, encode_picture(np.concatenate(rows), LOSSLESS))


def _training(facts: Facts, key: str) -> tuple[Pixels | None, str]:
    if facts.dataset and key in facts.dataset.pictures:
        return facts.dataset.pictures[key], "training data, first picture"
    known: Mapping[str, NDArray[np.generic]] = {}
    if facts.checkpoint:
        known = facts.checkpoint.statistics.get(key, {})
    mean = np.asarray(known.get("mean", ()), float).ravel()
    if mean.size != 3:
        return None, "no training data given"
    colour = np.clip(255 * mean, 0, 255).astype(np.uint8)
    return np.full((HEIGHT, WIDTH, 3), colour, np.uint8), "mean colour of training"


def _tile(picture: Pixels | None, label: str) -> Pixels:
    """(TEXT + HEIGHT, WIDTH, 3): a picture, whole, below its label."""
    import cv2

    tile = np.zeros((TEXT + HEIGHT, WIDTH, 3), np.uint8)
    if picture is not None:
        height, width = picture.shape[:2]
        scale = min(HEIGHT / height, WIDTH / width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        tile[TEXT : TEXT + size[1], : size[0]] = small
    words = label if picture is not None else f"{label}: none came"
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(tile, words[:48], (4, 16), font, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return tile
