"""The safety gate: the last thing between any command source and the robot."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Limits

FloatArray = NDArray[np.float64]
# Rounding must not count as a violation.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Gated:
    """What goes out (A,), and whether the gate had to change it."""

    command: FloatArray
    clipped: bool


class SafetyGate:
    """Tracks the stream of sent commands and bounds every next one.

    Order: finite → position → velocity → acceleration. The velocity towards a position limit is
    kept low enough to brake before it, so the acceleration limit never pushes a command out.
    A non-finite command is rejected, never clipped. Position interfaces.

    Args:
        limits: (A,) arrays in joint units, unit/s, unit/s².
        period_s: time between two commands.
    """

    def __init__(self, limits: Limits, period_s: float) -> None:
        self._limits = limits
        self._dt = period_s
        self._position: FloatArray | None = None
        self._velocity = np.zeros_like(limits.low)
        self._target: FloatArray | None = None

    @property
    def position(self) -> FloatArray:
        """Last command, (A,). Raises RuntimeError before `start`."""
        if self._position is None:
            raise RuntimeError("the safety gate has no start position: call start() when arming")
        return self._position

    @property
    def velocity(self) -> FloatArray:
        """Of the last two commands, (A,) unit/s."""
        return self._velocity

    @property
    def moving(self) -> bool:
        """Whether the last two commands differ."""
        return bool(np.any(np.abs(self._velocity) > TOLERANCE))

    def start(self, measured: FloatArray) -> None:
        """Begin a stream at rest from the measured joints (A,), clamped into the limits."""
        self._position = np.clip(measured, self._limits.low, self._limits.high)
        self._velocity = np.zeros_like(self._position)
        self._target = self._position

    def stop_stream(self) -> None:
        """Forget the stream, when falling silent."""
        self._position = self._target = None
        self._velocity = np.zeros_like(self._velocity)

    def apply(self, target: FloatArray) -> Gated | None:
        """Bound the next command; None when the target is not finite (the caller brakes).

        The closing speed towards the target is bounded by what can be braked away, so a clipped
        step is followed without ringing.
        """
        position, limits, dt = self.position, self._limits, self._dt
        if target.shape != position.shape or not np.isfinite(target).all():
            return None
        wanted = np.clip(target, limits.low, limits.high)
        previous = wanted if self._target is None else self._target
        error = previous - position
        closing = np.clip(error / dt, -self._braking_speed(error), self._braking_speed(error))
        speed = (wanted - previous) / dt + closing
        self._target = wanted
        sent = self._advance(speed)
        return Gated(sent, bool(np.any(np.abs(sent - target) > 1e-6)))

    def brake(self) -> FloatArray:
        """Next command of a stop at the acceleration limit; constant once at rest."""
        sent = self._advance(np.zeros_like(self._velocity))
        self._target = sent
        return sent

    def _braking_speed(self, distance: FloatArray) -> FloatArray:
        """Largest speed from which braking, in whole ticks, ends within `distance`.

        With k further ticks of braking: (k + 1) v - k (k + 1) / 2 · a·dt = distance / dt.
        """
        step = self._limits.acceleration * self._dt
        reach = np.abs(distance) / self._dt
        k = np.floor((np.sqrt(1 + 8 * reach / step) - 1) / 2)
        return np.asarray(reach / (k + 1) + step * k / 2)

    def _advance(self, speed: FloatArray) -> FloatArray:
        position, limits, dt = self.position, self._limits, self._dt
        step = limits.acceleration * dt
        speed = np.clip(speed, -limits.velocity, limits.velocity)
        up = self._braking_speed(np.maximum(limits.high - position, 0))
        down = self._braking_speed(np.maximum(position - limits.low, 0))
        speed = np.clip(speed, -down, up)
        speed = np.clip(speed, self._velocity - step, self._velocity + step)
        self._position = np.clip(position + speed * dt, limits.low, limits.high)
        self._velocity = (self._position - position) / dt
        return self._position
