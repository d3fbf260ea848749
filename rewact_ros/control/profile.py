"""The minimum-jerk profile of point-to-point motions (Flash & Hogan 1985)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Peak speed and acceleration of a unit move of unit duration: 15/8 half-way, and 10/sqrt(3) at a
# fifth and at four fifths of the time.
PEAK_SPEED, PEAK_ACCELERATION = 1.875, 5.7735


def minimum_jerk(phase: ArrayLike) -> NDArray[np.float64]:
    """Position of a unit move at `phase`, clipped to [0, 1]; at rest at both ends."""
    s = np.clip(np.asarray(phase, dtype=np.float64), 0.0, 1.0)
    return np.asarray(s * s * s * (10.0 + s * (6.0 * s - 15.0)))
