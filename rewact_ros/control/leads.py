"""Two of the three that lead the arm: the policy's chunks, and the motion to the reset pose.

The third, a person, is in `human`.
"""

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.frames import NANO
from rewact_ros.contract.schema import Contract
from rewact_ros.control.chunks import ChunkQueue
from rewact_ros.control.motion import ResetMotion
from rewact_ros.control.space import Space
from rewact_ros.control.timing import DurationHistogram

FloatArray = NDArray[np.float64]
# The reset pose is reached: by what was sent, and with a velocity interface by the joints.
# What was sent ends on the goal itself, what is measured only about there.
SENT_CLOSE, MEASURED_CLOSE = 1e-3, 0.02
# Closes an error by 1/e in half a second. With the 0.05 s that a robot may take to answer (see
# `VelocityGate`) it could be 15 times as large before the joints swing (gain · delay = pi/2).
RESET_GAIN_HZ = 2.0


class PolicyLead:
    """Chunks of the present epoch as the command that is due.

    Attributes:
        queue: the chunks.
        observation_to_command: from an observation's stamp to the first command that its chunk
            had a part in.
    """

    def __init__(self, contract: Contract, queue: ChunkQueue) -> None:
        self.queue = queue
        self.observation_to_command = DurationHistogram()
        self._space = Space(contract.poses)
        self._max_age_s = contract.max_chunk_age_s
        self._period_ns = round(NANO / contract.command_rate_hz)
        self._epoch_start_ns = self._used_stamp_ns = 0

    def begin(self, epoch: int, now_ns: int) -> None:
        """Forget all chunks; from now on only this epoch's count."""
        self._epoch_start_ns = self._used_stamp_ns = now_ns
        self.queue.start_epoch(epoch, now_ns)

    def fault(self, now_ns: int) -> str:
        """Why the chunks are too old to go on, or an empty string."""
        age_s = (now_ns - max(self.queue.newest_stamp_ns or 0, self._epoch_start_ns)) / NANO
        if age_s > self._max_age_s:
            return f"newest chunk is {age_s:.2f} s old, limit {self._max_age_s:g} s"
        return ""

    def target(self, now_ns: int) -> FloatArray | None:
        """Command (A,) that is due, or None where no chunk covers this time."""
        command = self.queue.sample(now_ns)
        newest = self.queue.newest_stamp_ns
        if command is not None and newest is not None and newest != self._used_stamp_ns:
            self._used_stamp_ns = newest
            self.observation_to_command.add((now_ns - newest) / NANO)
        return command

    def rate(self, command: FloatArray, now_ns: int) -> FloatArray:
        """How fast the command changes now, (A,) unit/s."""
        after = self.queue.sample(now_ns + self._period_ns)
        if after is None:
            return np.zeros_like(command)
        return np.asarray(self._space.minus(after, command) * NANO / self._period_ns)


class ResetLead:
    """The motion to the contract's reset pose, as positions or as velocities."""

    def __init__(self, contract: Contract, by_velocity: bool) -> None:
        self._contract = contract
        self._by_velocity, self._space = by_velocity, Space(contract.poses)
        self._period_ns = round(NANO / contract.command_rate_hz)
        self._motion: ResetMotion | None = None

    def begin(self, place: FloatArray, now_ns: int) -> None:
        """Plan from `place` (A,), where the arm is, at rest."""
        reset = self._contract.reset
        assert reset is not None
        goal = np.array(reset.pose)
        self._motion = ResetMotion.plan(
            place, goal, now_ns, reset.duration_s, self._contract.limits, self._space
        )

    def target(self, place: FloatArray, now_ns: int) -> tuple[FloatArray, bool]:
        """Command (A,), and whether `place` has reached the pose."""
        assert self._motion is not None
        position, over = self._motion.at(now_ns)
        close = MEASURED_CLOSE if self._by_velocity else SENT_CLOSE
        reached = over and bool(np.abs(self._space.minus(place, position)).max() < close)
        if not self._by_velocity:
            return position, reached
        # Feed forward the motion's speed and pull the measured joints onto its path.
        ahead, _ = self._motion.at(now_ns + self._period_ns)
        speed = (ahead - position) * NANO / self._period_ns
        return speed + RESET_GAIN_HZ * (position - place), reached
