"""Pictures of failures that nobody recorded: the arm of one frame over an earlier scene.

Demonstrations that all succeed let a reward learn the clock of the arm: where it is says how far
the task has come, whatever became of the objects. A splice contradicts that. In it the arm goes on
as it did, while everything else stays as it was a while ago, as after a missed grasp or a slip; its
label is that of the scene. Other splices put an arm in the same posture, from another episode, over
a scene and keep the label, so that the seam itself says nothing.

What the state explains in the picture of a fixed camera counts as the arm: pixels that differ from
the camera's median picture in most of the episodes whose state was once nearly the same. Objects
that lie elsewhere in each episode fall out of that vote. Whatever hangs together with such pixels
is the arm of a frame: its outline is sharp, and no ghost of it stays in the scene, which would give
the splice away. An object in the hand is part of it: a splice then shows it twice.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from lerobot.utils.constants import OBS_STATE, REWARD
from numpy.typing import NDArray

from .demonstrations import Demonstrations
from .videos import Frames

# Other episodes that vote on what is the arm, and how many have to see something there.
_VOTERS, _QUORUM = 8, 0.6
_PART_PX = 4  # votes that make a part of the picture the arm's; fewer are a shadow on an object
_DIFFERS = 24  # of 255: more than a camera's noise and a soft shadow
_SEEN, _SEEN_PX = 40, 6  # what counts as a visible difference between two pictures
_WORKING_PX = 96  # masks are found at about this height or width: arms are large
# In fixed cameras a tenth of the picture is restless, seen by a hand nearly a third.
_RESTLESS, _STILL = 0.3, 0.2
_SAMPLE = 400  # frames that make a median
_SCENES, _BYTES = 4000, 512 << 20  # what is kept of scenes without the arm
_SAME = 1 / 3  # of the splices change nothing but the seam

_Bools = NDArray[np.bool_]
_Rows = NDArray[np.integer]
_Pixels = NDArray[np.uint8]


class TooFewToSpliceError(ValueError):
    """The demonstrations show too little to tell the arm from the rest."""


@dataclass(frozen=True)
class _Camera:
    """What is known of a fixed camera.

    Attributes:
        frames: (N, H, W, 3) uint8 of the whole dataset.
        step: pixels of the picture per pixel of a mask, along each axis.
        masks: row -> position in ``packed``; -1 where the row has none.
        packed: (M, bytes) masks (h, w), the arm's pixels, packed to bits.
        size: (h, w) of a mask.
        plates: (P, H, W, 3) uint8, the scenes without the arm.
    """

    frames: Frames
    step: int
    masks: NDArray[np.int64]
    packed: _Pixels
    size: tuple[int, int]
    plates: _Pixels

    def mask(self, row: int) -> _Bools:
        """The arm's pixels (H, W) in a row's picture."""
        height, width = self.size
        bits = np.unpackbits(self.packed[self.masks[row]], count=height * width)
        return _enlarged(bits.reshape(height, width).astype(bool), self.step, self.plates.shape)

    def splice(self, arm: int, plate: int) -> _Pixels:
        """The arm of a row over a scene (H, W, 3)."""
        picture = self.plates[plate].copy()
        mask = self.mask(arm)
        picture[mask] = self.frames[np.array([arm])][0][mask]
        return picture


class Splices:
    """Draws splices of demonstrations that succeed.

    Cameras that move with the arm show the scene's own picture: nothing tells their arm from the
    rest.

    Args:
        data: with its frames at hand, as arrays.
        rows: (M,) rows that may be used.
        seed: of the frames that medians are taken of.

    Raises:
        TooFewToSpliceError: no fixed camera, or fewer than nine successful episodes.
    """

    def __init__(self, data: Demonstrations, rows: _Rows, seed: int) -> None:
        self._data = data
        rows = rows[data.succeeds[rows] & np.isfinite(data.reward[rows])]
        episodes = np.unique(data.start[rows])
        if len(episodes) <= _VOTERS:
            raise TooFewToSpliceError(
                f"splices need more than {_VOTERS} successful episodes to tell the arm from the "
                f"rest, got {len(episodes)}"
            )
        fixed = [camera for camera, frames in data.frames.items() if _is_fixed(frames, rows, seed)]
        if not fixed:
            raise TooFewToSpliceError(
                f"splices need a camera that stands still; all of {', '.join(data.frames)} move"
            )
        voters = _voters(data, rows)
        self._arms = rows
        self._twin = np.full(len(data.episode), -1, np.int64)
        self._twin[rows] = voters[:, 0]
        first = data.frames[fixed[0]][rows[:1]][0]
        kept = min(_SCENES, max(1, _BYTES // (first.nbytes * len(fixed))), len(rows))
        self._scenes = rows[np.linspace(0, len(rows) - 1, kept).astype(int)]
        self._cameras = {
            camera: _camera(data, data.frames[camera], rows, voters, self._scenes, seed)
            for camera in fixed
        }

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those that stand still."""
        return tuple(self._cameras)

    def draw(
        self, count: int, observations: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Draw splices.

        Args:
            count: B.
            observations: n; with n > 1 state and pictures get a second axis of n, oldest first.
            rng: draws them.

        Returns:
            state (B, [n,] S), each camera (B, [n,] H, W, 3) uint8, labels (B,).
        """
        drawn = [self._draw(rng) for _ in range(count)]
        samples = [self._sample(*pair, observations) for pair in drawn]
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}

    def _draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Choose a row for the arm and a scene (its position)."""
        data = self._data
        if rng.random() < _SAME:
            scene = int(rng.integers(len(self._scenes)))
            return int(self._twin[self._scenes[scene]]), scene
        while True:
            arm = int(rng.choice(self._arms))
            low = int(np.searchsorted(self._scenes, data.start[arm]))
            high = int(np.searchsorted(self._scenes, arm, side="right"))
            if high > low:
                return arm, int(rng.integers(low, high))

    def _sample(self, arm: int, scene: int, observations: int) -> dict[str, NDArray[Any]]:
        data, origin = self._data, int(self._scenes[scene])
        offsets = np.arange(1 - observations, 1)
        arms = np.clip(arm + offsets, data.start[arm], None)
        sample: dict[str, NDArray[Any]] = {OBS_STATE: data.state[arms]}
        seen = data.episode[arm] != data.episode[origin]
        for key, frames in data.frames.items():
            camera = self._cameras.get(key)
            if camera is None:
                sample[key] = frames[np.clip(origin + offsets, data.start[origin], None)]
                continue
            spliced = np.stack([camera.splice(int(row), scene) for row in arms])
            sample[key] = spliced
            seen = seen or _visible(spliced[-1], frames[np.array([arm])][0])
        # Where nothing has changed since, the splice is the arm's own frame.
        sample[REWARD] = data.reward[[origin if seen else arm]]
        if observations == 1:
            sample = {key: value[0] for key, value in sample.items()}
        else:
            sample[REWARD] = sample[REWARD][0]
        return sample


def _visible(one: _Pixels, other: _Pixels) -> bool:
    return int(_differs(one, other, _SEEN).sum()) >= _SEEN_PX


def _is_fixed(frames: Frames, rows: _Rows, seed: int) -> bool:
    """Whether most of a camera's picture rests through all episodes."""
    some = frames[_some(rows, seed)]
    restless = (_differs(some, _median(some)).mean(0) > _RESTLESS).mean()
    return bool(restless < _STILL)


def _some(rows: _Rows, seed: int) -> _Rows:
    count = min(_SAMPLE, len(rows))
    return np.sort(np.random.default_rng([seed, 3]).choice(rows, count, replace=False))


def _median(pictures: _Pixels) -> _Pixels:
    return np.median(pictures, axis=0).astype(np.uint8)


def _differs(pictures: _Pixels, background: _Pixels, by: int = _DIFFERS) -> _Bools:
    """(..., H, W), where any channel differs from the background's."""
    difference: _Bools = np.abs(pictures.astype(np.int16) - background).max(-1) > by
    return difference


def _voters(data: Demonstrations, rows: _Rows) -> NDArray[np.int64]:
    """(M, K) rows of other episodes with the nearest states, one of each, the nearest first."""
    state = data.state[rows].astype(np.float64)
    state = (state - state.mean(0)) / np.maximum(state.std(0), 1e-6)
    starts = np.flatnonzero(np.r_[True, np.diff(data.episode[rows]) != 0])
    bounds = np.r_[starts, len(rows)]
    own = np.searchsorted(starts, np.arange(len(rows)), side="right") - 1
    found = np.empty((len(rows), _VOTERS), np.int64)
    for index, one in enumerate(state):
        distance = ((state - one) ** 2).sum(1)
        distance[bounds[own[index]] : bounds[own[index] + 1]] = np.inf
        order = np.argsort(np.minimum.reduceat(distance, starts))[:_VOTERS]
        found[index] = [bounds[e] + np.argmin(distance[bounds[e] : bounds[e + 1]]) for e in order]
    return rows[found].astype(np.int64)


def _camera(
    data: Demonstrations,
    frames: Frames,
    rows: _Rows,
    voters: NDArray[np.int64],
    scenes: _Rows,
    seed: int,
) -> _Camera:
    some = frames[_some(rows, seed)]
    height, width = some.shape[1:3]
    step = max(1, min(height, width) // _WORKING_PX)
    background = _median(some)
    small = background[::step, ::step]
    moved = np.stack(
        [_differs(frames[rows[[i]]][0, ::step, ::step], small) for i in range(len(rows))]
    )
    place = np.full(len(data.episode), -1, np.int64)
    place[rows] = np.arange(len(rows))
    kernel = np.ones((3, 3), np.uint8)
    packed = []
    for seen, own in zip(moved, voters, strict=True):
        votes = moved[place[own]].sum(0) >= _QUORUM * _VOTERS
        # Two pixels more: the edge of an arm is soft.
        mask = cv2.dilate(_arm(seen, votes).astype(np.uint8), kernel, iterations=2)
        packed.append(np.packbits(mask.astype(bool)))
    camera = _Camera(
        frames,
        step,
        place,
        np.stack(packed),
        (small.shape[0], small.shape[1]),
        np.empty((0, height, width, 3), np.uint8),
    )
    never = {
        start: np.logical_and.reduce(
            [camera.mask(int(row)) for row in rows[data.start[rows] == start]]
        )
        for start in np.unique(data.start[rows]).tolist()
    }
    plates = [_plate(data, camera, background, int(row), never[data.start[row]]) for row in scenes]
    return _Camera(frames, step, place, camera.packed, camera.size, np.stack(plates))


def _arm(moved: _Bools, votes: _Bools) -> _Bools:
    """Of the parts (H, W) of a picture that differ from the background those that hold votes."""
    _, parts = cv2.connectedComponents(moved.astype(np.uint8))
    held = np.bincount(parts[votes & moved], minlength=parts.max() + 1) >= _PART_PX
    held[0] = False  # the background
    return np.asarray(held[parts], bool)


def _plate(
    data: Demonstrations, camera: _Camera, background: _Pixels, row: int, never: _Bools
) -> _Pixels:
    """A picture (H, W, 3) with what the arm hides, from the nearest frames that show it.

    Earlier frames come first: later ones may show an object where it has come to since. What no
    frame of the episode shows (``never``, such as the arm's foot) is the median's.
    """
    picture = camera.frames[np.array([row])][0].copy()
    mask = camera.mask(row)
    hidden = mask & ~never
    first, end = int(data.start[row]), int(data.end[row])
    for other in (*range(row - 1, first - 1, -1), *range(row + 1, end)):
        if camera.masks[other] < 0:
            continue
        if not hidden.any():
            break
        shown = hidden & ~camera.mask(other)
        picture[shown] = camera.frames[np.array([other])][0][shown]
        hidden &= ~shown
    rest = hidden | (mask & never)
    picture[rest] = background[rest]
    return picture


def _enlarged(mask: _Bools, step: int, shape: tuple[int, ...]) -> _Bools:
    if step == 1:
        return mask
    return mask.repeat(step, 0).repeat(step, 1)[: shape[1], : shape[2]]
