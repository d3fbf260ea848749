"""Whether each camera still shows what it showed when thresholds were calibrated.

A view is a small grey copy of a camera's picture while the arm rests at the start of an episode.
Of the calibration's views there is a median, in which objects that lay elsewhere each time vanish,
and a mask of what never changed. A new view is laid over it: the shift and turn that fit best
(Gauss-Newton with Tukey's weights, after Lucas and Kanade 1981) say how far the camera has moved.
Both are logarithms without their slow part first, so that light and shade cost nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import IMAGE_PREFIX

FloatArray = NDArray[np.float64]
View = NDArray[np.uint8]

WIDEST_PX = 160  # of a view
FEWEST_VIEWS = 5  # of which a median is made
MOST_VIEWS = 60
# A move counts from here: as a share of the picture's width, and in degrees ...
SHIFT, TURN_DEG = 0.004, 0.6
# ... or from so much more than what the calibration's own views showed.
BEYOND = 1.5
# Of a camera whose own views differ by more than this share of the width nothing can be said.
LOOSEST = 0.03
# Correlation of two pictures of the same place; without it there is no shift to speak of.
ALIKE = 0.45
# Light may be so many times brighter or darker than any that was seen.
LIGHT = 1.2
_DARK = 12.0  # grey levels below which the logarithm says little
_SPREAD = 0.08  # of a pixel's logarithm, from which on it is not steady
_REACH = 0.125  # largest shift that is looked for, of the picture's height
_TURNS_DEG = (-4.0, -2.0, 0.0, 2.0, 4.0)  # from which a fit begins
_NOTHING = 1e-3  # of a logarithm: a picture that varies less shows nothing
_FEWEST_PIXELS = 0.1  # of a picture, that must be steady
# Of the fit: pixels with this share of the steepest slope take part; Tukey's width narrows from
# the first to the second number (of a logarithm) by a factor a step.
_SLOPE, _MOST_STEPS = 0.08, 30
_WIDEST, _NARROWEST, _NARROWING = 1.0, 0.1, 0.8


@dataclass(frozen=True)
class CameraReference:
    """What a camera showed before the episodes of a calibration.

    Attributes:
        picture: (h, w) uint8, median of the views.
        steady: (h, w) bool, where they agreed.
        width_px: of the camera's own picture.
        shift_px: a longer shift than this is a move, in the camera's pixels.
        turn_deg: likewise.
        light: darkest and brightest, relative to the median.
        views: how many there were.
    """

    picture: View
    steady: NDArray[np.bool_]
    width_px: int
    shift_px: float
    turn_deg: float
    light: tuple[float, float]
    views: int


@dataclass(frozen=True)
class Displacement:
    """How a view lies over a reference.

    Attributes:
        shift_px: distance of the picture's middle, in the camera's pixels.
        turn_deg: about the middle, without sign.
        alike: correlation of the two once they lie over each other.
        light: brightness relative to the reference.
    """

    shift_px: float
    turn_deg: float
    alike: float
    light: float


def view_of(image: NDArray[np.uint8]) -> View:
    """Small grey copy (h, w) of a picture (H, W, 3), by means over squares of pixels."""
    every = math.ceil(image.shape[1] / WIDEST_PX)
    height, width = (size // every for size in image.shape[:2])
    rows = image[: height * every, : width * every].reshape(height, every, -1)
    squares = rows.sum(axis=1, dtype=np.uint16).reshape(height, width, -1)
    return (squares.sum(axis=2) / (every * squares.shape[2])).round().astype(np.uint8)


def reference_of(views: Sequence[View], width_px: int) -> CameraReference | str:
    """Make the reference of a camera, or say why there is none.

    Args:
        views: (h, w) each, of one size: before each episode, with the arm at rest.
        width_px: of the camera's picture.
    """
    if len(views) < FEWEST_VIEWS:
        return f"expected {FEWEST_VIEWS} first pictures or more, got {len(views)}"
    chosen = [
        views[i] for i in np.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS), dtype=int)
    ]
    median = np.median(chosen, axis=0).astype(np.uint8)
    logs = np.array([_log(view) for view in chosen]) - _log(median)
    lights = np.median(logs, axis=(1, 2))
    spread = np.percentile(np.abs(logs - lights[:, None, None]), 80, axis=0)
    steady = spread < _SPREAD
    if (steady * _inner(median.shape)).mean() < _FEWEST_PIXELS:
        return "its first pictures have too little in common (does the arm start in one pose?)"
    light = float(np.exp(lights.min())), float(np.exp(lights.max()))
    bare = CameraReference(median, steady, width_px, 0.0, 0.0, light, len(views))
    found = [displacement(view, bare) for view in chosen]
    farthest = max(one.shift_px for one in found)
    if farthest > LOOSEST * width_px or min(one.alike for one in found) < ALIKE:
        return f"its first pictures lie up to {farthest:.0f} px apart, or have little in common"
    return CameraReference(
        median,
        steady,
        width_px,
        max(SHIFT * width_px, BEYOND * farthest),
        max(TURN_DEG, BEYOND * max(one.turn_deg for one in found)),
        light,
        len(views),
    )


def displacement(view: View, reference: CameraReference) -> Displacement:
    """Lay a view over a reference of the same size."""
    seen, shown = _edges(_log(view)), _edges(_log(reference.picture))
    weights = reference.steady * _inner(view.shape)
    best = None
    for turn_deg in _TURNS_DEG:
        start = _coarse(seen, shown, weights, math.radians(turn_deg))
        if best is None or start[1] > best[1]:
            best = start
    assert best is not None
    at = _fit(seen, shown, weights, best[0])
    moved = _warp(seen, at)
    light = np.median((_warp(_log(view), at) - _log(reference.picture))[weights > 0])
    return Displacement(
        shift_px=float(np.hypot(at[0], at[1])) * reference.width_px / view.shape[1],
        turn_deg=abs(math.degrees(at[2])),
        alike=_correlation(moved, shown, weights),
        light=float(np.exp(light)),
    )


def camera_faults(
    views: Mapping[str, View], references: Mapping[str, CameraReference]
) -> dict[str, str]:
    """What is other than in the calibration, by camera; cameras without a view say nothing."""
    faults = {}
    for name, reference in references.items():
        if name in views and (fault := _fault(name, views[name], reference, references)):
            faults[name] = fault
    return faults


def _fault(
    name: str, view: View, reference: CameraReference, references: Mapping[str, CameraReference]
) -> str:
    called = f"camera {name.removeprefix(IMAGE_PREFIX)}"
    if view.shape != reference.picture.shape:
        expected, got = ("×".join(map(str, p.shape[::-1])) for p in (reference.picture, view))
        return f"{called} shows {got} px, not {expected}"
    found = displacement(view, reference)
    if found.alike < ALIKE:
        others = {n: r for n, r in references.items() if r.picture.shape == view.shape}
        alike = {n: displacement(view, r).alike for n, r in others.items() if n != name}
        nearest = max(alike, key=lambda n: alike[n], default="")
        if nearest and alike[nearest] > max(ALIKE, found.alike + 0.1):
            return f"{called} shows what {nearest.removeprefix(IMAGE_PREFIX)} showed"
        return f"{called} does not show what it showed"
    if found.shift_px > reference.shift_px or found.turn_deg > reference.turn_deg:
        shift_px = f"{found.shift_px:.{int(found.shift_px < 10)}f}"
        return f"{called} moved by {shift_px} px, {found.turn_deg:.1f}°"
    low, high = reference.light
    if not low / LIGHT <= found.light <= high * LIGHT:
        return (
            f"light: {called} has {found.light:.2f} of the calibration's, which saw "
            f"{low:.2f} to {high:.2f}"
        )
    return ""


# Pictures -------------------------------------------------------------------------------------


def _log(view: View) -> FloatArray:
    return np.log(view.astype(np.float64) + _DARK)


def _edges(log: FloatArray) -> FloatArray:
    """Smoothed a little, and without what changes slowly over the picture."""
    return _blur(log, 1) - _blur(log, max(log.shape[1] // 10, 3))


def _blur(picture: FloatArray, radius: int) -> FloatArray:
    """Mean over squares of 2 × radius + 1 pixels, the border repeated."""
    for axis in (0, 1):
        pad = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
        total = np.cumsum(np.pad(picture, pad, mode="edge"), axis=axis)
        size = picture.shape[axis]
        upper = np.take(total, np.arange(size) + 2 * radius + 1, axis=axis)
        picture = (upper - np.take(total, np.arange(size), axis=axis)) / (2 * radius + 1)
    return picture


def _inner(shape: tuple[int, ...]) -> FloatArray:
    """1 but near the border, of which a moved camera no longer sees all."""
    inner = np.zeros(shape)
    rim = max(shape[0] // 24, 2)
    inner[rim:-rim, rim:-rim] = 1.0
    return inner


def _grid(shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2


def _warp(picture: FloatArray, at: FloatArray) -> FloatArray:
    """The picture at places shifted by at[:2] px and turned by at[2] rad about its middle."""
    return _sampled(picture, *_places(picture.shape, *_grid(picture.shape), at))


def _places(
    shape: tuple[int, ...], x: FloatArray, y: FloatArray, at: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Column and row in a picture of places about its middle, shifted and turned."""
    cos, sin = math.cos(at[2]), math.sin(at[2])
    column = cos * x - sin * y + at[0] + (shape[1] - 1) / 2
    row = sin * x + cos * y + at[1] + (shape[0] - 1) / 2
    return np.clip(column, 0, shape[1] - 1.001), np.clip(row, 0, shape[0] - 1.001)


