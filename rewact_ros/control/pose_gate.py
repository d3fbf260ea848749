"""The safety gate of a pose: workspace box, linear and angular speed and acceleration."""

import math

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Limits
from rewact_ros.control.limits import ROUNDING, TOLERANCE, Gated, braking_speed
from rewact_ros.control.space import POSE_WIDTH, Space
from rewact_ros.control.violations import Violation, non_finite

FloatArray = NDArray[np.float64]
_LINEAR, _ANGULAR = slice(0, 3), slice(3, POSE_WIDTH)
# Relative to the limit: rounding is no violation.
_SLACK = 1e-6
# How fast a twist interface makes up for where the arm is behind, 1/s: as of the reset motion of a
# velocity interface, and for the same reason (see `leads.RESET_GAIN_HZ`).
FOLLOW_GAIN_HZ = 2.0


class PoseGate:
    """Tracks the stream of sent poses and bounds every next one.

    Order: finite → workspace → speed → acceleration. Speeds and accelerations are lengths of
    vectors: m/s along the way, rad/s about the axis of the turn. The speed towards a wall of the
    workspace is kept low enough to brake before it, and braking for it comes before all else that
    the acceleration is asked for. A command that is not finite is rejected, never clipped.

    Args:
        limits: (6,) arrays: workspace in `low[:3]` and `high[:3]`, linear limits in the first
            three columns, angular ones in the last.
        period_s: time between two commands.
    """

    def __init__(self, limits: Limits, period_s: float) -> None:
        self._low, self._high = limits.low[_LINEAR], limits.high[_LINEAR]
        self._speed = float(limits.velocity[0]), float(limits.velocity[3])
        self._acceleration = float(limits.acceleration[0]), float(limits.acceleration[3])
        self._dt = period_s
        self._step = tuple(limit * period_s for limit in self._acceleration)
        # Three walls at once share the acceleration.
        self._wall_step = np.full(3, self._step[0] / math.sqrt(3))
        self._space = Space([0])
        self._position: FloatArray | None = None
        self._velocity: FloatArray = np.zeros(POSE_WIDTH)
        self._target: FloatArray = self._velocity
        self._asked_velocity: FloatArray = self._velocity

    @property
    def position(self) -> FloatArray:
        """Last pose, (6,). Raises RuntimeError before `start`."""
        if self._position is None:
            raise RuntimeError("the safety gate has no start pose: call start() when arming")
        return self._position

    @property
    def velocity(self) -> FloatArray:
        """Velocity of the last pose, (6,) in m/s and rad/s."""
        return self._velocity

    @property
    def moving(self) -> bool:
        """Whether the last two poses differ."""
        return bool(np.any(np.abs(self._velocity) > TOLERANCE))

    def start(self, measured: FloatArray) -> None:
        """Begin a stream at rest from the measured pose (6,), moved into the workspace."""
        self._position = self._inside(measured)
        self._velocity = self._asked_velocity = np.zeros(POSE_WIDTH)
        self._target = self._position

    def stop_stream(self) -> None:
        """Forget the stream, when falling silent."""
        self._position = None
        self._velocity = self._asked_velocity = np.zeros(POSE_WIDTH)

    def check(
        self, target: FloatArray, measured: FloatArray | None = None
    ) -> tuple[Violation, ...]:
        """What a next pose (6,) asks beyond the limits, changing nothing."""
        return non_finite(target, POSE_WIDTH) or self._judge(target)[2]

    def apply(self, target: FloatArray, measured: FloatArray | None = None) -> Gated | None:
        """Bound the next pose; None when the target is not finite (the caller brakes)."""
        position = self.position
        if non_finite(target, POSE_WIDTH):
            return None
        wanted, asked_velocity, violations = self._judge(target)
        space, dt = self._space, self._dt
        error = space.minus(self._target, position)
        closing = self._each(error, self._closing)
        # The target's own speed goes on top, or the arm would trail a moving target for good.
        speed = space.minus(wanted, self._target) / dt + closing
        self._target, self._asked_velocity = wanted, asked_velocity
        sent = self._advance(speed)
        clipped = bool(np.any(np.abs(space.minus(sent, target)) > ROUNDING))
        return Gated(sent, clipped, violations)

    def _closing(self, error: FloatArray, part: int) -> FloatArray:
        """Velocity towards a target that lies `error` away, from which braking ends on it."""
        step, far = np.array(self._step[part]), np.array(_length(error))
        return _shortened(error / self._dt, float(braking_speed(far, step, self._dt)))

    def brake(self, measured: FloatArray | None = None) -> FloatArray:
        """Next pose of a stop at the acceleration limits; constant once at rest."""
        sent = self._advance(np.zeros(POSE_WIDTH))
        self._target, self._asked_velocity = sent, self._velocity
        return sent

    def _judge(self, target: FloatArray) -> tuple[FloatArray, FloatArray, tuple[Violation, ...]]:
        wanted = self._inside(target)
        asked = self._space.minus(wanted, self._target) / self._dt
        allowed = self._each(asked, lambda part, i: _shortened(part, self._speed[i]))
        change = (allowed - self._asked_velocity) / self._dt
        violations = (
            *_outside(target, wanted),
            *_too_much("velocity", asked, self._speed),
            *_too_much("acceleration", change, self._acceleration),
        )
        # As for joints: each column is named by the first limit that it broke.
        first: dict[int, Violation] = {}
        for violation in violations:
            first.setdefault(violation.joint, violation)
        return wanted, allowed, tuple(first.values())

    def _inside(self, pose: FloatArray) -> FloatArray:
        inside = pose.copy()
        inside[_LINEAR] = np.minimum(np.maximum(pose[_LINEAR], self._low), self._high)
        return inside

    def _each(self, values: FloatArray, act) -> FloatArray:  # type: ignore[no-untyped-def]
        """`act` on the linear part and on the angular part, with its number."""
        return np.concatenate([act(values[_LINEAR], 0), act(values[_ANGULAR], 1)])

    def _advance(self, speed: FloatArray) -> FloatArray:
        position, dt = self.position, self._dt
        next_velocity = self._bounded(speed, self._velocity, position[_LINEAR])
        moved = self._inside(self._space.plus(position, next_velocity * dt))
        self._velocity = next_velocity
        self._velocity[_LINEAR] = (moved[_LINEAR] - position[_LINEAR]) / dt
        self._position = moved
        return moved

    def _bounded(self, speed: FloatArray, before: FloatArray, at: FloatArray) -> FloatArray:
        """The velocity (6,) nearest to `speed` that the limits allow after `before`, at a place."""
        dt, wall_step = self._dt, self._wall_step
        up = braking_speed(np.maximum(self._high - at, 0), wall_step, dt)
        down = braking_speed(np.maximum(at - self._low, 0), wall_step, dt)
        linear = _shortened(speed[_LINEAR], self._speed[0])
        linear = np.minimum(np.maximum(linear, -down), up)
        # First what a wall needs, then as much of the rest as the acceleration still has.
        was = before[_LINEAR]
        needed = _shortened(np.minimum(np.maximum(was, -down), up) - was, self._step[0])
        linear = was + needed + _within(needed, linear - was - needed, self._step[0])
        turn, turned = _shortened(speed[_ANGULAR], self._speed[1]), before[_ANGULAR]
        return np.concatenate([linear, turned + _shortened(turn - turned, self._step[1])])


