"""The safety gates: the last thing between any command source and the robot."""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rewact_ros.contract.schema import Contract, ContractError, Limits
from rewact_ros.contract.turns import turns_hint, unit_hint
from rewact_ros.control.space import POSE_WIDTH, Space
from rewact_ros.control.violations import Violation, beyond, non_finite

FloatArray = NDArray[np.float64]
# Below this, in unit/s, a joint is at rest: rounding of positions over a tick makes less.
TOLERANCE = 1e-9
# Limits between which no product or quotient here overflows, far wider than any robot's.
SMALLEST, LARGEST = 1e-9, 1e9
# A command that differs by less, in joint unit or unit/s, was not clipped.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Gated:
    """What goes out (A,), whether it is not what was asked, and what was asked beyond a limit.

    The two differ: after a violation the gate catches up, so that commands within all limits are
    changed too.
    """

    command: FloatArray
    clipped: bool
    violations: tuple[Violation, ...] = ()


def make_gate(contract: Contract) -> "SafetyGate | VelocityGate":
    """The gate of a robot.

    Raises:
        ContractError: some of its joints are commanded by position and others by velocity, or a
            part is Cartesian (see `gates.gate_of`).
    """
    if contract.poses:
        raise ContractError("action: expected joints only, got a Cartesian part")
    kinds = sorted({part.command for part in contract.action})
    if len(kinds) > 1:
        raise ContractError(
            f"action.command: expected the same for all parts, got {' and '.join(kinds)}; a "
            "robot that has both needs a hil and a contract for each"
        )
    gate = VelocityGate if kinds == ["velocity"] else SafetyGate
    return gate(contract.limits, 1.0 / contract.command_rate_hz)


def start_jump(command: FloatArray, measured: FloatArray, contract: Contract) -> str:
    """Why a first position command lies too far from the measured joints, or an empty string.

    Args:
        command, measured: (A,) in action order and joint units.
    """
    limit = contract.limits.start_jump
    space = Space(contract.poses)
    far = space.distances(space.minus(command, measured))
    excess = far - limit
    if (excess <= 0).all():  # False for NaN
        return ""
    i = int(np.argmax(excess))
    for first in contract.poses:
        if first <= i < first + POSE_WIDTH:
            name, unit = contract.action_names[i].rpartition(".")[0], contract.action_units[i]
            return (
                f"{name} commanded to {far[i]:.3f} {unit} from where it is measured, "
                f"max_start_jump {limit[i]:g}"
            )
    near = (command[i] - limit[i], command[i] + limit[i])
    return (
        f"{contract.action_names[i]} commanded to {command[i]:.3f}, measured "
        f"{measured[i]:.3f}, max_start_jump {limit[i]:g}"
        f"{turns_hint(contract.action_units[i], measured[i], *near)}"
    )


def outside_limits(values: FloatArray, contract: Contract) -> str:
    """Which joint is further outside its position limits than `max_start_jump`, or ''.

    Args:
        values: (A,) in action order and joint units.
    """
    return next((text for text, _ in outside_joints(values, contract)), "")


def outside_joints(values: FloatArray, contract: Contract) -> list[tuple[str, str]]:
    """(what is said of it, why it may be so) of each such joint, the furthest first.

    The reason is another unit or whole turns, and already said; it is empty where neither fits.
    """
    limits = contract.limits
    excess = np.maximum(limits.low - values, values - limits.high) - limits.start_jump
    if (excess <= 0).all():  # False for NaN
        return []
    found = []
    for i in np.argsort(-excess, kind="stable"):
        if excess[i] <= 0:
            continue
        value, low, high = float(values[i]), float(limits.low[i]), float(limits.high[i])
        of = contract.action_units[i], value, low, high
        hint = unit_hint(*of) or turns_hint(*of)
        text = (
            f"{contract.action_names[i]} is at {value:.3f}, outside the contract's position limits "
            f"[{low:g}, {high:g}]{hint or '; move it inside, or correct the limits'}"
        )
        found.append((text, hint))
    return found


def braking_speed(distance: FloatArray, step: FloatArray, period_s: float) -> FloatArray:
    """Largest speed from which braking, in whole ticks, ends within `distance` ≥ 0.

    With k further ticks of braking by `step`: (k + 1) v - k (k + 1) / 2 · step = distance / dt.
    """
    reach = distance / period_s
    k = np.floor((np.sqrt(1 + 8 * reach / step) - 1) / 2)
    return np.asarray(reach / (k + 1) + step * k / 2)


def _workable(limits: Limits) -> Limits:
    """The limits, or narrower ones where arithmetic would not hold them: such a joint stands."""
    stands = np.minimum(limits.velocity, limits.acceleration) < SMALLEST
    return replace(
        limits,
        low=_clip(limits.low, -LARGEST, LARGEST),
        high=_clip(limits.high, -LARGEST, LARGEST),
        velocity=np.where(stands, 0.0, np.minimum(limits.velocity, LARGEST)),
        acceleration=np.where(stands, 1.0, np.minimum(limits.acceleration, LARGEST)),
    )


