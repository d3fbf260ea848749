"""Success and failure frames marked by hand, frame by frame, in a terminal."""

import os
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rewact_ros.control.keyboard import split_keys
from rewact_ros.data.dataset.reader import open_dataset
from rewact_ros.data.labels.frames import FAIL, SUCCESS, UNUSED, write_frame_labels
from rewact_ros.learning.imitation.videos import decode_episodes
from rewact_ros.terminal import NoTerminalError, raw_keys

KEYS_HELP = (
    "c success  a failure  space/x neither, then the next frame | C/A the rest of the episode | "
    "left/right one frame  up/down ten | n next episode  q save and quit"
)
_MARKS = {"c": SUCCESS, "a": FAIL, " ": UNUSED, "x": UNUSED}
_STEPS = {"left": -1, "right": 1, "up": -10, "down": 10}
_NAMES = {SUCCESS: "success", FAIL: "failure", UNUSED: "-"}


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


def mark_by_keys(
    dataset: Path, camera: str | None, frames: dict[int, NDArray[np.int8]], chosen: list[int]
) -> None:
    """Go through the chosen episodes; what is marked is written after each.

    Args:
        dataset: folder of a LeRobotDataset v3.
        camera: feature key of the one shown; None: the first.
        frames: (N,) labels of each episode, changed in place.
        chosen: episodes.

    Raises:
        NoTerminalError: standard input is no terminal.
        ValueError: no such camera.
    """
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
    height = max(round(width * image.shape[0] / image.shape[1] / 2), 1) * 2
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    lines = []
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{a[0]};{a[1]};{a[2]};48;2;{b[0]};{b[1]};{b[2]}m▀"
            for a, b in zip(upper.tolist(), lower.tolist(), strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\r\n".join(lines)
