"""Size and kind of whatever picture comes on a topic, before anything is decoded."""

from typing import Any

from rewact_ros.ros.depth import DEPTH_ENCODINGS, png_size
from rewact_ros.ros.images import ENCODINGS
from rewact_ros.ros.pictures import picture_size

_LARGEST_PX = 16_384


def camera_size(msg: Any, topic: str) -> tuple[int, int, str, bool]:
    """(height, width, encoding, whether it is depth) of a picture; raises ValueError.

    Args:
        msg: an `Image` or a `CompressedImage`, or what a recording has of one.
        topic: for an error.
    """
    if raw := hasattr(msg, "encoding"):
        height, width, kind = msg.height, msg.width, str(msg.encoding)[:40]
    else:
        height, width, kind = 0, 0, str(msg.format)[:40]
    depth = kind.partition(";")[0].strip() in DEPTH_ENCODINGS
    if not raw:
        data = bytes(msg.data)
        height, width = png_size(data, kind, topic) if depth else picture_size(data, topic)
    elif not depth and kind not in ENCODINGS:
        raise ValueError(f"{topic}: {kind!r} is no encoding of a colour or depth image")
    if not (0 < height <= _LARGEST_PX and 0 < width <= _LARGEST_PX):
        raise ValueError(f"{topic}: {height}x{width} px is no size of a camera")
    return int(height), int(width), kind, depth
