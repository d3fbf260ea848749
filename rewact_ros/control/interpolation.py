"""Values between the steps of a chunk: linear, or monotone cubic."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def monotone_slopes(positions: FloatArray) -> FloatArray:
    """Slopes of the monotone cubic through equally spaced steps, in units per step.

    The curve stays between the two steps that enclose it, so it never overshoots, and its first
    derivative is continuous (PCHIP: Fritsch & Butland 1984; the end formula of Moler's `pchiptx`).

    Args:
        positions: (K, A), K ≥ 2.

    Returns:
        (K, A).
    """
    rise = np.diff(positions, axis=0)
    slopes = np.empty_like(positions)
    if len(rise) == 1:
        slopes[:] = rise
        return slopes
    before, after = rise[:-1], rise[1:]
    monotone = np.sign(before) * np.sign(after) > 0
    share = np.divide(after, before + after, out=np.zeros_like(before), where=monotone)
    slopes[1:-1] = 2 * before * share  # the harmonic mean; 0 at a turning point
    slopes[0] = _end_slope(rise[0], rise[1])
    slopes[-1] = _end_slope(rise[-1], rise[-2])
    return slopes


def _end_slope(near: FloatArray, far: FloatArray) -> FloatArray:
    """Three-point slope at an end, kept between 0 and 3 rises, where the curve is monotone."""
    share = (3 * near - far) / 2 * np.sign(near)
    return np.asarray(np.clip(share, 0.0, 3 * np.abs(near)) * np.sign(near))


def linear_coefficients(phase: float) -> tuple[float, ...]:
    """What the steps before and after weigh at `phase` in [0, 1]."""
    return 1 - phase, phase


def cubic_coefficients(phase: float) -> tuple[float, ...]:
    """What the steps before and after, and the slopes before and after, weigh (Hermite)."""
    rest, after = 1 - phase, smooth(phase)
    return 1 - after, after, phase * rest * rest, -phase * phase * rest


def smooth(phase: float) -> float:
    """From 0 to 1 over `phase`, without a kink at either end; constant outside [0, 1]."""
    if phase <= 0.0:
        return 0.0
    return 1.0 if phase >= 1.0 else phase * phase * (3 - 2 * phase)
