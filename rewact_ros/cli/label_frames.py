"""`rewact label-frames`: mark success and failure frames for the success classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.learning.classifier.settings import ClassifierSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUCCESS, FAIL, UNUSED = 1, 0, -1  # as data.frame_labels has them, which is slow to import
KEYS_HELP = (
    "c success  a failure  space/x neither, then the next frame | C/A the rest of the episode | "
    "left/right one frame  up/down ten | n next episode  q save and quit"
)
_MARKS = {"c": SUCCESS, "a": FAIL, " ": UNUSED, "x": UNUSED}
_STEPS = {"left": -1, "right": 1, "up": -10, "down": 10}
_NAMES = {SUCCESS: "success", FAIL: "failure", UNUSED: "-"}


@with_options
def label_frames(
    dataset: Annotated[Path, typer.Option(help="Folder of a LeRobotDataset v3.")],
    keys: Annotated[
        bool, typer.Option("--keys", help="Mark frame by frame in this terminal.")
    ] = False,
    camera: Annotated[
        str | None, typer.Option(help="Feature key shown by --keys (default: the first camera).")
    ] = None,
    episodes: Annotated[
        str | None, typer.Option(help="Only these, e.g. 0:24 or 0,3,5:9; others keep theirs.")
    ] = None,
    *,
    given: Annotated[dict[str, Any], OptionsOf(ClassifierSettings, only=("margin",))],
    clear: Annotated[bool, typer.Option("--clear", help="Make the frames unused again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written, write nothing.")
    ] = False,
) -> None:
    """Mark success and failure frames from the episodes' outcomes or, with --keys, by hand."""
    import numpy as np

    from rewact_ros.data.labels.frames import (
        frame_labels_file,
        label_by_outcomes,
        read_frame_labels,
        write_frame_labels,
    )
    from rewact_ros.data.labels.write import open_labelled

    margin = given["margin"]
    if keys and (clear or dry_run):
        raise ValueError("--keys: goes without --clear and --dry-run")
    lengths = open_labelled(dataset).lengths
    chosen = _episodes(episodes, len(lengths)) if episodes else sorted(lengths)
    frames = {index: np.full(length, UNUSED, np.int8) for index, length in lengths.items()}
    if frame_labels_file(dataset).exists():
        frames = read_frame_labels(dataset, margin)
    if keys:
        _mark(dataset, camera, frames, chosen)
        return
    fresh = {} if clear else label_by_outcomes(dataset, margin)
    for index in chosen:
        frames[index] = fresh.get(index, np.full(lengths[index], UNUSED, np.int8))
    counts = {value: sum(int((own == value).sum()) for own in frames.values()) for value in _NAMES}
    text = f"{counts[SUCCESS]} success, {counts[FAIL]} failure, {counts[UNUSED]} unused frames"
    if dry_run:
        typer.echo(f"{dataset}: {text}; nothing written (--dry-run)")
    else:
        typer.echo(f"{write_frame_labels(dataset, frames)}: {text}")


def _episodes(text: str, total: int) -> list[int]:
    from rewact_ros.learning.imitation.demonstrations import parse_episodes  # seconds, for torch

    return parse_episodes(text, total)


class FrameMarker:
    """Marks the frames of one episode by keys; see `KEYS_HELP`.

    Attributes:
        frames: (N,) int8, changed in place.
        frame: the one shown.
        done: whether the last frame was marked and passed.
    """

    def __init__(self, frames: NDArray[np.int8]) -> None:
        self.frames, self.frame, self.done = frames, 0, False

    def press(self, key: str) -> None:
        """Mark or move; other keys do nothing."""
        last = len(self.frames) - 1
        if key in _MARKS:
            self.frames[self.frame] = _MARKS[key]
            self.done = self.frame == last
            self.frame = min(self.frame + 1, last)
        elif key in ("C", "A"):
            self.frames[self.frame :] = _MARKS[key.lower()]
            self.frame, self.done = last, True
        elif key in _STEPS:
            self.frame = min(max(self.frame + _STEPS[key], 0), last)
            self.done = False

    def line(self) -> str:
        """Where the marker stands, in words."""
        return f"frame {self.frame + 1}/{len(self.frames)}: {_NAMES[int(self.frames[self.frame])]}"


def _mark(
    dataset: Path, camera: str | None, frames: dict[int, NDArray[np.int8]], chosen: list[int]
) -> None:
    """Go through the chosen episodes; what is marked is written after each."""
    import sys

    from rewact_ros.cli.teleop_terminal import NoTerminalError, raw_keys
    from rewact_ros.data.dataset.reader import open_dataset
    from rewact_ros.data.labels.frames import write_frame_labels
    from rewact_ros.learning.imitation.videos import decode_episodes

    if not sys.stdin.isatty():
        raise NoTerminalError(
            "label-frames --keys: standard input is not a terminal; run it in one (no pipe, and "
            "`-it` in a container), or leave --keys out to label by outcomes"
        )
    source = open_dataset(dataset)
    camera = camera or next(iter(source.meta.camera_keys), "")
    if camera not in source.meta.camera_keys:
        raise ValueError(
            f"--camera {camera}: the dataset has {', '.join(source.meta.camera_keys) or 'none'}"
        )
    print(KEYS_HELP)
    with raw_keys(sys.stdin.fileno()):
        for index in chosen:
            pictures = [image for _, image in decode_episodes(source, camera, [index])]
            marker = FrameMarker(frames[index])
            goes_on = _mark_episode(marker, pictures, f"episode {index}")
            write_frame_labels(dataset, frames)
            if not goes_on:
                return


def _mark_episode(marker: FrameMarker, pictures: list[NDArray[np.uint8]], title: str) -> bool:
    """Show and mark one episode; false: the user quits."""
    import os
    import sys

    from rewact_ros.control.keyboard import split_keys

    while not marker.done:
        picture = terminal_picture(pictures[marker.frame], width=72)
        print(
            f"\x1b[H\x1b[J{picture}\r\n{title}, {marker.line()}\r\n{KEYS_HELP}", end="", flush=True
        )
        data = os.read(sys.stdin.fileno(), 64)
        for key in split_keys(data.decode(errors="ignore")) if data else ["q"]:
            if key in ("q", "\x03", "\x04"):
                return False
            if key == "n":
                return True
            marker.press(key)
    return True


def terminal_picture(image: NDArray[np.uint8], width: int) -> str:
    """Draw an (H, W, 3) uint8 RGB image by half blocks in 24-bit colour, two rows per line."""
    import cv2

    height = max(round(width * image.shape[0] / image.shape[1] / 2), 1) * 2
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).tolist()
    lines = []
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\r\n".join(lines)
