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
class _Arms:
    """Where the arm is in the pictures of a fixed camera.

    Attributes:
        step: pixels of the picture per pixel of a mask, along each axis.
        place: row -> position in ``packed``; -1 where the row has no mask.
        packed: (M, bytes) masks (h, w), packed to bits.
        size: (h, w) of a mask.
        shape: (H, W) of a picture.
    """

    step: int
    place: NDArray[np.int64]
    packed: _Pixels
    size: tuple[int, int]
    shape: tuple[int, int]

    def mask(self, row: int) -> _Bools:
        """The arm's pixels (H, W) in a row's picture."""
        height, width = self.size
        bits = np.unpackbits(self.packed[self.place[row]], count=height * width)
        mask = bits.reshape(height, width).astype(bool)
        return mask.repeat(self.step, 0).repeat(self.step, 1)[: self.shape[0], : self.shape[1]]


@dataclass(frozen=True)
class _Camera:
    """A fixed camera.

    Attributes:
        frames: (N, H, W, 3) uint8 of the whole dataset.
        arms: where the arm is in them.
        plates: (P, H, W, 3) uint8, the scenes without the arm.
    """

    frames: Frames
    arms: _Arms
    plates: _Pixels

    def splice(self, arm: int, plate: int) -> _Pixels:
        """The arm of a row over a scene (H, W, 3)."""
        picture, mask = self.plates[plate].copy(), self.arms.mask(arm)
        picture[mask] = _picture(self.frames, arm)[mask]
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
        backgrounds = {
            camera: _background(frames, rows, seed) for camera, frames in data.frames.items()
        }
        fixed = {camera: still for camera, still in backgrounds.items() if still is not None}
        if not fixed:
            raise TooFewToSpliceError(
                f"splices need a camera that stands still; all of {', '.join(data.frames)} move"
            )
        voters = _voters(data, rows)
        self._arms = rows
        self._twin = np.full(len(data.episode), -1, np.int64)
        self._twin[rows] = voters[:, 0]
        size = sum(background.nbytes for background in fixed.values())
        kept = min(_SCENES, max(1, _BYTES // size), len(rows))
        self._scenes = rows[np.linspace(0, len(rows) - 1, kept).astype(int)]
        self._cameras = {
            camera: _camera(data, data.frames[camera], background, rows, voters, self._scenes)
            for camera, background in fixed.items()
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
        changed = data.episode[arm] != data.episode[origin]
        for key, frames in data.frames.items():
            camera = self._cameras.get(key)
            if camera is None:
                sample[key] = frames[np.clip(origin + offsets, data.start[origin], None)]
                continue
            spliced = np.stack([camera.splice(int(row), scene) for row in arms])
            changed = changed or _visible(spliced[-1], _picture(frames, arm))
            sample[key] = spliced
        if observations == 1:
            sample = {key: value[0] for key, value in sample.items()}
        # Where nothing has changed since, the splice is the arm's own frame.
        return sample | {REWARD: data.reward[origin if changed else arm]}


def _picture(frames: Frames, row: int) -> _Pixels:
    return frames[np.array([row])][0]


def _visible(one: _Pixels, other: _Pixels) -> bool:
    return int(_differs(one, other, _SEEN).sum()) >= _SEEN_PX


def _background(frames: Frames, rows: _Rows, seed: int) -> _Pixels | None:
    """Median picture (H, W, 3) of a camera in which most rests through all episodes, else None."""
    count = min(_SAMPLE, len(rows))
    some = frames[np.sort(np.random.default_rng([seed, 3]).choice(rows, count, replace=False))]
    background = np.median(some, axis=0).astype(np.uint8)
    restless = (_differs(some, background).mean(0) > _RESTLESS).mean()
    return background if restless < _STILL else None


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
    background: _Pixels,
    rows: _Rows,
    voters: NDArray[np.int64],
    scenes: _Rows,
) -> _Camera:
    arms = _arms(frames, background, rows, voters, len(data.episode))
    plates = np.empty((len(scenes), *background.shape), np.uint8)
    for start in np.unique(data.start[rows]):
        wanted = np.flatnonzero(data.start[scenes] == start)
        if len(wanted):
            own = rows[data.start[rows] == start]
            whole = _uncovered(frames, arms, background, own)
            plates[wanted] = whole[np.searchsorted(own, scenes[wanted])]
    return _Camera(frames, arms, plates)


def _arms(
    frames: Frames, background: _Pixels, rows: _Rows, voters: NDArray[np.int64], count: int
) -> _Arms:
    """Masks of the rows' pictures; ``count``: of all rows there are."""
    height, width = background.shape[:2]
    step = max(1, min(height, width) // _WORKING_PX)
    small = background[::step, ::step]
    moved = np.stack([_differs(_picture(frames, int(row))[::step, ::step], small) for row in rows])
    place = np.full(count, -1, np.int64)
    place[rows] = np.arange(len(rows))
    kernel = np.ones((3, 3), np.uint8)
    packed = []
    for seen, own in zip(moved, voters, strict=True):
        votes = moved[place[own]].sum(0) >= _QUORUM * _VOTERS
        # Two pixels more: the edge of an arm is soft.
        mask = cv2.dilate(_arm(seen, votes).astype(np.uint8), kernel, iterations=2)
        packed.append(np.packbits(mask.astype(bool)))
    size = small.shape[0], small.shape[1]
    return _Arms(step, place, np.stack(packed), size, (height, width))


def _arm(moved: _Bools, votes: _Bools) -> _Bools:
    """Of the parts (H, W) of a picture that differ from the background those that hold votes."""
    _, parts = cv2.connectedComponents(moved.astype(np.uint8))
    held = np.bincount(parts[votes & moved], minlength=parts.max() + 1) >= _PART_PX
    held[0] = False  # the background
    return np.asarray(held[parts], bool)


def _uncovered(frames: Frames, arms: _Arms, background: _Pixels, rows: _Rows) -> _Pixels:
    """Pictures (T, H, W, 3) of an episode's rows with what the arm hides, as seen last before.

    What no earlier frame shows is taken from the next one that does: a later one may show an object
    where it has come to since. What no frame of the episode shows, such as the arm's foot, is the
    median's.
    """
    pictures = np.array(frames[rows])
    hidden = np.stack([arms.mask(int(row)) for row in rows])
    count = len(rows)
    for order in (range(1, count), range(count - 2, -1, -1)):
        step = order.step
        for index in order:
            found = hidden[index] & ~hidden[index - step]
            pictures[index][found] = pictures[index - step][found]
            hidden[index] &= ~found
    for picture, rest in zip(pictures, hidden, strict=True):
        picture[rest] = background[rest]
    return pictures