def _clip(values: FloatArray, low: FloatArray | float, high: FloatArray | float) -> FloatArray:
    """As `np.clip`, at a third of its cost for a few joints."""
    return np.asarray(np.minimum(np.maximum(values, low), high))


class SafetyGate:
    """Tracks the stream of sent positions and bounds every next one.

    Order: finite → position → velocity → acceleration. The velocity towards a position limit is
    kept low enough to brake before it, so the acceleration limit never pushes a command out.
    A non-finite command is rejected, never clipped.

    Args:
        limits: (A,) arrays in joint units, unit/s, unit/s².
        period_s: time between two commands; targets are taken to lie as far apart.
    """

    def __init__(self, limits: Limits, period_s: float) -> None:
        self._limits = _workable(limits)
        self._dt = period_s
        self._step = self._limits.acceleration * period_s
        self._position: FloatArray | None = None
        self._velocity = np.zeros_like(limits.low)
        # What the source asked last, within position and velocity limits. What is sent may lag
        # behind it, and a source is not to blame for how the gate catches up.
        self._target = self._asked_velocity = self._velocity

    @property
    def position(self) -> FloatArray:
        """Last command, (A,). Raises RuntimeError before `start`."""
        if self._position is None:
            raise RuntimeError("the safety gate has no start position: call start() when arming")
        return self._position

    @property
    def velocity(self) -> FloatArray:
        """Velocity of the last command, (A,) in unit/s."""
        return self._velocity

    @property
    def moving(self) -> bool:
        """Whether the last two commands differ."""
        return bool(np.any(np.abs(self._velocity) > TOLERANCE))

    def start(self, measured: FloatArray) -> None:
        """Begin a stream at rest from the measured joints (A,), clamped into the limits."""
        self._position = _clip(measured, self._limits.low, self._limits.high)
        self._velocity = self._asked_velocity = np.zeros_like(self._position)
        self._target = self._position

    def stop_stream(self) -> None:
        """Forget the stream, when falling silent."""
        self._position = None
        self._velocity = self._asked_velocity = np.zeros_like(self._velocity)

    def check(
        self, target: FloatArray, measured: FloatArray | None = None
    ) -> tuple[Violation, ...]:
        """What a next target (A,) asks beyond the limits, changing nothing.

        Velocity and acceleration are those of the source: from its last target (or from where a
        stop has come to) to this one. The measured joints make no difference to positions.
        """
        return non_finite(target, len(self.position)) or self._judge(target)[2]

    def _judge(self, target: FloatArray) -> tuple[FloatArray, FloatArray, tuple[Violation, ...]]:
        limits = self._limits
        wanted = _clip(target, limits.low, limits.high)
        asked = (wanted - self._target) / self._dt
        allowed = _clip(asked, -limits.velocity, limits.velocity)
        change = (allowed - self._asked_velocity) / self._dt
        bounded = _clip(change, -limits.acceleration, limits.acceleration)
        violations = beyond(
            ("position", target, wanted),
            ("velocity", asked, allowed),
            ("acceleration", change, bounded),
        )
        return wanted, allowed, violations

    def apply(self, target: FloatArray, measured: FloatArray | None = None) -> Gated | None:
        """Bound the next command; None when the target is not finite (the caller brakes).

        The closing speed towards the target is bounded by what can be braked away, so a clipped
        step is followed without ringing. `check` says which joint was not finite.
        """
        position = self.position
        if non_finite(target, len(position)):
            return None
        wanted, asked_velocity, violations = self._judge(target)
        error = self._target - position
        reachable = braking_speed(np.abs(error), self._step, self._dt)
        closing = _clip(error / self._dt, -reachable, reachable)
        # The target's own speed goes on top, or the arm would trail a moving target for good.
        speed = (wanted - self._target) / self._dt + closing
        self._target, self._asked_velocity = wanted, asked_velocity
        sent = self._advance(speed)
        return Gated(sent, bool(np.any(np.abs(sent - target) > ROUNDING)), violations)

    def brake(self) -> FloatArray:
        """Next command of a stop at the acceleration limit; constant once at rest."""
        sent = self._advance(np.zeros_like(self._velocity))
        self._target, self._asked_velocity = sent, self._velocity
        return sent

    def _advance(self, speed: FloatArray) -> FloatArray:
        position, limits, dt = self.position, self._limits, self._dt
        speed = _clip(speed, -limits.velocity, limits.velocity)
        up = braking_speed(np.maximum(limits.high - position, 0), self._step, dt)
        down = braking_speed(np.maximum(position - limits.low, 0), self._step, dt)
        speed = _clip(speed, -down, up)
        # Last, for the speeds above leave room to brake at this rate: nothing runs over a limit.
        speed = _clip(speed, self._velocity - self._step, self._velocity + self._step)
        self._position = _clip(position + speed * dt, limits.low, limits.high)
        self._velocity = (self._position - position) / dt
        return self._position