def _sampled(picture: FloatArray, column: FloatArray, row: FloatArray) -> FloatArray:
    """Bilinear values between the pixels."""
    left, top = column.astype(int), row.astype(int)
    u, v = column - left, row - top
    upper = picture[top, left] * (1 - u) + picture[top, left + 1] * u
    lower = picture[top + 1, left] * (1 - u) + picture[top + 1, left + 1] * u
    return np.asarray(upper * (1 - v) + lower * v)


def _correlation(a: FloatArray, b: FloatArray, weights: FloatArray) -> float:
    """Of two pictures where they have weight; 0 where one of them shows nothing."""
    energies = [float((weights * each * each).sum()) for each in (a, b)]
    if min(energies) <= _NOTHING**2 * weights.sum():
        return 0.0
    return float((weights * a * b).sum()) / math.sqrt(energies[0] * energies[1])


def _coarse(
    seen: FloatArray, shown: FloatArray, weights: FloatArray, turn: float
) -> tuple[FloatArray, float]:
    """Whole-pixel shift with the largest correlation at a turn, and that correlation."""
    turned = _warp(seen, np.array([0.0, 0.0, turn]))
    spectrum = np.fft.rfft2(turned)
    # All shifts at once: sum of products, over what is seen of the energy below the weights.
    size = seen.shape
    products = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(weights * shown)), size)
    energies = np.fft.irfft2(np.fft.rfft2(turned**2) * np.conj(np.fft.rfft2(weights)), size)
    score = products / np.sqrt(np.maximum(energies, 1e-9) * (weights * shown**2).sum() + 1e-12)
    reach = max(int(_REACH * size[0]), 2)
    near = np.roll(score, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    row, column = np.unravel_index(int(np.argmax(near)), near.shape)
    # A shift of the turned picture, as one before its turn.
    dx, dy = float(column - reach), float(row - reach)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.array([cos * dx - sin * dy, sin * dx + cos * dy, turn]), float(near.max())


def _fit(seen: FloatArray, shown: FloatArray, weights: FloatArray, start: FloatArray) -> FloatArray:
    """Refine shift (px) and turn (rad) below a pixel; (3,)."""
    rows, columns = np.gradient(seen)
    slope = np.hypot(*np.gradient(shown)) * weights
    # Only where something is to be seen a residual tells anything.
    chosen = slope > max(_SLOPE * float(slope.max()), _NOTHING)
    if not chosen.any():
        return start  # such as a covered lens
    x, y = (axis[chosen] for axis in _grid(seen.shape))
    expected, at, scale = shown[chosen], start.copy(), 1.0
    for turn in range(_MOST_STEPS):
        places = _places(seen.shape, x, y, at)
        moved = _sampled(seen, *places)
        residual = scale * moved - expected
        # From far away everything may belong together; nearer, what does not fit is left out.
        typical = 1.4826 * float(np.median(np.abs(residual)))
        width = max(4.0 * typical, _WIDEST * _NARROWING**turn, _NARROWEST)
        weight = np.square(np.clip(1 - np.square(residual / width), 0, None))
        gx, gy = _sampled(columns, *places), _sampled(rows, *places)
        cos, sin = math.cos(at[2]), math.sin(at[2])
        about = gx * (-sin * x - cos * y) + gy * (cos * x - sin * y)
        jacobian = np.stack([scale * gx, scale * gy, scale * about, moved])
        normal = (jacobian * weight) @ jacobian.T
        normal += 1e-9 * max(float(np.trace(normal)), 1e-12) * np.eye(4)
        step = -np.linalg.solve(normal, (jacobian * weight) @ residual)
        step[:2] = np.clip(step[:2], -1.0, 1.0)
        at += step[:3]
        scale = float(np.clip(scale + step[3], 0.2, 5.0))
        if turn > 8 and np.abs(step[:2]).max() < 0.005 and abs(step[2]) < 5e-5:
            break
    return at
