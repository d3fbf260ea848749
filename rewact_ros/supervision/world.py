"""What the world looked like while a calibration's episodes ran, as its file keeps it."""

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewact_ros.supervision.camera_check import WIDEST_PX, CameraReference, View, reference_of
from rewact_ros.supervision.drift import DriftReference, drift_reference

_LARGEST = WIDEST_PX * 4 * WIDEST_PX  # pixels of a view


@dataclass(frozen=True)
class World:
    """What is compared with what runs.

    Attributes:
        drift: scores of the episodes; None: there were too few.
        cameras: by key, those that can be compared.
        loose: by key, why another camera is not compared.
    """

    drift: DriftReference | None = None
    cameras: Mapping[str, CameraReference] = field(default_factory=dict)
    loose: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "drift": None if self.drift is None else dict(self.drift.scores),
            "cameras": {name: _written(camera) for name, camera in self.cameras.items()},
            "loose": dict(self.loose),
        }


def world_of(
    scores: Sequence[Mapping[str, float]], views: Mapping[str, tuple[int, Sequence[View]]]
) -> World:
    """Make it of a calibration's episodes.

    Args:
        scores: of each, as `drift.window_scores` gives them.
        views: by camera, its picture's width in px, and a view before each episode.
    """
    made = {name: reference_of(seen, width) for name, (width, seen) in views.items()}
    return World(
        drift_reference(scores),
        {name: one for name, one in made.items() if isinstance(one, CameraReference)},
        {name: one for name, one in made.items() if isinstance(one, str)},
    )


def read_world(raw: Mapping[str, Any] | None) -> World | None:
    """What `World.document` wrote; None: a calibration without it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    if raw is None:
        return None
    drift = raw["drift"]
    if drift is not None:
        drift = DriftReference({n: tuple(float(v) for v in vs) for n, vs in drift.items()})
    cameras = {str(name): _read(one) for name, one in raw["cameras"].items()}
    return World(drift, cameras, {str(n): str(why) for n, why in raw["loose"].items()})


def _written(camera: CameraReference) -> dict[str, Any]:
    return {
        "size": list(camera.picture.shape),
        # Differences of neighbours are small, and small numbers pack well.
        "picture": _packed(np.diff(camera.picture, axis=1, prepend=np.uint8(0))),
        "steady": _packed(np.packbits(camera.steady)),
        "width_px": camera.width_px,
        "shift_px": camera.shift_px,
        "turn_deg": camera.turn_deg,
        "light": list(camera.light),
        "views": camera.views,
    }


def _read(raw: Mapping[str, Any]) -> CameraReference:
    height, width = (int(size) for size in raw["size"])
    if min(height, width) < 16 or height * width > _LARGEST:
        raise ValueError(f"cameras: size: expected at most {_LARGEST} pixels, got {height, width}")
    steps = _unpacked(raw["picture"], height * width).reshape(height, width)
    bits = _unpacked(raw["steady"], -(-height * width // 8))
    shift_px, turn_deg = float(raw["shift_px"]), float(raw["turn_deg"])
    low, high = (float(value) for value in raw["light"])
    numbers = (shift_px, turn_deg, low, high)
    if not all(map(math.isfinite, numbers)) or min(numbers) <= 0:
        raise ValueError("cameras: expected limits and light above 0")
    return CameraReference(
        np.cumsum(steps, axis=1, dtype=np.uint8),
        np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool),
        int(raw["width_px"]),
        shift_px,
        turn_deg,
        (low, high),
        int(raw["views"]),
    )


def _packed(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


def _unpacked(text: str, size: int) -> NDArray[np.uint8]:
    """Exactly ``size`` bytes: a file may come from a stranger."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(base64.b64decode(text, validate=True), size + 1)
    except zlib.error as error:
        raise ValueError(f"cameras: a picture does not unpack ({error})") from None
    if len(data) != size:
        raise ValueError(f"cameras: expected {size} bytes of a picture, got {len(data)} or more")
    return np.frombuffer(data, np.uint8)
