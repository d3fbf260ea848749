"""Roll-outs in a world that is as it was, and in changed ones; for `withdrawal`.

Each is the beginning of an episode of the shipped policy, judging off: what its head says at every
frame, and each camera's first picture. Every episode is a file, so that a run that was killed goes
on.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared_engine import roll_outs_side_by_side
from supervisor_rollouts import q10_of, write_one

from rewact_ros.episodes.rollout import Trace
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.policy.checkpoint import LoadedPolicy
from rewact_ros.sim.pick_place.simulation import CAMERAS
from rewact_ros.sim.pick_place.task import PickPlace

# Rows of the picture that shifts in pixels are meant of; the policy's own has 96.
ROWS = 480
SETTINGS = RolloutSettings(limit_s=8.0, hold_s=0.55)


@dataclass(frozen=True)
class Change:
    """What differs from the world of the calibration.

    Attributes:
        shift_px: by which the camera's picture moves sideways, of `ROWS` rows.
        turn_deg: by which the camera is turned about its axis.
        light: factor of all lights.
        camera: that moved.
    """

    shift_px: float = 0.0
    turn_deg: float = 0.0
    light: float = 1.0
    camera: str = "front"

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.camera}-shift{self.shift_px:g}-turn{self.turn_deg:g}-light{self.light:g}"


SAME = Change()


class ChangedPickPlace(PickPlace):
    """The scene of a seed in a changed world."""

    def __init__(self, world: Change, width: int = 96, height: int = 96) -> None:
        super().__init__(width, height)
        camera = self.model.camera(world.camera)
        focal_px = ROWS / 2 / math.tan(math.radians(self.model.cam_fovy[camera.id]) / 2)
        # A camera looks along -z: about y its picture moves sideways, about z it turns.
        pan, roll = math.atan(world.shift_px / focal_px), math.radians(world.turn_deg)
        turned = _product(
            self.model.cam_quat[camera.id],
            np.array([math.cos(pan / 2), 0, math.sin(pan / 2), 0]),
        )
        self.model.cam_quat[camera.id] = _product(
            turned, np.array([math.cos(roll / 2), 0, 0, math.sin(roll / 2)])
        )
        head = self.model.vis.headlight
        head.ambient[:] *= world.light
        head.diffuse[:] *= world.light
        self.model.light_diffuse[:] *= world.light
        self.reset(0)


def _product(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of two quaternions (w, x, y, z)."""
    w, v = a[0] * b[0] - a[1:] @ b[1:], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])
    return np.concatenate([[w], v])


@dataclass(frozen=True)
class Begun:
    """One roll-out of N inferences.

    Attributes:
        seed: of the scene.
        mean, q10, entropy: (N,) float32 of the predicted progress.
        features: (N, D) float32.
        success: (N,) bool, the truth.
        front, wrist: (96, 96, 3) uint8, the cameras' first pictures.
    """

    seed: int
    mean: NDArray[np.float32]
    q10: NDArray[np.float32]
    entropy: NDArray[np.float32]
    features: NDArray[np.float32]
    success: NDArray[np.bool_]
    front: NDArray[np.uint8]
    wrist: NDArray[np.uint8]


def begin(loaded: LoadedPolicy, world: Change, seeds: range, folder: Path) -> list[Begun]:
    """Drive the scenes that the folder does not hold yet, several at a time, and read them all."""
    folder = folder / loaded.version / world.name
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not (folder / f"{seed}.npz").exists()]
    if missing:
        _drive(loaded, world, missing, folder)
    return [_read(folder / f"{seed}.npz", seed) for seed in seeds]


def _drive(loaded: LoadedPolicy, world: Change, seeds: list[int], folder: Path) -> None:
    def keep(seed: int, trace: Trace) -> None:
        said = [p for p in trace.predictions if p is not None]
        write_one(
            folder / f"{seed}.npz",
            {
                "mean": np.array([p.reward for p in said], np.float32),
                "q10": np.array([q10_of(p.quantiles) for p in said], np.float32),
                "entropy": np.array([p.entropy for p in said], np.float32),
                "features": np.array([p.features for p in said], np.float32),
                "success": np.array([truth.success for truth in trace.truths]),
                **{camera: trace.images[camera][0] for camera in CAMERAS},
            },
        )

    roll_outs_side_by_side(
        loaded, seeds, SETTINGS, lambda: ChangedPickPlace(world), keep, world.name
    )


def _read(file: Path, seed: int) -> Begun:
    with np.load(file, allow_pickle=False) as arrays:
        return Begun(seed, **{name: arrays[name] for name in arrays.files})
