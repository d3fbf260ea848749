"""One picture of an episode as a JPEG that a page can show, and those that were shown before."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from rewact_ros.picture_file import encode_picture

# Wider ones are made smaller: a phone shows no more, and a network carries less.
WIDEST, QUALITY = 640, 80
MOST_BYTES = 48 << 20


def page_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG no wider than `WIDEST`; raises ValueError for an empty one."""
    step = max(-(-pixels.shape[1] // WIDEST), 1)
    return encode_picture(np.ascontiguousarray(pixels[::step, ::step]), QUALITY)


class Shown[T: Hashable]:
    """The newest answers by question, so many bytes of them; safe in any thread."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._found: OrderedDict[T, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: T, make: Callable[[], bytes]) -> bytes:
        """What was made for a key, or is made now."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._lock:
            if key not in self._found:
                self._found[key] = made
                self._bytes += len(made)
            while self._bytes > self._most and len(self._found) > 1:
                _, old = self._found.popitem(last=False)
                self._bytes -= len(old)
        return made
