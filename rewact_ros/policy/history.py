"""The last n observations, one step of the policy's rate apart."""

from collections import deque


class ObservationHistory[T]:
    """Keeps observations and hands out the newest with its predecessors, oldest first.

    At the start of an episode the first observation stands in for those that never were, as
    LeRobot's datasets clamp their delta timestamps at the episode's start; so does the first one
    after a gap, since what came before it says nothing of the present motion.

    Args:
        steps: n, at least 1.
        step_s: seconds between two steps.
    """

    def __init__(self, steps: int, step_s: float) -> None:
        self._steps, self._step_s = steps, step_s
        self._kept: deque[tuple[float, T]] = deque()

    def reset(self) -> None:
        """Forget all observations."""
        self._kept.clear()

    def add(self, observation: T, stamp_s: float) -> list[T]:
        """Take an observation with its time; returns n observations, oldest first.

        Each step takes the observation nearest to its time, so that a camera faster than the
        policy's rate is thinned.
        """
        if self._kept and not 0 < stamp_s - self._kept[-1][0] <= 1.5 * self._step_s:
            self._kept.clear()
        self._kept.append((stamp_s, observation))
        oldest_s = stamp_s - (self._steps - 0.5) * self._step_s
        while len(self._kept) > 1 and self._kept[1][0] <= oldest_s:
            self._kept.popleft()
        times = (stamp_s - k * self._step_s for k in range(self._steps - 1, 0, -1))
        return [self._nearest(time) for time in times] + [observation]

    def _nearest(self, time_s: float) -> T:
        return min(self._kept, key=lambda kept: abs(kept[0] - time_s))[1]
