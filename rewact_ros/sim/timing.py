"""Rates of the simulated episodes, and motion noise on their time grid."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Frames are observed at the first, commands are sent at the second: a whole number of commands lies
# between two frames.
RATE_HZ, COMMAND_HZ = 20, 100
# An arm in somebody's hand wanders over tenths of a second; faster noise would be filtered by the
# servos, slower noise would shift the plan.
_NOISE_TAU_S = 0.30


def smooth_noise(
    frames: int,
    sigma_rad: float,
    rng: np.random.Generator,
    noisy: Sequence[float],
    rate_hz: int = RATE_HZ,
) -> NDArray[np.float64]:
    """Return (frames, A) low-pass Gaussian noise of standard deviation `sigma_rad` on some joints.

    Two equal first-order filters in a row, so that velocities stay finite between frames too.

    Args:
        noisy: (A,) share of it that each joint gets.
    """
    keep = np.exp(-1.0 / (rate_hz * _NOISE_TAU_S))
    warm_up = int(4 * _NOISE_TAU_S * rate_hz)
    white = rng.standard_normal((frames + warm_up, np.count_nonzero(noisy)))
    for _ in range(2):
        for index in range(1, len(white)):
            white[index] = keep * white[index - 1] + (1 - keep) * white[index]
    # Variance of two cascaded poles at `keep` driven by unit white noise.
    variance = (1 - keep) ** 4 * (1 + keep**2) / (1 - keep**2) ** 3
    noise = np.zeros((frames, len(noisy)))
    share = np.array(noisy, float)
    noise[:, share > 0] = sigma_rad / np.sqrt(variance) * white[warm_up:] * share[share > 0]
    return noise
