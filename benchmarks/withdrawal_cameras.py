"""What the check of the cameras finds and what it finds wrongly; for `withdrawal`.

Simulated: the scene's two cameras, objects and arm elsewhere in each view, the front camera moved
in the simulation itself. Real: a robot's head camera, of which a shifted or turned part is cut out.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from withdrawal_rollouts import SAME, Change, ChangedPickPlace

from rewact_ros.bench.figures import Bench
from rewact_ros.reward.metrics import wilson_interval
from rewact_ros.sim.pick_place.simulation import CAMERAS
from rewact_ros.supervision.camera_check import (
    CameraReference,
    View,
    camera_faults,
    displacement,
    reference_of,
    view_of,
)

LIGHTS = (0.6, 1.0, 1.4)
SHIFTS_PX, TURNS_DEG = (2.0, 4.0, 8.0, 16.0), (0.5, 1.0, 3.0)
CHANGES = (
    *((shift, 0.0) for shift in (0.0, *SHIFTS_PX)),
    *((0.0, turn) for turn in TURNS_DEG),
)
# Scenes: of references, and of what is compared with them; nothing was chosen on these.
REFERENCES, COMPARED = 286_000, 287_000
_BORDER = 32, 24  # px of a real picture that are not shown, so that it can move
_KEY = "observation.images.cam_high"
Found = dict[tuple[float, float, float], list[str]]


def simulated(bench: Bench, size: tuple[int, int], references: int, compared: int) -> None:
    """Move the front camera; swap both; change the light."""
    name = f"sim {size[0]}x{size[1]}"
    seeds = range(REFERENCES, REFERENCES + references)
    shown = {c: list(_views(SAME, c, seeds, size)) for c in CAMERAS}
    made = {c: reference_of(views, size[0]) for c, views in shown.items()}
    known = {c: one for c, one in made.items() if isinstance(one, CameraReference)}
    bench.settings[f"{name} limits"] = ", ".join(
        f"{c} {one.shift_px * 480 / size[1]:.1f} px of 480 rows, {one.turn_deg:.1f}°"
        for c, one in known.items()
    )
    scenes = range(COMPARED, COMPARED + compared)
    found: Found = {}
    for shift_px, turn_deg in CHANGES:
        for light in LIGHTS:
            world = Change(shift_px, turn_deg, light)
            found[shift_px, turn_deg, light] = [
                camera_faults({"front": view}, known).get("front", "")
                for view in _views(world, "front", scenes, size)
            ]
    add_shares(bench, name, found)
    swapped = [
        camera_faults({"front": wrist, "wrist": front}, known)
        for front, wrist in zip(
            *(_views(SAME, c, scenes, size) for c in ("front", "wrist")), strict=True
        )
    ]
    told = sum(
        faults == {"front": _swap("front", "wrist"), "wrist": _swap("wrist", "front")}
        for faults in swapped
    )
    _share(bench, f"{name}, cameras swapped: told by name", told, len(swapped), "≥ 1")


def _swap(one: str, other: str) -> str:
    return f"camera {one} shows what {other} showed"


def _views(world: Change, camera: str, seeds: range, size: tuple[int, int]) -> Iterator[View]:
    sim = ChangedPickPlace(world, *size)
    for seed in seeds:
        sim.reset(seed)
        yield view_of(sim.render(camera))
    sim.close()


def real(bench: Bench, root: Path, episodes: int) -> None:
    """A humanoid's head camera, at the start of each episode: other objects, another stance."""
    from rewact_ros.data.dataset.reader import open_dataset
    from rewact_ros.learning.imitation.videos import VideoFrames

    dataset = open_dataset(root)
    frames = VideoFrames(dataset, _KEY, None)
    found: Found = {(*change, light): [] for change in CHANGES for light in LIGHTS}
    errors = []
    starts = [int(e["dataset_from_index"]) for e in dataset.meta.episodes]
    for start in starts[:: max(len(starts) // episodes, 1)][:episodes]:
        pictures = frames[np.arange(start, start + 16)]
        reference = reference_of([view_of(_cut(p)) for p in pictures[:10]], _width(pictures))
        if isinstance(reference, str):
            bench.settings["real, not compared"] = reference
            continue
        picture = pictures[-1]
        for shift_px, turn_deg, light in found:
            view = view_of(_cut(picture, shift_px, turn_deg, light))
            faults = camera_faults({"head": view}, {"head": reference})
            found[shift_px, turn_deg, light].append(faults.get("head", ""))
            if shift_px and light == 1.0:
                errors.append(abs(displacement(view, reference).shift_px - shift_px))
    add_shares(bench, "real", found)
    bench.add(
        "real, error of the shift, p95", float(np.percentile(errors, 95)), "px", n=len(errors)
    )


def _width(pictures: NDArray[np.uint8]) -> int:
    return int(pictures.shape[2]) - 2 * _BORDER[0]


def _cut(
    picture: NDArray[np.uint8], shift_px: float = 0.0, turn_deg: float = 0.0, light: float = 1.0
) -> NDArray[np.uint8]:
    """The inner part of a picture as a camera would show it that has moved."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn_deg, 1.0)
    matrix[0, 2] += shift_px
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)
    x, y = _BORDER
    return np.clip(moved[y:-y, x:-x] * light, 0, 255).astype(np.uint8)


def add_shares(bench: Bench, name: str, found: Found) -> None:
    """Shares of pictures that were told to have moved, by how far they had; and of light."""
    still = [fault for light in LIGHTS for fault in found[0.0, 0.0, light]]
    _share(bench, f"{name}, not moved: told that it has", _moved(still), len(still), "≤ 0")
    for shift, turn in CHANGES[1:]:
        faults = [f for light in LIGHTS for f in found[shift, turn, light]]
        what = f"moved by {shift:g} px" if shift else f"turned by {turn:g}°"
        goal = "≥ 1" if shift >= 4 or turn >= 1 else ""
        _share(bench, f"{name}, {what}: told", _moved(faults), len(faults), goal)
    for light in LIGHTS:
        faults = found[0.0, 0.0, light]
        dim = sum(fault.startswith("light") for fault in faults)
        _share(bench, f"{name}, light {light:g}: told as light", dim, len(faults), "")


def _moved(faults: list[str]) -> int:
    return sum(bool(fault) and not fault.startswith("light") for fault in faults)


def _share(bench: Bench, name: str, count: int, n: int, goal: str) -> None:
    if n:
        low, high = wilson_interval(count, n)
        bench.add(name, count / n, "share", goal=goal, n=n, low=low, high=high)
