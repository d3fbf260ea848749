"""A person's devices that move a pose: one that has a pose itself, and one that pushes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract, TeleopSource
from rewact_ros.control.human import TeleopInput
from rewact_ros.control.space import POSE_WIDTH, Space

FloatArray = NDArray[np.float64]
POSE = Space([0])
# Of the limits of a part's speed: a push below this is rest.
AT_REST = 0.05
# A stall of the process must not become a jump: no tick moves for longer than this.
LONGEST_TICK_S = 0.05


class PoseInput(TeleopInput):
    """A tracked hand, a phone, the tool of a leader: its motion moves the robot's pose.

    The robot follows what the device does from the takeover on, wherever the two were. A new press
    of the deadman takes hold anew, as a clutch does.
    """

    space = POSE

    def on_pose(self, pose: FloatArray, received_s: float) -> None:
        """Take a message with a pose (6,)."""
        if not np.isfinite(pose).all():
            self.refuse(f"{self.source.topic}: expected a finite pose, got {pose}")
            return
        self.take(pose, received_s)

    def relation(self, position: FloatArray, values: FloatArray) -> FloatArray:
        """(2, 6) the robot's pose and the device's at the takeover."""
        return np.stack([position, values])

    def lead(
        self, values: FloatArray, relation: FloatArray, position: FloatArray, now_s: float
    ) -> FloatArray:
        """The robot's pose (6,), moved as the device has moved since."""
        return self.space.plus(relation[0], self.space.minus(values, relation[1]))


class TwistInput(TeleopInput):
    """A SpaceMouse or the like: it says how fast the pose moves, and the target is what that makes.

    A push counts once the device was seen at rest. The target never runs ahead of the robot by more
    than `max_start_jump`, so that a wall or a slow arm leaves nothing to make up.
    """

    space = POSE

    def __init__(self, source: TeleopSource, contract: Contract) -> None:
        super().__init__(source, contract)
        limits = contract.limits
        self._low, self._high = limits.low[self.joints][:3], limits.high[self.joints][:3]
        self._leash = limits.start_jump[self.joints]
        self._twist: FloatArray = np.zeros(POSE_WIDTH)
        self._rested = False
        self._goal: FloatArray | None = None
        self._last_s = -np.inf

    def on_twist(self, twist: Sequence[float], received_s: float) -> None:
        """Take a message with a linear and angular velocity (6,)."""
        values = np.asarray(twist, dtype=np.float64) * self._scale
        if not np.isfinite(values).all():
            self.refuse(f"{self.source.topic}: expected a finite twist, got {values}")
            return
        # After a silence it must be seen at rest again.
        self._rested &= not self._fresh.fault(received_s)
        fast = self.space.distances(values) / self._speed
        self._rested |= bool(fast.max() < AT_REST)
        self._twist = values / max(1.0, float(fast.max()))
        self._fresh.take(received_s)
        self._newest = self._twist

    def relation(self, position: FloatArray, values: FloatArray) -> FloatArray:
        """Begins where the robot is."""
        self._goal, self._last_s = position.copy(), np.inf
        return position

    def lead(
        self, values: FloatArray, relation: FloatArray, position: FloatArray, now_s: float
    ) -> FloatArray:
        """The pose (6,) that the pushes so far have led to."""
        assert self._goal is not None
        elapsed_s = min(max(now_s - self._last_s, 0.0), LONGEST_TICK_S)
        self._last_s = now_s
        if not self._rested:
            return self._goal
        goal = self.space.plus(self._goal, values * elapsed_s)
        goal[:3] = np.minimum(np.maximum(goal[:3], self._low), self._high)
        ahead = self.space.distances(self.space.minus(goal, position))
        before = self.space.distances(self.space.minus(self._goal, position))
        if ((ahead <= self._leash) | (ahead <= before)).all():
            self._goal = goal
        return self._goal

    def at(self, now_s: float) -> FloatArray | None:
        """The newest twist (6,); None before the first."""
        return self._newest


def make_input(source: TeleopSource, contract: Contract) -> TeleopInput:
    """The input of a source, by the type of its messages."""
    kinds = {
        "geometry_msgs/msg/PoseStamped": PoseInput,
        "geometry_msgs/msg/TwistStamped": TwistInput,
    }
    return kinds.get(source.type, TeleopInput)(source, contract)
