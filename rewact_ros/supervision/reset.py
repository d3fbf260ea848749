"""Whether a reset has achieved what it should: joints near the pose, reward low again."""

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

REWARDS = 5  # one sample never decides


class ResetCheck:
    """Checks one reset; feed it what comes in and ask for its `fault`.

    Args:
        joints: names of the pose's joints, for messages.
        pose: (A,) where the arm should be; None: the joints are not checked.
        tolerance: largest distance of a joint from the pose, in its unit.
        reward_below: the last rewards must all lie below; 0: not checked.
    """

    def __init__(
        self,
        joints: tuple[str, ...] = (),
        pose: ArrayLike | None = None,
        tolerance: float = 0.1,
        reward_below: float = 0.0,
    ) -> None:
        self._names = joints
        self._pose = None if pose is None else np.asarray(pose, dtype=float)
        self._tolerance, self._reward_below = tolerance, reward_below
        self._measured: NDArray[np.float64] | None = None
        self._rewards: deque[float] = deque(maxlen=REWARDS)

    def joints(self, positions: ArrayLike) -> None:
        """Take measured positions (A,) in the pose's order."""
        self._measured = np.asarray(positions, dtype=float)

    def reward(self, value: float) -> None:
        """Take one reward observed after the reset."""
        if math.isfinite(value):
            self._rewards.append(value)

    def restart(self) -> None:
        """Forget what was seen: the scene has changed since."""
        self._measured = None
        self._rewards.clear()

    def fault(self) -> str:
        """What is not yet as it should be, or an empty string."""
        if self._pose is not None:
            if self._measured is None:
                return "no joint state since the reset"
            far = np.abs(self._measured - self._pose)
            if not far.max() <= self._tolerance:
                at = int(np.argmax(far))
                return (
                    f"{self._names[at]}: expected {self._pose[at]:.3f} within "
                    f"{self._tolerance:g}, got {self._measured[at]:.3f}"
                )
        if self._reward_below > 0:
            if len(self._rewards) < REWARDS:
                return f"expected {REWARDS} rewards since the reset, got {len(self._rewards)}"
            if not max(self._rewards) < self._reward_below:
                return (
                    f"reward: expected below {self._reward_below:g}, got {max(self._rewards):.2f}: "
                    "the scene does not look like a start"
                )
        return ""