class TwistGate(PoseGate):
    """Bounds poses as `PoseGate`, and says the twist by which the arm follows them.

    The twist is the velocity of the bounded pose, and what brings the *measured* arm onto it. It
    keeps to the same speeds and accelerations, and slows down before a wall by where the arm is
    measured. At rest it is zero, and the pose is then where the arm is.
    """

    def __init__(self, limits: Limits, period_s: float) -> None:
        super().__init__(limits, period_s)
        self.twist: FloatArray = np.zeros(POSE_WIDTH)

    @property
    def moving(self) -> bool:
        """Whether the pose moves, or the twist is other than zero."""
        return super().moving or bool(np.any(np.abs(self.twist) > TOLERANCE))

    def start(self, measured: FloatArray) -> None:
        """As of a pose; the twist begins at zero."""
        super().start(measured)
        self.twist = np.zeros(POSE_WIDTH)

    def stop_stream(self) -> None:
        """As of a pose."""
        super().stop_stream()
        self.twist = np.zeros(POSE_WIDTH)

    def apply(self, target: FloatArray, measured: FloatArray | None = None) -> Gated | None:
        """As of a pose; the measured one (6,) is needed."""
        if measured is None or non_finite(measured, POSE_WIDTH):
            return None
        gated = super().apply(target, measured)
        if gated is not None:
            behind = self._space.minus(gated.command, measured)
            speed = self.velocity + FOLLOW_GAIN_HZ * behind
            self.twist = self._bounded(speed, self.twist, measured[_LINEAR])
        return gated

    def brake(self, measured: FloatArray | None = None) -> FloatArray:
        """As of a pose; the twist becomes zero as fast as it may."""
        sent = super().brake()
        self.twist = self._each(self.twist, lambda part, i: part - _shortened(part, self._step[i]))
        if not self.moving and measured is not None and not non_finite(measured, POSE_WIDTH):
            # Nothing pulls the arm back to where it was sent: the next motion begins where it is.
            self.start(measured)
            return self.position
        return sent


def _length(part: FloatArray) -> float:
    return math.hypot(*part)


def _shortened(part: FloatArray, longest: float) -> FloatArray:
    """The vector, or one of length `longest` in its direction."""
    length = _length(part)
    return part if length <= longest else part * (longest / length)


def _within(first: FloatArray, more: FloatArray, longest: float) -> FloatArray:
    """As much of `more` as added to `first`, which is no longer, makes at most `longest`."""
    if _length(first + more) <= longest:
        return more
    a, b = float(more @ more), float(first @ more)
    c = float(first @ first) - longest * longest
    share = (math.sqrt(max(b * b - a * c, 0.0)) - b) / a
    return more * min(max(share, 0.0), 1.0)


def _outside(target: FloatArray, wanted: FloatArray) -> list[Violation]:
    return [
        Violation("position", axis, float(target[axis]), float(wanted[axis]))
        for axis in range(3)
        if abs(target[axis] - wanted[axis]) > _SLACK * max(abs(float(wanted[axis])), 1.0)
    ]


def _too_much(kind: str, asked: FloatArray, limits: tuple[float, float]) -> list[Violation]:
    """Linear and angular part where too long; named by the axis that has most of it."""
    found = []
    for part, limit in zip((_LINEAR, _ANGULAR), limits, strict=True):
        length = _length(asked[part])
        if length - limit > _SLACK * max(limit, 1.0):
            axis = part.start + int(np.argmax(np.abs(asked[part])))
            found.append(Violation(kind, axis, length, limit))
    return found
