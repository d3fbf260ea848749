"""Reward of a window of steps: what was verified, plus potential-based shaping. NumPy only.

With the frozen reward head's progress Phi, a window of k steps and discount gamma,

    r = sum_i gamma^i r_i + kappa * (gamma^k * Phi(s') - Phi(s)),    Phi(terminal) = 0,

which is what shaping every step by kappa * (gamma * Phi(next) - Phi(now)) adds up to, and changes
the return of every policy from a state s by -kappa * Phi(s) alone (Ng, Harada and Russell 1999): to
stall at high progress earns nothing that finishing does not earn too.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def shaped_reward(
    reward: Floats, discount: Floats, progress: Floats, next_progress: Floats, weight: float
) -> Floats:
    """Shape the rewards (B,) of windows.

    Args:
        reward: discounted sums of the verified reward.
        discount: gamma^k, and 0 where the window ends the episode for good (not where it is cut
            off), which is what makes the terminal potential 0.
        progress, next_progress: Phi before and after the window.
        weight: kappa.
    """
    return reward + weight * (discount * next_progress - progress)