class VelocityGate:
    """Tracks the stream of sent velocities and bounds every next one.

    Order: finite → velocity → position → acceleration. Towards a position limit the velocity is
    kept low enough to brake before it, counted from the *measured* joints and from what has been
    sent but cannot show in them yet. The acceleration limit is never exceeded, so a joint that is
    pushed over its limit is not stopped more abruptly: it may only move back.

    Args:
        limits: (A,) arrays in joint units, unit/s, unit/s².
        period_s: time between two commands.
        delay_s: longest time from a command until the measured joints show its effect; a longer one
            brakes earlier before a limit, too short a one lets a slow robot run over it.
    """

    def __init__(self, limits: Limits, period_s: float, delay_s: float = 0.05) -> None:
        self._limits = _workable(limits)
        self._dt = period_s
        self._step = self._limits.acceleration * period_s
        self._velocity = np.zeros_like(limits.low)
        self._asked = self._velocity
        self._started = False
        self._unseen: deque[FloatArray] = deque(maxlen=int(np.ceil(delay_s / period_s - 1e-9)))

    @property
    def velocity(self) -> FloatArray:
        """Last command, (A,) in unit/s; zero before the first."""
        return self._velocity

    @property
    def moving(self) -> bool:
        """Whether the last command was other than zero."""
        return bool(np.any(np.abs(self._velocity) > TOLERANCE))

    def start(self, measured: FloatArray) -> None:
        """Begin a stream at rest; the measured joints (A,) may be anywhere."""
        self._velocity = self._asked = np.zeros_like(self._limits.low)
        self._unseen.clear()
        self._started = True

    def stop_stream(self) -> None:
        """Forget the stream, when falling silent."""
        self.start(self._velocity)
        self._started = False

    def check(self, target: FloatArray, measured: FloatArray) -> tuple[Violation, ...]:
        """What a next target (A,) asks beyond the limits at these measured joints (A,).

        Changes nothing. A `position` violation is a velocity too high to stop before the limit.
        """
        joints = len(self._velocity)
        return (
            non_finite(target, joints)
            or non_finite(measured, joints)
            or self._judge(target, measured)[2]
        )

    def _judge(
        self, target: FloatArray, measured: FloatArray
    ) -> tuple[FloatArray, FloatArray, tuple[Violation, ...]]:
        limits = self._limits
        asked = _clip(target, -limits.velocity, limits.velocity)
        down, up = self._towards_limits(measured)
        wanted = _clip(asked, -down, up)
        change = (asked - self._asked) / self._dt
        violations = beyond(
            ("velocity", target, asked),
            ("position", asked, wanted),
            ("acceleration", change, _clip(change, -limits.acceleration, limits.acceleration)),
        )
        return wanted, asked, violations

    def apply(self, target: FloatArray, measured: FloatArray) -> Gated | None:
        """Bound the next command; None when target or joints are not finite (the caller brakes).

        Raises:
            RuntimeError: before `start`.
        """
        if not self._started:
            raise RuntimeError("the safety gate has no stream: call start() when arming")
        joints = len(self._velocity)
        if non_finite(target, joints) or non_finite(measured, joints):
            return None
        wanted, self._asked, violations = self._judge(target, measured)
        sent = self._advance(wanted)
        return Gated(sent, bool(np.any(np.abs(sent - target) > ROUNDING)), violations)

    def brake(self) -> FloatArray:
        """Next command of a stop at the acceleration limit; zero once at rest."""
        self._asked = self._advance(np.zeros_like(self._velocity))
        return self._asked

    def _towards_limits(self, measured: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Largest speeds down and up (A,) that still end within the position limits."""
        measured = _clip(measured, -2 * LARGEST, 2 * LARGEST)  # beyond any limit, still finite
        unseen = np.array(self._unseen).reshape(-1, len(measured)) * self._dt
        room_up = self._limits.high - measured - np.maximum(unseen, 0).sum(axis=0)
        room_down = measured - self._limits.low + np.minimum(unseen, 0).sum(axis=0)
        return (
            braking_speed(np.maximum(room_down, 0), self._step, self._dt),
            braking_speed(np.maximum(room_up, 0), self._step, self._dt),
        )

    def _advance(self, wanted: FloatArray) -> FloatArray:
        self._velocity = _clip(wanted, self._velocity - self._step, self._velocity + self._step)
        self._unseen.append(self._velocity)
        return self._velocity
