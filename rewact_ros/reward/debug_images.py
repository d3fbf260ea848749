"""What a classifier saw and said, as PNG files for a person to leaf through."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rewact_ros.picture_file import LOSSLESS, encode_picture

_FOLDERS = {True: "resnet_success", False: "resnet_fail"}


class DebugImages:
    """Writes `resnet_success/` and `resnet_fail/` with `{id:06d}_prob{p:.4f}.png`.

    Each of the two keeps its newest images; ids go on where an earlier run stopped.

    Args:
        folder: where the two folders are made.
        threshold: probability from which an image is a success.
        most: images that each folder keeps.
    """

    def __init__(self, folder: Path, threshold: float, most: int) -> None:
        self._folder, self._threshold = folder, threshold
        self._kept: dict[bool, deque[Path]] = {}
        self._most, self._next = most, 0
        for success, name in _FOLDERS.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            present = sorted((folder / name).glob("[0-9]*_prob*.png"))
            self._kept[success] = deque(present)
            ids = [int(path.name.split("_")[0]) for path in present]
            self._next = max([self._next, *(i + 1 for i in ids)])

    def write(self, pictures: Sequence[NDArray[np.uint8]], probability: float) -> Path:
        """Write the (H, W, 3) uint8 RGB pictures of one observation side by side.

        Raises:
            OSError: not writable.
        """
        success = probability >= self._threshold
        height = min(picture.shape[0] for picture in pictures)
        row = np.hstack([_of_height(picture, height) for picture in pictures])
        path = self._folder / _FOLDERS[success] / f"{self._next:06d}_prob{probability:.4f}.png"
        path.write_bytes(encode_picture(row, LOSSLESS))
        self._next += 1
        kept = self._kept[success]
        kept.append(path)
        while len(kept) > self._most:
            kept.popleft().unlink(missing_ok=True)
        return path


def _of_height(picture: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    if picture.shape[0] == height:
        return picture
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(cv2.resize(picture, (width, height)), np.uint8)
